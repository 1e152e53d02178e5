"""Frames, the device in Python, and the documentation."""

import zlib
from pathlib import Path

import pytest
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from hypothesis import given
from hypothesis import strategies as st

from egret.rtl import protocol
from egret.rtl.protocol import BadFrame, Command, Frame, FrameReader, Status, encode_frame
from egret.sim.stand_in import DIGEST, OUTPUTS, SECTIONS, TOKENS, StandInModel, device

payloads = st.binary(max_size=60) | st.lists(st.sampled_from([0x7D, 0x7E, 0x5D, 0x5E, 0]), max_size=60).map(bytes)
frames = st.builds(Frame, st.integers(0, 0xFFFF), st.integers(0, 255), payloads)


def encode(frame):
    return encode_frame(frame.sequence, frame.command, frame.payload)


def feed_in_pieces(reader, data, cuts):
    found = []
    cuts = sorted({min(cut, len(data)) for cut in cuts})
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += reader.feed(data[start:end])
    return found


def test_crc_is_the_catalogued_one():
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert CRC32_ISO_HDLC(8).compute(b"123456789") == 0xCBF43926
    assert zlib.crc32(b"") == protocol.NO_CRC


def test_a_frame_byte_by_byte():
    content = bytes.fromhex("7d7e 06 0400 05000000")
    crc = zlib.crc32(content).to_bytes(4, "little")
    escaped = (content + crc).replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    assert encode_frame(0x7E7D, Command.STEP, bytes([5, 0, 0, 0])) == b"\x7e" + escaped + b"\x7e"


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 600), max_size=8), st.binary(max_size=5))
def test_frames_survive_the_line(sent, cuts, noise):
    noise = noise.replace(b"\x7e", b"")
    data = noise + b"".join(map(encode, sent))
    assert feed_in_pieces(FrameReader(60), data, cuts) == sent


@given(st.lists(st.binary(max_size=300), max_size=8), frames)
def test_any_bytes_are_survived(pieces, frame):
    reader = FrameReader(60)
    for piece in pieces:
        for found in reader.feed(piece):
            assert isinstance(found, BadFrame | Frame)
    assert reader.feed(encode(frame))[-1] == frame


@given(frames, st.data())
def test_a_damaged_frame_is_never_another(frame, data):
    good = encode(frame)
    kind = data.draw(st.sampled_from(["flip", "drop", "insert"]))
    place = data.draw(st.integers(0, len(good) - 1))
    if kind == "flip":
        bad = good[:place] + bytes([good[place] ^ 1 << data.draw(st.integers(0, 7))]) + good[place + 1 :]
    elif kind == "drop":
        bad = good[:place] + good[place + 1 :]
    else:
        bad = good[:place] + data.draw(st.binary(min_size=1, max_size=1)) + good[place:]
    found = FrameReader(60).feed(bad + b"\x7e")
    assert all(isinstance(item, BadFrame) or item == frame for item in found)


def test_a_reader_does_not_collect_without_end():
    reader = FrameReader(10)
    reader.feed(b"\x7e")
    for _ in range(100):
        assert reader.feed(bytes(1000)) == []
    assert len(reader._pending) < 2000
    assert isinstance(reader.feed(b"\x7e")[0], BadFrame)


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
    magic, version, digest, window, *_, tokens, outputs, _, _ = identity
    assert (status, magic, version, digest, window, tokens, outputs) == (
        Status.OK,
        protocol.MAGIC,
        protocol.VERSION,
        DIGEST,
        2,
        TOKENS,
        OUTPUTS,
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
        (9, b"", Status.UNKNOWN_COMMAND),
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


def test_event_bytes():
    assert protocol.event_bytes([], 9) == bytes(2)
    assert protocol.event_bytes([(0, 7), (3, 255), (8, 1)], 9) == bytes([0b1001, 1, 7, 255, 1])
    assert [protocol.bitmap_bytes(outputs) for outputs in (1, 8, 9, 750)] == [1, 1, 2, 94]


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


def test_counter_names():
    plain = protocol.counter_names(2, sdram=False)
    assert plain[:4] == ("tokens", "cycles", "words", "macs") and plain[-2:] == ("events_0", "events_1")
    assert protocol.counter_names(2, sdram=True) == (*plain, "memory", "beats")
    assert set(protocol.CAUSES) - set(plain) == {"memory"}


def test_documentation_is_current():
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert text.split("describe() -->\n\n")[1] == protocol.describe()
