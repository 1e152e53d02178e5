"""Embedding table: a token becomes the input values of the first layer; or the events of another core do."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import WEIGHT_BITS
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import input_section, memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import ahead, input_layout, load_layout, memory_layout
from egret.rtl.sdram import ADDRESS_BITS, TAGS, WORD_BITS, beat_layout, burst_layout

__all__ = ["Embedding", "inputs_of"]

READING = LATENCY + 1
"""Cycles from a read to the queue."""


class Embedding(wiring.Component):
    """Streams the non-zero elements of a row of the table, doubled to the LSB of event values.

    One element a cycle, zero or not; the first one comes five cycles after ``start``. With the store ``sdram`` the row
    comes in one burst, two elements a word.

    Where the input is events, a memory holds those of a step instead, and a token is how many there are.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``embedding``, or ``input``, while ``load_valid`` is high.
    start : In(1), token : In(16)
        Begins the row of ``token``, while ``start`` is high; ``token`` must hold still until the row is over.
    o : Out(stream.Signature(input_layout(c)))
        Elements of the row that are not zero.
    done : Out(1)
        The row is over: everything has been taken from ``o``.
    burst : Out(stream.Signature(burst_layout()))
        Where `bursts`: asks the SDRAM for a row.
    beat : In(stream.Signature(beat_layout(), always_ready=True))
        Where `bursts`: the words that come, of all bursts; only those with a tag of its own are taken.
    """

    load: Any
    load_valid: Signal
    start: Signal
    token: Signal
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
            "o": Out(stream.Signature(input_layout(c))),
            "done": Out(1),
        }
        if self.bursts:
            members |= {
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(beat_layout(), always_ready=True)),
            }
        super().__init__(members)

    @property
    def bursts(self) -> bool:
        """Whether the rows come from an SDRAM."""
        return self._c.store == "sdram" and not self._c.takes_events

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        (self._row_of_a_burst if self.bursts else self._row_of_a_table)(m)
        return m

    def _row_of_a_burst(self, m: Module) -> None:
        # Room for the whole row, as beats do not wait, and for a word between the queue's memory and its output.
        c = self._c
        words = c.embedding // 2
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=WORD_BITS, depth=words + 2)
        asks, has, half, taken = Signal(), Signal(), Signal(), Signal()
        product, address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        starting = Signal(2)
        word = Signal(data.ArrayLayout(memory_layout(c, "embedding"), 2), reset_less=True)
        element = Signal(signed(WEIGHT_BITS))
        index = Signal(self.o.p.index.shape())
        left = Signal(range(c.embedding + 1))
        m.d.comb += [
            self.burst.valid.eq(asks),
            self.burst.p.address.eq(address),
            self.burst.p.count.eq(words),
            self.burst.p.tag.eq(TAGS.index("embedding")),
            queue.w_data.eq(self.beat.p.word),
            queue.w_en.eq(self.beat.valid & (self.beat.p.tag == TAGS.index("embedding"))),
            taken.eq(has & (~self.o.valid | self.o.ready)),
            queue.r_en.eq(~has | (taken & half)),
            element.eq(word[half].value),
            self.done.eq((left == 0) & ~self.o.valid),
        ]
        m.d.sync += [
            product.eq(self.token * words),
            address.eq(c.sdram_base["embedding"] + product),
            starting.eq(Cat(self.start, starting)),
        ]
        with m.If(starting[-1]):
            m.d.sync += asks.eq(1)
        with m.If(self.burst.ready):
            m.d.sync += asks.eq(0)
        with m.If(queue.r_en):
            m.d.sync += [has.eq(queue.r_rdy), word.eq(queue.r_data)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(taken):
            m.d.sync += [
                half.eq(~half),
                index.eq(index + 1),
                left.eq(left - 1),
                self.o.valid.eq(element != 0),
                self.o.p.index.eq(index),
                self.o.p.value.eq(element << 1),
            ]
        with m.If(self.start):
            m.d.sync += [left.eq(c.embedding), index.eq(0)]

    def _row_of_a_table(self, m: Module) -> None:
        c = self._c
        places = ahead(c, READING)
        section = input_section(c) if c.takes_events else memory_sections(c)["embedding"]
        depth = section.words
        in_spram = c.store == "spram" and not c.takes_events
        m.submodules.table = table = BlockMemory(memory_layout(c, section.name), depth, single_port=in_spram)
        m.d.comb += [
            table.write_address.eq(self.load.index),
            Value.cast(table.write_data).eq(self.load.data),
            table.write_valid.eq(self.load_valid & (self.load.section == section.number)),
        ]

        m.submodules.queue = queue = fifo.SyncFIFO(width=input_layout(c).size, depth=places)
        element = Signal(input_layout(c), reset_less=True)
        left = Signal(range(c.embedding + 1))
        read, room = Signal(), Signal()
        reading = Signal(READING)
        index = Signal.like(element.index)
        indices = [Signal.like(index, name=f"index_{stage}", reset_less=True) for stage in range(LATENCY)]
        address = Signal(range(max(depth, 2)))
        m.d.comb += [
            table.address.eq(address),
            read.eq((left != 0) & room),
            room.eq(~reading.any() & ~queue.r_rdy if c.compact else queue.level < places - READING),
            queue.w_data.eq(element),
            queue.w_en.eq(reading[-1] & (element.value != 0)),
            self.o.valid.eq(queue.r_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.done.eq((left == 0) & ~reading.any() & ~queue.r_rdy),
        ]
        m.d.sync += [reading.eq(Cat(read, reading)), Cat(indices).eq(Cat(index, indices))]
        with m.If(read):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), index.eq(index + 1)]
        if c.takes_events:
            m.d.sync += [element.index.eq(table.data.index), element.value.eq(table.data.value)]
            with m.If(self.start):
                m.d.sync += [address.eq(0), left.eq(self.token)]
        else:
            m.d.sync += [element.index.eq(indices[-1]), element.value.eq(table.data.value << 1)]
            with m.If(self.start):
                m.d.sync += [address.eq(self.token * c.embedding), left.eq(c.embedding), index.eq(0)]


def inputs_of(row: Sequence[int]) -> list[tuple[int, int]]:
    """Return what `Embedding` sends for a ``row`` of the table: index and value of each element that is not zero."""
    return [(index, 2 * value) for index, value in enumerate(row) if value]
