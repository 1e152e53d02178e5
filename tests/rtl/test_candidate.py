"""The joined gate z against `half_up` and `gate_value`, with sums and gates that come in any order."""

import random

import pytest

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.rtl.candidate import Candidate
from egret.rtl.gates import gate_value
from tests.support.streams import StreamSimulation

LIMIT = (1 << 23) - 1
Z = GATES.index("z")


def joined(outer, inner, reset):
    """The sum of gate z, in plain integers."""
    return outer + (2 * reset * inner + 256) // 512


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("layer, shift", [(0, 3), (1, 15), (0, 1)])
def test_random_neurons(layer, shift, compact):
    """No more than `in_flight` at a time, each of the three numbers when it likes; sums up to their limits."""
    c = Configuration(
        vocabulary=2, embedding=1, hidden=(9, 4), lanes=4, weight_words=64, compact=compact, reset="after"
    )
    rng = random.Random(shift)
    neurons = [(0, -1, 1), (0, -1, 128), (0, -1, 127), (0, 1, 128), (5, LIMIT - 5, 255), (-5, 5 - LIMIT, 255)]
    while len(neurons) < 150:
        inner = rng.randint(-LIMIT, LIMIT) >> rng.randrange(24)
        outer = rng.randint(abs(inner) - LIMIT, LIMIT - abs(inner)) >> rng.randrange(24)
        neurons.append((outer, inner, rng.randrange(256)))
    simulation = StreamSimulation(Candidate(c), seed=1)
    dut = simulation.dut
    answers = simulation.sink(dut.o)
    inputs = (dut.outer, dut.inner, dut.reset)

    async def testbench(context):
        await simulation.load(context, c, shift=[7, 7, shift if layer == 0 else 2, 7, 7, shift if layer else 2])
        context.set(dut.layer, layer)
        sent = [0, 0, 0]
        while min(sent) < len(neurons):
            for kind, port in enumerate(inputs):
                goes = sent[kind] < min(len(neurons), len(answers) + c.in_flight) and simulation.chance(0.6)
                context.set(port.valid, goes)
                context.set(port.payload, neurons[sent[kind]][kind] if goes else simulation.random.randrange(256))
                sent[kind] += goes
            await context.tick()
        for port in inputs:
            context.set(port.valid, 0)
        await context.tick().repeat(30)

    simulation.run(testbench)
    expected = [gate_value(joined(*neuron), Z, shift, c.gate_index_bits) for neuron in neurons]
    assert [value for _, value in answers] == expected
    assert len(set(expected)) > 20


def test_a_neuron_a_cycle():
    c = Configuration(vocabulary=2, embedding=1, hidden=(9,), lanes=8, weight_words=64, reset="after")
    simulation = StreamSimulation(Candidate(c))
    dut = simulation.dut
    answers = simulation.sink(dut.o)

    async def testbench(context):
        await simulation.load(context, c, shift=[5, 5, 5])
        for number in range(40):
            for port, value in ((dut.outer, number), (dut.inner, -number), (dut.reset, number)):
                context.set(port.valid, 1)
                context.set(port.payload, value)
            await context.tick()
        for port in (dut.outer, dut.inner, dut.reset):
            context.set(port.valid, 0)
        await context.tick().repeat(20)

    simulation.run(testbench)
    cycles = [cycle for cycle, _ in answers]
    assert cycles == list(range(cycles[0], cycles[0] + 40))
