"""Writing files so that a reader never sees half of one."""

import os
import tempfile
from pathlib import Path

from egret.model.errors import InputError

__all__ = ["write_aside"]


def write_aside(path, data):
    """Write a file under another name beside it, then rename.

    Parameters
    ----------
    path : str or Path
    data : bytes

    Raises
    ------
    InputError
        The file cannot be written; nothing is left behind.
    """
    path = Path(path)
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.chmod(aside, 0o644)  # mkstemp made it private
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot write it: {error.strerror or error}") from error
