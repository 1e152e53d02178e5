"""Operations per token as the papers count them: multiply-accumulates (MACs) of recurrent layers, read-out excluded.

The MACs of the read-out are counted beside them, in the same way: the non-zero weights of an event's column in the
head, and in the group of the word whose probability is asked for. A read-out without groups is all head.

A MAC is counted for each weight of a column whose source is active, that is, not zero. The sources of a layer are its
inputs x (of layer 1: the embedding, dense), its outputs y' of the step before, and s, what enters W_zy (r * y' where
the reset gate comes before the matrix). Four figures differ in what is skipped: nothing, inactive sources, zero
weights, or both.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from egret.model.checkpoint import Checkpoint
    from egret.model.integer import IntegerNetwork

__all__ = [
    "ColumnCounts",
    "MacCounts",
    "ReadoutColumns",
    "ReadoutCounts",
    "SourceCounts",
    "checkpoint_columns",
    "checkpoint_readout",
    "count_macs",
    "folded_macs",
    "integer_columns",
    "integer_readout",
]


@dataclass(frozen=True)
class ColumnCounts:
    """Non-zero weights in each column of one layer.

    Attributes
    ----------
    x, y, s : np.ndarray of int64, shape [I], [H], [H]
        Non-zeros driven by each source.
    rows_x, rows_y, rows_s : int
        Length of the columns, zeros included.
    """

    x: np.ndarray
    y: np.ndarray
    s: np.ndarray
    rows_x: int
    rows_y: int
    rows_s: int

    @classmethod
    def of_layer(cls, weight_x: np.ndarray, weight_y: np.ndarray, gates: int = 3) -> Self:
        """Count a layer's weights.

        Parameters
        ----------
        weight_x, weight_y : np.ndarray, shapes [G*H, I] and [G*H, H]
        gates : int
            G: 3 for EGRU, whose last H rows take s, or 4 for LSTM.

        Returns
        -------
        ColumnCounts
        """
        hidden = weight_y.shape[1]
        by_y = 2 * hidden if gates == 3 else gates * hidden
        parts = [weight_x, weight_y[:by_y], weight_y[by_y:]]
        return cls(*(np.count_nonzero(part, axis=0) for part in parts), *(len(part) for part in parts))

    @property
    def nonzeros(self) -> int:
        """Non-zero weights of the layer."""
        return int(self.x.sum() + self.y.sum() + self.s.sum())

    @property
    def weights(self) -> int:
        """Weights of the layer, zeros included."""
        return self.rows_x * len(self.x) + self.rows_y * len(self.y) + self.rows_s * len(self.s)


@dataclass(frozen=True)
class ReadoutColumns:
    """Non-zero weights in each column of a read-out.

    Attributes
    ----------
    head : np.ndarray of int64, shape [H]
        Of the head's words, and of the rows that stand for groups.
    groups : np.ndarray of int64, shape [G, H]
        Of the words of each group.
    matrices : np.ndarray of int64, shape [V]
        Where each word is: 0 is the head, g + 1 group g.
    """

    head: np.ndarray
    groups: np.ndarray
    matrices: np.ndarray

    @classmethod
    def of(cls, words: np.ndarray, rows: np.ndarray, order: np.ndarray, sizes: Sequence[int]) -> Self:
        """Count the weights of a read-out.

        Parameters
        ----------
        words : np.ndarray, shape [V, H]
            Of each word.
        rows : np.ndarray, shape [G * R, H]
            Of the head's rows that stand for groups.
        order : np.ndarray of int, shape [V]
            The word at each place.
        sizes : sequence of int, length 1 + G
            Words of the head and of each group.

        Returns
        -------
        ReadoutColumns
        """
        parts = np.split(words[order], np.cumsum(sizes)[:-1])
        head, *groups = (np.count_nonzero(part, axis=0) for part in parts)
        matrices = np.empty(len(order), np.int64)
        matrices[order] = np.repeat(np.arange(len(sizes)), sizes)
        return cls(head + np.count_nonzero(rows, axis=0), np.array(groups, np.int64).reshape(-1, len(head)), matrices)

    def count(self, y: np.ndarray, words: np.ndarray) -> "ReadoutCounts":
        """What the probability of one word for each row of outputs takes, all rows together.

        Parameters
        ----------
        y : np.ndarray, shape [B, H]
            Of the last layer.
        words : np.ndarray of int, shape [B]

        Returns
        -------
        ReadoutCounts
        """
        active, matrices = y != 0, self.matrices[words]
        in_groups = np.flatnonzero(matrices)
        inside = active[in_groups]
        grouped = self.groups[matrices[in_groups] - 1][inside]
        return ReadoutCounts(
            macs=float(np.count_nonzero(active, axis=0) @ self.head + grouped.sum()),
            head_columns=float(np.count_nonzero(active)),
            groups=float(len(in_groups)),
            group_columns=float(np.count_nonzero(inside)),
        )


@dataclass(frozen=True)
class ReadoutCounts:
    """What a read-out takes for log-probabilities.

    Parameters
    ----------
    macs : float
        Non-zero weights of columns of active sources.
    head_columns : float
        These columns of the head.
    groups : float
        Groups that are read.
    group_columns : float
        Columns of active sources in these.
    """

    macs: float = 0.0
    head_columns: float = 0.0
    groups: float = 0.0
    group_columns: float = 0.0

    def __add__(self, other: "ReadoutCounts") -> "ReadoutCounts":
        return ReadoutCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def per_token(self, tokens: int) -> "ReadoutCounts":
        """The same a token, of so many ``tokens`` together."""
        return ReadoutCounts(*(count / tokens for count in astuple(self)))


def checkpoint_readout(checkpoint: "Checkpoint") -> ReadoutColumns:
    """Column counts of the read-out of a checkpoint."""
    tensors, groups = checkpoint.tensors, checkpoint.configuration.readout
    words = tensors["embedding.weight" if checkpoint.configuration.tied else "readout.weight"]
    if groups is None:
        return ReadoutColumns.of(words, words[:0], np.arange(len(words)), [len(words)])
    order, sizes = tensors["readout.order"].astype(np.int64), [groups.head, *groups.groups]
    return ReadoutColumns.of(words, tensors["readout.group_weight"], order, sizes)


def integer_readout(network: "IntegerNetwork") -> ReadoutColumns:
    """Column counts of the read-out of an integer ``network``."""
    words, groups = network.embedding if network.readout_weight is None else network.readout_weight, network.groups
    if groups is None:
        return ReadoutColumns.of(words, words[:0], np.arange(len(words)), [len(words)])
    return ReadoutColumns.of(words, groups.weight, groups.order, [groups.head, *groups.sizes])


def checkpoint_columns(checkpoint: "Checkpoint") -> "list[ColumnCounts]":
    """Column counts of each layer of a checkpoint."""
    tensors, configuration = checkpoint.tensors, checkpoint.configuration
    return [
        ColumnCounts.of_layer(tensors[f"layers.{n}.weight_x"], tensors[f"layers.{n}.weight_y"], configuration.gates)
        for n in range(configuration.layers)
    ]


def integer_columns(network: "IntegerNetwork") -> "list[ColumnCounts]":
    """Column counts of each layer of an integer ``network``."""
    return [ColumnCounts.of_layer(layer.weight_x, layer.weight_y) for layer in network.layers]


class SourceCounts:
    """How often each source of each layer was active, added up over steps.

    Parameters
    ----------
    columns : list of ColumnCounts
        Gives the sizes.

    Attributes
    ----------
    steps : int
        Steps of all streams together.
    starts : int
        Of these, the ones from zero state, where many streams are short: sequences. 1 otherwise.
    x, y, s : list of np.ndarray of int64, one a layer
        Steps in which each source was not zero.
    events : list of int, one a layer
        Non-zero outputs of all neurons together.
    """

    def __init__(self, columns: "list[ColumnCounts]") -> None:
        self.steps, self.starts = 0, 1
        self.x = [np.zeros(len(layer.x), np.int64) for layer in columns]
        self.y = [np.zeros(len(layer.y), np.int64) for layer in columns]
        self.s = [np.zeros(len(layer.s), np.int64) for layer in columns]
        self.events = [0] * len(columns)

    def add(self, traces: list[Any], streams: int | None = None) -> None:
        """Add one step.

        Parameters
        ----------
        traces : list
            One a layer, with arrays ``x``, ``y_before``, ``s`` and ``y`` of shape [B, ...], as the networks' ``step``
            returns them.
        streams : int, optional
            Count only the first so many streams.
        """
        self.steps += len(traces[0].y[:streams])
        for layer, trace in enumerate(traces):
            self.x[layer] += np.count_nonzero(trace.x[:streams], axis=0)
            self.y[layer] += np.count_nonzero(trace.y_before[:streams], axis=0)
            self.s[layer] += np.count_nonzero(trace.s[:streams], axis=0)
            self.events[layer] += int(np.count_nonzero(trace.y[:streams]))

    @property
    def activity(self) -> list[float]:
        """Share of neurons with an event per step, 0 to 1, one a layer: list of float."""
        return [count / (self.steps * len(y)) for count, y in zip(self.events, self.y, strict=True)]


@dataclass(frozen=True)
class MacCounts:
    """MACs per token, read-out excluded.

    Attributes
    ----------
    dense : int
        Every weight, whatever its value.
    pruned : int
        Every non-zero weight.
    event_driven : float
        Every weight of an active source.
    event_driven_pruned : float
        Every non-zero weight of an active source.
    layers : tuple of float
        The last figure for each layer.
    """

    dense: int
    pruned: int
    event_driven: float
    event_driven_pruned: float
    layers: tuple[float, ...]


def count_macs(columns: "list[ColumnCounts]", sources: "SourceCounts") -> "MacCounts":
    """MACs per token of a network over the steps counted.

    Parameters
    ----------
    columns : list of ColumnCounts
    sources : SourceCounts
        At least one step.

    Returns
    -------
    MacCounts
    """
    event_driven, layers = 0, []
    for layer, x, y, s in zip(columns, sources.x, sources.y, sources.s, strict=True):
        event_driven += layer.rows_x * x.sum() + layer.rows_y * y.sum() + layer.rows_s * s.sum()
        layers.append(float(layer.x @ x + layer.y @ y + layer.s @ s) / sources.steps)
    return MacCounts(
        dense=sum(layer.weights for layer in columns),
        pruned=sum(layer.nonzeros for layer in columns),
        event_driven=float(event_driven) / sources.steps,
        event_driven_pruned=sum(layers),
        layers=tuple(layers),
    )


def folded_macs(network: "IntegerNetwork", tokens: np.ndarray, folded: int) -> float:
    """MACs per token that folded rows save: those of the first layer's inputs, where the token has a row.

    Parameters
    ----------
    network : IntegerNetwork
        With tokens as its input.
    tokens : np.ndarray of int, shape [N]
        Those that enter, at least one.
    folded : int
        Tokens, from the first one on, that have a row.

    Returns
    -------
    float
    """
    columns = np.count_nonzero(network.layers[0].weight_x, axis=0)
    entered = np.bincount(tokens, minlength=len(network.embedding))[:folded]
    return float(entered @ (network.embedding[:folded] != 0) @ columns) / len(tokens)
