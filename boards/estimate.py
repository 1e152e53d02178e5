"""What a design will need, known before it is built, and whether a device has it."""

import re
from dataclasses import dataclass

from egret.boards.definition import BoardDefinition
from egret.boards.design import Design
from egret.model.errors import InputError

__all__ = ["Estimate", "estimate", "refuse_what_cannot_fit"]


@dataclass(frozen=True)
class Estimate:
    """What a design will need, known before it is built.

    Attributes
    ----------
    used : dict of str to int
        As `Device.capacity`; block RAMs by the memories' shapes, look-up tables by the widths of the operators, which
        is right within a fifth.
    seconds : float
        Time of the tools as YoWASP packages on one core, right within a factor of two.
    least_block_rams : int
        What the memories' bits alone fill.
    """

    used: dict[str, int]
    seconds: float
    least_block_rams: int

    @property
    def certain(self) -> dict[str, int]:
        """What is ``used`` at the least, by what is known exactly: without look-up tables."""
        exact = self.used | {"block_rams": self.least_block_rams}
        return {name: count for name, count in exact.items() if name != "luts"}


_LEAST_FACTOR_BITS = 4
# Logic cells of an iCE40 hold registers and carries that cannot share one with a look-up table, too.
_LUTS_PER_BIT = {"ecp5": 0.8, "ice40": 1.05}
_SECONDS = {"ecp5": (20, 0.02), "ice40": (15, 0.025)}


def estimate(design: Design) -> Estimate:
    """What ``design`` will need."""
    device = design.board.device
    bits, logic, multipliers, large, block_rams, block_bits = 0, 0, 0, 0, 0, 0
    for module in design.rtlil.split("\nend\n"):
        clocked = dict.fromkeys(re.findall(r"\bmemory (?:width \d+ )?(?:size \d+ )?(\\\S+)", module), False)
        for cell, body in re.findall(r"\n  cell (\S+) \S+\n(.*?)\n  end", module, re.S):
            width = int(found[1]) if (found := re.search(r"\\(?:Y_WIDTH|WIDTH) (\d+)", body)) else 0
            if cell in ("$dff", "$adff", "$add", "$sub", "$and", "$or"):
                bits += width
            elif cell == "$mul" and min(map(int, re.findall(r"\\[AB]_WIDTH (\d+)", body))) >= _LEAST_FACTOR_BITS:
                multipliers += not re.search(r"connect \\[AB] \d+'0*10*\n", body)  # a power of two is a shift
            elif cell == "\\SB_SPRAM256KA":
                large += 1
            elif (
                cell == "$memrd_v2"
                and re.search(r"\\CLK_ENABLE 1\b", body)
                and (found := re.search(r'\\MEMID "(\S+)"', body))
            ):
                clocked[found[1].replace("\\\\", "\\")] = True
        for declared in re.finditer(r"\bmemory (?:width (\d+) )?(?:size (\d+) )?(\\\S+)", module):
            width, words, name = int(declared[1] or 1), int(declared[2] or 1), declared[3]
            blocks = device.blocks(words, width) if clocked[name] else 0
            if blocks:
                block_rams, block_bits = block_rams + blocks, block_bits + words * width
            else:
                logic += width * words // 10 if device.family == "ecp5" else width * words
    used = {
        "luts": round(bits * _LUTS_PER_BIT[device.family] + logic),
        "block_rams": block_rams,
        "multipliers": multipliers,
    }
    if "large_rams" in device.capacity:
        used["large_rams"] = large
    least, per_lut = _SECONDS[device.family]
    return Estimate(used, least + per_lut * used["luts"], -(-block_bits // device.block_bits))


def refuse_what_cannot_fit(board: BoardDefinition, used: dict[str, int], source: str) -> None:
    """Raise `InputError` where something is ``used`` more often than the device of ``board`` has it.

    ``source`` is what says so, for the message.
    """
    wrong = [
        f"{used[name]:,} {name.replace('_', ' ')} of {board.device.capacity[name]:,}"
        for name in used
        if name in board.device.capacity and used[name] > board.device.capacity[name]
    ]
    if wrong:
        raise InputError(
            f"{board.title}: does not fit, by {source}: {', '.join(wrong)}; fewer lanes, fewer weights, "
            "or a larger board would"
        )
