"""BlockMemory against a list, at the ends of its blocks and in between."""

import random
from itertools import accumulate

import pytest
from amaranth.hdl import Fragment, signed
from amaranth.sim import Simulator

from egret.rtl import blocks
from egret.rtl.blocks import LATENCY, MOST, SHAPES, SIMULATOR, BlockMemory, block_sizes

WIDTH = 9
BLOCK = 2048  # words of such a width that one block RAM holds


@pytest.mark.parametrize(
    "width, depth, sizes",
    [
        (9, 1, [512]),
        (9, 2049, [2048, 512]),
        (64, 10350, [8192, 2048, 512]),
        (32, 34304, [16384, 16384, 1024, 512]),
        (72, 3450, [2048, 1024, 512]),
        (32, 10240, [8192, 2048]),
    ],
)
def test_sizes_of_memories(width, depth, sizes):
    assert block_sizes(width, depth) == sizes


@pytest.mark.parametrize("width", [1, 4, 7, 9, 18, 27, 36, 64])
def test_no_equal_blocks_take_fewer_block_rams(width):
    bits = dict(SHAPES)
    for depth in range(300, 40000, 1777):
        sizes = block_sizes(width, depth)
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes[:-1]) < depth <= sum(sizes)
        rams = sum(-(-width // bits[words]) for words in sizes)
        assert rams <= min(-(-depth // words) * -(-width // bits[words]) for words in bits)


@pytest.mark.parametrize(
    "width, depth, most, single_port, platform",
    [
        (WIDTH, 1, MOST, False, None),
        (WIDTH, 2, MOST, False, None),
        (WIDTH, BLOCK, MOST, False, None),
        (WIDTH, BLOCK + 1, MOST, False, None),
        (WIDTH, 2 * BLOCK + 5, MOST, False, None),
        (WIDTH, 2 * BLOCK + 5, 2 * BLOCK, False, None),
        (WIDTH, 1, MOST, False, SIMULATOR),
        (WIDTH, 2 * BLOCK + 5, MOST, False, SIMULATOR),
        (WIDTH, 1, MOST, True, None),
        (WIDTH, 2 * BLOCK + 5, MOST, True, None),
        (32, 34304, MOST, False, None),
        (64, 10350, MOST, False, None),
    ],
)
def test_written_words_come_back(monkeypatch, width, depth, most, single_port, platform):
    """One address a cycle; with more than ``most`` words, and for a simulator, the memory is left whole."""
    monkeypatch.setattr(blocks, "MOST", most)
    rng = random.Random(depth)
    dut = BlockMemory(signed(width), depth, single_port=single_port)
    addresses = sorted(
        {
            0,
            depth - 1,
            *(end + step for end in accumulate(block_sizes(width, depth)) for step in range(-2, 2) if end + step > 0),
            *(rng.randrange(depth) for _ in range(60)),
        }
    )
    content = {address: rng.randrange(-64, 64) for address in addresses if address < depth}
    asked = [rng.choice(list(content)) for _ in range(300)]
    found = []

    async def testbench(context):
        for address, word in content.items():
            context.set(dut.write_address, address)
            context.set(dut.write_data, word)
            context.set(dut.write_valid, 1)
            await context.tick()
        # What is offered without ``write_valid`` is not written.
        context.set(dut.write_valid, 0)
        context.set(dut.write_data, 1)
        await context.tick()
        for address in asked:
            context.set(dut.address, address)
            context.set(dut.write_address, address)
            await context.tick()
            found.append(context.get(dut.data))
        for _ in range(LATENCY - 1):
            await context.tick()
            found.append(context.get(dut.data))

    simulator = Simulator(Fragment.get(dut, platform))
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert found[LATENCY - 1 :] == [content[address] for address in asked]
    assert len(set(content.values())) > 1 or depth == 1
