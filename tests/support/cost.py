"""Small networks and texts for the model of cost."""

import numpy as np

from egret.host.cost.model import Constants
from egret.host.cost.work import Columns, Work, count_sources
from egret.model.counts import integer_columns, integer_readout
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine
from tests.support.networks import few_values, random_network

__all__ = ["EXACT", "columns", "counted", "evaluated", "small", "work"]

EXACT = Constants(layer=50, passes=1.5, gate=20, burst=2, gaps=1.2)


def columns(rows, weights, number, taken):
    return Columns(rows, np.array([float(weights)]), np.array([float(number)]), np.array([float(taken)]))


def work(hidden=(100,), *, inputs=50, weights=60, taken=20.0, **others):
    """Every column of a matrix alike, all inputs and ``taken`` events taken."""
    layers, before = [], inputs
    for size in hidden:
        layers.append(
            (
                columns(3 * size, weights, before, min(before, 50)),
                columns(2 * size, weights, size, taken),
                columns(size, weights, size, taken),
            )
        )
        before = size
    return Work(hidden, inputs, 1000, tuple(layers), (taken,) * len(hidden), **{"lanes": 4, "store": "bram"} | others)


def small(seed=1, **options):
    return few_values(random_network(seed, **{"embedding": 64, "hidden": (96, 80), "density": 0.2} | options))


def evaluated(network, steps=12):
    ids = np.random.default_rng(3).integers(0, network.embedding.shape[0], steps + 1)
    return evaluate(IntegerEngine(network), integer_columns(network), ids, readout=integer_readout(network)), ids


def counted(network, steps=12):
    ids = np.random.default_rng(3).integers(0, network.embedding.shape[0], steps + 1)
    return count_sources(network, ids), ids
