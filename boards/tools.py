"""Yosys, nextpnr and the packers: found, set up, run, and what they report read."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from egret.model.errors import InputError
from egret.model.machine import run_tools

__all__ = ["FAMILY_TOOLS", "PLACEMENT", "PREPARATION", "SYNTHESIS", "Report", "Tools", "synthesis_script"]

FAMILY_TOOLS = {"ecp5": ("yosys", "nextpnr-ecp5", "ecppack"), "ice40": ("yosys", "nextpnr-ice40", "icepack")}
"""The tools of each family, in the order in which they run."""

# What Yosys does before it synthesises:
# - A read port of Amaranth gives the old content of a row that is written in the same cycle, for which Yosys would add
#   comparators and registers. No memory of the core is read where it is written, save accumulators, which forward.
#   Those of the module `usb` stay as they are: some are read by another clock, where Yosys takes no such promise.
# - Amaranth names the second field of an array `x` a wire `x[1]`. ABC's netlist calls bit 1 of `x` so, too, and Yosys
#   0.70 mixes the two up when it takes the netlist back (an assertion in rtlil.cc): such wires lose their names.
PREPARATION = """setparam -set COLLISION_X_MASK 1'1 */t:$memrd_v2 */r:CLK_ENABLE=1 %i *.usb*/t:$memrd_v2 %d
rename -hide w:*[[]*"""
"""Commands for Yosys, between reading and synthesis."""

# Wider look-up tables of several LUT4 on an ECP5 pin cells to each other, which costs clock and routing time.
SYNTHESIS = {"ecp5": "-nowidelut", "ice40": "-dsp"}
"""Options of Yosys' command for each family."""
# A core of block RAMs all over the device needs a placement by the clock more than one by the length of its wires.
PLACEMENT = {"ecp5": "--placer-heap-timingweight 30", "ice40": ""}
"""Options of nextpnr for each family."""


def synthesis_script(family: str, read: Iterable[str], top: str, *more: str, options: str = "") -> str:
    """A script for Yosys that synthesises ``top`` as a board's design is synthesised.

    Parameters
    ----------
    family : str
        ``"ecp5"`` or ``"ice40"``.
    read : iterable of str
        Commands that read the sources; those for Verilog end with ``proc``.
    top : str
        Module.
    *more : str
        Commands that follow.
    options : str
        Of the synthesis, beside those of `SYNTHESIS`.

    Returns
    -------
    str
    """
    synthesis = f"synth_{family} {SYNTHESIS[family]} {options} -top {top}"
    return "\n".join([*read, PREPARATION, synthesis, *more, ""])


@dataclass(frozen=True)
class Tools:
    """Commands of the tools that a family needs.

    Attributes
    ----------
    paths : dict of str to str
    """

    paths: dict[str, str]

    @classmethod
    def find(cls, family: str) -> Self:
        """The tools of a family.

        Each is what its environment variable names (``NEXTPNR_ECP5`` for nextpnr-ecp5), else a YoWASP package beside
        this Python, else a command on the path.

        Parameters
        ----------
        family : str
            ``"ecp5"`` or ``"ice40"``.

        Returns
        -------
        Tools

        Raises
        ------
        InputError
            One is missing.
        """
        beside = str(Path(sys.executable).parent)
        paths = {}
        for name in FAMILY_TOOLS[family]:
            variable = name.upper().replace("-", "_")
            if variable in os.environ:
                if (found := shutil.which(os.environ[variable])) is None:
                    raise InputError(f"{variable} names {os.environ[variable]!r}, which is no command")
            elif (
                found := shutil.which(f"yowasp-{name}", path=beside)
                or shutil.which(f"yowasp-{name}")
                or shutil.which(name)
            ) is None:
                raise InputError(
                    f"building needs {name}, which was not found; install it: "
                    f"pip install 'egret-fpga[build]', or name its command in {variable}"
                )
            paths[name] = found
        return cls(paths)

    def run(
        self,
        tool: str,
        arguments: Iterable[object],
        directory: Path,
        *,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Run one tool to its end; what it prints goes to ``TOOL.log``.

        Parameters
        ----------
        tool : str
        arguments : iterable
        directory : Path
            To run in. YoWASP's tools see it and nothing else.
        waiting : callable, optional
            Called again and again. Where it raises, the tool and its children end.

        Raises
        ------
        InputError
            The tool failed; the message is the first error that it tells.
        """
        command = [self.paths[tool], *map(str, arguments)]
        try:
            run_tools([command], directory, directory / f"{tool}.log", own_logs=("*.tim", "*.rpt"), waiting=waiting)
        except InputError as error:
            raise InputError(f"{tool} failed: {error}") from error


@dataclass(frozen=True)
class Report:
    """What nextpnr says of a routed design.

    Attributes
    ----------
    megahertz, wanted_megahertz : float
        Clock that the core can have, and the one that was asked for. Other clocks keep their ratio to it, and a path
        from one clock to another has a cycle of the faster one: the hardest to meet of all of these counts.
    used : dict of str to int
        Cells by nextpnr's names.
    steps : list of (str, str, float)
        The critical path: kind of each step, cell at its end, nanoseconds.
    critical_path : str
        From which cell to which.
    """

    megahertz: float
    wanted_megahertz: float
    used: dict[str, int]
    steps: list[tuple[str, str, float]]
    critical_path: str

    @classmethod
    def read(cls, path: Path, hertz: float | None = None) -> Self:
        """The report that nextpnr wrote to ``path``; ``hertz`` is the core's clock, the slowest one when not given."""
        content = json.loads(path.read_text())
        wanted = {clock: entry["constraint"] for clock, entry in content["fmax"].items()}
        shares = {(clock, clock): entry["achieved"] / wanted[clock] for clock, entry in content["fmax"].items()}
        paths = {}
        for found in content["critical_paths"]:
            ends = tuple(found[end].removeprefix("posedge ") for end in ("from", "to"))
            if wanted.keys() >= set(ends):
                paths[ends] = found["path"]
                if ends[0] != ends[1]:
                    delay = sum(step["delay"] for step in found["path"])
                    shares[ends] = 1e3 / max(delay, 1e-3) / max(wanted[end] for end in ends)
        hardest = min(shares.keys() & paths.keys(), key=lambda ends: shares[ends])
        critical = paths[hardest]
        core = min(wanted.values(), key=lambda clock: clock if hertz is None else abs(clock - hertz / 1e6))
        return cls(
            core * shares[hardest],
            core,
            {cell: count["used"] for cell, count in content["utilization"].items()},
            [(step["type"], step["to"]["cell"], step["delay"]) for step in critical],
            f"{critical[0]['from']['cell']} to {critical[-1]['to']['cell']}",
        )
