"""Seeds of random cases."""

import pytest

__all__ = ["seeds"]


def seeds(count):
    """Seeds from 0 for ``parametrize``: the first one is quick, the further ones are slow."""
    return [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, count))]
