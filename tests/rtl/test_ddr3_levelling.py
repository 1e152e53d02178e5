"""LevelledDdr3 with memories whose bytes come right with some delays only."""

import dataclasses

import pytest

from egret.model.compiler.configuration import DDR3_RATIO, TINY
from egret.rtl.core import Core
from egret.rtl.counters import COUNTER_BYTES
from egret.rtl.ddr3_levelling import DELAYS, PATTERN, SLIPS, LevelledDdr3
from egret.rtl.protocol import FAULTY_LINES
from egret.sim.ddr3 import USUAL_LEVELS, Level
from egret.sim.sdram import with_memory
from tests.rtl.test_ddr3 import QUICK
from tests.support.streams import StreamSimulation


def level(levels, **options):
    """Start a memory, write words and read them.

    Returns delay and shift that each byte has then, lines that are faulty, and whether the words are right.
    """
    inner = LevelledDdr3(QUICK)
    simulation = StreamSimulation(with_memory(inner, QUICK, row_bits=1, levels=levels, **options))
    dut, pins, beats, faulty = simulation.dut, inner.sdram.levels, [], []
    taken = [[0, 0], [0, 0]]

    def look(cycle, select, restart, later, slip, valid, words):
        for byte, now in enumerate(taken):
            if select >> byte & 1:
                now[:] = [0, 0] if restart else [(now[0] + later) % DELAYS, (now[1] + slip) % SLIPS]
        if valid:
            beats.append(words)

    simulation.each_cycle(look, pins.select, pins.restart, pins.later, pins.slip, dut.o.valid, dut.o.p.words)

    async def testbench(context):
        await context.tick().until(dut.ready)
        for word in range(8):
            simulation.set(context, dut.write.payload, (word + 16, 0x1234 + word))
            context.set(dut.write.valid, 1)
            await context.tick().until(dut.write.ready)
        context.set(dut.write.valid, 0)
        simulation.set(context, dut.i.payload, (4, 2, 0))
        context.set(dut.i.valid, 1)
        await context.tick().until(dut.i.ready)
        context.set(dut.i.valid, 0)
        await context.tick().until(~dut.busy)
        await context.tick().repeat(4)
        assert not context.get(dut.violations)
        faulty.append(context.get(dut.faulty))

    simulation.run(testbench, 100_000)
    words = [beat >> 16 * place & 0xFFFF for beat in beats for place in range(4)]
    return [tuple(now) for now in taken], faulty[0], words == [0x1234 + word for word in range(8)]


@pytest.mark.parametrize(
    "levels, taken",
    [
        (USUAL_LEVELS, [(3, 2), (5, 1)]),
        pytest.param((Level(0, 7, 3), Level(7, 7, 0)), [(4, 3), (7, 0)], marks=pytest.mark.slow),
        pytest.param((Level(0, 0, 0), Level(2, 4, 3)), [(0, 0), (3, 3)], marks=pytest.mark.slow),
    ],
)
def test_delays_are_found(levels, taken):
    """Each byte gets its own shift, and a delay in the middle of those that are good."""
    assert level(levels) == (taken, 0, True)


def test_a_faulty_line_is_named():
    assert level(USUAL_LEVELS, stuck=1 << 5)[1:] == (1 << 5, False)


def test_the_core_tells_faulty_lines():
    """The counter is what the host reads."""
    c = dataclasses.replace(TINY, store="sdram", weight_bits=4, lanes=8, memory_ratio=DDR3_RATIO)
    core = Core(c, timing=QUICK)
    simulation = StreamSimulation(
        with_memory(core, QUICK, DDR3_RATIO, row_bits=1, levels=USUAL_LEVELS, stuck=1 << 5 | 1 << 12)
    )
    dut, read = simulation.dut, []

    async def testbench(context):
        await context.tick().until(dut.ready)
        await context.tick().repeat(2)
        await context.tick().until(dut.counters_settled)
        for byte in range(COUNTER_BYTES):
            context.set(dut.counter_byte, COUNTER_BYTES * core.counters.index(FAULTY_LINES) + byte)
            await context.tick()
            read.append(context.get(dut.counter_read))

    simulation.run(testbench, 100_000)
    assert int.from_bytes(bytes(read), "little") == 1 << 5 | 1 << 12


@pytest.mark.slow
def test_a_byte_without_any_delay_is_named():
    """Its lines are each right at times, but never all at once."""
    taken, faulty, right = level((USUAL_LEVELS[0], Level(5, 4, 0)))
    assert taken[0] == (3, 2) and faulty & 0xFF == 0 and faulty >> 8 and not right


def test_no_byte_of_the_pattern_is_the_same_when_shifted():
    for byte in range(2):
        values = [word >> 8 * byte & 0xFF for word in PATTERN]
        for half in (values[:8], values[8:]):
            for shift in range(1, 8):
                assert half[shift:] + half[:shift] != half
        assert all(any(value >> bit & 1 for value in values) for bit in range(8))
