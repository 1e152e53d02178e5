"""Embedding against `inputs_of`."""

import random

import pytest

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import input_section
from egret.rtl.embedding import Embedding, inputs_of
from egret.rtl.sdram import TAGS
from tests.support.bursts import serve_bursts
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation


def run(table, tokens, *, seed=0, backpressure=0.0, pause=0, hurry=None, ratio=1):
    """Send the rows of tokens one after another; returns the simulation and (start, end, cycles) of each token.

    ``hurry``: the rows come from an SDRAM that sends a beat so often, of ``ratio`` words.
    """
    store, lanes = ("bram", 1) if hurry is None else ("sdram", 16)
    c = Configuration(
        vocabulary=len(table),
        embedding=len(table[0]),
        hidden=(2,),
        lanes=lanes,
        weight_words=64,
        store=store,
        memory_ratio=ratio,
    )
    simulation = StreamSimulation(Embedding(c), seed)
    dut = simulation.dut
    received = simulation.sink(dut.o, backpressure, "o")
    starts = []
    simulation.each_cycle(lambda cycle, start: starts.append(cycle) if start else None, dut.start)

    elements = [value for row in table for value in row]
    if hurry is not None:
        base, row = c.sdram_base["embedding"] // ratio, c.embedding_beats * 2 * ratio
        padded = [value % 256 for one in table for value in [*one, *[0] * (row - len(one))]]
        beats = [
            int.from_bytes(bytes(padded[at : at + 2 * ratio]), "little") for at in range(0, len(padded), 2 * ratio)
        ]
        asked = serve_bursts(simulation, [0xFFFF] * base + beats, "weights", hurry=hurry, willing=hurry, eager=False)

    async def testbench(context):
        if hurry is None:
            await simulation.load(context, c, embedding=elements)
        for place, token in enumerate(tokens):
            assert context.get(dut.done)
            context.set(dut.token, token)
            context.set(dut.start, 1)
            await context.tick()
            context.set(dut.start, 0)
            if hurry is None:
                # The token need not stay.
                context.set(dut.token, simulation.random.randrange(1 << 16))
            while not context.get(dut.done):
                await context.tick()
            sent = [pair for token in tokens[: place + 1] for pair in inputs_of(table[token])]
            assert [payload for _, payload in received] == sent
            for _ in range(pause):
                await context.tick()
        await context.tick().repeat(6)

    simulation.run(testbench)
    assert len(received) == sum(len(inputs_of(table[token])) for token in tokens)
    if hurry is not None:
        count = c.embedding_beats
        assert asked == [(base + token * count, count, TAGS.index("embedding")) for token in tokens]
    return simulation, starts, [cycle for cycle, _ in received]


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("backpressure", [0.0, 0.6])
def test_random_tables(zeros, backpressure, seed):
    rng = random.Random(seed)
    table = [
        [rng.randint(-127, 127) if rng.random() >= zeros else 0 for _ in range(width)]
        for width in [rng.randint(1, 13)]
        for _ in range(9)
    ]
    simulation, _, cycles = run(
        table, [rng.randrange(9) for _ in range(12)], seed=seed, backpressure=backpressure, pause=rng.randrange(3)
    )
    if zeros == 0 and backpressure:
        assert simulation.watches["o"].stalls


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize(
    "hurry, backpressure, ratio, width",
    [
        (1.0, 0.0, 1, 10),
        (0.4, 0.0, 1, 1),
        (0.4, 0.6, 1, 9),
        (1.0, 0.6, 2, 12),
        (0.4, 0.0, 2, 9),
        (0.7, 0.6, 2, 1),
        (1.0, 0.3, 4, 13),
    ],
)
def test_bursts(hurry, backpressure, ratio, width, seed):
    """A row in an SDRAM is one burst of whole beats; the beats of other bursts between its own change nothing."""
    rng = random.Random(seed)
    table = [[rng.choice([0, rng.randint(-127, 127)]) for _ in range(width)] for _ in range(9)]
    tokens = [8, 0, *(rng.randrange(9) for _ in range(10))]
    run(table, tokens, seed=seed, backpressure=backpressure, pause=rng.randrange(3), hurry=hurry, ratio=ratio)


def test_extremes():
    """The first and last row and element, and both ends of the range."""
    table = [[127, -127, 1, -1], [0, 0, 0, 0], [0, 0, 0, -127], [127, 0, 0, 0], [-127, 127, -1, 1]]
    _, _, cycles = run(table, [4, 0, 1, 2, 1, 3, 4])
    assert len(cycles) == 3 * 4 + 2


def test_row_of_zeros():
    """Nothing is sent, and the row ends."""
    _, starts, cycles = run([[0] * 5] * 2, [1, 0, 1])
    assert cycles == [] and len(starts) == 3


def test_one_element_a_cycle():
    """The first element five cycles after ``start``; zeros take their cycle."""
    _, starts, cycles = run([[5, 6, 0, 0, 7, 8], [1] * 6], [0, 1])
    assert cycles == [starts[0] + 5 + place for place in (0, 1, 4, 5)] + [starts[1] + 5 + place for place in range(6)]


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("store", ["bram", "spram", "sdram"])
@pytest.mark.parametrize("backpressure", [0.0, 0.6])
def test_events_of_another_core(store, compact, backpressure):
    """A memory of events instead of the table: a token says how many of them enter, whatever else lies behind."""
    c = Configuration(vocabulary=0, embedding=300, hidden=(2,), lanes=4, weight_words=64, store=store, compact=compact)
    simulation = StreamSimulation(Embedding(c), 1)
    dut, section = simulation.dut, input_section(c)
    received, sent = simulation.sink(dut.o, backpressure, "o"), []

    async def testbench(context):
        for count in (300, 0, 1, 17, 300, 5):
            events = [
                (index, simulation.random.randint(1, 255))
                for index in sorted(simulation.random.sample(range(300), count))
            ]
            for place, (index, value) in enumerate(events):
                context.set(dut.load, {"section": section.number, "index": place, "data": index | value << 16})
                context.set(dut.load_valid, 1)
                await context.tick()
            context.set(dut.load_valid, 0)
            await context.tick()
            context.set(dut.token, count)
            context.set(dut.start, 1)
            await context.tick()
            context.set(dut.start, 0)
            while not context.get(dut.done):
                await context.tick()
            sent.extend(events)
            assert [payload for _, payload in received] == sent

    simulation.run(testbench)
    assert len(received) == 623 and section.words == 300


@pytest.mark.parametrize("table", [[[3], [-4]], [[0], [1]]])
def test_smallest(table):
    run(table, [0, 1, 1, 0])
