"""ULX3S with an ECP5-85F: a network of millions of weights in the 32 MB of SDRAM, whose clock is twice the core's."""

import dataclasses

from egret.boards import ulx3s

__all__ = ["BOARD"]

BOARD = dataclasses.replace(
    ulx3s.BOARD,
    title="ULX3S-85F with SDRAM",
    target="sdram",
    hertz=62.5e6,
    sdram="any",
    quantised={"weight_bits": 4},
)
