"""Lanes against `additions`."""

import random

import pytest

from egret.model.compiler.configuration import MATRIX_KINDS, READOUT_KINDS, Configuration, ReadoutShape
from egret.model.compiler.readout import HOME
from egret.rtl.mac import LATENCY, Lanes, additions
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

EXTREMES = [(weight, value) for weight in (-127, -1, 1, 127) for value in (-254, -1, 0, 1, 255)]


def configuration(lanes, hidden=(21, 10), weight_bits=8, run_bits=6):
    return Configuration(
        vocabulary=2,
        embedding=1,
        hidden=hidden,
        lanes=lanes,
        weight_bits=weight_bits,
        weight_words=64,
        wide_words=(64,) * (run_bits - 4),
    )


def random_column(rng, c, used, count):
    """Words of a column that never leave the banks nor share one, as the compiler makes them, by trial."""
    layer = rng.randrange(c.layers)
    number = rng.randrange(len(MATRIX_KINDS))
    matrix = len(MATRIX_KINDS) * layer + number
    span = c.matrix_span(layer, MATRIX_KINDS[number])
    begins = [(rng.randrange(2 if lane == 0 else 0, 3), rng.randrange(-(-span // 16))) for lane in range(c.lanes)]
    places = [[bank + 2 * lane - 2, 16 * block] for lane, (bank, block) in enumerate(begins)]
    value, words = rng.choice([rng.randint(-254, 255), -254, 255]), []
    for index in range(count):
        entries, banks = [], set()
        for lane in range(c.lanes):
            for _ in range(20):
                code = rng.randrange(1, 1 << c.weight_bits) if rng.random() < used else 0
                run = rng.randrange(min(1 << c.run_bits, 2 * span // (1 if code else 16)))
                step = run + 1 if code else 16 * (run + 1)
                bank, address = places[lane]
                if index == 0:
                    run %= 16
                    address = 16 * begins[lane][1] + run
                    fits = address < span
                else:
                    address += step
                    fits = True
                    while address >= span:
                        bank, address = bank + 1, address - span
                fits &= bank < min(2 * lane + 4, c.banks) and (not code or bank not in banks) and code != 128
                if fits:
                    break
            else:
                # Nothing fits any more; a lane at its end may walk on, to wherever.
                code, run, (bank, address) = 0, 0, places[lane]
                if index:
                    address += 16
                    if address >= span:
                        bank, address = bank + 1, address - span
            if code:
                banks.add(bank)
            places[lane] = [bank, address]
            entries.append((code, run))
        words.append((tuple(entries), value, matrix, int(index == 0), tuple(begins)))
        if any(bank > 2 * lane + 3 for lane, (bank, _) in enumerate(places)):
            break
    return words


def reading(lanes, ratio):
    """A core with a read-out whose SDRAM brings a word of weights in each ``lanes / 2 / ratio`` cycles."""
    return Configuration(
        vocabulary=90,
        embedding=1,
        hidden=(200, 21),
        lanes=lanes,
        weight_bits=4,
        weight_words=64,
        store="sdram",
        memory_ratio=ratio,
        readout=ReadoutShape(head=30, groups=3, group_size=40, rows=2),
    )


def run(c, words, codebook=None):
    """Send one word (or None: nothing valid) each cycle and check everything that leaves."""
    simulation = StreamSimulation(Lanes(c))
    dut = simulation.dut
    due = iter(additions([word for word in words if word], c, codebook))
    expected = {}
    counts = {"additions": 0, "words": 0}

    def check(cycle, macs, busy, coming, *adds):
        added = expected.get(cycle - LATENCY, {})
        for bank, (valid, address, addend) in enumerate(adds):
            assert (valid, address, addend) == ((1, *added[bank]) if bank in added else (0, 0, 0)), (cycle, bank)
            counts["additions"] += valid
        assert macs == len(expected.get(cycle - 2, {})), cycle
        assert coming == sum(1 << bank for bank in expected.get(cycle + 1 - LATENCY, {})), cycle
        assert busy == any(cycle - ago in expected for ago in range(1, LATENCY + 1)), cycle
        counts["words"] += cycle in expected

    ready = []
    simulation.each_cycle(
        lambda cycle, *values: check(cycle - ready[0], *values) if ready else None,
        dut.macs,
        dut.busy,
        dut.coming,
        *dut.add,
    )
    elapsed = []
    simulation.each_cycle(lambda cycle, _: elapsed.append(cycle), dut.busy)

    async def testbench(context):
        if codebook is not None:
            await simulation.load(context, c, codebook=codebook)
        await context.tick().repeat(LATENCY + 1)
        ready.append(len(elapsed))
        for cycle, word in enumerate(words):
            if word is not None:
                expected[cycle] = next(due)
                StreamSimulation.set(context, dut.i.payload, word)
            context.set(dut.i.valid, word is not None)
            await context.tick()
        context.set(dut.i.valid, 0)
        await context.tick().repeat(LATENCY + 2)

    simulation.run(testbench)
    assert counts["words"] == sum(word is not None for word in words)
    assert counts["additions"] == sum(
        sum((code != 0) + (c.paired and matrix >= c.readout_matrix("head") and run != 0) for code, run in entries)
        for entries, _, matrix, _, _ in filter(None, words)
    )


@pytest.mark.parametrize("lanes, ratio, paired", [(2, 1, True), (8, 4, True), (4, 1, False)])
def test_columns_of_a_read_out(lanes, ratio, paired):
    """Between columns of layers, with pauses: both weights of a word at once, or two banks in turn."""
    c, rng = reading(lanes, ratio), random.Random(lanes)
    assert c.paired == paired
    codebook = [rng.randint(-127, 127) for _ in range(16 * len(c.matrix_places))]
    words = []
    for _ in range(40):
        if rng.random() < 0.5:
            kind = rng.choice(READOUT_KINDS)
            matrix, value, begins = c.readout_matrix(kind), rng.randint(-254, 255), ((HOME, 0),) * lanes
            for index in range(c.readout_depth(kind) * (1 if paired else 2)):
                entries = tuple((rng.randrange(16), rng.randrange(16) if paired else 0) for _ in range(lanes))
                words += [None] * (rng.random() < 0.3) + [(entries, value, matrix, int(index == 0), begins)]
        else:
            words += random_column(rng, c, 0.8, rng.choice([1, 2, 5]))
    run(c, words, codebook)


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
@pytest.mark.parametrize("used, idle, weight_bits", [(1.0, 0.0, 8), (0.5, 0.3, 4), (0.1, 0.0, 8)])
def test_random_columns(lanes, used, idle, weight_bits, seed):
    """Short and long columns, with and without pauses, over two layers and their three matrices each."""
    c = configuration(lanes, (200, 21), weight_bits)
    rng = random.Random(seed)
    codebook = [rng.randint(-127, 127) for _ in range(96)] if weight_bits == 4 else None
    words = []
    for _ in range(40):
        for word in random_column(rng, c, used, rng.choice([1, 1, 2, 5, 20])):
            words += [None] * (rng.random() < idle) + [word]
    run(c, words, codebook)


@pytest.mark.parametrize("lanes", [1, 4])
def test_extremes(lanes):
    """Every corner of weight and value, in every lane; 0 as value is still an addition."""
    c = configuration(lanes)
    run(
        c,
        [
            (
                tuple((weight & 255, 0) if place == lane else (0, 0) for place in range(lanes)),
                value,
                0,
                1,
                ((2, 0),) * lanes,
            )
            for lane in range(lanes)
            for weight, value in EXTREMES
        ],
    )


def test_words_without_entries():
    """An empty word adds nothing, whatever its runs, and keeps the lanes busy as any other."""
    c = configuration(4)
    run(c, [(((0, step),) * 4, 255, 4, int(step == 0), ((2, 0),) * 4) for step in range(5)])


@pytest.mark.parametrize("lanes", [1, 8])
def test_last_address(lanes):
    """The last row of the last layer lands in the last address of its bank, reached by a step over a bank's end."""
    c = configuration(lanes, (1, 100, 85), run_bits=4)
    bank, address = c.place(2, 2, 84)
    span = c.matrix_span(2, "s")
    lane = bank // 2
    begin, skips = (1, span - 1) if bank % 2 else (0, span - 1)
    first = tuple((127, skips % 16) if place == lane else (0, 0) for place in range(lanes))
    begins = tuple((2 + begin - 1, skips // 16) if place == lane else (0, 0) for place in range(lanes))
    relative = address - c.matrix_offset(2, "s")
    words = [(first, -254, 8, 1, begins)] if bank else []
    jump, more = relative + 1, []
    while jump > 16:
        more.append((0, 0))
        jump -= 16
    more.append((129, jump - 1))
    words += [
        (tuple(entry if place == lane else (0, 0) for place in range(lanes)), -254, 8, 0, begins) for entry in more
    ]
    if not bank:
        words = [
            (
                tuple((129, relative % 16) if place == lane else (0, 0) for place in range(lanes)),
                -254,
                8,
                1,
                tuple((2, relative // 16) for _ in range(lanes)),
            )
        ]
    assert additions(words, c)[-1] == {bank: (c.bank_base[2] + address, 127 * 254)}
    assert c.bank_base[2] + address == c.bank_depth - 1
    run(c, words)
