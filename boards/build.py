"""From a board and a configuration to a bitstream, with Yosys and nextpnr."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from egret.boards.clocks import PLLS
from egret.boards.registers import absorb_registers
from egret.boards.top import Top
from egret.model.errors import InputError
from egret.rtl.sdram import PARTS, Timing
from egret.rtl.uart import divisor_for

__all__ = [
    "PLACEMENT",
    "PREPARATION",
    "SYNTHESIS",
    "Design",
    "Estimate",
    "Result",
    "Tools",
    "estimate",
    "generate",
    "publish",
    "refuse_what_cannot_fit",
    "run",
    "working_directory",
]

NAME = "top"
_TOOLS = {
    "yosys": "YOSYS",
    "nextpnr-ecp5": "NEXTPNR_ECP5",
    "ecppack": "ECPPACK",
    "nextpnr-ice40": "NEXTPNR_ICE40",
    "icepack": "ICEPACK",
}
_FAMILY_TOOLS = {"ecp5": ("yosys", "nextpnr-ecp5", "ecppack"), "ice40": ("yosys", "nextpnr-ice40", "icepack")}
_BITSTREAM = {"ecp5": "bit", "ice40": "bin"}

# What Yosys does before it synthesises:
# - A read port of Amaranth gives the old content of a row that is written in the same cycle, for which Yosys would add
#   comparators and registers. No memory of the core is read where it is written, save accumulators, which forward.
# - Amaranth names the second field of an array `x` a wire `x[1]`. ABC's netlist calls bit 1 of `x` so, too, and Yosys
#   0.70 mixes the two up when it takes the netlist back (an assertion in rtlil.cc): such wires lose their names.
PREPARATION = """setparam -set COLLISION_X_MASK 1'1 */t:$memrd_v2 */r:CLK_ENABLE=1 %i
rename -hide w:*[[]*"""

# Wider look-up tables of several LUT4 on an ECP5 pin cells to each other, which costs clock and routing time.
SYNTHESIS = {"ecp5": "-nowidelut", "ice40": "-dsp"}
# A core of block RAMs all over the device needs a placement by the clock more than one by the length of its wires.
PLACEMENT = {"ecp5": "--placer-heap-timingweight 30", "ice40": ""}

_STAGES = ("synthesis", "packing", "placement", "routing", "bitstream")
_LOG_STAGES = (("Packing", "packing"), ("placer", "placement"), ("Routing", "routing"))


@dataclass(frozen=True)
class Design:
    """What the tools are given.

    Attributes
    ----------
    board : egret.boards.definition.BoardDefinition
    hertz : float
        Clock to aim at.
    files : dict of str to str or bytes
    commands : list of list of str
        The tools in their order, each with its arguments.
    """

    board: object
    hertz: float
    files: dict
    commands: list


def generate(board, configuration, *, hertz=None, seed=1, sdram=None):
    """The design of a board's top.

    Parameters
    ----------
    board : egret.boards.definition.BoardDefinition
    configuration : egret.model.compiler.configuration.Configuration
    hertz : float, optional
        Clock of the core instead of the board's.
    seed : int
        Of the placement.
    sdram : str, optional
        The SDRAM that the board carries, a name in `egret.rtl.sdram.PARTS`, instead of the one its file names.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        PLL, UART or SDRAM cannot be had with this clock, or the board has no such memory.
    """
    platform = board.platform()
    platform.add_resources(board.resources)
    settings_for, _ = PLLS[board.device.family]
    try:
        settings = settings_for(platform.default_clk_frequency, hertz or board.hertz)
        divisor = divisor_for(settings.hertz, board.baud)
        timing = _sdram_timing(board, configuration, sdram, settings.hertz)
    except ValueError as error:
        raise InputError(f"{board.title}: {error}") from error
    plan = platform.prepare(
        Top(board, configuration, settings, divisor, timing),
        NAME,
        script_after_read=PREPARATION,
        script_after_synth="tee -q -o cells.json stat -json",
        synth_opts=SYNTHESIS[board.device.family],
        nextpnr_opts=f"--seed {seed} --report report.json --timing-allow-fail {PLACEMENT[board.device.family]}",
    )
    commands = json.loads(plan.files[f"build_{NAME}.json"])["commands"]
    # Some platforms go on behind the bitstream, with a tool of their loader.
    return Design(
        board,
        settings.hertz,
        plan.files,
        [command for command in commands if command[0] in _FAMILY_TOOLS[board.device.family]],
    )


def _sdram_timing(board, configuration, sdram, hertz):
    """`Timing` of the SDRAM that is the store, None where it is not."""
    if sdram is not None and sdram not in PARTS:
        raise ValueError(f"--sdram-module must be one of {', '.join(PARTS)}, not {sdram!r}")
    if configuration.store != "sdram":
        if sdram is not None:
            raise ValueError("--sdram-module is for a core with the store sdram")
        return None
    if board.sdram is None:
        raise ValueError("it has no SDRAM that is supported; the image is for the store sdram")
    return Timing.of(PARTS[sdram or board.sdram], hertz)


# Estimates


@dataclass(frozen=True)
class Estimate:
    """What a design will need, known before it is built.

    Attributes
    ----------
    used : dict of str to int
        As `Device.capacity`; block RAMs by the memories' shapes, look-up tables by the widths of the operators, which
        is right within a fifth.
    seconds : float
        Time of the tools as YoWASP packages on one core, right within a factor of two.
    least_block_rams : int
        What the memories' bits alone fill.
    """

    used: dict
    seconds: float
    least_block_rams: int


_LEAST_FACTOR_BITS = 4
# Logic cells of an iCE40 hold registers and carries that cannot share one with a look-up table, too.
_LUTS_PER_BIT = {"ecp5": 0.8, "ice40": 1.05}
_SECONDS = {"ecp5": (20, 0.02), "ice40": (15, 0.025)}


def estimate(design):
    """Estimate a `Design`.

    Returns
    -------
    Estimate
    """
    text = design.files[f"{NAME}.il"]
    device = design.board.device
    bits, logic, multipliers, large, block_rams, block_bits = 0, 0, 0, 0, 0, 0
    for module in text.split("\nend\n"):
        clocked = dict.fromkeys(re.findall(r"\bmemory (?:width \d+ )?(?:size \d+ )?(\\\S+)", module), False)
        for cell, body in re.findall(r"\n  cell (\S+) \S+\n(.*?)\n  end", module, re.S):
            width = int(found[1]) if (found := re.search(r"\\(?:Y_WIDTH|WIDTH) (\d+)", body)) else 0
            if cell in ("$dff", "$adff", "$add", "$sub", "$and", "$or"):
                bits += width
            elif cell == "$mul" and min(map(int, re.findall(r"\\[AB]_WIDTH (\d+)", body))) >= _LEAST_FACTOR_BITS:
                multipliers += not re.search(r"connect \\[AB] \d+'0*10*\n", body)  # a power of two is a shift
            elif cell == "\\SB_SPRAM256KA":
                large += 1
            elif cell == "$memrd_v2" and re.search(r"\\CLK_ENABLE 1\b", body):
                clocked[re.search(r'\\MEMID "(\S+)"', body)[1].replace("\\\\", "\\")] = True
        for declared in re.finditer(r"\bmemory (?:width (\d+) )?(?:size (\d+) )?(\\\S+)", module):
            width, words, name = int(declared[1] or 1), int(declared[2] or 1), declared[3]
            blocks = device.blocks(words, width) if clocked[name] else 0
            if blocks:
                block_rams, block_bits = block_rams + blocks, block_bits + words * width
            else:
                logic += width * words // 10 if device.family == "ecp5" else width * words
    used = {
        "luts": round(bits * _LUTS_PER_BIT[device.family] + logic),
        "block_rams": block_rams,
        "multipliers": multipliers,
    }
    if "large_rams" in device.capacity:
        used["large_rams"] = large
    least, per_lut = _SECONDS[device.family]
    return Estimate(used, least + per_lut * used["luts"], -(-block_bits // device.block_bits))


def refuse_what_cannot_fit(board, used, source):
    """Raise `InputError`, by what ``source`` says, where something is used more often than the device has it."""
    wrong = [
        f"{used[name]:,} {name.replace('_', ' ')} of {board.device.capacity[name]:,}"
        for name in used
        if name in board.device.capacity and used[name] > board.device.capacity[name]
    ]
    if wrong:
        raise InputError(
            f"{board.title}: does not fit, by {source}: {', '.join(wrong)}; fewer lanes, fewer weights, "
            "or a larger board would"
        )


# Tools


@dataclass(frozen=True)
class Tools:
    """Commands of the tools that a family needs.

    Attributes
    ----------
    paths : dict of str to str
    """

    paths: dict

    @classmethod
    def find(cls, family):
        """Each tool from its environment variable, else as a YoWASP package beside this Python, else from the path.

        Raises
        ------
        InputError
            One is missing.
        """
        beside = str(Path(sys.executable).parent)
        paths = {}
        for name in _FAMILY_TOOLS[family]:
            variable = _TOOLS[name]
            if variable in os.environ:
                if (found := shutil.which(os.environ[variable])) is None:
                    raise InputError(f"{variable} names {os.environ[variable]!r}, which is no command")
            elif (
                found := shutil.which(f"yowasp-{name}", path=beside)
                or shutil.which(f"yowasp-{name}")
                or shutil.which(name)
            ) is None:
                raise InputError(
                    f"building needs {name}, which was not found; install it: "
                    f"pip install 'egret-fpga[build]', or name its command in {variable}"
                )
            paths[name] = found
        return cls(paths)


@dataclass(frozen=True)
class Result:
    """A finished build.

    Attributes
    ----------
    megahertz, wanted_megahertz : float
        Clock that the routed design can have, by nextpnr's estimate, and the one that it gets.
    used : dict of str to int
        As `Device.capacity`.
    critical_path : str
        From which cell to which.
    seconds : dict of str to float
        By stage.
    bitstream : Path
    """

    megahertz: float
    wanted_megahertz: float
    used: dict
    critical_path: str
    seconds: dict
    bitstream: Path

    @property
    def met(self):
        """Whether the clock is met."""
        return self.megahertz >= self.wanted_megahertz


def run(design, tools, directory, *, progress):
    """Run the tools.

    Parameters
    ----------
    design : Design
    tools : Tools
    directory : Path
        Empty; YoWASP's tools see it and nothing else.
    progress : callable
        Called with a line that says what is being done, often.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        It does not fit, or a tool failed; the message names its log.
    """
    for name, content in design.files.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    seconds = {}
    for tool, *arguments in design.commands:
        log = directory / f"{tool}.log"
        begin = stage_begin = time.monotonic()
        stage = {"yosys": "synthesis", "ecppack": "bitstream", "icepack": "bitstream"}.get(tool, "packing")
        with log.open("wb") as output, _Process([tools.paths[tool], *arguments], directory, output) as process:
            while process.poll() is None:
                now = _stage(directory / f"{NAME}.tim") if tool.startswith("nextpnr") else stage
                if _STAGES.index(now) > _STAGES.index(stage):
                    seconds[stage], stage, stage_begin = time.monotonic() - stage_begin, now, time.monotonic()
                progress(f"{stage}, {time.monotonic() - begin:.0f} s")
                time.sleep(0.25)
        seconds[stage] = time.monotonic() - stage_begin
        if process.returncode:
            if tool.startswith("nextpnr"):
                refuse_what_cannot_fit(design.board, _packed(directory, design.board.device), "packing")
            raise InputError(f"{design.board.title}: {tool} failed: {_reason(directory, tool)}")
        if tool == "yosys":
            refuse_what_cannot_fit(design.board, _synthesised(directory, design.board.device), "synthesis")
            if design.board.device.family == "ecp5":
                netlist = json.loads((directory / f"{NAME}.json").read_text())
                absorb_registers(netlist)
                (directory / f"{NAME}.json").write_text(json.dumps(netlist))
    report = json.loads((directory / "report.json").read_text())
    cells = design.board.device.cells
    clock = min(report["fmax"].values(), key=lambda entry: entry["achieved"] / entry["constraint"])
    path = max(
        (path["path"] for path in report["critical_paths"] if path["from"] == path["to"]),
        key=lambda path: sum(step["delay"] for step in path),
    )
    return Result(
        megahertz=clock["achieved"],
        wanted_megahertz=clock["constraint"],
        used={name: report["utilization"][cell]["used"] for name, cell in cells.items()},
        critical_path=f"{path[0]['from']['cell']} to {path[-1]['to']['cell']}",
        seconds=seconds,
        bitstream=directory / f"{NAME}.{_BITSTREAM[design.board.device.family]}",
    )


@contextlib.contextmanager
def working_directory(output):
    """A directory beside ``output``, gone with what is left in it when the context ends.

    Raises
    ------
    InputError
        It cannot be made.
    """
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as directory:
            yield Path(directory)
    except OSError as error:
        raise InputError(f"{output}: cannot write there: {error.strerror or error}") from error


def publish(result, directory, output, name):
    """Move what a user wants from the working directory to ``output``, each file at once.

    An older bitstream goes first, so that image, report and bitstream there always belong together; where the clock
    is missed there is no new one.

    Parameters
    ----------
    result : Result
    directory, output : Path
    name : str
        Of the board.

    Returns
    -------
    dict of str to Path
    """
    output.mkdir(exist_ok=True)
    bitstream = output / f"{name}{result.bitstream.suffix}"
    bitstream.unlink(missing_ok=True)
    names = {"report": "report.json", "image": "image", "synthesis log": f"{NAME}.rpt", "timing log": f"{NAME}.tim"}
    files = {}
    for key, file in names.items():
        files[key] = output / file
        (directory / file).replace(files[key])
    if result.met:
        result.bitstream.replace(bitstream)
        files = {"bitstream": bitstream} | files
    return files


class _Process:
    """A tool in a session of its own, ended with all its children when the context ends."""

    def __init__(self, command, directory, output):
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.poll = self._process.poll

    @property
    def returncode(self):
        return self._process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def _stage(log):
    """How far nextpnr has come, by its log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "packing"
    return next((stage for word, stage in reversed(_LOG_STAGES) if word in text), "packing")


def _reason(directory, tool):
    """The first line of a tool's output that tells an error."""
    for name in (f"{tool}.log", f"{NAME}.tim", f"{NAME}.rpt"):
        path = directory / name
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        for line in lines:
            if "ERROR" in line:
                return line.partition("ERROR:")[2].strip() or line.strip()
    return "no message"


def _packed(directory, device):
    """What nextpnr's log says is used."""
    log = directory / f"{NAME}.tim"
    counts = dict(re.findall(r"(\w+): +(\d+)/ *\d+ +\d+%", log.read_text() if log.exists() else ""))
    return {name: int(counts[cell]) for name, cell in device.cells.items() if cell in counts}


def _synthesised(directory, device):
    """What the netlist uses, as far as it is certain before packing."""
    cells = json.loads((directory / "cells.json").read_text())["design"]["num_cells_by_type"]
    if device.family == "ecp5":
        used = {
            "luts": cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0),
            "flip_flops": cells.get("TRELLIS_FF", 0),
            "block_rams": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
            "multipliers": cells.get("MULT18X18D", 0),
        }
    else:
        used = {
            "luts": cells.get("SB_LUT4", 0),
            "block_rams": cells.get("SB_RAM40_4K", 0),
            "large_rams": cells.get("SB_SPRAM256KA", 0),
            "multipliers": cells.get("SB_MAC16", 0),
        }
    return used
