"""Logarithm: of a sum of powers."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from egret.model.readout import DRAWN_BITS, INDEX_BITS, LN_2, LOG_FRACTION, POWER_FRACTION, logarithm_table
from egret.rtl.readout.best import LOG

__all__ = ["Logarithm"]


class Logarithm(wiring.Component):
    """Takes the logarithm of a total of powers, as `egret.model.readout.logarithm` does, and adds it to a number.

    It takes four cycles, and one more for each bit that the total has above its fraction's 24.

    Members
    -------
    start : In(1), total : In(DRAWN_BITS), base : In(LOG)
        While ``start`` is high, begins with ``total``, 2^23 or more, and ``base``; only while not at work.
    done : Out(1), o : Out(LOG)
        ``done`` is high for one cycle at the end; from the next one on ``o`` is ``base`` plus the logarithm, in nats
        with `LOG_FRACTION` bits, until the next end.
    """

    start: Signal
    total: Signal
    base: Signal
    done: Signal
    o: Signal

    def __init__(self) -> None:
        super().__init__({"start": In(1), "total": In(DRAWN_BITS), "base": In(LOG), "done": Out(1), "o": Out(LOG)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.table = table = memory.Memory(shape=LOG_FRACTION, depth=1 << INDEX_BITS, init=logarithm_table())
        read = table.read_port()
        sum_ = Signal(LOG)
        left = Signal(DRAWN_BITS)
        mantissa = Signal(INDEX_BITS + 2)
        fraction = Signal(LOG_FRACTION, reset_less=True)
        m.d.comb += [
            mantissa.eq((left[POWER_FRACTION - INDEX_BITS - 1 :] + 1) >> 1),
            read.addr.eq(mantissa),
        ]
        m.d.sync += fraction.eq(read.data)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [left.eq(self.total), sum_.eq(self.base)]
                with m.If(self.start):
                    m.next = "NORMALISE"
            with m.State("NORMALISE"):
                with m.If((left >> (POWER_FRACTION + 1)) != 0):
                    m.d.sync += [left.eq(left >> 1), sum_.eq(sum_ + LN_2)]
                with m.Else():
                    # Rounded up to the next power of two?
                    m.d.sync += sum_.eq(sum_ + Mux(mantissa[-1], LN_2, 0))
                    m.next = "FRACTION"
            with m.State("FRACTION"):
                m.next = "ADD"
            with m.State("ADD"):
                m.d.comb += self.done.eq(1)
                m.d.sync += self.o.eq(sum_ + fraction)
                m.next = "IDLE"
        return m
