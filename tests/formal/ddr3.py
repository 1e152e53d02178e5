"""The controller of a DDR3."""

import dataclasses
from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import *

from egret.rtl.ddr3 import AHEAD, BANK_BITS, COLUMN_BITS, COMMANDS, PLACE_BITS, READ_DELAY, WRITE_DELAY, Ddr3
from egret.rtl.ddr3_timing import BURST_CLOCKS, PARTS, ROWS_IN_WINDOW, Ddr3Timing
from egret.rtl.sdram import TAG_BITS, WORD_BITS
from egret.sim.ddr3 import RIGHT_LEVELS, VIOLATIONS, Ddr3Model
from tests.formal.proof import proof

LATE = VIOLATIONS.index("rows not refreshed in time")
MOST_OWED = 9
"""Refreshes of which fewer are ever due."""
BANKS = range(1 << BANK_BITS)
FAST, SLOW = 150e6, 125e6
"""Clocks of the memory, with its DLL on and off: reads then have the other half of a cycle."""
SLOWEST = 40e6
"""The lowest clock, at which the fewest refreshes are put off."""


def whole(segment):
    """Whether a part of a burst has bursts of the memory, all in one row."""
    bursts = (segment.count != 0) & (segment.at + segment.count <= 1 << len(segment.at))
    return Mux(segment.write, segment.count == 1, bursts)


class Used:
    """A controller whose queue of parts of bursts is taken out: any part of a row, or word to write, may come.

    The queue of parts whose rows are open is replaced by two registers, and that of what was read by nothing. The times
    are those of the slowest part at a clock, but for the start and a refresh, which take a few cycles only.
    """

    def __init__(self, b, hertz, **times):
        quick = {"reset": 4, "wake": 4, "xpr": 6, "zq": 14, "rfc": 12, **times}
        self.timing = t = dataclasses.replace(Ddr3Timing.of(PARTS["any"], hertz), **quick)
        self.unit = unit = Ddr3(t)
        self.inside = inside = b.add(unit)
        self.half = 1 - t.read_phase  # of a cycle, for all commands but reads
        self.segments, self.head, self.part = segments, head, part = inside["segments"], inside["head"], inside["part"]
        for name in ("writes", "opened", "asked"):
            inside.empty(name)
        b.cut(inside, "segments", segments.r_rdy, segments.r_data, segments.w_rdy)
        waits = b.was(segments.r_rdy & ~segments.r_en)
        b.assume(~waits | (segments.r_rdy & (segments.r_data == b.was(segments.r_data))))
        b.assume(whole(head))
        self._queue(b)
        # The banks of parts whose rows are open: of those that wait, of the one that is read, and of those just read.
        self.mine = mine = Signal(1 << BANK_BITS, name="mine")
        self.waiting, self.reading = Signal(1 << BANK_BITS, name="waiting"), Signal(1 << BANK_BITS, name="reading")
        valid = [self.level > place for place in range(AHEAD)]
        b.m.d.comb += [
            mine.eq(1 << head.bank),
            self.waiting.eq(reduce(or_, (Mux(valid[n], 1 << slot.bank, 0) for n, slot in enumerate(self.slots)))),
            self.reading.eq(Mux(inside["has"], 1 << part.bank, 0)),
        ]
        self.ended = [(stage[0], stage[1:]) for stage in inside["ended"]]
        for bank in BANKS:
            holders = [valid[n] & (slot.bank == bank) for n, slot in enumerate(self.slots)]
            holders += [inside["has"] & (part.bank == bank), *(ended & (of == bank) for ended, of in self.ended)]
            b.claim(inside[f"claims_{bank}"] == sum(holders[1:], Value.cast(holders[0])))
        claimed = inside["claimed"]
        closed = self.state("START", "REFRESH")
        b.claim(closed | self.state("LOOK", "PRECHARGE", "ACTIVATE", "PASS", "CLOSE"))
        b.claim(unit.ready == ~self.state("START"))
        b.claim(~closed | ((inside["is_open"] == 0) & (claimed == 0)))
        b.claim(~self.state("PRECHARGE", "ACTIVATE", "PASS") | segments.r_rdy)
        b.claim(~self.state("PRECHARGE", "PASS") | (inside["is_open"] & mine).any())
        b.claim(~self.state("PASS") | (inside["rows"][head.bank] == head.row))
        b.claim(~self.state("ACTIVATE") | ~(claimed & mine).any())
        b.claim(self.state("PASS") | (inside["opening"] == inside["until_passed"]))
        # Rows that are open in the memory: one is closed while its bank waits for another.
        self.open = Signal(1 << BANK_BITS, name="open")
        b.m.d.comb += self.open.eq(inside["is_open"] & ~Mux(self.state("ACTIVATE"), mine, 0))
        b.claim((claimed & ~self.open) == 0)
        for held, segment in (*zip(valid, self.slots, strict=True), (inside["has"], part)):
            b.claim(~held | (whole(segment) & (inside["rows"][segment.bank] == segment.row)))
        b.claim(~inside["has"] | (part.count != 0))

    def state(self, *names):
        """Whether the controller is in one of some states."""
        return self.inside.is_in("rows", *names)

    def _queue(self, b):
        """Put two registers in place of the queue of parts whose rows are open."""
        opened = self.inside["opened"]
        self.slots = [Signal.like(self.head, name=f"slot_{place}") for place in range(AHEAD)]
        self.level = level = Signal(range(AHEAD + 1), name="level")
        taken = opened.r_en & opened.r_rdy
        b.m.d.comb += [opened.r_rdy.eq(level != 0), opened.r_data.eq(self.slots[0]), opened.w_rdy.eq(level != AHEAD)]
        b.m.d.sync += level.eq(level - taken + opened.w_en)
        with b.m.If(taken):
            b.m.d.sync += self.slots[0].eq(self.slots[1])
        for place, slot in enumerate(self.slots):
            with b.m.If(opened.w_en & (level == place + taken)):
                b.m.d.sync += slot.eq(opened.w_data)
        b.claim(level <= AHEAD, ~opened.w_en | opened.w_rdy)


def with_memory(b, used):
    """Add the model of the memory and its PHY that the tests use, without its cells; return what is inside."""
    model = Ddr3Model(used.timing, row_bits=1, levels=RIGHT_LEVELS)
    memory = b.add(model, "memory")
    for name in ("cells", "words"):
        memory.empty(name)
    for name in ("reset", "cke", "write", "dq_o", "mask", "read", "levels"):
        b.m.d.comb += Value.cast(getattr(model.pins, name)).eq(Value.cast(getattr(used.unit.sdram, name)))
    for ours, theirs in zip(used.unit.sdram.commands, model.pins.commands, strict=True):
        b.m.d.comb += Value.cast(theirs).eq(Value.cast(ours))
    return memory


def kept(b, hertz):
    """Claim that every rule of the model is kept, but that of refreshes in time."""
    used = Used(b, hertz, refresh=50)
    inside, t, half = used.inside, used.timing, used.half
    memory = with_memory(b, used)
    wait, step = b.was(inside["wait"]), b.was(inside["step"])
    starts, refreshes = b.was(used.state("START")), b.was(used.state("REFRESH"))
    runs = b.was(used.unit.ready & ~used.state("REFRESH"))
    reading = b.was(used.waiting | used.reading)
    # What the memory knows is what the controller knew a cycle before.
    b.claim(memory["is_open"] == b.was(used.open))
    for name, of, counter in (
        ("rcd", half, "opening"),
        ("ras", half, "open_for"),
        ("rp", half, "closing"),
        ("rtp", 1 - half, None),
        ("wr", half, "recovered"),
    ):
        events = memory[f"since_{name}"]
        b.claim(~starts | (events == 0))
        for number in range(len(events) >> BANK_BITS):
            banks, cycle = events.word_select(number, 1 << BANK_BITS), number // 2
            if 1 - number % 2 != of:
                b.claim(banks == 0)
                continue
            if counter is not None:
                b.claim((banks == 0) | (b.was(inside[counter]) <= cycle))
            if name == "rcd":
                b.claim((cycle >= inside["until_passed"]) | ((banks & b.was(used.waiting)) == 0))
                b.claim((cycle >= inside["until_passed"] + 1) | ((banks & b.was(used.reading)) == 0))
            if name == "rp":
                b.claim(~refreshes | (banks == 0) | (wait + cycle + 1 >= t.apart(t.rp, half, half)))
            if name == "rtp" and cycle < len(used.ended):
                ended = (Mux(done, 1 << bank, 0) for done, bank in used.ended[: cycle + 1])
                b.claim((banks & ~b.was(reduce(or_, ended, used.reading))) == 0)
    for name, time, of, counters in (
        ("rrd", t.rrd, half, ["since_activate"]),
        ("wtr", t.written + t.wtr, half, ["written"]),
        ("rtw", t.latency + BURST_CLOCKS + 2 - t.write_latency, 1 - half, ["has_read"]),
    ):
        gone = memory[f"since_{name}"]
        b.claim((gone >= time) | (gone >= 2 * b.was(inside[counters[0]]) + 2 - of))
    # Of reads and writes, whichever came last.
    gone = memory["since_ccd"]
    pace = t.apart(BURST_CLOCKS, 0, 0)
    for short, long in (("since_read", "has_read"), ("since_write", "written")):
        b.claim(inside[short] == Mux(inside[long] > pace, pace, inside[long]))
    b.claim(
        (gone >= BURST_CLOCKS)
        | (gone >= 2 * b.was(inside["since_read"]) + 1 + half)
        | (gone >= 2 * b.was(inside["since_write"]) + 2 - half)
    )
    # Rows in the window: none are nearer to each other than a fourth of it.
    window, apart = memory["came"], t.apart(max(t.rrd, -(-t.faw // ROWS_IN_WINDOW)), half, half)
    for place in range(len(window)):
        if 1 - place % 2 != half:
            b.claim(~window[place])
            continue
        b.claim(~window[place] | (b.was(inside["since_activate"]) <= place // 2))
        for later in range(place + 2, min(place + 2 * apart, len(window)), 2):
            b.claim(~(window[place] & window[later]))
    # It is started, and waits for each step of it and for each refresh.
    modes = len(t.modes)
    told = memory["told"]
    b.claim(~used.state("START") | (inside["step"] <= modes + 3))
    b.claim(inside["in_reset"] == (used.state("START") & (inside["step"] == 0)))
    b.claim(inside["enabled"] == (~used.state("START") | (inside["step"] >= 2)))
    for name, number, time in (("was_reset", 0, t.reset), ("awake", 1, t.wake), ("enabled", 2, t.xpr)):
        gone = memory[name]
        b.claim(~starts | (step < number) | (gone >= time) | ((step == number) & (gone + 2 * wait >= time)))
        b.claim(~(refreshes | runs) | (gone >= time))
    b.claim(~starts | (told == Mux(step < 2, 0, step - 2)), ~(refreshes | runs) | (told == modes + 1))
    for name, time, first in (("mrd", t.mrd, 0), ("mod", t.mod, modes + 2), ("zq", t.zq, modes + 3), ("rfc", t.rfc, 9)):
        gone = memory[f"since_{name}"]
        b.claim(~starts | (step < first) | (gone + half + 2 * wait >= time))
        if name in ("zq", "rfc"):
            b.claim(~starts | (step >= first) | (gone >= time))
        b.claim(~refreshes | (gone + half + (2 * wait if name == "rfc" else 0) >= time))
        b.claim(~runs | (gone + half >= time), ~reading.any() | (gone >= time))
    b.claim(*(~memory["violated"][number] for number in range(len(VIOLATIONS)) if number != LATE))
    b.cover(used.unit.sdram.write)
    b.cover(used.unit.sdram.read & b.was(used.unit.sdram.read, 2))
    b.cover(used.state("ACTIVATE") & b.was(used.state("PRECHARGE")))
    b.cover(b.was(used.state("REFRESH")) & (inside["owed"] == 0) & b.was(inside["owed"] == 1))


def late(b, hertz, **times):
    """Claim how many times between refreshes the memory ever waits for one; return whether one comes while parts wait.

    A refresh takes its time here. The memory is taken to wait for the first one from the end of the start on.
    """
    used = Used(b, hertz, rfc=Ddr3Timing.of(PARTS["any"], hertz).rfc, **times)
    inside, t, half, head, part = used.inside, used.timing, used.half, used.head, used.part
    close, rfc = (t.apart(clocks, half, half) for clocks in (t.rp, t.rfc))
    lengths = {
        "since_read": t.apart(BURST_CLOCKS, 0, 0),
        "since_write": t.apart(BURST_CLOCKS, 0, 0),
        "written": t.apart(t.written + t.wtr, half, 1 - half),
        "has_read": t.apart(t.read_to_write, 1 - half, half),
        "since_activate": t.apart(max(t.rrd, -(-t.faw // ROWS_IN_WINDOW)), half, half),
        "closing": close,
        "open_for": t.apart(t.ras, half, half),
        "recovered": t.apart(t.written + t.wr, half, half),
        "opening": inside["until_passed"],
    }
    b.claim(*(inside[name] <= cycles for name, cycles in lengths.items()))

    def whole_time(*names):
        return sum(lengths[name] for name in names)

    def rest(*names):
        """Cycles until what waits for these counters, one after another, need not any more."""
        return sum((Mux(inside[name] < lengths[name], lengths[name] - 1 - inside[name], 0) for name in names), C(0))

    # What is left until the next refresh, if no part is begun any more: so many bursts of the memory, of two cycles
    # each, and so many other cycles at most.
    at_hand, any_opened = used.state("PRECHARGE", "ACTIVATE", "PASS"), inside["has"] | (used.level != 0)
    begun = [(inside["has"], part), *((used.level > n, slot) for n, slot in enumerate(used.slots)), (at_hand, head)]
    bursts, others, left, due = (Signal(14, name=name) for name in ("bursts", "others", "left", "due"))
    b.m.d.comb += [
        bursts.eq(sum((Mux(held, segment.count, 0) for held, segment in begun), C(0))),
        left.eq(2 * bursts + others),
    ]
    to_read, to_write = ("written", "since_read"), ("has_read", "since_write")
    first = Mux(inside["has"], Mux(part.write, rest(*to_write), rest(*to_read)), 0)
    turn = max(whole_time(*to_read), whole_time(*to_write))
    # Rows of parts that ended are closed later.
    young, ends = len(used.ended), C(0)
    for stage, (ended, _) in reversed([*enumerate(used.ended)]):
        ends = Mux(ended, young - stage, ends)
    after = young + lengths["recovered"]
    opened = first + turn * used.level + Mux(any_opened, after, ends + rest("recovered"))
    to_pass = turn + after + close + 2
    to_activate = whole_time("open_for", "opening") + to_pass
    for state, cycles in {
        "LOOK": opened + rest("open_for") + close + 1,
        "PRECHARGE": opened + rest("open_for", "since_activate") + close + to_activate,
        "ACTIVATE": opened + rest("since_activate", "closing") + to_activate,
        "PASS": opened + rest("open_for", "opening") + to_pass,
        "CLOSE": opened + rest("open_for") + close,
        "REFRESH": inside["wait"],
    }.items():
        with b.m.If(used.state(state)):
            b.m.d.comb += others.eq(cycles)
    # From when no more refreshes are put off, each cycle takes a burst or another cycle of it away.
    every, put_off, owed, starts = inside["every"], inside["put_off"], inside["owed"], used.state("START")
    presses, latest = Signal(name="presses"), MOST_OWED * every - 2
    b.m.d.comb += [presses.eq(~starts & (owed >= put_off)), due.eq(owed * every + inside["clock"])]
    pressed, pays, was_due, was_bursts, was_others = map(b.was, (presses, inside["pays"], due, bursts, others))
    falls = Mux(bursts == was_bursts, others < was_others, (bursts + 1 == was_bursts) & (others <= was_others + 1))
    b.claim(~pressed | Mux(pays, left < every, falls))
    b.claim(~presses | (due == Mux(pressed, was_due + 1 - Mux(pays, every, 0), put_off * every)))
    b.claim(inside["clock"] < every, starts | (owed < MOST_OWED), starts | (inside["wait"] < max(close, rfc)))
    # So what is left then fits. It is claimed a cycle later, when what is claimed above is known of that cycle.
    b.claim(starts | (left <= latest - put_off * every))
    b.claim(~pressed | (was_due + 2 * was_bursts + was_others <= latest))
    # What is due is the time since the start, but for that which refreshes at the pins made up for.
    age = Signal(range(2 * MOST_OWED * every), name="age")
    command = used.unit.sdram.commands[half]
    refresh = command.cs & (command.code == COMMANDS["refresh"])
    with b.m.If(refresh):
        b.m.d.sync += age.eq(Mux(age > every, age - every, 0))
    with b.m.Elif(~starts):
        b.m.d.sync += age.eq(age + 1)
    b.claim(Mux(starts, (age == 0) & ~refresh, age <= due + Mux(refresh, every, 0)), age < MOST_OWED * every)
    b.cover(~starts & (bursts == AHEAD + 2 << len(part.at)))
    return refresh & b.was(used.segments.r_rdy)


@proof(Ddr3, induction=3, cover=60)
def times(b):
    """No command breaks a time of the memory or meets a bank in the wrong state, from the start on."""
    kept(b, FAST)


@proof(Ddr3, induction=3, cover=60)
def times_slow(b):
    """The same with the memory's DLL off, where reads have the other half of a cycle."""
    kept(b, SLOW)


@proof(Ddr3, induction=1, cover=60)
def refreshes(b):
    """No refresh is late: the memory waits for fewer than nine at any time, however much is read and written."""
    late(b, FAST)


# The start lasts so long that a refresh is due soon after it.
@proof(Ddr3, induction=1, cover=180)
def refreshes_slow(b):
    """The same at the lowest clock, where the fewest refreshes are put off."""
    b.cover(late(b, SLOWEST, wake=256))


@proof(Ddr3, induction=3, cover=60)
def words(b):
    """A part of a burst brings its beats, each once and in order; a word is written where it belongs.

    The PHY is taken to give what is read `READ_DELAY` cycles after it was told of the read, and the queue of what was
    asked to be one: that it has room for all that can be under way is proved.
    """
    used = Used(b, FAST)
    inside, part, pins = used.inside, used.part, used.unit.sdram
    reads, writes, asked = inside["reads"], inside["writes"], inside["asked"]
    # A part is read burst after burst, as many as it has.
    opened, taken = used.slots[0], inside["opened"].r_en & inside["opened"].r_rdy
    start = Cat(opened.at, opened.bank, opened.row)
    place, left = Signal(len(start), name="place"), Signal(len(part.count), name="bursts_left")
    now, first = Signal.like(part, name="now"), Signal(name="first")
    b.m.d.sync += [place.eq(place + reads), left.eq(left - (reads | writes)), first.eq(first & ~reads)]
    with b.m.If(taken):
        b.m.d.sync += [place.eq(start), left.eq(opened.count), now.eq(opened), first.eq(1)]
    b.claim(~taken | (left == 0), inside["has"] == (left != 0), ~inside["has"] | (left == part.count))
    b.claim(~(reads | writes) | ((left != 0) & (writes == now.write)))
    b.claim((left == 0) | (place == Cat(part.at, part.bank, part.row)))
    b.claim((left == 0) | (place[len(part.at) :] == Cat(now.bank, now.row)))
    b.claim((left == 0) | (place[: len(part.at)] + left <= 1 << len(part.at)))
    b.claim((left == 0) | ((part.write == now.write) & (part.tag == now.tag)))
    b.claim((left == 0) | ((part.skips[0] == (now.skips[0] & first)) & (part.skips[1] == now.skips[1])))
    b.claim((left == 0) | ((part.place == now.place) & (part.word == now.word)))
    # The command of a read is for that place: in its bank, the row that was opened last is the one.
    opens, read = pins.commands[used.half], pins.commands[1 - used.half]
    rows = Array(Signal(len(part.row), name=f"opened_{bank}") for bank in BANKS)
    with b.m.If(opens.cs & (opens.code == COMMANDS["activate"])):
        b.m.d.sync += rows[opens.ba].eq(opens.a)
    for bank in BANKS:
        b.claim(~b.was(used.open)[bank] | (rows[bank] == b.was(inside["rows"][bank])))
    b.claim((pins.read == b.was(reads)) & (read.cs == pins.read), pins.write == b.was(writes))
    for command, given in ((read, pins.read), (opens, pins.write)):
        at = Cat(command.a[PLACE_BITS:COLUMN_BITS], command.ba, rows[command.ba])
        b.claim(~given | ((at == b.was(place)) & (command.a[:PLACE_BITS] == 0)))
    # Its words come later, and leave with the tag but for those that are skipped.
    wanted = Cat(now.tag, now.skips[0] & first, now.skips[1] & (left == 1))
    b.claim(~reads | (asked.w_en & (asked.w_data == wanted)), ~asked.w_en | reads)
    delay = READ_DELAY + 1
    under_way = [b.was(reads, cycles) for cycles in range(1, delay + 1)]
    b.claim(~(reads & under_way[0]), *(~(one & two) for one, two in pairwise(under_way)))
    b.claim(sum(under_way[1:], under_way[0]) <= asked.depth)
    came = b.was(asked.w_data, delay)
    b.m.d.comb += [pins.valid.eq(under_way[-1]), asked.r_data.eq(came)]
    o, half_beats = used.unit.o, len(pins.dq_i) // 2
    tag = came[:TAG_BITS]
    comes, then = b.was(under_way[-1] & ~came[TAG_BITS]), b.was(under_way[-1] & ~came[TAG_BITS + 1], 2)
    b.claim(o.valid == (comes | then), ~(comes & then))
    b.claim(~comes | (Value.cast(o.p) == b.was(Cat(pins.dq_i[:half_beats], tag))))
    b.claim(~then | (Value.cast(o.p) == b.was(Cat(pins.dq_i[half_beats:], tag), 2)))
    # A word that is written, and the mask of all others.
    written, where = b.was(writes, WRITE_DELAY + 1), b.was(now.place, WRITE_DELAY + 1)
    b.claim(~written | (pins.dq_o.word_select(where, WORD_BITS) == b.was(now.word, WRITE_DELAY + 1)))
    b.claim(
        *(~written | (pins.mask.word_select(place, 2) == Mux(where == place, 0, 3)) for place in range(1 << PLACE_BITS))
    )
    b.cover(o.valid & b.was(o.valid))
    b.cover(written)


@proof(Ddr3, induction=2, cover=10)
def parts(b):
    """A burst becomes parts within a row, which follow one another; a word to write is done before later bursts."""
    unit = Ddr3(Ddr3Timing.of(PARTS["any"], FAST))
    inside = b.add(unit)
    segments, queue, left = inside["segments"], inside["words"], inside["left"]
    b.cut(inside, "writes", queue.r_rdy, queue.r_data, queue.w_rdy)
    b.cut(inside, "segments", segments.r_rdy, segments.r_data, segments.w_rdy)
    segment, put, taken = inside["segment"], inside["put"], unit.i.ready & unit.i.valid
    b.assume(~taken | (unit.i.p.count != 0))
    free = ~inside["filled"] | segments.w_rdy
    reads, puts = b.was(free & left), b.was(queue.r_en & queue.r_rdy)
    # What is left of a burst, in beats, beside the part that was made last; a burst of the memory has two of them.
    place, beats, tag = (Signal.like(unit.i.p[name], name=f"{name}_left") for name in ("address", "count", "tag"))
    now, rest = Signal(len(place), name="address_now"), Signal(len(beats), name="count_now")
    has = Signal(len(segment.count) + 1, name="beats_of_part")
    b.m.d.comb += [
        has.eq(2 * segment.count - segment.skips[0] - segment.skips[1]),
        now.eq(place + Mux(reads, has, 0)),
        rest.eq(beats - Mux(reads, has, 0)),
    ]
    b.m.d.sync += [place.eq(now), beats.eq(rest)]
    with b.m.If(taken):
        b.m.d.sync += [place.eq(unit.i.p.address), beats.eq(unit.i.p.count), tag.eq(unit.i.p.tag)]
    address = Cat(segment.at, segment.bank, segment.row)
    b.claim(~(reads | puts) | inside["filled"], ~(reads & puts), inside["filled"] == (reads | puts | b.was(~free)))
    b.claim(~reads | (~segment.write & (has <= beats) & (segment.tag == tag) & whole(segment)))
    b.claim(~reads | (Cat(segment.skips[0], address) == place[: 1 + len(address)]))
    word = Cat(segment.place, address, segment.word)
    b.claim(~puts | (segment.write & (segment.count == 1) & (word == b.was(Value.cast(put)))))
    # Nothing is left out, and what waits stays; a burst is taken when the one before, and all words, have been.
    first, skips = inside["first"], inside["skips"]
    b.claim(left == (rest != 0), ~left | (2 * inside["count"] - skips[0] - skips[1] == rest))
    b.claim(~left | (Cat(skips[0], first) == now[: 1 + len(first)]), ~left | (inside["tag"] == tag))
    b.claim(~taken | ((rest == 0) & ~queue.r_rdy))
    b.claim(b.was(free) | (Value.cast(segment) == b.was(Value.cast(segment))))
    b.cover(reads & b.was(reads) & (segment.count == 3) & segment.skips[1])
