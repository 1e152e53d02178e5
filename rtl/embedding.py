"""Embedding table: a token becomes the input values of the first layer."""

from amaranth.hdl import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import WEIGHT_BITS
from egret.model.image import memory_sections
from egret.rtl.payloads import ahead, input_layout, load_layout
from egret.rtl.single_port import SinglePort

__all__ = ["Embedding", "inputs_of"]


class Embedding(wiring.Component):
    """Streams the non-zero elements of a row of the table, doubled to the LSB of event values.

    One element a cycle, zero or not; the first one comes three cycles after ``start``.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memory ``embedding``.
    start : In(1), token : In(16)
        Begins the row of ``token``.
    o : Out(stream of {index, value})
    done : Out(1)
        The row is over: everything has been taken from ``o``.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "start": In(1),
            "token": In(16),
            "o": Out(stream.Signature(input_layout(c))),
            "done": Out(1),
        })

    def elaborate(self, platform):
        c = self._c
        depth_ahead = ahead(c)
        m = Module()
        depth = c.vocabulary * c.embedding
        section = {section.name: section for section in memory_sections(c)}["embedding"]
        m.submodules.table = table = SinglePort(depth, WEIGHT_BITS)
        found = table.read_data.as_signed()
        read = Signal()

        m.submodules.queue = queue = fifo.SyncFIFO(width=input_layout(c).size, depth=depth_ahead)
        element = Signal(input_layout(c))
        left = Signal(range(c.embedding + 1))
        reading = Signal()
        next_index = Signal.like(element.index)
        address = Signal(range(max(depth, 2)))
        m.d.comb += [
            read.eq((left != 0) & (queue.level + reading < depth_ahead)),
            table.write.eq(self.load_valid & (self.load.section == section.number)),
            table.enable.eq(table.write | read),
            table.address.eq(Mux(table.write, self.load.index, address)),
            table.write_data.eq(self.load.data),
            element.value.eq(found << 1),
            queue.w_data.eq(element),
            queue.w_en.eq(reading & (found != 0)),
            self.o.valid.eq(queue.r_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.done.eq((left == 0) & ~reading & ~queue.r_rdy),
        ]
        m.d.sync += reading.eq(read)
        with m.If(read):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1),
                         element.index.eq(next_index), next_index.eq(next_index + 1)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.token * c.embedding), left.eq(c.embedding), next_index.eq(0)]
        return m


def inputs_of(row):
    """What `Embedding` sends for a row of the table: list of (index, value)."""
    return [(index, 2 * value) for index, value in enumerate(row) if value]
