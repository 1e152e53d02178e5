"""The way in of the link: bytes from the host become frames."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from egret.rtl import protocol

__all__ = ["Receiver", "frame_layout", "payload_depth"]

ARGUMENT_BYTES = 8
"""Bytes of a payload that are at hand without a memory: what every command but LOAD and EVENTS takes."""


def payload_depth(max_payload: int) -> int:
    """Bytes of the payload memory: the longest payload, ``max_payload``, and its CRC."""
    return max_payload + protocol.CRC_BYTES


def frame_layout() -> data.StructLayout:
    """A frame's header and the first bytes of its payload, in the order in which they come.

    Bits of ``argument`` beyond the payload are of no meaning.
    """
    return data.StructLayout({"sequence": 16, "command": 8, "length": 16, "argument": 8 * ARGUMENT_BYTES})


class Receiver(wiring.Component):
    """Undoes the framing of what the host sends, and offers the frames that are whole.

    Takes one byte a cycle, except while a frame is offered: the bytes behind it then wait in a queue. Through an empty
    queue, a frame is offered three cycles after its last flag was taken; four, if the queue is of block RAM. The Python
    counterpart is `egret.rtl.link.frames.FrameReader`.

    Parameters
    ----------
    receive_bytes : int
        Bytes that the queue holds.
    max_payload : int
        Bytes of the longest payload.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes from the host.
    frames : Out(stream.Signature(frame_layout()))
        Frames whose length, escapes and CRC are right.
    payload_address : In(range(payload_depth(max_payload)))
        A byte of the payload of the frame that is offered.
    payload_byte : Out(8)
        That byte, in the next cycle.
    bad : Out(1)
        High for one cycle for each frame that is dropped.
    busy : Out(1)
        Bytes wait in the queue, or a frame is offered.
    """

    i: stream.Interface
    frames: stream.Interface
    payload_address: Signal
    payload_byte: Signal
    bad: Signal
    busy: Signal

    def __init__(self, *, receive_bytes: int, max_payload: int = protocol.MAX_PAYLOAD) -> None:
        self._receive_bytes, self._max_payload = receive_bytes, max_payload
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "frames": Out(stream.Signature(frame_layout())),
                "payload_address": In(range(payload_depth(max_payload))),
                "payload_byte": Out(8),
                "bad": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        overhead = protocol.HEADER.size + protocol.CRC_BYTES
        longest = overhead + self._max_payload
        m.submodules.queue = queue = SyncFIFOBuffered(width=8, depth=self._receive_bytes)
        m.submodules.payload = payload = Memory(shape=8, depth=payload_depth(self._max_payload), init=[])
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()
        write, read = payload.write_port(), payload.read_port()

        wiring.connect(m, wiring.flipped(self.i), queue.w_stream)
        received = queue.r_stream
        if self._receive_bytes > protocol.DEFAULT_RECEIVE_BYTES:
            # Of block RAM, which takes half of a cycle to answer.
            m.submodules.head = head = SyncFIFO(width=8, depth=2)
            wiring.connect(m, received, head.w_stream)
            received = head.r_stream

        offered, frame = Signal(), Signal(frame_layout())
        with m.If(self.frames.ready):
            m.d.sync += offered.eq(0)
        position = Signal(range(longest + 2))
        synchronised, begun, escaped, damaged = Signal(), Signal(), Signal(), Signal()
        byte, accepted, content = Signal(8), Signal(), Signal()
        is_flag = received.payload == protocol.FLAG
        is_escape = received.payload == protocol.ESCAPE
        m.d.comb += [
            self.frames.valid.eq(offered),
            self.frames.payload.eq(frame),
            self.busy.eq((queue.level != 0) | received.valid | offered),
            read.addr.eq(self.payload_address),
            self.payload_byte.eq(read.data),
            received.ready.eq(~offered),
            accepted.eq(received.ready & received.valid),
            content.eq(accepted & ~is_flag & (escaped | ~is_escape)),
            byte.eq(Mux(escaped, received.payload ^ protocol.ESCAPE_XOR, received.payload)),
            crc.data.eq(byte),
            crc.valid.eq(content),
            crc.start.eq(accepted & is_flag),
            write.data.eq(byte),
            write.addr.eq(position - protocol.HEADER.size),
            write.en.eq(content & (position >= protocol.HEADER.size) & (position < longest)),
        ]
        with m.If(content):
            m.d.sync += escaped.eq(0)
            with m.If(escaped & (received.payload != protocol.ESCAPED[0]) & (received.payload != protocol.ESCAPED[1])):
                m.d.sync += damaged.eq(1)
            with m.If(position == longest):
                m.d.sync += damaged.eq(1)
            with m.Else():
                m.d.sync += position.eq(position + 1)
            with m.Switch(position):
                for index in range(protocol.HEADER.size + ARGUMENT_BYTES):
                    with m.Case(index):
                        m.d.sync += frame.as_value().word_select(index, 8).eq(byte)
        with m.If(accepted & ~is_flag):
            m.d.sync += begun.eq(synchronised)
        with m.If(accepted & ~is_flag & ~escaped & is_escape):
            m.d.sync += escaped.eq(1)
        with m.If(accepted & is_flag):
            m.d.sync += [synchronised.eq(1), begun.eq(0), escaped.eq(0), damaged.eq(0), position.eq(0)]
            with m.If(begun):
                with m.If(crc.match_detected & ~damaged & ~escaped & (position == frame.length + overhead)):
                    m.d.sync += offered.eq(1)
                with m.Else():
                    m.d.comb += self.bad.eq(1)
        return m
