"""A checkpoint under NeuroBench's harness, beside our own counts."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from egret.model.checkpoint import NetworkConfiguration, load_checkpoint
from egret.model.counts import checkpoint_columns, checkpoint_readout
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine
from egret.model.sequences import Sequences, evaluate_sequences
from egret.model.training.neurobench import neurobench_model

TEXT = NetworkConfiguration("egru", "char", 9, 6, (8, 6))


def harness(checkpoint, x, y, *more, batch=2):
    """What it reports over sequences, with some metrics more."""
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install 'egret-fpga[neurobench]'")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics import static, workload

    metrics = [static.Footprint, static.ConnectionSparsity], [workload.ActivationSparsity, workload.SynapticOperations]
    loader = DataLoader(TensorDataset(x, y), batch_size=batch)
    last = [lambda logits: logits[:, -1].argmax(dim=-1)]
    return Benchmark(neurobench_model(checkpoint), loader, [], last, [metrics[0], [*metrics[1], *more]]).run(quiet=True)


def check(found, checkpoint, steps, activity, macs, readout):
    """Against our ``activity`` of all neurons and MACs of a step."""
    tensors = checkpoint.tensors
    assert found["Footprint"] == sum(tensor.nbytes for tensor in tensors.values())
    words = tensors["embedding.weight" if checkpoint.configuration.tied else "readout.weight"]
    matrices = [words, *(tensor for name, tensor in tensors.items() if ".weight_" in name)]
    zeros = sum(np.count_nonzero(matrix == 0) for matrix in matrices) / sum(matrix.size for matrix in matrices)
    assert found["ConnectionSparsity"] == pytest.approx(zeros, abs=1e-4)
    assert found["ActivationSparsity"] == pytest.approx(1 - activity)
    operations = found["SynapticOperations"]
    assert operations["Effective_ACs"] == 0
    assert operations["Effective_MACs"] / steps == pytest.approx(macs.event_driven_pruned + readout)
    assert operations["Dense"] / steps == macs.dense + words.size


@pytest.mark.parametrize("changes", [{}, {"reset": "after"}, {"hidden_sizes": (8, 7), "tied": False}])
def test_text(random_checkpoint, changes):
    checkpoint = random_checkpoint(dataclasses.replace(TEXT, **changes), density=0.4, scale=0.7)
    ids = np.random.default_rng(1).integers(0, 9, 31)
    engine = FloatEngine(checkpoint)
    ours = evaluate(engine, checkpoint_columns(checkpoint), ids, readout=checkpoint_readout(checkpoint))
    found = harness(checkpoint, torch.tensor(ids[None, :-1]), torch.tensor(ids[-1:]))
    sizes = checkpoint.configuration.hidden_sizes
    check(found, checkpoint, 30, np.dot(ours.activity, sizes) / sum(sizes), ours.macs, ours.macs_readout)


def test_numbers():
    """The digits, with their accuracy; our count of the read-out has the last step of a sequence alone."""
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install 'egret-fpga[neurobench]'")
    from neurobench.metrics.workload import ClassificationAccuracy

    checkpoint, data = load_checkpoint("model/digits"), Sequences.load("model/digits/test.npz").first(20)
    every = dataclasses.replace(data, classes=np.repeat(data.classes[:, -1:], data.steps, axis=1))
    counts, engine = (checkpoint_columns(checkpoint), checkpoint_readout(checkpoint)), FloatEngine(checkpoint)
    ours = evaluate_sequences(engine, *counts, every, integers=False)
    x, y = torch.tensor(data.values / np.float32(256)), torch.tensor(data.classes[:, -1])
    found = harness(checkpoint, x, y, ClassificationAccuracy, batch=8)
    check(found, checkpoint, data.steps, ours.activity[0], ours.macs, ours.macs_readout)
    right = evaluate_sequences(engine, *counts, data, integers=False).accuracy
    assert found["ClassificationAccuracy"] == pytest.approx(right)


def test_what_is_refused(random_checkpoint):
    pytest.importorskip("neurobench", reason="NeuroBench is not installed: pip install 'egret-fpga[neurobench]'")
    with pytest.raises(InputError, match="is for an EGRU whose read-out has no groups"):
        neurobench_model(random_checkpoint(NetworkConfiguration("lstm", "char", 9, 6, (6,))))
