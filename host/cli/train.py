"""The command ``egret train``."""

import sys
from typing import Any

import click

from egret.host.cli.outputs import check_directory
from egret.host.cli.training import show_training, training_decorators, training_options
from egret.model.errors import needs

__all__ = ["train"]


@click.command()
@training_decorators
def train(
    output: str,
    config: str | None,
    settings: tuple[str, ...],
    limit_seconds: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a float network into a checkpoint directory.

    Started again with the same options after it was stopped or killed, it goes on where it last saved.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.train import train as run
    check_directory(output)
    read = training_options(config, settings, **options)
    result = run(read, output, progress=sys.stderr.isatty(), limit_seconds=limit_seconds)
    show_training(result, output, as_json)
