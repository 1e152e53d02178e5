"""The report of a study: one HTML page with every figure and table beside the papers' numbers, CSV and SVG files.

Called by ``egret report --study`` as::

    report = write_report(directory, path)

It reads what `egret.model.training.sweep` left: ``study.json`` and each point's ``result.json``. The page needs
nothing beside
it; its figures are inline SVG, and each is a file of its own too. Where several points compete (seeds, weight decays)
the one with the lowest validation perplexity stands for them, so that the test text chooses nothing.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.training.papers import CORPORA, NOTES, PUBLISHED, published

__all__ = ["Report", "write_report"]

_CELLS = {"egru": "EGRU", "lstm": "LSTM"}
_COLOURS = {"egru": ("#0b7285", "#1098ad", "#66d9e8"), "lstm": ("#d9480f", "#f76707", "#ffa94d")}
_KNOWN = ("name", "run", "cell", "seed", "weight_decay", "sparsity")  # of finished and of missing points
_HISTOGRAMS = ("weights", "biases", "activity", "distances")
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "egret", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#868e96", "axes.labelcolor": "#343a40", "axes.grid": True,
    "grid.color": "#e9ecef", "axes.axisbelow": True, "xtick.color": "#495057", "ytick.color": "#495057",
    "legend.frameon": False, "axes.titlesize": 10, "axes.titlecolor": "#343a40", "lines.linewidth": 1.6,
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    Parameters
    ----------
    page : str
    tables : list of str
        CSV files.
    figures : list of str
        SVG files.
    finished, missing : int
        Points.
    goals : list of dict
        One for each published number of the corpus: ``cell``, ``sparsity``, ``quantity``, ``goal``, ``source``,
        ``reached`` and ``gap`` (None where the point is missing) and ``point``.
    """

    page: str
    tables: list
    figures: list
    finished: int
    missing: int
    goals: list


def write_report(directory, path=None, *, progress=None):
    """Write the report of a study.

    Parameters
    ----------
    directory : str or Path
        Of the study.
    path : str or Path, optional
        HTML file; ``report.html`` in the directory when not given. The CSV and SVG files lie beside it and begin with
        its name.
    progress : callable, optional
        Called as ``progress(done, total)``, in figures.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If there is no finished point, a file is damaged, or one cannot be written.
    """
    directory = Path(directory)
    path = directory / "report.html" if path is None else Path(path)
    title, corpus, points, missing = _load(directory)
    goals = _goals(points, corpus)
    shown = {section.name: section.select(points) for section in _SECTIONS}
    figures = {}
    for number, section in enumerate(_SECTIONS):
        if shown[section.name]:
            with rc_context(_STYLE):
                figures[section.name] = _svg(section.plot(shown[section.name], corpus), section.heading)
        if progress is not None:
            progress(number + 1, len(_SECTIONS))
    tables = {"points": _points_table(points, missing, corpus)}
    tables |= {name: _histogram_table(points, name) for name in _HISTOGRAMS}
    csvs = {str(path.with_name(f"{path.stem}-{name}.csv")): _as_csv(rows) for name, rows in tables.items()}
    svgs = {str(path.with_name(f"{path.stem}-{name}.svg")): figure for name, figure in figures.items()}
    page = _page(title, corpus, points, missing, goals, shown, figures)
    for file, content in {**csvs, **svgs, path: page}.items():
        write_aside(file, content.encode())
    return Report(str(path), list(csvs), list(svgs), len(points), len(missing), goals)


# Reading


def _load(directory):
    """Title, corpus, finished points and missing ones."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; expected one that `egret sweep` wrote")
    study, points = {"title": directory.name, "corpus": None, "points": []}, {}
    for path in [directory / "study.json", *sorted(directory.glob("*/result.json"))]:
        try:
            content = json.loads(path.read_bytes())
            if path.name == "result.json":
                points[content["name"]] = _checked(content)
            else:
                study = _checked_study(content)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path}: not a file of `egret sweep`, or damaged") from error
    if not points:
        raise InputError(f"{directory}: no point is finished there (no */result.json); run `egret sweep` first")
    order = [point["name"] for point in study["points"]]
    names = [name for name in order if name in points] + [name for name in points if name not in order]
    missing = [point for point in study["points"] if point["name"] not in points]
    return study["title"], study["corpus"], [points[name] for name in names], missing


def _checked_study(content):
    """Title, corpus and points of ``study.json``, once they are there."""
    study = {key: content[key] for key in ("title", "corpus", "points")}
    if not isinstance(study["title"], str) or study["corpus"] not in (None, *CORPORA):
        raise ValueError
    for point in study["points"]:
        [point[name] for name in _KNOWN]
    return study


def _checked(content):
    """A result, once everything that the report takes from it is there."""
    if content["version"] != 1 or content["cell"] not in _CELLS:
        raise ValueError
    for name in (*_KNOWN, "zeros", "epochs", "seconds", "device", "tokens_per_second", "streams"):
        content[name]
    macs, activity = content["macs"], content["activity"]
    numbers = [content["valid"]["perplexity"], content["test"]["perplexity"], content["sparsity"], *activity]
    numbers += [macs["dense"], macs["pruned"], macs["event_driven"], macs["event_driven_pruned"], *macs["layers"]]
    for name in _HISTOGRAMS:
        for histogram in content["histograms"][name]:
            numbers += [histogram["low"], histogram["high"], sum(histogram["counts"]), histogram["counts"][0]]
            numbers += [histogram.get("mean", 0.0)]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError
    if not len(activity) == len(macs["layers"]) == len(content["specification"]["options"]["hidden_sizes"]):
        raise ValueError
    return content


def _activity(point):
    """Share of all neurons that have an event per step."""
    sizes = point["specification"]["options"]["hidden_sizes"]
    return float(np.average(point["activity"], weights=sizes))


def _macs(point):
    return point["macs"]["event_driven_pruned"]


def _best(points, *keys):
    """The point with the lowest validation perplexity for each combination of fields: dict, in order."""
    best = {}
    for point in points:
        key = tuple(point[name] for name in keys)
        if key not in best or point["valid"]["perplexity"] < best[key]["valid"]["perplexity"]:
            best[key] = point
    return dict(sorted(best.items(), key=lambda item: item[0]))


def _goals(points, corpus):
    best = _best(points, "cell", "sparsity")
    goals = []
    for number in PUBLISHED:
        if number.corpus != corpus:
            continue
        point = best.get((number.cell, number.sparsity))
        reached = None
        if point is not None:
            figures = {"perplexity": point["test"]["perplexity"], "macs": _macs(point)}
            reached = (figures | {"macs_dense": point["macs"]["dense"]})[number.quantity]
        goals.append(
            {
                "cell": number.cell,
                "sparsity": number.sparsity,
                "quantity": number.quantity,
                "goal": number.value,
                "source": number.source,
                "reached": reached,
                "gap": None if reached is None else reached - number.value,
                "point": point and point["name"],
            }
        )
    return goals


# Tables


def _as_csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _points_table(points, missing, corpus):
    layers = max(len(point["activity"]) for point in points)
    numbers = range(1, layers + 1)
    rows = [
        [
            "state", *_KNOWN, "zeros", "epochs", "seconds", "device", "tokens_per_second", "streams",
            "valid_perplexity", "test_perplexity", "activity", *(f"activity_layer_{n}" for n in numbers),
            "macs_per_token", *(f"macs_layer_{n}" for n in numbers), "macs_dense", "macs_pruned", "macs_event_driven",
            "papers_test_perplexity", "papers_macs_per_token",
        ]
    ]  # fmt: skip
    for point in points:
        filler = [""] * (layers - len(point["activity"]))
        papers = [published(corpus, point["cell"], point["sparsity"], name) for name in ("perplexity", "macs")]
        rows.append(
            [
                "finished", *(point[name] for name in _KNOWN), point["zeros"], point["epochs"], point["seconds"],
                point["device"], point["tokens_per_second"], point["streams"], point["valid"]["perplexity"],
                point["test"]["perplexity"], _activity(point), *point["activity"], *filler, _macs(point),
                *point["macs"]["layers"], *filler, point["macs"]["dense"], point["macs"]["pruned"],
                point["macs"]["event_driven"], *papers,
            ]
        )  # fmt: skip
    rows += [["missing", *(point[name] for name in _KNOWN), *[""] * (len(rows[0]) - 7)] for point in missing]
    return rows


def _edges(histogram):
    return np.linspace(histogram["low"], histogram["high"], len(histogram["counts"]) + 1)


def _histogram_table(points, name):
    rows = [["point", "layer", "low", "high", "count"]]
    for point in points:
        for layer, histogram in enumerate(point["histograms"][name]):
            edges = [f"{edge:.6g}" for edge in _edges(histogram)]
            for low, high, count in zip(edges, edges[1:], histogram["counts"], strict=False):
                rows.append([point["name"], layer + 1, low, high, count])
    return rows


# Which points a figure shows


def _egrus(points):
    return [point for point in points if point["cell"] == "egru"]


def _dense_egrus(points):
    return [point for point in _egrus(points) if point["sparsity"] == 0]


def _over_sparsity(points):
    """Of each run the points of the weight decay that has the most sparsities; of several, of the best network's."""
    ranks = {}
    for (run, decay), best in _best(points, "run", "weight_decay").items():
        sparsities = {point["sparsity"] for point in points if (point["run"], point["weight_decay"]) == (run, decay)}
        ranks.setdefault(run, []).append((-len(sparsities), best["valid"]["perplexity"], decay))
    decays = {run: min(candidates)[-1] for run, candidates in ranks.items()}
    return [point for point in points if point["weight_decay"] == decays[point["run"]]]


def _egrus_over_sparsity(points):
    return _over_sparsity(_egrus(points))


def _one_a_decay(points):
    """One dense EGRU for each run and weight decay."""
    return list(_best(_dense_egrus(points), "run", "weight_decay").values())


def _one_a_sparsity(points):
    """One EGRU for each run and sparsity, of one weight decay."""
    return list(_best(_egrus_over_sparsity(points), "run", "sparsity").values())


# Figures


def _colours(points):
    """Colour of each run."""
    colours = {}
    for point in points:
        if point["run"] not in colours:
            same = sum(1 for run, _ in colours.values() if run == point["cell"])
            colours[point["run"]] = (point["cell"], _COLOURS[point["cell"]][same % len(_COLOURS[point["cell"]])])
    return {run: colour for run, (_, colour) in colours.items()}


def _label(sparsity):
    return f"{100 * sparsity:g} %"


def _lines(axes, points, x, y):
    """Each run's points as dots, and a line through the best at each sparsity."""
    for run, colour in _colours(points).items():
        own = [point for point in points if point["run"] == run]
        best = list(_best(own, "sparsity").values())
        axes.plot([x(p) for p in own], [y(p) for p in own], "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([x(p) for p in best], [y(p) for p in best], "o-", color=colour, markersize=5.5, label=run)


def _layers(axes, points, x, colour):
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


def _published_line(axes, points, corpus, place):
    """The papers' numbers as hollow marks; ``place(number)`` gives x and y, or None."""
    for cell in dict.fromkeys(point["cell"] for point in points):
        numbers = [n for n in PUBLISHED if (n.corpus, n.cell, n.quantity) == (corpus, cell, "perplexity")]
        places = [place(number) for number in numbers if place(number) is not None]
        if places:
            style = {"color": _COLOURS[cell][0], "markerfacecolor": "white", "linewidth": 1}
            axes.plot(*zip(*places, strict=True), "D--", **style, label=f"{_CELLS[cell]}, papers")


def _perplexity_against_macs(points, corpus):
    figure = Figure((9, 4.4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, _macs, lambda point: point["test"]["perplexity"])
    colours = _colours(points)
    for point in _best(points, "run", "sparsity").values():
        place = (_macs(point), point["test"]["perplexity"])
        offset = (-9, -13) if point["cell"] == "egru" else (10, 8)  # the two lines may cross
        style = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": colours[point["run"]]}
        axes.annotate(_label(point["sparsity"]), place, offset, **style)

    def place(number):
        macs = published(number.corpus, number.cell, number.sparsity, "macs")
        return None if macs is None else (macs, number.value)

    _published_line(axes, points, corpus, place)
    axes.set(xscale="log", xlabel="MACs per token", ylabel="test perplexity")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.legend()
    return figure


def _perplexity_against_sparsity(points, corpus):
    figure = Figure((9, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, lambda point: 100 * point["sparsity"], lambda point: point["test"]["perplexity"])
    _published_line(axes, points, corpus, lambda number: (100 * number.sparsity, number.value))
    axes.set(xlabel="weights that are zero, %", ylabel="test perplexity", xlim=(-3, 100))
    axes.legend()
    return figure


def _activity_against_sparsity(points, _corpus):
    figure = Figure((9, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, lambda point: 100 * point["sparsity"], lambda point: 100 * _activity(point))
    for run, colour in _colours(points).items():
        best = list(_best([point for point in points if point["run"] == run], "sparsity").values())
        _layers(axes, best, lambda point: 100 * point["sparsity"], colour)
    axes.set(xlabel="weights that are zero, %", ylabel="neurons with an event per step, %", xlim=(-3, 103))
    axes.set_ylim(0)
    axes.legend()
    return figure


def _against_weight_decay(points, _corpus):
    figure = Figure((9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, colour in _colours(points).items():
        own = [point for point in points if point["run"] == run]
        best = list(_best(own, "weight_decay").values())
        decays = [point["weight_decay"] for point in best]
        for name, style in (("valid", "o:"), ("test", "o-")):
            left.plot(decays, [p[name]["perplexity"] for p in best], style, color=colour, label=f"{run}, {name}")
        heights = [p["test"]["perplexity"] for p in own]
        left.plot([p["weight_decay"] for p in own], heights, "o", color=colour, alpha=0.35)
        right.plot(decays, [100 * _activity(p) for p in best], "o-", color=colour, label=f"{run}, all layers")
        _layers(right, best, lambda point: point["weight_decay"], colour)
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


def _distributions(points, labels, rows, *, ylabel, share=False, mark=None):
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
                counts, edges = np.array(histogram["counts"], float), _edges(histogram)
                heights = counts / (counts.sum() or 1) * (100 if share else 1 / (edges[1] - edges[0]))
                first, last = np.flatnonzero(counts)[[0, -1]] if counts.any() else (0, 0)
                shown = slice(first, last + 1)
                axes.stairs(heights[shown], edges[first : last + 2], color=shade, linewidth=1.2, label=label)
                if "mean" in histogram:
                    axes.axvline(histogram["mean"], color=shade, linewidth=0.8, linestyle=":")
            if mark is not None:
                axes.axvline(mark, color="#495057", linewidth=1, linestyle="--", zorder=0)
            axes.set(title=f"layer {layer + 1}", xlabel=xlabel, yscale="log")
        row[0].set_ylabel(ylabel)
    handles, texts = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(points), 9), fontsize=9)
    return figure


def _names(points, label):
    """Labels that tell the points apart, with the run where there are several."""
    several = len({point["run"] for point in points}) > 1
    return [f"{point['run']}, {label(point)}" if several else label(point) for point in points]


def _parameters(points, _corpus):
    labels = _names(points, lambda point: f"weight decay {point['weight_decay']:g}")
    return _distributions(points, labels, {"weights": "non-zero weight", "biases": "bias"}, ylabel="density")


def _neurons(points, _corpus):
    labels = _names(points, lambda point: _label(point["sparsity"]))
    rows = {"activity": "share of steps with an event"}
    return _distributions(points, labels, rows, ylabel="neurons, %", share=True)


def _distances(points, _corpus):
    labels = _names(points, lambda point: _label(point["sparsity"]))
    rows = {"distances": "state \N{MINUS SIGN} threshold"}
    return _distributions(points, labels, rows, ylabel="neurons and steps, %", share=True, mark=0)


def _svg(figure, label):
    """A figure as inline SVG, without the ids that other figures of the page have too."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match.group() if match.group(1) in used else "", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


# The page

_BEST = "Where seeds or weight decays compete, the point with the lowest validation perplexity stands for them."


@dataclass(frozen=True)
class _Section:
    """A figure of the page.

    Parameters
    ----------
    name : str
        Ends the name of its file.
    heading, caption : str
    note : str or None
        Key of `NOTES`.
    plot : callable
        ``plot(points, corpus)``, a `Figure`.
    select : callable
        The points that it plots, of all.
    """

    name: str
    heading: str
    caption: str
    note: str | None
    plot: Callable
    select: Callable


_SECTIONS = (
    _Section(
        "macs",
        "Perplexity against operations",
        """Test perplexity against multiply-accumulates per token (read-out excluded, zero weights and silent neurons
        skipped); beside each mark the share of weights that are zero. Small dots: all seeds; line: the best at each
        sparsity; hollow: the papers (arXiv 2405.00433, fig. 2).""",
        "macs",
        _perplexity_against_macs,
        _over_sparsity,
    ),
    _Section(
        "sparsity",
        "Perplexity against weight sparsity",
        """Test perplexity against the share of recurrent-layer weights that are zero. Small dots: all seeds; line: the
        best at each sparsity; hollow: the papers (arXiv 2405.00433, tables 3 and 4).""",
        None,
        _perplexity_against_sparsity,
        _over_sparsity,
    ),
    _Section(
        "activity",
        "Activity against weight sparsity",
        """Neurons with an event per step on the test text; thick: all layers together, thin: each layer
        (compare arXiv 2405.00433, fig. 3).""",
        "activity",
        _activity_against_sparsity,
        _egrus_over_sparsity,
    ),
    _Section(
        "weight-decay",
        "Perplexity and activity against weight decay",
        "Dense EGRUs; lines: the best seed of each weight decay (compare arXiv 2405.00433, fig. 4).",
        "weight decay",
        _against_weight_decay,
        _dense_egrus,
    ),
    _Section(
        "parameters",
        "Weights and biases",
        """Distributions of the recurrent layers' non-zero weights and of their biases in dense networks, a line for
        each weight decay; dotted: means (compare arXiv 2405.00433, fig. 5).""",
        "parameters",
        _parameters,
        _one_a_decay,
    ),
    _Section(
        "neurons",
        "Activity of neurons",
        """Distribution over neurons of the share of steps in which a neuron has an event, a line for each weight
        sparsity (compare arXiv 2311.07625, fig. 4).""",
        "neurons",
        _neurons,
        _one_a_sparsity,
    ),
    _Section(
        "distances",
        "Distance of states to thresholds",
        """Distribution over neurons and steps of the state before reset minus its threshold; at and right of the dashed
        line there is an event; a line for each weight sparsity (compare arXiv 2311.07625, fig. 5).""",
        "distances",
        _distances,
        _one_a_sparsity,
    ),
)
_CSS = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.5rem 4rem; color: #212529; background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .3rem }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid #dee2e6 }
p.lead { color: #495057; margin: 0 0 1.5rem }
figure { margin: 1rem 0 } figcaption { margin-top: .6rem }
figcaption, p.note { color: #495057; font-size: .9rem } p.note { margin: .4rem 0 }
p.points { color: #868e96; font-size: .8rem; margin: .4rem 0; overflow-wrap: anywhere }
svg { display: block; width: 100%; height: auto }
svg text { font-family: inherit !important }
div.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e9ecef; white-space: nowrap }
th { color: #495057; font-weight: 600; vertical-align: bottom } th.text, td.text { text-align: left }
td.good { color: #2b8a3e; font-weight: 600 } td.short { color: #c92a2a } td.none { color: #adb5bd }
caption { caption-side: bottom; text-align: left; padding-top: .6rem; color: #495057; font-size: .9rem }
@media print { body { max-width: none } h2 { break-after: avoid } figure { break-inside: avoid } }
"""


def _html_table(head, rows, caption):
    """Cells are (class, text) pairs; the head's likewise."""
    lines = ['<div class="wide"><table>', f"<caption>{caption}</caption>", "<thead><tr>"]
    lines += [f'<th class="{kind}">{escape(text)}</th>' for kind, text in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in row) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _number(value, quantity):
    if value is None:
        return ("none", "missing")
    return ("", f"{value:.2f}" if quantity == "perplexity" else _count(value))


def _count(value):
    """A number of operations, with two decimals."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit / 10:
            return f"{value / unit:.2f} {name}"
    return f"{value:.0f}"


def _gap(goal):
    if goal["gap"] is None:
        return ("none", "\N{EM DASH}")
    text = f"{goal['gap']:+.2f}" if goal["quantity"] == "perplexity" else f"{goal['gap'] / 1e6:+.2f} M"
    return ("good" if goal["gap"] <= 0 else "short", text.replace("-", "\N{MINUS SIGN}"))


def _summary(goals, corpus):
    quantities = {
        "perplexity": "test perplexity",
        "macs": "MACs per token",
        "macs_dense": "MACs per token, all neurons active",
    }
    if not goals:
        reason = NOTES.get(corpus, "The study names no corpus of the papers, so there are no goals to compare with.")
        return f'<p class="note">{escape(reason)}</p>'
    rows = []
    for goal in goals:
        zero = "dense" if goal["sparsity"] == 0 else f"{_label(goal['sparsity'])} of weights zero"
        rows.append(
            [
                ("text", f"{_CELLS[goal['cell']]}, {zero}"),
                ("text", quantities[goal["quantity"]]),
                _number(goal["goal"], goal["quantity"]),
                _number(goal["reached"], goal["quantity"]),
                _gap(goal),
            ]
        )
    reached = sum(1 for goal in goals if goal["gap"] is not None and goal["gap"] <= 0)
    head = [("text", "network"), ("text", "figure"), ("", "goal (papers)"), ("", "reached"), ("", "gap")]
    sources = "; ".join(dict.fromkeys(goal["source"] for goal in goals))
    caption = f"{reached} of {len(goals)} goals are reached. Goals: {escape(sources)}. {_BEST}"
    return _html_table(head, rows, caption)


def _sparsity_table(points, missing, corpus):
    """Papers' tables 3 and 4."""
    best = _best(_over_sparsity(points), "run", "cell", "sparsity")
    keys = set(best) | {(point["run"], point["cell"], point["sparsity"]) for point in missing}
    rows = []
    for key in sorted(keys):
        run, cell, sparsity = key
        papers = [published(corpus, cell, sparsity, quantity) for quantity in ("perplexity", "macs")]
        papers = [("none", "n/a") if value is None else _number(value, quantity)
                  for value, quantity in zip(papers, ("perplexity", "macs"), strict=True)]  # fmt: skip
        point = best.get(key)
        own = [("none", "missing")] * 4
        if point is not None:
            own = [_number(point[name]["perplexity"], "perplexity") for name in ("valid", "test")]
            own += [("", f"{100 * _activity(point):.1f} %"), ("", _count(_macs(point)))]
        rows.append([("text", run), ("", _label(sparsity)), *own[:2], papers[0], *own[2:], papers[1]])
    head = [("text", "run"), ("", "weights zero"), ("", "valid perplexity"), ("", "test perplexity")]
    head += [("", "papers: test"), ("", "activity"), ("", "MACs per token"), ("", "papers: MACs")]
    caption = f"Beside the papers' tables 3 and 4 (arXiv 2405.00433); n/a: their number is not available. {_BEST}"
    return _html_table(head, rows, caption)


def _all_points(points, missing):
    rows = []
    for point in [*points, *missing]:
        row = [("text", point["name"])]
        if "epochs" in point:
            row += [("", f"{point['epochs']}"), ("", f"{point['seconds']:,.0f} s"), ("text", point["device"])]
            row += [("", f"{point['tokens_per_second']:,.0f}")]
            row += [_number(point[name]["perplexity"], "perplexity") for name in ("valid", "test")]
            row += [("", ", ".join(f"{100 * share:.1f}" for share in point["activity"])), ("", _count(_macs(point)))]
        else:
            row += [("none", "missing"), *[("none", "\N{EM DASH}")] * 7]
        rows.append(row)
    head = [("text", "point"), ("", "epochs"), ("", "time"), ("text", "device"), ("", "tokens/s"), ("", "valid")]
    head += [("", "test"), ("", "activity by layer, %"), ("", "MACs")]
    streams = ", ".join(sorted({str(point["streams"]) for point in points}))
    caption = f"Perplexities with the state carried, texts in {streams} streams. The time is that of training alone."
    return _html_table(head, rows, caption)


def _page(title, corpus, points, missing, goals, shown, figures):
    total = len(points) + len(missing)
    lead = f"{len(points)} of {total} points are finished"
    lead += f", trained on {CORPORA[corpus]}" if corpus else ""
    lead += ". Event-based GRU and LSTM language models over weight sparsity and weight decay, beside arXiv 2405.00433 "
    lead += "and arXiv 2311.07625."
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        _summary(goals, corpus),
    ]
    for section in _SECTIONS:
        figure = figures.get(section.name, "<p>Missing: no such point is finished.</p>")
        parts.append(f"<h2>{escape(section.heading)}</h2>")
        parts.append(f"<figure>{figure}<figcaption>{escape(section.caption)}</figcaption></figure>")
        if section.note is not None:
            parts.append(f'<p class="note">{escape(NOTES[section.note])}</p>')
        own = shown[section.name]
        names = "all" if len(own) == len(points) else ", ".join(point["name"] for point in own) or "none"
        parts.append(f'<p class="points">Points: {escape(names)}.</p>')
        if section.name == "sparsity":
            parts.append(_sparsity_table(points, missing, corpus))
    parts += ["<h2>All points</h2>", _all_points(points, missing)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><meta name="viewport" content="width=device-width">'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_CSS}</style></head>\n<body>\n' + "\n".join(
        [*parts, "</body></html>\n"]
    )
