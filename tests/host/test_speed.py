"""Tokens a second as computed, against the link in hardware behind its UART, cycle by cycle, with the client."""

import dataclasses
from collections import deque

import numpy as np
import pytest
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from egret.host.board import Board
from egret.host.speed import BITS, USB_SECONDS, Speed, line_share
from egret.rtl.uart import Uart, line_levels
from egret.sim.stand_in import DIGEST, StandInBoard
from tests.host.faults import ModelTransport
from tests.host.test_board import expected_events, memories, model_of

HERTZ = 1e6
DIVISOR = 4
STAND_IN_CYCLES = 60  # about


class Pins(wiring.Component):
    """The stand-in board behind its UART."""

    def __init__(self, window):
        self._window = window
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart = uart = Uart(DIVISOR)
        m.submodules.board = board = StandInBoard(window=self._window)
        wiring.connect(m, uart.o, board.i)
        wiring.connect(m, board.o, uart.i)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx)]
        return m


class SimulatedPort:
    """What `Board` needs of a serial port, at the pins of a simulation. Time passes only while the host reads.

    Parameters
    ----------
    window : int
    delay : int
        Cycles that what the host writes is on its way before it reaches the line.
    """

    timeout = 60.0
    baudrate = 1_000_000

    def __init__(self, window, delay=0):
        self.cycle = 0
        self._delay = delay
        self._levels = deque()  # (first cycle that it may be sent in, level), a bit each
        self._received = deque()
        self._dut = Pins(window)
        self._simulator = Simulator(self._dut)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._wires, background=True)

    async def _wires(self, ctx):
        bits, wait = [], 0
        while True:
            if self.cycle % DIVISOR == 0:
                due = self._levels and self._levels[0][0] <= self.cycle
                ctx.set(self._dut.rx, self._levels.popleft()[1] if due else 1)
            level = ctx.get(self._dut.tx)
            if bits or not level:  # from a start bit on, sampled in the middle
                wait += 1
                if wait % DIVISOR == DIVISOR // 2:
                    bits.append(level)
                if len(bits) == BITS:
                    assert bits[0] == 0 and bits[-1] == 1
                    self._received.append(sum(bit << place for place, bit in enumerate(bits[1:-1])))
                    bits, wait = [], 0
            await ctx.tick()
            self.cycle += 1

    @property
    def in_waiting(self):
        return len(self._received)

    def reset_input_buffer(self):
        pass

    def write(self, data):
        self._levels.extend((self.cycle + self._delay, level) for level in line_levels(data))

    def read(self, size):
        while not self._received:
            self._simulator.advance()
        return bytes(self._received.popleft() for _ in range(min(size, len(self._received))))

    def close(self):
        pass


def run(port, board, model, steps, first):
    """Steps of random tokens: cycles, bytes sent and received, each a step, from the answer number ``first`` on."""
    tokens = np.random.default_rng(1).integers(0, 300, first + steps).tolist()
    marks = []
    results = board.step_many(tokens) if first else map(board.step, tokens)
    if not first:
        marks.append((port.cycle, board.bytes_sent, board.bytes_received))
    for token, events in zip(tokens, results, strict=True):
        np.testing.assert_array_equal(events, expected_events(model, token))
        marks.append((port.cycle, board.bytes_sent, board.bytes_received))
    assert len(marks) == len(tokens) + (not first) and board.repeats == 0
    begin = marks[first - 1] if first else marks[0]
    return ((end - start) / steps for start, end in zip(begin, marks[-1], strict=True))


@pytest.mark.parametrize(
    ("window", "delay", "limit"),
    [(2, 0, "link"), (2, 2000, "window"), pytest.param(8, 2000, "link", marks=pytest.mark.slow)],
)
def test_speed_is_that_of_the_hardware(window, delay, limit):
    """Streaming, once it has begun, and generation: computed within 3 % of what the simulated pins do."""
    port, model = SimulatedPort(window, delay), model_of(memories())
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories())
        board.clear()
        assert board.identity.window == window
        cycles, sent, received = run(port, board, model, steps=10, first=4)
        speed = Speed(HERTZ, DIVISOR, window, board.identity.receive_bytes, STAND_IN_CYCLES, 15, received)
        assert speed.streamed(delay / HERTZ) == pytest.approx(HERTZ / cycles, rel=0.03)
        assert speed.limit(delay / HERTZ) == limit
        busy = received * BITS * DIVISOR / cycles
        assert speed.link_busy(delay / HERTZ) == pytest.approx(busy, rel=0.03)
        assert (busy > 0.95) == (limit == "link")
        if not delay:
            cycles, sent, received = run(port, board, model, steps=10, first=0)
            speed = Speed(HERTZ, DIVISOR, window, board.identity.receive_bytes, STAND_IN_CYCLES, sent, received)
            assert speed.generated() == pytest.approx(HERTZ / cycles, rel=0.03)


def test_limits():
    """The slowest part decides; the queue of the board shortens the window where it holds fewer commands."""
    speed = Speed(80e6, 27, 2, 64, 2031, 15, 71.6)
    assert speed.limit() == "link" and speed.link_busy() == 1
    assert speed.streamed() == pytest.approx(80e6 / (71.6 * 270))
    assert speed.generated() == pytest.approx(80e6 / (86.6 * 270 + 2031))
    assert speed.limit(USB_SECONDS) == "window" and speed.link_busy(USB_SECONDS) == pytest.approx(0.366, abs=0.001)
    core = Speed(24e6, 8, 2, 64, 15_177, 15, 71.8)
    assert core.limit() == "core" and core.streamed() == pytest.approx(24e6 / 15_177)
    assert core.link_busy() == pytest.approx(71.8 * 80 / 15_177)
    assert Speed(80e6, 27, 8, 64, 2031, 15, 71.6).streamed(1) == pytest.approx(5, rel=0.01)
    assert Speed(80e6, 27, 8, 256, 2031, 15, 71.6).streamed(1) == pytest.approx(8, rel=0.01)
    summary = speed.summary()
    assert summary["baud"] == 2_962_963 and set(summary["usb"]) == set(summary["at_once"])
    assert any("link busy 37%" in value for _, value in speed.rows())


def test_a_line_for_both_directions():
    """Over USB they add up, and generation is as long as over a UART of that rate."""
    uart, usb = (Speed(80e6, 8, 8, 1024, 2031, 15, 71.6, shared=shared) for shared in (False, True))
    assert uart.streamed() == pytest.approx(80e6 / (71.6 * 80))
    assert usb.streamed() == pytest.approx(80e6 / (86.6 * 80)) and usb.limit() == "link"
    assert usb.generated() == uart.generated()
    assert usb.summary()["baud"] is None and usb.summary()["line_bytes_per_second"] == 1_000_000


def test_share_of_a_real_line():
    class Traffic:
        bytes_sent, bytes_received, seconds = 10, 300, 0.002

    assert line_share(Traffic, 3_000_000) == pytest.approx(0.5)
    assert line_share(Traffic, None) == pytest.approx(310 / 1_216_000 / 0.002)


def test_a_board_that_draws_the_words():
    """Sixteen words a command: the core sets the pace, until the host is slower or the line is."""
    speed = Speed(25e6, 25, 2, 64, cycles=40_000, sent=1.0, received=2.8, batch=16, draws=True)
    assert speed.generated(1e-3) == pytest.approx(25e6 / 40_000)
    whole = speed.end_to_end(1e-4)
    assert whole["tokens_per_second"] == pytest.approx(625) and whole["link_bytes_per_token"] == pytest.approx(3.8)
    assert speed.end_to_end(4e-3)["tokens_per_second"] == pytest.approx(250)
    assert dataclasses.replace(speed, cycles=100).generated() == pytest.approx(25e6 / (2.8 * BITS * 25))  # the line
    even = dataclasses.replace(speed, cycles=100, sent=1.9, received=1.9)
    assert even.generated() == pytest.approx(2 * 25e6 / (3.8 * BITS * 25 + 100))  # two commands under way
    alone = dataclasses.replace(speed, batch=1, draws=False)
    assert 1 / alone.end_to_end(4e-3)["tokens_per_second"] == pytest.approx(1 / alone.generated(1e-3) + 4e-3)
