"""Between a core and the pins of an SDRAM whose clock is twice as fast."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.sdram import WORD_BITS, sdram_pins

__all__ = ["MEMORY", "SdramEdge"]

MEMORY = "memory"
"""Clock domain of the memory. Each second edge of it is one of ``sync``."""


class SdramEdge(wiring.Component):
    """Gives each command in one cycle of the memory alone, and gathers the two words that come in a cycle of the core.

    Registers of the domain `MEMORY` at the device's edge belong before ``pins``. A command is chosen in the last cycle
    before an edge of ``sync``, so it has a whole cycle of the core for its way to them. The other lines may change with
    every edge, as the memory takes them with a command only.

    Members
    -------
    core : In(sdram_pins(2))
        Of the controller, in ``sync``.
    pins : Out(sdram_pins(1))
        In `MEMORY`.
    """

    core: Any
    pins: Any

    def __init__(self) -> None:
        super().__init__({"core": In(sdram_pins(2)), "pins": Out(sdram_pins(1))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        turn, seen = Signal(), Signal()
        first = Signal(WORD_BITS, reset_less=True)
        m.d.sync += [turn.eq(~turn), self.core.dq_i.eq(Cat(first, self.pins.dq_i))]
        m.d[MEMORY] += [seen.eq(turn), first.eq(self.pins.dq_i)]
        m.d.comb += [
            self.pins.cs.eq(self.core.cs & (turn == seen)),
            *(getattr(self.pins, line).eq(getattr(self.core, line)) for line in ("ras", "cas", "we", "ba", "a")),
            self.pins.dq_o.eq(self.core.dq_o),
            self.pins.dq_oe.eq(self.core.dq_oe),
        ]
        return m
