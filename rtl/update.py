"""Update pass: gates, blend, threshold and reset of every neuron of a layer."""

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import GATES, STATE_FRACTION, VALUE_FRACTION
from egret.model.image import memory_sections
from egret.rtl.biases import biases_layout
from egret.rtl.payloads import (
    GATE,
    event_layout,
    in_flight,
    index_bits,
    layer_bits,
    load_layout,
    output_layout,
    request_layout,
)

__all__ = ["UpdatePass"]

STATE = signed(STATE_FRACTION + 2)


class UpdatePass(wiring.Component):
    """Blends, thresholds and resets the neurons of a layer, one after another.

    The three accumulators of a neuron are fetched at once, each as soon as its bank is free, and replaced by their
    biases, ready for the next step: at most one neuron a cycle. New events leave in rising order of neurons. ``start``
    with ``clear`` only stores biases and zero states.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memories ``bias`` and ``threshold``.
    start : In(1), start_layer : In, clear : In(1)
        Begins a pass; only while not ``busy``.
    request : Out(array of streams of requests), update, candidate : In(stream, always ready)
        To the gates u, r, z, and from u and z.
    event : Out(stream of {layer, event}, always ready)
        New events, to `EventQueue`.
    o : Out(stream of {index, value, end})
        The last layer's events, each when it is also sent to ``event``, then the end of the step.
    busy : Out(1), layer : Out
        The layer whose pass is not over.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "start": In(1),
            "start_layer": In(layer_bits(c)),
            "clear": In(1),
            "bias": In(stream.Signature(biases_layout(c))),
            "request": Out(stream.Signature(request_layout(c))).array(len(GATES)),
            "update": In(stream.Signature(GATE, always_ready=True)),
            "candidate": In(stream.Signature(GATE, always_ready=True)),
            "event": Out(stream.Signature(data.StructLayout({"layer": layer_bits(c), "event": event_layout(c)}),
                                          always_ready=True)),
            "o": Out(stream.Signature(output_layout())),
            "busy": Out(1),
            "layer": Out(layer_bits(c)),
        })

    def elaborate(self, platform):
        # Two halves. ASK walks over the neurons and requests their gates, with the biases read one cycle before.
        # ANSWER pairs u with z and computes: DIFFERENCE, PRODUCT, BLEND, FIRE. ``free`` counts the places left in the
        # event queue for neurons asked for, so the pipeline of ANSWER never has to stop.
        c = self._c
        places = in_flight(c)
        m = Module()
        sections = {section.name: section for section in memory_sections(c)}
        depth = max(c.neurons, 2)
        m.submodules.threshold = threshold = memory.Memory(shape=STATE_FRACTION + 1, depth=depth, init=[])
        m.submodules.state = state = memory.Memory(shape=STATE, depth=depth, init=[])
        for mem, name in ((threshold, "threshold"),):
            write = mem.write_port()
            m.d.comb += [
                write.addr.eq(self.load.index),
                Value.cast(write.data).eq(self.load.data),
                write.en.eq(self.load_valid & (self.load.section == sections[name].number)),
            ]
        threshold_read = threshold.read_port()
        state_read, state_write = state.read_port(), state.write_port()

        clearing = Signal()
        size = Array(c.hidden)[self.layer]
        base = Array(c.neuron_base)[self.layer]

        # ASK
        neuron = Signal(range(max(c.hidden) + 1))
        free = Signal(range(places + 1), init=places)
        open_requests = Signal(len(GATES))
        taken = Signal(len(GATES))
        advance = Signal()
        asking = Signal()
        begun = Signal()
        requested = Signal.like(self.request[0].p.neuron)
        m.d.comb += [
            taken.eq(Cat(request.ready for request in self.request) & self.bias.valid.replicate(len(GATES))),
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
                request.p.respond.eq(~clearing & (gate != GATES.index("r"))),
                request.p.replace.eq(1),
                request.p.bias.eq(self.bias.p[gate]),
            ]
            with m.If(taken[gate]):
                m.d.sync += open_requests[gate].eq(0)
        with m.If(advance):
            m.d.sync += [open_requests.eq(asking.replicate(len(GATES))), requested.eq(neuron),
                         neuron.eq(neuron + asking)]

        # ANSWER. Neither gate runs more than one neuron ahead of the other.
        answered = Signal.like(neuron)
        next_answered = Signal.like(neuron)
        answer = Signal()
        values, present = [], []
        for gate in (self.update, self.candidate):
            kept = Signal(GATE, name="kept", reset_less=True)
            waiting = Signal(name="waiting")
            with m.If(gate.valid):
                m.d.sync += kept.eq(gate.payload)
            m.d.sync += waiting.eq((waiting | gate.valid) & ~answer)
            values.append(Mux(waiting, kept, gate.payload))
            present.append(waiting | gate.valid)
        update = Signal(VALUE_FRACTION)
        candidate = Signal(GATE)
        m.d.comb += [
            update.eq(values[0]),
            candidate.eq(values[1]),
            answer.eq(present[0] & present[1]),
            next_answered.eq(answered + answer),
            threshold_read.addr.eq(base + next_answered),
            state_read.addr.eq(base + next_answered),
        ]
        blended = Signal(3)
        indices = [Signal(index_bits(c), name=f"index_{stage}", reset_less=True) for stage in range(3)]
        states = [Signal(STATE, name=f"state_{stage}", reset_less=True) for stage in range(2)]
        thresholds = [Signal(STATE_FRACTION + 1, name=f"threshold_{stage}", reset_less=True) for stage in range(3)]
        difference = Signal(signed(STATE_FRACTION + 3), reset_less=True)
        factor = Signal.like(update, reset_less=True)
        product = Signal(signed(STATE_FRACTION + 3 + VALUE_FRACTION + 1), reset_less=True)
        before = Signal(STATE, reset_less=True)
        m.d.sync += [
            answered.eq(next_answered),
            blended.eq(Cat(answer, blended)),
            # DIFFERENCE
            indices[0].eq(answered),
            states[0].eq(state_read.data),
            thresholds[0].eq(threshold_read.data),
            difference.eq(candidate - state_read.data),
            factor.eq(update),
            # PRODUCT
            indices[1].eq(indices[0]),
            states[1].eq(states[0]),
            thresholds[1].eq(thresholds[0]),
            product.eq(factor * difference),
            # BLEND
            indices[2].eq(indices[1]),
            thresholds[2].eq(thresholds[1]),
            before.eq(states[1] + ((product + (1 << (VALUE_FRACTION - 1))) >> VALUE_FRACTION)),
        ]

        # FIRE
        fires = Signal()
        value = Signal(VALUE_FRACTION)
        carried = Signal(STATE)
        rounded = Signal(STATE_FRACTION - VALUE_FRACTION + 1 + VALUE_FRACTION)
        fresh = Signal(event_layout(c))
        m.submodules.queue = queue = fifo.SyncFIFO(width=fresh.shape().size, depth=places)
        shift = STATE_FRACTION - VALUE_FRACTION
        m.d.comb += [
            fires.eq(before >= thresholds[2]),
            rounded.eq((before + (1 << (shift - 1))) >> shift),
            value.eq(Mux(rounded > (1 << VALUE_FRACTION) - 1, (1 << VALUE_FRACTION) - 1, rounded)),
            fresh.index.eq(indices[2]),
            fresh.value.eq(value),
            queue.w_data.eq(fresh),
            queue.w_en.eq(blended[2] & fires & (value != 0)),
            state_write.addr.eq(base + indices[2]),
            carried.eq(Mux(fires, before - thresholds[2], before)),
            state_write.data.eq(carried),
            state_write.en.eq(blended[2]),
        ]
        with m.If(clearing):
            m.d.comb += [state_write.addr.eq(base + neuron), state_write.data.eq(0), state_write.en.eq(asking)]

        # Events leave for the queue, those of the last layer for the outside as well.
        last = Signal()
        sent = Signal()
        ended = Signal()
        finished = Signal.like(neuron)
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
        done = Signal()
        m.d.comb += [
            done.eq(self.busy & (neuron == size) & (open_requests == 0) & (clearing | (finished == size))
                    & ~queue.r_rdy),
            ended.eq(done & last & ~clearing),
            self.o.valid.eq((queue.r_rdy & last) | ended),
            self.o.p.end.eq(ended),
        ]
        with m.If(~ended):
            m.d.comb += [self.o.p.index.eq(head.index), self.o.p.value.eq(head.value)]
        m.d.sync += [
            finished.eq(finished + blended[2]),
            free.eq(free - begun + (blended[2] & ~queue.w_en) + sent),
        ]
        with m.If(done & (~ended | self.o.ready)):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1), self.layer.eq(self.start_layer), clearing.eq(self.clear),
                neuron.eq(0), answered.eq(0), finished.eq(0),
            ]
        return m
