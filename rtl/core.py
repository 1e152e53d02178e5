"""The core: event-driven, sparse EGRU layers, one step a token."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from egret.model.configuration import GATES, SEGMENTS
from egret.rtl.accumulator import Accumulators
from egret.rtl.embedding import Embedding
from egret.rtl.events import EventQueue
from egret.rtl.gates import Gates
from egret.rtl.mac import Lanes
from egret.rtl.payloads import column_layout, counter_layout, layer_bits, load_layout, output_layout
from egret.rtl.reset import ResetPass
from egret.rtl.update import UpdatePass
from egret.rtl.weights import WeightStore

__all__ = ["Core"]


class Core(wiring.Component):
    """Computes what `egret.model.integer.IntegerNetwork` computes, bit for bit, from an image in its memories.

    The layers of a step run in turn. Of each, the columns of the previous step's events and of the inputs are
    accumulated, then the reset pass scales the events and their candidate columns are accumulated, then the update
    pass begins. It runs beside the next layer, whose inputs it sends, and the last layer's beside the next token's
    first layer.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes a word of a memory; only while not ``busy``. Sections are those of `memory_sections`.
    clear : In(1)
        Begins a sequence: zero states, no events, biases in the accumulators. Needed after loading. Taken in a cycle
        in which ``busy`` is low, before a token offered at the same time.
    i_tokens : In(stream of token numbers)
        A number outside the vocabulary is not refused; whoever sends it checks it.
    o_events : Out(stream of {index, value, end})
        For each token the events of the last layer, then one beat with ``end`` alone.
    busy : Out(1)
        A step or a clearing is going on.
    counters : Out(struct)
        See `counter_layout`.
    """

    def __init__(self, configuration):
        self.configuration = c = configuration
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "clear": In(1),
            "i_tokens": In(stream.Signature(16)),
            "o_events": Out(stream.Signature(output_layout())),
            "busy": Out(1),
            "counters": Out(counter_layout(c)),
        })

    def elaborate(self, platform):
        c = self.configuration
        m = Module()
        m.submodules.embedding = embedding = Embedding(c)
        m.submodules.events = events = EventQueue(c)
        m.submodules.weights = weights = WeightStore(c)
        m.submodules.lanes = lanes = Lanes(c)
        m.submodules.accumulators = accumulators = Accumulators(c)
        m.submodules.gates = gates = Gates(c)
        m.submodules.reset_pass = reset_pass = ResetPass(c)
        m.submodules.update_pass = update_pass = UpdatePass(c)

        for unit in (embedding, weights, gates, update_pass):
            m.d.comb += [unit.load.eq(self.load), unit.load_valid.eq(self.load_valid)]
        connect(m, weights.o, lanes.i)
        connect(m, gates.access, accumulators.i)
        connect(m, accumulators.o, gates.found)
        connect(m, reset_pass.request, gates.i_reset)
        connect(m, update_pass.request, gates.i_update)
        connect(m, update_pass.event, events.i)
        for_reset = gates.o.p.gate == GATES.index("r")
        m.d.comb += [
            accumulators.add.eq(lanes.add),
            accumulators.add_valid.eq(lanes.add_valid),
            reset_pass.gate.payload.eq(gates.o.p.value),
            reset_pass.gate.valid.eq(gates.o.valid & for_reset),
            update_pass.gate.payload.eq(gates.o.payload),
            update_pass.gate.valid.eq(gates.o.valid & ~for_reset),
            self.o_events.valid.eq(update_pass.o.valid),
            self.o_events.payload.eq(update_pass.o.payload),
            update_pass.o.ready.eq(self.o_events.ready),
        ]

        layer = Signal(layer_bits(c))
        last, settled = Signal(), Signal()
        column = weights.i.payload
        bases = {segment: Array(base[segment] for base in c.column_base) for segment in SEGMENTS}
        m.d.comb += [
            last.eq(layer == c.layers - 1),
            settled.eq(~weights.busy & ~lanes.busy),
            column.layer.eq(layer),
            events.layer.eq(layer),
            reset_pass.layer.eq(layer),
            update_pass.start_layer.eq(layer),
        ]

        def feed(source, segment):
            return [column.column.eq(bases[segment][layer] + source.p.index), column.value.eq(source.p.value),
                    weights.i.valid.eq(source.valid), source.ready.eq(weights.i.ready)]

        def start_update():
            return [update_pass.start.eq(1), events.clear.bit_select(layer, 1).eq(1)]

        cause = {name: Signal(name=f"cause_{name}")
                 for name in ("fetch", "wait_layer", "settle", "reset_pass", "wait_update")}
        with m.FSM(name="sequencer") as sequencer:
            with m.State("IDLE"):
                m.d.comb += cause["wait_update"].eq(1)
                m.d.sync += layer.eq(0)
                with m.If(self.clear & ~update_pass.busy):
                    m.next = "CLEAR"
                with m.Elif(~self.clear):
                    m.d.comb += self.i_tokens.ready.eq(1)
                    with m.If(self.i_tokens.valid):
                        m.d.sync += embedding.token.eq(self.i_tokens.payload)
                        m.next = "LAYER"
            with m.State("LAYER"):
                m.d.comb += cause["wait_update"].eq(1)
                with m.If(~(update_pass.busy & (update_pass.layer == layer))):
                    m.d.comb += [events.start.eq(1), embedding.start.eq(layer == 0)]
                    m.next = "EVENTS"
            with m.State("EVENTS"):
                m.d.comb += [cause["fetch"].eq(1), *feed(events.o, "y")]
                with m.If(events.done):
                    with m.If(layer == 0):
                        m.next = "EMBEDDING"
                    with m.Else():
                        m.d.comb += events.start.eq(1)
                        m.next = "INPUTS"
            with m.State("EMBEDDING"):
                m.d.comb += [cause["fetch"].eq(1), *feed(embedding.o, "x")]
                with m.If(embedding.done):
                    m.next = "SETTLE"
            with m.State("INPUTS"):
                m.d.comb += [cause["wait_layer"].eq(1), *feed(events.o, "x"),
                             events.layer.eq(layer - 1), events.growing.eq(update_pass.busy)]
                with m.If(events.done):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += cause["settle"].eq(1)
                with m.If(settled):
                    m.d.comb += events.start.eq(1)
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += [cause["reset_pass"].eq(1), *feed(reset_pass.o, "s")]
                m.d.comb += [reset_pass.i.payload.eq(events.o.payload), reset_pass.i.valid.eq(events.o.valid),
                             events.o.ready.eq(reset_pass.i.ready)]
                with m.If(events.done & ~reset_pass.busy):
                    m.next = "UPDATE"
            with m.State("UPDATE"):
                m.d.comb += [cause["wait_update"].eq(settled), cause["settle"].eq(~settled)]
                with m.If(settled & ~update_pass.busy):
                    m.d.comb += start_update()
                    m.d.sync += layer.eq(layer + 1)
                    m.next = "LAYER"
                    with m.If(last):
                        m.next = "IDLE"
            with m.State("CLEAR"):
                m.d.comb += cause["wait_update"].eq(1)
                with m.If(~update_pass.busy):
                    m.d.comb += [*start_update(), update_pass.clear.eq(1)]
                    m.d.sync += layer.eq(layer + 1)
                    with m.If(last):
                        m.next = "IDLE"
        m.d.comb += self.busy.eq(~sequencer.ongoing("IDLE") | update_pass.busy)

        def count(name, amount):
            m.d.sync += self.counters[name].eq(self.counters[name] + amount)

        count("tokens", self.i_tokens.valid & self.i_tokens.ready)
        count("cycles", self.busy)
        count("words", weights.o.valid)
        count("macs", lanes.macs)
        for name, signal in cause.items():
            count(name, self.busy & ~weights.o.valid & signal)
        with m.If(update_pass.event.valid):
            events_counter = self.counters.events[update_pass.event.p.layer]
            m.d.sync += events_counter.eq(events_counter + 1)
        return m
