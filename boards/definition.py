"""What a board is: platform, clock, link, and the core that it gets unless told otherwise."""

from dataclasses import dataclass, field

from amaranth.build import Platform, Resource

from egret.boards.devices import Device
from egret.rtl.protocol import DEFAULT_RECEIVE_BYTES, DEFAULT_WINDOW, USB_BYTES_PER_SECOND
from egret.rtl.uart import divisor_for

__all__ = ["BoardDefinition"]


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
    window, receive_bytes : int
        Commands under way at once, and bytes of them that wait, as for the link. More of both hide the time that the
        serial port's adapter takes, and cost block RAM.
    quantised : dict of str to int
        Options of `egret.model.quantise.quantise` for a checkpoint that is built for it.
    resources : tuple of amaranth.build.Resource
        What the platform lacks.
    port : (str, int)
        Name and number of the resource with the pins of the UART, or of USB.
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
    quantised: dict[str, int] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()
    port: tuple[str, int] = ("uart", 0)
    led: tuple[str, int] | None = ("led", 0)
    sdram: str | None = None
    ddr3: str | None = None

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
