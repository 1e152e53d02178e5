"""The one exception for a user's mistake."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was wrong, where, and what would be accepted. The command line prints it and
    exits with status 2; it never shows a traceback for it.
    """
