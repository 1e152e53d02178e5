"""Accumulators against `replay`, one operation at a time."""

import itertools
import random

import pytest

from egret.model.configuration import Configuration
from egret.rtl.accumulator import Accumulators, replay
from tests.bench import Bench

ADDEND = 1 << 15  # more than 127 * 255


def configuration(lanes, hidden):
    return Configuration(vocabulary=2, embedding=1, hidden=hidden, lanes=lanes, weight_bytes=1024)


class Observed:
    """Watches `Accumulators` and checks each cycle against `replay`."""

    def __init__(self, bench, c):
        self.c = c
        self.content = {(bank, address): 0 for bank in range(c.banks) for address in range(c.bank_depth)}
        self.due = {}
        self.operations = 0
        self.answers = 0
        dut = bench.dut
        signals = [*dut.add]
        for access, found in zip(dut.access, dut.found, strict=True):
            signals += [access.valid, access.ready, access.payload, found.valid, found.payload]
        bench.each_cycle(self.check, *signals)

    def check(self, cycle, *values):
        adds = values[:self.c.banks]
        accesses = [values[self.c.banks + 5 * gate:][:5] for gate in range(3)]
        occupied = set()
        for bank, (valid, address, addend) in enumerate(adds):
            if valid:
                occupied.add(bank)
                self.operations += 1
                replay(self.content, [(bank, address, addend)])
        for gate, (valid, ready, (bank, address, replace, bias), found, value) in enumerate(accesses):
            assert (found, value if found else 0) == self.due.pop((cycle, gate), (0, 0)), (cycle, gate)
            self.answers += found
            if valid:
                assert ready == (bank not in occupied), f"cycle {cycle}: access of gate {gate} to bank {bank}"
                occupied.add(bank)
                if ready:
                    self.operations += 1
                    self.due[cycle + 2, gate] = (1, *replay(self.content, [(bank, address, replace, bias)]))


def add(context, dut, bank, address, addend):
    Bench.set(context, dut.add[bank], (1, address, addend))


def no_add(context, dut, bank):
    Bench.set(context, dut.add[bank], (0, 0, 0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lanes, hidden, adding, idle", [
    (1, (3,), 0.3, 0.0), (1, (1,), 0.6, 0.5), (2, (4, 3), 0.5, 0.2), (4, (5, 7, 2), 0.8, 0.0)])
def test_random(lanes, hidden, adding, idle, seed):
    """Few addresses, so that operations on one follow each other at every distance."""
    c = configuration(lanes, hidden)
    rng = random.Random(seed)
    bench = Bench(Accumulators(c), seed)
    observed = Observed(bench, c)
    pool = [rng.randrange(c.bank_depth) for _ in range(2)]
    count = 60
    accesses = [[{"bank": rng.randrange(c.banks), "address": rng.choice(pool), "replace": rng.randrange(2),
                  "bias": rng.randrange(-(1 << 22), 1 << 22)} for _ in range(count)] for _ in range(3)]
    taken = [bench.source(stream, payloads, idle, f"access_{gate}")
             for gate, (stream, payloads) in enumerate(zip(bench.dut.access, accesses, strict=True))]

    async def testbench(context):
        while any(len(cycles) < count for cycles in taken):
            for bank in range(c.banks):
                if rng.random() < adding:
                    add(context, bench.dut, bank, rng.choice(pool), rng.randrange(-ADDEND, ADDEND))
                else:
                    no_add(context, bench.dut, bank)
            await context.tick()
        for bank in range(c.banks):
            no_add(context, bench.dut, bank)
        await context.tick().repeat(4)

    bench.run(testbench)
    assert observed.answers == 3 * count and not observed.due
    assert observed.operations > 3 * count
    if idle == 0:
        assert all(bench.watches[f"access_{gate}"].stalls for gate in range(3))


def test_every_sequence():
    """All sequences of four operations on one bank: additions, accesses, replacing accesses, and pauses."""
    c = configuration(1, (3,))
    bench = Bench(Accumulators(c))
    observed = Observed(bench, c)
    kinds = ["none", "access", "replace", "add 1", "add 2"]
    gates = itertools.cycle(range(3))
    numbers = itertools.count(1)
    done = 0

    async def testbench(context):
        nonlocal done
        dut = bench.dut
        for sequence in itertools.product(kinds, repeat=4):
            for kind in sequence:
                gate, number = next(gates), next(numbers)
                no_add(context, dut, 0)
                for access in dut.access:
                    context.set(access.valid, 0)
                if kind.startswith("add"):
                    add(context, dut, 0, int(kind[-1]), number)
                elif kind != "none":
                    context.set(dut.access[gate].valid, 1)
                    Bench.set(context, dut.access[gate].payload, {"bank": 0, "address": 1 + gate % 2, "bias": -number,
                                                           "replace": kind == "replace"})
                await context.tick()
                done += 1
        no_add(context, dut, 0)
        for access in dut.access:
            context.set(access.valid, 0)
        await context.tick().repeat(3)

    bench.run(testbench)
    assert done == 4 * 5 ** 4
    assert observed.operations == done * 4 // 5
    assert observed.answers == done * 2 // 5 and not observed.due


@pytest.mark.parametrize("seed", range(2))
def test_gates_share_one_bank(seed):
    """All gates want one bank at once: each gets it in turn, the earlier gate first, and none is lost."""
    c = configuration(2, (8,))
    rng = random.Random(seed)
    bench = Bench(Accumulators(c), seed)
    observed = Observed(bench, c)
    count = 60
    taken = [bench.source(stream, [{"bank": 1, "address": rng.randrange(2), "replace": 1,
                                    "bias": rng.randrange(1000)} for _ in range(count)], 0.3, f"access_{gate}")
             for gate, stream in enumerate(bench.dut.access)]

    async def testbench(context):
        while any(len(cycles) < count for cycles in taken):
            await context.tick()
        await context.tick().repeat(4)

    bench.run(testbench)
    assert observed.answers == 3 * count
    assert len({cycle for cycles in taken for cycle in cycles}) == 3 * count


def test_accumulator_reaches_its_limits():
    """The largest and the smallest sum of 24 bits pass unharmed."""
    c = configuration(1, (1,))
    bench = Bench(Accumulators(c))
    observed = Observed(bench, c)
    limit = (1 << 23) - 1

    async def testbench(context):
        dut = bench.dut

        async def access(bias, replace):
            Bench.set(context, dut.access[0].payload, {"bank": 0, "address": 0, "bias": bias, "replace": replace})
            context.set(dut.access[0].valid, 1)
            await context.tick()
            context.set(dut.access[0].valid, 0)

        for start, addend in ((limit - 100, 100), (-limit + 100, -100), (limit, -32768), (-limit, 32767)):
            await access(start, 1)
            add(context, dut, 0, 0, addend)
            await context.tick()
            no_add(context, dut, 0)
            await access(0, 0)
        await context.tick().repeat(3)

    bench.run(testbench)
    assert observed.answers == 8
    assert observed.content[0, 0] == -limit + 32767
