"""Outputs that a user names, refused before the work where they could not be written after it."""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from egret.model.errors import InputError

__all__ = ["check_directory", "check_files"]

Named = Mapping[str, str | Path | None]


def check_files(outputs: Named, inputs: Named | None = None, *, suffixes: Sequence[str] = ()) -> None:
    """Refuse files that cannot be written, or of which one would replace another.

    Parameters
    ----------
    outputs : dict of str to str, Path or None
        Paths by the option that names each; None where it is not given.
    inputs : dict of str to str, Path or None
        Likewise, what is read.
    suffixes : sequence of str
        Accepted ends of the names; any where there are none.

    Raises
    ------
    InputError
        The directory of one does not exist, one is a directory or forbids writing, has another suffix, or is named
        twice.
    """
    named = {option: Path(path) for option, path in (inputs or {}).items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        if suffixes and Path(path).suffix.lower() not in suffixes:
            accepted = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
            raise InputError(f"{path}: a file for {option} must have a name that ends in {accepted}")
        _check(path, _reason_of_file)
        for other, its_path in named.items():
            if os.path.realpath(path) == os.path.realpath(its_path) and not _is_special(path):
                raise InputError(f"{path}: {other} and {option} name the same file; give two")
        named[option] = Path(path)


def check_directory(path: str | Path) -> None:
    """Refuse an output directory that can neither be made nor written to; raises `InputError` for such a ``path``."""
    _check(path, _reason_of_directory)


def _check(path, reason_of):
    try:
        reason = reason_of(Path(path))
    except OSError as error:
        reason = error.errno
    if reason is not None:
        raise InputError(f"{path}: cannot write it: {os.strerror(reason)}")


def _is_special(path):
    return os.path.exists(path) and not os.path.isfile(path)


def _reason_of_file(path):
    """Number of the error that writing it would meet, or None."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return _reason_of_parent(Path(os.path.realpath(path)).parent)
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    if not os.access(path, os.W_OK):
        return errno.EACCES
    return _reason_of_parent(Path(os.path.realpath(path)).parent) if stat.S_ISREG(mode) else None


def _reason_of_directory(path):
    path = Path(os.path.realpath(path))
    while not os.path.lexists(path):
        path = path.parent
    return _reason_of_parent(path)


def _reason_of_parent(path):
    if not stat.S_ISDIR(os.stat(path).st_mode):
        return errno.ENOTDIR
    return None if os.access(path, os.W_OK | os.X_OK) else errno.EACCES
