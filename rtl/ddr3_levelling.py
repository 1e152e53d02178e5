"""Read levelling of a DDR3: when the PHY samples what comes from the memory, found for each byte by trying."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams.
# pyright: reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import DDR3_RATIO
from egret.rtl.ddr3 import BURST_BITS, BYTES, WORD_ADDRESS_BITS, Ddr3, dfi_pins
from egret.rtl.ddr3_timing import Ddr3Timing
from egret.rtl.sdram import WORD_BITS, beat_layout, burst_layout, write_layout

__all__ = ["DELAYS", "PATTERN", "SLIPS", "LevelledDdr3"]

DELAYS, SLIPS = 8, 4
"""Delays of a byte, and bits by which what was sampled can be shifted."""
PATTERN = tuple(0x9E37 * (2 * place + 1) % (1 << WORD_BITS) for place in range(2 * BURST_BITS // WORD_BITS))
"""What is written to the first words of the memory and read again. No byte is the same again when it is shifted."""
SETTLES = 32
"""Cycles from another delay to the first read, or to that of another byte."""


class LevelledDdr3(wiring.Component):
    """A `Ddr3` that finds the PHY's delays before it is ready.

    It writes `PATTERN` and reads it with every delay and shift. Of each byte it takes the shift with the longest row of
    delays at which all is right, and the middle one of these. What was in the first words of the memory is lost.

    Parameters
    ----------
    timing : Ddr3Timing
        Of the memory.

    Members
    -------
    i, o, write, busy, sdram
        As those of `Ddr3`; nothing is taken before it is ready.
    ready : Out(1)
        The memory has been started, and delays have been found or not.
    faulty : Out(WORD_BITS)
        From then on: data lines that are faulty. Those of a byte that were wrong with each delay and shift; where all
        were right with one or another, those that are wrong with what was taken.
    """

    i: stream.Interface
    o: stream.Interface
    write: stream.Interface
    ready: Signal
    faulty: Signal
    busy: Signal
    sdram: Any

    def __init__(self, timing: Ddr3Timing) -> None:
        self._timing = timing
        super().__init__(
            {
                "i": In(stream.Signature(burst_layout())),
                "o": Out(stream.Signature(beat_layout(DDR3_RATIO), always_ready=True)),
                "write": In(stream.Signature(write_layout(WORD_ADDRESS_BITS))),
                "ready": Out(1),
                "faulty": Out(WORD_BITS),
                "busy": Out(1),
                "sdram": Out(dfi_pins()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Ddr3(self._timing)
        for name, member in dfi_pins().members.items():
            own, its = getattr(self.sdram, name), getattr(memory.sdram, name)
            if name == "levels":
                continue
            for ours, theirs in zip(own, its, strict=True) if member.dimensions else [(own, its)]:
                m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        m.d.comb += [
            self.busy.eq(memory.busy | ~self.ready),
            self.o.valid.eq(memory.o.valid & self.ready),
            self.o.payload.eq(memory.o.payload),
            memory.i.payload.eq(self.i.payload),
            memory.write.payload.eq(self.write.payload),
        ]
        with m.If(self.ready):
            m.d.comb += [
                memory.i.valid.eq(self.i.valid),
                memory.write.valid.eq(self.write.valid),
                self.i.ready.eq(memory.i.ready),
                self.write.ready.eq(memory.write.ready),
            ]
        self._level(m, memory)
        return m

    def _level(self, m: Module, memory: Ddr3) -> None:
        levels = self.sdram.levels
        delay, slip = Signal(range(DELAYS)), Signal(range(SLIPS))
        # Of each byte: delays in a row that are good, the longest such row, and its middle.
        run = [Signal(range(DELAYS + 1), name=f"run_{byte}") for byte in range(BYTES)]
        longest = [Signal(range(DELAYS + 1), name=f"longest_{byte}") for byte in range(BYTES)]
        best_delay = [Signal(range(DELAYS), name=f"best_delay_{byte}") for byte in range(BYTES)]
        best_slip = [Signal(range(SLIPS), name=f"best_slip_{byte}") for byte in range(BYTES)]
        final, place, wait = Signal(), Signal(range(len(PATTERN))), Signal(range(SETTLES))
        # Lines that were wrong now, and each time.
        wrong, never = Signal(WORD_BITS), Signal(WORD_BITS, init=(1 << WORD_BITS) - 1)
        turn = Signal(range(BYTES + 1))  # the byte whose delay is being set

        beats = len(PATTERN) // DDR3_RATIO
        wanted = Array(
            sum(word << WORD_BITS * at for at, word in enumerate(PATTERN[beat * DDR3_RATIO :][:DDR3_RATIO]))
            for beat in range(beats)
        )
        beat = Signal(range(beats))
        unlike, lines = Signal(DDR3_RATIO * WORD_BITS), Signal(WORD_BITS)
        m.d.comb += unlike.eq(memory.o.p.words ^ wanted[beat])
        words = [unlike.word_select(word, WORD_BITS) for word in range(DDR3_RATIO)]
        for line in range(WORD_BITS):
            m.d.comb += lines[line].eq(Cat(word[line] for word in words).any())

        with m.FSM(name="levelling"):
            with m.State("WRITE"):
                m.d.comb += [
                    memory.write.valid.eq(memory.ready),
                    memory.write.p.address.eq(place),
                    memory.write.p.word.eq(Array(PATTERN)[place]),
                ]
                with m.If(memory.ready & memory.write.ready):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == len(PATTERN) - 1):
                        m.d.comb += [levels.select.eq(~0), levels.restart.eq(1)]
                        m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == SETTLES - 1):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += [
                    memory.i.valid.eq(1),
                    memory.i.p.address.eq(0),
                    memory.i.p.count.eq(beats),
                ]
                with m.If(memory.i.ready):
                    m.d.sync += [beat.eq(0), wrong.eq(0)]
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                with m.If(memory.o.valid):
                    m.d.sync += [
                        beat.eq(beat + 1),
                        wrong.eq(wrong | lines),
                    ]
                    with m.If(beat == beats - 1):
                        m.next = "JUDGE"
            with m.State("JUDGE"):
                for byte in range(BYTES):
                    with m.If(wrong.word_select(byte, 8).any()):
                        m.d.sync += run[byte].eq(0)
                    with m.Else():
                        m.d.sync += run[byte].eq(run[byte] + 1)
                        with m.If(run[byte] >= longest[byte]):
                            m.d.sync += [
                                longest[byte].eq(run[byte] + 1),
                                best_delay[byte].eq(delay - (run[byte] >> 1)),
                                best_slip[byte].eq(slip),
                            ]
                m.d.sync += never.eq(never & wrong)
                with m.If(final):
                    for byte in range(BYTES):
                        always, now = never.word_select(byte, 8), wrong.word_select(byte, 8)
                        m.d.sync += self.faulty.word_select(byte, 8).eq(Mux(always.any(), always & now, now))
                    m.d.sync += self.ready.eq(1)
                    m.next = "READY"
                with m.Else():
                    m.next = "LATER"
            with m.State("LATER"):
                # Behind the last delay comes the first one, and likewise behind the last shift.
                last = delay == DELAYS - 1
                m.d.comb += [levels.select.eq(~0), levels.later.eq(1), levels.slip.eq(last)]
                m.d.sync += [delay.eq(delay + 1), slip.eq(slip + last)]
                m.next = "WAIT"
                with m.If(last):
                    m.d.sync += [one.eq(0) for one in run]
                    with m.If(slip == SLIPS - 1):
                        m.next = "SET"
            with m.State("SET"):
                for byte in range(BYTES):
                    with m.If(turn == byte):
                        m.d.comb += [
                            levels.select.eq(1 << byte),
                            levels.later.eq(delay != best_delay[byte]),
                            levels.slip.eq(slip != best_slip[byte]),
                        ]
                        m.d.sync += [delay.eq(delay + levels.later), slip.eq(slip + levels.slip)]
                        with m.If(~levels.later & ~levels.slip):
                            m.d.sync += [turn.eq(turn + 1), delay.eq(0), slip.eq(0)]
                            m.next = "REST"
            with m.State("REST"):
                m.d.sync += [wait.eq(wait + 1), final.eq(turn == BYTES)]
                with m.If(wait == SETTLES - 1):
                    m.next = "SET"
                    with m.If(final):
                        m.next = "ASK"
            with m.State("READY"):
                pass
