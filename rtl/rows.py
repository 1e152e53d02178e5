"""Folded rows: what the embedding of a token adds to the accumulators of the first layer, as a table."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import load_layout, memory_layout, row_layout
from egret.rtl.sdram import ADDRESS_BITS, TAGS, WORD_BITS, beat_layout, burst_layout

__all__ = ["FoldedRows"]


class FoldedRows(wiring.Component):
    """Streams the row of a token, one address of all banks a cycle; the first one comes four cycles after ``start``.

    With the store ``sdram`` the row comes in one burst, several words an address.

    Parameters
    ----------
    configuration : Configuration
        With ``folded_tokens`` above 0.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``rows``, while ``load_valid`` is high.
    start : In(1), token : In(16)
        Begins the row of ``token``, while ``start`` is high; ``token`` must be below ``folded_tokens``, and hold still
        until the row is over.
    coming : Out(1)
        A part of the row comes in the next cycle.
    o : Out(stream.Signature(row_layout(c), always_ready=True))
        An address, and what the row adds there in each bank; all zeros while there is none.
    done : Out(1)
        The row is over: nothing is left to come.
    burst : Out(stream.Signature(burst_layout()))
        With the store ``sdram``: asks the SDRAM for words.
    beat : In(stream.Signature(beat_layout(), always_ready=True))
        With the store ``sdram``: the words that come, of all bursts; only those with a tag of its own are taken.
    """

    load: Any
    load_valid: Signal
    start: Signal
    token: Signal
    coming: Signal
    o: stream.Interface
    done: Signal
    burst: stream.Interface
    beat: stream.Interface

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        members = {
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "start": In(1),
            "token": In(16),
            "coming": Out(1),
            "o": Out(stream.Signature(row_layout(c), always_ready=True)),
            "done": Out(1),
        }
        if c.store == "sdram":
            members |= {
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(beat_layout(), always_ready=True)),
            }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        (self._row_of_a_burst if self._c.store == "sdram" else self._row_of_a_table)(m)
        return m

    def _addends(self, word: Value) -> list[Any]:
        """Return the assignments that make addends of a word of the row, which has a number for each bank."""
        numbers = data.View(memory_layout(self._c, "rows"), word).addends
        return [self.o.p.addends[bank].eq(numbers[bank] << self._c.row_shift) for bank in range(self._c.banks)]

    def _row_of_a_burst(self, m: Module) -> None:
        c = self._c
        height = c.layer_depth(0)
        asks, mine, whole = Signal(), Signal(), Signal()
        product, address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        starting = Signal(2)
        part = Signal(range(c.row_beats))
        left = Signal(range(height + 1))
        target = Signal.like(self.o.p.address)
        words = [Signal(WORD_BITS, name=f"word_{place}", reset_less=True) for place in range(c.row_beats)]
        m.d.comb += [
            self.burst.valid.eq(asks),
            self.burst.p.address.eq(address),
            self.burst.p.count.eq(height * c.row_beats),
            self.burst.p.tag.eq(TAGS.index("rows")),
            mine.eq(self.beat.valid & (self.beat.p.tag == TAGS.index("rows"))),
            self.coming.eq(whole),
            self.done.eq((left == 0) & ~self.o.valid),
        ]
        m.d.sync += [
            whole.eq(mine & (part == c.row_beats - 1)),
            self.o.valid.eq(whole),
            Value.cast(self.o.payload).eq(0),
        ]
        m.d.sync += [
            product.eq(self.token * (height * c.row_beats)),
            address.eq(c.sdram_base["rows"] + product),
            starting.eq(Cat(self.start, starting)),
        ]
        with m.If(starting[-1]):
            m.d.sync += asks.eq(1)
        with m.If(self.burst.ready):
            m.d.sync += asks.eq(0)
        with m.If(mine):
            m.d.sync += [
                part.eq(Mux(part == c.row_beats - 1, 0, part + 1)),
                Cat(words).eq(Cat(words[1:], self.beat.p.word)),
            ]
        with m.If(whole):
            m.d.sync += [
                self.o.p.address.eq(target),
                *self._addends(Cat(words)),
                target.eq(target + 1),
                left.eq(left - 1),
            ]
        with m.If(self.start):
            m.d.sync += [left.eq(height), target.eq(c.bank_base[0])]

    def _row_of_a_table(self, m: Module) -> None:
        c = self._c
        depth, height = c.folded_tokens * c.layer_depth(0), c.layer_depth(0)
        section = memory_sections(c)["rows"]
        m.submodules.table = table = BlockMemory(section.word_bits, depth)
        address = Signal(range(max(depth, 2)))
        left = Signal(range(height + 1))
        reading = Signal(LATENCY)
        target = Signal.like(self.o.p.address)
        targets = [Signal.like(target, name=f"target_{stage}", reset_less=True) for stage in range(LATENCY)]
        m.d.comb += [
            table.write_address.eq(self.load.index),
            table.write_data.eq(self.load.data),
            table.write_valid.eq(self.load_valid & (self.load.section == section.number)),
            table.address.eq(address),
            self.coming.eq(reading[-1]),
            self.done.eq((left == 0) & ~reading.any() & ~self.o.valid),
        ]
        m.d.sync += [
            Cat(reading, self.o.valid).eq(Cat(left != 0, reading)),
            Cat(targets).eq(Cat(target, targets)),
            Value.cast(self.o.payload).eq(0),
        ]
        with m.If(reading[-1]):
            m.d.sync += [self.o.p.address.eq(targets[-1]), *self._addends(table.data)]
        with m.If(left != 0):
            m.d.sync += [address.eq(address + 1), target.eq(target + 1), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.token * height), left.eq(height), target.eq(c.bank_base[0])]
