"""What all tests share: random networks, and patience."""

import os

# Before numpy is imported; see `egret.host.cli.main.main`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from egret.model.checkpoint import Checkpoint
from egret.model.tokens import END_OF_LINE, Vocabulary

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")


@pytest.fixture(scope="session")
def random_checkpoint():
    """Factory ``(configuration, seed=1, density=1.0, scale=1.0) -> Checkpoint`` of random weights, biases, thresholds.

    ``density`` is the share of non-zero RNN weights, ``scale`` the standard deviation of all tensors (thresholds:
    half of it, and not negative). Characters are a, b, c, ...; words are <eos>, w1, w2, ...; ids are ids.
    """
    return _random_checkpoint


def _random_checkpoint(configuration, seed=1, density=1.0, scale=1.0):
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in configuration.tensor_shapes().items():
        tensor = scale * random.standard_normal(shape)
        if ".weight_" in name:
            tensor *= random.random(shape) < density
        elif name.endswith(".threshold"):
            tensor = np.abs(tensor) / 2
        if name == "readout.order":
            tensor = random.permutation(configuration.vocab_size)
        tensors[name] = tensor.astype(np.float32)
    if configuration.tokens == "id":
        return Checkpoint(configuration, tensors, Vocabulary.of_ids(configuration.vocab_size))
    if configuration.tokens == "char":
        tokens = [chr(ord("a") + index) for index in range(configuration.vocab_size)]
    else:
        tokens = [END_OF_LINE, *(f"w{index}" for index in range(1, configuration.vocab_size))]
    return Checkpoint(configuration, tensors, Vocabulary(tokens, configuration.tokens))
