"""OrangeCrab r0.2 with an ECP5-85F: its one USB socket carries power, bitstream and link."""

from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform

from egret.boards.definition import USB, BoardDefinition
from egret.boards.devices import DEVICES

__all__ = ["BOARD"]

BOARD = BoardDefinition(
    title="OrangeCrab r0.2, 85F",
    platform=OrangeCrabR0_2_85FPlatform,
    device=DEVICES["lfe5u-85f"],
    hertz=84e6,
    port=("usb", 0),
    target="ulx3s",
    led=None,
    **USB,
)
