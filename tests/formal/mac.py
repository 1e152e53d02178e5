"""The lanes."""

from functools import reduce
from operator import or_

from amaranth.hdl import *

from egret.model.compiler.configuration import RUN_BITS, WINDOW, Configuration, ReadoutShape, first_bank
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.readout import HOME
from egret.rtl.mac import LATENCY, Lanes
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=2, hidden=(40,), lanes=2, weight_bits=8, weight_words=16)
READING = Configuration(
    vocabulary=10,
    embedding=2,
    hidden=(8,),
    lanes=2,
    weight_bits=4,
    weight_words=16,
    store="sdram",
    readout=ReadoutShape(head=2, groups=1, group_size=8, rows=1),
)
WALKED = 3
"""Cycles from a word to where its lanes are."""


@proof(Lanes, induction=6, cover=10)
def walk(b):
    """Each weight meets its column's value, and the product the bank and address of its row; no other bank gets one.

    The words are as the compiler makes them: a walk stays in the lane's window and passes two ends of banks at most,
    and no two weights of a word are for one bank.
    """
    unit = Lanes(CORE)
    inside = b.add(unit)
    word, valid = unit.i.p, unit.i.valid
    spans, bases = zip(*CORE.matrix_places, strict=True)
    b.assume(word.matrix < len(spans), valid | ~word.first, word.first | (word.matrix == b.was(word.matrix)))
    span, base = Signal(range(max(spans) + 1), name="span_of_word"), Signal(range(max(bases) + 1), name="base_of_word")
    b.m.d.comb += [span.eq(Array(spans)[word.matrix]), base.eq(Array(bases)[word.matrix])]
    before, now = b.was(span, WALKED - 1), b.was(span, WALKED)
    running, first = b.was(valid, WALKED - 1), b.was(word.first, WALKED - 1)
    hits = [[] for _ in range(CORE.banks)]
    for lane, (entry, begin) in enumerate(zip(word.entries, word.begins, strict=True)):
        begins = Cat(entry.run[:RUN_BITS], begin.block)
        b.assume(~word.first | ((begins < span) & (begin.bank < WINDOW)))
        start = b.was(begin.bank * span + begins, WALKED - 1)
        step = b.was(Mux(entry.code != 0, entry.run + 1, (entry.run + 1) << RUN_BITS), WALKED - 1)
        # Rows from the window's begin on, bank after bank.
        place, then = (Signal(range(4 * WINDOW * max(spans)), name=f"{name}_{lane}") for name in ("was_at", "is_at"))
        b.m.d.comb += then.eq(Mux(first, start, place + Mux(running, step, 0)))
        b.m.d.sync += place.eq(then)

        def bank_of(place, span):
            return sum(((place >= number * span) for number in range(2, WINDOW)), place >= span)

        b.assume(~running | (then < WINDOW * before))
        b.assume(first | (place - bank_of(place, before) * before + step < 3 * before) | ~running)
        bank = bank_of(place, now)
        address = place - bank * now
        began = b.was(C(1), WALKED)
        b.claim(~began | ((inside[f"bank_{lane}"] == bank) & (inside[f"address_{lane}"] == address)))
        weight, value = inside[f"weight_{lane}"], inside[f"value_{WALKED - 1}"]
        b.claim(~began | (weight == b.was(entry.code, WALKED).as_signed()))
        b.claim(~began | (value == b.was(word.value, WALKED)))
        uses = b.was(valid & (entry.code != 0), WALKED)
        addition = Cat(C(1, 1), (b.was(base, WALKED) + address)[: len(unit.add[0].address)], weight * value)
        for number in range(CORE.banks):
            hits[number].append((uses & (first_bank(lane) + bank == number), addition))
    for number, found in enumerate(hits):
        some = Cat(hit for hit, _ in found)
        b.assume((some & (some - 1)) == 0)
        expected = reduce(or_, (Mux(hit, addition, 0) for hit, addition in found))
        b.claim(unit.coming[number] == b.was(some.any()))
        b.claim(Value.cast(unit.add[number]) == b.was(expected, LATENCY - WALKED))
        b.cover(unit.add[number].valid & (unit.add[number].addend == -6))
    b.cover(b.was(running & ~first) & (bank == 3))


@proof(Lanes, induction=6, cover=13, arrays=True)
def pairs(b):
    """Both weights of a read-out's word are those that were loaded, and each product goes to its own bank and address.

    The words are those of a read-out's columns, as the weight store sends them, to a core whose lanes take both weights
    of a word at once. No codebook is loaded while a word is on its way.
    """
    c = READING
    assert c.paired
    unit = Lanes(c)
    inside = b.add(unit)
    word, valid = unit.i.p, unit.i.valid
    head, group = c.readout_matrix("head"), c.readout_matrix("group")
    bases = [base for _, base in c.matrix_places]
    started, address = Signal(name="started"), Signal(8, name="at")
    b.m.d.sync += started.eq(started | valid)
    with b.m.If(valid):
        b.m.d.sync += address.eq(Mux(word.first, 0, address + 1))
    b.assume(valid | ~word.first, ~valid | started | word.first, (word.matrix == head) | (word.matrix == group))
    b.assume(~valid | word.first | (word.matrix == b.was(word.matrix)), address < c.readout_depth("group"))
    b.assume(*((begin.bank == HOME) & (begin.block == 0) for begin in word.begins))

    # One place of the codebook, any one of the read-out's.
    matrix, code = b.fixed(1, "matrix"), b.fixed(c.weight_bits, "code")
    place, weight = Cat(code, Mux(matrix, group, head)), Signal(signed(8), name="loaded")
    loads = unit.load_valid & (unit.load.section == memory_sections(c)["codebook"].number)
    b.assume(~loads | ~(valid | unit.busy | b.was(valid)))
    b.assume(~(b.was(loads) | b.was(loads, 2)) | ~valid)
    b.assume(~loads | (unit.load.index < memory_sections(c)["codebook"].words))
    with b.m.If(loads & (unit.load.index == place)):
        b.m.d.sync += weight.eq(unit.load.data)
    for lane in range(c.lanes):
        for name, at in ((f"codebook_{lane}", place), (f"second_codebook_{lane}", Cat(code, matrix))):
            settled = ~b.was(loads & (unit.load.index == place))
            b.claim(~settled | (inside.word(name, at).as_signed() == weight))

    began, now = b.was(started, WALKED - 1), b.was(word.matrix, WALKED)
    mine = now == Mux(matrix, group, head)
    for lane, entry in enumerate(word.entries):
        b.claim(~began | (inside[f"bank_{lane}"] == HOME))
        b.claim(~began | (inside[f"address_{lane}"] == b.was(address, WALKED - 1)))
        base = Signal(8, name=f"base_{lane}")
        b.m.d.comb += base.eq(Mux(now == group, bases[group], bases[head]))
        for offset, sent, name in ((0, entry.code, "weight"), (1, entry.run, "second")):
            uses, found = b.was(valid & (sent != 0), WALKED), inside[f"{name}_{lane}"]
            value = b.was(word.value, WALKED)
            b.claim(~(uses & mine & (b.was(sent, WALKED) == code)) | (found == weight))
            addition = Cat(C(1, 1), (base + b.was(address, WALKED - 1))[: len(unit.add[0].address)], found * value)
            bank = first_bank(lane) + HOME + offset
            b.claim(unit.coming[bank] == b.was(uses))
            b.claim(Value.cast(unit.add[bank]) == b.was(Mux(uses, addition, 0), LATENCY - WALKED))
            b.cover(unit.add[bank].valid & (unit.add[bank].addend == -6) & (unit.add[bank].address == bases[group] + 1))
    b.cover(began & unit.add[0].valid & unit.add[1].valid)
