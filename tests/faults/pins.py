"""What the cables of both links have in common: a compiled program that drives pins, and faults on its wires."""

import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from egret.sim.virtual import Build

__all__ = ["FOREVER", "INVERT", "NOISE", "RESET", "Cable", "Lost", "Port", "build_of", "numbers"]

INVERT, NOISE, RESET = 4, 5, 6
"""Kinds of faults beside levels (`faults.h`)."""
FOREVER = (1 << 32) - 1
"""Cycles of a fault that lasts until it is cleared."""

_HERE = Path(__file__).parent


class Lost(OSError):
    """The serial port has gone."""


def numbers(*values: int) -> bytes:
    """Numbers as the programs read them."""
    return b"".join(value.to_bytes(4, "little") for value in values)


def build_of(build: Build, main: str) -> Build:
    """The same design under another program: a file of this directory, and `faults.h`."""
    sources = _HERE / main, _HERE / "faults.h"
    return replace(build, sources=sources, parameters=f"{build.parameters} {[path.read_text() for path in sources]}")


class Port:
    """What a cable's ``open`` returns has of `serial.Serial`, but for reading and writing."""

    timeout, baudrate = 0.05, 3_000_000

    def __init__(self, cable):
        self._cable, self._received = cable, b""

    @property
    def in_waiting(self):
        return len(self._received)

    def reset_input_buffer(self):
        self._received = b""

    def close(self):
        pass

    def _taken(self, size):
        """Up to so many bytes of what has been received."""
        data, self._received = self._received[:size], self._received[size:]
        return data


class Cable:
    """A running program, and what has happened on its wires. A context manager.

    Parameters
    ----------
    build : Build
    random : random.Random
        Decides on all faults.
    rate : float
        How often they are, 1 being usual.

    Attributes
    ----------
    now : float
        Seconds by the line's own clock, which stands still while nothing happens on it.
    frames : int
        That the host has sent.
    faults : Counter
        By kind.
    was_reset, was_lost, is_silent : bool
        Since the port was opened: the board was reset; the port went; a wire broke for good.
    """

    def __init__(self, build, random, rate):
        self.random, self.rate = random, rate
        self.now, self.frames, self.faults = 0.0, 0, Counter()
        self.was_reset = self.was_lost = self.is_silent = False
        self._process = subprocess.Popen([build.program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._input, self._output = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def happens(self, probability):
        """Whether something does that has this probability at the usual rate."""
        return self.random.random() < probability * self.rate

    def fault(self, kind, event, start, length, wire=0):
        """Put a fault on a wire, in cycles after an event (`faults.h`)."""
        seed = self.random.getrandbits(32)
        self.send(b"f" + bytes([wire, kind, event]) + numbers(start, length, seed))

    def send(self, data):
        """Give the program ``data``."""
        self._input.write(data)

    def take(self, size):
        """Bytes of the program's answer."""
        data = self._output.read(size)
        assert len(data) == size, f"the simulation ended with status {self._process.wait()}"
        return data

    def number(self):
        """A number of the program's answer."""
        return int.from_bytes(self.take(4), "little")

    def flush(self):
        """Let the program see what it was given."""
        self._input.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._input.close()
        self._output.close()
        self._process.wait()
