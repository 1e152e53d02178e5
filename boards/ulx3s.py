"""ULX3S with an ECP5-85F: 8 lanes, weights in block RAM, FT231X at its 3 Mbaud or the FPGA's own USB."""

from amaranth.build import Attrs, Pins, Resource, Subsignal
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from egret.boards.definition import BoardDefinition
from egret.boards.devices import DEVICES

__all__ = ["BOARD"]

# Socket US2. Pins, pulls and strengths are those of the board's own constraints (emard/ulx3s, ulx3s_v20.lpf). The
# platform's `usb` has the same pins and leaves the pull-downs of the FPGA on.
_US2 = Resource(
    "usb",
    1,
    Subsignal("d_p", Pins("D15", dir="io"), Attrs(DRIVE="4")),
    Subsignal("d_n", Pins("E15", dir="io"), Attrs(DRIVE="4")),
    Subsignal("pullup", Pins("B12", dir="o"), Attrs(DRIVE="16")),
    Attrs(IO_TYPE="LVCMOS33", PULLMODE="NONE"),
)

BOARD = BoardDefinition(
    title="ULX3S-85F",
    platform=ULX3S_85F_Platform,
    device=DEVICES["lfe5u-85f"],
    hertz=80e6,
    baud=3_000_000,
    target="ulx3s",
    window=8,
    receive_bytes=1024,
    resources=(_US2,),
    usb=("usb", 1),
)
