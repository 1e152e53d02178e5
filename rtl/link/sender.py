"""The way out of the link: replies and refusals become bytes for the host."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from egret.rtl import protocol
from egret.rtl.blocks import BlockMemory

__all__ = ["CONTENT_HEADER_BYTES", "Sender", "place_bits", "reply_byte_layout", "slot_bits"]

CONTENT_HEADER_BYTES = protocol.HEADER.size + 1
"""Bytes of a reply before its payload: header and status."""


def slot_bits(window: int) -> int:
    """Return the width of the number of a slot, of which there are ``window``."""
    return (window - 1).bit_length()


def place_bits(reply_bytes: int) -> int:
    """Return the width of a byte's place in its slot, a power of two of bytes that holds ``reply_bytes``."""
    return (reply_bytes - 1).bit_length()


def reply_byte_layout(window: int, reply_bytes: int) -> data.StructLayout:
    """Byte of a reply and where it belongs: header and status at the end of a slot, the payload from its start.

    There are ``window`` slots for replies of at most ``reply_bytes``.
    """
    return data.StructLayout({"place": place_bits(reply_bytes), "slot": slot_bits(window), "byte": 8})


class Sender(wiring.Component):
    """Keeps the latest replies, each in a slot, and sends them and refusals as frames.

    Sends one byte every three cycles. The bytes of a slot are written while it is not pending, so a reply never changes
    while it is sent. A slot that is announced again while it is sent is sent once. Refusals come first; of those that
    come while one waits, only the last one is sent. The Python counterpart is `egret.rtl.link.frames.encode_frame`.

    Parameters
    ----------
    window : int
        Number of slots: a power of two.
    reply_bytes : int
        Bytes of the longest reply: header, status and payload, without CRC.

    Members
    -------
    content : In(stream.Signature(reply_byte_layout(window, reply_bytes), always_ready=True))
        Bytes of replies, in any order. The last one may come together with the announcement, or a cycle later.
    replies : In(stream.Signature(slot_bits(window), always_ready=True))
        Announces the slot whose reply is to be sent, for the first time or again.
    pending : Out(window)
        High for each slot whose reply waits or is being sent.
    refusals : In(stream.Signature(8, always_ready=True))
        Statuses of frames that are refused.
    expected : In(16)
        The sequence number that refusals carry, taken when they are sent.
    o : Out(stream.Signature(8))
        Bytes for the host.
    busy : Out(1)
        Something waits or is being sent.
    """

    content: stream.Interface
    replies: stream.Interface
    pending: Signal
    refusals: stream.Interface
    expected: Signal
    o: stream.Interface
    busy: Signal

    def __init__(self, *, window: int, reply_bytes: int) -> None:
        self._window = window
        self._place_bits = place_bits(reply_bytes)
        super().__init__(
            {
                "content": In(stream.Signature(reply_byte_layout(window, reply_bytes), always_ready=True)),
                "replies": In(stream.Signature(slot_bits(window), always_ready=True)),
                "pending": Out(window),
                "refusals": In(stream.Signature(8, always_ready=True)),
                "expected": In(16),
                "o": Out(stream.Signature(8)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = BlockMemory(8, self._window << self._place_bits)
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()

        pending, sending = Signal(self._window), Signal()
        with m.If(self.replies.valid):
            m.d.sync += pending.bit_select(self.replies.payload, 1).eq(1)

        refusal_pending, refusal_status = Signal(), Signal(8)
        refusing, refusal_content = Signal(), Signal(8 * CONTENT_HEADER_BYTES)
        slot = Signal(slot_bits(self._window))
        index, last = Signal(self._place_bits), Signal(self._place_bits)
        byte, stuffed, ahead, of_crc = Signal(8), Signal(), Signal(), Signal()
        needs_escape = (byte == protocol.FLAG) | (byte == protocol.ESCAPE)
        written = self.content.payload
        m.d.comb += [
            memory.write_valid.eq(self.content.valid),
            memory.write_address.eq(Cat(written.place, written.slot)),
            memory.write_data.eq(written.byte),
            memory.address.eq(Cat((index + ahead)[: self._place_bits], slot)),
            crc.data.eq(byte),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [index.eq(-CONTENT_HEADER_BYTES), last.eq(0), refusing.eq(0)]
                with m.If(refusal_pending):
                    m.d.sync += [
                        refusal_pending.eq(0),
                        refusing.eq(1),
                        refusal_content.eq(Cat(self.expected, Const(protocol.NAK, 8), Const(1, 16), refusal_status)),
                    ]
                    m.next = "OPEN"
                with m.Elif(pending.bit_select(slot, 1)):
                    m.next = "OPEN"
                with m.Elif(pending.any()):
                    m.d.sync += slot.eq(slot + 1)
            with m.State("OPEN"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(protocol.FLAG), sending.eq(1)]
                with m.If(self.o.ready):
                    m.next = "READ"
            # The memory is slow: while a byte is sent the next one is read, and then gets cycles of its own.
            with m.State("READ"):
                m.d.comb += sending.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += sending.eq(1)
                content = Mux(refusing, refusal_content[:8], memory.data)
                m.d.sync += byte.eq(Mux(of_crc, crc.crc.word_select(index[:2], 8), content))
                m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.comb += [self.o.valid.eq(1), sending.eq(1), ahead.eq(1)]
                with m.If(needs_escape & ~stuffed):
                    m.d.comb += self.o.payload.eq(protocol.ESCAPE)
                    with m.If(self.o.ready):
                        m.d.sync += stuffed.eq(1)
                with m.Else():
                    m.d.comb += self.o.payload.eq(Mux(stuffed, byte ^ protocol.ESCAPE_XOR, byte))
                    with m.If(self.o.ready):
                        m.d.comb += crc.valid.eq(~of_crc)
                        m.next = "READ"
                        m.d.sync += [
                            stuffed.eq(0),
                            index.eq(index + 1),
                            refusal_content.eq(refusal_content[8:]),
                        ]
                        with m.If(~of_crc):
                            # The content says itself how long it is: status and payload.
                            with m.If(index == (1 << self._place_bits) - 3):
                                m.d.sync += last[:8].eq(byte)
                            with m.Elif(index == (1 << self._place_bits) - 2):
                                m.d.sync += last.eq(Cat(last[:8], byte) - 2)
                            with m.Elif(index == last):
                                m.d.sync += [of_crc.eq(1), index.eq(0)]
                        with m.Elif(index == protocol.CRC_BYTES - 1):
                            m.d.sync += of_crc.eq(0)
                            m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(protocol.FLAG), sending.eq(1)]
                with m.If(self.o.ready):
                    with m.If(~refusing):
                        m.d.sync += pending.bit_select(slot, 1).eq(0)
                    m.next = "IDLE"

        # Behind the machine: a refusal that arrives as the last one is taken is not lost.
        with m.If(self.refusals.valid):
            m.d.sync += [refusal_pending.eq(1), refusal_status.eq(self.refusals.payload)]
        m.d.comb += [self.pending.eq(pending), self.busy.eq(pending.any() | refusal_pending | sending)]
        return m
