"""What commands print: a bar while they work, then a table or one JSON object."""

import contextlib

__all__ = ["percentages", "progress_bar", "share_of", "show_columns", "show_table"]


@contextlib.contextmanager
def progress_bar(what):
    """Yield ``progress(done, total)``, which draws a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_table(title, rows):
    """Print a table of two columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=title, show_header=False, title_justify="left")
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def show_columns(title, columns):
    """A table of named columns with rows of the same names."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right")
    for cells in zip(*(rows for _, rows in columns), strict=True):
        table.add_row(cells[0][0], *(value for _, value in cells))
    Console().print(table)


def percentages(shares):
    return ", ".join(f"{share:.2%}" for share in shares)


def share_of(count: int, capacity: int) -> str:
    """``count`` of a ``capacity``, and its share."""
    return f"{count:,} of {capacity:,} ({count / capacity:.0%})"
