"""From a float checkpoint to the integer network (its file: `egret.model.integer_file`)."""

import warnings

import numpy as np

from egret.model.arithmetic import CODEBOOK, EVENT_MAX, STATE_FRACTION, VALUE_FRACTION
from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.errors import EgretWarning, InputError
from egret.model.groups import Groups
from egret.model.integer import THRESHOLD_MAX, IntegerLayer, IntegerNetwork
from egret.model.readout import IntegerGroups, nearest

__all__ = ["dequantise", "quantise", "to_codebook"]

EMBEDDING_FRACTION = 7
"""Fraction bits of the 8-bit embedding, after division by a power of two."""

SMALL_VOCABULARY = 1024
"""Most words of a read-out without groups that gets a codebook."""

_MOST_RAISED = 8  # powers of two that a read-out is divided by beyond the best one, to fit its accumulators

_HUGE = 2.0**100
"""Saturates at every scale, and does not overflow in float32 when it is scaled."""


def quantise(
    checkpoint: Checkpoint,
    *,
    weight_bits: int = 8,
    embedding_bits: int = 8,
    accumulator_bits: int = 24,
    gate_index_bits: int = 10,
) -> IntegerNetwork:
    """Quantise an EGRU to the integer network.

    Every scale is a power of two, chosen to lose the least: one for each gate of each layer (by the squared error of
    its non-zero weights, and small enough that no accumulator can overflow) and one for the embedding. The latter also
    scales the first layer's input weights, which share their accumulators with the recurrent ones, so it is chosen by
    the relative squared errors of all three together, the recurrent ones twice, since theirs return every step. All
    numbers are rounded to the nearest, halves to even, and saturate.

    With 4-bit weights the non-zero weights of each matrix (x, y and s, see `egret.model.compiler.configuration`) take
    one of 15 of the 8-bit integers, chosen by k-means, and none becomes zero. With reset "after", y has the rows of s.

    With 4-bit weights the read-out gets such a codebook too, of the weights of its words and groups together, where it
    has groups or at most `SMALL_VOCABULARY` words. A read-out in groups has a scale at which no accumulator can
    overflow.

    Parameters
    ----------
    checkpoint : Checkpoint
        An EGRU.
    weight_bits : int
        8 or 4.
    embedding_bits : int
        Bits of the embedding and the read-out, 4 to 8: with fewer than 8 the 8-bit integers are multiples of a power
        of two, which makes the file smaller.
    accumulator_bits, gate_index_bits : int
        See `egret.model.compiler.configuration.Configuration`.

    Returns
    -------
    IntegerNetwork

    Raises
    ------
    InputError
        The network is no EGRU, or one of its rows cannot be held at any scale.

    Warns
    -----
    EgretWarning
        Weights saturate at less than half of their value; it counts them.
    """
    configuration = checkpoint.configuration
    _check(configuration, weight_bits, embedding_bits)
    tensors = checkpoint.tensors

    def layer(number, power=0, weight_bits=weight_bits):
        prefix = f"layers.{number}."
        return _quantise_layer(
            np.clip(tensors[prefix + "weight_x"], -_HUGE, _HUGE) * 2.0**power
            if power
            else tensors[prefix + "weight_x"],
            tensors[prefix + "weight_y"],
            tensors[prefix + "bias"],
            tensors[prefix + "threshold"],
            tensors.get(prefix + "bias_y"),
            weight_bits,
            accumulator_bits,
            gate_index_bits,
            f"layers.{number}",
        )

    readout = _ReadOutRounding(checkpoint, weight_bits, embedding_bits, accumulator_bits)
    # Numbers enter as events do, with the same scale in every layer.
    power, embedding = 0, np.zeros((0, configuration.embedding_size), np.int8)
    if not configuration.takes_numbers:
        power, embedding = _best_embedding(configuration, tensors, layer, readout, embedding_bits, gate_index_bits)
    layers = [layer(0, power), *(layer(number) for number in range(1, configuration.layers))]
    scales = _scales(layers, power, gate_index_bits, configuration.takes_numbers)
    readout_weight = None
    if not configuration.tied:
        power, readout_weight = readout.best()
        scales["readout.weight"] = 2.0 ** (EMBEDDING_FRACTION - power)
    if configuration.readout is not None:
        scales["readout.group_weight"] = 2.0 ** (EMBEDDING_FRACTION - power)
    readout_fraction = EMBEDDING_FRACTION + VALUE_FRACTION - power
    _warn_of_saturation(tensors, scales)
    return IntegerNetwork(
        vocabulary=checkpoint.vocabulary,
        embedding=embedding,
        layers=tuple(layers),
        readout_weight=readout_weight,
        readout_bias=_readout_bias(tensors, "readout.bias", readout_fraction),
        readout_fraction=readout_fraction,
        accumulator_bits=accumulator_bits,
        gate_index_bits=gate_index_bits,
        groups=readout.groups(power, readout_fraction),
        readout_codebook=readout.codebook(embedding if readout_weight is None else readout_weight, power),
    )


def _best_embedding(configuration, tensors, layer, readout, embedding_bits, gate_index_bits):
    """The power of two that the embedding is divided by, and the embedding in integers."""

    def first(power):
        embedding = _table(tensors["embedding.weight"], power, embedding_bits)
        quantised = layer(0, power, 8)
        size = len(quantised.threshold)
        fractions = np.repeat(_weight_fractions(quantised.shift, gate_index_bits), size)[:, None]
        loss = (
            _relative_error(embedding * 2.0 ** (power - EMBEDDING_FRACTION), tensors["embedding.weight"])
            + _relative_error(quantised.weight_x * 2.0 ** (-fractions - power), tensors["layers.0.weight_x"])
            + 2 * _relative_error(quantised.weight_y * 2.0**-fractions, tensors["layers.0.weight_y"])
        )
        return loss, power, embedding

    alone = _least_error_power(tensors["embedding.weight"])
    choices = []
    # A read-out that is tied may need a larger power to fit its accumulators.
    for power in range(alone - 2, alone + 2 + (_MOST_RAISED if configuration.tied else 0)):
        if power >= alone + 2 and choices:
            break
        try:
            choice = first(power)
        except InputError:
            # A larger power makes the input weights larger still.
            if not choices:
                raise
            break
        if not configuration.tied or readout.fits(choice[2], power):
            choices.append(choice)
    if not choices:
        raise readout.too_large()
    _, power, embedding = min(choices, key=lambda choice: choice[0])
    return power, embedding


def _check(configuration, weight_bits, embedding_bits):
    """Raise `InputError` for what has no integer network."""
    if configuration.cell != "egru":
        raise InputError(f"only an EGRU has an integer network, not {configuration.cell!r}")
    if weight_bits not in (4, 8):
        raise InputError(f"weight_bits must be 4 or 8, not {weight_bits!r}")
    if embedding_bits not in range(4, 9):
        raise InputError(f"embedding_bits must be 4 to 8, not {embedding_bits!r}")


def _scales(layers, power, gate_index_bits, takes_numbers):
    """By name, what the weights of the embedding and the layers were multiplied with."""
    scales = {} if takes_numbers else {"embedding.weight": 2.0 ** (EMBEDDING_FRACTION - power)}
    for number, layer in enumerate(layers):
        scale = np.repeat(2.0 ** _weight_fractions(layer.shift, gate_index_bits), len(layer.threshold))[:, None]
        scales[f"layers.{number}.weight_x"] = scale * 2.0 ** (0 if number else power)
        scales[f"layers.{number}.weight_y"] = scale
    return scales


class _ReadOutRounding:
    """The read-out of a checkpoint in integers, at any scale: ``words`` are the 8-bit weights of its words."""

    def __init__(self, checkpoint, weight_bits, embedding_bits, accumulator_bits):
        configuration = checkpoint.configuration
        self._tensors, self._shape = checkpoint.tensors, configuration.readout
        self._bits, self._accumulator_bits = embedding_bits, accumulator_bits
        small = self._shape is not None or configuration.vocab_size <= SMALL_VOCABULARY
        self._in_codebook = small and weight_bits == 4

    def _weights(self, words, power):
        """Those of the words, and of the rows that stand for groups."""
        if self._shape is None:
            return words
        return np.concatenate([words, _table(self._tensors["readout.group_weight"], power, 8)])

    def codebook(self, words, power):
        """At most `CODEBOOK` numbers that their weights are rounded to; None where they stay as they are."""
        if not self._in_codebook:
            return None
        if (trained := self._trained(power)) is not None:
            return trained
        values = np.unique(to_codebook(self._weights(words, power).astype(np.float32)))
        return values[values != 0] if values.any() else None

    def _trained(self, power):
        """The codebook of a network that was trained rounded, whose rows for groups have no other values; or None."""
        if self._shape is None:
            return None
        rows = self._tensors["readout.group_weight"]
        values = np.unique(rows[rows != 0])
        if not 0 < len(values) <= CODEBOOK or rows.size < 4 * CODEBOOK:
            return None
        values = np.unique(_table(values, power, 8))
        return values[values != 0]

    def fits(self, words, power):
        """Whether no accumulator can overflow. Without groups the read-out need not run on a core."""
        if self._shape is None:
            return True
        rounded = nearest(self._weights(words, power), self.codebook(words, power))
        return np.abs(rounded.astype(np.int64)).sum(1).max() * EVENT_MAX < 1 << (self._accumulator_bits - 1)

    def too_large(self):
        return InputError(
            f"the read-out has a row whose weights are too large, beside all others, for an accumulator of "
            f"{self._accumulator_bits} bits"
        )

    def best(self):
        """The scale of a read-out that is not tied, as the power of two that it is divided by; and its words."""
        weight = self._tensors["readout.weight"]
        least = _least_error_power(weight)
        for power in range(least, least + _MOST_RAISED + 1):
            words = _table(weight, power, self._bits)
            if self.fits(words, power):
                return power, words
        raise self.too_large()

    def groups(self, power, fraction):
        """The groups; None in a read-out without them."""
        if self._shape is None:
            return None
        return IntegerGroups(
            order=self._tensors["readout.order"].astype(np.int32),
            head=self._shape.head,
            sizes=self._shape.groups,
            rows=self._shape.rows,
            weight=_table(self._tensors["readout.group_weight"], power, 8),
            bias=_readout_bias(self._tensors, "readout.group_bias", fraction),
        )


def _readout_bias(tensors, name, fraction):
    """Biases of the read-out in LSBs of a logit: int32."""
    rounded = np.rint(tensors[name].astype(np.float64) * 2.0**fraction)
    if (largest := np.abs(rounded).max()) >= 1 << 31:
        raise InputError(
            f"{name}: must lie within +-{2.0 ** (31 - fraction):g} beside such read-out "
            f"weights, not reach {largest * 2.0**-fraction:g}"
        )
    return rounded.astype(np.int32)


def dequantise(network: IntegerNetwork) -> Checkpoint:
    """The float network that an integer network stands for, to be trained further.

    Parameters
    ----------
    network : IntegerNetwork

    Returns
    -------
    Checkpoint
    """
    vocabulary, weight, bias = network.vocabulary, network.readout_weight, network.readout_bias
    if vocabulary is None or bias is None:
        raise InputError("a later part of a network has no vocabulary and no read-out; give the whole network")
    tied = weight is None
    power = EMBEDDING_FRACTION + VALUE_FRACTION - network.readout_fraction if tied else 0
    tensors = {}
    if not network.takes_events:
        tensors["embedding.weight"] = network.embedding * 2.0 ** (power - EMBEDDING_FRACTION)
    if weight is not None:
        tensors["readout.weight"] = weight * 2.0 ** (VALUE_FRACTION - network.readout_fraction)
    for number, layer in enumerate(network.layers):
        fractions = _weight_fractions(layer.shift, network.gate_index_bits)
        scale = np.repeat(2.0**-fractions, len(layer.threshold))
        tensors |= {
            f"layers.{number}.weight_x": layer.weight_x * scale[:, None] * 2.0 ** (0 if number else -power),
            f"layers.{number}.weight_y": layer.weight_y * scale[:, None],
            f"layers.{number}.bias": layer.bias * scale * 2.0**-VALUE_FRACTION,
            f"layers.{number}.threshold": layer.threshold * 2.0**-STATE_FRACTION,
        }
        if layer.bias_y is not None:
            tensors[f"layers.{number}.bias_y"] = layer.bias_y * scale[-1] * 2.0**-VALUE_FRACTION
    tensors["readout.bias"] = bias * 2.0**-network.readout_fraction
    if (groups := network.groups) is not None:
        tensors |= {
            "readout.order": groups.order,
            "readout.group_weight": groups.weight * 2.0 ** (VALUE_FRACTION - network.readout_fraction),
            "readout.group_bias": groups.bias * 2.0**-network.readout_fraction,
        }
    configuration = NetworkConfiguration(
        cell="egru",
        tokens=vocabulary.kind,
        vocab_size=vocabulary.size,
        embedding_size=network.embedding.shape[1],
        hidden_sizes=network.hidden,
        reset=network.reset,
        tied=tied,
        readout=None if groups is None else Groups(groups.head, groups.sizes, groups.rows),
    )
    return Checkpoint(configuration, {name: tensor.astype(np.float32) for name, tensor in tensors.items()}, vocabulary)


def _round(array, fraction, limit):
    """Nearest multiples of 2^-fraction, as integers that saturate at +-limit."""
    # Saturated first: no product overflows then.
    largest = limit * 2.0**-fraction
    return np.rint(np.clip(array, -largest, largest) * 2.0**fraction)


def _warn_of_saturation(tensors, scales):
    """Count the weights that lose more than half of their value. A scale of least error cuts off less than that."""
    counts = {name: int(np.count_nonzero(np.abs(tensors[name]) > 2 * 127 / scale)) for name, scale in scales.items()}
    weights = sum(tensors[name].size for name in scales)
    if saturated := sum(counts.values()):
        where = ", ".join(f"{count:,} in {name}" for name, count in counts.items() if count)
        warnings.warn(
            f"{saturated:,} of {weights:,} weights are too large for the integer network and saturate at less than "
            f"half of their value ({where}): it may do other things than the float network",
            EgretWarning,
            stacklevel=3,
        )


def _table(matrix, power, bits):
    """An embedding or read-out divided by 2^power, in so many bits, as 8-bit integers."""
    coarse = 8 - bits
    return (_round(matrix, EMBEDDING_FRACTION - power - coarse, 127 >> coarse) * (1 << coarse)).astype(np.int8)


def _least_error(array, fractions, limit):
    """The number of fraction bits among ``fractions`` with the smallest squared error over ``array``."""

    def error(fraction):
        return float(np.square(_round(array, fraction, limit) * 2.0**-fraction - array, dtype=np.float64).sum())

    return min(fractions, key=error)


def _least_error_power(matrix):
    """The power of two by which an embedding or read-out is best divided to be held in 8 bits."""
    return EMBEDDING_FRACTION - _least_error(matrix, range(EMBEDDING_FRACTION - 7, EMBEDDING_FRACTION + 8), 127)


def _relative_error(quantised, exact):
    power = np.square(exact, dtype=np.float64).sum()
    return float(np.square(quantised - exact, dtype=np.float64).sum() / power) if power else 0.0


def _index_fractions(gate_index_bits):
    """Fraction bits of the table index of each gate, as in `Configuration`."""
    return np.array([gate_index_bits - 4, gate_index_bits - 4, gate_index_bits - 3])


def _weight_fractions(shift, gate_index_bits):
    """Fraction bits of each gate's weights, from its shift."""
    return np.array(shift) + _index_fractions(gate_index_bits) - VALUE_FRACTION


def _quantise_layer(weight_x, weight_y, bias, threshold, bias_y, weight_bits, accumulator_bits, gate_index_bits, where):
    size = len(threshold)
    integer_x, integer_y = np.empty(weight_x.shape, np.int8), np.empty(weight_y.shape, np.int8)
    integer_bias, shift, inner = np.empty(3 * size, np.int32), [], None
    limit = (1 << (accumulator_bits - 1)) - 1

    def rounded(biases, fraction):
        exact = np.rint(biases.astype(np.float64) * 2.0 ** (fraction + VALUE_FRACTION))
        return np.clip(exact, -limit, limit).astype(np.int32), np.abs(exact).max() <= limit

    for gate, index_fraction in enumerate(_index_fractions(gate_index_bits).tolist()):
        rows = slice(gate * size, (gate + 1) * size)
        weights = np.concatenate([weight_x[rows].ravel(), weight_y[rows].ravel()])
        weights = weights[weights != 0]
        # A shift of 1 to 15 bounds the fractions from both sides.
        least = max(0, index_fraction + 1 - VALUE_FRACTION)
        fractions = range(least, min(15, index_fraction + 15 - VALUE_FRACTION) + 1)
        fraction = _least_error(weights, fractions, 127)
        while True:
            integer_x[rows] = _round(weight_x[rows], fraction, 127)
            integer_y[rows] = _round(weight_y[rows], fraction, 127)
            integer_bias[rows], fits = rounded(bias[rows], fraction)
            if gate == 2 and bias_y is not None:
                inner, inner_fits = rounded(bias_y, fraction)
                fits &= inner_fits
            layer = IntegerLayer(integer_x[rows], integer_y[rows], integer_bias[rows], threshold, (1, 1, 1), inner)
            if fits and IntegerNetwork.reach(layer).max() <= limit:
                break
            if fraction == fractions[0]:
                raise InputError(
                    f"{where}: the weights and biases of gate {'urz'[gate]} are too large for an "
                    f"accumulator of {accumulator_bits} bits; at most {limit} at {fraction} fraction bits"
                )
            fraction -= 1
        shift.append(fraction + VALUE_FRACTION - index_fraction)
    if weight_bits == 4:
        scale = np.repeat(2.0 ** _weight_fractions(shift, gate_index_bits), size)[:, None]
        integer_x = to_codebook(weight_x * scale)
        parts = np.split(weight_y * scale, [2 * size] if bias_y is None else [])
        integer_y = np.concatenate([to_codebook(part) for part in parts])
    integer_threshold = _round(threshold, STATE_FRACTION, THRESHOLD_MAX).astype(np.int32)
    return IntegerLayer(integer_x, integer_y, integer_bias, integer_threshold, tuple(shift), inner)


def to_codebook(exact: np.ndarray) -> np.ndarray:
    """Nearest of `CODEBOOK` integers to each non-zero number, with the least squared error there is.

    Dynamic programming over the histogram of the numbers, in steps of a quarter: the best division of the first j
    values into k + 1 runs follows from the best ones of fewer values into k runs.

    Parameters
    ----------
    exact : np.ndarray of float
        In LSBs, of any shape.

    Returns
    -------
    np.ndarray of int8
        Of that shape, from -127 to 127; zero where the number is.
    """
    used = exact != 0
    nearest = np.clip(np.where(np.abs(exact) < 0.5, np.sign(exact), np.rint(exact)), -127, 127).astype(np.int8)
    if len(np.unique(nearest[used])) <= CODEBOOK:
        return nearest
    values, counts = np.unique(np.clip(np.rint(exact[used] * 4), -127 * 4, 127 * 4) / 4, return_counts=True)
    zeroth, first, second = (np.concatenate([[0], np.cumsum(counts * values**power)]) for power in range(3))
    # error[i, j]: of the values from i up to but without j in one run
    size = np.maximum(zeroth[None, :] - zeroth[:, None], 1)
    error = second[None, :] - second[:, None] - (first[None, :] - first[:, None]) ** 2 / size
    error[np.tril_indices(len(error))] = np.inf
    best, starts = error[0], []
    for _ in range(CODEBOOK - 1):
        total = best[:, None] + error
        starts.append(total.argmin(axis=0))
        best = total.min(axis=0)
    ends = [len(values)]
    for start in reversed(starts):
        ends.append(int(start[ends[-1]]))
    bounds = np.array([0, *reversed(ends)])
    centres = np.diff(first[bounds]) / np.diff(zeroth[bounds])
    codebook = np.rint(centres)
    codebook = np.unique(np.where(codebook == 0, np.where(centres < 0, -1, 1), codebook))
    result = np.zeros(exact.shape, np.int8)
    result[used] = codebook[np.searchsorted((codebook[1:] + codebook[:-1]) / 2, exact[used])]
    return result
