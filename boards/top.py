"""A board's top: pins, clock, UART, and the board top of `egret.rtl`."""

from amaranth.hdl import *
from amaranth.lib import io, wiring

from egret.boards.clocks import PLLS
from egret.rtl.board import BoardTop
from egret.rtl.uart import Uart

__all__ = ["Top"]


class Top(Elaboratable):
    """Everything on a board's FPGA.

    Parameters
    ----------
    board : egret.boards.board.Board
    configuration : egret.model.configuration.Configuration
    settings : egret.boards.clocks.PllSettings
        Of the PLL.
    divisor : int
        Clock cycles a bit of the UART.
    """

    def __init__(self, board, configuration, settings, divisor):
        self._board = board
        self._configuration = configuration
        self._settings = settings
        self._divisor = divisor

    def elaborate(self, platform):
        board = self._board
        m = Module()
        _, pll_class = PLLS[board.device.family]
        m.submodules.clock = pll = pll_class(self._settings)
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [sync.clk.eq(pll.clock), sync.rst.eq(pll.reset)]
        m.submodules.uart = uart = Uart(self._divisor)
        m.submodules.board = top = BoardTop(self._configuration, window=board.window,
                                                receive_bytes=board.receive_bytes)
        wiring.connect(m, uart.o, top.i)
        wiring.connect(m, top.o, uart.i)
        pins = platform.request(*board.uart, dir={line.name: "-" for line in platform.lookup(*board.uart).ios})
        m.submodules.rx = rx = io.Buffer("i", pins.rx)
        m.submodules.tx = tx = io.Buffer("o", pins.tx)
        m.d.comb += [uart.rx.eq(rx.i), tx.o.eq(uart.tx)]
        if board.led is not None:
            m.submodules.led = led = io.Buffer("o", platform.request(*board.led, dir="-"))
            m.d.comb += led.o.eq(top.busy)
        return m
