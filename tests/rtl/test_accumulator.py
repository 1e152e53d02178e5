"""Accumulators against `replay`, one operation at a time."""

import itertools
import random

import pytest
from amaranth.hdl import *
from amaranth.lib import wiring

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.rtl.accumulator import Accumulators, found_after, replay
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

ADDEND = 1 << 15  # more than 127 * 255


def configuration(lanes, hidden, folded=0, compact=False):
    return Configuration(
        vocabulary=2, embedding=1, hidden=hidden, lanes=lanes, weight_words=1024, folded_tokens=folded, compact=compact
    )


def banks_of(c, gate, bank):
    """The bits that name a bank in an access of a gate."""
    return 1 << c.gate_banks(gate).index(bank)


class Ahead(wiring.Component):
    """`Accumulators` whose additions and rows are given one cycle early, as `coming` announces them."""

    def __init__(self, c):
        self.inner = Accumulators(c)
        super().__init__({name: member for name, member in self.inner.signature.members.items() if name != "coming"})
        self.access = [getattr(self, f"access_{gate}") for gate in GATES]

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self.inner
        for early, late in zip(self.add, inner.add, strict=True):
            m.d.sync += late.eq(early)
        m.d.sync += [inner.row.valid.eq(self.row.valid), inner.row.payload.eq(self.row.payload)]
        m.d.comb += inner.coming.eq(Cat(add.valid for add in self.add) | self.row.valid.replicate(len(self.add)))
        for gate in range(len(GATES)):
            wiring.connect(m, wiring.flipped(self.access[gate]), inner.access[gate])
            wiring.connect(m, inner.found[gate], wiring.flipped(self.found[gate]))
        return m


class Observed:
    """Watches `Accumulators` and checks each cycle against `replay`."""

    def __init__(self, simulation, c):
        self.c = c
        self.content = {(bank, address): 0 for bank in range(c.banks) for address in range(c.bank_depth)}
        self.due = {}
        self.operations = 0
        self.answers = 0
        self.rows = 0
        dut = simulation.dut
        signals = [*dut.add, dut.row.valid, dut.row.payload]
        for access, found in zip(dut.access, dut.found, strict=True):
            signals += [access.valid, access.ready, access.payload, found.valid, found.payload]
        simulation.each_cycle(self.check, *signals)

    def check(self, cycle, *values):
        adds = values[: self.c.banks]
        row, (row_address, addends) = values[self.c.banks :][:2]
        accesses = [values[self.c.banks + 2 + 5 * gate :][:5] for gate in range(3)]
        occupied = set()
        for bank, (valid, address, addend) in enumerate(adds):
            if valid:
                occupied.add(bank)
                self.operations += 1
                replay(self.content, [(bank, address, addend)])
        if row:
            assert not occupied, f"cycle {cycle}: a row and an addition at once"
            self.rows += 1
            occupied = set(range(self.c.banks))
            replay(self.content, [(bank, row_address, addend) for bank, addend in enumerate(addends)])
        for gate in (2, 0, 1):
            valid, ready, (banks, address, replace, bias), found, value = accesses[gate]
            assert (found, value if found else 0) == self.due.pop((cycle, gate), (0, 0)), (cycle, gate)
            self.answers += found
            if valid:
                bank = self.c.gate_banks(gate)[banks.bit_length() - 1]
                assert banks == 1 << banks.bit_length() - 1
                assert ready == (bank not in occupied), f"cycle {cycle}: access of gate {gate} to bank {bank}"
                occupied.add(bank)
                if ready:
                    self.operations += 1
                    self.due[cycle + found_after(self.c), gate] = (
                        1,
                        *replay(self.content, [(bank, address, replace, bias)]),
                    )


def add(context, dut, bank, address, addend):
    StreamSimulation.set(context, dut.add[bank], (1, address, addend))


def no_add(context, dut, bank):
    StreamSimulation.set(context, dut.add[bank], (0, 0, 0))


def row(context, dut, address, addends):
    context.set(dut.row.valid, 1)
    StreamSimulation.set(context, dut.row.payload, (address, addends))


def no_row(context, dut):
    context.set(dut.row.valid, 0)
    StreamSimulation.set(context, dut.row.payload, (0, (0,) * len(dut.add)))


folded = pytest.mark.parametrize("folded", [0, 1])


@folded
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize(
    "lanes, hidden, adding, idle",
    [(1, (3,), 0.3, 0.0), (1, (1,), 0.6, 0.5), (2, (4, 3), 0.5, 0.2), (4, (5, 7, 2), 0.8, 0.0)],
)
def test_random(lanes, hidden, adding, idle, seed, compact, folded):
    """Few addresses, so that operations on one follow each other at every distance."""
    c = configuration(lanes, hidden, folded, compact)
    rng = random.Random(seed)
    simulation = StreamSimulation(Ahead(c), seed)
    observed = Observed(simulation, c)
    pool = [rng.randrange(c.bank_depth) for _ in range(2)]
    count = 60
    accesses = [
        [
            {
                "banks": 1 << rng.randrange(len(c.gate_banks(gate))),
                "address": rng.choice(pool),
                "replace": rng.randrange(2),
                "bias": rng.randrange(-(1 << 22), 1 << 22),
            }
            for _ in range(count)
        ]
        for gate in range(3)
    ]
    taken = [
        simulation.source(stream, payloads, idle, f"access_{gate}")
        for gate, (stream, payloads) in enumerate(zip(simulation.dut.access, accesses, strict=True))
    ]

    async def testbench(context):
        while any(len(cycles) < count for cycles in taken):
            for bank in range(c.banks):
                if rng.random() < adding:
                    add(context, simulation.dut, bank, rng.choice(pool), rng.randrange(-ADDEND, ADDEND))
                else:
                    no_add(context, simulation.dut, bank)
            await context.tick()
        for bank in range(c.banks):
            no_add(context, simulation.dut, bank)
        await context.tick().repeat(found_after(c) + 2)

    simulation.run(testbench)
    assert observed.answers == 3 * count and not observed.due
    assert observed.operations > 3 * count
    if idle == 0:
        assert all(simulation.watches[f"access_{gate}"].stalls for gate in range(3))


@folded
@pytest.mark.parametrize("bank", [0, 1])
def test_every_sequence(bank, folded):
    """All sequences of four operations on one bank: additions, accesses, replacing accesses, and pauses."""
    c = configuration(1, (3,), folded)
    simulation = StreamSimulation(Ahead(c))
    observed = Observed(simulation, c)
    kinds = ["none", "access", "replace", "add 1", "add 2"]
    gates = itertools.cycle([bank, 2])
    numbers = itertools.count(1)
    done = 0

    async def testbench(context):
        nonlocal done
        dut = simulation.dut
        for sequence in itertools.product(kinds, repeat=4):
            for kind in sequence:
                gate, number = next(gates), next(numbers)
                no_add(context, dut, bank)
                for access in dut.access:
                    context.set(access.valid, 0)
                if kind.startswith("add"):
                    add(context, dut, bank, int(kind[-1]), number)
                elif kind != "none":
                    context.set(dut.access[gate].valid, 1)
                    StreamSimulation.set(
                        context,
                        dut.access[gate].payload,
                        {
                            "banks": banks_of(c, gate, bank),
                            "address": 1 + number // 2 % 2,
                            "bias": -number,
                            "replace": kind == "replace",
                        },
                    )
                await context.tick()
                done += 1
        no_add(context, dut, bank)
        for access in dut.access:
            context.set(access.valid, 0)
        await context.tick().repeat(found_after(c) + 1)

    simulation.run(testbench)
    assert done == 4 * 5**4
    assert observed.operations == done * 4 // 5
    assert observed.answers == done * 2 // 5 and not observed.due


@folded
@pytest.mark.parametrize("bank", [2, 1])
def test_gates_share_one_bank(bank, folded):
    """Two gates want one bank at once: each gets it in turn, gate z first, and none is lost."""
    c = configuration(2, (8,), folded)
    rng = random.Random(bank)
    simulation = StreamSimulation(Ahead(c), bank)
    observed = Observed(simulation, c)
    count = 60
    taken = [
        simulation.source(
            stream,
            [
                {
                    "banks": banks_of(c, gate, bank),
                    "address": rng.randrange(2),
                    "replace": 1,
                    "bias": rng.randrange(1000),
                }
                for _ in range(count)
            ],
            0.3,
            f"access_{gate}",
        )
        for gate, stream in enumerate(simulation.dut.access)
        if bank in c.gate_banks(gate)
    ]

    async def testbench(context):
        while any(len(cycles) < count for cycles in taken):
            await context.tick()
        await context.tick().repeat(found_after(c) + 2)

    simulation.run(testbench)
    assert observed.answers == 2 * count
    assert len({cycle for cycles in taken for cycle in cycles}) == 2 * count


@folded
def test_accumulator_reaches_its_limits(folded):
    """The largest and the smallest sum of 24 bits pass unharmed."""
    c = configuration(1, (1,), folded)
    simulation = StreamSimulation(Ahead(c))
    observed = Observed(simulation, c)
    limit = (1 << 23) - 1

    async def testbench(context):
        dut = simulation.dut

        async def access(bias, replace):
            StreamSimulation.set(
                context, dut.access[0].payload, {"banks": 1, "address": 0, "bias": bias, "replace": replace}
            )
            context.set(dut.access[0].valid, 1)
            await context.tick()
            context.set(dut.access[0].valid, 0)

        for start, addend in ((limit - 100, 100), (-limit + 100, -100), (limit, -32768), (-limit, 32767)):
            await access(start, 1)
            add(context, dut, 0, 0, addend)
            await context.tick()
            no_add(context, dut, 0)
            await access(0, 0)
        await context.tick().repeat(found_after(c) + 1)

    simulation.run(testbench)
    assert observed.answers == 8
    assert observed.content[0, 0] == -limit + 32767


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize(
    "lanes, hidden, adding, rows, idle",
    [
        (1, (3,), 0.3, 0.3, 0.0),
        (1, (1,), 0.2, 0.6, 0.5),
        (2, (4, 3), 0.5, 0.5, 0.2),
        (4, (5, 7, 2), 0.5, 0.5, 0.0),
        (8, (40,), 0.3, 0.2, 0.0),
    ],
)
def test_rows(lanes, hidden, adding, rows, idle, seed):
    """Rows, additions and accesses in any order, on few addresses; in a cycle with a row no gate gets through."""
    c = configuration(lanes, hidden, 1)
    rng = random.Random(seed)
    simulation = StreamSimulation(Ahead(c), seed)
    observed = Observed(simulation, c)
    pool = [rng.randrange(c.layer_depth(0)) for _ in range(2)]
    count, sent = 60, 0
    accesses = [
        [
            {
                "banks": 1 << rng.randrange(len(c.gate_banks(gate))),
                "address": rng.choice(pool),
                "replace": rng.randrange(2),
                "bias": rng.randrange(-(1 << 22), 1 << 22),
            }
            for _ in range(count)
        ]
        for gate in range(3)
    ]
    taken = [
        simulation.source(stream, payloads, idle, f"access_{gate}")
        for gate, (stream, payloads) in enumerate(zip(simulation.dut.access, accesses, strict=True))
    ]

    async def testbench(context):
        nonlocal sent
        while any(len(cycles) < count for cycles in taken):
            is_row = rng.random() < rows
            for bank in range(c.banks):
                if not is_row and rng.random() < adding:
                    add(context, simulation.dut, bank, rng.choice(pool), rng.randrange(-ADDEND, ADDEND))
                else:
                    no_add(context, simulation.dut, bank)
            if is_row:
                row(
                    context,
                    simulation.dut,
                    rng.choice(pool),
                    [rng.randint(-(1 << 14), 1 << 14) for _ in range(c.banks)],
                )
                sent += 1
            else:
                no_row(context, simulation.dut)
            await context.tick()
        for bank in range(c.banks):
            no_add(context, simulation.dut, bank)
        no_row(context, simulation.dut)
        await context.tick().repeat(found_after(c) + 2)

    simulation.run(testbench)
    assert observed.answers == 3 * count and not observed.due
    assert observed.rows == sent > 10
    assert observed.operations > 3 * count
    assert all(simulation.watches[f"access_{gate}"].stalls for gate in range(3))


def test_every_sequence_with_rows():
    """All sequences of four of: a row on either address, an addition, an access, a replacing access, a pause."""
    c = configuration(1, (3,), 1)
    simulation = StreamSimulation(Ahead(c))
    observed = Observed(simulation, c)
    kinds = ["none", "access", "replace", "add", "row 1", "row 2"]
    gates = itertools.cycle(range(3))
    numbers = itertools.count(1)
    done = 0

    async def testbench(context):
        nonlocal done
        dut = simulation.dut
        for sequence in itertools.product(kinds, repeat=4):
            for kind in sequence:
                gate, number = next(gates), next(numbers)
                no_add(context, dut, 0)
                no_row(context, dut)
                for access in dut.access:
                    context.set(access.valid, 0)
                if kind == "add":
                    add(context, dut, 0, 1 + number % 2, number)
                elif kind.startswith("row"):
                    row(context, dut, int(kind[-1]), (number, -3 * number))
                elif kind != "none":
                    context.set(dut.access[gate].valid, 1)
                    StreamSimulation.set(
                        context,
                        dut.access[gate].payload,
                        {
                            "banks": banks_of(c, gate, gate if gate < 2 else number % 2),
                            "address": 1 + number // 2 % 2,
                            "bias": -number,
                            "replace": kind == "replace",
                        },
                    )
                await context.tick()
                done += 1
        no_add(context, dut, 0)
        no_row(context, dut)
        for access in dut.access:
            context.set(access.valid, 0)
        await context.tick().repeat(found_after(c) + 1)

    simulation.run(testbench)
    assert done == 4 * 6**4
    assert observed.operations == done // 2 and observed.rows == done // 3
    assert observed.answers == done // 3 and not observed.due


def test_row_holds_every_gate_up():
    """While rows come, cycle after cycle, no access is taken; then each gate gets its own at once."""
    c = configuration(2, (8,), 1)
    simulation = StreamSimulation(Ahead(c))
    observed = Observed(simulation, c)
    taken = [
        simulation.source(
            stream, [{"banks": banks_of(c, gate, gate), "address": 2, "replace": 0, "bias": 0}], name=f"access_{gate}"
        )
        for gate, stream in enumerate(simulation.dut.access)
    ]

    async def testbench(context):
        for number in range(10):
            row(context, simulation.dut, number % c.layer_depth(0), [number, -number, 1, 100])
            await context.tick()
            assert taken == [[], [], []]
        no_row(context, simulation.dut)
        await context.tick().repeat(found_after(c) + 2)

    simulation.run(testbench)
    assert taken == [[10], [10], [10]]
    assert observed.rows == 10 and observed.answers == 3 and not observed.due
    assert c.layer_depth(0) == 6 and [observed.content[bank, 2] for bank in range(4)] == [10, -10, 2, 200]


@pytest.mark.parametrize("accumulator_bits", [16, 24])
def test_row_reaches_the_limits(accumulator_bits):
    """Addends as wide as an accumulator; sums up to its largest and smallest number."""
    limit = (1 << accumulator_bits - 1) - 1
    c = Configuration(
        vocabulary=2,
        embedding=1,
        hidden=(4,),
        lanes=2,
        weight_words=64,
        folded_tokens=2,
        accumulator_bits=accumulator_bits,
    )
    simulation = StreamSimulation(Ahead(c))
    observed = Observed(simulation, c)
    rows = [
        (limit, -limit, -limit - 1, 0),
        (-limit, limit, limit, -1),
        (-limit, limit, -limit, limit),
        (limit, -limit, 0, -limit),
    ]

    async def testbench(context):
        dut = simulation.dut
        for address in range(c.bank_depth):
            for addends in rows:
                row(context, dut, address, addends)
                await context.tick()
        no_row(context, dut)
        for bank in range(c.banks):
            for address in range(c.bank_depth):
                StreamSimulation.set(context, dut.access[2].payload, {"banks": 1 << bank, "address": address})
                context.set(dut.access[2].valid, 1)
                await context.tick()
        context.set(dut.access[2].valid, 0)
        await context.tick().repeat(found_after(c) + 1)

    simulation.run(testbench)
    assert observed.answers == c.banks * c.bank_depth and not observed.due
    for bank in range(c.banks):
        assert {observed.content[bank, address] for address in range(c.bank_depth)} == {
            sum(addends[bank] for addends in rows)
        }
    assert observed.content[3, 0] == -1 and observed.content[2, 0] == -limit - 1
