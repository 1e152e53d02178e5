"""Files: read, known by what they hold, and written so that a reader never sees half of one."""

import contextlib
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egret.model.errors import InputError

__all__ = ["digest", "directory_aside", "read", "read_toml", "write_aside"]


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


def read_toml(path: str | Path) -> dict[str, Any]:
    """Content of the TOML file ``path``. Raises `InputError` where it cannot be read, or is none."""
    content = read(path)
    try:
        return tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a TOML file: {' '.join(str(error).split())}") from error


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


@contextlib.contextmanager
def directory_aside(path: str | Path) -> Iterator[Path]:
    """Fill a new directory under another name beside it, then rename: it appears at once with all that is in it.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    Path
        Directory to fill.

    Raises
    ------
    OSError
        The directory cannot be made, or there is one with files already; nothing is left behind.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as work:
        aside = Path(work) / path.name
        aside.mkdir()
        yield aside
        aside.rename(path)
