"""The sender in hardware against frames made in Python."""

import random

import pytest

from egret.rtl import protocol
from egret.rtl.link.frames import encode_frame
from egret.rtl.link.sender import CONTENT_HEADER_BYTES, Sender, place_bits
from egret.rtl.protocol import Status
from tests.support.streams import StreamSimulation

REPLY_BYTES = 50


class Sending:
    """A sender, and what it has sent so far."""

    def __init__(self, *, window=2, seed=1, backpressure=0.0):
        self.dut = Sender(window=window, reply_bytes=REPLY_BYTES)
        self.simulation = StreamSimulation(self.dut, seed)
        self.received = self.simulation.sink(self.dut.o, backpressure, "o")

    async def write(self, context, slot, sequence, command, payload):
        """Write a reply as the executor does: the payload, then the header."""
        header = protocol.HEADER.pack(sequence, command, len(payload)) + payload[:1]
        places = [*range(len(payload) - 1), *range(-CONTENT_HEADER_BYTES, 0)]
        for place, byte in zip(places, payload[1:] + header, strict=True):
            value = {"place": place % (1 << place_bits(REPLY_BYTES)), "slot": slot, "byte": byte}
            self.simulation.set(context, self.dut.content.payload, value)
            context.set(self.dut.content.valid, 1)
            await context.tick()
        context.set(self.dut.content.valid, 0)

    async def pulse(self, context, stream, payload):
        """Transfer one payload of a stream that is always ready."""
        context.set(stream.payload, payload)
        context.set(stream.valid, 1)
        await context.tick()
        context.set(stream.valid, 0)

    async def settle(self, context):
        """Wait until everything has been sent."""
        while context.get(self.dut.busy):
            await context.tick()

    def take(self):
        """Bytes that were sent since the last call."""
        data = bytes(byte for _, byte in self.received)
        self.received.clear()
        return data


@pytest.mark.parametrize(("window", "backpressure"), [(1, 0.0), (2, 0.4), (8, 0.0)])
def test_sends_the_frames_that_python_makes(window, backpressure):
    generator = random.Random(window)
    sending = Sending(window=window, backpressure=backpressure)
    expected, sent = [], []

    async def testbench(context):
        for number in range(30):
            slot = number % window
            while context.get(sending.dut.pending) >> slot & 1:
                await context.tick()
            payload = bytes(
                generator.choice([0x7D, 0x7E, generator.randrange(256)])
                for _ in range(generator.choice([1, 2, 9, REPLY_BYTES - protocol.HEADER.size]))
            )
            reply = (generator.choice([0x7D7E, generator.randrange(1 << 16)]), generator.randrange(256), payload)
            await sending.write(context, slot, *reply)
            await sending.pulse(context, sending.dut.replies, slot)
            assert context.get(sending.dut.pending) >> slot & 1
            expected.append(encode_frame(*reply))
        await sending.settle(context)
        assert context.get(sending.dut.pending) == 0
        sent.append(sending.take())

    sending.simulation.run(testbench)
    assert sent == [b"".join(expected)]
    assert (sending.simulation.watches["o"].stalls > 0) == (backpressure > 0)


def test_one_byte_every_three_cycles():
    sending = Sending(window=1)
    frame = encode_frame(1, 0x86, b"\0abc")

    async def testbench(context):
        await sending.write(context, 0, 1, 0x86, b"\0abc")
        await sending.pulse(context, sending.dut.replies, 0)
        await sending.settle(context)

    sending.simulation.run(testbench)
    assert bytes(byte for _, byte in sending.received) == frame
    cycles = [cycle for cycle, _ in sending.received]
    assert [after - before for before, after in zip(cycles, cycles[1:], strict=False)] == [3] * (len(frame) - 2) + [1]


def test_a_reply_is_sent_again_and_one_under_way_is_not():
    sending = Sending()
    frame, data = encode_frame(1, 0x86, b"\0abc"), []

    async def testbench(context):
        await sending.write(context, 1, 1, 0x86, b"\0abc")
        for wait in (0, 20, 0):
            await sending.pulse(context, sending.dut.replies, 1)
            if wait:
                await context.tick().repeat(wait)
                await sending.pulse(context, sending.dut.replies, 1)
            await sending.settle(context)
            data.append(sending.take())

    sending.simulation.run(testbench)
    assert data == [frame] * 3


def test_refusals():
    sending = Sending()
    data = []

    async def testbench(context):
        dut = sending.dut
        context.set(dut.expected, 0x1111)
        await sending.write(context, 0, 1, 0x86, b"\0abc")
        await sending.pulse(context, dut.replies, 0)
        await context.tick().repeat(5)
        # While the reply is sent: only the last one is, before another reply, with the number expected by then.
        await sending.pulse(context, dut.refusals, Status.BAD_FRAME)
        await sending.pulse(context, dut.refusals, Status.NO_SESSION)
        await sending.write(context, 1, 2, 0x86, b"\0d")
        await sending.pulse(context, dut.replies, 1)
        context.set(dut.expected, 0x2222)
        await sending.settle(context)
        data.append(sending.take())
        # One that comes in the very cycle in which another begins to be sent follows it.
        await sending.pulse(context, dut.refusals, Status.OUT_OF_ORDER)
        await sending.pulse(context, dut.refusals, Status.BAD_FRAME)
        await sending.settle(context)
        data.append(sending.take())

    sending.simulation.run(testbench)

    def refusal(status):
        return encode_frame(0x2222, protocol.NAK, bytes([status]))

    replies = encode_frame(1, 0x86, b"\0abc"), encode_frame(2, 0x86, b"\0d")
    assert data[0] == replies[0] + refusal(Status.NO_SESSION) + replies[1]
    assert data[1] == refusal(Status.OUT_OF_ORDER) + refusal(Status.BAD_FRAME)
