"""Gate against `gate_value`, with a stand-in for the accumulators."""

import random

import pytest

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.integer import gate_index, sigmoid_table, tanh_table
from egret.rtl.accumulator import found_after
from egret.rtl.gates import Gate, gate_value, value_after
from tests.support.streams import StreamSimulation

LIMIT = (1 << 23) - 1


def run(c, gate, shifts, requests, content, *, seed=0, idle=0.0, busy=0.0, value_of=gate_value):
    """Send requests (layer, neuron, respond, replace, bias); ``content`` gives the accumulator of each.

    Returns the values in order.
    """
    simulation = StreamSimulation(Gate(c, gate), seed)
    dut = simulation.dut
    answers = simulation.sink(dut.o)
    accesses = []
    stored = 0
    simulation.watch(dut.access, "access")
    simulation.watch(dut.i, "i")

    async def accumulators(context):
        cycle, ready, due = 0, False, {}
        async for _, _, valid, bank, address, replace, bias in context.tick().sample(
            dut.access.valid, dut.access.p.banks, dut.access.p.address, dut.access.p.replace, dut.access.p.bias
        ):
            if valid and ready:
                due[cycle + found_after(c)] = content[len(accesses)]
                accesses.append((cycle, bank, address, replace, bias))
            cycle += 1
            ready = simulation.random.random() >= busy
            context.set(dut.access.ready, ready)
            context.set(dut.found.valid, cycle in due)
            # Garbage where nothing was asked for.
            context.set(dut.found.payload, due.get(cycle, simulation.random.randint(-LIMIT, LIMIT)))

    simulation.simulator.add_process(accumulators)

    def count(cycle, pulse):
        nonlocal stored
        stored += pulse

    simulation.each_cycle(count, dut.stored)

    async def testbench(context):
        await simulation.load(context, c, shift=[shift for layer in shifts for shift in layer])
        for request in requests:
            while simulation.chance(idle):
                await context.tick()
            StreamSimulation.set(context, dut.i.payload, request)
            context.set(dut.i.valid, 1)
            await context.tick().until(dut.i.ready)
            context.set(dut.i.valid, 0)
            # What waits in the meantime is not yet a request.
            StreamSimulation.set(context, dut.i.payload, (simulation.random.randrange(c.layers), 0, 1, 1, 0))
        await context.tick().repeat(20 + value_after(c) + 3)

    simulation.run(testbench)
    expected, cycles = [], []
    assert len(accesses) == len(requests)
    assert stored == sum(replace for _, _, _, replace, _ in requests)
    for (cycle, *access), (layer, neuron, respond, replace, bias), accumulator in zip(
        accesses, requests, content, strict=True
    ):
        bank, address = c.place(layer, gate, neuron)
        assert access == [1 << c.gate_banks(gate).index(bank), c.bank_base[layer] + address, replace, bias]
        if respond:
            expected.append(value_of(accumulator, gate, shifts[layer][gate], c.gate_index_bits))
            cycles.append(cycle + value_after(c))
    assert answers == list(zip(cycles, expected, strict=True))
    if busy:
        assert simulation.watches["access"].stalls
    return expected


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("gate", range(3))
@pytest.mark.parametrize("idle, busy", [(0.0, 0.0), (0.4, 0.0), (0.0, 0.5)])
def test_random_requests(idle, busy, gate, compact):
    """Requests of all kinds to three layers with shifts of their own."""
    rng = random.Random(gate)
    c = Configuration(vocabulary=2, embedding=1, hidden=(9, 4, 6), lanes=2, weight_words=1024, compact=compact)
    shifts = [[rng.randint(1, 15) for _ in GATES] for _ in c.hidden]
    requests, content = [], []
    for _ in range(300):
        layer = rng.randrange(c.layers)
        requests.append(
            (layer, rng.randrange(c.hidden[layer]), rng.randrange(2), rng.randrange(2), rng.randint(-LIMIT, LIMIT))
        )
        content.append(rng.randint(-LIMIT, LIMIT) >> rng.randrange(24))
    values = run(c, gate, shifts, requests, content, seed=gate, idle=idle, busy=busy)
    assert len(values) > 100 and len(set(values)) > 20


@pytest.mark.parametrize("gate", range(3))
@pytest.mark.parametrize(
    "lanes, hidden", [(1, (1,)), (1, (5, 3)), (4, (7, 9, 1)), (8, (33, 16)), (32, (1, 3)), (32, (70, 40))]
)
def test_every_accumulator(lanes, hidden, gate):
    """All neurons of all layers, also where a layer does not fill the banks."""
    c = Configuration(vocabulary=2, embedding=1, hidden=hidden, lanes=lanes, weight_words=64)
    rng = random.Random(gate)
    requests = [
        (layer, neuron, 1, neuron % 2, rng.randint(-LIMIT, LIMIT))
        for layer, size in enumerate(hidden)
        for neuron in range(size)
    ]
    rng.shuffle(requests)
    content = [rng.randint(-LIMIT, LIMIT) for _ in requests]
    values = run(c, gate, [[rng.randint(1, 15) for _ in GATES] for _ in hidden], requests, content, idle=0.2)
    assert len(values) == c.neurons


@pytest.mark.parametrize("shift", range(1, 16))
def test_shift(shift):
    """Halves on both sides of zero, saturation both ways, and the ends of the accumulator, for each shift."""
    c = Configuration(vocabulary=2, embedding=1, hidden=(3,), lanes=1, weight_words=1024)
    gate = shift % 3
    half, top = 1 << (shift - 1), 1 << (shift + 9)
    content = [
        sign * base + offset
        for base in (0, half, 2 * half, 3 * half, top, top - half)
        for sign in (-1, 1)
        for offset in (-1, 0, 1)
    ]
    content = [value for value in content if abs(value) <= LIMIT] + [LIMIT, -LIMIT, -LIMIT - 1]
    shifts = [[15 if place != gate else shift for place in range(3)]]
    run(c, gate, shifts, [(0, 1, 1, 1, 0)] * len(content), content)


@pytest.mark.parametrize("index_bits, gate", [(8, 0), (10, 1), (10, 2), (12, 2)])
def test_whole_table(index_bits, gate):
    """Every index, and one beyond each end."""
    c = Configuration(vocabulary=2, embedding=1, hidden=(3,), lanes=1, weight_words=1024, gate_index_bits=index_bits)
    half = 1 << (index_bits - 1)
    content = [index * 2 for index in range(-half - 1, half + 1)]
    table = (tanh_table if gate == 2 else sigmoid_table)(index_bits)
    values = run(
        c,
        gate,
        [[1, 1, 1]],
        [(0, 0, 1, 0, 0)] * len(content),
        content,
        value_of=lambda accumulator, gate, shift, bits: table[gate_index(accumulator, shift, bits)],
    )
    assert values == [table[0 - half], *table[half:], *table[:half], table[half - 1]]
    assert values == sorted(values)


@pytest.mark.parametrize("index_bits", [8, 10])
def test_counterpart_is_the_integer_network(index_bits):
    """`gate_value` and the functions of the integer network agree."""
    rng = random.Random(1)
    sigmoid, tanh = sigmoid_table(index_bits), tanh_table(index_bits)
    for _ in range(200):
        accumulator, shift = rng.randint(-LIMIT - 1, LIMIT) >> rng.randrange(24), rng.randint(1, 15)
        index = int(gate_index(accumulator, shift, index_bits))
        assert gate_value(accumulator, 0, shift, index_bits) == sigmoid[index]
        assert gate_value(accumulator, 2, shift, index_bits) == tanh[index]
