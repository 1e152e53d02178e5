"""What commands print: tables or one JSON object."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from egret.model.files import json_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Result", "Table", "output_console", "percentages", "share_rows", "show"]

_WIDE = 10_000
"""Columns of what is no terminal."""


@dataclass
class Table:
    """A table of text.

    Parameters
    ----------
    title : str
    rows : list of tuple of str
        The first cell of each is its name.
    head : tuple of str
        Names of the columns; none are shown where it is empty.
    """

    title: str
    rows: list[tuple[str, ...]]
    head: tuple[str, ...] = ()


@dataclass
class Result:
    """What a command found: once for programs, once for readers.

    Parameters
    ----------
    figures : dict of str to Any
        Of the JSON object.
    rows : list of tuple of str
        Name and value, of a table.
    tables : list of Table
        Below that one.
    """

    figures: dict[str, Any]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """Take in what another part of the command found, ``other``, behind what is there."""
        self.figures |= other.figures
        self.rows += other.rows
        self.tables += other.tables


def show(result: Result, title: str, as_json: bool) -> None:
    """Print what a command found.

    Parameters
    ----------
    result : Result
    title : str
        Of the table of the result's rows.
    as_json : bool
        Print one JSON object on one line instead of tables, as `egret.model.files.json_text` makes it.
    """
    if as_json:
        click.echo(json_text(result.figures))
        return
    from rich import table
    from rich.text import Text

    console = output_console()
    with console.capture() as captured:
        for one in [Table(title, result.rows), *result.tables]:
            if not one.rows:
                continue
            # What a user named is text, not markup; in a narrow terminal it is folded.
            shown = table.Table(title=Text(one.title), title_justify="left", show_header=bool(one.head))
            for number, name in enumerate(one.head or ("", "")):
                shown.add_column(Text(name), justify="right" if one.head and number else "left", overflow="fold")
            for row in one.rows:
                shown.add_row(*map(Text, row))
            console.print(shown)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(captured.get().encode(encoding, "backslashreplace").decode(encoding), nl=False)


def output_console() -> "Console":
    """Standard output for rich: as wide as the terminal, and as what is printed where there is none."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def percentages(shares: Iterable[float]) -> str:
    """Some ``shares`` as percentages."""
    return ", ".join(f"{share:.2%}" for share in shares)


def share_rows(used: dict[str, int], capacity: dict[str, int]) -> list[tuple[str, ...]]:
    """Rows of a table: what is ``used`` of a chip's ``capacity``, with its share."""
    return [
        (key.replace("_", " "), f"{count:,} of {capacity[key]:,} ({count / capacity[key]:.0%})")
        for key, count in used.items()
    ]
