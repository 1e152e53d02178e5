"""Figures of a report: perplexity and activity over operations, sparsity and weight decay, and distributions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from egret.model.training.papers import PUBLISHED, Published, published
from egret.model.training.report.data import (
    CELLS,
    Point,
    best,
    deviation,
    edges,
    macs,
    mean_activity,
    over_seeds,
    perplexity,
)

__all__ = [
    "Plot", "activity_against_sparsity", "against_weight_decay", "distances", "neurons", "parameters",
    "percent", "perplexity_against_macs", "perplexity_against_sparsity",
]  # fmt: skip

Plot = Callable[[Sequence[Point], str | None], Figure]
"""``plot(points, corpus)`` draws a figure."""
_COLOURS = {
    "egru": ("#0b7285", "#1098ad", "#66d9e8", "#5f3dc4", "#845ef7", "#b197fc"),
    "lstm": ("#d9480f", "#f76707", "#ffa94d"),
}


def _colours(points: Sequence[Point]) -> dict[str, str]:
    """Colour of each run."""
    colours: dict[str, tuple[str, str]] = {}
    for point in points:
        if point["run"] not in colours:
            same = sum(1 for run, _ in colours.values() if run == point["cell"])
            colours[point["run"]] = (point["cell"], _COLOURS[point["cell"]][same % len(_COLOURS[point["cell"]])])
    return {run: colour for run, (_, colour) in colours.items()}


def percent(share: float) -> str:
    """A `share` in percent, as text."""
    return f"{100 * share:g} %"


def _lines(axes: Axes, points: Sequence[Point], x: Callable[[Point], float], y: Callable[[Point], float]) -> None:
    """Each run's points as dots, and a line through the mean of the seeds at each sparsity, in a band."""
    for run, colour in _colours(points).items():
        own = [point for point in points if point["run"] == run]
        means = list(best(over_seeds(own), "sparsity").values())
        axes.plot([x(p) for p in own], [y(p) for p in own], "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([x(p) for p in means], [y(p) for p in means], "o-", color=colour, markersize=5.5, label=run)
        _band(axes, means, x, y, colour)


def _band(
    axes: Axes, means: Sequence[Point], x: Callable[[Point], float], y: Callable[[Point], float], colour: str
) -> None:
    """One standard deviation over seeds around the means, where there are several seeds anywhere."""
    if all(len(point["members"]) == 1 for point in means):
        return
    ends = [(y(point) - deviation(point, y), y(point) + deviation(point, y)) for point in means]
    low, high = zip(*ends, strict=True)
    axes.fill_between([x(point) for point in means], low, high, color=colour, alpha=0.2, linewidth=0)


def _layers(axes: Axes, points: Sequence[Point], x: Callable[[Point], float], colour: str) -> None:
    """The activity of each layer as a thin line, its name at the end; names that would touch are set apart."""
    ends, apart = {}, 0.045 * max(100 * share for point in points for share in point["activity"])
    for layer in range(max(len(point["activity"]) for point in points)):
        own = [point for point in points if layer < len(point["activity"])]
        heights = [100 * point["activity"][layer] for point in own]
        axes.plot([x(point) for point in own], heights, color=colour, linewidth=0.8, alpha=0.7)
        ends[layer] = (x(own[-1]), heights[-1])
    height = -apart
    for layer, (end, own_height) in sorted(ends.items(), key=lambda item: item[1][1]):
        height = max(own_height, height + apart)
        text = f"layer {layer + 1}"
        axes.annotate(text, (end, height), (6, -3), textcoords="offset points", fontsize=8, color="#868e96")


def _published_line(
    axes: Axes,
    points: Sequence[Point],
    corpus: str | None,
    place: Callable[[Published], tuple[float, float] | None],
) -> None:
    """The papers' numbers as hollow marks; ``place(number)`` gives x and y, or None."""
    for cell in dict.fromkeys(point["cell"] for point in points):
        numbers = [n for n in PUBLISHED if (n.corpus, n.cell, n.quantity) == (corpus, cell, "perplexity")]
        places = [found for number in numbers if (found := place(number)) is not None]
        if places:
            style = {"color": _COLOURS[cell][0], "markerfacecolor": "white", "linewidth": 1}
            axes.plot(*zip(*places, strict=True), "D--", **style, label=f"{CELLS[cell]}, papers")


def perplexity_against_macs(points: Sequence[Point], corpus: str | None) -> Figure:
    """Test perplexity of `points` over MACs a token, beside the papers' of a `corpus`."""
    figure = Figure((9, 4.4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, macs, perplexity)
    colours = _colours(points)
    for point in best(over_seeds(points), "run", "sparsity").values():
        at = (macs(point), point["test"]["perplexity"])
        offset = (-9, -13) if point["cell"] == "egru" else (10, 8)  # the two lines may cross
        style = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": colours[point["run"]]}
        axes.annotate(percent(point["sparsity"]), at, offset, **style)

    def place(number: Published) -> tuple[float, float] | None:
        known = published(number.corpus, number.cell, number.sparsity, "macs")
        return None if known is None else (known, number.value)

    _published_line(axes, points, corpus, place)
    axes.set(xscale="log", xlabel="MACs per token", ylabel="test perplexity")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.legend()
    return figure


def perplexity_against_sparsity(points: Sequence[Point], corpus: str | None) -> Figure:
    """Test perplexity of `points` over the share of zero weights, beside the papers' of a `corpus`."""
    figure = Figure((9, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, lambda point: 100 * point["sparsity"], perplexity)
    _published_line(axes, points, corpus, lambda number: (100 * number.sparsity, number.value))
    axes.set(xlabel="weights that are zero, %", ylabel="test perplexity", xlim=(-3, 100))
    axes.legend()
    return figure


def activity_against_sparsity(points: Sequence[Point], _corpus: str | None) -> Figure:
    """Share of neurons of `points` with an event, over the share of zero weights."""
    figure = Figure((9, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, lambda point: 100 * point["sparsity"], lambda point: 100 * mean_activity(point))
    for run, colour in _colours(points).items():
        means = over_seeds(point for point in points if point["run"] == run)
        _layers(axes, list(best(means, "sparsity").values()), lambda point: 100 * point["sparsity"], colour)
    axes.set(xlabel="weights that are zero, %", ylabel="neurons with an event per step, %", xlim=(-3, 103))
    axes.set_ylim(0)
    axes.legend()
    return figure


def against_weight_decay(points: Sequence[Point], _corpus: str | None) -> Figure:
    """Perplexity and activity of `points` over weight decay."""
    figure = Figure((9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, colour in _colours(points).items():
        own = [point for point in points if point["run"] == run]
        means = list(best(over_seeds(own), "weight_decay").values())
        decays = [point["weight_decay"] for point in means]
        for name, style in (("valid", "o:"), ("test", "o-")):
            left.plot(decays, [perplexity(p, name) for p in means], style, color=colour, label=f"{run}, {name}")
        left.plot([p["weight_decay"] for p in own], list(map(perplexity, own)), "o", color=colour, alpha=0.35)
        _band(left, means, lambda point: point["weight_decay"], perplexity, colour)
        right.plot(decays, [100 * mean_activity(p) for p in means], "o-", color=colour, label=f"{run}, all layers")
        _layers(right, means, lambda point: point["weight_decay"], colour)
    for axes in (left, right):
        decays = sorted({point["weight_decay"] for point in points})
        axes.set(xscale="log" if decays[0] > 0 else "linear", xlabel="weight decay")
        axes.set_xticks(decays, [f"{decay:g}" for decay in decays])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.15)
        axes.legend()
    left.set_ylabel("perplexity")
    right.set_ylabel("neurons with an event per step, %")
    right.set_ylim(0)
    return figure


def _distributions(
    points: Sequence[Point],
    labels: Sequence[str],
    rows: Mapping[str, str],
    *,
    ylabel: str,
    share: bool = False,
    mark: float | None = None,
) -> Figure:
    """Histograms: a row for each name and label in `rows`, a column for each layer, a line for each point.

    Heights are densities, or with `share` the share of all values in a bin, for which all bins must be equal.
    """
    columns = max(len(point["activity"]) for point in points)
    figure = Figure((9, 2.5 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey="row")
    # From dark to light, leaving out the end of the scale that is hard to see on white.
    shades = [colormaps["viridis"](0.85 * index / max(1, len(points) - 1)) for index in range(len(points))]
    for row, (name, xlabel) in zip(grid, rows.items(), strict=True):
        for layer, axes in enumerate(row):
            for point, label, shade in zip(points, labels, shades, strict=True):
                if layer >= len(point["histograms"][name]):
                    continue
                histogram = point["histograms"][name][layer]
                counts, bins = np.array(histogram["counts"], float), edges(histogram)
                heights = counts / (counts.sum() or 1) * (100 if share else 1 / (bins[1] - bins[0]))
                first, last = np.flatnonzero(counts)[[0, -1]] if counts.any() else (0, 0)
                shown = slice(first, last + 1)
                axes.stairs(heights[shown], bins[first : last + 2], color=shade, linewidth=1.2, label=label)
                if "mean" in histogram:
                    axes.axvline(histogram["mean"], color=shade, linewidth=0.8, linestyle=":")
            if mark is not None:
                axes.axvline(mark, color="#495057", linewidth=1, linestyle="--", zorder=0)
            axes.set(title=f"layer {layer + 1}", xlabel=xlabel, yscale="log")
        row[0].set_ylabel(ylabel)
    handles, texts = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(points), 9), fontsize=9)
    return figure


def _names(points: Sequence[Point], label: Callable[[Point], str]) -> list[str]:
    """Labels that tell the points apart, with the run where there are several."""
    several = len({point["run"] for point in points}) > 1
    return [f"{point['run']}, {label(point)}" if several else label(point) for point in points]


def parameters(points: Sequence[Point], _corpus: str | None) -> Figure:
    """Distributions of weights and biases of `points`."""
    labels = _names(points, lambda point: f"weight decay {point['weight_decay']:g}")
    return _distributions(points, labels, {"weights": "non-zero weight", "biases": "bias"}, ylabel="density")


def neurons(points: Sequence[Point], _corpus: str | None) -> Figure:
    """Distribution of the activity of the neurons of `points`."""
    labels = _names(points, lambda point: percent(point["sparsity"]))
    rows = {"activity": "share of steps with an event"}
    return _distributions(points, labels, rows, ylabel="neurons, %", share=True)


def distances(points: Sequence[Point], _corpus: str | None) -> Figure:
    """Distribution of states minus thresholds of `points`."""
    labels = _names(points, lambda point: percent(point["sparsity"]))
    rows = {"distances": "state \N{MINUS SIGN} threshold"}
    return _distributions(points, labels, rows, ylabel="neurons and steps, %", share=True, mark=0)
