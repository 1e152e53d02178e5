"""Clock of the core from a board's oscillator, through the PLL of the FPGA."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import *
from amaranth.lib import io

__all__ = [
    "PLLS",
    "Ecp5Ddr3Pll",
    "Ecp5Pll",
    "Ice40Pll",
    "PllSettings",
    "ddr3_settings",
    "ecp5_settings",
    "ice40_settings",
]

RESET_CYCLES = 1024
"""How long the reset stays after the PLL has locked; the block RAMs of an iCE40 read as zeros for 3 us."""
TOLERANCE = 0.002
START_HERTZ = 24e6
"""Of what starts the PHY of a DDR3."""
DDR3_RESET_CYCLES = 1 << 16
"""The same with a DDR3, whose PHY sets up its clocks in the meantime."""


@dataclass(frozen=True)
class PllSettings:
    """What a PLL is set to.

    Attributes
    ----------
    reference, feedback, output : int
        Dividers, as its cell takes them.
    hertz : float
        The clock that comes out.
    ratio : int
        Clock of a memory, over that one. An ECP5 alone has another than 1.
    fed_back : int or None
        Divider of an output of its own that is fed back; None where the clock itself is. An ECP5 alone has one.
    """

    reference: int
    feedback: int
    output: int
    hertz: float
    ratio: int = 1
    fed_back: int | None = None


def _nearest(reference: float, hertz: float, candidates: Iterable[PllSettings]) -> PllSettings:
    """The settings whose clock is nearest to the one that is wanted."""
    best = min(candidates, key=lambda settings: (abs(settings.hertz - hertz), settings.reference), default=None)
    if best is None or abs(best.hertz / hertz - 1) > TOLERANCE:
        found = "" if best is None else f", the nearest is {best.hertz / 1e6:g} MHz"
        raise ValueError(
            f"hertz must be a clock that the PLL makes of {reference / 1e6:g} MHz, not {hertz / 1e6:g} MHz{found}"
        )
    return best


def ecp5_settings(reference: float, hertz: float, ratio: int = 1) -> PllSettings:
    """Dividers of an EHXPLLL with the output fed back: output = reference * feedback / reference divider.

    The oscillator inside runs at ``output`` times that, 400 to 800 MHz, and compares at 3.125 MHz at least. Where that
    makes no such clock, another output is fed back, if that makes it exactly: 12 MHz of 25 MHz are one.

    ``reference`` is the clock that comes in, ``hertz`` the one that is wanted; the memory's is ``ratio`` times that.
    Raises `ValueError` where there is none.
    """
    candidates, apart = [], []
    outputs, dividers = range(ratio, 129, ratio), range(1, 1 + int(reference // 3.125e6))
    for divider in dividers:
        for feedback in range(1, 81):
            clock = reference * feedback / divider
            # In the middle of the range, where the oscillator is steadiest.
            output = min(outputs, key=lambda output: abs(clock * output - 600e6))
            if 400e6 <= clock * output <= 800e6:
                candidates.append(PllSettings(divider, feedback, output, clock, ratio))
        for output in outputs:
            fed_back, rest = divmod(hertz * output * divider, reference)
            if 400e6 <= hertz * output <= 800e6 and rest == 0 and fed_back <= 128:
                apart.append(PllSettings(divider, 1, output, hertz, ratio, int(fed_back)))
    try:
        return _nearest(reference, hertz, candidates)
    except ValueError:
        if not apart:
            raise
        return min(apart, key=lambda settings: (settings.reference, abs(settings.hertz * settings.output - 600e6)))


def ddr3_settings(reference: float, hertz: float) -> PllSettings:
    """Dividers of an EHXPLLL for a DDR3, where the output that is fed back is that of `START_HERTZ`.

    The oscillator runs at ``feedback`` times that, 400 to 800 MHz. ``reference`` is the clock that comes in, ``hertz``
    the one that is wanted for the core. Raises `ValueError` where there is none.
    """
    candidates = []
    if (divider := round(reference / START_HERTZ)) >= 1 and divider * START_HERTZ == reference:
        for feedback in range(1, 129):
            if 400e6 <= feedback * START_HERTZ <= 800e6:
                candidates += [
                    PllSettings(divider, feedback, output, feedback * START_HERTZ / output, 2)
                    for output in range(2, 129, 2)
                ]
    return _nearest(reference, hertz, candidates)


def ice40_settings(reference: float, hertz: float, ratio: int = 1) -> PllSettings:
    """Dividers of an SB_PLL40 with simple feedback, as its cell takes them: less one, the last one a power of two.

    ``reference`` is the clock that comes in, ``hertz`` the one that is wanted. Raises `ValueError` where there is none,
    or a ``ratio`` is wanted that is not 1.
    """
    if ratio != 1:
        raise ValueError("its PLL has no clock for a memory")
    candidates = []
    for divider in range(16):
        compared = reference / (divider + 1)
        if not 10e6 <= compared <= 133e6:
            continue
        for feedback in range(64):
            oscillator = compared * (feedback + 1)
            if 533e6 <= oscillator <= 1066e6:
                candidates += [PllSettings(divider, feedback, output, oscillator / 2**output) for output in range(1, 7)]
    return _nearest(reference, hertz, candidates)


class _Pll(Elaboratable):
    """A clock from that of a pin, and a reset until the PLL has locked and a while longer.

    Parameters
    ----------
    settings : PllSettings
        For the platform's default clock.

    Attributes
    ----------
    clock, reset : Signal
        For a domain.
    locked : Signal
        Whether the clock is steady.
    """

    _reset_cycles = RESET_CYCLES

    def __init__(self, settings: PllSettings):
        self._settings = settings
        self.clock = Signal(name="core_clock")
        self.reset = Signal(init=1)
        self.locked = Signal()
        self._source: Signal | None = None

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        locked = self.locked
        pin = None if self._source is not None else platform.request(platform.default_clk, dir="-")
        m.submodules.pll = self._instance(m, pin, self.clock, locked)
        # nextpnr knows the clock from that of the pin. The counter that ends the reset is itself held by the lock.
        m.domains.start = ClockDomain(async_reset=True, local=True)
        left = Signal(range(self._reset_cycles + 1), init=self._reset_cycles)
        with m.If(left != 0):
            m.d.start += left.eq(left - 1)
        m.d.start += self.reset.eq(left != 0)
        m.d.comb += [ClockSignal("start").eq(self.clock), ResetSignal("start").eq(~locked)]
        return m

    def _instance(self, m: Module, pin: Any, clock: Signal, locked: Signal) -> Instance:
        raise NotImplementedError


def _output(name: str, clock: Signal, divider: int, phase: int | None = None, eighths: int = 0) -> dict[str, Any]:
    """What an `EHXPLLL` is given for an output. Its ``phase`` is in cycles of the oscillator, plus ``eighths``."""
    return {
        f"p_{name}_ENABLE": "ENABLED",
        f"p_{name}_DIV": divider,
        f"p_{name}_CPHASE": divider // 2 if phase is None else phase,
        f"p_{name}_FPHASE": eighths,
        f"o_{name}": clock,
    }


class Ecp5Pll(_Pll):
    """The PLL of an ECP5, `EHXPLLL`, which can have two clocks for a memory besides.

    Parameters
    ----------
    settings : PllSettings
        For the platform's default clock.
    late : float, optional
        Seconds from an edge of the memory's clock to that of the one for its pin, less than a cycle. Without it there
        are no clocks for a memory.
    source : Signal, optional
        The default clock, where another PLL has its pin: `oscillator` of that one.

    Attributes
    ----------
    memory_clock, memory_pin_clock : Signal
        For domains.
    oscillator : Signal
        The default clock.
    """

    def __init__(self, settings: PllSettings, late: float | None = None, source: Signal | None = None):
        super().__init__(settings)
        self._late, self._source = late, source
        self.memory_clock, self.memory_pin_clock, self._fed_back = Signal(), Signal(), Signal()
        self.oscillator = Signal() if source is None else source

    def _instance(self, m: Module, pin: Any, clock: Signal, locked: Signal) -> Instance:
        s = self._settings
        if pin is not None:
            m.submodules.pin = buffer = io.Buffer(io.Direction.Input, pin)
            m.d.comb += self.oscillator.eq(buffer.i)
        path, feedback, fed_back = self._feedback(clock)
        return Instance(
            "EHXPLLL",
            p_CLKI_DIV=s.reference,
            p_CLKFB_DIV=fed_back,
            p_CLKOP_DIV=s.output,
            p_CLKOP_CPHASE=s.output // 2,
            p_CLKOP_FPHASE=0,
            p_CLKOP_ENABLE="ENABLED",
            **self._outputs(),
            p_FEEDBK_PATH=path,
            **dict.fromkeys(("p_PLLRST_ENA", "p_INTFB_WAKE", "p_STDBY_ENABLE", "p_DPHASE_SOURCE"), "DISABLED"),
            **{f"p_OUTDIVIDER_MUX{output}": f"DIV{output}" for output in "ABCD"},
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            i_CLKI=self.oscillator,
            i_CLKFB=feedback,
            **dict.fromkeys(("i_RST", "i_STDBY", "i_PHASESEL0", "i_PHASESEL1", "i_PLLWAKESYNC", "i_ENCLKOP"), 0),
            **dict.fromkeys(("i_PHASEDIR", "i_PHASESTEP", "i_PHASELOADREG"), 1),
            o_CLKOP=clock,
            o_LOCK=locked,
        )

    def _feedback(self, clock: Signal) -> tuple[str, Signal, int]:
        """Which output is fed back: its name, its signal, and by what it is divided."""
        if self._settings.fed_back is None:
            return "CLKOP", clock, self._settings.feedback
        return "CLKOS3", self._fed_back, self._settings.feedback

    def _outputs(self) -> dict[str, Any]:
        """The memory's clocks. A phase is in cycles of the oscillator, and eighths of one."""
        s = self._settings
        result = {}
        if s.fed_back is not None:
            result |= _output("CLKOS3", self._fed_back, s.fed_back)
        if self._late is None:
            return result
        eighths = round(8 * self._late * s.hertz * s.output)
        for output, clock, late in (("CLKOS", self.memory_clock, 0), ("CLKOS2", self.memory_pin_clock, eighths)):
            result |= _output(output, clock, s.output // s.ratio, s.output // 2 + late // 8, late % 8)
        return result


class Ecp5Ddr3Pll(Ecp5Pll):
    """The PLL of an ECP5 with the clocks of a DDR3's PHY.

    Its ``clock`` is as fast as the core's, which the PHY makes of ``edge_clock``.

    Parameters
    ----------
    settings : PllSettings
        Those of `ddr3_settings`.

    Attributes
    ----------
    edge_clock, start_clock : Signal
        That of the memory, and the one that starts the PHY.
    """

    _reset_cycles = DDR3_RESET_CYCLES

    def __init__(self, settings: PllSettings):
        super().__init__(settings)
        self.edge_clock, self.start_clock = Signal(), Signal()

    def _feedback(self, clock: Signal) -> tuple[str, Signal, int]:
        return "CLKOS3", self.start_clock, 1

    def _outputs(self) -> dict[str, Any]:
        s = self._settings
        edge = _output("CLKOS", self.edge_clock, s.output // s.ratio)
        return edge | _output("CLKOS3", self.start_clock, s.feedback)


class Ice40Pll(_Pll):
    """The PLL of an iCE40, `SB_PLL40_PAD`, whose pin must go nowhere else."""

    def _instance(self, m: Module, pin: Any, clock: Signal, locked: Signal) -> Instance:
        s = self._settings
        compared = s.hertz * 2**s.output / (s.feedback + 1)
        # The loop's filter, by the frequency that is compared, as icepll has it.
        filter_range = next(
            index for index, limit in enumerate((17e6, 26e6, 44e6, 66e6, 101e6, 134e6), 1) if compared < limit
        )
        return Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(s.reference, 4),
            p_DIVF=Const(s.feedback, 7),
            p_DIVQ=Const(s.output, 3),
            p_FILTER_RANGE=Const(filter_range, 3),
            i_PACKAGEPIN=pin.io,
            i_RESETB=1,
            i_BYPASS=0,
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )


PLLS: dict[str, tuple[Callable[[float, float, int], PllSettings], type[_Pll]]] = {
    "ecp5": (ecp5_settings, Ecp5Pll),
    "ice40": (ice40_settings, Ice40Pll),
}
"""Settings and PLL of each family."""
