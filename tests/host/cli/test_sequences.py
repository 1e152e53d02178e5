"""Commands on networks whose input is numbers."""

import json

import numpy as np
import pytest

from egret.host.network import Network
from egret.model.integer_file import save_integer
from tests.support.numbers import number_network, number_sequences


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
def test_every_stream_inside_the_core(egret):
    status, out, _ = egret("simulate", "network", "--data", "data.npz", "--tokens", 9, "--json")
    found = json.loads(out)
    assert status == 0 and found["counters"]["tokens"] == 9
    values = number_sequences(6).values.reshape(-1, 5)[:9]
    assert found["compared"]["embedding"] == np.count_nonzero(values)
    assert found["compared"]["gate_u"] == 9 * (9 + 7)


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
        (("run", "network"), "takes numbers, not a text"),
        (("bench", "network"), "takes numbers, not a text"),
        (("estimate", "network"), "takes numbers, not a text"),
        (("explain", "network"), "takes numbers, not a text"),
        (("self-test", "network"), "takes numbers, not a text"),
    ],
)
def test_what_is_refused(egret, arguments, message):
    status, out, err = egret(*arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1
    assert message in err


def test_sequences_for_a_network_of_tokens(egret, network, tmp_path):
    found = number_sequences(6)
    np.savez(tmp_path / "data.npz", x=found.values, y=found.classes)
    for command in (("evaluate", "network", "--engine", "float"), ("simulate", "network")):
        status, _, err = egret(*command, "--data", str(tmp_path / "data.npz"))
        assert status == 2 and "takes a text, not sequences of numbers" in err
