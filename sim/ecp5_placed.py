"""A netlist that nextpnr has placed and routed for an ECP5, as Verilog for the models of `egret.sim.ecp5`.

``nextpnr-ecp5 --write`` writes it. It shows what packing has made of Yosys' netlist: tables and flip-flops in slices,
inputs that are tied, clocks in buffers. Which wires routing has used is in it as text alone, which is not read here.
An open input is what nextpnr's bitstream makes of it: a one at a table, what an inverter or a constant says at a block
RAM or a multiplier, a zero at a reset.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from egret.model.errors import InputError
from egret.sim.bitstream import Decoded
from egret.sim.ecp5_bitstream import Pll

__all__ = ["read_placed"]

Cell = dict[str, Any]

_FLIP_FLOP = ("CLKMUX", "CEMUX", "LSRMUX", "SRMODE", "REGSET", "LSRMODE", "GSR", "SD")
_PARAMETERS = {
    "TRELLIS_COMB": "MODE|INITVAL|CCU2_INJECT1|WREMUX|WCKMUX",
    "TRELLIS_RAMW": "",
    "TRELLIS_FF": "|".join(_FLIP_FLOP),
    "TRELLIS_IO": "DIR",
    "DP16KD": r"(DATA_WIDTH|WRITEMODE|REGMODE|CSDECODE)_[AB]|CLK[AB]MUX|RESETMODE|ASYNC_RESET_RELEASE|GSR|INITVAL_\w\w",
    "MULT18X18D": r"REG_(INPUT[AB]|PIPELINE|OUTPUT)_CLK|RESETMODE",
    "EHXPLLL": "",
}
"""Parameters that the models have, by kind of cell."""

_PORTS = {
    "TRELLIS_COMB": "[A-D]|FCI|FCO|F|WD|WAD[0-3]|WRE|WCK",
    "TRELLIS_RAMW": "[A-D][01]|WA?DO[0-3]",
    "TRELLIS_FF": "CLK|CE|LSR|DI|M|Q",
    "TRELLIS_IO": "I|T|O|B",
    "DP16KD": r"(AD|DI|CS|DO)[AB]\d+|(CE|OCE|CLK|WE|RST)[AB]",
    "MULT18X18D": r"[ABC]\d+|P\d+|SIGNED[AB]|SOURCE[AB]|CLK0|CE0|RST0",
    "EHXPLLL": "CLKI|CLKFB|RST|STDBY|CLKOP|LOCK",
}
_OPEN = {"TRELLIS_COMB": "[A-D]", "TRELLIS_RAMW": "[A-D][01]", "DP16KD": "O?CE[AB]", "MULT18X18D": "CE0"}
"""Inputs that are one where they are open; others are zero."""


def read_placed(path: Path) -> Decoded:
    """Read a netlist.

    Parameters
    ----------
    path : Path
        As nextpnr writes it.

    Returns
    -------
    Decoded
        The ports are the design's.

    Raises
    ------
    InputError
        It is no such file, or has a cell or a mode that the models lack.
    """
    try:
        (module,) = json.loads(path.read_text())["modules"].values()
        return _placed(module)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a netlist is needed, as nextpnr-ecp5 --write writes it") from error


def _placed(module: Cell) -> Decoded:
    nets = {bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits}
    statements, counts, pll = [], Counter[str](), None
    for number, cell in enumerate(module["cells"].values()):
        kind = cell["type"]
        if kind == "DCCA":
            statements.append(f"assign {_net(cell, 'CLKO')} = {_net(cell, 'CLKI')};")
        elif cell["parameters"].get("MODE") != "RAMW_BLOCK":  # that is a part of a TRELLIS_RAMW
            if kind not in _PORTS:
                raise InputError(f"the netlist has a {kind}, of which there is no model")
            statements.append(_instance(cell, f"cell_{number}"))
            counts[kind] += 1
        if kind == "EHXPLLL":
            pll = cell
    ports = {name: port["direction"] for name, port in module["ports"].items()}
    names = {port["bits"][0]: name for name, port in module["ports"].items()}
    lines = [
        f"module chip ({', '.join(f'{direction} {name}' for name, direction in ports.items())});",
        *(f"wire n{bit};" for bit in sorted(nets - names.keys())),
        *(f"wire n{bit};" for bit in names),
        *(f"assign n{bit} = {name};" for bit, name in names.items() if ports[name] == "input"),
        *(f"assign {name} = n{bit};" for bit, name in names.items() if ports[name] == "output"),
        *statements,
        "endmodule",
        "",
    ]
    inputs, outputs = ([name for name in ports if ports[name] == kind] for kind in ("input", "output"))
    settings = None if pll is None else _pll(module, pll, names)
    return Decoded("\n".join(lines), tuple(inputs), tuple(outputs), settings, dict(counts))


def _net(cell: Cell, port: str) -> str | None:
    bits = cell["connections"].get(port)
    return f"n{bits[0]}" if bits else None


def _open_value(kind: str, port: str, parameters: dict[str, str]) -> int:
    """What an open input of a cell is."""
    if kind in ("DP16KD", "MULT18X18D") and (said := parameters.get(f"{port}MUX")) is not None:
        return int(said not in ("0", "INV"))
    return int(re.fullmatch(_OPEN.get(kind, ""), port) is not None)


def _instance(cell: Cell, name: str) -> str:
    kind, given = cell["type"], {key: value.strip() for key, value in cell["parameters"].items()}
    parameters = {}
    for key, value in given.items():
        if re.fullmatch(_PARAMETERS[kind], key):
            number = len(value) > 1 and re.fullmatch("[01]+", value)
            parameters[key] = f"{len(value)}'b{value}" if number else f'"{value}"'
        elif re.fullmatch(r"REG_\w+_CLK|DATAMUX_\w+", key) and value not in ("NONE", "PADDO"):
            raise InputError(f"the netlist has a {kind} with {key} {value}, which is not known")
    ports = {}
    for port, direction in cell["port_directions"].items():
        if re.fullmatch(_PORTS[kind], port) is None:
            if direction == "output" and _net(cell, port) is not None:
                raise InputError(f"the netlist uses {port} of a {kind}, which is not known")
            continue
        net = _net(cell, port)
        if net is None and direction == "input":
            net = f"1'b{_open_value(kind, port, given)}"
        if net is not None:
            ports[port] = net
    set_ = ", ".join(f".{key}({value})" for key, value in parameters.items())
    connected = ", ".join(f".{port}({net})" for port, net in ports.items())
    return f"{kind} {f'#({set_}) ' if set_ else ''}{name} ({connected});"


def _pll(module: Cell, pll: Cell, names: dict[int, str]) -> Pll:
    """Its settings; the clock's pin is that of the buffer which drives it."""
    (clock,) = pll["connections"]["CLKI"]
    buffers = [cell["connections"] for cell in module["cells"].values() if cell["type"] == "TRELLIS_IO"]
    (pin,) = (ports["B"][0] for ports in buffers if ports.get("O") == [clock])
    reference, feedback = (int(pll["parameters"][key], 2) for key in ("CLKI_DIV", "CLKFB_DIV"))
    return Pll(names[pin], reference, feedback)
