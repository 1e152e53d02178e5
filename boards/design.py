"""The design of a board's top, as the tools take it."""

import json
from dataclasses import dataclass
from typing import Any

from egret.boards.clocks import PLLS, ddr3_settings
from egret.boards.ddr3 import NAME as PHY
from egret.boards.ddr3 import phy_verilog
from egret.boards.definition import BoardDefinition
from egret.boards.line import UartLine, UsbLine
from egret.boards.memory import clock_delay
from egret.boards.tools import FAMILY_TOOLS, PLACEMENT, PREPARATION, SYNTHESIS
from egret.boards.top import Top
from egret.model.compiler.configuration import Configuration
from egret.model.errors import InputError, needs
from egret.rtl import ddr3_timing
from egret.rtl.ddr3_timing import Ddr3Part, Ddr3Timing
from egret.rtl.sdram import PARTS, Part, Timing

__all__ = ["NAME", "Design", "generate"]

NAME = "top"
"""Of the top module, and of the tools' files."""


@dataclass(frozen=True)
class Design:
    """What the tools are given.

    Attributes
    ----------
    board : BoardDefinition
    hertz : float
        Clock to aim at.
    seed : int
        Of the placement.
    files : dict of str to str or bytes
        By name.
    commands : list of list of str
        The tools in their order, each with its arguments.
    """

    board: BoardDefinition
    hertz: float
    seed: int
    files: dict[str, str | bytes]
    commands: list[list[str]]

    @property
    def rtlil(self) -> str:
        """The top in Yosys' own language."""
        text = self.files[f"{NAME}.il"]
        return text if isinstance(text, str) else text.decode()


def generate(
    board: BoardDefinition,
    configuration: Configuration,
    *,
    hertz: float | None = None,
    seed: int = 1,
    sdram: str | None = None,
) -> Design:
    """The design of a board's top.

    Parameters
    ----------
    board : BoardDefinition
    configuration : Configuration
    hertz : float, optional
        Clock of the core instead of the board's.
    seed : int
        Of the placement. The same design, seed and tools give the same bitstream, bit for bit, on any machine.
    sdram : str, optional
        The SDRAM that the board carries, a name in `egret.rtl.sdram.PARTS` or for a DDR3 in
        `egret.rtl.ddr3_timing.PARTS`, instead of the one its file names.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        PLL, UART or SDRAM cannot be had with this clock, the board has no such memory, or LUNA is missing for its USB.
    """
    platform = board.platform()
    platform.add_resources(board.resources)
    settings_for, _ = PLLS[board.device.family]
    try:
        part = _part(board, configuration, sdram)
        if isinstance(part, Ddr3Part):
            settings = ddr3_settings(platform.default_clk_frequency, hertz or board.hertz)
        else:
            settings = settings_for(platform.default_clk_frequency, hertz or board.hertz, configuration.memory_ratio)
        divisor = board.divisor(settings.hertz)
        memory: dict[str, Any] = {}
        if isinstance(part, Ddr3Part):
            memory = {"timing": Ddr3Timing.of(part, settings.hertz * settings.ratio)}
            platform.add_file(f"{PHY}.v", phy_verilog(settings.hertz))
        elif part is not None:
            hertz = settings.hertz * configuration.memory_ratio
            memory = {"timing": Timing.of(part, hertz), "late": clock_delay(part, hertz)}
    except ValueError as error:
        raise InputError(f"{board.title}: {error}") from error
    if board.baud is None:
        with needs("luna", "'egret-fpga[usb]'", f"the USB of the {board.title}"):
            line = UsbLine(board.port, platform.default_clk_frequency, board.title)
    else:
        line = UartLine(board.port, int(divisor))
    plan = platform.prepare(
        Top(board, configuration, settings, line, **memory),
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
        seed,
        plan.files,
        [command for command in commands if command[0] in FAMILY_TOOLS[board.device.family]],
    )


def _part(board: BoardDefinition, configuration: Configuration, sdram: str | None) -> Part | Ddr3Part | None:
    """The SDRAM or DDR3 that is the store, None where it is not."""
    parts = ddr3_timing.PARTS if configuration.ddr3 else PARTS
    if sdram is not None and sdram not in parts:
        raise ValueError(f"--sdram-module must be one of {', '.join(parts)}, not {sdram!r}")
    if configuration.ddr3:
        if board.ddr3 is None:
            raise ValueError("it has no DDR3 that is supported; the image is for one")
        return ddr3_timing.PARTS[sdram or board.ddr3]
    if configuration.store != "sdram":
        if sdram is not None:
            raise ValueError("--sdram-module is for a core with the store sdram")
        return None
    if board.sdram is None:
        raise ValueError("it has no SDRAM that is supported; the image is for the store sdram")
    return PARTS[sdram or board.sdram]
