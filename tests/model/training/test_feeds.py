"""Training on sequences of numbers, by the command's own functions."""

import numpy as np
import pytest

from egret.host.evaluation import evaluate_network
from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.quantise import quantise
from egret.model.sequences import SequenceEvaluation, Sequences
from egret.model.training.bar import Bar
from egret.model.training.options import TrainingOptions
from egret.model.training.prune import PruningOptions, prune
from egret.model.training.train import train


def sides(count, seed, dtype=np.uint8):
    """Which half of the inputs was the brighter one in the first of three steps: x and y."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, count)
    x = random.integers(0, 100, (count, 3, 4))
    x[np.arange(count), 0, 2 * y] += 120
    return {"x": (x if dtype == np.uint8 else x - 110).astype(dtype), "y": y}


def evaluate(network, dtype=np.uint8):
    """A network over other sequences than it was trained on."""
    found = evaluate_network(network, Sequences.of(**sides(100, 3, dtype)))
    assert isinstance(found, SequenceEvaluation)
    return found


@pytest.fixture
def dtype():
    return np.uint8


@pytest.fixture
def options(tmp_path, dtype):
    np.savez(tmp_path / "train.npz", **sides(160, 1, dtype))
    np.savez(tmp_path / "valid.npz", **sides(60, 2, dtype))
    fields = {"train": str(tmp_path / "train.npz"), "valid": str(tmp_path / "valid.npz"), "tokens": "number"}
    loop = {"epochs": 25, "batch": 16, "learning_rate": 5e-3, "beta1": 0.9, "weight_decay": 0.01, "clip": 1.0}
    return TrainingOptions.of(**fields, **loop, hidden_sizes=(12,), threshold_mean=0.05, device="cpu")


@pytest.mark.parametrize(("reset", "dtype"), [("before", np.uint8), ("after", np.uint8), ("before", np.int8)])
def test_train_and_prune(tmp_path, options, reset, dtype):
    """A network learns, is saved with its sizes from the data, and is pruned by the code that prunes those of texts.

    Quantised it does what the float network does. Numbers with a sign enter two inputs each.
    """
    options = options.with_values(reset=reset)
    result = train(options, tmp_path / "dense")
    dense = load_checkpoint(tmp_path / "dense")
    shape = dense.configuration
    assert (shape.tokens, shape.vocab_size, shape.tied) == ("number", 2, False)
    assert shape.embedding_size == (4 if dtype == np.uint8 else 8)
    assert evaluate(dense, dtype).accuracy > 0.9
    valid = evaluate_network(dense, Sequences.load(options.text.valid))
    assert result.valid_loss == pytest.approx(valid.loss, rel=1e-4)
    assert result.activity == pytest.approx(valid.activity, abs=1e-3)
    assert isinstance(valid, SequenceEvaluation) and result.valid_accuracy == valid.accuracy
    best = min(result.history, key=lambda entry: entry["valid_loss"])
    assert best["valid_accuracy"] == result.summary()["valid_accuracy"] > result.history[0]["valid_accuracy"]
    pruned = prune(tmp_path / "dense", tmp_path / "pruned", options, PruningOptions(sparsity=0.5, steps=2, epochs=6))
    saved = load_checkpoint(tmp_path / "pruned")
    weights = [saved.tensors[f"layers.0.weight_{name}"] for name in "xy"]
    zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.size for weight in weights)
    assert pruned.sparsity == zeros == pytest.approx(0.5, abs=0.01)
    floats, integers = evaluate(saved, dtype), evaluate(quantise(saved), dtype)
    assert floats.accuracy > 0.85 and abs(integers.accuracy - floats.accuracy) <= 0.02
    assert floats.macs.pruned == sum(np.count_nonzero(weight) for weight in weights)
    assert integers.activity == pytest.approx(floats.activity, abs=0.03)


def test_a_run_goes_on_where_it_stopped(tmp_path, options, monkeypatch):
    shown = []
    monkeypatch.setattr(Bar, "show", lambda bar, epoch, loss, speed, valid: shown.append(valid))
    whole = train(options.with_values(epochs=4), tmp_path / "whole")
    last = whole.history[-1]
    assert shown[-1] == f"perplexity {last['valid_perplexity']:.2f}, accuracy {last['valid_accuracy']:.2%}"
    train(options.with_values(epochs=4), tmp_path / "cut", limit_seconds=0)
    cut = train(options.with_values(epochs=4), tmp_path / "cut")
    assert (cut.valid_loss, cut.valid_accuracy) == (whole.valid_loss, whole.valid_accuracy)
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
