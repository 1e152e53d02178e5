"""How cycles, bytes and memory of a token grow: runs of the simulated core, and a model fitted to them.

    python -m bench.scaling --results build/scaling.json [--text ptb.test.txt] [--large] [--plot scaling.svg] [--json]

Random networks run on the virtual board, every event checked; each point varies one thing of the first one. What has
run is kept in the file of ``--results`` and not run again. The model (`egret.host.cost`) is fitted to some of the runs
by least squares of the relative error; the others are held out. Then it says what the networks in ``model/networks``
take, on a text or their own samples, larger ones of their kind, and boards; with ``--large`` these networks run too.

``--constants host/cost/constants.json`` writes what was fitted to where the model takes its constants from.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.scaling_runs import LARGE, NETWORKS, POINTS, TOKENS, Point, fit, gather, tokens_of
from bench.show import as_json, progress_bar, run_script, show
from egret.boards.catalogue import board_named
from egret.host.cost.cores import CORES, DDR3, ULX3S, on_core
from egret.host.cost.model import Constants, board_speed, cycles, link_bytes, packed, traffic
from egret.host.cost.work import (
    TextShares,
    Work,
    columns_taken,
    count_sources,
    resident_shares,
    text_shares,
)
from egret.host.measure import pipeline_images
from egret.host.speed import Speed
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.lookups import estimate_lookups
from egret.model.files import json_text, write_aside
from egret.model.integer import IntegerNetwork
from egret.model.integer_file import load_integer

STUDIED = ("ptb-egru-85", "ptb-egru-95")
"""The networks that the model is asked about."""


def beyond(network: IntegerNetwork, ids: np.ndarray, constants: Constants) -> dict[str, list[dict[str, Any]]]:
    """What the model says of a network, larger ones of its kind, boards and boards in a row.

    Parameters
    ----------
    network : IntegerNetwork
    ids : np.ndarray of int, shape [N + 1]
        Its text.
    constants : Constants

    Returns
    -------
    dict of str to list of dict
    """
    sources = count_sources(network, ids)
    configuration = configuration_for(network, store="sdram")
    lookups = estimate_lookups(network, configuration.folded_tokens)
    taken = columns_taken(network, sources, ids, configuration.folded_tokens)
    image = compile_image(network, configuration, lookups=lookups)
    resident = resident_shares(image, taken)
    work = Work.of(network, sources, ids, lanes=ULX3S.lanes, store="sdram", width=ULX3S.width, resident=resident)
    shares = text_shares(network, ids)
    layers, parts = len(network.layers), []
    for cuts in ([1], list(range(1, layers))):
        images = pipeline_images(network, cuts, lookups=lookups, store="sdram")
        own = [
            dataclasses.replace(work.part(first, last), resident=resident_shares(one, taken[first:last]))
            for one, first, last in zip(images, [0, *cuts], [*cuts, layers], strict=True)
        ]
        own[0] = _fitting(own[0], shares)
        parts.append((cuts, own))
    return {
        "cores": [*_cores(work, shares, constants)],
        "networks": [*_larger(work, shares, constants)],
        "boards": [*_boards(work, shares, constants)],
        "row_of_boards": [*_in_a_row(parts, constants)],
    }


def _cores(work: Work, shares: TextShares, constants: Constants) -> Iterator[dict[str, Any]]:
    for lanes, rows in ((8, 0), (16, 0), (32, 0), (8, 1000), (8, 10_000)):
        own = dataclasses.replace(
            work, store="bram", resident=(), lanes=lanes, folded_tokens=rows, **shares(work, rows)
        )
        words = packed(own)
        yield {
            "lanes": lanes,
            "folded_tokens": rows,
            "cycles": cycles(own, constants, words),
            "macs": sum(float(columns.taken @ columns.weights) for layer in own.matrices for columns in layer),
            "bytes": traffic(own, words)["bytes"],
        }


def _larger(work: Work, shares: TextShares, constants: Constants) -> Iterator[dict[str, Any]]:
    for width, words in ((1, None), (2, None), (4, None), (1, 30_000), (1, 100_000)):
        larger = dataclasses.replace(work.wider(width), vocabulary=words or work.vocabulary, resident=())
        memory = traffic(larger)
        none = dataclasses.replace(larger, folded_tokens=0)
        rows = on_core(larger, ULX3S)
        every = dataclasses.replace(larger, **shares(larger, larger.vocabulary))
        wide = dataclasses.replace(none, store="bram", lanes=16)
        ddr3 = on_core(larger, DDR3, shares)
        yield {
            "width": width,
            "vocabulary": larger.vocabulary,
            "weights": memory["weights"],
            "embedding": memory["embedding"],
            "row": memory["row"],
            "rows": memory["row"] * larger.vocabulary,
            "rows_that_fit": None if rows is None else rows.folded_tokens,
            "cycles_sdram": cycles(none, constants),
            "cycles_sdram_all_folded": cycles(every, constants),
            "cycles_16_lanes": cycles(wide, constants),
            "ddr3_rows": None if ddr3 is None else ddr3.folded_tokens,
            "cycles_ddr3": None if ddr3 is None else cycles(ddr3, constants),
        }


def _speed(work: Work, hertz: float, constants: Constants) -> Speed:
    """With a link as that of the boards with an ECP5."""
    return board_speed(work, board_named("ulx3s-85f"), hertz, constants)


def _boards(work: Work, shares: TextShares, constants: Constants) -> Iterator[dict[str, Any]]:
    for core in CORES:
        own = on_core(work, core, shares)
        if own is None:
            continue
        count = cycles(own, constants)
        yield {
            "name": core.name,
            "rows": own.folded_tokens,
            "cycles": count,
            "tokens_per_second": {f"{hertz / 1e6:g}": hertz / count for hertz in core.hertz},
            "streamed": {f"{hertz / 1e6:g}": _speed(own, hertz, constants).streamed() for hertz in core.hertz},
        }


def _fitting(part: Work, shares: TextShares) -> Work:
    """The first part of a network on a ULX3S, with as many rows as fit; without any where the memory is too small."""
    return on_core(part, ULX3S, shares) or part


def _in_a_row(parts: list[tuple[list[int], list[Work]]], constants: Constants) -> Iterator[dict[str, Any]]:
    for cuts, boards in parts:
        for number, part in enumerate(boards, 1):
            sent, received = link_bytes(part)
            speeds = {f"{hertz / 1e6:g}": _speed(part, hertz, constants) for hertz in ULX3S.hertz}
            yield {
                "split": ",".join(map(str, cuts)),
                "board": number,
                "rows": part.folded_tokens,
                "cycles": cycles(part, constants),
                "bytes_sent": sent,
                "bytes_received": received,
                "streamed": {clock: [speed.streamed(), speed.limit()] for clock, speed in speeds.items()},
            }


def compare(runs: dict[str, dict[str, Any]], constants: Constants) -> list[dict[str, Any]]:
    """Measured beside predicted, of each of ``runs``, by the model with ``constants``."""
    rows = []
    for name, record in runs.items():
        work = Work.from_json(record["work"])
        words = packed(work)
        memory = traffic(work, words)
        rows.append(
            {
                "name": name,
                "fitted": record["point"]["fitted"],
                "lanes": work.lanes,
                "store": work.store,
                "macs": record["macs"],
                "cycles": record["cycles"],
                "predicted": cycles(work, constants, words),
                "words": record["words"],
                "predicted_words": memory["words"],
                "bytes": record["bytes"],
                "predicted_bytes": memory["bytes"],
                "weight_memory": record["weight_memory"],
                "predicted_weight_memory": memory["weights"],
                "memory": record["memory"],
                "activity": record["activity"],
                "folded_share": work.folded_share,
            }
        )
    return rows


def error(row: dict[str, Any], name: str = "cycles", predicted: str = "predicted") -> float:
    """Relative error of a prediction: ``row[predicted]`` against ``row[name]``."""
    return row[predicted] / row[name] - 1


def largest(rows: list[dict[str, Any]], fitted: bool) -> float | None:
    """The largest error of the cycles in ``rows``, by its magnitude, of the runs that were ``fitted`` or were not."""
    return max((error(row) for row in rows if row["fitted"] == fitted), key=abs, default=None)


def plot(path: str, rows: list[dict[str, Any]]) -> None:
    """Draw measured and predicted cycles of ``rows`` against MACs over lanes, in a format by the suffix of ``path``."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for fitted, marker, label in ((True, "o", "fitted"), (False, "s", "held out")):
        for store, color in (("bram", "#4477aa"), ("sdram", "#ee6677")):
            own = [row for row in rows if row["fitted"] == fitted and row["store"] == store]
            axis.plot(
                [row["macs"] / row["lanes"] for row in own],
                [row["cycles"] for row in own],
                marker,
                color=color,
                mfc="none",
                label=f"{store}, {label}",
            )
    axis.plot([row["macs"] / row["lanes"] for row in rows], [row["predicted"] for row in rows], "k+", label="model")
    ends = [min(row["macs"] / row["lanes"] for row in rows), max(row["cycles"] for row in rows)]
    axis.plot(ends, ends, color="#bbbbbb", label="bound: every lane in every cycle")
    axis.set(xscale="log", yscale="log", xlabel="MACs a token / lanes", ylabel="cycles a token")
    axis.legend(fontsize="small")
    figure.savefig(path)
    pyplot.close(figure)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f} %"


def _table_of_runs(rows: list[dict[str, Any]]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    heads = ("run", "MACs", "cycles", "model", "error", "words", "bytes", "weight memory")
    return (
        "a token, measured and predicted; * was not fitted; errors of words, bytes and memory",
        heads,
        [
            (
                row["name"] + ("" if row["fitted"] else " *"),
                *(f"{row[name]:,.0f}" for name in ("macs", "cycles", "predicted")),
                _percent(error(row)),
                *(_percent(error(row, name, f"predicted_{name}")) for name in ("words", "bytes", "weight_memory")),
            )
            for row in rows
        ],
    )


def _tables_of(name: str, parts: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, tuple[str, ...], list[Any]]]:
    """What `beyond` says of a network."""
    yield (
        f"{name}, predicted",
        ("lanes, bram", "folded rows", "MACs", "cycles", "bytes"),
        [
            [f"{one['lanes']}", *(f"{one[key]:,.0f}" for key in ("folded_tokens", "macs", "cycles", "bytes"))]
            for one in parts["cores"]
        ],
    )
    memories = ("weights MB", "embedding MB", "rows MB", "rows in 32 MB")
    stores = ("cycles_sdram", "cycles_sdram_all_folded", "cycles_ddr3", "cycles_16_lanes")
    yield (
        f"{name}, larger: memory, and cycles a token, predicted",
        ("width", "words", *memories, "SDRAM", "... all rows", "DDR3, 16 lanes", "bram, 16 lanes"),
        [
            [
                f"{one['width']}",
                f"{one['vocabulary']:,}",
                *(f"{one[key] / 1e6:,.1f}" for key in ("weights", "embedding", "rows")),
                "none fits" if one["rows_that_fit"] is None else f"{one['rows_that_fit']:,}",
                *("does not fit" if one[key] is None else f"{one[key]:,.0f}" for key in stores),
            ]
            for one in parts["networks"]
        ],
    )
    yield (
        f"{name} on boards, predicted",
        ("board", "folded rows", "cycles", "tokens a second of the core", "... with the link"),
        [
            [
                one["name"],
                f"{one['rows']:,}",
                f"{one['cycles']:,.0f}",
                *(
                    ", ".join(f"{rate:,.0f} at {clock} MHz" for clock, rate in one[key].items())
                    for key in ("tokens_per_second", "streamed")
                ),
            ]
            for one in parts["boards"]
        ],
    )
    yield (
        f"{name} on ULX3S in a row, predicted",
        ("--split", "board", "rows", "cycles", "bytes to, from", "tokens a second, limit"),
        [
            [
                one["split"],
                f"{one['board']}",
                f"{one['rows']:,}",
                f"{one['cycles']:,.0f}",
                f"{one['bytes_sent']:,.0f}, {one['bytes_received']:,.0f}",
                ", ".join(f"{rate:,.0f} at {clock} MHz ({limit})" for clock, (rate, limit) in one["streamed"].items()),
            ]
            for one in parts["row_of_boards"]
        ],
    )


@click.command(help=__doc__)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps what has run; a run that is there is not done again.",
)
@click.option("--text", type=click.Path(), help="For the networks in model/networks; their own samples by default.")
@click.option("--tokens", type=click.IntRange(2), default=TOKENS, show_default=True, help="Of it, for the model.")
@click.option("--large", is_flag=True, help="Simulate the networks in model/networks, too.")
@click.option("--plot", "picture", help="Picture to write: .png, .svg or .pdf.")
@click.option("--constants", "fitted_file", type=click.Path(path_type=Path), help="File to write the constants to.")
@as_json
def main(
    results: Path | None,
    text: str | None,
    tokens: int,
    large: bool,
    picture: str | None,
    fitted_file: Path | None,
    as_json: bool,
) -> None:
    points = POINTS + (LARGE if large else [])
    with progress_bar() as bar:
        task = bar.add_task("", total=len(points) + 1 + len(STUDIED))

        def progress(name: str) -> None:
            bar.update(task, description=name, advance=1)

        runs = gather(points, results, text=text, progress=progress)
        progress("fitting")
        fitted = [record for record in runs.values() if record["point"]["fitted"]]
        constants = fit([Work.from_json(record["work"]) for record in fitted], [record["cycles"] for record in fitted])
        rows = compare(runs, constants)
        ahead = {}
        for name in STUDIED:
            progress(name)
            network = load_integer(NETWORKS / f"{name}.egret")
            ids = tokens_of(Point(name=name, network=name, tokens=tokens), network, text)
            ahead[name] = beyond(network, ids, constants)
    found = {
        "constants": dataclasses.asdict(constants),
        "largest_error": {"fitted": largest(rows, True), "held_out": largest(rows, False)},
    }
    if picture:
        plot(picture, rows)
    if fitted_file:
        said = {"by": "python -m bench.scaling", **found, "runs": {"fitted": len(fitted), "all": len(rows)}}
        write_aside(fitted_file, (json_text(said, indent=1) + "\n").encode())
    summary = [(name, f"{value:.2f}") for name, value in found["constants"].items()]
    summary += [
        (f"largest error of the cycles, {name.replace('_', ' ')}", _percent(share))
        for name, share in found["largest_error"].items()
    ]
    tables = [
        _table_of_runs(rows),
        ("fitted, in cycles", ("", ""), summary),
        *(table for name, parts in ahead.items() for table in _tables_of(name, parts)),
    ]
    show({"runs": rows, **found, "beyond": ahead}, tables, as_json)


if __name__ == "__main__":
    run_script(main, "scaling")
