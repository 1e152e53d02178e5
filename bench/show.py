"""What the scripts in this folder have in common: tables or one JSON object, and an error in one line."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from egret.model.errors import EgretError
from egret.model.files import json_text

__all__ = ["as_json", "progress_bar", "run_script", "show"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
"""The option that `show` obeys."""


def progress_bar() -> Progress:
    """A bar on standard error."""
    return Progress(console=Console(stderr=True))


def show(
    result: Mapping[str, Any], tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[str]]]], as_json: bool
) -> None:
    """Print a result.

    Parameters
    ----------
    result : mapping
        For JSON.
    tables : iterable of (str, sequence of str, iterable of sequence of str)
        Title, heads and rows of each.
    as_json : bool
        Whether to print ``result``, instead of the tables.
    """
    if as_json:
        print(json_text(result))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # no figure is cut
    for title, heads, rows in tables:
        table = Table(*heads, title=Text(title), title_justify="left", show_header=any(heads))
        for row in rows:
            table.add_row(*map(Text, row))  # names are no markup
        console.print(table)


def run_script(main: click.Command, name: str) -> None:
    """Run ``main``; an error takes one line, which begins with ``name``, and the exit status is 2."""
    try:
        main(standalone_mode=False)
    except (EgretError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else error
        print(f"{name}: error: {message}", file=sys.stderr)
        sys.exit(2)
