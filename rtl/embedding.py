"""Embedding table: a token becomes the input values of the first layer; or the events of another core do."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import Out

from egret.model.arithmetic import WEIGHT_BITS
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import input_section, memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import ahead, input_layout, memory_layout
from egret.rtl.table import TokenTable

__all__ = ["Embedding", "inputs_of"]

READING = LATENCY + 1
"""Cycles from a read to the queue."""


class Embedding(TokenTable):
    """Streams the non-zero elements of a row of the table, doubled to the LSB of event values.

    One element a cycle, zero or not; the first one comes five cycles after ``start``. With the store ``sdram`` the row
    comes in one burst, two or four elements a beat.

    Where the input is events, a memory holds those of a step instead, and a token is how many there are.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    o : Out(stream.Signature(input_layout(c)))
        Elements of the row that are not zero.
    """

    o: stream.Interface

    def __init__(self, configuration: Configuration) -> None:
        c = configuration
        o = Out(stream.Signature(input_layout(c)))
        super().__init__(c, {"o": o}, bursts=c.store == "sdram" and not c.takes_events)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        (self._from_sdram if self.bursts else self._from_blocks)(m)
        return m

    def _from_sdram(self, m: Module) -> None:
        # Room for the whole row, as beats do not wait, and for a beat between the queue's memory and its output.
        c = self._c
        elements = c.beat_bits // WEIGHT_BITS
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=c.beat_bits, depth=c.embedding_beats + 2)
        has, place, taken = Signal(), Signal(range(elements)), Signal()
        beat = Signal(data.ArrayLayout(memory_layout(c, "embedding"), elements), reset_less=True)
        element = Signal(signed(WEIGHT_BITS))
        index = Signal(self.o.p.index.shape())
        left = Signal(range(c.embedding + 1))
        m.d.comb += [
            queue.w_data.eq(self.beat.p.words),
            queue.w_en.eq(self._row_of_a_burst(m, "embedding", c.embedding_beats)),
            taken.eq(has & (left != 0) & (~self.o.valid | self.o.ready)),
            queue.r_en.eq(~has | (taken & (place == elements - 1))),
            element.eq(beat[place].value),
            self.done.eq((left == 0) & ~self.o.valid),
        ]
        with m.If(queue.r_en):
            m.d.sync += [has.eq(queue.r_rdy), beat.eq(queue.r_data)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(taken):
            m.d.sync += [
                place.eq(place + 1),
                index.eq(index + 1),
                left.eq(left - 1),
                self.o.valid.eq(element != 0),
                self.o.p.index.eq(index),
                self.o.p.value.eq(element << 1),
            ]
        with m.If(self.start):
            # What is left of the beat in which the last row ended are zeros.
            m.d.sync += [left.eq(c.embedding), index.eq(0), has.eq(0), place.eq(0)]

    def _from_blocks(self, m: Module) -> None:
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
