"""The scale of the read-out: found where a search finds it, and put where nothing else changes."""

import dataclasses

import numpy as np
import pytest

from egret.model.calibrate import calibrate, scale_readout
from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.counts import checkpoint_columns
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine
from egret.model.groups import Groups
from egret.model.tokens import Vocabulary

SHAPES = {
    "tied": {"cell": "egru", "embedding_size": 9, "hidden_sizes": (12, 9)},
    "untied": {"cell": "egru", "embedding_size": 5, "hidden_sizes": (12, 7), "tied": False},
    "lstm": {"cell": "lstm", "embedding_size": 9, "hidden_sizes": (9,)},
}


@pytest.fixture(params=SHAPES)
def checkpoint(request):
    """A network that is far too sure of itself: random, with large read-out weights."""
    random = np.random.default_rng(5)
    configuration = NetworkConfiguration(tokens="char", vocab_size=11, **SHAPES[request.param])
    tensors = {
        name: random.normal(0, 0.7, shape).astype(np.float32) for name, shape in configuration.tensor_shapes().items()
    }
    for name in tensors:
        if name.endswith("threshold"):
            tensors[name] = np.abs(tensors[name]) / 10
    return Checkpoint(configuration, tensors, Vocabulary(list("abcdefghijk"), "char"))


@pytest.fixture
def ids(checkpoint):
    """A text drawn from the network's own predictions with all logits times 0.8."""
    random = np.random.default_rng(6)
    network, text = FloatEngine(checkpoint), [0]
    for _ in range(1500):
        logits = 0.8 * network.read_out(network.step(np.array(text[-1:]))[-1].y)[0].astype(float)
        text.append(random.choice(len(logits), p=np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()))
    return np.array(text)


def loss(checkpoint, ids, batch=3):
    return evaluate(FloatEngine(checkpoint), checkpoint_columns(checkpoint), ids, batch=batch).loss


def test_the_scale_is_the_best_one(checkpoint, ids):
    scale = calibrate(FloatEngine(checkpoint), ids, batch=3)
    assert 0.7 < scale < 0.9
    found = loss(scale_readout(checkpoint, scale), ids)
    assert found < loss(checkpoint, ids)
    for other in np.linspace(0.5, 2, 21):
        assert found < loss(scale_readout(checkpoint, other), ids) + 2e-6, other


def test_a_scaled_network_differs_in_its_logits_alone(checkpoint, ids):
    scaled = scale_readout(checkpoint, 0.7)
    scaled.check()
    one, other = FloatEngine(checkpoint), FloatEngine(scaled)
    for token in ids[:60]:
        y, same = (network.step(np.array([token]))[-1].y for network in (one, other))
        assert np.array_equal(y != 0, same != 0) and np.allclose(y, same, rtol=1e-4, atol=1e-6)
        assert np.allclose(other.read_out(same), 0.7 * one.read_out(y), rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(scaled.tensors[name] == 0, tensor == 0) for name, tensor in checkpoint.tensors.items())


def test_a_read_out_in_groups_is_scaled_as_a_whole(random_checkpoint):
    """All scores of the head and of the groups, so that what words of one of them differ by is scaled."""
    groups = Groups(3, (2, 4), 1)
    plain = random_checkpoint(NetworkConfiguration("egru", "char", 9, 6, (6,), readout=groups))
    y = np.random.default_rng(1).random((4, 6)).astype(np.float32)
    order = plain.tensors["readout.order"].astype(int)
    one, other = (FloatEngine(one).read_out(y)[:, order] for one in (plain, scale_readout(plain, 0.7)))
    for first, last in ((0, 3), (3, 5), (5, 9)):
        differences = (np.diff(logits[:, first:last]) for logits in (other, one))
        np.testing.assert_allclose(next(differences), 0.7 * next(differences), rtol=1e-4, atol=1e-5)
    shares = [[np.exp(logits[:, first:last]).sum(1) for first, last in ((3, 5), (5, 9))] for logits in (other, one)]
    odds = [np.log(share[0] / share[1]) for share in shares]
    np.testing.assert_allclose(odds[0], 0.7 * odds[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sure, end", [(0.001, 2), (1000, 0.5)])
def test_scales_end_at_a_half_and_at_two(checkpoint, ids, sure, end):
    assert calibrate(FloatEngine(scale_readout(checkpoint, sure)), ids, batch=3) == pytest.approx(end)


def test_a_text_without_predictions_is_refused(checkpoint):
    with pytest.raises(InputError, match="at least 2 are needed"):
        calibrate(FloatEngine(checkpoint), np.array([1]))


def test_what_is_too_large_is_refused(checkpoint, ids):
    """Without a warning of numpy's."""
    bias = checkpoint.tensors["readout.bias"].copy()
    bias[:2] = 3e38, -3e38
    huge = dataclasses.replace(checkpoint, tensors=checkpoint.tensors | {"readout.bias": bias})
    with pytest.raises(InputError, match="^the network's logits are too large to be calibrated"):
        calibrate(FloatEngine(huge), ids)
    with pytest.raises(InputError, match=r"^readout\.bias is too large to be scaled by 1\.5"):
        scale_readout(huge, 1.5)
