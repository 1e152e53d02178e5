"""Caches, variables, temporary directories and tools on machines of all kinds."""

import os
import sys
from pathlib import Path

import pytest

from egret.model.errors import EgretWarning, InputError
from egret.model.machine import cache_directory, run_tools, safe_directory, tool_environment

PYTHON = [sys.executable, "-c"]


def test_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a b'&#é"))
    assert cache_directory() == tmp_path / "a b'&#é" / "egret"
    assert cache_directory().is_dir() and not list(cache_directory().iterdir())
    environment = tool_environment(ONE="1")
    assert environment["ONE"] == "1" and environment["XDG_CACHE_HOME"] == os.environ["XDG_CACHE_HOME"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    """Another directory stands in for this process, for tools too, and one warning says so."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(
        EgretWarning, match=f"^the cache {tmp_path}/file/egret cannot be written .*XDG_CACHE_HOME"
    ) as seen:
        places = {cache_directory(), cache_directory(), Path(tool_environment()["XDG_CACHE_HOME"])}
    assert len(seen) == 1 and len(places) == 1
    assert places.pop().is_dir()


@pytest.mark.parametrize(
    "name", ["VERILATOR_ROOT", "COCOTB_TEST_MODULES", "GPI_USERS", "MAKEFLAGS", "OBJCACHE", "YOWASP_MOUNT", "TOPLEVEL"]
)
def test_variables_of_other_projects_are_not_passed_on(name, monkeypatch):
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert name not in tool_environment() and tool_environment()["LANG"] == "C.UTF-8"


def test_a_safe_directory(tmp_path, monkeypatch):
    """No space, quote or sign that make or a shell reads, whatever TMPDIR is; refused where there is no such place."""
    odd = tmp_path / "a b'&#é"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with safe_directory("egret-") as directory:
        assert directory.is_dir() and directory.parent != odd and not set(str(directory)) & set(" '&#é")
    assert not directory.exists()
    monkeypatch.setattr("egret.model.machine.PLACES", ())
    with pytest.raises(InputError, match="only letters, digits and .*TMPDIR"), safe_directory("egret-"):
        pass


@pytest.mark.parametrize(
    "printed, reason",
    [
        ("building\nx.cpp:3: fatal error: no room\nmake: *** [x] Error 1", "x.cpp:3: fatal error: no room"),
        ("%Error: top.v:2:1: syntax", "%Error: top.v:2:1: syntax"),
        ("Warning: mirrored\nERROR: Module x is missing.", "Module x is missing."),
        ("make: ccache: not found\nmake: *** [x.o] Error 127", "make: *** [x.o] Error 127"),
    ],
)
def test_why_a_tool_failed(printed, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [*PYTHON, f"import sys; print({printed!r}); sys.exit(3)"]
    with pytest.raises(InputError) as error:
        run_tools([command], tmp_path, tmp_path / "tool.log")
    kept = tmp_path / "cache" / "egret" / "failed-tool.log"
    assert str(error.value) == f"{reason} (all that was printed: {kept})"
    assert kept.read_text() == printed + "\n"


def test_a_tool_that_says_nothing(tmp_path):
    with pytest.raises(InputError, match="^it ended with status 3$"):
        run_tools([[*PYTHON, "import sys; sys.exit(3)"]], tmp_path, tmp_path / "log")


def test_a_tool_that_cannot_be_started(tmp_path):
    with pytest.raises(InputError, match="^no/such/tool cannot be started: No such file or directory$"):
        run_tools([["no/such/tool"]], tmp_path, tmp_path / "log")
