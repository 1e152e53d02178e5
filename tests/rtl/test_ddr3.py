"""Ddr3, the controller, against the model of memory and PHY, which checks every command."""

import dataclasses
import random

import pytest

from egret.rtl.ddr3 import BANK_BITS, COLUMN_BITS, COMMANDS, Ddr3
from egret.rtl.ddr3_timing import PARTS, Ddr3Part, Ddr3Timing
from egret.sim.ddr3 import RIGHT_LEVELS, VIOLATIONS, Ddr3Model
from egret.sim.sdram import with_memory
from tests.support.streams import StreamSimulation

ROWS = 2
WORDS = 1 << ROWS + BANK_BITS + COLUMN_BITS
RATIO = 4


def timing(part="any", hertz=150e6, **changes):
    """Times of a part that starts at once."""
    at_once = {"reset": 40, "wake": 60, "zq": 80}
    return dataclasses.replace(Ddr3Timing.of(PARTS[part], hertz), **at_once | changes)


def run(jobs, t, *, controller=None, idle=0.0, seed=0, timeout=100_000):
    """Do writes (address, word) and bursts (address, count, tag) in their order; returns beats, and cycle of each.

    A controller that has other times than the memory may be given. Returns the names of violations, too.
    """
    simulation = StreamSimulation(with_memory(Ddr3(controller or t), t, row_bits=ROWS, levels=RIGHT_LEVELS), seed)
    dut = simulation.dut
    seen, violations = [], set()

    def look(cycle, violated, valid, beat):
        violations.update(name for bit, name in enumerate(VIOLATIONS) if violated >> bit & 1)
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
        await context.tick().repeat(4)

    simulation.run(testbench, timeout)
    return seen, violations


def traffic(seed, count=40):
    """Writes and bursts anywhere, many of them near the end of a row; and the beats that must come."""
    rng = random.Random(seed)
    content, jobs, expected = {}, [], []
    for _ in range(count):
        start = rng.choice([rng.randrange(WORDS - 900), (rng.randrange(1, 16) << COLUMN_BITS) - rng.randrange(24)])
        if rng.random() < 0.5:
            for offset in range(rng.choice([1, 3, 20])):
                content[start + offset] = rng.getrandbits(16)
                jobs.append((start + offset, content[start + offset]))
        else:
            start = rng.choice([start, *content]) // RATIO
            beats = rng.choice([1, 2, 3, 5, 30, 600 if rng.random() < 0.2 else 9])
            beats, tag = min(beats, WORDS // RATIO - start), rng.getrandbits(2)
            jobs.append((start, beats, tag))
            for beat in range(start, start + beats):
                words = [content.get(beat * RATIO + place, 0) for place in range(RATIO)]
                expected.append((sum(word << 16 * place for place, word in enumerate(words)), tag))
    return jobs, expected


@pytest.mark.parametrize(
    "part, hertz, idle",
    [
        ("any", 150e6, 0.0),
        ("mt41k64m16-125", 125e6, 0.5),
        pytest.param("mt41k256m16-125", 333e6, 0.0, marks=pytest.mark.slow),
    ],
)
def test_words_come_back(part, hertz, idle):
    """Every word of every burst comes once, in order, with its tag; every command is in time."""
    jobs, expected = traffic(f"{part} {idle}", 20)
    seen, violations = run(jobs, timing(part, hertz), idle=idle, seed=1)
    assert not violations
    assert [beat for _, beat in seen] == expected


@pytest.mark.slow
@pytest.mark.parametrize("hertz", [125e6, 150e6])
@pytest.mark.parametrize("seed", range(2))
def test_more_words_come_back(seed, hertz):
    jobs, expected = traffic(seed, 100)
    seen, violations = run(jobs, timing(hertz=hertz), idle=0.3 * (seed % 2), seed=seed)
    assert not violations
    assert [beat for _, beat in seen] == expected


def test_all_rows_of_128_megabytes_are_reached():
    jobs = [((1 << 26) - 1, 0xABCD), (1 << 25, 1), ((1 << 26) // RATIO - 300, 2, 0)]
    simulation = StreamSimulation(Ddr3(timing()), 1)
    dut, rows = simulation.dut, []

    def look(cycle, *commands):
        rows.extend((bank, row) for cs, code, bank, row in commands if cs and code == COMMANDS["activate"])

    simulation.each_cycle(look, *dut.sdram.commands)

    async def testbench(context):
        await context.tick().until(dut.ready)
        for job in jobs:
            stream = dut.write if len(job) == 2 else dut.i
            simulation.set(context, stream.payload, job)
            context.set(stream.valid, 1)
            await context.tick().until(stream.ready)
            context.set(stream.valid, 0)
            await context.tick().repeat(200)

    simulation.run(testbench, 10_000)
    assert rows == [(7, 8191), (0, 4096), (6, 8191)]


def test_a_long_burst_has_no_gap():
    """It goes through the rows of several banks, each opened while the one before it is read."""
    seen, violations = run([(101, 700, 2)], timing())
    assert not violations
    assert [cycle for cycle, _ in seen] == list(range(seen[0][0], seen[0][0] + 700))


@pytest.mark.parametrize("hertz, least", [(150e6, 0.93), pytest.param(125e6, 0.92, marks=pytest.mark.slow)])
def test_bus_is_busy_with_columns_anywhere(hertz, least):
    """Short bursts at random addresses: nearly all of the cycles carry a beat."""
    rng = random.Random(5)
    jobs = [(2 * rng.randrange(WORDS // 8 - 100), 2 * rng.randint(4, 20), 0) for _ in range(30)]
    seen, violations = run(jobs, timing(hertz=hertz), seed=1)
    assert not violations
    assert len(seen) == sum(count for _, count, _ in jobs)
    assert len(seen) / (seen[-1][0] - seen[0][0] + 1) >= least


def mixed():
    """Writes and short bursts in all banks, over some refreshes."""
    rng, jobs = random.Random(3), []
    for _ in range(10):
        jobs += [(rng.randrange(WORDS), 5)] if rng.random() < 0.5 else []
        jobs.append((rng.randrange(WORDS // RATIO - 10), rng.choice([1, 2, 9]), 0))
    # A row of a bank just behind a write in another one, and bursts to the next refresh but a few.
    row = 1 << COLUMN_BITS + BANK_BITS
    return [*jobs, (0, 7), *((row // RATIO * (place % 2), 40, 0) for place in range(1, 9))]


QUICK = timing(rfc=30, xpr=40, refresh=120)
LONGER = {
    "rcd": (12, "read or write too early after an activate"),
    "rp": (12, "activate too early after a precharge"),
    "ras": (40, "precharge too early after an activate"),
    "rrd": (30, "activate too early after an activate of another bank"),
    "faw": (120, "activate of a fifth row in the window of four"),
    "wr": (20, "precharge too early after a write"),
    "wtr": (20, "read too early after a write"),
    "rtp": (12, "precharge too early after a read"),
    "rfc": (44, "command during a refresh"),
    "mrd": (9, "command too early after a mode register or a calibration"),
    "zq": (99, "command too early after a mode register or a calibration"),
    "reset": (60, "reset or clock enable too early"),
    "wake": (80, "reset or clock enable too early"),
    "xpr": (70, "command before the memory has been started"),
}
"""Times in which a memory may want more than `QUICK` gives, and what it then says."""


def test_every_time_is_kept():
    wants = dataclasses.replace(QUICK, **{name: time for name, (time, _) in LONGER.items()})
    assert run(mixed(), wants)[1] == set()


QUICKLY = ("rp", "rtp", "wr")


@pytest.mark.parametrize(
    "name", [*QUICKLY, *(pytest.param(name, marks=pytest.mark.slow) for name in LONGER if name not in QUICKLY)]
)
def test_a_time_that_is_not_kept_is_told(name):
    time, wrong = LONGER[name]
    assert wrong in run(mixed(), dataclasses.replace(QUICK, **{name: time}), controller=QUICK)[1]


def test_late_refreshes_are_told():
    wants = dataclasses.replace(QUICK, refresh=24)
    assert run(mixed(), wants, controller=QUICK)[1] == {"rows not refreshed in time"}


def test_refreshes_are_in_time_at_a_low_clock():
    """What is read before one takes longer than several of them may wait."""
    seen, violations = run([(0, 2000, 0)], timing(hertz=50e6))
    assert not violations and len(seen) == 2000


def test_bus_turns_in_time(monkeypatch):
    monkeypatch.setattr(Ddr3Timing, "read_to_write", 4)
    assert "write too early after a read" in run(mixed(), QUICK)[1]


def commands(t, *steps, begin=True, read_told=True):
    """Drive the model's pins: (clock, name, bank, address), counted from the end of its start; returns what is wrong.

    The lines to the PHY are driven as they must be, unless reads are not told.
    """
    simulation = StreamSimulation(Ddr3Model(t, row_bits=ROWS))
    pins, found = simulation.dut.pins, []

    async def give(context, here):
        for half, command in enumerate(pins.commands):
            _, name, bank, address = here.get(half, (0, None, 0, 0))
            code = 0 if name is None else COMMANDS[name]
            simulation.set(context, command, (int(name is not None), code, bank, address))
        names = [step[1] for step in here.values()]
        context.set(pins.read, "read" in names and read_told)
        context.set(pins.write, "write" in names)
        await context.tick()

    async def testbench(context):
        context.set(pins.reset, 1)
        await context.tick().repeat(t.reset // 2 + 1)
        context.set(pins.reset, 0)
        await context.tick().repeat(t.wake // 2 + 1)
        context.set(pins.cke, 1)
        await context.tick().repeat(t.xpr // 2 + 1)
        for number, content in t.modes if begin else ():
            await give(context, {0: (0, "mode", number, content)})
            await give(context, {})
            await context.tick().repeat(t.mod)
        if begin:
            await give(context, {0: (0, "calibrate", 0, 1 << 10)})
            await give(context, {})
            await context.tick().repeat(t.zq // 2)
        for cycle in range(max(step[0] for step in steps) // 2 + 1 if steps else 0):
            await give(context, {step[0] % 2: step for step in steps if step[0] // 2 == cycle})
        await give(context, {})
        await context.tick().repeat(3)
        violated = context.get(simulation.dut.violations)
        found.extend(name for bit, name in enumerate(VIOLATIONS) if violated >> bit & 1)

    simulation.run(testbench)
    return found


T = timing(mod=8, zq=20, xpr=20)
OPEN = (1, "activate", 1, 2)


WRONG = [
    ((), []),
    ((OPEN, (10, "read", 1, 8), (31, "precharge", 1, 0), (41, "activate", 1, 3)), []),
    ((OPEN, (31, "activate", 1, 3)), ["activate of a bank that is open"]),
    (((2, "read", 1, 8),), ["read or write in a bank that is closed"]),
    ((OPEN, (31, "precharge", 1, 0), (40, "read", 1, 8)), ["read or write in a bank that is closed"]),
    ((OPEN, (31, "refresh", 0, 0)), ["refresh with a bank open, or too early after a precharge"]),
    ((OPEN, (31, "precharge", 0, 1 << 10), (41, "refresh", 0, 0)), []),
    (((1, "refresh", 0, 0), (21, "activate", 1, 0)), ["command during a refresh"]),
    ((OPEN, (11, "read", 1, 8)), ["read or write in the wrong half of a cycle, or not told to the PHY"]),
    ((OPEN, (12, "write", 1, 8)), ["read or write in the wrong half of a cycle, or not told to the PHY"]),
    ((OPEN, (10, "read", 1, 9)), ["command or mode that is not modelled"]),
    ((OPEN, (10, "read", 1, 1 << 10)), ["command or mode that is not modelled"]),
    (((1, "mode", 1, 2),), ["command or mode that is not modelled"]),
]


@pytest.mark.parametrize(
    "steps, wrong", [*WRONG[1:5], *(pytest.param(*case, marks=pytest.mark.slow) for case in WRONG)]
)
def test_model_tells_what_is_wrong(steps, wrong):
    assert commands(T, *steps) == wrong


def test_model_wants_reads_told():
    assert commands(T, OPEN, (10, "read", 1, 8), read_told=False) == [
        "read or write in the wrong half of a cycle, or not told to the PHY"
    ]


def test_model_wants_a_start():
    assert commands(T, OPEN, begin=False) == ["command before the memory has been started"]


APART = [
    ("rcd", (OPEN, (8, "read", 1, 8)), "read or write too early after an activate"),
    ("ras", (OPEN, (16, "precharge", 1, 8)), "precharge too early after an activate"),
    ("rp", (OPEN, (21, "precharge", 1, 0), (28, "activate", 1, 0)), "activate too early after a precharge"),
    ("rrd", (OPEN, (8, "activate", 2, 0)), "activate too early after an activate of another bank"),
    ("rtp", (OPEN, (20, "read", 1, 8), (27, "precharge", 1, 0)), "precharge too early after a read"),
    ("rfc", ((1, "refresh", 1, 0), (60, "activate", 1, 0)), "command during a refresh"),
]


@pytest.mark.parametrize(
    "time, steps, wrong", [*APART[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in APART[2:])]
)
def test_model_knows_each_time_to_the_cycle(time, steps, wrong):
    """The last two commands are as far apart as they must be; or a cycle of the memory less."""
    distance = steps[-1][0] - steps[-2][0]
    assert commands(dataclasses.replace(T, **{time: distance}), *steps) == []
    assert commands(dataclasses.replace(T, **{time: distance + 1}), *steps) == [wrong]


@pytest.mark.slow
def test_model_knows_writes_and_the_window_to_the_cycle():
    written = dataclasses.replace(T, wr=30 - T.written, wtr=31 - T.written)
    precharge, read = (51, "precharge", 1, 0), (52, "read", 1, 8)
    for t, step, wrong in (
        (written, precharge, []),
        (written, read, []),
        (dataclasses.replace(written, wr=written.wr + 1), precharge, ["precharge too early after a write"]),
        (dataclasses.replace(written, wtr=written.wtr + 1), read, ["read too early after a write"]),
    ):
        assert commands(t, OPEN, (21, "write", 1, 8), step) == wrong
    rows = [(1 + 5 * bank, "activate", bank, 0) for bank in range(4)]
    for late, wrong in ((0, []), (1, ["activate of a fifth row in the window of four"])):
        assert commands(dataclasses.replace(T, faw=40 + late), *rows, (41, "activate", 4, 0)) == wrong


def test_timing():
    t = Ddr3Timing.of(Ddr3Part(), 150e6)
    assert (t.rcd, t.rp, t.ras, t.rrd, t.faw, t.wr, t.rfc, t.refresh) == (3, 3, 6, 4, 8, 3, 53, 1170)
    assert (t.dll, t.latency, t.write_latency, t.read_phase) == (True, 6, 5, 0)
    assert t.modes == ((2, 0x200), (3, 0), (1, 0x2), (0, 0x320))
    slow = Ddr3Timing.of(Ddr3Part(), 125e6)
    assert (slow.dll, slow.latency, slow.write_latency, slow.read_phase) == (False, 5, 6, 1)
    assert slow.modes == ((2, 0x8), (3, 0), (1, 0x3), (0, 0x220))
    with pytest.raises(ValueError, match="400 MHz at most, not at 401 MHz"):
        Ddr3Timing.of(Ddr3Part(), 401e6)
    with pytest.raises(ValueError, match="40 MHz at least, not at 39 MHz"):
        Ddr3Timing.of(Ddr3Part(), 39e6)


def test_any_part_is_the_slowest():
    for part in PARTS.values():
        for field in dataclasses.fields(part):
            slowest, own = getattr(PARTS["any"], field.name), getattr(part, field.name)
            assert slowest <= own if field.name == "refresh" else slowest >= own
