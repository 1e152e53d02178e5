"""Walk: scores in a memory, and what is made of all of some, one after another."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from enum import IntEnum
from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.readout import (
    BETA_ONE,
    DRAWN_BITS,
    INDEX_BITS,
    INDEX_FRACTION,
    MOST_BETA,
    POWER_FRACTION,
    SCORE_BITS,
    SCORE_FRACTION,
    exponential_table,
)
from egret.rtl.readout.scan import SCORE, score_layout

__all__ = ["Walk", "Walking"]


class Walking(IntEnum):
    """What is made of scores on the way."""

    LARGEST = 0
    """The largest of them."""
    SUM = 1
    """The sum of their powers."""
    PICK = 2
    """The first place up to which the powers add up to more than a number."""


class Walk(wiring.Component):
    """Holds the scores of a matrix, and walks over some of them, one a cycle.

    Parameters
    ----------
    most : int
        Scores that it holds.

    Members
    -------
    i : In(stream.Signature(score_layout(most), always_ready=True))
        Scores; only while not ``busy``. The largest one is found on the way, from place 0 on.
    start : In(1), kind : In(Walking), beta : In(range(MOST_BETA + 1))
    begin : In(range(most + 1)), end : In(range(most + 1))
        While ``start`` is high, begins a walk from ``begin`` up to but without ``end``; only while not ``busy``.
        ``beta`` must hold still until it is over. Powers are those of the distance to ``largest``.
    number : In(DRAWN_BITS)
        For PICK; it must hold still. It is below the sum of the powers.
    largest : Out(SCORE), total : Out(DRAWN_BITS), picked : Out(range(most))
        What the last LARGEST (or the writing), SUM and PICK made.
    busy : Out(1)
        A walk is not over.
    place : In(range(most)), score : Out(SCORE)
        A score, two cycles later; only while not ``busy``.
    """

    i: stream.Interface
    start: Signal
    kind: Signal
    begin: Signal
    end: Signal
    beta: Signal
    number: Signal
    largest: Signal
    total: Signal
    picked: Signal
    busy: Signal
    place: Signal
    score: Signal

    def __init__(self, most: int) -> None:
        self._most = most
        super().__init__(
            {
                "i": In(stream.Signature(score_layout(most), always_ready=True)),
                "start": In(1),
                "kind": In(Walking),
                "begin": In(range(most + 1)),
                "end": In(range(most + 1)),
                "beta": In(range(MOST_BETA + 1)),
                "number": In(DRAWN_BITS),
                "largest": Out(SCORE),
                "total": Out(DRAWN_BITS),
                "picked": Out(range(most)),
                "busy": Out(1),
                "place": In(range(most)),
                "score": Out(SCORE),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # SCORE (memory), HOLD, DISTANCE, SCALE, INDEX, POWER (memory), HOLD, SUM, PICK: a register behind each memory.
        m = Module()
        m.submodules.scores = scores = memory.Memory(shape=SCORE, depth=max(self._most, 2), init=[])
        write, read = scores.write_port(), scores.read_port()
        m.submodules.powers = powers = memory.Memory(
            shape=POWER_FRACTION + 1, depth=1 << INDEX_BITS, init=exponential_table()
        )
        power = powers.read_port()
        at, end = Signal.like(self.begin), Signal.like(self.end)
        kind = Signal(Walking)
        score, held = Signal(SCORE, reset_less=True), Signal(POWER_FRACTION + 1, reset_less=True)
        new, writing = Signal(self.i.p.shape(), reset_less=True), Signal()
        distance = Signal(SCORE_BITS, reset_less=True)
        scaled = Signal(SCORE_BITS + MOST_BETA.bit_length(), reset_less=True)
        rounded = Signal(len(scaled) - BETA_ONE.bit_length() + 2)
        index = Signal(INDEX_BITS, reset_less=True)
        farthest = (1 << INDEX_BITS) - 1
        valids = Signal(8)
        place, found, larger = Signal.like(self.picked), Signal(), Signal()
        lowest = -(1 << (SCORE_BITS - 1))
        m.d.comb += [
            write.addr.eq(new.place),
            write.data.eq(new.score),
            write.en.eq(writing),
            read.addr.eq(Mux(self.busy, at, self.place)),
            self.score.eq(score),
            self.busy.eq((at != end) | valids.any()),
            rounded.eq((scaled >> (BETA_ONE.bit_length() - 1)) + (1 << (SCORE_FRACTION - INDEX_FRACTION - 1))),
            power.addr.eq(index),
            larger.eq(Mux(writing, new.score, score) > self.largest),
        ]
        m.d.sync += [
            valids.eq(Cat(at != end, valids)),
            Cat(new, writing).eq(Cat(self.i.payload, self.i.valid)),
            score.eq(read.data),
            held.eq(power.data),
            distance.eq(self.largest - score),
            scaled.eq(distance * self.beta),
            index.eq(Mux((rounded >> (SCORE_FRACTION - INDEX_FRACTION)) > farthest, farthest, rounded[4:])),
        ]
        with m.If(at != end):
            m.d.sync += at.eq(at + 1)
        with m.If(writing & ((new.place == 0) | larger)):
            m.d.sync += self.largest.eq(new.score)
        with m.If(valids[1] & (kind == Walking.LARGEST) & larger):
            m.d.sync += self.largest.eq(score)
        with m.If(valids[6]):
            m.d.sync += self.total.eq(self.total + held)
        with m.If(valids[7]):
            m.d.sync += place.eq(place + 1)
            with m.If((kind == Walking.PICK) & ~found & (self.total > self.number)):
                m.d.sync += [found.eq(1), self.picked.eq(place)]
        with m.If(self.start):
            m.d.sync += [at.eq(self.begin), end.eq(self.end), kind.eq(self.kind), place.eq(self.begin), found.eq(0)]
            m.d.sync += self.total.eq(0)
            with m.If(self.kind == Walking.LARGEST):
                m.d.sync += self.largest.eq(lowest)
        return m
