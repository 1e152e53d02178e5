"""Sdram, the controller, against the model of the memory, which checks every command."""

import dataclasses
import random

import pytest
from amaranth.hdl import Cat

from egret.rtl.sdram import COLUMN_BITS, PARTS, Part, Sdram, Timing
from egret.sim.sdram import VIOLATIONS, SdramModel, with_memory
from tests.support.streams import StreamSimulation

ROWS = 3
WORDS = 1 << ROWS + 2 + COLUMN_BITS
FAST = {"start": 400.0}
"""In ns: nobody wants to wait for 200 us in a simulation."""


def timing(part="any", hertz=100e6, **changes):
    return Timing.of(dataclasses.replace(PARTS[part], **FAST, **changes), hertz)


def run(jobs, t, ratio=1, *, idle=0.0, seed=0, timeout=100_000):
    """Do writes (address, word) and bursts (address, count, tag) in their order; returns beats, and cycle of each.

    A group of writes ends, and the memory is quiet, before a burst follows.
    """
    simulation = StreamSimulation(with_memory(Sdram(t, ratio), t, ratio, row_bits=ROWS), seed)
    dut = simulation.dut
    seen = []
    violations = []

    def look(cycle, violated, valid, beat):
        if violated and not violations:
            violations.append((cycle, violated))
        if valid:
            seen.append((cycle, beat))

    simulation.each_cycle(look, dut.violations, dut.o.valid, dut.o.payload)
    simulation.watch(dut.i, "i")

    async def send(context, stream, payload):
        while simulation.chance(idle):
            await context.tick()
        simulation.set(context, stream.payload, payload)
        context.set(stream.valid, 1)
        await context.tick().until(stream.ready)
        context.set(stream.valid, 0)

    async def testbench(context):
        await context.tick().until(dut.ready)
        for job in jobs:
            await send(context, dut.write if len(job) == 2 else dut.i, job)
        await context.tick().repeat(3)
        await context.tick().until(~dut.busy)
        await context.tick().repeat(t.latency + 4)

    simulation.run(testbench, timeout)
    assert not violations, [name for bit, name in enumerate(VIOLATIONS) if violations[0][1] >> bit & 1]
    return seen


@pytest.mark.parametrize("idle", [0.0, 0.7])
@pytest.mark.parametrize(
    "part, hertz, ratio",
    [
        ("any", 100e6, 1),
        ("as4c32m16sb-7", 143e6, 1),
        ("w9825g6kh-6", 50e6, 1),
        ("any", 125e6, 2),
        ("w9825g6kh-6", 166e6, 2),
    ],
)
def test_words_come_back(part, hertz, ratio, idle):
    rng = random.Random(f"{part} {idle}")
    content, jobs, expected = {}, [], []
    for _ in range(40):
        start = rng.choice([rng.randrange(WORDS - 700), (rng.randrange(1, 8) << COLUMN_BITS) - rng.randrange(4)])
        if rng.random() < 0.5:
            for offset in range(rng.choice([1, 3, 20])):
                content[start + offset] = rng.getrandbits(16)
                jobs.append((start + offset, content[start + offset]))
        else:
            start = rng.choice([start, *content]) // ratio
            count, tag = rng.choice([1, 2, 3, 5, 30, 600 if rng.random() < 0.2 else 9]), rng.getrandbits(2)
            count = min(count, WORDS // ratio - start)
            jobs.append((start, count, tag))
            words = [content.get(word, 0) for word in range(start * ratio, (start + count) * ratio)]
            beats = [words[place : place + ratio] for place in range(0, len(words), ratio)]
            expected += [(sum(word << 16 * place for place, word in enumerate(beat)), tag) for beat in beats]
    seen = run(jobs, timing(part, hertz), ratio, idle=idle, seed=1)
    assert [beat for _, beat in seen] == expected
    assert len(content) > 50


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_long_burst_has_no_gap(ratio):
    """It goes through the rows of all banks, each opened while the one before it is read; a refresh breaks it off."""
    seen = run([(100, 4000, 2)], timing(refresh=1e6), ratio)
    assert [cycle for cycle, _ in seen] == list(range(seen[0][0], seen[0][0] + 4000))


@pytest.mark.parametrize("ratio, least", [(1, 0.95), (2, 0.93)])
def test_bus_is_busy_with_columns_anywhere(ratio, least):
    """Bursts as long as columns of the 85 % network, at random addresses: nearly all of the cycles carry a beat."""
    rng = random.Random(5)
    jobs = [((rng.randrange(WORDS - 400)) // ratio, rng.randint(80, 320) // ratio, 0) for _ in range(60)]
    seen = run(jobs, timing(hertz=min(ratio * 100e6, 125e6)), ratio)
    assert len(seen) == sum(count for _, count, _ in jobs)
    assert len(seen) / (seen[-1][0] - seen[0][0] + 1) >= least


def test_refresh_while_nothing_happens():
    """A memory that nobody uses is refreshed all the same: the model would say so."""
    t = timing(refresh=500.0)
    simulation = StreamSimulation(with_memory(Sdram(t), t, row_bits=ROWS))
    late = []
    simulation.each_cycle(lambda cycle, violated: late.append(cycle) if violated else None, simulation.dut.violations)

    async def testbench(context):
        await context.tick().repeat(5000)

    simulation.run(testbench)
    assert not late


def commands(t, *steps):
    """Drive the model's pins: (cycle, name, bank, address); returns the names of what was wrong."""
    codes = {"activate": 0b001, "read": 0b010, "write": 0b110, "precharge": 0b101, "refresh": 0b011, "mode": 0b111}
    simulation = StreamSimulation(SdramModel(t, row_bits=ROWS))
    pins, found = simulation.dut.pins, []

    async def testbench(context):
        cycle = 0
        for at, name, bank, address in steps:
            await context.tick().repeat(at - cycle) if at > cycle else None
            context.set(Cat(pins.ras, pins.cas, pins.we), codes[name])
            for signal, value in ((pins.cs, 1), (pins.ba, bank), (pins.a, address), (pins.dq_oe, name == "write")):
                context.set(signal, value)
            await context.tick()
            cycle = at + 1
            for signal in (pins.cs, pins.dq_oe):
                context.set(signal, 0)
        await context.tick().repeat(5)
        violated = context.get(simulation.dut.violations)
        found.extend(name for bit, name in enumerate(VIOLATIONS) if violated >> bit & 1)

    simulation.run(testbench)
    return found


T = timing()
BEGIN = (
    (50, "precharge", 0, 1 << 10),
    (60, "refresh", 0, 0),
    (75, "refresh", 0, 0),
    (90, "mode", 0, 1 << 9 | T.latency << 4 | 7),
)


@pytest.mark.parametrize(
    "steps, wrong",
    [
        ((), []),
        (((100, "activate", 1, 2), (105, "read", 1, 3), (130, "precharge", 1, 0), (133, "activate", 1, 2)), []),
        (((100, "activate", 1, 2), (105, "activate", 1, 3)), ["activate of a bank that is open"]),
        (
            ((100, "activate", 1, 2), (120, "precharge", 1, 0), (121, "activate", 1, 2)),
            ["activate too early after a precharge"],
        ),
        (((100, "read", 1, 2),), ["read or write in a bank that is closed"]),
        (((100, "activate", 1, 2), (101, "write", 1, 2)), ["read or write too early after an activate"]),
        (((100, "activate", 1, 2), (103, "precharge", 1, 0)), ["precharge too early after an activate"]),
        (
            ((100, "activate", 1, 2), (110, "write", 1, 2), (111, "precharge", 1, 0)),
            ["precharge too early after a write"],
        ),
        (
            ((100, "activate", 1, 2), (110, "refresh", 0, 0)),
            ["refresh with a bank open, or too early after a precharge"],
        ),
        (((100, "refresh", 0, 0), (104, "activate", 1, 2)), ["command during a refresh"]),
        (
            ((100, "activate", 1, 2), (105, "read", 1, 3), (107, "write", 1, 3)),
            ["write while the memory drives its pins"],
        ),
        (((100, "mode", 0, 0),), ["mode that is not modelled"]),
        (((10_000, "refresh", 0, 0),), ["rows not refreshed in time"]),
    ],
)
def test_model_tells_what_is_wrong(steps, wrong):
    assert commands(T, *BEGIN, *steps) == wrong


@pytest.mark.parametrize(
    "before, name, cycles, wrong",
    [
        ([(100, "activate", 1, 2)], "read", T.rcd, "read or write too early after an activate"),
        ([(100, "activate", 1, 2)], "precharge", T.ras, "precharge too early after an activate"),
        (
            [(100, "activate", 1, 2), (120, "precharge", 1, 0)],
            "activate",
            T.rp,
            "activate too early after a precharge",
        ),
        ([(100, "activate", 1, 2), (110, "write", 1, 2)], "precharge", T.wr, "precharge too early after a write"),
        ([(100, "refresh", 0, 0)], "activate", T.rfc, "command during a refresh"),
    ],
)
def test_model_knows_each_time_to_the_cycle(before, name, cycles, wrong):
    at = before[-1][0] + cycles
    assert commands(T, *BEGIN, *before, (at, name, 1, 2)) == []
    assert commands(T, *BEGIN, *before, (at - 1, name, 1, 2)) == [wrong]


def test_model_knows_times_of_each_bank():
    steps = [(100 + bank, "activate", bank, 2) for bank in range(4)]
    assert commands(T, *BEGIN, *steps, (105, "precharge", 0, 0), (106, "write", 1, 2), (106, "precharge", 2, 0)) == []


SINGLE = (*BEGIN[:-1], (90, "mode", 0, T.latency << 4))
OWN = 1 << 10
"""Address bit of a read or write whose bank then closes on its own."""


@pytest.mark.parametrize(
    "steps, wrong",
    [
        (((100, "activate", 1, 2), (105, "read", 1, 3 | OWN), (108, "activate", 1, 2)), []),
        (((100, "activate", 1, 2), (102, "read", 1, 3), (103, "read", 1, 4 | OWN), (107, "activate", 1, 2)), []),
        (
            ((100, "activate", 1, 2), (102, "read", 1, 3 | OWN), (105, "activate", 1, 2)),
            ["activate of a bank that is open"],
        ),
        (
            ((100, "activate", 1, 2), (105, "read", 1, 3 | OWN), (107, "activate", 1, 2)),
            ["activate too early after a precharge"],
        ),
        (
            ((100, "activate", 1, 2), (105, "read", 1, 3 | OWN), (106, "read", 1, 4)),
            ["read or write in a bank that is closed"],
        ),
        (
            ((100, "activate", 1, 2), (110, "write", 1, 3 | OWN), (112, "refresh", 0, 0)),
            ["refresh with a bank open, or too early after a precharge"],
        ),
        (((100, "activate", 1, 2), (105, "read", 1, 3), (109, "write", 1, 3)), []),
        (
            ((100, "activate", 1, 2), (105, "read", 1, 3), (108, "write", 1, 3)),
            ["write while the memory drives its pins"],
        ),
    ],
)
def test_model_of_single_words(steps, wrong):
    assert commands(T, *SINGLE, *steps) == wrong


def test_a_whole_row_is_not_closed_on_its_own():
    steps = (100, "activate", 1, 2), (105, "read", 1, 3 | OWN)
    assert commands(T, *BEGIN, *steps) == ["mode that is not modelled"]


def test_model_wants_a_start():
    assert commands(T, (10, "activate", 0, 0)) == ["command before the memory has been started"]


def test_timing():
    assert Timing.of(Part(), 100e6) == Timing(2, 2, 5, 7, 2, 780, 20_000, 3)
    assert Timing.of(Part(), 50e6).rcd == 2  # the controller takes two cycles at least
    with pytest.raises(ValueError, match="125 MHz at most, not at 130 MHz"):
        Timing.of(PARTS["any"], 130e6)


def test_any_part_is_the_slowest():
    for part in PARTS.values():
        for name in ("rcd", "rp", "ras", "rfc", "wr", "latency"):
            assert getattr(PARTS["any"], name) >= getattr(part, name) - 1.01 * (name in ("rcd", "rp"))
        assert PARTS["any"].megahertz <= part.megahertz
