"""A read-out in groups: a head of frequent words and of rows for groups, and the words of one group at a time.

With K words in the head, G groups of the others and R rows a group in the head, the head has E = K + G * R scores.

- P(word w of the head) is the softmax over all E scores.
- P(word w of group g) is the share of group g's R rows in that softmax, times the softmax over the group's words.

So all words' probabilities sum to one, and a word's probability takes E scores and those of one group. An order of the
words says which is where: the head's words come first, then those of each group. A word's number in that order is its
place.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from egret.model.errors import InputError

__all__ = ["MOST_ROWS", "Groups", "check_order", "log_probabilities"]

MOST_ROWS = 16
"""Rows of a group in the head, at most."""


@dataclass(frozen=True)
class Groups:
    """Shape of a read-out in groups, validated at construction.

    Parameters
    ----------
    head : int
        K, words in the head; may be 0.
    groups : tuple of int
        Words of each group, at least one group of at least one word.
    rows : int
        R, rows of a group in the head: 1, 2, 4, 8 or 16.

    Raises
    ------
    InputError
        If a field has a value that is not accepted, naming the field.
    """

    head: int
    groups: tuple[int, ...]
    rows: int

    def __post_init__(self) -> None:
        if type(self.head) is not int or self.head < 0:
            raise InputError(f"readout.head must be an integer of at least 0, not {self.head!r}")
        sizes = self.groups
        if not isinstance(sizes, list | tuple) or not sizes:
            raise InputError(f"readout.groups must be a list of at least one size, not {sizes!r}")
        for size in sizes:
            if type(size) is not int or size < 1:
                raise InputError(f"readout.groups must hold integers of at least 1, not {size!r}")
        object.__setattr__(self, "groups", tuple(sizes))
        rows = self.rows
        if type(rows) is not int or not 1 <= rows <= MOST_ROWS or rows & (rows - 1):
            raise InputError(f"readout.rows must be a power of two from 1 to {MOST_ROWS}, not {rows!r}")

    @classmethod
    def from_fields(cls, content: Any) -> "Groups":
        """Groups from the field ``readout`` of a ``config.json``.

        Parameters
        ----------
        content : dict

        Returns
        -------
        Groups

        Raises
        ------
        InputError
            If it is not an object with exactly the fields of this class, or a field is not accepted.
        """
        names = ("head", "groups", "rows")
        if not isinstance(content, dict) or set(content) != set(names):
            raise InputError(f"readout must be null or hold {', '.join(names)}, not {content!r:.80}")
        return cls(**content)

    @property
    def words(self) -> int:
        """V, words of the vocabulary that the head and the groups hold together."""
        return self.head + sum(self.groups)

    @property
    def entries(self) -> int:
        """E, scores of the head."""
        return self.head + len(self.groups) * self.rows

    @property
    def starts(self) -> np.ndarray:
        """Place of each group's first word, and V behind the last: int64 [G + 1]."""
        return np.cumsum([self.head, *self.groups])

    def locate(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where places are.

        Parameters
        ----------
        places : np.ndarray of int
            From 0 to V - 1, of any shape.

        Returns
        -------
        group, index : np.ndarray of int64
            0 for the head, g + 1 for group g; and the word's number in there.
        """
        starts = np.concatenate([[0], self.starts[:-1]])
        group = np.searchsorted(self.starts, places, side="right")
        return group, places - starts[group]

    def expected_size(self, counts: np.ndarray) -> float:
        """Words of a group that the next word's score takes beside the head, on average.

        Parameters
        ----------
        counts : np.ndarray, shape [V]
            How often the word of each place occurs.

        Returns
        -------
        float
        """
        sizes = np.concatenate([np.zeros(self.head), np.repeat(self.groups, self.groups)])
        return float(counts @ sizes / max(1, counts.sum()))


def check_order(order: np.ndarray, words: int, where: str) -> np.ndarray:
    """Check an order of words.

    Parameters
    ----------
    order : np.ndarray, shape [V]
        Place -> word, whole numbers of any type.
    words : int
        V.
    where : str
        Named in errors.

    Returns
    -------
    np.ndarray of int64, shape [V]

    Raises
    ------
    InputError
        If it does not hold each word once.
    """
    seen = np.zeros(words, bool)
    for place, word in enumerate(order.tolist()):
        if word != int(word) or not 0 <= word < words:
            raise InputError(f"{where}: holds {word:g} at [{place}]; must hold words' numbers, 0 to {words - 1}")
        if seen[int(word)]:
            raise InputError(f"{where}: holds word {int(word)} twice; must hold each word once")
        seen[int(word)] = True
    return order.astype(np.int64)


def log_probabilities(scores: np.ndarray, groups: Groups) -> np.ndarray:
    """Log-probabilities of all words by place, from all scores.

    Parameters
    ----------
    scores : np.ndarray of float, shape [P, E + V - K]
        Of the head's words, of the groups' rows in the head, and of the groups' words.
    groups : Groups

    Returns
    -------
    np.ndarray of the same type, shape [P, V]
    """
    count, head = groups.entries, groups.head
    whole = _log_sum(scores[:, :count])
    result = np.empty((len(scores), groups.words), scores.dtype)
    result[:, :head] = scores[:, :head] - whole
    rows = scores[:, head:count].reshape(len(scores), len(groups.groups), groups.rows)
    shares = _log_sum(rows)[..., 0] - whole
    starts = groups.starts.tolist()
    for group, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
        words = scores[:, start + count - head : end + count - head]
        result[:, start:end] = words - _log_sum(words) + shares[:, group, None]
    return result


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of the exponentials along the last axis, which stays with size 1."""
    largest = scores.max(axis=-1, keepdims=True)
    return largest + np.log(np.exp(scores - largest).sum(axis=-1, keepdims=True))
