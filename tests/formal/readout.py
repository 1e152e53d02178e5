"""The read-out's dice."""

from amaranth.hdl import *

from egret.rtl.readout.dice import Dice
from tests.formal.proof import proof


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
