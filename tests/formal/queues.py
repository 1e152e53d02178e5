"""Queues: those of Amaranth, of which every queue of the core and the link is one."""

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In

from tests.formal.proof import proof

WIDTH = 2
"""Bits; a queue treats all alike."""


class Queue(wiring.Component):
    """A queue as a component."""

    def __init__(self, queue):
        self.queue = queue
        super().__init__({"w_data": In(WIDTH), "w_en": In(1), "r_en": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = self.queue
        m.d.comb += [getattr(self.queue, name).eq(getattr(self, name)) for name in ("w_data", "w_en", "r_en")]
        return m


def follow(b, kind, depth):
    """Follow an item through a queue; return the queue, its inside, whether and where the item is, and the item."""
    queue = kind(width=WIDTH, depth=depth)
    inside = b.add(Queue(queue))
    put, taken = queue.w_en & queue.w_rdy, queue.r_en & queue.r_rdy
    return queue, inside, b.follow(put, queue.w_data, taken, queue.r_data, depth)


def plain(depth):
    """Make the proof of a queue of one depth."""

    def order(b):
        queue, inside, (follows, ahead, kept) = follow(b, SyncFIFO, depth)
        place = Signal(range(2 * depth))
        b.m.d.comb += place.eq(inside["queue.consume"] + ahead)
        word = inside.word("queue.storage", Mux(place < depth, place, place - depth))
        b.claim(b.level == queue.level, ~follows | (word == kept))
        b.cover(queue.level == depth)

    order.__doc__ = f"What is put into a queue of {depth} comes out once, in order; none is put into a full one."
    order.__name__ = f"depth_{depth}"
    return proof(SyncFIFO, induction=2, cover=depth + 3)(order)


depth_1, depth_2, depth_4, depth_5, depth_8 = (plain(depth) for depth in (1, 2, 4, 5, 8))


@proof(SyncFIFOBuffered, induction=2, cover=11)
def buffered(b):
    """What is put into a queue of 8 in block RAM comes out once, in order; none is put into a full one."""
    depth = 8
    queue, inside, (follows, ahead, kept) = follow(b, SyncFIFOBuffered, depth)
    place = Signal(range(2 * depth))
    b.m.d.comb += place.eq(inside["queue.consume"] + ahead - queue.r_rdy)
    word = inside.word("queue.storage", Mux(place < depth - 1, place, place - depth + 1))
    b.claim(
        b.level == queue.level,
        ~follows | Mux(queue.r_rdy & (ahead == 0), queue.r_data == kept, word == kept),
    )
    # What came two cycles before can be taken, and there is room for as many as there are places.
    b.claim(queue.r_rdy | (queue.level <= b.was(queue.w_en & queue.w_rdy)), queue.w_rdy | (queue.level == depth))
    b.cover(queue.level == depth)
