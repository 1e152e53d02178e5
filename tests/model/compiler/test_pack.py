"""Packing: few words, and each weight once."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import RUN_BITS
from egret.model.compiler.pack import Matrix, matrices, pack_matrix
from tests.support.networks import few_values, random_network

quick = settings(
    deadline=None, print_blob=True, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
lanes = st.sampled_from([1, 2, 4, 8, 16, 32])


@quick
@given(lanes, st.integers(4, 8), st.sampled_from([16, 17, 40, 256, 700]), st.data())
def test_pack_matrix(lanes, run_bits, span, data):
    """Any set of positions, also all of one bank: few words, each weight once, and no step too far for a lane."""
    if 1 << run_bits > 2 * span:
        run_bits = 4
    banks = 2 * lanes
    far = min(4, banks) * span
    positions = data.draw(
        st.one_of(
            st.sets(st.integers(0, banks * span - 1), max_size=200),
            st.sets(st.integers(0, span - 1), max_size=40),
            st.just(set(range(min(300, banks * span)))),
            # Some at either end of the banks that one lane reaches.
            st.builds(
                set.union, st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(far - 12, far - 1), min_size=4)
            ),
        )
    )
    position = np.array(sorted(positions), int)
    weight = np.arange(1, len(position) + 1) % 127 + 1
    matrix = Matrix(0, "x", span, 2, np.ones(len(position), int), position, weight)
    weights, runs, counts, starts = pack_matrix(matrix, run_bits, lanes)
    assert counts.tolist() == [0, len(weights)] and weights.shape == runs.shape == (len(weights), lanes)
    assert not len(runs) or runs.max() < 1 << run_bits
    # A lane that goes on passes the ends of two banks at most.
    assert (((runs.astype(int) + 1) << np.where(weights == 0, RUN_BITS, 0))[1:] <= 2 * span).all()
    assert sorted(weights[weights != 0].tolist()) == sorted(weight.tolist())
    most = max((np.bincount(position // span).max(), -(-len(position) // lanes))) if len(position) else 0
    assert most <= len(weights) <= 2 * span
    if len(position) and 1 << run_bits > span + 1 and lanes == 1:  # no skips: what is left is the window's price
        assert len(weights) <= max(most, np.bincount(position // span // 2).max())


@pytest.mark.parametrize("lanes, speed, size", [(2, 0.97, 0.90), (8, 0.95, 0.88), (16, 0.86, 0.80)])
def test_balance_without_structure(lanes, speed, size):
    """Weights strewn at random fill the lanes' slots, and narrow runs take less memory."""
    network = few_values(random_network(5, embedding=300, hidden=(400,), density=0.15, accumulator_bits=24, tied=False))
    entries = sum(np.count_nonzero(part) for part in (network.layers[0].weight_x, network.layers[0].weight_y))
    memory = {}
    for goal, least in (("speed", speed), ("size", size)):
        c = configuration_for(network, lanes=lanes, goal=goal)
        assert entries / (c.weight_words * lanes) > least
        memory[goal] = c.weight_memory_bytes
    assert memory["size"] < memory["speed"] and memory["size"] / entries < 1.2


def test_matrices_are_complete():
    network = random_network(7, hidden=(9, 4), embedding=5)
    c = configuration_for(network, lanes=2)
    parts = matrices(network, c)
    assert [(part.layer, part.kind) for part in parts] == [(layer, kind) for layer in (0, 1) for kind in "xys"]
    assert sum(len(part.weight) for part in parts) == sum(
        np.count_nonzero(layer.weight_x) + np.count_nonzero(layer.weight_y) for layer in network.layers
    )
