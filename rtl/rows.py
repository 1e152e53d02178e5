"""Folded rows: what the embedding of a token adds to the accumulators of the first layer, as a table."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream
from amaranth.lib.wiring import Out

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import memory_layout, row_layout
from egret.rtl.table import TokenTable

__all__ = ["FoldedRows"]


class FoldedRows(TokenTable):
    """Streams the row of a token, one address of all banks a cycle; the first one comes four cycles after ``start``.

    With the store ``sdram`` the row comes in one burst, several beats an address.

    Parameters
    ----------
    configuration : Configuration
        With ``folded_tokens`` above 0; only tokens below it have a row.

    Members
    -------
    coming : Out(1)
        A part of the row comes in the next cycle.
    o : Out(stream.Signature(row_layout(c), always_ready=True))
        An address, and what the row adds there in each bank; all zeros while there is none.
    """

    coming: Signal
    o: stream.Interface

    def __init__(self, configuration: Configuration) -> None:
        row = stream.Signature(row_layout(configuration), always_ready=True)
        super().__init__(configuration, {"coming": Out(1), "o": Out(row)}, bursts=configuration.store == "sdram")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        (self._from_sdram if self.bursts else self._from_blocks)(m)
        return m

    def _addends(self, word: Value) -> list[Any]:
        """Return the assignments that make addends of a word of the row, which has a number for each bank."""
        numbers = data.View(memory_layout(self._c, "rows"), word).addends
        return [self.o.p.addends[bank].eq(numbers[bank] << self._c.row_shift) for bank in range(self._c.banks)]

    def _from_sdram(self, m: Module) -> None:
        c = self._c
        height = c.row_depth
        mine, whole = Signal(), Signal()
        part = Signal(range(c.row_beats))
        left = Signal(range(height + 1))
        target = Signal.like(self.o.p.address)
        beats = [Signal(c.beat_bits, name=f"beat_{place}", reset_less=True) for place in range(c.row_beats)]
        m.d.comb += [
            mine.eq(self._row_of_a_burst(m, "rows", height * c.row_beats)),
            self.coming.eq(whole),
            self.done.eq((left == 0) & ~self.o.valid),
        ]
        m.d.sync += [
            whole.eq(mine & (part == c.row_beats - 1)),
            self.o.valid.eq(whole),
            Value.cast(self.o.payload).eq(0),
        ]
        with m.If(mine):
            m.d.sync += [
                part.eq(Mux(part == c.row_beats - 1, 0, part + 1)),
                Cat(beats).eq(Cat(beats[1:], self.beat.p.words)),
            ]
        with m.If(whole):
            m.d.sync += [
                self.o.p.address.eq(target),
                *self._addends(Cat(beats)),
                target.eq(target + 1),
                left.eq(left - 1),
            ]
        with m.If(self.start):
            m.d.sync += [left.eq(height), target.eq(c.bank_base[0])]

    def _from_blocks(self, m: Module) -> None:
        c = self._c
        depth, height = c.folded_tokens * c.row_depth, c.row_depth
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
