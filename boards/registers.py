"""Flip-flops around the block RAMs and multipliers of an ECP5, put into them."""

import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

__all__ = ["absorb_registers", "absorb_registers_in"]

Netlist = dict[str, Any]
"""As ``write_json`` of Yosys writes it, or a part of it."""


def absorb_registers(netlist: Netlist) -> int:
    """Replace flip-flops that only hold an input or output of a hard block by the registers that the block has.

    Yosys leaves these unused. The output of a block RAM is then 5.8 ns late, and a multiplier takes 4 ns between two
    long wires.

    The outputs of a block are registered where every one that is used leads to one flip-flop alone, and these have one
    clock, the block RAM's, one clock enable at most, and no reset. Inputs are registered at a multiplier, where all
    are held by flip-flops or constant. A multiplier takes no enable, for those beside each other share it.

    Parameters
    ----------
    netlist : dict
        As ``write_json`` of Yosys writes it for ECP5; changed in place.

    Returns
    -------
    int
        Number of flip-flops replaced.
    """
    before = after = 0
    for module in netlist["modules"].values():
        before += len(module["cells"])
        registers = _Registers(module)
        for name, cell in list(module["cells"].items()):
            if cell["type"] == "DP16KD":
                _absorb_into_memory(name, cell, registers)
            elif cell["type"] == "MULT18X18D":
                _absorb_into_multiplier(name, cell, registers)
        after += len(module["cells"])
    return before - after


def absorb_registers_in(path: Path) -> None:
    """`absorb_registers` of the netlist in the file ``path``."""
    netlist = json.loads(path.read_text())
    absorb_registers(netlist)
    path.write_text(json.dumps(netlist))


def _absorb_into_memory(name: str, ram: Netlist, registers: "_Registers") -> None:
    # A port of 36 bits uses the outputs of both, with the clock and the enables of B.
    wide = 36 in (int(ram["parameters"][f"DATA_WIDTH_{port}"], 2) for port in "AB")
    for ports in ("AB",) if wide else ("A", "B"):
        found = registers.behind(name, tuple(f"DO{port}" for port in ports))
        clock, enable = registers.controls(found.values())
        if clock is None or clock != ram["connections"][f"CLK{ports[-1]}"][0]:
            continue
        for port in ports:
            ram["parameters"][f"REGMODE_{port}"] = "OUTREG"
            ram["connections"][f"OCE{port}"] = [enable]
        registers.move_over(name, found)


def _absorb_into_multiplier(name: str, multiplier: Netlist, registers: "_Registers") -> None:
    connections = multiplier["connections"]
    for found, move, parameters in (
        (registers.behind(name, "P"), registers.move_over, ["REG_OUTPUT_CLK"]),
        (registers.before(name, ("A", "B")), registers.move_back, ["REG_INPUTA_CLK", "REG_INPUTB_CLK"]),
    ):
        clock, enable = registers.controls(found.values())
        if clock is None or enable != "1" or connections.get("CLK0", [clock]) != [clock]:
            continue
        for port, bit in (("CLK0", clock), ("CE0", "1"), ("RST0", "0")):
            connections[port] = [bit]
            multiplier["port_directions"][port] = "input"
        multiplier["parameters"].update(dict.fromkeys(parameters, "CLK0"))
        move(name, found)


class _Registers:
    """The flip-flops of a module, found by the cells that they stand before and behind."""

    def __init__(self, module: Netlist):
        self._cells = module["cells"]
        self._sinks: dict[int | str, list[tuple[str | None, str | None]]] = defaultdict(list)
        self._flip_flops: dict[int | str, str] = {}
        for name, cell in self._cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    for bit in bits:
                        self._sinks[bit].append((name, port))
                elif cell["type"] == "TRELLIS_FF":
                    self._flip_flops[bits[0]] = name
        for port in module["ports"].values():
            if port["direction"] != "input":
                for bit in port["bits"]:
                    self._sinks[bit].append((None, None))

    def behind(self, name: str, prefixes: str | tuple[str, ...]) -> dict[str, str]:
        """Flip-flops by output of a cell; empty where a used output does not lead to one alone."""
        found = {}
        for output, bits in self._cells[name]["connections"].items():
            if not output.startswith(prefixes) or not bits or not self._sinks[bits[0]]:
                continue
            if len(self._sinks[bits[0]]) != 1:
                return {}
            ((sink, port),) = self._sinks[bits[0]]
            if sink is None or self._cells[sink]["type"] != "TRELLIS_FF" or port != "DI":
                return {}
            found[output] = sink
        return found

    def before(self, name: str, prefixes: str | tuple[str, ...]) -> dict[str, str]:
        """Flip-flops by input of a cell; empty where an input is neither constant nor held by one."""
        inputs = {
            port: bits[0]
            for port, bits in self._cells[name]["connections"].items()
            if port.startswith(prefixes) and not isinstance(bits[0], str)
        }
        return (
            {port: self._flip_flops[bit] for port, bit in inputs.items()}
            if self._flip_flops.keys() >= set(inputs.values())
            else {}
        )

    def controls(self, names: Collection[str]) -> tuple[int | str | None, int | str | None]:
        """Clock and clock enable that flip-flops share; None twice where they share none or a block's cannot be so."""
        shared = {self._controls(self._cells[name]) for name in names}
        return shared.pop() if len(shared) == 1 else (None, None)

    @staticmethod
    def _controls(cell: Netlist) -> tuple[int | str | None, int | str | None]:
        connections, parameters = cell["connections"], cell["parameters"]
        enable = parameters.get("CEMUX", "CE").strip()
        if (
            connections.get("LSR", ["0"]) != ["0"]
            or enable == "INV"
            or parameters.get("CLKMUX", "CLK") != "CLK"
            or parameters.get("REGSET", "RESET") != "RESET"
            or "DI" not in connections
        ):
            return None, None
        return connections["CLK"][0], "1" if enable == "1" else connections.get("CE", ["1"])[0]

    def move_over(self, name: str, behind: dict[str, str]) -> None:
        """Let a cell drive what the flip-flops behind its outputs drove."""
        for output, flip_flop in behind.items():
            self._cells[name]["connections"][output] = bits = self._cells.pop(flip_flop)["connections"]["Q"]
            del self._flip_flops[bits[0]]

    def move_back(self, name: str, before: dict[str, str]) -> None:
        """Let a cell take what the flip-flops before its inputs take; those that lead nowhere else go."""
        connections = self._cells[name]["connections"]
        for port, flip_flop in before.items():
            self._sinks[connections[port][0]].remove((name, port))
            connections[port] = self._cells[flip_flop]["connections"]["DI"]
            self._sinks[connections[port][0]].append((name, port))
        for flip_flop in dict.fromkeys(before.values()):
            ends = self._cells[flip_flop]["connections"]
            if not self._sinks[ends["Q"][0]]:
                self._sinks[ends["DI"][0]].remove((flip_flop, "DI"))
                del self._cells[flip_flop], self._flip_flops[ends["Q"][0]]
