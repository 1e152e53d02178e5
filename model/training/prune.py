"""Global unstructured magnitude pruning with fine-tuning.

The weights of all recurrent layers (every ``weight_x`` and ``weight_y``) are ranked together by magnitude and the
smallest become zero; the embedding, the read-out, biases and thresholds are left alone. Pruning goes in steps, each
followed by fine-tuning in which pruned weights stay zero. Called by ``egret prune`` as::

    training = TrainingOptions.from_toml(path, **overrides)        # texts, batch, dropout, ...; network fields ignored
    pruning = PruningOptions(sparsity=0.85, steps=4, epochs=40, learning_rate=6e-4)
    result = prune(checkpoint_directory, directory, training, pruning, progress=True)

`directory` becomes a checkpoint directory with the best network at the final sparsity, and holds the training state
from pathlib import Path
from which a killed run goes on, as for `egret.model.training.train`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from egret.model.errors import InputError
from egret.model.training.distillation import load_network
from egret.model.training.grouping import with_groups
from egret.model.training.loop import Trainer, TrainingResult
from egret.model.training.network import LanguageModel
from egret.model.training.options import TrainingOptions
from egret.model.training.train import read_texts

__all__ = ["UNUSED", "PruningOptions", "prune", "prune_magnitude", "schedule"]

SHAPE = ("tokens", "cell", "reset", "tied", "embedding_size", "hidden_sizes")
UNUSED = (*SHAPE, "vocabulary", "epochs", "learning_rate", "warmup", "decay_from")
"""Fields of `TrainingOptions` that a pruning takes from its parent and from its `PruningOptions`."""


@dataclass(frozen=True, kw_only=True)
class PruningOptions:
    """How to prune, validated at construction.

    Parameters
    ----------
    sparsity : float
        Share of the recurrent layers' weights that end as zero, from 0 to below 1.
    steps : int
        Number of times that weights are pruned; one is enough for low sparsity.
    epochs : int
        Epochs of fine-tuning, all steps together.
    spread : float
        Share of the epochs before the last pruning, from 0 to below 1; unused with one step.
    learning_rate : float
        At the start of fine-tuning; cosine decay to zero over all epochs unless the training options say otherwise.
    regrow : bool
        Nothing is pruned, and weights that are zero may grow again: a dense network from a pruned one. Needs
        sparsity 0; without it, what is zero stays so.

    Raises
    ------
    InputError
        If a field has a value that is not accepted, naming the field.
    """

    sparsity: float
    steps: int = 1
    epochs: int = 10
    spread: float = 0.4
    learning_rate: float = 5e-4
    regrow: bool = False

    def __post_init__(self) -> None:
        for name, most in (("sparsity", 1), ("spread", 1), ("learning_rate", 10)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < most:
                raise InputError(f"{name} must be a number from 0 to below {most}, not {value!r}")
        for name in ("steps", "epochs"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise InputError(f"{name} must be an integer of at least 1, not {getattr(self, name)!r}")
        if self.steps > self.epochs:
            raise InputError(f"steps must be at most epochs ({self.epochs}), not {self.steps}")
        if self.regrow and self.sparsity:
            raise InputError(f"sparsity must be 0 where zeros may grow again, not {self.sparsity!r}")


def schedule(options: PruningOptions, already: float = 0.0) -> dict[int, float]:
    """Epochs before which to prune, and to what sparsity.

    Sparsity rises fast at first and slowly towards its end (a cubic), when there is the most left to lose.

    Parameters
    ----------
    options : PruningOptions
    already : float
        Share of weights that are zero before.

    Returns
    -------
    dict of int to float
        Rising in both; the last value is the final sparsity. Empty with `regrow`.
    """
    if options.regrow:
        return {}
    last = max(options.steps - 1, round(options.epochs * options.spread)) if options.steps > 1 else 0
    last = min(last, options.epochs - 1)
    plan = {}
    for index in range(options.steps):
        epoch = round(last * index / max(1, options.steps - 1))
        left = 1 - (index + 1) / options.steps
        plan[epoch] = options.sparsity - max(0.0, options.sparsity - already) * left**3
    return plan


def prune_magnitude(model: LanguageModel, sparsity: float) -> None:
    """Set the smallest weights of all recurrent layers together to zero, in place.

    Parameters
    ----------
    model : LanguageModel
    sparsity : float
        Share of these weights that are zero afterwards, rounded to whole weights (more if more already are).
    """
    weights = model.prunable_weights
    with torch.no_grad():
        magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
        count = round(sparsity * magnitudes.numel())
        if count == 0:
            return
        gone = torch.zeros_like(magnitudes, dtype=torch.bool)
        gone[magnitudes.argsort(stable=True)[:count]] = True
        for weight, part in zip(weights, gone.split([weight.numel() for weight in weights]), strict=True):
            weight.masked_fill_(part.view_as(weight), 0)


def prune(
    checkpoint: str | Path,
    directory: str | Path,
    training: TrainingOptions,
    pruning: PruningOptions,
    *,
    progress: bool = False,
    limit_seconds: float | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> TrainingResult:
    """Prune a trained network and fine-tune it.

    Parameters
    ----------
    checkpoint : str or Path
        Directory of the network to prune, or an integer network's file.
    directory : str or Path
        Output.
    training : TrainingOptions
        Texts, batch, dropout, weight decay and so on; epochs, learning rate and decay are `pruning`'s, and the
        network's shape the checkpoint's, but that a plain read-out comes in groups if `training` says so.
    pruning : PruningOptions
    progress : bool
    limit_seconds : float, optional
    on_epoch : callable, optional
        As for `egret.model.training.train.train`.

    Returns
    -------
    TrainingResult

    Raises
    ------
    InputError
        If the checkpoint, a text or an option is not accepted, or time is up before the first epoch's end.
    TrainingError
        If the training diverges.
    """
    parent = load_network(checkpoint)
    shape = {name: getattr(parent.configuration, name) for name in SHAPE}
    fixed = {"epochs": pruning.epochs, "learning_rate": pruning.learning_rate, "warmup": 0.0, "decay_from": 0.0}
    options = training.with_values(**shape, **fixed)
    vocabulary, train_ids, valid_ids = read_texts(options, parent.vocabulary)
    readout = options.readout
    if readout.groups and parent.configuration.readout is None:
        parent = with_groups(parent, train_ids, readout.head, readout.groups, readout.rows)
    model = LanguageModel.from_checkpoint(
        parent, options.dropout, slope=options.events.slope, width=options.events.width
    )
    plan = schedule(pruning, already=model.sparsity())
    trainer = Trainer(options, model, vocabulary, train_ids, valid_ids, prune_at=plan, prune=prune_magnitude)
    trainer.resume(directory)
    result = trainer.run(directory, progress=progress, limit_seconds=limit_seconds, on_epoch=on_epoch)
    if not math.isfinite(result.valid_loss):
        raise InputError(f"{directory}: stopped before the first epoch's end; nothing to keep yet")
    return result
