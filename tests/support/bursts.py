"""An SDRAM that a component asks for bursts."""

from collections import deque

from amaranth.hdl import Value

from egret.rtl.sdram import TAGS, burst_layout
from tests.support.streams import unpack

__all__ = ["serve_bursts"]


def serve_bursts(simulation, words, others, *, hurry=1.0, willing=1.0, eager=True):
    """Let an SDRAM with some words take bursts, and send a word, now and then.

    Between them it sends words of a burst of ``others``, a tag, which are none of the component's business. Unless it
    is ``eager`` it is ready only while it is asked, as the core is. Returns the list of (address, count, tag) of the
    bursts, which grows.
    """
    dut = simulation.dut
    simulation.watch(dut.burst, "burst")
    beats, asked = deque(), []

    async def memory(context):
        ready = False
        async for _, _, valid, payload in context.tick().sample(dut.burst.valid, Value.cast(dut.burst.payload)):
            taken = valid and ready
            if taken:
                address, count, tag = unpack(burst_layout(), payload)
                asked.append((address, count, tag))
                beats.extend((word, tag) for word in words[address : address + count])
            sends = bool(beats) and simulation.chance(hurry)
            context.set(dut.beat.valid, sends)
            if sends:
                simulation.set(context, dut.beat.payload, beats.popleft())
            elif simulation.chance(0.5):
                simulation.set(context, dut.beat.payload, (0xFFFF, TAGS.index(others)))
                context.set(dut.beat.valid, 1)
            ready = (eager or (valid and not taken)) and len(beats) < 100 and simulation.chance(willing)
            context.set(dut.burst.ready, ready)

    simulation.simulator.add_process(memory)
    return asked
