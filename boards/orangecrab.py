"""OrangeCrab r0.2 with an ECP5-85F. Its USB port is not a UART: an adapter belongs to pins 0 (RX) and 1 (TX)."""

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from egret.boards.definition import BoardDefinition
from egret.boards.devices import DEVICES

__all__ = ["BOARD"]

BOARD = BoardDefinition(
    title="OrangeCrab r0.2, 85F",
    platform=OrangeCrabR0_2_85FPlatform,
    device=DEVICES["lfe5u-85f"],
    hertz=84e6,
    baud=3_000_000,
    target="ulx3s",
    window=8,
    receive_bytes=1024,
    resources=(UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP")),),
    led=None,
)
