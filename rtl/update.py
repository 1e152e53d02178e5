"""Update pass: gates, blend, threshold and reset of every neuron of a layer."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import GATES, STATE_FRACTION, VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.layouts import GATE, event_layout, layer_bits, load_layout, memory_layout, output_layout, request_layout

__all__ = ["UpdatePass"]

STATE = signed(STATE_FRACTION + 2)


class UpdatePass(wiring.Component):
    """Blends, thresholds and resets the neurons of a layer, one after another.

    The accumulators of a neuron, one for each of `Configuration.sums`, are fetched at once, each as soon as its bank is
    free, and replaced by their biases, ready for the next step: at most one neuron a cycle, and
    `Configuration.in_flight` at a time. New events leave in rising order of neurons. ``start`` with ``clear`` only
    stores biases and zero states.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``threshold``, while ``load_valid`` is high.
    start : In(1), start_layer : In(layer_bits(c)), clear : In(1)
        While ``start`` is high, begins a pass over ``start_layer``; only while not ``busy``.
    bias : In(stream.Signature(memory_layout(c, "bias")))
        Biases of the layer's neurons, from the start of the pass on.
    request : Out(stream.Signature(request_layout(c))).array(len(c.sums))
        Requests to the gates u, r and z, and with reset "after" of the sums `INNER`.
    update, candidate : In(stream.Signature(GATE, always_ready=True))
        Values of the gates u and z.
    stored : In(1).array(len(c.sums))
        The gates' ``stored``.
    event : Out(stream.Signature({"layer": layer_bits(c), "event": event_layout(c)}, always_ready=True))
        New events, to `EventQueue`.
    o : Out(stream.Signature(output_layout()))
        The last layer's events, each when it is also sent to ``event``, then the end of the step.
    busy : Out(1), layer : Out(layer_bits(c))
        While ``busy`` is high, the pass over ``layer`` is not over.
    """

    load: Any
    load_valid: Signal
    start: Signal
    start_layer: Signal
    clear: Signal
    bias: stream.Interface
    request: list[stream.Interface]
    update: stream.Interface
    candidate: stream.Interface
    stored: Any
    event: stream.Interface
    o: stream.Interface
    busy: Signal
    layer: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "start": In(1),
                "start_layer": In(layer_bits(c)),
                "clear": In(1),
                "bias": In(stream.Signature(memory_layout(c, "bias"))),
                "request": Out(stream.Signature(request_layout(c))).array(len(c.sums)),
                "update": In(stream.Signature(GATE, always_ready=True)),
                "candidate": In(stream.Signature(GATE, always_ready=True)),
                "stored": In(1).array(len(c.sums)),
                "event": Out(
                    stream.Signature(
                        data.StructLayout({"layer": layer_bits(c), "event": event_layout(c)}), always_ready=True
                    )
                ),
                "o": Out(stream.Signature(output_layout())),
                "busy": Out(1),
                "layer": Out(layer_bits(c)),
            }
        )
        self._clears = Signal()

    def elaborate(self, platform: Any) -> Module:
        # Two halves. ASK walks over the neurons and requests their gates, as their biases come.
        # ANSWER pairs u with z, in the order of the neurons, and computes: READ (state and threshold), DIFFERENCE,
        # PRODUCT, BLEND, COMPARE, FIRE. ``free`` counts the places left in the event queue for neurons asked for, so
        # neither the pipeline nor the queues before it ever have to stop.
        c = self._c
        m = Module()
        clearing, free = Signal(), Signal(range(c.in_flight + 1), init=c.in_flight)
        begun, all_asked = self._ask(m, clearing, free)
        blended, fires, value = self._answer(m, clearing)

        finished = Signal(range(max(c.hidden) + 1))
        fresh = Signal(event_layout(c))
        m.submodules.queue = queue = fifo.SyncFIFO(width=fresh.shape().size, depth=c.in_flight)
        m.d.comb += [
            fresh.index.eq(finished),
            fresh.value.eq(value[:VALUE_FRACTION] | value[VALUE_FRACTION].replicate(VALUE_FRACTION)),
            queue.w_data.eq(fresh),
            queue.w_en.eq(blended & fires & (value != 0)),
        ]

        # Events leave for the queue, those of the last layer for the outside as well.
        last = Signal()
        sent = Signal()
        ended = Signal()
        head = Signal(event_layout(c))
        m.d.comb += [
            last.eq(self.layer == c.layers - 1),
            head.eq(queue.r_data),
            sent.eq(queue.r_rdy & (~last | self.o.ready)),
            queue.r_en.eq(sent),
            self.event.valid.eq(sent),
            self.event.p.layer.eq(self.layer),
            self.event.p.event.eq(head),
        ]
        quiet = Signal()
        done = Signal()
        m.d.comb += [
            done.eq(self.busy & quiet),
            ended.eq(done & last & ~clearing),
            self.o.valid.eq((queue.r_rdy & last) | ended),
            self.o.p.end.eq(ended),
        ]
        with m.If(~ended):
            m.d.comb += [self.o.p.index.eq(head.index), self.o.p.value.eq(head.value)]
        m.d.sync += [
            finished.eq(finished + blended),
            free.eq(free - begun + (blended & ~queue.w_en) + sent),
            # Nothing is left to ask for, to store, to compute or to send.
            quiet.eq(all_asked & (clearing | (finished == Array(c.hidden)[self.layer])) & ~queue.r_rdy),
        ]
        with m.If(done & (~ended | self.o.ready)):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1),
                self.layer.eq(self.start_layer),
                clearing.eq(self.clear),
                quiet.eq(0),
                finished.eq(0),
            ]
        return m

    def _ask(self, m: Module, clearing: Signal, free: Signal) -> tuple[Signal, Value]:
        """Request the gates of the neurons; return whether one is begun, and whether all have been stored."""
        c = self._c
        size = Array(c.hidden)[self.layer]
        neuron = Signal(range(max(c.hidden) + 1))
        open_requests = Signal(len(c.sums))
        taken = Signal(len(c.sums))
        owed = Signal(range(16 * len(c.sums)))
        advance = Signal()
        asking = Signal()
        begun = Signal()
        requested = Signal.like(self.request[0].p.neuron)
        m.d.comb += [
            taken.eq(Cat(request.ready for request in self.request) & self.bias.valid.replicate(len(c.sums))),
            advance.eq((open_requests & ~taken) == 0),
            self.bias.ready.eq(advance & (open_requests != 0)),
            asking.eq(self.busy & (neuron != size) & (clearing | (free != 0))),
            begun.eq(advance & asking & ~clearing),
        ]
        for gate, request in enumerate(self.request):
            m.d.comb += [
                request.valid.eq(open_requests[gate] & self.bias.valid),
                request.p.layer.eq(self.layer),
                request.p.neuron.eq(requested),
                request.p.respond.eq(~clearing & (c.reset == "after" or gate != GATES.index("r"))),
                request.p.replace.eq(1),
                request.p.bias.eq(self.bias.p[c.sums[gate]]),
            ]
            with m.If(taken[gate]):
                m.d.sync += open_requests[gate].eq(0)
        with m.If(advance):
            m.d.sync += [
                open_requests.eq(asking.replicate(len(c.sums))),
                requested.eq(neuron),
                neuron.eq(neuron + asking),
            ]
        # Counted a cycle late, since they wait for the accumulators; none is stored as soon as that.
        requests = Signal(len(c.sums))
        m.d.sync += [
            self._clears.eq(clearing & advance & asking),
            requests.eq(Cat(request.valid & request.ready for request in self.request)),
            owed.eq(owed + sum(requests) - sum(self.stored)),
        ]
        with m.If(self.start):
            m.d.sync += neuron.eq(0)
        return begun, (neuron == size) & (open_requests == 0) & (requests == 0) & (owed == 0)

    def _answer(self, m: Module, clearing: Signal) -> tuple[Value, Signal, Signal]:
        """Compute states, and store them; return whether a neuron is done, whether it fires, and its event's value."""
        c = self._c
        section = memory_sections(c)["threshold"]
        depth = max(c.neurons, 2)
        m.submodules.threshold = threshold = memory.Memory(shape=memory_layout(c, "threshold"), depth=depth, init=[])
        m.submodules.state = state = memory.Memory(shape=STATE, depth=depth, init=[])
        threshold_write, threshold_read = threshold.write_port(), threshold.read_port()
        m.d.comb += [
            threshold_write.addr.eq(self.load.index),
            Value.cast(threshold_write.data).eq(self.load.data),
            threshold_write.en.eq(self.load_valid & (self.load.section == section.number)),
        ]
        state_read, state_write = state.read_port(), state.write_port()
        m.submodules.updates = updates = fifo.SyncFIFO(width=VALUE_FRACTION, depth=c.in_flight)
        m.submodules.candidates = candidates = fifo.SyncFIFO(width=Shape.cast(GATE).width, depth=c.in_flight)
        answer = Signal()
        answered = Signal(6)
        over = answered[-1] if c.compact else answer
        m.d.comb += answer.eq(updates.r_rdy & candidates.r_rdy & (~answered.any() if c.compact else 1))
        for gate, queue in ((self.update, updates), (self.candidate, candidates)):
            m.d.comb += [queue.w_data.eq(gate.payload), queue.w_en.eq(gate.valid), queue.r_en.eq(over)]
        write_place = Signal(range(depth))
        read_place = write_place if c.compact else Signal(range(depth))
        if not c.compact:
            with m.If(answer):
                m.d.sync += read_place.eq(read_place + 1)
        m.d.comb += [threshold_read.addr.eq(read_place), state_read.addr.eq(read_place)]

        def registers(value, shape, name, stages):
            # In a compact core one neuron is answered at a time, so everything stays as long as it is needed.
            stages = [Signal(shape, name=f"{name}_{stage}", reset_less=True) for stage in range(stages)]
            if c.compact:
                m.d.comb += [stage.eq(value) for stage in stages]
            else:
                m.d.sync += [later.eq(earlier) for earlier, later in pairwise([value, *stages])]
            return stages

        # READ: the memories' outputs into registers, then
        factors = registers(updates.r_data, VALUE_FRACTION, "factor", 3)
        values = registers(candidates.r_data, GATE, "candidate", 2)
        states = registers(state_read.data, STATE, "state", 3)
        thresholds = registers(threshold_read.data.threshold, section.word_bits, "threshold", 4)
        difference = Signal(signed(STATE_FRACTION + 3), reset_less=True)
        product = Signal(signed(STATE_FRACTION + 3 + VALUE_FRACTION + 1), reset_less=True)
        before = Signal(STATE, reset_less=True)
        m.d.sync += [
            answered.eq(Cat(answer, answered)),
            # DIFFERENCE
            difference.eq(values[1] - states[0]),
            # PRODUCT
            product.eq(factors[2] * difference),
            # BLEND
            before.eq(states[2] + ((product + (1 << (VALUE_FRACTION - 1))) >> VALUE_FRACTION)),
        ]

        # COMPARE
        shift = STATE_FRACTION - VALUE_FRACTION
        rounded = Signal(STATE_FRACTION - shift + 1)
        fires = Signal(reset_less=True)
        kept = Signal(STATE, reset_less=True)
        reset = Signal(STATE, reset_less=True)
        value = Signal.like(rounded, reset_less=True)
        m.d.comb += rounded.eq((before + (1 << (shift - 1))) >> shift)
        m.d["comb" if c.compact else "sync"] += kept.eq(before)
        m.d.sync += [
            fires.eq(before >= thresholds[3]),
            reset.eq(before - thresholds[3]),
            value.eq(rounded),
        ]

        # FIRE
        blended = answered[-1]
        carried = Signal(STATE)
        m.d.comb += [
            carried.eq(Mux(fires, reset, kept)),
            state_write.addr.eq(write_place),
            state_write.data.eq(Mux(clearing, 0, carried)),
            state_write.en.eq(blended | self._clears),
        ]
        with m.If(state_write.en):
            m.d.sync += write_place.eq(write_place + 1)
        with m.If(self.start):
            base = Array(c.neuron_base)[self.start_layer]
            m.d.sync += [read_place.eq(base), write_place.eq(base)]
        return blended, fires, value
