"""Random integer networks, whose every bias, threshold and shift is random too."""

import dataclasses

import numpy as np

from egret.model.integer import IntegerLayer, IntegerNetwork
from egret.model.readout import IntegerGroups
from egret.model.tokens import Vocabulary

__all__ = ["few_values", "random_groups", "random_network", "random_shape"]


def random_network(
    seed,
    *,
    vocabulary=7,
    embedding=5,
    hidden=(6,),
    density=0.5,
    bias=3000,
    z_bias=0,
    threshold=3000,
    shift=(5, 10),
    embedding_density=0.9,
    empty_columns=0.0,
    tied=None,
    accumulator_bits=24,
    gate_index_bits=10,
    reset="before",
):
    """A network of random numbers.

    Parameters
    ----------
    seed : int
    vocabulary, embedding, hidden
        Its shape.
    density, embedding_density : float
        Share of non-zero weights, and of non-zero elements of the embedding.
    bias, z_bias : int
        Biases are uniform within +-``bias``; ``z_bias`` is added to those of gate z.
    threshold : int or (int, int)
        Thresholds are uniform from 0, or from the first to the second number, both included.
    shift : (int, int)
        Smallest and largest shift.
    empty_columns : float
        Share of sources without any weight.
    tied : bool or None
        Whether the read-out is the embedding; None: where it can be.
    reset : str
        With "after" inner biases are uniform within +-``bias``.
    """
    rng = np.random.default_rng(seed)
    lowest, highest = (0, threshold) if isinstance(threshold, int) else threshold

    def weights(rows, columns):
        kept = (rng.random((rows, columns)) < density) & (rng.random(columns) >= empty_columns)
        return (rng.integers(-127, 128, (rows, columns)) * kept).astype(np.int8)

    layers, inputs = [], embedding
    for size in hidden:
        biases = rng.integers(-bias, bias + 1, 3 * size)
        biases[2 * size :] += z_bias
        layers.append(
            IntegerLayer(
                weights(3 * size, inputs),
                weights(3 * size, size),
                biases.astype(np.int32),
                rng.integers(lowest, highest + 1, size).astype(np.int32),
                tuple(rng.integers(shift[0], shift[1] + 1, 3).tolist()),
                rng.integers(-bias, bias + 1, size).astype(np.int32) if reset == "after" else None,
            )
        )
        inputs = size
    if tied is None:
        tied = hidden[-1] == embedding
    return IntegerNetwork(
        vocabulary=(
            Vocabulary([chr(0x100 + index) for index in range(vocabulary)], "char")
            if vocabulary < 1 << 15
            else Vocabulary.of_ids(vocabulary)
        ),
        embedding=(
            rng.integers(-127, 128, (vocabulary, embedding)) * (rng.random((vocabulary, embedding)) < embedding_density)
        ).astype(np.int8),
        layers=tuple(layers),
        readout_weight=None if tied else rng.integers(-127, 128, (vocabulary, hidden[-1])).astype(np.int8),
        readout_bias=rng.integers(-(1 << 31), 1 << 31, vocabulary).astype(np.int32),
        readout_fraction=int(rng.integers(0, 31)),
        accumulator_bits=accumulator_bits,
        gate_index_bits=gate_index_bits,
    )


def random_shape(seed, *, layers=4, size=12):
    """Random ``embedding`` and ``hidden`` of up to ``layers`` layers of up to ``size`` neurons."""
    rng = np.random.default_rng(seed)
    hidden = rng.integers(1, size + 1, rng.integers(1, layers + 1))
    return {"embedding": int(rng.integers(1, size + 1)), "hidden": tuple(hidden.tolist())}


def few_values(network):
    """The network with each matrix limited to 15 non-zero values."""

    def limit(weights):
        coarse = weights.astype(int) // 18 * 18 + 9
        return np.where(weights == 0, 0, np.clip(coarse, -117, 117)).astype(np.int8)

    return dataclasses.replace(
        network,
        layers=tuple(
            dataclasses.replace(layer, weight_x=limit(layer.weight_x), weight_y=limit(layer.weight_y))
            for layer in network.layers
        ),
    )


def random_groups(network, *, head, sizes, rows=2, seed=0, codebook=None, fraction=14, bias=1 << 15):
    """The network with a read-out in groups, whose words are divided at random, and whose biases are within +-bias."""
    random = np.random.default_rng(seed)
    entries = len(sizes) * rows
    groups = IntegerGroups(
        order=random.permutation(len(network.embedding)).astype(np.int32),
        head=head,
        sizes=tuple(sizes),
        rows=rows,
        weight=random.integers(-90, 91, (entries, network.hidden[-1])).astype(np.int8),
        bias=random.integers(-bias, bias + 1, entries).astype(np.int32),
    )
    return dataclasses.replace(
        network,
        groups=groups,
        readout_codebook=codebook,
        readout_fraction=fraction,
        readout_bias=random.integers(-bias, bias + 1, len(groups.order)).astype(np.int32),
    )
