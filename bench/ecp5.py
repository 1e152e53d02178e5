"""A component alone on an ECP5-85F of speed grade 6, registered at its edges: its cells, and its routed clock."""

import json
from pathlib import Path
from typing import Any

from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]  # not in amaranth-stubs
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from egret.boards.registers import absorb_registers_in
from egret.boards.tools import PLACEMENT, Report, Tools, synthesis_script

__all__ = ["Edges", "place", "synthesise"]

_NEXTPNR = "--85k --package CABGA381 --speed 6 --json top.json --timing-allow-fail -q"


class Edges(wiring.Component):
    """A component between a shift register and a tree of XORs: three pins, clock included.

    Every input comes from the shift register and every output goes, registered, into the tree, so that the component's
    own paths decide and no logic is optimised away.

    Parameters
    ----------
    inner : Component

    Members
    -------
    i : In(1)
    o : Out(1)
    """

    i: Signal
    o: Signal

    def __init__(self, inner: Any):
        self._inner = inner
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: Any) -> Module:
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


def synthesise(
    component: Any, directory: Path, *, verilog: dict[str, str] | None = None, top: str = "top"
) -> dict[str, int]:
    """Netlist of a component, for `place`.

    Parameters
    ----------
    component : Component
    directory : Path
        To work in; the netlist is ``top.json``.
    verilog : dict of str to str, optional
        Sources by file name, read instead of the component. Their top module's name is that of the component's.
    top : str
        The module that is synthesised.

    Returns
    -------
    dict of str to int
        How many cells of each kind there are.

    Raises
    ------
    InputError
        Yosys is missing or failed.
    """
    if verilog is None:
        (directory / "top.il").write_text(rtlil.convert(component, name="top"))
        read = ["read_rtlil top.il"]
    else:
        for name, text in verilog.items():
            (directory / name).write_text(text)
        read = [*(f"read_verilog {name}" for name in verilog), f"hierarchy -top {top}", "proc"]
    script = synthesis_script("ecp5", read, top, "write_json top.json", "tee -o cells.json stat -json")
    (directory / "synthesis.ys").write_text(script)
    Tools.find("ecp5").run("yosys", ["-q", "-s", "synthesis.ys"], directory)
    absorb_registers_in(directory / "top.json")
    return json.loads((directory / "cells.json").read_text())["design"]["num_cells_by_type"]


def place(directory: Path, seed: int, megahertz: float) -> Report:
    """Place and route what `synthesise` left in a directory.

    Parameters
    ----------
    directory : Path
    seed : int
        Of the placement.
    megahertz : float
        Clock to aim at.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        nextpnr is missing or failed.
    """
    report = f"report-{seed}.json"
    options = [*_NEXTPNR.split(), "--seed", seed, "--freq", megahertz, "--report", report, *PLACEMENT["ecp5"].split()]
    Tools.find("ecp5").run("nextpnr-ecp5", options, directory)
    return Report.read(directory / report)
