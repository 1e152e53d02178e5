"""The figures that README states for the demo network, and those of a large network where one is at hand."""

import json
import os
from pathlib import Path

import pytest

from egret.host.cli import main
from egret.host.demo import NETWORK, TEXT

pytestmark = pytest.mark.slow

DEMO = (str(NETWORK), "--text", str(TEXT))
DATA = Path(os.environ.get("EGRET_DATA", ""))
"""Folder with ``ptb/test.txt`` and ``networks/ptb-egru-85``."""


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


@pytest.mark.skipif(not (DATA / "networks/ptb-egru-85").is_dir(), reason="EGRET_DATA names no folder with the network")
def test_a_large_network(capsys):
    """Penn Treebank, 82429 predictions in 64 streams that carry their state."""
    options = (str(DATA / "networks/ptb-egru-85"), "--text", str(DATA / "ptb/test.txt"), "--batch", "64")
    exact, integer = (evaluate(capsys, *options, "--engine", engine)["perplexity"] for engine in ("float", "integer"))
    assert 65 < exact < 76
    assert abs(integer - exact) < 0.2
