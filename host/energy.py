"""Joules a token, an estimate: what a simulated run read, wrote and added, times what others say that each costs.

Nothing here is measured. Every cost is a pair (low, high), in joules; ``docs/energy.md`` names the sources and what is
left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from egret.host.measure import Measurement
from egret.host.traffic import column_lookups, readout_words_per_token
from egret.model.arithmetic import WEIGHT_BITS
from egret.model.compiler.configuration import SDRAM_BITS, Configuration
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import memory_sections, word_layouts
from egret.model.compiler.unpack import column_bytes, column_words
from egret.model.readout import POWER_FRACTION, SCORE_BITS

__all__ = [
    "BOARD_WATTS",
    "COSTS",
    "DDR3_COSTS",
    "DDR3_SHEETS",
    "FPGA",
    "HERTZ",
    "SHEETS",
    "Sheet",
    "activity",
    "energy",
    "rows_opened",
    "usual_hertz",
]

HERTZ = 80e6
"""Clock of a ULX3S's build without an SDRAM."""
BOARD_WATTS = 5 * 0.5
"""What a ULX3S draws at most, everything on it in use: its manual (emard/ulx3s, doc/MANUAL.md)."""
FPGA = 14
"""Dynamic power of logic in an FPGA over that of standard cells: Kuon and Rose, IEEE TCAD 26 (2), 2007."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Data sheet of an SDRAM or a DDR3 of 16 bits: currents in A, all of them maxima with open outputs, and times in s.

    Parameters
    ----------
    row : float
        One bank, a row opened every ``row_seconds``, ``row_words`` of it read.
    standby : float
        A row open, the clock running, nothing done.
    burst : float
        A word every ``word_seconds``.
    refresh : float
        A refresh every ``refresh_seconds``.
    row_seconds : float
    row_words : int
    word_seconds, refresh_seconds : float
    volts : float
    """

    row: float
    standby: float
    burst: float
    refresh: float
    row_seconds: float
    row_words: int
    word_seconds: float
    refresh_seconds: float
    volts: float = 3.3

    @property
    def standby_watts(self) -> float:
        """What it draws when nothing is done."""
        return self.standby * self.volts

    @property
    def byte_joules(self) -> float:
        """Of a byte that is read, above the standby."""
        return (self.burst - self.standby) * self.volts * self.word_seconds / (SDRAM_BITS // 8)

    @property
    def row_joules(self) -> float:
        """Of opening and closing a row, above the standby, without the words read."""
        words = self.row_words * SDRAM_BITS // 8 * self.byte_joules
        return (self.row - self.standby) * self.volts * self.row_seconds - words

    @property
    def refresh_joules(self) -> float:
        """Of a refresh, above the standby."""
        return (self.refresh - self.standby) * self.volts * self.refresh_seconds


SHEETS = {
    "K4S561632E-75": Sheet(
        row=0.09,
        standby=0.025,
        burst=0.13,
        refresh=0.18,
        row_seconds=65e-9,
        row_words=1,
        word_seconds=7.5e-9,
        refresh_seconds=65e-9,
    ),
    "MT48LC8M16A2-75": Sheet(
        row=0.15,
        standby=0.05,
        burst=0.15,
        refresh=0.31,
        row_seconds=66e-9,
        row_words=2,
        word_seconds=7.5e-9,
        refresh_seconds=66e-9,
    ),
}
"""SDRAMs of Samsung, 256 Mb, and of Micron, 128 Mb."""
DDR3_SHEETS = {
    "MT41J64M16-187E": Sheet(
        row=0.075,
        standby=0.045,
        burst=0.14,
        refresh=0.16,
        row_seconds=27 * 1.875e-9,
        row_words=0,
        word_seconds=1.875e-9 / 2,
        refresh_seconds=110e-9,
        volts=1.5,
    ),
    "MT41J128M16-125E": Sheet(
        row=0.11,
        standby=0.045,
        burst=0.27,
        refresh=0.215,
        row_seconds=38 * 1.25e-9,
        row_words=0,
        word_seconds=1.25e-9 / 2,
        refresh_seconds=160e-9,
        volts=1.5,
    ),
}
"""DDR3s of Micron, 1 Gb and 2 Gb."""


def _of_sheets(sheets: dict[str, Sheet]) -> dict[str, np.ndarray]:
    def bounds(name: str) -> np.ndarray:
        costs = [getattr(sheet, name) for sheet in sheets.values()]
        return np.array([min(costs), max(costs)])

    return {
        "bytes": bounds("byte_joules"),
        "rows": bounds("row_joules"),
        "refreshes": bounds("refresh_joules"),
        "seconds": bounds("standby_watts"),
    }


COSTS = {
    **_of_sheets(SHEETS),
    # Horowitz, ISSCC 2014, 45 nm: 64 bits of a cache of 8 KB; a multiplication of 8 bits and an addition of 32.
    "bits": 10e-12 / 64 * np.array([1, FPGA]),
    "MACs": (0.2e-12 + 0.1e-12) * np.array([1, FPGA]),
}
"""Joules (low, high) of one of each unit: a byte, an opened row, a refresh and a second of an SDRAM; a bit of on-chip
memory, read or written; a multiplication with its addition."""
DDR3_COSTS = COSTS | _of_sheets(DDR3_SHEETS)
"""The same with a DDR3."""


def usual_hertz(configuration: Configuration) -> float:
    """Clock of a core of a ``configuration`` where no board is named.

    That is a ULX3S's, with the slowest SDRAM; with a DDR3 half of the memory's clock.
    """
    from egret.rtl.outer import DDR3_HERTZ
    from egret.rtl.sdram import PARTS

    if configuration.ddr3:
        return DDR3_HERTZ / 2
    most = PARTS["any"].megahertz * 1e6 / configuration.memory_ratio
    return min(HERTZ, most) if configuration.store == "sdram" else HERTZ


def rows_opened(start: Any, words: Any, row: int) -> np.ndarray:
    """Rows of ``row`` words in which bursts of so many ``words`` lie, from word ``start`` on; both may be arrays."""
    return np.where(np.asarray(words) > 0, (start % row + words - 1) // row + 1, 0)


def activity(
    image: Image, measurement: Measurement, ids: np.ndarray, embedding: np.ndarray, hertz: float
) -> dict[str, tuple[str, Any]]:
    """What the core and its SDRAM or DDR3 do for a token, on average.

    Parameters
    ----------
    image : Image
    measurement : Measurement
        Of the image over the text.
    ids : np.ndarray of int, shape [N + 1]
        The text; empty where numbers entered.
    embedding : np.ndarray, shape [V, E]
    hertz : float
        Clock of the core.

    Returns
    -------
    dict of str to (unit, count)
        What is done, in units of `COSTS`, or for a DDR3 of `DDR3_COSTS`; a count is a number, or a pair (low, high).
    """
    from egret.rtl import ddr3, ddr3_timing, sdram
    from egret.rtl.layouts import GATE, event_layout
    from egret.rtl.update import STATE

    c, counters, sources = image.configuration, measurement.counters, measurement.evaluation.sources
    assert sources is not None
    steps = sources.steps
    lookups = column_lookups(image, measurement, ids, embedding)
    pointer = memory_sections(c)["columns"].word_bits
    folded = int((ids[:-1] < c.folded_tokens).sum())
    row = c.row_depth * c.banks  # accumulators of a folded row
    updates = c.neurons * steps
    y = sum(int(layer.sum()) for layer in sources.y)  # events of the previous step
    # With reset "before" they are read twice, and scaled; with "after" every neuron's inner sum is.
    again, inner = (y, 0) if c.reset == "before" else (0, updates)
    x = sum(int(layer.sum()) for layer in sources.x[1:])  # events of the layer below
    bits: dict[str, float] = {
        # An operation reads and writes: additions, folded rows, the sums of every neuron, gate r of events.
        "accumulators": 2 * c.accumulator_bits * (counters["macs"] + folded * row + len(c.sums) * updates + again),
        "pointers": pointer * int(lookups.sum()),
        "biases": len(c.sums) * c.accumulator_bits * updates,
        "thresholds and states": (STATE.width - 1 + 2 * STATE.width) * updates,
        "gate tables": GATE.width * (2 * updates + again + inner),
        "events": event_layout(c).size * (sum(sources.events) + y + again + x),
    }
    if c.weight_bits < WEIGHT_BITS:
        # Where lanes take weights of a read-out in pairs, a word asks twice.
        pairs = (c.multipliers - c.lanes) * steps * readout_words_per_token(image, measurement)
        bits["codebooks"] = WEIGHT_BITS * (c.lanes * counters["words"] + pairs)
    if c.readout is not None:
        # A scan reads and writes an accumulator, reads an entry and writes its score; the walk for the sum reads the
        # score and a power. Groups count as the largest one.
        scanned = c.readout.entries * steps + c.readout.group_size * counters["groups"]
        entry = memory_sections(c)["entries"].word_bits
        bits["read-out"] = (2 * c.accumulator_bits + entry + 2 * SCORE_BITS + POWER_FRACTION + 1) * scanned
    read = steps * readout_words_per_token(image, measurement)
    embedded = 0 if c.takes_events else (steps - folded) * c.embedding * WEIGHT_BITS
    result = {}
    if c.store == "sdram":
        start, words = column_words(image)
        outside = start >= c.resident_words
        # In words of 16 bits.
        word = c.word_beats * c.memory_ratio
        start, asked = (start - c.resident_words) * word, words * word * outside
        base, embedding_words = c.sdram_base, c.embedding_beats * c.memory_ratio
        row_words = c.row_depth * c.row_beats * c.memory_ratio
        name, memory = ("DDR3", ddr3) if c.ddr3 else ("SDRAM", sdram)
        long = 1 << memory.COLUMN_BITS
        opened = rows_opened(base["weights"] + start, asked, long) @ lookups
        tokens = ids[:-1].astype(np.int64)
        opened += rows_opened(base["rows"] + tokens[tokens < c.folded_tokens] * row_words, row_words, long).sum()
        opened += rows_opened(
            base["embedding"] + tokens[tokens >= c.folded_tokens] * embedding_words, embedding_words, long
        ).sum()
        opened += _readout_rows(image, counters, steps, long)
        seconds = counters["cycles"] / hertz
        part = (ddr3_timing if c.ddr3 else sdram).PARTS["any"]
        result = {
            f"{name}, read": ("bytes", counters["beats"] * c.beat_bits // 8),
            # At the least every opened row is read whole, at the most every burst opens its rows.
            f"{name}, rows": ("rows", np.array([counters["beats"] * c.memory_ratio / long, opened])),
            f"{name}, refresh": ("refreshes", seconds / (part.refresh * 1e-9)),
            f"{name}, standby": ("seconds", seconds),
        }
        bits["resident weights"] = c.lanes * c.narrow_bits * float((words * ~outside) @ lookups)
        # Words of the others go through a queue, as does the embedding.
        bits["queues"] = 2 * embedded + 2 * SDRAM_BITS * (float(asked @ lookups) + word * read)
    else:
        bits["weights"] = float((8 * column_bytes(image) - pointer) @ lookups) + c.lanes * c.narrow_bits * read
        bits["embedding"] = embedded
        bits["folded rows"] = folded * row * c.row_bits
    result |= {name: ("bits", count) for name, count in bits.items() if count}
    # The reset pass multiplies each event once, the update pass 17 bits by 8 for each neuron: twice. So does gate z,
    # with reset "after", a sum of 24 bits: three times.
    result["multiplications and additions"] = ("MACs", counters["macs"] + again + 2 * updates + 3 * inner)
    return {name: (unit, count / steps) for name, (unit, count) in result.items()}


def _readout_rows(image: Image, counters: dict[str, int], steps: int, row: int) -> float:
    """Rows of ``row`` words opened for columns of the read-out, at the most: groups have the mean events of a token."""
    c = image.configuration
    if c.readout is None:
        return 0.0
    groups = word_layouts(c)["groups"].unpack(image.memories["groups"])
    columns = np.arange(c.hidden[-1])
    starts = groups["start"][:, None] - c.resident_words + columns * groups["count"][:, None]
    word = c.word_beats * c.memory_ratio  # words of 16 bits of one of weights
    rows = rows_opened(c.sdram_base["weights"] + starts * word, groups["count"][:, None] * word, row)
    events = counters[f"events_{c.layers - 1}"]
    head, group = rows[0].mean(), rows[1:].mean() if c.readout.groups else 0.0
    return float(events * (head + group * counters["groups"] / steps))


def energy(done: dict[str, tuple[str, Any]], costs: dict[str, np.ndarray] = COSTS) -> dict[str, np.ndarray]:
    """Joules a token (low, high) of what is ``done``, as `activity` says it, at the ``costs``: arrays of two."""
    return {name: count * costs[unit] for name, (unit, count) in done.items()}
