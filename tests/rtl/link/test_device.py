"""The device in Python."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egret.rtl import protocol
from egret.rtl.link.frames import Frame, FrameReader, encode_frame
from egret.rtl.protocol import Command, Status
from egret.sim.stand_in import DIGEST, OUTPUTS, SECTIONS, TOKENS, StandInModel, device


class Session:
    """Sends single commands to the device in Python and decodes its replies."""

    def __init__(self, **options):
        self.device = device(**options)
        self.reader = FrameReader(0xFFFF)
        self.sequence = 100

    def raw(self, data):
        return self.reader.feed(self.device.feed(data))

    def __call__(self, command, payload=b""):
        (frame,) = self.raw(encode_frame(self.sequence, command, payload))
        assert (frame.sequence, frame.command) == (self.sequence, command | protocol.REPLY)
        self.sequence += 1
        return Status(frame.payload[0]), frame.payload[1:]

    def load(self, payloads):
        assert self(Command.BEGIN, DIGEST)[0] == Status.OK
        for payload in payloads:
            assert self(Command.LOAD, payload)[0] == Status.OK
        content = b"".join(payloads)
        return self(Command.CHECK, protocol.LOAD_CHECK.pack(len(content), zlib.crc32(content)))


@pytest.fixture
def session():
    session = Session()
    assert session(Command.IDENTIFY)[0] == Status.OK
    return session


def test_identity():
    status, payload = Session()(Command.IDENTIFY)
    identity = protocol.IDENTITY.unpack(payload[: protocol.IDENTITY.size])
    magic, version, digest, window, *_, tokens, outputs, _, _, head = identity
    assert (status, magic, version, digest, window, tokens, outputs, head) == (
        Status.OK,
        protocol.MAGIC,
        protocol.VERSION,
        DIGEST,
        2,
        TOKENS,
        OUTPUTS,
        0,
    )
    assert payload[protocol.IDENTITY.size :] == protocol.LoadState().pack()


@pytest.mark.parametrize(
    ("command", "payload", "status"),
    [
        (Command.IDENTIFY, b"x", Status.BAD_LENGTH),
        (Command.BEGIN, b"1234567", Status.BAD_LENGTH),
        (Command.BEGIN, b"12345678", Status.WRONG_DIGEST),
        (Command.LOAD, bytes(6), Status.NOT_LOADING),
        (Command.CHECK, bytes(8), Status.NOT_LOADING),
        (Command.CHECK, bytes(7), Status.BAD_LENGTH),
        (Command.CLEAR, b"x", Status.BAD_LENGTH),
        (Command.STEP, bytes(3), Status.BAD_LENGTH),
        (Command.STEP, bytes(4), Status.NOT_VERIFIED),
        (Command.COUNTERS, b"x", Status.BAD_LENGTH),
        *((command, b"", Status.UNKNOWN_COMMAND) for command in (0, 9, 10, 11, 12, 13)),
    ],
)
def test_refused_commands(session, command, payload, status):
    assert session(command, payload)[0] == status
    assert session(Command.CLEAR)[0] == Status.OK


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"", Status.BAD_LENGTH),
        (bytes(3), Status.BAD_LENGTH),
        (b"\x00\x00\x00\x00xyz", Status.BAD_LENGTH),
        (b"\x01\x00\x00\x00xy", Status.BAD_SECTION),
        (b"\x00\x10\x00\x00xy", Status.BAD_INDEX),
        (b"\x00\x0f\x00\x00wxyz", Status.BAD_INDEX),
        (b"\x05\xff\xff\xffx", Status.BAD_INDEX),
    ],
)
def test_refused_loads_end_the_loading(session, payload, status):
    session(Command.BEGIN, DIGEST)
    assert session(Command.LOAD, payload)[0] == status
    assert session(Command.LOAD, b"\x00\x00\x00\x00xy")[0] == Status.NOT_LOADING


def test_steps_need_a_verified_load(session):
    loads = [
        bytes([section, 0, 0, 0]) + bytes(range(section + 1, section + 1 + width * depth))
        for section, (width, depth) in SECTIONS.items()
    ]
    content = b"".join(loads)
    assert session.load(loads) == (Status.OK, protocol.LoadState(False, True, len(content), zlib.crc32(content)).pack())
    model = StandInModel()
    model.memories = session.device._core.memories
    events = protocol.event_bytes(model.step(7), OUTPUTS)
    assert session(Command.STEP, protocol.TOKEN.pack(7)) == (Status.OK, events)
    assert session(Command.STEP, protocol.TOKEN.pack(TOKENS))[0] == Status.BAD_TOKEN
    assert session(Command.STEP, protocol.TOKEN.pack(1 << 20))[0] == Status.BAD_TOKEN
    session(Command.BEGIN, DIGEST)
    session(Command.LOAD, loads[0])
    assert session(Command.CHECK, protocol.LOAD_CHECK.pack(len(loads[0]), 0))[0] == Status.CHECK_FAILED
    assert session(Command.STEP, protocol.TOKEN.pack(7))[0] == Status.NOT_VERIFIED


def test_texts_go_on_until_they_end():
    session = Session(readout=True)
    session(Command.IDENTIFY)
    session.load([b"\x00\x00\x00\x00xy"])

    def generate(token, count):
        status, payload = session(Command.GENERATE, protocol.GENERATE.pack(token, count))
        assert status == Status.OK
        return [word for (word,) in protocol.WORD.iter_unpack(payload)]

    def sampling(stop):
        assert session(Command.SAMPLING, protocol.SAMPLING.pack(0, 256, stop, 99)) == (Status.OK, b"")

    assert generate(protocol.NOTHING, 3) == []  # from what?
    sampling(protocol.NOTHING)
    text = generate(7, 20)
    assert len(text) == 20
    session(Command.CLEAR)
    sampling(text[11])
    end = text.index(text[11]) + 1
    pieces = [generate(7, 5), *(generate(protocol.NOTHING, 5) for _ in range(5))]
    assert sum(pieces, []) == text[:end] and end > 5
    assert [len(piece) for piece in pieces[-2:]] == [0, 0]  # behind its end a text does not go on
    assert session(Command.COUNTERS)[1][:8] == (20 + end).to_bytes(8, "little")


@pytest.mark.parametrize("window", [1, 2, 4])
def test_repeats_are_answered_from_memory(window):
    session = Session(window=window)
    session(Command.IDENTIFY)
    replies = []
    for number in range(6):
        frame = encode_frame(101 + number, Command.CLEAR)
        replies.append((frame, session.raw(frame)))
    assert session.device._core.clears == 6
    for frame, reply in replies[-window:]:
        assert session.raw(frame) == reply
    for frame, _ in replies[:-window]:
        (refusal,) = session.raw(frame)
        assert refusal == Frame(107, protocol.NAK, bytes([Status.OUT_OF_ORDER]))
    assert session.device._core.clears == 6
    assert session.device.repeated_frames == window


def test_nothing_works_outside_a_session():
    session = Session()
    (refusal,) = session.raw(encode_frame(5, Command.CLEAR))
    assert refusal == Frame(0, protocol.NAK, bytes([Status.NO_SESSION]))
    session.raw(encode_frame(0xFFFF, Command.IDENTIFY))
    assert session.raw(encode_frame(0, Command.CLEAR))[0].payload == bytes([Status.OK])


@given(st.binary(max_size=400))
def test_the_device_survives_any_bytes(data):
    session = Session()
    session.device.feed(data)
    assert session.raw(b"\x7e" + encode_frame(100, Command.IDENTIFY))[-1].sequence == 100
