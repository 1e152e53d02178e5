"""What a study measures: the same as the numpy evaluation, and distributions that add up."""

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.counts import checkpoint_columns
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine
from egret.model.training.observe import histogram, observe, parameter_histograms


@pytest.mark.parametrize("streams", [1, 7])
@pytest.mark.parametrize(("cell", "reset"), [("egru", "before"), ("egru", "after"), ("lstm", "before")])
def test_it_counts_what_the_evaluation_counts(random_checkpoint, cell, reset, streams):
    configuration = NetworkConfiguration(cell, "char", 5, 4, (9, 6), reset=reset, tied=False)
    checkpoint = random_checkpoint(configuration, seed=3, density=0.6, scale=0.7)
    ids = np.random.default_rng(2).integers(0, 5, 95)
    expected = evaluate(FloatEngine(checkpoint), checkpoint_columns(checkpoint), ids, batch=streams)
    calls = []
    observation = observe(checkpoint, ids, streams=streams, progress=lambda *call: calls.append(call))
    result = observation.evaluation
    assert (result.tokens, result.activity, result.macs) == (94, expected.activity, expected.macs)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)
    assert calls == [(94, 94)]
    assert [len(shares) for shares in observation.neurons] == [9, 6]
    assert [shares.mean() for shares in observation.neurons] == pytest.approx(result.activity)
    if cell == "lstm":
        assert observation.distances is None
    else:
        assert [sum(layer["counts"]) for layer in observation.distances] == [94 * 9, 94 * 6]


def test_distances_are_those_of_the_states(random_checkpoint):
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 3, 4, (5, 4)), seed=5, scale=0.5)
    ids = np.random.default_rng(1).integers(0, 3, 40)
    network = FloatEngine(checkpoint)
    states = [network.step(ids[step : step + 1]) for step in range(39)]
    distances = observe(checkpoint, ids).distances
    for layer in range(2):
        threshold = checkpoint.tensors[f"layers.{layer}.threshold"]
        expected = np.concatenate([step[layer].p[0] - threshold for step in states])
        counts, edges = np.array(distances[layer]["counts"]), np.linspace(-2, 1, 151)
        # A value near an edge may fall on either side of it.
        assert np.abs(np.cumsum(counts) - np.cumsum(np.histogram(expected, edges)[0])).max() <= 1
        assert counts[edges[:-1] >= -1e-9].sum() == (expected >= 0).sum()


def test_too_many_streams_are_refused(random_checkpoint):
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 3, 4, (4,)))
    with pytest.raises(InputError, match="batch must be from 1 to 4, the number of predictions, not 5"):
        observe(checkpoint, np.zeros(5, int), streams=5)


def test_histograms_add_up():
    result = histogram(np.array([[-9.0, 0.0], [0.5, 9.0]]), 0, 1, 4)
    assert result == {"low": 0.0, "high": 1.0, "counts": [2, 0, 1, 1]}


def test_parameters(random_checkpoint):
    checkpoint = random_checkpoint(NetworkConfiguration("lstm", "char", 3, 4, (5, 4)), density=0.3)
    weights, biases = parameter_histograms(checkpoint)
    for layer in range(2):
        tensors = [checkpoint.tensors[f"layers.{layer}.{name}"] for name in ("weight_x", "weight_y", "bias")]
        values = np.concatenate([tensor.ravel() for tensor in tensors[:2]])
        assert weights[layer]["zeros"] == (values == 0).sum()
        assert sum(weights[layer]["counts"]) + weights[layer]["zeros"] == values.size
        assert weights[layer]["mean"] == pytest.approx(values[values != 0].mean(), rel=1e-4)
        assert weights[layer]["high"] == -weights[layer]["low"] == np.abs(values).max()
        assert sum(biases[layer]["counts"]) == tensors[2].size
    checkpoint.tensors["layers.0.weight_x"][:] = checkpoint.tensors["layers.0.weight_y"][:] = 0
    empty = parameter_histograms(checkpoint)[0][0]
    assert (sum(empty["counts"]), empty["mean"], empty["high"]) == (0, 0, 1)
