"""Tops of boards: pins, clocks, memories, and what they are estimated to need."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from egret.boards.catalogue import BOARDS, board_named
from egret.boards.design import generate
from egret.boards.estimate import estimate
from egret.boards.tools import FAMILY_TOOLS
from egret.model.compiler.configuration import DDR3_RATIO, TARGETS, TINY
from egret.model.errors import InputError

SMALL = dataclasses.replace(TINY, weight_words=64)
WITH_SDRAM = dataclasses.replace(SMALL, store="sdram", weight_bits=4, embedding=4)
WITH_DDR3 = dataclasses.replace(WITH_SDRAM, lanes=8, memory_ratio=DDR3_RATIO)


@pytest.mark.parametrize("name, line", [(name, line) for name in BOARDS for line in board_named(name).lines])
def test_design(name, line, monkeypatch):
    """Every board's top elaborates, with its pins, and is estimated to fit."""
    monkeypatch.setattr("egret.boards.design.phy_verilog", lambda hertz: "module ddr3_phy; endmodule\n")
    board = board_named(name).with_line(line)
    store = TARGETS[board.target].get("store", "bram")
    with_sdram = WITH_DDR3 if board.ddr3 else WITH_SDRAM
    configuration = with_sdram if store == "sdram" else dataclasses.replace(SMALL, store=store)
    design = generate(board, configuration, seed=7)
    assert [command[0] for command in design.commands] == list(FAMILY_TOOLS[board.device.family])
    assert "--seed" in design.commands[1] and "7" in design.commands[1]
    constraints = design.files["top.lpf" if board.device.family == "ecp5" else "top.pcf"]
    lines = {"uart": ("rx", "tx"), "usb": ("d_p", "d_n", "pullup")}[line]
    assert all(f"{line}_{board.port[1]}__{pin}__io" in constraints for pin in lines)
    assert ("sdram_0__dq__io[15]" in constraints) == (board.sdram is not None)
    assert ("ddram_0__dq__io[15]" in constraints) == ("ddr3_phy.v" in design.files) == (board.ddr3 is not None)
    # The same core and link as those of the virtual board.
    assert "module \\top.board.core" in design.files["top.il"] and "module \\top.board.link" in design.files["top.il"]
    cell = "EHXPLLL" if board.device.family == "ecp5" else "SB_PLL40_PAD"
    assert f"cell \\{cell} " in design.files["top.il"]
    needed = estimate(design)
    assert needed.used["luts"] > 1000 and needed.seconds > 30
    assert needed.least_block_rams <= needed.used["block_rams"] <= 30
    if board.device.family == "ice40":
        assert needed.used["large_rams"] == 4


# The same pins are in the constraints of LiteX and of each board's own examples.
@pytest.mark.parametrize(
    "name, reference, pins", [("orangecrab-85f", 48e6, "N1 M2 N2"), ("ulx3s-85f", 25e6, "D15 E15 B12")]
)
def test_usb_of_a_design(name, reference, pins):
    """Its clocks come from a second PLL, its pins are those of the board's socket, and it says which board it is."""
    board = board_named(name).with_line("usb")
    design = generate(board, SMALL)
    cells = [text.split("\n  end\n")[0] for text in design.rtlil.split("  cell \\EHXPLLL ")[1:]]
    dividers = [
        {key: int(value) for key, value in re.findall(r"parameter \\(CLK\w+_DIV) (\d+)\n", cell)} for cell in cells
    ]
    usb = next(found for found in dividers if "CLKOS_DIV" in found)
    fed_back = usb.get("CLKOS3_DIV", usb["CLKOP_DIV"])
    oscillator = reference / usb["CLKI_DIV"] * usb["CLKFB_DIV"] * fed_back
    assert len(cells) == 2 and [oscillator / usb[f"{output}_DIV"] for output in ("CLKOP", "CLKOS")] == [12e6, 48e6]
    path = 'parameter \\FEEDBK_PATH "CLKOS3"'
    assert sum(path in cell for cell in cells) == ("CLKOS3_DIV" in usb)
    for line, pin in zip(("d_p", "d_n", "pullup"), pins.split(), strict=True):
        assert f'LOCATE COMP "usb_{board.port[1]}__{line}__io" SITE "{pin}";' in design.files["top.lpf"]
    with_pulls = [line for line in design.files["top.lpf"].splitlines() if "usb_1__" in line and "IOBUF" in line]
    assert all("PULLMODE=NONE" in line for line in with_pulls) and len(with_pulls) == 3 * board.port[1]


def test_a_design_without_luna(monkeypatch):
    board = board_named("orangecrab-85f")

    class WithoutLuna:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "luna":
                raise ModuleNotFoundError("No module named 'luna'", name=name)

    for name in [name for name in sys.modules if name.startswith("egret.rtl.usb") or name.partition(".")[0] == "luna"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutLuna, *sys.meta_path])
    with pytest.raises(
        InputError,
        match=r"^the USB of the OrangeCrab r0.2, 85F needs luna, which is not installed; install it: pip install "
        r"'egret-fpga\[usb\]'$",
    ):
        generate(board, SMALL)


def test_window_of_a_design():
    """More commands under way take a longer memory of replies, in proportion, and a longer queue."""
    board = board_named("ulx3s-85f")
    small = dataclasses.replace(board, window=2, receive_bytes=64)
    sizes = [
        set(map(int, re.findall(r"memory width 8 size (\d+) ", generate(one, SMALL).files["top.il"])))
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
        (
            "orangecrab-85f",
            WITH_DDR3,
            {},
            "OrangeCrab r0.2, 85F: it has no DDR3 that is supported; the image is for one",
        ),
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
        generate(board_named(name), configuration, **options)


def test_clock_of_a_design():
    assert generate(board_named("ulx3s-85f"), SMALL, hertz=60e6).hertz == 60e6
    with pytest.raises(InputError, match="^ULX3S-85F: hertz must be a clock that the PLL makes of 25 MHz, not 3 MHz"):
        generate(board_named("ulx3s-85f"), SMALL, hertz=3e6)
    with pytest.raises(InputError, match="^iCEBreaker: baud must be the clock divided by an integer"):
        generate(board_named("icebreaker"), SMALL, hertz=22.5e6)


@pytest.mark.slow
def test_a_design_is_the_same_in_every_process():
    """Python orders sets of strings anew in each; what the tools are given has nothing of that, nor of the time."""
    code = (
        "import dataclasses, hashlib\n"
        "from egret.boards.catalogue import board_named\n"
        "from egret.boards.design import generate\n"
        "from egret.model.compiler.configuration import TINY\n"
        "digest = hashlib.sha256()\n"
        "for name in ('icebreaker', 'orangecrab-85f'):\n"
        "    design = generate(board_named(name), dataclasses.replace(TINY, weight_words=64))\n"
        "    digest.update(repr((sorted(design.files.items()), design.commands)).encode())\n"
        "print(digest.hexdigest())"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(digests[0]) == 65 and digests[0] == digests[1]
