"""A whole text on the simulated core, every token of it."""

import json
import os
from pathlib import Path

import pytest

from egret.host.network import Network

NETWORKS = Path(__file__).parents[2] / "model/networks"
TEXT = Path(os.environ.get("EGRET_DATA", "")) / "ptb/test.txt"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not TEXT.is_file(), reason="EGRET_DATA names no folder with ptb/test.txt of Penn Treebank")
def test_penn_treebanks_test_text():
    """The log-probability of each of its 82,429 predicted words is that of the integer network, whose card is right."""
    network = Network(NETWORKS / "ptb-egru-middle.egret")
    card = json.loads((NETWORKS / "card.json").read_text())["middle"]
    found = network.evaluate(TEXT, batch=64)
    assert round(found.perplexity, 2) == card["test_perplexity"]
    assert round(found.macs.event_driven_pruned) == card["test_macs_per_token"]
    measurement = network.measure(TEXT)
    assert (measurement.evaluation.tokens, measurement.mismatches) == (82_429, 0)
