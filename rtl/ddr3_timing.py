"""Times of a DDR3 of 16 bits, in cycles of its clock, and how it is started."""

from dataclasses import dataclass
from math import ceil
from typing import Self

__all__ = ["BURST_CLOCKS", "PARTS", "ROWS_IN_WINDOW", "Ddr3Part", "Ddr3Timing"]

BURST_CLOCKS = 4
"""Cycles of the memory that a burst of eight words takes on the bus."""
ROWS_IN_WINDOW = 4
"""Rows that may be opened in the time ``faw``."""
_DLL_OFF = 125e6
"""Highest clock, in Hz, with the memory's DLL off. Data sheets promise nothing from there to 300 MHz."""
_FASTEST = 400e6
"""Highest clock, in Hz, for the latencies below."""
_SLOWEST = 40e6
"""Lowest clock, in Hz: below it, parts of bursts that wait with open rows would make a refresh late."""
_LATENCY, _WRITE_LATENCY, _WRITE_LATENCY_DLL_OFF = 6, 5, 6


@dataclass(frozen=True, kw_only=True)
class Ddr3Part:
    """Times of a DDR3 in ns, as data sheets name them. Those in cycles are the same for all parts.

    Parameters
    ----------
    rcd, rp, ras : float
        From activate to read or write, from precharge to activate, and from activate to precharge. The time ``rc`` from
        activate to activate of a bank is the sum of the last two.
    rrd, faw : float
        From activate to activate of another bank, and a window in which there are four at most.
    wr, wtr, rtp : float
        From the last written word to precharge, and to a read; from read to precharge.
    rfc : float
        From refresh to anything.
    refresh : float
        Between two refreshes.
    reset, wake : float
        How long the reset lasts, and from its end until the clock is enabled.
    megahertz : float
        Highest clock, of which no more than 400 are used here.
    """

    rcd: float = 15
    rp: float = 15
    ras: float = 37.5
    rrd: float = 10
    faw: float = 50
    wr: float = 15
    wtr: float = 7.5
    rtp: float = 7.5
    rfc: float = 350
    refresh: float = 7800
    reset: float = 200_000
    wake: float = 500_000
    megahertz: float = 800


PARTS = {
    "any": Ddr3Part(),
    "mt41k64m16-125": Ddr3Part(rcd=13.75, rp=13.75, ras=35, rrd=7.5, faw=40, rfc=110),
    "mt41k128m16-125": Ddr3Part(rcd=13.75, rp=13.75, ras=35, rrd=7.5, faw=40, rfc=160),
    "mt41k256m16-125": Ddr3Part(rcd=13.75, rp=13.75, ras=35, rrd=7.5, faw=40, rfc=260),
    "mt41k512m16-125": Ddr3Part(rcd=13.75, rp=13.75, ras=35, rrd=7.5, faw=40, rfc=350),
}
"""Parts that an OrangeCrab can carry, all of eight banks of rows of 1024 words; ``any`` has the longest times."""


@dataclass(frozen=True, kw_only=True)
class Ddr3Timing:
    """Times of a part in cycles of its clock.

    Parameters
    ----------
    rcd, rp, ras, rrd, faw, wr, wtr, rtp, rfc, refresh, reset, wake : int
        As for `Ddr3Part`.
    xpr : int
        From the clock's enable to the first command.
    mrd, mod : int
        From one mode register to the next one, and to any other command.
    zq : int
        For the calibration of the memory's drivers.
    dll : bool
        Whether the memory's DLL is on.
    levelled : bool
        Whether the delays of the PHY are found before the memory is ready; they must be right without.
    """

    rcd: int
    rp: int
    ras: int
    rrd: int
    faw: int
    wr: int
    wtr: int
    rtp: int
    rfc: int
    refresh: int
    reset: int
    wake: int
    xpr: int
    mrd: int = 4
    mod: int = 12
    zq: int = 512
    dll: bool = True
    levelled: bool = True

    @classmethod
    def of(cls, part: Ddr3Part, hertz: float) -> Self:
        """Return the times of a ``part`` at a clock of ``hertz``; the DLL is off up to 125 MHz.

        Raises `ValueError` below 40 and above 400 MHz.
        """
        if hertz < _SLOWEST:
            raise ValueError(f"the memory runs at {_SLOWEST / 1e6:g} MHz at least, not at {hertz / 1e6:g} MHz")
        if hertz > _FASTEST:
            raise ValueError(f"the memory runs at {_FASTEST / 1e6:g} MHz at most, not at {hertz / 1e6:g} MHz")

        def cycles(ns: float, least: int = 1) -> int:
            return max(ceil(ns * hertz / 1e9 - 1e-6), least)

        return cls(
            rcd=cycles(part.rcd),
            rp=cycles(part.rp),
            ras=cycles(part.ras),
            rrd=cycles(part.rrd, 4),
            faw=cycles(part.faw),
            wr=cycles(part.wr),
            wtr=cycles(part.wtr, 4),
            rtp=cycles(part.rtp, 4),
            rfc=cycles(part.rfc),
            refresh=int(part.refresh * hertz / 1e9),
            reset=cycles(part.reset),
            wake=cycles(part.wake),
            xpr=cycles(part.rfc + 10, 5),
            mod=cycles(15, 12),
            dll=hertz > _DLL_OFF,
        )

    @property
    def latency(self) -> int:
        """Cycles from a read to its first word. With the DLL off, words come a cycle before the CAS latency is over."""
        return _LATENCY if self.dll else _LATENCY - 1

    @property
    def write_latency(self) -> int:
        """Cycles from a write to its first word."""
        return _WRITE_LATENCY if self.dll else _WRITE_LATENCY_DLL_OFF

    @property
    def written(self) -> int:
        """Cycles from a write to the end of its burst."""
        return self.write_latency + BURST_CLOCKS

    @property
    def read_to_write(self) -> int:
        """Cycles from a read to a write, with two in which nobody drives the bus, and two for the strobes' ends."""
        return max(self.latency + BURST_CLOCKS + 4 - self.write_latency, BURST_CLOCKS)

    @property
    def read_phase(self) -> int:
        """Which of the two cycles of the memory in one of the core takes reads: 0 or 1.

        Every other command is given in the other one. The first word of a burst, read or written, so comes at the same
        time after the beginning of the core's cycle, whether the DLL is on or off.
        """
        return self.latency % 2

    @property
    def modes(self) -> tuple[tuple[int, int], ...]:
        """Mode registers in the order in which they are written: number and content of each.

        Bursts of eight words in order; drivers of 34 ohms; no termination but that of writes, of 60 ohms, which there
        is not with the DLL off.
        """
        write_latency = self.write_latency - 5 << 3
        termination = 1 << 9 if self.dll else 0
        return (
            (2, termination | write_latency),
            (3, 0),
            (1, 1 << 1 | (not self.dll)),
            # Bits 9 to 11 say for how long a bank that closes on its own is written, which no command asks for.
            (0, 1 << 9 | self.dll << 8 | _LATENCY - 4 << 4),
        )

    def apart(self, clocks: int, first: int, then: int) -> int:
        """Cycles of the core from a command in its half ``first`` to one in ``then``, ``clocks`` of the memory or more.

        Returns 1 or more.
        """
        return max(-(-(clocks + first - then) // 2), 1)
