"""The receiver in hardware against the reader of frames in Python."""

import random
import zlib

import pytest

from egret.rtl import protocol
from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.link.receiver import Receiver
from tests.support.streams import StreamSimulation


class Reception:
    """A receiver that is sent ``data``; ``found`` is what comes of it, as `FrameReader.feed` returns it."""

    def __init__(self, data, *, seed=1, idle=0.0, hold=0, receive_bytes=64, max_payload=protocol.MAX_PAYLOAD):
        self.dut = dut = Receiver(receive_bytes=receive_bytes, max_payload=max_payload)
        self.simulation = StreamSimulation(dut, seed)
        self.taken = self.simulation.source(dut.i, data, idle, "i")
        self.watch = self.simulation.watch(dut.frames, "frames")
        self.found, self.offered, self.hold = [], [], hold

        def count_bad(cycle, bad):
            self.found.extend([BadFrame] * bad)

        self.simulation.each_cycle(count_bad, dut.bad)

    async def take(self, context):
        """Read the frame that is offered as the executor does, and let it go."""
        dut, header = self.dut, self.dut.frames.payload
        length = context.get(header.length)
        argument = context.get(header.argument).to_bytes(8, "little")[:length]
        payload = bytearray()
        for address in range(length):
            context.set(dut.payload_address, address)
            await context.tick()
            payload.append(context.get(dut.payload_byte))
        assert payload[:8] == argument
        while self.simulation.random.random() < self.hold:
            await context.tick()
        assert context.get(dut.busy)
        self.found.append(Frame(context.get(header.sequence), context.get(header.command), bytes(payload)))
        context.set(dut.frames.ready, 1)
        await context.tick()
        context.set(dut.frames.ready, 0)

    def run(self, count):
        """Send everything, and take every frame; ``count`` bytes are to be taken."""

        async def testbench(context):
            while len(self.taken) < count or context.get(self.dut.busy):
                if context.get(self.dut.frames.valid):
                    await self.take(context)
                else:
                    await context.tick()
            await context.tick()

        self.simulation.run(testbench)
        return self.found


def read(data):
    """What the reader in Python finds, a class in place of each bad frame."""
    found = FrameReader(protocol.MAX_PAYLOAD).feed(data)
    return [BadFrame if isinstance(item, BadFrame) else item for item in found]


def random_frame(generator):
    length = generator.choice([0, 1, 4, 8, 9, 40])
    payload = bytes(generator.choice([0x7D, 0x7E, 0x5D, 0x5E, generator.randrange(256)]) for _ in range(length))
    return encode_frame(generator.randrange(1 << 16), generator.randrange(256), payload)


@pytest.mark.parametrize(
    ("seed", "idle", "hold", "receive_bytes"), [(1, 0.0, 0.0, 64), (2, 0.3, 0.5, 64), (3, 0.0, 0.9, 128)]
)
def test_finds_the_frames_that_the_reader_in_python_finds(seed, idle, hold, receive_bytes):
    generator = random.Random(seed)
    data = b"noise before the first flag"
    for _ in range(60):
        frame = random_frame(generator)
        place = generator.randrange(len(frame))
        data += generator.choice(
            [
                frame,
                frame,
                frame[:-1],  # shares its flag with the next one
                frame[:place] + bytes([frame[place] ^ 1 << generator.randrange(8)]) + frame[place + 1 :],
                frame[:place] + frame[place + 1 :],
                frame[:place] + bytes([protocol.ESCAPE]) + frame[place:],
                b"\x7e" * 3 + frame,
            ]
        )
    data += b"\x7e"
    reception = Reception(data, seed=seed, idle=idle, hold=hold, receive_bytes=receive_bytes)
    assert reception.run(len(data)) == read(data)
    frames = sum(item is not BadFrame for item in reception.found)
    assert reception.watch.transfers == frames > 25 and len(reception.found) - frames > 8


def test_every_bad_header_is_dropped():
    good = protocol.HEADER.pack(0x1234, 5, 3) + b"abc"
    good += zlib.crc32(good).to_bytes(protocol.CRC_BYTES, "little")
    # Every byte of the header, one of the payload, and every one of the CRC.
    places = [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]
    contents = [good[:place] + bytes([good[place] ^ 0x80]) + good[place + 1 :] for place in places]
    data = b"".join(b"\x7e" + content for content in [*contents, good]) + b"\x7e"
    found = Reception(data).run(len(data))
    assert found == [BadFrame] * len(places) + [Frame(0x1234, 5, b"abc")]


@pytest.mark.parametrize(("change", "good"), [(0, True), (-1, False), (1, False)])
def test_a_length_that_its_crc_vouches_for_must_be_true(change, good):
    body = protocol.HEADER.pack(7, 5, 3 + change) + b"abc"
    data = b"\x7e" + body + zlib.crc32(body).to_bytes(protocol.CRC_BYTES, "little") + b"\x7e"
    assert Reception(data).run(len(data)) == ([Frame(7, 5, b"abc")] if good else [BadFrame])


@pytest.mark.parametrize("longest", [protocol.MAX_PAYLOAD, 1980])
def test_the_longest_frame_and_a_longer_one(longest):
    payload = bytes(index % 100 for index in range(longest))
    data = b"".join(encode_frame(1, 3, part) for part in (payload + b"x", payload, payload + b"xyz", b"short"))
    reception = Reception(data, max_payload=longest)
    assert reception.run(len(data)) == [BadFrame, Frame(1, 3, payload), BadFrame, Frame(1, 3, b"short")]


def test_short_frames_and_bad_escapes():
    crc = zlib.crc32(b"").to_bytes(4, "little")  # of a frame without even a header
    data = (
        b"\x7e\x7e" + crc + b"\x7ea\x7e" + b"\x7d\x00\x7e" + encode_frame(9, 5)[:-1] + b"\x7d\x7e" + encode_frame(9, 6)
    )
    found = Reception(data).run(len(data))
    assert found == read(data) == [BadFrame] * 4 + [Frame(9, 6, b"")]


@pytest.mark.parametrize(("receive_bytes", "held", "latency"), [(16, 16, 3), (64, 64, 3), (200, 202, 4)])
def test_holds_bytes_while_a_frame_waits(receive_bytes, held, latency):
    frame = encode_frame(3, 5)
    data = frame + bytes(receive_bytes + 20)
    dut = Receiver(receive_bytes=receive_bytes)
    simulation = StreamSimulation(dut)
    simulation.watch(dut.i, "i")
    taken, states = [], []
    simulation.each_cycle(
        lambda cycle, *state: states.append(state), dut.i.ready & dut.i.valid, dut.frames.valid, dut.busy
    )

    async def testbench(context):
        context.set(dut.i.valid, 1)
        for byte in data:
            context.set(dut.i.payload, byte)
            for _ in range(10):
                _, _, ready = await context.tick().sample(dut.i.ready)
                if ready:
                    break
            else:
                return
            taken.append(byte)

    simulation.run(testbench)
    # A queue of block RAM has two registers more, and takes a cycle longer.
    assert len(taken) - len(frame) == held
    assert states[0] == (1, 0, 0) and states[-1] == (0, 1, 1)
    assert next(cycle for cycle, (_, offered, _) in enumerate(states) if offered) == len(frame) - 1 + latency
