"""The command ``egret prune``."""

import sys
from typing import Any

import click

from egret.host.cli.outputs import check_directory
from egret.host.cli.training import show_training, training_decorators, training_options
from egret.model.errors import needs

__all__ = ["prune"]


@click.command()
@click.argument("checkpoint")
@training_decorators
@click.option("--sparsity", type=float, required=True, help="Share of RNN weights that end as zero, 0 to below 1.")
@click.option("--steps", type=int, default=1, show_default=True, help="Times that weights are pruned.")
@click.option("--epochs", type=int, default=10, show_default=True, help="Epochs of fine-tuning, all steps together.")
@click.option("--spread", type=float, default=0.4, show_default=True, help="Share of epochs before the last pruning.")
@click.option("--learning-rate", type=float, default=5e-4, show_default=True, help="At the start of fine-tuning.")
@click.option("--regrow", is_flag=True, help="With --sparsity 0: let weights that are zero grow again.")
def prune(
    checkpoint: str,
    output: str,
    config: str | None,
    train: str | None,
    valid: str | None,
    device: str | None,
    settings: tuple[str, ...],
    limit_seconds: float | None,
    as_json: bool,
    **pruning: Any,
) -> None:
    """Prune the smallest RNN weights of CHECKPOINT, all layers together, and fine-tune what is left.

    CHECKPOINT is a checkpoint directory, or an integer network's file, such as those in model/networks. The embedding
    and the read-out are left alone. The configuration gives texts, batch and dropout; the network's
    shape is the checkpoint's. Like `egret train`, it resumes.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.prune import UNUSED, PruningOptions
        from egret.model.training.prune import prune as run
    check_directory(output)
    options = training_options(config, settings, unused=UNUSED, train=train, valid=valid, device=device)
    options = (checkpoint, output, options, PruningOptions(**pruning))
    result = run(*options, progress=sys.stderr.isatty(), limit_seconds=limit_seconds)
    show_training(result, output, as_json)
