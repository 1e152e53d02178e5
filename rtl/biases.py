"""Biases of a layer's neurons, in order."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import layer_bits, load_layout, memory_layout

__all__ = ["Biases"]


class Biases(wiring.Component):
    """Streams the biases of the neurons of a layer: one a cycle from block RAM, less often from single-port memory.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``bias``, while ``load_valid`` is high; unused with the store ``spram``.
    start : In(1), layer : In(layer_bits(c))
        Begins with the first neuron of ``layer``, while ``start`` is high; everything before has been taken.
    o : Out(stream.Signature(memory_layout(c, "bias")))
        The biases of one neuron after another.
    ask : Out(stream.Signature(unsigned)), found : In(stream.Signature(memory_layout(c, "bias").size))
        With the store ``spram``: numbers of neurons to the memory that holds the biases, and these.
    """

    load: Any
    load_valid: Signal
    start: Signal
    layer: Signal
    o: stream.Interface
    ask: stream.Interface
    found: stream.Interface

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        members = {
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "start": In(1),
            "layer": In(layer_bits(c)),
            "o": Out(stream.Signature(memory_layout(c, "bias"))),
        }
        if c.store == "spram":
            members |= {
                "ask": Out(stream.Signature((max(c.neurons, 2) - 1).bit_length())),
                "found": In(stream.Signature(memory_layout(c, "bias").size)),
            }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        c = self._c
        m = Module()
        ends = [base + size for base, size in zip(c.neuron_base, c.hidden, strict=True)]
        address, end = Signal(range(c.neurons + 1)), Signal(range(c.neurons + 1))
        more, taken = Signal(), Signal()
        m.d.comb += more.eq(address != end)
        with m.If(taken):
            m.d.sync += address.eq(address + 1)
        with m.If(self.start):
            m.d.sync += [address.eq(Array(c.neuron_base)[self.layer]), end.eq(Array(ends)[self.layer])]
        if c.store == "spram":
            m.d.comb += [
                self.ask.valid.eq(more),
                self.ask.payload.eq(address),
                taken.eq(more & self.ask.ready),
                self.o.valid.eq(self.found.valid),
                Value.cast(self.o.payload).eq(self.found.payload),
                self.found.ready.eq(self.o.ready),
            ]
            return m
        section = memory_sections(c)["bias"]
        m.submodules.bias = bias = BlockMemory(memory_layout(c, "bias"), c.neurons)
        moving = Signal()
        valids = Signal(LATENCY)
        m.d.comb += [
            bias.write_address.eq(self.load.index),
            Value.cast(bias.write_data).eq(self.load.data),
            bias.write_valid.eq(self.load_valid & (self.load.section == section.number)),
            moving.eq(~self.o.valid | self.o.ready),
            bias.address.eq(address),
            bias.enable.eq(moving),
            taken.eq(more & moving),
            self.o.valid.eq(valids[-1]),
            self.o.payload.eq(bias.data),
        ]
        with m.If(moving):
            m.d.sync += valids.eq(Cat(more, valids))
        return m
