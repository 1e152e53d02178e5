"""The memory outside of a core: an SDRAM or a DDR3, as the configuration's ``memory_ratio`` says."""

from amaranth.lib import wiring

from egret.model.compiler.configuration import DDR3_RATIO
from egret.rtl import sdram
from egret.rtl.ddr3 import Ddr3, dfi_pins
from egret.rtl.ddr3_levelling import LevelledDdr3
from egret.rtl.ddr3_timing import PARTS, Ddr3Timing
from egret.rtl.sdram import WORD_BITS, Sdram, Timing, default_timing, sdram_pins

__all__ = ["DDR3_HERTZ", "OuterTiming", "outer_memory", "outer_pins", "outer_timing", "rated_bytes_per_second"]

OuterTiming = Timing | Ddr3Timing
DDR3_HERTZ = 150e6
"""Clock of a DDR3 where no other is named; that of the core is half of it."""


def outer_timing(ratio: int = 1) -> OuterTiming:
    """Times for a core of some ``ratio`` that is told nothing else: of the slowest part, a DDR3 at `DDR3_HERTZ`."""
    return Ddr3Timing.of(PARTS["any"], DDR3_HERTZ) if ratio == DDR3_RATIO else default_timing(ratio)


def outer_pins(ratio: int = 1) -> wiring.Signature:
    """What leaves the core: `egret.rtl.sdram.sdram_pins` of the ``ratio``, or of a DDR3 `egret.rtl.ddr3.dfi_pins`."""
    return dfi_pins() if ratio == DDR3_RATIO else sdram_pins(ratio)


def outer_memory(timing: OuterTiming, ratio: int = 1) -> Sdram | Ddr3 | LevelledDdr3:
    """The controller of a memory with a ``timing`` that brings ``ratio`` words in a cycle of the core."""
    if isinstance(timing, Ddr3Timing):
        assert ratio == DDR3_RATIO
        return LevelledDdr3(timing) if timing.levelled else Ddr3(timing)
    return Sdram(timing, ratio)


def rated_bytes_per_second(part: str, ratio: int = 1) -> float:
    """What a ``part`` brings at its own highest clock: a name in the table of its kind, which the ``ratio`` says."""
    if ratio == DDR3_RATIO:
        return 2 * PARTS[part].megahertz * 1e6 * WORD_BITS / 8
    return sdram.PARTS[part].megahertz * 1e6 * WORD_BITS / 8
