"""The read-out in integers: from the last layer's events to log-probabilities and tokens.

The words of a network are divided into a head, whose words are frequent, and groups (`IntegerGroups`); a network
without groups is all head. The head's entries are its words and, for each group, ``rows`` rows that stand for it. A
group's entries are its words. With the last layer's events y, integers with 8 fraction bits, and per matrix, which is
the head or a group:

======================================================================  ===============================================
``acc_e = sum of weight_ej y_j``                                        no bias in it; wide enough for any events
``score_e = saturate(half_up(acc_e, f - 10) + bias_e)``                 signed 18 bits, LSB 2^-10 nats; f the fraction
                                                                        bits of a logit (``acc_e << 10 - f`` where f is
                                                                        at most 10); bias_e signed 16 bits, same LSB
``index_e = min(half_up((largest - score_e) * beta >> 8, 4), 1023)``    largest score of the entries that are summed
``power_e = exponential_table[index_e]``                                unsigned 24 bits, LSB 2^-23
``total = sum of power_e``                                              exact, at least 2^23
``log_sum = (largest << 6) + logarithm(total)``                         LSB 2^-16 nats, with beta = 256
======================================================================  ===============================================

``half_up`` is that of `egret.model.arithmetic`. ``beta`` is 256 over the temperature; log-probabilities know beta = 256
alone. ``logarithm`` is that of total / 2^23: with k the place of total's leading one, counted from bit 23, and
``m = half_up(total, 13 + k)``, 1024 to 2048, it is ``45426 k + logarithm_table[m - 1024]``.

The log-probability of a word of the head is ``(score << 6) - log_sum(head)``, and of a group's word
``log_sum(the rows of the group in the head) - log_sum(head) + (score << 6) - log_sum(group)``. Both are defined on the
full distribution over all words.

Random numbers come from a xorshift generator of 64 bits, whose state changes by ``x ^= x << 13; x ^= x >> 7;
x ^= x << 17``. A number below ``total`` is the lowest bits of the state's upper 40, as many as ``total - 1`` has,
drawn again while they are not below it. It picks the first entry up to which the powers add up to more. A token is
drawn in one of three ways:

by factors
    An entry of the head is picked, and if it stands for a group, a word of the group. At beta = 256 that draws from the
    full distribution; at another one the temperature is applied to each of the two factors, and the words differ from
    those of the full distribution at that temperature as often as docs/integer.md says.
from all words
    From the full distribution at any temperature, for which every group is read. The words are parted into those of the
    head and of each group. A part weighs ``(best * beta >> 2) + logarithm(total)``, LSB 2^-16 nats: ``best`` is the
    log-probability of its best word, rounded to 10 fraction bits and saturated to a score's, ``total`` the sum of the
    powers of its scores at beta, from their own largest one on. A part is picked at beta = 256, its score being its
    weight less the largest weight, rounded and saturated likewise; then a word of the part at beta. A head without
    words is no part, and without groups words are drawn by factors, which is the same.
top-k
    The k words of the largest log-probability, of equal ones the first in the order of places; of these one is picked,
    their scores being log-probabilities, rounded to 10 fraction bits and saturated. With k = 1 nothing is drawn. Groups
    are read in falling order of their own log-probability, until no other one can have a word among the k.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from egret.model.arithmetic import EVENT_MAX, half_up
from egret.model.errors import InputError
from egret.model.groups import MOST_ROWS

if TYPE_CHECKING:
    from egret.model.integer import IntegerNetwork

__all__ = [
    "ALL_WORDS",
    "BETA_ONE",
    "BIAS_BITS",
    "BY_FACTORS",
    "LOG_FRACTION",
    "POWER_FRACTION",
    "MOST_TOP",
    "SCORE_BITS",
    "SCORE_FRACTION",
    "IntegerGroups",
    "ReadOut",
    "Sampler",
    "beta_of",
    "checked_top",
    "drawn_from",
    "exponential_table",
    "log_sum",
    "logarithm",
    "logarithm_table",
    "nearest",
    "pick",
    "powers",
    "random_state",
    "score",
]

SCORE_FRACTION = 10
"""Fraction bits of a score, in nats."""
SCORE_BITS = 18
"""Signed width of a score."""
BIAS_BITS = 16
"""Signed width of an entry's bias, with the fraction of a score."""
LOG_FRACTION = 16
"""Fraction bits of a log-probability, in nats."""
POWER_FRACTION = 23
"""Fraction bits of a power; the largest one is 1."""
INDEX_BITS = 10
"""Address width of both tables."""
INDEX_FRACTION = 6
"""Fraction bits of the exponential's index, in nats."""
LN_2 = 45426
"""Logarithm of 2 with `LOG_FRACTION` bits."""
BETA_ONE = 256
"""The reciprocal of temperature 1."""
MOST_BETA = 4096
DRAWN_BITS = 40
"""Of the generator's state that a number is drawn from: more than any total has."""
_GATHERED = 1 << 19  # weights of active columns that are multiplied at once: they stay in a cache
MOST_TOP = 64
"""Most words that a token can be drawn from by top-k."""
BY_FACTORS, ALL_WORDS = 0, 127
"""What stands in the place of top-k's k where a token is drawn in one of the two other ways."""

_MASK = (1 << 64) - 1


def exponential_table() -> list[int]:
    """exp(-index / 64) with `POWER_FRACTION` bits, [1024]; what is farther away than the last index is nothing."""
    return [math.floor((1 << POWER_FRACTION) * math.exp(-index / 64) + 0.5) for index in range(1023)] + [0]


def logarithm_table() -> list[int]:
    """ln(1 + index / 1024) with `LOG_FRACTION` bits, [1024]."""
    return [math.floor((1 << LOG_FRACTION) * math.log1p(index / 1024) + 0.5) for index in range(1 << INDEX_BITS)]


_EXPONENTIAL, _LOGARITHM = np.array(exponential_table(), np.int32), np.array(logarithm_table(), np.int64)


def score(accumulator: np.ndarray, bias: np.ndarray, fraction: int) -> np.ndarray:
    """Scores, int32 [..., N], of an ``accumulator`` (int32 [..., N]) and ``bias`` [N]; ``fraction`` bits of a logit."""
    shift, half = fraction - SCORE_FRACTION, 1 << (SCORE_BITS - 1)
    if shift > 0:
        exact = accumulator + np.int32(1 << (shift - 1))
        exact >>= shift
    else:
        # What is cut off here saturates with any bias.
        most = 4 * half >> -shift
        exact = np.clip(accumulator, -most, most) << -shift
    exact += bias.astype(np.int32)
    return np.clip(exact, -half, half - 1, out=exact)


def powers(scores: np.ndarray, largest: np.ndarray, beta: int = BETA_ONE) -> np.ndarray:
    """Exponentials, int32 [..., N], of ``scores`` [..., N] less the ``largest`` [...] at some ``beta``; both int32."""
    index = largest[..., None] - scores
    if beta != BETA_ONE:
        index *= beta
        index >>= 8
    shift = SCORE_FRACTION - INDEX_FRACTION
    index += 1 << (shift - 1)
    index >>= shift
    return _EXPONENTIAL.take(index, mode="clip")


def logarithm(total: np.ndarray) -> np.ndarray:
    """Logarithm of a ``total`` of powers, 2^23 to 2^40 - 1, in nats with `LOG_FRACTION` bits: int64."""
    total = np.asarray(total, np.int64)
    # Exact: a float64 holds every total.
    places = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1 - POWER_FRACTION
    dropped = places + POWER_FRACTION - INDEX_BITS
    mantissa = half_up(total, dropped)
    over = mantissa >> (INDEX_BITS + 1)  # rounded up to the next power of two
    return LN_2 * (places + over) + _LOGARITHM[(mantissa >> over) - (1 << INDEX_BITS)]


def log_sum(scores: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of the exponentials of scores [..., N], at least one: int64 [...]."""
    largest = scores.max(axis=-1)
    total = powers(scores, largest).sum(axis=-1, dtype=np.int64)
    return (largest << (LOG_FRACTION - SCORE_FRACTION)) + logarithm(total)


def pick(weights: np.ndarray, number: int) -> int:
    """The first place up to which the ``weights`` [N], powers, add up to more than a ``number`` below their sum."""
    return int(np.searchsorted(np.cumsum(weights, dtype=np.int64), number, side="right"))


def beta_of(temperature: float) -> int:
    """The reciprocal of a temperature as the read-out takes it, rounded to the nearest.

    Parameters
    ----------
    temperature : float
        1/16 to 256.

    Returns
    -------
    int
        1 to 4096.

    Raises
    ------
    InputError
        It is out of range.
    """
    if not (isinstance(temperature, int | float) and BETA_ONE / MOST_BETA <= temperature <= BETA_ONE):
        raise InputError(
            f"the temperature must be {BETA_ONE / MOST_BETA} to {BETA_ONE}, or 0 for the most probable word, "
            f"not {temperature!r}"
        )
    return math.floor(BETA_ONE / temperature + 0.5)


def checked_top(k: int) -> int:
    """Return k, the number of words of top-k.

    Raises
    ------
    InputError
        It is not 1 to `MOST_TOP`.
    """
    if type(k) is not int or not 1 <= k <= MOST_TOP:
        raise InputError(f"top-k takes k from 1 to {MOST_TOP}, not {k!r}")
    return k


def drawn_from(temperature: float, top_k: int | None, by_factors: bool) -> int:
    """Say how a token is drawn: a k of top-k, `BY_FACTORS` or `ALL_WORDS`.

    Parameters
    ----------
    temperature : float
        0 stands for the most probable word.
    top_k : int or None
        Words that a token is drawn from; None for the distribution over all words.
    by_factors : bool
        Whether the temperature is applied to each factor, where ``top_k`` is None.

    Returns
    -------
    int
        Without top-k `BY_FACTORS` also at temperature 1, where it draws from all words, too.

    Raises
    ------
    InputError
        ``top_k`` is out of range.
    """
    k = None if top_k is None else checked_top(top_k)
    if not temperature:
        return 1
    if k is not None:
        return k
    return BY_FACTORS if by_factors or beta_of(temperature) == BETA_ONE else ALL_WORDS


def random_state(seed: int) -> int:
    """First state of the generator for a seed, 0 to 2^64 - 1: splitmix64's first number, or 1 where that is 0.

    Raises
    ------
    InputError
        The seed is out of range.
    """
    if type(seed) is not int or not 0 <= seed <= _MASK:
        raise InputError(f"the seed must be an integer from 0 to {_MASK}, not {seed!r}")
    mixed = (seed + 0x9E3779B97F4A7C15) & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 31 or 1


@dataclass(frozen=True)
class IntegerGroups:
    """How the words of a network are divided for the read-out, and the rows that stand for groups in the head.

    Attributes
    ----------
    order : np.ndarray of int, shape [V]
        The word at each place: a permutation. The head's words come first, then those of each group.
    head : int
        Words of the head, 0 to V.
    sizes : tuple of int
        Words of each group, at least 1; with ``head`` they add up to V.
    rows : int
        Rows of the head that stand for one group: 1, 2, 4, 8 or 16.
    weight : np.ndarray of int8, shape [G * rows, H]
        Of these rows, group by group, with the fraction of the words' weights.
    bias : np.ndarray of int32, shape [G * rows]
        In LSBs of a logit.

    Raises
    ------
    InputError
        The groups do not cover the vocabulary, or overlap, or a number is out of range.
    """

    order: np.ndarray
    head: int
    sizes: tuple[int, ...]
    rows: int
    weight: np.ndarray
    bias: np.ndarray

    def __post_init__(self):
        if type(self.rows) is not int or not 1 <= self.rows <= MOST_ROWS or self.rows & (self.rows - 1):
            raise InputError(f"read-out: rows must be 1, 2, 4, 8 or 16, not {self.rows!r}")
        if not self.sizes or not all(type(size) is int and size >= 1 for size in self.sizes):
            raise InputError(f"read-out: groups must be sizes of at least 1, not {list(self.sizes)!r}")
        words = len(self.order)
        if type(self.head) is not int or self.head < 0 or self.head + sum(self.sizes) != words:
            raise InputError(
                f"read-out: a head of {self.head} words and groups of {sum(self.sizes)} do not cover "
                f"the vocabulary of {words}"
            )
        if not np.array_equal(np.sort(self.order), np.arange(words)):
            raise InputError("read-out: groups overlap: the order must hold each word once")
        entries = len(self.sizes) * self.rows
        if self.weight.ndim != 2 or len(self.weight) != entries or self.bias.shape != (entries,):
            raise InputError(
                f"read-out: {len(self.sizes)} groups of {self.rows} rows need {entries} rows with a bias each, "
                f"not {len(self.weight)} and {len(self.bias)}"
            )


class ReadOut:
    """The read-out of an integer network, over batches.

    Parameters
    ----------
    network : IntegerNetwork
        With a read-out.

    Attributes
    ----------
    head : int
        K, words of the head.
    sizes : tuple of int
        Words of each group.
    rows : int
        Rows of the head that stand for one group.
    order : np.ndarray of int64, shape [V]
        The word at each place.
    place : np.ndarray of int64, shape [V]
        The place of each word.
    weights, biases : list of np.ndarray
        Of each matrix, the head first: int8 [N, H], and int32 [N] in LSBs of a score.
    """

    def __init__(self, network: "IntegerNetwork") -> None:
        if network.readout_bias is None:
            raise InputError("a part of a network has no read-out; give the whole network")
        self.fraction = network.readout_fraction
        groups = network.groups
        words = network.embedding if network.readout_weight is None else network.readout_weight
        bias, vocabulary = network.readout_bias, len(words)
        if groups is None:
            self.head, self.sizes, self.rows, self.order = vocabulary, (), 1, np.arange(vocabulary)
        else:
            self.head, self.sizes, self.rows = groups.head, groups.sizes, groups.rows
            self.order = groups.order.astype(np.int64)
        self.place = np.argsort(self.order)
        bounds = np.cumsum([0, self.head, *self.sizes])
        self.starts = bounds[1:-1]  # first place of each group
        parts = [self.order[first:last] for first, last in zip(bounds, bounds[1:], strict=False)]
        self.weights = [nearest(words[part], network.readout_codebook) for part in parts]
        biases = [bias[part] for part in parts]
        if groups is not None:
            self.weights[0] = np.concatenate([self.weights[0], nearest(groups.weight, network.readout_codebook)])
            biases[0] = np.concatenate([biases[0], groups.bias])
        self.biases = [_score_bias(part, self.fraction) for part in biases]

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.sizes)

    def reach(self) -> int:
        """Largest magnitude that an accumulator of the read-out can pass through, in any order of addition."""
        return max(int(np.abs(weight.astype(np.int64)).sum(1).max()) for weight in self.weights) * EVENT_MAX

    @cached_property
    def _type(self) -> type[np.floating]:
        """What products are exact in."""
        return np.float32 if self.reach() <= 1 << 24 else np.float64

    @cached_property
    def _columns(self) -> list[np.ndarray]:
        return [np.ascontiguousarray(weight.T) for weight in self.weights]

    @cached_property
    def _dense(self) -> list[np.ndarray]:
        return [columns.astype(self._type) for columns in self._columns]

    def accumulators(self, y: np.ndarray, matrix: int = 0) -> np.ndarray:
        """Accumulators of the entries of a matrix, int32 [B, N], from the last layer's events y, [B, H].

        Parameters
        ----------
        y : np.ndarray
        matrix : int
            0: the head; g + 1: group g.

        Returns
        -------
        np.ndarray
        """
        if len(y) > 1:
            return (y.astype(self._type) @ self._dense[matrix]).astype(np.int32)
        # Few columns are active, and their bytes are a quarter of their floats'.
        columns, (active,) = self._columns[matrix], y[0].nonzero()
        events = y[0, active].astype(self._type)
        entries = columns.shape[1]
        total, step = np.zeros((1, entries), self._type), max(1, _GATHERED // entries)
        for first in range(0, len(active), step):
            some = slice(first, first + step)
            total += events[some] @ columns[active[some]].astype(self._type)
        return total.astype(np.int32)

    def scores(self, y: np.ndarray, matrix: int = 0) -> np.ndarray:
        """Scores of the entries of a matrix, int32 [B, N], from the last layer's events y, [B, H].

        Parameters
        ----------
        y : np.ndarray
        matrix : int
            0: the head; g + 1: group g.

        Returns
        -------
        np.ndarray
        """
        return score(self.accumulators(y, matrix), self.biases[matrix], self.fraction)

    def group_rows(self, group: int) -> slice:
        """The entries of the head that stand for a group."""
        return slice(self.head + group * self.rows, self.head + (group + 1) * self.rows)

    def target(self, word: int) -> tuple[int, int]:
        """The matrix that a word is in, as `scores` numbers them, and its entry there."""
        place = int(self.place[word])
        matrix = int(np.searchsorted(self.starts, place, side="right"))
        return matrix, place - (int(self.starts[matrix - 1]) if matrix else 0)

    def log_probabilities(self, y: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Log-probabilities of one word for each row of events.

        Parameters
        ----------
        y : np.ndarray of int, shape [B, H]
            Events of the last layer.
        words : np.ndarray of int, shape [B]

        Returns
        -------
        np.ndarray of int64, shape [B]
            In nats, with `LOG_FRACTION` bits.
        """
        head = self.scores(y)
        places = self.place[words]
        matrices = np.searchsorted(self.starts, places, side="right")
        result = -log_sum(head)
        mine = np.flatnonzero(matrices == 0)
        result[mine] += head[mine, places[mine]] << (LOG_FRACTION - SCORE_FRACTION)
        for matrix in np.unique(matrices[matrices > 0]).tolist():
            mine = np.flatnonzero(matrices == matrix)
            scores = self.scores(y[mine], matrix)
            own = scores[np.arange(len(mine)), places[mine] - self.starts[matrix - 1]]
            result[mine] += log_sum(head[mine, self.group_rows(matrix - 1)]) - log_sum(scores)
            result[mine] += own << (LOG_FRACTION - SCORE_FRACTION)
        return result

    def all_log_probabilities(self, y: np.ndarray) -> np.ndarray:
        """Log-probabilities of all words for each row of events y [B, H]: int64 [B, V], by number of word."""
        shift = LOG_FRACTION - SCORE_FRACTION
        head = self.scores(y)
        whole = log_sum(head)[:, None]
        parts = [(head[:, : self.head] << shift) - whole]
        for group in range(self.groups):
            scores = self.scores(y, group + 1)
            bound = log_sum(head[:, self.group_rows(group)])[:, None] - whole
            parts.append(bound + (scores << shift) - log_sum(scores)[:, None])
        return np.concatenate(parts, axis=1)[:, self.place]

    def top(self, y: np.ndarray, k: int) -> tuple[list[tuple[int, int]], list[int]]:
        """The k most probable words after one row of events.

        Parameters
        ----------
        y : np.ndarray of int, shape [H]
        k : int
            1 to `MOST_TOP`; of a smaller vocabulary all words.

        Returns
        -------
        words : list of (int, int)
            Word and log-probability, the most probable first; of equal ones the first in the order of places.
        groups : list of int
            Groups that were read for it, in this order.

        Raises
        ------
        InputError
            k is out of range.
        """
        checked_top(k)
        shift = LOG_FRACTION - SCORE_FRACTION
        head = self.scores(y[None])[0]
        whole = int(log_sum(head))
        values, places = _best((head[: self.head] << shift) - whole, np.arange(self.head), k)
        bounds = log_sum(head[self.head :].reshape(self.groups, self.rows)) - whole if self.groups else np.zeros(0)
        read = []
        for group in np.argsort(-bounds, kind="stable").tolist():
            bound = int(bounds[group])
            if len(values) == k and bound < values[-1]:
                break
            scores = self.scores(y[None], group + 1)[0]
            own = (scores << shift) + (bound - int(log_sum(scores)))
            around = int(self.starts[group]) + np.arange(len(scores))
            values, places = _best(np.concatenate([values, own]), np.concatenate([places, around]), k)
            read.append(group)
        return list(zip(self.order[places].tolist(), values.tolist(), strict=True)), read


def _best(values, places, k):
    """The k largest values [N], falling, and their places [N]; of equal ones the first place first."""
    if len(values) > k:
        kept = values >= np.partition(values, len(values) - k)[len(values) - k]
        values, places = values[kept], places[kept]
    order = np.lexsort((places, -values))[:k]
    return values[order], places[order]


def nearest(weights: np.ndarray, codebook: np.ndarray | None) -> np.ndarray:
    """The nearest number of a ``codebook``, if any, to each of the ``weights`` but 0, of two the lower: int8."""
    if codebook is None:
        return weights
    values = np.sort(codebook.astype(np.int64))
    middles = (values[1:] + values[:-1]) // 2
    found = values[np.searchsorted(middles, weights.astype(np.int64), side="left")]
    return np.where(weights == 0, 0, found).astype(np.int8)


def _score_bias(bias, fraction):
    """Biases in LSBs of a score, saturated: int32."""
    half = 1 << (BIAS_BITS - 1)
    # Wide enough for the rounding of any bias.
    return np.clip(score(bias.astype(np.int64), np.zeros(1, np.int32), fraction), -half, half - 1).astype(np.int32)


class Sampler:
    """Draws tokens, by integers alone: the same ones on every machine and on the board.

    Parameters
    ----------
    readout : ReadOut
    seed : int
        0 to 2^64 - 1.
    temperature : float
        1/16 to 256; or 0, which takes the most probable word, as ``top_k`` = 1 does.
    top_k : int, optional
        Words that a token is drawn from, 1 to `MOST_TOP`. Without it a token is drawn from all words.
    by_factors : bool
        Whether the temperature is applied to each factor, where ``top_k`` is None: one group is read at most.

    Attributes
    ----------
    readout : ReadOut
    beta : int
        The reciprocal of the temperature.
    top : int
        How a token is drawn, as `drawn_from` says it.
    state : int
        Of the generator.
    groups_read : list of int
        Groups that have been read so far, in this order; -1 where the head was read again.

    Raises
    ------
    InputError
        A parameter is out of range.
    """

    def __init__(
        self,
        readout: ReadOut,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        by_factors: bool = False,
    ) -> None:
        self.readout = readout
        self.beta = beta_of(temperature or 1.0)
        self.top = drawn_from(temperature, top_k, by_factors)
        self.state = random_state(seed)
        self.groups_read = []

    def _numbers(self) -> Iterator[int]:
        while True:
            state = self.state
            state ^= state << 13 & _MASK
            state ^= state >> 7
            self.state = state = state ^ state << 17 & _MASK
            yield state >> (64 - DRAWN_BITS)

    def draw(self, total: int) -> int:
        """A number below ``total``, 1 to 2^`DRAWN_BITS`, from the generator."""
        mask = (1 << (total - 1).bit_length()) - 1
        return next(number for drawn in self._numbers() if (number := drawn & mask) < total)

    def _pick(self, scores, beta):
        weights = powers(scores, scores.max(), beta)
        return pick(weights, self.draw(int(weights.sum())))

    def _pick_of_all(self, y):
        """The entry of a word drawn from all words, and the matrix that it is in."""
        readout, shift = self.readout, LOG_FRACTION - SCORE_FRACTION
        head = readout.scores(y[None])[0]
        whole = int(log_sum(head))
        parts, offsets = [head[: readout.head]], [-whole]
        for group in range(readout.groups):
            parts.append(readout.scores(y[None], group + 1)[0])
            offsets.append(int(log_sum(head[readout.group_rows(group)])) - whole - int(log_sum(parts[-1])))
            self.groups_read.append(group)
        first = 0 if readout.head else 1
        largest = np.array([part.max() for part in parts[first:]], np.int64)
        totals = [powers(part, part.max(), self.beta).sum(dtype=np.int64) for part in parts[first:]]
        best = _as_scores(np.array(offsets[first:]) + (largest << shift))
        weights = (best.astype(np.int64) * self.beta >> 2) + logarithm(np.array(totals))
        part = first + self._pick(_as_scores(weights - weights.max()), BETA_ONE)
        self.groups_read.append(part - 1)
        return self._pick(parts[part], self.beta), part

    def sample(self, y: np.ndarray) -> int:
        """The word that follows, drawn from the last layer's events y, int [H]."""
        readout = self.readout
        if self.top == ALL_WORDS and readout.groups:
            entry, matrix = self._pick_of_all(y)
            return int(readout.order[entry + (int(readout.starts[matrix - 1]) if matrix else 0)])
        if self.top not in (BY_FACTORS, ALL_WORDS):
            words, read = readout.top(y, self.top)
            self.groups_read += read
            if len(words) == 1:
                return words[0][0]
            return words[self._pick(_as_scores(np.array([value for _, value in words])), self.beta)][0]
        entry = self._pick(readout.scores(y[None])[0], self.beta)
        if entry < readout.head:
            return int(readout.order[entry])
        group = (entry - readout.head) // readout.rows
        self.groups_read.append(group)
        word = self._pick(readout.scores(y[None], group + 1)[0], self.beta)
        return int(readout.order[readout.starts[group] + word])


def _as_scores(values):
    """Logarithms [N] in nats as scores: rounded to their fraction, saturated."""
    half = 1 << (SCORE_BITS - 1)
    return half_up(values, LOG_FRACTION - SCORE_FRACTION).clip(-half, half - 1).astype(np.int32)
