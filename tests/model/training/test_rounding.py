"""Training with the rounding of quantisation in mind: what is trained so is quantised without loss."""

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.quantise import dequantise, quantise
from egret.model.training.network import LanguageModel
from egret.model.training.prune import PruningOptions, prune
from egret.model.training.rounding import Rounding
from egret.model.training.train import train
from tests.support.training import assert_same_checkpoint, small_options

GROUPS = {"head": 3, "groups": 4, "rows": 2}


@pytest.mark.parametrize("shape", [{}, GROUPS])
def test_weights_trained_rounded_are_quantised_without_loss(texts, tmp_path, shape):
    train(small_options(texts, epochs=2, **shape), tmp_path / "exact")
    options = small_options(texts, averaging=1.0, weight_bits=4, **shape)
    pruning = PruningOptions(sparsity=0.3, steps=2, epochs=3, learning_rate=5e-3)
    result = prune(tmp_path / "exact", tmp_path / "rounded", options, pruning)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    with pytest.raises(Exception, match="stopped before the first epoch's end"):
        prune(tmp_path / "exact", tmp_path / "again", options, pruning, limit_seconds=0)
    prune(tmp_path / "exact", tmp_path / "again", options, pruning)
    assert_same_checkpoint(tmp_path / "rounded", tmp_path / "again")
    rounded = load_checkpoint(tmp_path / "rounded")
    plain = dequantise(quantise(rounded, weight_bits=4, embedding_bits=6)).tensors
    for name in rounded.tensors:
        if "weight_" in name or name == "embedding.weight":
            if name in plain:
                np.testing.assert_array_equal(plain[name], rounded.tensors[name], err_msg=name)
    values = np.unique(rounded.tensors["layers.1.weight_x"])
    assert len(values) <= 3 * 15 + 1 and 0 in values
    if shape:
        assert len(np.unique(rounded.tensors["readout.group_weight"])) <= 15


def test_gradients_reach_the_exact_weights(texts, tmp_path):
    """A step of the optimiser that is too small to change a rounded weight adds up in the exact one."""
    train(small_options(texts, epochs=1, **GROUPS), tmp_path / "exact")
    checkpoint = load_checkpoint(tmp_path / "exact")
    model = LanguageModel.from_checkpoint(checkpoint)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    rounding = Rounding(model, checkpoint.vocabulary, 4, 6)
    weight, exact = model.layers[0].weight_x, before["layers.0.weight_x"]
    assert not torch.equal(weight, exact) and torch.equal(weight == 0, exact == 0)
    rounding.restore()
    assert torch.equal(weight, exact)
    with torch.no_grad():
        weight += 1e-6
    rounding.take()
    assert torch.equal(rounding.exact["layers.0.weight_x"], exact + 1e-6)
    offset = model.readout_offset
    assert offset is not None
    assert len(torch.unique(model.embedding.weight + offset)) <= 15 + 1
