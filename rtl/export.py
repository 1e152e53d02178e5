"""Verilog of a component."""

import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from amaranth._toolchain.yosys import YosysError
from amaranth.back import rtlil, verilog  # pyright: ignore[reportAttributeAccessIssue]: no stubs
from amaranth.lib import wiring

from egret.model.errors import InputError
from egret.model.machine import tool_environment

__all__ = ["compact_initial", "compact_repeats", "to_verilog"]

_ROW = re.compile(r"( +)(\S.*?) ?\[(\d+)\] = (\S+);\n")
_NAME = r"(?:\\\S+ |[\w$.']+)(?:\[\d+(?::\d+)?\])?"
_REPEATED = re.compile(rf"(?<=\s)(?P<part>{_NAME})(?:, (?P=part))+(?=,|\s\}})")
_LARGE = 1 << 13  # bits of a memory
_SHORTEST = 16  # rows; fewer are left as they are


def to_verilog(component: wiring.Component, name: str) -> str:
    """Convert a component to Verilog with Amaranth's own Yosys.

    Amaranth would prefer a Yosys found on the machine, whatever its version. It also writes the initial content of
    every memory bit by bit, which takes minutes for those of a large network; large memories of zeros, which are
    loaded before they are read, therefore get none.

    Parameters
    ----------
    component : wiring.Component
        Its members become the ports.
    name : str
        Of the top module.

    Returns
    -------
    str
        The Verilog.

    Raises
    ------
    InputError
        Yosys failed.
    """
    emit_memory = rtlil.ModuleEmitter.emit_memory

    def emit_memory_with_content(self, index, cell):
        if cell.width * cell.depth < _LARGE or any(cell.init):
            emit_memory(self, index, cell)

    patched = mock.patch.object(rtlil.ModuleEmitter, "emit_memory", emit_memory_with_content)
    environment = mock.patch.dict(os.environ, tool_environment(AMARANTH_USE_YOSYS="builtin"), clear=True)
    try:
        with patched, environment, _without_collector():
            text = verilog.convert(component, name=name, strip_internal_attrs=True)
    except YosysError as error:
        raise InputError(f"Yosys failed: {str(error).strip().splitlines()[-1]}") from error
    return compact_repeats(compact_initial(text))


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection: a third of Amaranth's time, to look at objects that all live to the end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def compact_initial(text: str) -> str:
    """Write the initial content of a memory as loops over equal rows.

    Yosys writes one assignment a row. For a weight memory these are tens of thousands, over which a C++ compiler
    spends minutes when Verilator has turned them into code.

    Parameters
    ----------
    text : str
        Verilog as Yosys writes it.

    Returns
    -------
    str
        The same design.
    """
    lines = text.splitlines(keepends=True)
    result, place = [], 0
    while place < len(lines):
        if lines[place].strip() != "initial begin" or not (row := _ROW.fullmatch(lines[place + 1])) or row[3] != "0":
            result.append(lines[place])
            place += 1
            continue
        indent = lines[place][: lines[place].index("initial")]
        place += 1
        block, loops, space = [], False, ""
        while row := _ROW.fullmatch(lines[place]):
            space, memory, first, value = row.groups()
            count = 1
            while lines[place + count] in (
                f"{space}{memory}[{int(first) + count}] = {value};\n",
                f"{space}{memory} [{int(first) + count}] = {value};\n",
            ):
                count += 1
            if count < _SHORTEST:
                block += lines[place : place + count]
            else:
                loops = True
                gap = " " if memory.startswith("\\") else ""
                block.append(
                    f"{space}for (_row = {first}; _row < {int(first) + count}; _row = _row + 1) "
                    f"{memory}{gap}[_row] = {value};\n"
                )
            place += count
        if loops:
            result.append(f"{indent}initial begin : rows_{len(result)}\n{space}integer _row;\n")
        else:
            result.append(f"{indent}initial begin\n")
        result += block
    return "".join(result)


def compact_repeats(text: str) -> str:
    """Write repeated parts of a concatenation, such as sign extensions, as replications.

    Yosys writes every copy. Verilator then computes them one by one, which halves its speed.

    Parameters
    ----------
    text : str
        Verilog as Yosys writes it.

    Returns
    -------
    str
        The same design.
    """

    def replicate(match):
        count = (len(match[0]) + 2) // (len(match["part"]) + 2)
        return f"{{{count}{{{match['part']}}}}}"

    return _REPEATED.sub(replicate, text)
