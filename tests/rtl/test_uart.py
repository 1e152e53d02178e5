"""Uart against `line_levels`, and the board top's link behind it."""

import gc
import random

import pytest

from egret.rtl.uart import Receiver, Transmitter, Uart, divisor_for, line_levels
from tests.support.streams import StreamSimulation


def receive(divisor, runs, backpressure=0.0, seed=0, clocks=1.0):
    """Give a receiver levels, each for one bit of ``divisor * clocks`` cycles; returns the bytes and how many dropped.

    ``runs`` is a list of (level, bits).
    """
    simulation = StreamSimulation(Receiver(divisor), seed)
    received = simulation.sink(simulation.dut.o, backpressure)
    dropped = []
    simulation.each_cycle(lambda cycle, value: dropped.append(cycle) if value else None, simulation.dut.dropped)

    async def testbench(context):
        time, cycle = 3.0, 0
        for level, bits in [(1, 1), *runs, (1, 12)]:
            context.set(simulation.dut.rx, level)
            time += bits * divisor * clocks
            while cycle < time:
                await context.tick()
                cycle += 1

    simulation.run(testbench)
    return bytes(payload for _, payload in received), len(dropped)


@pytest.mark.parametrize(
    "divisor, clocks",
    # With fewer cycles, a quarter of a bit is as exact as it gets.
    [(4, 1.0), (5, 1.0), (8, 0.97), (8, 1.03), (27, 0.97), (27, 1.03), (30, 1.0)],
)
def test_receives(divisor, clocks):
    """Bytes without gaps from a sender whose clock is a little off."""
    data = bytes([0x00, 0xFF, 0x55, 0xAA, 0x7E, 0x01, 0x80, *random.Random(divisor).randbytes(40)])
    assert receive(divisor, [(level, 1) for level in line_levels(data)], clocks=clocks) == (data, 0)


def test_receives_after_any_pause():
    rng = random.Random(1)
    data = rng.randbytes(40)
    runs = [run for byte in data for run in [*((level, 1) for level in line_levels([byte])), (1, rng.random() * 3)]]
    assert receive(6, runs) == (data, 0)


def test_a_byte_waits_and_the_next_one_is_dropped():
    """Ready comes rarely, so bytes are lost; each loss is told, and what arrives is whole and in order."""
    data = bytes(range(60))
    received, dropped = receive(4, [(level, 1) for level in line_levels(data)], backpressure=0.985)
    assert dropped and len(received) + dropped == len(data)
    assert sorted(received) == list(received)


def test_a_slow_reader_loses_nothing_within_a_byte():
    data = bytes(range(60))
    assert receive(4, [(level, 1) for level in line_levels(data)], backpressure=0.7) == (data, 0)


def test_noise_and_breaks():
    """A start bit that is too short is none; a byte without a stop bit is dropped, and the next one is read."""
    byte = [(level, 1) for level in line_levels([0x5A])]
    assert receive(16, [(0, 0.3), (1, 2), *byte]) == (b"\x5a", 0)
    assert receive(16, [(0, 30), (1, 1), *byte]) == (b"\x5a", 1)


@pytest.mark.parametrize("divisor", [4, 9])
@pytest.mark.parametrize("idle", [0.0, 0.9])
def test_transmits(divisor, idle):
    simulation = StreamSimulation(Transmitter(divisor), divisor)
    data = bytes([0x00, 0xFF, *simulation.random.randbytes(12)])
    taken = simulation.source(simulation.dut.i, data, idle)
    levels = []
    simulation.each_cycle(lambda cycle, level: levels.append(level), simulation.dut.tx)

    async def testbench(context):
        while len(taken) < len(data):
            await context.tick()
        await context.tick().repeat(11 * divisor)

    simulation.run(testbench)
    expected = [level for level in line_levels(data) for _ in range(divisor)]
    if idle == 0:
        first = levels.index(0)
        assert levels[first : first + len(expected)] == expected
        assert set(levels[:first] + levels[first + len(expected) :]) == {1}
    assert receive(divisor, [(level, 1 / divisor) for level in levels]) == (data, 0)


def test_both_ways_at_once():
    simulation = StreamSimulation(Uart(5), 1)
    data = simulation.random.randbytes(20)
    simulation.source(simulation.dut.i, data)
    received = simulation.sink(simulation.dut.o)

    async def loop(context):
        async for _, _, level in context.tick().sample(simulation.dut.tx):
            context.set(simulation.dut.rx, level)

    simulation.simulator.add_process(loop)

    async def testbench(context):
        await context.tick().repeat(21 * 50 + 10)

    simulation.run(testbench)
    assert bytes(payload for _, payload in received) == data


@pytest.mark.parametrize(
    "hertz, baud, divisor",
    [(24e6, 3_000_000, 8), (80e6, 3_000_000, 27), (90e6, 3_000_000, 30), (12e6, 3_000_000, 4), (100e6, 115_200, 868)],
)
def test_divisor(hertz, baud, divisor):
    assert divisor_for(hertz, baud) == divisor


@pytest.mark.parametrize("hertz, baud", [(24e6, 7_000_000), (24e6, 5_000_000), (20e6, 3_000_000)])
def test_divisor_refuses(hertz, baud):
    with pytest.raises(ValueError, match="^baud must be the clock divided by an integer from 4 up, within 1.5%: "):
        divisor_for(hertz, baud)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("block", [Receiver, Transmitter, Uart])
@pytest.mark.parametrize("divisor", [3, 4.0, "8"])
def test_parameters_are_checked(block, divisor):
    with pytest.raises(ValueError, match="^divisor must be an integer from 4 up, not "):
        block(divisor)
    gc.collect()
