"""The read-out: its order of work, and its parts."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration, ReadoutShape
from egret.model.compiler.layouts import memory_sections
from egret.model.readout import (
    BIAS_BITS,
    DRAWN_BITS,
    INDEX_BITS,
    LN_2,
    LOG_FRACTION,
    POWER_FRACTION,
    SCORE_BITS,
    logarithm_table,
)
from egret.rtl.blocks import LATENCY
from egret.rtl.layouts import Task
from egret.rtl.readout.best import LOG, Best
from egret.rtl.readout.dice import Dice
from egret.rtl.readout.logarithm import Logarithm
from egret.rtl.readout.readout import ReadOut, _Of
from egret.rtl.readout.scan import SCORE, Scan, most_entries
from egret.rtl.readout.walk import Walk, Walking
from tests.formal.proof import proof

CORE = Configuration(
    vocabulary=5,
    embedding=1,
    hidden=(1,),
    lanes=1,
    accumulator_bits=20,
    readout=ReadoutShape(head=2, groups=1, group_size=3),
)
MOST = 4
"""Places of a list."""
PLACES = 4
"""Scores that a walk holds."""


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
    b.assume((unit.most != 0) & (unit.most <= MOST), ~unit.start | ~unit.busy)
    b.assume(unit.start | ~(unit.busy | unit.i.valid) | (unit.most == most))
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


@proof(Scan, induction=1, cover=18)
def scan(b):
    """Each accumulator of a matrix is read once, in order, and set to zero; its score is the rounded, saturated sum.

    The accumulators answer each access, in order, at any time. Biases come as `memories.blocks` says.
    """
    c = CORE
    unit = Scan(c)
    inside = b.add(unit)
    sync, access, found, out = b.m.d.sync, unit.access, unit.found, unit.o
    entries = inside["entries"]
    b.cut(inside, "entries", entries.data)
    biases = Array(b.fixed(signed(BIAS_BITS), f"bias_{entry}") for entry in range(memory_sections(c)["entries"].words))
    b.assume(entries.data.bias == biases[b.was(entries.address, LATENCY)])
    shifts = unit.load_valid & (unit.load.section == memory_sections(c)["shift"].number)
    b.assume(~unit.load_valid | ~(unit.busy | unit.start), ~shifts | ((unit.load.data > 0) & (unit.load.data < 16)))
    shift = Signal(4, name="shift_by", init=1)
    with b.m.If(shifts & (unit.load.index == len(GATES) * c.layers)):
        sync += shift.eq(unit.load.data)
    b.claim(inside["shift"] + 1 == shift)

    # What was begun, and how many accumulators were asked for and found, and became scores.
    base, first, size, quiet = (
        Signal.like(signal, name=f"{name}_begun")
        for name, signal in (("base", unit.base), ("first", unit.first), ("size", unit.size), ("quiet", unit.clear))
    )
    asked, came, scored = (Signal(len(size), name=name) for name in ("asked_for", "came", "scored"))
    comes, ends = found.valid & unit.busy, inside["valids"][-1]
    b.assume(~unit.start | ~unit.busy, ~unit.start | (unit.first + unit.size <= len(biases)))
    b.assume(unit.size <= most_entries(c), ~comes | (came < asked))
    sync += [asked.eq(asked + (access.valid & access.ready)), came.eq(came + comes), scored.eq(scored + ends)]
    with b.m.If(unit.start):
        sync += [base.eq(unit.base), first.eq(unit.first), size.eq(unit.size), quiet.eq(unit.clear)]
        sync += [asked.eq(0), came.eq(0), scored.eq(0)]
    valids = [b.was(comes, cycles) for cycles in range(1, 5)]
    b.claim(inside["valids"] == Cat(valids), came == scored + sum(valids), (came <= asked) & (asked <= size))
    b.claim(unit.busy == (scored != size), access.valid == (asked != size), size <= most_entries(c))
    b.claim((inside["asked"] + asked == size) & (inside["left"] + scored == size), inside["quiet"] == quiet)
    b.claim(~unit.busy | (inside["at"] == (first + came)[: len(first)]), first + size <= len(biases))
    b.claim(~unit.busy | (out.p.place == scored[: len(out.p.place)]))
    bank, row = asked % c.banks, asked // c.banks
    b.claim(~access.valid | (access.p.banks == 1 << bank))
    b.claim(~access.valid | (access.p.address == (base + row)[: len(base)]))
    b.claim(access.p.replace & (access.p.bias == 0))

    # A score is of the accumulator that came four cycles before, and of the bias of its entry.
    sums = [found.payload, *(b.was(found.payload, cycles) for cycles in range(1, 5))]
    bias = [biases[inside["at"]], *(b.was(biases[inside["at"]], cycles) for cycles in range(1, 5))]
    b.claim(out.valid == (valids[3] & ~quiet), *(~was | (shift == b.was(shift)) for was in valids))

    def rounded(value):
        return (value + (C(1, 16) << (shift - 1)[:4])) >> shift

    half = 1 << (SCORE_BITS - 1)
    exact = rounded(sums[4]) + bias[4]
    b.claim(~valids[0] | (inside["shifted"] == sums[1] >> (shift - 1)[:4]))
    b.claim(~valids[1] | (inside["rounded"] == rounded(sums[2])), ~valids[2] | (inside["held"] == rounded(sums[3])))
    b.claim(~valids[1] | (entries.data.bias == bias[2]), ~valids[2] | (inside["bias"] == bias[3]))
    b.claim(~out.valid | (out.p.score == Mux(exact >= half, half - 1, Mux(exact < -half, -half, exact))))
    b.cover(out.valid & (exact >= half), out.valid & (exact < -half), out.valid & (out.p.place == 2) & (exact == 5))
    b.cover(quiet & b.was(unit.busy) & ~unit.busy & (size == 3))


@proof(Walk, induction=1, cover=16, arrays=True)
def walk(b):
    """A walk takes each score once, in order: for the largest one, the sum of the powers, or the place that is picked.

    Powers are what the table has at the index that the integers of the read-out give.
    """
    unit = Walk(PLACES)
    inside = b.add(unit)
    sync, i, power = b.m.d.sync, unit.i, inside["power"]
    at, kind, valids, distance = (inside[name] for name in ("at", "kind", "valids", "distance"))
    walks = at != inside["end"]
    b.assume(~unit.busy | ~(unit.start | i.valid), ~(unit.start & i.valid), i.p.place < PLACES)
    b.assume((unit.begin <= unit.end) & (unit.end <= PLACES), unit.kind <= Walking.PICK)
    b.assume(~unit.busy | (kind == Walking.LARGEST) | (unit.beta == b.was(unit.beta)))
    b.assume(~unit.busy | (kind != Walking.PICK) | (unit.number == b.was(unit.number)))
    b.claim((at <= inside["end"]) & (inside["end"] <= PLACES))

    # A score that comes is in its place two cycles later, and stays there.
    place, kept = b.fixed(range(PLACES), "place"), Signal(SCORE, name="kept")
    with b.m.If(i.valid & (i.p.place == place)):
        sync += kept.eq(i.p.score)
    stored = Array(inside.word("scores", number).as_signed() for number in range(PLACES))
    b.claim(stored[place] == b.was(kept), inside["writing"] == b.was(i.valid))
    b.claim(~b.was(i.valid) | (Value.cast(inside["new"]) == b.was(Value.cast(i.p))))

    # Each place of a walk is in one stage after the other.
    stage = [walks, *(b.was(walks, cycles) for cycles in range(1, 9))]
    was_at = [at, *(b.was(at, cycles) for cycles in range(1, 9))]
    found = [b.was(stored[at], cycles) for cycles in range(1, 9)]
    b.claim(valids == Cat(stage[1:]), unit.busy == Cat(stage).any())
    for cycles in range(1, 9):
        b.claim(~stage[cycles] | (was_at[cycles] == (at - sum(stage[1:cycles], C(1)))[: len(at)]))
    b.claim(~stage[1] | (inside.read("scores").as_signed() == found[0]), ~stage[2] | (inside["score"] == found[1]))

    # The largest of those that come, from place 0 on, or of a walk.
    largest, came = Signal(SCORE, name="largest_so_far"), b.was(i.p.score).as_signed()
    with b.m.If(b.was(i.valid) & ((b.was(i.p.place) == 0) | (came > largest))):
        sync += largest.eq(came)
    with b.m.If(stage[2] & (kind == Walking.LARGEST) & (found[1] > largest)):
        sync += largest.eq(found[1])
    with b.m.If(unit.start & (unit.kind == Walking.LARGEST)):
        sync += largest.eq(-(1 << (SCORE_BITS - 1)))
    b.claim(unit.largest == largest)

    # Otherwise powers of the distance to it are added up, up to the first place at which they are more than a number.
    powers = kind != Walking.LARGEST
    b.claim(~(stage[3] & powers) | (distance == (largest - found[2])[:SCORE_BITS]))
    scaled = b.was(distance * unit.beta)
    b.claim(~stage[4] | (inside["scaled"] == scaled))
    exact = b.was(scaled) >> 8
    nearest = (exact + 8) >> 4
    b.claim(~stage[5] | (power.addr == Mux(nearest > 1023, 1023, nearest)))
    total, picked, known = Signal(DRAWN_BITS, name="sum"), Signal.like(unit.picked, name="first"), Signal(name="known")
    read = b.was(power.data)
    with b.m.If(stage[7]):
        sync += total.eq(total + read)
    with b.m.If(stage[8] & (kind == Walking.PICK) & ~known & (total > unit.number)):
        sync += [known.eq(1), picked.eq(was_at[8])]
    with b.m.If(unit.start):
        sync += [total.eq(0), known.eq(0)]
    b.claim(~stage[7] | (inside["held"] == read), unit.total == total)
    b.claim((inside["found"] == known) & (unit.picked == picked))
    b.claim(~unit.busy | (inside["place"] == (at - sum(stage[1:], C(0)))[: len(picked)]))
    done = b.was(unit.busy) & ~unit.busy
    b.cover(done & (kind == Walking.LARGEST) & (largest == 5), done & (kind == Walking.SUM) & (total > 1 << 24))
    b.cover(known & (picked == 2))


@proof(Logarithm, induction=1, cover=10)
def logarithm(b):
    """Every total's logarithm is the integer network's, to the bit, and is there after so many cycles as it says.

    It is that of `egret.model.readout.logarithm`, added to a base of any value, in integers of the base's width.
    """
    unit = Logarithm()
    inside = b.add(unit)
    sync, left, sum_ = b.m.d.sync, inside["left"], inside["sum_"]

    def state(*names):
        return inside.is_in("fsm", *names)

    b.assume(~unit.start | (state("IDLE") & (unit.total >= 1 << POWER_FRACTION)))
    total, base = Signal(DRAWN_BITS, name="of", init=1 << POWER_FRACTION), Signal(LOG, name="added_to")
    age = Signal(5, name="age")
    sync += age.eq(age + ~state("IDLE"))
    with b.m.If(unit.start):
        sync += [total.eq(unit.total), base.eq(unit.base), age.eq(0)]
    b.claim(total >= 1 << POWER_FRACTION)

    # As the model has it: of the total itself, which is rounded once.
    most = DRAWN_BITS - POWER_FRACTION - 1
    places, rounded, over = Signal(range(most + 1), name="places"), Signal(INDEX_BITS + 2, name="rounded"), Signal()
    dropped = [POWER_FRACTION - INDEX_BITS + place for place in range(most + 1)]
    b.m.d.comb += [
        places.eq(sum((total >= 1 << POWER_FRACTION + place for place in range(1, most + 1)), C(0))),
        rounded.eq(Array((total + (1 << bits >> 1)) >> bits for bits in dropped)[places]),
        over.eq(rounded >> (INDEX_BITS + 1)),
    ]
    index, of_two = (rounded >> over)[:INDEX_BITS], Array(C(LN_2 * place, len(sum_)) for place in range(most + 2))
    table = Array(C(entry, LOG_FRACTION) for entry in logarithm_table())
    read, whole = inside.read("table"), (base + of_two[places + over])[: len(sum_)]

    ends, address = state("NORMALISE") & (age == places), inside["mantissa"][:INDEX_BITS]
    b.claim(~state("NORMALISE") | ((age <= places) & (left == Array(total >> bits for bits in range(most + 1))[age])))
    b.claim(~ends | (inside["mantissa"] == rounded))
    b.claim(~state("NORMALISE") | (sum_.as_unsigned() == (base + of_two[age])[: len(sum_)]))
    b.claim(~state("FRACTION", "ADD") | (sum_.as_unsigned() == whole))
    # The table has the rest at its index, and what it has is added.
    b.claim(~b.was(C(1)) | (read == table[b.was(address)]), ~state("FRACTION") | (b.was(address) == index))
    b.claim(~state("FRACTION") | (age == places + 1), ~state("ADD") | (age == places + 2))
    fraction, result, known = b.was(read), Signal(LOG, name="result"), Signal(name="known")
    b.claim(inside["fraction"] == fraction, unit.done == state("ADD"))
    with b.m.If(unit.done):
        sync += [result.eq(whole + fraction), known.eq(1)]
    b.claim(~known | (unit.o == result))
    b.cover(unit.done & (places == 3) & over, unit.done & (places == 2) & (fraction == 64) & (base == -7))
    b.cover(unit.done & (places == 0) & (rounded == (1 << INDEX_BITS) + 2))


@proof(ReadOut, induction=1, cover=18)
def order(b):
    """Each part is begun only while it rests, and keeps what it was given; a task is over with its one last answer.

    The parts are left out, and may take any time and make anything.
    """
    unit = ReadOut(CORE)
    inside = b.add(unit)
    names = ("_scan", "_walk", "_best", "logarithm", "dice")
    scan, walk, best, logarithm, dice = (inside[name] for name in names)
    b.cut(inside, "scan", scan.busy, scan.o.valid, scan.o.payload, scan.access.valid, scan.access.payload, scan.word)
    b.cut(inside, "walk", walk.busy, walk.largest, walk.total, walk.picked, walk.score)
    b.cut(inside, "best", best.busy, best.i.ready, best.count, best.last, best.item)
    b.cut(inside, "logarithm", logarithm.done, logarithm.o)
    b.cut(inside, "dice", dice.done, dice.number)
    sync = b.m.d.sync

    def state(*names):
        return inside.is_in("sequencer", *names)

    # What the parts keep: they are at work from their start on, if at all, and what they made stays.
    drawing, logging = Signal(name="draws"), Signal(name="logs")
    sync += [drawing.eq(dice.start | (drawing & ~dice.done)), logging.eq(logarithm.start | (logging & ~logarithm.done))]
    b.assume(~scan.busy | b.was(scan.start | scan.busy), ~walk.busy | b.was(walk.start | walk.busy))
    b.assume(~best.busy | b.was(best.busy | (best.i.valid & best.i.ready)), ~scan.o.valid | scan.busy)
    b.assume(~dice.done | drawing, ~logarithm.done | logging)
    for made, changes in (
        (walk.total, walk.start | walk.busy | walk.i.valid),
        (best.count, best.start | best.busy),
        (dice.number, drawing),
    ):
        b.assume(b.was(changes) | (made == b.was(made)))
    b.assume(~unit.busy | ~(unit.start | unit.clear | unit.sampling_load))

    b.claim(~scan.busy | state("SCANNING", "CLEARING"), ~drawing | state("DRAWING"), ~logging | state("LOGGING"))
    b.claim(~walk.busy | state("SUMMING", "ROWS_LARGEST", "PICKING", "PART_LARGEST"))
    b.claim(~best.busy | state("SORT", "FETCH", "GIVE"), unit.busy == ~state("IDLE"))
    b.claim(~scan.start | ~scan.busy, ~walk.busy | ~(walk.start | walk.i.valid), ~(walk.start & walk.i.valid))
    b.claim(~best.start | ~best.busy, ~(dice.start | dice.load) | ~drawing, ~logarithm.start | ~logging)
    b.claim(~b.was(drawing | dice.start) | (dice.total == b.was(dice.total)))
    b.claim(~(walk.busy & state("SUMMING", "PICKING")) | (walk.beta == b.was(walk.beta)))
    b.claim(~(walk.busy & state("PICKING")) | (walk.number == b.was(walk.number)))
    # Before words are sorted in a task a list is begun, whose length stays. The rest says where that is so.
    begun, most = Signal(name="begun"), Signal.like(best.most, name="most_begun")
    with b.m.If(best.start):
        sync += [begun.eq(1), most.eq(best.most)]
    with b.m.If(~unit.busy):
        sync += begun.eq(0)
    b.claim(~begun | (best.most == most), ~(best.i.valid | best.busy) | begun)
    b.claim(~state("SORT", "FETCH", "GIVE", "CHOOSE", "FETCH_BOUND", "COMPARE", "CHOSEN") | begun)
    of, draws, parts = inside["_of"], inside["_drawing"], inside["_parting"]
    elsewhere = (inside["_now"].task == Task.SCORE) | parts
    takes_log = state("LOGARITHM", "LOGGING", "LOGGED")
    sums = state("SCANNING") | (state("SUM") & ~draws)
    logs = takes_log | (state("SUMMING") & ~draws)
    b.claim(~(state("ROWS", "ROWS_LARGEST", "BOUND") | (logs & (of == _Of.ROWS))) | elsewhere | begun)
    b.claim(~(unit.busy & (unit.ask.payload != 0)) | draws | elsewhere | begun)
    b.claim(~((logs | sums) & (of == _Of.GROUP)) | (unit.ask.payload != 0))
    b.claim(~sums | (of == _Of.HEAD) | (of == _Of.GROUP))
    b.claim(~state("ROWS_LARGEST") | (of == _Of.ROWS), ~state("PART_LARGEST") | (of == _Of.PART))
    b.claim(~state("DRAW", "DRAWING", "PICK", "PICKING") | draws, ~takes_log | ~draws)
    weighing = ("PART", "PART_LARGEST", "WEIGH", "ROUND", "SCALE", "WEIGHT", "WEIGHED", "NEXT_PART", "FETCH_PART")
    choosing = ("ASK_PART", "OF_HEAD", "OF_GROUP", "FETCH_WEIGHT", "HELD_WEIGHT", "PUT_PART")
    b.claim(~(state(*weighing, *choosing) | (logs & (of == _Of.PART))) | parts)

    # A task is over with an answer that is the last one, and others stay until they are taken.
    ends = unit.o.valid & unit.o.ready & unit.o.p.end
    task = Signal(name="a_task")
    sync += task.eq(unit.start | (task & ~ends))
    b.claim(state("CLEAR", "CLEARING") | (task == unit.busy), ~state("CLEAR", "CLEARING") | ~task)
    b.claim(~unit.o.valid | task)
    b.claim_stream(unit.o)
    b.claim_stream(unit.ask)
    b.claim(
        ~b.was(unit.ask.valid | state("FEEDING", "SCAN", "SCANNING")) | (unit.ask.payload == b.was(unit.ask.payload))
    )
    b.cover(ends & (inside["_now"].task == Task.SCORE), ends & (inside["_now"].task == Task.SAMPLE))
