"""A read-out in groups for an integer network with a plain one."""

from typing import Any

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.counts import integer_columns
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine
from egret.model.quantise import dequantise, quantise
from egret.model.readout import nearest
from egret.model.training.grouping import with_groups
from egret.model.training.regroup import regroup

SHAPE: dict[str, Any] = {"head": 6, "groups": 5, "rows": 2}


@pytest.fixture
def ids():
    return np.random.default_rng(2).geometric(0.1, 6000).clip(1, 60) - 1


@pytest.fixture
def plain(random_checkpoint):
    """A factory: an integer network with 60 words, tied or not, with weights of so many bits."""

    def make(weight_bits, tied=True):
        configuration = NetworkConfiguration("egru", "id", 60, 8, (12, 8), tied=tied)
        return quantise(random_checkpoint(configuration, scale=0.7), weight_bits=weight_bits, embedding_bits=8)

    return make


def loss(network, ids):
    """Of the integer network."""
    return evaluate(IntegerEngine(network), integer_columns(network), ids, batch=20).loss


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("codebook", [True, False])
def test_only_the_read_out_changes_and_says_what_it_said(plain, ids, tied, codebook):
    network = plain(4 if codebook else 8, tied)
    said = []
    made = regroup(network, ids, **SHAPE, tokens=4000, codebook=codebook, say=said.append)
    assert made.network.layers is network.layers and made.network.embedding is network.embedding
    assert made.network.readout_weight is network.readout_weight
    groups, values = made.network.groups, made.network.readout_codebook
    assert groups is not None and (groups.head, len(groups.sizes), groups.rows) == (6, 5, 2)
    # 299 streams would be too many: each has 20 steps at least.
    assert (made.tokens, made.held_out) == (256 * 15, 256 * 1)
    assert said[0] == "dividing the words" and said[-1].endswith("epoch 6 of 6")
    if codebook:
        assert values is not None and len(values) == 15
        assert np.array_equal(nearest(groups.weight, values), groups.weight)  # nothing is lost in quantising
    else:
        assert values is None and network.readout_bias is not None and made.network.readout_bias is not None
        assert np.array_equal(network.readout_bias, made.network.readout_bias)
    # The rows begin as sums of words; fitted, they lose less of what the plain read-out knows.
    begun = quantise(with_groups(dequantise(network), ids, **SHAPE), weight_bits=4 if codebook else 8)
    before, fitted, first = (loss(one, ids[:3000]) for one in (network, made.network, begun))
    assert fitted - before < (first - before) / 2
    assert made.loss - made.loss_plain == pytest.approx(fitted - before, abs=0.05)
    again = regroup(network, ids, **SHAPE, tokens=4000, codebook=codebook)
    assert again.loss == made.loss


def test_words_with_rows_of_their_own_lose_nothing(plain, ids):
    network = plain(8)
    made = regroup(network, ids, head=52, groups=8, rows=1, tokens=3000, codebook=False)
    assert loss(made.network, ids[:2000]) == pytest.approx(loss(network, ids[:2000]), abs=0.01)
    assert made.loss == pytest.approx(made.loss_plain, abs=0.01)


def test_refusals(plain, ids):
    network = plain(4)
    options: dict[str, Any] = {**SHAPE, "tokens": 4000, "codebook": True}
    made = regroup(network, ids, **options).network
    with pytest.raises(InputError, match="the network has a read-out in groups already"):
        regroup(made, ids, **options)
    with pytest.raises(InputError, match="rows must be a power of two from 1 to 16, not 3"):
        regroup(network, ids, **{**options, "rows": 3})
    with pytest.raises(InputError, match="58 words in the head and 5 groups needs as many words; there are 60"):
        regroup(network, ids, **{**options, "head": 58})
    with pytest.raises(InputError, match="the text has 1 tokens; at least 2 are needed"):
        regroup(network, ids[:1], **options)
    with pytest.raises(InputError, match="fitted to at least 2 tokens of this text, not 1"):
        regroup(network, ids[:2], **options)
