"""ULX3S with an ECP5-85F: 8 lanes, weights in block RAM, FT231X at its 3 Mbaud."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from egret.boards.definition import BoardDefinition
from egret.boards.devices import DEVICES

__all__ = ["BOARD"]

BOARD = BoardDefinition(
    title="ULX3S-85F",
    platform=ULX3S_85F_Platform,
    device=DEVICES["lfe5u-85f"],
    hertz=80e6,
    baud=3_000_000,
    target="ulx3s",
    window=8,
    receive_bytes=1024,
)
