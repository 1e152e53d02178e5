"""Training: learning, averaging, penalties, and runs that are killed and go on exactly."""

import json
import math
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError, TrainingError
from egret.model.training import averaging, loop
from egret.model.training.feeds import Validation
from egret.model.training.loop import Trainer
from egret.model.training.network import LanguageModel
from egret.model.training.schedule import equal_streams
from egret.model.training.train import train
from tests.support.training import TEXT, assert_same_checkpoint, small_options


def test_texts_that_cannot_be_used_are_refused(tmp_path, texts):
    with pytest.raises(InputError, match="too few; batch 4000 needs 8000"):
        train(small_options(texts, batch=4000), tmp_path / "out")
    texts["valid"].write_text("ABC")
    with pytest.raises(InputError, match=r"valid.txt: line 1 of the text: character 'A'"):
        train(small_options(texts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_training_learns_and_saves_the_best_network(tmp_path, texts, cell):
    seen = []
    plan = small_options(texts, cell=cell, epochs=8, learning_rate=3e-2, clip=1.0, dropout_recurrent=0.0)
    result = train(plan, tmp_path / "out", on_epoch=seen.append)
    assert len(seen) == 8 == result.epochs
    assert result.valid_loss == min(entry["valid_loss"] for entry in seen) < 0.97 * seen[0]["valid_loss"]
    assert result.tokens_per_second > 0 and result.sparsity == 0 and len(result.activity) == 2
    summary = result.summary()
    assert summary["valid_perplexity"] == pytest.approx(math.exp(result.valid_loss))
    json.dumps(summary)
    # The saved network gives the reported loss.
    saved = load_checkpoint(tmp_path / "out")
    model = LanguageModel.from_checkpoint(saved)
    again = Trainer(plan, model, saved.vocabulary, saved.vocabulary.encode(TEXT),
                             saved.vocabulary.encode(TEXT[:200]))  # fmt: skip
    loss, activity, accuracy = again.evaluate()
    assert loss == pytest.approx(result.valid_loss, rel=1e-6) and activity == pytest.approx(result.activity)
    assert accuracy is None and result.valid_accuracy is None


def test_averages_equal_those_by_hand(tmp_path, texts, monkeypatch):
    """A mean until it is `averaging` epochs old, then exponential; validation sees both and keeps the better."""
    monkeypatch.setattr(averaging, "EVERY", 2)
    plan = small_options(texts, averaging=1.5, learning_rate=3e-2, epochs=4)
    seen, expected = [], {}
    step = Trainer._train_segment
    evaluate = Trainer.evaluate

    def follow(trainer, *place):
        step(trainer, *place)
        if trainer.position.step % 2:
            return
        seen.append(None)
        horizon = 1.5 * len(trainer._train) / 20 / 2
        share = 1 / min(len(seen), horizon)
        assert horizon > 2
        for name, parameter in trainer.model.named_parameters():
            value = parameter.detach().numpy()
            expected[name] = expected.get(name, 0) * (1 - share) + share * value
            assert np.allclose(trainer.average.tensors[name], expected[name], rtol=1e-5, atol=1e-7), name

    losses = []
    monkeypatch.setattr(Trainer, "_train_segment", follow)
    monkeypatch.setattr(Trainer, "evaluate", lambda trainer: losses.append(evaluate(trainer)) or losses[-1])
    result = train(plan, tmp_path / "out")
    assert len(seen) > 1.5 * len(result.history) and len(losses) == 2 * 4
    assert result.valid_loss == min(losses)[0]
    for index, entry in enumerate(result.history):
        own, averaged = losses[2 * index][0], losses[2 * index + 1][0]
        assert entry["valid_loss"] == own != averaged
        assert entry["averaged_perplexity"] == math.exp(averaged)
    # Averaging leaves training as it is.
    monkeypatch.undo()
    plain = train(small_options(texts, learning_rate=3e-2, epochs=4), tmp_path / "plain")
    assert [entry["valid_loss"] for entry in plain.history] == [entry["valid_loss"] for entry in result.history]
    assert plain.history[0]["averaged_perplexity"] is None


@pytest.mark.parametrize("better", [0, 1])
def test_the_better_of_running_and_averaged_is_kept(tmp_path, texts, monkeypatch, better):
    monkeypatch.setattr(averaging, "EVERY", 1)
    calls, parameters = [], []

    def evaluate(trainer):
        calls.append(0)
        parameters.append({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        return Validation((1.0 if (len(calls) - 1) % 2 == better else 2.0) / len(calls), [0.5, 0.5])

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    train(small_options(texts, averaging=1.0), tmp_path / "out")
    saved = load_checkpoint(tmp_path / "out").tensors
    kept, other = parameters[-2:] if better == 0 else parameters[:-3:-1]
    assert all(np.array_equal(saved[name], kept[name]) for name in saved)
    assert any(not np.array_equal(saved[name], other[name]) for name in saved)


@pytest.mark.parametrize("shard_mib", [None, 1])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, texts, monkeypatch, shard_mib):
    changes = {"beta1": 0.5, "averaging": 1.0} if shard_mib is None else {"hidden_sizes": (220, 8)}
    plan = small_options(texts, shard_mib=shard_mib, **changes)
    monkeypatch.setattr(averaging, "EVERY", 3)
    whole = train(plan, tmp_path / "whole")
    # A clock that jumps makes the run stop and save after a number of segments, in the middle of epochs too.
    for limit in (5, 12, 4):
        ticks = iter(range(10**9))
        torch.manual_seed(123)  # what a new process would have
        with monkeypatch.context() as patch:
            patch.setattr(loop.time, "monotonic", lambda ticks=ticks: float(next(ticks)))
            parts = train(plan, tmp_path / "parts", limit_seconds=limit)
        names = [path.name for path in (tmp_path / "parts").glob("training-*")]
        assert len(names) == 1 if shard_mib is None else len(names) > 1
        if shard_mib is not None:
            assert all((tmp_path / "parts" / name).stat().st_size <= 1 << 20 for name in names)
    parts = train(plan, tmp_path / "parts")
    strip = ("seconds", "tokens_per_second")
    histories = [[{k: v for k, v in e.items() if k not in strip} for e in r.history] for r in (whole, parts)]
    assert histories[0] == histories[1]
    assert parts.valid_loss == whole.valid_loss
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")
    # A finished run has nothing left to do.
    assert train(plan, tmp_path / "parts").history == parts.history


def test_a_killed_process_resumes(tmp_path, texts):
    """Kill a real process at some moment; what it leaves is whole and leads to the same network."""
    plan = small_options(texts)
    whole = train(plan, tmp_path / "whole")
    program = (
        "import sys, torch; torch.set_num_threads(1); from egret.model.training.train import train; "
        "from egret.model.training.options import TrainingOptions; "
        "options = TrainingOptions.of(**eval(sys.argv[1])); print('ready', flush=True); train(options, sys.argv[2])"
    )
    fields = plan.flat() | {"save_seconds": 0.0}
    command = [sys.executable, "-c", program, repr(fields), str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "training.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.wait()
    process.stdout.close()
    result = train(plan, tmp_path / "killed")
    assert result.valid_loss == whole.valid_loss
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "killed")


def test_a_state_of_other_options_or_a_damaged_one_is_refused(tmp_path, texts):
    plan = small_options(texts)
    train(plan, tmp_path / "out")
    with pytest.raises(InputError, match=r"training began with learning_rate = 0.005, not 0.1"):
        train(small_options(texts, learning_rate=0.1), tmp_path / "out")
    state = tmp_path / "out" / "training.json"
    good = state.read_bytes()
    odd = re.sub(rb'"options": {.*?}', b'"options": 3', good)
    for content in (b"", b"[]", b"{}", b"[" * 100_000, odd, good[:-40], good.replace(b'"version": 2', b'"version": 9')):
        state.write_bytes(content)
        with pytest.raises(InputError, match=r"training.json: ") as caught:
            train(plan, tmp_path / "out")
        assert "\n" not in str(caught.value)
    state.write_bytes(good)
    (piece,) = (tmp_path / "out").glob("training-*")
    data = piece.read_bytes()
    for content in (data[:-1], b"\xff" * len(data)):
        piece.write_bytes(content)
        with pytest.raises(InputError):
            train(plan, tmp_path / "out")
    piece.unlink()
    with pytest.raises(InputError, match="cannot resume from it"):
        train(plan, tmp_path / "out")


def test_activity_regularisation_lowers_activity(tmp_path, texts):
    common = {"epochs": 5, "threshold_mean": 0.1, "dropout_recurrent": 0.0, "learning_rate": 2e-2}
    free = train(small_options(texts, **common), tmp_path / "free")
    held = train(small_options(texts, activity_weight=10.0, **common), tmp_path / "held")
    assert sum(held.history[-1]["activity"]) < 0.8 * sum(free.history[-1]["activity"])


def test_mac_penalty_lowers_the_activity_of_the_layer_with_more_weights_behind_it(tmp_path, texts):
    """Layer 1 has 12 * 36 weights of its own and 12 * 24 of layer 2 behind it, layer 2 has 8 * 24."""
    common = {"epochs": 5, "threshold_mean": 0.1, "dropout_recurrent": 0.0, "learning_rate": 2e-2}
    changes = {"free": {}, "by_macs": {"mac_weight": 0.01}, "by_activity": {"activity_weight": 0.01}}
    free, by_macs, by_activity = (
        train(small_options(texts, **common, **change), tmp_path / name).history[-1]["activity"]
        for name, change in changes.items()
    )
    model = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / "free"))
    assert model.event_weights() == pytest.approx([720 / 912, 192 / 912])
    assert by_macs[0] < 0.8 * free[0]
    assert by_macs[0] < by_activity[0] and by_macs[1] > by_activity[1]


def test_penalties_lower_outputs_and_their_changes(tmp_path, texts):
    """Each lowers what it names more than it lowers the other."""
    found = {}
    for name, change in (
        ("free", {}),
        ("small", {"activation_regularisation": 20.0}),
        ("slow", {"temporal_activation_regularisation": 20.0}),
    ):
        plan = small_options(texts, epochs=4, learning_rate=2e-2, dropout_recurrent=0.0, clip=1.0, **change)
        result = train(plan, tmp_path / name)
        assert result.history[-1]["train_loss"] < 4  # the tokens' alone
        model = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / name)).eval()
        ids = load_checkpoint(tmp_path / name).vocabulary.encode(TEXT[:300])
        with torch.no_grad():
            hidden = model(torch.from_numpy(equal_streams(ids, 1)), model.zero_state(1))[0]
        found[name] = float(hidden.square().mean()), float(hidden.diff(dim=0).square().mean())
    size, change = zip(*found.values(), strict=True)
    assert size[1] < 0.5 * size[0] and change[2] < 0.5 * change[0]
    assert change[2] / size[2] < change[1] / size[1]


def test_limits_and_trained_thresholds(tmp_path, texts):
    plan = small_options(texts, train_thresholds=True, threshold_mean=0.02, embedding_limit=0.25, learning_rate=2e-2)
    train(plan, tmp_path / "out")
    saved = load_checkpoint(tmp_path / "out")
    assert np.abs(saved.tensors["embedding.weight"]).max() <= 0.25
    start = LanguageModel(saved.configuration)
    start.initialise(plan.training.seed, threshold_mean=0.02, embedding_scale=0.5)
    assert not np.array_equal(saved.tensors["layers.0.threshold"], start.layers[0].threshold.numpy())
    assert saved.tensors["layers.0.threshold"].min() >= 0


def test_divergence_is_reported(tmp_path, texts):
    with pytest.raises(TrainingError, match=r"training diverged in epoch \d: the loss is"):
        train(small_options(texts, cell="lstm", learning_rate=10.0, clip=0, weight_decay=1000.0), tmp_path / "out")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_cuda_run_resumes_close_to_an_uninterrupted_one(tmp_path, texts, cell):
    """Sums of atomic additions differ in their last bits from run to run, so losses are close, not equal."""
    plan = small_options(texts, cell=cell, device="cuda", epochs=5)
    whole = train(plan, tmp_path / "whole")
    train(plan, tmp_path / "parts", limit_seconds=0.0)
    parts = train(plan, tmp_path / "parts")
    assert parts.valid_loss == pytest.approx(whole.valid_loss, rel=0.02)
