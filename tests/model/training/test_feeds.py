"""Training on sequences of numbers, by the command's own functions."""

import numpy as np
import pytest

from egret.host.evaluation import evaluate_network
from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.sequences import SequenceEvaluation, Sequences
from egret.model.training.options import TrainingOptions
from egret.model.training.prune import PruningOptions, prune
from egret.model.training.train import train


def sides(count, seed):
    """Which half of the inputs was the brighter one in the first of three steps: x and y."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, count)
    x = random.integers(0, 100, (count, 3, 4))
    x[np.arange(count), 0, 2 * y] += 120
    return {"x": x.astype(np.uint8), "y": y}


def accuracy(path):
    """Of a network over other sequences than it was trained on."""
    found = evaluate_network(load_checkpoint(path), Sequences.of(**sides(100, 3)))
    assert isinstance(found, SequenceEvaluation)
    return found.accuracy


@pytest.fixture
def options(tmp_path):
    np.savez(tmp_path / "train.npz", **sides(160, 1))
    np.savez(tmp_path / "valid.npz", **sides(60, 2))
    fields = {"train": str(tmp_path / "train.npz"), "valid": str(tmp_path / "valid.npz"), "tokens": "number"}
    loop = {"epochs": 25, "batch": 16, "learning_rate": 5e-3, "beta1": 0.9, "weight_decay": 0.01, "clip": 1.0}
    return TrainingOptions.of(**fields, **loop, hidden_sizes=(12,), threshold_mean=0.05, device="cpu")


@pytest.mark.parametrize("reset", ["before", "after"])
def test_train_and_prune(tmp_path, options, reset):
    """A network learns, is saved with its sizes from the data, and is pruned by the code that prunes those of texts."""
    options = options.with_values(reset=reset)
    result = train(options, tmp_path / "dense")
    dense = load_checkpoint(tmp_path / "dense")
    shape = dense.configuration
    assert (shape.tokens, shape.embedding_size, shape.vocab_size, shape.tied) == ("number", 4, 2, False)
    assert accuracy(tmp_path / "dense") > 0.9
    valid = evaluate_network(dense, Sequences.load(options.text.valid))
    assert result.valid_loss == pytest.approx(valid.loss, rel=1e-4)
    assert result.activity == pytest.approx(valid.activity, abs=1e-3)
    pruned = prune(tmp_path / "dense", tmp_path / "pruned", options, PruningOptions(sparsity=0.5, steps=2, epochs=6))
    weights = [load_checkpoint(tmp_path / "pruned").tensors[f"layers.0.weight_{name}"] for name in "xy"]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.size for weight in weights)
    assert pruned.sparsity == zeros == pytest.approx(0.5, abs=0.01)
    assert accuracy(tmp_path / "pruned") > 0.85


def test_a_run_goes_on_where_it_stopped(tmp_path, options):
    whole = train(options.with_values(epochs=4), tmp_path / "whole")
    train(options.with_values(epochs=4), tmp_path / "cut", limit_seconds=0)
    cut = train(options.with_values(epochs=4), tmp_path / "cut")
    assert cut.valid_loss == whole.valid_loss
    names = load_checkpoint(tmp_path / "whole").tensors
    for name, tensor in load_checkpoint(tmp_path / "cut").tensors.items():
        np.testing.assert_array_equal(tensor, names[name])


def test_what_is_refused(tmp_path, options):
    np.savez(tmp_path / "other.npz", x=np.ones((3, 3, 5), np.uint8), y=[0, 1, 0])
    np.savez(tmp_path / "third.npz", x=np.ones((3, 3, 4), np.uint8), y=[0, 1, 2])
    for changed, message in (
        ({"batch": 161}, "train.npz: 160 sequences are too few; batch 161"),
        ({"valid": str(tmp_path / "other.npz")}, "other.npz: 5 numbers enter in each step, and the network takes 4"),
        ({"valid": str(tmp_path / "third.npz")}, "third.npz: step 2 of sequence 2 asks for class 2"),
        ({"dropout_words": 0.1}, "dropout_words is for texts"),
        ({"weight_bits": 4}, "weight_bits is for texts"),
    ):
        with pytest.raises(InputError, match=message):
            train(options.with_values(**changed), tmp_path / "network")
    assert not (tmp_path / "network").exists()
