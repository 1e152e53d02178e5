"""The command `egret evaluate`."""

import json
import re

import numpy as np
import pytest

from egret.model.checkpoint import load_checkpoint, save_checkpoint
from tests.support.command_line import TEXT


def test_evaluate(egret, network):
    egret("quantise", "network", "-o", "integer")
    egret("compile", "network", "-o", "image")
    common = ("--text", "text", "--tokens", 40, "--json")
    results = {}
    runs = [("network", "float"), *((source, "integer") for source in ("network", "integer", "image"))]
    for source, engine in (*runs, ("integer", "native")):
        status, out, err = egret("evaluate", source, "--engine", engine, *common)
        assert (status, err) == (0, "")
        results[source, engine] = json.loads(out)
    assert results["network", "integer"] == results["integer", "integer"] == results["image", "integer"]
    for (_, engine), result in results.items():
        assert result["engine"] == engine
        assert result["tokens"] == 40
        assert len(result["activity"]) == 2
        assert result["macs_per_token_dense"] == 15 * (4 + 5) + 12 * (5 + 4)
        assert 0 < result["macs_per_token"] < result["macs_per_token_dense"]
        assert 0 < result["macs_readout_per_token"] <= 3 * 4
    assert results["integer", "native"] == results["integer", "integer"] | {"engine": "native"}
    for result in results.values():
        whole = result["macs_per_token"] + result["macs_readout_per_token"]
        assert (result["macs_whole_per_token"], result["folded"]) == (whole, 0)
    perplexities = [results["network", engine]["perplexity"] for engine in ("float", "integer")]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=0.01)


def test_evaluate_in_streams_on_simulated_cores(egret, network):
    """Every stream has a core: the perplexity is that of as many streams of the integer network."""
    results = []
    for engine in ("integer", "rtl"):
        common = ("evaluate", "network", "--text", "text", "--tokens", 41, "--batch", 3, "--json")
        status, out, err = egret(*common, "--engine", engine)
        assert (status, err) == (0, "")
        results.append(json.loads(out))
    integer, rtl = results
    assert {name: rtl[name] for name in integer} == integer | {"engine": "rtl"}
    assert (rtl["mismatches"], rtl["counters"]["tokens"]) == (0, 41)


def test_saturated_weights_are_one_line(egret, network):
    """Wherever a network is quantised, once a command, and nothing of numpy's beside it."""
    checkpoint = load_checkpoint("network")
    for name in ("layers.0.weight_x", "layers.1.weight_y"):
        checkpoint.tensors[name][:2, 1] = 1e38, -3e38
    save_checkpoint(checkpoint, "network")
    for command in (
        ("quantise", "network", "-o", "integer"),
        ("compile", "network", "-o", "image"),
        ("evaluate", "network", "--engine", "integer", "--agreement", "--text", "text"),
    ):
        status, _, err = egret(*command)
        assert status == 0
        assert re.fullmatch(r"egret: warning: 4 of \d+ weights are too large for the integer network .*\n", err)
    assert egret("evaluate", "integer", "--engine", "integer", "--text", "text")[::2] == (0, "")
    assert egret("evaluate", "network", "--engine", "float", "--text", "text")[::2] == (0, "")


def test_evaluate_in_streams_with_agreement(egret, network):
    arguments = ("evaluate", "network", "--text", "text", "--engine", "integer", "--batch", 4, "--agreement")
    status, out, _ = egret(*arguments, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["batch"]) == (0, len(TEXT) - 1, 4)
    assert len(result["event_agreement"]) == len(result["event_overlap"]) == 2
    macs = result["macs_per_token"] + result["macs_readout_per_token"]
    status, out, _ = egret(*arguments)
    assert status == 0 and re.search(rf"│ MACs per whole token +│ {macs:,.0f} +│", out)
    assert f"│ {len(TEXT) - 1} in 4 streams" in out
    assert f"{result['perplexity']:.3f}" in out


def test_state_that_becomes_zero_again(egret, refused, network):
    losses = []
    for engine in ("float", "integer"):
        common = ("evaluate", "network", "--text", "text", "--engine", engine, "--json")
        for more in ((), ("--reset-every", 3), ("--reset-every", 1000)):
            losses.append(json.loads(egret(*common, *more)[1])["loss"])
    assert losses[0] == losses[2] != losses[1] and losses[3] == losses[5] != losses[4]
    assert losses[4] == pytest.approx(losses[1], rel=0.01)
    for more in (("native",), ("rtl",), ("integer", "--agreement")):
        message = refused("evaluate", "network", "--text", "text", "--reset-every", 3, "--engine", *more)
        assert message == "--reset-every is for the engines float and integer, and without --agreement"


def test_a_loss_beyond_all_bounds(egret, network):
    """Its perplexity is null: `Infinity` is not JSON."""
    checkpoint = load_checkpoint("network")
    checkpoint.tensors["readout.bias"] = np.array([1e30, 0, 0], np.float32)
    save_checkpoint(checkpoint, "network")
    status, out, _ = egret("evaluate", "network", "--text", "text", "--engine", "float", "--json")
    result = json.loads(out, parse_constant=pytest.fail)
    assert (status, result["perplexity"]) == (0, None) and result["loss"] > 1e29


def test_agreement_needs_both_networks(refused, network):
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", "--agreement") == (
        "--agreement compares the integer network with the float one; --engine is float"
    )


def test_whole_tokens_of_a_core_with_folded_rows(egret, network):
    """As the core counts its MACs, whatever the engine; it alone may be asked for too many."""
    arguments = ("evaluate", "network", "--text", "text", "--tokens", 40, "--json", "--engine")
    results = {}
    for folded in (0, 2, 3):
        runs = [json.loads(egret(*arguments, engine, "--folded", folded)[1]) for engine in ("integer", "native")]
        assert runs[0] == runs[1] | {"engine": "integer"}
        results[folded] = runs[0]
    assert [result["folded"] for result in results.values()] == [0, 2, 3]
    layers = [results[folded]["macs_whole_per_token"] - results[0]["macs_readout_per_token"] for folded in results]
    assert results[0]["macs_per_token"] == layers[0] > layers[1] > layers[2] > 0
    (_, out, _) = egret(*arguments, "rtl", "--simulator", "icarus", "--folded", 3)
    core = json.loads(out)
    assert core["macs_whole_per_token"] == results[3]["macs_whole_per_token"]
    # Columns of y are taken before the token is known: those of the last step are not counted by both.
    assert core["counters"]["macs"] / 40 == pytest.approx(layers[2], rel=0.05)
