"""Reset pass: the events of the previous step, scaled by the reset gate."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.rtl.layouts import GATE, event_layout, layer_bits, request_layout

__all__ = ["ResetPass"]


class ResetPass(wiring.Component):
    """Computes s = r * y' for each event y', where gate r is looked up for the active neurons only.

    Values that round to zero are dropped. Throughput is one event a cycle, as far as `Configuration.in_flight` lets it.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    layer : In(layer_bits(c))
        The layer that the events are of; holds still while ``busy``.
    i : In(stream.Signature(event_layout(c)))
        The events of the step before.
    request : Out(stream.Signature(request_layout(c))), gate : In(stream.Signature(GATE, always_ready=True))
        To and from the `Gate` r.
    o : Out(stream.Signature(event_layout(c)))
        The scaled events.
    busy : Out(1)
        Something is between ``i`` and ``o``.
    """

    layer: Signal
    i: stream.Interface
    request: stream.Interface
    gate: stream.Interface
    o: stream.Interface
    busy: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        super().__init__(
            {
                "layer": In(layer_bits(c)),
                "i": In(stream.Signature(event_layout(c))),
                "request": Out(stream.Signature(request_layout(c))),
                "gate": In(stream.Signature(GATE, always_ready=True)),
                "o": Out(stream.Signature(event_layout(c))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # ``free`` counts the places left in the output queue for events taken in, so the queues never overflow.
        c = self._c
        m = Module()
        width = event_layout(c).size
        m.submodules.pending = pending = fifo.SyncFIFO(width=width, depth=c.in_flight)
        m.submodules.scaled = scaled = fifo.SyncFIFO(width=width, depth=c.in_flight)
        free = Signal(range(c.in_flight + 1), init=c.in_flight)
        taken = Signal()
        asked = stream.Signature(self.i.p.index.shape()).create(path=("asked",))
        m.d.comb += [
            asked.valid.eq(self.i.valid & (free != 0)),
            self.i.ready.eq(asked.ready & (free != 0)),
            taken.eq(asked.valid & asked.ready),
            asked.payload.eq(self.i.p.index),
        ]
        if c.compact:
            m.d.comb += [
                self.request.valid.eq(asked.valid),
                self.request.p.neuron.eq(asked.payload),
                asked.ready.eq(self.request.ready),
            ]
        else:
            # The memory of events lies far from the gate: what is taken there is not seen here in the same cycle.
            m.submodules.queue = queue = fifo.SyncFIFO(width=len(asked.payload), depth=2)
            m.d.comb += [
                queue.w_en.eq(asked.valid),
                queue.w_data.eq(asked.payload),
                asked.ready.eq(queue.w_rdy),
                self.request.valid.eq(queue.r_rdy),
                self.request.p.neuron.eq(queue.r_data),
                queue.r_en.eq(self.request.ready),
            ]
        m.d.comb += [
            self.request.p.layer.eq(self.layer),
            self.request.p.respond.eq(1),
            pending.w_data.eq(self.i.payload),
            pending.w_en.eq(taken),
            pending.r_en.eq(self.gate.valid),
        ]

        event = Signal(event_layout(c))
        result = Signal(event_layout(c))
        product = Signal(2 * VALUE_FRACTION, reset_less=True)
        valid = Signal(2)
        scaling = Signal(event_layout(c), reset_less=True)
        gate = Signal(VALUE_FRACTION, reset_less=True)
        index = Signal.like(event.index, reset_less=True)
        m.d.comb += [
            event.eq(pending.r_data),
            result.index.eq(index),
            result.value.eq((product + (1 << (VALUE_FRACTION - 1))) >> VALUE_FRACTION),
            scaled.w_data.eq(result),
            scaled.w_en.eq(valid[1] & (result.value != 0)),
            self.o.valid.eq(scaled.r_rdy),
            Value.cast(self.o.payload).eq(scaled.r_data),
            scaled.r_en.eq(self.o.ready),
            self.busy.eq(free != c.in_flight),
        ]
        m.d.sync += [
            valid.eq(Cat(self.gate.valid, valid)),
            scaling.eq(event),
            gate.eq(self.gate.payload),
            product.eq(scaling.value * gate),
            index.eq(scaling.index),
            free.eq(free - taken + (valid[1] & (result.value == 0)) + (self.o.valid & self.o.ready)),
        ]
        return m
