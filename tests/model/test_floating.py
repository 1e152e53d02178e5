"""The float network against the equations written out neuron by neuron, and against torch's LSTM."""

import math

import numpy as np
import pytest
import torch

from egret.model.checkpoint import NetworkConfiguration
from egret.model.floating import FloatEngine

TOKENS = np.array([[0, 1], [3, 2], [2, 2], [4, 0], [1, 3], [0, 0], [2, 4]])  # [step, stream]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(weights, values):
    return sum(float(weight) * value for weight, value in zip(weights, values, strict=True))


def egru_step(layer, reset, x, y_before, c_before):
    """One stream, one layer, float64, term by term."""
    weight_x, weight_y, bias, threshold, bias_y = layer
    size = len(threshold)
    u, r = (
        [
            sigmoid(dot(weight_x[k], x) + dot(weight_y[k], y_before) + float(bias[k]))
            for k in range(gate * size, (gate + 1) * size)
        ]
        for gate in range(2)
    )
    p, y, c = [], [], []
    for j in range(size):
        k = 2 * size + j
        if reset == "before":
            recurrent = dot(weight_y[k], [a * b for a, b in zip(r, y_before, strict=True)])
        else:
            recurrent = r[j] * (dot(weight_y[k], y_before) + float(bias_y[j]))
        z = math.tanh(dot(weight_x[k], x) + recurrent + float(bias[k]))
        p.append(u[j] * z + (1 - u[j]) * c_before[j])
        event = 1 if p[j] >= float(threshold[j]) else 0
        y.append(event * p[j])
        c.append(p[j] - event * float(threshold[j]))
    return p, y, c


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_egru_follows_the_equations(reset, tied, batch, random_checkpoint):
    configuration = NetworkConfiguration("egru", "char", 5, 3 if tied else 4, (5, 1, 3), reset, tied)
    checkpoint = random_checkpoint(configuration, seed=297)
    network = FloatEngine(checkpoint)
    network.reset_state(batch)
    tensors = checkpoint.tensors
    layers = [
        [tensors.get(f"layers.{n}.{part}") for part in ("weight_x", "weight_y", "bias", "threshold", "bias_y")]
        for n in range(len(configuration.hidden_sizes))
    ]
    events = [[[0.0] * size for size in configuration.hidden_sizes] for _ in range(batch)]
    states = [[[0.0] * size for size in configuration.hidden_sizes] for _ in range(batch)]
    fired = [0] * len(layers)
    for tokens in TOKENS[:, :batch]:
        steps = network.step(tokens)
        logits = network.read_out(steps[-1].y)
        for stream in range(batch):
            x = [float(value) for value in tensors["embedding.weight"][tokens[stream]]]
            for number, layer in enumerate(layers):
                p, y, c = egru_step(layer, reset, x, events[stream][number], states[stream][number])
                np.testing.assert_allclose(steps[number].x[stream], x, atol=2e-6)
                np.testing.assert_allclose(steps[number].y_before[stream], events[stream][number], atol=2e-6)
                np.testing.assert_allclose(steps[number].p[stream], p, atol=2e-6)
                np.testing.assert_allclose(steps[number].y[stream], y, atol=2e-6)
                np.testing.assert_allclose(steps[number].c[stream], c, atol=2e-6)
                fired[number] += np.count_nonzero(y)
                events[stream][number], states[stream][number] = y, c
                x = y
            weights = tensors["embedding.weight" if tied else "readout.weight"]
            expected = [dot(row, x) + float(bias) for row, bias in zip(weights, tensors["readout.bias"], strict=True)]
            np.testing.assert_allclose(logits[stream], expected, atol=1e-5)
    for count, size in zip(fired, configuration.hidden_sizes, strict=True):
        assert 0 < count < len(TOKENS) * batch * size


def test_lstm_equals_torch(random_checkpoint):
    configuration = NetworkConfiguration("lstm", "char", 5, 4, (7, 4))
    checkpoint = random_checkpoint(configuration, seed=4)
    network = FloatEngine(checkpoint)
    network.reset_state(2)
    outputs = [network.step(tokens)[-1].y for tokens in TOKENS]
    x = torch.from_numpy(checkpoint.tensors["embedding.weight"][TOKENS])
    for number, (inputs, hidden) in enumerate([(4, 7), (7, 4)]):
        lstm = torch.nn.LSTM(inputs, hidden)
        with torch.no_grad():
            lstm.weight_ih_l0.copy_(torch.from_numpy(checkpoint.tensors[f"layers.{number}.weight_x"]))
            lstm.weight_hh_l0.copy_(torch.from_numpy(checkpoint.tensors[f"layers.{number}.weight_y"]))
            lstm.bias_ih_l0.copy_(torch.from_numpy(checkpoint.tensors[f"layers.{number}.bias"]))
            lstm.bias_hh_l0.zero_()
            x, _ = lstm(x)
    np.testing.assert_allclose(outputs, x.numpy(), atol=1e-6)


def test_an_event_fires_at_the_threshold_itself(random_checkpoint):
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 1, 1, (1,)))
    for name, tensor in checkpoint.tensors.items():
        tensor[...] = 0
        if name == "layers.0.bias":
            tensor[...] = [100, 0, np.arctanh(0.5)]  # u = 1, z = 0.5
    p = FloatEngine(checkpoint).step(np.array([0]))[0].p[0, 0]
    checkpoint.tensors["layers.0.threshold"][0] = p
    step = FloatEngine(checkpoint).step(np.array([0]))[0]
    assert (step.y[0, 0], step.c[0, 0]) == (p, 0)
    checkpoint.tensors["layers.0.threshold"][0] = np.nextafter(p, np.float32(1))
    step = FloatEngine(checkpoint).step(np.array([0]))[0]
    assert (step.y[0, 0], step.c[0, 0]) == (0, p)


def test_few_active_inputs_take_the_sparse_product(random_checkpoint):
    """One stream with few events gives what the same stream gives beside another."""
    configuration = NetworkConfiguration("egru", "char", 5, 64, (64, 64))
    checkpoint = random_checkpoint(configuration, seed=5, density=0.3, scale=0.2)
    for layer in range(2):
        checkpoint.tensors[f"layers.{layer}.threshold"] += 0.25
    alone, together = FloatEngine(checkpoint), FloatEngine(checkpoint)
    together.reset_state(2)
    active = 0
    for tokens in np.tile(TOKENS, (5, 1)):
        one, two = alone.step(tokens[:1]), together.step(tokens)
        for layer in range(2):
            np.testing.assert_allclose(one[layer].y[0], two[layer].y[0], atol=1e-6)
            active += np.count_nonzero(one[layer].y)
    assert 0 < active / (35 * 128) < 0.25


def test_extreme_weights_do_not_overflow(random_checkpoint):
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 5, 4, (4,)), scale=1e6)
    network = FloatEngine(checkpoint)
    for tokens in TOKENS[:, :1]:
        assert np.isfinite(network.read_out(network.step(tokens)[-1].y)).all()


def test_log_probabilities(random_checkpoint, monkeypatch):
    network = FloatEngine(random_checkpoint(NetworkConfiguration("egru", "char", 3, 3, (3,))))
    logits = np.array([[0.0, 1.0, 2.0], [1000.0, -1000.0, 999.0]], np.float32)
    monkeypatch.setattr(network, "read_out", lambda y: logits)
    expected = [1 - math.log(1 + math.e + math.e**2), -1 - math.log1p(math.exp(-1))]
    assert network.log_probabilities(logits, np.array([1, 2])) == pytest.approx(expected, rel=1e-12)
