"""PyTorch's engines give the integer network's events, all of them; what is published is what the sources say."""

import numpy as np
import pytest
import torch

from egret.host import peers
from egret.host.counterparts import dense_counterpart
from egret.host.peers import ENGINES, NATIVE, PUBLISHED, TorchNetwork, run_engines
from egret.model.integer import IntegerEngine
from tests.support.networks import random_network, random_shape

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
    network, seen = NETWORKS["0"], []
    ids = np.random.default_rng(2).integers(0, len(network.embedding), 11)
    usual = torch.get_num_threads()
    runs = run_engines(network, ids, progress=lambda *counts: seen.append(counts))
    assert [run.name for run in runs] == [*NATIVE, *(f"PyTorch, {name}" for name in ENGINES)]
    assert seen == [(done, 6) for done in range(3, 7)]
    for run in runs:
        assert run.mismatches == 0 and 0 < run.seconds < 1 and run.threads in (1, usual)
        assert (run.whole_seconds is not None) == (run.name in NATIVE)
    assert torch.get_num_threads() == usual
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    # An engine whose products are wrong is found out.
    wrong = {"dense": lambda weights: lambda values: torch.full((len(weights),), 4000.0), "pruned": peers._pruned}
    monkeypatch.setattr(peers, "ENGINES", wrong)
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
