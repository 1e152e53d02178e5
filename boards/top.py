"""A board's top: pins, clock, UART, SDRAM, and the board top of `egret.rtl`."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import io, wiring
from amaranth.lib.io import Direction

from egret.boards.clocks import PLLS, PllSettings
from egret.boards.definition import BoardDefinition
from egret.model.compiler.configuration import Configuration
from egret.rtl.link.accelerator import Accelerator
from egret.rtl.sdram import Timing
from egret.rtl.uart import Uart

__all__ = ["Top"]


class Top(Elaboratable):
    """Everything on a board's FPGA.

    Parameters
    ----------
    board : BoardDefinition
    configuration : Configuration
    settings : PllSettings
        Of the PLL.
    divisor : int
        Clock cycles a bit of the UART.
    timing : Timing or None
        Of the SDRAM, where that is the store.
    """

    def __init__(
        self,
        board: BoardDefinition,
        configuration: Configuration,
        settings: PllSettings,
        divisor: int,
        timing: Timing | None = None,
    ):
        self._board = board
        self._configuration = configuration
        self._settings = settings
        self._divisor = divisor
        self._timing = timing

    def elaborate(self, platform: Any) -> Module:
        board = self._board
        m = Module()
        _, pll_class = PLLS[board.device.family]
        m.submodules.clock = pll = pll_class(self._settings)
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(pll.clock), ResetSignal().eq(pll.reset)]
        m.submodules.uart = uart = Uart(self._divisor)
        memory: dict[str, Any] = {} if self._timing is None else {"timing": self._timing}
        m.submodules.board = top = Accelerator(
            self._configuration, window=board.window, receive_bytes=board.receive_bytes, **memory
        )
        if memory:
            self._connect_memory(m, platform, top.sdram)
        wiring.connect(m, uart.o, top.i)
        wiring.connect(m, top.o, uart.i)
        pins = platform.request(*board.uart, dir={line.name: "-" for line in platform.lookup(*board.uart).ios})
        m.submodules.rx = rx = io.Buffer(Direction.Input, pins.rx)
        m.submodules.tx = tx = io.Buffer(Direction.Output, pins.tx)
        m.d.comb += [uart.rx.eq(rx.i), tx.o.eq(uart.tx)]
        if board.led is not None:
            m.submodules.led = led = io.Buffer(Direction.Output, platform.request(*board.led, dir="-"))
            m.d.comb += led.o.eq(top.busy)
        return m

    @staticmethod
    def _connect_memory(m: Module, platform: Any, sdram: Any) -> None:
        """Registers at the device's edge, and the inverted clock: a command has half a cycle before and behind it."""
        name = ("sdram", 0)
        pins = platform.request(*name, dir={line.name: "-" for line in platform.lookup(*name).ios})
        for line in ("cs", "ras", "cas", "we", "ba", "a"):
            m.submodules[f"sdram_{line}"] = buffer = io.FFBuffer(Direction.Output, getattr(pins, line))
            m.d.comb += buffer.o.eq(getattr(sdram, line))
        m.submodules.sdram_dq = dq = io.FFBuffer(Direction.Bidir, pins.dq)
        m.d.comb += [dq.o.eq(sdram.dq_o), dq.oe.eq(sdram.dq_oe), sdram.dq_i.eq(dq.i)]
        clock: Any = io.DDRBuffer(Direction.Output, pins.clk)
        m.submodules.sdram_clk = clock
        m.submodules.sdram_clk_en = enable = io.Buffer(Direction.Output, pins.clk_en)
        m.submodules.sdram_dqm = mask = io.Buffer(Direction.Output, pins.dqm)
        m.d.comb += [clock.o[0].eq(0), clock.o[1].eq(1), enable.o.eq(1), mask.o.eq(0)]
