"""The command ``egret train``."""

import sys

import click

from egret.host.cli.training import show_training, training_decorators, training_options
from egret.model.errors import needs

__all__ = ["train"]


@click.command()
@training_decorators
def train(output, config, train, valid, device, settings, limit_seconds, as_json):
    """Train a float network into a checkpoint directory.

    Started again with the same options after it was stopped or killed, it goes on where it last saved.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.train import train as run
    options = training_options(config, settings, train=train, valid=valid, device=device)
    result = run(options, output, progress=sys.stderr.isatty(), limit_seconds=limit_seconds)
    show_training(result, output, as_json)
