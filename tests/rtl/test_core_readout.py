"""A core with a read-out against the integer network: log-probabilities, drawn words and the most probable ones."""

import dataclasses

import numpy as np
import pytest

from egret.model.compiler.configuration import DDR3_RATIO
from egret.model.compiler.layouts import word_layouts
from egret.model.readout import ALL_WORDS, BY_FACTORS, ReadOut, Sampler
from egret.rtl.layouts import Task, sampling_layout, task_layout
from egret.rtl.protocol import CAUSES
from tests.rtl.test_core import Run
from tests.support.networks import few_values, random_groups, random_network, random_shape
from tests.support.streams import pack

CODEBOOK = np.array([-120, -100, -70, -40, -20, -12, -6, -3, 3, 6, 12, 40, 70, 100, 120], np.int8)


class ReadingRun(Run):
    """Gives each token a task, and compares what the read-out answers."""

    def __init__(self, network, *, backpressure=0.0, **options):
        super().__init__(network, readout=True, backpressure=backpressure, **options)
        self.results = self.simulation.sink(self.dut.o_result, backpressure, "o_result")
        self.answers = []
        self.readout = ReadOut(network)
        self.sampler = None
        self.groups = self.readout_macs = 0
        self.column_words = word_layouts(self.c)["groups"].unpack(self.image.memories["groups"])["count"]

    async def set_sampling(self, context, seed, temperature=1.0, top=BY_FACTORS):
        self.sampler = Sampler(self.readout, seed=seed, temperature=temperature)
        self.sampler.top = top
        how = {"beta": self.sampler.beta, "top": top, "state": self.sampler.state}
        context.set(self.dut.sampling, sampling_layout().const(how))
        context.set(self.dut.sampling_load, 1)
        await context.tick()
        context.set(self.dut.sampling_load, 0)

    def count(self, y, matrix):
        """Count what the columns of a matrix take."""
        sources = np.flatnonzero(y)
        own = np.count_nonzero(self.readout.weights[matrix][:, sources])
        self.macs += own
        self.readout_macs += own
        self.groups += matrix > 0
        words = self.column_words[matrix] * len(sources)
        # A word with two codes a lane is sent twice, unless both are multiplied at once.
        self.words += words * (1 if self.c.paired else 8 // self.c.weight_bits)
        self.beats += words * self.c.word_beats if self.c.store == "sdram" else 0

    async def ask(self, context, token, task, target=0, k=1):
        """Feed a token with a task; wait until it is done."""
        group, index = self.readout.target(target) if task == Task.SCORE else (0, k)
        asked = {"token": token, "task": task, "group": group, "index": index}
        await self.feed(context, [token], pack(task_layout(), asked))
        y = self.engine.events[-1][0]
        read = self.groups
        if task != Task.EVENTS:
            self.count(y, 0)
        if task == Task.SCORE:
            self.answers.append((0, int(self.readout.log_probabilities(y[None], np.array([target]))[0]), 1))
            if group:
                self.count(y, group)
        elif task == Task.TOP:
            words, groups = self.readout.top(y, k)
            self.answers += [(word, value, place == len(words) - 1) for place, (word, value) in enumerate(words)]
            for matrix in groups:
                self.count(y, matrix + 1)
        elif task == Task.SAMPLE:
            before = len(self.sampler.groups_read)
            self.answers.append((self.sampler.sample(y), 0, 1))
            for matrix in self.sampler.groups_read[before:]:
                self.count(y, matrix + 1)
        assert read <= self.groups
        for _ in range(20_000):
            await context.tick()
            if len(self.results) == len(self.answers) and not context.get(self.dut.busy):
                break
        assert [payload for _, payload in self.results] == self.answers


def reading_network(seed, *, head, sizes, rows=2, few=False, codebook=None, reset="before", **options):
    rng = np.random.default_rng(seed)
    shape = random_shape(seed, layers=2, size=7)
    network = random_network(
        seed,
        vocabulary=head + sum(sizes),
        **shape,
        density=float(rng.choice([0.3, 1.0])),
        threshold=2000,
        reset=reset,
    )
    network = few_values(network) if few else network
    return random_groups(
        network, head=head, sizes=sizes, rows=rows, seed=seed, codebook=CODEBOOK if few else codebook, **options
    )


CASES = [
    # seed, head, sizes, rows, store, few, compact
    (1, 5, (9, 1, 4), 2, "bram", False, False),
    (2, 0, (1, 1), 1, "bram", True, True),
    (3, 3, (20,), 4, "sdram", True, False),
    (4, 2, (7, 2, 3), 16, "sdram", False, True),
    (5, 17, (), 1, "bram", False, False),
    (6, 1, (40, 3), 8, "bram", False, False),
    (7, 2, (6, 3), 2, "ddr3", True, False),
    (8, 3, (20, 5), 4, "paired", True, False),
]


@pytest.mark.parametrize(
    "seed, head, sizes, rows, store, few, compact",
    [*CASES[:5], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[5:7]), CASES[7]],
)
def test_random_tasks(seed, head, sizes, rows, store, few, compact):
    """Odd sizes, every task in any order, idle and backpressure at random; counters add up."""
    rng = np.random.default_rng(seed)
    if sizes:
        network = reading_network(seed, head=head, sizes=sizes, rows=rows, few=few)
    else:
        network = dataclasses.replace(reading_network(seed, head=head, sizes=(1,)), groups=None)
    lanes = {"sdram": 8, "ddr3": 8}.get(store, int(rng.choice([1, 2, 4])))
    options = {}
    paired = store in ("ddr3", "paired")
    if store == "ddr3":
        store, options = "sdram", {"memory_ratio": DDR3_RATIO}
    elif store == "paired":
        store, lanes = "sdram", 2
    run = ReadingRun(
        network,
        lanes=lanes,
        seed=seed,
        idle=float(rng.choice([0, 0.9])),
        backpressure=float(rng.choice([0, 0.5])),
        folded_tokens=int(rng.choice([0, 2])),
        store=store,
        compact=compact,
        **options,
    )
    assert run.c.paired == paired
    vocabulary = len(network.embedding)
    tokens = rng.integers(0, vocabulary, 9)

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        for step, token in enumerate(tokens.tolist()):
            if step % 4 == 0:
                top = [BY_FACTORS, ALL_WORDS, 1, 3, 64][int(rng.integers(5))]
                await run.set_sampling(context, seed * 100 + step, float(rng.choice([0.2, 1.0, 3.7])), top)
            task = Task(int(rng.choice([0, 1, 1, 2, 2, 3])))
            await run.ask(context, token, task, target=int(rng.integers(vocabulary)), k=int(rng.choice([1, 2, 64])))
        await run.settle(context)
        counters = await run.counters(context)
        assert counters["tokens"] == len(tokens)
        assert (counters["macs"], counters["words"]) == (run.macs, run.words)
        assert (counters["readout_macs"], counters["groups"]) == (run.readout_macs, run.groups)
        assert counters["cycles"] == counters["words"] + sum(counters.get(cause, 0) for cause in CAUSES)
        if store == "sdram":
            assert not context.get(run.dut.violations)
            assert counters["beats"] == run.beats

    run.simulation.run(testbench)


@pytest.mark.parametrize("seed, head, sizes, rows, few", [case[:4] + case[5:6] for case in (*CASES[:2], *CASES[4:6])])
def test_words_drawn_from_all_words(seed, head, sizes, rows, few):
    """At temperatures from the least to the largest, and with odd parts: no head, one word, no groups at all."""
    rng = np.random.default_rng(seed)
    network = reading_network(seed, head=head, sizes=sizes or (1,), rows=rows, few=few)
    run = ReadingRun(network if sizes else dataclasses.replace(network, groups=None), lanes=2, seed=seed)
    tokens = rng.integers(0, len(network.embedding), 5).tolist()
    drawn = []

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        for step, token in enumerate(tokens):
            await run.set_sampling(context, step, (1 / 16, 0.5, 1.0, 3.7, 256.0)[step], ALL_WORDS)
            await run.ask(context, token, Task.SAMPLE)
            drawn.append(run.answers[-1][0])
        counters = await run.counters(context)
        assert (counters["readout_macs"], counters["groups"]) == (run.readout_macs, run.groups)
        # Every group, and the drawn one again.
        again = np.isin(run.readout.place[drawn], range(head, len(network.embedding))).sum() if sizes else 0
        assert run.groups == len(tokens) * len(sizes) + again

    run.simulation.run(testbench)


@pytest.mark.parametrize("sign", [-1, 1])
def test_scores_saturate(sign):
    """Largest weights of one sign and largest biases: the scores are the least, or the largest, that there are."""
    network = random_network(7, vocabulary=9, hidden=(16,), threshold=(0, 0), bias=12000, z_bias=12000, shift=(5, 6))
    network = random_groups(network, head=3, sizes=(4, 2), rows=2, seed=7)
    groups = dataclasses.replace(network.groups, weight=np.full_like(network.groups.weight, 127 * sign))
    network = dataclasses.replace(
        network,
        readout_weight=np.full((9, 16), 127 * sign, np.int8),
        readout_bias=np.full_like(network.readout_bias, sign << 28),
        readout_fraction=11,
        groups=groups,
    )
    run = ReadingRun(network, lanes=2, seed=7)
    most, saturated = -(1 << 17) if sign < 0 else (1 << 17) - 1, []

    async def testbench(context):
        await run.load(context)
        await run.clear(context)
        for token in range(3):
            await run.ask(context, token, Task.SCORE, target=token)
            saturated.append((run.readout.scores(run.engine.events[-1][0][None])[0, :3] == most).all())
        assert any(saturated)

    run.simulation.run(testbench)
