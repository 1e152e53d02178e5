"""The pins of a board's SDRAM: registers at the device's edge, and its clock."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import io, wiring
from amaranth.lib.io import Direction

from egret.rtl.sdram import Part
from egret.rtl.sdram_edge import MEMORY, SdramEdge

__all__ = ["PIN_CLOCK", "clock_delay", "connect_memory"]

PIN_CLOCK = "memory_pin"
"""Domain of the clock at the memory's pin."""
ROUND_TRIP = 4e-9
"""Seconds from a register of the FPGA through its pin, and from the memory's pin back to a register: an assumption."""
MARGIN = 2e-9
"""Seconds that a command stands at the least before and behind an edge of the memory's clock."""


def clock_delay(part: Part, hertz: float) -> float:
    """How late the clock at a memory's pin is, against that of the registers that drive its other pins.

    A word is sampled `Part.latency` + 1 cycles after its command has left the registers. That is then the middle of the
    time in which it stands, if the way there and back takes `ROUND_TRIP`; or as near to it as commands allow.

    Parameters
    ----------
    part : Part
    hertz : float
        The memory's clock.

    Returns
    -------
    float
        Seconds, `MARGIN` to a cycle less `MARGIN`.
    """
    cycle = 1 / hertz
    middle = 1.5 * cycle - (part.access + part.hold) / 2 * 1e-9 - ROUND_TRIP
    return min(max(middle, MARGIN), cycle - MARGIN)


def connect_memory(m: Module, platform: Any, sdram: Any, ratio: int) -> None:
    """Connect the pins of a controller, ``sdram``, to those of the board.

    Parameters
    ----------
    m : Module
        With the domains `MEMORY` and `PIN_CLOCK`.
    platform : Platform
        With the resource ``sdram``.
    sdram : Interface
        Of `egret.rtl.sdram.sdram_pins`.
    ratio : int
        Clock of the memory over that of the core.
    """
    if ratio > 1:
        m.submodules.sdram_edge = edge = SdramEdge()
        wiring.connect(m, sdram, edge.core)
        sdram = edge.pins
    name = ("sdram", 0)
    pins = platform.request(*name, dir={line.name: "-" for line in platform.lookup(*name).ios})
    for line in ("cs", "ras", "cas", "we", "ba", "a"):
        m.submodules[f"sdram_{line}"] = buffer = io.FFBuffer(Direction.Output, getattr(pins, line), o_domain=MEMORY)
        m.d.comb += buffer.o.eq(getattr(sdram, line))
    m.submodules.sdram_dq = dq = io.FFBuffer(Direction.Bidir, pins.dq, i_domain=MEMORY, o_domain=MEMORY)
    m.d.comb += [dq.o.eq(sdram.dq_o), dq.oe.eq(sdram.dq_oe), sdram.dq_i.eq(dq.i)]
    clock: Any = io.DDRBuffer(Direction.Output, pins.clk, o_domain=PIN_CLOCK)
    m.submodules.sdram_clk = clock
    m.submodules.sdram_clk_en = enable = io.Buffer(Direction.Output, pins.clk_en)
    m.submodules.sdram_dqm = mask = io.Buffer(Direction.Output, pins.dqm)
    m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0), enable.o.eq(1), mask.o.eq(0)]
