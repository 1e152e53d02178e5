"""The FPGAs of the boards: what they hold, and how a memory is made of their blocks."""

from dataclasses import dataclass

from egret.rtl.blocks import SHAPES

__all__ = ["DEVICES", "Device"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """An FPGA.

    Attributes
    ----------
    title : str
    family : str
        ``"ecp5"`` or ``"ice40"``.
    capacity : dict of str to int
        Look-up tables, flip-flops, block RAMs, multipliers, and what else there is, by names of our own.
    cells : dict of str to str
        nextpnr's name of each of them.
    block_shapes : tuple of (words, bits)
        How a block RAM can be used.
    least_block_bits : int
        Memories of fewer bits become logic.
    """

    title: str
    family: str
    capacity: dict[str, int]
    cells: dict[str, str]
    block_shapes: tuple[tuple[int, int], ...]
    least_block_bits: int

    @property
    def block_bits(self) -> int:
        """Bits of a block RAM."""
        return max(words * bits for words, bits in self.block_shapes)

    def blocks(self, words: int, bits: int) -> int:
        """Block RAMs that a memory of ``words`` of ``bits`` takes, 0 where it becomes logic."""
        if words * bits < self.least_block_bits:
            return 0
        return min(-(-words // depth) * -(-bits // width) for depth, width in self.block_shapes)


def _ecp5(size: int, luts: int, blocks: int, multipliers: int, plls: int) -> Device:
    return Device(
        title=f"ECP5 LFE5U-{size}F",
        family="ecp5",
        capacity={"luts": luts, "flip_flops": luts, "block_rams": blocks, "multipliers": multipliers, "plls": plls},
        cells={
            "luts": "TRELLIS_COMB",
            "flip_flops": "TRELLIS_FF",
            "block_rams": "DP16KD",
            "multipliers": "MULT18X18D",
            "plls": "EHXPLLL",
        },
        block_shapes=SHAPES,
        least_block_bits=1024,
    )


DEVICES = {
    "lfe5u-25f": _ecp5(25, 24288, 56, 28, 2),
    "lfe5u-45f": _ecp5(45, 43848, 108, 72, 4),
    "lfe5u-85f": _ecp5(85, 83640, 208, 156, 4),
    "up5k": Device(
        title="iCE40 UP5K",
        family="ice40",
        capacity={"luts": 5280, "block_rams": 30, "large_rams": 4, "multipliers": 8, "plls": 1},
        cells={
            "luts": "ICESTORM_LC",
            "block_rams": "ICESTORM_RAM",
            "large_rams": "ICESTORM_SPRAM",
            "multipliers": "ICESTORM_DSP",
            "plls": "ICESTORM_PLL",
        },
        block_shapes=((256, 16), (512, 8), (1024, 4), (2048, 2)),
        least_block_bits=256,
    ),
}
