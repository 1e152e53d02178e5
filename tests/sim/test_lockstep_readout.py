"""Cores with a read-out under Icarus and Verilator, every score and every answer compared with the integer network."""

import dataclasses

import numpy as np
import pytest

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.unpack import read_image
from egret.model.integer import IntegerEngine
from egret.model.readout import ReadOut
from egret.sim.lockstep import LockstepError, run
from tests.rtl.test_core_readout import reading_network

TOKENS = 12


def check(network, *, simulator="icarus", lanes=2, tokens=TOKENS, seed=1, **options):
    """Run random tokens with every task in turn; the number of scores that were compared."""
    store = options.pop("store", "bram")
    image = compile_image(network, configuration_for(network, lanes=lanes, store=store, readout=True))
    tokens = np.random.default_rng(seed).integers(0, len(network.embedding), tokens)
    result = run(image, tokens, simulator=simulator, seed=seed, **options)
    c = result.counters
    reads = TOKENS * 3 // 4
    assert c["groups"] <= reads * len(image.configuration.hidden) * image.configuration.readout.matrices
    assert result.compared["output"] >= len(tokens)
    assert result.compared["results"] >= reads
    return result.compared["scores"]


def without_events(network):
    """The network with thresholds that nothing reaches, so that the read-out sees no event."""
    layers = [
        dataclasses.replace(
            layer, threshold=np.full_like(layer.threshold, 32767), bias=np.minimum(layer.bias, -(1 << 20))
        )
        for layer in network.layers
    ]
    return dataclasses.replace(network, layers=tuple(layers))


def all_equal(network):
    """The network whose words all have the same logit."""
    return dataclasses.replace(
        network,
        readout_weight=np.zeros((len(network.embedding), network.hidden[-1]), np.int8),
        readout_bias=np.full_like(network.readout_bias, 12345),
    )


def saturating(network):
    """The network whose scores reach both ends of their range."""
    bias = np.where(np.arange(len(network.readout_bias)) % 2, (1 << 31) - 1, -(1 << 31)).astype(np.int32)
    weight = np.full((len(network.embedding), network.hidden[-1]), 127, np.int8)
    weight[::2] = -127
    return dataclasses.replace(network, readout_weight=weight, readout_bias=bias, readout_fraction=11)


@pytest.mark.parametrize(
    "head, sizes, rows, change",
    [
        (1, (1,), 1, lambda network: network),  # one word in the head, a group of one
        (0, (3, 1, 2), 4, lambda network: network),
        (5, (4, 9), 2, without_events),
        (2, (4, 3), 2, all_equal),
        (3, (5, 2), 2, saturating),
    ],
    ids=["one", "no-head", "no-events", "equal", "saturating"],
)
def test_odd_readouts(head, sizes, rows, change):
    network = change(reading_network(3, head=head, sizes=sizes, rows=rows))
    scores = check(network, backpressure=0.5, idle=0.5)
    assert scores >= TOKENS * 3 // 4 * (head + len(sizes) * rows)


@pytest.mark.parametrize(
    "simulator, reset",
    [("icarus", "before"), ("icarus", "after"), pytest.param("verilator", "before", marks=pytest.mark.slow)],
)
def test_a_plain_readout(simulator, reset):
    network = dataclasses.replace(reading_network(4, head=9, sizes=(1,), reset=reset), groups=None)
    assert check(network, simulator=simulator) == TOKENS * 3 // 4 * 10


def test_weights_in_an_sdram():
    network = reading_network(5, head=4, sizes=(9, 3), few=True)
    assert check(network, lanes=4, store="sdram", restart=6) > 0


def test_another_weight_is_told():
    """What the core holds is one weight of the head away from what it is compared with."""
    network = reading_network(6, head=6, sizes=(5,))
    other = ReadOut(network).weights[0][:6].copy()
    words = np.zeros((len(network.embedding), network.hidden[-1]), np.int8)
    words[ReadOut(network).order] = np.concatenate([other, ReadOut(network).weights[1]])
    engine = IntegerEngine(network)
    traces = engine.step(np.array([0]))
    while not traces[-1].y.any():
        traces = engine.step(np.array([1]))
    words[ReadOut(network).order[0], np.flatnonzero(traces[-1].y[0])[0]] ^= 64
    changed = dataclasses.replace(network, readout_weight=words)
    c = configuration_for(network, lanes=2, readout=True)
    one, two = compile_image(network, c), compile_image(changed, c)
    assert read_image(one).groups is not None
    tokens = [0, *[1] * 30]
    with pytest.raises(LockstepError, match="stream scores: step .*, entry 0: expected"):
        run(one, tokens, simulator="icarus", loaded=two)
