"""A checkpoint as NeuroBench's harness measures it (arXiv 2304.04640): footprint, sparsity, effective MACs.

>>> model = neurobench_model(load_checkpoint("model/demo/network"))
>>> Benchmark(model, loader, [], [], [[Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]).run()

Its figures are ours, counted in other units:

==========================  ==========================================================================================
``Footprint``               bytes of the checkpoint's tensors
``ConnectionSparsity``      zeros of the layers' matrices and of the read-out's, together, rounded to 4 decimals
``ActivationSparsity``      1 - the activity of all layers together
``SynapticOperations``      ``Effective_MACs`` are those of a sample, not of a step: of the layers, event-driven and
                            pruned, and of the read-out in every step. ``Dense`` counts every weight.
==========================  ==========================================================================================
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from egret.model.errors import InputError, needs

if TYPE_CHECKING:
    from egret.model.checkpoint import Checkpoint

__all__ = ["neurobench_model"]


def neurobench_model(checkpoint: "Checkpoint") -> Any:
    """Wrap a checkpoint for NeuroBench.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of an EGRU whose read-out has no groups.

    Returns
    -------
    neurobench.models.TorchModel
        Takes tokens, int64 [N, T], or the numbers that enter, float32 [N, T, I], each sequence from zero state; gives
        the logits of each step, float32 [N, T, V].

    Raises
    ------
    InputError
        NeuroBench is not installed, or the network has another cell, or words in groups.
    """
    with needs("neurobench", "'egret-fpga[neurobench]'", "NeuroBench's harness"):
        from neurobench.models import TorchModel  # pyright: ignore[reportMissingImports]
    configuration = checkpoint.configuration
    if configuration.cell != "egru" or configuration.readout is not None:
        raise InputError("NeuroBench's harness is for an EGRU whose read-out has no groups: it counts whole matrices")
    model = TorchModel(_Network(checkpoint))
    model.add_activation_module(_Events)
    return model


class _Events(nn.Module):
    """What the harness takes for an activation: the events of the states before reset."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(threshold)

    def forward(self, before: Tensor) -> Tensor:
        return before * (before >= self.threshold)


class _Layer(nn.Module):
    """A layer whose matrices are modules of their own, since the harness counts at what enters a module."""

    def __init__(self, tensors, number):
        super().__init__()
        weight_x, weight_y, bias, threshold = (
            tensors[f"layers.{number}.{name}"] for name in ("weight_x", "weight_y", "bias", "threshold")
        )
        self.size = len(threshold)
        self.x = _linear(weight_x, bias)
        self.y = _linear(weight_y[: 2 * self.size])
        self.s = _linear(weight_y[2 * self.size :], tensors.get(f"layers.{number}.bias_y"))
        self.events = _Events(threshold)

    def forward(self, x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        u, r, z = self.x(x).split(self.size, dim=1)
        more = self.y(y).split(self.size, dim=1)
        u, r = torch.sigmoid(u + more[0]), torch.sigmoid(r + more[1])
        z = torch.tanh(z + (self.s(r * y) if self.s.bias is None else r * self.s(y)))
        before = u * z + (1 - u) * c
        y = self.events(before)
        return y, before - (y != 0) * self.events.threshold


class _Network(nn.Module):
    def __init__(self, checkpoint):
        super().__init__()
        self.configuration = checkpoint.configuration
        tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in checkpoint.tensors.items()}
        words = tensors.get("embedding.weight")
        self.embedding = None if words is None else nn.Embedding.from_pretrained(words, freeze=False)
        self.layers = nn.ModuleList(_Layer(tensors, number) for number in range(self.configuration.layers))
        self.readout = _linear(tensors.get("readout.weight", words), tensors["readout.bias"])
        if self.configuration.tied:
            assert self.embedding is not None
            self.readout.weight = self.embedding.weight

    @torch.no_grad()
    def forward(self, sequences: Tensor) -> Tensor:
        sizes, device = self.configuration.hidden_sizes, sequences.device
        states = [torch.zeros(2, len(sequences), size, device=device) for size in sizes]
        logits = []
        for step in range(sequences.shape[1]):
            x = sequences[:, step] if self.embedding is None else self.embedding(sequences[:, step])
            for number, layer in enumerate(self.layers):
                states[number] = torch.stack(layer(x, *states[number]))
                x = states[number][0]
            logits.append(self.readout(x))
        return torch.stack(logits, dim=1)


def _linear(weight, bias=None):
    """A module of a matrix [out, in] that is there."""
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    module.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        module.bias = nn.Parameter(bias)
    return module
