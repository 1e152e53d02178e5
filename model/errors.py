"""What a command reports in one line instead of a traceback."""

import contextlib
from collections.abc import Iterator

__all__ = ["EgretError", "EgretWarning", "InputError", "TrainingError", "needs"]


class EgretError(Exception):
    """Something went wrong that is no fault of the program.

    The message is one line. The command line prints it and exits with status 2; it never shows a traceback for it.
    """


class InputError(EgretError, ValueError):
    """Something given by the user cannot be used: what was wrong, where, and what would be accepted."""


class TrainingError(EgretError):
    """A training diverged: when, and what to try instead."""


class EgretWarning(UserWarning):
    """What a user should know of a result, or of the machine. The command line prints the message as one line."""


@contextlib.contextmanager
def needs(module: str, package: str, what: str) -> Iterator[None]:
    """Turn the lack of a ``module``, imported within, into one line: ``what`` needs it, and ``package`` brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f"{what} needs {module}, which is not installed; install it: pip install {package}") from error
