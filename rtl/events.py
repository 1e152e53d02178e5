"""Event queue: the events of every layer's latest step, read by the layer itself and by the one above."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import Configuration
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import ahead, event_layout, index_bits, layer_bits

__all__ = ["EventQueue"]


class EventQueue(wiring.Component):
    """Lists of events, one a layer, in one memory.

    A list stays until it is begun anew, for it has several readers: the layer above takes it as input while it still
    grows, and its own layer reads it twice in the next step. Throughput is one event a cycle; the first event of a
    pass comes four cycles after ``start``.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    clear : In(layers)
        Begins the list of each layer anew whose bit is high.
    i : In(stream.Signature({"layer": layer_bits(c), "event": event_layout(c)}, always_ready=True))
        Appends an event to the list of a layer.
    start : In(1), layer : In(layer_bits(c))
        Begins a pass over the list of ``layer``, while ``start`` is high; ``layer`` must hold still until ``done``.
    growing : In(1)
        More events may be appended to the list; low from two cycles after the last one on at the earliest.
    o : Out(stream.Signature(event_layout(c)))
        The events of the list, in order.
    done : Out(1)
        The pass is over: everything has been taken from ``o``.
    """

    clear: Signal
    i: stream.Interface
    start: Signal
    layer: Signal
    growing: Signal
    o: stream.Interface
    done: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        appended = data.StructLayout({"layer": layer_bits(c), "event": event_layout(c)})
        super().__init__(
            {
                "clear": In(c.layers),
                "i": In(stream.Signature(appended, always_ready=True)),
                "start": In(1),
                "layer": In(layer_bits(c)),
                "growing": In(1),
                "o": Out(stream.Signature(event_layout(c))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        c = self._c
        m = Module()
        places = ahead(c, LATENCY)
        m.submodules.events = events = BlockMemory(event_layout(c), c.neurons)
        bases = Array(c.neuron_base)

        counts = Array(Signal(index_bits(c) + 1, name=f"count_{layer}") for layer in range(c.layers))
        m.d.comb += [
            events.write_address.eq(bases[self.i.p.layer] + counts[self.i.p.layer]),
            events.write_data.eq(self.i.p.event),
            events.write_valid.eq(self.i.valid),
        ]
        with m.If(self.i.valid):
            m.d.sync += counts[self.i.p.layer].eq(counts[self.i.p.layer] + 1)
        for layer in range(c.layers):
            with m.If(self.clear[layer]):
                m.d.sync += counts[layer].eq(0)

        # What can be read already: a word is written in the cycle after it came.
        known = Array(Signal.like(count, name=f"known_{layer}") for layer, count in enumerate(counts))
        m.d.sync += [known[layer].eq(counts[layer]) for layer in range(c.layers)]

        m.submodules.queue = queue = fifo.SyncFIFO(width=event_layout(c).size, depth=places)
        active = Signal()
        read, room = Signal(), Signal()
        reading = Signal(LATENCY)
        more = Signal()
        position = Signal(index_bits(c) + 1)
        m.d.comb += [
            more.eq(active & (position != known[self.layer])),
            events.address.eq(bases[self.layer] + position),
            read.eq(more & room),
            room.eq(~reading.any() & ~queue.r_rdy if c.compact else queue.level < places - LATENCY),
            queue.w_data.eq(events.data),
            queue.w_en.eq(reading[-1]),
            self.o.valid.eq(queue.r_rdy),
            Value.cast(self.o.payload).eq(queue.r_data),
            queue.r_en.eq(self.o.ready),
            self.done.eq(~active & ~reading.any() & ~queue.r_rdy),
        ]
        m.d.sync += reading.eq(Cat(read, reading))
        with m.If(read):
            m.d.sync += position.eq(position + 1)
        with m.If(active & ~more & ~self.growing):
            m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(1), position.eq(0)]
        return m
