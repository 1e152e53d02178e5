"""WeightStore against `words_of`."""

import random

import pytest

from egret.model.compiler.configuration import MEMORY_RATIOS, Configuration
from egret.rtl.layouts import memory_layout
from egret.rtl.weights import WeightStore, words_of
from tests.support.bursts import serve_bursts
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation, pack

C = Configuration(vocabulary=2, embedding=9, hidden=(7, 4), lanes=2, weight_words=400)
LATENCY = 9


def wide(wide_words, lanes=2, weight_bits=8, weight_words=400):
    """A configuration whose first words have further bits of the runs."""
    return Configuration(
        vocabulary=2,
        embedding=9,
        hidden=(7, 40),
        lanes=lanes,
        weight_bits=weight_bits,
        weight_words=weight_words,
        wide_words=wide_words,
    )


def random_begins(rng, c):
    layout = memory_layout(c, "columns")["begins"].shape
    bits = {name: field.width for name, field in layout[0].shape}
    return tuple((rng.randrange(1 << bits["bank"]), rng.randrange(1 << bits["block"])) for _ in range(c.lanes))


def random_words(rng, c, count):
    """Entries {code, run} of all bits; a run's further bits are zero in the words that have none."""
    words = []
    for index in range(count):
        bits = 4 + sum(index < most for most in c.wide_words)
        words.append(tuple((rng.randrange(1 << c.weight_bits), rng.randrange(1 << bits)) for _ in range(c.lanes)))
    return words


def store(counts, seed, c=C):
    """A simulation of a store whose columns have ``counts`` words, its pointers and its words."""
    rng = random.Random(seed)
    assert len(counts) <= c.columns and sum(counts) <= c.weight_words
    words = random_words(rng, c, c.weight_words)
    # Columns need not lie in order.
    order = list(range(len(counts)))
    rng.shuffle(order)
    pointers, start = {}, 0
    for column in order:
        pointers[column] = (start if counts[column] else 0, counts[column], random_begins(rng, c))
        start += counts[column]
    pointers = [pointers[column] for column in range(len(counts))]
    return StreamSimulation(WeightStore(c), seed), pointers, words


def narrow_words(c, words):
    """Words as the weight memory has them: codes with four bits of their runs."""
    return [
        sum((code | run % 16 << c.weight_bits) << (c.weight_bits + 4) * lane for lane, (code, run) in enumerate(word))
        for word in words
    ]


def loaded(c, words):
    """Words of the memories: codes with four bits of their runs, and a memory for each further bit."""
    if c.store == "sdram":
        return {"resident": narrow_words(c, words[: c.resident_words])}
    memories = {"weights": narrow_words(c, words)}
    for bit, most in enumerate(c.wide_words, 4):
        memories[f"run_{bit}"] = [
            sum((run >> bit & 1) << lane for lane, (_, run) in enumerate(word)) for word in words[:most]
        ]
    return memories


def run(simulation, pointers, words, columns, idle, c=C):
    """Send columns after loading; returns the cycles in which words left."""
    dut = simulation.dut
    received = simulation.sink(dut.o)
    expected = words_of(columns, pointers, words)
    taken, left = [], []
    simulation.watch(dut.i, "i")

    def check(cycle, i_valid, i_ready, o_valid, busy, payload):
        due = sum(pointers[column][1] for column, _, _ in columns[: len(taken)])
        assert busy or len(left) == due, f"cycle {cycle}: not busy with {due - len(left)} words to come"
        if o_valid:
            left.append(cycle)
        if i_valid and i_ready:
            taken.append(cycle)

    simulation.each_cycle(check, dut.i.valid, dut.i.ready, dut.o.valid, dut.busy, dut.o.payload)

    async def testbench(context):
        await simulation.load(
            context, c, **loaded(c, words), columns=[pack(memory_layout(c, "columns"), pointer) for pointer in pointers]
        )
        for column in columns:
            while simulation.chance(idle):
                await context.tick()
            StreamSimulation.set(context, dut.i.payload, column)
            context.set(dut.i.valid, 1)
            await context.tick().until(dut.i.ready)
            context.set(dut.i.valid, 0)
            # What waits in the meantime is not yet a column.
            StreamSimulation.set(context, dut.i.payload, (simulation.random.randrange(c.columns), 99, 0))
        await context.tick().repeat(8)
        while context.get(dut.busy):
            await context.tick()
        await context.tick().repeat(8)

    simulation.run(testbench)
    assert len(taken) == len(columns)
    assert [payload for _, payload in received] == expected
    return taken, [cycle for cycle, _ in received]


def requests(rng, columns, c=C):
    return [(column, rng.randint(-254, 255), rng.randrange(3 * c.layers)) for column in columns]


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("largest", [1, 2, 5])
def test_random_columns(largest, idle, seed):
    """Columns of any length, also empty, asked for in any order and more than once."""
    rng = random.Random(seed)
    counts = [rng.randint(0, largest) for _ in range(20)]
    simulation, pointers, words = store(counts, seed)
    run(simulation, pointers, words, requests(rng, [rng.randrange(len(counts)) for _ in range(100)]), idle)
    if idle == 0 and largest == 5:
        assert simulation.watches["i"].stalls


@pytest.mark.parametrize("counts", [[1] * 20, [3, 1, 2, 1, 1, 4], [0, 2] * 10, [0, 1, 2] * 5, [0, 0, 3, 0, 1, 2] * 3])
def test_one_word_a_cycle(counts):
    """No gap within or between columns while there are no more columns than words; eight cycles to the first."""
    counts = [6, *counts]  # the first one gives the pointers time to run ahead
    simulation, pointers, words = store(counts, 1)
    taken, cycles = run(simulation, pointers, words, requests(random.Random(1), [*range(len(counts))] * 3), 0)
    assert cycles == list(range(taken[0] + LATENCY, taken[0] + LATENCY + 3 * sum(counts)))


def test_one_column_a_cycle():
    """Empty columns between those of one word: the pointers set the pace."""
    simulation, pointers, words = store([1, 0] * 10, 1)
    taken, cycles = run(simulation, pointers, words, requests(random.Random(1), range(20)), 0)
    assert taken == list(range(taken[0], taken[0] + 20))
    assert cycles == list(range(taken[0] + LATENCY, taken[0] + LATENCY + 20, 2))


def test_only_empty_columns():
    """They take a cycle each and nothing comes."""
    simulation, pointers, words = store([0] * 10, 1)
    taken, cycles = run(simulation, pointers, words, requests(random.Random(1), range(10)), 0)
    assert cycles == [] and taken == list(range(taken[0], taken[0] + 10))


@pytest.mark.parametrize("place", ["end", "begin"])
def test_whole_memory_as_one_column(place):
    """The longest column that the pointers can describe, at the very end of the memory and at its beginning."""
    rng = random.Random(1)
    longest = memory_layout(C, "columns")["count"].width
    longest = (1 << longest) - 1
    assert longest >= -(-3 * max(C.hidden) // C.lanes) and longest < C.weight_words
    words = random_words(rng, C, C.weight_words)
    pointers = [
        (C.weight_words - longest if place == "end" else 0, longest, random_begins(rng, C)),
        (C.weight_words - 1, 1, random_begins(rng, C)),
    ]
    run(StreamSimulation(WeightStore(C)), pointers, words, [(0, -254, 5), (1, 255, 0), (0, 1, 3)], 0)


@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize("lanes", [1, 2, 8])
@pytest.mark.parametrize("wide_words", [(), (60,), (60, 60, 31, 1), (17, 9), (1, 1)])
def test_wide_runs(wide_words, lanes, weight_bits):
    """Words within each memory of further bits, at its end, and behind it, where these bits are zero."""
    c = wide(wide_words, lanes, weight_bits, weight_words=60)
    rng = random.Random(lanes)
    counts = [2, 4, 0, 6, 3] * 4
    assert sum(counts) == c.weight_words
    simulation, pointers, words = store(counts, lanes, c)
    # All bits that there are in half of the words.
    words = [
        tuple((code, run | (1 << 4 + sum(index < most for most in wide_words)) - 1) for code, run in word)
        if rng.random() < 0.5
        else word
        for index, word in enumerate(words)
    ]
    order = [*range(len(counts))] * 2
    rng.shuffle(order)
    run(simulation, pointers, words, requests(rng, order, c), 0.2, c)


def small(lanes=2, weight_bits=8, **options):
    """A configuration whose pointers are in single-port memory."""
    return Configuration(
        vocabulary=2,
        embedding=9,
        hidden=(7, 40),
        lanes=lanes,
        weight_bits=weight_bits,
        store="spram",
        compact=True,
        **options,
    )


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("largest", [1, 5, 30])
@pytest.mark.parametrize("lanes, weight_bits", [(1, 4), (2, 4), (4, 8)])
def test_pointers_in_rows(lanes, weight_bits, largest, idle, seed):
    """Columns of any length from a single-port memory, in any order."""
    c = small(lanes, weight_bits, weight_words=700)
    rng = random.Random(seed)
    counts = [min(rng.randint(0, largest), (1 << memory_layout(c, "columns")["count"].width) - 1) for _ in range(20)]
    simulation, pointers, words = store(counts, seed, c)
    run(simulation, pointers, words, requests(rng, [rng.randrange(len(counts)) for _ in range(60)], c), idle, c)


def test_pointers_in_rows_are_looked_up_beside_words():
    """No gaps between columns of as many words as their pointers take to be looked up."""
    c = small(weight_words=700)
    rows = -(-memory_layout(c, "columns").size // 16)
    counts = [rows + 3] * 20
    simulation, pointers, words = store(counts, 1, c)
    taken, cycles = run(simulation, pointers, words, requests(random.Random(1), range(20), c), 0, c)
    assert cycles == list(range(cycles[0], cycles[0] + sum(counts)))
    assert cycles[0] == taken[0] + rows + 6


def from_sdram(c, pointers, words, columns, *, seed=0, hurry=1.0, willing=1.0):
    """Send columns to a store with an SDRAM that takes a burst and sends a word now and then.

    Returns the cycles in which words left, and how many words each burst has.
    """
    simulation = StreamSimulation(WeightStore(c), seed)
    outside = [
        word >> c.beat_bits * part & (1 << c.beat_bits) - 1
        for word in narrow_words(c, words[c.resident_words :])
        for part in range(c.word_beats)
    ]
    asked = serve_bursts(simulation, outside, "rows", hurry=hurry, willing=willing)
    _, cycles = run(simulation, pointers, words, columns, 0, c)
    # Each column outside is one burst.
    counts = [count for _, count, _ in asked]
    assert counts == [
        pointers[column][1] * c.word_beats
        for column, _, _ in columns
        if pointers[column][0] >= c.resident_words and pointers[column][1]
    ]
    return cycles, counts


def with_sdram(lanes, resident, ratio=1):
    return Configuration(
        vocabulary=2,
        embedding=10,
        hidden=(7, 40),
        lanes=lanes,
        weight_bits=4,
        store="sdram",
        weight_words=300,
        resident_words=resident,
        memory_ratio=ratio,
    )


@pytest.mark.parametrize(
    "lanes, ratio, resident, hurry",
    [
        (2, 1, 60, 0.9),
        (4, 1, 100, 0.2),
        (4, 2, 100, 1.0),
        (8, 1, 90, 0.7),
        (8, 2, 0, 1.0),
        (4, 1, 300, 1.0),
        pytest.param(16, 2, 150, 0.15, marks=pytest.mark.slow),
        (8, 4, 100, 1.0),
        (16, 4, 60, 0.7),
    ],
)
@pytest.mark.parametrize("seed", seeds(2))
def test_resident_words(lanes, ratio, resident, hurry, seed, monkeypatch):
    """Columns from block RAM and from an SDRAM in any order, also such as have more words than can wait."""
    monkeypatch.setattr("egret.rtl.weights.ARRIVED", 12)
    monkeypatch.setattr("egret.rtl.weights.UNDER_WAY", 4)
    c, rng = with_sdram(lanes, resident, ratio), random.Random(seed)
    pointers = []
    for column in range(30):
        low, high = (0, resident) if resident and column % 2 else (resident, resident + c.weight_words)
        start = rng.randrange(low, high)
        pointers.append((start, min(rng.choice([0, 1, 2, 5, 9, 40]), high - start), random_begins(rng, c)))
    columns = requests(rng, [rng.randrange(30) for _ in range(120)], c)
    words = random_words(rng, c, resident + c.weight_words)
    _, asked = from_sdram(c, pointers, words, columns, seed=seed, hurry=hurry, willing=0.7)
    assert max(asked) > 12 * c.word_beats and min(asked) <= 2 * c.word_beats


@pytest.mark.parametrize("ratio", MEMORY_RATIOS)
def test_resident_words_are_sent_while_others_come(ratio):
    """Columns that are resident take no time, as the words of others take two beats each and come without a gap."""
    c, rng = with_sdram(4 * ratio, 100, ratio), random.Random(1)
    pointers = [
        (5 * column if column % 2 else 100 + 20 * (column // 2), 20, random_begins(rng, c)) for column in range(16)
    ]
    columns = requests(rng, [*range(16)] * 3, c)
    cycles, asked = from_sdram(c, pointers, random_words(rng, c, 400), columns)
    assert sum(asked) == 3 * 8 * 20 * 2
    # Behind the last one outside comes a resident one.
    assert sum(asked) <= cycles[-1] - cycles[0] <= sum(asked) + 20 + 10


def test_words_behind_a_wide_memory():
    """One column over the ends of all memories of further bits, every bit of which is set."""
    c = wide((12, 8, 8, 4), weight_words=16)
    words = [
        tuple((index + lane, (1 << 4 + sum(index < most for most in c.wide_words)) - 1) for lane in range(2))
        for index in range(16)
    ]
    assert [word[0][1] for word in words] == [255] * 4 + [127] * 4 + [31] * 4 + [15] * 4
    pointers = [
        (0, 16, ((1, 0), (5, 1))),
        (3, 2, ((7, 1), (0, 0))),
        (15, 1, ((2, 0), (2, 1))),
        (0, 1, ((0, 1), (3, 0))),
    ]
    columns = [(0, 255, 4), (1, -254, 5), (2, 7, 3), (3, 1, 2), (2, 9, 1), (0, 0, 0)]
    run(StreamSimulation(WeightStore(c)), pointers, words, columns, 0, c)


@pytest.mark.parametrize("weight_words, wide_words", [(1, ()), (1, (1, 1, 1, 1)), (2, (1,)), (3, (2, 1))])
def test_smallest_memories(weight_words, wide_words):
    c = wide(wide_words, lanes=1, weight_words=weight_words)
    rng = random.Random(weight_words)
    words = [((200 + index, (1 << 4 + sum(index < most for most in wide_words)) - 1),) for index in range(weight_words)]
    pointers = [(index, 1, random_begins(rng, c)) for index in range(weight_words)]
    run(StreamSimulation(WeightStore(c)), pointers, words, requests(rng, [*range(weight_words)] * 3, c), 0, c)


def test_what_belongs_to_a_word_travels_with_it():
    """Words that follow each other without gaps, of columns each with a matrix, a value and begins of its own."""
    counts = [6, 1, 1, 2, 1, 3, 1, 0, 1, 2]
    simulation, pointers, words = store(counts, 2)
    columns = [(column, 10 * column - 40, column % 6) for column in range(len(counts))]
    assert len({pointer[2] for pointer in pointers}) > 5
    taken, cycles = run(simulation, pointers, words, columns, 0)
    assert cycles == list(range(taken[0] + LATENCY, taken[0] + LATENCY + sum(counts)))


def test_counterpart():
    """`words_of` by hand."""
    words = [((1, 2),), ((3, 4),), ((5, 6),)]
    pointers = [(1, 2, "a"), (0, 0, "b"), (0, 1, "c")]
    assert words_of([(0, 7, 3), (1, 8, 4), (2, -9, 5)], pointers, words) == [
        (((3, 4),), 7, 3, 1, "a"),
        (((5, 6),), 7, 3, 0, "a"),
        (((1, 2),), -9, 5, 1, "c"),
    ]
