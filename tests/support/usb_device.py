"""Designs with `egret.rtl.usb.UsbSerial`, compiled, and `UsbHost` at their lines: also as a serial port."""

import math
import subprocess
from collections import deque
from fractions import Fraction
from pathlib import Path

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from egret.rtl.export import to_verilog
from egret.rtl.usb import UsbSerial
from egret.rtl.usb_phy import BITS
from egret.sim.verilate import compile_program
from tests.support.usb_host import IDLE, PATIENCE

__all__ = ["Device", "Port", "simulate"]

_MAIN = Path(__file__).parent / "usb_pins.cpp"


class Bench(wiring.Component):
    """A component with the ports ``i`` and ``o`` of bytes, behind a `UsbSerial`.

    Parameters
    ----------
    inner : wiring.Component or None
        None connects what comes to what goes.
    """

    def __init__(self, inner):
        self.inner = inner
        # D+ in bit 0 of a level, D- in bit 1.
        lines = {"line": In(2), "driven": Out(2), "drives": Out(1), "pullup": Out(1)}
        super().__init__({**lines, "clk": In(1), "usb_clk": In(1), "usb_io_clk": In(1)})

    def elaborate(self, platform):
        m = Module()
        for name, clock in (("sync", self.clk), ("usb", self.usb_clk), (BITS, self.usb_io_clk)):
            m.domains += ClockDomain(name, reset_less=True)
            m.d.comb += ClockSignal(name).eq(clock)
        m.submodules.usb = usb = UsbSerial("test")
        m.d.comb += [
            Cat(usb.d_p.i, usb.d_n.i).eq(self.line),
            self.driven.eq(Cat(usb.d_p.o, usb.d_n.o)),
            self.drives.eq(usb.d_p.oe | usb.d_n.oe),
            self.pullup.eq(usb.pullup),
        ]
        if self.inner is None:
            wiring.connect(m, usb.o, usb.i)
        else:
            m.submodules.inner = self.inner
            wiring.connect(m, usb.o, self.inner.i)
            wiring.connect(m, self.inner.o, usb.i)
        return m


def simulate(transfers):
    """Run a generator of `UsbHost` on a `UsbSerial` that returns what it gets, in Amaranth's simulator, which needs no
    compiling and is slow: some 4,000 cycles of 48 MHz a second. Returns what the generator returns."""
    m = Module()
    m.submodules.usb = usb = UsbSerial("test")
    wiring.connect(m, usb.o, usb.i)
    simulator = Simulator(m)
    for name, hertz in (("sync", 48e6), (BITS, 48e6), ("usb", 12e6)):
        simulator.add_clock(1 / hertz, domain=name, phase=0)
    result = []

    async def testbench(context):
        async def cycle(level):
            driven = IDLE
            if context.get(usb.d_p.oe):
                assert level == IDLE, "both sides drive a line"
                level = driven = context.get(usb.d_p.o) | context.get(usb.d_n.o) << 1
            elif level == IDLE:
                level = context.get(usb.pullup)
            context.set(usb.d_p.i, level & 1)
            context.set(usb.d_n.i, level >> 1)
            await context.tick(BITS)
            return driven

        runs = None
        while True:
            try:
                levels, listen = transfers.send(runs)
            except StopIteration as end:
                result.append(end.value)
                return
            for level in levels:
                await cycle(level)
            runs, drove = [], False
            while listen:
                driven = await cycle(IDLE)
                if driven == IDLE and drove:
                    break
                drove |= driven != IDLE
                runs = (
                    [*runs[:-1], (driven, runs[-1][1] + 1)] if runs and runs[-1][0] == driven else [*runs, (driven, 1)]
                )
                if not drove and runs[0][1] > PATIENCE:
                    runs = []
                    break

    simulator.add_testbench(testbench)
    simulator.run()
    return result[0]


class Device:
    """A compiled `Bench` that runs. A context manager.

    Parameters
    ----------
    inner : wiring.Component or None
        As for `Bench`.
    directory : Path
        To compile in.
    hertz : float
        Of the clock ``sync``.
    """

    def __init__(self, inner, directory, hertz=84e6):
        (directory / "top.v").write_text(to_verilog(Bench(inner), "top"))
        # Half periods of the clock ``sync``, and of that of `BITS`.
        sync, bits = Fraction(48_000_000, round(hertz)).as_integer_ratio()
        program = compile_program(
            directory,
            ["top.v"],
            _MAIN,
            prefix="Vboard",
            defines=[f"SYNC={sync}", f"BITS_={bits}", f"PATIENCE={PATIENCE}"],
        )
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, transfers):
        """Run a generator of `UsbHost` to its end; returns what it returns."""
        runs = None
        while True:
            try:
                levels, listen = transfers.send(runs)
            except StopIteration as end:
                return end.value
            self._process.stdin.write(bytes([listen]) + len(levels).to_bytes(4, "little") + bytes(levels))
            self._process.stdin.flush()
            count = int.from_bytes(self._take(4), "little")
            answer = self._take(5 * count)
            runs = [(answer[at], int.from_bytes(answer[at + 1 : at + 5], "little")) for at in range(0, 5 * count, 5)]

    def _take(self, size):
        data = self._process.stdout.read(size)
        assert len(data) == size, f"the simulation ended with status {self._process.wait()}"
        return data

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Port:
    """A serial port, with the members of `serial.Serial` that the host uses, on a `Device` that has been enumerated.

    Its time is that of the bus: `read` waits for so many transactions rather than seconds.

    Parameters
    ----------
    device : Device
    host : UsbHost
    delay : float
        Seconds of the bus from a packet of the device to the program that reads it.
    patience : int
        Transactions without a byte after which `read` gives up.
    """

    baudrate = 3_000_000
    timeout = math.inf

    def __init__(self, device, host, delay=0.0, patience=4000):
        self._device, self._host, self._patience = device, host, patience
        self._delay = delay * 12e6  # in bits
        self._out, self._in, self._coming = bytearray(), bytearray(), deque()

    def write(self, data):
        self._out += data
        self._pump()
        return len(data)

    def _pump(self):
        """One packet each way."""
        if self._out and self._device.run(self._host.out(4, bytes(self._out[:64]))):
            del self._out[:64]
        if received := self._device.run(self._host.inward(4)):
            self._coming.append((self._host.bits + self._delay, received))
        while self._coming and self._coming[0][0] <= self._host.bits:
            self._in += self._coming.popleft()[1]

    @property
    def in_waiting(self):
        return len(self._in)

    def read(self, size=1):
        for _ in range(self._patience):
            if self._in:
                break
            self._pump()
        data = bytes(self._in[:size])
        del self._in[:size]
        return data

    def reset_input_buffer(self):
        self._in.clear()

    def close(self):
        pass
