"""Update pass: gates, blend, threshold and reset of every neuron of a layer."""

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import GATES, STATE_FRACTION, VALUE_FRACTION
from egret.model.image import memory_sections
from egret.rtl.payloads import GATE, event_layout, index_bits, layer_bits, load_layout, output_layout, request_layout

__all__ = ["UpdatePass"]

IN_FLIGHT = 8
STATE = signed(STATE_FRACTION + 2)


class UpdatePass(wiring.Component):
    """Blends, thresholds and resets the neurons of a layer, one after another.

    For each neuron the accumulators u, r, z are fetched in turn and replaced by their biases, ready for the next step;
    a request goes out every cycle that `Gates` accepts one, so a layer takes at least three cycles a neuron. New
    events leave in rising order of neurons. ``start`` with ``clear`` only stores biases and zero states.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memories ``bias`` and ``threshold``.
    start : In(1), start_layer : In, clear : In(1)
        Begins a pass; only while not ``busy``.
    request : Out(stream of requests), gate : In(stream of {gate, value}, always ready)
        To and from `Gates`; answers are those of gates u and z.
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
            "request": Out(stream.Signature(request_layout(c))),
            "gate": In(stream.Signature(data.StructLayout({"gate": 2, "value": GATE}), always_ready=True)),
            "event": Out(stream.Signature(data.StructLayout({"layer": layer_bits(c), "event": event_layout(c)}),
                                          always_ready=True)),
            "o": Out(stream.Signature(output_layout())),
            "busy": Out(1),
            "layer": Out(layer_bits(c)),
        })

    def elaborate(self, platform):
        # Two halves. ASK walks over rows 3 * i + g and requests them, each with the bias read one cycle before. ANSWER
        # takes u and z of a neuron and computes: DIFFERENCE, PRODUCT, BLEND, FIRE. ``free`` counts the places left in
        # the event queue for neurons asked for, so the pipeline of ANSWER never has to stop.
        c = self._c
        m = Module()
        sections = {section.name: section for section in memory_sections(c)}
        depth = max(c.neurons, 2)
        m.submodules.bias = bias = memory.Memory(shape=signed(c.accumulator_bits), depth=3 * depth, init=[])
        m.submodules.threshold = threshold = memory.Memory(shape=STATE_FRACTION + 1, depth=depth, init=[])
        m.submodules.state = state = memory.Memory(shape=STATE, depth=depth, init=[])
        for mem, name in ((bias, "bias"), (threshold, "threshold")):
            write = mem.write_port()
            m.d.comb += [
                write.addr.eq(self.load.index),
                write.data.eq(self.load.data),
                write.en.eq(self.load_valid & (self.load.section == sections[name].number)),
            ]
        bias_read, threshold_read = bias.read_port(), threshold.read_port()
        state_read, state_write = state.read_port(), state.write_port()

        clearing = Signal()
        size = Array(c.hidden)[self.layer]
        base = Array(c.neuron_base)[self.layer]

        # ASK
        neuron, gate, row = Signal(range(max(c.hidden) + 1)), Signal(2), Signal(c.row_bits)
        bias_address = Signal(range(3 * depth))
        free = Signal(range(IN_FLIGHT + 1), init=IN_FLIGHT)
        advance, asking, begun = Signal(), Signal(), Signal()
        m.d.comb += [
            advance.eq(~self.request.valid | self.request.ready),
            asking.eq(self.busy & (neuron != size) & ((gate != 0) | clearing | (free != 0))),
            begun.eq(advance & asking & (gate == 0) & ~clearing),
            bias_read.addr.eq(bias_address),
            bias_read.en.eq(advance),
            self.request.p.bias.eq(bias_read.data),
            self.request.p.replace.eq(1),
        ]
        with m.If(advance):
            m.d.sync += [
                self.request.valid.eq(asking),
                self.request.p.layer.eq(self.layer),
                self.request.p.row.eq(row),
                self.request.p.gate.eq(gate),
                self.request.p.respond.eq(~clearing & (gate != GATES.index("r"))),
            ]
            with m.If(asking):
                m.d.sync += [row.eq(row + 1), bias_address.eq(bias_address + 1), gate.eq(gate + 1)]
                with m.If(gate == len(GATES) - 1):
                    m.d.sync += [gate.eq(0), neuron.eq(neuron + 1)]

        # ANSWER
        answered = Signal.like(neuron)
        m.d.comb += [
            threshold_read.addr.eq(base + answered),
            state_read.addr.eq(base + answered),
        ]
        update = Signal(VALUE_FRACTION)
        blended = Signal(3)
        indices = [Signal(index_bits(c), name=f"index_{stage}") for stage in range(3)]
        states = [Signal(STATE, name=f"state_{stage}") for stage in range(2)]
        thresholds = [Signal(STATE_FRACTION + 1, name=f"threshold_{stage}") for stage in range(3)]
        difference, update_0 = Signal(signed(STATE_FRACTION + 3)), Signal.like(update)
        product = Signal(signed(STATE_FRACTION + 3 + VALUE_FRACTION + 1))
        before = Signal(STATE)
        last_answer = Signal()
        m.d.comb += last_answer.eq(self.gate.valid & (self.gate.p.gate == GATES.index("z")))
        with m.If(self.gate.valid & (self.gate.p.gate == GATES.index("u"))):
            m.d.sync += update.eq(self.gate.p.value)
        with m.If(last_answer):
            m.d.sync += answered.eq(answered + 1)
        m.d.sync += [
            blended.eq(Cat(last_answer, blended)),
            # DIFFERENCE
            indices[0].eq(answered),
            states[0].eq(state_read.data),
            thresholds[0].eq(threshold_read.data),
            difference.eq(self.gate.p.value - state_read.data),
            update_0.eq(update),
            # PRODUCT
            indices[1].eq(indices[0]),
            states[1].eq(states[0]),
            thresholds[1].eq(thresholds[0]),
            product.eq(update_0 * difference),
            # BLEND
            indices[2].eq(indices[1]),
            thresholds[2].eq(thresholds[1]),
            before.eq(states[1] + ((product + (1 << (VALUE_FRACTION - 1))) >> VALUE_FRACTION)),
        ]

        # FIRE
        fires, value = Signal(), Signal(VALUE_FRACTION)
        rounded = Signal(STATE_FRACTION - VALUE_FRACTION + 1 + VALUE_FRACTION)
        fresh = Signal(event_layout(c))
        m.submodules.queue = queue = fifo.SyncFIFO(width=fresh.shape().size, depth=IN_FLIGHT)
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
            state_write.data.eq(Mux(fires, before - thresholds[2], before)),
            state_write.en.eq(blended[2]),
        ]
        with m.If(clearing):
            m.d.comb += [state_write.addr.eq(base + neuron), state_write.data.eq(0), state_write.en.eq(asking)]

        # Events leave for the queue, those of the last layer for the outside as well.
        last, sent, ended = Signal(), Signal(), Signal()
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
            done.eq(self.busy & (neuron == size) & ~self.request.valid & (clearing | (finished == size))
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
                neuron.eq(0), gate.eq(0), row.eq(0), answered.eq(0), finished.eq(0),
                bias_address.eq(Array(3 * first for first in c.neuron_base)[self.start_layer]),
            ]
        return m
