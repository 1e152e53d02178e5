"""WeightStore against `words_of`."""

import random

import pytest

from egret.model.configuration import Configuration
from egret.rtl.payloads import word_layout
from egret.rtl.weights import WeightStore, words_of
from tests.bench import Bench, pack

C = Configuration(vocabulary=2, embedding=9, hidden=(7, 4), lanes=2, weight_bytes=400)
LATENCY = 5


def store(counts, seed):
    """A bench of a store whose columns have ``counts`` words, its pointers and its words."""
    rng = random.Random(seed)
    assert len(counts) <= C.columns and sum(counts) <= C.weight_words
    words = [rng.getrandbits(C.word_bits) for _ in range(C.weight_words)]
    # Columns need not lie in order.
    order = list(range(len(counts)))
    rng.shuffle(order)
    pointers, start = {}, 0
    for column in order:
        pointers[column] = (start if counts[column] else 0, counts[column])
        start += counts[column]
    pointers = [pointers[column] for column in range(len(counts))]
    return Bench(WeightStore(C), seed), pointers, words


def run(bench, pointers, words, columns, idle):
    """Send columns after loading; returns the cycles in which words left."""
    dut = bench.dut
    received = bench.sink(dut.o)
    expected = words_of(columns, pointers, words)
    taken, left = [], []
    bench.watch(dut.i, "i")

    def check(cycle, i_valid, i_ready, o_valid, busy, payload):
        due = sum(pointers[column][1] for column, _, _ in columns[:len(taken)])
        assert busy or len(left) == due, f"cycle {cycle}: not busy with {due - len(left)} words to come"
        if o_valid:
            left.append(cycle)
        if i_valid and i_ready:
            taken.append(cycle)

    bench.each_cycle(check, dut.i.valid, dut.i.ready, dut.o.valid, dut.busy, dut.o.payload)

    async def testbench(context):
        await bench.load(context, C, weights=words,
                         columns=[start | count << C.start_bits for start, count in pointers])
        for column in columns:
            while bench.chance(idle):
                await context.tick()
            Bench.set(context, dut.i.payload, column)
            context.set(dut.i.valid, 1)
            await context.tick().until(dut.i.ready)
            context.set(dut.i.valid, 0)
        await context.tick().repeat(8)
        while context.get(dut.busy):
            await context.tick()
        await context.tick().repeat(8)

    bench.run(testbench)
    assert len(taken) == len(columns)
    entries = [pack(word_layout(C), payload) & ((1 << C.word_bits) - 1) for _, payload in received]
    assert [(word, *payload[1:]) for word, (_, payload) in zip(entries, received, strict=True)] == expected
    return taken, [cycle for cycle, _ in received]


def requests(rng, columns):
    return [(column, rng.randint(-254, 255), rng.randrange(C.layers)) for column in columns]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("largest", [1, 2, 5])
def test_random_columns(largest, idle, seed):
    """Columns of any length, also empty, asked for in any order and more than once."""
    rng = random.Random(seed)
    counts = [rng.randint(0, largest) for _ in range(20)]
    bench, pointers, words = store(counts, seed)
    run(bench, pointers, words, requests(rng, [rng.randrange(len(counts)) for _ in range(100)]), idle)
    if idle == 0 and largest == 5:
        assert bench.watches["i"].stalls


@pytest.mark.parametrize("counts", [[1] * 20, [3, 1, 2, 1, 1, 4], [0, 2] * 10, [0, 1, 2] * 5, [0, 0, 3, 0, 1, 2] * 3])
def test_one_word_a_cycle(counts):
    """No gap within or between columns while there are no more columns than words; five cycles to the first."""
    counts = [6, *counts]  # the first one gives the pointers time to run ahead
    bench, pointers, words = store(counts, 1)
    taken, cycles = run(bench, pointers, words, requests(random.Random(1), [*range(len(counts))] * 3), 0)
    assert cycles == list(range(taken[0] + LATENCY, taken[0] + LATENCY + 3 * sum(counts)))


def test_one_column_a_cycle():
    """Empty columns between those of one word: the pointers set the pace."""
    bench, pointers, words = store([1, 0] * 10, 1)
    taken, cycles = run(bench, pointers, words, requests(random.Random(1), range(20)), 0)
    assert taken == list(range(taken[0], taken[0] + 20))
    assert cycles == list(range(taken[0] + LATENCY, taken[0] + LATENCY + 20, 2))


def test_only_empty_columns():
    """They take a cycle each and nothing comes."""
    bench, pointers, words = store([0] * 10, 1)
    taken, cycles = run(bench, pointers, words, requests(random.Random(1), range(10)), 0)
    assert cycles == [] and taken == list(range(taken[0], taken[0] + 10))


def test_whole_memory_as_one_column():
    """The longest column that the pointers can describe, at the very end of the memory."""
    longest = -(-3 * max(C.hidden) // C.lanes)
    words = [random.Random(1).getrandbits(C.word_bits) for _ in range(C.weight_words)]
    pointers = [(C.weight_words - longest, longest), (C.weight_words - 1, 1)]
    run(Bench(WeightStore(C)), pointers, words, [(0, -254, 1), (1, 255, 0), (0, 1, 0)], 0)
