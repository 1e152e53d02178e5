"""The read-out's dice, and its list of the largest values."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.rtl.readout.best import Best
from egret.rtl.readout.dice import Dice
from tests.formal.proof import proof

MOST = 4
"""Places of a list."""


@proof(Dice, induction=4, cover=8)
def dice(b):
    """What is drawn is below the total; each number below it can be, and a try fails less than half of the times."""
    unit = Dice()
    inside = b.add(unit)
    state = inside["fsm_state"]
    busy = state != 0
    b.assume(unit.total != 0)
    b.assume(~(busy & (unit.start | unit.load)))
    b.assume(~(b.was(busy) | b.was(unit.start)) | (unit.total == b.was(unit.total)))
    less, mask = inside["less"], inside["mask"]
    tries = (state == 2) | (state == 3)
    b.claim(~busy | (less == unit.total - 1))
    # All ones, up to the highest bit of the largest number.
    b.claim(~tries | ((mask & (mask + 1)[: len(mask)]) == 0))
    b.claim(~tries | ((mask >= less) & ((mask >> 1 < less) | (mask == 0))))
    b.claim(~b.was(unit.done) | (unit.number < b.was(unit.total)))
    b.cover(unit.done & (unit.total == 3))
    b.cover((state == 3) & ~unit.done)


@proof(Best, induction=1, cover=40)
def best(b):
    """A list holds the largest of the values that came, in falling order; of equal ones those of the smallest entries.

    So it does if for each value as many as came that are equal or better are in the list, or as many as there is room
    for, and have its first places. The list is of up to four places.
    """
    unit = Best(3)
    inside = b.add(unit)
    sync, new, slot = b.m.d.sync, inside["new"], inside["slot"]
    most = Signal(range(MOST + 1), name="most_places", init=1)
    with b.m.If(unit.start):
        sync += most.eq(unit.most)
    b.assume((unit.most != 0) & (unit.most <= MOST), unit.start | (unit.most == most), ~unit.start | ~unit.busy)
    value, entry = b.fixed(new.value.shape(), "value"), b.fixed(len(new.entry), "entry")

    def reaches(item):
        """Whether an item belongs before the value, or is equal to it."""
        return (item.value > value) | ((item.value == value) & (item.entry <= entry))

    # Of the items that came: how many reach it, and how many there are, before the last one and with it.
    reaching, before, others = (Signal(range(MOST + 1), name=name) for name in ("reaching", "before", "others"))
    came = Signal(range(MOST + 1), name="came")
    so_far, of_all = Mux(unit.start, 0, reaching), Mux(unit.start, 0, came)
    takes = unit.i.valid & unit.i.ready
    sync += [reaching.eq(so_far), came.eq(of_all)]
    with b.m.If(takes):
        sync += [before.eq(so_far), others.eq(of_all)]
        sync += reaching.eq(so_far + ((so_far != unit.most) & reaches(unit.i.p)))
        sync += came.eq(of_all + (of_all != unit.most))
    b.claim((reaching <= came) & (came <= most))

    def state(*names):
        return inside.is_in("fsm", *names)

    places = [data.View(unit.item.shape(), inside.word("list", place)) for place in range(MOST)]
    idle, settled = state("IDLE"), state("IDLE", "LOOK", "HOLD_LAST", "LAST")
    found = Array(Value.cast(place) for place in places)
    b.claim(unit.busy == ~idle, ~settled | (unit.count == came), settled | (unit.count == others))
    full = unit.count == most
    b.claim(settled | ((before <= others) & (others <= most) & (came == others + (others != most))))
    b.claim(settled | (reaching == before + ((before != most) & reaches(new))))
    moving = state("ASK", "HOLD", "MOVE")
    b.claim(~moving | (slot <= unit.count - full))
    # Behind the place that is free are items that the new one is above.
    b.claim(~moving | reaches(new) | (slot >= before))
    for number, item in enumerate(places):
        b.claim(~(settled & (number < unit.count)) | (reaches(item) == (number < reaching)))
        b.claim(~(state("COMPARE") & (number < unit.count)) | (reaches(item) == (number < before)))
        b.claim(~(moving & (number < slot)) | (reaches(item) == (number < before)))
        if number:
            shifted = moving & (number > slot) & (number <= unit.count - full)
            b.claim(~shifted | (reaches(item) == (number - 1 < before)))
    # What the list's port shows, and the last item.
    read, shown = inside.read("list"), Value.cast(unit.item)
    b.claim(~(state("HOLD") & (slot != 0)) | (read == found[slot - 1]))
    b.claim(~(state("MOVE") & (slot != 0)) | (shown == found[slot - 1]))
    b.claim(~state("HOLD_LAST") | (read == found[unit.count - 1]), ~state("LAST") | (shown == found[unit.count - 1]))
    known = (idle | state("COMPARE")) & (unit.count != 0)
    b.claim(~known | (Value.cast(unit.last) == found[unit.count - 1]))
    b.claim(~(state("LOOK", "HOLD_LAST", "LAST") & (unit.count == 0)))
    place = b.was(unit.place, 2)
    asked = idle & b.was(idle) & b.was(idle, 2) & (place < MOST)
    b.claim(~asked | (shown == found[place[:2]]))
    b.cover(idle & (unit.count == 3) & (reaching == 2) & b.was(~idle))
    b.cover(moving & (slot == 0) & (unit.count == 2) & full)
