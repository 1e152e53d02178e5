"""The command ``egret report``."""

import dataclasses

import click

from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.progress import progress_bar
from egret.model.errors import needs

__all__ = ["report"]


@click.command()
@click.option(
    "--study",
    "studies",
    required=True,
    multiple=True,
    help="Directory that egret sweep wrote; may be repeated, for one page of several studies.",
)
@click.option(
    "-o",
    "--output",
    help="HTML file to write, CSV and SVG beside it; report.html in the study by default. Several studies need it.",
)
@as_json
def report(studies: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """Write the report of studies beside the papers' numbers: one HTML page, its data as CSV, its figures as SVG."""
    with needs("matplotlib", "matplotlib", "the report"):
        from egret.model.training.report.page import write_report
    check_files({"-o": output})
    with progress_bar("figures") as progress:
        result = write_report(studies, output, progress=progress)
    reached = sum(1 for goal in result.goals if goal["gap"] is not None and goal["gap"] <= 0)
    rows = [
        ("points finished", f"{result.finished} of {result.finished + result.missing}"),
        ("goals reached", f"{reached} of {len(result.goals)}"),
        ("tables", "\n".join(result.tables)),
        ("figures", "\n".join(result.figures)),
    ]
    show(Result(dataclasses.asdict(result), rows), result.page, as_json)
