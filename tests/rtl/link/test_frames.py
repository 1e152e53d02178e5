"""Frames in Python."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.protocol import HEADER, Command

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


@pytest.mark.parametrize("length", [0, 4, 6, 5 + (1 << 8), 0xFFFF])
def test_a_length_that_its_crc_vouches_for_must_be_true(length):
    """Five bytes of payload behind a header that says another number."""
    content = HEADER.pack(7, Command.LOAD, length) + b"five!"
    content += zlib.crc32(content).to_bytes(4, "little")
    content = content.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    found = FrameReader(60).feed(b"\x7e" + content + encode(Frame(8, Command.CLEAR, b"")))
    assert isinstance(found[0], BadFrame) and found[1:] == [Frame(8, Command.CLEAR, b"")]


def test_a_reader_does_not_collect_without_end():
    reader = FrameReader(10)
    reader.feed(b"\x7e")
    for _ in range(100):
        assert reader.feed(bytes(1000)) == []
    assert len(reader._pending) < 2000
    assert isinstance(reader.feed(b"\x7e")[0], BadFrame)
