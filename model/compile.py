"""Compile an integer network into the image of a core, and read one back.

A column holds the non-zero weights of one source: an input x_j (rows of u, r, z), an event y'_j (rows of u, r) or a
reset value s_j (rows of z). Its entries are packed into words of one entry a lane, no two entries of a word in one
accumulator bank. With n entries, L lanes and at most m entries in one bank, that takes max(ceil(n / L), m) words and
no more: with the entries sorted by bank and dealt out to the words in turn, the entries of one bank fall into different
words, and no word gets more than L.
"""

import dataclasses

import numpy as np

from egret.model.configuration import GATES, WEIGHT_BITS, Configuration
from egret.model.errors import InputError
from egret.model.image import Image, memory_sections
from egret.model.integer import IntegerLayer, IntegerParameters
from egret.model.tokens import Vocabulary

__all__ = ["compile_image", "configuration_for", "pack_column", "read_image"]


def configuration_for(parameters, **options):
    """Configuration of a core for a network.

    Parameters
    ----------
    parameters : IntegerParameters
    **options
        Any of the other parameters of `Configuration`, e.g. one of `egret.model.configuration.TARGETS`.
        ``weight_bytes=None`` makes the weight memory just large enough.

    Returns
    -------
    Configuration
    """
    fit = options.get("weight_bytes", 0) is None
    if fit:
        options["weight_bytes"] = 1 << 27
    configuration = Configuration(
        vocabulary=parameters.embedding.shape[0], embedding=parameters.embedding.shape[1], hidden=parameters.hidden,
        accumulator_bits=parameters.accumulator_bits, gate_index_bits=parameters.gate_index_bits, **options)
    if fit:
        words = max(1, sum(_words(*column, configuration) for column in _columns(parameters, configuration)))
        configuration = dataclasses.replace(configuration, weight_bytes=-(-words * configuration.word_bits // 8))
    return configuration


def _row_major(array):
    """Gates stacked u | r | z to rows 3 * i + g: [3H, ...] -> [3H, ...]."""
    return array.reshape(3, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _gate_major(array):
    """The inverse of `_row_major`."""
    return array.reshape(-1, 3, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def _matrices(parameters):
    """Weights of each layer's segments x, y, s by row and source, [3H, sources], in the order of the columns."""
    for layer in parameters.layers:
        weight_y = _row_major(layer.weight_y)
        candidate = np.arange(len(weight_y)) % 3 == GATES.index("z")
        yield _row_major(layer.weight_x)
        yield np.where(candidate[:, None], 0, weight_y)
        yield np.where(candidate[:, None], weight_y, 0)


def _columns(parameters, configuration):
    """(rows, weights) of every column, in order, sorted by bank."""
    for matrix in _matrices(parameters):
        sources, rows = np.nonzero(matrix.T)
        order = np.lexsort((rows, rows % configuration.banks, sources))
        sources, rows = sources[order], rows[order]
        weights = matrix[rows, sources]
        ends = np.cumsum(np.bincount(sources, minlength=matrix.shape[1]))[:-1]
        yield from zip(np.split(rows, ends), np.split(weights, ends), strict=True)


def _words(rows, weights, configuration):
    if not len(rows):
        return 0
    return max(-(-len(rows) // configuration.lanes), int(np.bincount(rows % configuration.banks).max()))


def pack_column(rows, weights, configuration):
    """Deal the entries of a column, sorted by bank, out to words.

    Parameters
    ----------
    rows, weights : int [n]
    configuration : Configuration

    Returns
    -------
    uint32 [words, lanes]
        Entries {weight, row}; 0 where a lane has none.
    """
    words = _words(rows, weights, configuration)
    packed = np.zeros((words, configuration.lanes), np.uint32)
    place = np.arange(len(rows))
    packed[place % max(words, 1), place // max(words, 1)] = (rows.astype(np.uint32) << WEIGHT_BITS) | (
        weights.astype(np.uint32) & ((1 << WEIGHT_BITS) - 1))
    return packed


def _to_words(fields, bits):
    """Pack unsigned fields [n, k], ``bits`` wide each, the first one lowest, into little-endian words of bytes."""
    spread = np.unpackbits(np.ascontiguousarray(fields, "<u4").view(np.uint8).reshape(*fields.shape, 4),
                           axis=-1, count=bits, bitorder="little")
    return np.packbits(spread.reshape(len(fields), fields.shape[1] * bits), axis=1, bitorder="little").tobytes()


def _from_words(data, word_bytes, count, bits):
    """The inverse of `_to_words`: uint32 [n, count]."""
    spread = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, word_bytes), axis=1, count=count * bits,
                           bitorder="little").reshape(-1, count, bits)
    return np.packbits(np.pad(spread, ((0, 0), (0, 0), (0, 32 - bits))), axis=-1,
                       bitorder="little").view("<u4").reshape(-1, count)


def compile_image(parameters, configuration):
    """Compile a network for a core.

    Parameters
    ----------
    parameters : IntegerParameters
    configuration : Configuration

    Returns
    -------
    Image

    Raises
    ------
    InputError
        The configuration has another shape than the network, or too small a weight memory.
    """
    c = configuration
    wanted = configuration_for(parameters, lanes=c.lanes, weight_bytes=c.weight_bytes)
    for field in dataclasses.fields(Configuration):
        if getattr(wanted, field.name) != getattr(c, field.name):
            raise InputError(f"the core is built for {field.name} {getattr(c, field.name)}; "
                             f"the network has {getattr(wanted, field.name)}")
    words, starts, counts, start = [], [], [], 0
    for rows, weights in _columns(parameters, c):
        packed = pack_column(rows, weights, c)
        words.append(packed)
        starts.append(start if len(packed) else 0)
        counts.append(len(packed))
        start += len(packed)
    if start > c.weight_words:
        raise InputError(f"the network needs {-(-start * c.word_bits // 8)} bytes of weight memory, the store has "
                         f"{c.weight_bytes}; prune further, or compile with --weight-bytes")
    columns = np.array(starts, np.uint64) | np.array(counts, np.uint64) << np.uint64(c.start_bits)
    sections = {section.name: section for section in memory_sections(c)}
    memories = {
        "weights": _to_words(np.concatenate(words), c.entry_bits),
        "columns": b"".join(int(column).to_bytes(sections["columns"].word_bytes, "little") for column in columns),
        "embedding": parameters.embedding.astype(np.int8).tobytes(),
        "bias": b"".join(
            _to_words(_row_major(layer.bias).reshape(-1, 3).astype(np.uint32), c.accumulator_bits)
            for layer in parameters.layers),
        "threshold": np.concatenate([layer.threshold for layer in parameters.layers]).astype("<u2").tobytes(),
        "shift": bytes(shift for layer in parameters.layers for shift in layer.shift),
    }
    readout = b"" if parameters.readout_weight is None else parameters.readout_weight.astype(np.int8).tobytes()
    return Image(configuration=c, memories=memories, vocabulary_kind=parameters.vocabulary.kind,
                 vocabulary=parameters.vocabulary.to_bytes(), readout_fraction=parameters.readout_fraction,
                 readout_bias=parameters.readout_bias.astype("<i4").tobytes(), readout_weight=readout)


def read_image(image):
    """The integer network that an image was compiled from, to the bit.

    Parameters
    ----------
    image : Image

    Returns
    -------
    IntegerParameters

    Raises
    ------
    InputError
        A memory's content could not have been compiled.
    """
    c = image.configuration
    sections = {section.name: section for section in memory_sections(c)}
    entries = _from_words(image.memories["weights"], sections["weights"].word_bytes, c.lanes, c.entry_bits)
    width = sections["columns"].word_bytes
    columns = [int.from_bytes(image.memories["columns"][at:at + width], "little")
               for at in range(0, width * c.columns, width)]
    bias = _from_words(image.memories["bias"], sections["bias"].word_bytes, 3, c.accumulator_bits).ravel()
    bias = (bias << (32 - c.accumulator_bits)).view(np.int32) >> (32 - c.accumulator_bits)
    threshold = np.frombuffer(image.memories["threshold"], "<u2").astype(np.int32)
    layers = []
    for number, size in enumerate(c.hidden):
        base, neuron = c.column_base[number], c.neuron_base[number]
        matrices = {segment: np.zeros((3 * size, sources), np.int8)
                    for segment, sources in (("x", c.inputs(number)), ("y", size), ("s", size))}
        for segment, matrix in matrices.items():
            for source in range(matrix.shape[1]):
                column = columns[base[segment] + source]
                start, count = column & ((1 << c.start_bits) - 1), column >> c.start_bits
                if start + count > len(entries):
                    raise InputError(f"image: column {base[segment] + source} ends behind the last weight word")
                rows, weights = _unpack(entries[start:start + count])
                if len(rows) and rows.max() >= 3 * size:
                    raise InputError(f"image: column {base[segment] + source} has row {rows.max()}; "
                                     f"layer {number} has {3 * size}")
                matrix[rows, source] = weights
        layers.append(IntegerLayer(
            _gate_major(matrices["x"]), _gate_major(matrices["y"] + matrices["s"]),
            _gate_major(bias[3 * neuron:3 * (neuron + size)]), threshold[neuron:neuron + size],
            tuple(image.memories["shift"][3 * number:3 * number + 3])))
    readout = None
    if image.readout_weight:
        readout = np.frombuffer(image.readout_weight, np.int8).reshape(c.vocabulary, c.hidden[-1])
    return IntegerParameters(
        vocabulary=Vocabulary.from_bytes(image.vocabulary, image.vocabulary_kind, "image"),
        embedding=np.frombuffer(image.memories["embedding"], np.int8).reshape(c.vocabulary, c.embedding),
        layers=tuple(layers), readout_weight=readout,
        readout_bias=np.frombuffer(image.readout_bias, "<i4").astype(np.int32),
        readout_fraction=image.readout_fraction, accumulator_bits=c.accumulator_bits,
        gate_index_bits=c.gate_index_bits)


def _unpack(entries):
    """Rows and weights of packed entries, without the empty ones."""
    weights = (entries & ((1 << WEIGHT_BITS) - 1)).astype(np.uint8).view(np.int8)
    used = weights != 0
    return (entries >> WEIGHT_BITS)[used].astype(np.int64), weights[used]
