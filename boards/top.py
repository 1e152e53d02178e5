"""A board's top: clock, line, SDRAM, and the board top of `egret.rtl`."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.io import Direction

from egret.boards.clocks import PLLS, Ecp5Ddr3Pll, PllSettings
from egret.boards.ddr3 import Ddr3Phy
from egret.boards.definition import BoardDefinition
from egret.boards.line import Line
from egret.boards.memory import PIN_CLOCK, connect_memory
from egret.model.compiler.configuration import Configuration
from egret.rtl.link.accelerator import Accelerator
from egret.rtl.outer import OuterTiming
from egret.rtl.sdram_edge import MEMORY

__all__ = ["Top"]


class Top(Elaboratable):
    """Everything on a board's FPGA.

    Parameters
    ----------
    board : BoardDefinition
    configuration : Configuration
    settings : PllSettings
        Of the PLL.
    line : Line
        Of the link.
    timing : OuterTiming or None
        Of the SDRAM, where that is the store.
    late : float or None
        Where that is no DDR3, seconds by which the clock at its pin is late (`egret.boards.memory.clock_delay`).
    """

    def __init__(
        self,
        board: BoardDefinition,
        configuration: Configuration,
        settings: PllSettings,
        line: Line,
        timing: OuterTiming | None = None,
        late: float | None = None,
    ):
        self._board = board
        self._configuration = configuration
        self._settings = settings
        self._line = line
        self._timing, self._late = timing, late

    def elaborate(self, platform: Any) -> Module:
        board = self._board
        m = Module()
        _, pll_class = PLLS[board.device.family]
        late = {} if self._late is None else {"late": self._late}
        with_ddr3 = self._configuration.ddr3
        pll: Any = Ecp5Ddr3Pll(self._settings) if with_ddr3 else pll_class(self._settings, **late)
        m.submodules.clock = pll
        m.domains.sync = ClockDomain()
        phy = Ddr3Phy(pll) if with_ddr3 else None
        reset = pll.reset
        if phy:
            # The PLL's own clock is another one: each register of the core must see the same cycle as the first one.
            reset = Signal(init=1)
            m.submodules.reset = FFSynchronizer(pll.reset, reset, init=1)
        m.d.comb += [ClockSignal().eq(phy.clock if phy else pll.clock), ResetSignal().eq(reset)]
        m.submodules.board = top = Accelerator(
            self._configuration,
            window=board.window,
            receive_bytes=board.receive_bytes,
            max_payload=board.max_payload,
            timing=self._timing,
        )
        if late:
            for name, clock in ((MEMORY, pll.memory_clock), (PIN_CLOCK, pll.memory_pin_clock)):
                m.domains += ClockDomain(name, reset_less=True)
                m.d.comb += ClockSignal(name).eq(clock)
            connect_memory(m, platform, top.sdram, self._configuration.memory_ratio)
        if phy:
            m.submodules.phy = phy
            wiring.connect(m, top.sdram, phy.dfi)
        line = self._line.connect(m, platform, pll)
        wiring.connect(m, line.o, top.i)
        wiring.connect(m, top.o, line.i)
        if board.led is not None:
            m.submodules.led = led = io.Buffer(Direction.Output, platform.request(*board.led, dir="-"))
            m.d.comb += led.o.eq(top.busy)
        return m
