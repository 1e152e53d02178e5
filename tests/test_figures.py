"""The figures that README states for the demo network, and those of a large network where one is at hand."""

import json
import os
from pathlib import Path

import pytest

from egret.host.cli import main
from egret.host.demo import NETWORK, TEXT
from egret.model import quantise

pytestmark = pytest.mark.slow

DEMO = (str(NETWORK), "--text", str(TEXT))
LARGE = str(Path(quantise.__file__).parent / "networks" / "ptb-egru-85.egret")
DATA = Path(os.environ.get("EGRET_DATA", ""))
"""Folder with ``ptb/test.txt`` and ``networks/ptb-egru-85``, another network of that shape."""


def evaluate(capsys, *options):
    assert main(["evaluate", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_twenty_thousand_tokens_under_verilator(capsys):
    result = evaluate(capsys, *DEMO, "--tokens", "20000", "--engine", "rtl")
    assert (result["tokens"], result["mismatches"]) == (20000, 0)
    assert result["lane_utilisation"] >= 0.70


def test_five_hundred_tokens_under_icarus(capsys):
    result = evaluate(capsys, *DEMO, "--tokens", "500", "--engine", "rtl", "--simulator", "icarus")
    assert (result["tokens"], result["mismatches"]) == (500, 0)


def test_integer_perplexity_is_within_half_a_percent(capsys):
    exact, integer = (evaluate(capsys, *DEMO, "--batch", "64", "--engine", engine)["perplexity"]
                      for engine in ("float", "integer"))
    assert abs(integer / exact - 1) < 0.005


def bench(capsys, *options):
    assert main(["bench", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mismatches"] == 0 and abs(sum(result["shares"].values()) - 1) < 1e-9
    return result


@pytest.mark.parametrize("lanes, least", [(8, 0.95), (16, 0.93)])
def test_lanes_are_busy_on_the_large_network(capsys, lanes, least):
    """24 million weights, 85 % of them pruned without structure; the network's own samples."""
    result = bench(capsys, LARGE, "--lanes", str(lanes), "--tokens", "20")
    assert result["lane_utilisation"] >= least
    assert result["weight_bits"] == 4


def test_tokens_a_second_of_the_boards(capsys):
    """At least 300 characters a second on the iCEBreaker, over USB too; the ULX3S's link is the limit, and busy."""
    options = ("--text", str(TEXT), "--tokens", "500", "--board")
    result = bench(capsys, str(NETWORK), *options, "icebreaker")
    assert result["cycles_per_token"] == pytest.approx(15_177, rel=0.01)
    assert result["speed"]["usb"]["generated_tokens_per_second"] >= 300
    result = bench(capsys, str(NETWORK), *options, "ulx3s-85f")
    assert result["cycles_per_token"] == pytest.approx(2_031, rel=0.01)
    speed = result["speed"]["at_once"]
    assert speed["limit"] == "link" and speed["link_busy"] >= 0.8


def test_folded_rows_halve_the_work_of_the_large_network(capsys):
    """Of 10000 tokens, 500 have their rows."""
    plain, folded = (bench(capsys, LARGE, "--tokens", "10", "--folded", str(rows)) for rows in (0, 500))
    assert folded["macs_per_token"] < 0.75 * plain["macs_per_token"]
    assert folded["cycles_per_token"] < 0.8 * plain["cycles_per_token"]


@pytest.mark.skipif(not (DATA / "ptb").is_dir(), reason="EGRET_DATA names no folder with Penn Treebank")
def test_the_card_of_the_large_network(capsys):
    result = evaluate(capsys, LARGE, "--text", str(DATA / "ptb/test.txt"), "--batch", "64", "--engine", "integer")
    card = json.loads((Path(LARGE).parent / "card.json").read_text())["85"]
    assert round(result["perplexity"], 2) == card["test_perplexity"]
    assert round(result["macs_per_token"]) == card["test_macs_per_token"]
    assert [round(share, 4) for share in result["activity"]] == card["test_activity"]


@pytest.mark.skipif(not (DATA / "networks/ptb-egru-85").is_dir(), reason="EGRET_DATA names no folder with the network")
@pytest.mark.parametrize("lanes, least", [(8, 0.95), (16, 0.93), (32, 0.88)])
def test_lanes_are_busy_on_another_network(capsys, lanes, least):
    options = ("--lanes", str(lanes), "--text", str(DATA / "ptb/test.txt"), "--tokens", "20")
    assert bench(capsys, str(DATA / "networks/ptb-egru-85"), *options)["lane_utilisation"] >= least


@pytest.mark.skipif(not (DATA / "networks/ptb-egru-85").is_dir(), reason="EGRET_DATA names no folder with the network")
def test_a_large_network(capsys):
    """Penn Treebank, 82429 predictions in 64 streams that carry their state."""
    options = (str(DATA / "networks/ptb-egru-85"), "--text", str(DATA / "ptb/test.txt"), "--batch", "64")
    exact, integer = (evaluate(capsys, *options, "--engine", engine)["perplexity"] for engine in ("float", "integer"))
    assert 65 < exact < 76
    assert abs(integer - exact) < 0.2
