"""Commands on networks whose input is numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from egret.host.board import Board
from egret.host.network import Network
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import memory_sections
from egret.model.counts import integer_columns
from egret.model.integer import IntegerEngine
from egret.model.integer_file import save_integer
from egret.sim.virtual import VirtualBoard, board_build
from tests.support.memories import stuck
from tests.support.numbers import number_network, number_sequences
from tests.support.page import needs_nothing

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "model/digits"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A network, sequences, and a text, in the working directory."""
    monkeypatch.chdir(tmp_path)
    save_integer(number_network(5), "network")
    found = number_sequences(6)
    np.savez("data.npz", x=found.values, y=found.classes[:, -1])
    (tmp_path / "text").write_text("a b\n")


@pytest.mark.usefixtures("files")
def test_evaluate(egret):
    """The core says what the integer network says, event by event."""
    results = {}
    for engine in ("integer", "native", "rtl"):
        status, out, err = egret("evaluate", "network", "--data", "data.npz", "--engine", engine, "--json")
        assert (status, err) == (0, "")
        results[engine] = json.loads(out)
        assert results[engine].pop("engine") == engine
    core = results.pop("rtl")
    assert results["integer"] == results["native"] == {name: core[name] for name in results["integer"]}
    assert (core["mismatches"], core["sequences"], core["steps"], core["asked"]) == (0, 6, 24, 6)
    assert core["counters"]["tokens"] == 24 and core["cycles_per_token"] > 10
    assert core["accuracy"] == core["right"] / 6
    status, out, _ = egret("evaluate", "network", "--data", "data.npz", "--engine", "integer", "--tokens", 2)
    assert status == 0 and "of 2" in out


@pytest.mark.usefixtures("files")
def test_train(egret):
    """The accuracy beside the loss is what `egret evaluate` counts."""
    names = ("tokens=number", "hidden_sizes=[5]", "batch=3", "epochs=2")
    options = ("--train", "data.npz", "--valid", "data.npz", "--device", "cpu", *(f"--set={name}" for name in names))
    found = json.loads(egret("train", "-o", "trained", *options, "--json")[1])
    counted = json.loads(egret("evaluate", "trained", "--data", "data.npz", "--engine", "float", "--json")[1])
    assert found["valid_accuracy"] == counted["accuracy"]
    table = egret("train", "-o", "trained", *options)[1]
    assert re.search(rf"validation accuracy +│ {counted['accuracy']:.2%} ", table)


@pytest.mark.usefixtures("files")
def test_every_stream_inside_the_core(egret):
    status, out, _ = egret(
        "simulate", "network", "--data", "data.npz", "--tokens", 9, "--simulator", "icarus", "--json"
    )
    found = json.loads(out)
    assert status == 0 and found["counters"]["tokens"] == 9
    values = number_sequences(6).values.reshape(-1, 5)[:9]
    assert found["compared"]["embedding"] == np.count_nonzero(values)
    assert found["compared"]["gate_u"] == 9 * (9 + 7)


@pytest.mark.usefixtures("files")
def test_bench(egret):
    """MACs are those of the integer network, and of the first layer's y behind the last step of each sequence, too."""
    status, out, err = egret("bench", "network", "--data", "data.npz", "--energy", "--json")
    found = json.loads(out)
    assert (status, err, found["tokens"], found["mismatches"]) == (0, "", 24, 0)
    network, macs = number_network(5), 0
    engine, (first, second) = IntegerEngine(network), integer_columns(network)
    for values in number_sequences(6).values:
        engine.reset_state()
        for x in values:
            one, two = engine.step(x[None].astype(np.int32))
            macs += first.x @ (one.x[0] != 0) + first.y @ (one.y[0] != 0) + first.s @ (one.s[0] != 0)
            macs += second.x @ (two.x[0] != 0) + second.y @ (two.y_before[0] != 0) + second.s @ (two.s[0] != 0)
    assert found["counters"]["macs"] == macs and found["macs_per_token"] == macs / 24
    assert sum(found["shares"].values()) == pytest.approx(1) and found["bytes_per_token"] > found["macs_per_token"]
    assert found["energy"]["causes"]["weights"]["count"] > [0] and "embedding" not in found["energy"]["causes"]
    save_integer(number_network(7), "network")
    status, out, _ = egret("bench", "network", "--data", "data.npz", "--board", "icebreaker", "--tokens", 2)
    assert status == 0 and "expected steps a second, one at a time" in out and "generated" not in out


@pytest.mark.usefixtures("files")
def test_run(egret):
    expected = json.loads(egret("evaluate", "network", "--data", "data.npz", "--engine", "integer", "--json")[1])
    status, out, err = egret("run", "network", "--data", "data.npz", "--json")
    checked = json.loads(out)
    assert (status, err, checked["mismatches"], checked["counters"]["tokens"]) == (0, "", 0, 24)
    status, out, _ = egret("run", "network", "--data", "data.npz", "--no-check", "--json")
    streamed = json.loads(out)
    assert status == 0 and streamed["mismatches"] is None
    for name in ("sequences", "steps", "asked", "right", "accuracy", "answers", "bytes_sent_per_step"):
        assert streamed[name] == checked[name]
    assert [checked[name] for name in ("sequences", "steps", "right")] == [
        expected[name] for name in ("sequences", "steps", "right")
    ]
    wanted = [f"class {one}" for one in number_sequences(6).classes[:, -1]]
    assert sum(one == other for one, other in zip(checked["answers"], wanted, strict=True)) == expected["right"]
    status, out, _ = egret("run", "network", "--data", "data.npz", "--tokens", 2)
    assert status == 0 and "2, 8" in out and "of 2 (" in out
    egret("compile", "network", "-o", "image")
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        status, out, _ = egret("run", "image", "--data", "data.npz", "--no-check", "--port", board.port, "--json")
    found = json.loads(out)
    assert status == 0 and found["answers"] == checked["answers"] and 0 < found["link_busy"]


def test_estimate(egret):
    """Beside what the core was counted to do (docs/sequences.md)."""
    counted = json.loads((ROOT / "docs/results.json").read_text())["digits-core"]["result"]
    command = ("estimate", DIGITS, "--data", DIGITS / "test.npz")
    status, out, err = egret(*command, "--json")
    found = json.loads(out)
    assert (status, err, found["tokens"], found["lanes"]) == (0, "", counted["steps"], counted["lanes"])
    assert found["macs_per_token"] == pytest.approx(counted["counters"]["macs"] / counted["steps"], rel=0.02)
    assert found["cycles_per_token"] == pytest.approx(counted["cycles_per_token"], rel=0.07)
    status, out, _ = egret(*command, "--tokens", 3, "--board", "ulx3s-85f")
    assert status == 0 and "expected steps a second, streamed" in out and "fits ULX3S-85F" in out


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("sequences", [1, 3])
def test_explain(egret, tmp_path, sequences):
    """Its numbers are those of `Network.measure`; a row is a step, named by what is not zero in it."""
    options = ("--data", "data.npz", "--tokens", sequences) if sequences > 1 else ("--data", "data.npz")
    status, out, err = egret("explain", "network", *options, "--json")
    found, measured = json.loads(out), Network("network").measure("data.npz", tokens=sequences)
    steps = 4 * sequences
    assert (status, err, found["steps"], found["mismatches"], found["asked"]) == (0, "", steps, 0, sequences)
    assert found["cycles_per_step"] == measured.cycles_per_token
    assert found["right"] == measured.evaluation.right
    for name in ("words", "macs"):
        assert sum(one[name] for one in found["cycles"]) == measured.counters[name]
    names = [one["step"] for one in found["cycles"]]
    values = number_sequences(6).values.reshape(-1, 5)[:steps]
    places = [f"{one}.{step}" if sequences > 1 else f"{step}" for one in range(sequences) for step in range(4)]
    assert names == [
        f"{place}: {' '.join(map(str, np.flatnonzero(row))) or '-'}" for place, row in zip(places, values, strict=True)
    ]
    text = (tmp_path / "explain.html").read_text()
    summary, causes, gains = (dict((row[0], row[1:]) for row in table) for table in needs_nothing(text).tables)
    assert summary["classes right"] == [f"{found['right']:,} of {sequences:,}"] and "perplexity" not in summary
    assert summary["cycles per step"] == [f"{measured.cycles_per_token:,.0f}"]
    assert causes["words"][1] == f"{measured.counters['words'] / steps:,.1f}"
    assert list(gains) == ["with", "neither (this core)"] and "<h2>Resident columns</h2>" in text
    assert " token" not in re.sub("<[^>]*>", "", text)


@pytest.mark.usefixtures("files")
def test_self_test(egret, monkeypatch):
    """Of a good board; and of one whose weights have a bit that is stuck."""
    status, out, err = egret("self-test", "network", "--patterns", 2, "--json")
    found = json.loads(out)
    assert (status, err, found["steps"], found["wrong_steps"]) == (0, "", 512, 0)
    assert found["coverage"]["weights"]["used"] > 0 and "embedding" not in found["coverage"]
    egret("compile", "network", "-o", "image")
    load, weights = Board.load, memory_sections(Image.load("image").configuration)["weights"]
    monkeypatch.setattr(Board, "load", lambda board, image: load(board, stuck(image, weights, 3, 7, 1)))
    status, _, err = egret("self-test", "network")
    assert status == 1 and err.startswith("egret: the board's memories, or its core, are faulty: image ")


@pytest.mark.usefixtures("files")
def test_columns_that_are_read_often_are_resident(egret):
    """Numbers that are drawn say which, as such a network writes no text."""
    status, out, _ = egret("compile", "network", "--store", "sdram", "--resident-bytes", 40, "-o", "image", "--json")
    assert status == 0 and Image.load("image").configuration.resident_words == 3


def test_steps_that_are_drawn():
    network = Network(number_network(7), board="icebreaker")
    measured = network.measure(tokens=5)
    assert (measured.mismatches, measured.evaluation.tokens) == (0, 5)
    assert Network(number_network(7), board="ulx3s-85f").configuration.readout is None


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "network", "--engine", "integer"), "one of --text and --data is needed"),
        (("evaluate", "network", "--engine", "integer", "--text", "text"), "takes numbers, not a text"),
        (
            ("evaluate", "network", "--engine", "rtl", "--data", "data.npz", "--batch", 2),
            "are for a text, not for --data",
        ),
        (("evaluate", "network", "--engine", "float", "--data", "data.npz"), "no checkpoint there"),
        (("evaluate", "network", "--engine", "integer", "--data", "text"), "text: not a .npz of numbers"),
        (("evaluate", "network", "--engine", "integer", "--data", "data.npz", "--tokens", 9), "1 to 6 sequences"),
        (("simulate", "network", "--text", "text"), "takes numbers, not a text"),
        (("simulate", "network", "--data", "data.npz", "--tokens", 99), "--tokens must be from 1 to 24"),
        (("run", "network"), "takes numbers, not a text; sequences of them (.npz) are for --data of"),
        (("run", "network", "--data", "data.npz", "--engine", "native"), "--data is for a board"),
        (("run", "network", "--data", "data.npz", "--prompt", "a"), "--data and --prompt: give one of them"),
        (("bench", "network", "--data", "data.npz", "--peers"), "--split and --peers are for a text"),
        (("bench", "network", "--data", "data.npz", "--text", "text"), "--text and --data: give one of them"),
        (("bench", "network", "--data", "data.npz", "--tokens", 7), "data.npz: there are 1 to 6 sequences to take"),
        (("bench", "network"), "takes numbers, not a text"),
        (("estimate", "network"), "takes numbers, not a text"),
        (("explain", "network"), "takes numbers, not a text"),
        (("explain", "network", "--data", "data.npz", "--tokens", 7), "data.npz: there are 1 to 6 sequences to take"),
        (("explain", "network", "--data", "data.npz", "--text", "text"), "--text and --data: give one of them"),
    ],
)
def test_what_is_refused(egret, arguments, message):
    status, out, err = egret(*arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert message in err


def test_sequences_for_a_network_of_tokens(egret, network, tmp_path):
    found = number_sequences(6)
    np.savez(tmp_path / "data.npz", x=found.values, y=found.classes)
    for command in (
        ("evaluate", "network", "--engine", "float"),
        *((name, "network") for name in ("simulate", "bench")),
    ):
        status, _, err = egret(*command, "--data", str(tmp_path / "data.npz"))
        assert status == 2 and "takes a text, not sequences of numbers" in err
