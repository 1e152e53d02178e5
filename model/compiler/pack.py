"""Packing: the columns of a matrix dealt out to the words of the weight memory.

A column holds the non-zero weights of one source: an input x_j (rows of u, r, z), an event y'_j (rows of u, r; with
reset "after" of z, too) or a reset value s_j (rows of z). Its entries are sorted by position, that is by accumulator
bank and then by address, and cut into as many pieces as there are lanes, one a lane, so that

- each piece fits W words, W being the same for all lanes and as small as possible,
- lane l's piece lies in the `WINDOW` banks around its own two, 2 l and 2 l + 1,
- no two lanes have an entry for one bank in the same word.

A lane meets its entries in rising order of position, so an entry needs only the run of positions before it; a run that
is too long for its field is cut by entries without a weight. Where a lane begins is stored beside the column's pointer.
How wide the field is, is chosen for each matrix; the matrices lie in the weight memory in falling order of that width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import (
    RUN_BITS,
    WIDEST_RUN,
    WINDOW,
    Configuration,
    first_bank,
)
from egret.model.integer import IntegerNetwork

__all__ = [
    "SKIP",
    "SPEED_SHARE",
    "Matrix",
    "Packed",
    "farthest",
    "matrices",
    "most_values",
    "pack_matrices",
    "pack_matrix",
    "row_positions",
    "widest",
    "words_by_width",
]

SKIP = 1 << RUN_BITS
"""Positions that an entry without a weight goes on by, or a multiple of it."""
SPEED_SHARE = 1.002
"""Of the fewest words: what narrower runs may cost when the goal is speed."""

Packed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A packed matrix: weights, runs, counts and starts, as `pack_matrix` says."""


@dataclass(frozen=True)
class Matrix:
    """The non-zero weights of one matrix of a layer, sorted by source and position.

    Attributes
    ----------
    layer : int
    kind : str
        Of `MATRIX_KINDS`.
    span : int
        Positions of a bank.
    sources : int
        Number of columns.
    source, position, weight : np.ndarray of int, shape [n]
        Of each weight: its column, bank * span + address, and value.
    """

    layer: int
    kind: str
    span: int
    sources: int
    source: np.ndarray
    position: np.ndarray
    weight: np.ndarray

    def slots(self, run_bits: int) -> int:
        """About how many slots the lanes need with runs of ``run_bits``: entries, and skips (save a lane's first)."""
        skips = _skips(np.diff(self.position), self.span, run_bits)
        same = np.diff(self.source) == 0
        return len(self.source) + int(skips[same].sum())


def row_positions(configuration: Configuration, layer: int, kind: str) -> np.ndarray:
    """Position of each row of a layer's stacked weights within one of its matrices.

    Parameters
    ----------
    configuration : Configuration
    layer : int
    kind : str
        Of `MATRIX_KINDS`.

    Returns
    -------
    np.ndarray of int64, shape [3H]
        -1 where the matrix has no such row.
    """
    c, size = configuration, configuration.hidden[layer]
    positions = np.full(3 * size, -1)
    for gate in c.matrix_gates(kind):
        bank, address = c.place(layer, gate, np.arange(size))
        row = min(gate, GATES.index("z")) * size
        positions[row : row + size] = bank * c.matrix_span(layer, kind) + address - c.matrix_offset(layer, kind)
    return positions


def matrices(network: IntegerNetwork, configuration: Configuration) -> list[Matrix]:
    """All matrices of a ``network`` on a core of some ``configuration``, in the order of their columns."""
    result = []
    for number, layer in enumerate(network.layers):
        for kind in configuration.matrix_kinds:
            weights = layer.weight_x if kind == "x" else layer.weight_y
            positions = row_positions(configuration, number, kind)
            rows = np.argsort(positions, kind="stable")[np.count_nonzero(positions < 0) :]
            sources, places = np.nonzero(weights[rows].T)
            result.append(
                Matrix(
                    number,
                    kind,
                    configuration.matrix_span(number, kind),
                    weights.shape[1],
                    sources,
                    positions[rows[places]],
                    weights[rows[places], sources],
                )
            )
    return result


def most_values(network: IntegerNetwork) -> int:
    """Most non-zero values that a matrix of the ``network`` has."""
    parts = []
    for layer, size in zip(network.layers, network.hidden, strict=True):
        parts += [layer.weight_x, *np.split(layer.weight_y, [2 * size] if network.reset == "before" else [])]
    return max(int(np.count_nonzero(np.unique(part))) for part in parts)


def _skips(distance, span, run_bits):
    """Entries without a weight that it takes to go on by some distances (0 or more) with runs of some width."""
    return np.maximum(0, -(-(distance - (1 << run_bits)) // farthest(span, run_bits)))


def farthest(span: int, run_bits: int) -> int:
    """Positions that one entry without a weight can go on by with runs of ``run_bits``.

    It passes the ends of at most two banks, of ``span`` positions each.
    """
    return SKIP * min(1 << run_bits, 2 * span // SKIP)


def widest(span: int) -> int:
    """Bits of the widest run where a bank has ``span`` positions: in one step a lane may pass the ends of two banks."""
    return min(WIDEST_RUN, span.bit_length())


def _choose(matrix, weight_bits, lanes, goal):
    """Width of a matrix's runs that takes the least memory, or next to the fewest words; and the packed matrix."""
    widths = range(RUN_BITS, widest(matrix.span) + 1)
    if goal is None:
        return RUN_BITS, pack_matrix(matrix, RUN_BITS, lanes)
    if goal == "size":
        width = min(widths, key=lambda width: matrix.slots(width) * (weight_bits + width))
        return width, pack_matrix(matrix, width, lanes)
    width, packed = widths[-1], pack_matrix(matrix, widths[-1], lanes)
    most = SPEED_SHARE * len(packed[0])
    while width > RUN_BITS and len((narrower := pack_matrix(matrix, width - 1, lanes))[0]) <= most:
        width, packed = width - 1, narrower
    return width, packed


def pack_matrices(
    parts: Sequence[Matrix], weight_bits: int, lanes: int, goal: str | None
) -> tuple[list[int], list[Packed]]:
    """Choose the width of the runs of each matrix, and pack it.

    Parameters
    ----------
    parts : sequence of Matrix
    weight_bits, lanes : int
    goal : str or None
        Of `egret.model.compiler.configuration.GOALS`; None for the narrowest runs.

    Returns
    -------
    widths : list of int
    packed : list of Packed
    """
    chosen = [_choose(part, weight_bits, lanes, goal) for part in parts]
    return [width for width, _ in chosen], [packed for _, packed in chosen]


def words_by_width(widths: Sequence[int], packed: Sequence[Packed]) -> list[int]:
    """How many words have runs of at least 4, 5, ... 8 bits, of matrices ``packed`` with runs of ``widths`` bits."""
    return [
        sum(len(part[0]) for part, own in zip(packed, widths, strict=True) if own >= width)
        for width in range(RUN_BITS, WIDEST_RUN + 1)
    ]


def pack_matrix(matrix: Matrix, run_bits: int, lanes: int) -> Packed:
    """Deal the entries of all columns of a matrix out to words.

    Parameters
    ----------
    matrix : Matrix
    run_bits : int
        Width of a run, `RUN_BITS` to `WIDEST_RUN`, with 2^run_bits no more than two spans.
    lanes : int
        L.

    Returns
    -------
    weights : int8 [words, L]
        0 where a lane has none.
    runs : uint8 [words, L]
    counts : int64 [sources]
        Words of each column; they follow each other.
    starts : int64 [sources, L, 2]
        Where each lane begins: bank, counted from the first one of its window, and address in steps of 2^`RUN_BITS`.
    """
    total, span = len(matrix.source), matrix.span
    ends = np.searchsorted(matrix.source, np.arange(matrix.sources), side="right")
    begins = np.concatenate([[0], ends[:-1]])
    distance = np.diff(matrix.position, prepend=0)
    skips = _skips(distance, span, run_bits)
    cost = np.cumsum(1 + skips)  # slots up to and with each entry
    bank = matrix.position // span
    key = matrix.source * (2 * lanes) + bank
    counts = -(-(ends - begins) // lanes)
    first = np.zeros((matrix.sources, lanes + 1), np.int64)  # entry with which each lane begins
    open_columns = np.flatnonzero(counts)
    while len(open_columns):
        columns = open_columns
        place, end, words = begins[columns].copy(), ends[columns], counts[columns]
        good = np.ones(len(columns), bool)
        for lane in range(lanes):
            first[columns, lane] = place
            low, high = first_bank(lane), first_bank(lane) + WINDOW - 1
            entry = np.minimum(place, total - 1)
            mine = (place < end) & (bank[entry] <= high)
            good &= ~mine | (bank[entry] >= low)
            fits = np.searchsorted(cost, cost[entry] - 1 + words, side="right")
            reach = np.searchsorted(key, columns * (2 * lanes) + high, side="right")
            place = np.where(mine, np.minimum(np.minimum(fits, reach), end), place)
        first[columns, lanes] = place
        good &= place == end
        # No bank twice in a word.
        entries, lane, slot = _slots(columns[good], begins, ends, first, cost)
        word = np.stack([matrix.source[entries], slot, bank[entries]])
        order = np.lexsort(word)
        twice = (np.diff(word[:, order]) == 0).all(axis=0)
        good[np.isin(columns, word[0, order][:-1][twice])] = False
        open_columns = columns[~good]
        counts[open_columns] += 1

    used = np.flatnonzero(counts)
    entries, lane, slot = _slots(used, begins, ends, first, cost)
    base = np.cumsum(counts) - counts
    place = base[matrix.source[entries]] + slot
    weights = np.zeros((int(counts.sum()), lanes), np.int8)
    runs = np.zeros(weights.shape, np.uint8)
    is_first = first[matrix.source[entries], lane] == entries
    weights[place, lane] = matrix.weight[entries]
    # An entry's skips lie in the slots before it; each goes as far as it may, the last one so that a run remains.
    most = farthest(span, run_bits)
    left = np.where(is_first, 1 + matrix.position[entries] % span % SKIP, distance[entries])
    count = np.where(is_first, 0, skips[entries])
    while (more := np.flatnonzero(count)).size:
        last = count[more] == 1
        jump = np.where(last, -(-(left[more] - (1 << run_bits)) // SKIP) * SKIP, most)
        runs[place[more] - count[more], lane[more]] = jump // SKIP - 1
        left[more] -= jump
        count[more] -= 1
    runs[place, lane] = left - 1
    starts = np.zeros((matrix.sources, lanes, 2), np.int64)
    begin = np.flatnonzero(is_first)
    at = matrix.position[entries[begin]]
    starts[matrix.source[entries[begin]], lane[begin], 0] = at // span - first_bank(lane[begin])
    starts[matrix.source[entries[begin]], lane[begin], 1] = at % span // SKIP
    return weights, runs, counts, starts


def _slots(columns, begins, ends, first, cost):
    """Entries of some columns, the lane that each was dealt to, and its place among the lane's slots."""
    sizes = ends[columns] - begins[columns]
    entries = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins[columns], sizes)
    owner = np.repeat(columns, sizes)
    lane = (first[owner, 1:] <= entries[:, None]).sum(axis=1)
    return entries, lane, cost[entries] - cost[first[owner, lane]]
