"""ResetPass against `reset_value`, with a stand-in for the gate r."""

import random

import pytest

from egret.model.compiler.configuration import Configuration
from egret.model.integer import reset_value
from egret.rtl.reset import ResetPass
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

C = Configuration(vocabulary=2, embedding=1, hidden=(20, 7), lanes=4, weight_words=1024)
GATE_LATENCY = 6


def run(events, gates, *, layer=0, seed=0, idle=0.0, waiting=0.0, backpressure=0.0):
    """Send events; ``gates`` has r by neuron. Returns the simulation, and the cycles of input and output."""
    simulation = StreamSimulation(ResetPass(C), seed)
    dut = simulation.dut
    received = simulation.sink(dut.o, backpressure, "o")
    taken = simulation.source(dut.i, events, idle, "i")
    simulation.watch(dut.request, "request")
    asked = []
    inside = []

    async def gate(context):
        context.set(dut.layer, layer)
        cycle, ready, due = 0, False, {}
        async for _, _, valid, asked_layer, neuron, respond, replace in context.tick().sample(
            dut.request.valid, dut.request.p.layer, dut.request.p.neuron, dut.request.p.respond, dut.request.p.replace
        ):
            if valid and ready:
                assert (asked_layer, respond, replace) == (layer, 1, 0)
                asked.append(neuron)
                due[cycle + GATE_LATENCY] = gates[neuron]
            cycle += 1
            ready = simulation.random.random() >= waiting
            context.set(dut.request.ready, ready)
            context.set(dut.gate.valid, cycle in due)
            context.set(dut.gate.payload, due.get(cycle, simulation.random.randrange(256)))

    simulation.simulator.add_process(gate)
    expected = [(index, reset_value(gates[index], value)) for index, value in events]
    expected = [event for event in expected if event[1]]

    def check(cycle, busy):
        before = sum(at < cycle for at in taken)
        assert busy or len(received) == sum(reset_value(gates[index], value) != 0 for index, value in events[:before])
        inside.append(busy)

    simulation.each_cycle(check, dut.busy)

    async def testbench(context):
        while len(taken) < len(events) or context.get(dut.busy):
            await context.tick()
        await context.tick().repeat(20)
        assert not context.get(dut.busy)

    simulation.run(testbench)
    assert asked == [index for index, _ in events]
    assert [event for _, event in received] == expected
    assert any(inside) == bool(events)
    return simulation, taken, [cycle for cycle, _ in received]


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("waiting", [0.0, 0.5])
@pytest.mark.parametrize("backpressure", [0.0, 0.8])
def test_random_events(backpressure, waiting, idle, seed):
    rng = random.Random(seed)
    gates = [rng.choice([0, 1, 255, rng.randrange(256)]) for _ in range(20)]
    events = [(rng.randrange(20), rng.choice([1, 255, rng.randint(1, 255)])) for _ in range(150)]
    simulation, _, cycles = run(
        events, gates, layer=seed, seed=seed, idle=idle, waiting=waiting, backpressure=backpressure
    )
    assert 0 < len(cycles) < len(events)
    if backpressure:
        assert simulation.watches["o"].stalls and (idle or simulation.watches["i"].stalls)
    if waiting:
        assert simulation.watches["request"].stalls


def test_rounding():
    """128/256 is the first value that is kept; 255 * 255 / 256 rounds to 254."""
    gates = [0, 1, 1, 2, 255, 255, 1]
    events = [(0, 255), (1, 127), (2, 128), (3, 64), (4, 255), (5, 1), (6, 255)]
    assert [reset_value(gates[index], value) for index, value in events] == [0, 0, 1, 1, 254, 1, 1]
    run(events, gates)


def test_all_values_round_to_zero():
    """Nothing leaves, and no place in the queue is lost: more events than it has places."""
    _, _, cycles = run([(index % 20, 127) for index in range(100)], [1] * 20, backpressure=0.5)
    assert cycles == []


def test_no_events():
    run([], [])


def test_latency_and_throughput():
    """The first value ten cycles after its event, then one a cycle."""
    _, taken, cycles = run([(index % 20, 255) for index in range(60)], [255] * 20)
    assert taken == list(range(taken[0], taken[0] + 60))
    assert cycles == list(range(taken[0] + 10, taken[0] + 70))
