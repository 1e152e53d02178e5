"""Driving and observing streams in Amaranth's simulator."""

import random

from amaranth.hdl import *
from amaranth.lib import data
from amaranth.sim import Simulator

from egret.model.compiler.layouts import memory_sections
from egret.sim.watch import watch_amaranth

__all__ = ["StreamSimulation", "pack", "unpack"]


def unpack(shape, raw):
    """Bits of a value of ``shape`` as plain integers: structures and arrays become tuples, in order."""
    if isinstance(shape, data.Layout):
        return tuple(unpack(field.shape, raw >> field.offset) for _, field in shape)
    shape = Shape.cast(shape)
    raw &= (1 << shape.width) - 1
    return raw - (1 << shape.width) if shape.signed and raw >> (shape.width - 1) else raw


def pack(shape, value):
    """The inverse of `unpack`; a structure may also be a dict, whose missing members are 0."""
    if not isinstance(shape, data.Layout):
        width = Shape.cast(shape).width
        assert value == unpack(shape, value % (1 << width)), f"{value} does not fit {shape}"
        return value % (1 << width)
    keys = [key for key, _ in shape]
    if not isinstance(value, dict):
        value = dict(zip(keys, value, strict=True))
    assert set(value) <= set(keys), f"{value} has members that {shape} lacks"
    return sum(pack(shape[key].shape, item) << shape[key].offset for key, item in value.items())


class StreamSimulation:
    """A simulation of one component.

    Everything that is driven changes just after a clock edge, everything that is observed is sampled just before one;
    ``cycle`` numbers are the same for all.

    Parameters
    ----------
    dut : Component
    seed : int
        Of all idle and backpressure patterns.
    """

    def __init__(self, dut, seed=0):
        self.dut = dut
        self.random = random.Random(seed)
        self.simulator = Simulator(dut)
        self.simulator.add_clock(1e-6)
        self.watches = {}
        self.sources = []

    def chance(self, probability):
        """True with a probability."""
        return self.random.random() < probability

    @staticmethod
    def set(context, signal, value):
        """Set a signal of any shape from plain integers."""
        context.set(Value.cast(signal), pack(signal.shape(), value))

    def watch(self, stream, name):
        """Check the rules of a stream from now on."""
        self.watches[name] = watch_amaranth(self.simulator, stream, name)
        return self.watches[name]

    def source(self, stream, payloads, idle=0.0, name="source"):
        """Send payloads; returns the list of cycles in which they were taken, which grows."""
        taken = []
        self.watch(stream, name)
        payloads = list(payloads)
        self.sources.append((name, payloads, taken))

        async def process(context):
            cycle = 0
            for payload in payloads:
                while self.chance(idle):
                    await context.tick()
                    cycle += 1
                self.set(context, stream.payload, payload)
                context.set(stream.valid, 1)
                ready = False
                while not ready:
                    _, _, ready = await context.tick().sample(stream.ready)
                    cycle += 1
                taken.append(cycle - 1)
                context.set(stream.valid, 0)

        self.simulator.add_process(process)
        return taken

    def sink(self, stream, backpressure=0.0, name="sink"):
        """Take payloads; returns the list of (cycle, payload), which grows."""
        received = []
        always_ready = stream.signature.always_ready
        if not always_ready:
            self.watch(stream, name)

        shape, bits = stream.payload.shape(), Value.cast(stream.payload)

        async def process(context):
            cycle, ready = 0, always_ready
            async for _, _, valid, raw in context.tick().sample(stream.valid, bits):
                if valid and ready:
                    received.append((cycle, unpack(shape, raw)))
                cycle += 1
                if not always_ready:
                    ready = not self.chance(backpressure)
                    context.set(stream.ready, ready)

        self.simulator.add_process(process)
        return received

    def each_cycle(self, function, *signals):
        """Call ``function(cycle, *values)`` with the signals' values in each cycle."""
        shapes = [signal.shape() for signal in signals]
        values = [Value.cast(signal) for signal in signals]
        together = data.StructLayout({str(place): shape for place, shape in enumerate(shapes)})

        async def process(context):
            cycle = 0
            async for _, _, raw in context.tick().sample(Cat(values)):
                function(cycle, *unpack(together, raw))
                cycle += 1

        self.simulator.add_process(process)

    def run(self, testbench, timeout=100_000):
        """Run ``testbench(context)`` to its end; then every source must have sent everything."""
        ended = []

        async def whole(context):
            await testbench(context)
            ended.append(True)

        self.simulator.add_testbench(whole)
        deadline = timeout * 2  # the clock has two edges a cycle
        while not ended:
            self.simulator.advance()
            deadline -= 1
            assert deadline, f"no end within {timeout} cycles"
        for name, payloads, taken in self.sources:
            assert len(taken) == len(payloads), f"stream {name}: {len(payloads) - len(taken)} payloads were not taken"

    async def load(self, context, configuration, **memories):
        """Write words of memories by name, each a list of integers; at the link's pace where that matters."""
        sections = memory_sections(configuration)
        width = 8 * max(section.word_bytes for section in sections.values())
        if hasattr(self.dut, "ready"):
            await context.tick().until(self.dut.ready)
        for name, words in memories.items():
            for index, word in enumerate(words):
                self.set(context, self.dut.load, (sections[name].number, index, word % (1 << width)))
                context.set(self.dut.load_valid, 1)
                await context.tick()
                if configuration.store != "bram":
                    context.set(self.dut.load_valid, 0)
                    for _ in range(sections[name].word_bytes - 1):
                        await context.tick()
        context.set(self.dut.load_valid, 0)
        await context.tick()
