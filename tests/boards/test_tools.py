"""Where the tools are found, how they are run, and what their reports say."""

import json
import sys

import pytest

from egret.boards.tools import Report, Tools, synthesis_script
from egret.model.errors import InputError


def test_tools_are_found(monkeypatch, tmp_path):
    """An environment variable goes first; what is missing is named with the extra that brings it."""
    own = tmp_path / "own-yosys"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    for variable in ("YOSYS", "NEXTPNR_ICE40", "ICEPACK"):
        monkeypatch.setenv(variable, str(own))
    assert set(Tools.find("ice40").paths.values()) == {str(own)}
    monkeypatch.setenv("ICEPACK", "no-such-tool")
    with pytest.raises(InputError, match="^ICEPACK names 'no-such-tool', which is no command$"):
        Tools.find("ice40")
    monkeypatch.delenv("ICEPACK")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        InputError,
        match=r"^building needs icepack, which was not found; install it: pip install "
        r"'egret-fpga\[build\]', or name its command in ICEPACK$",
    ):
        Tools.find("ice40")


def test_what_a_tool_prints_is_kept(tmp_path):
    """In its log; where it fails, what it tells first is the message, from the log that it writes itself as well."""
    script = tmp_path / "yosys"
    script.write_text(
        "#!/bin/sh\necho said; echo $1 >&2; [ $1 = good ] || { echo 'ERROR: own log' > x.rpt; exit 1; }\n"
    )
    script.chmod(0o755)
    tools = Tools({"yosys": str(script)})
    tools.run("yosys", ["good"], tmp_path)
    assert (tmp_path / "yosys.log").read_text() == "said\ngood\n"
    with pytest.raises(InputError, match=r"^yosys failed: own log \(all that was printed: .*\)$"):
        tools.run("yosys", ["bad"], tmp_path)


def test_script():
    lines = synthesis_script("ice40", ["read_rtlil a.il"], "a", "write_json a.json", options="-nobram").splitlines()
    assert lines[0] == "read_rtlil a.il" and lines[-2:] == ["synth_ice40 -dsp -nobram -top a", "write_json a.json"]


@pytest.mark.parametrize("crossing, expected, steps", [([5.0], 75.0, [1.0, 2.5]), ([6.0, 4.0], 50.0, [6.0, 4.0])])
def test_report(crossing, expected, steps, tmp_path):
    """The clock that is hardest to meet, or the path between two, which has a cycle of the faster one."""

    def path(before, after, *delays):
        steps = [
            {"type": "logic", "from": {"cell": f"c{place}"}, "to": {"cell": f"c{place + 1}"}, "delay": delay}
            for place, delay in enumerate(delays)
        ]
        return {"from": before, "to": after, "path": steps}

    content = {
        "fmax": {"a": {"achieved": 90.0, "constraint": 60.0}, "b": {"achieved": 150.0, "constraint": 120.0}},
        "utilization": {"LUT": {"used": 3, "available": 9}},
        "critical_paths": [
            path("posedge a", "posedge a", 1.0),
            path("posedge b", "posedge b", 1.0, 2.5),
            path("posedge a", "posedge b", *crossing),
            path("<async>", "posedge b", 99.0),
        ],
    }
    (tmp_path / "report.json").write_text(json.dumps(content))
    report = Report.read(tmp_path / "report.json")
    assert (report.megahertz, report.wanted_megahertz, report.used) == (expected, 60.0, {"LUT": 3})
    assert report.critical_path == f"c0 to c{len(steps)}"
    assert report.steps == [("logic", f"c{place}", delay) for place, delay in enumerate(steps, 1)]
    # Where the core's clock is not the slowest.
    report = Report.read(tmp_path / "report.json", 119e6)
    assert (report.megahertz, report.wanted_megahertz) == (2 * expected, 120.0)
