"""A whole text on the simulated core, every token of it."""

import os
from pathlib import Path

import pytest

from egret.host.network import Network

ROOT = Path(__file__).parents[2]
TEXT = Path(os.environ.get("EGRET_DATA", "")) / "ptb/test.txt"


@pytest.mark.long
@pytest.mark.skipif(not TEXT.is_file(), reason="EGRET_DATA names no folder with Penn Treebank's test text, ptb/test.txt")
def test_penn_treebanks_test_text():
    """The log-probability of each of its 82,429 predicted words is that of the integer network."""
    measurement = Network(ROOT / "model/networks/ptb-egru-middle.egret").measure(TEXT)
    assert (measurement.evaluation.tokens, measurement.mismatches) == (82_429, 0)
