"""The command ``egret build``."""

from pathlib import Path
from typing import Any

import click

from egret.host.cli.cores import board_speed, mismatch_status
from egret.host.cli.options import as_json, core_options, line_option
from egret.host.cli.outputs import check_directory
from egret.host.cli.show import Result, share_rows, show
from egret.host.network import Network
from egret.host.opening import board_named
from egret.model.errors import InputError

__all__ = ["build"]


@click.command()
@click.argument("source", required=False)
@click.option(
    "--board",
    "name",
    required=True,
    help="Name of a board: ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, orangecrab-85f-ddr3.",
)
@line_option
@click.option("-o", "--output", help="Directory to write to; build/BOARD by default, or build/BOARD-LINE.")
@core_options("weight_bytes")
@click.option("--clock", type=float, help="Clock of the core in MHz instead of the board's.")
@click.option("--sdram-module", help="The SDRAM that the board carries, e.g. is42s16160g-7; any of those by default.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the placement.")
@click.option(
    "--tokens",
    type=int,
    default=200,
    show_default=True,
    help="Steps to simulate first, for the tokens a second to expect; 0 leaves that out.",
)
@as_json
def build(
    source: str | None,
    name: str,
    line: str | None,
    output: str | None,
    core: dict[str, Any],
    clock: float | None,
    sdram_module: str | None,
    seed: int,
    tokens: int,
    as_json: bool,
) -> int:
    """Build the bitstream of a board for SOURCE: a checkpoint, an integer network or an image; the demo network.

    Writes bitstream, image and report; the virtual board says how many tokens a second to expect. Needs Yosys and
    nextpnr: pip install 'egret-fpga[build]'. The variables YOSYS, NEXTPNR_ECP5, ECPPACK, NEXTPNR_ICE40 and ICEPACK name
    other commands.
    """
    board = board_named(name, core, "weight_bytes", what="building", line=line)
    variant = name + board.suffix
    from egret.boards.baselines import DIRECTORY
    from egret.boards.estimate import estimate as estimate_design
    from egret.boards.estimate import refuse_what_cannot_fit
    from egret.boards.tools import Tools
    from egret.host.demo import NETWORK

    if tokens < 0:
        raise InputError(f"--tokens must be at least 0, not {tokens}")
    if clock is not None and clock <= 0:
        raise InputError(f"--clock must be above 0, not {clock:g}")
    target = Path("build") / variant if output is None else Path(output)
    check_directory(target)
    Tools.find(board.device.family)  # refused before the long part
    source = str(NETWORK) if source is None else source
    network = Network(source, board=name, line=line, parts=True, **core)
    if tokens and not network.image.readout_bias:
        raise InputError(
            f"{source}: the image of a part of a network, which has no read-out to simulate a text with; "
            "--tokens 0 leaves the simulation out"
        )
    design = network.design(hertz=clock and clock * 1e6, seed=seed, sdram=sdram_module)
    estimate, capacity = estimate_design(design), board.device.capacity
    if not as_json:
        rows = [*share_rows(estimate.used, capacity), ("time", f"about {_minutes(estimate.seconds)}")]
        show(Result({}, rows), f"{board.title}, estimate", as_json)
    refuse_what_cannot_fit(board, estimate.certain, "its memories and multipliers")
    if not (DIRECTORY / f"{variant}.json").exists():
        which = "this board with this line" if board.suffix else "this board"
        click.echo(f"egret: {board.title}: no build of {which} has been routed to its end (docs/boards.md)", err=True)
    speed = None
    if tokens:
        measurement = network.measure(tokens=tokens)
        if (status := mismatch_status(measurement)) != 0:
            return status
        speed = board_speed(board, measurement, design.hertz)
    summary = network.build(target, design=design, speed=speed)
    rows = [
        ("clock", f"{summary['megahertz']:.1f} MHz, {summary['wanted_megahertz']:.1f} wanted"),
        *share_rows(summary["used"], capacity),
        ("critical path", summary["critical_path"]),
        ("time", ", ".join(f"{key} {value:.0f} s" for key, value in summary["seconds"].items())),
        *(speed.rows(text=network.vocabulary.kind != "number") if speed else []),
        *summary["files"].items(),
    ]
    show(Result(summary, rows), f"{board.title}, {source}", as_json)
    if not summary["met"]:
        click.echo(
            f"egret: {board.title}: the clock is missed: {summary['megahertz']:.1f} of "
            f"{summary['wanted_megahertz']:.1f} MHz; no bitstream is written; try another --seed, or --clock "
            f"{summary['megahertz']:.0f}",
            err=True,
        )
        return 1
    return 0


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
