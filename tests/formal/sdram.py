"""The controller of an SDRAM."""

import dataclasses

from amaranth.hdl import *
from amaranth.utils import exact_log2

from egret.rtl.sdram import COLUMN_BITS, OWED, Sdram, default_timing
from egret.sim.sdram import VIOLATIONS, SdramModel
from tests.formal.proof import proof

EDGE = 2
"""Cycles from a command to the memory: the registers of the pins and at the device's edge."""
LATE = VIOLATIONS.index("rows not refreshed in time")
MOST_OWED = 10
"""Refreshes that are ever due, at most."""


def whole(segment, ratio):
    """Whether a part of a burst lies within a row, and is of whole beats."""
    beats = (segment.count != 0) & (segment.column + segment.count * ratio <= 1 << COLUMN_BITS)
    return Mux(segment.write, segment.count == 1, beats & ((segment.column & ratio - 1) == 0))


class Used:
    """A controller whose queue of parts of bursts is taken out: any part of a row, or word to write, may come.

    The times are those of the slowest part, but for three: it is started, and refreshed, in four cycles, and refreshed
    as often as a row can be read, which is oftener than at the clock of any board.
    """

    def __init__(self, b, ratio):
        self.timing = dataclasses.replace(default_timing(ratio), start=4, rfc=4 * ratio, refresh=1 << COLUMN_BITS)
        self.unit = unit = Sdram(self.timing, ratio)
        self.inside = inside = b.add(unit)
        self.segments, self.head = segments, head = inside["segments"], inside["head"]
        b.cut(inside, "writes", inside["writes"].r_rdy, inside["writes"].r_data, inside["writes"].w_rdy)
        b.cut(inside, "segments", segments.r_rdy, segments.r_data, segments.w_rdy)
        waits = b.was(segments.r_rdy & ~segments.r_en)
        b.assume(~waits | (segments.r_rdy & (segments.r_data == b.was(segments.r_data))))
        b.assume(whole(head, ratio))
        # What the controller takes for granted in its states.
        self.mine = mine = Signal(len(inside["is_open"]), name="mine")
        b.m.d.comb += mine.eq(1 << head.bank)
        closed = self.state("START", "REFRESH")
        b.claim(closed | self.state("LOOK", "PRECHARGE", "ACTIVATE", "GO", "CLOSE"))
        b.claim(~self.state("PRECHARGE", "ACTIVATE", "GO") | segments.r_rdy)
        b.claim(~closed | (inside["is_open"] == 0))
        b.claim(~self.state("PRECHARGE", "GO") | (inside["is_open"] & mine).any())
        b.claim(~self.state("GO") | (inside["rows"][head.bank] == head.row))
        b.claim(closed | ((inside["wait"] == 0) & inside["started"]))
        b.claim(~self.state("START") | ~inside["started"])
        b.claim((inside["left"] == 0) | inside["runs"])
        b.claim(~inside["runs"] | (inside["since_read"] == 0))
        # Rows that are open in the memory: one is closed while its bank waits for another.
        self.open = Signal(len(mine), name="open")
        b.m.d.comb += self.open.eq(inside["is_open"] & ~Mux(self.state("ACTIVATE"), mine, 0))
        b.claim(~inside["runs"] | self.open.bit_select(inside["reading_bank"], 1))

    def state(self, *names):
        """Whether the controller is in one of some states."""
        return self.inside.is_in("commands", *names)


def refreshed(b, used, ratio):
    """Claim how late a refresh is at most; return the time that is due, in cycles."""
    inside, head, t = used.inside, used.head, used.timing.every(ratio)

    def rest(name, cycles):
        return cycles - inside[name]

    # Cycles until the next refresh, at most, if one is to be done as soon as the part at hand has been read.
    close, part, go = (Signal(16, name=name) for name in ("until_closed", "until_read", "until_refresh"))
    b.m.d.comb += [
        close.eq(inside["left"] + rest("since_activate", t.ras) + rest("since_write", t.wr) + t.rp + 3),
        part.eq(
            close + inside["runs"] + rest("since_read", t.latency + 2) + rest("opening", t.rcd) + head.count + t.wr + 3
        ),
        go.eq(close + 1),
    ]
    with b.m.If(used.state("GO")):
        b.m.d.comb += go.eq(part)
    with b.m.If(used.state("ACTIVATE")):
        b.m.d.comb += go.eq(part + rest("closing", t.rp) + t.ras + t.rcd + 1)
    with b.m.If(used.state("PRECHARGE")):
        b.m.d.comb += go.eq(part + 2 * t.rp + t.ras + t.rcd + 2)
    with b.m.If(used.state("CLOSE")):
        b.m.d.comb += go.eq(close)
    with b.m.If(used.state("REFRESH")):
        b.m.d.comb += go.eq(rest("closing", t.rp) + inside["wait"])
    due = Signal(16, name="due")
    b.m.d.comb += due.eq((inside["owed"] << exact_log2(t.refresh)) + inside["clock"])
    b.claim(inside["clock"] < t.refresh)
    for name, cycles in (
        ("since_activate", t.ras),
        ("since_write", t.wr),
        ("since_read", t.latency + 2),
        ("opening", t.rcd),
        ("closing", t.rp),
    ):
        b.claim(inside[name] <= cycles)
    b.claim(used.state("START") | (inside["wait"] < t.rfc))
    b.claim(inside["left"] < t.refresh)
    b.claim(Mux(used.state("START"), due <= t.start, due + go <= (OWED + 2) * t.refresh + 64))
    b.claim(~used.state("START") | (due + inside["wait"] <= t.start))
    return due


def with_memory(b, used, ratio):
    """Add the model of the memory that the tests use, without its cells; return what is inside."""
    model = SdramModel(used.timing, ratio, row_bits=1)
    memory = b.add(model, "memory")
    b.cut(memory, "cells", memory["read"].data)
    for name in ("cs", "ras", "cas", "we", "ba", "a", "dq_o", "dq_oe"):
        b.m.d.comb += getattr(model.pins, name).eq(getattr(used.unit.sdram, name))
    b.m.d.comb += used.unit.sdram.dq_i.eq(model.pins.dq_i)
    return memory


def linked(b, used, memory):
    """Claim that what the memory knows is what the controller knew."""
    inside = used.inside
    b.claim(memory["is_open"] == b.was(used.open, EDGE))
    b.claim((memory["to_close"] == 0) & ~memory["single"])
    b.claim(memory["bursting"] == b.was(inside["runs"], EDGE))
    b.claim(~memory["bursting"] | (memory["burst_bank"] == b.was(inside["reading_bank"], EDGE)))


def late(b, ratio):
    """Claim how many times between refreshes the memory ever waits for one."""
    used = Used(b, ratio)
    due, pins = refreshed(b, used, ratio), used.unit.sdram
    every = used.timing.every(ratio).refresh
    # Eight are due at the start, and one each time that so many cycles have gone by.
    age = Signal(range((MOST_OWED + 1) * every), name="age", init=8 * every)
    refresh = pins.cs & pins.ras & pins.cas & ~pins.we
    with b.m.If(refresh):
        b.m.d.sync += age.eq(Mux(age > every, age - every, 0))
    with b.m.Elif(~used.state("START")):
        b.m.d.sync += age.eq(age + 1)
    b.claim(Mux(used.state("START"), (age == 8 * every) & ~refresh, age <= due + Mux(refresh, every, 0)))
    b.claim(age < MOST_OWED * every, used.inside["owed"] <= MOST_OWED)
    b.cover(used.unit.ready & (used.inside["left"] != 0))


def kept(b, ratio):
    """Claim that every other rule of the model is kept, too."""
    used = Used(b, ratio)
    inside, t = used.inside, used.timing.every(ratio)
    memory = with_memory(b, used, ratio)
    b.assume(inside["owed"] <= MOST_OWED)
    b.claim(used.state("START") | (inside["wait"] < t.rfc))
    b.claim(memory["started"] == b.was(inside["started"], EDGE))
    linked(b, used, memory)
    for name, counter in (("rcd", "opening"), ("ras", "since_activate"), ("rp", "closing"), ("wr", "since_write")):
        events, age = memory[f"since_{name}"], b.was(inside[counter], EDGE)
        for cycle in range(len(events) // len(used.mine)):
            b.claim(~events.word_select(cycle, len(used.mine)).any() | (age <= cycle))
    for cycle, refresh in enumerate(memory["since_refresh"]):
        b.claim(~refresh | (b.was(inside["wait"], EDGE) >= t.rfc - 1 - cycle))
    for cycle, driven in enumerate(memory["driven"]):
        b.claim(~driven | (b.was(inside["since_read"], EDGE) <= cycle))
    # It is started.
    powered = memory["powered"] + Mux(used.state("START"), inside["wait"] * ratio, 0)
    b.claim((powered >= used.timing.start) & (memory["told"] <= 9))
    begun = b.was(used.state("REFRESH"), EDGE) & ~memory["started"]
    b.claim(~begun | (memory["told"] + b.was(inside["owed"], EDGE) >= 8))
    b.claim(*(~memory["violated"][number] for number in range(len(VIOLATIONS)) if number != LATE))
    b.cover(memory["reads"])
    b.cover(memory["writes"])


def beats(b, ratio):
    """Claim that a part of a burst is its words, each once and in order, and that a word is written in its place."""
    used = Used(b, ratio)
    inside, head = used.inside, used.head
    memory = with_memory(b, used, ratio)
    linked(b, used, memory)
    for number, row in enumerate(inside["rows"]):
        b.claim(~memory["is_open"][number] | (memory["rows"][number] == b.was(row, EDGE)))
    # Cycles in which something is read for a part, as many as it has beats, and what that is.
    skipped = exact_log2(ratio)
    begins = used.segments.r_en & used.segments.r_rdy & ~head.write
    place, now = (Signal(len(head.column) + len(head.bank) + len(head.row), name=name) for name in ("place", "now"))
    tag, left = Signal(len(head.tag), name="tag_of_part"), Signal(len(head.count), name="beats_left")
    first = Cat(head.column[skipped:], head.bank, head.row)
    mine = Signal(name="mine_now")
    b.m.d.comb += [mine.eq(begins | (left != 0)), now.eq(Mux(begins, first, place))]
    b.m.d.sync += [place.eq(now + 1), left.eq(Mux(begins, head.count, left) - mine), tag.eq(Mux(begins, head.tag, tag))]
    b.claim(~begins | (left == 0), left == inside["left"], (left == 0) | (tag == inside["tags"][0]))
    columns = len(head.column) - skipped
    b.claim((left == 0) | (place[:columns] + left <= 1 << columns))
    b.claim((left == 0) | (place[columns:] == Cat(inside["reading_bank"], inside["rows"][inside["reading_bank"]])))
    # The memory then drives that.
    asked, wanted = b.was(mine, EDGE), b.was(now, EDGE)
    given = Cat(memory["column"], memory["bank"], memory["rows"][memory["bank"]])
    b.claim(~asked | (memory["drives"] & (given == wanted)))
    b.claim(~(asked & memory["bursting"] & ~memory["reads"]) | (memory["burst_column"] == wanted[:columns]))
    # Any one word is marked, and is where it should be on its way to the core.
    chosen = b.fixed(place.shape(), "chosen")
    b.assume(memory["read"].data[0] == b.was(given == chosen))
    marked = b.was(now == chosen, EDGE + 1)
    stages = [memory["read"].data, *memory["words"], used.unit.sdram.dq_i]
    for stage, words in enumerate(stages):
        b.claim(~b.was(asked, stage + 1) | (words[0] == b.was(marked, stage)))
    coming = len(inside["coming"])
    b.claim(*(inside["coming"][stage] == b.was(mine, stage + 1) for stage in range(coming)))
    b.claim(
        *(
            ~b.was(mine, stage + 1) | (inside["tags"][stage] == b.was(inside["tag"], stage + 1))
            for stage in range(coming)
        )
    )
    o = used.unit.o
    b.claim(o.valid == b.was(mine, coming), ~o.valid | (o.p.words[0] == b.was(now == chosen, coming)))
    # A word that is written.
    writes = used.segments.r_en & used.segments.r_rdy & head.write
    written = Cat(
        memory["pins.a"][:COLUMN_BITS], memory["pins.ba"], memory["rows"][memory["pins.ba"]], memory["pins.dq_o"]
    )
    b.claim(memory["writes"] == b.was(writes, EDGE))
    b.claim(~memory["writes"] | (written == b.was(Cat(head.column, head.bank, head.row, head.word), EDGE)))
    b.cover(o.valid & b.was(o.valid))


def cut(b, ratio):
    """Claim that a burst is cut into parts that follow one another, each within a row."""
    unit = Sdram(default_timing(ratio), ratio)
    inside = b.add(unit)
    segments, writes, left = inside["segments"], inside["writes"], inside["cutting"]
    b.cut(inside, "writes", writes.r_rdy, writes.r_data, writes.w_rdy)
    b.cut(inside, "segments", segments.r_rdy, segments.r_data, segments.w_rdy)
    segment, written, taken = inside["segment"], inside["written"], unit.i.ready & unit.i.valid
    b.assume(~taken | (unit.i.p.count != 0))
    free = ~inside["filled"] | segments.w_rdy
    reads, puts = b.was(free & left), b.was(writes.r_en & writes.r_rdy)
    # What is left of a burst, beside the part that was made last.
    place, beats, tag = (Signal.like(unit.i.p[name], name=f"{name}_left") for name in ("address", "count", "tag"))
    now, rest = Signal(len(place), name="address_now"), Signal(len(beats), name="count_now")
    b.m.d.comb += [now.eq(place + Mux(reads, segment.count, 0)), rest.eq(beats - Mux(reads, segment.count, 0))]
    b.m.d.sync += [place.eq(now), beats.eq(rest)]
    with b.m.If(taken):
        b.m.d.sync += [place.eq(unit.i.p.address), beats.eq(unit.i.p.count), tag.eq(unit.i.p.tag)]
    address = Cat(segment.column, segment.bank, segment.row)
    b.claim(~(reads | puts) | inside["filled"], ~(reads & puts), inside["filled"] == (reads | puts | b.was(~free)))
    b.claim(~reads | (~segment.write & (segment.count <= beats) & (segment.tag == tag) & whole(segment, ratio)))
    b.claim(~reads | (address == (place << exact_log2(ratio))[: len(address)]))
    b.claim(~puts | (segment.write & (segment.count == 1) & (Cat(address, segment.word) == b.was(Value.cast(written)))))
    # Nothing is left out, and what waits stays; a burst is taken when the one before, and all words, have been.
    b.claim(left == (rest != 0), ~left | ((inside["burst"].count == rest) & (inside["burst"].address == now)))
    b.claim(~left | (inside["burst"].tag == tag))
    b.claim(~taken | ((rest == 0) & ~writes.r_rdy))
    b.claim(b.was(free) | (Value.cast(segment) == b.was(Value.cast(segment))))
    b.cover(reads & b.was(reads) & (segment.count == 3))


@proof(Sdram, induction=3, cover=60)
def times(b):
    """No command breaks a time of the memory or meets a bank in the wrong state; no two drive its pins."""
    kept(b, 1)


@proof(Sdram, induction=3, cover=60)
def times_2(b):
    """The same with two words in a cycle."""
    kept(b, 2)


@proof(Sdram, induction=1, cover=60)
def refreshes(b):
    """No refresh is late: the memory waits for fewer than ten at any time, however much is read and written."""
    late(b, 1)


@proof(Sdram, induction=1, cover=60)
def refreshes_2(b):
    """The same with two words in a cycle."""
    late(b, 2)


@proof(Sdram, induction=3, cover=72)
def words(b):
    """A part of a burst brings its words, each once and in order; a word is written where it belongs."""
    beats(b, 1)


@proof(Sdram, induction=3, cover=72)
def words_2(b):
    """The same with two words in a cycle."""
    beats(b, 2)


@proof(Sdram, induction=2, cover=8)
def parts(b):
    """A burst becomes parts within a row, which follow one another; a word to write is done before later bursts."""
    cut(b, 1)


@proof(Sdram, induction=2, cover=8)
def parts_2(b):
    """The same with two words in a cycle."""
    cut(b, 2)
