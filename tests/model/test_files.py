"""Files written aside."""

import os

import pytest

from egret.model.errors import InputError
from egret.model.files import directory_aside, write_aside


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"first, and longer", b"second", b""):
        write_aside(path, data)
        assert path.read_bytes() == data
        assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o644
    write_aside(str(path), b"text as path")
    assert path.read_bytes() == b"text as path"


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_aside(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError) as error:
        write_aside(path, b"new")
    assert str(error.value) == f"{path}: cannot write it: No space left on device"
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_aside(tmp_path / "a.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path):
    missing = tmp_path / "none" / "a.bin"
    with pytest.raises(InputError) as error:
        write_aside(missing, b"x")
    assert str(error.value) == f"{missing}: cannot write it: No such file or directory"
    with pytest.raises(InputError, match="cannot write it: Is a directory$"):
        write_aside(tmp_path, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_appears_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "new"
    with directory_aside(path) as aside:
        (aside / "a").write_bytes(b"1")
        assert not path.exists()
        (aside / "b").write_bytes(b"2")
    assert {each.name: each.read_bytes() for each in path.iterdir()} == {"a": b"1", "b": b"2"}
    assert [each.name for each in tmp_path.iterdir()] == ["new"] and path.stat().st_mode & 0o700 == 0o700
    # Half of one does not replace it, nor does another one that comes later.
    for name, error in (("new", OSError), ("other", KeyboardInterrupt)):
        with pytest.raises(error), directory_aside(tmp_path / name) as aside:
            (aside / "c").write_bytes(b"3")
            if name == "other":
                raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["new"] and len(list(path.iterdir())) == 2
