"""Pruning: what goes, what stays, and that it stays away."""

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.tokens import Vocabulary
from egret.model.training import averaging, loop
from egret.model.training.network import LanguageModel, configuration_of
from egret.model.training.options import TrainingOptions
from egret.model.training.prune import PruningOptions, prune, prune_magnitude, schedule
from egret.model.training.train import train

TEXT = "the quality of mercy is not strained\nit droppeth as the gentle rain from heaven\n" * 5


@pytest.fixture
def parent(tmp_path):
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "valid.txt").write_text(TEXT[:150])
    options = TrainingOptions.of(
        train=tmp_path / "train.txt", valid=tmp_path / "valid.txt", tokens="char", embedding_size=6,
        hidden_sizes=(10, 6), epochs=2, batch=4, bptt=20, learning_rate=1e-2, embedding_scale=0.5, eval_batch=2,
        device="cpu",
    )  # fmt: skip
    train(options, tmp_path / "parent")
    return tmp_path / "parent", options


def recurrent(checkpoint):
    return {k: v for k, v in checkpoint.tensors.items() if k.endswith(("weight_x", "weight_y"))}


@pytest.mark.parametrize("sparsity", [0.0, 0.013, 0.5, 0.97])
def test_the_smallest_weights_of_all_layers_together_go(sparsity):
    vocabulary = Vocabulary(["a", "b"], "char")
    model = LanguageModel(configuration_of(vocabulary, cell="egru", embedding_size=7, hidden_sizes=(11, 5, 7)))
    model.initialise(4)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    prune_magnitude(model, sparsity)
    kept, gone = [], []
    for name, parameter in model.named_parameters():
        if name.endswith(("weight_x", "weight_y")):
            zero = parameter == 0
            gone.append(before[name][zero].abs())
            kept.append(before[name][~zero].abs())
            assert torch.equal(parameter[~zero], before[name][~zero])
        else:
            assert torch.equal(parameter, before[name]), name
    gone, kept = torch.cat(gone), torch.cat(kept)
    assert len(gone) == round(sparsity * (len(gone) + len(kept)))
    if len(gone):
        assert gone.max() <= kept.min()


def test_equal_magnitudes_are_pruned_to_the_exact_count():
    model = LanguageModel(configuration_of(Vocabulary(["a"], "char"), cell="lstm", embedding_size=3, hidden_sizes=(3,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    prune_magnitude(model, 0.5)
    assert sum(int((w == 0).sum()) for w in (model.layers[0].weight_x, model.layers[0].weight_y)) == 36


def test_schedule():
    assert schedule(PruningOptions(sparsity=0.6, steps=1, epochs=10)) == {0: 0.6}
    plan = schedule(PruningOptions(sparsity=0.9, steps=4, epochs=20, spread=0.5))
    assert list(plan) == [0, 3, 7, 10] and plan[10] == pytest.approx(0.9)
    assert list(plan.values()) == sorted(plan.values())
    further = schedule(PruningOptions(sparsity=0.9, steps=3, epochs=20, spread=0.5), already=0.8)
    assert min(further.values()) > 0.8 and further[10] == pytest.approx(0.9)
    assert schedule(PruningOptions(sparsity=0.5, steps=2, epochs=2), already=0.7)[1] == 0.5
    assert len(schedule(PruningOptions(sparsity=0.9, steps=5, epochs=5, spread=0.9))) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.0}, "sparsity must be a number from 0 to below 1, not 1.0"),
        ({"sparsity": -0.1}, "sparsity must be"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"steps": 11}, r"steps must be at most epochs \(10\), not 11"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"regrow": True}, "sparsity must be 0 where zeros may grow again, not 0.5"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PruningOptions(**{"sparsity": 0.5, "steps": 2, "epochs": 10, **change})


def test_pruned_weights_stay_zero_and_the_rest_learns(parent, tmp_path):
    directory, options = parent
    history = []
    pruning = PruningOptions(sparsity=0.8, steps=3, epochs=6, spread=0.5, learning_rate=5e-3)
    result = prune(directory, tmp_path / "out", options, pruning, on_epoch=history.append)
    weights = recurrent(load_checkpoint(tmp_path / "out"))
    total = sum(v.size for v in weights.values())
    zeros = sum(int((v == 0).sum()) for v in weights.values())
    assert zeros == round(0.8 * total) and result.sparsity == zeros / total
    sparsities = [entry["sparsity"] for entry in history]
    assert sparsities == sorted(sparsities) and sparsities[0] < sparsities[-1] == result.sparsity
    # The network kept is the best one at the final sparsity, though earlier, fuller ones may have been better.
    final = [entry["valid_loss"] for entry in history if entry["sparsity"] == result.sparsity]
    assert result.valid_loss == min(final)
    before = recurrent(load_checkpoint(directory))
    assert any(not np.array_equal(weights[k][weights[k] != 0], before[k][weights[k] != 0]) for k in weights)


def test_averages_begin_anew_at_each_pruning(parent, tmp_path, monkeypatch):
    """So they have the zeros of the last one, and the network kept does."""
    monkeypatch.setattr(averaging, "EVERY", 2)
    directory, options = parent
    options = options.with_values(averaging=50.0)
    seen = []
    other = loop.Trainer.evaluate_other

    def look(trainer, parameters):
        weights = [parameters[f"layers.{layer}.{kind}"] for layer in range(2) for kind in ("weight_x", "weight_y")]
        zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
        seen.append((zeros, trainer.average.updates, trainer.position.step))
        return other(trainer, parameters)

    monkeypatch.setattr(loop.Trainer, "evaluate_other", look)
    pruning = PruningOptions(sparsity=0.8, steps=2, epochs=4, spread=0.5, learning_rate=1e-2)
    result = prune(directory, tmp_path / "out", options, pruning)
    assert [zeros for zeros, *_ in seen] == [entry["sparsity"] for entry in result.history]
    before = seen[1][2]  # steps before the last pruning
    assert [averaged for _, averaged, _ in seen] == [
        step // 2 if step <= before else step // 2 - before // 2 for *_, step in seen
    ]
    weights = recurrent(load_checkpoint(tmp_path / "out"))
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    assert zeros == round(0.8 * sum(weight.size for weight in weights.values()))


def test_zeros_grow_again_where_they_may(parent, tmp_path):
    directory, options = parent
    prune(directory, tmp_path / "half", options, PruningOptions(sparsity=0.5, epochs=1))
    history = []
    again = PruningOptions(sparsity=0.0, epochs=2, regrow=True)
    with pytest.raises(InputError, match="stopped before the first epoch's end"):
        prune(tmp_path / "half", tmp_path / "dense", options, again, limit_seconds=0)
    result = prune(tmp_path / "half", tmp_path / "dense", options, again, on_epoch=history.append)  # goes on
    assert result.sparsity == 0 and [entry["sparsity"] for entry in history] == [0, 0]
    for name, weights in recurrent(load_checkpoint(tmp_path / "dense")).items():
        assert (weights == 0).mean() < 0.1, name
    kept = PruningOptions(sparsity=0.0, epochs=1)
    assert prune(tmp_path / "half", tmp_path / "kept", options, kept).sparsity == pytest.approx(0.5, abs=1e-3)


def test_a_network_is_pruned_further(parent, tmp_path):
    directory, options = parent
    prune(directory, tmp_path / "half", options, PruningOptions(sparsity=0.5, epochs=1))
    prune(tmp_path / "half", tmp_path / "more", options, PruningOptions(sparsity=0.9, steps=2, epochs=2, spread=0.5))
    half, more = recurrent(load_checkpoint(tmp_path / "half")), recurrent(load_checkpoint(tmp_path / "more"))
    assert all((more[name][half[name] == 0] == 0).all() for name in half)


def test_an_interrupted_pruning_ends_as_an_uninterrupted_one(parent, tmp_path, monkeypatch):
    directory, options = parent
    options = options.with_values(averaging=0.5)
    monkeypatch.setattr(averaging, "EVERY", 3)
    pruning = PruningOptions(sparsity=0.7, steps=2, epochs=4, spread=0.5, learning_rate=5e-3)
    whole = prune(directory, tmp_path / "whole", options, pruning)
    for limit in (14, 20):
        ticks = iter(range(10**9))
        torch.manual_seed(5)
        with monkeypatch.context() as patch:
            patch.setattr(loop.time, "monotonic", lambda ticks=ticks: float(next(ticks)))
            prune(directory, tmp_path / "parts", options, pruning, limit_seconds=limit)
    parts = prune(directory, tmp_path / "parts", options, pruning)
    assert parts.valid_loss == whole.valid_loss
    one, other = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    with pytest.raises(InputError, match="another pruning schedule"):
        prune(directory, tmp_path / "parts", options, PruningOptions(sparsity=0.6, steps=2, epochs=4, spread=0.5,
                                                                     learning_rate=5e-3))  # fmt: skip


def test_a_missing_checkpoint_is_refused(tmp_path, parent):
    with pytest.raises(InputError, match="no checkpoint there"):
        prune(tmp_path / "nothing", tmp_path / "out", parent[1], PruningOptions(sparsity=0.5))
    assert not (tmp_path / "out").exists()
