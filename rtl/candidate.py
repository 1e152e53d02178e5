"""Gate z of a core with reset "after": two sums of a neuron, one of them scaled by gate r."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import GATES, VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.rtl.gates import loaded_shifts, look_up
from egret.rtl.layouts import GATE, layer_bits, load_layout

__all__ = ["Candidate"]

STAGES = 3
"""Cycles from the queues to the joined sum."""


class Candidate(wiring.Component):
    """Joins what is found of each neuron, zx + r * zy, and looks its value up.

    The three numbers of a neuron come in any order, those of one kind in the order of the neurons. One neuron a cycle;
    no more than `Configuration.in_flight` may be under way.

    Parameters
    ----------
    configuration : Configuration
        Of the core, with reset "after".

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``shift``, while ``load_valid`` is high.
    layer : In(layer_bits(c))
        Of the neurons; holds still while something is under way.
    outer, inner : In(stream.Signature(signed(accumulator_bits), always_ready=True))
        Sums of gate z over the inputs, and over the events of the step before.
    reset : In(stream.Signature(GATE, always_ready=True))
        Values of gate r.
    o : Out(stream.Signature(GATE, always_ready=True))
        Values of gate z.
    """

    load: Any
    load_valid: Signal
    layer: Signal
    outer: stream.Interface
    inner: stream.Interface
    reset: stream.Interface
    o: stream.Interface

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        sums = stream.Signature(signed(c.accumulator_bits), always_ready=True)
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "layer": In(layer_bits(c)),
                "outer": In(sums),
                "inner": In(sums),
                "reset": In(stream.Signature(GATE, always_ready=True)),
                "o": Out(stream.Signature(GATE, always_ready=True)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # FACTORS, PRODUCT, SUM, then the table. The sum's lower bits are those that rounding adds to and drops.
        c = self._c
        m = Module()
        bits, gate = c.accumulator_bits, GATES.index("z")
        queues = {"outer": (self.outer, bits), "inner": (self.inner, bits), "reset": (self.reset, VALUE_FRACTION)}
        heads, ready = [], []
        take = Signal()
        for name, (source, width) in queues.items():
            m.submodules[name] = queue = fifo.SyncFIFO(width=width, depth=c.in_flight)
            m.d.comb += [
                queue.w_data.eq(source.payload),
                queue.w_en.eq(source.valid),
                queue.r_en.eq(take),
            ]
            heads.append(queue.r_data)
            ready.append(queue.r_rdy)
        m.d.comb += take.eq(Cat(ready).all())
        outer, inner, reset = heads
        waiting = [Signal(bits, name=f"outer_{stage}", reset_less=True) for stage in range(STAGES - 1)]
        factor = Signal(signed(bits), reset_less=True)
        by = Signal(VALUE_FRACTION, reset_less=True)
        product = Signal(signed(bits + VALUE_FRACTION), reset_less=True)
        joined = Signal(signed(bits), reset_less=True)
        looking = Signal(STAGES + (4 if c.compact else 5) - 1)
        shift = Signal(4, reset_less=True)
        shifts = loaded_shifts(m, c, gate, self.load, self.load_valid)
        half = C(1 << (VALUE_FRACTION - 1), VALUE_FRACTION)
        m.d.comb += self.o.payload.eq(look_up(m, c, gate, joined, shift))
        m.d.sync += [
            shift.eq(shifts[self.layer] - 1),
            Cat(looking, self.o.valid).eq(Cat(take, looking)),
            Cat(waiting).eq(Cat(outer, waiting)),
            factor.eq(inner),
            by.eq(reset),
            product.eq(factor * by),
            joined.eq((product + Cat(half, waiting[-1]).as_signed()) >> VALUE_FRACTION),
        ]
        return m
