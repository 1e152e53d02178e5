"""What tools of others need of the user's machine: a cache, variables, safe paths, and an end when we end."""

import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from egret.model.errors import EgretWarning, InputError

__all__ = [
    "cache_directory",
    "failure",
    "find_compiler",
    "run_tools",
    "safe_directory",
    "tool_environment",
    "users_cache",
]

# Variables by which a user's other projects steer the same tools. What we want of the tools, we tell them ourselves.
_OTHERS = re.compile(
    r"(COCOTB|GPI|PYGPI|VERILATOR|YOWASP|AMARANTH|IVERILOG|IVL|VVP|CFG|OPT)_\w*|OBJCACHE|TOPLEVEL|TOPLEVEL_LANG|MODULE"
    r"|SIM|RANDOM_SEED|MAKEFLAGS|MFLAGS|MAKELEVEL|MAKEFILES|MAKEOVERRIDES|CFLAGS|CPPFLAGS|CXXFLAGS|LDFLAGS"
)
_SAFE = re.compile(r"[\w./+@:,=-]+", re.ASCII)
_ERROR = re.compile(r"\b(fatal )?error\b[^:]{0,40}:", re.IGNORECASE)
_POLL = 0.02  # seconds

PLACES = ("/tmp", "/var/tmp")
"""Where a safe directory can be beside the user's own place for temporary files."""


def users_cache() -> Path:
    """The user's cache directory for Egret, whether it is there and can be written or not."""
    import platformdirs

    return platformdirs.user_cache_path("egret")


def cache_directory() -> Path:
    """The user's cache directory for Egret, made where it is missing.

    Where it cannot be written, a directory that goes with this process; an `EgretWarning` says so.
    """
    return _usable(users_cache())


@functools.cache
def _usable(path):
    """A directory as it is, or another one in its place."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0")
    except OSError as error:
        message = f"the cache {path} cannot be written ({error.strerror or error}): what is built is used once; "
        warnings.warn(f"{message}XDG_CACHE_HOME may name another place", EgretWarning, stacklevel=3)
        path = Path(tempfile.mkdtemp(prefix="egret-cache-"))
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def find_compiler() -> str:
    """The C++ compiler's command. Raises `InputError` where there is none."""
    compiler = shutil.which("c++")
    if compiler is None:
        raise InputError("c++ is needed and was not found; install it (Debian, Ubuntu: apt install g++)")
    return compiler


def tool_environment(**variables: str) -> dict[str, str]:
    """Environment for a tool: the user's, without what another project's build would set, and with ``variables``.

    Yosys keeps what it has compiled of itself in the user's cache; where that cannot be written, in our own.
    """
    environment = {name: value for name, value in os.environ.items() if not _OTHERS.fullmatch(name)}
    cache = cache_directory()
    if not _is_kept():
        environment |= {"XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    return environment | variables


@contextmanager
def safe_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory whose path make and shells of tools take as it is.

    Parameters
    ----------
    prefix : str
        Of its name.

    Yields
    ------
    Path

    Raises
    ------
    InputError
        There is no place for one.
    """
    for place in filter(_SAFE.fullmatch, (tempfile.gettempdir(), *PLACES)):
        with suppress(OSError):
            directory = tempfile.TemporaryDirectory(prefix=prefix, dir=place)
            break
    else:
        raise InputError(
            f"a directory for temporary files is needed whose path has only letters, digits and ./+@:,=-_; "
            f"{tempfile.gettempdir()} is none: let TMPDIR name another"
        )
    with directory as path:
        yield Path(path)


def run_tools(
    commands: Sequence[Sequence[str]],
    directory: Path,
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    own_logs: Sequence[str] = (),
    waiting: Callable[[], None] = lambda: None,
) -> None:
    """Run commands, as many at once as there are processors. They end with their children when this function ends.

    Parameters
    ----------
    commands : sequence of sequence of str
    directory : Path
        To run in.
    log : Path
        Where what they print goes.
    environment : mapping, optional
        `tool_environment` when not given.
    own_logs : sequence of str
        Patterns of the names of logs that a tool writes itself, in the directory.
    waiting : callable, optional
        Called again and again; what it raises ends all.

    Raises
    ------
    InputError
        A command could not be started or failed: the first line that tells an error, and where the whole log is.
    """
    environment = tool_environment() if environment is None else environment
    todo, running = list(reversed(commands)), []
    with log.open("ab") as output:
        try:
            while todo or running:
                while todo and len(running) < (os.cpu_count() or 1):
                    running.append(_start(todo.pop(), directory, output, environment))
                waiting()
                time.sleep(_POLL)
                for process in [process for process in running if process.poll() is not None]:
                    running.remove(process)
                    if process.returncode:
                        logs = [log, *(path for pattern in own_logs for path in sorted(directory.glob(pattern)))]
                        raise InputError(failure(logs, f"it ended with status {process.returncode}"))
        finally:
            for process in running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()


def _start(command, directory, output, environment):
    try:
        return subprocess.Popen(
            list(command),
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise InputError(f"{command[0]} cannot be started: {error.strerror or error}") from error


def failure(logs: Sequence[Path], otherwise: str) -> str:
    """Why a tool failed, from what it printed, which is kept for the user to read.

    Parameters
    ----------
    logs : sequence of Path
        The first one holds what the tool printed.
    otherwise : str
        What is known where they say nothing.

    Returns
    -------
    str
        The first line that tells an error, else the last one, else ``otherwise``; and where that log is kept.
    """
    said = [
        (log, line.strip())
        for log in logs
        if log.exists()
        for line in log.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    if not said:
        return otherwise
    errors = [(log, line.partition("ERROR: ")[2] or line) for log, line in said if _ERROR.search(line)]
    log, reason = (errors or [one for one in said if one[0] == said[0][0]][-1:])[0]
    place = cache_directory() / f"failed-{log.name}"
    try:
        shutil.copyfile(log, place)
    except OSError:
        return reason
    return f"{reason} (all that was printed: {place})" if _is_kept() else reason


def _is_kept():
    """Whether the cache outlives this process."""
    return cache_directory() == users_cache()
