"""BlockMemory against a list, at the ends of its blocks and in between."""

import random

import pytest
from amaranth.hdl import Fragment, signed
from amaranth.sim import Simulator

from egret.rtl import blocks
from egret.rtl.blocks import LATENCY, MOST, SIMULATOR, BlockMemory, block_words

BLOCK = block_words(7, 1)
DEEP = block_words(7, 1 << 14)


@pytest.mark.parametrize(
    "depth, most, single_port, platform",
    [
        (1, MOST, False, None),
        (2, MOST, False, None),
        (BLOCK, MOST, False, None),
        (BLOCK + 1, MOST, False, None),
        (2 * BLOCK + 5, MOST, False, None),
        (2 * BLOCK + 5, 2 * BLOCK, False, None),
        (1, MOST, False, SIMULATOR),
        (2 * BLOCK + 5, MOST, False, SIMULATOR),
        (1, MOST, True, None),
        (2 * BLOCK + 5, MOST, True, None),
        (2 * DEEP + 5, MOST, False, None),
    ],
)
def test_written_words_come_back(monkeypatch, depth, most, single_port, platform):
    """One address a cycle; with more than ``most`` words, and for a simulator, the memory is left whole."""
    assert DEEP == 8 * BLOCK
    monkeypatch.setattr(blocks, "MOST", most)
    rng = random.Random(depth)
    dut = BlockMemory(signed(7), depth, single_port=single_port)
    addresses = sorted(
        {
            0,
            depth - 1,
            *range(BLOCK - 2, min(BLOCK + 2, depth)),
            *range(DEEP - 2, min(DEEP + 2, depth)),
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
