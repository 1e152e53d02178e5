"""Options that several commands share, each defined once."""

import functools
from collections.abc import Callable
from typing import Any

import click

from egret.model.compiler.configuration import GOALS, MEMORY_RATIOS, RESIDENT_BYTES, STORES

__all__ = ["as_json", "core_options", "line_option", "port_options", "simulator_option"]

Command = Callable[..., Any]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
line_option = click.option(
    "--line",
    type=click.Choice(("uart", "usb")),
    help="What carries the link's bytes: on a ULX3S uart by default, or usb, the FPGA's own at its second socket.",
)
simulator_option = click.option(
    "--simulator",
    type=click.Choice(("verilator", "icarus")),
    default="verilator",
    show_default=True,
    help="Of the core.",
)

_CORE = {
    "lanes": click.option(
        "--lanes",
        type=int,
        help="Multiply-accumulate lanes, a power of two from 1 to 32; 8 by default.",
    ),
    "store": click.option("--store", type=click.Choice(STORES), help="Where the weights are; bram by default."),
    "memory_ratio": click.option(
        "--memory-ratio",
        type=click.Choice(MEMORY_RATIOS),
        help="With the store sdram: its clock over the core's, 1 or 2, or 4 for a DDR3; 2 by default, where the lanes "
        "fit it.",
    ),
    "weight_bits": click.option(
        "--weight-bits", type=int, help="Bits of a stored weight, 4 or 8; 4 where the network allows."
    ),
    "weight_bytes": click.option(
        "--weight-bytes", type=int, help="Size of the weight memory; 0 makes it just large enough."
    ),
    "goal": click.option("--goal", type=click.Choice(GOALS), help=f"Of packing the weights; {GOALS[0]} by default."),
    "folded_tokens": click.option(
        "--folded",
        "folded_tokens",
        type=int,
        help="Tokens with folded rows, the first ones: 0, or with the store sdram as many as fit in 32 MB.",
    ),
    "resident_bytes": click.option(
        "--resident-bytes",
        type=click.IntRange(min=0),
        help=f"With the store sdram: block RAM for the weights that are read most often; {RESIDENT_BYTES} by default.",
    ),
    "readout": click.option(
        "--readout/--no-readout",
        default=None,
        help="Whether the core makes the read-out; where the network's words are divided into groups, by default.",
    ),
}
_SHARED = ("lanes", "store", "memory_ratio", "weight_bits", "folded_tokens", "resident_bytes", "readout")


def core_options(*more: str) -> Callable[[Command], Command]:
    """Options of the core that a command simulates or builds.

    The command gets those that are given as ``core``: keyword arguments of
    `egret.model.compiler.compile.configuration_for`.

    Parameters
    ----------
    *more : str
        Of these arguments, those that few commands have an option for: ``"weight_bytes"``, ``"goal"``.

    Returns
    -------
    callable
        Decorator of a command.
    """
    names = [name for name in _CORE if name in _SHARED or name in more]

    def decorate(command):
        @functools.wraps(command)
        def collect(*arguments, **options):
            given = {name: options.pop(name) for name in names}
            return command(
                *arguments, core={key: value for key, value in given.items() if value is not None}, **options
            )

        for name in reversed(names):
            collect = _CORE[name](collect)
        return collect

    return decorate


def port_options(command: Command) -> Command:
    """Add the options that say which board a ``command`` is for; returns it."""
    command = click.option("--baud", type=click.IntRange(min=1), help="Bits a second on that port.")(command)
    return click.option("--port", help="Serial port of a board; a virtual board by default.")(command)
