"""SinglePort and RowMemory against lists; the cells of the iCE40 against the ordinary memory, under Icarus."""

import gc

import pytest

from egret.rtl.single_port import RowMemory, SinglePort
from tests.support.streams import StreamSimulation


@pytest.mark.parametrize("words, bits", [(1, 1), (2, 3), (5, 8), (40, 17), (300, 40)])
def test_reads_and_writes(words, bits):
    simulation = StreamSimulation(SinglePort(words, bits), words)
    dut, rng = simulation.dut, simulation.random
    content, found = {}, []

    async def testbench(context):
        expected = None
        for _ in range(400):
            address, write, enable = rng.randrange(words), rng.random() < 0.4 or not content, rng.random() < 0.7
            if address not in content:
                write = True
            data = rng.randrange(1 << bits)
            for port, value in (
                (dut.address, address),
                (dut.write, write),
                (dut.enable, enable),
                (dut.write_data, data),
            ):
                context.set(port, value)
            await context.tick()
            if enable:
                if write:
                    content[address] = data
                expected = None if write else content[address]
            if expected is not None:
                found.append(expected)
                assert context.get(dut.read_data) == expected

    simulation.run(testbench)
    assert found


@pytest.mark.parametrize("shapes", [[(2, 1)], [(20, 16)], [(30, 39), (9, 72)], [(5, 100), (40, 15), (3, 17)]])
@pytest.mark.parametrize("idle, backpressure", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.7, 0.5)])
def test_row_memory(shapes, idle, backpressure):
    """Every part's words in the order of their addresses, whatever the others do."""
    simulation = StreamSimulation(RowMemory(shapes), len(shapes))
    dut, rng = simulation.dut, simulation.random
    contents = [[rng.randrange(1 << bits) for _ in range(words)] for words, bits in shapes]
    received = [simulation.sink(getattr(dut, f"o_{part}"), backpressure, f"o_{part}") for part in range(len(shapes))]
    asked = [[rng.randrange(words) for _ in range(30)] for words, _ in shapes]
    watches = [simulation.watch(getattr(dut, f"i_{part}"), f"i_{part}") for part in range(len(shapes))]
    loaded = []

    def ask(part):
        port = getattr(dut, f"i_{part}")

        async def process(context):
            while not loaded:
                await context.tick()
            for address in asked[part]:
                while simulation.chance(idle):
                    await context.tick()
                context.set(port.payload, address)
                context.set(port.valid, 1)
                await context.tick().until(port.ready)
                context.set(port.valid, 0)

        return process

    for part in range(len(shapes)):
        simulation.simulator.add_testbench(ask(part), background=True)

    async def testbench(context):
        for part, content in enumerate(contents):
            load = getattr(dut, f"load_{part}")
            for index, word in enumerate(content):
                for field, value in ((load.valid, 1), (load.index, index), (load.data, word)):
                    context.set(field, value)
                await context.tick()
                context.set(load.valid, 0)
                for _ in range(-(-shapes[part][1] // 16) - 1):
                    await context.tick()
        await context.tick()
        loaded.append(True)
        while any(len(own) < 30 for own in received):
            await context.tick()
        await context.tick().repeat(10)

    simulation.run(testbench)
    assert len(watches) == len(shapes)
    for content, addresses, own in zip(contents, asked, received, strict=True):
        assert [word for _, word in own] == [content[address] for address in addresses]


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_parameters_are_checked():
    with pytest.raises(ValueError, match="^words and bits must be at least 1, not 0 and 8$"):
        SinglePort(0, 8)
    with pytest.raises(ValueError, match="^shapes must fit 16384 rows of 16 bits, not .*, which take 24576$"):
        RowMemory([(4096, 64), (8192, 16)])
    gc.collect()
