"""The core: event-driven, sparse EGRU layers, one step a token."""

from functools import partial
from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from egret.model.arithmetic import GATES, INNER
from egret.model.compiler.configuration import Configuration, token_bits
from egret.model.compiler.layouts import memory_sections
from egret.rtl.accumulator import Accumulators
from egret.rtl.biases import Biases
from egret.rtl.candidate import Candidate
from egret.rtl.counters import COUNTER_BYTES, Counters
from egret.rtl.ddr3_levelling import LevelledDdr3
from egret.rtl.embedding import Embedding
from egret.rtl.events import EventQueue
from egret.rtl.gates import Fetch, Gate
from egret.rtl.layouts import (
    Task,
    layer_bits,
    load_layout,
    output_layout,
    result_layout,
    sampling_layout,
    task_layout,
)
from egret.rtl.mac import Lanes
from egret.rtl.outer import OuterTiming, outer_memory, outer_pins, outer_timing
from egret.rtl.protocol import CAUSES, DAMAGED_BLOCK, FAULTY_LINES, counter_names
from egret.rtl.readout.readout import ReadOut
from egret.rtl.reset import ResetPass
from egret.rtl.rows import FoldedRows
from egret.rtl.scrub import Scrub
from egret.rtl.sdram import TAGS, WORD_BITS, burst_layout
from egret.rtl.update import UpdatePass
from egret.rtl.weights import WeightStore

__all__ = ["DRAIN", "RESTING", "Core"]

RESTING = ("tables", "passes", "read_out")
"""Parts of a core that wait most of the time: embedding and folded rows; gates, reset and update pass; the read-out."""
DRAIN = 64
"""Cycles after which a part that has been resting all the time has nothing left in its pipelines."""


class Core(wiring.Component):
    """Computes what `egret.model.integer.IntegerEngine` computes, bit for bit, from an image in its memories.

    The layers of a step run in turn. Of each, the columns of the previous step's events and then of the inputs are
    accumulated, then the reset pass scales the events and their candidate columns are accumulated, then the update
    pass begins. It runs beside the next layer, whose inputs it sends; the last layer's runs beside the first layer of
    the next step, which begins with the events that are known, before its token is. With reset "after" there is no
    reset pass: the columns of the events have gate z's weights, too.

    Parameters
    ----------
    configuration : Configuration
        Shape of the core.
    timing : egret.rtl.outer.OuterTiming, optional
        Of the SDRAM, where that is the store; `egret.rtl.outer.outer_timing` when not given.
    resting : bool
        Give each part of `RESTING` a clock domain of that name. It must be the clock ``sync``, save for cycles left out
        while the part's bit of ``rests`` is high, and has been for `DRAIN` cycles.

    Attributes
    ----------
    counters : tuple[str, ...]
        Names of the performance counters, in their order.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of a memory, while ``load_valid`` is high; only while not ``busy``. Sections are those of
        `memory_sections`; and `input_section` where the input is events, which may be written from the end of a step's
        events to the next step.
    clear : In(1)
        Begins a sequence: zero states, no events, biases in the accumulators. Needed after loading. Taken in a cycle
        in which ``busy`` is low, before a token offered at the same time.
    i_tokens : In(stream.Signature(token_bits(c.tokens))), or of task_layout() with a read-out
        Tokens, or how many events enter. A number beyond `Configuration.tokens` is not refused; whoever sends it checks
        it. With a read-out each has a task.
    o_result : Out(stream.Signature(result_layout()))
        With a read-out: what tasks answer.
    sampling : In(sampling_layout()), sampling_load : In(1)
        With a read-out: how words are drawn, set while ``sampling_load`` is high; only while not ``busy``.
    o_events : Out(stream.Signature(output_layout()))
        For each token the events of the last layer, then one beat with ``end`` alone.
    busy : Out(1)
        Something is left to do before the next token.
    counter_byte : In(range(8 * counters)), counter_read : Out(8), counters_settled : Out(1)
        The performance counters, see `egret.rtl.protocol.counter_names`: as ``byte``, ``read`` and ``settled`` of
        `Counters`.
    sdram : Out(outer_pins(c.memory_ratio)), ready : Out(1)
        Of the store ``sdram``: its pins, and whether it has been started, before which nothing may be loaded.
    rests : Out(len(RESTING))
        Where `resting`: nothing comes to this part, and it waits.
    """

    load: Any
    load_valid: Signal
    clear: Signal
    i_tokens: stream.Interface
    o_events: stream.Interface
    o_result: stream.Interface
    sampling: Any
    sampling_load: Signal
    busy: Signal
    counter_byte: Signal
    counter_read: Signal
    counters_settled: Signal
    sdram: Any
    ready: Signal
    rests: Signal

    def __init__(
        self, configuration: Configuration, *, timing: OuterTiming | None = None, resting: bool = False
    ) -> None:
        self.configuration = c = configuration
        self._timing = timing or outer_timing(c.memory_ratio)
        self._resting = resting
        self.counters = counter_names(c.layers, sdram=c.store == "sdram", readout=c.readout is not None, ddr3=c.ddr3)
        members = {
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "clear": In(1),
            "i_tokens": In(stream.Signature(token_bits(c.tokens) if c.readout is None else task_layout())),
            "o_events": Out(stream.Signature(output_layout())),
            "busy": Out(1),
            "counter_byte": In(range(COUNTER_BYTES * len(self.counters))),
            "counter_read": Out(8),
            "counters_settled": Out(1),
        }
        if c.readout is not None:
            members |= {
                "o_result": Out(stream.Signature(result_layout())),
                "sampling": In(sampling_layout()),
                "sampling_load": In(1),
            }
        if c.store == "sdram":
            members |= {"sdram": Out(outer_pins(c.memory_ratio)), "ready": Out(1)}
        if resting:
            members["rests"] = Out(len(RESTING))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        c = self.configuration
        m = Module()
        clock_of = {name: DomainRenamer(name if self._resting else "sync") for name in RESTING}
        m.submodules.embedding = clock_of["tables"](embedding := Embedding(c))
        m.submodules.events = events = EventQueue(c)
        m.submodules.weights = weights = WeightStore(c)
        m.submodules.lanes = lanes = Lanes(c)
        m.submodules.accumulators = accumulators = Accumulators(c)
        m.submodules.gate_u = clock_of["passes"](gate_u := Gate(c, GATES.index("u")))
        m.submodules.gate_r = clock_of["passes"](gate_r := Gate(c, GATES.index("r")))
        gates: list[Fetch] = [gate_u, gate_r]
        reset_pass, candidate = None, None
        if c.reset == "before":
            gates.append(gate_z := Gate(c, GATES.index("z")))
            m.submodules.gate_z = clock_of["passes"](gate_z)
            m.submodules.reset_pass = clock_of["passes"](reset_pass := ResetPass(c))
        else:
            for name in ("z", INNER):
                gates.append(fetch := Fetch(c, c.sums.index(name)))
                m.submodules[f"sum_{name}"] = clock_of["passes"](fetch)
            m.submodules.gate_z = clock_of["passes"](candidate := Candidate(c))
        m.submodules.update_pass = clock_of["passes"](update_pass := UpdatePass(c))
        m.submodules.biases = clock_of["passes"](biases := Biases(c))
        rows = None
        if c.folded_tokens:
            m.submodules.rows = clock_of["tables"](rows := FoldedRows(c))
            connect(m, rows.o, accumulators.row)

        connect(m, biases.o, update_pass.bias)
        m.d.comb += [biases.start.eq(update_pass.start), biases.layer.eq(update_pass.start_layer)]
        if c.store == "spram":
            connect(m, biases.ask, weights.bias_ask)
            connect(m, weights.bias_found, biases.found)
        loaded = [embedding, weights, lanes, gate_u, gate_r, candidate or gates[-1], update_pass, biases]
        for unit in (*loaded, *([rows] if rows else [])):
            m.d.comb += [unit.load.eq(self.load), unit.load_valid.eq(self.load_valid)]
        connect(m, weights.o, lanes.i)
        connect(m, update_pass.event, events.i)
        connect(m, flipped(self.o_events), update_pass.o)
        m.d.comb += [
            accumulators.coming.eq(lanes.coming | (rows.coming.replicate(c.banks) if rows else 0)),
            *(into.eq(add) for into, add in zip(accumulators.add, lanes.add, strict=True)),
        ]
        for number, gate in enumerate(gates):
            connect(m, accumulators.found[number], gate.found)
            if not (c.readout and number == GATES.index("z")):
                connect(m, gate.access, accumulators.access[number])
            m.d.comb += update_pass.stored[number].eq(gate.stored)
        for number, gate in enumerate(gates):
            if gate is not gate_r or not reset_pass:
                connect(m, update_pass.request[number], gate.i)
        connect(m, gate_u.o, update_pass.update)
        connect(m, (candidate or gates[-1]).o, update_pass.candidate)
        resetting = Signal()
        if reset_pass:
            connect(m, gate_r.o, reset_pass.gate)
            self._share_gate(m, gate_r, update_pass.request[GATES.index("r")], reset_pass.request, resetting)
        else:
            assert candidate is not None
            connect(m, gate_r.o, candidate.reset)
            connect(m, gates[GATES.index("z")].o, candidate.outer)
            connect(m, gates[c.sums.index(INNER)].o, candidate.inner)
            m.d.comb += candidate.layer.eq(update_pass.layer)

        read_out = None
        if c.readout:
            m.submodules.read_out = clock_of["read_out"](read_out := ReadOut(c))
            self._read_out(m, read_out, gates[GATES.index("z")].access, accumulators)

        # A cycle late: nobody looks in the cycle in which the last column is taken.
        settled = Signal(init=1)
        m.d.sync += settled.eq(~weights.busy & ~lanes.busy)
        causes = self._sequence(
            m, embedding, rows, events, weights, reset_pass, update_pass, read_out, settled, resetting
        )
        if self._resting:
            token_tables = (embedding, *([rows] if rows else []))
            in_tables = [moves for table in token_tables for moves in (table.start, ~table.done)]
            in_passes = [update_pass.start, update_pass.busy, *([resetting, reset_pass.busy] if reset_pass else [])]
            m.d.comb += self.rests.eq(
                Cat(
                    ~Cat(self.load_valid, *in_tables).any(),
                    ~Cat(self.load_valid, *in_passes).any(),
                    read_out.rests if read_out else 1,
                )
            )
        amounts = {
            "tokens": self.i_tokens.valid & self.i_tokens.ready,
            "cycles": self.busy,
            "words": weights.o.valid,
            "macs": lanes.macs,
        }
        without_word = self.busy & ~weights.o.valid
        damaged_block = C(0)
        if c.store == "sdram":
            m.submodules.scrub = scrub = Scrub(c)
            damaged_block = scrub.damaged_block
            m.d.comb += [
                scrub.load.eq(self.load),
                scrub.load_valid.eq(self.load_valid),
                scrub.clear.eq(self.clear),
                scrub.idle.eq(self.ready & ~self.busy & ~self.i_tokens.valid),
            ]
            sources = [weights, *([embedding] if embedding.bursts else []), *([rows] if rows else []), scrub]
            amounts |= {
                "memory": without_word & weights.waits,
                "scrubbed": scrub.scrubbed,
                "damaged": scrub.damaged,
                **self._memory(m, sources),
            }
            without_word &= ~weights.waits
        if read_out is not None:
            amounts |= {
                "readout_macs": Mux(read_out.busy, lanes.macs, 0),
                "groups": read_out.ask.valid & read_out.ask.ready & (read_out.ask.payload != 0),
            }
        amounts |= {name: without_word & signal for name, signal in causes.items()}
        for number in range(c.layers):
            amounts[f"events_{number}"] = update_pass.event.valid & (update_pass.event.p.layer == number)
        self._count(m, amounts, damaged_block)
        return m

    def _share_gate(
        self, m: Module, gate: Gate, for_update: stream.Interface, for_reset: stream.Interface, resetting: Signal
    ) -> None:
        """Let gate r serve the reset pass while that is running; a request that has been shown stays."""
        chosen = Signal()
        m.d.comb += [
            gate.i.valid.eq(Mux(chosen, for_reset.valid, for_update.valid)),
            gate.i.payload.eq(Mux(chosen, for_reset.payload, for_update.payload)),
            for_reset.ready.eq(gate.i.ready & chosen),
            for_update.ready.eq(gate.i.ready & ~chosen),
        ]
        with m.If(~gate.i.valid | gate.i.ready):
            m.d.sync += chosen.eq(resetting)

    def _sequence(
        self,
        m: Module,
        embedding: Embedding,
        rows: FoldedRows | None,
        events: EventQueue,
        weights: WeightStore,
        reset_pass: ResetPass | None,
        update_pass: UpdatePass,
        read_out: ReadOut | None,
        settled: Signal,
        resetting: Signal,
    ) -> dict[str, Signal]:
        """Run the phases of each layer; return, for each cause, whether it is why no weight word is due.

        It is long because one machine's states are easiest to follow in one place, in their order.
        """
        c = self.configuration
        layer, last, idle = Signal(layer_bits(c)), Signal(), Signal()
        token = Signal(token_bits(c.tokens))
        feed = partial(self._feed, weights, layer)
        m.d.comb += [
            last.eq(layer == c.layers - 1),
            events.layer.eq(layer),
            embedding.token.eq(token),
            update_pass.start_layer.eq(layer),
            self.busy.eq(~idle | update_pass.busy),
        ]
        summed = "SETTLE" if reset_pass else "UPDATE"  # behind the inputs
        task = Signal(task_layout(), reset_less=True)
        if read_out:
            m.d.comb += [read_out.task.eq(task), weights.group.eq(read_out.ask.payload)]

        def start_update() -> None:
            m.d.comb += [update_pass.start.eq(1), events.clear.bit_select(layer, 1).eq(1)]
            m.d.sync += layer.eq(Mux(last, 0, layer + 1))

        cause = {name: Signal(name=f"cause_{name}") for name in CAUSES[:-1] if read_out or name != "read_out"}
        pending = Signal()  # a task of the step before
        with m.FSM(name="sequencer"):
            with m.State("LAYER"):
                m.d.comb += cause["wait_update"].eq(1)
                with m.If(~(update_pass.busy & (update_pass.layer == layer))):
                    m.d.comb += events.start.eq(1)
                    m.next = "EVENTS"
            with m.State("EVENTS"):
                m.d.comb += [cause["fetch"].eq(1), *feed(events.o, "y")]
                with m.If(events.done):
                    with m.If(layer == 0):
                        m.next = "TOKEN"
                    with m.Else():
                        m.d.comb += events.start.eq(1)
                        m.next = "INPUTS"
            with m.State("TOKEN"):
                m.d.comb += [cause["wait_update"].eq(~pending), idle.eq(settled & ~pending)]
                if read_out:
                    m.d.comb += [cause["read_out"].eq(pending), read_out.start.eq(pending & settled)]
                with m.If(pending):
                    with m.If(settled):
                        m.d.sync += pending.eq(0)
                        m.next = "READ_OUT" if read_out else "TOKEN"
                with m.Elif(self.clear & ~self.busy):
                    m.next = "CLEAR"
                with m.Elif(~self.clear):
                    m.d.comb += self.i_tokens.ready.eq(1)
                    m.d.sync += token.eq(self.i_tokens.p.token if read_out else self.i_tokens.payload)
                    with m.If(self.i_tokens.valid):
                        if read_out:
                            m.d.sync += [
                                task.eq(self.i_tokens.payload),
                                pending.eq(self.i_tokens.p.task != Task.EVENTS),
                            ]
                        m.next = "INPUT"
            with m.State("INPUT"):
                if rows:
                    m.d.comb += cause["settle"].eq(1)
                    with m.If(token >= c.folded_tokens):
                        m.d.comb += embedding.start.eq(1)
                        m.next = "EMBEDDING"
                    with m.Elif(settled):
                        m.d.comb += rows.start.eq(1)
                        m.next = "ROWS"
                else:
                    m.d.comb += [cause["fetch"].eq(1), embedding.start.eq(1)]
                    m.next = "EMBEDDING"
            if rows:
                m.d.comb += rows.token.eq(token)
                with m.State("ROWS"):
                    m.d.comb += cause["rows"].eq(1)
                    with m.If(rows.done):
                        m.next = summed
            with m.State("EMBEDDING"):
                m.d.comb += [cause["fetch"].eq(1), *feed(embedding.o, "x")]
                with m.If(embedding.done):
                    m.next = summed
            with m.State("INPUTS"):
                m.d.comb += [
                    cause["wait_layer"].eq(1),
                    *feed(events.o, "x"),
                    events.layer.eq(layer - 1),
                    events.growing.eq(update_pass.busy),
                ]
                with m.If(events.done):
                    m.next = summed
            if reset_pass:
                m.d.comb += reset_pass.layer.eq(layer)
                with m.State("SETTLE"):
                    m.d.comb += cause["settle"].eq(1)
                    with m.If(settled):
                        m.d.comb += events.start.eq(1)
                        m.next = "RESET"
                with m.State("RESET"):
                    m.d.comb += [
                        resetting.eq(1),
                        cause["reset_pass"].eq(1),
                        *feed(reset_pass.o, "s"),
                        reset_pass.i.payload.eq(events.o.payload),
                        reset_pass.i.valid.eq(events.o.valid),
                        events.o.ready.eq(reset_pass.i.ready),
                    ]
                    with m.If(events.done & ~reset_pass.busy):
                        m.next = "UPDATE"
            with m.State("UPDATE"):
                m.d.comb += [cause["wait_update"].eq(settled), cause["settle"].eq(~settled)]
                with m.If(settled & ~update_pass.busy):
                    start_update()
                    m.next = "LAYER"
            with m.State("CLEAR"):
                m.d.comb += cause["wait_update"].eq(1)
                with m.If(~update_pass.busy):
                    start_update()
                    m.d.comb += update_pass.clear.eq(1)
                    with m.If(last):
                        m.next = "CLEAR_READ_OUT" if read_out else "LAYER"
            if read_out:
                self._task_states(m, read_out, events, weights, update_pass, settled, cause["read_out"])
        return cause

    def _task_states(
        self,
        m: Module,
        read_out: ReadOut,
        events: EventQueue,
        weights: WeightStore,
        update_pass: UpdatePass,
        settled: Signal,
        cause: Signal,
    ) -> None:
        """States of the sequencer that serve the read-out: its columns are those of the last layer's events."""
        c = self.configuration
        matrix = Mux(read_out.ask.payload == 0, c.readout_matrix("head"), c.readout_matrix("group"))
        with m.State("READ_OUT"):
            m.d.comb += [cause.eq(1), events.layer.eq(c.layers - 1)]
            with m.If(read_out.ask.valid):
                m.d.comb += [read_out.ask.ready.eq(1), events.start.eq(1)]
                m.next = "READ_OUT_EVENTS"
            with m.Elif(~read_out.busy):
                m.next = "TOKEN"
        with m.State("READ_OUT_EVENTS"):
            m.d.comb += [
                cause.eq(1),
                events.layer.eq(c.layers - 1),
                events.growing.eq(update_pass.busy),
                weights.i.p.matrix.eq(matrix),
                weights.i.p.column.eq(events.o.p.index),
                weights.i.p.value.eq(events.o.p.value),
                weights.i.valid.eq(events.o.valid),
                events.o.ready.eq(weights.i.ready),
            ]
            with m.If(events.done):
                m.next = "READ_OUT_SETTLE"
        with m.State("READ_OUT_SETTLE"):
            m.d.comb += cause.eq(1)
            with m.If(settled):
                m.d.comb += read_out.fed.eq(1)
                m.next = "READ_OUT"
        with m.State("CLEAR_READ_OUT"):
            m.d.comb += cause.eq(1)
            with m.If(~update_pass.busy):
                m.d.comb += read_out.clear.eq(1)
                m.next = "CLEARING"
        with m.State("CLEARING"):
            m.d.comb += cause.eq(1)
            with m.If(~read_out.busy):
                m.next = "LAYER"

    def _read_out(self, m: Module, read_out: ReadOut, gate: stream.Interface, accumulators: Accumulators) -> None:
        """Connect the read-out, which shares gate z's access to the accumulators."""
        number = GATES.index("z")
        access = accumulators.access[number]
        m.d.comb += [
            read_out.load.eq(self.load),
            read_out.load_valid.eq(self.load_valid),
            read_out.sampling.eq(self.sampling),
            read_out.sampling_load.eq(self.sampling_load),
            access.valid.eq(Mux(read_out.scanning, read_out.access.valid, gate.valid)),
            access.payload.eq(Mux(read_out.scanning, read_out.access.payload, gate.payload)),
            read_out.access.ready.eq(access.ready & read_out.scanning),
            gate.ready.eq(access.ready & ~read_out.scanning),
            read_out.found.valid.eq(accumulators.found[number].valid),
            read_out.found.payload.eq(accumulators.found[number].payload),
        ]
        connect(m, read_out.o, flipped(self.o_result))

    def _feed(self, weights: WeightStore, layer: Signal, source: stream.Interface, kind: str) -> list[Any]:
        """Ask for the columns of a source's events in a matrix of a layer."""
        bases, kinds = Array(base[kind] for base in self.configuration.column_base), self.configuration.matrix_kinds
        return [
            weights.i.p.matrix.eq(layer * len(kinds) + kinds.index(kind)),
            weights.i.p.column.eq(bases[layer] + source.p.index),
            weights.i.p.value.eq(source.p.value),
            weights.i.valid.eq(source.valid),
            source.ready.eq(weights.i.ready),
        ]

    def _count(self, m: Module, amounts: dict[str, Any], damaged_block: Value) -> None:
        """Count how often each kind of thing happens; behind the counters a damaged block can be read."""
        counted = [name for name in self.counters if name != DAMAGED_BLOCK]
        most = {name: self.configuration.multipliers if name.endswith("macs") else 1 for name in counted}
        if FAULTY_LINES in most:
            most[FAULTY_LINES] = (1 << WORD_BITS) - 1
        m.submodules.counters = counters = Counters(most)
        m.d.comb += [
            counters.byte.eq(self.counter_byte),
            self.counter_read.eq(counters.read),
            self.counters_settled.eq(counters.settled),
        ]
        if DAMAGED_BLOCK in self.counters:
            beyond, block_byte = Signal(), Signal(8)
            m.d.sync += [
                beyond.eq(self.counter_byte >= COUNTER_BYTES * len(counted)),
                block_byte.eq(Cat(damaged_block, C(0, 64))[:64].word_select(self.counter_byte % COUNTER_BYTES, 8)),
            ]
            with m.If(beyond):
                m.d.comb += self.counter_read.eq(block_byte)
        idle_amounts = [amounts[name] for name in (FAULTY_LINES, "scrubbed") if name in amounts]
        m.d.sync += [
            counters.active.eq(Cat(self.busy, self.i_tokens.valid, *idle_amounts).any()),
            *(counters.amounts[name].eq(amounts[name]) for name in counted),
        ]

    def _memory(self, m: Module, sources: list[Any]) -> dict[str, Value]:
        """Connect the SDRAM to the units that ask for bursts, and to the load bus; return what is counted of it."""
        c = self.configuration
        m.submodules.memory = memory = outer_memory(self._timing, c.memory_ratio)
        connect(m, memory.sdram, flipped(self.sdram))
        burst, asked = Signal(burst_layout()), Signal()
        m.d.comb += [memory.i.valid.eq(asked), memory.i.payload.eq(burst), self.ready.eq(memory.ready)]
        for source in sources:
            m.d.comb += [source.beat.valid.eq(memory.o.valid), source.beat.payload.eq(memory.o.payload)]
        with m.If(~asked | memory.i.ready):
            m.d.sync += asked.eq(0)
            branch = m.If
            for source in sources:
                with branch(source.burst.valid):
                    m.d.comb += source.burst.ready.eq(1)
                    m.d.sync += [burst.eq(source.burst.payload), asked.eq(1)]
                branch = m.Elif
        m.d.sync += memory.write.valid.eq(0)
        for name, section in memory_sections(c).items():
            if name in c.sdram_base:
                with m.If(self.load_valid & (self.load.section == section.number)):
                    m.d.sync += [
                        memory.write.valid.eq(1),
                        memory.write.p.word.eq(self.load.data),
                        memory.write.p.address.eq(self.load.index + c.sdram_base[name]),
                    ]
        amounts = {"beats": memory.o.valid & (memory.o.p.tag != TAGS.index("scrub"))}
        if c.ddr3:
            # Told once, when the memory has been started.
            known = Signal()
            m.d.sync += known.eq(memory.ready)
            faulty = memory.faulty if isinstance(memory, LevelledDdr3) else C(0, WORD_BITS)
            amounts[FAULTY_LINES] = Mux(known, 0, faulty)
        return amounts
