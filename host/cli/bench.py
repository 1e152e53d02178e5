"""The command ``egret bench``."""

import contextlib
import importlib
from typing import Any

import click

from egret.host.cli.cores import (
    board_speed,
    describe_measurement,
    diverged,
    generation_speed,
    measure_whole,
    mismatch_status,
)
from egret.host.cli.options import as_json, core_options, line_option
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, Table, show
from egret.host.network import Network
from egret.host.opening import board_named, open_board
from egret.host.progress import progress_bar
from egret.model.errors import InputError, needs

__all__ = ["bench"]

MOST_GENERATED = 200
"""Tokens that are generated to measure whole ones."""


@click.command()
@click.argument("checkpoint")
@core_options()
@click.option("--text", help="Text to run; the network's own samples by default.")
@click.option("--data", help="Sequences to run (.npz), of a network whose input is numbers.")
@click.option("--tokens", type=int, help="Steps to run, 1000 by default; or sequences, all of --data.")
@click.option("--board", "name", help="The core of this board, and tokens a second at its clock and over its link.")
@line_option
@click.option(
    "--split",
    help="Layers behind which the network is cut, such as 1 or 1,2; each part runs on a board of "
    "its own, whose events enter the next one.",
)
@click.option("--speed-ups", is_flag=True, help="Measure what events, pruning and folding gain on the same core, too.")
@click.option("--energy", is_flag=True, help="Estimate the energy of a token, by cause (docs/energy.md).")
@click.option("--peers", is_flag=True, help="Compare with this processor, and with published figures.")
@click.option("--plot", help="Picture to write: .png, .svg or .pdf.")
@as_json
def bench(
    checkpoint: str,
    core: dict[str, Any],
    text: str | None,
    data: str | None,
    tokens: int | None,
    name: str | None,
    line: str | None,
    split: str | None,
    speed_ups: bool,
    energy: bool,
    peers: bool,
    plot: str | None,
    as_json: bool,
) -> int:
    """Measure cycles and lane utilisation of the simulated core with CHECKPOINT, every event checked."""
    import numpy as np

    from egret.host import comparison
    from egret.host.energy import usual_hertz
    from egret.host.traffic import weight_bytes_per_token
    from egret.model.sequences import Sequences

    if data is not None and (split is not None or peers):
        raise InputError("--split and --peers are for a text, not for --data")
    tokens = 1000 if tokens is None and data is None else tokens
    if tokens is not None and tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    for module, option, wanted in (("matplotlib", "--plot", plot is not None), ("torch", "--peers", peers)):
        if wanted:
            with needs(module, module, option):
                importlib.import_module(module)  # refused before the long part
    if peers:
        from egret.model.native import library

        library()
    check_files({"--plot": plot}, {"--text": text, "--data": data}, suffixes=(".png", ".svg", ".pdf"))
    board = None if name is None else board_named(name, [*core, *(["speed_ups"] if speed_ups else [])], line=line)
    # The parts of a network have no words, whatever the board's core does otherwise.
    source = Network(checkpoint, board=name, line=line, **core if split is None else {"readout": False} | core)
    if split is not None:
        if speed_ups or energy or peers or plot is not None:
            raise InputError(
                "--split prints the boards' figures alone: --speed-ups, --energy, --peers and --plot do not go with it"
            )
        assert tokens is not None
        return _bench_pipeline(checkpoint, source, split, board, text, tokens, as_json)
    inputs, session = source.inputs(text, data, tokens), None
    image, network = source.image, source.integer
    ids = np.zeros(0, np.int64) if isinstance(inputs, Sequences) else inputs
    if board is None or data is not None:
        measurement = source.measure(inputs)
    else:
        measurement, session = measure_whole(source, ids, min(len(ids) - 1, MOST_GENERATED))
    result = _describe(
        image.configuration, measurement, weight_bytes_per_token(image, measurement, ids, network.embedding)
    )
    hertz, variants = usual_hertz(image.configuration) if board is None else board.hertz, []
    if measurement.bus_utilisation is not None:
        result.add(_describe_memory(image.configuration, measurement.bus_utilisation, hertz, board))
    if board is not None:
        speed = board_speed(board, measurement, board.hertz)
        result.add(Result({"speed": speed.summary()}, speed.rows(text=data is None)))
    if board is not None and session is not None:
        result.add(_describe_generation(generation_speed(board, session), session))
    if speed_ups:
        variants = comparison.compare(
            network,
            inputs,
            lanes=core.get("lanes"),
            folded_tokens=image.configuration.folded_tokens,
            open_board=open_board,
            progress=progress_bar,
        )
        result.add(_describe_variants(variants))
    wrong = None
    if energy or peers:
        estimate = _estimate_energy(image, measurement, ids, network, hertz, board)
        if energy:
            result.add(estimate)
        if peers:
            joules = estimate.figures["energy"]["joules_per_token"]
            compared, wrong = _compare_peers(measurement, network, ids, hertz, joules)
            result.add(compared)
    if plot is not None:
        comparison.plot(plot, f"{checkpoint}, {measurement.evaluation.tokens:,} tokens", measurement, variants)
    show(result, f"{checkpoint}, {measurement.lanes} lanes, weights in {image.configuration.store}", as_json)
    statuses = [mismatch_status(one) for one in (measurement, *(variant.measurement for variant in variants))]
    if session is not None and session.first_mismatch is not None:
        statuses.append(diverged(f"of a text that was generated, the first: {session.first_mismatch}"))
    if wrong is not None:
        click.echo(f"egret: not as the integer network says: {wrong}", err=True)
        statuses.append(1)
    return max(statuses)


def _describe(c, measurement, read):
    """What a core of a configuration did, and the bytes that it read a token."""
    evaluation, shares, measured = measurement.evaluation, measurement.shares, describe_measurement(measurement)
    macs = measurement.macs_per_token - (measurement.macs_readout_per_token or 0)
    figures = {
        "store": c.store,
        "tokens": evaluation.tokens,
        "folded": c.folded_tokens,
        "weight_bits": c.weight_bits,
        "weight_memory_bytes": c.weight_memory_bytes,
        "bytes_per_token": read,
        "macs_per_token": macs,
        "macs_per_token_dense": evaluation.macs.dense,
        "bound_cycles_per_token": measurement.bound,
        "shares": shares,
        **measured.figures,
    }
    rows = [
        ("steps", f"{evaluation.tokens:,}"),
        ("MACs per token", f"{macs:,.0f} of {evaluation.macs.dense:,}"),
        ("cycles per token", f"{measurement.cycles_per_token:,.0f}, bound {measurement.bound:,.0f}"),
        *(row for row in measured.rows if row[0] != "cycles per token"),
        *((f"lanes' cycles: {name}", f"{share:.2%}") for name, share in shares.items() if share),
        ("bytes read per token", f"{read:,.0f}"),
    ]
    if measurement.macs_readout_per_token is not None:
        figures["macs_readout_per_token"] = measurement.macs_readout_per_token
        rows.insert(2, ("MACs of the read-out per token", f"{measurement.macs_readout_per_token:,.0f}"))
    return Result(figures, rows)


def _describe_memory(c, share, hertz, board):
    """How fast the SDRAM is, and what is used of it, over whole tokens at a clock of the core."""
    from egret.rtl.outer import rated_bytes_per_second

    name = (board and (board.ddr3 if c.ddr3 else board.sdram)) or "any"
    peak = hertz * c.beat_bits / 8
    figures = {
        "part": name,
        "rated_bytes_per_second": rated_bytes_per_second(name, c.memory_ratio),
        "peak_bytes_per_second": peak,
        "bytes_per_second": share * peak,
        "share": share,
    }
    kind, clock = ("DDR3", 2 * hertz / 1e6) if c.ddr3 else ("SDRAM", hertz * c.memory_ratio / 1e6)
    rows = [(f"{kind} at {clock:g} MHz: MB a second", f"{share * peak / 1e6:,.0f} of {peak / 1e6:,.0f}")]
    return Result({"memory": figures}, rows)


def _describe_generation(figures, session):
    """Whole tokens, generated on the board with the host's own time."""
    speed, own = figures["tokens_per_second"], figures["host_seconds_per_token"] * 1e6
    cycles, count = figures["core_cycles_per_token"], figures["link_bytes_per_token"]
    rows = [
        ("expected whole tokens a second, generated", f"{speed:,.0f} (host 1 ms away, its own {own:,.0f} µs counted)"),
        ("cycles, bytes to and from the board, per whole token", f"{cycles:,.0f}, {count:.1f}"),
    ]
    return Result({"end_to_end": {**figures, "matching": session.matching, "tokens": session.tokens}}, rows)


def _estimate_energy(image, measurement, ids, network, hertz, board):
    """The energy of a token by cause."""
    import numpy as np

    from egret.host.energy import BOARD_WATTS, COSTS, DDR3_COSTS, activity, energy

    ddr3 = image.configuration.ddr3
    done = activity(image, measurement, ids, network.embedding, hertz)
    costs = energy(done, DDR3_COSTS if ddr3 else COSTS)
    low, high = np.sum(list(costs.values()), axis=0).tolist()
    figures = {"estimate": True, "megahertz": hertz / 1e6, "joules_per_token": [low, high], "causes": {}}
    rows = []
    for name, (unit, count) in done.items():
        bounds = np.unique(count).tolist()
        figures["causes"][name] = {"unit": unit, "count": bounds, "joules": costs[name].tolist()}
        counted = " to ".join(f"{bound:,.0f}" if bound >= 1 else f"{bound:.3g}" for bound in bounds)
        rows.append((name, f"{counted} {unit}", *(f"{joules * 1e6:,.1f}" for joules in costs[name])))
    rows.append(("together", "", f"{low * 1e6:,.1f}", f"{high * 1e6:,.1f}"))
    if board.title.startswith("ULX3S") if board else not ddr3:
        most = BOARD_WATTS * measurement.cycles_per_token / hertz
        figures["board_joules_at_most"] = most
        rows.append((f"a ULX3S at its most, {BOARD_WATTS} W", "", "", f"{most * 1e6:,.1f}"))
    title = f"Energy of a token: an estimate, nothing measured, at {hertz / 1e6:g} MHz (docs/energy.md)"
    return Result({"energy": figures}, tables=[Table(title, rows, ("", "a token", "µJ, low", "µJ, high"))])


def _compare_peers(measurement, network, ids, hertz, joules):
    """This core beside others, and whether one of them was wrong: in words, or None."""
    from egret.host.peers import PUBLISHED, run_engines

    with progress_bar("peers") as progress:
        runs = run_engines(network, ids, progress=progress)
    core = {"this core": (measurement.cycles_per_token, joules), "its bound: lanes": (measurement.bound, None)}
    if "beats" in measurement.counters:
        core["its bound: bus"] = measurement.counters["beats"] / measurement.counters["tokens"], None

    def peer(name, network, steps, joules, source, whole=None, **more):
        figures = {"name": name, "network": network, "steps_per_second": steps, "tokens_per_second": whole}
        figures["joules_per_step"] = joules
        return {**figures, **more, "source": source}

    peers = [
        peer(name, "this", hertz / cycles, energy, "bound" if energy is None else "simulated, energy estimated")
        for name, (cycles, energy) in core.items()
    ]
    for run in runs:
        counts = {"threads": run.threads, "mismatches": run.mismatches}
        how = f"measured, threads: {run.threads}"
        peers.append(peer(run.name, "this", 1 / run.seconds, None, how, 1 / run.whole_seconds, **counts))
    peers += [peer(one.name, one.network, 1 / one.seconds, one.joules, one.source) for one in PUBLISHED]

    def millijoules(value):
        if value is None:
            return ""
        return " to ".join(f"{one * 1e3:.3g}" for one in (value if isinstance(value, list) else [value]))

    rows = [
        (
            one["name"],
            one["network"],
            f"{one['steps_per_second']:,.0f}",
            "" if one["tokens_per_second"] is None else f"{one['tokens_per_second']:,.0f}",
            millijoules(one["joules_per_step"]),
            one["source"],
        )
        for one in peers
    ]
    title = f"Peers; this core at {hertz / 1e6:g} MHz, before the link (docs/energy.md)"
    table = Table(title, rows, ("", "network", "steps a second", "whole tokens a second", "mJ a step", "from"))
    wrong = [f"{run.mismatches} values of {run.name}" for run in runs if run.mismatches]
    return Result({"peers": peers}, tables=[table]), ", ".join(wrong) or None


def _bench_pipeline(checkpoint, source, split, board, text, tokens, as_json):
    """`bench` of a network that is cut behind some layers, its parts on boards that work at once."""
    from egret.host.measure import measure_pipeline, pipeline_images

    try:
        behind = [int(layer) for layer in split.split(",")]
    except ValueError:
        raise InputError(f"--split must be numbers of layers, such as 1 or 1,2, not {split!r}") from None
    network = source.integer
    images = pipeline_images(network, behind, **source.options)
    ids = source.ids(text, tokens)
    with contextlib.ExitStack() as stack:
        boards = [stack.enter_context(open_board(image.configuration)) for image in images]
        progress = stack.enter_context(progress_bar(f"{len(boards)} simulated boards"))
        measurements = measure_pipeline(boards, images, network, ids, progress=progress)
    names, columns, found = [""], [], []
    for first, last, measurement in zip([0, *behind], [*behind, len(network.layers)], measurements, strict=True):
        names.append(f"layer {last}" if last == first + 1 else f"layers {first + 1} to {last}")
        sent, received = measurement.bytes_sent / tokens, measurement.bytes_received / tokens
        figures = {
            "layers": [first + 1, last],
            "mismatches": measurement.mismatches,
            "macs_per_token": measurement.macs_per_token,
            "cycles_per_token": measurement.cycles_per_token,
            "lane_utilisation": measurement.lane_utilisation,
            "bytes_sent_per_token": sent,
            "bytes_received_per_token": received,
            "counters": measurement.counters,
        }
        rows = [
            ("event values unlike the integer network's", f"{measurement.mismatches:,}"),
            ("MACs per token", f"{measurement.macs_per_token:,.0f}"),
            ("cycles per token", f"{measurement.cycles_per_token:,.0f}"),
            (f"utilisation of {measurement.lanes} lanes", f"{measurement.lane_utilisation:.1%}"),
            ("bytes to and from the board, per token", f"{sent:,.1f} and {received:,.1f}"),
        ]
        if board is not None:
            speed = board_speed(board, measurement, board.hertz)
            figures["speed"] = speed.summary()
            rows.append(("tokens a second, streamed", f"{speed.streamed():,.0f} (limit: {speed.limit()})"))
        found.append(figures)
        columns.append(rows)
    rows = [(cells[0][0], *(value for _, value in cells)) for cells in zip(*columns, strict=True)]
    title = f"{checkpoint} on {len(images)} boards, {tokens:,} tokens"
    result = {
        "tokens": tokens,
        "perplexity": measurements[0].evaluation.perplexity,
        "cycles_per_token": max(one.cycles_per_token for one in measurements),
        "boards": found,
    }
    show(Result(result, tables=[Table(title, rows, tuple(names))]), title, as_json)
    return max(map(mismatch_status, measurements))


def _describe_variants(variants):
    """The core with its speed-up, and without parts of it."""
    dense, figures, rows = variants[0], [], []
    for variant in variants:
        measurement = variant.measurement
        figures.append(
            {
                "uses": variant.name,
                "mismatches": measurement.mismatches,
                "tokens": measurement.evaluation.tokens,
                "activity": measurement.evaluation.activity,
                "macs_per_token": measurement.macs_per_token,
                "cycles_per_token": measurement.cycles_per_token,
                "bound_cycles_per_token": measurement.bound,
                "speed_up": variant.speed_up(dense),
                "speed_up_in_macs": variant.theory(dense),
            }
        )
        counts = (measurement.macs_per_token, measurement.cycles_per_token, measurement.bound)
        gains = (variant.speed_up(dense), variant.theory(dense))
        rows.append((variant.name, *(f"{count:,.0f}" for count in counts), *(f"{gain:.1f}" for gain in gains)))
    title = "Speed-up over every neuron active and no weight pruned, on the same core, simulated"
    head = ("made use of", "MACs per token", "cycles per token", "bound", "speed-up", "by MACs")
    return Result({"variants": figures}, tables=[Table(title, rows, head)])
