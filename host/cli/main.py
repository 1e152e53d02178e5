"""The command line: ``egret``.

A command is a module beside this one, which is imported when it is asked for, and whose own head imports nothing
heavy: ``egret --help`` answers at once, and no command needs torch but those that train.
"""

import contextlib
import importlib
import keyword
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from egret.model.errors import EgretError, EgretWarning

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "train", "prune", "sweep", "report", "calibrate", "import", "quantise", "group", "compile", "evaluate", "simulate",
    "estimate", "fit", "build", "run", "self-test", "demo", "bench", "explain",
)  # fmt: skip
"""Names of the commands, each a module of this folder with a function of that name, or `import_`."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of the process's own.

    Returns
    -------
    int
        Exit status: 0 on success, 2 with one line on standard error where the user's input cannot be used or nothing
        more can be written, 130 when interrupted or terminated. 141, and not a word, where nobody reads standard output
        any more, as in ``egret run NETWORK | head``: what a shell shows for ``cat`` and others that SIGPIPE ends.
    """
    # The matrices are small: numpy's second thread gains little, and on a busy machine costs ten times what it gains.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is terminated, or loses its terminal, cleans up like what is interrupted.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", EgretWarning)
            warnings.showwarning = _warn
            return egret.main(arguments or ["--help"], prog_name="egret", standalone_mode=False) or 0
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        _tell("egret: interrupted")
        return 130
    except _ReaderGone:
        # What is still buffered has to go somewhere when the process ends.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except EgretError as error:
        return _refuse(str(error))
    except UnicodeEncodeError as error:
        text = error.object[error.start : error.end]
        return _refuse(f"{text!a} cannot be written as {error.encoding}; set PYTHONIOENCODING=utf-8, or a UTF-8 locale")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _refuse(f"{where}{error.strerror or error}")


def _warn(message, category, filename, lineno, file=None, line=None):
    """Show a warning of ours as a line, and any other one as Python does."""
    if issubclass(category, EgretWarning):
        _tell(f"egret: warning: {' '.join(str(message).split())}")
    else:
        _tell(warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n"))


def _refuse(message):
    _tell(f"egret: error: {' '.join(message.split())}")
    return 2


def _tell(line):
    with contextlib.suppress(OSError):  # standard error may be what cannot be written
        click.echo(line, err=True)


class _ReaderGone(EgretError):
    """Nobody reads standard output, or standard error, any more."""


@contextlib.contextmanager
def _reader_gone() -> Iterator[None]:
    """Raise `_ReaderGone` for a broken pipe, for which click and rich would end the process with status 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        raise _ReaderGone from error


class _Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        return getattr(importlib.import_module(f"egret.host.cli.{name}"), name)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _reader_gone():  # `--help` prints
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="egret-fpga", prog_name="egret", message="%(prog)s %(version)s")
def egret() -> None:
    """Event-driven, sparse recurrent language models, from training to an FPGA core."""


if __name__ == "__main__":
    sys.exit(main())
