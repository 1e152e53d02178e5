"""Folded rows: what the embedding of a token adds to the accumulators of the first layer, as a table."""

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.image import memory_sections
from egret.rtl.payloads import load_layout, row_layout

__all__ = ["FoldedRows"]


class FoldedRows(wiring.Component):
    """Streams the row of a token, one address of all banks a cycle; the first one comes three cycles after ``start``.

    Parameters
    ----------
    configuration : Configuration
        With ``folded`` above 0.

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memory ``rows``.
    start : In(1), token : In(16)
        Begins the row of ``token``, which must be below ``folded``.
    o : Out(stream of {address, addends}, always ready)
        All zeros where there is none.
    done : Out(1)
        The row is over: nothing is left to come.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "start": In(1),
            "token": In(16),
            "o": Out(stream.Signature(row_layout(c), always_ready=True)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        c = self._c
        m = Module()
        depth, height = c.folded * c.layer_depth(0), c.layer_depth(0)
        section = {section.name: section for section in memory_sections(c)}["rows"]
        m.submodules.table = table = memory.Memory(
            shape=data.ArrayLayout(signed(c.accumulator_bits), c.banks), depth=max(depth, 2), init=[])
        write, read = table.write_port(), table.read_port()
        address = Signal(range(max(depth, 2)))
        left = Signal(range(height + 1))
        reading = Signal()
        target = Signal.like(self.o.p.address)
        read_target = Signal.like(target)
        m.d.comb += [
            write.addr.eq(self.load.index),
            Value.cast(write.data).eq(self.load.data),
            write.en.eq(self.load_valid & (self.load.section == section.number)),
            read.addr.eq(address),
            read.en.eq(left != 0),
            self.done.eq((left == 0) & ~reading & ~self.o.valid),
        ]
        m.d.sync += [reading.eq(left != 0), read_target.eq(target), self.o.valid.eq(reading),
                     Value.cast(self.o.payload).eq(0)]
        with m.If(reading):
            m.d.sync += [self.o.p.address.eq(read_target), self.o.p.addends.eq(read.data)]
        with m.If(left != 0):
            m.d.sync += [address.eq(address + 1), target.eq(target + 1), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.token * height), left.eq(height), target.eq(c.bank_base[0])]
        return m
