"""Builds: what they say when a tool fails or is interrupted; and, slowly, whole ones against the accepted figures."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egret.boards.baselines import DIRECTORY, deviations, load_baseline
from egret.boards.build import run, working_directory
from egret.boards.catalogue import board_named
from egret.boards.design import generate
from egret.boards.tools import Tools
from egret.model.compiler.configuration import TINY
from egret.model.errors import InputError

ROOT = Path(__file__).parents[2]
SMALL = dataclasses.replace(TINY, weight_words=64)


def fake_tools(tmp_path, **scripts):
    """Shell scripts in place of the tools."""
    paths = {}
    for name, text in scripts.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        paths[name.replace("_", "-")] = str(path)
    return Tools(paths)


def test_a_tool_that_fails(tmp_path):
    """Its first error is told."""
    tools = fake_tools(tmp_path, yosys="echo 'Warning: x'; echo 'ERROR: no such thing'; exit 1")
    (tmp_path / "work").mkdir()
    design = generate(board_named("ulx3s-85f"), SMALL)
    with pytest.raises(InputError, match=r"^ULX3S-85F: yosys failed: no such thing \(all "):
        run(design, tools, tmp_path / "work", progress=lambda line: None)


def test_what_synthesis_finds_too_large(tmp_path):
    cells = json.dumps({"design": {"num_cells_by_type": {"SB_LUT4": 5281, "SB_RAM40_4K": 31}}})
    tools = fake_tools(tmp_path, yosys=f"echo '{cells}' > cells.json")
    (tmp_path / "work").mkdir()
    design = generate(board_named("icebreaker"), SMALL)
    with pytest.raises(
        InputError,
        match="^iCEBreaker: does not fit, by synthesis: 5,281 luts of 5,280, 31 block rams "
        "of 30; fewer lanes, fewer weights, or a larger board would$",
    ):
        run(design, tools, tmp_path / "work", progress=lambda line: None)


def test_a_build_that_is_interrupted_leaves_nothing(tmp_path):
    """The tool and its children end, and the working directory goes."""
    tools = fake_tools(tmp_path, yosys="sleep 100 & echo $! > ../pid; wait")
    design = generate(board_named("icebreaker"), SMALL)
    calls = []

    def progress(line):
        calls.append(line)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), working_directory(tmp_path / "out") as directory:
        run(design, tools, directory, progress=progress)
    assert calls[0].startswith("synthesis, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pid", "yosys"]
    pid = (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 30  # the child has its signal, and ends when the system lets it run
    command = ["ps", "-o", "stat=", "-p", pid]
    while (state := subprocess.run(command, capture_output=True, text=True).stdout[:1]) not in ("", "Z"):
        assert time.monotonic() < deadline, f"still running: {state}"
        time.sleep(0.05)


def build(name, folder, seed="0"):
    """The summary of a whole build, made in a folder, in a process that orders sets by a seed: minutes."""
    baseline = load_baseline(name)
    _, *arguments = baseline["command"].split()
    assert arguments[:2] == ["build", "--board"]
    line = arguments[4:5] if arguments[3] == "--line" else []
    assert name == "-".join([arguments[2], *line])
    folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "src")}
    arguments = [argument.replace("model/", f"{ROOT}/model/") for argument in arguments]
    command = [sys.executable, "-m", "egret.host.cli.main", *arguments, "-o", "out"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert result.returncode in (0, 1), result.stderr
    summary = json.loads(result.stdout)
    assert summary["met"] == (result.returncode == 0) == ("bitstream" in summary["files"])
    assert deviations(baseline, summary) == []
    return summary


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        # The core of the OrangeCrab is that of the ULX3S, and its tools take as long again.
        pytest.param(
            path.stem,
            marks=[pytest.mark.long] if path.stem.endswith(("-sdram", "-ddr3", "-usb", "orangecrab-85f")) else [],
        )
        for path in sorted(DIRECTORY.glob("*.json"))
        if path.stem != "icebreaker"
    ],
)
def test_build(name, tmp_path):
    """Against the accepted figures."""
    build(name, tmp_path / "build")


@pytest.mark.slow
def test_a_build_is_the_same_twice(tmp_path):
    """Two against the accepted figures, in processes that order sets differently, from two folders: the same bytes."""
    files = []
    for seed in ("1", "2"):
        names = build("icebreaker", tmp_path / seed, seed)["files"]
        files.append([(tmp_path / seed / names[key]).read_bytes() for key in ("bitstream", "image")])
    assert files[0] == files[1] and len(files[0][0]) > 100_000
