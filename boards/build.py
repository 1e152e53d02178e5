"""From a design to a bitstream: the tools in their order, what they say of it, and the files that a user wants."""

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from egret.boards.design import NAME, Design
from egret.boards.devices import Device
from egret.boards.estimate import refuse_what_cannot_fit
from egret.boards.registers import absorb_registers_in
from egret.boards.tools import Report, Tools
from egret.model.errors import InputError

__all__ = ["Result", "publish", "run", "working_directory"]

_BITSTREAM = {"ecp5": "bit", "ice40": "bin"}
_STAGES = ("synthesis", "packing", "placement", "routing", "bitstream")
_LOG_STAGES = (("Packing", "packing"), ("placer", "placement"), ("Routing", "routing"))


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
    used: dict[str, int]
    critical_path: str
    seconds: dict[str, float]
    bitstream: Path

    @property
    def met(self) -> bool:
        """Whether the clock is met."""
        return self.megahertz >= self.wanted_megahertz


def run(design: Design, tools: Tools, directory: Path, *, progress: Callable[[str], object]) -> Result:
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
        It does not fit, or a tool failed; the message is its first error.
    """
    for name, content in design.files.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    device, seconds = design.board.device, {}
    for tool, *arguments in design.commands:
        watch = _Watch(tool, directory / f"{NAME}.tim", seconds, progress)
        try:
            tools.run(tool, arguments, directory, waiting=watch)
        except InputError as error:
            if tool.startswith("nextpnr"):
                refuse_what_cannot_fit(design.board, _packed(directory, device), "packing")
            raise InputError(f"{design.board.title}: {error}") from error
        watch.end()
        if tool == "yosys":
            refuse_what_cannot_fit(design.board, _synthesised(directory, device), "synthesis")
            if device.family == "ecp5":
                absorb_registers_in(directory / f"{NAME}.json")
    report = Report.read(directory / "report.json", design.hertz)
    return Result(
        megahertz=report.megahertz,
        wanted_megahertz=report.wanted_megahertz,
        used={name: report.used[cell] for name, cell in device.cells.items()},
        critical_path=report.critical_path,
        seconds=seconds,
        bitstream=directory / f"{NAME}.{_BITSTREAM[device.family]}",
    )


class _Watch:
    """Tells the stage that a tool has come to, and keeps the ``seconds`` of each."""

    def __init__(self, tool: str, log: Path, seconds: dict[str, float], progress: Callable[[str], object]):
        self._log = log if tool.startswith("nextpnr") else None
        self._stage = {"yosys": "synthesis", "ecppack": "bitstream", "icepack": "bitstream"}.get(tool, "packing")
        self._seconds, self._progress = seconds, progress
        self._begin = self._stage_begin = time.monotonic()

    def __call__(self) -> None:
        now = self._stage if self._log is None else _stage(self._log)
        if _STAGES.index(now) > _STAGES.index(self._stage):
            self.end()
            self._stage, self._stage_begin = now, time.monotonic()
        self._progress(f"{self._stage}, {time.monotonic() - self._begin:.0f} s")

    def end(self) -> None:
        self._seconds[self._stage] = time.monotonic() - self._stage_begin


@contextlib.contextmanager
def working_directory(output: Path) -> Iterator[Path]:
    """A directory beside ``output``, gone with what is left in it when the context ends.

    Raises `InputError` where it cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as directory:
            yield Path(directory)
    except OSError as error:
        raise InputError(f"{output}: cannot write there: {error.strerror or error}") from error


def publish(result: Result, directory: Path, output: Path, name: str) -> dict[str, Path]:
    """Move what a user wants from the working directory to ``output``, each file at once.

    An older bitstream goes first, so that image, report and bitstream there always belong together; where the clock
    is missed there is no new one.

    Parameters
    ----------
    result : Result
    directory, output : Path
        Where the tools ran, and what `working_directory` was called with.
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


def _stage(log: Path) -> str:
    """How far nextpnr has come, by its log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "packing"
    return next((stage for word, stage in reversed(_LOG_STAGES) if word in text), "packing")


def _packed(directory: Path, device: Device) -> dict[str, int]:
    """What nextpnr's log says is used."""
    log = directory / f"{NAME}.tim"
    counts = dict(re.findall(r"(\w+): +(\d+)/ *\d+ +\d+%", log.read_text() if log.exists() else ""))
    return {name: int(counts[cell]) for name, cell in device.cells.items() if cell in counts}


def _synthesised(directory: Path, device: Device) -> dict[str, int]:
    """What the netlist uses, as far as it is certain before packing."""
    cells = json.loads((directory / "cells.json").read_text())["design"]["num_cells_by_type"]
    if device.family == "ecp5":
        return {
            "luts": cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0),
            "flip_flops": cells.get("TRELLIS_FF", 0),
            "block_rams": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
            "multipliers": cells.get("MULT18X18D", 0),
        }
    return {
        "luts": cells.get("SB_LUT4", 0),
        "block_rams": cells.get("SB_RAM40_4K", 0),
        "large_rams": cells.get("SB_SPRAM256KA", 0),
        "multipliers": cells.get("SB_MAC16", 0),
    }
