"""OrangeCrab r0.2 with an ECP5-85F: a network of millions of weights in its DDR3, whose clock is twice the core's."""

import dataclasses

from amaranth.build import Attrs, Pins, Resource, Subsignal

from egret.boards import orangecrab

__all__ = ["BOARD"]

# The pins of LiteX-Boards' `gsd_orangecrab.py`. Those of amaranth-boards 0.0.21 are others for `ba`, `dqs` and `dm`. Of
# clock and strobes the positive pins alone are named, and the negative ones follow. The upper rows are never used.
_DDRAM = Resource(
    "ddram",
    0,
    Subsignal("a", Pins("C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6", dir="o")),
    Subsignal("ba", Pins("D6 B7 A6", dir="o")),
    Subsignal("ras_n", Pins("C12", dir="o")),
    Subsignal("cas_n", Pins("D13", dir="o")),
    Subsignal("we_n", Pins("B12", dir="o")),
    Subsignal("cs_n", Pins("A12", dir="o")),
    Subsignal("dm", Pins("D16 G16", dir="o")),
    Subsignal(
        "dq",
        Pins("C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18", dir="io"),
        Attrs(TERMINATION="OFF"),
    ),
    Subsignal(
        "dqs_p",
        Pins("B15 G18", dir="io"),
        Attrs(IO_TYPE="SSTL135D_I", TERMINATION="OFF", DIFFRESISTOR="100"),
    ),
    Subsignal("clk_p", Pins("J18", dir="o"), Attrs(IO_TYPE="SSTL135D_I")),
    Subsignal("cke", Pins("D18", dir="o")),
    Subsignal("odt", Pins("C13", dir="o")),
    Subsignal("reset_n", Pins("L18", dir="o")),
    Subsignal("high_rows", Pins("C1 A2 C7", dir="o")),
    Subsignal("vccio", Pins("K16 D17 K15 K17 B18 C6", dir="o"), Attrs(IO_TYPE="SSTL135_II")),
    Subsignal("gnd", Pins("L15 L16", dir="o"), Attrs(IO_TYPE="SSTL135_II")),
    Attrs(IO_TYPE="SSTL135_I", SLEWRATE="FAST"),
)

BOARD = dataclasses.replace(
    orangecrab.BOARD,
    title="OrangeCrab r0.2, 85F, with DDR3",
    target="ddr3",
    hertz=75e6,
    resources=(*orangecrab.BOARD.resources, _DDRAM),
    ddr3="any",
    quantised={"weight_bits": 4},
)
