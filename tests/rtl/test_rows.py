"""FoldedRows against a table."""

import random

import pytest

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.folded import folded_rows
from egret.model.compiler.layouts import memory_sections
from egret.rtl.rows import FoldedRows
from tests.support.networks import random_network
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

LATENCY = 4


def configuration(hidden, lanes, folded, row_bits=24, row_shift=0):
    return Configuration(
        vocabulary=max(2, folded),
        embedding=1,
        hidden=hidden,
        lanes=lanes,
        weight_words=64,
        folded_tokens=folded,
        row_bits=row_bits,
        row_shift=row_shift,
    )


def random_table(rng, c):
    """Addends by token, address and bank, also the largest and the smallest."""
    limit = (1 << c.row_bits - 1) - 1
    return [
        [
            tuple(rng.choice([0, limit, -limit - 1, rng.randint(-limit, limit)]) << c.row_shift for _ in range(c.banks))
            for _ in range(c.layer_depth(0))
        ]
        for _ in range(c.folded_tokens)
    ]


def words_of(c, table):
    """The table as words of the memory."""
    mask = (1 << c.row_bits) - 1
    return [
        sum((addend >> c.row_shift & mask) << c.row_bits * bank for bank, addend in enumerate(addends))
        for row in table
        for addends in row
    ]


def run(c, words, table, tokens, *, seed=0, pause=None):
    """Send the rows of tokens, each begun in the cycle in which the one before is over, or some cycles later.

    Checks every cycle: what leaves, when, and ``done``. Returns the cycles in which rows began.
    """
    simulation = StreamSimulation(FoldedRows(c), seed)
    dut = simulation.dut
    height = c.layer_depth(0)
    nothing = (0, (0,) * c.banks)
    due, starts, sent = {}, [], []

    def check(cycle, start, token, done, valid, payload):
        # Nothing leaves but what is due; otherwise there are all zeros.
        assert (valid, payload) == ((1, due.pop(cycle)) if cycle in due else (0, nothing)), cycle
        if valid:
            sent.append(cycle)
        assert done == (not starts or cycle >= starts[-1] + LATENCY + height), cycle
        if start:
            assert not due and done
            starts.append(cycle)
            for address, addends in enumerate(table[token]):
                due[cycle + LATENCY + address] = (address, addends)

    simulation.each_cycle(check, dut.start, dut.token, dut.done, dut.o.valid, dut.o.payload)

    async def testbench(context):
        await simulation.load(context, c, rows=words)
        assert context.get(dut.done)
        for token in tokens:
            context.set(dut.token, token)
            context.set(dut.start, 1)
            await context.tick()
            context.set(dut.start, 0)
            # The token need not stay.
            context.set(dut.token, simulation.random.randrange(1 << 16))
            await context.tick()
            while not context.get(dut.done):
                await context.tick()
            for _ in range(simulation.random.randrange(4) if pause is None else pause):
                await context.tick()
        await context.tick().repeat(6)
        assert context.get(dut.done)

    simulation.run(testbench)
    assert not due and len(starts) == len(tokens)
    assert sent == [start + LATENCY + address for start in starts for address in range(height)]
    return starts


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("row_bits, row_shift", [(24, 0), (17, 3), (1, 23)])
@pytest.mark.parametrize("lanes, hidden", [(1, (3,)), (1, (11, 4)), (2, (5, 20)), (4, (40, 3, 7)), (32, (9,))])
def test_random_tables(lanes, hidden, row_bits, row_shift, seed):
    """Rows in any order, also the same one twice; only the first layer counts."""
    rng = random.Random(seed)
    c = configuration(hidden, lanes, rng.randint(3, 9), row_bits, row_shift)
    table = random_table(rng, c)
    run(c, words_of(c, table), table, [rng.randrange(c.folded_tokens) for _ in range(12)], seed=seed)


@pytest.mark.parametrize("lanes, hidden", [(1, (5,)), (4, (3,))])
def test_one_address_a_cycle(lanes, hidden):
    """The first one four cycles after ``start``; the next row begins in the cycle in which the last one is over."""
    rng = random.Random(1)
    c = configuration(hidden, lanes, 3)
    table = random_table(rng, c)
    starts = run(c, words_of(c, table), table, [0, 1, 2, 2, 0], pause=0)
    assert [later - earlier for earlier, later in zip(starts[:-1], starts[1:], strict=True)] == [
        LATENCY + c.layer_depth(0)
    ] * 4


def test_first_and_last_token():
    """All of a table of many tokens, the last word of its memory too."""
    c = configuration((6, 5), 2, 100)
    table = [
        [tuple(100 * token + 10 * address - bank for bank in range(4)) for address in range(c.layer_depth(0))]
        for token in range(100)
    ]
    assert len(words_of(c, table)) == 100 * 5 == memory_sections(c)["rows"].words
    run(c, words_of(c, table), table, [99, 0, 98, 1, 50], pause=1)


@pytest.mark.parametrize("folded", [1, 2])
def test_smallest(folded):
    """One neuron, one lane: gates u and r at one address, z at the next."""
    c = configuration((1,), 1, folded)
    table = [[(5 + token, -7), (1 << 22, 0)] for token in range(folded)]
    run(c, words_of(c, table), table, [0, folded - 1, 0])


def test_only_its_own_memory_is_written():
    """Words for other memories, at the same addresses, change nothing."""
    c = configuration((4,), 2, 2)
    rng = random.Random(1)
    table = random_table(rng, c)
    simulation = StreamSimulation(FoldedRows(c))
    received = simulation.sink(simulation.dut.o)

    async def testbench(context):
        await simulation.load(context, c, rows=words_of(c, table))
        await simulation.load(
            context,
            c,
            **{name: [rng.getrandbits(60) for _ in range(6)] for name in memory_sections(c) if name != "rows"},
        )
        context.set(simulation.dut.load.section, 7)  # but not valid
        await context.tick()
        context.set(simulation.dut.token, 1)
        context.set(simulation.dut.start, 1)
        await context.tick()
        context.set(simulation.dut.start, 0)
        await context.tick().repeat(10)

    simulation.run(testbench)
    assert [payload for _, payload in received] == list(enumerate(table[1]))


@pytest.mark.parametrize("lanes, hidden", [(1, (9,)), (2, (9, 4)), (8, (21,))])
def test_image(lanes, hidden):
    """What leaves for an image's memory are the folded rows of its network, each at its accumulator."""
    network = random_network(3, hidden=hidden, embedding=5)
    c = configuration_for(network, lanes=lanes, folded_tokens=4)
    section = memory_sections(c)["rows"]
    data = compile_image(network, c).memories["rows"]
    words = [
        int.from_bytes(data[at : at + section.word_bytes], "little") for at in range(0, len(data), section.word_bytes)
    ]
    rows = folded_rows(network, 4)
    table = [[[0] * c.banks for _ in range(c.layer_depth(0))] for _ in range(4)]
    for token in range(4):
        for gate in range(3):
            for neuron in range(hidden[0]):
                bank, address = c.place(0, gate, neuron)
                table[token][address][bank] = int(rows[token, gate * hidden[0] + neuron])
    assert any(any(addends) for row in table for addends in row)
    run(c, words, [[tuple(addends) for addends in row] for row in table], [3, 0, 2, 1])
