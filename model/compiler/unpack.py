"""Unpacking: the integer network that an image was compiled from, and what its columns take."""

import numpy as np

from egret.model.arithmetic import CODEBOOK, GATES, INNER, WEIGHT_BITS
from egret.model.compiler.configuration import RUN_BITS, WINDOW, first_bank
from egret.model.compiler.folded import folded_rows, row_words
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import word_layouts
from egret.model.compiler.pack import SKIP, row_positions
from egret.model.compiler.readout import unpack_readout
from egret.model.errors import InputError
from egret.model.files import check_unpacked
from egret.model.integer import IntegerLayer, IntegerNetwork
from egret.model.tokens import Vocabulary

__all__ = ["column_bytes", "column_words", "read_image"]


def read_image(image: Image) -> IntegerNetwork:
    """The integer network that an image was compiled from.

    Parameters
    ----------
    image : Image

    Returns
    -------
    IntegerNetwork

    Raises
    ------
    InputError
        The memories do not hold a network.
    """
    c, memories, layouts = image.configuration, image.memories, word_layouts(image.configuration)
    entries = layouts["weights"].unpack(memories.get("resident", b"") + memories["weights"])["entries"]
    for bit in range(RUN_BITS, c.run_bits):
        wide = layouts[f"run_{bit}"].unpack(memories[f"run_{bit}"])["bits"]
        entries["run"][: len(wide)] |= wide << bit
    pointers = layouts["columns"].unpack(memories["columns"])
    # So a small image becomes no large network: columns that lie upon each other would, and empty ones of many neurons.
    if (total := int(pointers["count"].astype(np.int64).sum())) > len(entries["code"]):
        raise InputError(f"image: its columns have {total} words together, and there are {len(entries['code'])}")
    weights = sum(3 * size * (c.inputs(layer) + size) for layer, size in enumerate(c.hidden))
    check_unpacked(weights, sum(map(len, memories.values())))
    thresholds = layouts["threshold"].unpack(memories["threshold"])["threshold"].astype(np.int32)
    bias = layouts["bias"].unpack(memories["bias"])
    biases = np.stack([bias[gate] for gate in GATES]).astype(np.int32)
    shifts = layouts["shift"].unpack(memories["shift"])["shift"][: len(GATES) * c.layers].reshape(c.layers, len(GATES))
    if c.weight_bits == 4:
        codebooks = layouts["codebook"].unpack(memories["codebook"])["weight"].reshape(-1, CODEBOOK + 1)
    else:
        # A code is the weight.
        every = np.arange(1 << WEIGHT_BITS).astype(np.uint8).view(np.int8)
        codebooks = np.broadcast_to(every, (len(c.matrix_kinds) * c.layers, len(every)))
    readout_codebook = None
    if c.readout is not None and c.weight_bits == 4:
        readout_codebook = codebooks[c.readout_matrix("head")]
        readout_codebook = readout_codebook[readout_codebook != 0].astype(np.int8)
    layers, column, codebook = [], 0, iter(codebooks.astype(np.int8))
    for number, size in enumerate(c.hidden):
        weight = {"x": np.zeros((3 * size, c.inputs(number)), np.int8), "y": np.zeros((3 * size, size), np.int8)}
        weight["s"] = weight["y"]
        for kind in c.matrix_kinds:
            own = slice(column, column := column + weight[kind].shape[1])
            _unpack_columns(entries, pointers, own, next(codebook), weight[kind], c, number, kind)
        base = c.neuron_base[number]
        u, r, z = map(int, shifts[number])
        layers.append(
            IntegerLayer(
                weight["x"],
                weight["y"],
                biases[:, base : base + size].ravel(),
                thresholds[base : base + size],
                (u, r, z),
                bias[INNER][base : base + size].astype(np.int32) if INNER in bias else None,
            )
        )
    readout = None
    if image.readout_weight:
        readout = np.frombuffer(image.readout_weight, np.int8).reshape(-1, c.hidden[-1])
    embedding = layouts["embedding"].unpack(memories.get("embedding", b""))["value"].astype(np.int8)
    network = IntegerNetwork(
        vocabulary=Vocabulary.from_bytes(image.vocabulary, image.vocabulary_kind, "image")
        if image.vocabulary
        else None,
        embedding=embedding.reshape(c.vocabulary, -1 if c.vocabulary else c.embedding)[:, : c.embedding],
        layers=tuple(layers),
        readout_weight=readout,
        readout_bias=np.frombuffer(image.readout_bias, "<i4").astype(np.int32) if image.readout_bias else None,
        readout_fraction=image.readout_fraction,
        accumulator_bits=c.accumulator_bits,
        gate_index_bits=c.gate_index_bits,
        groups=None if c.readout is None else unpack_readout(image),
        readout_codebook=readout_codebook,
    )
    if c.folded_tokens and memories["rows"] != row_words(folded_rows(network, c.folded_tokens), c):
        raise InputError("image: the folded rows are not those of its embedding and weights")
    return network


def column_words(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """First word of each column of an ``image``, and how many words it has: two arrays of int, [columns]."""
    pointers = word_layouts(image.configuration)["columns"].unpack(image.memories["columns"])
    return pointers["start"], pointers["count"]


def column_bytes(image: Image) -> np.ndarray:
    """Bytes of the words and of the pointer of each column of an ``image``: float64 [columns]."""
    c = image.configuration
    start, count = column_words(image)
    bits = np.full(len(start), c.narrow_bits)
    for words in c.wide_words:
        bits += start < words
    return (count * bits * c.lanes + word_layouts(c)["columns"].bits) / 8


def _unpack_columns(entries, pointers, columns, codebook, weights, c, layer, kind):
    """Walk over some columns as the lanes do, and set ``weights``, the rows of their matrix in the stacked one."""
    codes, runs = entries["code"], entries["run"]
    start, count = pointers["start"][columns], pointers["count"][columns]
    if (wrong := np.flatnonzero(start + count > len(codes))).size:
        raise InputError(f"image: column {columns.start + wrong[0]} ends behind the last weight word")
    span = c.matrix_span(layer, kind)
    begins = (pointers["begins"]["bank"] * span + pointers["begins"]["block"] * SKIP)[columns]
    rows = np.full((c.banks + WINDOW) * span, -1)
    positions = row_positions(c, layer, kind)
    rows[positions[positions >= 0]] = np.flatnonzero(positions >= 0)
    owner = np.repeat(np.arange(len(start)), count)
    word = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    is_first, word = word == 0, word + start[owner]
    for lane in range(c.lanes):
        code, run = codes[word, lane], runs[word, lane]
        step = np.where(code != 0, run + 1, (run + 1) * SKIP)
        begin = begins[owner, lane] + first_bank(lane) * span
        # A running sum that begins anew with each column, whose first word knows narrow runs only.
        step = np.where(is_first, run % SKIP, step)
        total = np.cumsum(step)
        place = begin + total - np.repeat((total - step)[is_first], count[count > 0])
        used = code != 0
        row = rows[np.clip(place[used], 0, len(rows) - 1)]
        if (wrong := np.flatnonzero((row < 0) | (place[used] < 0) | (place[used] >= len(rows)))).size:
            raise InputError(
                f"image: column {columns.start + owner[used][wrong[0]]} has a weight at position "
                f"{place[used][wrong[0]]} of layer {layer}, matrix {kind}, where no row is"
            )
        weights[row, owner[used]] = codebook[code[used]]
