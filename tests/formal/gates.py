"""The gates."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.rtl.gates import WAITING, Gate, table_of, value_after
from egret.rtl.layouts import GATE
from tests.formal.proof import proof

BITS = 8
CORE = Configuration(vocabulary=2, embedding=1, hidden=(5, 4), lanes=1, gate_index_bits=BITS)


def value(b, gate):
    unit = Gate(CORE, gate)
    inside = b.add(unit)
    # half_up and saturation, of exact integers: the shift is 1 more than the register of it.
    found, shift = b.was(unit.found.payload, 5), b.was(inside["shift"], 5)
    wide = CORE.accumulator_bits + 2
    half_up, index = Signal(signed(wide), name="half_up"), Signal(signed(BITS), name="saturated")
    most = 1 << (BITS - 1)
    b.m.d.comb += [
        half_up.eq(((found + (C(1, wide) << shift)) >> shift) >> 1),
        index.eq(Mux(half_up >= most, most - 1, Mux(half_up < -most, -most, half_up))),
    ]
    table = Array(C(entry, GATE) for entry in table_of(gate)(BITS))
    b.claim(~b.was(C(1), 5) | (unit.o.payload == table[index.as_unsigned()]))
    b.cover(b.was(C(1), 5) & (half_up == most), b.was(C(1), 5) & (half_up == -most - 1))
    b.cover(b.was(C(1), 5) & (shift == 11) & (index == 1))


@proof(Gate, induction=7, cover=8)
def sigmoid(b):
    """Gate u: every accumulator and shift gives the table's value at its rounded half up, saturated quotient."""
    value(b, GATES.index("u"))


@proof(Gate, induction=7, cover=8)
def tanh(b):
    """Gate z: every accumulator and shift gives the table's value at its rounded half up, saturated quotient."""
    value(b, GATES.index("z"))


@proof(Gate, induction=11, cover=12)
def answered(b):
    """Each access of a request that wants an answer is answered once, in so many cycles; no other one is."""
    unit = Gate(CORE, 0)
    inside = b.add(unit)
    wants = unit.access.valid & unit.access.ready & inside["now"].responds
    b.claim(unit.o.valid == b.was(wants, value_after(CORE)))
    b.cover(b.was(wants))


@proof(Gate, induction=3, cover=7)
def requests(b):
    """Each request becomes one access, in order, to the bank and address of its neuron."""
    gate = GATES.index("r")
    unit = Gate(CORE, gate)
    inside = b.add(unit)
    i, access = unit.i, unit.access

    def there_is(request):
        return (request.layer < CORE.layers) & (request.neuron < Array(CORE.hidden)[request.layer])

    b.assume(there_is(i.p))

    def accessed(request):
        """What a request is to become."""
        of = data.View(i.p.shape(), request)
        access = Signal(unit.access.p.shape())
        for layer, size in enumerate(CORE.hidden):
            for neuron in range(size):
                bank, address = CORE.place(layer, gate, neuron)
                with b.m.If((of.layer == layer) & (of.neuron == neuron)):
                    b.m.d.comb += access.banks.eq(1 << CORE.gate_banks(gate).index(bank))
                    b.m.d.comb += access.address.eq(CORE.bank_base[layer] + address)
        b.m.d.comb += [access.replace.eq(of.replace), access.bias.eq(of.bias)]
        return Value.cast(access)

    put, taken = i.valid & i.ready, access.valid & access.ready
    follows, ahead, kept = b.follow(put, i.payload, taken, access.payload, WAITING + 2, accessed)
    b.claim(~follows | there_is(data.View(i.p.shape(), kept)))
    # It is at the output, in the spare place, or in the queue.
    queue, spared = inside["queue"], inside["spared"]
    now, spare = Value.cast(access.payload), Value.cast(inside["spare"].access)
    behind = access.valid + spared
    word = inside.word("queue.storage", inside["queue.consume"] + ahead - behind)
    b.claim(b.level == behind + queue.level)
    b.claim(access.valid | ~spared)
    b.claim(~(follows & access.valid & (ahead == 0)) | (now == accessed(kept)))
    b.claim(~(follows & spared & (ahead == 1)) | (spare == accessed(kept)))
    b.claim(~(follows & (ahead >= behind)) | (word == kept))
    b.claim_stream(access)
