"""The command ``egret self-test``."""

import dataclasses
from typing import Any

import click

from egret.host.cli.options import as_json, core_options, port_options
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.host.opening import open_board
from egret.host.progress import progress_bar
from egret.model.errors import InputError

__all__ = ["self_test"]


@click.command("self-test")
@click.argument("source")
@port_options
@core_options()
@click.option("--patterns", type=int, help="Images to load and compare, 8 by default; more find more.")
@as_json
def self_test(
    source: str, port: str | None, baud: int | None, core: dict[str, Any], patterns: int | None, as_json: bool
) -> int:
    """Test the memories of a board, and the core that reads them: SOURCE is an image for it, or becomes one.

    Loads images of random numbers as large as that of SOURCE and compares every event with the integer network's.
    Exit status 1 where one differs, or where data lines of a DDR3 were wrong when it was started, which are named.
    Where an SDRAM did not keep what was loaded, one line names the place, with exit status 2.
    `egret run` loads its own image again afterwards.
    """
    from egret.host.self_test import PATTERNS
    from egret.host.self_test import self_test as run

    patterns = PATTERNS if patterns is None else patterns
    if patterns < 1:
        raise InputError(f"--patterns must be at least 1, not {patterns}")
    network = Network(source, parts=True, **core)
    with (
        open_board(network.image.configuration, port=port, baud_rate=baud) as board,
        progress_bar("self-test") as progress,
    ):
        result = run(board, network.image, network.integer, patterns=patterns, progress=progress)
    first = None if result.first_mismatch is None else str(result.first_mismatch)
    rows = [
        (f"memory {name}", f"{one.used:,} of {one.words:,} words, {one.toggled:.0%} of bits both 0 and 1")
        for name, one in result.coverage.items()
    ]
    rows += [
        ("images", str(result.patterns)),
        ("steps", f"{result.steps:,}"),
        ("steps with a wrong event", f"{result.wrong_steps:,}"),
        ("time", f"{result.seconds:.1f} s"),
    ]
    if network.image.configuration.checked_blocks:
        rows.insert(-1, ("blocks of the SDRAM read again", f"{result.scrubbed:,}"))
    show(Result(dataclasses.asdict(result) | {"first_mismatch": first}, rows), source, as_json)
    if result.faulty_lines:
        click.echo(
            f"egret: the board's DDR3 is faulty: data lines {', '.join(map(str, result.faulty_lines))} of 0 to 15",
            err=True,
        )
        return 1
    if first is None:
        return 0
    click.echo(
        f"egret: the board's memories, or its core, are faulty: image {result.first_pattern}, {first}",
        err=True,
    )
    return 1
