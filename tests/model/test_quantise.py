"""Quantiser and the file of an integer network."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.checkpoint import NetworkConfiguration
from egret.model.errors import InputError
from egret.model.integer import IntegerNetwork
from egret.model.quantise import load_integer, quantise, save_integer
from tests.networks import random_network


def configuration(**changes):
    return NetworkConfiguration(**{"cell": "egru", "tokens": "char", "vocab_size": 9, "embedding_size": 6,
                                   "hidden_sizes": (8, 6), "reset": "before", "tied": True} | changes)


def changed(checkpoint, **tensors):
    return dataclasses.replace(checkpoint, tensors=checkpoint.tensors | {
        name.replace("__", "."): value for name, value in tensors.items()})


def embedding_fractions(embedding, integers):
    """Numbers of fraction bits with which the embedding rounds to these integers."""
    return [fraction for fraction in range(-8, 24)
            if np.array_equal(np.clip(np.rint(embedding * 2.0 ** fraction), -127, 127), integers)]


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
            for name in ("weight_x", "weight_y", "bias", "threshold"))
        assert not layer.weight_x[float_x == 0].any() and not layer.weight_y[float_y == 0].any()
        assert np.array_equal(layer.threshold, np.minimum(np.rint(threshold * 2 ** 14), 32767))
        size = len(threshold)
        for gate, index_fraction in enumerate((bits - 4, bits - 4, bits - 3)):
            rows = slice(gate * size, (gate + 1) * size)
            fraction = layer.shift[gate] + index_fraction - 8
            assert np.array_equal(layer.weight_y[rows], np.clip(np.rint(float_y[rows] * 2.0 ** fraction), -127, 127))
            assert np.array_equal(layer.bias[rows], np.rint(bias[rows] * 2.0 ** (fraction + 8)))
            scales = [2.0 ** (7 - f) for f in fractions] if number == 0 else [1]
            assert any(np.array_equal(layer.weight_x[rows], np.clip(
                np.rint(float_x[rows] * by * 2.0 ** fraction), -127, 127)) for by in scales)
    readout = tensors["embedding.weight"] if tied else tensors["readout.weight"]
    integers = network.embedding if tied else network.readout_weight
    assert (network.readout_weight is None) == tied
    assert network.readout_fraction - 8 in embedding_fractions(readout, integers)
    assert np.array_equal(network.readout_bias, np.rint(
        tensors["readout.bias"].astype(np.float64) * 2.0 ** network.readout_fraction))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_computes_what_the_float_network_does(random_checkpoint, scale, seed):
    """The first layer's gates, within the tables' resolution: all the scales fit together."""
    checkpoint = random_checkpoint(configuration(), seed, 0.7, scale)
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    network = IntegerNetwork(quantise(checkpoint))
    network.reset_state(9)
    trace = network.step(np.arange(9))[0]
    sums = tensors["embedding.weight"] @ tensors["layers.0.weight_x"].T + tensors["layers.0.bias"]
    u, r, z = np.split(sums, 3, axis=1)
    assert np.abs(trace.u / 256 - 1 / (1 + np.exp(-u))).max() < 0.03
    assert np.abs(trace.r / 256 - 1 / (1 + np.exp(-r))).max() < 0.03
    assert np.abs(trace.z / 2 ** 14 - np.tanh(z)).max() < 0.06
    logits = network.read_out(np.full((1, 6), 128))
    exact = tensors["embedding.weight"].sum(1) * 0.5 + tensors["readout.bias"]
    assert np.abs(logits - exact).max() < 0.05


def test_scale_is_the_best_power_of_two(random_checkpoint):
    """No other power of two has a smaller error over a gate's weights."""
    checkpoint = random_checkpoint(configuration(), 3, 0.5, 0.4)
    layer = quantise(checkpoint).layers[1]
    weights = np.concatenate([checkpoint.tensors["layers.1.weight_x"], checkpoint.tensors["layers.1.weight_y"]], 1)
    for gate, index_fraction in enumerate((6, 6, 7)):
        values = weights[gate * 6:(gate + 1) * 6].astype(np.float64)

        def error(fraction, values=values):
            return np.square(np.clip(np.rint(values * 2.0 ** fraction), -127, 127) * 2.0 ** -fraction - values).sum()
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


@pytest.mark.parametrize("changes, message", [
    ({"cell": "lstm"}, "only an EGRU with reset 'before' has an integer network, not 'lstm' with reset 'before'"),
    ({"reset": "after"}, "only an EGRU with reset 'before' has an integer network, not 'egru' with reset 'after'"),
])
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
    assert str(error.value) == (f"layers.1: the weights and biases of gate {name} are too large for an accumulator of "
                                "24 bits; at most 8388607 at 0 fraction bits")


@pytest.mark.parametrize("value", [1e6, -1e6, 1e30])
def test_too_large_read_out_bias_is_refused(random_checkpoint, value):
    checkpoint = random_checkpoint(configuration(), 1)
    bias = checkpoint.tensors["readout.bias"].copy()
    bias[3] = value
    message = r"^readout\.bias: must lie within \+-\d+ beside such read-out weights, not reach 1e\+"
    with pytest.raises(InputError, match=message):
        quantise(changed(checkpoint, readout__bias=bias))


# The file.

def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if field.name == "layers":
            for layers in zip(first, second, strict=True):
                for part in dataclasses.fields(layers[0]):
                    assert np.array_equal(*(getattr(layer, part.name) for layer in layers)), part.name
        elif isinstance(first, np.ndarray):
            assert first.dtype == second.dtype and np.array_equal(first, second), field.name
        else:
            assert first == second, field.name


NETWORK = random_network(1, vocabulary=2, embedding=1, hidden=(2, 1), tied=True)


def saved(tmp_path, network=NETWORK):
    save_integer(network, tmp_path / "a.integer")
    return (tmp_path / "a.integer").read_bytes()


@pytest.mark.parametrize("options", [{}, {"hidden": (5, 5)}, {"hidden": (3,), "tied": False},
                                     {"accumulator_bits": 22, "gate_index_bits": 12, "density": 0.1}])
def test_file_round_trip(options, tmp_path):
    network = random_network(2, **options)
    saved(tmp_path, network)
    loaded = load_integer(tmp_path / "a.integer")
    assert_same(loaded, network)
    assert [path.name for path in tmp_path.iterdir()] == ["a.integer"]


def test_every_truncation_is_refused(tmp_path):
    data = saved(tmp_path)
    path = tmp_path / "b.integer"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as error:
            load_integer(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0x01, 0x80])
def test_no_corrupted_byte_crashes(value, tmp_path):
    """The format has no checksum: another network in range may come out, but never another error."""
    data = saved(tmp_path)
    path = tmp_path / "b.integer"
    refused = 0
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= value
        path.write_bytes(broken)
        try:
            IntegerNetwork(load_integer(path))
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > len(data) // 3


@settings(deadline=None, derandomize=True, max_examples=100, print_blob=True)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.integer"
    path.write_bytes(data)
    with pytest.raises(InputError):
        load_integer(path)


def rewritten(tmp_path, tensors=None, metadata=None):
    """The file with tensors and metadata replaced; None removes one."""
    data = saved(tmp_path)
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    old_tensors = safetensors.numpy.load(data) | (tensors or {})
    old_metadata = header["__metadata__"] | (metadata or {})
    path = tmp_path / "b.integer"
    path.write_bytes(safetensors.numpy.save(
        {name: value for name, value in old_tensors.items() if value is not None},
        {name: value for name, value in old_metadata.items() if value is not None}))
    return path


@pytest.mark.parametrize("tensors, message", [
    ({"embedding": None}, "lacks 'embedding'"),
    ({"layers.1.bias": None}, "lacks 'layers.1.bias'"),
    ({"layers.0.threshold": None}, "unexpected tensor 'layers.0.bias'"),
    ({"other": np.zeros(1)}, "unexpected tensor 'other'"),
    ({"layers.0.threshold": np.array(3, np.int32)},
     "integer network: layers.0.weight_x must have the shape [3, 1], not [6, 1]"),
    ({"layers.0.shift": np.array(3, np.int32)}, "integer network: layers.0.shift must be three numbers from 1 to 15"),
    ({"layers.0.shift": np.full((3, 1), 3, np.int32)},
     "integer network: layers.0.shift must be three numbers from 1 to 15"),
    ({"layers.0.shift": np.full(3, 3, np.float32)},
     "integer network: layers.0.shift must be three numbers from 1 to 15"),
    ({"layers.0.bias": np.zeros(6, np.float32)}, "integer network: layers.0.bias must hold integers, not float32"),
    ({"embedding": np.zeros((2, 1, 1), np.int8)},
     "integer network: needs an embedding of two dimensions and at least one layer"),
    ({"embedding": np.zeros((3, 1), np.int8)}, "integer network: embedding has 3 rows for 2 tokens"),
])
def test_wrong_tensors(tensors, message, tmp_path):
    path = rewritten(tmp_path, tensors)
    with pytest.raises(InputError) as error:
        load_integer(path)
    assert str(error.value) == f"{path}: {message}"


NOT_ONE = "not an integer network: its format must be 'egret-integer-1', not {}; `egret quantise` writes one"


@pytest.mark.parametrize("metadata, message", [
    ({"format": "egret-integer-2"}, NOT_ONE.format("'egret-integer-2'")),
    ({"format": None}, NOT_ONE.format(None)),
    ({"vocabulary": None}, "lacks 'vocabulary'"),
    ({"accumulator_bits": None}, "lacks 'accumulator_bits'"),
    ({"accumulator_bits": "-1"}, "integer network: accumulator_bits must be 16 to 24, not -1"),
    ({"accumulator_bits": "25"}, "integer network: accumulator_bits must be 16 to 24, not 25"),
    ({"gate_index_bits": "40"}, "integer network: gate_index_bits must be 8 to 12, not 40"),
    ({"readout_fraction": "-1"}, "integer network: readout_fraction must be 0 to 30, not -1"),
    ({"readout_fraction": "x"}, "invalid literal for int() with base 10: 'x'"),
    ({"tokens": "byte"}, "tokens must be 'word' or 'char', not 'byte'"),
])
def test_wrong_metadata(metadata, message, tmp_path):
    path = rewritten(tmp_path, metadata=metadata)
    with pytest.raises(InputError) as error:
        load_integer(path)
    assert str(error.value) == f"{path}: {message}"


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=": cannot read it: No such file or directory$"):
        load_integer(tmp_path / "none")
