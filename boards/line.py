"""What carries the bytes of the link on a board: a UART, or USB, with its pins."""

from typing import Any, Protocol

from amaranth.hdl import *
from amaranth.lib import io, wiring
from amaranth.lib.io import Direction

from egret.boards.clocks import Ecp5Pll, ecp5_settings
from egret.rtl.uart import Uart

__all__ = ["Line", "UartLine", "UsbLine"]


class Line(Protocol):
    """A line of the link."""

    def connect(self, m: Module, platform: Any, pll: Any) -> Any:
        """Add what carries the bytes to a board's top, and connect its pins.

        Parameters
        ----------
        m : Module
            With the domain ``sync``.
        platform : Platform
        pll : Elaboratable
            That of ``sync``.

        Returns
        -------
        wiring.Component
            With the streams of bytes ``i`` and ``o``, in the domain ``sync``.
        """
        ...


def _request(platform: Any, port: tuple[str, int]) -> Any:
    return platform.request(*port, dir={line.name: "-" for line in platform.lookup(*port).ios})


class UartLine:
    """A UART.

    Parameters
    ----------
    port : (str, int)
        Resource with the pins ``rx`` and ``tx``.
    divisor : int
        Cycles of ``sync`` a bit.
    """

    def __init__(self, port: tuple[str, int], divisor: int):
        self._port, self._divisor = port, divisor

    def connect(self, m: Module, platform: Any, pll: Any) -> Any:
        """As `Line.connect`, with its ``m``, ``platform`` and ``pll``."""
        m.submodules.uart = uart = Uart(self._divisor)
        pins = _request(platform, self._port)
        m.submodules.rx = rx = io.Buffer(Direction.Input, pins.rx)
        m.submodules.tx = tx = io.Buffer(Direction.Output, pins.tx)
        m.d.comb += [uart.rx.eq(rx.i), tx.o.eq(uart.tx)]
        return uart


class UsbLine:
    """USB at full speed, a device of the FPGA itself: an ECP5, with a second PLL for 12 and 48 MHz.

    Parameters
    ----------
    port : (str, int)
        Resource with the pins ``d_p``, ``d_n`` and ``pullup``.
    reference : float
        Hz of the platform's default clock.
    board : str
        What the device tells the host that it is, behind `egret.rtl.protocol.USB_PRODUCT`.

    Raises
    ------
    ModuleNotFoundError
        LUNA is not installed.
    ValueError
        A PLL does not make these clocks of that one.
    """

    def __init__(self, port: tuple[str, int], reference: float, board: str):
        from egret.rtl.usb import UsbSerial
        from egret.rtl.usb_phy import BITS

        self._port, self._bits, self._serial = port, BITS, UsbSerial(board)
        # A clock of four times another one, as a memory's may be.
        self._settings = ecp5_settings(reference, 12e6, 4)

    def connect(self, m: Module, platform: Any, pll: Any) -> Any:
        """As `Line.connect`, with its ``m``, ``platform`` and ``pll``."""
        m.submodules.usb_clock = clock = Ecp5Pll(self._settings, late=0, source=pll.oscillator)
        m.domains.usb = ClockDomain()
        m.domains += ClockDomain(self._bits, reset_less=True)
        m.d.comb += [
            ClockSignal("usb").eq(clock.clock),
            ResetSignal("usb").eq(clock.reset),
            ClockSignal(self._bits).eq(clock.memory_clock),
        ]
        m.submodules.usb = usb = self._serial
        pins = _request(platform, self._port)
        for name in ("d_p", "d_n"):
            m.submodules[f"usb_{name}"] = buffer = io.Buffer(Direction.Bidir, getattr(pins, name))
            wiring.connect(m, getattr(usb, name), buffer)
        m.submodules.usb_pullup = pullup = io.Buffer(Direction.Output, pins.pullup)
        m.d.comb += pullup.o.eq(usb.pullup)
        return usb
