"""The table of what zeros and events give, from what commands say; they are tested elsewhere."""

import json
from hashlib import sha256

import click
import pytest

from bench import zeros_and_events
from bench.zeros_and_events import bound, figures, main
from egret.model.errors import InputError
from tests.model.training.test_report import result, write_study

SAID = {
    "evaluate": {"perplexity": 60.12345, "activity": [0.12345, 0.5], "macs_per_token": 1000.4},
    "bram": {"cycles_per_token": 150.6, "bytes_per_token": 700.2},
    "sdram": {
        "cycles_per_token": 180.2,
        "energy": {"joules_per_token": [5e-4, 7.26e-4], "causes": {"SDRAM, read": {"count": [550.1]}}},
    },
}
ROW = {
    "perplexity": 60.123, "activity": [0.1235, 0.5], "macs": 1000, "bram_cycles": 151, "bram_bytes": 700,
    "sdram_cycles": 180, "sdram_bytes": 550, "microjoules": [500.0, 726.0],
}  # fmt: skip


def files(folder, name):
    """Arguments: a network's file, which is none, and a text."""
    (folder / f"{name}.egret").write_text(name)
    (folder / "text.txt").write_text("text")
    return [str(folder / f"{name}.egret"), "--text", str(folder / "text.txt")]


def test_figures():
    assert figures(SAID["evaluate"], SAID["bram"], SAID["sdram"]) == ROW


def test_the_bound_of_a_network_without_a_core():
    """1,001 MACs: 126 cycles of 8 lanes; 500 bytes, for which 125 cycles suffice."""
    row = bound(result("lstm", cell="lstm", test=58.0, macs=1001.0))
    assert row["macs"] == 1001 and row["perplexity"] == 58.0 and row["microjoules"] is None
    assert (row["bram_cycles"], row["sdram_cycles"]) == (126, 126)
    assert (row["bram_bytes"], row["sdram_bytes"]) == (500, 500)


def test_the_script(tmp_path, monkeypatch, capsys):
    asked = []

    def said(command, *arguments):
        asked.append((command, *arguments))
        return SAID[("sdram" if "sdram" in arguments else "bram") if command == "bench" else command]

    monkeypatch.setattr(zeros_and_events, "_says", said)
    (tmp_path / "study").mkdir()
    write_study(tmp_path / "study", [result(), result("lstm", cell="lstm", macs=16.0)])
    results = tmp_path / "results.json"
    arguments = [*files(tmp_path, "one"), "--tokens", "9", "--study", str(tmp_path / "study")]
    main([*arguments, "--results", str(results)], standalone_mode=False)
    content = json.loads(results.read_bytes())
    assert content["networks"] == {"one": ROW | {"file": sha256(b"one").hexdigest()}} and content["tokens"] == 9
    assert {name: one["bram_cycles"] for name, one in content["bounds"].items()} == {"lstm-decay0.1-seed1-dense": 2}
    assert [one[0] for one in asked] == ["evaluate", "bench", "bench"] and all(arguments[0] in one for one in asked)
    assert [one[one.index("--tokens") + 1] for one in asked[1:]] == ["9", "9"]
    text = capsys.readouterr().out
    assert "500 to 726" in text and "seed1-dense: at least" in text


def test_it_goes_on_from_its_results(tmp_path, monkeypatch):
    """Networks that are in the file are not run again, unless they changed; what is done outlasts a failure."""
    ran = []

    def run(network, text, tokens, evaluated):
        if "bad" in network:
            raise InputError("bad")
        ran.append(network)
        return ROW

    monkeypatch.setattr(zeros_and_events, "_run", run)
    results = tmp_path / "results.json"
    one, two, bad = (files(tmp_path, name)[0] for name in ("one", "two", "bad"))
    text = files(tmp_path, "one")[1:]
    with pytest.raises(InputError, match="^bad$"):
        main([one, bad, two, *text, "--results", str(results)], standalone_mode=False)
    assert list(json.loads(results.read_bytes())["networks"]) == ["one"]
    main([one, two, *text, "--results", str(results)], standalone_mode=False)
    assert ran == [one, two]
    (tmp_path / "one.egret").write_text("changed")
    main([one, *text, "--results", str(results)], standalone_mode=False)
    assert ran == [one, two, one] and list(json.loads(results.read_bytes())["networks"]) == ["one", "two"]
    with pytest.raises(InputError, match="results.json: has figures over other tokens or another text"):
        main([one, *text, "--tokens", "3", "--results", str(results)], standalone_mode=False)
    results.write_text("[]")
    with pytest.raises(InputError, match="results.json: not a file of this script, or damaged"):
        main([one, *text, "--results", str(results)], standalone_mode=False)


def test_what_was_evaluated_is_not_evaluated_again(tmp_path, monkeypatch):
    asked = []

    def said(command, *arguments):
        asked.append(command)
        return SAID["sdram" if "sdram" in arguments else "bram"]

    monkeypatch.setattr(zeros_and_events, "_says", said)
    (tmp_path / "one.json").write_text(json.dumps(SAID["evaluate"]))
    results = tmp_path / "results"
    arguments = [*files(tmp_path, "one"), "--evaluated", str(tmp_path), "--results", str(results)]
    main(arguments, standalone_mode=False)
    assert asked == ["bench", "bench"] and json.loads(results.read_bytes())["networks"]["one"].items() >= ROW.items()
    (tmp_path / "one.json").write_text("{}")
    results.unlink()
    with pytest.raises(InputError, match="one.json: not what `egret evaluate --json` says of a text"):
        main(arguments, standalone_mode=False)


def test_two_networks_of_one_name_are_refused(tmp_path):
    with pytest.raises(click.UsageError, match="two networks are named 'a'"):
        main(["x/a.egret", "y/a.egret", "--text", "t"], standalone_mode=False)


def test_a_command_that_fails(tmp_path):
    with pytest.raises(InputError, match="^egret evaluate .*: status 2$"):
        main(files(tmp_path, "one"), standalone_mode=False)
