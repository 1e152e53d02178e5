"""What two cells need to be as good as each other, seed by seed: MACs at equal perplexity, perplexity at equal MACs.

    python -m bench.equal_perplexity STUDY [--perplexity P]... [--macs M]... [--json]

STUDY is a directory that ``egret sweep`` wrote. The networks of one run and seed, over sparsity, are a curve of test
perplexity over MACs per token: straight lines over the logarithm of the MACs. Each curve is read at the perplexities
and the MACs given. Where it does not reach them, it is left out. Means and standard deviations (by n - 1) are over
seeds; those of MACs are over their logarithms, so the deviation is a share.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click

from bench.show import as_json, run_script, show
from egret.model.training.report.data import Point, load, macs, perplexity

__all__ = ["curves", "macs_at", "main", "perplexity_at"]

Curve = list[tuple[float, float]]
"""Logarithm of MACs and perplexity of networks, rising in MACs."""


def curves(points: Sequence[Point]) -> dict[str, dict[int, Curve]]:
    """The curve of each run and seed of a study's `points`."""
    found: dict[str, dict[int, Curve]] = {}
    for point in sorted(points, key=macs):
        curve = found.setdefault(point["run"], {}).setdefault(point["seed"], [])
        curve.append((math.log(macs(point)), perplexity(point)))
    return found


def macs_at(curve: Curve, wanted: float) -> float | None:
    """The fewest MACs with which a `curve` has a perplexity; None where it never has."""
    for (start, first), (end, second) in zip(curve, curve[1:], strict=False):
        if min(first, second) <= wanted <= max(first, second) and first != second:
            return math.exp(start + (end - start) * (wanted - first) / (second - first))
    return None


def perplexity_at(curve: Curve, wanted: float) -> float | None:
    """Perplexity of a `curve` with so many MACs; None outside it."""
    at = math.log(wanted)
    for (start, first), (end, second) in zip(curve, curve[1:], strict=False):
        if start <= at <= end and start != end:
            return first + (second - first) * (at - start) / (end - start)
    return None


def _summary(values: list[float], relative: bool) -> dict[str, Any] | None:
    """Mean, deviation and number of values; None of none."""
    if not values:
        return None
    logs = [math.log(value) for value in values] if relative else values
    mean, spread = fmean(logs), stdev(logs) if len(logs) > 1 else 0.0
    return {"mean": math.exp(mean) if relative else mean, "deviation": spread, "seeds": len(values)}


@click.command(help=__doc__)
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--perplexity", "perplexities", type=click.FloatRange(1), multiple=True, help="May be repeated.")
@click.option("--macs", "counts", type=click.FloatRange(1), multiple=True, help="May be repeated.")
@click.option("--to", "base", help="A run: MACs over those of its network with the same seed.")
@as_json
def main(
    study: Path, perplexities: tuple[float, ...], counts: tuple[float, ...], base: str | None, as_json: bool
) -> None:
    runs = curves(load(study)[2])
    if base is not None and base not in runs:
        raise click.UsageError(f"--to: the study has {', '.join(runs)}, not {base!r}")
    result, rows = [], []
    for run, seeds in runs.items():
        for wanted in perplexities:
            found = {seed: value for seed, curve in seeds.items() if (value := macs_at(curve, wanted)) is not None}
            figure = "MACs"
            if base is not None:
                others = {seed: macs_at(curve, wanted) for seed, curve in runs[base].items()}
                found = {seed: value / other for seed, value in found.items() if (other := others.get(seed))}
                figure = f"MACs over those of {base}"
            one = _summary(list(found.values()), relative=True)
            result.append({"run": run, "figure": figure, "at": wanted, "found": one})
            rows.append((run, f"{figure}, perplexity {wanted:g}", _text(one, ",.0f" if base is None else ".2f", ".0%")))
        for wanted in counts:
            one = _summary([p for curve in seeds.values() if (p := perplexity_at(curve, wanted)) is not None], False)
            result.append({"run": run, "figure": "perplexity", "at": wanted, "found": one})
            rows.append((run, f"perplexity, {wanted:,.0f} MACs", _text(one, ".2f", ".2f")))
    show({"study": study.name, "figures": result}, [(str(study), ("run", "figure", "over seeds"), rows)], as_json)


def _text(found: dict[str, Any] | None, mean: str, deviation: str) -> str:
    if found is None:
        return "none"
    return f"{found['mean']:{mean}} ± {found['deviation']:{deviation}} ({found['seeds']} seeds)"


if __name__ == "__main__":
    run_script(main, "equal_perplexity")
