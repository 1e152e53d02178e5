"""The command line: its commands, and how it ends."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from egret.host.cli import main as cli
from egret.model.errors import EgretWarning, InputError


def test_help(egret):
    status, out, err = egret("--help")
    assert (status, err) == (0, "")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in out
    assert egret() == (status, out, err)
    for name in cli.COMMANDS:
        status, out, err = egret(name, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage: egret {name} ")


def test_bad_usage(refused, network):
    assert refused("fly") == "No such command 'fly'."
    assert refused("evaluate") == "Missing argument 'CHECKPOINT'."
    assert refused("evaluate", "network", "--text", "text", "--engine", "spice").startswith(
        "Invalid value for '--engine': 'spice' is not one of "
    )
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", "--tokens", "few") == (
        "Invalid value for '--tokens': 'few' is not a valid integer."
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption(egret, network, monkeypatch, number):
    def interrupt(*_, **__):
        if number == signal.SIGINT:  # which a runner of tests may ignore
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("egret.host.evaluation.evaluate", interrupt)
    status, out, err = egret("evaluate", "network", "--text", "text", "--engine", "float")
    assert (status, out, err) == (130, "", "\negret: interrupted\n")


HANGS = """
import click, sys
from pathlib import Path
from egret.host.cli import main
from egret.model.machine import run_tools

child = "import os, time; from pathlib import Path; Path('child').write_text(str(os.getpid())); time.sleep(60)"
tool = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

@click.command()
def hangs():
    run_tools([[sys.executable, "-c", tool]], Path("."), Path("log"))

main._Commands.get_command = lambda *_: hangs
sys.exit(main.main(["hangs"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tools_end_with_the_command(number, tmp_path):
    """A signal to the command alone ends what it has started, and the children of that."""
    child = tmp_path / "child"
    # Whoever runs the tests in the background may have it ignored.
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE, "preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}
    with subprocess.Popen([sys.executable, "-c", HANGS], **options) as process:
        deadline = time.monotonic() + 30
        while not (child.exists() and child.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert process.stderr.read() == b"\negret: interrupted\n"
        assert process.wait(10) == 130
    pid = int(child.read_text())
    while (state := subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True).stdout[:1]) not in (
        b"",
        b"Z",
    ):
        assert time.monotonic() < deadline, state
        time.sleep(0.02)


def test_a_warning_takes_one_line(egret, network, monkeypatch):
    def warn(*_, **__):
        warnings.warn("too\nlarge", EgretWarning, stacklevel=1)
        raise InputError("no")

    monkeypatch.setattr("egret.host.evaluation.evaluate", warn)
    status, out, err = egret("evaluate", "network", "--text", "text", "--engine", "float")
    assert (status, out, err) == (2, "", "egret: warning: too large\negret: error: no\n")


def test_errors_of_the_system_take_one_line(refused, network, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("egret.host.evaluation.evaluate", fail)
    message = refused("evaluate", "network", "--text", "text", "--engine", "float")
    assert message == "some/file: Permission denied"


PRINTING = pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("evaluate", "network", "--text", "text", "--engine", "float"),
        ("evaluate", "network", "--text", "text", "--engine", "float", "--json"),
    ],
    ids=["help", "help of a command", "table", "object"],
)
RUN = [sys.executable, "-W", "error", "-m", "egret.host.cli.main"]


@PRINTING
def test_closed_pipe(network, arguments):
    """Silence, and the status that a shell shows for `cat`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        result = subprocess.run([*RUN, *arguments], stdout=output, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@PRINTING
def test_full_disk(network, arguments):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*RUN, *arguments], stdout=full, stderr=subprocess.PIPE, check=False)
        assert (result.returncode, result.stderr) == (2, b"egret: error: No space left on device\n")
        result = subprocess.run([*RUN, "fly"], stdout=subprocess.PIPE, stderr=full, check=False)
        assert (result.returncode, result.stdout) == (2, b"")


def test_characters_that_cannot_be_shown(network):
    """Those of a user's text end a run, in one line; those of a table are shown as numbers, and nothing is lost."""
    (network / "network").rename(network / "nλ")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    command = [*RUN, "evaluate", "nλ", "--text", "text", "--engine", "float"]
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"") and b"n\\u03bb, float, text" in result.stdout
