"""Names of the boards. A board is a file with a `BOARD`; only the one that is asked for is loaded."""

import importlib

from egret.boards.definition import BoardDefinition
from egret.model.errors import InputError

__all__ = ["BOARDS", "board_named"]

BOARDS = {
    "ulx3s-85f": "ulx3s",
    "ulx3s-85f-sdram": "ulx3s_sdram",
    "icebreaker": "icebreaker",
    "orangecrab-85f": "orangecrab",
    "orangecrab-85f-ddr3": "orangecrab_ddr3",
}
"""File of each board."""


def board_named(name: str) -> BoardDefinition:
    """The definition of the board ``name``; raises `InputError` where there is none."""
    if name not in BOARDS:
        raise InputError(f"--board must be one of {', '.join(BOARDS)}, not {name!r}")
    return importlib.import_module(f"egret.boards.{BOARDS[name]}").BOARD
