"""An analytic model of what a token costs: cycles, bytes read, and bytes of the memories.

Of a network it knows what the columns hold and how often each is taken, of a core the lanes and the memory (`Work`):

- `words_of` tells the words that columns take. Nothing in it is fitted. A column of k weights needs the larger of its
  slots over the lanes, rounded up, and of the weights in its fullest bank, as a word may add to a bank once. Slots are
  weights, and entries that bridge long runs of zeros.
- `cycles` adds the phases of a step up. Each is as long as its words or, where that is more, what the words wait for: a
  memory, save for the words that are in block RAM beside it; an element of the embedding a cycle; the gates of a reset
  pass; the update pass beside it. Its five `Constants` are fitted by `bench.scaling` (docs/scaling.md).
- Of a read-out that the core makes, columns are whole, and scores are walked over twice: nothing is fitted there.
"""

import json
from dataclasses import dataclass
from math import ceil, lgamma
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from egret.host.cost.work import Columns, ReadoutWork, Work
from egret.host.speed import STEPS_OF_EVENTS, Speed
from egret.model.compiler.configuration import DDR3_RATIO, MATRIX_KINDS, RUN_BITS, SDRAM_BITS, pointer_bits
from egret.model.compiler.layouts import pointer_layout
from egret.model.compiler.pack import SPEED_SHARE, farthest, widest
from egret.model.compiler.readout import readout_bytes
from egret.rtl.ddr3_timing import PARTS

if TYPE_CHECKING:
    from egret.boards.definition import BoardDefinition

__all__ = [
    "FITTED",
    "READING",
    "Constants",
    "Words",
    "board_speed",
    "cycles",
    "depth_of",
    "link_bytes",
    "packed",
    "traffic",
    "words_of",
]

_ESCAPED = 1.02
"""What escapes add to a frame's bytes, about."""


@dataclass(frozen=True)
class Constants:
    """What is fitted, in cycles.

    Parameters
    ----------
    layer : float
        A layer that nothing hides: pipelines that fill and empty between its phases.
    passes : float
        Neurons of the update pass, not cycles, that find their banks free while a column's words are added; the others
        wait for the lanes to stop.
    gate : float
        From a request of a gate to its place being free again; `Configuration.in_flight` are under way at once, so
        that this sets the pace of the update pass and of the reset pass where lanes are few; otherwise it is 1 a cycle.
    burst : float
        Lost a burst of an SDRAM, refreshes included. What these cost a DDR3 is known, and comes on top.
    gaps : float
        Further neurons, not cycles, that pass a column in the gaps between the bursts of an SDRAM.
    """

    layer: float = 60.0
    passes: float = 2.0
    gate: float = 25.0
    burst: float = 3.0
    gaps: float = 2.0


FITTED = Constants(**json.loads((Path(__file__).parent / "constants.json").read_text())["constants"])
"""What `bench.scaling` fitted to its runs; ``constants.json`` says how."""

READING = 55.0
"""Cycles that a matrix of the read-out takes beside those of its columns and scores: pipelines and a logarithm."""

Words = list[list[tuple[np.ndarray, int]]]
"""Of each layer and matrix: words of its columns, and bits of its runs."""


def depth_of(size: int, lanes: int, matrix: str, *, after: bool = False) -> tuple[int, int]:
    """Addresses of a bank that ``matrix`` of ``size`` neurons takes on so many ``lanes``, and the span of its runs.

    With reset "after" y has the rows of s, too.
    """
    pair, candidate = -(-size // lanes), -(-size // (2 * lanes))
    depth = {"x": pair + candidate, "y": pair + candidate * after, "s": candidate}[matrix]
    return depth, max(depth, 1 << RUN_BITS)


def words_of(columns: Columns, lanes: int, depth: int, run_bits: int) -> np.ndarray:
    """Words of columns whose weights lie at random.

    Parameters
    ----------
    columns : Columns
    lanes, depth : int
        Lanes, and addresses of a bank for these rows.
    run_bits : int
        Of an entry, for the distance to the next one.

    Returns
    -------
    np.ndarray of float, shape [n]
    """
    banks, span, weights = 2 * lanes, max(depth, 1 << RUN_BITS), columns.weights
    # The distance to the next weight is geometric; what it is beyond a run is bridged, save at a lane's beginning.
    bridges = np.zeros_like(weights)
    for of_rows, of_weights in columns.regions:
        stays = np.log1p(-_share(weights * of_weights / (columns.rows * of_rows))) * columns.rows / (banks * span)
        bridges += of_weights * np.exp(stays * (1 << run_bits)) / -np.expm1(stays * farthest(span, run_bits))
    bridges *= np.maximum(weights - lanes, 0)
    more = bridges % 1  # how often there is one bridge more than the whole ones
    slots = weights + np.floor(bridges)
    even, plus = (np.ceil(np.round((slots + one) / lanes, 6)) for one in (0, 1))
    even = (1 - more) * even + more * plus
    # The fullest bank: the largest of so many binomial numbers, which decides only where a bank has few weights.
    words, few = even.copy(), weights / banks < 60
    if few.any():
        count = np.arange(depth + 1)
        ways = np.array([lgamma(depth + 1) - lgamma(one + 1) - lgamma(depth - one + 1) for one in count])
        share = _share(weights[few, None] / columns.rows)
        most = np.cumsum(np.exp(ways + count * np.log(share) + (depth - count) * np.log1p(-share)), axis=1)
        beyond = 1 - np.minimum(most, 1) ** banks  # that the fullest bank has more than ``count``
        words[few] += (beyond * np.clip(count + 1 - even[few, None], 0, 1)).sum(axis=1)
    return np.where(weights > 0, np.minimum(words, np.maximum(even, weights)), 0)


def _share(density: np.ndarray) -> np.ndarray:
    return np.clip(density, 1e-9, 1 - 1e-9)


def packed(work: Work) -> Words:
    """Words of the columns of each matrix of ``work``, and the bits of its runs."""
    result = []
    for size, layer in zip(work.hidden, work.matrices, strict=True):
        result.append([])
        for matrix, columns in zip(MATRIX_KINDS, layer, strict=False):
            depth, span = depth_of(round(size), work.lanes, matrix, after=len(layer) == 2)

            def words(bits: int, columns: Columns = columns, depth: int = depth) -> np.ndarray:
                return words_of(columns, work.lanes, depth, bits)

            bits = widest(span) if work.store == "bram" else RUN_BITS
            best = words(bits)
            most = SPEED_SHARE * columns.number @ best
            while bits > RUN_BITS and columns.number @ (narrower := words(bits - 1)) <= most:
                bits, best = bits - 1, narrower
            result[-1].append((best, bits))
    return result


def cycles(work: Work, constants: Constants = FITTED, words: Words | None = None) -> float:
    """Cycles of a token.

    Parameters
    ----------
    work : Work
    constants : Constants
    words : list, optional
        What `packed` says, where that is known already.

    Returns
    -------
    float
    """
    k, in_flight = constants, min(4 * work.lanes, 32)
    words = words or packed(work)
    external, entry, brings = work.store != "bram", work.lanes * (work.weight_bits + RUN_BITS), _refreshing(work)

    def takes(layer: int, matrix: int, part: float = 1.0) -> float:
        """Cycles of a phase's columns; of the share of tokens that has the phase."""
        columns, (own, _) = work.matrices[layer][matrix], words[layer][matrix]
        taken = columns.taken / part if part else 0 * columns.taken
        if external:
            share = work.resident[layer][matrix] if work.resident else 0.0
            comes = brings * float(taken @ (own * max(1, entry / work.width) + k.burst * (own > 0)))
            return max((1 - share) * comes, float(taken @ own))
        return max(float(taken @ own), float(taken.sum()))

    def inputs() -> float:
        plain = 1 - work.folded_share
        total = 0.0
        if work.folded_share:
            row = depth_of(work.hidden[0], work.lanes, "x")[0]
            if external:
                row *= max(1, -(-2 * work.lanes * work.row_bits // work.width))
            total += work.folded_share * (row + (k.burst if external else 0))
        if plain > 0:
            own = takes(0, 0, plain)
            if not work.vocabulary:
                total += plain * own
            elif external:
                row = -(-8 * work.embedding // work.width)
                total += plain * (row + k.burst + max(own, work.embedding - row))
            else:
                total += plain * max(own, work.embedding)
        return total

    gate = max(1, k.gate / in_flight)

    def waits(layer: int, *beside: float) -> float:
        """Cycles that a layer's update pass goes on after so many columns beside it."""
        passes = k.passes + (k.gaps if external else 0)
        return gate * max(0, work.hidden[layer] - passes * sum(beside))

    total, head = 0.0, 0.0
    if work.readout is not None:
        head = work.readout.counts.head_columns
        total += _readout_cycles(work, work.readout, k)
    for layer, (x, y, *s) in enumerate(work.matrices):
        total += takes(layer, 1)
        if layer:
            total += takes(layer, 0) + waits(layer - 1, y.taken.sum(), x.taken.sum())
        else:
            total += inputs() + (waits(-1, y.taken.sum(), head) if len(work.hidden) > 1 else waits(0))
        if s:
            total += max(takes(layer, 2), gate * float(y.taken.sum()))
        total += k.layer
    return total


def _readout_cycles(work: Work, readout: ReadoutWork, k: Constants) -> float:
    """Cycles of a token's log-probability behind the last layer."""
    shape, counts = readout.shape, readout.counts

    def column(entries: int) -> float:
        # Each lane's two banks in turn, or at once where the memory brings a word of both in each cycle.
        paired = work.store == "sdram" and work.weight_bits == RUN_BITS and _word_bits(work) == work.width
        sent = (1 if paired else 2) * -(-entries // (2 * work.lanes))
        if work.store == "bram":
            return sent
        return max(sent, _refreshing(work) * (_readout_words(work, entries) * _word_bits(work) / work.width + k.burst))

    scores = shape.entries + counts.groups * (shape.rows + readout.group)
    columns = counts.head_columns * column(shape.entries) + counts.group_columns * column(shape.group_size)
    return columns + 2 * scores + READING * (1 + counts.groups)


def _refreshing(work: Work) -> float:
    """Cycles a word while refreshes take their share, over those without, where `Constants` do not know it."""
    if work.width != DDR3_RATIO * SDRAM_BITS:
        return 1.0
    part = PARTS["any"]
    return part.refresh / (part.refresh - part.rfc)


def _readout_words(work: Work, entries: int) -> int:
    """Words of a column of the read-out: with weights of 4 bits each serves both banks of a lane."""
    return -(-entries // (2 * work.lanes)) * (1 if work.weight_bits == 4 else 2)


def _word_bits(work: Work) -> int:
    return work.lanes * (work.weight_bits + RUN_BITS)


def traffic(work: Work, words: Words | None = None) -> dict[str, float]:
    """What is read of the memories, and what they hold.

    Parameters
    ----------
    work : Work
    words : list, optional
        What `packed` says, where that is known already.

    Returns
    -------
    dict of str to float
        ``words`` and ``bytes`` of a token, as `egret.host.traffic.weight_bytes_per_token` counts them; ``weights``,
        ``columns``, ``embedding``, ``rows`` and ``readout``, the read-out's own: bytes of these memories; one row has
        ``row`` of them.
    """
    words = words or packed(work)
    total = read = stored = used = 0.0
    for layer, own_layer in zip(work.matrices, words, strict=True):
        for columns, (own, bits) in zip(layer, own_layer, strict=True):
            size = work.lanes * (work.weight_bits + bits) / 8
            total += columns.taken @ own
            read += columns.taken @ own * size
            stored += columns.number @ own * size
            used += columns.number @ own
    if work.readout is not None:
        shape, counts = work.readout.shape, work.readout.counts
        head, group = (_readout_words(work, entries) for entries in (shape.entries, shape.group_size))
        taken = counts.head_columns * head + counts.group_columns * group
        total += taken * (2 if work.weight_bits == 4 else 1)  # sent for one bank, and for the other one
        read += taken * _word_bits(work) / 8
        every = round(work.hidden[-1]) * (head + shape.groups * group)
        stored += every * _word_bits(work) / 8
        used += every
    depth, span = depth_of(max(work.hidden), work.lanes, "x")
    pointer = pointer_layout(*pointer_bits(round(float(used)), span), work.lanes).bits
    columns = sum(columns.number.sum() for layer in work.matrices for columns in layer)
    taken = sum(columns.taken.sum() for layer in work.matrices for columns in layer)
    numbers = 2 * work.lanes * work.row_bits
    embedding = 8 * work.embedding
    if work.store == "sdram":
        numbers += -numbers % work.width
        embedding += -embedding % work.width
    row = depth_of(work.hidden[0], work.lanes, "x")[0] * numbers / 8
    return {
        "words": float(total),
        "bytes": float(read + taken * pointer / 8 + work.folded_share * row),
        "weights": float(stored),
        "columns": float(columns * pointer / 8),
        "embedding": float(work.vocabulary * embedding / 8),
        "row": float(row),
        "rows": float(work.folded_tokens * row),
        "readout": float(readout_bytes(work.vocabulary, work.readout and work.readout.shape)),
    }


def link_bytes(work: Work) -> tuple[float, float]:
    """Bytes to and from the board, a token of ``work``."""
    from egret.host.board import scores_at_once
    from egret.rtl.protocol import COMMAND_OVERHEAD, DEFAULT_RECEIVE_BYTES, SCORE, SCORE_VALUE, bitmap_bytes

    reply = COMMAND_OVERHEAD + 1  # its status
    if work.readout is not None:
        batch = scores_at_once(DEFAULT_RECEIVE_BYTES)
        return SCORE.size + COMMAND_OVERHEAD / batch, _ESCAPED * SCORE_VALUE.size + reply / batch
    answer = reply + _ESCAPED * (bitmap_bytes(round(work.hidden[-1])) + work.events[-1])
    if work.vocabulary:
        return 15.0, answer
    count = float(work.matrices[0][0].taken.sum())
    return 15 + 15 * ceil(count / 168) + 3 * _ESCAPED * count, answer


def board_speed(work: Work, board: "BoardDefinition", hertz: float, constants: Constants = FITTED) -> Speed:
    """Tokens a second that a board gives.

    Parameters
    ----------
    work : Work
    board : BoardDefinition
        Whose link it is.
    hertz : float
        Clock of core and link.
    constants : Constants

    Returns
    -------
    Speed
    """
    from egret.host.board import scores_at_once
    from egret.rtl.protocol import DEFAULT_RECEIVE_BYTES

    draws = work.readout is not None
    sent, received = link_bytes(work)
    return Speed(
        hertz=hertz,
        divisor=board.divisor(hertz),
        window=board.window,
        receive_bytes=board.receive_bytes,
        cycles=cycles(work, constants),
        sent=sent,
        received=received,
        batch=scores_at_once(DEFAULT_RECEIVE_BYTES) if draws else 1 if work.vocabulary else STEPS_OF_EVENTS,
        draws=draws,
        shared=board.shares_line,
    )
