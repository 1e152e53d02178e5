"""Zeros or silence: which kind of sparsity is the cheaper one, for networks of a grid of zeros by prices on events.

    python -m bench.front STUDY CORE [--cost COST] [--picture FILE.svg] [--json]

STUDY is a directory that ``egret sweep`` wrote, CORE a file of ``bench.zeros_and_events`` with networks of its names.
The cost of a network is what the core takes for a token. A network is on the front if no other one has both a lower or
equal perplexity and a lower cost.

A step goes from a network to the next higher sparsity at the same price on events, or to the next higher price at the
same sparsity. Its rate is the perplexity that it loses for each halving of the cost. A step that does not lower the
cost has none.

The picture has perplexity against cycles and against the estimated energy, a line for each price, and the LSTMs of
CORE, which no core runs: the mean over seeds of the fewest cycles that 8 lanes could take. They have no energy.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from bench.show import as_json, run_script, show
from egret.model.errors import InputError
from egret.model.files import read, write_aside
from egret.model.page import as_svg
from egret.model.training.report.data import Point, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COSTS", "Network", "draw", "front", "main", "networks", "price", "steps"]

COSTS = {"bram": "bram_cycles", "sdram": "sdram_cycles", "energy": "microjoules"}
"""Names of what a token may cost, and of the figures of ``bench.zeros_and_events``."""
_LABELS = {
    "bram": "cycles per token, weights in block RAM",
    "sdram": "cycles per token, weights in SDRAM",
    "energy": "µJ per token, estimated, SDRAM",
}
_COLOURS = ("#0b7285", "#1098ad", "#66d9e8", "#5f3dc4", "#ae3ec9", "#e64980")
_LSTM = "#d9480f"

Network = dict[str, Any]
"""``name``, ``price``, ``sparsity``, ``perplexity`` and the cost of each of `COSTS`."""


def price(point: Point) -> float:
    """The price on events with which a `point` of a study was trained: its ``mac_weight``."""
    specification = point["specification"]
    prunings = specification.get("prunings", [])
    return (specification["options"] | (prunings[-1]["set"] if prunings else {})).get("mac_weight", 0)


def _costs(row: Mapping[str, Any]) -> dict[str, float | None]:
    """What a row of ``bench.zeros_and_events`` says of each of `COSTS`; of an energy the mean of both estimates."""
    values = {cost: row[name] for cost, name in COSTS.items()}
    return {cost: sum(value) / len(value) if isinstance(value, list) else value for cost, value in values.items()}


def networks(points: Sequence[Point], core: Mapping[str, Any]) -> list[Network]:
    """Those of a study's `points` that a `core` ran, by price and sparsity.

    Parameters
    ----------
    points : sequence of dict
    core : mapping
        Content of a file of ``bench.zeros_and_events``.

    Returns
    -------
    list of dict
    """
    found = [
        {"name": point["name"], "price": price(point), "sparsity": point["sparsity"], "perplexity": row["perplexity"]}
        | _costs(row)
        for point in points
        if (row := core["networks"].get(point["name"])) is not None
    ]
    return sorted(found, key=lambda one: (one["price"], one["sparsity"]))


def front(found: Sequence[Network], cost: str) -> list[Network]:
    """Those that no other one beats in perplexity and in a `cost`, by that cost."""
    best, kept = math.inf, []
    for one in sorted(found, key=lambda one: (one[cost], one["perplexity"])):
        if one["perplexity"] < best:
            best = one["perplexity"]
            kept.append(one)
    return kept


def steps(found: Sequence[Network], cost: str) -> list[dict[str, Any]]:
    """Steps by one sparsity or one price.

    Parameters
    ----------
    found : sequence of dict
        `Network`.
    cost : str
        Of `COSTS`.

    Returns
    -------
    list of dict
        ``of``, the name of the network that it starts from, with its ``price`` and ``sparsity``; ``by``, "zeros" or
        "price"; ``to``, the sparsity or the price after it; ``perplexity`` that is lost; ``share`` of the cost that is
        left; and ``rate``, the perplexity lost for each halving of the cost, None where that does not fall.
    """
    result = []
    for one in found:
        for by, fixed, moved in (("zeros", "price", "sparsity"), ("price", "sparsity", "price")):
            beyond = [other for other in found if other[fixed] == one[fixed] and other[moved] > one[moved]]
            if not beyond:
                continue
            other = min(beyond, key=lambda other: other[moved])
            lost, share = other["perplexity"] - one["perplexity"], other[cost] / one[cost]
            step = {"of": one["name"], "price": one["price"], "sparsity": one["sparsity"], "by": by}
            step |= {"to": other[moved], "perplexity": lost, "share": share}
            result.append(step | {"rate": lost / -math.log2(share) if share < 1 else None})
    return result


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _panel(axes: "Axes", found: Sequence[Network], lstms: Sequence[tuple[float, float, float]], cost: str) -> None:
    """One cost: a line for each price, and the LSTMs' cost, perplexity and sparsity."""
    for index, priced in enumerate(dict.fromkeys(one["price"] for one in found)):
        own = [one for one in found if one["price"] == priced]
        label = f"EGRU, price {priced:g}" if priced else "EGRU, no price"
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot([one[cost] for one in own], [one["perplexity"] for one in own], "o-", color=colour, label=label)
        for one in own:
            style = {"textcoords": "offset points", "fontsize": 7, "color": colour}
            axes.annotate(_percent(one["sparsity"]), (one[cost], one["perplexity"]), (4, 4), **style)
    if lstms:
        costs, perplexities, _ = zip(*lstms, strict=True)
        axes.plot(costs, perplexities, "D--", color=_LSTM, markerfacecolor="white", label="LSTM, at least")
        for at, perplexity, sparsity in lstms:
            style = {"textcoords": "offset points", "fontsize": 7, "color": _LSTM}
            axes.annotate(_percent(sparsity), (at, perplexity), (4, -9), **style)
    axes.set(xscale="log", xlabel=_LABELS[cost], ylabel="test perplexity, 4 bits")
    axes.margins(0.08)


def draw(found: Sequence[Network], core: Mapping[str, Any], points: Sequence[Point]) -> "Figure":
    """The picture.

    Parameters
    ----------
    found : sequence of dict
        `Network`.
    core : mapping
        Content of a file of ``bench.zeros_and_events``.
    points : sequence of dict
        What tells the sparsity of its LSTMs, by their names; those of which nothing is known are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    known = {point["name"]: point["sparsity"] for point in points}
    rows: dict[float, list[dict[str, Any]]] = {}
    for name, row in core["bounds"].items():
        if name in known:
            rows.setdefault(known[name], []).append(_costs(row) | {"perplexity": row["perplexity"]})
    figure = Figure((9, 4.6), layout="constrained")
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), ("sdram", "energy"), strict=True):
        bounds = [
            (fmean(one[cost] for one in own), fmean(one["perplexity"] for one in own), sparsity)
            for sparsity, own in sorted(rows.items())
            if all(one[cost] is not None for one in own)
        ]
        _panel(axes, found, bounds, cost)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.axes[0].legend(fontsize=8)
    figure.axes[1].set_ylabel("")
    return figure


def _read_core(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read(path))
        for row in (*content["networks"].values(), *content["bounds"].values()):
            if not all(value is None or value > 0 for value in (row["perplexity"], *_costs(row).values())):
                raise ValueError("a cost that is none")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a file of bench.zeros_and_events, or damaged") from error
    return content


@click.command(help=__doc__)
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("core", type=click.Path(path_type=Path))
@click.option("--cost", type=click.Choice(list(COSTS)), default="sdram", show_default=True, help="Of a token.")
@click.option("--lstms", type=click.Path(path_type=Path), help="Directory of the study that CORE's LSTMs are of.")
@click.option("--picture", type=click.Path(path_type=Path), help="SVG to write.")
@as_json
def main(study: Path, core: Path, cost: str, lstms: Path | None, picture: Path | None, as_json: bool) -> None:
    points, content = load(study)[2], _read_core(core)
    found = networks(points, content)
    if not found:
        raise click.UsageError(f"{core} has no network of {study}")
    known = points if lstms is None else [*points, *load(lstms)[2]]
    if picture is not None:
        svg = as_svg(partial(draw, found, content, known), "Perplexity against cycles and energy of a token")
        write_aside(picture, svg.encode())
    best = [one["name"] for one in front(found, cost)]
    taken = steps(found, cost)
    rows = [
        (f"{one['price']:g}", _percent(one["sparsity"]), f"{one['perplexity']:.2f}", f"{one[cost]:,.0f}",
         "yes" if one["name"] in best else "", *(_rate(taken, one["name"], by) for by in ("zeros", "price")))
        for one in found
    ]  # fmt: skip
    heads = ("price", "zeros", "perplexity", _LABELS[cost], "on the front", "rate of more zeros", "of a higher price")
    show({"cost": cost, "networks": found, "front": best, "steps": taken}, [(str(study), heads, rows)], as_json)


def _rate(taken: Sequence[dict[str, Any]], name: str, by: str) -> str:
    """The rate of the one step of a kind from a network, as text."""
    step = next((step for step in taken if (step["of"], step["by"]) == (name, by)), None)
    if step is None:
        return ""
    return "costs more" if step["rate"] is None else f"{step['rate']:+.2f}"


if __name__ == "__main__":
    run_script(main, "front")
