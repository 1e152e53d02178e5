"""What is shown while something takes time: on a terminal, and in a notebook."""

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress_bar", "working"]


def _console():
    """Standard error, and whether somebody looks at it: rich counts no notebook as a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return console, console.is_terminal or console.is_jupyter


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar, where somebody looks.

    Parameters
    ----------
    what : str
        Shown before the bar.

    Yields
    ------
    callable
        To be called as ``progress(done, total)``.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console, watched = _console()
    with Progress(*columns, console=console, transient=True, disable=not watched) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say ``what`` is being done meanwhile, where somebody looks.

    Yields
    ------
    callable
        To be called with something else to say.
    """
    console, watched = _console()
    if not watched:
        yield lambda line: None
        return
    with console.status(what) as status:
        yield status.update
