"""The event queue."""

from amaranth.hdl import *

from egret.model.compiler.configuration import Configuration
from egret.rtl.blocks import LATENCY
from egret.rtl.events import EventQueue
from egret.rtl.layouts import ahead
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=1, hidden=(3, 2), lanes=1)
PLACES = ahead(CORE, LATENCY)


class Used:
    """A queue that is used as its page says; ``taken`` counts what a pass has sent."""

    def __init__(self, b):
        self.unit = unit = EventQueue(CORE)
        self.inside = inside = b.add(unit)
        sync = b.m.d.sync
        self.counts, self.known = inside["counts"], inside["known"]
        sizes = Array(CORE.hidden)
        layer, came = unit.layer, unit.i.p.layer
        self.taken = Signal(range(4), name="taken")
        sync += self.taken.eq(self.taken + (unit.o.valid & unit.o.ready))
        with b.m.If(unit.start):
            sync += self.taken.eq(0)
        # A pass begins when the one before is over, and its layer holds still; its list is not begun anew, and what is
        # appended to it comes while it grows.
        appends = Signal(name="appends")
        b.m.d.comb += appends.eq(unit.i.valid & (came == layer))
        b.assume(
            ~unit.start | unit.done,
            unit.done | (b.was(layer) == layer),
            (layer < CORE.layers) & (came < CORE.layers),
            ~unit.i.valid | (self.counts[came] < sizes[came]),
            ~unit.i.valid | ~unit.clear.bit_select(came, 1),
            ~(unit.start | ~unit.done) | ~unit.clear.bit_select(layer, 1),
            ~(appends | b.was(appends)) | unit.growing,
            unit.done | ~b.was(~unit.done & ~unit.growing) | ~unit.growing,
        )
        b.claim(*(count <= size for count, size in zip(self.counts, CORE.hidden, strict=True)))


@proof(EventQueue, induction=4, cover=10)
def stream(b):
    """An event that waits at the output stays as it is until it is taken."""
    b.claim_stream(Used(b).unit.o)


def passed(b, used):
    """Claim where the events of a pass are: on their way to the queue, in it, or taken; return whether it is over."""
    unit, inside = used.unit, used.inside
    waits = Signal(range(8), name="waits")
    b.m.d.comb += waits.eq(inside["queue.level"] + sum(inside["reading"]))
    b.claim(waits <= PLACES)
    b.claim(inside["position"] == used.taken + waits)
    b.claim(unit.done | (inside["position"] <= used.known[unit.layer]))
    ends = Signal(name="ends")
    b.m.d.comb += ends.eq(unit.done & b.was(~unit.done))
    return ends


@proof(EventQueue, induction=6, cover=12)
def order(b):
    """A pass sends the events of its list, each once and in order, whatever is appended meanwhile."""
    used = Used(b)
    unit, inside = used.unit, used.inside
    # One place of one list is followed, any one.
    layer, place = b.fixed(range(CORE.layers), "list"), b.fixed(range(4), "place")
    b.assume(layer < CORE.layers)
    event = Value.cast(unit.i.p.event)
    kept, has = Signal(len(event), name="kept"), Signal(name="has")
    with b.m.If(unit.i.valid & (unit.i.p.layer == layer) & (used.counts[layer] == place)):
        b.m.d.sync += [kept.eq(event), has.eq(1)]
    with b.m.If(unit.clear.bit_select(layer, 1)):
        b.m.d.sync += has.eq(0)
    b.claim(has == (used.counts[layer] > place))
    memory = inside.word("events.block_0", Array(CORE.neuron_base)[layer] + place)
    b.claim(~((used.known[layer] > place) & b.was(has)) | (memory == b.was(kept)))

    passed(b, used)
    here = Signal(name="here")
    b.m.d.comb += here.eq(unit.layer == layer)
    for offset in range(PLACES):
        at = Signal(range(2 * PLACES), name=f"at_{offset}")
        b.m.d.comb += at.eq(inside["queue.consume"] + offset)
        word = inside.word("queue.storage", Mux(at < PLACES, at, at - PLACES))
        waits = (inside["queue.level"] > offset) & here & (used.taken + offset == place)
        b.claim(~waits | (word == kept))
    leaves = unit.o.valid & unit.o.ready & here & (used.taken == place)
    b.claim(~leaves | (Value.cast(unit.o.payload) == kept))
    b.cover(leaves & (place == 2) & (kept != 0))


@proof(EventQueue, induction=6, cover=12)
def complete(b):
    """When a pass is over, all events of its list have been sent."""
    used = Used(b)
    ends = passed(b, used)
    unit, inside = used.unit, used.inside
    b.claim(unit.done | inside["active"] | ((inside["position"] == used.counts[unit.layer]) & ~b.was(unit.growing)))
    b.claim(~ends | (used.taken == used.counts[b.was(unit.layer)]))
    b.cover(ends & (used.taken == 3))
    b.cover(ends & (used.taken == 0))
