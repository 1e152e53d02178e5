"""Dice: random numbers below a total."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from egret.model.readout import DRAWN_BITS

__all__ = ["Dice"]


class Dice(wiring.Component):
    """Draws numbers as `egret.model.readout.Sampler.draw` does, from a xorshift generator of 64 bits.

    It takes four cycles, and two more whenever a number was not below the total, less than half of the times.

    Members
    -------
    load : In(1), state : In(64)
        Sets the generator's state while ``load`` is high; only while not at work.
    start : In(1), total : In(DRAWN_BITS)
        While ``start`` is high, begins to draw a number below ``total``, at least 1, which must hold still until
        ``done``; only while not at work.
    done : Out(1), number : Out(DRAWN_BITS)
        ``done`` is high for one cycle at the end; from the next one on ``number`` is what was drawn, until the next
        start.
    """

    load: Signal
    state: Signal
    start: Signal
    total: Signal
    done: Signal
    number: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "state": In(64),
                "start": In(1),
                "total": In(DRAWN_BITS),
                "done": Out(1),
                "number": Out(DRAWN_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        less, mask = Signal(DRAWN_BITS, reset_less=True), Signal(DRAWN_BITS, reset_less=True)
        now, once, again = (Signal(64, name=name) for name in ("now", "once", "again"))
        found = Signal(DRAWN_BITS)
        m.d.comb += [
            once.eq(now ^ (now << 13)[:64]),
            again.eq(once ^ (once >> 7)),
            found.eq(now[-DRAWN_BITS:] & mask),
        ]
        with m.If(self.load):
            m.d.sync += now.eq(self.state)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += less.eq(self.total - 1)
                with m.If(self.start):
                    m.next = "MASK"
            with m.State("MASK"):
                m.d.sync += mask.eq(Cat(less[bit:].any() for bit in range(DRAWN_BITS)))
                m.next = "TRY"
            with m.State("TRY"):
                m.d.sync += now.eq(again ^ (again << 17)[:64])
                m.next = "TRIED"
            with m.State("TRIED"):
                m.d.sync += self.number.eq(found)
                m.next = "TRY"
                with m.If(found < self.total):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m
