"""Networks whose input is numbers, and sequences for them."""

import dataclasses

import numpy as np

from egret.model.integer import IntegerNetwork, split
from egret.model.sequences import Sequences
from egret.model.tokens import Vocabulary
from tests.support.networks import random_network


def number_network(seed: int, *, inputs: int = 5, hidden: tuple[int, ...] = (9, 7), classes: int = 4) -> IntegerNetwork:
    """A random network that numbers enter, and classes leave."""
    (_, part) = split(random_network(seed, hidden=(inputs, *hidden), density=0.6, threshold=300, z_bias=9000), [1])
    random = np.random.default_rng(seed)
    return dataclasses.replace(
        part,
        vocabulary=Vocabulary([f"class {number}" for number in range(classes)], "number"),
        readout_weight=random.integers(-127, 128, (classes, hidden[-1])).astype(np.int8),
        readout_bias=random.integers(-3000, 3000, classes).astype(np.int32),
    )


def number_sequences(seed: int, *, count: int = 6, steps: int = 4, inputs: int = 5, classes: int = 4) -> Sequences:
    """Random ones, a third of whose numbers are zeros."""
    random = np.random.default_rng(seed)
    x = random.integers(-120, 256, (count, steps, inputs)).clip(0).astype(np.uint8)
    return Sequences.of(x, random.integers(0, classes, count))
