"""The middle of the link: commands on the core's ports, and their replies."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportOperatorIssue=false, reportArgumentType=false

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import MEMORY_WORDS, TOKEN_BITS, token_bits
from egret.model.files import MOST_TOKENS
from egret.model.readout import ALL_WORDS, MOST_BETA
from egret.rtl import protocol
from egret.rtl.layouts import Task
from egret.rtl.link.core_port import core_signature
from egret.rtl.link.loader import Loader
from egret.rtl.link.receiver import frame_layout, payload_depth
from egret.rtl.link.sender import CONTENT_HEADER_BYTES, place_bits, reply_byte_layout, slot_bits
from egret.rtl.protocol import Command, Status

__all__ = ["Executor", "longest_reply"]

LINK_COUNTER_BITS = 24
"""Of the link's own counters, which begin again behind 2^24 - 1."""
_TASKS = {Command.SCORE: Task.SCORE, Command.GENERATE: Task.SAMPLE, Command.TOP: Task.TOP}
MAX_WORD_BYTES = protocol.MAX_PAYLOAD - protocol.LOAD_HEADER.size


def longest_reply(identity: protocol.Identity) -> int:
    """Bytes of the longest reply of a device with this identity: header, status and payload."""
    return CONTENT_HEADER_BYTES + max(
        protocol.bitmap_bytes(identity.outputs) + identity.outputs,
        protocol.COUNTER_BYTES * identity.counters + protocol.LINK_COUNTERS.size,
        protocol.IDENTITY.size + protocol.LOAD_STATE.size,
        *(_longest_answers(identity) if identity.head else ()),
    )


def _longest_answers(identity):
    """Of SCORE, GENERATE and TOP."""
    return (
        protocol.MAX_PAYLOAD // protocol.SCORE.size * protocol.SCORE_VALUE.size,
        protocol.MOST_WORDS * protocol.WORD.size,
        min(protocol.MOST_WORDS, identity.tokens) * protocol.TOP_WORD.size,
    )


class Executor(wiring.Component):
    """Executes each command once, in the order of sequence numbers, and writes its reply.

    A frame is held until its command is executed, refused or found to be a repeated one. A command whose reply is
    still kept is answered by announcing that reply again. A LOAD takes one cycle a byte; a STEP takes the core's time,
    one cycle an event and eight neurons, and 8 cycles. A SCORE takes 16 cycles a token beside the core's time, a
    GENERATE 4. The Python counterpart is `egret.rtl.link.device.Device`.

    Parameters
    ----------
    identity : egret.rtl.protocol.Identity
        What the device says about itself.
    sections : Mapping[int, tuple[int, int]]
        Bytes of a word and number of words of each memory on the load bus.
    input_section : int or None
        The one of the sections that takes the events of a step, where these are the input; it is written at any time.
    groups, group_size : int
        Groups of the read-out, where the identity tells of one, and words of the largest one.

    Members
    -------
    frames : In(stream.Signature(frame_layout()))
        Good frames.
    payload_address : Out(range(payload_depth(max_payload))), payload_byte : In(8)
        A byte of the frame's payload, which comes in the next cycle.
    bad : In(1)
        High for one cycle for each frame that was dropped.
    content : Out(stream.Signature(reply_byte_layout(window, reply_bytes), always_ready=True))
        Bytes of replies, a cycle late for the clock's sake: the last one comes a cycle after the announcement.
    replies : Out(stream.Signature(slot_bits(window), always_ready=True))
        Announces the slot whose reply is to be sent, for the first time or again.
    pending : In(window)
        High for each slot that must not be written.
    refusals : Out(stream.Signature(8, always_ready=True))
        Statuses of frames that are not executed.
    expected : Out(16)
        The sequence number of the next command.
    core : Out(core_signature(word_bytes, counters, bits=token_bits(identity.tokens), readout=bool(identity.head)))
        The core.
    waits : Out(1)
        A step is in progress, and nothing of it is at hand.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    frames: stream.Interface
    payload_address: Signal
    payload_byte: Signal
    bad: Signal
    content: stream.Interface
    replies: stream.Interface
    pending: Signal
    refusals: stream.Interface
    expected: Signal
    core: Any
    waits: Signal

    def __init__(
        self,
        identity: protocol.Identity,
        sections: Mapping[int, tuple[int, int]],
        *,
        input_section: int | None = None,
        groups: int = 0,
        group_size: int = 0,
    ) -> None:
        most = 1 << TOKEN_BITS if identity.head else MOST_TOKENS
        if not 1 <= identity.tokens <= most:
            raise ValueError(f"tokens must be from 1 to {most}, not {identity.tokens!r}")
        if not 0 <= identity.counters <= 255:
            raise ValueError(f"counters must be from 0 to 255, not {identity.counters!r}")
        for section, (word_bytes, depth) in sections.items():
            if not (0 <= section < 16 and 1 <= word_bytes <= MAX_WORD_BYTES and 1 <= depth <= MEMORY_WORDS):
                raise ValueError(
                    f"section {section!r} must be from 0 to 15 with 1 to {MAX_WORD_BYTES} bytes a word and at most "
                    f"{MEMORY_WORDS} words, not {word_bytes!r} and {depth!r}"
                )
        self._groups, self._group_size = groups, group_size
        if not all(0 <= size < 1 << 16 for size in (identity.head, groups, group_size)):
            raise ValueError(
                "head, groups and group_size must be from 0 to 65535, not "
                f"{identity.head!r}, {groups!r} and {group_size!r}"
            )
        if identity.head and input_section is not None:
            raise ValueError("a core whose input is events has no read-out")
        reply_bytes = longest_reply(identity)
        if reply_bytes >= 1 << 16:
            raise ValueError(f"outputs must be at most 58248, not {identity.outputs!r}")
        self._identity, self._sections, self._input_section = identity, dict(sections), input_section
        self._place_bits = place_bits(reply_bytes)
        window = identity.window
        core = core_signature(
            max(width for width, _ in sections.values()),
            identity.counters,
            bits=token_bits(identity.tokens),
            readout=bool(identity.head),
        )
        super().__init__(
            {
                "frames": In(stream.Signature(frame_layout())),
                "payload_address": Out(range(payload_depth(identity.max_payload))),
                "payload_byte": In(8),
                "bad": In(1),
                "content": Out(stream.Signature(reply_byte_layout(window, reply_bytes), always_ready=True)),
                "replies": Out(stream.Signature(slot_bits(window), always_ready=True)),
                "pending": In(window),
                "refusals": Out(stream.Signature(8, always_ready=True)),
                "expected": Out(16),
                "core": Out(core),
                "waits": Out(1),
            }
        )
        # What the states share. `_index` is the place in a reply's payload, or in a command's.
        self._frame = self.frames.payload
        self._connected, self._kept = Signal(), Signal(range(window + 1))
        self._bad_frames, self._repeated_frames = Signal(LINK_COUNTER_BITS), Signal(LINK_COUNTER_BITS)
        self._loading, self._verified, self._loaded_bytes = Signal(), Signal(), Signal(32)
        self._status = Signal(8)
        self._reply_length, self._index = (
            Signal(range(max(reply_bytes, identity.max_payload) + 1), name=name) for name in ("reply_length", "index")
        )
        self._writes_payload, self._writes_bitmap, self._writes_header = Signal(), Signal(), Signal()
        self._reply_byte = Signal(8)
        # Of a read-out: what is fed next and whether a text goes on with it, eight bytes of a payload, the stop token.
        self._word, self._goes_on = Signal(16), Signal()
        self._item = Signal(data.StructLayout({"token": 32, "group": 16, "index": 16}))
        self._stops, self._stop = Signal(), Signal(16)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.load_crc = load_crc = CRC32_ISO_HDLC(8).create()
        m.submodules.loader = loader = Loader(self._sections)
        frame = self._frame
        checks = Signal()
        m.d.comb += [
            loader.section.eq(frame.argument[:8]),
            loader.index.eq(frame.argument[8:32]),
            loader.bytes.payload.eq(self.payload_byte),
            self.core.load.eq(loader.load),
            self.core.load_valid.eq(loader.load_valid),
            self.replies.payload.eq(frame.sequence),
        ]
        # A byte is checked in the cycle after it was read.
        m.d.sync += [load_crc.valid.eq(checks), load_crc.data.eq(self.payload_byte)]
        with m.If(self.bad):
            m.d.sync += self._bad_frames.eq(self._bad_frames + 1)
            m.d.comb += [self.refusals.valid.eq(1), self.refusals.payload.eq(Status.BAD_FRAME)]
        header_index = Signal(3, init=8 - CONTENT_HEADER_BYTES)
        self._write_content(m, header_index)

        with m.FSM():
            with m.State("DISPATCH"):
                m.d.sync += [self._status.eq(Status.OK), self._reply_length.eq(0), self._index.eq(0)]
                with m.If(self.frames.valid):
                    self._dispatch(m)
            with m.State("EXECUTE"):
                self._execute(m, loader, load_crc)
            self._answer(m, load_crc.crc)
            self._load(m, loader, checks)
            with m.State("CLEAR"), m.If(~self.core.busy):
                m.d.comb += self.core.clear.eq(1)
                m.d.sync += self._goes_on.eq(0)
                m.next = "CLEARING"
            with m.State("CLEARING"), m.If(~self.core.busy):
                m.next = "HEADER"
            self._step(m)
            if self._identity.head:
                self._sampling(m)
                self._score(m)
                self._result(m)
            with m.State("HEADER"):
                m.d.comb += self._writes_header.eq(1)
                m.d.sync += header_index.eq(header_index + 1)
                with m.If(header_index == 7):
                    m.d.sync += header_index.eq(header_index.init)
                    self._finish(m)
        return m

    def _dispatch(self, m: Module) -> None:
        """Execute, repeat or refuse the frame that has come."""
        frame = self._frame
        age, slot = Signal(16), self.replies.payload
        m.d.comb += age.eq(self.expected + ~frame.sequence)  # expected - 1 - sequence, with one adder
        starts, current = frame.command == Command.IDENTIFY, self._connected & (frame.sequence == self.expected)
        with m.If(starts | current):
            with m.If(~self.pending.bit_select(slot, 1)):
                m.next = "EXECUTE"
        with m.Else():
            m.d.comb += self.frames.ready.eq(1)
            with m.If(self._connected & (age < self._kept)):
                m.d.comb += self.replies.valid.eq(1)
                m.d.sync += self._repeated_frames.eq(self._repeated_frames + 1)
            with m.Else():
                m.d.comb += [
                    self.refusals.valid.eq(1),
                    self.refusals.payload.eq(Mux(self._connected, Status.OUT_OF_ORDER, Status.NO_SESSION)),
                ]

    def _finish(self, m: Module) -> None:
        """Let go of the frame and announce its reply."""
        m.d.comb += [self.frames.ready.eq(1), self.replies.valid.eq(1)]
        m.d.sync += [self._connected.eq(1), self.expected.eq(self._frame.sequence + 1)]
        with m.If(self._frame.command == Command.IDENTIFY):
            m.d.sync += self._kept.eq(1)
        with m.Elif(self._kept != self._identity.window):
            m.d.sync += self._kept.eq(self._kept + 1)
        m.next = "DISPATCH"

    def _write_content(self, m: Module, header_index: Signal) -> None:
        """Write the bytes of the reply that the states choose, in the cycle after."""
        frame = self._frame
        header = Cat(
            Const(0, 8 * (8 - CONTENT_HEADER_BYTES)),
            frame.sequence,
            frame.command | protocol.REPLY,
            (Cat(self._reply_length, Const(0, 16)) + 1)[:16],
            self._status,
        )
        header_place = Cat(header_index, Const(-1, self._place_bits - 3))
        payload_place = Mux(self._writes_bitmap, self._index, self._reply_length)
        m.d.sync += [
            self.content.valid.eq(self._writes_payload | self._writes_bitmap | self._writes_header),
            self.content.payload.place.eq(Mux(self._writes_header, header_place, payload_place)),
            self.content.payload.slot.eq(self.replies.payload),
            self.content.payload.byte.eq(
                Mux(self._writes_header, header.word_select(header_index, 8), self._reply_byte)
            ),
        ]
        with m.If(self._writes_payload):
            m.d.sync += self._reply_length.eq(self._reply_length + 1)

    def _execute(self, m: Module, loader: Loader, load_crc: Any) -> None:
        """Begin with the command, or know its answer."""
        frame = self._frame
        m.d.sync += self._status.eq(Status.BAD_LENGTH)
        m.next = "HEADER"
        with m.Switch(frame.command):
            with m.Case(Command.IDENTIFY), m.If(frame.length == 0):
                m.d.sync += self._status.eq(Status.OK)
                m.next = "IDENTITY"
            with m.Case(Command.BEGIN), m.If(frame.length == protocol.DIGEST_BYTES):
                with m.If(frame.argument == int.from_bytes(self._identity.digest, "little")):
                    m.d.sync += [self._status.eq(Status.OK), self._loading.eq(1), self._verified.eq(0)]
                    m.d.sync += self._loaded_bytes.eq(0)
                    m.d.comb += load_crc.start.eq(1)
                with m.Else():
                    m.d.sync += self._status.eq(Status.WRONG_DIGEST)
                    m.next = "DIGEST"
            with m.Case(Command.LOAD):
                m.d.comb += loader.start.eq(1)
                with m.If(~self._loading):
                    m.d.sync += self._status.eq(Status.NOT_LOADING)
                with m.Elif(frame.length == 0):
                    m.d.sync += self._loading.eq(0)
                with m.Elif(self.core.busy):
                    m.next = "EXECUTE"
                with m.Else():
                    m.next = "LOAD"
            if self._input_section is not None:
                with m.Case(Command.EVENTS), m.If(frame.length != 0):
                    m.d.comb += loader.start.eq(1)
                    with m.If(loader.section != self._input_section):
                        m.d.sync += self._status.eq(Status.BAD_SECTION)
                    with m.Else():
                        m.next = "LOAD"
            with m.Case(Command.CHECK), m.If(frame.length == protocol.LOAD_CHECK.size):
                with m.If(~self._loading):
                    m.d.sync += self._status.eq(Status.NOT_LOADING)
                with m.Else():
                    m.d.sync += [self._status.eq(Status.CHECK_FAILED), self._loading.eq(0)]
                    with m.If(frame.argument == Cat(self._loaded_bytes, load_crc.crc)):
                        m.d.sync += [self._status.eq(Status.OK), self._verified.eq(1)]
                    m.next = "LOAD_STATE"
            with m.Case(Command.CLEAR), m.If(frame.length == 0):
                m.d.sync += self._status.eq(Status.OK)
                m.next = "CLEAR"
            with m.Case(Command.STEP), m.If(frame.length == protocol.TOKEN.size):
                with m.If(~self._verified):
                    m.d.sync += self._status.eq(Status.NOT_VERIFIED)
                with m.Elif(frame.argument[:32] >= self._identity.tokens):
                    m.d.sync += self._status.eq(Status.BAD_TOKEN)
                with m.Else():
                    m.d.sync += [self._status.eq(Status.OK), self._word.eq(frame.argument)]
                    m.next = "TOKEN"
            if self._identity.head:
                self._execute_words(m)
            with m.Case(Command.COUNTERS), m.If(frame.length == 0):
                m.d.sync += self._status.eq(Status.OK)
                m.next = "COUNTERS"
            with m.Default():
                m.d.sync += self._status.eq(Status.UNKNOWN_COMMAND)

    def _emit(self, m: Module, value: Value, then: str) -> None:
        """Write the bytes of a value to the reply, one a cycle."""
        count = len(value) // 8
        m.d.comb += self._writes_payload.eq(1)
        m.d.sync += self._index.eq(self._index + 1)
        # A choice among constants and registers; a shift of the whole value would slow simulation down.
        with m.Switch(self._index):
            for number in range(count):
                with m.Case(number):
                    m.d.comb += self._reply_byte.eq(value.word_select(number, 8))
        with m.If(self._index == count - 1):
            m.d.sync += self._index.eq(0)
            m.next = then

    def _answer(self, m: Module, loaded_crc: Value) -> None:
        """States that write what the device says about itself: identity, loading, digest and counters."""
        identity, counter_bytes = self._identity, protocol.COUNTER_BYTES * self._identity.counters
        load_state = Cat(self._loading, Const(0, 7), self._verified, Const(0, 7), self._loaded_bytes, loaded_crc)
        with m.State("IDENTITY"):
            self._emit(m, Const(int.from_bytes(identity.pack(), "little"), 8 * protocol.IDENTITY.size), "LOAD_STATE")
        with m.State("LOAD_STATE"):
            self._emit(m, load_state, "HEADER")
        with m.State("DIGEST"):
            self._emit(m, Const(int.from_bytes(identity.digest, "little"), 8 * protocol.DIGEST_BYTES), "HEADER")
        with m.State("COUNTERS"), m.If(~self.core.busy & self.core.counters_settled):
            m.next = "CORE_COUNTERS" if counter_bytes else "LINK_COUNTERS"
        if counter_bytes:
            with m.State("CORE_COUNTERS"):
                m.d.comb += [
                    self.core.counter_byte.eq(self._index + 1),
                    self._writes_payload.eq(1),
                    self._reply_byte.eq(self.core.counter_read),
                ]
                m.d.sync += self._index.eq(self._index + 1)
                with m.If(self._index == counter_bytes - 1):
                    m.d.sync += self._index.eq(0)
                    m.next = "LINK_COUNTERS"
        with m.State("LINK_COUNTERS"):
            zeros = Const(0, 32 - LINK_COUNTER_BITS)
            self._emit(m, Cat(self._bad_frames, zeros, self._repeated_frames, zeros), "HEADER")

    def _load(self, m: Module, loader: Loader, checks: Signal) -> None:
        """States that take the payload of LOAD and EVENTS."""
        frame = self._frame
        # Events are written as an image is, but are no part of one.
        of_image = Const(1) if self._input_section is None else frame.command == Command.LOAD
        with m.State("LOAD"):
            m.d.comb += [
                self.payload_address.eq(self._index + 1),
                loader.bytes.valid.eq(self._index >= protocol.LOAD_HEADER.size),
                checks.eq(of_image),
            ]
            m.d.sync += [
                self._index.eq(self._index + 1),
                self._loaded_bytes.eq(self._loaded_bytes + of_image),
            ]
            with m.If(self._index == frame.length - 1):
                m.next = "LOADED"
        with m.State("LOADED"):
            status = Mux(frame.length < protocol.LOAD_HEADER.size, Status.BAD_LENGTH, loader.status)
            m.d.sync += self._status.eq(status)
            with m.If((status != Status.OK) & of_image):
                m.d.sync += self._loading.eq(0)
            m.next = "HEADER"

    def _step(self, m: Module) -> None:
        """States of a step: the token goes to the core, the events of the last layer come back."""
        frame, token, events = self._frame, self.core.token, self.core.events
        with m.State("TOKEN"):
            m.d.comb += token.valid.eq(1)
            if self._identity.head:
                m.d.comb += [
                    token.payload.token.eq(self._word),
                    token.payload.group.eq(self._item.group),
                    token.payload.index.eq(Mux(frame.command == Command.TOP, self._count, self._item.index)),
                ]
                with m.Switch(frame.command):
                    for command, task in _TASKS.items():
                        with m.Case(command):
                            m.d.comb += token.payload.task.eq(task)
            else:
                m.d.comb += token.payload.eq(frame.argument)
            with m.If(token.ready):
                with m.If(frame.command == Command.STEP):
                    m.d.sync += self._reply_length.eq(protocol.bitmap_bytes(self._identity.outputs))
                m.d.sync += self._goes_on.eq(frame.command == Command.GENERATE)
                m.next = "EVENT"
                if self._identity.head:
                    with m.If(frame.command != Command.STEP):
                        m.next = "DRAIN"
        # The bitmap's byte `index` is written once an event of a later byte comes, or the end.
        with m.State("EVENT"):
            event, bitmap, bitmap_bytes = events.payload, Signal(8), protocol.bitmap_bytes(self._identity.outputs)
            group_bits = (bitmap_bytes - 1).bit_length()
            m.d.comb += self.waits.eq(~events.valid)
            with m.If(events.valid):
                with m.If(~event.end & (event.index[3 : 3 + group_bits] == self._index[:group_bits])):
                    m.d.comb += [
                        self._writes_payload.eq(1),
                        self._reply_byte.eq(event.value),
                        events.ready.eq(1),
                    ]
                    m.d.sync += bitmap.bit_select(event.index[:3], 1).eq(1)
                with m.Else():
                    m.d.comb += [self._writes_bitmap.eq(1), self._reply_byte.eq(bitmap)]
                    m.d.sync += [bitmap.eq(0), self._index.eq(self._index + 1)]
                    with m.If(self._index == bitmap_bytes - 1):
                        m.d.comb += events.ready.eq(1)
                        m.next = "HEADER"

    # With a read-out.

    @property
    def _count(self) -> Value:
        """Words that GENERATE or TOP asks for."""
        return self._frame.argument[32:40]

    def _execute_words(self, m: Module) -> None:
        """Begin with a command of the read-out."""
        frame, tokens = self._frame, self._identity.tokens
        token, top = frame.argument[:32], frame.command == Command.TOP
        # A score is eight bytes, and a reply has room for those of the shortest longest payload.
        fits = (frame.length != 0) & (frame.length[:3] == 0) & (frame.length <= protocol.MAX_PAYLOAD)
        with m.Case(Command.SCORE), m.If(fits):
            m.d.sync += self._status.eq(Mux(self._verified, Status.OK, Status.NOT_VERIFIED))
            with m.If(self._verified):
                m.next = "ITEM"
        with m.Case(Command.SAMPLING), m.If(frame.length == protocol.SAMPLING.size):
            m.next = "ITEM"
        with m.Case(Command.GENERATE, Command.TOP), m.If(frame.length == protocol.GENERATE.size):
            most = Mux(top, min(protocol.MOST_WORDS, tokens), protocol.MOST_WORDS)
            with m.If(~self._verified):
                m.d.sync += self._status.eq(Status.NOT_VERIFIED)
            with m.Elif((self._count == 0) | (self._count > most)):
                m.d.sync += self._status.eq(Status.BAD_VALUE)
            with m.Elif(~top & (token == protocol.NOTHING)):
                m.d.sync += self._status.eq(Status.OK)
                with m.If(self._goes_on):
                    m.next = "TOKEN"
            with m.Elif(token >= tokens):
                m.d.sync += self._status.eq(Status.BAD_TOKEN)
            with m.Else():
                m.d.sync += [self._status.eq(Status.OK), self._word.eq(token)]
                m.next = "TOKEN"

    def _sampling(self, m: Module) -> None:
        """The state that reads eight bytes of a payload, a byte a cycle, and the state of SAMPLING."""
        frame, item, sampling = self._frame, self._item.as_value(), self.core.sampling
        samples, tokens = frame.command == Command.SAMPLING, self._identity.tokens
        with m.State("ITEM"):
            # Of a score's bytes, half as many were answered; the state of SAMPLING lies behind its other fields.
            first = Mux(samples, protocol.SAMPLING.size - 8, self._reply_length << 1)
            m.d.comb += self.payload_address.eq(first + self._index)
            m.d.sync += [self._index.eq(self._index + 1), item.eq(Cat(item[8:], self.payload_byte))]
            with m.If(self._index == 8):
                m.d.sync += self._index.eq(0)
                m.next = "SCORE"
                with m.If(samples):
                    m.next = "SAMPLING"
        top, beta, stop = frame.argument[:8], frame.argument[8:24], frame.argument[24:56]
        m.d.comb += [sampling.top.eq(top), sampling.beta.eq(beta), sampling.state.eq(item)]
        with m.State("SAMPLING"):
            m.next = "HEADER"
            too_many = (top > min(protocol.MOST_WORDS, tokens)) & (top != ALL_WORDS)
            with m.If(too_many | (beta == 0) | (beta > MOST_BETA) | (item == 0)):
                m.d.sync += self._status.eq(Status.BAD_VALUE)
            with m.Elif((stop != protocol.NOTHING) & (stop >= tokens)):
                m.d.sync += self._status.eq(Status.BAD_TOKEN)
            with m.Elif(self.core.busy):
                m.next = "SAMPLING"
            with m.Else():
                m.d.comb += self.core.sampling_load.eq(1)
                m.d.sync += [self._status.eq(Status.OK), self._stops.eq(~stop[-1]), self._stop.eq(stop)]

    def _score(self, m: Module) -> None:
        """The state that looks at a score's token and target."""
        item = self._item
        # How many words a group has is for the image to say, but for the largest one.
        limit = Mux(item.group == 0, self._identity.head, self._group_size)
        with m.State("SCORE"):
            with m.If((item.token < self._identity.tokens) & (item.group <= self._groups) & (item.index < limit)):
                m.d.sync += self._word.eq(item.token)
                m.next = "TOKEN"
            with m.Else():
                m.d.sync += self._status.eq(Status.BAD_TOKEN)
                m.next = "HEADER"

    def _result(self, m: Module) -> None:
        """States that drop the events of a step, and take what the read-out tells of it."""
        frame, result, index = self._frame, self.core.result, self._index
        generates, scores = frame.command == Command.GENERATE, frame.command == Command.SCORE
        with m.State("DRAIN"):
            m.d.comb += [self.waits.eq(~self.core.events.valid), self.core.events.ready.eq(1)]
            with m.If(self.core.events.valid & self.core.events.payload.end):
                m.d.sync += index.eq(Mux(scores, protocol.WORD.size, 0))
                m.next = "RESULT"
        # The bytes of a word and of its log-probability, or one of the two.
        with m.State("RESULT"):
            answer = Cat(result.payload.word, result.payload.value)
            length = (self._reply_length + 1)[: len(self._reply_length)]
            ended = Signal()
            m.d.comb += [
                self.waits.eq(~result.valid),
                self._reply_byte.eq(answer.word_select(index[:3], 8)),
                self._writes_payload.eq(result.valid),
            ]
            with m.If(generates):
                stops = self._stops & (result.payload.word == self._stop)
                m.d.comb += ended.eq(stops | (length == self._count << 1))
            with m.Else():
                m.d.comb += ended.eq(~scores | (length == frame.length >> 1))
            with m.If(result.valid):
                m.d.sync += index.eq(index + 1)
                with m.If(index == Mux(generates, protocol.WORD.size - 1, protocol.TOP_WORD.size - 1)):
                    m.d.comb += result.ready.eq(1)
                    m.d.sync += index.eq(0)
                    with m.If(result.payload.end):
                        m.next = "HEADER"
                        with m.If(~ended):
                            m.next = "ITEM"
                        with m.If(generates):
                            m.d.sync += [self._word.eq(result.payload.word), self._goes_on.eq(~stops)]
                            with m.If(~ended):
                                m.next = "TOKEN"
