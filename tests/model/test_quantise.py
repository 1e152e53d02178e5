"""Quantiser."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from egret.model.checkpoint import Checkpoint, NetworkConfiguration, load_checkpoint
from egret.model.counts import checkpoint_columns, integer_columns
from egret.model.errors import EgretWarning, InputError
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine
from egret.model.groups import Groups
from egret.model.integer import IntegerEngine
from egret.model.quantise import dequantise, quantise, to_codebook
from egret.model.readout import ReadOut, nearest
from egret.model.tokens import read_text

DEMO = Path(__file__).parents[2] / "model" / "demo" / "network"
TEXT = DEMO.parent / "valid.txt"


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
    reset = "after" if seed % 2 else "before"
    checkpoint = random_checkpoint(configuration(tied=tied, reset=reset), seed, density, scale)
    tensors = checkpoint.tensors
    network = quantise(checkpoint, gate_index_bits=bits)
    assert network.reset == reset
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
            if gate == 2 and reset == "after":
                bias_y = tensors[f"layers.{number}.bias_y"].astype(np.float64)
                assert np.array_equal(layer.bias_y, np.rint(bias_y * 2.0 ** (fraction + 8)))
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
@pytest.mark.parametrize("density, reset", [(1.0, "before"), (0.1, "before"), (1.0, "after")])
def test_four_bit_weights(random_checkpoint, density, reset, seed):
    """Each matrix has at most 15 values, near its 8-bit ones, and no weight becomes zero; the rest is the same."""
    checkpoint = random_checkpoint(configuration(hidden_sizes=(40, 6), reset=reset), seed, density, 0.3)
    four, eight = (quantise(checkpoint, weight_bits=bits) for bits in (4, 8))
    for number, (layer, fine) in enumerate(zip(four.layers, eight.layers, strict=True)):
        size = len(layer.threshold)
        for name in ("weight_x", "weight_y"):
            coarse, exact = getattr(layer, name), checkpoint.tensors[f"layers.{number}.{name}"]
            assert np.array_equal(coarse != 0, exact != 0)
        parts = [(layer.weight_x, fine.weight_x)]
        cuts = [2 * size] if reset == "before" else []
        parts += zip(np.split(layer.weight_y, cuts), np.split(fine.weight_y, cuts), strict=True)
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
    assert np.array_equal(to_codebook(exact), expected)
    assert not to_codebook(np.zeros((2, 3))).any()


def test_other_weight_bits_are_refused(random_checkpoint):
    with pytest.raises(InputError, match=r"^weight_bits must be 4 or 8, not 5$"):
        quantise(random_checkpoint(configuration()), weight_bits=5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_computes_what_the_float_network_does(random_checkpoint, scale, seed):
    """The first layer's gates, within the tables' resolution: all the scales fit together."""
    reset = "after" if seed % 2 else "before"
    checkpoint = random_checkpoint(configuration(reset=reset), seed, 0.7, scale)
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    network = IntegerEngine(quantise(checkpoint))
    network.reset_state(9)
    trace = network.step(np.arange(9))[0]
    sums = tensors["embedding.weight"] @ tensors["layers.0.weight_x"].T + tensors["layers.0.bias"]
    u, r, z = np.split(sums, 3, axis=1)
    if reset == "after":
        z += tensors["layers.0.bias_y"] / (1 + np.exp(-r))
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


def test_other_networks_are_refused(random_checkpoint):
    with pytest.raises(InputError, match=r"^only an EGRU has an integer network, not 'lstm'$"):
        quantise(random_checkpoint(configuration(cell="lstm")))


@pytest.mark.parametrize(
    "bias, place, name", [("bias", 0, "u"), ("bias", 6, "r"), ("bias", 12, "z"), ("bias_y", 0, "z")]
)
def test_too_large_biases_are_refused(random_checkpoint, bias, place, name):
    checkpoint = random_checkpoint(configuration(reset="after"), 1)
    values = checkpoint.tensors[f"layers.1.{bias}"].copy()
    values[place] = 1e6
    with pytest.raises(InputError) as error:
        quantise(changed(checkpoint, **{f"layers__1__{bias}": values}))
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
    reset = "after" if seed % 2 else "before"
    network = quantise(random_checkpoint(configuration(tied=tied, reset=reset), seed, 0.5, 0.3), gate_index_bits=9)
    checkpoint = dequantise(network)
    checkpoint.check()
    assert checkpoint.configuration.reset == reset
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    engine = IntegerEngine(network)
    engine.reset_state(9)
    traces = engine.step(np.arange(9))
    x = tensors["embedding.weight"]
    for number, (layer, trace) in enumerate(zip(network.layers, traces, strict=True)):
        sums = x @ tensors[f"layers.{number}.weight_x"].T + tensors[f"layers.{number}.bias"]
        fractions, size = (
            np.repeat(np.array(layer.shift) + (9 - 4, 9 - 4, 9 - 3), len(layer.threshold)),
            len(layer.threshold),
        )
        sums *= 2.0**fractions
        if reset == "after":
            inner = tensors[f"layers.{number}.bias_y"] * 2.0 ** fractions[-1]
            sums[:, 2 * size :] += np.floor(trace.r * inner / 256 + 0.5)
        assert np.array_equal(sums, trace.accumulators)
        assert np.array_equal(tensors[f"layers.{number}.threshold"] * 2.0**14, layer.threshold)
        x = trace.y / 256
    readout = tensors["embedding.weight"] if tied else tensors["readout.weight"]
    assert np.array_equal(x @ readout.T + tensors["readout.bias"], engine.read_out(traces[-1].y))


def in_groups(**changes):
    return configuration(readout=Groups(2, (3, 1, 3), 2), **changes)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weight_bits", [4, 8])
def test_read_out_in_groups(random_checkpoint, tied, weight_bits):
    """Its rows have the scale of its words; what it stands for predicts the same, and rounds to the same again."""
    checkpoint = random_checkpoint(in_groups(tied=tied), 2, 0.5, 0.3)
    network = quantise(checkpoint, weight_bits=weight_bits)
    groups, tensors = network.groups, checkpoint.tensors
    scale = 2.0 ** (network.readout_fraction - 8)
    assert (groups.head, groups.sizes, groups.rows) == (2, (3, 1, 3), 2)
    assert groups.order.tolist() == tensors["readout.order"].tolist()
    assert np.abs(groups.weight / scale - tensors["readout.group_weight"].clip(-127 / scale, 127 / scale)).max() <= (
        0.5 / scale
    )
    assert np.abs(groups.bias * 2.0**-network.readout_fraction - tensors["readout.group_bias"]).max() < 2**-12
    assert (network.readout_codebook is not None) == (weight_bits == 4)
    plain = dequantise(network)
    plain.check()
    again = quantise(plain, weight_bits=weight_bits)
    y = np.random.default_rng(1).integers(0, 256, (20, 6)) * (np.random.default_rng(2).random((20, 6)) < 0.6)
    one, other = IntegerEngine(network).read_out(y), IntegerEngine(again).read_out(y)
    assert one.tolist() == other.tolist()
    exact = FloatEngine(plain if weight_bits == 8 else checkpoint).read_out(y.astype(np.float32) / 256)
    assert np.abs(one - exact).max() < (0.02 if weight_bits == 8 else 0.4)


def test_a_codebook_of_words_and_groups(random_checkpoint):
    """At most 15 numbers, and no better one among those that differ in one number by one."""
    network = quantise(random_checkpoint(in_groups(), 3), weight_bits=4)
    words, rows, codebook = network.embedding, network.groups.weight, network.readout_codebook
    assert len(codebook) == 15 and len(np.unique(np.concatenate([words, rows]))) > 16
    weights = np.concatenate([words, rows])

    def error(values):
        return np.square(nearest(weights, values).astype(int) - weights).sum()

    for place in range(15):
        for step in (-1, 1):
            other = codebook.copy()
            other[place] += step
            if len(np.unique(other)) == 15 and 0 not in other:
                assert error(np.sort(other)) >= error(codebook)


def test_which_read_outs_get_a_codebook(random_checkpoint, monkeypatch):
    checkpoint = random_checkpoint(configuration(), 3)
    assert quantise(checkpoint).readout_codebook is None
    assert len(quantise(checkpoint, weight_bits=4).readout_codebook) == 15
    monkeypatch.setattr("egret.model.quantise.SMALL_VOCABULARY", 8)
    assert quantise(checkpoint, weight_bits=4).readout_codebook is None
    checkpoint.tensors["embedding.weight"][:] = 0
    monkeypatch.setattr("egret.model.quantise.SMALL_VOCABULARY", 9)
    assert quantise(checkpoint, weight_bits=4).readout_codebook is None


@pytest.mark.parametrize("tied", [True, False])
def test_a_read_out_in_groups_fits_its_accumulators(random_checkpoint, tied):
    checkpoint = random_checkpoint(in_groups(tied=tied), 2, 0.5, 0.05)
    weight = checkpoint.tensors["readout.group_weight"]
    weight[1] = np.abs(checkpoint.tensors["embedding.weight" if tied else "readout.weight"]).max()
    wide = quantise(checkpoint)
    assert ReadOut(wide).reach() > (1 << 16) - 1
    network = quantise(checkpoint, accumulator_bits=17)
    assert ReadOut(network).reach() < 1 << 16
    assert network.readout_fraction < wide.readout_fraction
    weight[1] = 1e6
    with pytest.raises(InputError, match="the read-out has a row whose weights are too large, beside all others, for"):
        quantise(checkpoint, accumulator_bits=17)


def test_too_large_biases_of_groups_are_refused(random_checkpoint):
    checkpoint = random_checkpoint(in_groups(), 1)
    checkpoint.tensors["readout.group_bias"][2] = 1e9
    with pytest.raises(InputError, match=r"^readout\.group_bias: must lie within "):
        quantise(checkpoint)


def test_perplexity_of_reset_after():
    """Within 0.5 % without any training: the demo network with its reset behind the matrix, and an inner bias."""
    checkpoint = load_checkpoint(DEMO)
    random = np.random.default_rng(1)
    inner = {
        f"layers.{number}.bias_y": random.normal(0, 0.1, size).astype(np.float32)
        for number, size in enumerate(checkpoint.configuration.hidden_sizes)
    }
    configuration = dataclasses.replace(checkpoint.configuration, reset="after")
    checkpoint = Checkpoint(configuration, checkpoint.tensors | inner, checkpoint.vocabulary)
    ids = checkpoint.vocabulary.encode(read_text(TEXT))[:4001]
    network = quantise(checkpoint)
    floating = evaluate(FloatEngine(checkpoint), checkpoint_columns(checkpoint), ids, batch=80)
    integer = evaluate(IntegerEngine(network), integer_columns(network), ids, batch=80)
    assert floating.perplexity < 13
    assert integer.perplexity == pytest.approx(floating.perplexity, rel=0.005)
    # Counted alike: the MACs differ only where a rounded event is another one.
    assert integer.macs.event_driven_pruned == pytest.approx(floating.macs.event_driven_pruned, rel=0.01)


@pytest.mark.parametrize("groups", [None, Groups(20, (15, 30), 4), Groups(0, (25, 40), 16)])
def test_perplexity_is_that_of_the_float_network(groups):
    """Within 0.3 %: on text that the demo network knows, with its words divided so that a group's rows predict it."""
    checkpoint = load_checkpoint(DEMO)
    ids = checkpoint.vocabulary.encode(read_text(TEXT))[:6001]
    if groups is not None:
        checkpoint = divided(checkpoint, groups, np.argsort(-np.bincount(ids, minlength=65), kind="stable"))
    network = quantise(checkpoint)
    floating = evaluate(FloatEngine(checkpoint), checkpoint_columns(checkpoint), ids, batch=60)
    integer = evaluate(IntegerEngine(network), integer_columns(network), ids, batch=60)
    assert floating.perplexity < 8
    assert integer.perplexity == pytest.approx(floating.perplexity, rel=0.003)


def divided(checkpoint, groups, order):
    """The network with its words in groups, each of whose rows is the mean of a part of the group's words."""
    weight, bias = checkpoint.tensors["embedding.weight"], checkpoint.tensors["readout.bias"]
    rows, biases = [], []
    for first, last in zip(groups.starts, groups.starts[1:], strict=False):
        for part in np.array_split(order[first:last], groups.rows):
            rows.append(weight[part].mean(axis=0))
            biases.append(bias[part].mean() + np.log(len(part)))
    return dataclasses.replace(
        checkpoint,
        configuration=dataclasses.replace(checkpoint.configuration, readout=groups),
        tensors=checkpoint.tensors
        | {
            "readout.order": order.astype(np.float32),
            "readout.group_weight": np.array(rows, np.float32),
            "readout.group_bias": np.array(biases, np.float32),
        },
    )


def test_a_network_trained_rounded_keeps_its_codebook(random_checkpoint):
    """Rows for groups that have 15 values say that these are the read-out's, whatever the words' weights are."""
    checkpoint = random_checkpoint(configuration(readout=Groups(2, (3, 1, 3), 4)), 3)
    values = np.array([-96, -64, -40, -24, -16, -9, -5, -2, 2, 5, 9, 16, 24, 40, 96])
    rows = checkpoint.tensors["readout.group_weight"]
    power = quantise(checkpoint, weight_bits=4).readout_fraction - 8
    rows[:] = np.random.default_rng(1).choice(values, rows.shape) * 2.0**-power
    network = quantise(checkpoint, weight_bits=4)
    assert network.readout_fraction == power + 8
    assert network.readout_codebook.tolist() == values.tolist()
    assert np.isin(network.groups.weight, values).all()
    # One more value, and it is no such network.
    rows[0, 0] = 11 * 2.0**-power
    assert quantise(checkpoint, weight_bits=4).readout_codebook.tolist() != values.tolist()
