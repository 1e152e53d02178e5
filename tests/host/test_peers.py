"""PyTorch's engines give the integer network's events and log-probabilities; what is published is what sources say."""

import dataclasses

import numpy as np
import pytest
import torch

from egret.host import peers
from egret.host.counterparts import dense_counterpart
from egret.host.peers import CLOSE, ENGINES, NATIVE, PUBLISHED, TorchNetwork, run_engines
from egret.model.integer import IntegerEngine
from egret.model.readout import LOG_FRACTION
from tests.support.networks import random_groups, random_network, random_shape

NETWORKS = {
    **{str(seed): random_network(seed, **random_shape(seed, size=40)) for seed in range(6)},
    "few weights": random_network(6, hidden=(9, 7), density=0.05, empty_columns=0.5),
    "no weights": random_network(7, hidden=(6, 5), density=0.0),
    "silent": random_network(8, hidden=(9, 7), threshold=(32767, 32767)),
    "always active": dense_counterpart(random_network(9, hidden=(9, 7))),
    "large": random_network(10, embedding=200, hidden=(300, 200), density=0.2, shift=(8, 14), bias=1 << 20),
    "wide tables": random_network(11, hidden=(20, 20), gate_index_bits=12, threshold=500, z_bias=3000),
}


@pytest.fixture
def one_thread():
    """The matrices are small."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_event_is_the_integer_networks(name, engine):
    network = NETWORKS[name]
    peer, integer = TorchNetwork(network, ENGINES[engine]), IntegerEngine(network)
    tokens = np.random.default_rng(1).integers(0, len(network.embedding), 25)
    for again in range(2):
        peer.reset()
        integer.reset_state()
        for step, token in enumerate(tokens):
            expected = integer.step(np.array([token]))
            for layer, (events, trace) in enumerate(zip(peer.step(int(token)), expected, strict=True)):
                np.testing.assert_array_equal(events.numpy(), trace.y[0], f"{again}, step {step}, layer {layer}")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("groups", [None, {"head": 21, "sizes": (30, 1, 8)}, {"head": 0, "sizes": (59, 1)}])
def test_log_probabilities_are_the_integer_networks(groups, engine):
    """But for what the tables of exponentials and logarithms round."""
    network = random_network(3, vocabulary=60, embedding=9, hidden=(8, 9), density=0.9, threshold=0, z_bias=20_000)
    options = {"fraction": 15, "codebook": np.array([-80, -9, 9, 80], np.int8)}
    network = (
        random_groups(network, **groups, **options)
        if groups
        else dataclasses.replace(network, readout_fraction=12, readout_bias=network.readout_bias >> 18)
    )
    peer, integer = TorchNetwork(network, ENGINES[engine]), IntegerEngine(network)
    found = []
    for token in np.random.default_rng(1).integers(0, 60, 40).tolist():
        y = integer.step(np.array([token]))[-1].y
        words = np.arange(60)
        exact = integer.log_probabilities(np.repeat(y, 60, axis=0), words) * 2.0**-LOG_FRACTION
        events = torch.from_numpy(y[0].astype(np.float32))
        found.append([peer.log_probability(events, word) for word in words.tolist()])
        np.testing.assert_allclose(found[-1], exact, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-4)
    assert np.ptp(found) > 1


def test_the_networks_are_not_trivial():
    counts = {}
    for name, network in NETWORKS.items():
        integer = IntegerEngine(network)
        tokens = np.random.default_rng(1).integers(0, len(network.embedding), 25)
        counts[name] = sum(np.count_nonzero(integer.step(np.array([token]))[-1].y) for token in tokens)
    assert counts.pop("silent") == 0
    assert min(counts[name] for name in ("few weights", "large", "wide tables")) > 0
    assert sum(map(bool, counts.values())) >= 10, counts


def test_runs(monkeypatch):
    # The read-out takes most of a token, so that the times are in order however busy the machine is.
    network, seen = random_network(0, vocabulary=3000, embedding=9, hidden=(8, 9), threshold=0, z_bias=20_000), []
    ids = np.random.default_rng(2).integers(0, len(network.embedding), 11)
    usual = torch.get_num_threads()
    runs = run_engines(network, ids, progress=lambda *counts: seen.append(counts))
    assert [run.name for run in runs] == [*NATIVE, *(f"PyTorch, {name}" for name in ENGINES)]
    assert seen == [(done, 6) for done in range(3, 7)]
    for run in runs:
        assert run.mismatches == 0 and 0 < run.seconds < 1 and run.threads in (1, usual)
        assert run.seconds < run.whole_seconds < 1
    assert torch.get_num_threads() == usual
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    # An engine whose products are wrong is found out.
    wrong = {"dense": lambda weights: lambda values: torch.full((len(weights),), 4000.0), "pruned": peers._pruned}
    monkeypatch.setattr(peers, "ENGINES", wrong)
    monkeypatch.setattr(TorchNetwork, "log_probability", lambda self, y, word: float("nan"))
    *_, torch_run = run_engines(network, ids)
    assert torch_run.mismatches >= 3 * 10
    monkeypatch.setattr(peers.NativeEngine, "log_probabilities", lambda self, y, words: np.zeros(len(y), np.int64))
    *native, torch_run = run_engines(network, ids)
    assert torch_run.name == "PyTorch, dense" and torch_run.mismatches > 0
    assert [run.mismatches for run in native] == [10, 10]


def test_published():
    figures = {one.name: one for one in PUBLISHED}
    assert figures["SpiNNaker 2"].seconds == pytest.approx(2.43e-3, rel=1e-3)
    assert figures["SpiNNaker 2"].joules == pytest.approx(0.929e-3, rel=1e-3)
    assert figures["EdgeDRNN"].joules == pytest.approx(1.2e-3)
    assert figures["Spartus"].joules == pytest.approx(8.545e-6, rel=1e-3)
    for one in PUBLISHED:
        assert "arXiv" in one.source
        assert ("derived" in one.source) == (one.name != "Loihi 2")
