"""Reset pass: the events of the previous step, scaled by the reset gate."""

from amaranth.hdl import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import VALUE_FRACTION
from egret.rtl.payloads import GATE, event_layout, in_flight, layer_bits, request_layout

__all__ = ["ResetPass"]



class ResetPass(wiring.Component):
    """s = r * y' for each event y', the r gate looked up for the active neurons only.

    Values that round to zero are dropped. Throughput is one event a cycle, latency eight.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    layer : In
    i : In(stream of events)
    request : Out(stream of requests), gate : In(stream, always ready)
        To and from the `Gate` r.
    o : Out(stream of events)
    busy : Out(1)
        Something is between ``i`` and ``o``.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "layer": In(layer_bits(c)),
            "i": In(stream.Signature(event_layout(c))),
            "request": Out(stream.Signature(request_layout(c))),
            "gate": In(stream.Signature(GATE, always_ready=True)),
            "o": Out(stream.Signature(event_layout(c))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        # ``free`` counts the places left in the output queue for events taken in, so the queues never overflow.
        c = self._c
        places = in_flight(c)
        m = Module()
        width = event_layout(c).size
        m.submodules.pending = pending = fifo.SyncFIFO(width=width, depth=places)
        m.submodules.scaled = scaled = fifo.SyncFIFO(width=width, depth=places)
        free = Signal(range(places + 1), init=places)
        taken = Signal()
        m.d.comb += [
            self.request.valid.eq(self.i.valid & (free != 0)),
            self.i.ready.eq(self.request.ready & (free != 0)),
            taken.eq(self.request.valid & self.request.ready),
            self.request.p.layer.eq(self.layer),
            self.request.p.neuron.eq(self.i.p.index),
            self.request.p.respond.eq(1),
            pending.w_data.eq(self.i.payload),
            pending.w_en.eq(taken),
            pending.r_en.eq(self.gate.valid),
        ]

        event = Signal(event_layout(c))
        result = Signal(event_layout(c))
        product = Signal(2 * VALUE_FRACTION)
        valid = Signal()
        index = Signal.like(event.index)
        m.d.comb += [
            event.eq(pending.r_data),
            result.index.eq(index),
            result.value.eq((product + (1 << (VALUE_FRACTION - 1))) >> VALUE_FRACTION),
            scaled.w_data.eq(result),
            scaled.w_en.eq(valid & (result.value != 0)),
            self.o.valid.eq(scaled.r_rdy),
            Value.cast(self.o.payload).eq(scaled.r_data),
            scaled.r_en.eq(self.o.ready),
            self.busy.eq(free != places),
        ]
        m.d.sync += [
            valid.eq(self.gate.valid),
            product.eq(event.value * self.gate.payload[:VALUE_FRACTION]),
            index.eq(event.index),
            free.eq(free - taken + (valid & (result.value == 0)) + (self.o.valid & self.o.ready)),
        ]
        return m
