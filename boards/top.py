"""A board's top: pins, clock, UART, and the board top of `egret.rtl`."""

from amaranth.hdl import *
from amaranth.lib import wiring

from egret.boards.clocks import PLLS
from egret.rtl.board import BoardTop
from egret.rtl.uart import Uart, divisor_for

__all__ = ["Top"]


class Top(Elaboratable):
    """Everything on a board's FPGA.

    Parameters
    ----------
    board : egret.boards.board.Board
    configuration : egret.model.configuration.Configuration
    hertz : float, optional
        Clock of the core instead of the board's.

    Elaboration raises `ValueError` where the PLL cannot make this clock, or the UART its rate of it.
    """

    def __init__(self, board, configuration, *, hertz=None):
        self._board = board
        self._configuration = configuration
        self._hertz = hertz or board.hertz

    def elaborate(self, platform):
        board = self._board
        m = Module()
        m.submodules.clock = pll = PLLS[board.device.family](platform, self._hertz)
        m.submodules.uart = uart = Uart(divisor_for(pll.hertz, board.baud))
        m.submodules.board = top = BoardTop(self._configuration)
        wiring.connect(m, uart.o, top.i)
        wiring.connect(m, top.o, uart.i)
        pins = platform.request(*board.uart)
        m.d.comb += [uart.rx.eq(pins.rx.i), pins.tx.o.eq(uart.tx)]
        if board.led is not None:
            m.d.comb += platform.request(*board.led).o.eq(top.busy)
        return m
