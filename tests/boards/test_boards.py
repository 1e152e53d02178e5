"""Boards: clocks, tops, estimates, tools; and, slowly, whole builds against the accepted figures."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egret.boards import build
from egret.boards.baselines import DIRECTORY, deviations, load_baseline
from egret.boards.catalogue import BOARDS, board_named
from egret.boards.clocks import ecp5_settings, ice40_settings
from egret.boards.devices import DEVICES
from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import TARGETS, TINY
from egret.model.errors import InputError
from egret.rtl.uart import divisor_for
from tests.support.networks import random_network

ROOT = Path(__file__).parents[2]
SMALL = dataclasses.replace(TINY, weight_words=64)
WITH_SDRAM = dataclasses.replace(SMALL, store="sdram", weight_bits=4, embedding=4)


@pytest.mark.parametrize(
    "reference, hertz, expected",
    [
        (25e6, 80e6, (5, 16, 7)),
        (25e6, 100e6, (1, 4, 6)),
        (48e6, 84e6, (4, 7, 7)),
        (12e6, 60e6, (1, 5, 10)),
    ],
)
def test_ecp5_clock(reference, hertz, expected):
    settings = ecp5_settings(reference, hertz)
    assert (settings.reference, settings.feedback, settings.output) == expected
    assert settings.hertz == hertz
    assert 400e6 <= settings.hertz * settings.output <= 800e6


@pytest.mark.parametrize("reference, hertz, expected", [(12e6, 24e6, (0, 63, 5)), (12e6, 48e6, (0, 63, 4))])
def test_ice40_clock(reference, hertz, expected):
    """The dividers that icepll gives."""
    settings = ice40_settings(reference, hertz)
    assert (settings.reference, settings.feedback, settings.output) == expected
    assert settings.hertz == hertz


@pytest.mark.parametrize(
    "settings, hertz", [(ecp5_settings, 1e6), (ecp5_settings, 900e6), (ice40_settings, 24.3e6), (ice40_settings, 600e6)]
)
def test_clock_that_cannot_be_had(settings, hertz):
    with pytest.raises(ValueError, match="^hertz must be a clock that the PLL makes of 12 MHz, not "):
        settings(12e6, hertz)


@pytest.mark.parametrize("name", BOARDS)
def test_board(name):
    """The UART's rate comes from the clock, the target is there, and the device is that of the platform."""
    board = board_named(name)
    assert board.target in TARGETS
    assert divisor_for(board.hertz, board.baud) >= 8
    assert board.platform.device.lower() in (name for name in DEVICES) or board.platform.device == "iCE40UP5K"
    configuration_for(random_network(1, hidden=(9, 7), embedding=6), **TARGETS[board.target])


@pytest.mark.parametrize("name", BOARDS)
def test_design(name):
    """Every board's top elaborates, with its pins, and is estimated to fit."""
    board = board_named(name)
    store = TARGETS[board.target].get("store", "bram")
    configuration = WITH_SDRAM if store == "sdram" else dataclasses.replace(SMALL, store=store)
    design = build.generate(board, configuration, seed=7)
    assert [command[0] for command in design.commands] == list(build._FAMILY_TOOLS[board.device.family])
    assert "--seed" in design.commands[1] and "7" in design.commands[1]
    constraints = design.files["top.lpf" if board.device.family == "ecp5" else "top.pcf"]
    assert "uart_0__rx__io" in constraints and "uart_0__tx__io" in constraints
    assert ("sdram_0__dq__io[15]" in constraints) == (store == "sdram")
    # The same core and link as those of the virtual board.
    assert "module \\top.board.core" in design.files["top.il"] and "module \\top.board.link" in design.files["top.il"]
    cell = "EHXPLLL" if board.device.family == "ecp5" else "SB_PLL40_PAD"
    assert f"cell \\{cell} " in design.files["top.il"]
    estimate = build.estimate(design)
    assert estimate.used["luts"] > 1000 and estimate.seconds > 30
    assert estimate.least_block_rams <= estimate.used["block_rams"] <= 30
    if board.device.family == "ice40":
        assert estimate.used["large_rams"] == 4


def test_window_of_a_design():
    """More commands under way take a longer memory of replies, in proportion, and a longer queue."""
    board = board_named("ulx3s-85f")
    small = dataclasses.replace(board, window=2, receive_bytes=64)
    sizes = [
        set(map(int, re.findall(r"memory width 8 size (\d+) ", build.generate(one, SMALL).files["top.il"])))
        for one in (small, board)
    ]
    queue, replies = sorted(sizes[0] - sizes[1])
    # A queue holds one byte in the register behind it; the long one has a short one behind it besides.
    assert queue == 64 - 1
    assert sizes[1] - sizes[0] == {2, 4 * replies, 1024 - 1}


@pytest.mark.parametrize(
    "name, configuration, options, message",
    [
        ("ulx3s-85f", WITH_SDRAM, {}, "ULX3S-85F: it has no SDRAM that is supported; the image is for the store sdram"),
        ("ulx3s-85f", SMALL, {"sdram": "any"}, "ULX3S-85F: --sdram-module is for a core with the store sdram"),
        ("ulx3s-85f-sdram", WITH_SDRAM, {"sdram": "ddr3"}, "ULX3S-85F with SDRAM: --sdram-module must be one of any, "),
        (
            "ulx3s-85f-sdram",
            WITH_SDRAM,
            {"hertz": 135e6},
            ("ULX3S-85F with SDRAM: the memory runs at 125 MHz at most, not at 135 MHz"),
        ),
    ],
)
def test_sdrams_that_do_not_fit(name, configuration, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        build.generate(board_named(name), configuration, **options)


def test_clock_of_a_design():
    assert build.generate(board_named("ulx3s-85f"), SMALL, hertz=60e6).hertz == 60e6
    with pytest.raises(InputError, match="^ULX3S-85F: hertz must be a clock that the PLL makes of 25 MHz, not 3 MHz"):
        build.generate(board_named("ulx3s-85f"), SMALL, hertz=3e6)
    with pytest.raises(InputError, match="^iCEBreaker: baud must be the clock divided by an integer"):
        build.generate(board_named("icebreaker"), SMALL, hertz=22.5e6)


def test_memories_that_cannot_fit():
    """A weight memory of more bits than the device has is refused by name before any tool runs."""
    board = board_named("ulx3s-85f")
    design = build.generate(board, dataclasses.replace(SMALL, weight_words=165_000))
    estimate = build.estimate(design)
    assert estimate.least_block_rams > board.device.capacity["block_rams"]
    with pytest.raises(InputError, match=r"^ULX3S-85F: does not fit, by its memories: \d+ block rams of 208; "):
        build.refuse_what_cannot_fit(board, {"block_rams": estimate.least_block_rams}, "its memories")


@pytest.mark.parametrize(
    "words, bits, blocks",
    [(1024, 18, 1), (1025, 18, 2), (512, 36, 1), (16384, 1, 1), (10, 5, 0), (384, 72, 2), (8320, 8, 5)],
)
def test_blocks_of_an_ecp5(words, bits, blocks):
    assert DEVICES["lfe5u-85f"].blocks(words, bits) == blocks


@pytest.mark.parametrize("words, bits, blocks", [(256, 16, 1), (288, 24, 3), (384, 72, 9), (16, 15, 0)])
def test_blocks_of_an_ice40(words, bits, blocks):
    assert DEVICES["up5k"].blocks(words, bits) == blocks


def test_unknown_board():
    with pytest.raises(
        InputError, match=("^--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, not 'x'$")
    ):
        board_named("x")


def test_tools_are_found(monkeypatch, tmp_path):
    """An environment variable goes first; what is missing is named with the extra that brings it."""
    own = tmp_path / "own-yosys"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    for variable in ("YOSYS", "NEXTPNR_ICE40", "ICEPACK"):
        monkeypatch.setenv(variable, str(own))
    assert set(build.Tools.find("ice40").paths.values()) == {str(own)}
    monkeypatch.setenv("ICEPACK", "no-such-tool")
    with pytest.raises(InputError, match="^ICEPACK names 'no-such-tool', which is no command$"):
        build.Tools.find("ice40")
    monkeypatch.delenv("ICEPACK")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        InputError,
        match=r"^building needs icepack, which was not found; install it: pip install "
        r"'egret-fpga\[build\]', or name its command in ICEPACK$",
    ):
        build.Tools.find("ice40")


def fake_tools(tmp_path, **scripts):
    """Shell scripts in place of the tools."""
    paths = {}
    for name, text in scripts.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        paths[name.replace("_", "-")] = str(path)
    return build.Tools(paths)


def test_a_tool_that_fails(tmp_path):
    """Its first error is told."""
    tools = fake_tools(tmp_path, yosys="echo 'Warning: x'; echo 'ERROR: no such thing'; exit 1")
    (tmp_path / "work").mkdir()
    design = build.generate(board_named("ulx3s-85f"), SMALL)
    with pytest.raises(InputError, match="^ULX3S-85F: yosys failed: no such thing$"):
        build.run(design, tools, tmp_path / "work", progress=lambda line: None)


def test_what_synthesis_finds_too_large(tmp_path):
    cells = json.dumps({"design": {"num_cells_by_type": {"SB_LUT4": 5281, "SB_RAM40_4K": 31}}})
    tools = fake_tools(tmp_path, yosys=f"echo '{cells}' > cells.json")
    (tmp_path / "work").mkdir()
    design = build.generate(board_named("icebreaker"), SMALL)
    with pytest.raises(
        InputError,
        match="^iCEBreaker: does not fit, by synthesis: 5,281 luts of 5,280, 31 block rams "
        "of 30; fewer lanes, fewer weights, or a larger board would$",
    ):
        build.run(design, tools, tmp_path / "work", progress=lambda line: None)


def test_a_build_that_is_interrupted_leaves_nothing(tmp_path):
    """The tool and its children end, and the working directory goes."""
    tools = fake_tools(tmp_path, yosys="sleep 100 & echo $! > ../pid; wait")
    design = build.generate(board_named("icebreaker"), SMALL)
    calls = []

    def progress(line):
        calls.append(line)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), build.working_directory(tmp_path / "out") as directory:
        build.run(design, tools, directory, progress=progress)
    assert calls[0].startswith("synthesis, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pid", "yosys"]
    pid = (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 30  # the child has its signal, and ends when the system lets it run
    command = ["ps", "-o", "stat=", "-p", pid]
    while (state := subprocess.run(command, capture_output=True, text=True).stdout[:1]) not in ("", "Z"):
        assert time.monotonic() < deadline, f"still running: {state}"
        time.sleep(0.05)


# Accepted figures


def test_deviations():
    baseline = {"accepted": {"luts": 100, "megahertz": 50.0}, "tolerance": {"luts": 0.05, "megahertz": 0.1}}
    assert deviations(baseline, {"megahertz": 45.5, "used": {"luts": 105}}) == []
    assert deviations(baseline, {"megahertz": 44, "used": {"luts": 106}}) == [
        "luts: 106, accepted are 100 within 5%",
        "megahertz: 44, accepted are 50 within 10%",
    ]
    assert len(deviations(baseline, {"megahertz": 56, "used": {"luts": 94}})) == 2


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.stem)
def test_every_baseline_is_complete(path):
    assert path.stem in BOARDS
    baseline = load_baseline(path.stem)
    assert set(baseline["accepted"]) == set(baseline["tolerance"])
    assert set(baseline["accepted"]) - {"megahertz"} <= set(board_named(path.stem).device.capacity)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in DIRECTORY.glob("*.json")))
def test_build(name, tmp_path):
    """The whole build, against the accepted figures: minutes."""
    baseline = load_baseline(name)
    _, *arguments = baseline["command"].split()
    assert arguments[:3] == ["build", "--board", name]
    command = [sys.executable, "-m", "egret.host.cli.main", *arguments, "-o", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode in (0, 1), result.stderr
    summary = json.loads(result.stdout)
    assert deviations(baseline, summary) == []
    assert summary["met"] == (result.returncode == 0) == ("bitstream" in summary["files"])
