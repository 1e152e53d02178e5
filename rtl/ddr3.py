"""Controller of a DDR3 of 16 bits at a DFI with two commands a cycle: bursts of any length, read at a beat a cycle.

The memory's clock is twice that of the core, and it brings two words in each of its cycles. So a beat, what comes in a
cycle of the core, is four words of 16 bits. A read or write of the memory is eight words, two beats.

The DFI is that between a controller and a PHY, with active-high commands. Each cycle has two commands, for the two
cycles of the memory in it.
"""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportArgumentType=false

from collections.abc import Callable
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import DDR3_RATIO
from egret.rtl.ddr3_timing import BURST_CLOCKS, ROWS_IN_WINDOW, Ddr3Timing
from egret.rtl.sdram import (
    OWED,
    TAG_BITS,
    WORD_BITS,
    WRITES,
    at_least,
    beat_layout,
    burst_layout,
    write_layout,
)

__all__ = [
    "BANK_BITS",
    "BURST_BITS",
    "BYTES",
    "COLUMN_BITS",
    "COMMANDS",
    "PLACE_BITS",
    "READ_DELAY",
    "ROW_BITS",
    "WORD_ADDRESS_BITS",
    "WRITE_DELAY",
    "Ddr3",
    "command_layout",
    "dfi_pins",
    "levels_layout",
]

ROW_BITS, BANK_BITS, COLUMN_BITS = 13, 3, 10
"""Of the smallest part, 128 MB. A larger part is used up to there."""
WORD_ADDRESS_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS
PLACE_BITS = 3
"""A burst of the memory has eight words."""
BURST_BITS = WORD_BITS << PLACE_BITS
BYTES = WORD_BITS // 8
"""Of a word. Each has delays of its own in the PHY."""
READ_DELAY = 13
"""Cycles of the core from a read at the DFI to its words: those of LiteDRAM's PHY of an ECP5."""
WRITE_DELAY = 3
"""The same from a write to its words."""
AHEAD = 2
"""Parts of bursts whose rows are open, which wait to be read."""
_READS = 16  # more than can be under way
_LATEST = 9  # times between refreshes, after which there must have been one
_PASSING = 2  # cycles from the opened row to the first read
_BEAT_BITS = DDR3_RATIO * WORD_BITS
_AT_BITS = COLUMN_BITS - PLACE_BITS  # of a burst's place in its row
_LONGEST = (AHEAD + 2) * (2 << _AT_BITS) + 100  # cycles in which the rows of so many parts are opened and read
_ALL = 1 << 10  # address of a command that is for all banks, or of the long calibration


COMMANDS = {
    "activate": 0b001,
    "read": 0b010,
    "write": 0b110,
    "precharge": 0b101,
    "refresh": 0b011,
    "mode": 0b111,
    "calibrate": 0b100,
}
"""Which of the lines ``ras``, ``cas`` and ``we`` each command has, from the lowest bit up; all are active high here."""


def command_layout() -> data.StructLayout:
    """A command at the DFI: its ``code``, of `COMMANDS`, taken where ``cs`` is high, with a bank and an address."""
    return data.StructLayout({"cs": 1, "code": 3, "ba": BANK_BITS, "a": ROW_BITS})


def levels_layout() -> data.StructLayout:
    """How the delays of the PHY are changed: those of the bytes in ``select``.

    They go back to the first one and are no longer shifted (``restart``), or on to the next delay (``later``), or are
    shifted by one more bit (``slip``), in each cycle in which that is high.
    """
    return data.StructLayout({"select": BYTES, "restart": 1, "later": 1, "slip": 1})


def dfi_pins() -> wiring.Signature:
    """The DFI, seen from the controller.

    Members
    -------
    commands : Out(command_layout()).array(2)
        For the memory's first and second cycle in one of the core.
    reset, cke : Out(1)
        Whether the memory is being reset, and whether its clock is enabled.
    write : Out(1)
        There is a write among the commands. Its words are taken `WRITE_DELAY` cycles later.
    dq_o, mask : Out(BURST_BITS), Out(BURST_BITS // 8)
        The words of a write, the first one lowest, and which of their bytes are not written.
    read : Out(1)
        There is a read among the commands.
    dq_i, valid : In(BURST_BITS), In(1)
        The words of a read, and whether they are there.
    levels : Out(levels_layout())
        Of the PHY's delays.
    """
    return wiring.Signature(
        {
            "commands": Out(command_layout()).array(2),
            "reset": Out(1),
            "cke": Out(1),
            "write": Out(1),
            "dq_o": Out(BURST_BITS),
            "mask": Out(BURST_BITS // 8),
            "read": Out(1),
            "dq_i": In(BURST_BITS),
            "valid": In(1),
            "levels": Out(levels_layout()),
        }
    )


def _segment_layout() -> data.StructLayout:
    """Bursts of the memory within a row, ``count`` of them, or a word to write.

    The first and last beat may be nobody's: that is what ``skips`` says.
    """
    return data.StructLayout(
        {
            "at": _AT_BITS,
            "bank": BANK_BITS,
            "row": ROW_BITS,
            "count": _AT_BITS + 1,
            "skips": data.ArrayLayout(1, 2),
            "tag": TAG_BITS,
            "write": 1,
            "place": PLACE_BITS,
            "word": WORD_BITS,
        }
    )


class Ddr3(wiring.Component):
    """Reads bursts without a gap where the memory allows it, and writes single words.

    It has the streams of `egret.rtl.sdram.Sdram`. Consecutive addresses lie in a row of one bank, then in the same row
    of the next bank. A burst is cut into parts of one row each. One machine opens the rows, up to `AHEAD` parts before
    their turn, and closes one only when no part that waits needs its bank. Another one reads. The memory's commands
    that read have one of the two cycles of the memory in one of the core for themselves, and all others have the other
    one, so neither waits for the other. A row stays open until its bank needs another. Refreshes are done while nothing
    is to be read, and at the latest when `OWED` of them are due. At a low clock that is fewer: the parts whose rows are
    open are read first, which takes longer than some refreshes may wait.

    Parameters
    ----------
    timing : Ddr3Timing
        Of the memory.

    Members
    -------
    i : In(stream.Signature(burst_layout()))
        Bursts to read. One that begins with an odd beat, or ends with an even one, takes a cycle more.
    o : Out(stream.Signature(beat_layout(DDR3_RATIO), always_ready=True))
        Their beats, in order.
    write : In(stream.Signature(write_layout(WORD_ADDRESS_BITS)))
        Words to write; done before bursts that come later.
    ready : Out(1)
        The memory has been started.
    busy : Out(1)
        Something is to be read or written, or on its way.
    sdram : Out(dfi_pins())
        Of the PHY. Its ``levels`` are for `egret.rtl.ddr3_levelling.LevelledDdr3`.
    """

    i: stream.Interface
    o: stream.Interface
    write: stream.Interface
    ready: Signal
    busy: Signal
    sdram: Any

    def __init__(self, timing: Ddr3Timing) -> None:
        self._t = timing
        super().__init__(
            {
                "i": In(stream.Signature(burst_layout())),
                "o": Out(stream.Signature(beat_layout(DDR3_RATIO), always_ready=True)),
                "write": In(stream.Signature(write_layout(WORD_ADDRESS_BITS))),
                "ready": Out(1),
                "busy": Out(1),
                "sdram": Out(dfi_pins()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # Parts of bursts, and those of them whose rows are open.
        m.submodules.segments = segments = fifo.SyncFIFO(width=_segment_layout().size, depth=AHEAD)
        m.submodules.opened = opened = fifo.SyncFIFO(width=_segment_layout().size, depth=AHEAD)
        waits = self._cut(m, segments)
        reads, writes, done, part = self._read(m, opened)
        idle = self._open(m, segments, opened, writes, done, part)
        coming = self._receive(m, reads, part)
        m.d.comb += self.busy.eq(waits | ~idle | coming)
        return m

    def _cut(self, m: Module, segments: Any) -> Value:
        """Cut bursts, and words to write, into parts of a row each; return whether anything is to be done."""
        m.submodules.writes = words = fifo.SyncFIFO(width=write_layout(WORD_ADDRESS_BITS).size, depth=2 * WRITES)
        wiring.connect(m, wiring.flipped(self.write), words.w_stream)
        put = data.View(write_layout(WORD_ADDRESS_BITS), words.r_data)
        place = data.StructLayout({"place": PLACE_BITS, "at": _AT_BITS, "bank": BANK_BITS, "row": ROW_BITS})
        # What is left of a burst: its place, in bursts of the memory, and how many of these.
        first, count = Signal(WORD_ADDRESS_BITS - PLACE_BITS), Signal(len(self.i.p.count))
        skips, tag = Signal(data.ArrayLayout(1, 2)), Signal(TAG_BITS)
        left = Signal()
        segment, filled = Signal(_segment_layout()), Signal()
        row_end = Signal(_AT_BITS + 1)
        at = data.View(place, Mux(left, first << PLACE_BITS, put.address)[:WORD_ADDRESS_BITS])
        m.d.comb += [
            segments.w_data.eq(segment),
            segments.w_en.eq(filled),
            row_end.eq((1 << _AT_BITS) - first[:_AT_BITS]),
            self.i.ready.eq(~left & ~words.r_rdy),
        ]
        with m.If(~filled | segments.w_rdy):
            m.d.sync += [
                filled.eq(left | words.r_rdy),
                segment.at.eq(at.at),
                segment.bank.eq(at.bank),
                segment.row.eq(at.row),
                segment.place.eq(at.place),
                segment.word.eq(put.word),
                segment.write.eq(~left),
                segment.tag.eq(tag),
                segment.skips.eq(skips),
            ]
            with m.If(left):
                m.d.sync += [
                    segment.count.eq(Mux(count < row_end, count, row_end)),
                    segment.skips[1].eq(skips[1] & (count <= row_end)),
                    skips[0].eq(0),
                    count.eq(count - row_end),
                    left.eq(count > row_end),
                    first.eq(Cat(C(0, _AT_BITS), first[_AT_BITS:] + 1)),
                ]
            with m.Else():
                m.d.comb += words.r_en.eq(1)
                m.d.sync += segment.count.eq(1)
        with m.If(self.i.valid & self.i.ready):
            asked = self.i.p
            m.d.sync += [
                left.eq(1),
                first.eq(asked.address >> 1),
                count.eq((asked.count + asked.address[0] + 1) >> 1),
                skips[0].eq(asked.address[0]),
                skips[1].eq(asked.address[0] ^ asked.count[0]),
                tag.eq(asked.tag),
            ]
        waits = Signal()
        m.d.comb += waits.eq(left | words.r_rdy | filled | segments.r_rdy)
        return waits

    def _read(self, m: Module, opened: Any) -> tuple[Signal, Signal, Signal, Any]:
        """Read the parts whose rows are open, a burst in two cycles, or write their words.

        Returns whether it reads, and whether it writes, whether that is the end of the part, and the part.
        """
        t, half = self._t, self._t.read_phase
        pins = self.sdram
        part, has = Signal(_segment_layout()), Signal()
        # With each burst that is left; the skip of the last beat is of the last burst alone.
        reads, writes, done = Signal(), Signal(), Signal()
        every = t.apart(BURST_CLOCKS, 0, 0)
        may_read = at_least(m, "since_read", every, reads)
        may_read &= at_least(m, "written", t.apart(t.written + t.wtr, 1 - half, half), writes)
        may_write = at_least(m, "since_write", every, writes)
        may_write &= at_least(m, "has_read", t.apart(t.read_to_write, half, 1 - half), reads)
        m.d.comb += [
            reads.eq(has & ~part.write & may_read),
            writes.eq(has & part.write & may_write),
            done.eq((reads | writes) & (part.count == 1)),
            opened.r_en.eq(~has),
        ]
        with m.If(~has):
            m.d.sync += [part.eq(opened.r_data), has.eq(opened.r_rdy)]
        with m.If(reads):
            m.d.sync += [part.at.eq(part.at + 1), part.count.eq(part.count - 1), part.skips[0].eq(0)]
        with m.If(done):
            m.d.sync += has.eq(0)
        read = pins.commands[half]
        m.d.sync += [
            read.cs.eq(reads),
            read.code.eq(COMMANDS["read"]),
            read.ba.eq(part.bank),
            read.a.eq(part.at << PLACE_BITS),
            pins.read.eq(reads),
            pins.write.eq(writes),
        ]
        # The word of a write follows it.
        stages = [Signal(PLACE_BITS + WORD_BITS, name=f"written_{stage}", reset_less=True) for stage in range(4)]
        assert len(stages) == WRITE_DELAY + 1
        m.d.sync += Cat(stages).eq(Cat(part.place, part.word, stages))
        m.d.comb += [
            pins.dq_o.eq(stages[-1][PLACE_BITS:].replicate(1 << PLACE_BITS)),
            pins.mask.eq(~(C(3, BURST_BITS // 8) << (stages[-1][:PLACE_BITS] << 1))),
        ]
        return reads, writes, done, part

    def _receive(self, m: Module, reads: Signal, part: Any) -> Value:
        """Send the beats of what has been read; return whether any are on their way."""
        pins = self.sdram
        layout = data.StructLayout({"tag": TAG_BITS, "skips": data.ArrayLayout(1, 2)})
        m.submodules.asked = asked = fifo.SyncFIFO(width=layout.size, depth=_READS)
        of = data.View(layout, asked.r_data)
        second, has_second = Signal(_BEAT_BITS, reset_less=True), Signal()
        m.d.comb += [
            asked.w_en.eq(reads),
            asked.w_data.eq(Cat(part.tag, part.skips[0], part.skips[1] & (part.count == 1))),
            asked.r_en.eq(pins.valid),
        ]
        m.d.sync += [
            self.o.valid.eq(has_second),
            self.o.p.words.eq(second),
            has_second.eq(pins.valid & ~of.skips[1]),
            second.eq(pins.dq_i[_BEAT_BITS:]),
        ]
        with m.If(pins.valid):
            m.d.sync += [
                self.o.valid.eq(~of.skips[0]),
                self.o.p.words.eq(pins.dq_i[:_BEAT_BITS]),
                self.o.p.tag.eq(of.tag),
            ]
        return asked.r_rdy | has_second | self.o.valid

    def _open(self, m: Module, segments: Any, opened: Any, writes: Signal, done: Signal, part: Any) -> Signal:
        """Start the memory, open the rows of parts, and refresh; return whether no part waits to be read."""
        # One long method: the commands share one half of a cycle, so each of them depends on all the others.
        t, half = self._t, 1 - self._t.read_phase
        pins = self.sdram
        head = data.View(_segment_layout(), segments.r_data)
        command = pins.commands[half]
        name = Signal(command.code.shape())
        bank, address = Signal(BANK_BITS), Signal(ROW_BITS)
        gives = Signal()

        def issue(what: str) -> list[Any]:
            return [gives.eq(1), name.eq(COMMANDS[what])]

        with m.If(writes):
            m.d.comb += [*issue("write"), bank.eq(part.bank), address.eq(part.at << PLACE_BITS)]
        m.d.sync += [command.cs.eq(gives), command.code.eq(name), command.ba.eq(bank), command.a.eq(address)]

        # Rows that are open, and parts of each bank that are still to be read, or whose last read is too young.
        is_open = Signal(1 << BANK_BITS)
        rows = Array(Signal(ROW_BITS, name=f"row_{number}") for number in range(1 << BANK_BITS))
        activates, precharges, passes = Signal(), Signal(), Signal()
        young = t.apart(t.rtp, self._t.read_phase, half) - 1
        ended = [Signal(1 + BANK_BITS, name=f"ended_{stage}") for stage in range(young)]
        m.d.sync += Cat(ended).eq(Cat(done, part.bank, ended))
        end = Cat(done, part.bank, *ended)[-1 - BANK_BITS :]
        claimed = Signal(1 << BANK_BITS)
        for number in range(1 << BANK_BITS):
            claims = Signal(range(AHEAD + 2 + young), name=f"claims_{number}")
            m.d.sync += claims.eq(claims + (passes & (head.bank == number)) - (end[0] & (end[1:] == number)))
            m.d.comb += claimed[number].eq(claims != 0)
        # Four rows in the window `faw` are four times `rrd` at the least.
        apart = max(t.rrd, -(-t.faw // ROWS_IN_WINDOW))
        may_activate = at_least(m, "since_activate", t.apart(apart, half, half), activates)
        may_activate &= at_least(m, "closing", t.apart(t.rp, half, half), precharges)
        may_precharge = at_least(m, "open_for", t.apart(t.ras, half, half), activates)
        may_precharge &= at_least(m, "recovered", t.apart(t.written + t.wr, half, half), writes)
        until_passed = max(max(t.apart(t.rcd, half, then) for then in (0, 1)) - _PASSING, 1)
        may_pass = at_least(m, "opening", until_passed, activates)

        # Refreshes that are due, in cycles of the core.
        every = t.refresh // 2
        put_off = max(min(OWED, _LATEST - -(-_LONGEST // every)), 1)
        clock, owed, pays, tick = Signal(range(every)), Signal(range(OWED + 4)), Signal(), Signal()
        m.d.comb += tick.eq(clock == every - 1)
        m.d.sync += [clock.eq(Mux(tick, 0, clock + 1)), owed.eq(owed + tick - pays)]

        idle = Signal()
        m.d.comb += [
            idle.eq(~claimed.any()),
            opened.w_data.eq(segments.r_data),
            opened.w_en.eq(passes),
            segments.r_en.eq(passes),
        ]
        longest = max(t.reset, t.wake, t.xpr, t.mod, t.zq, t.rfc)
        wait = Signal(range(t.apart(longest, half, half) + 1), init=t.apart(t.reset, half, half))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)

        with m.FSM(name="rows"):
            self._start(m, wait, owed, issue, bank, address)
            with m.State("LOOK"):
                with m.If((owed >= put_off) | (~segments.r_rdy & (owed != 0) & idle)):
                    m.next = "CLOSE"
                with m.Elif(segments.r_rdy):
                    with m.If(~is_open.bit_select(head.bank, 1)):
                        m.next = "ACTIVATE"
                    with m.Elif(rows[head.bank] == head.row):
                        m.d.comb += passes.eq(opened.w_rdy)
                    with m.Else():
                        m.next = "PRECHARGE"
            with m.State("PRECHARGE"):
                with m.If(may_precharge & ~claimed.bit_select(head.bank, 1) & ~writes):
                    m.d.comb += [*issue("precharge"), bank.eq(head.bank), precharges.eq(1)]
                    m.next = "ACTIVATE"
            with m.State("ACTIVATE"):
                with m.If(may_activate & ~writes):
                    m.d.comb += [*issue("activate"), bank.eq(head.bank), address.eq(head.row), activates.eq(1)]
                    m.d.sync += [is_open.bit_select(head.bank, 1).eq(1), rows[head.bank].eq(head.row)]
                    m.next = "PASS"
            with m.State("PASS"):
                with m.If(may_pass & opened.w_rdy):
                    m.d.comb += passes.eq(1)
                    m.next = "LOOK"
            with m.State("CLOSE"):
                with m.If(may_precharge & idle):
                    m.d.comb += [*issue("precharge"), address.eq(_ALL), precharges.eq(1)]
                    m.d.sync += [is_open.eq(0), wait.eq(t.apart(t.rp, half, half) - 1)]
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(wait == 0):
                    # Words to write do not wait for all of them.
                    with m.If((owed != 0) & ~((owed < put_off) & segments.r_rdy & head.write)):
                        m.d.comb += [*issue("refresh"), pays.eq(1)]
                        m.d.sync += wait.eq(t.apart(t.rfc, half, half) - 1)
                    with m.Else():
                        m.next = "LOOK"
        return idle

    def _start(
        self, m: Module, wait: Signal, owed: Signal, issue: Callable[[str], list[Any]], bank: Signal, address: Signal
    ) -> None:
        """The state in which the memory is reset, and its modes are set, step by step."""
        t, pins = self._t, self.sdram

        def cycles(clocks: int) -> int:
            return t.apart(clocks, 0, 0) - 1

        in_reset, enabled = Signal(init=1), Signal()
        m.d.comb += [pins.reset.eq(in_reset), pins.cke.eq(enabled)]
        steps: list[tuple[list[Any], list[Any], int]] = [([], [in_reset.eq(0)], t.wake), ([], [enabled.eq(1)], t.xpr)]
        for number, content in t.modes:
            steps.append(([*issue("mode"), bank.eq(number), address.eq(content)], [], t.mrd))
        steps[-1] = (*steps[-1][:2], t.mod)
        steps.append(([*issue("calibrate"), address.eq(_ALL)], [], t.zq))
        step = Signal(range(len(steps) + 1))
        with m.State("START"):
            with m.If(wait == 0):
                m.d.sync += step.eq(step + 1)
                with m.Switch(step):
                    for number, (gives, sets, clocks) in enumerate(steps):
                        with m.Case(number):
                            m.d.comb += gives
                            m.d.sync += [*sets, wait.eq(cycles(clocks))]
                    with m.Default():
                        m.d.sync += [self.ready.eq(1), owed.eq(0)]
                        m.next = "LOOK"
