"""USB: how long a token is good, and the bytes between the board and the endpoints."""

from types import SimpleNamespace
from unittest.mock import patch

from amaranth.hdl import *

from egret.rtl import usb
from egret.rtl.usb import UsbSerial
from tests.formal.proof import Inside, proof

WITHIN = 7
"""Cycles within which the packet behind a token begins: fewer than there are."""


class Device(Elaboratable):
    """What stands in the place of LUNA's device: nothing, so its endpoints take and bring bytes whenever they like."""

    def __init__(self, **_):
        self.connect, self.reset_detected = Signal(), Signal()

    def add_endpoint(self, endpoint):
        pass

    def elaborate(self, platform):
        return Module()


def clocked(b):
    """Give the domain of USB the one clock that there is."""
    b.m.domains.usb = clock = ClockDomain(reset_less=True)
    b.m.d.comb += clock.clk.eq(ClockSignal("sync"))


@proof(usb._Token, induction=1, cover=16)
def token(b):
    """A token is good from when it is heard to the second packet behind it, if the first one begins in time."""
    clocked(b)
    active, sends, hears = b.free(1, "rx_active"), b.free(1, "tx_valid"), b.free(1, "new_token")
    unit = usb._Token(SimpleNamespace(rx_active=active, tx_valid=sends), SimpleNamespace(new_token=hears))
    with patch.object(usb, "_TOKEN", WITHIN):
        b.m.submodules.unit = inside = Inside(unit)
    sync, begins = b.m.d.sync, active & ~b.was(active)
    # Since the last token: packets that have begun, and cycles without sending before the first of them.
    heard, packets, waited = Signal(name="heard"), Signal(2, name="packets"), Signal(range(WITHIN + 1), name="waited")
    with b.m.If(hears):
        sync += [heard.eq(1), packets.eq(0), waited.eq(0)]
    with b.m.Elif(begins):
        sync += packets.eq(Mux(packets == 2, 2, packets + 1))
    with b.m.Elif((packets == 0) & ~sends & (waited != WITHIN)):
        sync += waited.eq(waited + 1)
    good = heard & (packets != 2) & (waited != WITHIN)
    b.claim(unit.spent == (~hears & ~good), packets != 3)
    b.claim(heard | (inside["left"] == 0), ~good | (inside["left"] == WITHIN - waited))
    b.claim(~good | (inside["followed"] == (packets != 0)))
    b.cover(good & (packets == 1) & (waited == WITHIN - 1), unit.spent & heard & (packets == 0))
    b.cover(unit.spent & (packets == 2) & (waited != WITHIN) & active)


@proof(UsbSerial, induction=1, cover=20)
def sent(b):
    """Bytes for the host reach their endpoint in order, each once; the last one of a packet has waited for another."""
    clocked(b)
    with patch.object(usb, "USBDevice", Device):
        b.m.submodules.unit = inside = Inside(UsbSerial(""))
    queue, out = inside["sent"], inside["sender"].stream
    for name in ("phy", "token", "received"):
        inside.empty(name)
    b.cut(inside, "sent", queue.r_rdy, queue.r_data)
    b.ports["taken"] = (out.ready, None)
    # The queue keeps its first byte until it is taken.
    waits = b.was(queue.r_rdy & ~queue.r_en)
    b.assume(~waits | (queue.r_rdy & (queue.r_data == b.was(queue.r_data))))
    put, taken = queue.r_rdy & queue.r_en, out.valid & out.ready
    follows, _, kept = b.follow(put, queue.r_data, taken, out.payload, 1)
    b.claim(b.level == inside["held"], ~follows | (inside["byte"] == kept))
    # One that is offered stays, and is the last one only where no other has come for so long.
    b.claim(~b.was(out.valid & ~out.ready) | out.valid)
    alone = Signal(range(usb._PAUSE + 1), name="alone")
    b.m.d.sync += alone.eq(Mux(queue.r_rdy, 0, Mux(alone == usb._PAUSE, usb._PAUSE, alone + 1)))
    b.claim(~inside["held"] | waits | (inside["left"] == usb._PAUSE - alone))
    b.claim(~(out.valid & out.last) | (~queue.r_rdy & (alone == usb._PAUSE)))
    b.cover(taken & out.last & b.was(out.valid), taken & ~out.last)
