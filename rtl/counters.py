"""Performance counters: narrow ones that count, and one adder that collects them in a memory."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COUNTER_BYTES", "Counters"]

COUNTER_BYTES = 8
"""Of a counter, as it is read."""
COUNTED_BYTES = 5
"""Of these, the ones that are not always zero."""


class Counters(wiring.Component):
    """Counts events of many kinds, each several times a cycle.

    Each kind has a counter so wide that it does not overflow before it is collected: one after another is added, a
    byte a cycle, to a word of a memory. So a total is right only when all have been collected, which takes a round
    after the last event. A reset does not clear the totals; their first content is zero.

    Parameters
    ----------
    most : Mapping[str, int]
        How often each kind can happen in a cycle.

    Members
    -------
    amounts : In(data.StructLayout({name: range(count + 1)}))
        How often each kind happens in this cycle.
    active : In(1)
        Something may be counted.
    settled : Out(1)
        Nothing has been counted for a round: totals are right from the next cycle on, and can be read.
    byte : In(range(COUNTER_BYTES * kinds)), read : Out(8)
        A byte of a total, in the next cycle; little-endian, `COUNTER_BYTES` each, in the order of ``most``.
    """

    amounts: Any
    active: Signal
    settled: Signal
    byte: Signal
    read: Signal

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most = dict(most)
        self._round = COUNTED_BYTES * len(self._most)
        super().__init__(
            {
                "amounts": In(data.StructLayout({name: range(count + 1) for name, count in self._most.items()})),
                "active": In(1),
                "settled": Out(1),
                "byte": In(range(COUNTER_BYTES * len(self._most))),
                "read": Out(8),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # ADDRESS (a total's lowest byte takes its counter along), SUM (written in the same cycle).
        m = Module()
        kinds = len(self._most)
        m.submodules.totals = totals = memory.Memory(shape=8, depth=COUNTER_BYTES * kinds, init=[])
        write, read = totals.write_port(), totals.read_port()
        kind, place = Signal(range(kinds)), Signal(range(COUNTED_BYTES))
        first, ended, quiet = Signal(), Signal(), Signal()
        counters = []
        for number, (name, count) in enumerate(self._most.items()):
            counter = Signal(range(count * (self._round + 2)), name=f"count_{name}")
            taken = Signal(name=f"take_{name}")
            m.d.comb += taken.eq(first & (kind == number))
            m.d.sync += counter.eq(Mux(taken, 0, counter) + self.amounts[name])
            counters.append(counter)
        width = max(map(len, counters))
        left = Signal(width)
        summed, target = Signal(), Signal.like(write.addr)
        carry = Signal()
        total = Signal(9)
        m.d.comb += [
            first.eq(~self.settled & (place == 0)),
            ended.eq((place == COUNTED_BYTES - 1) & (kind == kinds - 1)),
            read.addr.eq(Mux(self.settled, self.byte, Cat(place, kind))),
            self.read.eq(read.data),
            total.eq(read.data + left[:8] + carry),
            write.addr.eq(target),
            write.data.eq(total),
            write.en.eq(summed),
        ]
        m.d.sync += [summed.eq(~self.settled), target.eq(read.addr), left.eq(left[8:]), carry.eq(total[8])]
        with m.If(first):
            m.d.sync += [left.eq(Array(counters)[kind]), carry.eq(0)]
        with m.If(~self.settled):
            m.d.sync += place.eq(place + 1)
            with m.If(place == COUNTED_BYTES - 1):
                m.d.sync += [place.eq(0), kind.eq(kind + 1)]
            with m.If(ended):
                m.d.sync += [kind.eq(0), quiet.eq(1), self.settled.eq(quiet)]
        with m.If(self.active):
            m.d.sync += [quiet.eq(0), self.settled.eq(0)]
        return m
