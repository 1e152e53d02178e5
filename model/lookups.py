"""How often a core looks up each column of weights: measured on text that the network writes itself."""

import numpy as np

from egret.model.counts import SourceCounts, integer_columns
from egret.model.integer import IntegerNetwork

__all__ = ["estimate_lookups"]

STREAMS = 64
STEPS = 48
SETTLING = 8
"""First steps, which are not counted."""


def estimate_lookups(parameters, folded=0, *, seed=0):
    """Estimate how often each column is looked up.

    Parameters
    ----------
    parameters : IntegerParameters
        With a read-out.
    folded : int
        Tokens, from the first one on, that need no column of the first layer's inputs.
    seed : int

    Returns
    -------
    list of np.ndarray of float, one a layer
        Look-ups a step of each column: those of x, then y', then s.
    """
    network, rng = IntegerNetwork(parameters), np.random.default_rng(seed)
    sources = SourceCounts(integer_columns(parameters))
    embedded = np.zeros(parameters.embedding.shape[1], np.int64)
    network.reset_state(STREAMS)
    tokens = rng.integers(0, len(parameters.embedding), STREAMS)
    for step in range(STEPS):
        traces = network.step(tokens)
        if step >= SETTLING:
            sources.add(traces)
            embedded += np.count_nonzero(parameters.embedding[tokens[tokens >= folded]], axis=0)
        logits = network.read_out(traces[-1].y)
        tokens = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a sample of their softmax
    x = [embedded, *sources.x[1:]]
    return [np.concatenate(layer) / sources.steps for layer in zip(x, sources.y, sources.s, strict=True)]
