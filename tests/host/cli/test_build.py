"""The command `egret build`."""

import json
import sys

import pytest

from egret.boards import build


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "Missing option '--board'."),
        (
            ("--board", "x"),
            (
                "--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, orangecrab-85f-ddr3, "
                "not 'x'"
            ),
        ),
        (("--board", "icebreaker", "--clock", "0"), "--clock must be above 0, not 0"),
        (("--board", "icebreaker", "--tokens", "-1"), "--tokens must be at least 0, not -1"),
        (
            ("--board", "icebreaker", "nothing"),
            (
                "nothing: cannot read it: No such file or directory; expected a checkpoint "
                "directory, an integer network or an image"
            ),
        ),
        (
            ("--board", "ulx3s-85f", "network", "--lanes", "3"),
            "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3",
        ),
        (
            ("--board", "ulx3s-85f", "network", "--clock", "3"),
            ("ULX3S-85F: hertz must be a clock that the PLL makes of 25 MHz, not 3 MHz, the nearest is 3.125 MHz"),
        ),
    ],
)
def test_build_refuses(refused, network, monkeypatch, arguments, message):
    for variable in ("YOSYS", "NEXTPNR_ECP5", "NEXTPNR_ICE40", "ECPPACK", "ICEPACK"):
        monkeypatch.setenv(variable, sys.executable)
    assert refused("build", *arguments) == message
    assert not (network / "build").exists()


def test_build_names_the_extra(refused, network, monkeypatch):
    class Lacks:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "amaranth_boards":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in list(sys.modules):
        if name.split(".")[0] == "amaranth_boards" or name == "egret.boards.ulx3s":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Lacks, *sys.meta_path])
    assert refused("build", "--board", "ulx3s-85f") == (
        "building needs amaranth_boards, which is not installed; install it: pip install 'egret-fpga[build]'"
    )


def test_build_leaves_nothing_when_a_tool_fails(egret, network, monkeypatch):
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "false")
    status, _, err = egret("build", "--board", "ulx3s-85f", "network", "-o", "out/here", "--tokens", 10)
    assert status == 2
    assert err.splitlines()[-1] == "egret: error: ULX3S-85F: yosys failed: it ended with status 1"
    assert list((network / "out").iterdir()) == []


def test_build_says_what_to_expect(egret, network, monkeypatch):
    """Tokens a second at the clock that the PLL makes, in the report, the object and the table; or not at all."""

    def run(design, tools, directory, *, progress):
        for name in ("top.bit", "top.rpt", "top.tim"):
            (directory / name).write_text("")
        return build.Result(90.0, design.hertz / 1e6, {"luts": 7}, "a to b", {"synthesis": 1.0}, directory / "top.bit")

    monkeypatch.setattr(build, "run", run)
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "true")
    arguments = ("build", "--board", "ulx3s-85f", "--no-readout", "network", "-o", "out", "--clock", 60)
    status, out, _ = egret(*arguments, "--tokens", 10, "--json")
    speed = json.loads(out)["speed"]
    assert (status, speed["megahertz"], speed["baud"]) == (0, 60, 3_000_000)
    assert json.loads((network / "out" / "report.json").read_text())["speed"] == speed
    assert 0 < speed["usb"]["generated_tokens_per_second"] < speed["at_once"]["generated_tokens_per_second"]
    status, out, _ = egret(*arguments, "--tokens", 10)
    assert status == 0 and out.count("expected tokens a second") == 4
    status, out, err = egret(*arguments, "--tokens", 0, "--json")
    assert (status, json.loads(out)["speed"], err) == (0, None, "")


def test_build_warns_of_a_board_that_was_never_routed(egret, network, monkeypatch, tmp_path):
    """One that has no file of accepted figures."""
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "false")
    monkeypatch.setattr("egret.boards.baselines.DIRECTORY", tmp_path)
    status, _, err = egret("build", "--board", "ulx3s-85f", "network", "-o", "out", "--tokens", 0)
    assert status == 2
    assert "egret: ULX3S-85F: no build of this board has been routed to its end (docs/boards.md)" in err.splitlines()
