"""Files: read, known by what they hold, and written so that a reader never sees half of one."""

import hashlib
import os
import tempfile
from pathlib import Path

from egret.model.errors import InputError

__all__ = ["digest", "read", "write_aside"]


def read(path: str | Path) -> bytes:
    """Content of a file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error


def digest(path: str | Path) -> str:
    """SHA-256 of the file ``path``, in hexadecimal digits; `read` says what is raised."""
    return hashlib.sha256(read(path)).hexdigest()


def write_aside(path: str | Path, data: bytes) -> None:
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
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)  # mkstemp made it private
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot write it: {error.strerror or error}") from error
