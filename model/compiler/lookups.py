"""How often a core looks up each column of weights: over a text, or over text that the network writes itself.

Where numbers enter a network, it writes none, and they are drawn.
"""

from typing import TYPE_CHECKING

import numpy as np

from egret.model.counts import SourceCounts, integer_columns
from egret.model.integer import IntegerEngine

if TYPE_CHECKING:
    from egret.model.integer import IntegerNetwork

__all__ = ["column_lookups", "estimate_lookups"]

STREAMS = 64
STEPS = 48
SETTLING = 8
"""First steps, which are not counted."""


def column_lookups(
    sources: SourceCounts, tokens: np.ndarray, embedding: np.ndarray, folded: int, reset: str
) -> list[tuple[np.ndarray, ...]]:
    """How often each column is looked up.

    Parameters
    ----------
    sources : SourceCounts
        Over some steps.
    tokens : np.ndarray of int
        Those that entered in these; none where numbers did.
    embedding : np.ndarray, shape [V, E]
    folded : int
        Tokens, from the first one on, that need no column of the first layer's inputs.
    reset : str
        Of the network.

    Returns
    -------
    list of (x, y, s), one a layer, each int64 [sources]; (x, y) with reset "after"
    """
    rows = np.count_nonzero(embedding[tokens[tokens < folded]], axis=0)
    kinds = ([sources.x[0] - rows, *sources.x[1:]], sources.y, *([sources.s] if reset == "before" else []))
    return list(zip(*kinds, strict=True))


def estimate_lookups(network: "IntegerNetwork", folded: int = 0, *, seed: int = 0) -> list[np.ndarray]:
    """Estimate how often each column is looked up.

    Parameters
    ----------
    network : IntegerNetwork
        With a read-out.
    folded : int
        As for `column_lookups`.
    seed : int

    Returns
    -------
    list of np.ndarray of float, one a layer
        Look-ups a step of each column: those of x, then y', then s where it has columns of its own.
    """
    engine, rng = IntegerEngine(network), np.random.default_rng(seed)
    sources = SourceCounts(integer_columns(network))
    counted = []
    engine.reset_state(STREAMS)
    tokens = rng.integers(0, len(network.embedding) or 1, STREAMS)
    for step in range(STEPS):
        if network.takes_events:
            # Half of the numbers are zeros.
            traces = engine.step(rng.integers(-255, 256, (STREAMS, network.embedding.shape[1])).clip(0))
        else:
            traces = engine.step(tokens)
        if step >= SETTLING:
            sources.add(traces)
            counted.append(tokens)
        logits = engine.read_out(traces[-1].y)
        tokens = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a sample of their softmax
    lookups = column_lookups(sources, np.concatenate(counted), network.embedding, folded, network.reset)
    return [np.concatenate(layer) / sources.steps for layer in lookups]
