"""Byte transports: a serial port, real or virtual, opened with pyserial.

The rest of the host uses three members of what is opened here: ``name`` for messages, ``serial`` (a `serial.Serial`)
and ``close()``.
"""

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egret.model.errors import InputError
from egret.rtl import protocol

if TYPE_CHECKING:
    from rich.console import Console

    from egret.model.compiler.configuration import Configuration
    from egret.sim.virtual import VirtualBoard

__all__ = ["BAUD_RATE", "Transport", "open_serial", "open_virtual", "usb_boards"]

BAUD_RATE = 3_000_000
"""Bits a second unless said otherwise: the most that the ULX3S's FT231X does. Of no meaning to a board that is a USB
device itself."""

REPLY_SECONDS = 1.0
"""How long a read waits for the first byte."""

_WRITE_SECONDS = 5.0  # that a write may take: a port that takes nothing for so long is lost


class Transport:
    """An open serial port and what has to be closed with it. A context manager.

    Parameters
    ----------
    name : str
        What to call it in messages.
    serial : serial.Serial
        The open port, or what has its members.
    board : egret.sim.virtual.VirtualBoard or None
        The virtual board behind the port; its figures are known after `close`.
    """

    def __init__(self, name: str, serial: Any, *, board: "VirtualBoard | None" = None) -> None:
        self.name = name
        self.serial = serial
        self.board = board

    def start(self) -> None:
        """Say that the board may work on what was written: a stepped virtual board waits for that."""
        if self.board is not None and self.serial is self.board:
            self.board.start()

    def close(self) -> None:
        """Close the port, and end the virtual board behind it."""
        with ExitStack() as stack:
            if self.board is not None:
                stack.callback(self.board.close)
            stack.callback(self.serial.close)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def open_serial(port: str, *, baud_rate: int = BAUD_RATE, timeout: float = REPLY_SECONDS) -> "Transport":
    """Open a serial port for this process alone.

    Parameters
    ----------
    port : str
        Path such as ``/dev/ttyUSB0``, or a URL of pyserial.
    baud_rate : int
        Bits a second.
    timeout : float
        Seconds that a read waits for its first byte.

    Returns
    -------
    Transport

    Raises
    ------
    InputError
        There is no such port (the message lists those there are, and which of them are boards), or it cannot be opened.
    """
    import serial
    from serial.tools import list_ports

    options = {"baudrate": baud_rate, "timeout": timeout, "write_timeout": _WRITE_SECONDS}
    try:
        if "://" in port:
            return Transport(port, serial.serial_for_url(port, **options))
        opened = serial.Serial(port, exclusive=True, **options)
        with suppress(AttributeError, NotImplementedError, ValueError):
            # Where driver and system know it: an FTDI adapter then keeps a short answer for 1 ms rather than 16.
            opened.set_low_latency_mode(True)
        return Transport(port, opened)
    except (OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        boards = usb_boards()
        names = [
            entry.device + (f" ({boards[entry.device]})" if entry.device in boards else "")
            for entry in list_ports.comports()
        ]
        found = ", ".join(sorted(names)) or "none"
        raise InputError(f"serial port {port}: cannot be opened: {reason}; serial ports found: {found}") from None


def usb_boards() -> dict[str, str]:
    """What boards that are USB devices themselves call themselves, by path; an adapter does not say what is behind it.

    The names are `egret.rtl.protocol.USB_PRODUCT`, and behind a colon which board it is where the system tells that.
    """
    from serial.tools import list_ports

    numbers = protocol.USB_VENDOR_ID, protocol.USB_PRODUCT_ID
    return {
        entry.device: entry.product or protocol.USB_PRODUCT
        for entry in list_ports.comports()
        # Other things have the numbers for tests, too. Not every system tells the name.
        if (entry.vid, entry.pid) == numbers
        and (entry.product or protocol.USB_PRODUCT).partition(":")[0] == protocol.USB_PRODUCT
    }


def open_virtual(
    configuration: "Configuration",
    *,
    console: "Console | None" = None,
    trace: str | Path | None = None,
    bit_cycles: int | None = None,
) -> "Transport":
    """Start the virtual board of a configuration, built first if need be; its cycles follow from the bytes alone.

    Parameters
    ----------
    configuration : egret.model.compiler.configuration.Configuration
        Of the image that it shall run.
    console : rich.console.Console or None
        Where to show the progress of a build.
    trace : str, pathlib.Path or None
        Waveform file (VCD) to write; much slower.
    bit_cycles : int or None
        Drive the pins of its UART bit by bit, with so many clock cycles a bit, at least 4; slower. None passes whole
        bytes.

    Returns
    -------
    Transport

    Raises
    ------
    InputError
        A tool for building it is missing.
    """
    from egret.sim.virtual import board_build

    build = board_build(configuration, trace=trace is not None, bit_cycles=bit_cycles)
    return open_program(build.program(console=console), trace=trace)


def open_program(
    program: Path, *, trace: str | Path | None = None, stepped: bool = True, timeout: float = REPLY_SECONDS
) -> Transport:
    """Start a virtual board's program.

    Parameters
    ----------
    program : pathlib.Path
    trace : str, pathlib.Path or None
        As for `open_virtual`.
    stepped : bool
        Whether its clock waits for the host (`egret.sim.virtual.VirtualBoard`); else it is opened as a serial port.
    timeout : float
        Of the serial port, as for `open_serial`.

    Returns
    -------
    Transport
    """
    from egret.sim.virtual import VirtualBoard

    board = VirtualBoard(program, trace=trace, stepped=stepped)
    try:
        serial = board if stepped else open_serial(board.port, timeout=timeout).serial
    except BaseException:
        board.close()
        raise
    return Transport("the virtual board", serial, board=board)
