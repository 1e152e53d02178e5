"""Perplexity over streams, and the agreement of events."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egret.model.checkpoint import NetworkConfiguration
from egret.model.counts import checkpoint_columns
from egret.model.errors import InputError
from egret.model.evaluate import evaluate, event_agreement, stream_steps
from egret.model.floating import FloatEngine

CONFIGURATION = NetworkConfiguration("egru", "char", 6, 5, (7, 5))
IDS = np.random.default_rng(7).integers(0, 6, 101).astype(np.int32)


@given(st.integers(2, 50), st.data())
def test_streams_predict_every_token_once(length, data):
    batch = data.draw(st.integers(1, length - 1))
    ids = np.arange(length)
    predicted, previous = [], None
    steps = list(stream_steps(ids, batch))
    for number, (inputs, targets) in enumerate(steps):
        assert len(inputs) == batch
        assert len(targets) == batch or number == len(steps) - 1
        assert (targets == inputs[: len(targets)] + 1).all()
        if previous is not None:
            assert (inputs == previous).all()
        previous = targets
        predicted.extend(targets.tolist())
    assert sorted(predicted) == list(range(1, length))


@pytest.mark.parametrize(
    ("length", "batch", "message"),
    [
        (0, 1, "the text has 0 tokens; at least 2 are needed, the first predicts the second"),
        (1, 1, "the text has 1 tokens; at least 2 are needed, the first predicts the second"),
        (5, 0, "batch must be from 1 to 4, the number of predictions, not 0"),
        (5, 5, "batch must be from 1 to 4, the number of predictions, not 5"),
    ],
)
def test_nothing_to_predict(length, batch, message):
    with pytest.raises(InputError) as error:
        stream_steps(np.zeros(length, np.int32), batch)
    assert str(error.value) == message


def test_evaluation_of_one_stream(random_checkpoint, monkeypatch):
    checkpoint = random_checkpoint(CONFIGURATION)
    columns = checkpoint_columns(checkpoint)
    network, likelihood = FloatEngine(checkpoint), 0.0
    for token, target in zip(IDS[:-1], IDS[1:], strict=True):
        likelihood += network.log_probabilities(network.step(np.array([token]))[-1].y, np.array([target]))[0]
    # The network has run before: the evaluation starts again from zero.
    evaluation = evaluate(network, columns, IDS)
    assert evaluation.tokens == 100
    assert evaluation.loss == pytest.approx(-likelihood / 100, rel=1e-6)
    assert evaluation.perplexity == math.exp(evaluation.loss)
    assert all(0 < share < 1 for share in evaluation.activity)
    # The size of the blocks in which logits are taken changes nothing; progress counts predictions.
    monkeypatch.setattr("egret.model.evaluate._READOUT_ELEMENTS", 7 * 6)
    progress = []
    again = evaluate(network, columns, IDS, progress=lambda *done: progress.append(done))
    assert again.loss == pytest.approx(evaluation.loss, rel=1e-6)
    assert (again.activity, again.macs) == (evaluation.activity, evaluation.macs)
    assert progress == [(min(done, 100), 100) for done in range(7, 106, 7)]


def test_streams_are_independent(random_checkpoint):
    checkpoint = random_checkpoint(CONFIGURATION)
    columns, network = checkpoint_columns(checkpoint), FloatEngine(checkpoint)
    evaluation = evaluate(network, columns, IDS, batch=3)
    parts = [evaluate(network, columns, part) for part in (IDS[:35], IDS[34:68], IDS[67:])]
    tokens = [part.tokens for part in parts]
    assert tokens == [34, 33, 33]
    assert evaluation.tokens == 100
    assert evaluation.loss == pytest.approx(np.average([part.loss for part in parts], weights=tokens), rel=1e-6)
    assert evaluation.activity == pytest.approx(
        np.average([part.activity for part in parts], axis=0, weights=tokens), rel=1e-12
    )
    assert evaluation.macs.event_driven_pruned == pytest.approx(
        np.average([part.macs.event_driven_pruned for part in parts], weights=tokens), rel=1e-12
    )


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_states_become_zero_again_and_events_stay(cell, random_checkpoint):
    """As EvNN evaluates: in each stream, behind so many of its own steps."""
    checkpoint = random_checkpoint(NetworkConfiguration(cell, "char", 6, 5, (7, 5)))
    columns, network, likelihood = checkpoint_columns(checkpoint), FloatEngine(checkpoint), 0.0
    network.reset_state(3)
    for number, (inputs, targets) in enumerate(stream_steps(IDS, 3)):
        if number in (8, 16, 24, 32):
            for state in network.states:
                state[:] = 0
        y = network.step(inputs)[-1].y[: len(targets)]
        likelihood += network.log_probabilities(y, targets).sum()
    evaluation = evaluate(network, columns, IDS, batch=3, reset_every=8)
    assert evaluation.loss == pytest.approx(-likelihood / 100) != evaluate(network, columns, IDS, batch=3).loss
    assert evaluate(network, columns, IDS, reset_every=100) == evaluate(network, columns, IDS)
    with pytest.raises(InputError, match="reset_every must be at least 1, not 0"):
        evaluate(network, columns, IDS, reset_every=0)


def test_event_agreement(random_checkpoint):
    checkpoint = random_checkpoint(CONFIGURATION)
    network = FloatEngine(checkpoint)
    for layer in event_agreement(network, FloatEngine(checkpoint), IDS, batch=4):
        assert (layer.agreement, layer.overlap) == (1, 1)
    other = FloatEngine(random_checkpoint(CONFIGURATION, seed=2))
    progress = []
    layers = event_agreement(network, other, IDS, progress=lambda *done: progress.append(done))
    assert progress[-1] == (100, 100)
    network.reset_state()
    other.reset_state()
    same, both, either = np.zeros(2), np.zeros(2), np.zeros(2)
    for token in IDS[:-1]:
        for layer, (one, two) in enumerate(zip(network.step([token]), other.step([token]), strict=True)):
            for a, b in zip(one.y[0] != 0, two.y[0] != 0, strict=True):
                same[layer] += a == b
                both[layer] += a and b
                either[layer] += a or b
    assert [layer.agreement for layer in layers] == [same[0] / 700, same[1] / 500]
    assert [layer.overlap for layer in layers] == (both / either).tolist()


def test_agreement_of_silence(random_checkpoint):
    checkpoint = random_checkpoint(CONFIGURATION)
    for layer in range(2):
        checkpoint.tensors[f"layers.{layer}.threshold"][:] = 2
    for layer in event_agreement(FloatEngine(checkpoint), FloatEngine(checkpoint), IDS):
        assert (layer.agreement, layer.overlap) == (1, 1)


def test_what_overflows(random_checkpoint):
    """Sums within the network that do are infinite, and saturate a gate; logits that do are refused."""
    checkpoint = random_checkpoint(CONFIGURATION)
    for name in ("layers.0.weight_x", "embedding.weight"):
        checkpoint.tensors[name][:, 0] = 1e30
    network, columns = FloatEngine(checkpoint), checkpoint_columns(checkpoint)
    assert math.isfinite(evaluate(network, columns, IDS).loss)
    checkpoint.tensors["readout.bias"][:2] = np.inf, 1
    with pytest.raises(InputError, match="^the network's logits are too large for float32"):
        evaluate(network, columns, IDS)
