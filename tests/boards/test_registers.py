"""Flip-flops that become registers of block RAMs and multipliers."""

import copy

import pytest

from egret.boards.registers import absorb_registers

CLOCK, ENABLE = 2, 3


def cell(kind, inputs, outputs, **parameters):
    return {
        "type": kind,
        "parameters": parameters,
        "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output"),
        "connections": {port: [bit] for port, bit in (inputs | outputs).items()},
    }


def flip_flop(source, output, **parameters):
    inputs = {"CLK": CLOCK, "LSR": "0", "DI": source} | {
        port: parameters.pop(port) for port in ("CE", "LSR") if port in parameters
    }
    return cell("TRELLIS_FF", inputs, {"Q": output}, **{"CEMUX": "1", "CLKMUX": "CLK", "REGSET": "RESET"} | parameters)


def netlist(cells, *, outputs=()):
    ports = {f"o{bit}": {"direction": "output", "bits": [bit]} for bit in outputs}
    return {"modules": {"top": {"ports": ports, "cells": cells}}}


def cells_of(design):
    return design["modules"]["top"]["cells"]


@pytest.fixture
def multiplier():
    """Two multipliers of 2 by 1 bits: both take the same register at A, each its own at B."""
    cells = {"a0": flip_flop(10, 20), "a1": flip_flop(11, 21)}
    for number in (0, 1):
        at = 100 * (number + 1)
        cells |= {
            f"b{number}": flip_flop(at, at + 1),
            f"mult{number}": cell(
                "MULT18X18D",
                {"A0": 20, "A1": 21, "A2": 21, "B0": at + 1, "B1": "0", "SIGNEDA": "1"},
                {"P0": at + 2, "P1": at + 3, "P2": at + 4},
            ),
            f"p{number}": flip_flop(at + 2, at + 5),
            f"q{number}": flip_flop(at + 3, at + 6),
        }
    return netlist(cells, outputs=(105, 106, 205, 206))


def test_a_multiplier_takes_the_registers_around_it(multiplier):
    assert absorb_registers(multiplier) == 8
    cells = cells_of(multiplier)
    assert set(cells) == {"mult0", "mult1"}
    for number in (0, 1):
        connections = cells[f"mult{number}"]["connections"]
        at = 100 * (number + 1)
        assert [connections[port] for port in ("A0", "A1", "A2", "B0", "B1", "P0", "P1", "P2")] == [
            [10],
            [11],
            [11],
            [at],
            ["0"],
            [at + 5],
            [at + 6],
            [at + 4],
        ]
        assert [connections[port] for port in ("CLK0", "CE0", "RST0")] == [[CLOCK], ["1"], ["0"]]
        assert cells[f"mult{number}"]["parameters"] == dict.fromkeys(
            ("REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_OUTPUT_CLK"), "CLK0"
        )


def test_a_register_that_leads_elsewhere_as_well_stays(multiplier):
    cells_of(multiplier)["lut"] = cell("LUT4", {"A": 20}, {"Z": 30})
    assert absorb_registers(multiplier) == 7
    cells = cells_of(multiplier)
    assert cells["a0"]["connections"]["Q"] == cells["lut"]["connections"]["A"] == [20]
    assert cells["mult0"]["connections"]["A0"] == [10]


@pytest.mark.parametrize(
    "change",
    [
        {"CE": ENABLE, "CEMUX": "CE"},
        {"LSR": 4},
        {"CLKMUX": "INV"},
        {"REGSET": "SET"},
    ],
)
@pytest.mark.parametrize("name", ["b0", "p0"])
def test_a_register_that_the_multiplier_does_not_have_stays(multiplier, name, change):
    cells = cells_of(multiplier)
    source, output = (cells[name]["connections"][port][0] for port in ("DI", "Q"))
    cells[name] = before = flip_flop(source, output, **change)
    before = copy.deepcopy(before)
    assert absorb_registers(multiplier) == (5 if name == "b0" else 6)
    assert cells[name] == before
    parameters = cells["mult0"]["parameters"]
    assert ("REG_OUTPUT_CLK" in parameters, "REG_INPUTA_CLK" in parameters) == (name == "b0", name != "b0")
    assert len(cells["mult1"]["parameters"]) == 3


def test_an_input_of_logic_keeps_the_registers_at_the_other_inputs(multiplier):
    cells_of(multiplier)["mult0"]["connections"]["B0"] = [50]
    assert absorb_registers(multiplier) == 5
    assert set(cells_of(multiplier)) == {"mult0", "mult1", "a0", "a1", "b0"}


def test_an_output_used_twice_keeps_its_register(multiplier):
    cells_of(multiplier)["lut"] = cell("LUT4", {"A": 103}, {"Z": 30})
    assert absorb_registers(multiplier) == 6
    assert {"p0", "q0"} <= set(cells_of(multiplier))


@pytest.fixture
def memory():
    """A block RAM with two outputs of port A registered, and one of port B not."""
    cells = {
        "ram": cell(
            "DP16KD",
            {"CLKA": CLOCK, "CLKB": CLOCK, "OCEA": "1", "OCEB": "1"},
            {"DOA0": 10, "DOA1": 11, "DOA2": 12, "DOB0": 13},
            DATA_WIDTH_A="1001",
            DATA_WIDTH_B="1001",
        ),
        "f0": flip_flop(10, 20, CE=ENABLE, CEMUX="CE"),
        "f1": flip_flop(11, 21, CE=ENABLE, CEMUX="CE"),
    }
    return netlist(cells, outputs=(13, 20, 21))


def test_a_block_ram_takes_the_registers_behind_a_port(memory):
    assert absorb_registers(memory) == 2
    (ram,) = cells_of(memory).values()
    assert [ram["connections"][port] for port in ("DOA0", "DOA1", "DOA2", "DOB0")] == [[20], [21], [12], [13]]
    assert ram["parameters"].get("REGMODE_A") == "OUTREG" and "REGMODE_B" not in ram["parameters"]
    assert ram["connections"]["OCEA"] == [ENABLE] and ram["connections"]["OCEB"] == ["1"]


@pytest.mark.parametrize("change", [{"CE": 9, "CEMUX": "CE"}, {"LSR": 4}, {"CLK": 8}])
def test_a_port_with_registers_unlike_each_other_stays(memory, change):
    cells = cells_of(memory)
    if "CLK" in change:
        for name in ("f0", "f1"):
            cells[name]["connections"]["CLK"] = [change["CLK"]]
    else:
        cells["f1"] = flip_flop(11, 21, **{"CE": ENABLE, "CEMUX": "CE"} | change)
    before = copy.deepcopy(memory)
    assert absorb_registers(memory) == 0
    assert memory == before


def test_a_wide_port_is_registered_as_one(memory):
    cells = cells_of(memory)
    cells["ram"]["parameters"] |= {"DATA_WIDTH_A": "100100", "DATA_WIDTH_B": "100100"}
    assert absorb_registers(memory) == 0
    cells["f3"] = flip_flop(13, 23, CE=ENABLE, CEMUX="CE")
    memory["modules"]["top"]["ports"].pop("o13")
    assert absorb_registers(memory) == 3
    assert [cells["ram"]["parameters"][f"REGMODE_{port}"] for port in "AB"] == ["OUTREG"] * 2
