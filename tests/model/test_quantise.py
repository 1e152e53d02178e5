"""Quantiser."""

import dataclasses

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.errors import EgretWarning, InputError
from egret.model.integer import IntegerEngine
from egret.model.quantise import _to_codebook, dequantise, quantise


def configuration(**changes):
    return NetworkConfiguration(
        **{
            "cell": "egru",
            "tokens": "char",
            "vocab_size": 9,
            "embedding_size": 6,
            "hidden_sizes": (8, 6),
            "reset": "before",
            "tied": True,
        }
        | changes
    )


def changed(checkpoint, **tensors):
    return dataclasses.replace(
        checkpoint, tensors=checkpoint.tensors | {name.replace("__", "."): value for name, value in tensors.items()}
    )


def embedding_fractions(embedding, integers):
    """Numbers of fraction bits with which the embedding rounds to these integers."""
    return [
        fraction
        for fraction in range(-8, 24)
        if np.array_equal(np.clip(np.rint(embedding * 2.0**fraction), -127, 127), integers)
    ]


@pytest.mark.filterwarnings("ignore:.* saturate:egret.model.errors.EgretWarning")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("density, scale", [(1.0, 0.3), (0.2, 1.0), (0.1, 0.05), (0.5, 4.0)])
@pytest.mark.parametrize("tied", [True, False])
def test_numbers(random_checkpoint, tied, density, scale, seed):
    """Zeros stay, everything is the nearest multiple of a power of two, saturated."""
    bits = 8 + seed % 5
    checkpoint = random_checkpoint(configuration(tied=tied), seed, density, scale)
    tensors = checkpoint.tensors
    network = quantise(checkpoint, gate_index_bits=bits)
    fractions = embedding_fractions(tensors["embedding.weight"], network.embedding)
    assert fractions
    for number, layer in enumerate(network.layers):
        float_x, float_y, bias, threshold = (
            tensors[f"layers.{number}.{name}"].astype(np.float64)
            for name in ("weight_x", "weight_y", "bias", "threshold")
        )
        assert not layer.weight_x[float_x == 0].any() and not layer.weight_y[float_y == 0].any()
        assert np.array_equal(layer.threshold, np.minimum(np.rint(threshold * 2**14), 32767))
        size = len(threshold)
        for gate, index_fraction in enumerate((bits - 4, bits - 4, bits - 3)):
            rows = slice(gate * size, (gate + 1) * size)
            fraction = layer.shift[gate] + index_fraction - 8
            assert np.array_equal(layer.weight_y[rows], np.clip(np.rint(float_y[rows] * 2.0**fraction), -127, 127))
            assert np.array_equal(layer.bias[rows], np.rint(bias[rows] * 2.0 ** (fraction + 8)))
            scales = [2.0 ** (7 - f) for f in fractions] if number == 0 else [1]
            assert any(
                np.array_equal(layer.weight_x[rows], np.clip(np.rint(float_x[rows] * by * 2.0**fraction), -127, 127))
                for by in scales
            )
    readout = tensors["embedding.weight"] if tied else tensors["readout.weight"]
    integers = network.embedding if tied else network.readout_weight
    assert (network.readout_weight is None) == tied
    assert network.readout_fraction - 8 in embedding_fractions(readout, integers)
    assert np.array_equal(
        network.readout_bias, np.rint(tensors["readout.bias"].astype(np.float64) * 2.0**network.readout_fraction)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_four_bit_weights(random_checkpoint, density, seed):
    """Each matrix has at most 15 values, near its 8-bit ones, and no weight becomes zero; the rest is the same."""
    checkpoint = random_checkpoint(configuration(hidden_sizes=(40, 6)), seed, density, 0.3)
    four, eight = (quantise(checkpoint, weight_bits=bits) for bits in (4, 8))
    for number, (layer, fine) in enumerate(zip(four.layers, eight.layers, strict=True)):
        size = len(layer.threshold)
        for name in ("weight_x", "weight_y"):
            coarse, exact = getattr(layer, name), checkpoint.tensors[f"layers.{number}.{name}"]
            assert np.array_equal(coarse != 0, exact != 0)
        parts = [(layer.weight_x, fine.weight_x)]
        parts += zip(np.split(layer.weight_y, [2 * size]), np.split(fine.weight_y, [2 * size]), strict=True)
        for coarse, exact in parts:
            assert len(np.unique(coarse[coarse != 0])) <= 15
            used = exact[exact != 0].astype(int)
            if len(np.unique(used)) > 15:
                # Uniform steps over the same range, rounded to integers, would do worse.
                step = 2 * np.abs(used).max() / 14
                uniform = np.rint(used / step) * step
                assert np.square(coarse[exact != 0] - used).mean() < np.square(uniform - used).mean()
        assert np.array_equal(layer.bias, fine.bias) and layer.shift == fine.shift
    assert np.array_equal(four.embedding, eight.embedding)


@pytest.mark.parametrize("values", [[], [0.2], [-0.2, 3.4, -127.4, 500], np.arange(1, 16), -np.arange(1, 16) * 8])
def test_few_values_are_kept(values):
    exact = np.array(values, np.float64)
    expected = np.clip(np.where(np.abs(exact) < 0.5, np.sign(exact), np.rint(exact)), -127, 127)
    assert np.array_equal(_to_codebook(exact), expected)
    assert not _to_codebook(np.zeros((2, 3))).any()


def test_other_weight_bits_are_refused(random_checkpoint):
    with pytest.raises(InputError, match=r"^weight_bits must be 4 or 8, not 5$"):
        quantise(random_checkpoint(configuration()), weight_bits=5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_computes_what_the_float_network_does(random_checkpoint, scale, seed):
    """The first layer's gates, within the tables' resolution: all the scales fit together."""
    checkpoint = random_checkpoint(configuration(), seed, 0.7, scale)
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    network = IntegerEngine(quantise(checkpoint))
    network.reset_state(9)
    trace = network.step(np.arange(9))[0]
    sums = tensors["embedding.weight"] @ tensors["layers.0.weight_x"].T + tensors["layers.0.bias"]
    u, r, z = np.split(sums, 3, axis=1)
    assert np.abs(trace.u / 256 - 1 / (1 + np.exp(-u))).max() < 0.03
    assert np.abs(trace.r / 256 - 1 / (1 + np.exp(-r))).max() < 0.03
    assert np.abs(trace.z / 2**14 - np.tanh(z)).max() < 0.06
    logits = network.read_out(np.full((1, 6), 128))
    exact = tensors["embedding.weight"].sum(1) * 0.5 + tensors["readout.bias"]
    assert np.abs(logits - exact).max() < 0.05


def test_scale_is_the_best_power_of_two(random_checkpoint):
    """No other power of two has a smaller error over a gate's weights."""
    checkpoint = random_checkpoint(configuration(), 3, 0.5, 0.4)
    layer = quantise(checkpoint).layers[1]
    weights = np.concatenate([checkpoint.tensors["layers.1.weight_x"], checkpoint.tensors["layers.1.weight_y"]], 1)
    for gate, index_fraction in enumerate((6, 6, 7)):
        values = weights[gate * 6 : (gate + 1) * 6].astype(np.float64)

        def error(fraction, values=values):
            return np.square(np.clip(np.rint(values * 2.0**fraction), -127, 127) * 2.0**-fraction - values).sum()

        best = layer.shift[gate] + index_fraction - 8
        assert error(best) == min(map(error, range(0, 14)))


def test_fully_pruned_gates(random_checkpoint):
    checkpoint = random_checkpoint(configuration(), 1, 0.0)
    network = quantise(checkpoint)
    assert not any(layer.weight_x.any() or layer.weight_y.any() for layer in network.layers)
    assert all(layer.bias.any() for layer in network.layers)


def test_embedding_of_zeros(random_checkpoint):
    checkpoint = random_checkpoint(configuration(), 1)
    assert not quantise(changed(checkpoint, embedding__weight=np.zeros((9, 6), np.float32))).embedding.any()


def test_large_weights_lose_scale_before_they_overflow(random_checkpoint):
    """Many large weights in a row: the accumulator decides the scale."""
    checkpoint = random_checkpoint(configuration(hidden_sizes=(100,), embedding_size=100), 1, 1.0, 2.0)
    wide, narrow = (quantise(checkpoint, accumulator_bits=bits) for bits in (24, 20))
    assert np.abs(narrow.layers[0].weight_x.astype(int)).sum() < 0.6 * np.abs(wide.layers[0].weight_x.astype(int)).sum()
    for network, bits in ((wide, 24), (narrow, 20)):
        assert network.accumulator_bits == bits


@pytest.mark.parametrize("tied", [True, False])
def test_saturated_weights_are_counted(random_checkpoint, tied):
    """In one warning, which is the only one: no product overflows. Biases and thresholds have ends of their own."""
    checkpoint = random_checkpoint(configuration(tied=tied), 1)
    changes = {"layers__0__weight_x": 1, "layers__1__weight_y": 2, "embedding__weight": 3}
    changes |= {} if tied else {"readout__weight": 4}
    huge, weights = {"layers__1__threshold": np.full(6, 3e38, np.float32)}, 0
    for name, tensor in checkpoint.tensors.items():
        weights += tensor.size if ".weight" in name else 0
        if count := changes.get(name.replace(".", "__")):
            tensor = tensor.copy()
            tensor.flat[:count] = [1e38, -1e38, 3e38, -3e38][:count]
            huge[name.replace(".", "__")] = tensor
    with pytest.warns() as warned:
        network = quantise(changed(checkpoint, **huge))
    (warning,) = warned
    assert warning.category is EgretWarning and warning.filename == __file__
    order = ["embedding__weight", "layers__0__weight_x", "layers__1__weight_y", "readout__weight"]
    where = ", ".join(f"{changes[name]} in {name.replace('__', '.')}" for name in order if name in changes)
    assert str(warning.message) == (
        f"{sum(changes.values())} of {weights} weights are too large for the integer network and saturate at less than "
        f"half of their value ({where}): it may do other things than the float network"
    )
    assert network.layers[1].weight_y.flat[:2].tolist() == [127, -127]
    assert network.layers[1].threshold.tolist() == [32767] * 6


def test_a_weight_that_saturates_by_less_than_half_is_no_warning(random_checkpoint):
    """The scale of least error cuts the largest weights off a little."""
    checkpoint = random_checkpoint(configuration(), 1, 1.0, 0.3)
    weight = checkpoint.tensors["layers.1.weight_y"].copy()
    weight[0, 0] = 1.9 * 127
    assert quantise(changed(checkpoint, layers__1__weight_y=weight)).layers[1].weight_y[0, 0] == 127
    weight[0, 0] = 2.1 * 127
    with pytest.warns(EgretWarning, match="^1 of "):
        quantise(changed(checkpoint, layers__1__weight_y=weight))


def test_a_large_bias_of_a_row_without_weights_keeps_its_value(random_checkpoint):
    """Small weights in the gate's other rows would have a scale at which this bias overflows."""
    checkpoint = random_checkpoint(configuration(), 1, 1.0, 0.001)
    weight_x, weight_y, bias = (
        checkpoint.tensors[f"layers.1.{name}"].copy() for name in ("weight_x", "weight_y", "bias")
    )
    alone = quantise(checkpoint).layers[1].shift
    weight_x[2], weight_y[2], bias[2] = 0, 0, 5
    network = quantise(
        changed(checkpoint, layers__1__weight_x=weight_x, layers__1__weight_y=weight_y, layers__1__bias=bias)
    )
    assert network.layers[1].shift[0] < alone[0] and network.layers[1].shift[1:] == alone[1:]
    assert dequantise(network).tensors["layers.1.bias"][2] == 5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cell": "lstm"}, "only an EGRU with reset 'before' has an integer network, not 'lstm' with reset 'before'"),
        ({"reset": "after"}, "only an EGRU with reset 'before' has an integer network, not 'egru' with reset 'after'"),
    ],
)
def test_other_networks_are_refused(random_checkpoint, changes, message):
    with pytest.raises(InputError) as error:
        quantise(random_checkpoint(configuration(**changes)))
    assert str(error.value) == message


@pytest.mark.parametrize("gate, name", [(0, "u"), (1, "r"), (2, "z")])
def test_too_large_biases_are_refused(random_checkpoint, gate, name):
    checkpoint = random_checkpoint(configuration(), 1)
    bias = checkpoint.tensors["layers.1.bias"].copy()
    bias[6 * gate] = 1e6
    with pytest.raises(InputError) as error:
        quantise(changed(checkpoint, layers__1__bias=bias))
    assert str(error.value) == (
        f"layers.1: the weights and biases of gate {name} are too large for an accumulator of "
        "24 bits; at most 8388607 at 0 fraction bits"
    )


@pytest.mark.parametrize("value", [1e6, -1e6, 1e30])
def test_too_large_read_out_bias_is_refused(random_checkpoint, value):
    checkpoint = random_checkpoint(configuration(), 1)
    bias = checkpoint.tensors["readout.bias"].copy()
    bias[3] = value
    message = r"^readout\.bias: must lie within \+-\d+ beside such read-out weights, not reach 1e\+"
    with pytest.raises(InputError, match=message):
        quantise(changed(checkpoint, readout__bias=bias))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_dequantised_networks(random_checkpoint, tied, seed):
    """What it stands for has the same sums and logits, exactly, and rounds to the same network again."""
    network = quantise(random_checkpoint(configuration(tied=tied), seed, 0.5, 0.3), gate_index_bits=9)
    checkpoint = dequantise(network)
    checkpoint.check()
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    engine = IntegerEngine(network)
    engine.reset_state(9)
    traces = engine.step(np.arange(9))
    x = tensors["embedding.weight"]
    for number, (layer, trace) in enumerate(zip(network.layers, traces, strict=True)):
        sums = x @ tensors[f"layers.{number}.weight_x"].T + tensors[f"layers.{number}.bias"]
        fractions = np.repeat(np.array(layer.shift) + (9 - 4, 9 - 4, 9 - 3), len(layer.threshold))
        assert np.array_equal(sums * 2.0**fractions, trace.accumulators)
        assert np.array_equal(tensors[f"layers.{number}.threshold"] * 2.0**14, layer.threshold)
        x = trace.y / 256
    readout = tensors["embedding.weight"] if tied else tensors["readout.weight"]
    assert np.array_equal(x @ readout.T + tensors["readout.bias"], engine.read_out(traces[-1].y))
