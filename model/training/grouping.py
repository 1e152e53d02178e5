"""Which words share a group of a read-out, and how its rows in the head begin.

Words that a network holds for alike come into one group, so that their sum is as easy to predict as a word: the
vectors of words (the read-out's weights of a trained network, or what stands beside a word in the training text) are
divided by k-means into groups of about the same size.
"""

import numpy as np

from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.errors import InputError
from egret.model.groups import Groups

__all__ = ["divide", "group_words", "neighbours", "with_groups"]

_LARGEST = 1.3
"""Size of a group against the mean of all, at most (about)."""
_ROUNDS, _PRICES = 25, 12
_NEIGHBOURS = 200
"""Frequent words that are counted as neighbours."""


def divide(
    vectors: np.ndarray, weights: np.ndarray, parts: int, *, largest: float = np.inf, seed: int = 1
) -> np.ndarray:
    """Divide vectors by k-means.

    Parameters
    ----------
    vectors : np.ndarray of float, shape [N, D]
    weights : np.ndarray of float, shape [N]
        Of each vector in the means, positive.
    parts : int
        1 to N.
    largest : float
        Size of a part against the mean of all above which it costs to belong to it.
    seed : int

    Returns
    -------
    np.ndarray of int, shape [N]
        Part of each vector; none is empty.
    """
    random = np.random.default_rng(seed)
    count = len(vectors)
    squares = np.square(vectors).sum(1)

    def distances(centres: np.ndarray) -> np.ndarray:
        return squares[:, None] + np.square(centres).sum(1) - 2 * vectors @ centres.T

    chosen = [int(random.choice(count, p=weights / weights.sum()))]
    nearest = distances(vectors[chosen])[:, 0]
    while len(chosen) < parts:
        odds = weights * np.maximum(nearest, 0)
        odds[chosen] = 0
        odds = odds if odds.sum() > 0 else np.isin(np.arange(count), chosen, invert=True).astype(float)
        chosen.append(int(random.choice(count, p=odds / odds.sum())))
        nearest = np.minimum(nearest, distances(vectors[chosen[-1:]])[:, 0])
    centres, prices = vectors[chosen], np.zeros(parts)
    part = np.zeros(count, int)
    for _ in range(_ROUNDS):
        cost = distances(centres)
        scale = max(float(np.sort(cost, axis=1)[:, : min(2, parts)].std()), 1e-12)
        for _ in range(_PRICES):
            part = (cost + prices).argmin(1)
            sizes = np.bincount(part, minlength=parts) * parts / count
            prices = np.maximum(prices + 0.2 * scale * np.clip(sizes - largest, -1, 3), 0)
        for number in range(parts):
            own = part == number
            if not own.any():  # it takes the vector that lies worst, of a part that has others
                shared = np.bincount(part, minlength=parts)[part] > 1
                part[np.where(shared, cost[np.arange(count), part], -np.inf).argmax()] = number
                own = part == number
            centres[number] = (weights[own, None] * vectors[own]).sum(0) / weights[own].sum()
    return part


def neighbours(ids: np.ndarray, words: int) -> np.ndarray:
    """Vectors of words from what stands beside them in a text.

    Parameters
    ----------
    ids : np.ndarray of int, shape [N]
    words : int
        V.

    Returns
    -------
    np.ndarray of float, shape [V, D]
        Square roots of the shares that each of the most frequent words has before a word and behind it.
    """
    counts = np.bincount(ids, minlength=words)
    frequent = np.argsort(-counts, kind="stable")[: min(words, _NEIGHBOURS)]
    column = np.full(words, -1)
    column[frequent] = np.arange(len(frequent))
    tables = []
    for one, other in ((ids[1:], ids[:-1]), (ids[:-1], ids[1:])):
        table = np.zeros((words, len(frequent)))
        known = column[other] >= 0
        np.add.at(table, (one[known], column[other[known]]), 1)
        tables.append(np.sqrt(table / np.maximum(1, table.sum(1, keepdims=True))))
    return np.concatenate(tables, axis=1)


def group_words(vectors: np.ndarray, counts: np.ndarray, head: int, groups: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Choose the head's words, and divide the others into groups.

    Parameters
    ----------
    vectors : np.ndarray of float, shape [V, D]
    counts : np.ndarray of int, shape [V]
        How often each word occurs.
    head, groups : int
        Words of the head, and number of groups.

    Returns
    -------
    order : np.ndarray of int, shape [V]
        Place -> word; in the head and in each group frequent words come first.
    sizes : tuple of int
        Words of each group.

    Raises
    ------
    InputError
        If there are fewer words than that takes.
    """
    if head + groups > len(counts):
        raise InputError(
            f"a read-out of {head} words in the head and {groups} groups needs as many words; there are {len(counts)}"
        )
    order = np.argsort(-counts, kind="stable")
    others = order[head:]
    directions = vectors[others] - vectors[others].mean(0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    part = divide(directions, np.sqrt(counts[others] + 1.0), groups, largest=_LARGEST)
    sizes = np.bincount(part, minlength=groups)
    placed = np.concatenate([order[:head], others[np.argsort(part, kind="stable")]])
    return placed, tuple(sizes.tolist())


def with_groups(checkpoint: Checkpoint, ids: np.ndarray, head: int, groups: int, rows: int) -> Checkpoint:
    """A network with a plain read-out as one with a read-out in groups, to be trained further.

    A row of a group in the head begins as the mean of some of its words, weighted by how often they occur, with a bias
    such that it predicts their sum.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : np.ndarray of int, shape [N]
        The training text.
    head, groups, rows : int
        Words of the head, number of groups, and rows of each in the head.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        If there are fewer words than that takes, or `rows` is not accepted.
    """
    configuration, tensors = checkpoint.configuration, checkpoint.tensors
    weight = tensors["embedding.weight" if configuration.tied else "readout.weight"].astype(np.float64)
    bias = tensors["readout.bias"].astype(np.float64)
    counts = np.bincount(ids, minlength=configuration.vocab_size)
    order, sizes = group_words(weight, counts, head, groups)
    shape = Groups(head, sizes, rows)
    group_weight, group_bias = np.zeros((groups * rows, weight.shape[1])), np.zeros(groups * rows)
    starts = shape.starts.tolist()
    for group, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
        words = order[start:end]
        share = counts[words] + 0.5
        part = divide(weight[words], share, min(rows, len(words)))
        for row in range(rows):
            own = words[part == row % (part.max() + 1)]
            odds = counts[own] + 0.5
            odds = odds / odds.sum()
            place = group * rows + row
            group_weight[place] = odds @ weight[own]
            group_bias[place] = odds @ bias[own] - odds @ np.log(odds)
            if len(words) < rows:  # rows that share a word share its probability
                group_bias[place] -= np.log(np.sum(np.arange(rows) % len(words) == row % len(words)))
    fields = {name: getattr(configuration, name) for name in NetworkConfiguration.__dataclass_fields__}
    added = {"readout.order": order, "readout.group_weight": group_weight, "readout.group_bias": group_bias}
    return Checkpoint(
        NetworkConfiguration(**{**fields, "readout": shape}),
        {**tensors, **{name: array.astype(np.float32) for name, array in added.items()}},
        checkpoint.vocabulary,
    )
