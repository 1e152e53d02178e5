"""Clock and area of the core alone on an ECP5-85F, registered at its edges: Yosys and nextpnr, three seeds.

    pip install 'egret-fpga[build]'
    python bench/timing.py [NETWORK] [--lanes 16] [--weight-bits 4] [--json]

Every input comes from a shift register and every output goes, registered, into a tree of XORs, so that the core's own
paths decide and no logic is optimised away. NETWORK (a checkpoint directory, an integer network's file; by default the
demo network) gives the sizes.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from amaranth.back import rtlil
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from egret.boards.build import PLACEMENT, PREPARATION, SYNTHESIS, Tools
from egret.boards.registers import absorb_registers
from egret.host.demo import NETWORK
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import configuration_for
from egret.model.errors import InputError
from egret.model.integer_file import load_integer
from egret.model.quantise import quantise
from egret.rtl.core import Core

CELLS = ("LUT4", "TRELLIS_FF", "DP16KD", "MULT18X18D")


class Edges(wiring.Component):
    """A component between a shift register and a tree of XORs: three pins, clock included."""

    def __init__(self, inner):
        self._inner = inner
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self._inner
        inputs, outputs = [], []
        for _, member, value in inner.signature.flatten(inner):
            (inputs if member.flow == In else outputs).append(Value.cast(value))
        chain = Signal(sum(len(value) for value in inputs))
        m.d.sync += chain.eq(Cat(self.i, chain))
        m.d.comb += Cat(inputs).eq(chain)
        level = Signal(sum(len(value) for value in outputs))
        m.d.sync += level.eq(Cat(outputs))
        while len(level) > 1:
            narrower = Signal(-(-len(level) // 4))
            m.d.sync += narrower.eq(Cat(level[at : at + 4].xor() for at in range(0, len(level), 4)))
            level = narrower
        m.d.comb += self.o.eq(level)
        return m


def synthesise(configuration, directory):
    """Netlist of the core, and its cells: dict of str to int."""
    (directory / "core.il").write_text(rtlil.convert(Edges(Core(configuration)), name="top"))
    (directory / "core.ys").write_text(
        "\n".join(
            [
                "read_rtlil core.il",
                PREPARATION,
                f"synth_ecp5 {SYNTHESIS['ecp5']} -top top -json core.json",
                "tee -o stat stat",
                "",
            ]
        )
    )
    run("yosys", ["-q", "-s", "core.ys"], directory)
    netlist = json.loads((directory / "core.json").read_text())
    absorb_registers(netlist)
    (directory / "core.json").write_text(json.dumps(netlist))
    text = (directory / "stat").read_text()
    return {
        cell: int(found[1])
        if (found := re.search(rf"^\s+(\d+)\s+{cell}\s*$", text, re.M))
        else int(found[1])
        if (found := re.search(rf"^\s+{cell}\s+(\d+)\s*$", text, re.M))
        else 0
        for cell in CELLS
    }


def place(directory, seed, megahertz):
    """nextpnr's clock in MHz, and where its critical path begins and ends."""
    report = f"report-{seed}.json"
    run(
        "nextpnr-ecp5",
        [
            "--85k",
            "--package",
            "CABGA381",
            "--speed",
            "6",
            "--json",
            "core.json",
            "--seed",
            seed,
            "--freq",
            megahertz,
            "--timing-allow-fail",
            "--report",
            report,
            "-q",
            *PLACEMENT["ecp5"].split(),
        ],
        directory,
    )
    content = json.loads((directory / report).read_text())
    clock = max(content["fmax"].values(), key=lambda entry: entry["achieved"])["achieved"]
    path = max(
        (path for path in content["critical_paths"] if path["from"] == path["to"]),
        key=lambda path: sum(step["delay"] for step in path["path"]),
    )["path"]
    return (
        clock,
        f"{path[0]['from']['cell']} to {path[-1]['to']['cell']}",
        [(step["type"], step["to"]["cell"], round(step["delay"], 2)) for step in path],
    )


def run(tool, options, directory):
    result = subprocess.run(
        [Tools.find("ecp5").paths[tool], *map(str, options)], capture_output=True, text=True, check=False, cwd=directory
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or [f"ended with status {result.returncode}"]
        raise InputError(f"{tool}: {lines[-1]}")


@click.command(help=__doc__)
@click.argument("network", default=str(NETWORK))
@click.option("--lanes", type=int, default=16, show_default=True)
@click.option("--weight-bits", type=int, default=4, show_default=True)
@click.option("--megahertz", type=float, default=100, show_default=True, help="Clock to aim at.")
@click.option("--seeds", type=int, default=3, show_default=True)
@click.option("--path", is_flag=True, help="Print the steps of the critical path, too.")
@click.option("--json", "as_json", is_flag=True)
def main(network, lanes, weight_bits, megahertz, seeds, path, as_json):
    parameters = (
        quantise(load_checkpoint(network), weight_bits=weight_bits) if Path(network).is_dir() else load_integer(network)
    )
    configuration = configuration_for(parameters, lanes=lanes, weight_bits=weight_bits)
    with tempfile.TemporaryDirectory() as name, Progress(console=Console(stderr=True)) as bar:
        directory = Path(name)
        task = bar.add_task("synthesis", total=1 + seeds)
        cells = synthesise(configuration, directory)
        placed = []
        for seed in range(1, seeds + 1):
            bar.update(task, advance=1, description=f"placing, seed {seed}")
            placed.append(place(directory, seed, megahertz))
    clocks = [clock for clock, *_ in placed]
    median = statistics.median_low(clocks)
    _, ends, steps = placed[clocks.index(median)]
    result = {
        "lanes": lanes,
        "weight_bits": weight_bits,
        "hidden": configuration.hidden,
        "cells": cells,
        "megahertz": clocks,
        "median_megahertz": median,
        "critical_path": ends,
    }
    if as_json:
        print(json.dumps(result | ({"steps": steps} if path else {})))
        return
    table = Table("", "", show_header=False, title="ECP5-85F, speed grade 6", title_justify="left")
    table.add_row("lanes, bits of a weight", f"{lanes}, {weight_bits}")
    for cell, count in cells.items():
        table.add_row(cell, f"{count:,}")
    table.add_row("MHz, each seed", ", ".join(f"{clock:.1f}" for clock in clocks))
    table.add_row("MHz, median", f"{median:.1f}")
    table.add_row("critical path", ends)
    Console().print(table)
    if path:
        for step in steps:
            print(*step)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else error
        print(f"timing: error: {message}", file=sys.stderr)
        sys.exit(2)
