"""Packing the read-out: the head and each group of words as columns of one length.

The rows of a matrix of the read-out are its entries. Few of its weights are zero, so that runs would only take room,
and a pointer for each column would take more memory than it saves. So every weight is stored, zeros too, and all
columns of a matrix have the same number of words: column j begins j times as many words behind the first one. Entry i
is in bank i mod B at address i // B of the matrix's place. Lane l takes the entries in its own two banks, 2 l and
2 l + 1, of one address after another. With weights of 4 bits a word holds both: the second code is where others have a
run, and the word is sent twice.
"""

from dataclasses import dataclass

import numpy as np

from egret.model.arithmetic import CODEBOOK
from egret.model.compiler.configuration import Configuration, ReadoutShape
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import word_layouts
from egret.model.errors import InputError
from egret.model.integer import IntegerNetwork
from egret.model.readout import SCORE_FRACTION, IntegerGroups, ReadOut

__all__ = [
    "HOME",
    "PackedReadout",
    "pack_readout",
    "readout_bytes",
    "readout_codebook",
    "readout_shape",
    "readout_values",
    "readout_words",
    "score_shift",
    "unpack_readout",
]

HOME = 2
"""Place of a lane's first own bank among those that it reaches."""


@dataclass(frozen=True)
class PackedReadout:
    """A packed read-out.

    Attributes
    ----------
    codes : np.ndarray of uint8, shape [words, L]
        Of the weights: an even bank's, or with weights of 8 bits an even and an odd bank's in turn.
    runs : np.ndarray of uint8, shape [words, L]
        In the place of runs: the odd bank's codes, or zeros.
    starts, counts : np.ndarray of int64, shape [1 + G]
        First word of the head and of each group, and words of each of its columns.
    """

    codes: np.ndarray
    runs: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def readout_shape(readout: ReadOut) -> ReadoutShape:
    """Shape of a ``readout`` for a `Configuration`. Raises `InputError` where no core can have it."""
    return ReadoutShape(
        head=readout.head,
        groups=readout.groups,
        group_size=max(readout.sizes, default=0),
        rows=readout.rows,
    )


def readout_bytes(vocabulary: int, shape: ReadoutShape | None) -> int:
    """Bytes of block RAM, whole blocks, of a read-out's own memories in a core.

    Parameters
    ----------
    vocabulary : int
    shape : ReadoutShape or None
        None of a core without a read-out.

    Returns
    -------
    int
    """
    if shape is None:
        return 0
    # Entries in blocks of 1,024 words, two block RAMs wide; tables, scores, the list, bounds and groups.
    return 2048 * (2 * -(-(vocabulary + shape.groups * shape.rows) // 1024) + 9)


def readout_words(configuration: Configuration) -> int:
    """Words of weights that the read-out of a core of a ``configuration`` takes; 0 without one."""
    c = configuration
    groups = 0 if c.readout is None else c.readout.groups
    depth = c.readout_depth("head") + groups * c.readout_depth("group")
    return c.hidden[-1] * depth * (1 if c.weight_bits == 4 else 2)


def score_shift(network: IntegerNetwork) -> int:
    """How far a core shifts an accumulator of the read-out of a ``network`` to a score: 1 to 15.

    Raises
    ------
    InputError
        It is out of range.
    """
    shift = network.readout_fraction - SCORE_FRACTION
    if not 1 <= shift <= 15:
        raise InputError(
            f"a core makes a read-out with {SCORE_FRACTION + 1} to {SCORE_FRACTION + 15} fraction bits of a logit; "
            f"the network has {network.readout_fraction}"
        )
    return shift


def readout_values(readout: ReadOut) -> np.ndarray:
    """The different non-zero weights of a ``readout``, rising: int8."""
    values = np.unique(np.concatenate([np.unique(weight) for weight in readout.weights]))
    return values[values != 0]


def readout_codebook(readout: ReadOut, weight_bits: int) -> np.ndarray | None:
    """The non-zero weights of a read-out, rising, for a core with weights of 4 bits.

    Parameters
    ----------
    readout : ReadOut
    weight_bits : int
        Of the core.

    Returns
    -------
    np.ndarray of int8 or None
        None where weights have 8 bits.

    Raises
    ------
    InputError
        There are more than `CODEBOOK`.
    """
    if weight_bits == 8:
        return None
    values = readout_values(readout)
    if len(values) > CODEBOOK:
        raise InputError(
            f"a core with 4-bit weights has {CODEBOOK} values for the read-out; the network has {len(values)}: "
            "quantise it with a codebook for the read-out"
        )
    return values


def pack_readout(readout: ReadOut, configuration: Configuration) -> PackedReadout:
    """Deal the weights of a read-out out to words.

    Parameters
    ----------
    readout : ReadOut
    configuration : Configuration
        With its shape.

    Returns
    -------
    PackedReadout

    Raises
    ------
    InputError
        It has more values than weights of 4 bits can have.
    """
    c, codebook = configuration, readout_codebook(readout, configuration.weight_bits)
    parts = []
    for matrix, weight in enumerate(readout.weights):
        depth = c.readout_depth("group" if matrix else "head")
        whole = np.zeros((depth * c.banks, weight.shape[1]), np.int8)
        whole[: len(weight)] = weight
        codes = whole.astype(np.uint8)
        if codebook is not None:
            codes = np.where(whole == 0, 0, 1 + np.searchsorted(codebook, whole)).astype(np.uint8)
        # Columns of words of lanes, each with an entry for its even and its odd bank.
        pairs = codes.T.reshape(weight.shape[1], depth, c.lanes, 2)
        if codebook is None:
            pairs = np.stack([pairs.swapaxes(2, 3), np.zeros_like(pairs).swapaxes(2, 3)], axis=-1)
        parts.append(pairs.reshape(-1, c.lanes, 2))
    counts = np.array([len(part) // readout.weights[0].shape[1] for part in parts])
    sizes = np.array([len(part) for part in parts])
    words = np.concatenate(parts)
    return PackedReadout(words[:, :, 0], words[:, :, 1], np.cumsum(sizes) - sizes, counts)


def unpack_readout(image: Image) -> IntegerGroups | None:
    """How the read-out of an image divides the words, and the rows that stand for groups; None without groups.

    Parameters
    ----------
    image : Image
        Of a core that makes the read-out.

    Returns
    -------
    IntegerGroups or None
        With biases that make the very scores, and weights as the core has them.

    Raises
    ------
    InputError
        The memories do not hold a read-out.
    """
    c, memories, layouts = image.configuration, image.memories, word_layouts(image.configuration)
    assert c.readout is not None
    if not c.readout.groups:
        return None
    groups, entries = (layouts[name].unpack(memories[name]) for name in ("groups", "entries"))
    rows = slice(c.readout.head, c.readout.entries)
    shift = int(layouts["shift"].unpack(memories["shift"])["shift"][-1])
    order = np.concatenate([entries["word"][: rows.start], entries["word"][rows.stop :]])
    start, count = int(groups["start"][0]) - c.resident_words, int(groups["count"][0])
    words = layouts["weights"].unpack(memories["weights"])["entries"]
    sources, depth = c.hidden[-1], c.readout_depth("head")
    own = slice(start, start + sources * count)
    codes = words["code"][own]
    if count != depth * (1 if c.weight_bits == 4 else 2) or len(codes) != sources * count:
        raise InputError("image: the head of its read-out is not as long as its entries take, or is cut")
    if c.weight_bits == 4:
        codes = np.stack([codes, words["run"][own]], axis=-1)  # [words, L, 2]
        book = layouts["codebook"].unpack(memories["codebook"])["weight"].astype(np.int8)
        values = book[c.readout_matrix("head") * (CODEBOOK + 1) + codes]
    else:
        values = codes.astype(np.uint8).view(np.int8).reshape(-1, 2, c.lanes).swapaxes(1, 2)
    weight = values.reshape(sources, depth * c.banks).T
    return IntegerGroups(
        order=order.astype(np.int32),
        head=c.readout.head,
        sizes=tuple(groups["size"][1:].tolist()),
        rows=c.readout.rows,
        weight=weight[rows].copy(),
        bias=(entries["bias"][rows] << shift).astype(np.int32),
    )
