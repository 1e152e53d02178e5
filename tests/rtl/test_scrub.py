"""Scrubbing, with a memory in Python; that of a whole core is in `tests/sim/test_virtual.py`."""

import zlib

import pytest

from egret.model.compiler.configuration import Configuration
from egret.rtl.scrub import BURST, Scrub
from egret.rtl.sdram import TAGS
from tests.support.bursts import serve_bursts
from tests.support.seeds import seeds
from tests.support.streams import StreamSimulation

BLOCK = 256  # words


def configuration(ratio):
    """Blocks that are whole, and a shorter one at the end that does not end with a burst."""
    c = Configuration(
        vocabulary=5, embedding=24, hidden=(4, 3), lanes=16, weight_words=70, store="sdram", memory_ratio=ratio
    )
    assert c.sdram_words % BLOCK and c.sdram_words // ratio % BURST and c.sdram_words > 2 * BLOCK
    return c


def beats_of(words, ratio):
    return [
        sum(word << 16 * place for place, word in enumerate(words[at : at + ratio]))
        for at in range(0, len(words), ratio)
    ]


def checks(words):
    blocks = [words[at : at + BLOCK] for at in range(0, len(words), BLOCK)]
    return [zlib.crc32(b"".join(word.to_bytes(2, "little") for word in block)) for block in blocks]


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_a_changed_word_is_found(ratio, seed):
    """All blocks in order, again and again, whatever waits; a change is found in its block, which stays."""
    c = configuration(ratio)
    simulation = StreamSimulation(Scrub(c, block_words=BLOCK, pace=3), seed)
    dut, random = simulation.dut, simulation.random
    words = [random.randrange(1 << 16) for _ in range(c.sdram_words)]
    beats = beats_of(words, ratio)
    asked = serve_bursts(simulation, beats, "weights", hurry=0.7, willing=0.5)
    seen = []
    simulation.each_cycle(
        lambda cycle, scrubbed, damaged: seen.append(damaged) if scrubbed else None, dut.scrubbed, dut.damaged
    )
    blocks = len(checks(words))

    async def passes(context, count):
        del seen[:]
        while len(seen) < count * blocks:
            context.set(dut.idle, simulation.chance(0.9))
            await context.tick()
        found = [*seen]
        # What comes next may come in the middle of a burst.
        await context.tick().repeat(random.randrange(40))
        return found

    async def clear(context):
        context.set(dut.clear, 1)
        await context.tick()
        context.set(dut.clear, 0)

    async def testbench(context):
        context.set(dut.idle, 1)
        await context.tick().repeat(50)
        await clear(context)
        await context.tick().repeat(50)
        assert not asked  # nothing was loaded
        await simulation.load(context, c, checks=checks(words))
        await context.tick().repeat(50)
        assert not asked  # more may come
        await clear(context)
        assert await passes(context, 2) == [0] * 2 * blocks
        size, whole = min(BURST, BLOCK // ratio), len(beats)
        one_pass = [(at, min(size, whole - at), TAGS.index("scrub")) for at in range(0, whole, size)]
        assert asked[: 2 * len(one_pass)] == 2 * one_pass
        place = random.randrange(whole)
        beats[place] ^= 1 << random.randrange(16 * ratio)
        found = await passes(context, 2)
        assert sum(found) >= 1
        assert context.get(dut.damaged_block) == place * ratio // BLOCK + 1
        # What was loaded anew counts from the first block on.
        await simulation.load(
            context, c, checks=checks([beat >> 16 * part & 0xFFFF for beat in beats for part in range(ratio)])
        )
        await clear(context)
        assert await passes(context, 2) == [0] * 2 * blocks
        assert context.get(dut.damaged_block) == 0

    simulation.run(testbench)
