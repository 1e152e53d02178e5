"""Lanes against `additions`."""

import random

import pytest

from egret.model.configuration import Configuration
from egret.rtl.mac import Lanes, additions
from tests.bench import Bench

EXTREMES = [(weight, value) for weight in (-127, -1, 1, 127) for value in (-254, -1, 0, 1, 255)]


def configuration(lanes, hidden=(5, 3)):
    return Configuration(vocabulary=2, embedding=1, hidden=hidden, lanes=lanes, weight_bytes=4096)


def random_word(rng, c, used):
    """(entries, value, layer) with no two entries in one bank."""
    layer = rng.randrange(c.layers)
    rows = list(range(3 * c.hidden[layer]))
    rng.shuffle(rows)
    by_bank = {row % c.banks: row for row in rows}
    chosen = rng.sample(sorted(by_bank.values()), min(len(by_bank), c.lanes))
    entries = [(rng.choice([-127, 127, rng.randint(1, 127), -rng.randint(1, 127)]), row)
               if rng.random() < used else (0, rng.randrange(1 << c.row_bits)) for row in chosen]
    entries += [(0, 0)] * (c.lanes - len(entries))
    rng.shuffle(entries)
    return entries, rng.choice([-254, 255, rng.randint(-254, 255)]), layer


def run(c, words):
    """Send one word (or None: garbage that is not valid) each cycle and check everything that leaves."""
    bench = Bench(Lanes(c))
    dut = bench.dut
    expected = {}
    counts = {"additions": 0, "words": 0}

    def check(cycle, macs, busy, *adds):
        word, due = expected.get(cycle, (None, {})), expected.get(cycle - 2, (None, {}))[1]
        for bank, (valid, address, addend) in enumerate(adds):
            assert (valid, address, addend) == ((1, *due[bank]) if bank in due else (0, 0, 0)), (cycle, bank)
            counts["additions"] += valid
        assert macs == len(word[1]), cycle
        assert busy == any(expected.get(cycle - ago, (None, {}))[1] != {} for ago in (1, 2)), cycle
        counts["words"] += word[0] is not None

    bench.each_cycle(check, dut.macs, dut.busy, *dut.add)
    rng = random.Random(1)

    async def testbench(context):
        for cycle, word in enumerate(words):
            # The first edge ends cycle 0, in which nothing has been sent.
            entries, value, layer = word or random_word(rng, c, 1)
            expected[cycle] = (word, additions(entries, value, layer, c) if word else {})
            Bench.set(context, dut.i.payload, (tuple(entries), value, layer))
            context.set(dut.i.valid, word is not None)
            await context.tick()
        context.set(dut.i.valid, 0)
        await context.tick().repeat(4)

    bench.run(testbench)
    assert counts["words"] == sum(word is not None for word in words)
    assert counts["additions"] == sum(sum(weight != 0 for weight, _ in word[0]) for word in words if word)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
@pytest.mark.parametrize("used, idle", [(1.0, 0.0), (0.5, 0.3), (0.1, 0.0)])
def test_random_words(lanes, used, idle, seed):
    """Full and nearly empty words, with and without pauses, over two layers."""
    c = configuration(lanes)
    rng = random.Random(seed)
    run(c, [None if rng.random() < idle else random_word(rng, c, used) for _ in range(120)])


@pytest.mark.parametrize("lanes", [1, 4])
def test_extremes(lanes):
    """Every corner of weight and value, in every lane; 0 as value is still an addition."""
    c = configuration(lanes)
    words = [([(weight, 0) if place == lane else (0, 0) for place in range(lanes)], value, 0)
             for lane in range(lanes) for weight, value in EXTREMES]
    run(c, [word for word in words])


def test_words_without_entries():
    """An empty word adds nothing, whatever rows its entries name, and keeps nobody waiting."""
    c = configuration(4)
    run(c, [([(0, row)] * 4, 255, 1) for row in range(9)])


@pytest.mark.parametrize("lanes", [1, 8])
def test_widest_rows(lanes):
    """The last row of the last layer lands in the last address of its bank."""
    c = configuration(lanes, (1, 100, 85))
    row = 3 * 85 - 1
    word = ([(-127, row)] + [(0, 0)] * (lanes - 1), -254, 2)
    assert additions(*word, c) == {row % c.banks: (c.bank_depth - 1, 127 * 254)}
    run(c, [word])
