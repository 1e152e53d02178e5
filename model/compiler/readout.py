"""Packing the read-out: the head and each group of words as columns of one length.

The rows of a matrix of the read-out are its entries. Few of its weights are zero, and a pointer for each of its columns
would take more memory than it saves. So all columns of a matrix have the same number of words, and column j begins j
times as many words behind the first one. Entry i is in bank i mod B at address i // B of the matrix's place. Lane l
takes the entries in its own two banks, 2 l and 2 l + 1, and begins at the first address of the first one.
"""

from dataclasses import dataclass

import numpy as np

from egret.model.arithmetic import CODEBOOK
from egret.model.compiler.configuration import RUN_BITS, Configuration, ReadoutShape
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import word_layouts
from egret.model.compiler.pack import SKIP, farthest
from egret.model.errors import InputError
from egret.model.integer import IntegerNetwork
from egret.model.readout import SCORE_FRACTION, IntegerGroups, ReadOut

__all__ = [
    "HOME",
    "PackedReadout",
    "pack_readout",
    "readout_codebook",
    "readout_shape",
    "readout_values",
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
    weights : np.ndarray of int8, shape [words, L]
        0 where a lane has none.
    runs : np.ndarray of uint8, shape [words, L]
    starts, counts : np.ndarray of int64, shape [1 + G]
        First word of the head and of each group, and words of each of its columns.
    """

    weights: np.ndarray
    runs: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def readout_shape(readout: ReadOut) -> ReadoutShape:
    """Shape of a read-out for a `Configuration`. Raises `InputError` where no core can have it."""
    return ReadoutShape(
        head=readout.head,
        groups=readout.groups,
        group_size=max(readout.sizes, default=0),
        rows=readout.rows,
    )


def score_shift(network: IntegerNetwork) -> int:
    """How far a core shifts an accumulator of the read-out to a score: 1 to 15.

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
    """The different non-zero weights of a read-out, rising: int8."""
    values = np.unique(np.concatenate([np.unique(weight) for weight in readout.weights]))
    return values[values != 0]


def readout_codebook(readout: ReadOut, weight_bits: int) -> np.ndarray | None:
    """The non-zero weights of a read-out, rising, where weights have 4 bits.

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
    """
    parts = [
        _pack_matrix(weight, configuration, "group" if matrix else "head")
        for matrix, weight in enumerate(readout.weights)
    ]
    counts = np.array([words for _, _, words in parts])
    sizes = np.array([len(weights) for weights, _, _ in parts])
    return PackedReadout(
        np.concatenate([weights for weights, _, _ in parts]),
        np.concatenate([runs for _, runs, _ in parts]),
        np.cumsum(sizes) - sizes,
        counts,
    )


def _pack_matrix(weight, c, kind):
    """Weights and runs of the words of a matrix [N, H], column by column; and words of a column."""
    span, sources = c.readout_span(kind), weight.shape[1]
    entries = np.arange(len(weight))
    bank, address = entries % c.banks, entries // c.banks
    order = np.lexsort((address, bank))
    lane, position = bank[order] // 2, bank[order] % 2 * span + address[order]
    # All weights that are not zero, sorted by column, lane and position.
    source, row = np.nonzero(weight[order].T)
    lanes, positions, values = lane[row], position[row], weight[order[row], source]
    owner = source * c.lanes + lanes
    is_first = np.diff(owner, prepend=-1) != 0
    # A lane whose first weight is farther than a run reaches goes to the end of that run first.
    late = is_first & (positions >= SKIP)
    distance = np.where(is_first, np.where(late, positions - SKIP + 1, positions + 1), np.diff(positions, prepend=0))
    most = farthest(span, RUN_BITS)
    skips = np.maximum(0, -(-(distance - SKIP) // most))
    cost = np.cumsum(1 + skips + late)
    before = np.where(is_first, cost - (1 + skips + late), 0)
    before = np.maximum.accumulate(before)
    slot = cost - before - 1  # of each weight in its lane's column
    words = int(slot.max(initial=0)) + 1
    weights = np.zeros((sources * words, c.lanes), np.int8)
    runs = np.zeros(weights.shape, np.uint8)
    place = source * words + slot
    weights[place, lanes] = values
    runs[(place - skips - 1)[late], lanes[late]] = SKIP - 1
    # As in `egret.model.compiler.pack`: each skip goes as far as it may, the last one so that a run remains.
    left, count = distance.copy(), skips.copy()
    while (more := np.flatnonzero(count)).size:
        last = count[more] == 1
        jump = np.where(last, -(-(left[more] - SKIP) // SKIP) * SKIP, most)
        runs[place[more] - count[more], lanes[more]] = jump // SKIP - 1
        left[more] -= jump
        count[more] -= 1
    runs[place, lanes] = left - 1
    return weights, runs, words


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
    sources, span = c.hidden[-1], c.readout_span("head")
    own = slice(start, start + sources * count)
    code, run = (words[name][own].reshape(sources, -1, c.lanes) for name in ("code", "run"))
    if code.shape[1] != count:
        raise InputError("image: the head of its read-out ends behind the last weight word")
    step = np.where(code != 0, run + 1, (run + 1) * SKIP)
    step[:, 0] = run[:, 0]
    position = np.cumsum(step, axis=1)
    entry = position % span * c.banks + 2 * np.arange(c.lanes) + position // span
    source, word, lane = np.nonzero(code)
    if (entry[source, word, lane] >= c.readout.entries).any() or (position[source, word, lane] >= 2 * span).any():
        raise InputError("image: the head of its read-out has a weight where no entry is")
    if c.weight_bits == 4:
        book = layouts["codebook"].unpack(memories["codebook"])["weight"].astype(np.int8)
        values = book[c.readout_matrix("head") * (CODEBOOK + 1) + code]
    else:
        values = code.astype(np.uint8).view(np.int8)
    weight = np.zeros((c.readout.entries, sources), np.int8)
    weight[entry[source, word, lane], source] = values[source, word, lane]
    return IntegerGroups(
        order=order.astype(np.int32),
        head=c.readout.head,
        sizes=tuple(groups["size"][1:].tolist()),
        rows=c.readout.rows,
        weight=weight[rows],
        bias=(entries["bias"][rows] << shift).astype(np.int32),
    )
