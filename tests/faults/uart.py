"""A UART's two wires: turned bits, glitches, noise, breaks, a line that breaks off, and a host whose clock is off."""

from functools import cache

from egret.sim.virtual import Build, stand_in_build
from tests.faults.pins import FOREVER, INVERT, NOISE, RESET, Cable, Lost, Port, build_of, numbers

__all__ = ["UartCable", "uart_build"]

BIT_CYCLES = 8
"""Of the board's clock."""
DRIFT = 0.02
"""By how much the host's rate may be off."""
_HERTZ = 24e6
_BYTE = 10 * BIT_CYCLES
_ANSWER = 40 * _BYTE  # cycles of a usual answer


@cache
def uart_build() -> Build:
    """The stand-in core behind the link and a UART, and the other end of its wires."""
    return build_of(stand_in_build(readout=True, bit_cycles=BIT_CYCLES), "uart_pins.cpp")


class UartCable(Cable):
    """As `Cable`; what `open` returns has the members of `serial.Serial` that the host uses."""

    KINDS = ("bit", "glitch", "noise", "break", "cut", "reset", "unplug", "silence")

    def __init__(self, random, rate=1.0):
        super().__init__(uart_build(), random, rate)

    def open(self):
        """Plug it in, with a clock of the host that is off by up to `DRIFT`."""
        drift = self.random.choice([0, -DRIFT, DRIFT, self.random.uniform(-DRIFT, DRIFT)]) if self.rate else DRIFT
        self.send(b"cd" + numbers(round(256 * BIT_CYCLES * (1 + drift))))
        self.was_reset = self.was_lost = self.is_silent = False
        return _Port(self)

    def damage(self, size):
        """What befalls a write of ``size`` bytes or its answer."""
        random = self.random
        if self.happens(0.02):
            kind = random.choice(("bit", "glitch", "noise", "break", "cut"))
            wire = random.randrange(2)
            start = random.randrange(_ANSWER if wire else size * _BYTE)
            level, length = {
                "bit": (INVERT, BIT_CYCLES),
                "glitch": (INVERT, random.randint(1, BIT_CYCLES // 2)),
                "noise": (NOISE, random.randint(BIT_CYCLES, 40 * _BYTE)),
                "break": (0, random.randint(_BYTE, 20 * _BYTE)),
                "cut": (1, random.randint(BIT_CYCLES // 2, 40 * _BYTE)),
            }[kind]
            # One in four begins at any time, on a line that may be at rest.
            self.fault(level, random.choice([0, 1 + wire, 1 + wire, 1 + wire]), start, length, wire)
            self.faults[kind] += 1
        if self.happens(0.002):
            self.fault(RESET, random.randrange(3), random.randrange(2 * _ANSWER), 1)
        if self.happens(0.0005):
            # For the host the port has gone; the board's pin is low, high or takes up noise.
            self.was_lost = True
            self.fault(random.choice([0, 1, NOISE]), 0, random.randrange(size * _BYTE), 20 * _BYTE)
            self.faults["unplug"] += 1
        if self.happens(0.0003):
            wire = random.randrange(2)
            self.fault(random.randrange(2), 1 + wire, random.randrange(20 * _BYTE), FOREVER, wire)
            self.is_silent = True
            self.faults["silence"] += 1

    def run(self, seconds):
        """What comes until a frame has ended, nothing is left to do, or the time is up."""
        self.send(b"g" + numbers(round(seconds * _HERTZ)))
        self.flush()
        self.now += self.number() / _HERTZ
        idle, was_reset = self.take(2)
        if was_reset:
            self.was_reset = True
            self.faults["reset"] += 1
        data = self.take(self.number())
        if idle and not data:
            self.now += seconds
        return data


class _Port(Port):
    def __init__(self, cable):
        super().__init__(cable)
        self._gone = False

    def write(self, data):
        cable = self._cable
        if self._gone:
            raise Lost("the adapter has gone")
        cable.frames += 1
        cable.damage(max(1, len(data)))
        cable.send(b"b" + numbers(len(data)) + data)
        # What this write still brought is read by nobody.
        self._gone = cable.was_lost

    def read(self, size):
        if not self._received:
            self._received = self._cable.run(self.timeout)
        if self._gone:
            raise Lost("the adapter has gone")
        return self._taken(size)
