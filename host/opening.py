"""Boards by the names that users give: of a port, of a virtual board, of a board that a bitstream is for."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from egret.model.errors import InputError, needs

if TYPE_CHECKING:
    from egret.boards.definition import BoardDefinition
    from egret.host.board import Board
    from egret.model.compiler.configuration import Configuration

__all__ = ["board_named", "open_board"]


def open_board(
    configuration: "Configuration",
    *,
    port: str | None = None,
    baud_rate: int | None = None,
    trace: str | Path | None = None,
    bit_cycles: int | None = None,
) -> "Board":
    """Open a board.

    Parameters
    ----------
    configuration : Configuration
        Of the image that it shall run.
    port : str or None
        Serial port of a board; None for a virtual one.
    baud_rate : int or None
        Bits a second on that port, as the board has them where it is None.
    trace, bit_cycles
        Of the virtual board, as for `egret.host.transport.open_virtual`.

    Returns
    -------
    Board

    Raises
    ------
    InputError
        There is no such port, or a rate without one.
    """
    from rich.console import Console

    from egret.host.board import Board
    from egret.host.transport import open_serial, open_virtual

    if port is None and baud_rate is not None:
        raise InputError("--baud is for a board on --port, not for the virtual board")
    if port is not None:
        return Board(open_serial(port, **({} if baud_rate is None else {"baud_rate": baud_rate})))
    return Board(open_virtual(configuration, console=Console(stderr=True), trace=trace, bit_cycles=bit_cycles))


def board_named(
    name: str, core: Iterable[str], *more: str, what: str = "--board", line: str | None = None
) -> "BoardDefinition":
    """Find the board of a name.

    Parameters
    ----------
    name : str
    core : iterable of str
        Names of the options of the core that are given beside it.
    *more : str
        Options that are accepted beside those that every command for a board accepts.
    what : str
        What needs the tables of boards, for the message where these are not installed.
    line : str or None
        What carries the bytes of its link, one of `egret.boards.definition.LINES`; as the board has it by default.

    Returns
    -------
    BoardDefinition

    Raises
    ------
    InputError
        There is no such board, it has no such line, the tables are not installed, or the board decides what an option
        would.
    """
    accepted = ("lanes", *more, "folded_tokens", "readout")
    if not set(core) <= set(accepted):
        flags = [f"--{option.removesuffix('_tokens').replace('_', '-')}" for option in accepted]
        which = f"{', '.join(flags[:-1])} and {flags[-1]}"
        raise InputError(f"--board has a core of its own: of its options only {which} go with it")
    with needs("amaranth_boards", "'egret-fpga[build]'", what):
        from egret.boards.catalogue import board_named

        board = board_named(name)
    return board if line is None else board.with_line(line)
