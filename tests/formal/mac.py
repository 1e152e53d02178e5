"""The lanes."""

from functools import reduce
from operator import or_

from amaranth.hdl import *

from egret.model.compiler.configuration import RUN_BITS, WINDOW, Configuration, first_bank
from egret.rtl.mac import LATENCY, Lanes
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=2, hidden=(40,), lanes=2, weight_bits=8, weight_words=16)
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
