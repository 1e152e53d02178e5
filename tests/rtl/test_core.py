"""Core against the integer network in Amaranth's simulator: small networks; `tests/sim/test_lockstep.py` has more."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Value

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import GOALS, MEMORY_RATIOS, RESIDENT_BYTES, STORES
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import column_words
from egret.model.integer import IntegerEngine
from egret.rtl.counters import COUNTER_BYTES
from egret.rtl.protocol import CAUSES, counter_names
from egret.sim.sdram import core_with_memory
from tests.support.networks import few_values, random_network, random_shape
from tests.support.streams import StreamSimulation


class Run:
    """Loads a network into a core and compares what leaves it."""

    def __init__(self, network, *, lanes=2, seed=0, idle=0.0, backpressure=0.0, **options):
        self.network = network
        self.c = configuration_for(network, lanes=lanes, **options)
        self.image = compile_image(network, self.c)
        self.simulation = StreamSimulation(core_with_memory(self.c), seed)
        self.dut = self.simulation.dut
        self.idle = idle
        self.received = self.simulation.sink(self.dut.o_events, backpressure, "o_events")
        self.expected = []
        self.engine = IntegerEngine(network)
        self.events = np.zeros(self.c.layers, int)
        self.macs = 0
        self.words = 0
        self.beats = 0

    async def load(self, context):
        memories = {}
        for name, section in memory_sections(self.c).items():
            data, width = self.image.memories[name], section.word_bytes
            memories[name] = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
        await self.simulation.load(context, self.c, **memories)

    async def clear(self, context):
        context.set(self.dut.clear, 1)
        while context.get(self.dut.busy):
            await context.tick()
        await context.tick()
        context.set(self.dut.clear, 0)
        self.engine.reset_state()

    async def feed(self, context, tokens, payload=None):
        for token in tokens:
            while self.simulation.chance(self.idle):
                await context.tick()
            context.set(Value.cast(self.dut.i_tokens.payload), int(token) if payload is None else payload)
            context.set(self.dut.i_tokens.valid, 1)
            await context.tick().until(self.dut.i_tokens.ready)
            context.set(self.dut.i_tokens.valid, 0)
            traces = self.engine.step(np.array([token]))
            self.expected += [(int(index), int(traces[-1].y[0, index]), 0) for index in np.flatnonzero(traces[-1].y[0])]
            self.expected.append((0, 0, 1))
            folded = token < self.c.folded_tokens
            self.beats += self.c.row_depth * self.c.row_beats if folded else self.c.embedding_beats
            for number, (layer, trace) in enumerate(zip(self.network.layers, traces, strict=True)):
                self.events[number] += np.count_nonzero(trace.y)
                size = len(layer.threshold)
                if number or not folded:
                    self.look_up(number, "x", layer.weight_x, trace.x)
                # The first layer's events are accumulated at once, for the next step.
                y, before = trace.y if number == 0 else trace.y_before, self.c.reset == "before"
                self.look_up(number, "y", layer.weight_y[: 2 * size] if before else layer.weight_y, y)
                if before:
                    self.look_up(number, "s", layer.weight_y[2 * size :], trace.s)

    def look_up(self, layer, kind, weights, values):
        """Count what the columns of some sources take."""
        sources = np.flatnonzero(values[0])
        self.macs += np.count_nonzero(weights[:, sources])
        start, count = column_words(self.image)
        columns = self.c.column_base[layer][kind] + sources
        self.words += count[columns].sum()
        self.beats += count[columns][start[columns] >= self.c.resident_words].sum() * self.c.word_beats

    async def settle(self, context):
        for _ in range(20_000):
            await context.tick()
            if len(self.received) == len(self.expected) and not context.get(self.dut.busy):
                break
        await context.tick().repeat(60)
        assert [payload for _, payload in self.received] == self.expected

    async def counters(self, context):
        while not context.get(self.dut.counters_settled):
            await context.tick()
        values = {}
        names = counter_names(self.c.layers, sdram=self.c.store == "sdram", readout=self.c.readout is not None)
        for number, name in enumerate(names):
            read = bytearray()
            for byte in range(COUNTER_BYTES):
                context.set(self.dut.counter_byte, COUNTER_BYTES * number + byte)
                await context.tick()
                read.append(context.get(self.dut.counter_read))
            values[name] = int.from_bytes(read, "little")
        return values


FOLDED = (0, 4, 7)  # of 7 tokens
PAIRS = [
    (3 * row + column, store, folded, (row + column) % 2 == 1, (store == "spram") == (folded != 4), "before")
    for row, store in enumerate(STORES)
    for column, folded in enumerate(FOLDED)
]
"""Seeds with every pair of two options."""
AFTER = [
    (31, "bram", 4, True, True, "after"),
    (33, "spram", 7, False, False, "after"),
    (35, "sdram", 0, True, False, "after"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (30, "bram", 0, False, False, "after"),
            (32, "spram", 0, True, True, "after"),
            (34, "sdram", 4, False, True, "after"),
        )
    ),
]
ALL = itertools.product((20, 21), STORES, FOLDED, (False, True), (False, True), ("before",))


@pytest.mark.parametrize(
    "seed, store, folded, few, compact, reset",
    [*PAIRS, *AFTER, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL)],
)
def test_random_networks(seed, store, folded, few, compact, reset):
    """Shapes, lanes, idle, backpressure, folded rows and 4-bit weights at random, any pipelines; counters add up."""
    rng = np.random.default_rng(seed)
    density = float(rng.choice([0.1, 0.5, 1.0]))
    shape, lanes = random_shape(seed, layers=3, size=7), int(rng.choice([1, 2, 4]))
    options = {}
    if store == "sdram":
        options["memory_ratio"] = int(rng.choice(MEMORY_RATIOS))
        lanes = max(lanes, 2 * options["memory_ratio"]) if few else 4 * options["memory_ratio"]
        options["resident_bytes"] = int(rng.choice([0, 60, 300, RESIDENT_BYTES]))
    network = random_network(seed, **shape, density=density, empty_columns=0.2, reset=reset)
    network = few_values(network) if few else network
    backpressure = float(rng.choice([0, 0.5, 0.9]))
    run = Run(
        network,
        lanes=lanes,
        seed=seed,
        idle=float(rng.choice([0, 0.9])),
        backpressure=backpressure,
        folded_tokens=folded,
        goal=str(rng.choice(GOALS)),
        store=store,
        compact=compact,
        **options,
    )
    tokens = rng.integers(0, 7, 10)

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        await run.feed(context, tokens)
        await run.settle(context)
        counters = await run.counters(context)
        assert counters["tokens"] == 10
        assert (counters["macs"], counters["words"]) == (run.macs, run.words)
        assert [counters[f"events_{layer}"] for layer in range(run.c.layers)] == run.events.tolist()
        assert (counters["rows"] > 0) == (folded > min(tokens))
        assert counters["cycles"] == counters["words"] + sum(counters.get(cause, 0) for cause in CAUSES)
        if store == "sdram":
            assert not context.get(run.dut.violations)
            assert counters["beats"] == run.beats

    run.simulation.run(testbench)
    assert len([1 for _, payload in run.received if payload[2]]) == 10


def test_new_network_and_new_sequences():
    """A core is loaded again with another network of its shape; ``clear`` begins sequences, also twice at once."""
    first = random_network(1, hidden=(5, 4), embedding=3, z_bias=4000)
    second = random_network(2, hidden=(5, 4), embedding=3, z_bias=4000)
    run = Run(first, weight_bytes=4000, backpressure=0.3)

    async def testbench(context):
        for network in (first, second):
            run.network, run.engine = network, IntegerEngine(network)
            run.image = compile_image(network, run.c)
            await run.load(context)
            await run.clear(context)
            for tokens in ([1, 2], [1, 2, 0, 6]):
                await run.feed(context, tokens)
                await run.settle(context)
                await run.clear(context)
                await run.clear(context)

    run.simulation.run(testbench)
    assert run.events.all()


def test_clear_comes_before_a_token():
    """A token that is offered together with ``clear`` belongs to the new sequence."""
    run = Run(random_network(3, hidden=(6,), embedding=3, z_bias=4000))

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        await run.feed(context, [1, 2, 3])
        await run.settle(context)
        assert not context.get(run.dut.busy)
        context.set(run.dut.clear, 1)
        context.set(run.dut.i_tokens.valid, 1)
        context.set(run.dut.i_tokens.payload, 4)
        await context.tick()
        context.set(run.dut.clear, 0)
        run.engine.reset_state()
        await run.feed(context, [4, 5])
        await run.settle(context)

    run.simulation.run(testbench)


def test_busy_covers_the_work():
    """``busy`` is low only where the next token would be taken and nothing is left to come."""
    run = Run(random_network(4, hidden=(5, 6), embedding=3, z_bias=4000), backpressure=0.7)
    dut = run.dut
    tokens_taken = []
    ends = []

    def check(cycle, busy, clear, valid, ready, out_valid, out_ready, end):
        assert busy or ready or clear, cycle
        assert busy or len(ends) == len(tokens_taken), cycle
        if valid and ready:
            tokens_taken.append(cycle)
        if out_valid and out_ready and end:
            ends.append(cycle)

    run.simulation.each_cycle(
        check,
        dut.busy,
        dut.clear,
        dut.i_tokens.valid,
        dut.i_tokens.ready,
        dut.o_events.valid,
        dut.o_events.ready,
        dut.o_events.p.end,
    )

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        for _ in range(4):
            await run.feed(context, [1, 2])
            await run.settle(context)

    run.simulation.run(testbench)
    assert len(ends) == len(tokens_taken) == 8


def test_smallest():
    """One neuron, one input, one lane, no weight at all."""
    run = Run(random_network(5, hidden=(1,), embedding=1, density=0, threshold=100, z_bias=5000), lanes=1)

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        await run.feed(context, [0, 1, 2, 3, 4, 5, 6] * 2)
        await run.settle(context)
        assert (await run.counters(context))["words"] == 0

    run.simulation.run(testbench)
    assert run.events[0] > 0
