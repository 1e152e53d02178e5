"""What a report shows: the results of a study as `egret.model.training.sweep` left them, and tables of them.

Where points differ in their seed alone, their mean stands for them, with the standard deviation. Where weight decays
compete, the one with the lowest validation perplexity stands for them, so that the test text chooses nothing.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egret.model.errors import InputError
from egret.model.files import MOST_TOKENS
from egret.model.training.papers import CORPORA, PUBLISHED, published
from egret.model.training.results import RESULT, STUDY, VERSION, parse_result

__all__ = [
    "CELLS", "HISTOGRAMS", "Point", "as_csv", "best", "dense_egrus", "deviation", "edges", "egrus",
    "egrus_over_sparsity", "goals", "histogram_table", "load", "macs", "mean_activity", "one_a_decay",
    "one_a_sparsity", "over_seeds", "over_sparsity", "perplexity", "points_table", "seeds_table",
]  # fmt: skip

CELLS = {"egru": "EGRU", "lstm": "LSTM"}
HISTOGRAMS = ("weights", "biases", "activity", "distances")
_LARGEST = 1e30  # of any number but a perplexity, which may be infinite
_KNOWN = ("name", "run", "cell", "seed", "weight_decay", "sparsity")  # of finished and of missing points

Point = dict[str, Any]
"""Content of a ``result.json``."""


def load(directory: Path) -> tuple[str, str | None, list[Point], list[Point]]:
    """Read a study's results.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    title : str
    corpus : str or None
    points : list of dict
        The finished ones.
    missing : list of dict
        What ``study.json`` says of the others.

    Raises
    ------
    InputError
        If there is no finished point, or a file is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; expected one that `egret sweep` wrote")
    study, points = {"title": directory.name, "corpus": None, "points": []}, {}
    for path in [directory / STUDY, *sorted(directory.glob(f"*/{RESULT}"))]:
        try:
            content = parse_result(path.read_bytes())
            if path.name == RESULT:
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


def _checked_study(content: dict[str, Any]) -> dict[str, Any]:
    """Title, corpus and points of ``study.json``, once they are there."""
    study = {key: content[key] for key in ("title", "corpus", "points")}
    if content["version"] != VERSION or not isinstance(study["title"], str) or study["corpus"] not in (None, *CORPORA):
        raise ValueError
    for point in study["points"]:
        _checked_names(point)
    return study


def _checked_names(point: Point) -> None:
    """Refuse a point whose `_KNOWN` fields are not there, or of another type."""
    for name in _KNOWN:
        if name not in ("name", "run", "cell"):
            _checked_number(point[name])
        elif not isinstance(point[name], str):
            raise TypeError


def _checked_number(number: Any) -> None:
    """Refuse what is no number, or one with which nothing can be counted or drawn."""
    if not isinstance(number, int | float):
        raise TypeError
    if not abs(number) <= _LARGEST:
        raise ValueError


def _checked(content: Point) -> Point:
    """A result, once everything that the report takes from it is there."""
    if content["version"] != VERSION or content["cell"] not in CELLS:
        raise ValueError
    _checked_names(content)
    for name in ("zeros", "epochs", "seconds", "device", "tokens_per_second", "streams"):
        content[name]
    counts, activity = content["macs"], content["activity"]
    if not all(isinstance(content[text]["perplexity"], int | float) for text in ("valid", "test")):
        raise TypeError
    numbers = [*activity]
    numbers += [counts[name] for name in ("dense", "pruned", "event_driven", "event_driven_pruned")]
    numbers += counts["layers"]
    for name in HISTOGRAMS:
        for histogram in content["histograms"][name]:
            numbers += [histogram["low"], histogram["high"], sum(histogram["counts"]), histogram["counts"][0]]
            numbers += [histogram.get("mean", 0.0)]
    for number in numbers:
        _checked_number(number)
    sizes = content["specification"]["options"]["hidden_sizes"]
    if not len(activity) == len(counts["layers"]) == len(sizes):
        raise ValueError
    if not all(0 <= share <= 1 for share in activity) or not all(0 < size <= MOST_TOKENS for size in sizes):
        raise ValueError
    return content


def mean_activity(point: Point) -> float:
    """Share of all neurons of a `point` that have an event per step."""
    sizes = point["specification"]["options"]["hidden_sizes"]
    return float(np.average(point["activity"], weights=sizes))


def macs(point: Point) -> float:
    """MACs a token of a `point`, with silent neurons and zero weights skipped."""
    return point["macs"]["event_driven_pruned"]


def perplexity(point: Point, text: str = "test") -> float:
    """Perplexity of a `point` on a `text`, ``"test"`` or ``"valid"``."""
    return point[text]["perplexity"]


def over_seeds(points: Iterable[Point]) -> list[Point]:
    """One point for all of `points` that differ in their seed alone.

    Perplexities, activities and MACs are the means. The rest, with the name and the distributions, is that of the seed
    with the lowest validation perplexity. ``members`` has the points themselves.
    """
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        same = (point["run"], point["cell"], point["weight_decay"], point["sparsity"], len(point["activity"]))
        groups.setdefault(same, []).append(point)
    return [_mean_point(group) for group in groups.values()]


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return values[0] if len(values) == 1 else sum(values) / len(values)


def _mean_point(group: list[Point]) -> Point:
    first = min(group, key=lambda point: perplexity(point, "valid"))
    texts = {
        text: {**first[text], "perplexity": _mean(perplexity(point, text) for point in group)}
        for text in ("valid", "test")
    }
    counts = {
        name: _mean(point["macs"][name] for point in group)
        for name in ("dense", "pruned", "event_driven", "event_driven_pruned")
    }
    layers = [_mean(numbers) for numbers in zip(*(point["macs"]["layers"] for point in group), strict=True)]
    activity = [_mean(shares) for shares in zip(*(point["activity"] for point in group), strict=True)]
    return {**first, **texts, "activity": activity, "macs": {**counts, "layers": layers}, "members": group}


def deviation(point: Point, figure: Callable[[Point], float]) -> float:
    """Standard deviation over seeds (by n - 1) of a ``figure(point)`` of a `point` of `over_seeds`.

    It is 0 with one seed, and where a figure is infinite.
    """
    values = [figure(member) for member in point["members"]]
    mean = _mean(values)
    if not math.isfinite(mean):
        return 0.0
    return math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def best(points: Iterable[Point], *keys: str) -> dict[tuple, Point]:
    """The one of `points` with the lowest validation perplexity for each combination of the fields `keys`, in order."""
    chosen: dict[tuple, Point] = {}
    for point in points:
        key = tuple(point[name] for name in keys)
        if key not in chosen or point["valid"]["perplexity"] < chosen[key]["valid"]["perplexity"]:
            chosen[key] = point
    return dict(sorted(chosen.items(), key=lambda item: item[0]))


def goals(points: Sequence[Point], corpus: str | None) -> list[dict[str, Any]]:
    """The published numbers of a `corpus`, and which of the `points` reached what beside them, as means over seeds.

    One dict for each: ``cell``, ``sparsity``, ``quantity``, ``goal``, ``source``, ``reached``, ``deviation`` and
    ``gap`` (None where the point is missing), ``seeds``, their number, and ``point``.
    """
    bests = best(over_seeds(points), "cell", "sparsity")
    figures = {"perplexity": perplexity, "macs": macs, "macs_dense": lambda point: point["macs"]["dense"]}
    found = []
    for number in PUBLISHED:
        if number.corpus != corpus:
            continue
        point = bests.get((number.cell, number.sparsity))
        figure = figures[number.quantity]
        reached = None if point is None else figure(point)
        found.append(
            {
                "cell": number.cell,
                "sparsity": number.sparsity,
                "quantity": number.quantity,
                "goal": number.value,
                "source": number.source,
                "reached": reached,
                "deviation": None if point is None else deviation(point, figure),
                "gap": None if reached is None else reached - number.value,
                "seeds": 0 if point is None else len(point["members"]),
                "point": point and point["name"],
            }
        )
    return found


# Tables


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """The `rows` as a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def points_table(points: Sequence[Point], missing: Sequence[Point], corpus: str | None) -> list[list[Any]]:
    """Rows of the table of all points.

    Parameters
    ----------
    points, missing : sequence of dict
        As `load` gives them.
    corpus : str or None
        Whose published numbers stand beside them.

    Returns
    -------
    list of list
        The head first.
    """
    layers = max(len(point["activity"]) for point in points)
    numbers = range(1, layers + 1)
    rows: list[list[Any]] = [
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
                point["test"]["perplexity"], mean_activity(point), *point["activity"], *filler, macs(point),
                *point["macs"]["layers"], *filler, point["macs"]["dense"], point["macs"]["pruned"],
                point["macs"]["event_driven"], *papers,
            ]
        )  # fmt: skip
    rows += [["missing", *(point[name] for name in _KNOWN), *[""] * (len(rows[0]) - 7)] for point in missing]
    return rows


def seeds_table(points: Sequence[Point]) -> list[list[Any]]:
    """Rows of the table of means and standard deviations over seeds of `points`; the head first."""
    figures: dict[str, Callable[[Point], float]] = {
        "valid_perplexity": lambda point: perplexity(point, "valid"),
        "test_perplexity": perplexity,
        "activity": mean_activity,
        "macs_per_token": macs,
    }
    heads = [head for name in figures for head in (name, f"{name}_deviation")]
    rows: list[list[Any]] = [["run", "cell", "weight_decay", "sparsity", "seeds", *heads]]
    for point in over_seeds(points):
        values = [value for figure in figures.values() for value in (figure(point), deviation(point, figure))]
        known = [point[name] for name in ("run", "cell", "weight_decay", "sparsity")]
        rows.append([*known, len(point["members"]), *values])
    return rows


def edges(histogram: dict[str, Any]) -> np.ndarray:
    """Edges of the bins of a `histogram`."""
    return np.linspace(histogram["low"], histogram["high"], len(histogram["counts"]) + 1)


def histogram_table(points: Sequence[Point], name: str) -> list[list[Any]]:
    """Rows of the table of one of the `HISTOGRAMS`, `name`, of all `points`; the head first."""
    rows: list[list[Any]] = [["point", "layer", "low", "high", "count"]]
    for point in points:
        for layer, histogram in enumerate(point["histograms"][name]):
            texts = [f"{edge:.6g}" for edge in edges(histogram)]
            for low, high, count in zip(texts, texts[1:], histogram["counts"], strict=False):
                rows.append([point["name"], layer + 1, low, high, count])
    return rows


# Which points a figure shows


def egrus(points: Sequence[Point]) -> list[Point]:
    """Those of `points` that are EGRUs."""
    return [point for point in points if point["cell"] == "egru"]


def dense_egrus(points: Sequence[Point]) -> list[Point]:
    """Those of `points` that are EGRUs of which nothing was pruned."""
    return [point for point in egrus(points) if point["sparsity"] == 0]


def over_sparsity(points: Sequence[Point]) -> list[Point]:
    """Of each run's `points` those of the weight decay with the most sparsities; of several, of the best network's."""
    ranks: dict[str, list[tuple]] = {}
    for (run, decay), chosen in best(over_seeds(points), "run", "weight_decay").items():
        sparsities = {point["sparsity"] for point in points if (point["run"], point["weight_decay"]) == (run, decay)}
        ranks.setdefault(run, []).append((-len(sparsities), chosen["valid"]["perplexity"], decay))
    decays = {run: min(candidates)[-1] for run, candidates in ranks.items()}
    return [point for point in points if point["weight_decay"] == decays[point["run"]]]


def egrus_over_sparsity(points: Sequence[Point]) -> list[Point]:
    """`over_sparsity` of the EGRUs among `points`."""
    return over_sparsity(egrus(points))


def one_a_decay(points: Sequence[Point]) -> list[Point]:
    """One dense EGRU of `points` for each run and weight decay, that of the best seed."""
    return list(best(dense_egrus(points), "run", "weight_decay").values())


def one_a_sparsity(points: Sequence[Point]) -> list[Point]:
    """One EGRU of `points` for each run and sparsity, of one weight decay and the best seed."""
    return list(best(egrus_over_sparsity(points), "run", "sparsity").values())
