"""Cores on memories that there are, and that there might be: what fits them, and what it costs there."""

import dataclasses
from dataclasses import dataclass

from egret.host.cost.model import traffic
from egret.host.cost.work import TextShares, Work
from egret.model.compiler.configuration import SDRAM_BITS, SDRAM_WORDS

__all__ = ["CORES", "DDR3", "MEMORY", "ULX3S", "Core", "on_core"]

MEMORY = SDRAM_WORDS * SDRAM_BITS // 8
"""Bytes of the SDRAM of a ULX3S."""


@dataclass(frozen=True)
class Core:
    """A core on a board.

    Parameters
    ----------
    name : str
    lanes : int
    width : int
        Bits a cycle that the memory brings.
    size : float
        Bytes of the memory.
    hertz : tuple of float
        Clocks to say tokens a second for.
    resident : bool
        Whether `RESIDENT_BYTES` of weights are in block RAM.
    """

    name: str
    lanes: int
    width: int
    size: float
    hertz: tuple[float, ...]
    resident: bool = False


ULX3S = Core("ULX3S, SDR SDRAM of 16 bits", 8, 32, MEMORY, (62.5e6, 71.5e6), resident=True)
DDR3 = Core("DDR3 of 16 bits, 16 lanes", 16, 64, 512 << 20, (75e6,))
CORES = [ULX3S, Core("DDR3 of 16 bits, 8 lanes", 8, 64, DDR3.size, DDR3.hertz), DDR3]


def on_core(work: Work, core: Core, shares: TextShares | None = None) -> Work | None:
    """A network's work on a core whose memory holds as many folded rows as fit.

    Parameters
    ----------
    work : Work
        On any core.
    core : Core
    shares : callable, optional
        What the rows change, from `text_shares`; nothing by default.

    Returns
    -------
    Work or None
        None where the network does not fit.
    """
    resident = work.resident if core.resident else ()
    bare = dataclasses.replace(
        work, lanes=core.lanes, width=core.width, store="sdram", folded_tokens=0, resident=resident
    )
    memory = traffic(bare)
    room = core.size - memory["weights"] - memory["embedding"]
    if room < 0:
        return None
    if not work.vocabulary:
        return bare
    rows = min(work.vocabulary, int(room // memory["row"]))
    return dataclasses.replace(bare, folded_tokens=rows, **({} if shares is None else shares(bare, rows)))
