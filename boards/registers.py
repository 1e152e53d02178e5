"""Registers behind the block RAMs of an ECP5, put into them."""

from collections import defaultdict

__all__ = ["absorb_registers"]


def absorb_registers(netlist):
    """Replace flip-flops that only hold a block RAM's output by the output register that each of its ports has.

    Yosys leaves these unused, and an output is then 5.8 ns late. A port is changed where every used output leads to
    one flip-flop alone, and these have one clock, the RAM's, one clock enable at most, and no reset.

    Parameters
    ----------
    netlist : dict
        As ``write_json`` of Yosys writes it for ECP5; changed in place.

    Returns
    -------
    int
        Number of flip-flops replaced.
    """
    replaced = 0
    for module in netlist["modules"].values():
        cells = module["cells"]
        sinks = defaultdict(list)
        for name, cell in cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    for bit in bits:
                        sinks[bit].append((name, port))
        for port in module["ports"].values():
            if port["direction"] != "input":
                for bit in port["bits"]:
                    sinks[bit].append((None, None))
        for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
            # A port of 36 bits uses the outputs of both, with the clock and the enables of B.
            wide = 36 in (int(ram["parameters"][f"DATA_WIDTH_{port}"], 2) for port in "AB")
            for ports in ("AB",) if wide else ("A", "B"):
                found = _registers(ram, ports, cells, sinks)
                if not found:
                    continue
                enable = _enable(cells[next(iter(found.values()))])
                for port in ports:
                    ram["parameters"][f"REGMODE_{port}"] = "OUTREG"
                    ram["connections"][f"OCE{port}"] = [enable]
                for output, name in found.items():
                    ram["connections"][output] = cells.pop(name)["connections"]["Q"]
                    replaced += 1
    return replaced


def _registers(ram, ports, cells, sinks):
    """Names of the flip-flops behind the outputs of a port, or an empty dict where they cannot be absorbed."""
    clock = ram["connections"][f"CLK{ports[-1]}"]
    found = {}
    for output, bits in ram["connections"].items():
        if not any(output.startswith(f"DO{port}") for port in ports) or not bits or not sinks[bits[0]]:
            continue
        if len(sinks[bits[0]]) != 1:
            return {}
        (name, port), = sinks[bits[0]]
        if name is None or cells[name]["type"] != "TRELLIS_FF" or port != "DI":
            return {}
        found[output] = name
    flip_flops = [cells[name] for name in found.values()]
    same = {_enable(cell) for cell in flip_flops}
    plain = all(cell["connections"]["CLK"] == clock and cell["connections"].get("LSR", ["0"]) == ["0"]
                and cell["parameters"].get("CLKMUX", "CLK") == "CLK" and _enable(cell) is not None
                for cell in flip_flops)
    return found if plain and len(same) == 1 else {}


def _enable(cell):
    """The bit that enables a flip-flop; None where it is inverted."""
    mode = cell["parameters"].get("CEMUX", "CE").strip()
    if mode == "INV":
        return None
    return "1" if mode == "1" else cell["connections"].get("CE", ["1"])[0]
