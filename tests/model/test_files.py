"""Files written aside."""

import io
import json
import math
import os

import numpy as np
import pytest

from egret.model.errors import InputError
from egret.model.files import (
    directory_aside,
    is_torch,
    json_text,
    read,
    read_array,
    read_toml,
    refuse_foreign,
    write_aside,
)


def test_numbers_that_json_lacks():
    value = {"a": [1.5, -math.inf, (math.nan, 2)], "b": {"c": math.inf}, "d": "NaN"}
    expected = {"a": [1.5, None, [None, 2]], "b": {"c": None}, "d": "NaN"}
    for indent in (None, 1):
        assert json.loads(json_text(value, indent=indent), parse_constant=pytest.fail) == expected
    assert "\n" not in json_text(value)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"first, and longer", b"second", b""):
        write_aside(path, data)
        assert path.read_bytes() == data
        assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
    write_aside(str(path), b"text as path")
    assert path.read_bytes() == b"text as path"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_what_a_shell_would_give(mask, tmp_path):
    path, before = tmp_path / "a.bin", os.umask(mask)
    try:
        write_aside(path, b"new")
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
        with directory_aside(tmp_path / "b") as aside:
            write_aside(aside / "c", b"")
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o777 & ~mask
        path.chmod(0o640)
        write_aside(path, b"newer")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"newer", 0o640)
    finally:
        os.umask(before)


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to("there/target")
    for data in (b"first", b"second"):  # a link to nothing, and to a file
        write_aside(link, data)
        assert link.is_symlink() and target.read_bytes() == data
    assert os.listdir(target.parent) == ["target"]
    link.unlink()
    link.symlink_to("there/new")
    with directory_aside(link) as aside:
        (aside / "a").write_bytes(b"1")
    assert link.is_symlink() and (target.parent / "new" / "a").read_bytes() == b"1"
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(InputError, match="link: cannot write it: Too many levels of symbolic links"):
        write_aside(link, b"x")


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_aside(path, b"data")
    assert os.read(reader, 100) == b"data" and path.is_fifo()
    os.close(reader)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_is_written_to():
    with pytest.raises(InputError, match="/dev/full: cannot write it: No space left on device"):
        write_aside("/dev/full", b"x")
    assert not os.path.isfile("/dev/full")


def test_a_file_that_forbids_writing_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    with pytest.raises(InputError, match="a.bin: cannot write it: Permission denied"):
        write_aside(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_long_name(tmp_path):
    path = tmp_path / ("é" * 127)
    write_aside(path, b"data")
    assert path.read_bytes() == b"data"


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


def test_a_byte_order_mark_is_no_part_of_a_toml_file(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"x": 1}


def test_what_cannot_be_a_path_or_a_toml_file(tmp_path):
    for path in ("a\0b", "\ud800"):
        with pytest.raises(InputError, match=r"^'(a\\x00b|\\ud800)': cannot read it: "):
            read(path)
    (tmp_path / "a.toml").write_text("x = " + "[" * 5000)
    with pytest.raises(InputError, match="a.toml: not a TOML file: maximum recursion depth exceeded"):
        read_toml(tmp_path / "a.toml")


def test_arrays_are_as_they_were_saved():
    for array in (np.arange(6).reshape(2, 3).T, np.zeros((2, 0, 3), np.uint8), np.array([1.5], ">f4")):
        file = io.BytesIO()
        np.save(file, array)
        found = read_array(file.getvalue(), "a")
        assert found.dtype == array.dtype and found.shape == array.shape and (found == array).all()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "(" * 300,
        "{'descr': 'x",
        "[" * 60000,
    ],
)
def test_arrays_that_say_what_they_are_not(header):
    data = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)
    with pytest.raises(InputError, match=r"^a: cannot read the numpy array: [^\n]*$"):
        read_array(data, "a")


def test_files_of_other_programs(tmp_path):
    """Each is named in one line; what is damaged, missing or a directory passes."""
    torch = pytest.importorskip("torch")
    for new in (True, False):
        torch.save({"a": torch.zeros(2)}, tmp_path / "a.bin", _use_new_zipfile_serialization=new)
        assert is_torch(tmp_path / "a.bin")
        with pytest.raises(InputError, match="a.bin: a PyTorch file; `egret import evnn`"):
            refuse_foreign(tmp_path / "a.bin")
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "a").write_bytes(b"")
    for name in ("a.npz", "a.zip", "a", "none", "."):
        assert not is_torch(tmp_path / name)
        refuse_foreign(tmp_path / name)
    (tmp_path / "a.ONNX").write_bytes(b"\x08\x07")
    (tmp_path / "b").write_bytes(b"\x89HDF\r\n\x1a\n")
    for name in ("a.ONNX", "b"):
        with pytest.raises(InputError, match=f"{name}: a graph .* makes a checkpoint of its state dict"):
            refuse_foreign(tmp_path / name)
