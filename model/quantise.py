"""From a float checkpoint to the integer network, and the file that holds one.

An integer network is one safetensors file. Its tensors are the arrays of `egret.model.integer.IntegerParameters`:
``embedding`` I8 [V, E], ``layers.{l}.weight_x`` I8 [3H, I], ``layers.{l}.weight_y`` I8 [3H, H], ``layers.{l}.bias``
I32 [3H], ``layers.{l}.threshold`` I32 [H], ``layers.{l}.shift`` I32 [3], ``readout.bias`` I32 [V], and
``readout.weight`` I8 [V, H] only where the read-out is not tied. Its metadata has ``format`` ("egret-integer-1"),
``tokens`` ("word" | "char"), ``vocabulary`` (the text of a ``vocab.txt``), ``readout_fraction``, ``accumulator_bits``
and ``gate_index_bits``.
"""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from egret.model.configuration import STATE_FRACTION, VALUE_FRACTION
from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.integer import THRESHOLD_MAX, IntegerLayer, IntegerParameters
from egret.model.tokens import Vocabulary

__all__ = ["load_integer", "quantise", "save_integer"]

FORMAT = "egret-integer-1"
EMBEDDING_FRACTION = 7
"""Fraction bits of the 8-bit embedding, after division by a power of two."""

_NUMBERS = ("readout_fraction", "accumulator_bits", "gate_index_bits")


def quantise(checkpoint, *, accumulator_bits=24, gate_index_bits=10):
    """Quantise an EGRU to the integer network.

    Every scale is a power of two, chosen to lose the least: one for each gate of each layer (by the squared error of
    its non-zero weights, and small enough that no accumulator can overflow) and one for the embedding. The latter also
    scales the first layer's input weights, which share their accumulators with the recurrent ones, so it is chosen by
    the relative squared errors of all three together, the recurrent ones twice, since theirs return every step. All
    numbers are rounded to the nearest, halves to even, and saturate.

    Parameters
    ----------
    checkpoint : Checkpoint
        An EGRU with ``reset="before"``.
    accumulator_bits, gate_index_bits : int
        See `egret.model.configuration.Configuration`.

    Returns
    -------
    IntegerParameters

    Raises
    ------
    InputError
        The network is no such EGRU, or one of its rows cannot be held at any scale.
    """
    configuration = checkpoint.configuration
    if configuration.cell != "egru" or configuration.reset != "before":
        raise InputError(f"only an EGRU with reset 'before' has an integer network, not "
                         f"{configuration.cell!r} with reset {configuration.reset!r}")
    tensors = checkpoint.tensors
    def layer(number, power=0):
        prefix = f"layers.{number}."
        return _quantise_layer(tensors[prefix + "weight_x"] * 2.0 ** power, tensors[prefix + "weight_y"],
                               tensors[prefix + "bias"], tensors[prefix + "threshold"],
                               accumulator_bits, gate_index_bits, f"layers.{number}")

    def first(power):
        embedding = _round(tensors["embedding.weight"], EMBEDDING_FRACTION - power, 127).astype(np.int8)
        quantised = layer(0, power)
        size = len(quantised.threshold)
        fractions = np.repeat(_weight_fractions(quantised.shift, gate_index_bits), size)[:, None]
        loss = (_relative_error(embedding * 2.0 ** (power - EMBEDDING_FRACTION), tensors["embedding.weight"])
                + _relative_error(quantised.weight_x * 2.0 ** (-fractions - power), tensors["layers.0.weight_x"])
                + 2 * _relative_error(quantised.weight_y * 2.0 ** -fractions, tensors["layers.0.weight_y"]))
        return loss, power, embedding, quantised

    alone = _least_error_power(tensors["embedding.weight"])
    choices = []
    for power in range(alone - 2, alone + 2):
        try:
            choices.append(first(power))
        except InputError:
            # A larger power makes the input weights larger still.
            if not choices:
                raise
            break
    _, power, embedding, quantised = min(choices, key=lambda choice: choice[0])
    layers = [quantised, *(layer(number) for number in range(1, configuration.layers))]
    readout_weight = None
    if not configuration.tied:
        power = _least_error_power(tensors["readout.weight"])
        readout_weight = _round(tensors["readout.weight"], EMBEDDING_FRACTION - power, 127).astype(np.int8)
    readout_fraction = EMBEDDING_FRACTION + VALUE_FRACTION - power
    readout_bias = np.rint(tensors["readout.bias"].astype(np.float64) * 2.0 ** readout_fraction)
    if (largest := np.abs(readout_bias).max()) >= 1 << 31:
        raise InputError(f"readout.bias: must lie within +-{2.0 ** (31 - readout_fraction):g} beside such read-out "
                         f"weights, not reach {largest * 2.0 ** -readout_fraction:g}")
    return IntegerParameters(
        vocabulary=checkpoint.vocabulary, embedding=embedding, layers=tuple(layers), readout_weight=readout_weight,
        readout_bias=readout_bias.astype(np.int32),
        readout_fraction=readout_fraction, accumulator_bits=accumulator_bits, gate_index_bits=gate_index_bits)


def _round(array, fraction, limit):
    """Nearest multiples of 2^-fraction, as integers that saturate at +-limit."""
    return np.clip(np.rint(array * 2.0 ** fraction), -limit, limit)


def _least_error(array, fractions, limit):
    """The number of fraction bits among ``fractions`` with the smallest squared error over ``array``."""
    def error(fraction):
        return float(np.square(_round(array, fraction, limit) * 2.0 ** -fraction - array, dtype=np.float64).sum())
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


def _quantise_layer(weight_x, weight_y, bias, threshold, accumulator_bits, gate_index_bits, where):
    size = len(threshold)
    integer_x, integer_y = np.empty(weight_x.shape, np.int8), np.empty(weight_y.shape, np.int8)
    integer_bias, shift = np.empty(3 * size, np.int32), []
    limit = (1 << (accumulator_bits - 1)) - 1
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
            exact_bias = np.rint(bias[rows] * 2.0 ** (fraction + VALUE_FRACTION))
            integer_bias[rows] = np.clip(exact_bias, -limit, limit)
            layer = IntegerLayer(integer_x[rows], integer_y[rows], integer_bias[rows], threshold, (1, 1, 1))
            if np.abs(exact_bias).max() <= limit and IntegerParameters.reach(layer).max() <= limit:
                break
            if fraction == fractions[0]:
                raise InputError(f"{where}: the weights and biases of gate {'urz'[gate]} are too large for an "
                                 f"accumulator of {accumulator_bits} bits; at most {limit} at {fraction} fraction bits")
            fraction -= 1
        shift.append(fraction + VALUE_FRACTION - index_fraction)
    integer_threshold = np.minimum(np.rint(threshold * 2.0 ** STATE_FRACTION), THRESHOLD_MAX).astype(np.int32)
    return IntegerLayer(integer_x, integer_y, integer_bias, integer_threshold, tuple(shift))


def save_integer(parameters, path):
    """Save an integer network as one file, written aside and renamed. Raises `InputError` where it cannot be written.

    Parameters
    ----------
    parameters : IntegerParameters
    path : str or Path
    """
    path = Path(path)
    tensors = {"embedding": parameters.embedding, "readout.bias": parameters.readout_bias}
    if parameters.readout_weight is not None:
        tensors["readout.weight"] = parameters.readout_weight
    for number, layer in enumerate(parameters.layers):
        for name in fields(layer):
            tensors[f"layers.{number}.{name.name}"] = np.asarray(getattr(layer, name.name)).astype(
                np.int8 if name.name.startswith("weight") else np.int32)
    metadata = {"format": FORMAT, "tokens": parameters.vocabulary.kind,
                "vocabulary": parameters.vocabulary.to_bytes().decode()}
    metadata |= {name: str(getattr(parameters, name)) for name in _NUMBERS}
    write_aside(path, safetensors.numpy.save(tensors, metadata))


def load_integer(path):
    """Load what `save_integer` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    IntegerParameters

    Raises
    ------
    InputError
        The file is missing, cut, corrupted, or does not hold an integer network.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
    try:
        tensors = safetensors.numpy.load(data)
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a safetensors file, or cut short: {' '.join(str(error).split())}") from error
    metadata = header.get("__metadata__") or {}
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not an integer network: its format must be {FORMAT!r}, "
                         f"not {metadata.get('format')!r}; `egret quantise` writes one")
    try:
        numbers = {name: int(metadata[name]) for name in _NUMBERS}
        vocabulary = Vocabulary.from_bytes(metadata["vocabulary"].encode(), metadata["tokens"], where=path)
        layers, number = [], 0
        while f"layers.{number}.threshold" in tensors:
            values = {field.name: tensors.pop(f"layers.{number}.{field.name}") for field in fields(IntegerLayer)}
            layers.append(IntegerLayer(**values | {"shift": tuple(np.atleast_1d(values["shift"]).tolist())}))
            number += 1
        embedding, readout_bias = tensors.pop("embedding"), tensors.pop("readout.bias")
        readout_weight = tensors.pop("readout.weight", None)
    except KeyError as error:
        raise InputError(f"{path}: lacks {error.args[0]!r}") from error
    except InputError:  # of the vocabulary; it names the file
        raise
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}") from error
    if tensors:
        raise InputError(f"{path}: unexpected tensor {min(tensors)!r}")
    try:
        return IntegerParameters(vocabulary=vocabulary, embedding=embedding, layers=tuple(layers),
                                 readout_weight=readout_weight, readout_bias=readout_bias, **numbers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
