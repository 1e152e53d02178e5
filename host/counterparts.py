"""Networks of another one's shape without its sparsity: what a core gains by it is measured against them."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from egret.model.integer import IntegerLayer

if TYPE_CHECKING:
    from egret.model.integer import IntegerNetwork

__all__ = ["dense_counterpart", "unpruned_counterpart"]


def dense_counterpart(network: "IntegerNetwork", *, pruned: bool = False) -> "IntegerNetwork":
    """A network of the same shape in which every neuron has an event in every step, and no weight is zero.

    All weights are 1, inputs and thresholds such that every gate is open: the sums are positive, so the state before
    reset is positive and above the threshold of zero from the first step on.

    Parameters
    ----------
    network : IntegerNetwork
    pruned : bool
        Leave the weights zero that are zero.

    Returns
    -------
    IntegerNetwork
    """

    def ones(weights):
        return (weights != 0).astype(weights.dtype) if pruned else np.ones_like(weights)

    layers = tuple(
        IntegerLayer(
            weight_x=ones(layer.weight_x),
            weight_y=ones(layer.weight_y),
            bias=np.full_like(layer.bias, 1 << 12),
            threshold=np.zeros_like(layer.threshold),
            shift=(1, 1, 1),
            bias_y=None if layer.bias_y is None else np.zeros_like(layer.bias_y),
        )
        for layer in network.layers
    )
    return dataclasses.replace(network, embedding=np.full_like(network.embedding, 127), layers=layers)


def unpruned_counterpart(network: "IntegerNetwork", *, seed: int = 0) -> "IntegerNetwork":
    """A network of the same shape, and of nearly the same activity, in which no weight is zero.

    The zeros become 1 or -1, at random: the least that an 8-bit weight can be.

    Parameters
    ----------
    network : IntegerNetwork
    seed : int

    Returns
    -------
    IntegerNetwork
    """
    rng = np.random.default_rng(seed)

    def fill(weights):
        least = rng.integers(0, 2, weights.shape, np.int8) * 2 - 1
        return np.where(weights == 0, least, weights).astype(np.int8)

    return dataclasses.replace(
        network,
        layers=tuple(
            dataclasses.replace(layer, weight_x=fill(layer.weight_x), weight_y=fill(layer.weight_y))
            for layer in network.layers
        ),
    )
