"""The executor in hardware against the device in Python, between a sender and a core of plain Python."""

import itertools
import random
import zlib

import pytest

from egret.model.readout import ALL_WORDS, MOST_TOP
from egret.rtl import protocol
from egret.rtl.layouts import Task
from egret.rtl.link.device import Device
from egret.rtl.link.executor import Executor, longest_reply
from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.link.sender import CONTENT_HEADER_BYTES, place_bits
from egret.rtl.protocol import Command, Status
from egret.sim.stand_in import COUNTERS, DIGEST, GROUPS, HEAD, OUTPUTS, SECTIONS, TOKENS, StandInModel
from tests.support.streams import StreamSimulation

INPUT = 3
"""The section that takes events, where there is one."""


class Execution:
    """An executor whose frames, core and slots are driven from Python.

    ``answers`` grows by a frame for each answer: the reply as it lies in the slot that is announced, or the refusal.
    """

    def __init__(
        self,
        *,
        window=2,
        input_section=None,
        seed=1,
        pause=0.0,
        counters=COUNTERS,
        readout=False,
        max_payload=protocol.MAX_PAYLOAD,
    ):
        head, self.groups = (HEAD, GROUPS) if readout else (0, {})
        self.identity = protocol.Identity(DIGEST, window, max_payload, 64, TOKENS, OUTPUTS, counters, 0, head)
        self.dut = dut = Executor(self.identity, SECTIONS, input_section=input_section, **self.groups)
        self.simulation = StreamSimulation(dut, seed)
        self.model = StandInModel()
        self.payload = b""
        self.slots = [bytearray(1 << place_bits(longest_reply(self.identity))) for _ in range(window)]
        self.announced, self.answers, self.pending = None, [], 0
        self.pause, self.pauses = pause, 0
        self.simulation.watch(dut.frames, "frames")
        self.simulation.watch(dut.core.token, "token")
        self.simulation.watch(dut.core.events, "events")
        self.simulation.simulator.add_process(self.memories)
        self.simulation.simulator.add_process(self.core)

    async def memories(self, context):
        """The payload memory of the receiver, and the slots of the sender."""
        dut = self.dut
        ports = (
            *(dut.payload_address, dut.core.counter_byte),
            *(dut.content.valid, dut.content.payload.slot, dut.content.payload.place, dut.content.payload.byte),
            *(dut.replies.valid, dut.replies.payload, dut.refusals.valid, dut.refusals.payload, dut.expected),
        )
        async for _, _, address, counter, *content, ready, slot, refused, status, expected in context.tick().sample(
            *ports
        ):
            context.set(dut.payload_byte, self.payload[address] if address < len(self.payload) else 0xAA)
            counters = b"".join(value.to_bytes(8, "little") for value in self.model.counters())
            context.set(dut.core.counter_read, counters[counter] if counter < len(counters) else 0xAA)
            valid, *where, byte = content
            if valid:
                assert not self.pending >> where[0] & 1, f"slot {where[0]} was written while it was pending"
                self.slots[where[0]][where[1]] = byte
            # A reply's last byte comes a cycle after its announcement.
            if self.announced is not None:
                self.answers.append(self.reply(self.announced))
            self.announced = slot if ready else None
            if refused:
                self.answers.append(encode_frame(expected, protocol.NAK, bytes([status])))

    def reply(self, slot):
        """Frame of the reply that lies in a slot."""
        content = self.slots[slot]
        sequence, command, length = protocol.HEADER.unpack_from(content, len(content) - CONTENT_HEADER_BYTES)
        return encode_frame(sequence, command, bytes([content[-1]]) + content[: length - 1])

    async def core(self, context):
        """The core: at any time it may be busy for a while with what it was told."""
        core = self.dut.core
        readout = [core.sampling_load, core.sampling] if self.groups else []
        context.set(core.counters_settled, 1)
        while True:
            context.set(core.token.ready, 1)
            sampled = context.tick().sample(
                core.token.valid, core.token.payload, core.clear, core.load_valid, core.load, *readout
            )
            _, _, token_valid, token, clear, load_valid, load, *sampling = await sampled
            if sampling and sampling[0]:
                self.model.sampling(sampling[1].top, sampling[1].beta, sampling[1].state)
            context.set(core.token.ready, 0)
            if load_valid:
                self.model.load(load.section, load.index, load.data & (1 << 8 * SECTIONS[load.section][0]) - 1)
            if clear:
                self.model.clear()
                context.set(core.busy, 1)
                await self.idle(context, in_step=False)
                context.set(core.busy, 0)
            if token_valid:
                context.set(core.busy, 1)
                for index, value in self.model.step(token.token if readout else token):
                    await self.beat(context, core.events, {"index": index, "value": value, "end": 0})
                await self.beat(context, core.events, {"index": 0, "value": 0, "end": 1})
                await self.tell(context, token if readout else None)
                context.set(core.busy, 0)

    async def tell(self, context, asked):
        """What a read-out tells behind the events of a step."""
        match None if asked is None else asked.task:
            case Task.SCORE:
                beats = [(0xDEAD, self.model.score_of(asked.group, asked.index))]
            case Task.SAMPLE:
                beats = [(self.model.draw(), 0xBEEF)]
            case Task.TOP:
                beats = self.model.top_of(asked.index)
            case _:
                beats = []
        for place, (word, value) in enumerate(beats):
            beat = {"word": word, "value": value, "end": place == len(beats) - 1}
            await self.beat(context, self.dut.core.result, beat)

    async def beat(self, context, stream, payload):
        await self.idle(context, in_step=True)
        self.simulation.set(context, stream.payload, payload)
        context.set(stream.valid, 1)
        await context.tick().until(stream.ready)
        context.set(stream.valid, 0)

    async def idle(self, context, *, in_step):
        while self.simulation.chance(self.pause):
            _, _, waits = await context.tick().sample(self.dut.waits)
            assert waits == in_step
            self.pauses += 1

    async def give(self, context, frame, payload_first=0):
        """Offer a frame, or tell of a bad one, until it has been taken and answered."""
        dut, before = self.dut, len(self.answers)
        if isinstance(frame, BadFrame):
            context.set(dut.bad, 1)
            await context.tick()
            context.set(dut.bad, 0)
        else:
            # What follows the payload in the argument is of an earlier frame.
            argument = (frame.payload[:8] + b"\xee" * 8)[:8]
            self.payload = frame.payload
            value = (frame.sequence, frame.command, len(frame.payload), int.from_bytes(argument, "little"))
            self.simulation.set(context, dut.frames.payload, value)
            context.set(dut.frames.valid, 1)
            await context.tick().until(dut.frames.ready)
            context.set(dut.frames.valid, 0)
        await context.tick().repeat(3)
        assert len(self.answers) == before + 1

    def device(self):
        """The counterpart in Python, behind a core of its own."""
        return Device(StandInModel(), self.identity, SECTIONS, self.dut._input_section, **self.groups)


def load_payload(section, index, content):
    return bytes([section]) + index.to_bytes(3, "little") + content


def whole_load(generator):
    """Commands of a load that succeeds."""
    payloads = [
        load_payload(section, 0, generator.randbytes(width * depth)) for section, (width, depth) in SECTIONS.items()
    ]
    content = b"".join(payloads)
    check = protocol.LOAD_CHECK.pack(len(content), zlib.crc32(content))
    return [(Command.BEGIN, DIGEST), *((Command.LOAD, payload) for payload in payloads), (Command.CHECK, check)]


def bad_commands(generator):
    """Commands that are refused by their status, each for another reason; they end a load."""
    return [
        *((command, b"x") for command in (Command.IDENTIFY, Command.CLEAR, Command.COUNTERS)),
        (Command.BEGIN, bytes(7)),
        (Command.BEGIN, bytes(8)),
        (Command.LOAD, bytes(6)),
        (Command.CHECK, bytes(8)),
        (Command.CHECK, bytes(7)),
        (Command.STEP, bytes(3)),
        (Command.STEP, bytes(4)),
        (Command.STEP, protocol.TOKEN.pack(TOKENS)),
        (Command.STEP, protocol.TOKEN.pack(1 << 16)),
        (Command.EVENTS, b""),
        (Command.EVENTS, load_payload(INPUT, 1, generator.randbytes(10))),
        (Command.EVENTS, load_payload(INPUT, 3, generator.randbytes(10))),
        (Command.EVENTS, load_payload(0, 1, generator.randbytes(4))),
        (0, b""),
        (13, b"12345678"),
        (255, b""),
        *bad_words(generator),
    ]


def bad_words(generator):
    """Commands that a read-out refuses, and among them good ones that show what was done before."""
    good = protocol.SCORE.pack(7, 1, 199)
    targets = [(0, HEAD), (1, 200), (3, 200), (4, 0), (0xFFFF, 0), (1, 0xFFFF)]
    scores = [protocol.SCORE.pack(TOKENS, 0, 0), protocol.SCORE.pack(1 << 16, 0, 0)]
    scores += [protocol.SCORE.pack(3, *target) for target in targets]
    sampling = [0, 256, protocol.NOTHING, 1]
    samplings = [
        [*sampling[:place], value, *sampling[place + 1 :]]
        for place, value in [(0, 65), (0, 126), (0, 255), (1, 0), (1, 4097), (2, TOKENS), (2, 1 << 31), (3, 0)]
    ]
    words = [(5, 0), (TOKENS, 1), (1 << 16, 1), (5, 65), (5, 255)]
    return [
        *((Command.SCORE, payload) for payload in (b"", bytes(7), bytes(9))),
        *((Command.SCORE, good * generator.randrange(3) + score + good) for score in scores),
        *((Command.SAMPLING, payload) for payload in (b"", bytes(14), bytes(16))),
        *((Command.SAMPLING, protocol.SAMPLING.pack(*fields)) for fields in samplings),
        (Command.GENERATE, protocol.GENERATE.pack(protocol.NOTHING, 3)),
        *((command, bytes(size)) for command in (Command.GENERATE, Command.TOP) for size in (0, 4, 6, 8)),
        *((command, protocol.GENERATE.pack(*each)) for command in (Command.GENERATE, Command.TOP) for each in words),
        (Command.TOP, protocol.GENERATE.pack(protocol.NOTHING, 3)),
    ]


def sampling_payload(generator, stop=protocol.NOTHING):
    """A good SAMPLING."""
    top = generator.choice([generator.randrange(65), ALL_WORDS])
    return protocol.SAMPLING.pack(top, generator.randint(1, 4096), stop, generator.getrandbits(64))


def words(generator):
    """Good commands of a read-out: texts go on, end behind stop tokens and for other commands."""
    go_on = (Command.GENERATE, protocol.GENERATE.pack(protocol.NOTHING, 5))
    targets = [(0, 0), (0, HEAD - 1), (1, 199), (2, 0), (3, 199)]
    scores = [protocol.SCORE.pack(generator.randrange(TOKENS), *generator.choice(targets)) for _ in range(63)]
    commands = [(Command.GENERATE, protocol.GENERATE.pack(9, count)) for count in (1, 2, 64)]
    commands += [go_on, (Command.COUNTERS, b""), (Command.SAMPLING, sampling_payload(generator)), go_on]
    for other in [
        (Command.STEP, protocol.TOKEN.pack(2)),
        (Command.SCORE, scores[0]),
        (Command.TOP, protocol.GENERATE.pack(TOKENS - 1, 1)),
        (Command.CLEAR, b""),
    ]:
        commands += [(Command.GENERATE, protocol.GENERATE.pack(8, 1)), other, go_on]
    commands += [(Command.SCORE, b"".join(scores[:count])) for count in (2, 3, 63)]
    commands += [(Command.TOP, protocol.GENERATE.pack(generator.randrange(TOKENS), count)) for count in (2, 64)]
    # Where a stop token comes, the text behind it does not go on.
    for stop in generator.sample(range(64), 6):
        commands += [(Command.SAMPLING, sampling_payload(generator, stop))]
        commands += [(Command.GENERATE, protocol.GENERATE.pack(stop, 24)), go_on, go_on]
    return commands


def bad_loads(generator):
    """Payloads of LOAD that end a load, with an image's first words written."""
    return [
        b"",
        bytes(3),
        load_payload(0, 0, b"xyz"),
        load_payload(1, 0, b"xy"),
        load_payload(16, 0, b"xy"),
        load_payload(0, 16, b"xy"),
        load_payload(0, 15, b"wxyz"),
        load_payload(5, (1 << 24) - 1, b"x"),
        load_payload(3, 0, generator.randbytes(19)),
    ]


def session(generator):
    """Commands of a whole session: every command and every status."""
    commands = [(Command.IDENTIFY, b""), (Command.STEP, bytes(4)), *whole_load(generator), *bad_commands(generator)]
    for payload in bad_loads(generator):
        commands += [(Command.BEGIN, DIGEST), (Command.LOAD, payload), (Command.LOAD, load_payload(0, 0, b"xy"))]
    commands += [(Command.BEGIN, DIGEST), (Command.LOAD, load_payload(0, 2, b"xyzw")), (Command.CHECK, bytes(8))]
    for command in (Command.GENERATE, Command.TOP):
        commands += [(command, protocol.GENERATE.pack(1, 1)), (command, protocol.GENERATE.pack(protocol.NOTHING, 0))]
    commands += [(Command.SCORE, bytes(8)), (Command.STEP, bytes(4)), (Command.IDENTIFY, b"")]
    commands += [*whole_load(generator), *words(generator), *bad_words(generator)]
    for token in (0, 1, TOKENS - 1, *(generator.randrange(TOKENS) for _ in range(4))):
        commands += [(Command.EVENTS, load_payload(INPUT, token % 4, generator.randbytes(5)))]
        commands += [(Command.STEP, protocol.TOKEN.pack(token))]
    return [*commands, (Command.CLEAR, b""), (Command.STEP, bytes(4)), (Command.COUNTERS, b"")]


@pytest.mark.parametrize(("window", "pause"), [(1, 0.0), (2, 0.6), (4, 0.3)])
@pytest.mark.parametrize(("input_section", "readout"), [(None, False), (INPUT, False), (None, True)])
def test_answers_as_the_device_in_python(window, pause, input_section, readout):
    generator = random.Random(window)
    execution = Execution(window=window, input_section=input_section, seed=window, pause=pause, readout=readout)
    device, expected, statuses = execution.device(), [], set()

    async def testbench(context):
        sequence, given = 0xFFF0, []
        await execution.give(context, Frame(3, Command.CLEAR, b""))  # outside a session
        expected.append(device.answer(Frame(3, Command.CLEAR, b"")))
        for command, payload in session(generator):
            frame = Frame(sequence, command, payload)
            others = [BadFrame(), Frame((sequence + 1) % 0x10000, Command.CLEAR, b""), *given[-window - 1 :]]
            for item in ([generator.choice(others)] if given and generator.random() < 0.3 else []) + [frame]:
                expected.append(device.answer(item))
                await execution.give(context, item)
                assert execution.answers == expected, (item, sequence)
            if command != Command.IDENTIFY:  # which would begin another session
                given.append(frame)
            statuses.add(FrameReader(0xFFFF).feed(expected[-1])[0].payload[0])
            sequence = (sequence + 1) % 0x10000

    execution.simulation.run(testbench)
    refusals = {Status.BAD_FRAME, Status.OUT_OF_ORDER, Status.NO_SESSION}
    assert statuses >= set(Status) - refusals - (set() if readout else {Status.BAD_VALUE})
    assert execution.model.memories == device._core.memories
    assert execution.model.counters() == device._core.counters() and execution.model.clears == 2
    assert device.bad_frames > 0 and device.repeated_frames > 0
    assert (execution.pauses > 0) == (pause > 0)


def test_a_repeated_command_is_not_executed_again():
    window = 2
    execution = Execution(window=window)
    device, expected = execution.device(), []

    async def testbench(context):
        for number in range(5):
            frames = [Frame(number, Command.CLEAR if number else Command.IDENTIFY, b"")]
            # The replies to the last two commands of the session are kept, those before them are not.
            frames += [Frame(number - age, Command.CLEAR, b"") for age in range(number)]
            for frame in frames:
                expected.append(device.answer(frame))
                await execution.give(context, frame)

    execution.simulation.run(testbench)
    assert execution.answers == expected
    assert execution.model.clears == 4
    assert sum(answer[3] == protocol.NAK for answer in expected) == 1 + 2
    assert device.repeated_frames == 0 + 1 + 2 + 2 + 2


def test_waits_for_a_slot_that_is_still_sent():
    execution = Execution(window=2)
    device = execution.device()

    async def testbench(context):
        await execution.give(context, Frame(0, Command.IDENTIFY, b""))
        await execution.give(context, Frame(1, Command.CLEAR, b""))
        execution.pending = 1
        context.set(execution.dut.pending, 1)
        execution.simulation.set(context, execution.dut.frames.payload, (2, Command.CLEAR, 0, 0))
        context.set(execution.dut.frames.valid, 1)
        for _ in range(50):
            _, _, ready = await context.tick().sample(execution.dut.frames.ready)
            assert not ready
        execution.pending = 0
        context.set(execution.dut.pending, 0)
        await context.tick().until(execution.dut.frames.ready)
        context.set(execution.dut.frames.valid, 0)
        await context.tick().repeat(3)

    execution.simulation.run(testbench)
    frames = [Frame(number, Command.CLEAR if number else Command.IDENTIFY, b"") for number in range(3)]
    assert execution.answers == [device.answer(frame) for frame in frames]
    assert execution.model.clears == 2


def test_a_text_ends_behind_its_stop_token():
    execution = Execution(readout=True)
    device, sequences = execution.device(), itertools.count()

    async def testbench(context):
        async def give(command, payload=b""):
            frame = Frame(next(sequences), command, payload)
            await execution.give(context, frame)
            assert execution.answers[-1] == device.answer(frame)
            (reply,) = FrameReader(0xFFFF).feed(execution.answers[-1])
            assert reply.payload[0] == Status.OK
            return [word for (word,) in protocol.WORD.iter_unpack(reply.payload[1:])]

        for command, payload in [(Command.IDENTIFY, b""), (Command.BEGIN, DIGEST), (Command.CHECK, bytes(8))]:
            frame = Frame(next(sequences), command, payload)
            assert device.answer(frame) == (await execution.give(context, frame) or execution.answers[-1])
        text = []
        for stop in (protocol.NOTHING, 0):
            await give(Command.CLEAR)
            await give(Command.SAMPLING, protocol.SAMPLING.pack(0, 256, text[11] if text else stop, 99))
            pieces = [await give(Command.GENERATE, protocol.GENERATE.pack(7, 16))]
            for _ in range(3):
                pieces.append(await give(Command.GENERATE, protocol.GENERATE.pack(protocol.NOTHING, 4)))
            if not text:
                text = sum(pieces, [])
                assert len(text) == 28
        end = text.index(text[11]) + 1
        assert pieces == [text[:end], [], [], []]

    execution.simulation.run(testbench)
    assert protocol.MOST_WORDS == MOST_TOP


def test_long_payloads():
    """Those of LOAD are taken to their end, with their CRC; a SCORE has only as many as a reply has room for."""
    execution = Execution(readout=True, max_payload=1980)
    device, generator = execution.device(), random.Random(1)
    score = protocol.SCORE.pack(7, 1, 199)
    commands = [
        (Command.IDENTIFY, b""),
        (Command.BEGIN, DIGEST),
        (Command.LOAD, load_payload(0, 0, generator.randbytes(1976))),
        (Command.IDENTIFY, b""),
        *whole_load(generator),
        (Command.SCORE, 64 * score),
        (Command.SCORE, 63 * score),
        (Command.COUNTERS, b""),
    ]
    frames = [Frame(place, *command) for place, command in enumerate(commands)]

    async def testbench(context):
        for frame in frames:
            await execution.give(context, frame)

    execution.simulation.run(testbench)
    assert execution.answers == [device.answer(frame) for frame in frames]
    replies = [FrameReader(0xFFFF).feed(answer)[0].payload for answer in execution.answers]
    statuses = [reply[0] for reply in replies]
    assert statuses[2] == Status.BAD_INDEX and statuses[-3:] == [Status.BAD_LENGTH, Status.OK, Status.OK]
    state = protocol.LoadState(*protocol.LOAD_STATE.unpack(replies[3][-protocol.LOAD_STATE.size :]))
    assert state.loaded_bytes == 1980


def test_a_core_without_counters():
    execution = Execution(counters=0)

    async def testbench(context):
        await execution.give(context, Frame(0, Command.IDENTIFY, b""))
        await execution.give(context, BadFrame())
        await execution.give(context, Frame(1, Command.COUNTERS, b""))

    execution.simulation.run(testbench)
    content = bytes([Status.OK]) + protocol.LINK_COUNTERS.pack(1, 0)
    assert execution.answers[-1] == encode_frame(1, Command.COUNTERS | protocol.REPLY, content)
