"""Best: a sorted list of the largest values."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.readout import LOG_FRACTION, MOST_TOP, SCORE_BITS, SCORE_FRACTION

__all__ = ["LOG", "Best", "item_layout"]

LOG = signed(SCORE_BITS + LOG_FRACTION - SCORE_FRACTION + 4)
"""A logarithm of a sum, a log-probability, or a sum of three of them."""


def item_layout(entry_bits: int) -> data.StructLayout:
    """A value, and the number of what it belongs to, ``entry_bits`` wide."""
    return data.StructLayout({"value": LOG, "entry": entry_bits})


class Best(wiring.Component):
    """Keeps the k largest values of those that come, sorted; of equal ones that of the smallest entry.

    A value that does not belong into the list takes two cycles, another one three more for each place that it moves up
    and six to end.

    Parameters
    ----------
    entry_bits : int
        Width of an entry's number.

    Members
    -------
    start : In(1), most : In(range(MOST_TOP + 1))
        While ``start`` is high, begins a list of at most ``most`` places, which must hold still.
    i : In(stream.Signature(item_layout(entry_bits)))
        Values.
    busy : Out(1)
        A value is being sorted in.
    count : Out(range(MOST_TOP + 1)), last : Out(item_layout(entry_bits))
        Number of places in use, and what is in the last of them; only while not ``busy``.
    place : In(range(MOST_TOP)), item : Out(item_layout(entry_bits))
        What is in a place, two cycles later; only while not ``busy``.
    """

    start: Signal
    most: Signal
    i: stream.Interface
    busy: Signal
    count: Signal
    last: Any
    place: Signal
    item: Any

    def __init__(self, entry_bits: int) -> None:
        self._layout = item_layout(entry_bits)
        super().__init__(
            {
                "start": In(1),
                "most": In(range(MOST_TOP + 1)),
                "i": In(stream.Signature(self._layout)),
                "busy": Out(1),
                "count": Out(range(MOST_TOP + 1)),
                "last": Out(self._layout),
                "place": In(range(MOST_TOP)),
                "item": Out(self._layout),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.list = items = memory.Memory(shape=self._layout, depth=MOST_TOP, init=[])
        write, read = items.write_port(), items.read_port()
        new = Signal(self._layout, reset_less=True)
        slot = Signal(range(MOST_TOP + 1))
        full = Signal()

        def above(other: Any) -> Value:
            return (new.value > other.value) | ((new.value == other.value) & (new.entry < other.entry))

        m.d.comb += [
            full.eq(self.count == self.most),
            write.addr.eq(slot),
            write.data.eq(self.item),
            read.addr.eq(self.place),
        ]
        m.d.sync += self.item.eq(read.data)  # nothing but a register is behind the memory
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += new.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += slot.eq(self.count - full)
                with m.If(~full | above(self.last)):
                    m.next = "ASK"
                with m.Else():
                    m.next = "IDLE"
            with m.State("ASK"):
                m.d.comb += [self.busy.eq(1), read.addr.eq(slot - 1)]
                m.next = "HOLD"
            with m.State("HOLD"):
                m.d.comb += self.busy.eq(1)
                m.next = "MOVE"
            with m.State("MOVE"):
                m.d.comb += self.busy.eq(1)
                with m.If((slot != 0) & above(self.item)):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += slot.eq(slot - 1)
                    m.next = "ASK"
                with m.Else():
                    m.d.comb += [write.en.eq(1), write.data.eq(new)]
                    m.d.sync += self.count.eq(self.count + ~full)
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += [self.busy.eq(1), read.addr.eq(self.count - 1)]
                m.next = "HOLD_LAST"
            with m.State("HOLD_LAST"):
                m.d.comb += self.busy.eq(1)
                m.next = "LAST"
            with m.State("LAST"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += self.last.eq(self.item)
                m.next = "IDLE"
        with m.If(self.start):
            m.d.sync += self.count.eq(0)
        return m
