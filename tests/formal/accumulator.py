"""The accumulators: pipeline and forwarding, and the arbiter of the accesses."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.rtl.accumulator import Accumulators, found_after
from tests.formal.proof import proof

SHAPE = {"vocabulary": 2, "embedding": 1, "hidden": (2,), "lanes": 1, "folded_tokens": 1, "accumulator_bits": 16}


class Used:
    """Accumulators whose additions and rows come as announced, and never two for one bank."""

    def __init__(self, b, *, compact):
        self.c = c = Configuration(**SHAPE, compact=compact)
        self.unit = unit = Accumulators(c)
        self.inside = b.add(unit)
        coming = b.was(unit.coming)
        b.assume(~(unit.row.valid & ~coming.all()))
        b.assume(unit.row.valid | (Value.cast(unit.row.payload) == 0))
        for bank, add in enumerate(unit.add):
            b.assume(add.valid | (Value.cast(add) == 0))
            b.assume(~add.valid | (coming[bank] & ~unit.row.valid))
        for access in unit.access:
            # One bank.
            banks = access.p.banks
            b.assume((banks != 0) & ((banks & (banks - 1)) == 0))
        # What enters a bank: an access does a cycle after it is taken.
        self.entering = [data.View(access.payload.shape(), b.was(Value.cast(access.payload))) for access in unit.access]
        self.takes = [b.was(access.valid & access.ready) for access in unit.access]

    def taken(self, gate, bank):
        """Whether an access of a gate enters a bank."""
        banks = self.c.gate_banks(gate)
        return self.takes[gate] & self.entering[gate].banks[banks.index(bank)] if bank in banks else C(0, 1)


def sums(b, *, compact):
    used = Used(b, compact=compact)
    unit, c = used.unit, used.c
    address = b.fixed(unit.add[0].address.shape(), "address")
    b.assume(address < c.bank_depth)
    latency = found_after(c)
    for bank, add in enumerate(unit.add):
        # One operation after another on one word, any one.
        word = Signal(signed(c.accumulator_bits), name=f"word_{bank}")
        with b.m.If(add.valid & (add.address == address)):
            b.m.d.sync += word.eq(word + add.addend)
        with b.m.If(unit.row.valid & (unit.row.p.address == address)):
            b.m.d.sync += word.eq(word + unit.row.p.addends[bank])
        for gate, entering in enumerate(used.entering):
            mine = Signal(name=f"mine_{bank}_{gate}")
            b.m.d.comb += mine.eq(used.taken(gate, bank) & (entering.address == address))
            with b.m.If(mine & entering.replace):
                b.m.d.sync += word.eq(entering.bias)
            found = unit.found[gate].payload
            b.claim(~b.was(mine, latency - 1) | (found == b.was(word, latency - 1)))
            if bank in c.gate_banks(gate):
                b.cover(b.was(mine, latency - 1) & (found < -1))
        b.claim(used.inside.word(f"bank_{bank}", address) == b.was(word, 2 if compact else 4).as_unsigned())


@proof(Accumulators, induction=9, cover=13)
def pipelined(b):
    """What an access finds is what additions, rows and accesses one after another leave, in any order."""
    sums(b, compact=False)


@proof(Accumulators, induction=8, cover=12)
def compact(b):
    """The same in a compact core."""
    sums(b, compact=True)


@proof(Accumulators, induction=3, cover=8)
def arbiter(b):
    """At most one operation enters a bank in a cycle, and an access of gate z waits for additions and rows only."""
    used = Used(b, compact=False)
    unit = used.unit
    z = GATES.index("z")
    for bank, add in enumerate(unit.add):
        entering = [add.valid, unit.row.valid, *(used.taken(gate, bank) for gate in range(len(GATES)))]
        b.claim(sum(entering) <= 1)
    b.claim(unit.access[z].ready == ((unit.access[z].p.banks & unit.coming) == 0))
    b.cover(unit.access[0].valid & ~unit.access[0].ready & (unit.coming == 0))
    b.cover(unit.access[0].valid & unit.access[0].ready & unit.access[z].valid & unit.access[z].ready)


@proof(Accumulators, induction=9, cover=9)
def answers(b):
    """Each access is answered once, so many cycles later."""
    used = Used(b, compact=False)
    for gate, out in enumerate(used.unit.found):
        b.claim(out.valid == b.was(used.takes[gate], found_after(used.c) - 1))
    b.cover(used.unit.found[0].valid & used.unit.found[1].valid)
    b.cover(used.unit.found[2].valid)
