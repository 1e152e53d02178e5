"""The report of a study: one HTML page with every figure and table beside the papers' numbers, CSV and SVG files.

Called by ``egret report --study`` as::

    report = write_report(directories, path)

It reads, of each study, what `egret.model.training.sweep` left: ``study.json`` and each point's ``result.json``. The
page needs nothing beside it; its figures are inline SVG, and each is a file of its own too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.page import Cell, as_svg, html_page, html_table
from egret.model.training.papers import CORPORA, NOTES, published
from egret.model.training.report import data, figures
from egret.model.training.report.data import (
    CELLS,
    Point,
    best,
    deviation,
    macs,
    mean_activity,
    over_seeds,
    perplexity,
)
from egret.model.training.report.figures import percent

__all__ = ["Report", "write_report"]

_BEST = """Where there are several seeds, their mean stands for them, with \N{PLUS-MINUS SIGN} the standard deviation;
where weight decays compete, the one with the lowest validation perplexity."""


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
        See `egret.model.training.report.data.goals`; and ``study``, the name of the study's directory.
    """

    page: str
    tables: list[str]
    figures: list[str]
    finished: int
    missing: int
    goals: list[dict[str, Any]]


@dataclass(frozen=True)
class _Study:
    """What the page says of a study.

    Parameters
    ----------
    name : str
        Of its directory.
    title : str
    corpus : str or None
    points, missing : sequence of dict
    goals : sequence of dict
    shown : dict
        Points of each section by its name.
    drawn : dict
        Figures likewise, where there are points.
    """

    name: str
    title: str
    corpus: str | None
    points: Sequence[Point]
    missing: Sequence[Point]
    goals: Sequence[Mapping[str, Any]]
    shown: Mapping[str, Sequence[Point]]
    drawn: Mapping[str, str]


def write_report(
    directories: str | Path | Sequence[str | Path],
    path: str | Path | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write the report of a study, or one page of several studies.

    Parameters
    ----------
    directories : str or Path, or sequence of them
        Of each study.
    path : str or Path, optional
        HTML file; ``report.html`` in the directory of the one study when not given. The CSV and SVG files lie beside it
        and begin with its name, and where there are several studies with that of their directory, too.
    progress : callable, optional
        Called as ``progress(done, total)``, in figures.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        If there is no finished point, a file is damaged, or one cannot be written; or if several studies have no
        ``path``, or directories of one name.
    """
    places = [Path(one) for one in ([directories] if isinstance(directories, str | Path) else directories)]
    names = [place.resolve().name for place in places]
    if len(places) > 1 and path is None:
        raise InputError(f"one page of {len(places)} studies needs its name: -o FILE")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two studies on one page must be in directories of different names")
    path = places[0] / "report.html" if path is None else Path(path)
    total = len(places) * len(_SECTIONS)

    done = 0

    def drew() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    studies, csvs, svgs = [], {}, {}
    for place, name in zip(places, names, strict=True):
        study = _study(place, name, drew)
        studies.append(study)
        stem = path.stem if len(places) == 1 else f"{path.stem}-{name}"
        tables = {"points": data.points_table(study.points, study.missing, study.corpus)}
        if any(len(point["members"]) > 1 for point in over_seeds(study.points)):
            tables["seeds"] = data.seeds_table(study.points)
        tables |= {kind: data.histogram_table(study.points, kind) for kind in data.HISTOGRAMS}
        csvs |= {str(path.with_name(f"{stem}-{kind}.csv")): data.as_csv(rows) for kind, rows in tables.items()}
        svgs |= {str(path.with_name(f"{stem}-{kind}.svg")): figure for kind, figure in study.drawn.items()}
    for file, content in {**csvs, **svgs, path: _page(studies)}.items():
        write_aside(file, content.encode())
    return Report(
        str(path),
        list(csvs),
        list(svgs),
        sum(len(study.points) for study in studies),
        sum(len(study.missing) for study in studies),
        [{"study": study.name, **goal} for study in studies for goal in study.goals],
    )


def _study(directory: Path, name: str, drew: Callable[[], None]) -> _Study:
    """Read a study and draw its figures; ``drew`` is called after each."""
    title, corpus, points, missing = data.load(directory)
    shown = {section.name: section.select(points) for section in _SECTIONS}
    drawn = {}
    for section in _SECTIONS:
        if shown[section.name]:
            own = shown[section.name]
            drawn[section.name] = as_svg(partial(section.plot, own, corpus), section.heading)
        drew()
    return _Study(name, title, corpus, points, missing, data.goals(points, corpus), shown, drawn)


# The page


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
    plot: figures.Plot
    select: Callable[[Sequence[Point]], list[Point]]


_SECTIONS = (
    _Section(
        "macs",
        "Perplexity against operations",
        """Test perplexity against multiply-accumulates per token (read-out excluded, zero weights and silent neurons
        skipped); beside each mark the share of weights that are zero. Small dots: all seeds; line: their mean at each
        sparsity, in a band of one standard deviation; hollow: the papers (arXiv 2405.00433, fig. 2).""",
        "macs",
        figures.perplexity_against_macs,
        data.over_sparsity,
    ),
    _Section(
        "sparsity",
        "Perplexity against weight sparsity",
        """Test perplexity against the share of recurrent-layer weights that are zero. Small dots: all seeds; line:
        their mean at each sparsity, in a band of one standard deviation; hollow: the papers (arXiv 2405.00433, tables 3
        and 4).""",
        None,
        figures.perplexity_against_sparsity,
        data.over_sparsity,
    ),
    _Section(
        "activity",
        "Activity against weight sparsity",
        """Neurons with an event per step on the test text; thick: all layers together, thin: each layer
        (compare arXiv 2405.00433, fig. 3).""",
        "activity",
        figures.activity_against_sparsity,
        data.egrus_over_sparsity,
    ),
    _Section(
        "weight-decay",
        "Perplexity and activity against weight decay",
        "Dense EGRUs; lines: the mean over the seeds of each weight decay (compare arXiv 2405.00433, fig. 4).",
        "weight decay",
        figures.against_weight_decay,
        data.dense_egrus,
    ),
    _Section(
        "parameters",
        "Weights and biases",
        """Distributions of the recurrent layers' non-zero weights and of their biases in dense networks, a line for
        each weight decay; dotted: means (compare arXiv 2405.00433, fig. 5).""",
        "parameters",
        figures.parameters,
        data.one_a_decay,
    ),
    _Section(
        "neurons",
        "Activity of neurons",
        """Distribution over neurons of the share of steps in which a neuron has an event, a line for each weight
        sparsity (compare arXiv 2311.07625, fig. 4).""",
        "neurons",
        figures.neurons,
        data.one_a_sparsity,
    ),
    _Section(
        "distances",
        "Distance of states to thresholds",
        """Distribution over neurons and steps of the state before reset minus its threshold; at and right of the dashed
        line there is an event; a line for each weight sparsity (compare arXiv 2311.07625, fig. 5).""",
        "distances",
        figures.distances,
        data.one_a_sparsity,
    ),
)


def _number(value: float | None, quantity: str, deviation: float | None = None) -> Cell:
    """A figure, with its standard deviation where it has one."""
    if value is None:
        return ("none", "missing")
    texts = [f"{one:.2f}" if quantity == "perplexity" else _count(one) for one in (value, deviation or 0.0)]
    return ("", " \N{PLUS-MINUS SIGN} ".join(texts[: 2 if deviation else 1]))


def _count(value: float) -> str:
    """A number of operations, with two decimals."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit / 10:
            return f"{value / unit:.2f} {name}"
    return f"{value:.0f}"


def _gap(goal: Mapping[str, Any]) -> Cell:
    if goal["gap"] is None:
        return ("none", "\N{EM DASH}")
    text = f"{goal['gap']:+.2f}" if goal["quantity"] == "perplexity" else f"{goal['gap'] / 1e6:+.2f} M"
    return ("good" if goal["gap"] <= 0 else "short", text.replace("-", "\N{MINUS SIGN}"))


def _summary(goals: Sequence[Mapping[str, Any]]) -> str:
    quantities = {
        "perplexity": "test perplexity",
        "macs": "MACs per token",
        "macs_dense": "MACs per token, all neurons active",
    }
    if not goals:
        return '<p class="note">The study names no corpus of the papers, so there are no goals to compare with.</p>'
    rows = []
    for goal in goals:
        zero = "dense" if goal["sparsity"] == 0 else f"{percent(goal['sparsity'])} of weights zero"
        rows.append(
            [
                ("text", f"{CELLS[goal['cell']]}, {zero}"),
                ("text", quantities[goal["quantity"]]),
                _number(goal["goal"], goal["quantity"]),
                _number(goal["reached"], goal["quantity"], goal["deviation"]),
                _gap(goal),
            ]
        )
    reached = sum(1 for goal in goals if goal["gap"] is not None and goal["gap"] <= 0)
    head = [("text", "network"), ("text", "figure"), ("", "goal (papers)"), ("", "reached"), ("", "gap")]
    sources = "; ".join(dict.fromkeys(goal["source"] for goal in goals))
    caption = f"{reached} of {len(goals)} goals are reached. Goals: {escape(sources)}. {_BEST}"
    return html_table(head, rows, caption)


def _sparsity_table(points: Sequence[Point], missing: Sequence[Point], corpus: str | None) -> str:
    """Papers' tables 3 and 4."""
    bests = best(over_seeds(data.over_sparsity(points)), "run", "cell", "sparsity")
    keys = set(bests) | {(point["run"], point["cell"], point["sparsity"]) for point in missing}
    rows = []
    for key in sorted(keys):
        run, cell, sparsity = key
        papers = [published(corpus, cell, sparsity, quantity) for quantity in ("perplexity", "macs")]
        papers = [("none", "n/a") if value is None else _number(value, quantity)
                  for value, quantity in zip(papers, ("perplexity", "macs"), strict=True)]  # fmt: skip
        point = bests.get(key)
        own = [("none", "missing")] * 4
        if point is not None:
            own, seeds = _own_figures(point), len(point["members"])
            run += f" ({seeds} seeds)" if seeds > 1 else ""
        rows.append([("text", run), ("", percent(sparsity)), *own[:2], papers[0], *own[2:], papers[1]])
    head = [("text", "run"), ("", "weights zero"), ("", "valid perplexity"), ("", "test perplexity")]
    head += [("", "papers: test"), ("", "activity"), ("", "MACs per token"), ("", "papers: MACs")]
    caption = f"Beside the papers' tables 3 and 4 (arXiv 2405.00433); n/a: their number is not available. {_BEST}"
    return html_table(head, rows, caption)


def _own_figures(point: Point) -> list[Cell]:
    """Perplexities, activity and MACs of a point of `over_seeds`."""
    texts = [partial(perplexity, text=text) for text in ("valid", "test")]
    spread = deviation(point, mean_activity)
    activity = f"{100 * mean_activity(point):.1f}" + (f" \N{PLUS-MINUS SIGN} {100 * spread:.1f}" if spread else "")
    return [
        *(_number(figure(point), "perplexity", deviation(point, figure)) for figure in texts),
        ("", f"{activity} %"),
        _number(macs(point), "macs", deviation(point, macs)),
    ]


def _all_points(points: Sequence[Point], missing: Sequence[Point]) -> str:
    rows = []
    for point in [*points, *missing]:
        row = [("text", point["name"])]
        if "epochs" in point:
            row += [("", f"{point['epochs']}"), ("", f"{point['seconds']:,.0f} s"), ("text", point["device"])]
            row += [("", f"{point['tokens_per_second']:,.0f}")]
            row += [_number(point[name]["perplexity"], "perplexity") for name in ("valid", "test")]
            row += [("", ", ".join(f"{100 * share:.1f}" for share in point["activity"])), ("", _count(macs(point)))]
        else:
            row += [("none", "missing"), *[("none", "\N{EM DASH}")] * 7]
        rows.append(row)
    head = [("text", "point"), ("", "epochs"), ("", "time"), ("text", "device"), ("", "tokens/s"), ("", "valid")]
    head += [("", "test"), ("", "activity by layer, %"), ("", "MACs")]
    streams = ", ".join(sorted({str(point["streams"]) for point in points}))
    caption = f"Perplexities with the state carried, texts in {streams} streams. The time is that of training alone."
    return html_table(head, rows, caption)


def _part(study: _Study) -> list[str]:
    """What the page has of a study, from its title on."""
    points, missing = study.points, study.missing
    lead = f"{len(points)} of {len(points) + len(missing)} points are finished"
    lead += f", trained on {CORPORA[study.corpus]}" if study.corpus else ""
    lead += ". Event-based GRU and LSTM language models over weight sparsity and weight decay, beside arXiv 2405.00433 "
    lead += "and arXiv 2311.07625."
    parts = [
        f'<h1 id="{escape(study.name)}">{escape(study.title)}</h1>',
        f'<p class="lead">{escape(lead)}</p>',
        _summary(study.goals),
    ]
    for section in _SECTIONS:
        figure = study.drawn.get(section.name, "<p>Missing: no such point is finished.</p>")
        parts.append(f"<h2>{escape(section.heading)}</h2>")
        parts.append(f"<figure>{figure}<figcaption>{escape(section.caption)}</figcaption></figure>")
        if section.note is not None:
            parts.append(f'<p class="note">{escape(NOTES[section.note])}</p>')
        own = study.shown[section.name]
        names = "all" if len(own) == len(points) else ", ".join(point["name"] for point in own) or "none"
        parts.append(f'<p class="points">Points: {escape(names)}.</p>')
        if section.name == "sparsity":
            parts.append(_sparsity_table(points, missing, study.corpus))
    return [*parts, "<h2>All points</h2>", _all_points(points, missing)]


def _page(studies: Sequence[_Study]) -> str:
    """The page: where there are several studies, links to each come first."""
    title = " \N{MIDDLE DOT} ".join(study.title for study in studies)
    links = " \N{MIDDLE DOT} ".join(f'<a href="#{escape(study.name)}">{escape(study.title)}</a>' for study in studies)
    parts = [f"<p>{links}</p>"] if len(studies) > 1 else []
    for study in studies:
        parts += _part(study)
    return html_page(title, parts)
