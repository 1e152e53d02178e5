"""The executor in hardware against the device in Python, between a sender and a core of plain Python."""

import random
import zlib

import pytest

from egret.rtl import protocol
from egret.rtl.link.device import Device
from egret.rtl.link.executor import Executor, longest_reply
from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.link.sender import CONTENT_HEADER_BYTES, place_bits
from egret.rtl.protocol import Command, Status
from egret.sim.stand_in import COUNTERS, DIGEST, OUTPUTS, SECTIONS, TOKENS, StandInModel
from tests.support.streams import StreamSimulation

INPUT = 3
"""The section that takes events, where there is one."""


class Execution:
    """An executor whose frames, core and slots are driven from Python.

    ``answers`` grows by a frame for each answer: the reply as it lies in the slot that is announced, or the refusal.
    """

    def __init__(self, *, window=2, input_section=None, seed=1, pause=0.0, counters=COUNTERS):
        self.identity = protocol.Identity(DIGEST, window, protocol.MAX_PAYLOAD, 64, TOKENS, OUTPUTS, counters, 0)
        self.dut = dut = Executor(self.identity, SECTIONS, input_section=input_section)
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
        context.set(core.counters_settled, 1)
        while True:
            context.set(core.token.ready, 1)
            sampled = context.tick().sample(
                core.token.valid, core.token.payload, core.clear, core.load_valid, core.load
            )
            _, _, token_valid, token, clear, load_valid, load = await sampled
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
                for index, value in self.model.step(token):
                    await self.event(context, {"index": index, "value": value, "end": 0})
                await self.event(context, {"index": 0, "value": 0, "end": 1})
                context.set(core.busy, 0)

    async def event(self, context, payload):
        events = self.dut.core.events
        await self.idle(context, in_step=True)
        self.simulation.set(context, events.payload, payload)
        context.set(events.valid, 1)
        await context.tick().until(events.ready)
        context.set(events.valid, 0)

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
        return Device(StandInModel(), self.identity, SECTIONS, self.dut._input_section)


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
        (9, b"12345678"),
        (255, b""),
    ]


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
    commands += [(Command.STEP, bytes(4)), (Command.IDENTIFY, b""), *whole_load(generator)]
    for token in (0, 1, TOKENS - 1, *(generator.randrange(TOKENS) for _ in range(4))):
        commands += [(Command.EVENTS, load_payload(INPUT, token % 4, generator.randbytes(5)))]
        commands += [(Command.STEP, protocol.TOKEN.pack(token))]
    return [*commands, (Command.CLEAR, b""), (Command.STEP, bytes(4)), (Command.COUNTERS, b"")]


@pytest.mark.parametrize("input_section", [None, INPUT])
@pytest.mark.parametrize(("window", "pause"), [(1, 0.0), (2, 0.6), (4, 0.3)])
def test_answers_as_the_device_in_python(window, pause, input_section):
    generator = random.Random(window)
    execution = Execution(window=window, input_section=input_section, seed=window, pause=pause)
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
    assert statuses >= set(Status) - refusals
    assert execution.model.memories == device._core.memories
    assert execution.model.counters() == device._core.counters() and execution.model.clears == 1
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


def test_a_core_without_counters():
    execution = Execution(counters=0)

    async def testbench(context):
        await execution.give(context, Frame(0, Command.IDENTIFY, b""))
        await execution.give(context, BadFrame())
        await execution.give(context, Frame(1, Command.COUNTERS, b""))

    execution.simulation.run(testbench)
    content = bytes([Status.OK]) + protocol.LINK_COUNTERS.pack(1, 0)
    assert execution.answers[-1] == encode_frame(1, Command.COUNTERS | protocol.REPLY, content)
