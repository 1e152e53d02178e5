"""Controller of an SDRAM of 16 bits, single data rate: bursts of any length, read at a beat a cycle.

The memory's clock is that of the core, or twice as fast (the ``ratio``). What it brings in a cycle of the core is a
beat: one word of 16 bits, or two. The core gives a command a cycle, so every time between two commands is a whole
number of its cycles.
"""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportArgumentType=false

import dataclasses
from dataclasses import dataclass
from math import ceil
from typing import Any, Self

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import SDR_RATIOS

__all__ = [
    "ADDRESS_BITS",
    "BANK_BITS",
    "COLUMN_BITS",
    "COUNT_BITS",
    "PARTS",
    "ROW_BITS",
    "TAGS",
    "TAG_BITS",
    "WORD_BITS",
    "Part",
    "Sdram",
    "Timing",
    "beat_layout",
    "burst_layout",
    "default_timing",
    "sdram_pins",
    "write_layout",
    "at_least",
]

WORD_BITS = 16
ROW_BITS, BANK_BITS, COLUMN_BITS = 13, 2, 9
"""Of 32 MB. A larger part is used up to there."""
ADDRESS_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS
"""Of a word, and of a beat: those of four words reach through the 128 MB of a DDR3."""
COUNT_BITS = 17
"""A burst has less than 2^17 beats."""
TAGS = ("weights", "embedding", "rows", "scrub")
"""Who asked for a burst, in the core."""
TAG_BITS = 2
WRITES = 32
"""Words that can wait to be written."""
SEGMENTS = 4
"""Parts of bursts that wait, each within one row of the memory."""
OWED = 7
"""Refreshes that may be put off."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Times of an SDRAM in ns, as data sheets name them.

    Parameters
    ----------
    rcd, rp, ras : float
        From activate to read or write, from precharge to activate, and from activate to precharge.
    rfc : float
        From refresh to anything.
    wr : float
        From the last written word to precharge.
    refresh : float
        Between two of the 8192 refreshes in 64 ms.
    start : float
        From power to the first command.
    latency : int
        CAS latency in cycles.
    megahertz : float
        Highest clock.
    access, hold : float
        From the clock's edge until a word is there, and how long the word before stays.
    """

    rcd: float = 20
    rp: float = 20
    ras: float = 45
    rfc: float = 70
    wr: float = 20
    refresh: float = 7800
    start: float = 200_000
    latency: int = 3
    megahertz: float = 133
    access: float = 5.4
    hold: float = 2.5


PARTS = {
    "any": Part(ras=50, rfc=80, megahertz=125, access=6),
    "as4c32m16sb-7": Part(rcd=21, rp=21, ras=42, rfc=63, wr=14, megahertz=143),
    "is42s16160g-7": Part(rcd=20, rp=20, ras=45, rfc=67.5, wr=14, megahertz=143),
    "mt48lc16m16a2-75": Part(rcd=20, rp=20, ras=44, rfc=66, wr=15, megahertz=133),
    "w9825g6kh-6": Part(rcd=18, rp=18, ras=42, rfc=60, wr=12, megahertz=166, access=5),
}
"""Parts that boards carry, all of four banks of 8192 rows of 512 words or more; ``any`` has the longest times."""


@dataclass(frozen=True)
class Timing:
    """Times of a part in cycles of its clock.

    Parameters
    ----------
    rcd, rp, ras, rfc, wr, refresh, start, latency : int
        As for `Part`.
    """

    rcd: int
    rp: int
    ras: int
    rfc: int
    wr: int
    refresh: int
    start: int
    latency: int

    @classmethod
    def of(cls, part: Part, hertz: float) -> Self:
        """Return the times of a ``part`` at a clock of ``hertz``. Raises `ValueError` where the part is too slow."""
        if hertz > part.megahertz * 1e6:
            raise ValueError(f"the memory runs at {part.megahertz:g} MHz at most, not at {hertz / 1e6:g} MHz")

        def cycles(ns: float) -> int:
            return ceil(ns * hertz / 1e9 - 1e-6)

        return cls(
            max(cycles(part.rcd), 2),
            max(cycles(part.rp), 2),
            cycles(part.ras),
            cycles(part.rfc),
            max(cycles(part.wr), 2),
            int(part.refresh * hertz / 1e9),
            cycles(part.start),
            part.latency,
        )

    def every(self, ratio: int) -> Self:
        """The same times in cycles of a core whose clock is ``ratio`` times slower, no shorter; ``latency`` is kept."""

        if ratio == 1:
            return self

        def cycles(time: int) -> int:
            return -(-time // ratio)

        return dataclasses.replace(
            self,
            rcd=max(cycles(self.rcd), 2),
            rp=max(cycles(self.rp), 2),
            ras=cycles(self.ras),
            rfc=cycles(self.rfc),
            wr=max(cycles(self.wr), 2),
            refresh=self.refresh // ratio,
            start=cycles(self.start),
        )

    def delay(self, ratio: int) -> int:
        """Cycles of the core, ``ratio`` of the memory each, from a command at the controller's pins to its first beat.

        The registers at the device's edge are counted: one each way, and with two words a cycle one more, in which both
        have come. Raises `ValueError` where the first word would not come in the first half of a cycle.
        """
        if (self.latency + 1) % ratio:
            raise ValueError(f"the CAS latency must be odd with two words a cycle, not {self.latency}")
        return 1 + (self.latency + 1) // ratio + (ratio > 1)


def default_timing(ratio: int = 1) -> Timing:
    """Times for a core that is told nothing else: the slowest part at 100 MHz, or with a ``ratio`` of 2 at 125 MHz."""
    return Timing.of(PARTS["any"], min(ratio * 100e6, PARTS["any"].megahertz * 1e6))


def sdram_pins(ratio: int = 1) -> wiring.Signature:
    """An SDRAM's pins, seen from a core whose clock is ``ratio`` times slower than the memory's.

    Registers at the device's edge, which are the board's, lie between them and the memory each way; with two words a
    cycle an `egret.rtl.sdram_edge.SdramEdge` before them. All commands are active high here. The clock and its enable
    are the board's, too.
    """
    return wiring.Signature(
        {
            "cs": Out(1),
            "ras": Out(1),
            "cas": Out(1),
            "we": Out(1),
            "ba": Out(BANK_BITS),
            "a": Out(ROW_BITS),
            "dq_o": Out(WORD_BITS),
            "dq_oe": Out(1),
            "dq_i": In(ratio * WORD_BITS),
        }
    )


def burst_layout() -> data.StructLayout:
    """Beats from ``address`` on, counted in beats, ``count`` of them, 1 or more; ``tag`` comes back with each."""
    return data.StructLayout({"address": ADDRESS_BITS, "count": COUNT_BITS, "tag": TAG_BITS})


def beat_layout(ratio: int = 1) -> data.StructLayout:
    """What was read in a cycle, ``ratio`` words of 16 bits, the first one lowest, and the tag of its burst."""
    return data.StructLayout({"words": ratio * WORD_BITS, "tag": TAG_BITS})


def write_layout(address_bits: int = ADDRESS_BITS) -> data.StructLayout:
    """A word for an address of so many ``address_bits``, counted in words."""
    return data.StructLayout({"address": address_bits, "word": WORD_BITS})


def at_least(m: Module, name: str, cycles: int, since: Value) -> Value:
    """Whether ``cycles``, 1 or more, have gone by ``since`` an event, the cycle after which is the first.

    Adds to ``m`` a counter of that ``name``, which says so from the start.
    """
    count = Signal(range(cycles + 1), name=name, init=cycles)
    with m.If(since):
        m.d.sync += count.eq(0)
    with m.Elif(count != cycles):
        m.d.sync += count.eq(count + 1)
    return count >= cycles - 1


def _segment_layout() -> data.StructLayout:
    """A part of a burst within a row, or a word to write."""
    return data.StructLayout(
        {
            "column": COLUMN_BITS,
            "bank": BANK_BITS,
            "row": ROW_BITS,
            "count": COLUMN_BITS + 1,
            "tag": TAG_BITS,
            "write": 1,
            "word": WORD_BITS,
        }
    )


class Sdram(wiring.Component):
    """Reads bursts without a gap where the memory allows it, and writes single words.

    Bursts are counted in beats, words to write in words of 16 bits. Consecutive addresses lie in a row of one bank,
    then in the same row of the next bank. While a burst is read, the row of what follows is opened, where it lies in
    another bank; a row stays open until its bank needs another. The memory is set to bursts of a whole row, which the
    next command cuts off, so that reading takes a command a burst. Refreshes are done while nothing is to be read, and
    at the latest when `OWED` of them are due.

    Parameters
    ----------
    timing : Timing
        Of the memory, in cycles of its clock.
    ratio : int
        Of `SDR_RATIOS`: cycles of the memory in one of the core.

    Members
    -------
    i : In(stream.Signature(burst_layout()))
        Bursts to read.
    o : Out(stream.Signature(beat_layout(ratio), always_ready=True))
        Their beats, in order; the first one of a burst whose row is open comes `Timing.delay` + 4 cycles after it.
    write : In(stream.Signature(write_layout()))
        Words to write; done before bursts that come later.
    ready : Out(1)
        The memory has been started.
    busy : Out(1)
        Something is to be read or written, or on its way.
    sdram : Out(sdram_pins(ratio))
        The memory's pins.
    """

    i: stream.Interface
    o: stream.Interface
    write: stream.Interface
    ready: Signal
    busy: Signal
    sdram: Any

    def __init__(self, timing: Timing, ratio: int = 1) -> None:
        self._t, self._delay = timing.every(ratio), timing.delay(ratio)
        self._skipped = SDR_RATIOS.index(ratio)  # bits of a word's address within a beat
        super().__init__(
            {
                "i": In(stream.Signature(burst_layout())),
                "o": Out(stream.Signature(beat_layout(ratio), always_ready=True)),
                "write": In(stream.Signature(write_layout())),
                "ready": Out(1),
                "busy": Out(1),
                "sdram": Out(sdram_pins(ratio)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._commands(m, *self._segments(m))
        return m

    def _segments(self, m):
        """Queue of what is to be done, a part of a row each."""
        m.submodules.writes = writes = fifo.SyncFIFO(width=write_layout().size, depth=WRITES)
        m.submodules.segments = segments = fifo.SyncFIFO(width=_segment_layout().size, depth=SEGMENTS)
        wiring.connect(m, wiring.flipped(self.write), writes.w_stream)
        written = data.View(write_layout(), writes.r_data)
        burst = Signal(burst_layout())  # what is left of it
        cutting = Signal()
        segment, filled = Signal(_segment_layout()), Signal()
        beat_bits = COLUMN_BITS - self._skipped
        row_end = Signal(beat_bits + 1)
        place = data.StructLayout({"column": COLUMN_BITS, "bank": BANK_BITS, "row": ROW_BITS})
        at = data.View(place, Mux(cutting, burst.address << self._skipped, written.address)[:ADDRESS_BITS])
        m.d.comb += [
            segments.w_data.eq(segment),
            segments.w_en.eq(filled),
            row_end.eq((1 << beat_bits) - burst.address[:beat_bits]),
            self.i.ready.eq(~cutting & ~writes.r_rdy),
        ]
        with m.If(~filled | segments.w_rdy):
            m.d.sync += [
                filled.eq(cutting | writes.r_rdy),
                segment.column.eq(at.column),
                segment.bank.eq(at.bank),
                segment.row.eq(at.row),
                segment.tag.eq(burst.tag),
                segment.write.eq(~cutting),
                segment.word.eq(written.word),
            ]
            with m.If(cutting):
                m.d.sync += [
                    segment.count.eq(Mux(burst.count < row_end, burst.count, row_end)),
                    burst.count.eq(burst.count - row_end),
                    cutting.eq(burst.count > row_end),
                    burst.address.eq(Cat(C(0, beat_bits), burst.address[beat_bits:] + 1)),
                ]
            with m.Else():
                m.d.comb += writes.r_en.eq(1)
                m.d.sync += segment.count.eq(1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [burst.eq(self.i.payload), cutting.eq(1)]
        waits = Signal()
        m.d.comb += waits.eq(cutting | writes.r_rdy | filled | segments.r_rdy)
        return segments, data.View(_segment_layout(), segments.r_data), waits

    def _commands(self, m, segments, head, waits):
        # One long method: the commands share one bus, so each of them depends on all the others.
        t = self._t
        pins = self.sdram
        command = Signal(3)  # ras, cas, we

        def issue(name):
            ras, cas, we = {
                "activate": (1, 0, 0),
                "read": (0, 1, 0),
                "write": (0, 1, 1),
                "precharge": (1, 0, 1),
                "refresh": (1, 1, 0),
                "mode": (1, 1, 1),
                "stop": (0, 0, 1),
            }[name]
            return command.eq(Cat(ras, cas, we))

        bank, address = Signal(BANK_BITS), Signal(ROW_BITS)
        writing = Signal()
        m.d.sync += [
            Cat(pins.ras, pins.cas, pins.we).eq(command),
            pins.cs.eq(command.any()),
            pins.ba.eq(bank),
            pins.a.eq(address),
            pins.dq_oe.eq(writing),
            pins.dq_o.eq(head.word),
        ]

        # Rows that are open, and when something was last done.
        is_open = Signal(1 << BANK_BITS)
        rows = Array(Signal(ROW_BITS, name=f"row_{number}") for number in range(1 << BANK_BITS))
        activates, precharges = Signal(), Signal()
        may_precharge = at_least(m, "since_activate", t.ras, activates) & at_least(m, "since_write", t.wr, writing)
        opened, closed = at_least(m, "opening", t.rcd, activates), at_least(m, "closing", t.rp, precharges)

        # A burst being read: command cycles left that are its own, and beats on their way.
        left = Signal(COLUMN_BITS + 1)
        runs = Signal()  # the memory goes on reading until it is stopped
        reading_bank = Signal(BANK_BITS)
        reads = Signal()
        tag = Signal(TAG_BITS)
        stages = 1 + self._delay
        coming = Signal(stages)
        tags = [Signal(TAG_BITS, name=f"tag_{stage}", reset_less=True) for stage in range(stages)]
        slot = reads | (left != 0)
        m.d.comb += [
            self.busy.eq(waits | slot | coming.any()),
            tag.eq(Mux(reads, head.tag, tags[0])),
            self.o.valid.eq(coming[-1]),
            self.o.p.words.eq(pins.dq_i),
            self.o.p.tag.eq(tags[-1]),
        ]
        m.d.sync += [coming.eq(Cat(slot, coming)), Cat(tags).eq(Cat(tag, tags))]
        with m.If(reads):
            m.d.sync += [left.eq(head.count - 1), reading_bank.eq(head.bank), runs.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        # A word may be written when the last one that was read has left the pins.
        quiet = at_least(m, "since_read", t.latency + 2, slot | runs)

        # Refreshes that are due.
        clock = Signal(range(t.refresh))
        owed = Signal(range(OWED + 4))
        pays = Signal()
        tick = Signal()
        m.d.comb += tick.eq(clock == t.refresh - 1)
        m.d.sync += [clock.eq(Mux(tick, 0, clock + 1)), owed.eq(owed + tick - pays)]

        wait = Signal(range(max(t.start, t.rfc) + 1), init=t.start)
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        started = Signal()
        m.d.comb += self.ready.eq(started)

        def precharge_all():
            m.d.comb += [issue("precharge"), address.eq(1 << 10), precharges.eq(1)]
            m.d.sync += [is_open.eq(0), runs.eq(0)]

        with m.FSM(name="commands"):
            with m.State("START"):
                with m.If(wait == 0):
                    precharge_all()
                    m.d.sync += owed.eq(8)
                    m.next = "REFRESH"
            with m.State("LOOK"):
                # Is the row open that comes next? Nothing but what is done here changes it.
                with m.If((owed >= OWED) | (~segments.r_rdy & (owed != 0) & ~slot)):
                    m.next = "CLOSE"
                with m.Elif(segments.r_rdy):
                    with m.If(~is_open.bit_select(head.bank, 1)):
                        m.next = "ACTIVATE"
                    with m.Elif(rows[head.bank] == head.row):
                        m.next = "GO"
                    with m.Else():
                        m.next = "PRECHARGE"
                self._stop(m, issue, slot, runs)
            with m.State("PRECHARGE"):
                with m.If(may_precharge & ~(slot & (reading_bank == head.bank))):
                    m.d.comb += [issue("precharge"), bank.eq(head.bank), precharges.eq(1)]
                    with m.If(reading_bank == head.bank):
                        m.d.sync += runs.eq(0)
                    m.next = "ACTIVATE"
                with m.Else():
                    self._stop(m, issue, slot, runs)
            with m.State("ACTIVATE"):
                with m.If(closed):
                    m.d.comb += [issue("activate"), bank.eq(head.bank), address.eq(head.row), activates.eq(1)]
                    m.d.sync += [is_open.bit_select(head.bank, 1).eq(1), rows[head.bank].eq(head.row)]
                    m.next = "GO"
                with m.Else():
                    self._stop(m, issue, slot, runs)
            with m.State("GO"):
                m.d.comb += [bank.eq(head.bank), address.eq(head.column)]
                with m.If(opened & (left == 0) & (~head.write | quiet)):
                    m.d.comb += [segments.r_en.eq(1), issue("write"), writing.eq(head.write), reads.eq(~head.write)]
                    with m.If(~head.write):
                        m.d.comb += issue("read")
                    m.next = "LOOK"
                with m.Else():
                    self._stop(m, issue, slot, runs)
            with m.State("CLOSE"):
                with m.If(may_precharge & ~slot):
                    precharge_all()
                    m.next = "REFRESH"
                with m.Else():
                    self._stop(m, issue, slot, runs)
            with m.State("REFRESH"):
                with m.If(closed & (wait == 0)):
                    with m.If(owed != 0):
                        m.d.comb += [issue("refresh"), pays.eq(1)]
                        m.d.sync += wait.eq(t.rfc - 1)
                    with m.Elif(started):
                        m.next = "LOOK"
                    with m.Else():
                        # Bursts of a whole row, in order, of this latency; single words are written.
                        m.d.comb += [issue("mode"), address.eq(1 << 9 | t.latency << 4 | 7)]
                        m.d.sync += [started.eq(1), wait.eq(2)]

    def _stop(self, m, issue, slot, runs):
        """Stop the memory's reading, where nothing else is to be done and nobody wants the words."""
        with m.If(runs & ~slot):
            m.d.comb += issue("stop")
            m.d.sync += runs.eq(0)
