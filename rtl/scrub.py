"""Scrubbing: while nothing else is to be done, the memory outside is read again and compared with the image's CRCs."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import BLOCK_WORDS, Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.layouts import load_layout
from egret.rtl.sdram import TAGS, beat_layout, burst_layout

__all__ = ["BURST", "PACE", "Scrub"]

PACE = 1024
"""Idle cycles before each burst, so that the memory rests most of the time."""
BURST = 64
"""Beats of a burst: a token that comes meanwhile waits no longer than for these."""


class Scrub(wiring.Component):
    """Reads block after block of an SDRAM or a DDR3 and compares the CRC-32 of each with the one that was loaded.

    It begins with the first block when a sequence begins behind a load, goes through all blocks again and again, and
    waits where it is while ``idle`` is low.

    Parameters
    ----------
    configuration : Configuration
        Of a core with the store ``sdram``.
    block_words : int
        Words of 16 bits in a block, a power of two.
    pace : int
        Idle cycles before each burst.
    burst_beats : int
        Most beats of a burst, a power of two.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``checks``, while ``load_valid`` is high. A word of what is outside, too, ends
        scrubbing.
    clear : In(1)
        A sequence begins: what was loaded is whole.
    idle : In(1)
        The memory outside is ready, and nobody else asks it for anything.
    burst : Out(stream.Signature(burst_layout()))
        Asks for beats.
    beat : In(stream.Signature(beat_layout(c.memory_ratio), always_ready=True))
        The beats that come, of all bursts; only those with a tag of its own are taken.
    scrubbed, damaged : Out(1)
        High for one cycle for each block that has been compared, and for each of these that was not as it should be.
    damaged_block : Out(range(blocks + 1))
        The first block since the last load that was not, its number plus one; 0 where there was none.
    """

    load: Any
    load_valid: Signal
    clear: Signal
    idle: Signal
    burst: stream.Interface
    beat: stream.Interface
    scrubbed: Signal
    damaged: Signal
    damaged_block: Signal

    def __init__(
        self,
        configuration: Configuration,
        *,
        block_words: int = BLOCK_WORDS,
        pace: int = PACE,
        burst_beats: int = BURST,
    ) -> None:
        self._c, self._pace = configuration, pace
        c = configuration
        self._beats, self._block_beats = c.sdram_words // c.memory_ratio, block_words // c.memory_ratio
        self._blocks = -(-self._beats // self._block_beats)
        self._burst = min(burst_beats, self._block_beats)
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "clear": In(1),
                "idle": In(1),
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(beat_layout(c.memory_ratio), always_ready=True)),
                "scrubbed": Out(1),
                "damaged": Out(1),
                "damaged_block": Out(range(self._blocks + 1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        c, beats, blocks = self._c, self._beats, self._blocks
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(c.beat_bits).create()
        m.submodules.checks = checks = memory.Memory(shape=32, depth=max(blocks, 2), init=[])
        write, read = checks.write_port(), checks.read_port()
        sections = memory_sections(c)
        loads_checks = self.load_valid & (self.load.section == sections["checks"].number)
        outer = [sections[name].number for name in c.sdram_sizes if name in sections]
        touched = loads_checks | self.load_valid & self.load.section.matches(*outer)
        m.d.comb += [write.addr.eq(self.load.index), write.data.eq(self.load.data), write.en.eq(loads_checks)]

        known, holds, anew = Signal(), Signal(), Signal()
        address, block = Signal(range(max(beats, 2))), Signal(range(max(blocks, 2)))
        burst = self._burst
        last = (beats - 1) // burst * burst
        waited, left = Signal(range(self._pace)), Signal(range(burst + 1))
        mine, ended, differs = Signal(), Signal(), Signal()
        m.d.comb += [
            read.addr.eq(block),
            self.burst.p.address.eq(address),
            self.burst.p.count.eq(Mux(address == last, beats - last, burst)),
            self.burst.p.tag.eq(TAGS.index("scrub")),
            mine.eq(self.beat.valid & (self.beat.p.tag == TAGS.index("scrub"))),
            ended.eq((address % self._block_beats == self._block_beats - 1) | (address == beats - 1)),
        ]
        m.d.sync += [crc.valid.eq(mine), crc.data.eq(self.beat.p.words)]
        with m.FSM():
            with m.State("WAIT"):
                # Not with the last beat of a burst: it would become the first one of the new CRC.
                with m.If(anew & ~crc.valid):
                    m.d.comb += crc.start.eq(1)
                    m.d.sync += [anew.eq(0), address.eq(0), block.eq(0), waited.eq(0), self.damaged_block.eq(0)]
                with m.Elif(anew | ~self.idle | ~holds):
                    m.d.sync += waited.eq(0)
                with m.Else():
                    m.d.sync += waited.eq(waited + 1)
                    with m.If(waited == self._pace - 1):
                        m.d.sync += waited.eq(0)
                        m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.burst.valid.eq(1)
                m.d.sync += left.eq(self.burst.p.count)
                with m.If(self.burst.ready):
                    m.next = "READ"
            with m.State("READ"), m.If(mine):
                m.d.sync += [left.eq(left - 1), address.eq(Mux(address == beats - 1, 0, address + 1))]
                with m.If(left == 1):
                    m.next = "WAIT"
                    with m.If(ended):
                        m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += differs.eq(crc.crc != read.data)
                m.next = "JUDGE"
            with m.State("JUDGE"):
                # What was loaded meanwhile counts from the first block on.
                m.d.comb += [self.scrubbed.eq(~anew), self.damaged.eq(~anew & differs), crc.start.eq(1)]
                m.d.sync += block.eq(Mux(block == blocks - 1, 0, block + 1))
                with m.If(self.damaged & (self.damaged_block == 0)):
                    m.d.sync += self.damaged_block.eq(block + 1)
                m.next = "WAIT"
        with m.If(touched):
            m.d.sync += [holds.eq(0), anew.eq(1), known.eq(known | loads_checks)]
        with m.Elif(self.clear):
            m.d.sync += holds.eq(known)
        return m
