"""The link in hardware against the device in Python, behind a core of a few lines."""

import gc
import random
import zlib

import pytest

from egret.rtl import protocol
from egret.rtl.link.frames import FrameReader, encode_frame
from egret.rtl.link.link import Link
from egret.rtl.protocol import Command, Status
from egret.sim.stand_in import COUNTERS, DIGEST, SECTIONS, TOKENS, StandInBoard, device
from tests.support.streams import StreamSimulation

INPUT = 3
"""The section that takes events, where there is one."""
OPTIONS = {"digest": DIGEST, "tokens": TOKENS, "outputs": 5, "sections": SECTIONS, "layers": 0, "counters": COUNTERS}


def loads(generator):
    """Payloads of LOAD commands that fill all memories, in pieces."""
    for section, (width, depth) in SECTIONS.items():
        index = 0
        while index < depth:
            count = generator.randint(1, depth - index)
            yield bytes([section]) + index.to_bytes(3, "little") + generator.randbytes(width * count)
            index += count


def whole_load(generator):
    """Commands of a load that succeeds."""
    payloads = list(loads(generator))
    content = b"".join(payloads)
    return [
        (Command.BEGIN, DIGEST),
        *((Command.LOAD, payload) for payload in payloads),
        (Command.CHECK, protocol.LOAD_CHECK.pack(len(content), zlib.crc32(content))),
    ]


def events(generator, section=INPUT):
    """An EVENTS command, here and there with words that do not fit or beyond the end."""
    index = generator.randrange(5).to_bytes(3, "little")
    content = generator.randbytes(SECTIONS[INPUT][0] * generator.randint(1, 4) + (generator.random() < 0.2))
    return (Command.EVENTS, bytes([section]) + index + content)


def of_words(generator):
    """Commands of a read-out, most of them good."""
    token = generator.choice([generator.randrange(TOKENS + 2), protocol.NOTHING, protocol.NOTHING])
    words = protocol.GENERATE.pack(token, generator.choice([1, 2, 7, generator.randrange(70)]))
    stop = generator.choice([protocol.NOTHING, generator.randrange(TOKENS + 20)])
    scores = [
        protocol.SCORE.pack(generator.randrange(TOKENS), generator.randrange(4), generator.randrange(42))
        for _ in range(generator.randrange(1, 6))
    ]
    return [
        (Command.SAMPLING, protocol.SAMPLING.pack(generator.randrange(66), 256, stop, generator.getrandbits(64))),
        (Command.GENERATE, words),
        (Command.GENERATE, protocol.GENERATE.pack(protocol.NOTHING, 3)),
        (Command.TOP, words),
        (Command.SCORE, b"".join(scores)),
    ]


def commands(generator, count, *, readout):
    """Random commands, most of them good, all kinds of bad ones among them."""
    result = [(Command.IDENTIFY, b""), (Command.STEP, bytes(4)), *whole_load(generator)]
    while len(result) < count:
        step = (Command.STEP, protocol.TOKEN.pack(generator.randrange(TOKENS)))
        result += generator.choice(
            [
                [step],
                [step],
                [step],
                [step],
                [step],
                [step],
                [(Command.CLEAR, b"")],
                [(Command.COUNTERS, b"")],
                [(Command.IDENTIFY, b"")],
                [(Command.STEP, protocol.TOKEN.pack(generator.choice([TOKENS, 0xFFFF, 0x10000, 0xFFFFFFFF])))],
                [(generator.randrange(256), generator.randbytes(generator.randrange(12)))],
                [(Command.BEGIN, generator.randbytes(8))],
                [events(generator), step],
                [events(generator, generator.randrange(5))],
                [(Command.EVENTS, generator.randbytes(generator.randrange(5)))],
                *([of_words(generator)] if readout else []),
                [(Command.BEGIN, DIGEST), events(generator), *whole_load(generator)[1:]],
                [
                    (Command.BEGIN, DIGEST),
                    (Command.LOAD, generator.randbytes(generator.randrange(40))),
                    (Command.LOAD, bytes([generator.choice(list(SECTIONS))]) + generator.randbytes(9)),
                    (Command.CHECK, generator.randbytes(8)),
                    *whole_load(generator),
                ],
                [(Command.BEGIN, DIGEST), (Command.LOAD, bytes(protocol.MAX_PAYLOAD)), *whole_load(generator)],
            ]
        )
    return result


def damage(generator, frame):
    """A frame as a bad line delivers it."""
    place = generator.randrange(len(frame))
    kind = generator.choice(["flip", "drop", "insert", "cut", "double", "noise", "escape"])
    if kind == "flip":
        return frame[:place] + bytes([frame[place] ^ 1 << generator.randrange(8)]) + frame[place + 1 :]
    if kind == "drop":
        return frame[:place] + frame[place + 1 :]
    if kind == "insert":
        return frame[:place] + generator.randbytes(1) + frame[place:]
    if kind == "cut":
        return frame[:place]
    if kind == "double":
        return frame[:place] + frame[place : place + 1] + frame[place:]
    if kind == "noise":
        return generator.randbytes(generator.randrange(20)) + frame
    return frame[:-1] + bytes([protocol.ESCAPE]) + frame[-1:]


class Line:
    """Bytes to and from a board in Amaranth's simulator."""

    def __init__(self, dut, seed, idle, backpressure):
        self.simulation = StreamSimulation(dut, seed)
        self.simulation.watch(dut.i, "i")
        self.sent, self.idle = 0, idle
        self.received = self.simulation.sink(dut.o, backpressure, "o")
        self.dut = dut

    async def send(self, context, data):
        for byte in data:
            while self.simulation.chance(self.idle):
                await context.tick()
            context.set(self.dut.i.payload, byte)
            context.set(self.dut.i.valid, 1)
            await context.tick().until(self.dut.i.ready)
            context.set(self.dut.i.valid, 0)
        self.sent += len(data)

    async def settle(self, context):
        await context.tick()
        while context.get(self.dut.busy | self.dut.o.valid):
            await context.tick()

    def take(self):
        data = bytes(payload for _, payload in self.received)
        self.received.clear()
        return data


def joined(data):
    """Frames, but one of several like it that follow each other: of refusals that wait, only the last one is sent.

    One that waited tells the number expected when it is sent at last.
    """
    frames = [
        (frame.sequence if frame.command != protocol.NAK else None, frame.command, frame.payload)
        for frame in FrameReader(0xFFFF).feed(data)
    ]
    return [frame for place, frame in enumerate(frames) if not place or frame != frames[place - 1]]


@pytest.mark.parametrize(
    ("seed", "idle", "backpressure", "window", "input_section", "readout"),
    [
        (2, 0.3, 0.0, 1, INPUT, False),
        (3, 0.0, 0.4, 2, None, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (1, 0.0, 0.0, 2, None, False),
                (4, 0.2, 0.6, 4, INPUT, False),
                (5, 0.0, 0.0, 2, INPUT, False),
                (6, 0.3, 0.0, 1, None, True),
                (7, 0.0, 0.4, 2, INPUT, False),
                (8, 0.2, 0.6, 4, None, True),
            ]
        ),
    ],
)
def test_answers_byte_for_byte_as_the_device_in_python(seed, idle, backpressure, window, input_section, readout):
    generator = random.Random(seed)
    line = Line(StandInBoard(window=window, input_section=input_section, readout=readout), seed, idle, backpressure)
    model = device(window=window, input_section=input_section, readout=readout)
    seen = {"bytes": 0, "replies": 0, "refusals": 0}
    statuses = set()
    answered = [(Command.GENERATE if readout else Command.EVENTS) | protocol.REPLY]

    async def testbench(context):
        sequence = generator.randrange(protocol.SEQUENCES)
        sent, reader = [], FrameReader(0xFFFF)
        for command, payload in commands(generator, 100, readout=readout):
            frame = encode_frame(sequence, command, payload)
            deliveries = [frame]
            if generator.random() < 0.25:
                deliveries.insert(0, damage(generator, frame))
            if sent and generator.random() < 0.15:
                deliveries.insert(0, generator.choice(sent[-6:]))
            for data in deliveries:
                await line.send(context, data)
                await line.settle(context)
                expected, actual = model.feed(data), line.take()
                where = f"seed {seed}, {Command.__name__} {command} {payload.hex()}: {data.hex()}"
                assert joined(actual) == joined(expected), where
                assert actual == expected or backpressure > 0 or len(deliveries) > 1, where
                seen["bytes"] += len(actual)
                for reply in reader.feed(actual):
                    seen["refusals" if reply.command == protocol.NAK else "replies"] += 1
                    if reply.command in answered:
                        statuses.add(Status(reply.payload[0]))
            sent.append(frame)
            lost = reply.payload == bytes([Status.OUT_OF_ORDER])
            sequence = reply.sequence if lost else (sequence + 1) % protocol.SEQUENCES

    line.simulation.run(testbench, timeout=400_000)
    assert seen["replies"] >= 60 and seen["refusals"] >= 5, seen
    assert statuses == {Status.UNKNOWN_COMMAND} if input_section is None and not readout else Status.OK in statuses
    assert line.simulation.watches["o"].transfers == seen["bytes"]
    assert line.simulation.watches["i"].transfers == line.sent
    assert (line.simulation.watches["o"].stalls > 0) == (backpressure > 0)


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("backpressure", [0.0, 0.5])
@pytest.mark.parametrize("readout", [False, True])
def test_commands_sent_ahead_are_answered_in_order(window, backpressure, readout):
    generator = random.Random(window)
    line = Line(StandInBoard(window=window, readout=readout), window, 0.0, backpressure)
    model = device(window=window, readout=readout)
    setup = [(Command.IDENTIFY, b""), *whole_load(generator)]
    steps = [(Command.STEP, protocol.TOKEN.pack(generator.randrange(TOKENS))) for _ in range(25)]
    if readout:
        # One text, in pieces.
        first = (Command.GENERATE, protocol.GENERATE.pack(5, 3))
        steps = [first, *[(Command.GENERATE, protocol.GENERATE.pack(protocol.NOTHING, 3))] * 24]
    reader, replies, expected = FrameReader(0xFFFF), [], []

    async def testbench(context):
        sequence = 0xFFF0
        for command, payload in setup + steps:
            frame = encode_frame(sequence, command, payload)
            expected.extend(FrameReader(0xFFFF).feed(model.feed(frame)))
            while len(expected) - len(replies) > (window if command in (Command.STEP, Command.GENERATE) else 1):
                await context.tick()
                replies.extend(reader.feed(line.take()))
            await line.send(context, frame)
            sequence = (sequence + 1) % protocol.SEQUENCES
        await line.settle(context)
        replies.extend(reader.feed(line.take()))

    line.simulation.run(testbench)
    assert replies == expected
    assert len(replies) == len(setup) + 25
    assert all(reply.payload[0] == Status.OK for reply in replies)


@pytest.mark.parametrize(("tokens", "bits"), [(5, 16), (1 << 16, 16), ((1 << 16) + 1, 17)])
@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_width_of_a_token(tokens, bits):
    assert len(Link(**OPTIONS | {"tokens": tokens}).core.token.payload) == bits
    gc.collect()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 3}, "window must be a power of two from 1 to 128, not 3"),
        ({"tokens": 0}, "tokens must be from 1 to 1048576, not 0"),
        ({"tokens": 65537, "head": 5}, "tokens must be from 1 to 65536, not 65537"),
        ({"counters": 256}, "counters must be from 0 to 255, not 256"),
        ({"outputs": 58249}, "outputs must be at most 58248, not 58249"),
        ({"sections": {16: (1, 1)}}, "section 16 must be from 0 to 15"),
        ({"sections": {0: (505, 1)}}, "section 0 must be"),
        ({"head": 5, "groups": 1 << 16}, "head, groups and group_size must be from 0 to 65535, not 5, 65536 and 0"),
        ({"head": 5, "input_section": INPUT}, "a core whose input is events has no read-out"),
    ],
)
@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_parameters_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        Link(**OPTIONS | change)
    gc.collect()
