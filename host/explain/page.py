"""The page of ``egret explain``: what a network does on its core over a sentence, in one HTML file.

Figures are narrow, so that they can be read on a screen of 400 pixels.
"""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from egret.host.explain.account import Account, Gain
from egret.model.evaluate import Evaluation
from egret.model.page import as_svg, html_page, html_table
from egret.model.sequences import SequenceEvaluation

__all__ = ["make_page", "quality"]

_WIDTH = 4.4  # inches of every figure
_ROW = 0.165  # inches of a step's row
_LABELS = 200  # steps that are named; of more, one in so many
_SMALL = 8  # points of a step's name
_CSS = """
body { max-width: 36rem }
th, td { white-space: normal }
code { overflow-wrap: anywhere }
@media (max-width: 32rem) { body { padding: 1.5rem .8rem 3rem } th, td { padding: .3rem .35rem } }
"""
_ROWS = {"token": "token that enters", "step": "step: its number, and which numbers are not zero"}
_WORK = "words"
_COLOURS = {
    _WORK: "#0b7285", "fetch": "#f59f00", "rows": "#66d9e8", "wait_layer": "#d9480f", "settle": "#ffa94d",
    "reset_pass": "#7048e8", "wait_update": "#c2255c", "read_out": "#74b816", "memory": "#868e96",
}  # fmt: skip
_CAUSES = {
    _WORK: "a word of weights is multiplied",
    "fetch": "the first columns of a phase are fetched",
    "rows": "a folded row is added",
    "wait_layer": "events of the layer below have not come yet",
    "settle": "the pipeline empties between phases",
    "reset_pass": "reset values have not come yet",
    "wait_update": "the update pass has to finish first",
    "read_out": "the read-out walks over its scores",
    "memory": "words of the SDRAM have not come yet",
}


def quality(evaluation: Evaluation) -> tuple[str, str]:
    """How well a network did, as a row of a table.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    tuple of str
    """
    if isinstance(evaluation, SequenceEvaluation):
        return "classes right", f"{evaluation.right:,} of {evaluation.asked:,}"
    return "perplexity", f"{evaluation.perplexity:.3f}"


def make_page(title: str, account: Account, look_inside: str) -> str:
    """The page of an account.

    Parameters
    ----------
    title : str
        Of the network.
    account : Account
    look_inside : str
        Command that names the stream inside the core which differs first.

    Returns
    -------
    str
        HTML that needs nothing beside it.
    """
    c, measured = account.configuration, account.measurement
    memory = "an SDRAM" if c.store == "sdram" else "block RAM"
    unit, text = account.unit, _text(account)
    lead = f"{len(account.tokens):,} {unit}s on a simulated core of {c.lanes} lanes with its weights in {memory}."
    return html_page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="lead">{lead} Every answer was compared with the integer network.</p>',
            _summary(account),
            *_divergence(account, look_inside),
            *_section(
                "Events",
                lambda: _raster(account),
                f"A mark is a neuron with an event. Time goes down, a row for each {_ROWS[unit]}; a column is a neuron "
                "of a layer.",
            ),
            *_section(
                "Cycles by cause",
                lambda: _cycles(account),
                f"Cycles of each {unit}, run one at a time. The dotted line is the mean of the streamed {text}, "
                f"{measured.cycles_per_token:,.0f}. The events of a {unit} are multiplied by the recurrent weights of "
                f"layer 1 before the next {unit} comes, and count with it.",
            ),
            _causes(account),
            *_section("Roofline", lambda: _roofline(account), _roofline_caption(account)),
            *_section(
                "Activity of neurons",
                lambda: _activity(account),
                f"How many neurons of a layer have an event in which share of the {unit}s.",
            ),
            *_section(
                "Length of columns",
                lambda: _lengths(account),
                "A column holds the weights of one source, an input or a neuron. An event costs the cycles of its "
                "column: its non-zero weights over the lanes, rounded up.",
            ),
            f"<h2>{'Folded rows and resident columns' if c.vocabulary else 'Resident columns'}</h2>",
            _gains(account),
        ],
        _CSS,
    )


def _text(account: Account) -> str:
    """What ran, in a word."""
    return "text" if account.unit == "token" else "data"


def _section(heading: str, draw: Callable[[], Figure], caption: str) -> list[str]:
    figure = as_svg(draw, heading)
    return [
        f"<h2>{heading}</h2>",
        f"<figure>{figure}<figcaption>{escape(caption)}</figcaption></figure>",
    ]


def _summary(account: Account) -> str:
    measured, unit = account.measurement, account.unit
    rows = [
        quality(measured.evaluation),
        (f"{measured.compared} unlike the integer network's", f"{measured.mismatches:,}"),
        (f"cycles per {unit}", f"{measured.cycles_per_token:,.0f}"),
        ("bound: every lane busy", f"{measured.bound:,.0f}"),
        (f"utilisation of {measured.lanes} lanes", f"{measured.lane_utilisation:.1%}"),
        (f"MACs per {unit}", f"{measured.macs_per_token:,.0f}"),
        (f"MACs per {unit} of the layers, dense", f"{measured.evaluation.macs.dense:,}"),
    ]
    if measured.bus_utilisation is not None:
        rows.insert(5, ("SDRAM's peak in use", f"{measured.bus_utilisation:.1%}"))
    rows += [
        (f"activity of layer {layer + 1}", f"{share:.2%}") for layer, share in enumerate(measured.evaluation.activity)
    ]
    return html_table(
        [("text", ""), ("", f"the {_text(account)}, streamed")], [[("text", a), ("", b)] for a, b in rows], ""
    )


def _divergence(account: Account, look_inside: str) -> list[str]:
    """Where the core first differs, if it does."""
    first = account.measurement.first_mismatch
    if first is None:
        return []
    where = first.what or f"last layer, neuron {first.neuron}"
    rows = [
        ("step", f"{first.step:,}"),
        ("what enters", account.tokens[first.step]),
        ("where", where),
        ("the integer network says", f"{first.expected:,}"),
        ("the core says", f"{first.actual:,}"),
    ]
    caption = f"What differs first inside the core: <code>{escape(look_inside)}</code>"
    cells = [[("text", name), ("short", value)] for name, value in rows]
    return ["<h2>First divergence</h2>", html_table([("text", ""), ("", "")], cells, caption)]


def _causes(account: Account) -> str:
    """Cycles by cause as a table: means of the steps."""
    steps = len(account.cycles)
    sums = {name: sum(one[name] for one in account.cycles) for name in account.cycles[0]}
    every = sum(sums.values())
    rows = [
        [("text", name), ("text", _CAUSES[name]), ("", f"{count / steps:,.1f}"), ("", f"{count / every:.1%}")]
        for name, count in sums.items()
    ]
    head = [("text", "counter"), ("text", "in these cycles"), ("", "cycles"), ("", "share")]
    return html_table(head, rows, f"Means of the {account.unit}s, one at a time.")


def _gains(account: Account) -> str:
    c = account.configuration

    def row(one: Gain) -> list[tuple[str, str]]:
        kind, name = ("good", f"{one.name} (this core)") if one.own else ("", one.name)
        numbers = [f"{value:,.0f}" for value in (one.macs, one.read, one.held)]
        return [("text", name), *((kind, number) for number in numbers), (kind, _cycles_text(one))]

    head = [("text", "with"), ("", "MACs"), ("", "bytes read"), ("", "bytes held"), ("", "cycles")]
    caption = (
        f"MACs of the layers, bytes read and cycles are those of a {account.unit} of this {_text(account)}, predicted "
        f"as egret estimate does; {account.measurement.cycles_per_token:,.0f} cycles were measured. Bytes held are the "
        "memory of rows and resident columns."
    )
    if c.vocabulary:
        caption += " A folded row holds what the embedding of a token adds to layer 1."
    if c.store == "sdram":
        caption += " Resident columns are in block RAM, beside the SDRAM; their bytes are not among those read."
    return html_table(head, [row(one) for one in account.gains], caption)


def _cycles_text(one: Gain) -> str:
    return "unknown" if one.cycles is None else f"{one.cycles:,.0f}"


# Figures


def _rows_of_steps(account: Account, columns: int, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure with a row for each step, whose names stand at the left."""
    count = len(account.tokens)
    figure = Figure((_WIDTH, _ROW * count + 0.9), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=True, width_ratios=ratios)[0].tolist()
    every = -(-count // _LABELS)
    places = range(0, count, every)
    axes[0].set_yticks(places, [account.tokens[place] for place in places], fontsize=_SMALL, parse_math=False)
    axes[0].set_ylim(count - 0.5, -0.5)
    for one in axes:
        one.grid(False)
        one.tick_params(axis="y", length=0)
    return figure, axes


def _raster(account: Account) -> Figure:
    sizes = [layer.shape[1] for layer in account.events]
    figure, axes = _rows_of_steps(account, len(sizes), [max(size, max(sizes) / 3) for size in sizes])
    width = min(0.7, 72 * _WIDTH / sum(sizes))  # points: what a neuron has of the figure
    for number, (axis, layer) in enumerate(zip(axes, account.events, strict=True)):
        step, neuron = np.nonzero(layer)
        # One path for all marks keeps the page small.
        ends = np.stack([np.stack([neuron, step - 0.4], 1), np.stack([neuron, step + 0.4], 1)], 1).reshape(-1, 2)
        if len(ends):
            path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(step)))
            path.should_simplify = False
            axis.add_patch(PathPatch(path, edgecolor="#0b7285", facecolor="none", linewidth=width))
        axis.set_xlim(-1, layer.shape[1])
        axis.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        axis.tick_params(axis="x", labelsize=_SMALL)
        axis.set_title(f"layer {number + 1}")
    figure.supxlabel("neuron", fontsize=10)
    return figure


def _cycles(account: Account) -> Figure:
    figure, (axes,) = _rows_of_steps(account, 1, [1])
    places, left = np.arange(len(account.cycles)), np.zeros(len(account.cycles))
    for name in account.cycles[0]:
        values = np.array([one[name] for one in account.cycles])
        if values.any():
            axes.barh(places, values, left=left, height=0.8, color=_COLOURS[name], label=name)
        left += values
    axes.axvline(account.measurement.cycles_per_token, color="#212529", linewidth=1, linestyle=":")
    axes.set_xlabel("cycles")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, handlelength=1, columnspacing=1)
    return figure


def _roofline_caption(account: Account) -> str:
    c = account.configuration
    bus = "the SDRAM" if c.store == "sdram" else "the memory of the weights"
    return (
        f"A dot is a {account.unit}, the ring their mean. None can be above the roof: {c.lanes} lanes make as many "
        f"MACs in a cycle, and {bus} brings at most {account.read_per_cycle:g} bytes. One is below the roof by the "
        "cycles that wait for something else."
    )


def _roofline(account: Account) -> Figure:
    lanes, slope = account.configuration.lanes, account.read_per_cycle
    cycles = np.array([sum(one.values()) for one in account.cycles])
    figure = Figure((_WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    seen = (account.read > 0) & (account.macs > 0)
    intensity, pace = account.macs[seen] / account.read[seen], account.macs[seen] / cycles[seen]
    ridge = lanes / slope
    low, high = (min(ridge, *intensity) / 2, max(ridge, *intensity) * 2) if seen.any() else (ridge / 2, ridge * 2)
    axes.plot([low, ridge, high], [low * slope, lanes, lanes], color="#343a40")
    axes.annotate(f"{lanes} lanes", (high, lanes), (0, 4), textcoords="offset points", ha="right", fontsize=9)
    at = (low * ridge) ** 0.5
    axes.annotate(
        f"{slope:g} bytes a cycle", (at, at * slope), (-6, 4), textcoords="offset points", ha="right", fontsize=9
    )
    axes.plot(intensity, pace, "o", color="#0b7285", alpha=0.5, markersize=4)
    if seen.any():
        mean = account.macs.sum() / account.read.sum(), account.macs.sum() / cycles.sum()
        axes.plot(*mean, "o", color="#d9480f", markerfacecolor="none", markersize=10, markeredgewidth=2)
    axes.set(xscale="log", yscale="log", xlabel="MACs per byte", ylabel="MACs per cycle")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    return figure


def _shades(count: int) -> list[tuple[float, ...]]:
    """Colours of the layers, without the end of the scale that is hard to see on white."""
    return [colormaps["viridis"](0.8 * index / max(1, count - 1)) for index in range(count)]


def _histogram(values: Sequence[np.ndarray], edges: np.ndarray, xlabel: str, ylabel: str) -> Figure:
    """A line for each layer."""
    figure = Figure((_WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for number, (layer, shade) in enumerate(zip(values, _shades(len(values)), strict=True)):
        axes.stairs(np.histogram(layer, edges)[0], edges, color=shade, label=f"layer {number + 1}")
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="symlog")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0)
    axes.legend(fontsize=9)
    return figure


def _activity(account: Account) -> Figure:
    shares = [100 * layer for layer in account.activity]
    return _histogram(shares, np.linspace(0, 100, 21), f"{account.unit}s with an event, %", "neurons")


def _lengths(account: Account) -> Figure:
    longest = max(int(layer.max(initial=0)) for layer in account.lengths)
    edges = np.arange(0, longest + 2, max(1, -(-longest // 40)))
    edges = np.append(edges, edges[-1] + max(1, -(-longest // 40))) if edges[-1] <= longest else edges
    return _histogram(account.lengths, edges, "non-zero weights of a column", "columns")
