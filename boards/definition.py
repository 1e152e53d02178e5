"""What a board is: platform, clock, link, and the core that it gets unless told otherwise."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from amaranth.build import Platform, Resource

from egret.boards.devices import Device
from egret.model.errors import InputError
from egret.rtl.protocol import (
    DEFAULT_RECEIVE_BYTES,
    DEFAULT_WINDOW,
    MAX_PAYLOAD,
    USB_BYTES_PER_SECOND,
    USB_LOADING_BYTES_PER_SECOND,
)
from egret.rtl.uart import divisor_for

__all__ = ["LINES", "USB", "BoardDefinition"]

LINES = ("uart", "usb")
"""What may carry the link's bytes."""

USB: dict[str, Any] = {"baud": None, "window": 8, "receive_bytes": 4096, "max_payload": 1980}
"""What a board with USB of its own has of `BoardDefinition`. Two of the longest LOADs wait in the queue while a third
one comes, 5 ms of USB together: so the line stays busy where the host answers a millisecond late. A longer LOAD would
save less than the queue costs."""


@dataclass(frozen=True, kw_only=True)
class BoardDefinition:
    """A board that Egret can be built for.

    Attributes
    ----------
    title : str
        For people.
    platform : type
        Class of `amaranth_boards`.
    device : Device
        What the FPGA holds.
    hertz : float
        Clock of the core, from the PLL.
    baud : int or None
        Bits a second of the UART. None where the FPGA itself is a USB device (`egret.rtl.usb`).
    target : str
        Lanes and memories of its core, by name in `egret.model.compiler.configuration.TARGETS`.
    window, receive_bytes, max_payload : int
        Commands under way at once, bytes of them that wait, and the longest payload of a LOAD, as for the link. More of
        these hide the time that the host or the serial port's adapter takes, and cost block RAM.
    quantised : dict of str to int
        Options of `egret.model.quantise.quantise` for a checkpoint that is built for it.
    resources : tuple of amaranth.build.Resource
        What the platform lacks.
    port : (str, int)
        Name and number of the resource with the pins of the UART, or of USB.
    usb : (str, int) or None
        Where there is a UART, that of a USB socket of the FPGA itself, which `with_line` puts in its place.
    suffix : str
        Behind the board's name in those of files: its line, where that is not the one by default.
    led : (str, int) or None
        Those of a light that shows that the core is at work.
    sdram : str or None
        The SDRAM that the board carries, a name in `egret.rtl.sdram.PARTS`; the resource is ``sdram``.
    ddr3 : str or None
        The DDR3 that it carries, a name in `egret.rtl.ddr3_timing.PARTS`; the resource is ``ddram``.
    """

    title: str
    platform: type[Platform]
    device: Device
    hertz: float
    baud: int | None
    target: str
    window: int = DEFAULT_WINDOW
    receive_bytes: int = DEFAULT_RECEIVE_BYTES
    max_payload: int = MAX_PAYLOAD
    quantised: dict[str, int] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    port: tuple[str, int] = ("uart", 0)
    usb: tuple[str, int] | None = None
    suffix: str = ""
    led: tuple[str, int] | None = ("led", 0)
    sdram: str | None = None
    ddr3: str | None = None

    @property
    def line(self) -> str:
        """What carries the link's bytes, one of `LINES`."""
        return "usb" if self.baud is None else "uart"

    @property
    def lines(self) -> tuple[str, ...]:
        """Those of `LINES` that `with_line` takes."""
        return (self.line,) if self.usb is None else LINES

    def with_line(self, line: str) -> Self:
        """The same board with another line.

        Parameters
        ----------
        line : str
            One of `LINES`.

        Returns
        -------
        BoardDefinition

        Raises
        ------
        InputError
            The board has no such line.
        """
        if line == self.line:
            return self
        if line != "usb" or self.usb is None:
            raise InputError(f"{self.title}: --line must be {' or '.join(self.lines)}, not {line!r}")
        return replace(self, port=self.usb, suffix=f"-{line}", **USB)

    @property
    def shares_line(self) -> bool:
        """Whether both directions of the link share one line, as over USB; those of a UART have one each."""
        return self.baud is None

    def divisor(self, hertz: float) -> float:
        """Cycles of a clock that a bit on the line takes, ten of which are a byte.

        Parameters
        ----------
        hertz : float
            The clock.

        Returns
        -------
        float
            Whole where there is a UART.

        Raises
        ------
        ValueError
            The UART cannot have its rate at this clock.
        """
        return hertz / USB_BYTES_PER_SECOND / 10 if self.baud is None else divisor_for(hertz, self.baud)

    def load_seconds(self, count: int, hertz: float) -> float:
        """How long an image takes to load, where the line is the limit.

        Parameters
        ----------
        count : int
            Its bytes on the line (`egret.host.board.bytes_to_load`).
        hertz : float
            The clock.

        Returns
        -------
        float
        """
        if self.baud is None:
            return count / USB_LOADING_BYTES_PER_SECOND
        return count * 10 * self.divisor(hertz) / hertz
