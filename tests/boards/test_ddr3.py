"""The PHY of a DDR3, its clocks and its pins."""

import re
import sys

import pytest

from egret.boards.catalogue import board_named
from egret.boards.clocks import ddr3_settings
from egret.boards.ddr3 import phy_verilog
from egret.boards.design import generate
from egret.model.errors import InputError
from egret.rtl.ddr3_timing import Ddr3Part, Ddr3Timing
from tests.boards.test_design import WITH_DDR3

BOARD = board_named("orangecrab-85f-ddr3")


def test_clocks():
    settings = ddr3_settings(48e6, 75e6)
    assert (settings.reference, settings.feedback, settings.output, settings.hertz) == (2, 25, 8, 75e6)
    assert ddr3_settings(48e6, 62.5e6).hertz == 62.4e6
    assert Ddr3Timing.of(Ddr3Part(), 2 * 62.4e6).dll is False
    with pytest.raises(ValueError, match="must be a clock that the PLL makes of 25 MHz"):
        ddr3_settings(25e6, 75e6)


@pytest.fixture(scope="module")
def design():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("egret.boards.design.phy_verilog", lambda hertz: "module ddr3_phy; endmodule\n")
        return generate(BOARD, WITH_DDR3)


def test_pins(design):
    """Those that amaranth-boards has wrong, and the negative ones, which are not named."""
    places = dict(re.findall(r'LOCATE COMP "ddram_0__(\S+?)" SITE "(\w+)"', design.files["top.lpf"]))
    assert [places[f"ba__io[{line}]"] for line in range(3)] == ["D6", "B7", "A6"]
    assert [places[f"{line}__io[{byte}]"] for line in ("dm", "dqs_p") for byte in (0, 1)] == [
        "D16",
        "G16",
        "B15",
        "G18",
    ]
    assert len(places) == len(set(places.values())) == 16 + 2 + 2 + 13 + 3 + 3 + 1 + 4 + 3 + 6 + 2
    cells = re.findall(r"cell \\(\w+) \\", design.rtlil)
    assert {"ECLKBRIDGECS", "ECLKSYNCB", "CLKDIVF", "EHXPLLL", "ddr3_phy"} <= set(cells)


def test_the_reset_ends_at_an_edge_of_the_core_s_clock(design):
    """The PLL's clock is another one: its reset could end in one cycle for a register and in the next for another."""
    modules = re.findall(r"^module .*?^end$", design.rtlil, re.M | re.S)
    (last,) = (module for module in modules if re.search(r"^  wire width 1 output \d+  \\rst$", module, re.M))
    assert set(re.findall(r"connect \\CLK (\S+)", last)) == {"\\clk"} and "ARST" not in last
    (top,) = (module for module in modules if module.startswith("module \\top\n"))
    assert "\nconnect \\divided_clock \\clk [0]\n" in top
    name = last.splitlines()[0].removeprefix("module ")
    assert re.search(rf"^  cell {re.escape(name)} .*\n    connect \\clk \\clk \[0\]$", top, re.M)


def test_a_part_that_does_not_exist():
    with pytest.raises(InputError, match="--sdram-module must be one of any, mt41k64m16-125, "):
        generate(BOARD, WITH_DDR3, sdram="as4c32m16sb-7")


def test_litedram_is_needed(monkeypatch):
    class WithoutLiteDram:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "litedram":
                raise ModuleNotFoundError("No module named 'litedram'", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "litedram"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutLiteDram, *sys.meta_path])
    with pytest.raises(InputError, match=r"a board with a DDR3 needs litedram, .* pip install 'egret-fpga\[ddr3\]'"):
        phy_verilog(75e6)


def test_phy():
    pytest.importorskip("litedram")
    text = phy_verilog(75e6)
    assert text == phy_verilog(75e6) != phy_verilog(60e6)
    assert "module ddr3_phy (" in text and "Date" not in text
    for port in ("dly_sel", "slip_rst", "stop", "clock_reset", "p0_rddata_valid", "p1_wrdata_mask", "pads_dqs_p"):
        assert re.search(rf"^ +(?:input|output|inout) .* {port},?$", text, re.M)
