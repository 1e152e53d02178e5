"""Outputs that a user names are refused before the work; nothing that is read exists here, so none can be done."""

import os
import sys

import pytest

from egret.host.cli.outputs import check_directory, check_files
from egret.model.errors import InputError

FILES = pytest.mark.parametrize(
    "command",
    [
        ("quantise", "nothing", "-o"),
        ("compile", "nothing", "-o"),
        ("compile", "nothing", "--verilog"),
        ("simulate", "nothing", "--waves"),
        ("run", "nothing", "--trace"),
        ("bench", "nothing", "--plot"),
        ("report", "--study", "nothing", "-o"),
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
DIRECTORIES = pytest.mark.parametrize(
    "command",
    [
        ("train", "--train", "nothing", "--valid", "nothing", "-o"),
        ("prune", "nothing", "--sparsity", "0.5", "--train", "nothing", "--valid", "nothing", "-o"),
        ("sweep", "nothing", "-o"),
        ("calibrate", "nothing", "--text", "nothing", "-o"),
        ("build", "nothing", "--board", "icebreaker", "-o"),
    ],
    ids=lambda command: command[0],
)


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """A current directory with the file `text` and the directory `folder.svg`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("abc")
    (tmp_path / "folder.svg").mkdir()
    for variable in ("YOSYS", "NEXTPNR_ICE40", "ICEPACK"):
        monkeypatch.setenv(variable, sys.executable)
    yield tmp_path
    assert sorted(os.listdir()) == ["folder.svg", "text"]


@FILES
def test_files(command, refused, outputs, monkeypatch):
    for path, reason in (
        ("no/where.svg", "No such file or directory"),
        ("text/x.svg", "Not a directory"),
        ("folder.svg", "Is a directory"),
    ):
        assert refused(*command, path) == f"{path}: cannot write it: {reason}"
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anything
    assert refused(*command, "x.svg") == "x.svg: cannot write it: Permission denied"


@DIRECTORIES
def test_directories(command, refused, outputs, monkeypatch):
    for path in ("text", "text/x", "text/x/y"):
        assert refused(*command, path) == f"{path}: cannot write it: Not a directory"
    monkeypatch.setattr("os.access", lambda *_: False)
    for path in ("folder.svg", "x", "x/y"):
        assert refused(*command, path) == f"{path}: cannot write it: Permission denied"


def test_suffixes(refused, outputs):
    assert refused("bench", "nothing", "--plot", "p.xyz") == (
        "p.xyz: a file for --plot must have a name that ends in .png, .svg or .pdf"
    )


def test_two_outputs_in_one_file(refused, outputs):
    """By whatever name: nothing is lost."""
    assert refused("compile", "nothing", "-o", "x", "--verilog", "folder.svg/../x") == (
        "folder.svg/../x: -o and --verilog name the same file; give two"
    )
    for command in (
        ("compile", "text", "-o"),
        ("simulate", "text", "--waves"),
        ("run", "text", "--trace"),
    ):
        assert refused(*command, "text") == f"text: SOURCE and {command[-1]} name the same file; give two"
    for command in (("simulate", "nothing", "--text", "text", "--waves"), ("run", "x", "--text", "text", "--trace")):
        assert refused(*command, "text") == f"text: --text and {command[-1]} name the same file; give two"
    check_files({"-o": "/dev/null", "--verilog": "/dev/null"})


def test_what_can_be_written(outputs):
    """A link to a file or to nothing, a file, a name in a directory; a directory whose parents lack."""
    (outputs / "folder.svg" / "link").symlink_to("../text")
    (outputs / "folder.svg" / "dangling").symlink_to("nothing")
    for path in ("folder.svg/link", "folder.svg/dangling", "text", "new", "folder.svg/new"):
        check_files({"-o": path, "--verilog": None})
    for path in ("folder.svg", "new", "a/b/c", "folder.svg/dangling"):
        check_directory(path)
    (outputs / "folder.svg" / "lost").symlink_to("no/where")
    with pytest.raises(InputError, match="lost: cannot write it: No such file or directory"):
        check_files({"-o": "folder.svg/lost"})
