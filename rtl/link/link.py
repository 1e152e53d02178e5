"""The device's end of the host link: frames in, commands on the core's ports, frames out."""

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from egret.rtl import protocol
from egret.rtl.blocks import BlockMemory
from egret.rtl.payloads import output_layout
from egret.rtl.protocol import Command, Status

__all__ = ["Link"]

LINK_COUNTER_BITS = 24
"""Of the link's own counters, which begin again behind 2^24 - 1."""


class Link(wiring.Component):
    """Executes the commands of `egret.rtl.protocol` on a core.

    Receives one byte a cycle, except while a command executes: the next frames then wait in a queue of
    `receive_bytes`. Sends one byte every three cycles. A reply is kept until `window` later commands were executed and
    is sent again when its command comes again, so no command is ever executed twice. Of refusals that come while one
    waits to be sent, only the last one is. The Python counterpart is `egret.rtl.protocol.Device`.

    A LOAD takes one cycle a byte; a STEP takes the core's time, one cycle an event and eight neurons, and 8 cycles.

    Parameters
    ----------
    digest : bytes
        The eight bytes that name the configuration of the core.
    tokens : int
        Size of the vocabulary, or neurons whose events enter, plus 1.
    outputs : int
        Neurons of the last layer.
    sections : dict of int to tuple of int
        Bytes of a word and number of words of each memory on the load bus.
    counters : int
        Number of 64-bit performance counters of the core.
    layers : int
        How many of them count events.
    input_section : int or None
        The one of the sections that takes the events of a step, where these are the input; it is written at any time.
    window : int
        Number of replies kept and of commands that may be unanswered: a power of two, at most 128.
    receive_bytes : int
        Bytes of further commands held while one executes.

    Members
    -------
    i, o : In(stream.Signature(8)), Out(stream.Signature(8))
        Bytes from and to the host.
    token : Out(stream.Signature(16))
        Starts a step.
    events : In(stream.Signature(output_layout()))
        The step's events.
    load : Out({section, index, data}), load_valid : Out(1)
        Writes a word of a memory, with the core idle; a memory with narrower words takes the low bits.
    clear : Out(1)
        High for one cycle, with the core idle, to set its state to zero; the core is busy from the next cycle on
        until that is done.
    core_busy : In(1)
        A step or a clear is in progress.
    counters : In(64 * counters)
        The counters, the first in the low bits. They are read while the core is not busy and must hold still then.
    busy : Out(1)
        Low when nothing happens before the next byte from the host, or before the byte offered at `o` is taken.
    waiting : Out(1)
        The link waits for an event of the core and has nothing to send. While no byte is offered at `i`, a simulator
        may leave out this cycle of the link's clock: nothing is transferred at any port.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    def __init__(
        self,
        *,
        digest,
        tokens,
        outputs,
        sections,
        counters,
        layers,
        input_section=None,
        window=protocol.DEFAULT_WINDOW,
        receive_bytes=protocol.DEFAULT_RECEIVE_BYTES,
    ):
        if window not in (1, 2, 4, 8, 16, 32, 64, 128):
            raise ValueError(f"window must be a power of two from 1 to 128, not {window!r}")
        if not 1 <= tokens <= 1 << 16:
            raise ValueError(f"tokens must be from 1 to 65536, not {tokens!r}")
        if not 0 <= counters <= 255:
            raise ValueError(f"counters must be from 0 to 255, not {counters!r}")
        for section, (word_bytes, depth) in sections.items():
            if not (
                0 <= section < 16
                and 1 <= word_bytes <= protocol.MAX_PAYLOAD - protocol.LOAD_HEADER.size
                and 1 <= depth <= 1 << 24
            ):
                raise ValueError(
                    f"section {section!r} must be from 0 to 15 with 1 to "
                    f"{protocol.MAX_PAYLOAD - protocol.LOAD_HEADER.size} bytes a word and at most 2^24 "
                    f"words, not {word_bytes!r} and {depth!r}"
                )
        self.identity = protocol.Identity(
            digest=digest,
            window=window,
            max_payload=protocol.MAX_PAYLOAD,
            receive_bytes=receive_bytes,
            tokens=tokens,
            outputs=outputs,
            counters=counters,
            layers=layers,
        )
        self.sections = dict(sections)
        self.input_section = input_section
        self.word_bytes = max(word_bytes for word_bytes, _ in sections.values())
        self.bitmap_bytes = protocol.bitmap_bytes(outputs)
        payload_bytes = max(
            self.bitmap_bytes + outputs,
            protocol.COUNTER_BYTES * counters + protocol.LINK_COUNTERS.size,
            protocol.IDENTITY.size + protocol.LOAD_STATE.size,
        )
        self.reply_bytes = protocol.HEADER.size + 1 + payload_bytes
        if self.reply_bytes >= 1 << 16:
            raise ValueError(f"outputs must be at most 58248, not {outputs!r}")
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "token": Out(stream.Signature(16)),
                "events": In(stream.Signature(output_layout())),
                "load": Out(data.StructLayout({"section": 4, "index": 24, "data": 8 * self.word_bytes})),
                "load_valid": Out(1),
                "clear": Out(1),
                "core_busy": In(1),
                "counter_byte": Out(range(max(protocol.COUNTER_BYTES * counters, 2))),
                "counter_read": In(8),
                "counters_settled": In(1),
                "busy": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform):
        # Three machines: the receiver undoes the framing and holds still while a good frame is executed; the executor
        # writes each reply, frame content without CRC, to its slot of the reply memory; the sender sends slots whose
        # `pending` bit is set. A slot is written only while its bit is clear: a reply never changes while it is sent.
        m = Module()
        window = self.identity.window
        overhead = protocol.HEADER.size + protocol.CRC_BYTES

        m.submodules.queue = queue = SyncFIFOBuffered(width=8, depth=self.identity.receive_bytes)
        m.submodules.payloads = payloads = Memory(shape=8, depth=protocol.MAX_PAYLOAD + protocol.CRC_BYTES, init=[])
        # A reply's slot is a power of two of bytes: its header, of six, at the end, its payload from the start.
        place_bits = (self.reply_bytes - 1).bit_length()
        header_bytes = protocol.HEADER.size + 1
        m.submodules.replies = replies = BlockMemory(8, window << place_bits)
        m.submodules.receive_crc = receive_crc = CRC32_ISO_HDLC(8).create()
        m.submodules.send_crc = send_crc = CRC32_ISO_HDLC(8).create()
        m.submodules.load_crc = load_crc = CRC32_ISO_HDLC(8).create()
        payload_write, payload_read = payloads.write_port(), payloads.read_port()

        wiring.connect(m, wiring.flipped(self.i), queue.w_stream)
        received = queue.r_stream
        if self.identity.receive_bytes > protocol.DEFAULT_RECEIVE_BYTES:
            # Of block RAM, which takes half of a cycle to answer.
            m.submodules.head = head = SyncFIFO(width=8, depth=2)
            wiring.connect(m, received, head.w_stream)
            received = head.r_stream

        # Shared between the machines.
        frame_done = Signal()
        sequence, command, length = Signal(16), Signal(8), Signal(16)
        argument = Signal(64)
        expected = Signal(16)
        pending = Signal(window)
        refusal, refuse = Signal(8), Signal()
        bad_frames, repeated_frames = Signal(LINK_COUNTER_BITS), Signal(LINK_COUNTER_BITS)

        # Receiver.
        position = Signal(range(overhead + protocol.MAX_PAYLOAD + 2))
        synchronised, begun, escaped, damaged = Signal(), Signal(), Signal(), Signal()
        receiving = Signal()
        byte = Signal(8)
        is_flag = received.payload == protocol.FLAG
        is_escape = received.payload == protocol.ESCAPE
        accepted = Signal()
        content = Signal()
        offset = position - protocol.HEADER.size
        m.d.comb += [
            received.ready.eq(receiving),
            accepted.eq(received.ready & received.valid),
            content.eq(accepted & ~is_flag & (escaped | ~is_escape)),
            byte.eq(Mux(escaped, received.payload ^ protocol.ESCAPE_XOR, received.payload)),
            receive_crc.data.eq(byte),
            receive_crc.valid.eq(content),
            receive_crc.start.eq(accepted & is_flag),
            payload_write.data.eq(byte),
            payload_write.addr.eq(offset),
            payload_write.en.eq(
                content & (position >= protocol.HEADER.size) & (position < overhead + protocol.MAX_PAYLOAD)
            ),
        ]
        with m.If(content):
            m.d.sync += escaped.eq(0)
            with m.If(escaped & (received.payload != protocol.ESCAPED[0]) & (received.payload != protocol.ESCAPED[1])):
                m.d.sync += damaged.eq(1)
            with m.If(position == overhead + protocol.MAX_PAYLOAD):
                m.d.sync += damaged.eq(1)
            with m.Else():
                m.d.sync += position.eq(position + 1)
            with m.Switch(position):
                with m.Case(0):
                    m.d.sync += sequence[:8].eq(byte)
                with m.Case(1):
                    m.d.sync += sequence[8:].eq(byte)
                with m.Case(2):
                    m.d.sync += command.eq(byte)
                with m.Case(3):
                    m.d.sync += length[:8].eq(byte)
                with m.Case(4):
                    m.d.sync += length[8:].eq(byte)
                for index in range(8):
                    with m.Case(protocol.HEADER.size + index):
                        m.d.sync += argument.word_select(index, 8).eq(byte)
        with m.If(accepted & ~is_flag):
            m.d.sync += begun.eq(synchronised)
        with m.If(accepted & ~is_flag & ~escaped & is_escape):
            m.d.sync += escaped.eq(1)
        with m.If(accepted & is_flag):
            m.d.sync += [synchronised.eq(1), begun.eq(0), escaped.eq(0), damaged.eq(0), position.eq(0)]
            with m.If(begun):
                with m.If(receive_crc.match_detected & ~damaged & ~escaped & (position == length + overhead)):
                    m.d.comb += frame_done.eq(1)
                with m.Else():
                    m.d.sync += bad_frames.eq(bad_frames + 1)
                    m.d.comb += [refuse.eq(1), refusal.eq(Status.BAD_FRAME)]

        # Executor.
        connected = Signal()
        kept = Signal(range(window + 1))
        slot = sequence[: (window - 1).bit_length()] if window > 1 else Const(0, 1)
        age = Signal(16)
        status = Signal(8)
        # A reply's length and the place in it, or the place in a command's payload.
        reply_length, index = (
            Signal(range(max(self.reply_bytes, protocol.MAX_PAYLOAD) + 1), name=name)
            for name in ("reply_length", "index")
        )
        finished, repeat, awaits_core = Signal(), Signal(), Signal()
        m.d.comb += age.eq(expected + ~sequence)  # expected - 1 - sequence, with one adder

        writes_payload, writes_bitmap = Signal(), Signal()
        reply_byte = Signal(8)
        header_index = Signal(3, init=8 - header_bytes)
        writes_header = Signal()
        header = Cat(
            Const(0, 8 * (8 - header_bytes)),
            sequence,
            command | protocol.REPLY,
            (Cat(reply_length, Const(0, 16)) + 1)[:16],
            status,
        )
        # Written a cycle later, for the clock's sake; the sender does not come to a header's last byte that soon.
        m.d.sync += [
            replies.write_valid.eq(writes_payload | writes_bitmap | writes_header),
            replies.write_address.eq(
                Cat(
                    Mux(
                        writes_header,
                        Cat(header_index, Const(-1, place_bits - 3)),
                        Mux(writes_bitmap, index, reply_length),
                    )[:place_bits],
                    slot,
                )
            ),
            replies.write_data.eq(Mux(writes_header, header.word_select(header_index, 8), reply_byte)),
        ]
        with m.If(writes_payload):
            m.d.sync += reply_length.eq(reply_length + 1)

        loading, verified, loaded_bytes = Signal(), Signal(), Signal(32)
        load_state = Cat(loading, Const(0, 7), verified, Const(0, 7), loaded_bytes, load_crc.crc)
        identity = int.from_bytes(self.identity.pack(), "little")
        digest = int.from_bytes(self.identity.digest, "little")
        counter_bytes = protocol.COUNTER_BYTES * self.identity.counters

        bitmap = Signal(8)
        load_word = Signal(8 * self.word_bytes)
        load_section = argument[:8]
        load_index = Signal(25)
        word_index = Signal(range(self.word_bytes))
        known, word_last, depth = Signal(), Signal(range(self.word_bytes)), Signal(25)
        with m.Switch(load_section):
            for section, (word_bytes, words) in self.sections.items():
                with m.Case(section):
                    m.d.comb += [known.eq(1), word_last.eq(word_bytes - 1), depth.eq(words)]
        overrun, word_done = Signal(), Signal()
        m.d.comb += [
            self.load.section.eq(load_section),
            self.load.index.eq(load_index - 1),
            self.load.data.eq(load_word),
            self.load_valid.eq(word_done),
        ]
        # A byte is checked in the cycle after it was read. Events are written as an image is, which they do not end.
        checks = Signal()
        of_image = Signal()
        m.d.comb += of_image.eq(1 if self.input_section is None else command == Command.LOAD)

        def fail(reason):
            m.d.sync += status.eq(reason)
            with m.If(of_image):
                m.d.sync += loading.eq(0)

        m.d.sync += [word_done.eq(0), load_crc.valid.eq(checks), load_crc.data.eq(payload_read.data)]

        with m.FSM(name="executor"):
            with m.State("RECEIVE"):
                m.d.comb += receiving.eq(1)
                m.d.sync += [status.eq(Status.OK), reply_length.eq(0), index.eq(0)]
                with m.If(frame_done):
                    m.next = "DISPATCH"

            with m.State("DISPATCH"):
                with m.If(command != Command.IDENTIFY):
                    with m.If(~connected):
                        m.d.comb += [refuse.eq(1), refusal.eq(Status.NO_SESSION)]
                        m.next = "RECEIVE"
                    with m.Elif(sequence != expected):
                        with m.If(age < kept):
                            m.d.comb += repeat.eq(1)
                            m.d.sync += repeated_frames.eq(repeated_frames + 1)
                        with m.Else():
                            m.d.comb += [refuse.eq(1), refusal.eq(Status.OUT_OF_ORDER)]
                        m.next = "RECEIVE"
                with m.If(
                    ((command == Command.IDENTIFY) | (connected & (sequence == expected)))
                    & ~pending.bit_select(slot, 1)
                ):
                    m.next = "EXECUTE"

            with m.State("EXECUTE"):
                m.d.sync += status.eq(Status.BAD_LENGTH)
                m.next = "HEADER"
                with m.Switch(command):
                    with m.Case(Command.IDENTIFY), m.If(length == 0):
                        m.d.sync += status.eq(Status.OK)
                        m.next = "IDENTITY"
                    with m.Case(Command.BEGIN), m.If(length == protocol.DIGEST_BYTES):
                        with m.If(argument == digest):
                            m.d.sync += [status.eq(Status.OK), loading.eq(1), verified.eq(0), loaded_bytes.eq(0)]
                            m.d.comb += load_crc.start.eq(1)
                        with m.Else():
                            m.d.sync += status.eq(Status.WRONG_DIGEST)
                            m.next = "DIGEST"
                    with m.Case(Command.LOAD):
                        m.d.sync += [load_index.eq(argument[8:32]), word_index.eq(0), overrun.eq(0)]
                        with m.If(~loading):
                            m.d.sync += status.eq(Status.NOT_LOADING)
                        with m.Elif(length == 0):
                            m.d.sync += loading.eq(0)
                        with m.Elif(self.core_busy):
                            m.next = "EXECUTE"
                        with m.Else():
                            m.d.comb += payload_read.addr.eq(0)
                            m.next = "LOAD"
                    if self.input_section is not None:
                        with m.Case(Command.EVENTS), m.If(length != 0):
                            m.d.sync += [load_index.eq(argument[8:32]), word_index.eq(0), overrun.eq(0)]
                            with m.If(load_section != self.input_section):
                                m.d.sync += status.eq(Status.BAD_SECTION)
                            with m.Else():
                                m.d.comb += payload_read.addr.eq(0)
                                m.next = "LOAD"
                    with m.Case(Command.CHECK), m.If(length == protocol.LOAD_CHECK.size):
                        with m.If(~loading):
                            m.d.sync += status.eq(Status.NOT_LOADING)
                        with m.Else():
                            m.d.sync += [status.eq(Status.CHECK_FAILED), loading.eq(0)]
                            with m.If(argument == Cat(loaded_bytes, load_crc.crc)):
                                m.d.sync += [status.eq(Status.OK), verified.eq(1)]
                            m.next = "LOAD_STATE"
                    with m.Case(Command.CLEAR), m.If(length == 0):
                        m.d.sync += status.eq(Status.OK)
                        m.next = "CLEAR"
                    with m.Case(Command.STEP), m.If(length == protocol.TOKEN.size):
                        with m.If(~verified):
                            m.d.sync += status.eq(Status.NOT_VERIFIED)
                        with m.Elif(argument[:32] >= self.identity.tokens):
                            m.d.sync += status.eq(Status.BAD_TOKEN)
                        with m.Else():
                            m.d.sync += status.eq(Status.OK)
                            m.next = "TOKEN"
                    with m.Case(Command.COUNTERS), m.If(length == 0):
                        m.d.sync += status.eq(Status.OK)
                        m.next = "COUNTERS"
                    with m.Default():
                        m.d.sync += status.eq(Status.UNKNOWN_COMMAND)

            def emit(value, then):
                """Write the bytes of a value to the reply, one a cycle."""
                count = len(value) // 8
                m.d.comb += writes_payload.eq(1)
                m.d.sync += index.eq(index + 1)
                # A choice among constants and registers; a shift of the whole value would slow simulation down.
                with m.Switch(index):
                    for number in range(count):
                        with m.Case(number):
                            m.d.comb += reply_byte.eq(value.word_select(number, 8))
                with m.If(index == count - 1):
                    m.d.sync += index.eq(0)
                    m.next = then

            with m.State("IDENTITY"):
                emit(Const(identity, 8 * protocol.IDENTITY.size), "LOAD_STATE")
            with m.State("LOAD_STATE"):
                emit(load_state, "HEADER")
            with m.State("DIGEST"):
                emit(Const(digest, 64), "HEADER")
            with m.State("COUNTERS"), m.If(~self.core_busy & self.counters_settled):
                m.next = "CORE_COUNTERS" if counter_bytes else "LINK_COUNTERS"
            if counter_bytes:
                with m.State("CORE_COUNTERS"):
                    m.d.comb += [
                        self.counter_byte.eq(index + 1),
                        writes_payload.eq(1),
                        reply_byte.eq(self.counter_read),
                    ]
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == counter_bytes - 1):
                        m.d.sync += index.eq(0)
                        m.next = "LINK_COUNTERS"
            with m.State("LINK_COUNTERS"):
                zeros = Const(0, 32 - LINK_COUNTER_BITS)
                emit(Cat(bad_frames, zeros, repeated_frames, zeros), "HEADER")

            with m.State("LOAD"):
                m.d.comb += [
                    payload_read.addr.eq(index + 1),
                    checks.eq(of_image),
                ]
                m.d.sync += [index.eq(index + 1), loaded_bytes.eq(loaded_bytes + of_image)]
                with m.If((index >= protocol.LOAD_HEADER.size) & known):
                    m.d.sync += load_word.word_select(word_index, 8).eq(payload_read.data)
                    with m.If(word_index == word_last):
                        m.d.sync += word_index.eq(0)
                        with m.If(load_index < depth):
                            m.d.sync += [load_index.eq(load_index + 1), word_done.eq(1)]
                        with m.Else():
                            m.d.sync += overrun.eq(1)
                    with m.Else():
                        m.d.sync += word_index.eq(word_index + 1)
                with m.If(index == length - 1):
                    m.next = "LOADED"
            with m.State("LOADED"):
                with m.If(length < protocol.LOAD_HEADER.size):
                    fail(Status.BAD_LENGTH)
                with m.Elif(~known):
                    fail(Status.BAD_SECTION)
                with m.Elif(overrun):
                    fail(Status.BAD_INDEX)
                with m.Elif(word_index != 0):
                    fail(Status.BAD_LENGTH)
                with m.Else():
                    m.d.sync += status.eq(Status.OK)
                m.next = "HEADER"

            with m.State("CLEAR"), m.If(~self.core_busy):
                m.d.comb += self.clear.eq(1)
                m.next = "CLEARING"
            with m.State("CLEARING"), m.If(~self.core_busy):
                m.next = "HEADER"

            with m.State("TOKEN"):
                m.d.comb += [self.token.valid.eq(1), self.token.payload.eq(argument)]
                with m.If(self.token.ready):
                    m.d.sync += reply_length.eq(self.bitmap_bytes)
                    m.next = "EVENT"
            # The bitmap's byte `index` is written once an event of a later byte comes, or the end.
            with m.State("EVENT"):
                m.d.comb += awaits_core.eq(~self.events.valid)
                event, group_bits = self.events.payload, (self.bitmap_bytes - 1).bit_length()
                with m.If(self.events.valid):
                    with m.If(~event.end & (event.index[3 : 3 + group_bits] == index[:group_bits])):
                        m.d.comb += [writes_payload.eq(1), reply_byte.eq(event.value), self.events.ready.eq(1)]
                        m.d.sync += bitmap.bit_select(event.index[:3], 1).eq(1)
                    with m.Else():
                        m.d.comb += [writes_bitmap.eq(1), reply_byte.eq(bitmap)]
                        m.d.sync += [bitmap.eq(0), index.eq(index + 1)]
                        with m.If(index == self.bitmap_bytes - 1):
                            m.d.comb += self.events.ready.eq(1)
                            m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += writes_header.eq(1)
                m.d.sync += header_index.eq(header_index + 1)
                with m.If(header_index == 7):
                    m.d.sync += [header_index.eq(header_index.init), connected.eq(1), expected.eq(sequence + 1)]
                    with m.If(command == Command.IDENTIFY):
                        m.d.sync += kept.eq(1)
                    with m.Elif(kept != window):
                        m.d.sync += kept.eq(kept + 1)
                    m.d.comb += finished.eq(1)
                    m.next = "RECEIVE"

        with m.If(finished | repeat):
            m.d.sync += pending.bit_select(slot, 1).eq(1)

        # Sender.
        refusal_pending, refusal_status = Signal(), Signal(8)
        refusing = Signal()
        refusal_content = Signal(8 * header_bytes)
        send_slot = Signal(range(window))
        send_index, send_last = (Signal(place_bits, name=name) for name in ("send_index", "send_last"))
        send_byte, stuffed = Signal(8), Signal()
        needs_escape = (send_byte == protocol.FLAG) | (send_byte == protocol.ESCAPE)
        ahead = Signal()
        crc_byte = Signal()
        m.d.comb += [
            replies.address.eq(Cat((send_index + ahead)[:place_bits], send_slot)),
            send_crc.data.eq(send_byte),
        ]
        sending = Signal()
        with m.FSM(name="sender"):
            with m.State("IDLE"):
                m.d.comb += send_crc.start.eq(1)
                m.d.sync += [send_index.eq(-header_bytes), send_last.eq(0), refusing.eq(0)]
                with m.If(refusal_pending):
                    m.d.sync += [
                        refusal_pending.eq(0),
                        refusing.eq(1),
                        refusal_content.eq(Cat(expected, Const(protocol.NAK, 8), Const(1, 16), refusal_status)),
                    ]
                    m.next = "OPEN"
                with m.Elif(pending.bit_select(send_slot, 1)):
                    m.next = "OPEN"
                with m.Else():
                    m.d.sync += send_slot.eq(send_slot + 1 if window > 1 else 0)
            with m.State("OPEN"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(protocol.FLAG), sending.eq(1)]
                with m.If(self.o.ready):
                    m.next = "READ"
            # A reply's memory is slow: while a byte is sent the next one is read, and then gets cycles of its own.
            with m.State("READ"):
                m.d.comb += sending.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += sending.eq(1)
                m.d.sync += send_byte.eq(
                    Mux(
                        crc_byte,
                        send_crc.crc.word_select(send_index[:2], 8),
                        Mux(refusing, refusal_content[:8], replies.data),
                    )
                )
                m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.comb += [self.o.valid.eq(1), sending.eq(1), ahead.eq(1)]
                with m.If(needs_escape & ~stuffed):
                    m.d.comb += self.o.payload.eq(protocol.ESCAPE)
                    with m.If(self.o.ready):
                        m.d.sync += stuffed.eq(1)
                with m.Else():
                    m.d.comb += self.o.payload.eq(Mux(stuffed, send_byte ^ protocol.ESCAPE_XOR, send_byte))
                    with m.If(self.o.ready):
                        m.d.comb += send_crc.valid.eq(~crc_byte)
                        m.next = "READ"
                        m.d.sync += [
                            stuffed.eq(0),
                            send_index.eq(send_index + 1),
                            refusal_content.eq(refusal_content[8:]),
                        ]
                        with m.If(~crc_byte):
                            # The content says itself how long it is: status and payload.
                            with m.If(send_index == (1 << place_bits) - 3):
                                m.d.sync += send_last[:8].eq(send_byte)
                            with m.Elif(send_index == (1 << place_bits) - 2):
                                m.d.sync += send_last.eq(Cat(send_last[:8], send_byte) - 2)
                            with m.Elif(send_index == send_last):
                                m.d.sync += [crc_byte.eq(1), send_index.eq(0)]
                        with m.Elif(send_index == protocol.CRC_BYTES - 1):
                            m.d.sync += crc_byte.eq(0)
                            m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(protocol.FLAG), sending.eq(1)]
                with m.If(self.o.ready):
                    with m.If(~refusing):
                        m.d.sync += pending.bit_select(send_slot, 1).eq(0)
                    m.next = "IDLE"

        # After the sender: a refusal that arrives as the last one is taken is not lost.
        with m.If(refuse):
            m.d.sync += [refusal_pending.eq(1), refusal_status.eq(refusal)]

        sends = pending.any() | refusal_pending | sending
        m.d.comb += [
            self.busy.eq(
                (queue.level != 0)
                | received.valid
                | ~receiving
                | (sends & ~(self.o.valid & ~self.o.ready))
                | self.core_busy
            ),
            self.waiting.eq(awaits_core & ~sends),
        ]
        return m
