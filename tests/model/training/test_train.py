"""Training: options, schedule, learning, and runs that are killed and go on exactly."""

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.training import train as training
from egret.model.training.network import LanguageModel
from egret.model.training.train import (
    TrainingOptions,
    cut_streams,
    event_weights,
    learning_rate_factor,
    segment_lengths,
    train,
)

TEXT = "to be or not to be that is the question\nwhether tis nobler in the mind to suffer\n" * 6


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "valid.txt").write_text(TEXT[:200])
    return {"train": tmp_path / "train.txt", "valid": tmp_path / "valid.txt"}


def options(texts, **changes):
    fields = {
        "tokens": "char", "embedding_size": 8, "hidden_sizes": (12, 8), "epochs": 3, "batch": 4, "bptt": 20,
        "bptt_deviation": 5.0, "learning_rate": 5e-3, "embedding_scale": 0.5, "dropout_recurrent": 0.3,
        "dropout_words": 0.1, "dropout_between": 0.1, "eval_batch": 2, "save_seconds": 1e9, "device": "cpu",
    }  # fmt: skip
    return TrainingOptions(**{**fields, **texts, **changes})


def assert_same_checkpoint(one, other):
    one, other = load_checkpoint(one), load_checkpoint(other)
    for name, tensor in one.tensors.items():
        assert np.array_equal(tensor, other.tensors[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"batch": 2.5}, "batch must be an integer"),
        ({"hidden_sizes": ()}, "hidden_sizes must be a list of at least one size"),
        ({"hidden_sizes": (12, 9)}, "a tied read-out needs embedding_size equal to the last hidden size"),
        ({"cell": "gru"}, "cell must be 'egru' or 'lstm', not 'gru'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number from"),
        ({"decay_from": 4}, "decay_from must be a number from 0 to 3, not 4"),
        ({"dropout_words": 1.0}, "dropout of words must be a number from 0 to below 1"),
        ({"tied": 1}, "tied must be true or false"),
        ({"averaging": -1}, "averaging must be a number from 0"),
        ({"shard_mib": 0}, "shard_mib must be an integer of at least 1"),
        ({"train": 3}, "train must be the path of a text file"),
        ({"device": "tpu"}, "device must be 'auto' or 'cpu' or 'cuda'"),
    ],
)
def test_bad_options_are_refused(texts, change, message):
    with pytest.raises(InputError, match=message) as caught:
        options(texts, **change)
    assert "\n" not in str(caught.value)


def test_configuration_file(tmp_path, texts):
    path = tmp_path / "a.toml"
    path.write_text(
        '[network]\nembedding_size = 8\nhidden_sizes = [12, 8]\n[text]\ntrain = "train.txt"\nvalid = "valid.txt"\n'
        "[training]\nepochs = 7\n[dropout]\nwords = 0.25\n[events]\nthreshold_mean = 0.3\n"
    )
    read = TrainingOptions.from_toml(path, epochs=9, batch=None)
    assert (read.epochs, read.batch, read.dropout_words, read.threshold_mean) == (9, 64, 0.25, 0.3)
    assert read.hidden_sizes == (12, 8) and read.train == str(texts["train"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs = 3", "unknown table 'epochs'"),
        ("[training]\nepoch = 3", r"unknown field 'epoch' in \[training\]"),
        ("[training]\nepochs = ", "not a TOML file"),
        ("[training]\nepochs = 3", "lacks 'train'"),
        ('[text]\ntrain = "a"\nvalid = "b"\n[training]\nepochs = -1', "epochs must be"),
    ],
)
def test_bad_configuration_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        TrainingOptions.from_toml(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_committed_configurations_are_accepted():
    folder = os.path.join(os.path.dirname(training.__file__), "..", "configs")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    assert {"demo.toml", "ptb-egru.toml", "ptb-lstm.toml", "wikitext2-egru.toml", "wikitext2-lstm.toml"} <= set(names)
    for name in names:
        if not name.startswith("study-"):
            TrainingOptions.from_toml(os.path.join(folder, name), train="t", valid="v")


def test_texts_that_cannot_be_used_are_refused(tmp_path, texts):
    with pytest.raises(InputError, match="too few; batch 4000 needs 8000"):
        train(options(texts, batch=4000), tmp_path / "out")
    texts["valid"].write_text("ABC")
    with pytest.raises(InputError, match=r"valid.txt: line 1 of the text: character 'A'"):
        train(options(texts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_learning_rate_schedule(texts):
    plan = options(texts, epochs=10, warmup=2, decay_from=4, decay_to=0.1)
    assert [learning_rate_factor(epoch, plan) for epoch in (0, 1, 2, 4)] == [0, 0.5, 1, 1]
    assert learning_rate_factor(7, plan) == pytest.approx(0.55)
    assert learning_rate_factor(10, plan) == pytest.approx(0.1)
    constant = options(texts, epochs=10, decay_from=10)
    assert {learning_rate_factor(epoch / 4, constant) for epoch in range(41)} == {1.0}


def test_segment_lengths(texts):
    plan = options(texts, bptt=70, bptt_deviation=5.0)
    drawn = [length for epoch in range(40) for length in segment_lengths(3001, plan, epoch)[:-1]]
    assert all(length % training.QUANTUM == 0 for length in drawn)
    assert 66 < np.mean(drawn) < 70 and len({length for length in drawn if length < 50}) > 0
    assert segment_lengths(3001, plan, 3) == segment_lengths(3001, plan, 3) != segment_lengths(3001, plan, 4)
    assert all(2996 <= sum(segment_lengths(3001, plan, epoch)) <= 3000 for epoch in range(5))
    assert segment_lengths(4, plan, 0) == [3]
    assert segment_lengths(11, options(texts, bptt=4, bptt_deviation=0), 0) == [4, 4, 2]


def test_streams_follow_the_text():
    assert cut_streams(np.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_training_learns_and_saves_the_best_network(tmp_path, texts, cell):
    seen = []
    plan = options(texts, cell=cell, epochs=8, learning_rate=3e-2, clip=1.0, dropout_recurrent=0.0)
    result = train(plan, tmp_path / "out", on_epoch=seen.append)
    assert len(seen) == 8 == result.epochs
    assert result.valid_loss == min(entry["valid_loss"] for entry in seen) < 0.97 * seen[0]["valid_loss"]
    assert result.tokens_per_second > 0 and result.sparsity == 0 and len(result.activity) == 2
    summary = result.summary()
    assert summary["valid_perplexity"] == pytest.approx(math.exp(result.valid_loss))
    json.dumps(summary)
    # The saved network gives the reported loss.
    saved = load_checkpoint(tmp_path / "out")
    model = training.LanguageModel.from_checkpoint(saved)
    again = training.Trainer(plan, model, saved.vocabulary, saved.vocabulary.encode(TEXT),
                             saved.vocabulary.encode(TEXT[:200]))  # fmt: skip
    loss, activity = again.evaluate()
    assert loss == pytest.approx(result.valid_loss, rel=1e-6) and activity == pytest.approx(result.activity)


def test_averages_equal_those_by_hand(tmp_path, texts, monkeypatch):
    """A mean until it is `averaging` epochs old, then exponential; validation sees both and keeps the better."""
    monkeypatch.setattr(training, "_AVERAGE_EVERY", 2)
    plan = options(texts, averaging=1.5, learning_rate=3e-2, epochs=4)
    seen, expected = [], {}
    step = training.Trainer._train_segment
    evaluate = training.Trainer.evaluate

    def follow(trainer, *place):
        step(trainer, *place)
        if trainer.step % 2:
            return
        seen.append(None)
        horizon = 1.5 * len(trainer._train) / 20 / 2
        share = 1 / min(len(seen), horizon)
        assert horizon > 2
        for name, parameter in trainer.model.named_parameters():
            value = parameter.detach().numpy()
            expected[name] = expected.get(name, 0) * (1 - share) + share * value
            assert np.allclose(trainer._average[name], expected[name], rtol=1e-5, atol=1e-7), name

    losses = []
    monkeypatch.setattr(training.Trainer, "_train_segment", follow)
    monkeypatch.setattr(training.Trainer, "evaluate", lambda trainer: losses.append(evaluate(trainer)) or losses[-1])
    result = train(plan, tmp_path / "out")
    assert len(seen) > 1.5 * len(result.history) and len(losses) == 2 * 4
    assert result.valid_loss == min(losses)[0]
    for index, entry in enumerate(result.history):
        own, averaged = losses[2 * index][0], losses[2 * index + 1][0]
        assert entry["valid_loss"] == own != averaged
        assert entry["averaged_perplexity"] == math.exp(averaged)
    # Averaging leaves training as it is.
    monkeypatch.undo()
    plain = train(options(texts, learning_rate=3e-2, epochs=4), tmp_path / "plain")
    assert [entry["valid_loss"] for entry in plain.history] == [entry["valid_loss"] for entry in result.history]
    assert plain.history[0]["averaged_perplexity"] is None


@pytest.mark.parametrize("better", [0, 1])
def test_the_better_of_running_and_averaged_is_kept(tmp_path, texts, monkeypatch, better):
    monkeypatch.setattr(training, "_AVERAGE_EVERY", 1)
    calls, parameters = [], []

    def evaluate(trainer):
        calls.append(0)
        parameters.append({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        return (1.0 if (len(calls) - 1) % 2 == better else 2.0) / len(calls), [0.5, 0.5]

    monkeypatch.setattr(training.Trainer, "evaluate", evaluate)
    train(options(texts, averaging=1.0), tmp_path / "out")
    saved = load_checkpoint(tmp_path / "out").tensors
    kept, other = parameters[-2:] if better == 0 else parameters[:-3:-1]
    assert all(np.array_equal(saved[name], kept[name]) for name in saved)
    assert any(not np.array_equal(saved[name], other[name]) for name in saved)


@pytest.mark.parametrize("shard_mib", [None, 1])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, texts, monkeypatch, shard_mib):
    changes = {"beta1": 0.5, "averaging": 1.0} if shard_mib is None else {"hidden_sizes": (220, 8)}
    plan = options(texts, shard_mib=shard_mib, **changes)
    monkeypatch.setattr(training, "_AVERAGE_EVERY", 3)
    whole = train(plan, tmp_path / "whole")
    # A clock that jumps makes the run stop and save after a number of segments, in the middle of epochs too.
    for limit in (5, 12, 4):
        ticks = iter(range(10**9))
        torch.manual_seed(123)  # what a new process would have
        with monkeypatch.context() as patch:
            patch.setattr(training.time, "monotonic", lambda ticks=ticks: float(next(ticks)))
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
    plan = options(texts)
    whole = train(plan, tmp_path / "whole")
    program = (
        "import sys, torch; torch.set_num_threads(1); from egret.model.training.train import *; "
        "options = TrainingOptions(**eval(sys.argv[1])); print('ready', flush=True); train(options, sys.argv[2])"
    )
    fields = {name: getattr(plan, name) for name in plan.__dataclass_fields__} | {"save_seconds": 0.0}
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
    plan = options(texts)
    train(plan, tmp_path / "out")
    with pytest.raises(InputError, match=r"training began with learning_rate = 0.005, not 0.1"):
        train(options(texts, learning_rate=0.1), tmp_path / "out")
    state = tmp_path / "out" / "training.json"
    good = state.read_bytes()
    for content in (b"", b"[]", b"{}", good[:-40], good.replace(b'"version": 1', b'"version": 9')):
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
    free = train(options(texts, **common), tmp_path / "free")
    held = train(options(texts, activity_weight=10.0, **common), tmp_path / "held")
    assert sum(held.history[-1]["activity"]) < 0.8 * sum(free.history[-1]["activity"])


def test_mac_penalty_lowers_the_activity_of_the_layer_with_more_weights_behind_it(tmp_path, texts):
    """Layer 1 has 12 * 36 weights of its own and 12 * 24 of layer 2 behind it, layer 2 has 8 * 24."""
    common = {"epochs": 5, "threshold_mean": 0.1, "dropout_recurrent": 0.0, "learning_rate": 2e-2}
    changes = {"free": {}, "by_macs": {"mac_weight": 0.01}, "by_activity": {"activity_weight": 0.01}}
    free, by_macs, by_activity = (
        train(options(texts, **common, **change), tmp_path / name).history[-1]["activity"]
        for name, change in changes.items()
    )
    model = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / "free"))
    assert event_weights(model.layers) == pytest.approx([720 / 912, 192 / 912])
    assert by_macs[0] < 0.8 * free[0]
    assert by_macs[0] < by_activity[0] and by_macs[1] > by_activity[1]


def test_penalties_lower_outputs_and_their_changes(tmp_path, texts):
    """Each lowers what it names more than it lowers the other."""
    found = {}
    for name, change in (("free", {}), ("small", {"output_weight": 20.0}), ("slow", {"change_weight": 20.0})):
        plan = options(texts, epochs=4, learning_rate=2e-2, dropout_recurrent=0.0, clip=1.0, **change)
        result = train(plan, tmp_path / name)
        assert result.history[-1]["train_loss"] < 4  # the tokens' alone
        model = training.LanguageModel.from_checkpoint(load_checkpoint(tmp_path / name)).eval()
        ids = load_checkpoint(tmp_path / name).vocabulary.encode(TEXT[:300])
        with torch.no_grad():
            hidden = model(torch.from_numpy(cut_streams(ids, 1)), model.zero_state(1))[0]
        found[name] = float(hidden.square().mean()), float(hidden.diff(dim=0).square().mean())
    size, change = zip(*found.values(), strict=True)
    assert size[1] < 0.5 * size[0] and change[2] < 0.5 * change[0]
    assert change[2] / size[2] < change[1] / size[1]


def test_limits_and_trained_thresholds(tmp_path, texts):
    plan = options(texts, train_thresholds=True, threshold_mean=0.02, embedding_limit=0.25, learning_rate=2e-2)
    train(plan, tmp_path / "out")
    saved = load_checkpoint(tmp_path / "out")
    assert np.abs(saved.tensors["embedding.weight"]).max() <= 0.25
    start = training.LanguageModel(saved.configuration)
    start.initialise(plan.seed, threshold_mean=0.02, embedding_scale=0.5)
    assert not np.array_equal(saved.tensors["layers.0.threshold"], start.layers[0].threshold.numpy())
    assert saved.tensors["layers.0.threshold"].min() >= 0


def test_divergence_is_reported(tmp_path, texts):
    with pytest.raises(InputError, match=r"training diverged in epoch \d: the loss is"):
        train(options(texts, cell="lstm", learning_rate=10.0, clip=0, weight_decay=1000.0), tmp_path / "out")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_cuda_run_resumes_close_to_an_uninterrupted_one(tmp_path, texts, cell):
    """Sums of atomic additions differ in their last bits from run to run, so losses are close, not equal."""
    plan = options(texts, cell=cell, device="cuda", epochs=5)
    whole = train(plan, tmp_path / "whole")
    train(plan, tmp_path / "parts", limit_seconds=0.0)
    parts = train(plan, tmp_path / "parts")
    assert parts.valid_loss == pytest.approx(whole.valid_loss, rel=0.02)


def test_teachers_are_predicted_beside_the_text(texts, tmp_path):
    """A student of a teacher that is another in every respect but the vocabulary, and of two of them."""
    train(options(texts, cell="lstm", hidden_sizes=(8,), epochs=2, dropout_words=0.0), tmp_path / "teacher")
    train(options(texts, seed=2, epochs=1), tmp_path / "other")
    teachers = [str(tmp_path / "teacher"), str(tmp_path / "other")]
    made = options(texts, teachers=teachers, teaching=0.5)
    vocabulary, train_ids, valid_ids = training.read_texts(made)

    def trainer(options):
        model = LanguageModel(load_checkpoint(tmp_path / "other").configuration)
        return training.Trainer(options, model, vocabulary, train_ids, valid_ids)

    taught = trainer(made)._taught
    assert taught.shape == (len(train_ids) // 4 - 1, 4, vocabulary.size)
    torch.testing.assert_close(taught.sum(-1), torch.ones(taught.shape[:2]).half(), rtol=2e-3, atol=0)
    tokens = torch.from_numpy(cut_streams(train_ids, 4))[:-1]
    for path in teachers:
        alone = trainer(options(texts, teachers=path))._taught
        model = LanguageModel.from_checkpoint(load_checkpoint(path)).eval()
        with torch.no_grad():
            expected = model.logits(model(tokens, model.zero_state(4))[0]).softmax(-1)
        torch.testing.assert_close(alone.float(), expected, rtol=2e-3, atol=1e-6)
        taught = taught - alone / 2
    assert taught.abs().max() < 1e-3

    # Alone, the teachers' prediction is learnt; killed runs go on exactly.
    student = options(texts, teachers=teachers, teaching=1.0, epochs=4)
    train(student, tmp_path / "student")
    train(student, tmp_path / "again", limit_seconds=0)
    result = train(student, tmp_path / "again")
    assert_same_checkpoint(tmp_path / "student", tmp_path / "again")
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_teachers_are_known_by_their_content(texts, tmp_path):
    """A teacher may move while a run is stopped; another in its place is refused."""
    for seed in (1, 2):
        train(options(texts, seed=seed, epochs=1), tmp_path / f"teacher-{seed}")
    taught = options(texts, teachers=str(tmp_path / "teacher-1"))
    train(taught, tmp_path / "student", limit_seconds=0)
    (tmp_path / "teacher-1").rename(tmp_path / "moved")
    train(options(texts, teachers=str(tmp_path / "moved")), tmp_path / "student", limit_seconds=0)
    (tmp_path / "teacher-2").rename(tmp_path / "teacher-1")
    with pytest.raises(InputError, match=r"training began with teachers = \['\w{64}'\], not \['\w{64}'\]; give the"):
        train(taught, tmp_path / "student")


def test_teachers_need_the_vocabulary(texts, tmp_path):
    (tmp_path / "letters.txt").write_text("abc" * 50)
    letters = {"train": tmp_path / "letters.txt", "valid": tmp_path / "letters.txt"}
    train(options(letters, epochs=1), tmp_path / "teacher")
    with pytest.raises(InputError, match="a teacher needs the vocabulary of the network in training, not another"):
        train(options(texts, teachers=[str(tmp_path / "teacher")]), tmp_path / "student")
    with pytest.raises(InputError, match="none: no "):
        train(options(texts, teachers=[str(tmp_path / "none")]), tmp_path / "student")
    with pytest.raises(InputError, match="teachers must be paths of networks, not 3"):
        options(texts, teachers=3)
    with pytest.raises(InputError, match="teaching must be a number from 0 to 1, not 1.5"):
        options(texts, teaching=1.5)
