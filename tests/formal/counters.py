"""The performance counters."""

from amaranth.hdl import *

from egret.rtl.counters import COUNTED_BYTES, COUNTER_BYTES, Counters
from tests.formal.proof import proof

MOST = {"words": 1, "macs": 3}
ROUND = COUNTED_BYTES * len(MOST)
BITS = 8 * COUNTED_BYTES


class Counted:
    """Counters beside sums of what was counted; what is counted is announced by ``active``."""

    def __init__(self, b):
        self.unit = unit = Counters(MOST)
        inside = b.add(unit)
        self.kinds = []
        at = Signal(range(ROUND), name="at")
        b.m.d.comb += at.eq(inside["kind"] * COUNTED_BYTES + inside["place"])
        b.claim(inside["place"] < COUNTED_BYTES, inside["kind"] < len(MOST))
        for number, (name, most) in enumerate(MOST.items()):
            amount = unit.amounts[name]
            b.assume(amount <= most)
            b.assume(unit.active | (amount == 0))
            counter = inside["counters"][number]
            # It is collected once a round, and never counts beyond its width.
            since = Signal(range(1, 2 * ROUND + 1), name=f"since_{name}")
            begin = number * COUNTED_BYTES
            b.m.d.comb += since.eq(Mux(at > begin, at - begin, at + ROUND - begin))
            b.claim(counter <= most * since)
            b.claim(~unit.settled | ((counter == 0) & (at == 0)))
            b.claim(~inside["quiet"] | unit.settled | (counter == 0) | (at <= begin))
            total = Signal(BITS, name=f"total_{name}")
            b.m.d.sync += total.eq(total + amount)
            words = [inside.word("totals", number * COUNTER_BYTES + byte) for byte in range(COUNTED_BYTES)]
            # A sum whose bytes are being added: what is left of it belongs to the byte that is written now.
            target, left = inside["target"], Signal(BITS, name=f"left_{name}")
            with b.m.Switch(target):
                for byte, word in enumerate(words):
                    with b.m.Case(number * COUNTER_BYTES + byte):
                        b.claim(~inside["summed"] | (inside.read("totals") == word))
                        b.m.d.comb += left.eq((inside["left"] + inside["carry"]) << (8 * byte))
            stored = Signal(BITS, name=f"stored_{name}")
            b.m.d.comb += stored.eq(Cat(words))
            b.claim(total == (stored + counter + Mux(inside["summed"], left, 0))[:BITS])
            self.kinds.append((total, stored))
        b.claim(~inside["summed"] | (target % COUNTER_BYTES < COUNTED_BYTES))


@proof(Counters, induction=3, cover=2 * ROUND + 8)
def totals(b):
    """What is counted adds up: no event of any kind is lost or counted twice, and no counter overflows."""
    counted = Counted(b)
    settled = counted.unit.settled
    for total, stored in counted.kinds:
        b.claim(~(settled & b.was(settled)) | (stored == total))
    b.cover(settled & b.was(settled) & (counted.kinds[0][0] == 2) & (counted.kinds[1][0] == 6))
