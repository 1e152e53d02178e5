"""Files: read, known by what they hold, and written so that a reader never sees half of one."""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import secrets
import stat
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egret.model.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "MOST_LAYERS",
    "MOST_TOKENS",
    "check_unpacked",
    "digest",
    "directory_aside",
    "is_torch",
    "json_text",
    "read",
    "read_array",
    "read_toml",
    "refuse_foreign",
    "write_aside",
]

MOST_LAYERS = 1 << 12
"""Of a network in a file: the names of its tensors must fit what is read of the file's head."""
MOST_TOKENS = 1 << 20
"""Of a vocabulary: far above any that could be built. One of ids takes 150 MB then, and its file a line."""

_UNPACKED, _UNPACKED_MORE = 1024, 1 << 22  # numbers that a file may stand for: for each of its bytes, and beside these

_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")  # zip; pickle, until 1.5
_TORCH_MEMBER = "data.pkl"  # of the zip
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_torch(path: str | Path) -> bool:
    """Whether the file ``path`` is what ``torch.save`` writes."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(_TORCH[1]))
        if begin.startswith(_TORCH[0]):
            with zipfile.ZipFile(path) as archive:
                return any(name.rpartition("/")[2] == _TORCH_MEMBER for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return begin == _TORCH[1]


def refuse_foreign(path: str | Path) -> None:
    """Say what the file ``path`` is and what to do, in an `InputError`, where another program wrote a network to it."""
    path = Path(path)
    if not path.is_file():
        return
    if is_torch(path):
        raise InputError(
            f"{path}: a PyTorch file; `egret import evnn` or `egret import safetensors` makes a checkpoint of it"
        )
    if path.suffix.lower() in (".onnx", ".nir") or read(path).startswith(_HDF5):
        raise InputError(
            f"{path}: a graph (ONNX, NIR or HDF5); Egret takes the tensors of a module, not its graph: "
            "`egret import safetensors` makes a checkpoint of its state dict"
        )


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
    except ValueError as error:  # a path from a file, with a character that no path has
        raise InputError(f"{str(path)!r}: cannot read it: {error}") from error


def check_unpacked(numbers: int, size: int) -> None:
    """Raise `InputError` where a file of ``size`` bytes would become more ``numbers`` than a sound one does.

    So a small file cannot fill the memory. A pruned network has one weight in a thousand, or more.
    """
    if numbers > (most := _UNPACKED_MORE + _UNPACKED * size):
        raise InputError(f"would hold {numbers} numbers; its {size} bytes may stand for {most}")


def read_array(data: bytes, where: str | Path) -> "np.ndarray":
    """An array of numbers, from the content of a ``.npy``; never larger than the ``data``.

    Parameters
    ----------
    data : bytes
    where : str or Path
        Named in errors.

    Returns
    -------
    np.ndarray
        Read-only.

    Raises
    ------
    InputError
        It is none, or has another length than it says.
    """
    import numpy as np

    file = io.BytesIO(data)
    try:
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2
            shape, by_columns, dtype = headers[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError("it holds objects, not numbers")
        content = data[file.tell() :]
        if (size := math.prod(shape) * dtype.itemsize) != len(content):
            raise ValueError(f"the numbers take {size} bytes, not {len(content)}")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    except Exception as error:  # a header is Python's text, and numpy's reader raises whatever that brings about
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{where}: cannot read the numpy array: {reason}") from None


def digest(path: str | Path) -> str:
    """SHA-256 of the file ``path``, in hexadecimal digits; `read` says what is raised."""
    return hashlib.sha256(read(path)).hexdigest()


def read_toml(path: str | Path) -> dict[str, Any]:
    """Content of the TOML file ``path``. Raises `InputError` where it cannot be read, or is none."""
    content = read(path)
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file: {' '.join(str(error).split())}") from error


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A ``value`` as JSON, with an ``indent`` or on one line; numbers that JSON lacks, infinities and NaN, are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_aside(path: str | Path, data: bytes) -> None:
    """Write a file under another name beside it, then rename.

    What is there is treated as a shell's ``>`` treats it. A symbolic link stays and the file that it names is replaced;
    a file keeps its permissions, and is refused where these forbid to write; a device or a pipe is written to. A new
    file has the permissions that the umask leaves.

    Parameters
    ----------
    path : str or Path
    data : bytes

    Raises
    ------
    InputError
        The file cannot be written; nothing is left behind.
    """
    try:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            found = None
        if found is not None and not stat.S_ISREG(found.st_mode):
            Path(path).write_bytes(data)
            return
        if found is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        target = Path(os.path.realpath(path))
        aside = target.parent / f".{target.name[:50]}.{secrets.token_hex(4)}"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if found is not None:
                os.chmod(aside, stat.S_IMODE(found.st_mode))
            os.replace(aside, target)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot write it: {error.strerror or error}") from error


@contextlib.contextmanager
def directory_aside(path: str | Path) -> Iterator[Path]:
    """Fill a new directory under another name beside it, then rename: it appears at once with all that is in it.

    Where there is a symbolic link to nothing, the directory is made where it points to.

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
    path = Path(os.path.realpath(path))
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:50]}.", dir=path.parent) as work:
        aside = Path(work) / path.name
        aside.mkdir()
        yield aside
        aside.rename(path)
