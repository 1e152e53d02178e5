"""SdramEdge: the controller at its pins, against the model of the memory in the memory's own clock."""

import dataclasses
import random

import pytest
from amaranth.hdl import ClockDomain, DomainRenamer, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from egret.rtl.sdram import COLUMN_BITS, PARTS, Sdram, Timing
from egret.rtl.sdram_edge import MEMORY, SdramEdge
from egret.sim.sdram import VIOLATIONS, SdramModel

ROWS = 3
WORDS = 1 << ROWS + 2 + COLUMN_BITS


def both(t):
    """The controller on the model of two words a cycle, and on the one with the edge before it."""
    m = Module()
    m.domains += [ClockDomain("sync"), ClockDomain(MEMORY, reset_less=True)]
    controllers = [Sdram(t, 2), Sdram(t, 2)]
    wide, narrow = SdramModel(t, 2, row_bits=ROWS), SdramModel(t, row_bits=ROWS)
    m.submodules += [*controllers, wide, DomainRenamer(MEMORY)(narrow)]
    m.submodules.edge = edge = SdramEdge()
    wiring.connect(m, controllers[0].sdram, wide.pins)
    wiring.connect(m, controllers[1].sdram, edge.core)
    for name, member in narrow.pins.signature.flip().members.items():
        source, target = (edge.pins, narrow.pins) if member.flow == Out else (narrow.pins, edge.pins)
        m.d.comb += getattr(target, name).eq(getattr(source, name))
    assert {member.flow for member in narrow.pins.signature.members.values()} == {In, Out}
    return m, controllers, (wide, narrow)


@pytest.mark.parametrize("part, hertz", [("any", 125e6), ("is42s16160g-7", 143e6), ("w9825g6kh-6", 166e6)])
def test_the_edge_changes_nothing(part, hertz):
    """Beat for beat in the same cycles, and every command at the pins keeps the times in the memory's cycles."""
    t = Timing.of(dataclasses.replace(PARTS[part], start=400), hertz)
    rng = random.Random(part)
    m, controllers, models = both(t)
    simulator = Simulator(m)
    simulator.add_clock(16e-9, phase=8e-9)
    simulator.add_clock(8e-9, phase=8e-9, domain=MEMORY)
    content, seen, ends = {}, [[], []], []

    async def drive(context):
        await context.tick().until(controllers[0].ready)
        for _ in range(30):
            start = rng.choice([rng.randrange(WORDS - 700), (rng.randrange(1, 8) << COLUMN_BITS) - rng.randrange(4)])
            writes = rng.random() < 0.5
            start = start if writes else rng.choice([start, *list(content)[-20:]])
            jobs = [(start + offset, rng.getrandbits(16)) for offset in range(9)] if writes else [None]
            for job in jobs:
                for memory in controllers:
                    stream = memory.write if job else memory.i
                    if job:
                        context.set(stream.p.address, job[0])
                        context.set(stream.p.word, job[1])
                        content[job[0]] = job[1]
                    else:
                        context.set(stream.p.address, start // 2)
                        context.set(stream.p.count, 1 + start % 37)
                    context.set(stream.valid, 1)
                stream = controllers[0].write if job else controllers[0].i
                await context.tick().until(stream.ready)
                for memory in controllers:
                    context.set(memory.write.valid, 0)
                    context.set(memory.i.valid, 0)
        await context.tick().repeat(3)
        await context.tick().until(~controllers[0].busy)
        ends.extend(context.get(model.violations) for model in models)

    async def watch(context):
        signals = [signal for memory in controllers for signal in (memory.o.valid, memory.o.p.words)]
        cycle = 0
        async for _, _, *sampled in context.tick().sample(*signals):
            cycle += 1
            for which in range(2):
                if sampled[2 * which]:
                    seen[which].append((cycle, sampled[2 * which + 1]))

    simulator.add_testbench(drive)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert ends == [0, 0], [name for bit, name in enumerate(VIOLATIONS) if (ends[0] | ends[1]) >> bit & 1]
    assert seen[0] == seen[1]
    words = {word for _, beat in seen[0] for word in (beat & 0xFFFF, beat >> 16)}
    assert len(seen[0]) > 100 and len(words & set(content.values())) > 20


def test_latency_of_two_words_a_cycle():
    t = dataclasses.replace(Timing.of(PARTS["any"], 100e6), latency=2)
    assert t.delay(1) == 4
    with pytest.raises(ValueError, match="^the CAS latency must be odd with two words a cycle, not 2$"):
        t.delay(2)
