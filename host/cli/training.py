"""What `egret train` and `egret prune` share: their options, and the table at the end."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import click

from egret.host.cli.options import as_json
from egret.host.cli.show import Result, percentages, show
from egret.model.errors import InputError

if TYPE_CHECKING:
    from egret.model.training.loop import TrainingResult
    from egret.model.training.options import TrainingOptions

__all__ = ["show_training", "training_decorators", "training_options"]


_OPTIONS = [
    click.option("-o", "--output", required=True, help="Checkpoint directory to write, and to resume from."),
    click.option("--config", help="Configuration file (TOML), such as those in model/configs."),
    click.option("--train", help="Text to train on, or sequences (.npz)."),
    click.option("--valid", help="Text to validate on, or sequences."),
    click.option("--device", help="auto, cpu or cuda."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Another field of the configuration, as epochs or training.epochs (see model/training/options.py).",
    ),
    click.option("--limit-seconds", type=float, help="Save and stop after this time; run again to go on."),
    as_json,
]


def _settings(assignments):
    """Fields of `TrainingOptions` from ``NAME=VALUE`` arguments; a value that is not TOML is a string."""
    import tomllib

    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, as in --set epochs=10, not {assignment!r}")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value
    return values


def training_options(
    config: str | None, settings: tuple[str, ...], *, unused: Collection[str] = (), **options: Any
) -> "TrainingOptions":
    """Options of a training, from what the command line gives.

    Parameters
    ----------
    config : str or None
        Configuration file; the defaults without one.
    settings : tuple of str
        Fields to be set instead, each as ``NAME=VALUE``.
    unused : collection of str
        Fields that may not be set so, since they are the checkpoint's or have options of their own.
    **options
        Further such fields; None is ignored.

    Returns
    -------
    TrainingOptions

    Raises
    ------
    InputError
        A field or value is not accepted, a field is ``unused``, or there is no text to train on.
    """
    from egret.model.training.options import TrainingOptions, flat_name

    given = _settings(settings)
    try:
        fields = {flat_name(name): value for name, value in given.items()}
    except InputError as error:
        raise InputError(f"--set: {error}") from error
    for name in unused:
        if name in fields:
            raise InputError(f"--set: {name} is the checkpoint's, or has an option of its own; it cannot be set here")
    fields |= {name: value for name, value in options.items() if value is not None}
    if config is not None:
        return TrainingOptions.from_toml(config, **fields)
    for name in ("train", "valid"):
        if name not in fields:
            raise InputError(f"no text to use: give --{name} FILE, or --config FILE that names one")
    return TrainingOptions.of(**fields)


def training_decorators(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `train` and `prune` share to a ``command``; returns it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show_training(result: "TrainingResult", output: str, as_json: bool) -> None:
    """Print the ``result`` of a training with a checkpoint in ``output``: a table, or JSON where ``as_json`` is set."""
    summary = result.summary()
    accuracy = summary["valid_accuracy"]
    loss = f"{summary['valid_loss']:.4f} nats (perplexity {summary['valid_perplexity']:.3f})"
    rows = [
        ("epochs", str(summary["epochs"])),
        ("validation loss", loss if summary["activity"] else "not measured yet"),
        *([("validation accuracy", f"{accuracy:.2%}")] if accuracy is not None else []),
        ("RNN weights that are zero", f"{summary['sparsity']:.1%}"),
        ("activity by layer", percentages(summary["activity"])),
        ("time", f"{summary['seconds']:.0f} s"),
        ("training speed", f"{summary['tokens_per_second']:,.0f} tokens/s"),
    ]
    show(Result(summary, rows), output, as_json)
