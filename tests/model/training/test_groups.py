"""Training with a read-out in groups: loss, teachers, which words share a group, price on events."""

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.counts import checkpoint_columns
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine
from egret.model.groups import Groups
from egret.model.training.grouping import divide, group_words, neighbours, with_groups
from egret.model.training.network import LanguageModel
from egret.model.training.prune import PruningOptions, prune
from egret.model.training.readout import arrange, group_log_probabilities, group_loss
from egret.model.training.train import train
from tests.support.training import TEXT, assert_same_checkpoint, small_options

SHAPES = [Groups(5, (7, 3, 9), 2), Groups(0, (4, 1), 1), Groups(3, (70,), 4)]


@pytest.mark.parametrize("groups", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_losses_are_those_of_the_full_distribution(groups, share):
    """Of the plain and the fused path, with and without teachers, and with the same gradients."""
    random = torch.Generator().manual_seed(groups.words)
    count = groups.entries + sum(groups.groups)
    leaves = [torch.randn(shape, generator=random).requires_grad_() for shape in ((6, 11), (count, 11), (count,))]
    starts = torch.from_numpy(groups.starts - groups.head)
    places = torch.randint(0, groups.words, (6,), generator=random)
    order = torch.randperm(groups.words, generator=random)
    taught = torch.randn(6, groups.words, generator=random).softmax(-1)
    everything = group_log_probabilities(torch.nn.functional.linear(*leaves), groups)
    torch.testing.assert_close(everything.exp().sum(-1), torch.ones(6))
    expected = -everything.gather(1, places[:, None]).mean()
    if share:
        expected = (1 - share) * expected - share * (taught[:, order] * everything).sum(-1).mean()
    slopes = torch.autograd.grad(expected, leaves)
    arranged = arrange(taught, order, groups) if share else None
    for dtype in (None, torch.float32):
        loss = group_loss(*leaves, groups, starts, places, arranged, share, fused_dtype=dtype)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        for got, slope in zip(torch.autograd.grad(loss, leaves), slopes, strict=True):
            torch.testing.assert_close(got, slope, rtol=1e-4, atol=1e-6)


def test_division_is_by_nearness_and_bounded():
    random = np.random.default_rng(1)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    vectors = np.concatenate([centre + random.normal(size=(20, 2)) for centre in centres])
    part = divide(vectors, np.ones(60), 3)
    assert all(len(set(part[start : start + 20].tolist())) == 1 for start in (0, 20, 40)) and len(set(part)) == 3
    skewed = np.concatenate([random.normal(size=(90, 2)), centres[1] + random.normal(size=(10, 2))])
    assert np.bincount(divide(skewed, np.ones(100), 2)).max() == 90
    assert np.bincount(divide(skewed, np.ones(100), 2, largest=1.3)).max() <= 70
    assert sorted(divide(np.zeros((4, 2)), np.ones(4), 4).tolist()) == [0, 1, 2, 3]


def test_frequent_words_are_in_the_head_and_all_words_somewhere():
    ids = np.random.default_rng(3).geometric(0.1, 5000).clip(1, 40) - 1
    counts = np.bincount(ids, minlength=40)
    order, sizes = group_words(neighbours(ids, 40), counts, 6, 5)
    assert sorted(order.tolist()) == list(range(40)) and 6 + sum(sizes) == 40 and min(sizes) >= 1
    assert set(order[:6].tolist()) == set(np.argsort(-counts, kind="stable")[:6].tolist())
    with pytest.raises(InputError, match="38 words in the head and 3 groups needs as many words; there are 40"):
        group_words(neighbours(ids, 40), counts, 38, 3)


def test_rows_begin_as_the_sums_of_their_words(texts, tmp_path):
    """With a row for each word, a network in groups is the plain one."""
    train(small_options(texts, epochs=1), tmp_path / "plain")
    plain = load_checkpoint(tmp_path / "plain")
    ids = plain.vocabulary.encode(TEXT)
    divided = with_groups(plain, ids, 2, 8, 8)
    y = np.random.default_rng(1).uniform(0, 1, (5, 8)).astype(np.float32)
    logits = FloatEngine(plain).read_out(y)
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(FloatEngine(divided).read_out(y), expected, rtol=1e-4, atol=1e-4)
    columns = checkpoint_columns(plain)
    losses = [
        evaluate(FloatEngine(one), columns, ids[:200], batch=2).loss
        for one in (plain, with_groups(plain, ids, 3, 4, 1))
    ]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


def test_training_and_pruning_in_groups(texts, tmp_path):
    """From the start and from a plain network; a killed run goes on exactly; the model and the engine agree."""
    shape = {"head": 3, "groups": 4, "rows": 2}
    result = train(small_options(texts, epochs=4, **shape), tmp_path / "begun")
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    train(small_options(texts, epochs=2), tmp_path / "plain")
    options = small_options(texts, teachers=str(tmp_path / "plain"), averaging=1.0, mac_weight=0.1, **shape)
    pruning = PruningOptions(sparsity=0.3, steps=2, epochs=3)
    result = prune(tmp_path / "plain", tmp_path / "divided", options, pruning)
    with pytest.raises(InputError, match="stopped before the first epoch's end"):
        prune(tmp_path / "plain", tmp_path / "again", options, pruning, limit_seconds=0)
    prune(tmp_path / "plain", tmp_path / "again", options, pruning)
    assert_same_checkpoint(tmp_path / "divided", tmp_path / "again")
    checkpoint = load_checkpoint(tmp_path / "divided")
    groups = checkpoint.configuration.readout
    assert groups is not None and (groups.head, len(groups.groups), groups.rows) == (3, 4, 2)
    ids = checkpoint.vocabulary.encode(TEXT[:200])
    measured = evaluate(FloatEngine(checkpoint), checkpoint_columns(checkpoint), ids, batch=2)
    assert measured.loss == pytest.approx(result.valid_loss, rel=0.02)
    prune(tmp_path / "divided", tmp_path / "on", small_options(texts), PruningOptions(sparsity=0.3, epochs=1))
    on = load_checkpoint(tmp_path / "on")
    assert on.configuration == checkpoint.configuration
    assert np.array_equal(on.tensors["readout.order"], checkpoint.tensors["readout.order"])


def test_the_price_on_events_counts_the_read_out(texts, tmp_path):
    train(small_options(texts, epochs=1, head=3, groups=4, rows=2), tmp_path / "divided")
    model = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / "divided"))
    with torch.no_grad():
        model.layers[0].weight_y[:6] = 0
    behind = [36 * 12 - 6 * 12 + 24 * 12, 24 * 8 + 14.5 * 8]
    assert model.event_weights(14.5) == pytest.approx([part / sum(behind) for part in behind])
