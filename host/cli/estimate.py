"""The command ``egret estimate``."""

from typing import TYPE_CHECKING, Any

import click

from egret.host.cli.options import as_json, core_options, line_option
from egret.host.cli.show import Result, share_rows, show
from egret.host.network import Network
from egret.host.opening import board_named

if TYPE_CHECKING:
    from egret.boards.definition import BoardDefinition
    from egret.host.cost.work import Work
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image

__all__ = ["estimate"]


@click.command()
@click.argument("network")
@click.option("--board", "name", help="The core of this board, whether it fits, and tokens a second.")
@core_options()
@click.option("--text", help="Text to count events on; the network's own samples by default.")
@line_option
@click.option("--data", help="Sequences to count events on (.npz), of a network whose input is numbers.")
@click.option("--tokens", type=click.IntRange(1), help="Steps to count, 200 by default; or sequences, all of --data.")
@as_json
def estimate(
    network: str,
    name: str | None,
    line: str | None,
    core: dict[str, Any],
    text: str | None,
    data: str | None,
    tokens: int | None,
    as_json: bool,
) -> int:
    """Estimate what NETWORK takes on a core, in seconds: nothing is simulated or built.

    Cycles are those of a model that was fitted to simulated cores (docs/scaling.md); `egret bench` counts them.
    """
    import numpy as np

    from egret.host.cost.work import ReadoutWork, Work, columns_taken, resident_shares
    from egret.model.sequences import Sequences

    board = None if name is None else board_named(name, core, line=line)
    opened = Network(network, board=name, line=line, **core)
    inputs = opened.inputs(text, data, 200 if tokens is None and data is None else tokens)
    image, integer = opened.image, opened.integer
    c = image.configuration
    evaluation = opened.evaluate(inputs)
    ids = np.zeros(0, np.int64) if isinstance(inputs, Sequences) else inputs
    sources = evaluation.sources
    assert sources is not None
    taken = columns_taken(integer, sources, ids, c.folded_tokens)
    work = Work.of(
        integer,
        sources,
        ids,
        lanes=c.lanes,
        store=c.store,
        weight_bits=c.weight_bits,
        folded_tokens=c.folded_tokens,
        width=c.beat_bits,
        resident=resident_shares(image, taken) if c.store == "sdram" else (),
        readout=ReadoutWork.of(integer, evaluation) if c.readout is not None else None,
    )
    result = Result({"network": network, "tokens": evaluation.tokens, "lanes": c.lanes, "store": c.store})
    result.add(_memories(c))
    result.add(_cycles(work, c, board))
    if board is not None:
        result.add(_loading(board, image))
        result.add(_fit(board, c))
    show(result, f"Estimate: {network}, {c.lanes} lanes, weights in {c.store}", as_json)
    return 0


def _memories(c: "Configuration") -> Result:
    from egret.model.compiler.layouts import memory_sections

    sizes = {name: section.words * section.word_bits / 8 for name, section in memory_sections(c).items()}
    rows = [("memories", f"{sum(sizes.values()):,.0f} bytes"), ("tokens with folded rows", f"{c.folded_tokens:,}")]
    figures = {"memory_bytes": sizes, "weight_memory_bytes": c.weight_memory_bytes, "folded": c.folded_tokens}
    return Result(figures, rows)


def _cycles(work: "Work", c: "Configuration", board: "BoardDefinition | None") -> Result:
    from egret.host.cost.model import board_speed, cycles, packed, traffic

    if c.compact:
        return Result({"cycles_per_token": None}, [("cycles per token", "unknown; egret bench counts them")])
    words = packed(work)
    found, read = cycles(work, words=words), traffic(work, words)
    macs = sum(float(columns.taken @ columns.weights) for layer in work.matrices for columns in layer)
    figures = {"macs_per_token": macs, "cycles_per_token": found, "bytes_per_token": read["bytes"]}
    rows = [
        ("MACs per token", f"{macs:,.0f}"),
        ("cycles per token", f"{found:,.0f}"),
        ("bytes read per token", f"{read['bytes']:,.0f}"),
    ]
    if work.readout is not None:
        own = work.readout.counts.macs
        figures |= {"macs_readout_per_token": own, "macs_whole_per_token": macs + own}
        figures["readout_memory_bytes"] = read["readout"]
        rows.insert(1, ("MACs of the read-out per token", f"{own:,.0f}"))
        rows.append(("block RAM of the read-out's own memories", f"{read['readout']:,.0f} bytes"))
    if board is not None:
        speed = board_speed(work, board, board.hertz)
        figures["speed"] = speed.summary()
        rows += speed.rows(text=bool(work.vocabulary))[1:]
    return Result(figures, rows)


def _loading(board: "BoardDefinition", image: "Image") -> Result:
    from egret.host.board import bytes_to_load

    count = bytes_to_load(image, board.max_payload)
    seconds = board.load_seconds(count, board.hertz)
    row = ("loading the image", f"{seconds:,.1f} s for {count:,} bytes on the line ({board.line})")
    return Result({"line": board.line, "load_bytes": count, "load_seconds": seconds}, [row])


def _fit(board: "BoardDefinition", c: "Configuration") -> Result:
    from egret.boards.design import generate
    from egret.boards.estimate import estimate

    needed, capacity = estimate(generate(board, c)), board.device.capacity
    fits = all(count <= capacity[key] for key, count in needed.certain.items())
    rows = share_rows(needed.used, capacity)
    likely = all(needed.used[key] <= capacity[key] for key in needed.used if key in capacity)
    verdict = "yes, by its memories and multipliers" if likely else "perhaps: what is needed is estimated"
    rows.append((f"fits {board.title}", verdict if fits else "no"))
    rows.append(("time of the build", f"about {needed.seconds:.0f} s"))
    used = {"used": needed.used, "available": {key: capacity[key] for key in needed.used}}
    return Result({"board": board.title, "fits": fits, "build_seconds": round(needed.seconds)} | used, rows)
