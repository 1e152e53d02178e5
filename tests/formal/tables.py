"""What a token finds in a table: its row of the embedding, or its folded row."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.compiler.configuration import Configuration
from egret.rtl.blocks import LATENCY
from egret.rtl.embedding import READING, Embedding
from egret.rtl.layouts import memory_layout
from egret.rtl.rows import FoldedRows
from tests.formal.proof import proof

CORE = Configuration(
    vocabulary=2, embedding=8, hidden=(3, 2), lanes=1, folded_tokens=2, row_bits=4, row_shift=3, accumulator_bits=20
)


def started(b, unit, name, words):
    """A unit that is started only when it is done, with a table of any ``words``, which come as a memory's do."""
    inside = b.add(unit)
    table = inside["table"]
    b.cut(inside, "table", table.data)
    layout = memory_layout(CORE, name)
    content = Array(b.fixed(layout.size, f"word_{place}") for place in range(words))
    address = b.was(table.address, LATENCY)
    b.assume((address >= words) | (Value.cast(table.data) == content[address]))
    b.assume(~unit.start | unit.done, unit.token < CORE.vocabulary, unit.done | (unit.token == b.was(unit.token)))
    return inside, Array(data.View(layout, word) for word in content)


def walked(b, unit, inside, length):
    """Whether a row has been begun, and how many of its words have come; they come one after another."""
    reading, left = inside["reading"], inside["left"]
    ran, seen = Signal(name="ran"), Signal(range(length + 1), name="seen")
    b.m.d.sync += [ran.eq(ran | unit.start), seen.eq(Mux(unit.start, 0, seen + reading[-1]))]
    first = unit.token * length
    b.claim(Mux(ran, seen + sum(reading) + left == length, (left == 0) & ~reading.any()))
    b.claim((left == 0) | (inside["address"] == first + seen + sum(reading)))
    for stage in range(len(reading)):
        place = first + seen + sum(reading[stage + 1 :])
        b.claim(~reading[stage] | (b.was(inside["address"], stage + 1) == place))
    b.claim(~(ran & unit.done) | (seen == length))
    b.cover(ran & unit.done)
    return first, seen


@proof(Embedding, induction=4, cover=18)
def embedding(b):
    """The elements of a token's row that are not zero come in order, each once, doubled; one that waits stays."""
    unit = Embedding(CORE)
    inside, words = started(b, unit, "embedding", CORE.vocabulary * CORE.embedding)
    first, seen = walked(b, unit, inside, CORE.embedding)
    queue, reading, element, value = inside["queue"], inside["reading"], inside["element"], words[first + seen].value
    b.claim((inside["left"] == 0) | (inside["index"] + inside["left"] == CORE.embedding))
    for stage in range(READING):
        b.claim(~reading[stage] | (b.was(inside["index"], stage + 1) == seen + sum(reading[stage + 1 :])))
    b.claim(~reading[-1] | ((element.index == seen) & (element.value == value << 1)))
    b.claim(queue.w_en == (reading[-1] & (value != 0)), ~queue.w_en | queue.w_rdy)
    b.claim_stream(unit.o)


@proof(FoldedRows, induction=3, cover=14)
def rows(b):
    """Each address of a token's folded row comes once, in order, with what the table has for each bank; else zeros."""
    unit = FoldedRows(CORE)
    height = CORE.row_depth
    inside, words = started(b, unit, "rows", CORE.folded_tokens * height)
    first, seen = walked(b, unit, inside, height)
    reading, row, found = inside["reading"], unit.o.p, b.was(words[first + seen].addends)
    base = CORE.bank_base[0]
    for stage in range(LATENCY):
        b.claim(~reading[stage] | (b.was(inside["target"], stage + 1) == base + seen + sum(reading[stage + 1 :])))
    b.claim((inside["left"] == 0) | (inside["target"] == base + seen + sum(reading)))
    b.claim(unit.coming == reading[-1], unit.o.valid == b.was(unit.coming))
    b.claim(unit.o.valid | (Value.cast(row) == 0))
    b.claim(~unit.o.valid | (row.address == base + b.was(seen)))
    for bank, addend in enumerate(row.addends):
        number = found.word_select(bank, CORE.row_bits).as_signed()
        b.claim(~unit.o.valid | (addend == number << CORE.row_shift))
