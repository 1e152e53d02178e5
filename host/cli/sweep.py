"""The command ``egret sweep``."""

import importlib
import sys

import click

from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_directory
from egret.host.cli.show import Result, percentages, show
from egret.host.progress import progress_bar
from egret.model.errors import needs

__all__ = ["sweep"]


@click.command()
@click.argument("study")
@click.option("-o", "--output", required=True, help="Directory of the study, to write and to resume from.")
@click.option("--train", help="Text to train on, instead of the study's.")
@click.option("--valid", help="Text to validate on.")
@click.option("--test", help="Text to measure on.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--ray", help="Ray cluster to run on: HOST:PORT, or local to start one here.")
@click.option("--limit-seconds", type=float, help="Save and stop after this time; run again to go on.")
@as_json
def sweep(
    study: str,
    output: str,
    ray: str | None,
    limit_seconds: float | None,
    as_json: bool,
    **texts: str | None,
) -> None:
    """Train, prune and measure every network of STUDY (TOML, such as model/configs/study-ptb.toml).

    Started again with the same options it goes on where it last saved, and never repeats a finished network. On a Ray
    cluster, all nodes must see the texts and the directory under the same paths.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.sweep import Study
        from egret.model.training.sweep import sweep as run
    if ray is not None:
        with needs("ray", "ray", "--ray"):
            importlib.import_module("ray")
    check_directory(output)
    read = Study.from_toml(study, **texts)
    shown = {}
    if sys.stderr.isatty():
        shown = {"progress": progress_bar, "tell": lambda line: click.echo(line, err=True)}
    result = run(read, output, ray=ray, limit_seconds=limit_seconds, **shown)
    rows = [
        (name, f"test perplexity {point['test']['perplexity']:.2f}, activity {percentages(point['activity'])}")
        for name, point in result.finished.items()
    ]
    rows += [(name, "time is up; run again to go on") for name in result.left]
    counts = {"points": len(read.points), "finished": [*result.finished]}
    show(Result({**counts, "ran": result.ran, "left": result.left}, rows), output, as_json)
