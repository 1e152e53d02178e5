"""The cocotb side of `egret.sim.lockstep`: drives a core and compares its streams."""

import json
import os
import random
from collections import deque
from functools import partial
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from egret.model.arithmetic import GATES
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import EVENT, input_section, memory_sections
from egret.model.compiler.unpack import read_image
from egret.model.integer import IntegerEngine
from egret.model.readout import MOST_TOP, ReadOut, Sampler
from egret.rtl.accumulator import found_after
from egret.rtl.candidate import STAGES
from egret.rtl.counters import COUNTER_BYTES
from egret.rtl.layouts import (
    Task,
    event_layout,
    input_layout,
    load_layout,
    output_layout,
    result_layout,
    sampling_layout,
    task_layout,
)
from egret.rtl.protocol import counter_names
from egret.rtl.readout.scan import most_entries, score_layout
from egret.sim.watch import watch_cocotb

SAMPLING = 8  # tokens after which words are drawn in another way
PATIENCE = 200_000  # cycles without a token begun or an output taken, after which the core counts as stuck


class Divergence(Exception):
    pass


class Expected:
    """What a stream must carry, in order."""

    def __init__(self, name):
        self.name = name
        self.values = deque()
        self.compared = 0
        self.ends = 0

    def extend(self, step, layer, values):
        self.values.extend((step, layer, place, value) for place, value in values)

    def check(self, actual):
        if not self.values:
            raise Divergence(f"stream {self.name}: {actual!r} after everything expected had come")
        step, layer, place, value = self.values.popleft()
        if actual != value:
            raise Divergence(
                f"stream {self.name}: step {step}, layer {layer}, {place}: expected {value!r}, actual {actual!r}"
            )
        self.compared += 1
        self.ends += place == "end"


def signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def sparse(values):
    """(place, (index, value)) of the non-zero elements of [H]."""
    return [(f"index {index}", (index, int(values[index]))) for index in np.flatnonzero(values).tolist()]


def dense(values, neurons=None):
    neurons = range(len(values)) if neurons is None else neurons
    return [(f"neuron {neuron}", int(values[neuron])) for neuron in neurons]


class Reading:
    """Tasks for a core with a read-out, one a token, and what it answers: every kind in turn, drawn in every way."""

    def __init__(self, network, tokens, expected):
        self.readout = ReadOut(network)
        self.tokens = tokens
        self.scores, self.results = expected["scores"], expected["results"]

    def sampler(self, step):
        """How words are drawn from a token on, whose number is a multiple of `SAMPLING`."""
        turn = step // SAMPLING
        temperature, top_k = (1.0, 0.5, 2.0)[turn % 3], (None, None, 1, 5, MOST_TOP)[turn % 5]
        return Sampler(self.readout, seed=step, temperature=temperature, top_k=top_k, by_factors=turn % 5 == 0)

    def task(self, step):
        """Task, group and index, as `task_layout` has them."""
        kind = Task(step % len(Task))
        if kind == Task.SCORE:
            return kind, *self.readout.target(self.tokens[(step + 1) % len(self.tokens)])
        return kind, 0, 7 * step % MOST_TOP + 1

    def payload(self, step):
        """What enters the core."""
        kind, group, index = self.task(step)
        layout = task_layout()
        return sum(
            value << layout[name].offset
            for name, value in (("token", self.tokens[step]), ("task", kind), ("group", group), ("index", index))
        )

    def sampling(self, step):
        """What sets how words are drawn."""
        sampler, layout = self.sampler(step), sampling_layout()
        return sum(
            value << layout[name].offset
            for name, value in (("beta", sampler.beta), ("top", sampler.top), ("state", sampler.state))
        )

    def expect(self, step, y):
        """Fill the streams for a token, from the last layer's events [H]."""
        if step % SAMPLING == 0:
            self.drawing = self.sampler(step)
        kind, _, k = self.task(step)
        read, before = [], len(self.drawing.groups_read)
        if kind == Task.SCORE:
            target = self.tokens[(step + 1) % len(self.tokens)]
            results = [(0, int(self.readout.log_probabilities(y[None], np.array([target]))[0]))]
            read = [group - 1] if (group := self.readout.target(target)[0]) else []
        elif kind == Task.SAMPLE:
            results = [(self.drawing.sample(y), 0)]
            read = self.drawing.groups_read[before:]
        elif kind == Task.TOP:
            results, read = self.readout.top(y, k)
        else:
            return
        for matrix in (0, *(group + 1 for group in read)):
            scores = self.readout.scores(y[None], matrix)[0].tolist()
            self.scores.extend(step, "read-out", ((f"entry {place}", (place, one)) for place, one in enumerate(scores)))
        last = len(results) - 1
        self.results.extend(
            step, "read-out", ((f"word {place}", (*result, int(place == last))) for place, result in enumerate(results))
        )


def expectations(image, job):
    """`Expected` of every stream, filled by running the integer network; and the tasks of a read-out, or None."""
    parameters = read_image(image)
    network, reading = IntegerEngine(parameters), None
    before = image.configuration.reset == "before"
    names = ["embedding", "events", "output", *(["reset_values"] if before else []), "p", "c"]
    if image.configuration.readout is not None:
        names += ["scores", "results"]
    names += [f"{kind}_{gate}" for gate in GATES for kind in ("accumulator", "gate")]
    expected = {name: Expected(name) for name in names}
    if image.configuration.readout is not None:
        reading = Reading(parameters, job["tokens"], expected)
    last = image.configuration.layers - 1
    for step, token in enumerate(job["tokens"]):
        if step == job["restart"]:
            network.reset_state()
        for layer, trace in enumerate(network.step(np.array([token]))):
            size = len(trace.y[0])
            active = np.flatnonzero(trace.y_before[0]).tolist()

            def put(name, values, step=step, layer=layer):
                expected[name].extend(step, layer, values)

            if layer == 0 and np.max(token) >= image.configuration.folded_tokens:
                put("embedding", sparse(trace.x[0]))
            for gate, values in zip(GATES, (trace.u, trace.r, trace.z), strict=True):
                neurons = active if gate == "r" and before else None
                number = GATES.index(gate)
                put(f"accumulator_{gate}", dense(trace.accumulators[0, number * size : (number + 1) * size], neurons))
                put(f"gate_{gate}", dense(values[0], neurons))
            if before:
                put("reset_values", sparse(trace.s[0]))
            put("p", dense(trace.p[0]))
            put("c", dense(trace.c[0]))
            put("events", sparse(trace.y[0]))
            if layer == last:
                put("output", [(place, (*event, 0)) for place, event in sparse(trace.y[0])] + [("end", (0, 0, 1))])
                if reading:
                    reading.expect(step, trace.y[0])
    return expected, reading


class Monitor:
    """Samples streams half a cycle before the active edge, when everything has settled."""

    def __init__(self, dut, units, configuration, expected, intermediate):
        self.c = configuration
        self.expected = expected
        self.probes = [
            self.probe(
                dut.o_events__valid, "output", dut.o_events__payload, self.unpack(output_layout()), dut.o_events__ready
            )
        ]
        if configuration.readout is not None:
            self.probes.append(
                self.probe(
                    dut.o_result__valid,
                    "results",
                    dut.o_result__payload,
                    self.unpack(result_layout()),
                    dut.o_result__ready,
                )
            )
        if not intermediate:
            return
        if configuration.readout is not None:
            scan = units.read_out.scan
            self.probes.append(
                self.probe(
                    scan.o__valid, "scores", scan.o__payload, self.unpack(score_layout(most_entries(configuration)))
                )
            )
        bits = configuration.accumulator_bits
        unpack_event = self.unpack(event_layout(configuration))
        update = units.update_pass
        self.probes += [
            self.probe(
                units.embedding.o__valid,
                "embedding",
                units.embedding.o__payload,
                self.unpack(input_layout(configuration)),
                units.embedding.o__ready,
            ),
            self.probe(
                update.event__valid,
                "events",
                update.event__payload,
                lambda raw: unpack_event(raw >> (len(update.event__payload) - event_layout(configuration).size)),
            ),
        ]
        self.probes += [
            self.probe(update.answered, name, handle, lambda raw: signed(raw, 16), mask=1 << len(update.answered) - 1)
            for name, handle in (("p", update.kept), ("c", update.carried))
        ]
        before = configuration.reset == "before"
        if before:
            scaled = units.reset_pass
            self.probes.append(
                self.probe(scaled.o__valid, "reset_values", scaled.o__payload, unpack_event, scaled.o__ready)
            )
        for gate in GATES:
            unit = getattr(units, f"gate_{gate}")
            if gate != "z" or before:
                found = unit.respond, unit.found__payload, found_after(configuration)
            else:
                found = unit.looking, unit.joined, STAGES
            self.probes += [
                self.probe(
                    found[0], f"accumulator_{gate}", found[1], partial(signed, bits=bits), mask=1 << found[2] - 1
                ),
                self.probe(unit.o__valid, f"gate_{gate}", unit.o__payload, lambda raw: signed(raw, 16)),
            ]

    @staticmethod
    def unpack(layout):
        names = list(layout.members)
        return lambda raw: tuple(int(getattr(layout.from_bits(raw), name)) for name in names)

    def probe(self, valid, name, payload, unpack, ready=None, mask=1):
        return valid, mask, ready, self.expected[name], payload, unpack

    def sample(self):
        """Check the streams of this cycle; whether the output carried something."""
        for valid, mask, ready, expected, payload, unpack in self.probes:
            if int(valid.value) & mask and (ready is None or int(ready.value)):
                expected.check(unpack(int(payload.value)))


async def load(dut, image):
    while image.configuration.store == "sdram" and not int(dut.ready.value):
        await RisingEdge(dut.clk)
    for name, section in memory_sections(image.configuration).items():
        for payload in load_payloads(image.configuration, section, image.memories[name]):
            dut.load.value = payload
            dut.load_valid.value = 1
            await RisingEdge(dut.clk)
            if image.configuration.store != "bram":  # no faster than the link
                dut.load_valid.value = 0
                for _ in range(section.word_bytes - 1):
                    await RisingEdge(dut.clk)
    dut.load_valid.value = 0
    await clear(dut)


def load_payloads(configuration, section, data):
    """What the load port takes to write the words of a memory, from its first one on."""
    layout = load_layout(configuration)
    for index in range(len(data) // section.word_bytes):
        word = int.from_bytes(data[index * section.word_bytes : (index + 1) * section.word_bytes], "little")
        yield (
            section.number << layout["section"].offset | index << layout["index"].offset | word << layout["data"].offset
        )


async def clear(dut):
    dut.clear.value = 1
    await FallingEdge(dut.clk)
    while int(dut.busy.value):
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.clear.value = 0


async def read_counters(dut, names):
    """The performance counters, once they have been collected."""
    while not int(dut.counters_settled.value):
        await FallingEdge(dut.clk)
    values = {}
    for number, name in enumerate(names):
        read = bytearray()
        for byte in range(COUNTER_BYTES):
            dut.counter_byte.value = COUNTER_BYTES * number + byte
            await FallingEdge(dut.clk)
            read.append(int(dut.counter_read.value))
        values[name] = int.from_bytes(read, "little")
    return values


@cocotb.test()
async def lockstep(dut):
    directory = Path(os.environ["EGRET_LOCKSTEP"])
    job = json.loads((directory / "job.json").read_text())
    image = Image.load(directory / "core.image")
    expected, reading = expectations(image, job)
    if not job["intermediate"]:
        expected = {name: expected[name] for name in ("output", "results") if name in expected}
    result = directory / "result.json"

    for signal in (
        dut.counter_byte,
        dut.load,
        dut.load_valid,
        dut.clear,
        dut.i_tokens__payload,
        dut.i_tokens__valid,
        dut.o_events__ready,
        *((dut.o_result__ready, dut.sampling, dut.sampling_load) if reading else ()),
    ):
        signal.value = 0
    dut.rst.value = 1
    await Timer(10, "ns")
    Clock(dut.clk, 10, "ns").start(start_high=False)
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await load(dut, Image.load(directory / "loaded.image"))

    units = dut.inner if image.configuration.store == "sdram" else dut
    watched = {"": ["o_events", *(["o_result"] if reading else [])]}
    if job["intermediate"]:
        watched |= {
            "weights": ["i"],
            "embedding": ["o"],
            "events": ["o"],
            "gate_u": ["access"],
            "gate_r": ["access"],
            "update_pass": ["o"],
        }
        if image.configuration.reset == "before":
            watched |= {"reset_pass": ["i", "o", "request"], "gate_z": ["access"]}
        else:
            watched |= {"sum_z": ["access"], "sum_zy": ["access"]}
    streams = {
        f"{unit}.{stream}".strip("."): (getattr(units, unit) if unit else dut, stream)
        for unit, prefixes in watched.items()
        for stream in prefixes
    }
    watches = watch_cocotb(streams, dut.clk)

    rng = random.Random(job["seed"])
    monitor = Monitor(dut, units, image.configuration, expected, job["intermediate"])
    output, results = expected["output"], expected.get("results", Expected("results"))
    tokens, sent, quiet, seen = job["tokens"], 0, 0, 0
    offered, drawn = False, None
    entering, written = image.configuration.takes_events, 0  # steps whose events the core has, or gets now
    loads = deque()
    try:
        while output.values or results.values or sent < len(tokens):
            quiet += 1
            if quiet > PATIENCE:
                raise Divergence(f"the core is stuck after {sent} tokens; {len(output.values)} outputs are missing")
            if sent == job["restart"] and not offered and sent < len(tokens):
                if output.ends == sent and not (results.values and results.values[0][0] < sent):
                    await clear(dut)
                    job["restart"] = None
            elif reading and sent < len(tokens) and sent % SAMPLING == 0 and drawn != sent:
                dut.sampling.value = reading.sampling(sent)
                dut.sampling_load.value = not int(dut.busy.value) and output.ends == sent
                if int(dut.sampling_load.value):
                    drawn = sent
            elif entering and written == sent < len(tokens) and not offered:
                # The host writes a step's events when the step before has been answered.
                if output.ends == sent:
                    index = np.flatnonzero(tokens[sent])
                    data = EVENT.pack({"index": index, "value": np.array(tokens[sent])[index]})
                    loads.extend(load_payloads(image.configuration, input_section(image.configuration), data))
                    written += 1
            elif loads:
                pass
            elif sent < len(tokens) and not offered and rng.random() >= job["idle"]:
                payload = np.count_nonzero(tokens[sent]) if entering else tokens[sent]
                dut.i_tokens__payload.value = reading.payload(sent) if reading else int(payload)
                dut.i_tokens__valid.value = 1
                offered = True
            dut.load_valid.value = bool(loads)
            if loads:
                dut.load.value = loads.popleft()
            dut.o_events__ready.value = rng.random() >= job["backpressure"]
            if reading:
                dut.o_result__ready.value = rng.random() >= job["backpressure"]
            await FallingEdge(dut.clk)
            monitor.sample()
            taken = offered and int(dut.i_tokens__ready.value)
            if taken or output.compared + results.compared != seen:
                quiet, seen = 0, output.compared + results.compared
            await RisingEdge(dut.clk)
            if reading:
                dut.sampling_load.value = 0
            if taken:
                sent += 1
                offered = False
                dut.i_tokens__valid.value = 0
        dut.o_events__ready.value = 0
        if reading:
            dut.o_result__ready.value = 0
        # The last events are still accumulated for the next step; nothing may come out any more.
        quiet = 0
        while quiet < 50 or (int(dut.busy.value) and quiet < PATIENCE):
            await FallingEdge(dut.clk)
            monitor.sample()
            quiet += 1
        for stream in expected.values():
            if stream.values:
                step, layer, place, value = stream.values[0]
                raise Divergence(
                    f"stream {stream.name}: step {step}, layer {layer}, {place}: expected {value!r}, nothing came"
                )
        if int(dut.busy.value):
            raise Divergence("the core is still busy after its last output")
        if image.configuration.store == "sdram" and int(dut.violations.value):
            raise Divergence(f"the SDRAM was used against its data sheet: {int(dut.violations.value):#x}")
    except (Divergence, AssertionError) as divergence:
        result.write_text(json.dumps({"divergence": str(divergence)}))
        raise
    c = image.configuration
    names = counter_names(c.layers, sdram=c.store == "sdram", readout=c.readout is not None, ddr3=c.ddr3)
    counters = await read_counters(dut, names)
    result.write_text(
        json.dumps(
            {
                "compared": {name: stream.compared for name, stream in expected.items()},
                "stalls": {name: watch.stalls for name, watch in watches.items()},
                "counters": counters,
            }
        )
    )
