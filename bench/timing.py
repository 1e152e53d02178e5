"""Clock and area of the core, or of its lanes alone, on an ECP5-85F: Yosys, and nextpnr with three seeds.

    pip install 'egret-fpga[build]'
    python -m bench.timing [NETWORK] [--unit lanes] [--lanes 16] [--weight-bits 4] [--json]

NETWORK (a checkpoint directory, an integer network's file; by default the demo network) gives the sizes. What is
measured is registered at its edges, so that its own paths decide (`bench.ecp5.Edges`).
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.ecp5 import Edges, place, synthesise
from bench.show import as_json, progress_bar, run_script, show
from egret.host.demo import NETWORK
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import configuration_for
from egret.model.integer_file import load_integer
from egret.model.quantise import quantise
from egret.rtl.core import Core
from egret.rtl.mac import Lanes

CELLS = ("LUT4", "CCU2C", "TRELLIS_DPR16X4", "TRELLIS_FF", "DP16KD", "MULT18X18D")
UNITS = {"core": Core, "lanes": Lanes}


@click.command(help=__doc__)
@click.argument("network", default=str(NETWORK))
@click.option("--unit", type=click.Choice(list(UNITS)), default="core", show_default=True)
@click.option("--lanes", type=int, default=16, show_default=True)
@click.option("--weight-bits", type=int, default=4, show_default=True)
@click.option("--megahertz", type=float, default=100, show_default=True, help="Clock to aim at.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--path", is_flag=True, help="Print the steps of the critical path, too.")
@as_json
def main(
    network: str, unit: str, lanes: int, weight_bits: int, megahertz: float, seeds: int, path: bool, as_json: bool
) -> None:
    is_checkpoint = Path(network).is_dir()
    integer = quantise(load_checkpoint(network), weight_bits=weight_bits) if is_checkpoint else load_integer(network)
    configuration = configuration_for(integer, lanes=lanes, weight_bits=weight_bits)
    with tempfile.TemporaryDirectory() as name, progress_bar() as bar:
        directory = Path(name)
        task = bar.add_task("synthesis", total=1 + seeds)
        cells = synthesise(Edges(UNITS[unit](configuration)), directory)
        reports = []
        for seed in range(1, seeds + 1):
            bar.update(task, advance=1, description=f"placing, seed {seed}")
            reports.append(place(directory, seed, megahertz))
    clocks = [report.megahertz for report in reports]
    median = reports[clocks.index(statistics.median_low(clocks))]
    result = {
        "unit": unit,
        "lanes": lanes,
        "weight_bits": weight_bits,
        "hidden": configuration.hidden,
        "cells": {cell: cells.get(cell, 0) for cell in CELLS},
        "megahertz": clocks,
        "median_megahertz": median.megahertz,
        "critical_path": median.critical_path,
    }
    rows = [
        ("lanes, bits of a weight", f"{lanes}, {weight_bits}"),
        *((cell, f"{count:,}") for cell, count in result["cells"].items()),
        ("MHz, each seed", ", ".join(f"{clock:.1f}" for clock in clocks)),
        ("MHz, median", f"{median.megahertz:.1f}"),
        ("critical path", median.critical_path),
    ]
    tables: list[tuple[str, tuple[str, ...], list[Any]]] = [(f"{unit}, ECP5-85F, speed grade 6", ("", ""), rows)]
    if path:
        result["steps"] = median.steps
        steps = [(kind, cell, f"{delay:.2f}") for kind, cell, delay in median.steps]
        tables.append(("critical path", ("step", "to", "ns"), steps))
    show(result, tables, as_json)


if __name__ == "__main__":
    run_script(main, "timing")
