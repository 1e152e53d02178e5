"""Save files for viewers of waveforms: the streams of a core, grouped by unit.

For GTKWave (``.gtkw``) and for Surfer, a command file (``.sucl``). The units are the modules of the Verilog, whose
names are their places in the hierarchy; a stream is what has ``valid`` among its ports.
"""

import io
import re
from pathlib import Path

from egret.model.files import write_aside

__all__ = ["SUFFIXES", "streams", "write_save_files"]

SUFFIXES = (".gtkw", ".sucl")
"""Of the save files beside a waveform."""

_PARTS = ("valid", "ready", "payload")


def streams(verilog: str) -> dict[str, dict[str, int]]:
    """The streams at the ports of each unit.

    Parameters
    ----------
    verilog : str
        Of a component, as `egret.rtl.export.to_verilog` makes it.

    Returns
    -------
    dict of str to dict of str to int
        For each unit that has streams, by its place such as ``"core.weights"``: the signals of its streams by their
        names, such as ``"i__valid"``, with their widths in bits. Those of a stream follow each other.
    """
    units = {}
    for name, text in re.findall(r"^module +\\?([^\s(]+) ?\((.*?)^endmodule", verilog, re.M | re.S):
        ports = re.findall(r"^ *(?:input|output) +(?:\[(\d+):0\] +)?\\?([^\s;]+) *;", text, re.M)
        widths = {port: int(high or 0) + 1 for high, port in ports}
        of_streams = [port.removesuffix("__valid") for port in widths if port.endswith("__valid")]
        names = [f"{stream}__{part}" for stream in of_streams for part in _PARTS]
        if found := {one: widths[one] for one in names if one in widths}:
            units[name] = found
    return units


def write_save_files(waves: str | Path, verilog: str) -> None:
    """Write both save files beside a waveform, under its name with their own suffixes.

    Parameters
    ----------
    waves : str or Path
        The waveform. Nothing is written beside what is no plain file.
    verilog : str
        What was simulated, as for `streams`.
    """
    from vcd.gtkw import GTKWSave

    waves = Path(waves)
    if not waves.is_file():
        return
    gtkwave, surfer = io.StringIO(), []
    save = GTKWSave(gtkwave)
    save.dumpfile(str(waves.resolve()))
    for unit, signals in streams(verilog).items():
        surfer.append(f"divider_add {unit}")
        with save.group(unit):
            for name, width in signals.items():
                save.trace(f"{unit}.{name}" + (f"[{width - 1}:0]" if width > 1 else ""))
                surfer.append(f"variable_add {unit}.{name}")
    for suffix, text in zip(SUFFIXES, (gtkwave.getvalue(), "\n".join([*surfer, "zoom_fit", ""])), strict=True):
        write_aside(waves.with_suffix(suffix), text.encode())
