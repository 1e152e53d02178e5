"""Folded rows: what the embedding of a token adds to the accumulators of the first layer, as a table."""

import numpy as np

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import word_layouts
from egret.model.integer import IntegerNetwork

__all__ = ["folded_rows", "row_format", "row_words"]

_ROWS_AT_ONCE = 1024


def folded_rows(network: IntegerNetwork, tokens: int | slice) -> np.ndarray:
    """What the embedding of each of some tokens adds to the accumulators of the first layer.

    Exactly the sum that the columns of x would add, by the definition of the integer network, in which no sum is
    more than 24 bits wide.

    Parameters
    ----------
    network : IntegerNetwork
    tokens : int or slice
        The first so many, or which.

    Returns
    -------
    np.ndarray of int32, shape [tokens, 3H]
        Gates stacked.
    """
    chosen = tokens if isinstance(tokens, slice) else slice(tokens)
    values = 2 * network.embedding[chosen].astype(np.float32)
    return (values @ network.layers[0].weight_x.T.astype(np.float32)).astype(np.int32)


def row_format(network: IntegerNetwork, tokens: int | None = None) -> tuple[int, int]:
    """The narrowest format of folded rows.

    Parameters
    ----------
    network : IntegerNetwork
    tokens : int, optional
        Of the first so many tokens; of all when not given.

    Returns
    -------
    bits, shift : int
        Width of the narrowest numbers that hold the rows, and how many zeros end all of these, as `Configuration` has
        them in ``row_bits`` and ``row_shift``.
    """
    tokens = len(network.embedding) if tokens is None else tokens
    least, most, ones = 0, 0, 0
    for start in range(0, tokens, _ROWS_AT_ONCE):
        rows = folded_rows(network, slice(start, min(start + _ROWS_AT_ONCE, tokens)))
        least, most = min(least, int(rows.min())), max(most, int(rows.max()))
        ones |= int(np.bitwise_or.reduce(rows, axis=None))
    shift = (ones & -ones).bit_length() - 1 if ones else 0
    return max(most >> shift, ~(least >> shift)).bit_length() + 1, shift


def row_words(rows: np.ndarray, configuration: Configuration) -> bytes:
    """Folded ``rows``, int32 [tokens, 3H], as the memory of a ``configuration`` holds them: a word an address."""
    c = configuration
    size = c.hidden[0]
    table = np.zeros((len(rows), c.row_depth, c.banks), np.int64)
    for gate in range(len(GATES)):
        bank, address = c.place(0, gate, np.arange(size))
        table[:, address, bank] = rows[:, gate * size : (gate + 1) * size]
    addends = table.reshape(-1, c.banks) >> c.row_shift
    return word_layouts(c)["rows"].pack({"addends": addends, "zeros": np.zeros(len(addends), np.int64)})
