"""One case: made from a seed, written to a directory, loaded within bounds of memory and time, and judged."""

import contextlib
import gc
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

from egret.model.errors import EgretError, EgretWarning
from tests.fuzz.loaders import Loader

__all__ = ["bounded", "case_of", "judge", "scratch"]

MEMORY = 256 << 20
"""Bytes that a case may take beside what the process has; its files have a few thousand."""

SECONDS = 5
"""Of processor time that a case may take."""


class _TooLong(BaseException):
    """A case did not end in time."""


def case_of(loader: Loader, name: str, seed: int, number: int) -> dict[str, bytes]:
    """Files of a case: those of ``number``, of the loader's ``name`` and a ``seed``, always the same."""
    return dict(loader.make(Random(f"{name}/{seed}/{number}")))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for cases, in memory where there is such."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        yield Path(directory)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound this process's memory, and let what takes too long end; a warning is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    before = signal.signal(signal.SIGVTALRM, _too_long)
    gc.disable()  # its callbacks, as those of hypothesis, would meet these bounds, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", EgretWarning)
            warnings.filterwarnings("ignore", module="torch")
            yield
    finally:
        gc.enable()
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_long(*_):
    raise _TooLong(f"more than {SECONDS} s")


def judge(loader: Loader, files: dict[str, bytes], directory: Path) -> tuple[str, str]:
    """Load the ``files`` of a case in a ``directory``, which is emptied first.

    Returns
    -------
    verdict : str
        ``"loaded"``, ``"refused"`` or ``"failed"``.
    reason : str
        The line that refused it; or what went wrong.
    """
    shutil.rmtree(directory, ignore_errors=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        loader.load(directory)
    except EgretError as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return _refusal(error)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if isinstance(error, KeyboardInterrupt):
            raise
        return "failed", "".join(traceback.format_exception(error, limit=-8))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "loaded", ""


def _refusal(error):
    """What refused a case, unless it is a lack of memory in disguise."""
    line = " ".join(str(error).split())
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "failed", f"out of memory: {line}"
        cause = cause.__cause__
    return "refused", line
