"""The integer network against a scalar one, written here from its specification."""

import dataclasses
import math

import numpy as np
import pytest

from egret.model.arithmetic import half_up
from egret.model.errors import InputError
from egret.model.integer import (
    IntegerEngine,
    IntegerNetwork,
    fire,
    gate_index,
    reset_value,
    sigmoid_table,
    split,
    tanh_table,
    update_state,
)
from tests.support.networks import random_network, random_shape


def rounded(numerator, bits):
    """Nearest integer to numerator / 2^bits, halves upwards, by exact division."""
    return (2 * numerator + 2**bits) // 2 ** (bits + 1)


class Scalar:
    """One stream, plain integers, one neuron after another."""

    def __init__(self, network):
        self.p = network
        self.states = [[0] * size for size in network.hidden]
        self.events = [[0] * size for size in network.hidden]

    def sigmoid(self, accumulator, shift):
        steps = 2 ** (self.p.gate_index_bits - 1)
        index = max(-steps, min(steps - 1, rounded(accumulator, shift)))
        return min(255, math.floor(256 / (1 + math.exp(-8 * index / steps)) + 0.5))

    def tanh(self, accumulator, shift):
        steps = 2 ** (self.p.gate_index_bits - 1)
        index = max(-steps, min(steps - 1, rounded(accumulator, shift)))
        return math.floor(2**14 * math.tanh(4 * index / steps) + 0.5)

    def step(self, token):
        """Dictionary of lists for each layer."""
        x = [2 * int(value) for value in self.p.embedding[token]]
        traces = []
        for number, layer in enumerate(self.p.layers):
            size, state, before = len(layer.threshold), self.states[number], self.events[number]
            weight_x, weight_y = layer.weight_x.tolist(), layer.weight_y.tolist()
            accumulators = [
                int(bias) + sum(w * v for w, v in zip(row, x, strict=True))
                for bias, row in zip(layer.bias, weight_x, strict=True)
            ]
            for row in range(2 * size):
                accumulators[row] += sum(w * v for w, v in zip(weight_y[row], before, strict=True))
            u = [self.sigmoid(accumulators[i], layer.shift[0]) for i in range(size)]
            r = [self.sigmoid(accumulators[size + i], layer.shift[1]) for i in range(size)]
            s = before if self.p.reset == "after" else [rounded(r[i] * before[i], 8) for i in range(size)]
            for i in range(size):
                inner = sum(w * v for w, v in zip(weight_y[2 * size + i], s, strict=True))
                if self.p.reset == "after":
                    inner = rounded(r[i] * (inner + int(layer.bias_y[i])), 8)
                accumulators[2 * size + i] += inner
            z = [self.tanh(accumulators[2 * size + i], layer.shift[2]) for i in range(size)]
            p = [state[i] + rounded(u[i] * (z[i] - state[i]), 8) for i in range(size)]
            y, c = [0] * size, list(p)
            for i in range(size):
                if p[i] >= layer.threshold[i]:
                    y[i], c[i] = min(255, rounded(p[i], 6)), p[i] - int(layer.threshold[i])
            self.states[number], self.events[number] = c, y
            traces.append(
                {
                    "x": x,
                    "y_before": before,
                    "s": s,
                    "accumulators": accumulators,
                    "u": u,
                    "r": r,
                    "z": z,
                    "p": p,
                    "c": c,
                    "y": y,
                }
            )
            x = y
        return traces


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_scalar_network(seed):
    """Every intermediate value of every layer and step, with random weights, biases, thresholds and shifts."""
    rng = np.random.default_rng(seed)
    bits = {"accumulator_bits": 24, "gate_index_bits": int(rng.integers(8, 13))}
    network = random_network(
        seed,
        **random_shape(seed),
        density=float(rng.choice([0.2, 1])),
        shift=(1, 15),
        bias=int(rng.choice([100, 100_000])),
        z_bias=int(rng.choice([0, 3000])),
        reset="after" if seed % 2 else "before",
        **bits,
    )
    scalar, engine = Scalar(network), IntegerEngine(network)
    for token in rng.integers(0, 7, 10):
        expected, actual = scalar.step(token), engine.step(np.array([token]))
        assert len(expected) == len(actual)
        for wanted, trace in zip(expected, actual, strict=True):
            for name, values in wanted.items():
                assert getattr(trace, name).tolist() == [values], name


def test_streams_are_independent():
    """A batch equals its streams one by one, in any order."""
    network = random_network(1, hidden=(9, 6), z_bias=3000)
    tokens = np.random.default_rng(1).integers(0, 7, (12, 5))
    together = IntegerEngine(network)
    together.reset_state(5)
    batch = [together.step(row)[-1].y for row in tokens]
    order = [3, 0, 4, 2, 1]
    together.reset_state(5)
    shuffled = [together.step(row[order])[-1].y for row in tokens]
    assert np.count_nonzero(batch) > 0
    for stream in range(5):
        alone = IntegerEngine(network)
        for step, token in enumerate(tokens[:, stream]):
            y = alone.step(np.array([token]))[-1].y[0]
            assert y.tolist() == batch[step][stream].tolist() == shuffled[step][order.index(stream)].tolist()


@pytest.mark.parametrize("behind", [[], [1], [2], [1, 2], [1, 2, 3]])
def test_parts_compute_what_the_whole_computes(behind):
    whole = random_network(5, embedding=6, hidden=(9, 4, 8, 5))
    parts = split(whole, behind)
    assert [len(part.layers) for part in parts] == np.diff([0, *behind, 4]).tolist()
    engine, engines = IntegerEngine(whole), [IntegerEngine(part) for part in parts]
    for runner in (engine, *engines):
        runner.reset_state(3)
    rng = np.random.default_rng(5)
    for _ in range(20):
        events = tokens = rng.integers(0, 7, 3)
        traces = engine.step(tokens)
        for part, end in zip(engines, [*behind, 4], strict=True):
            events = part.step(events)[-1].y
            np.testing.assert_array_equal(events, traces[end - 1].y)
        assert np.count_nonzero(events)


@pytest.mark.parametrize("behind", [[0], [4], [2, 2], [3, 1], [-1]])
def test_where_a_network_cannot_be_cut(behind):
    with pytest.raises(InputError, match="a network of 4 layers can be cut behind layers 1 to 3, in rising order, "):
        split(random_network(5, hidden=(9, 4, 8, 5)), behind)


def test_a_network_of_one_layer_cannot_be_cut():
    with pytest.raises(InputError, match="a network of one layer cannot be cut"):
        split(random_network(5), [1])


def test_neurons_may_be_renumbered():
    """A permutation of inputs and neurons permutes the result: additions commute."""
    network = random_network(2, hidden=(8,), embedding=6, z_bias=3000, tied=False)
    rng = np.random.default_rng(2)
    neurons, inputs = rng.permutation(8), rng.permutation(6)
    rows = np.concatenate([neurons + gate * 8 for gate in range(3)])
    layer = network.layers[0]
    renumbered = dataclasses.replace(
        network,
        embedding=network.embedding[:, inputs],
        readout_weight=network.readout_weight[:, neurons],
        layers=(
            dataclasses.replace(
                layer,
                weight_x=layer.weight_x[np.ix_(rows, inputs)],
                weight_y=layer.weight_y[np.ix_(rows, neurons)],
                bias=layer.bias[rows],
                threshold=layer.threshold[neurons],
            ),
        ),
    )
    one, other = IntegerEngine(network), IntegerEngine(renumbered)
    for token in rng.integers(0, 7, 20):
        y, renamed = one.step(np.array([token]))[-1].y, other.step(np.array([token]))[-1].y
        assert y[0, neurons].tolist() == renamed[0].tolist()
        assert one.read_out(y).tolist() == other.read_out(renamed).tolist()


def test_reset_state():
    engine = IntegerEngine(random_network(3, z_bias=3000))
    first = [engine.step(np.array([token]))[-1].p.tolist() for token in (1, 2, 3)]
    engine.reset_state()
    assert [engine.step(np.array([token]))[-1].p.tolist() for token in (1, 2, 3)] == first
    engine.reset_state(4)
    assert engine.step(np.array([1, 1, 1, 1]))[-1].p.tolist() == first[0] * 4


@pytest.mark.parametrize("tied", [True, False])
def test_read_out(tied):
    network = random_network(4, hidden=(5,), embedding=5, tied=tied)
    weight = network.embedding if tied else network.readout_weight
    y = np.array([[0, 255, 1, 7, 100], [0, 0, 0, 0, 0]])
    logits = IntegerEngine(network).read_out(y)
    assert logits.dtype == np.float64
    for stream in range(2):
        for token in range(7):
            exact = sum(int(w) * int(v) for w, v in zip(weight[token], y[stream], strict=True))
            assert logits[stream, token] == (exact + int(network.readout_bias[token])) / (1 << network.readout_fraction)


def test_half_up():
    assert [half_up(value, 1) for value in range(-5, 6)] == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]
    assert [half_up(value, 2) for value in (-7, -6, -5, -3, -2, -1, 1, 2, 3)] == [-2, -1, -1, -1, 0, 0, 0, 1, 1]
    for bits in range(1, 16):
        for value in [*range(-200, 200), 1 << 23, -(1 << 23)]:
            assert half_up(value, bits) == rounded(value, bits) == half_up(np.int32(value), bits)


def test_tables():
    for bits in (8, 10, 12):
        half = 1 << (bits - 1)
        sigmoid, tanh = sigmoid_table(bits), tanh_table(bits)
        assert len(sigmoid) == len(tanh) == 2 * half
        assert sigmoid[0] == 128 and tanh[0] == 0
        assert min(sigmoid) == 0 and max(sigmoid) == 255
        assert all(abs(tanh[index] + tanh[-index]) <= 1 for index in range(1, half))
        assert max(map(abs, tanh)) < 1 << 14


def test_gate_index_saturates():
    assert [int(gate_index(value, 4, 8)) for value in (-1 << 23, -2057, -2056, 2039, 2040, (1 << 23) - 1)] == [
        -128,
        -128,
        -128,
        127,
        127,
        127,
    ]
    assert [int(gate_index(value, 4, 8)) for value in (-2041, -2040, 2023, 2024)] == [-128, -127, 126, 127]


def test_fire_at_its_edges():
    before = np.array([-1, 0, 31, 32, 96, 16_351, 16_352, 16_383, 100, 99])
    threshold = np.array([0, 0, 0, 0, 0, 0, 0, 0, 100, 100])
    y, c = fire(before, threshold)
    assert y.tolist() == [0, 0, 0, 1, 2, 255, 255, 255, 2, 0]
    assert c.tolist() == [-1, 0, 31, 32, 96, 16_351, 16_352, 16_383, 0, 99]


def test_reset_and_update_at_their_edges():
    assert [reset_value(*pair) for pair in ((0, 255), (255, 255), (1, 127), (1, 128), (128, 1))] == [0, 254, 0, 1, 1]
    assert update_state(-16_384, 255, 16_384) == 16_256
    assert update_state(16_384, 255, -16_384) == -16_256
    assert update_state(5, 0, -16_384) == 5


def heavy(bias, accumulator_bits=20):
    """One neuron, whose gate u has reach 127 * 254 + 127 * 255 + |bias|."""
    network = random_network(5, hidden=(1,), embedding=1, density=0, bias=0, accumulator_bits=accumulator_bits)
    layer = network.layers[0]
    weight_x, weight_y, biases = layer.weight_x.copy(), layer.weight_y.copy(), layer.bias.copy()
    weight_x[0], weight_y[0], biases[0] = -127, 127, bias
    return dataclasses.replace(
        network, layers=(dataclasses.replace(layer, weight_x=weight_x, weight_y=weight_y, bias=biases),)
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_overflow_is_refused_exactly_at_the_limit(sign):
    room = (1 << 19) - 1 - 127 * 254 - 127 * 255
    assert IntegerNetwork.reach(heavy(sign * room).layers[0], 254).tolist() == [(1 << 19) - 1, 0, 0]
    with pytest.raises(InputError) as error:
        heavy(sign * (room + 1))
    assert "layers.0" in str(error.value) and str(1 << 19) in str(error.value)


@pytest.mark.parametrize("inner", [50, -50])
@pytest.mark.parametrize("sign", [1, -1])
def test_reach_of_an_inner_bias(sign, inner):
    """The weights and both biases of gate z together reach the limit, and no sum does more."""
    network = random_network(5, hidden=(1,), embedding=1, density=0, bias=0, accumulator_bits=20, shift=(15, 15))
    layer, embedding = network.layers[0], network.embedding.copy()
    weight_x, weight_y, bias = layer.weight_x.copy(), layer.weight_y.copy(), layer.bias.copy()
    weight_x[2], weight_y[2], embedding[:] = -127 * sign, 127 * sign, -127
    room = (1 << 19) - 1 - 127 * 254 - 127 * 255 - 50
    bias[:] = (1 << 19) - 1, (1 << 19) - 1, sign * room

    def with_inner(inner):
        inner = np.array([inner], np.int32)
        changed = dataclasses.replace(layer, weight_x=weight_x, weight_y=weight_y, bias=bias, bias_y=inner)
        return dataclasses.replace(network, embedding=embedding, layers=(changed,))

    changed = with_inner(inner)
    assert IntegerNetwork.reach(changed.layers[0], 254).tolist() == [(1 << 19) - 1] * 3
    trace = [IntegerEngine(changed).step(np.array([0]))[0] for _ in range(2)][-1]
    assert abs(int(trace.accumulators[0, 2])) < 1 << 19
    with pytest.raises(InputError, match=r"layers\.0 row 2 can reach 524288; an accumulator of 20 bits holds 524287$"):
        with_inner(inner + np.sign(inner))


def test_layers_of_both_resets_are_refused():
    before, after = (random_network(6, hidden=(5, 5), reset=reset).layers for reset in ("before", "after"))
    with pytest.raises(InputError, match=r"^integer network: either all layers or none must have a bias_y$"):
        dataclasses.replace(random_network(6, hidden=(5, 5)), layers=(before[0], after[1]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"embedding": np.zeros((3, 5), np.int8)}, "integer network: embedding has 3 rows for 7 tokens"),
        (
            {"embedding": np.full((7, 5), -128, np.int8)},
            "integer network: embedding must lie within -127 to 127, not -128 to -128",
        ),
        ({"embedding": np.zeros((7, 5), np.float32)}, "integer network: embedding must hold integers, not float32"),
        (
            {"embedding": np.zeros(7, np.int8)},
            "integer network: needs an embedding of two dimensions and at least one layer",
        ),
        ({"layers": ()}, "integer network: needs an embedding of two dimensions and at least one layer"),
        ({"readout_weight": None}, "integer network: a tied read-out needs a last layer of 5 neurons, not 6"),
        ({"readout_bias": np.zeros(6, np.int32)}, "integer network: readout.bias must have the shape [7], not [6]"),
        ({"readout_fraction": 31}, "integer network: readout_fraction must be 0 to 30, not 31"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(random_network(6), **change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"weight_x": np.zeros((18, 4), np.int8)},
            "integer network: layers.0.weight_x must have the shape [18, 5], not [18, 4]",
        ),
        (
            {"weight_y": np.full((18, 6), -128, np.int8)},
            "integer network: layers.0.weight_y must lie within -127 to 127, not -128 to -128",
        ),
        ({"bias": np.zeros(17, np.int32)}, "integer network: layers.0.bias must have the shape [18], not [17]"),
        (
            {"bias": np.full(18, 1 << 23)},
            "integer network: layers.0.bias must lie within -8388607 to 8388607, not 8388608 to 8388608",
        ),
        ({"bias_y": np.zeros(5, np.int32)}, "integer network: layers.0.bias_y must have the shape [6], not [5]"),
        (
            {"bias_y": np.full(6, 1 << 23)},
            "integer network: layers.0.bias_y must lie within -8388607 to 8388607, not 8388608 to 8388608",
        ),
        ({"threshold": np.full(6, -1)}, "integer network: layers.0.threshold must lie within 0 to 32767, not -1 to -1"),
        (
            {"threshold": np.full(6, 1 << 15)},
            "integer network: layers.0.threshold must lie within 0 to 32767, not 32768 to 32768",
        ),
        ({"shift": (0, 1, 1)}, "integer network: layers.0.shift must be three numbers from 1 to 15"),
        ({"shift": (1, 16, 1)}, "integer network: layers.0.shift must be three numbers from 1 to 15"),
        ({"shift": (1, 1)}, "integer network: layers.0.shift must be three numbers from 1 to 15"),
    ],
)
def test_refusals_of_a_layer(change, message):
    network = random_network(6)
    with pytest.raises(InputError) as error:
        dataclasses.replace(network, layers=(dataclasses.replace(network.layers[0], **change),))
    assert str(error.value) == message
