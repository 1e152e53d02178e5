"""UpdatePass against `update_state` and `fire`, with stand-ins for the gates."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.integer import fire, update_state
from egret.rtl.biases import Biases
from egret.rtl.update import UpdatePass
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

GATE_LATENCY = 11
ONE = 1 << 14
LIMIT = (1 << 23) - 1


def with_biases(c, dut):
    """A module of an `UpdatePass`, whose ports are driven from outside, and its biases."""
    m = Module()
    m.submodules.dut = dut
    m.submodules.biases = biases = Biases(dataclasses.replace(c, store="bram"))
    connect(m, biases.o, dut.bias)
    m.d.comb += [
        biases.load.eq(dut.load),
        biases.load_valid.eq(dut.load_valid),
        biases.start.eq(dut.start),
        biases.layer.eq(dut.start_layer),
    ]
    return m


class Pass:
    """Drives an `UpdatePass` through passes over layers and keeps the states that it must hold.

    ``waiting`` and ``backpressure`` are how often a request and an event wait, ``storing`` how many cycles later than
    at the earliest an accumulator is replaced.
    """

    def __init__(self, hidden, threshold, *, lanes=1, compact=False, seed=0, waiting=0.0, backpressure=0.0, storing=0):
        self.c = c = Configuration(
            vocabulary=2, embedding=1, hidden=hidden, lanes=lanes, weight_words=1024, compact=compact
        )
        self.random = random.Random(seed)
        self.dut = UpdatePass(c)
        self.simulation = StreamSimulation(with_biases(c, self.dut), seed)
        self.simulation.dut = self.dut
        self.threshold = threshold
        self.bias = [
            [self.random.choice([-LIMIT, LIMIT, self.random.randint(-LIMIT, LIMIT)]) for _ in GATES]
            for _ in range(c.neurons)
        ]
        self.states = [0] * c.neurons
        self.asked = [[], [], []]
        self.expected_asked = [[], [], []]
        self.expected_events, self.expected_output = [], []
        self.events = self.simulation.sink(self.dut.event)
        self.output = self.simulation.sink(self.dut.o, backpressure, "o")
        self.values = None
        self.waiting = waiting
        self.storing = storing
        self.stored = [0, 0, 0]
        self.fired = 0
        for gate in range(3):
            self.simulation.watch(self.dut.request[gate], f"request_{GATES[gate]}")
            self.simulation.simulator.add_process(self.gate(gate))

    def gate(self, gate):
        request = self.dut.request[gate]
        answer = {"u": self.dut.update, "z": self.dut.candidate}.get(GATES[gate])

        async def process(context):
            cycle, ready, due, taken = 0, False, {}, [False] * self.storing
            async for _, _, valid, layer, neuron, respond, replace, bias in context.tick().sample(
                request.valid, request.p.layer, request.p.neuron, request.p.respond, request.p.replace, request.p.bias
            ):
                taken.append(bool(valid and ready))
                if taken[-1]:
                    self.asked[gate].append((layer, neuron, respond, replace, bias))
                    if respond:
                        due[cycle + GATE_LATENCY] = self.values[neuron][0 if GATES[gate] == "u" else 1]
                cycle += 1
                ready = self.random.random() >= self.waiting
                context.set(request.ready, ready)
                stored = taken.pop(0)
                self.stored[gate] += stored
                context.set(self.dut.stored[gate], stored)
                if answer is not None:
                    context.set(answer.valid, cycle in due)
                    context.set(answer.payload, due.get(cycle, self.random.randrange(256)))

        return process

    async def load(self, context):
        width = self.c.accumulator_bits
        words = [sum(value % (1 << width) << width * gate for gate, value in enumerate(biases)) for biases in self.bias]
        await self.simulation.load(context, self.c, bias=words, threshold=self.threshold)

    async def run(self, context, layer, values=None):
        """One pass with ``values`` (u, z) by neuron; None: clear. Returns its cycles."""
        clear = values is None
        self.values = values
        base, size = self.c.neuron_base[layer], self.c.hidden[layer]
        for gate in range(3):
            self.expected_asked[gate] += [
                (layer, neuron, int(not clear and GATES[gate] != "r"), 1, self.bias[base + neuron][gate])
                for neuron in range(size)
            ]
        last = layer == self.c.layers - 1
        for neuron in range(size):
            if clear:
                self.states[base + neuron] = 0
                continue
            before = update_state(self.states[base + neuron], *values[neuron])
            event, after = (int(value) for value in fire(np.array(before), np.array(self.threshold[base + neuron])))
            self.states[base + neuron] = after
            self.fired += before >= self.threshold[base + neuron]
            if event:
                self.expected_events.append((layer, (neuron, event)))
                if last:
                    self.expected_output.append((neuron, event, 0))
        if last and not clear:
            self.expected_output.append((0, 0, 1))
        dut = self.dut
        assert not context.get(dut.busy)
        context.set(dut.start_layer, layer)
        context.set(dut.clear, clear)
        context.set(dut.start, 1)
        await context.tick()
        context.set(dut.start, 0)
        context.set(dut.start_layer, self.random.randrange(self.c.layers))
        cycles = 0
        while context.get(dut.busy):
            assert context.get(dut.layer) == layer
            await context.tick()
            cycles += 1
            assert cycles < 5000, "the pass does not end"
        assert self.asked == self.expected_asked
        assert self.stored == [len(asked) for asked in self.asked]
        assert [event for _, event in self.events] == self.expected_events
        assert [event for _, event in self.output] == self.expected_output
        return cycles

    def simulate(self, testbench):
        async def whole(context):
            await self.load(context)
            for layer in range(self.c.layers):
                await self.run(context, layer)
            await testbench(context)
            await context.tick().repeat(30)

        self.simulation.run(whole)
        assert self.asked == self.expected_asked
        assert [event for _, event in self.events] == self.expected_events
        assert [event for _, event in self.output] == self.expected_output


def random_values(rng, size):
    return [
        (rng.choice([0, 255, rng.randrange(256)]), rng.choice([-ONE, ONE, rng.randint(-ONE, ONE)])) for _ in range(size)
    ]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("waiting, backpressure", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.9), (0.4, 0.5)])
@pytest.mark.parametrize("hidden", [(19,), (5, 23, 2)])
def test_random_passes(hidden, waiting, backpressure, seed, compact):
    """Many passes over all layers in turn, cleared in between."""
    rng = random.Random(seed)
    threshold = [rng.choice([0, rng.randrange(8000), rng.randrange(1 << 15)]) for _ in range(sum(hidden))]
    check = Pass(hidden, threshold, compact=compact, seed=seed, waiting=waiting, backpressure=backpressure)

    async def testbench(context):
        for step in range(5):
            for layer, size in enumerate(hidden):
                await check.run(context, layer, random_values(rng, size))
            if step == 2:
                for layer in range(len(hidden)):
                    await check.run(context, layer)

    check.simulate(testbench)
    assert 0 < check.fired < 5 * sum(hidden)
    if backpressure:
        assert check.simulation.watches["o"].stalls
    if waiting:
        assert all(check.simulation.watches[f"request_{gate}"].stalls for gate in GATES)


@pytest.mark.parametrize("compact", [False, True])
def test_the_pass_lasts_until_all_is_stored(compact):
    """The gates' answers come long before the last accumulator is replaced, as when additions keep its bank."""
    check = Pass((3,), [100] * 3, compact=compact, storing=60)

    async def testbench(context):
        assert await check.run(context, 0, [(255, ONE)] * 3) > 60

    check.simulate(testbench)


@pytest.mark.parametrize("backpressure", [0.0, 0.95])
@pytest.mark.parametrize("firing", [False, True])
def test_all_or_none_fire(firing, backpressure):
    """More neurons than places in the queue; with threshold 0 and p = 0 all fire and none sends an event."""
    check = Pass((50,), [0 if firing else (1 << 15) - 1] * 50, backpressure=backpressure)

    async def testbench(context):
        await check.run(context, 0, [(255, ONE)] * 50)
        await check.run(context, 0, [(128, ONE if firing else -ONE)] * 50)

    check.simulate(testbench)
    assert check.fired == (100 if firing else 0)
    assert len(check.events) == (100 if firing else 0) and len(check.output) == len(check.events) + 2

    silent = Pass((50,), [0] * 50, backpressure=backpressure)

    async def silence(context):
        await silent.run(context, 0, [(255, 0)] * 50)

    silent.simulate(silence)
    assert silent.fired == 50 and len(silent.events) == 0 and len(silent.output) == 1


def test_state_at_the_threshold():
    """p equal to the threshold fires and leaves 0, one less does not; events 0, 1 and 255 at their edges."""
    values = [(u, z) for u in (1, 128, 255) for z in (0, 64, 65, 8191, 8192, 16000, 16383, ONE)]
    values += [(255, z) for z in (31, 32, 33, 95, 96, 97)]
    before = [update_state(0, *pair) for pair in values]
    assert all(p >= 0 for p in before) and 31 in before and 32 in before
    threshold = [p for p in before] + [p + 1 for p in before]
    check = Pass((2 * len(values),), threshold)

    async def testbench(context):
        await check.run(context, 0, values * 2)
        assert check.fired == len(values) and check.states[: len(values)] == [0] * len(values)
        # The states that are left are seen by the next pass.
        await check.run(context, 0, [(0, -ONE)] * 2 * len(values))

    check.simulate(testbench)
    assert {event for _, (_, (_, event)) in check.events} >= {1, 255}


def test_extreme_states():
    """States driven to both ends, by the largest differences, and back."""
    check = Pass((2, 4), [(1 << 15) - 1] * 3 + [0, 1, ONE])

    async def testbench(context):
        for z in (ONE, ONE, -ONE, -ONE, ONE, -ONE, ONE):
            for u in (255, 255, 1, 0):
                for layer, size in enumerate((2, 4)):
                    await check.run(context, layer, [(u, z)] * size)

    check.simulate(testbench)
    assert max(abs(state) for state in check.states) > ONE // 2


def test_one_neuron():
    """The smallest layer: passes follow each other as soon as they can."""
    check = Pass((1,), [100])
    rng = random.Random(1)

    async def testbench(context):
        for _ in range(20):
            await check.run(context, 0, random_values(rng, 1))

    check.simulate(testbench)
    assert 0 < check.fired < 20


def test_one_neuron_a_cycle():
    """A pass over n neurons takes n cycles and a constant."""
    cycles = {}
    for size in (10, 60):
        check = Pass((size,), [(1 << 15) - 1] * size, lanes=8)

        async def testbench(context, check=check, size=size):
            cycles[size] = (await check.run(context, 0, [(3, 5)] * size), await check.run(context, 0))

        check.simulate(testbench)
    assert [after - before for before, after in zip(cycles[10], cycles[60], strict=True)] == [50, 50]
