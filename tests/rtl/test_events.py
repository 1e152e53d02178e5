"""EventQueue: lists of events with several readers, also while they grow."""

import random

import pytest

from egret.model.compiler.configuration import Configuration
from egret.rtl.events import EventQueue
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

C = Configuration(vocabulary=2, embedding=1, hidden=(9, 4, 1), lanes=1, weight_words=1024)


class Queue:
    """Drives an `EventQueue` and keeps the lists that it must hold."""

    def __init__(self, configuration, seed, backpressure=0.0):
        self.c = configuration
        self.random = random.Random(seed)
        self.simulation = StreamSimulation(EventQueue(configuration), seed)
        self.dut = self.simulation.dut
        self.received = self.simulation.sink(self.dut.o, backpressure, "o")
        self.lists = [[] for _ in range(configuration.layers)]
        self.expected = []

    def events(self, layer, most=None):
        """Random events in rising order of neurons."""
        size = self.c.hidden[layer]
        count = self.random.randint(0, size if most is None else most)
        return [(index, self.random.randint(1, 255)) for index in sorted(self.random.sample(range(size), count))]

    async def clear(self, context, *layers):
        context.set(self.dut.clear, sum(1 << layer for layer in layers))
        await context.tick()
        context.set(self.dut.clear, 0)
        for layer in layers:
            self.lists[layer] = []

    async def append(self, context, layer, events, idle=0.0):
        for event in events:
            while self.random.random() < idle:
                await context.tick()
            StreamSimulation.set(context, self.dut.i.payload, (layer, event))
            context.set(self.dut.i.valid, 1)
            await context.tick()
            context.set(self.dut.i.valid, 0)
            self.lists[layer].append(event)

    async def start(self, context, layer, growing=False):
        context.set(self.dut.layer, layer)
        context.set(self.dut.growing, growing)
        context.set(self.dut.start, 1)
        await context.tick()
        context.set(self.dut.start, 0)

    async def finish(self, context, layer):
        """Wait for the end of the pass; everything has been taken by then."""
        context.set(self.dut.growing, 0)
        await context.tick()
        cycles = 1
        while not context.get(self.dut.done):
            await context.tick()
            cycles += 1
            assert cycles < 2000, "the pass does not end"
        self.expected += self.lists[layer]
        assert [event for _, event in self.received] == self.expected
        return cycles

    def run(self, testbench):
        self.simulation.run(testbench)


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("backpressure", [0.0, 0.7])
def test_readers_in_turn(backpressure, seed):
    """Every list is read several times, others are begun anew and filled meanwhile."""
    queue = Queue(C, seed, backpressure)
    rng = random.Random(seed)

    async def testbench(context):
        for _ in range(15):
            writing = rng.randrange(C.layers)
            await queue.clear(context, writing)
            reading = rng.choice([layer for layer in range(C.layers) if layer != writing])
            await queue.start(context, reading)
            await queue.append(context, writing, queue.events(writing), rng.choice([0, 0.5]))
            await queue.finish(context, reading)
            for _ in range(rng.randrange(3)):
                await queue.start(context, writing)
                await queue.finish(context, writing)

    queue.run(testbench)
    assert len(queue.expected) > 40
    assert (queue.simulation.watches["o"].stalls > 0) == (backpressure > 0)


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("idle, backpressure", [(0.0, 0.0), (0.8, 0.0), (0.0, 0.8), (0.5, 0.5)])
def test_growing_list(idle, backpressure, seed):
    """A list is read while it grows; ``done`` waits for its end, also where nothing at all is appended."""
    queue = Queue(C, seed, backpressure)
    rng = random.Random(seed)
    early = []

    async def testbench(context):
        for _ in range(12):
            layer = rng.randrange(C.layers)
            await queue.clear(context, layer)
            before = queue.events(layer, min(2, C.hidden[layer]))
            after = [event for event in queue.events(layer) if not before or event[0] > before[-1][0]]
            await queue.append(context, layer, before)
            await queue.start(context, layer, growing=True)
            await queue.append(context, layer, after, idle)
            await context.tick().repeat(rng.randrange(1, 8))
            early.append(context.get(queue.dut.done))
            await queue.finish(context, layer)
            # And as its own layer reads it, in the next step.
            await queue.start(context, layer)
            await queue.finish(context, layer)

    queue.run(testbench)
    assert not any(early)
    assert len(queue.expected) > 15


def test_last_event_as_growing_ends():
    """The list may grow for two cycles after the last event, whatever the reader is doing."""
    queue = Queue(C, 1)

    async def testbench(context):
        for pause in range(8):
            await queue.clear(context, 0)
            await queue.append(context, 0, [(1, 7)])
            await queue.start(context, 0, growing=True)
            for _ in range(pause):
                await context.tick()
            await queue.append(context, 0, [(8, 255)])
            await context.tick()
            await queue.finish(context, 0)

    queue.run(testbench)
    assert queue.expected == [(1, 7), (8, 255)] * 8


def test_throughput_and_latency():
    """The first event four cycles after ``start``, then one a cycle; an empty pass is over at once."""
    queue = Queue(C, 1)

    async def testbench(context):
        await queue.append(context, 0, [(index, index + 1) for index in range(9)])
        await queue.start(context, 0)
        await queue.finish(context, 0)
        await queue.start(context, 1)
        assert await queue.finish(context, 1) <= 2

    starts = []
    queue.simulation.each_cycle(lambda cycle, start: starts.append(cycle) if start else None, queue.dut.start)
    queue.run(testbench)
    cycles = [cycle for cycle, _ in queue.received]
    assert cycles == list(range(starts[0] + 4, starts[0] + 13))


def test_one_neuron():
    """The smallest lists."""
    queue = Queue(Configuration(vocabulary=2, embedding=1, hidden=(1,), lanes=1, weight_words=64), 1)

    async def testbench(context):
        for events in ([(0, 255)], [], [(0, 1)]):
            await queue.clear(context, 0)
            await queue.append(context, 0, events)
            for _ in range(2):
                await queue.start(context, 0)
                await queue.finish(context, 0)

    queue.run(testbench)
    assert queue.expected == [(0, 255)] * 2 + [(0, 1)] * 2
