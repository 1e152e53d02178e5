"""Words of memories from the bytes of a command."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.layouts import load_bus_layout
from egret.rtl.protocol import Status

__all__ = ["Loader"]


class Loader(wiring.Component):
    """Joins the bytes of LOAD and EVENTS to words, and writes these one after another.

    Takes one byte a cycle. A word is written in the cycle after its last byte.

    Parameters
    ----------
    sections : Mapping[int, tuple[int, int]]
        Bytes of a word and number of words of each memory.

    Members
    -------
    start : In(1)
        High for one cycle before the first byte of a command.
    section : In(8), index : In(24)
        What the load header says: the memory, and the first word. ``section`` must hold still until the end.
    bytes : In(stream.Signature(8, always_ready=True))
        The words, each with its least significant byte first.
    load : Out(load_bus_layout(word_bytes)), load_valid : Out(1)
        Writes a word.
    status : Out(8)
        What the command is answered, in the cycle after its last byte.
    """

    start: Signal
    section: Signal
    index: Signal
    bytes: stream.Interface
    load: Any
    load_valid: Signal
    status: Signal

    def __init__(self, sections: Mapping[int, tuple[int, int]]) -> None:
        self._sections = dict(sections)
        self._word_bytes = max(word_bytes for word_bytes, _ in sections.values())
        super().__init__(
            {
                "start": In(1),
                "section": In(8),
                "index": In(24),
                "bytes": In(stream.Signature(8, always_ready=True)),
                "load": Out(load_bus_layout(self._word_bytes)),
                "load_valid": Out(1),
                "status": Out(8),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word, index = Signal(8 * self._word_bytes), Signal(25)
        place, last = Signal(range(self._word_bytes)), Signal(range(self._word_bytes))
        known, depth, overrun, done = Signal(), Signal(25), Signal(), Signal()
        with m.Switch(self.section):
            for section, (word_bytes, words) in self._sections.items():
                with m.Case(section):
                    m.d.comb += [known.eq(1), last.eq(word_bytes - 1), depth.eq(words)]
        m.d.comb += [
            self.load.section.eq(self.section),
            self.load.index.eq(index - 1),
            self.load.data.eq(word),
            self.load_valid.eq(done),
        ]
        m.d.sync += done.eq(0)
        with m.If(self.start):
            m.d.sync += [index.eq(self.index), place.eq(0), overrun.eq(0)]
        with m.If(self.bytes.valid & known):
            m.d.sync += word.word_select(place, 8).eq(self.bytes.payload)
            with m.If(place == last):
                m.d.sync += place.eq(0)
                with m.If(index < depth):
                    m.d.sync += [index.eq(index + 1), done.eq(1)]
                with m.Else():
                    m.d.sync += overrun.eq(1)
            with m.Else():
                m.d.sync += place.eq(place + 1)
        with m.If(~known):
            m.d.comb += self.status.eq(Status.BAD_SECTION)
        with m.Elif(overrun):
            m.d.comb += self.status.eq(Status.BAD_INDEX)
        with m.Elif(place != 0):
            m.d.comb += self.status.eq(Status.BAD_LENGTH)
        return m
