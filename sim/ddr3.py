"""A DDR3 and its PHY for simulation: they answer like LiteDRAM's at the DFI, and say when times are not kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import *
from amaranth.lib import fifo, memory, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.ddr3 import (
    BANK_BITS,
    BURST_BITS,
    BYTES,
    COLUMN_BITS,
    COMMANDS,
    PLACE_BITS,
    READ_DELAY,
    ROW_BITS,
    WRITE_DELAY,
    dfi_pins,
)
from egret.rtl.ddr3_levelling import DELAYS, SLIPS
from egret.rtl.ddr3_timing import BURST_CLOCKS, ROWS_IN_WINDOW, Ddr3Timing
from egret.rtl.sdram import WORD_BITS

__all__ = ["RIGHT_LEVELS", "USUAL_LEVELS", "VIOLATIONS", "Ddr3Model", "Level"]

VIOLATIONS = (
    "reset or clock enable too early",
    "command before the memory has been started",
    "command too early after a mode register or a calibration",
    "activate of a bank that is open",
    "activate too early after a precharge",
    "activate too early after an activate of another bank",
    "activate of a fifth row in the window of four",
    "read or write in a bank that is closed",
    "read or write too early after an activate",
    "read or write too early after one before",
    "read too early after a write",
    "write too early after a read",
    "precharge too early after an activate",
    "precharge too early after a read",
    "precharge too early after a write",
    "refresh with a bank open, or too early after a precharge",
    "command during a refresh",
    "rows not refreshed in time",
    "read or write in the wrong half of a cycle, or not told to the PHY",
    "command or mode that is not modelled",
)
"""What can be wrong, in the order of the bits of ``violations``."""

_LATE = 9
"""Times between refreshes after which one is late: eight may be put off."""


@dataclass(frozen=True)
class Level:
    """When a byte is sampled right.

    Parameters
    ----------
    first, last : int
        Delays, 0 to 7.
    slip : int
        Bits by which it must be shifted, 0 to 3.
    """

    first: int
    last: int
    slip: int


RIGHT_LEVELS = (Level(0, 7, 0),) * BYTES
"""With them words come right from the beginning."""
USUAL_LEVELS = (Level(1, 4, 2), Level(3, 6, 1))
"""Of a memory for which none are given, so that every simulation finds them."""


class Ddr3Model(wiring.Component):
    """A DDR3 of eight banks behind a PHY with two commands a cycle, cycle by cycle.

    Each cycle of the core is two of the memory. Every command is held against the times in cycles of the memory. Words
    of a read come `READ_DELAY` cycles after it, those of a write are taken `WRITE_DELAY` cycles after it. A read or
    write must be told to the PHY, and be in the half of a cycle for which the PHY is set. The bytes of what is read
    come wrong, shifted or inverted, until their delays and shifts are right.

    Parameters
    ----------
    timing : Ddr3Timing
        What is held against the commands.
    row_bits : int
        Rows of a bank, as a power of two, that have memory; further ones are the same again.
    levels : Sequence[Level]
        Of each byte, with which delays and shift its words come right.
    stuck : int
        A bit for each data line that is always low when words are read.

    Members
    -------
    pins : In(dfi_pins())
    violations : Out(len(VIOLATIONS))
        Bits of `VIOLATIONS`, which stay set.
    """

    pins: Any
    violations: Signal

    def __init__(
        self, timing: Ddr3Timing, *, row_bits: int = ROW_BITS, levels: Sequence[Level] = USUAL_LEVELS, stuck: int = 0
    ) -> None:
        self._t, self._row_bits, self._levels, self._stuck = timing, row_bits, levels, stuck
        super().__init__({"pins": In(dfi_pins()), "violations": Out(len(VIOLATIONS))})

    def elaborate(self, platform: Any) -> Module:
        # One long method: nearly every line is about one of the commands, which all see the same banks and times.
        t, pins = self._t, self.pins
        m = Module()
        violated = Signal(len(VIOLATIONS))
        m.d.sync += self.violations.eq(self.violations | violated)

        def wrong(name: str, condition: Any) -> None:
            m.d.comb += violated[VIOLATIONS.index(name)].eq(condition)

        def since(name: str, events: Sequence[Value], time: int) -> list[Value]:
            """Of each of some events in both halves, whether the command of a half comes too early after it."""
            width = len(events[0])
            if width == 1:
                gone = Signal(range(time + 2), name=f"since_{name}", init=time)  # from the last one to this cycle
                with m.If(events[1]):
                    m.d.sync += gone.eq(1)
                with m.Elif(events[0]):
                    m.d.sync += gone.eq(2)
                with m.Elif(gone < time):
                    m.d.sync += gone.eq(gone + 2)
                return [gone < time, (gone + 1 < time) | (events[0] if time > 1 else 0)]
            came = Signal(max(width * (time - 1), 1), name=f"since_{name}")  # the last half first
            m.d.sync += came.eq(Cat(events[1], events[0], came))

            def any_of(halves: int) -> Value:
                return reduce(or_, (came.word_select(half, width) for half in range(halves)), Const(0, width))

            return [any_of(time - 1), any_of(time - 2) | (events[0] if time > 1 else 0)]

        # Commands of the two halves, and the banks that they are for.
        given: dict[str, list[Signal]] = {name: [] for name in COMMANDS}
        mine = []
        for half, command in enumerate(pins.commands):
            for name, code in COMMANDS.items():
                signal = Signal(name=f"{name}_{half}")
                m.d.comb += signal.eq(command.cs & (command.code == code))
                given[name].append(signal)
            mine.append(Signal(1 << BANK_BITS, name=f"mine_{half}"))
            m.d.comb += mine[half].eq(1 << command.ba)
        halves = range(len(pins.commands))

        def banks(name: str) -> list[Value]:
            """The bank for which each half has a command of a name, as a bit."""
            return [Mux(given[name][half], mine[half], 0) for half in halves]

        every = [pins.commands[half].a[10] for half in halves]
        closes = [
            Mux(given["precharge"][half], Mux(every[half], ~C(0, 1 << BANK_BITS), mine[half]), 0) for half in halves
        ]
        activates, reads, writes = banks("activate"), banks("read"), banks("write")
        is_open = Signal(1 << BANK_BITS)
        then_open = Signal(1 << BANK_BITS)
        m.d.comb += then_open.eq((is_open | activates[0]) & ~closes[0])
        m.d.sync += is_open.eq((then_open | activates[1]) & ~closes[1])
        opens = [is_open, then_open]
        columns = [given["read"][half] | given["write"][half] for half in halves]

        early_rcd, early_ras = since("rcd", activates, t.rcd), since("ras", activates, t.ras)
        early_rp, early_rtp = since("rp", closes, t.rp), since("rtp", reads, t.rtp)
        early_wr = since("wr", writes, t.written + t.wr)
        early_rrd = since("rrd", given["activate"], t.rrd)
        early_read = since("ccd", columns, BURST_CLOCKS)
        early_wtr = since("wtr", given["write"], t.written + t.wtr)
        early_rtw = since("rtw", given["read"], t.latency + BURST_CLOCKS + 2 - t.write_latency)
        early_mrd = since("mrd", given["mode"], t.mrd)
        early_mod = since("mod", given["mode"], t.mod)
        early_zq, early_rfc = since("zq", given["calibrate"], t.zq), since("rfc", given["refresh"], t.rfc)
        rows_in_window = self._rows_in_window(m, given["activate"])

        touched = [reads[half] | writes[half] for half in halves]
        closing = [closes[half] & opens[half] for half in halves]
        quiet = [given["refresh"][half] | given["mode"][half] | given["calibrate"][half] for half in halves]
        any_given = [command.cs for command in pins.commands]
        others = [any_given[half] & ~given["mode"][half] for half in halves]
        for name, commands, early in (
            ("activate of a bank that is open", activates, opens),
            ("activate too early after a precharge", activates, early_rp),
            ("activate too early after an activate of another bank", given["activate"], early_rrd),
            ("activate of a fifth row in the window of four", given["activate"], rows_in_window),
            ("read or write in a bank that is closed", touched, [~bank for bank in opens]),
            ("read or write too early after an activate", touched, early_rcd),
            ("read or write too early after one before", columns, early_read),
            ("read too early after a write", given["read"], early_wtr),
            ("write too early after a read", given["write"], early_rtw),
            ("precharge too early after an activate", closing, early_ras),
            ("precharge too early after a read", closing, early_rtp),
            ("precharge too early after a write", closing, early_wr),
            (
                "refresh with a bank open, or too early after a precharge",
                quiet,
                [opens[half].any() | early_rp[half].any() for half in halves],
            ),
            ("command during a refresh", any_given, early_rfc),
        ):
            wrong(name, reduce(or_, ((commands[half] & early[half]).any() for half in halves)))
        wrong(
            "command too early after a mode register or a calibration",
            reduce(
                or_,
                (
                    (any_given[half] & (early_mrd[half] | early_zq[half])) | (others[half] & early_mod[half])
                    for half in halves
                ),
            ),
        )
        self._start(m, given, wrong)

        self._refreshes(m, given, early_zq[1], wrong)
        other = 1 - t.read_phase
        wrong(
            "read or write in the wrong half of a cycle, or not told to the PHY",
            given["read"][other]
            | given["write"][t.read_phase]
            | (given["read"][t.read_phase] != pins.read)
            | (given["write"][other] != pins.write),
        )
        self._cells(m, t.read_phase)
        return m

    def _refreshes(self, m: Module, given: dict[str, list[Signal]], calibrates: Value, wrong: Any) -> None:
        """Whether rows are refreshed in time, from the end of the calibration on."""
        t = self._t
        age, oldest = Signal(range(t.refresh * _LATE + 2)), t.refresh * _LATE
        started = Signal()
        with m.If(given["calibrate"][0] | given["calibrate"][1]):
            m.d.sync += started.eq(1)
        with m.If(given["refresh"][0] | given["refresh"][1]):
            m.d.sync += age.eq(Mux(age > t.refresh, age - t.refresh, 0))
        with m.Elif(started & ~calibrates & (age < oldest)):
            m.d.sync += age.eq(age + 2)
        wrong("rows not refreshed in time", age >= oldest)

    def _rows_in_window(self, m: Module, activate: list[Signal]) -> list[Value]:
        """Whether four rows have been opened in the window that ends with each half."""
        clocks = self._t.faw - 1
        came = Signal(max(clocks, 1))
        m.d.sync += came.eq(Cat(activate[1], activate[0], came))

        def count(bits: Value) -> Value:
            return sum((bit for bit in bits), C(0))

        if clocks < 1:
            return [C(0), C(0)]
        return [count(came[:clocks]) >= ROWS_IN_WINDOW, count(Cat(activate[0], came[: clocks - 1])) >= ROWS_IN_WINDOW]

    def _start(self, m: Module, given: dict[str, list[Signal]], wrong: Any) -> None:
        """How the memory is started, and what its modes are."""
        t, pins = self._t, self.pins
        was_reset, enabled = Signal(range(t.reset + 2)), Signal(range(max(t.wake, t.xpr) + 2))
        awake = Signal(range(t.wake + 2))
        with m.If(pins.reset):
            m.d.sync += [awake.eq(0), enabled.eq(0)]
            with m.If(was_reset < t.reset):
                m.d.sync += was_reset.eq(was_reset + 2)
        with m.Else():
            with m.If(awake < t.wake):
                m.d.sync += awake.eq(awake + 2)
            with m.If(~pins.cke):
                m.d.sync += enabled.eq(0)
            with m.Elif(enabled < t.xpr):
                m.d.sync += enabled.eq(enabled + 2)
        wrong(
            "reset or clock enable too early",
            (~pins.reset & (was_reset < t.reset)) | (pins.cke & (pins.reset | (awake < t.wake))),
        )
        # Modes in their order, then the calibration; nothing else before.
        told = Signal(range(len(t.modes) + 2))
        early, strange = C(0), C(0)
        for half, command in enumerate(pins.commands):
            mode, calibrate = given["mode"][half], given["calibrate"][half]
            other = command.cs & ~mode & ~calibrate
            early |= command.cs & (enabled < t.xpr)
            early |= other & (told <= len(t.modes))
            strange |= (calibrate & ((told != len(t.modes)) | ~command.a[10])) | (mode & (told >= len(t.modes)))
            for number, (register, content) in enumerate(t.modes):
                strange |= mode & (told == number) & ((command.ba != register) | (command.a != content))
            strange |= (given["read"][half] | given["write"][half]) & command.a[10:].any()
            strange |= (given["read"][half] | given["write"][half]) & command.a[:PLACE_BITS].any()
            strange |= command.cs & (command.code == 0)
            with m.If(mode | calibrate):
                m.d.sync += told.eq(told + 1)
        wrong("command before the memory has been started", early)
        wrong("command or mode that is not modelled", strange)

    def _sampled(self, m: Module, words: Value) -> Value:
        """What the PHY makes of a read's words with its delays."""
        levels = self.pins.levels
        result: list[Value] = [C(0)] * (BURST_BITS // 8)
        for byte, right in enumerate(self._levels):
            delay, slip = Signal(range(DELAYS), name=f"delay_{byte}"), Signal(range(SLIPS), name=f"slip_{byte}")
            with m.If(levels.select[byte]):
                m.d.sync += [delay.eq(delay + levels.later), slip.eq(slip + levels.slip)]
                with m.If(levels.restart):
                    m.d.sync += [delay.eq(0), slip.eq(0)]
            in_order = Cat(words.word_select(place, 8) for place in range(byte, BURST_BITS // 8, BYTES))
            sampled = Signal(len(in_order), name=f"sampled_{byte}")
            by = Signal(range(SLIPS), name=f"by_{byte}")
            m.d.comb += [by.eq(slip - right.slip), sampled.eq(in_order)]
            with m.Switch(by):
                for count in range(1, SLIPS):
                    with m.Case(count):
                        m.d.comb += sampled.eq(in_order.rotate_left(8 * count))
            early_or_late = Signal(name=f"early_or_late_{byte}")
            m.d.comb += early_or_late.eq((delay < right.first) | (delay > right.last))
            alive = C(~(self._stuck >> 8 * byte) & 0xFF, 8)
            for place in range(BURST_BITS // WORD_BITS):
                one = sampled.word_select(place, 8)
                result[BYTES * place + byte] = Mux(early_or_late, ~one, one)[:8] & alive
        return Cat(result)

    def _cells(self, m: Module, read_phase: int) -> None:
        """Rows, and the words in them, and how long these take on their way."""
        pins = self.pins
        rows = Array(Signal(self._row_bits, name=f"row_{bank}") for bank in range(1 << BANK_BITS))
        opens = pins.commands[1 - read_phase]
        with m.If(opens.cs & (opens.code == COMMANDS["activate"])):
            m.d.sync += rows[opens.ba].eq(opens.a)
        shape = (BURST_BITS, 1 << self._row_bits + BANK_BITS + COLUMN_BITS - PLACE_BITS)
        m.submodules.cells = cells = memory.Memory(shape=shape[0], depth=shape[1], init=[])
        read, write = cells.read_port(domain="sync"), cells.write_port(granularity=8)

        def place(command: Any) -> Value:
            return Cat(command.a[PLACE_BITS:COLUMN_BITS], command.ba, rows[command.ba])

        # Words that have been read wait for their time.
        has_read, late = Signal(), Signal(READ_DELAY)
        m.submodules.words = words = fifo.SyncFIFO(width=BURST_BITS, depth=READ_DELAY)
        m.d.comb += [
            read.addr.eq(place(pins.commands[read_phase])),
            read.en.eq(pins.read),
            words.w_en.eq(has_read),
            words.w_data.eq(read.data),
            pins.valid.eq(late[-1]),
            pins.dq_i.eq(self._sampled(m, words.r_data)),
            words.r_en.eq(late[-1]),
        ]
        m.d.sync += [has_read.eq(pins.read), late.eq(Cat(pins.read, late))]
        where = [Signal(len(read.addr), name=f"where_{stage}", reset_less=True) for stage in range(WRITE_DELAY)]
        writes = Signal(WRITE_DELAY)
        m.d.sync += [writes.eq(Cat(pins.write, writes)), Cat(where).eq(Cat(place(opens), where))]
        m.d.comb += [write.addr.eq(where[-1]), write.data.eq(pins.dq_o), write.en.eq(Mux(writes[-1], ~pins.mask, 0))]
