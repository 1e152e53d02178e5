"""Training on sequences that are not text (`egret.model.sequences`): an EGRU, and a linear read-out of its classes.

A few thousand sequences take a minute on a processor. BPTT goes through whole sequences; the loss is the cross entropy
of the classes that are asked for, and a price on events.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.errors import InputError
from egret.model.sequences import NO_CLASS, Sequences
from egret.model.tokens import Vocabulary
from egret.model.training.cells import egru_layer

__all__ = ["train_sequences"]

_THRESHOLD_MEAN = 0.05
_PRUNED_FROM, _PRUNED_TO = 0.25, 0.65  # of the epochs, between which weights become zeros
_CLIP = 1.0  # largest norm of the gradient


def train_sequences(
    sequences: Sequences,
    classes: Vocabulary,
    hidden: Sequence[int],
    *,
    reset: str = "before",
    sparsity: float = 0.0,
    epochs: int = 60,
    batch: int = 64,
    learning_rate: float = 4e-3,
    weight_decay: float = 1e-2,
    event_weight: float = 0.0,
    dropout: float = 0.2,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> Checkpoint:
    """Train an EGRU to tell classes of sequences apart.

    Parameters
    ----------
    sequences : Sequences
    classes : Vocabulary
        Of the kind ``"number"``: names of the classes.
    hidden : sequence of int
        Neurons of each layer.
    reset : str
        ``"before"`` or ``"after"`` the matrix.
    sparsity : float
        Share of each layer's weights that become zeros, the smallest ones, 0 to below 1. The share rises by a cubic law
        (Zhu & Gupta, arXiv 1710.01878 eq. 1).
    epochs, batch, learning_rate, weight_decay
        Of AdamW, whose learning rate falls by a half cosine.
    event_weight : float
        Price of an event a neuron and step, beside the cross entropy.
    dropout : float
        Of each layer's outputs, 0 to below 1.
    change : callable, optional
        Called as ``change(values, random)`` with each batch, uint8 [B, T, I], and gives what is trained on instead.
    seed : int
    progress : callable, optional
        Called as ``progress(done, total)``, both in epochs.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        A parameter is out of range, or a class has no name.
    """
    for name, value in (("sparsity", sparsity), ("dropout", dropout)):
        if not 0 <= value < 1:
            raise InputError(f"{name} must be from 0 to below 1, not {value!r}")
    for name, value in (("epochs", epochs), ("batch", batch)):
        if type(value) is not int or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, not {value!r}")
    shape = NetworkConfiguration("egru", classes.kind, classes.size, sequences.inputs, tuple(hidden), reset, tied=False)
    sequences.check(sequences.inputs, classes.size)
    random, shapes = np.random.default_rng(seed), shape.tensor_shapes().items()
    tensors = {name: nn.Parameter(torch.from_numpy(_start(name, size, random))) for name, size in shapes}
    fixed = {name: tensors.pop(name).detach() for name in list(tensors) if name.endswith(".threshold")}
    matrices = [tensor for name, tensor in tensors.items() if name.startswith("layers.") and tensor.ndim == 2]
    others = [tensor for name, tensor in tensors.items() if not (name.startswith("layers.") and tensor.ndim == 2)]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)
    torch.manual_seed(seed)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * epoch / epochs)) / 2)
        passed = min(max((epoch / epochs - _PRUNED_FROM) / (_PRUNED_TO - _PRUNED_FROM), 0), 1)
        share = sparsity * (1 - (1 - passed) ** 3)
        masks = [_mask(matrix.detach(), share) for matrix in matrices]
        order = random.permutation(len(sequences))
        for first in range(0, len(order), batch):
            some = order[first : first + batch]
            values = sequences.values[some] if change is None else change(sequences.values[some], random)
            asked = torch.from_numpy(sequences.classes[some].T.astype(np.int64))
            loss, activity = _loss(shape, tensors | fixed, values, asked, dropout)
            optimiser.zero_grad()
            (loss + event_weight * activity).backward()
            nn.utils.clip_grad_norm_(tensors.values(), _CLIP)
            optimiser.step()
            with torch.no_grad():
                for matrix, mask in zip(matrices, masks, strict=True):
                    matrix *= mask
        if progress is not None:
            progress(epoch + 1, epochs)
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in (tensors | fixed).items()}
    return Checkpoint(shape, arrays, classes)


def _start(name, size, random):
    """Where a parameter begins, float32."""
    if name.endswith(".threshold"):
        values = random.beta(3, 3 / _THRESHOLD_MEAN - 3, size)
    elif len(size) == 1:
        values = np.zeros(size)
    else:
        bound = 1 / math.sqrt(size[0] / 3 if name.startswith("layers.") else size[1])
        values = random.uniform(-bound, bound, size)
    return values.astype(np.float32)


def _loss(shape, tensors, values, asked, dropout):
    """Cross entropy of the classes asked for, and the mean share of neurons with an event."""
    x = torch.from_numpy(values).permute(1, 0, 2).float() * 2.0**-VALUE_FRACTION
    activity = []
    for layer, size in enumerate(shape.hidden_sizes):
        names = ("weight_x", "weight_y", "bias", "threshold", "bias_y")
        zeros = torch.zeros(x.shape[1], size)
        parts = (tensors.get(f"layers.{layer}.{name}") for name in names)
        x, events, _ = egru_layer(x, (zeros, zeros), *parts)
        activity.append(events.mean())
        x = functional.dropout(x, dropout)
    logits = functional.linear(x, tensors["readout.weight"], tensors["readout.bias"])
    loss = functional.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=NO_CLASS)
    return loss, torch.stack(activity).mean()


def _mask(matrix, share):
    """1 for the weights that stay, 0 for the ``share`` of the smallest."""
    count = int(share * matrix.numel())
    if not count:
        return torch.ones_like(matrix)
    return (matrix.abs() > matrix.abs().flatten().kthvalue(count).values).float()
