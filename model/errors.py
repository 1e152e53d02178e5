"""The one exception for a user's mistake."""

import contextlib

__all__ = ["InputError", "needs"]


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was wrong, where, and what would be accepted. The command line prints it and
    exits with status 2; it never shows a traceback for it.
    """


@contextlib.contextmanager
def needs(module, package, what):
    """Turn the lack of a module, imported within, into one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InputError(f"{what} needs {module}, which is not installed; install it: pip install {package}") from error
