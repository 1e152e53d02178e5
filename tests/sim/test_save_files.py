"""Save files of viewers: every stream that the lockstep bench watches, by unit, with the names that simulators give."""

import re

import pytest

from egret.model.compiler.configuration import TINY
from egret.model.errors import InputError
from egret.rtl.export import to_verilog
from egret.sim import lockstep
from egret.sim.save_files import streams, write_save_files
from egret.sim.sdram import core_with_memory


@pytest.fixture(scope="module")
def verilog():
    return to_verilog(core_with_memory(TINY), "core")


def test_streams(verilog):
    found = streams(verilog)
    watched = {
        "core": ["i_tokens", "o_events"],
        "core.weights": ["i", "o"],
        "core.embedding": ["o"],
        "core.events": ["o"],
        "core.reset_pass": ["i", "o", "request"],
        **{f"core.gate_{gate}": ["access", "o"] for gate in "urz"},
        "core.update_pass": ["o", "bias"],
    }
    for unit, names in watched.items():
        assert {f"{name}__{part}" for name in names for part in ("valid", "payload")} <= set(found[unit])
    assert found["core"] == {
        "i_tokens__valid": 1, "i_tokens__ready": 1, "i_tokens__payload": 16,
        "o_events__valid": 1, "o_events__ready": 1, "o_events__payload": found["core"]["o_events__payload"],
    }  # fmt: skip


def test_both_files(verilog, tmp_path):
    waves = tmp_path / "w.vcd"
    waves.write_text("")
    write_save_files(waves, verilog)
    groups, group = {}, None
    first, *lines = (tmp_path / "w.gtkw").read_text().splitlines()
    assert first == f'[dumpfile] "{waves}"'
    for line in lines:
        if line.startswith("-"):
            group = None if group else groups.setdefault(line[1:], [])
        elif not line.startswith("@"):
            group.append(line)
    expected = {
        unit: [f"{unit}.{name}" + (f"[{width - 1}:0]" if width > 1 else "") for name, width in signals.items()]
        for unit, signals in streams(verilog).items()
    }
    assert groups == expected and len(groups) > 8
    commands = (tmp_path / "w.sucl").read_text().splitlines()
    assert [line.removeprefix("divider_add ") for line in commands if "divider" in line] == list(expected)
    added = [line.removeprefix("variable_add ") for line in commands if "variable" in line]
    assert added == [re.sub(r"\[.*", "", name) for names in expected.values() for name in names]
    assert commands[-1] == "zoom_fit" and len(commands) == len(groups) + len(added) + 1


def test_nothing_beside_a_device(verilog):
    write_save_files("/dev/null", verilog)


def test_a_waveform_is_no_save_file():
    with pytest.raises(InputError, match="^w.gtkw: a waveform must not have the suffix of its save files, .gtkw or .s"):
        lockstep.run(None, [], waves="w.gtkw")
