"""The weight store: columns become words, from block RAM or from the bursts of an SDRAM."""

from unittest.mock import patch

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.compiler.configuration import Configuration, ReadoutShape
from egret.model.compiler.readout import HOME
from egret.rtl import weights
from egret.rtl.blocks import LATENCY
from egret.rtl.layouts import memory_layout
from egret.rtl.sdram import TAGS
from egret.rtl.weights import AHEAD, WeightStore
from tests.formal.proof import proof

SHAPE = {"vocabulary": 3, "embedding": 1, "hidden": (1,), "lanes": 1, "weight_words": 8}
CORE = Configuration(**SHAPE, weight_bits=8, wide_words=(4,))
READ_OUT = ReadoutShape(head=2, groups=1, group_size=1)
GROUPS = Configuration(**SHAPE, weight_bits=8, wide_words=(4,), readout=READ_OUT)
PAIRS = Configuration(**SHAPE, weight_bits=4, readout=READ_OUT)
ROWS = Configuration(**SHAPE, weight_bits=8, store="spram")
ON_BOARD = {"vocabulary": 3, "embedding": 1, "hidden": (1,), "weight_bits": 4, "store": "sdram", "weight_words": 12}
BURSTS = Configuration(**ON_BOARD, lanes=2, resident_words=4, readout=READ_OUT)
HALVES = Configuration(**ON_BOARD, lanes=4, readout=READ_OUT)
FETCHING = 2 + LATENCY
"""Cycles from a column to the queue of those whose pointers are known."""
UNDER_WAY, ARRIVED = 4, 8
"""Places of the queues beside an SDRAM; a column can have more words than there is room for."""


def total(values):
    """The sum of values, or of no values."""
    return sum(values, C(0))


class Followed:
    """One column, any, that leaves as words behind all that were asked for before it.

    A column is ``put`` in with its pointer, as ``column``. ``there`` says that the next word to be sent is of a known
    one, ``begins`` that it goes on its way to the output, which takes so many ``stages``, and ``ends`` that it is the
    last one of its column. ``most`` columns are ever inside.

    Attributes
    ----------
    mine : list of Value
        Whether a word so far on its way is one of the column that is followed.
    before : Value
        Columns of which a last word is on its way.
    done : Value
        Words of the column that were sent.
    """

    def __init__(self, b, c, unit, put, column, there, begins, ends, stages, most):
        self.b, self.c, self.o = b, c, unit.o
        # Words of the column at the output.
        sent = Signal(c.count_bits + 1, name="sent")
        begun = [begins, *(b.was(begins, stage) for stage in range(1, stages + 1))]
        ended = [ends, *(b.was(ends, stage) for stage in range(1, stages + 1))]
        b.m.d.sync += sent.eq(Mux(ended[-1], 0, sent + self.o.valid))

        def leaves(item):
            """What a column's last word shows."""
            of = data.View(column.shape(), item)
            return Cat(of.value, of.matrix, of.pointer.begins, self.words(of))

        last = Cat(self.o.p.value, self.o.p.matrix, self.o.p.begins, (sent + 1)[: len(sent)])
        self.follows, ahead, kept = b.follow(put, column, ended[-1], last, most, leaves)
        self.ahead, self.kept, self.begun, self.ended = ahead, data.View(column.shape(), kept), begun, ended
        self.before, self.done = total(ended[1:]), Mux(ahead == 0, sent, 0)
        self.mine = [
            valid & self.follows & (ahead == total(ended[stage + 1 :]))
            for stage, valid in enumerate([there, *begun[1:]])
        ]
        b.claim(self.o.valid == begun[-1], ~self.o.valid | (b.level != 0), (b.level != 0) | (sent == 0))
        # Behind a word comes the rest of its column.
        b.claim(*(~ends | begins for begins, ends in zip(begun, ended, strict=True)), ~begins | there)
        b.claim(*(~begun[stage] | Cat(ended[1 : stage + 1]).any() | there for stage in range(1, stages + 1)))
        b.claim(there | Cat(ended[1:]).any() | (sent == 0))
        b.claim(~self.follows | (ahead < self.before + there) | (self.done == 0))

    def twice(self, of):
        """Whether words of a column are sent twice."""
        return twice(self.c, of.matrix)

    def words(self, of):
        """How many words are sent for a column."""
        return (of.pointer.count << self.twice(of))[: self.c.count_bits + 1]

    def place(self, stage, place, half):
        """Claim that a word so far on its way is that of a ``place`` in its column, and which of two times."""
        b, of = self.b, self.kept
        number = (place << self.twice(of)) + half
        mine = self.mine[stage]
        b.claim(
            ~mine | (number == self.done + total(self.mine[stage + 1 :])),
            ~(mine & self.begun[stage]) | (self.ended[stage] == (number + 1 == self.words(of))),
            ~mine | ((place < of.pointer.count) & (half <= self.twice(of))),
        )

    def output(self, codes, runs, half):
        """Claim what a word at the output is, of lanes that have ``codes`` and ``runs`` in the memory."""
        b, o, of, mine = self.b, self.o.p, self.kept, self.mine[-1]
        reads = of.matrix >= self.c.readout_matrix("head") if self.c.readout else C(0)
        b.claim(~mine | (Cat(o.value, o.matrix, o.begins) == Cat(of.value, of.matrix, of.pointer.begins)))
        b.claim(~mine | (o.first == (self.done == 0)))
        for entry, code, run in zip(o.entries, codes, runs, strict=True):
            b.claim(~mine | (entry.code == Mux(half, run, code)))
            b.claim(~mine | (entry.run == (run if self.c.paired else Mux(reads, 0, run))))


def stored(b, inside, name, memory, layout, words):
    """Put any ``words`` into a memory that is left out, which come as a memory's do; return them."""
    b.cut(inside, name, memory.data)
    content = Array(b.fixed(Shape.cast(layout).width, f"{name}_of_{word}") for word in range(words))
    b.assume(Value.cast(memory.data) == content[b.was(memory.address, LATENCY)])
    return content


def twice(c, matrix):
    """Whether words of a column of a matrix are sent twice."""
    return matrix >= c.readout_matrix("head") if c.has_pairs and not c.paired else C(0)


def of_readout(b, c, unit, inside, column, fetched):
    """Say where columns of a read-out begin, and claim that they are found there, from what ``groups`` says.

    The words of ``groups`` are any, and the group holds still as it must. Returns whether a column asked for so many
    cycles before is one of the read-out.
    """
    i, group, found = unit.i, unit.group, inside.read("groups")
    layout = memory_layout(c, "groups")
    words = Array(b.fixed(layout.size, f"group_{number}") for number in range(c.readout.matrices))
    b.cut(inside, "groups", found)
    b.assume(found == words[b.was(group)])
    of = data.View(layout, words[group])
    reads = i.p.matrix >= c.readout_matrix("head")
    rest = Cat(of.count, *(Cat(C(HOME, 3), C(0, c.block_bits)) for _ in range(c.lanes)))
    with b.m.If(reads):
        b.m.d.comb += Value.cast(column.pointer).eq(Cat((of.start + i.p.column * of.count)[: c.start_bits], rest))

    # The group holds still from three cycles before the first of its columns until nothing is on its way.
    asks, needed = i.valid & i.ready & reads, Signal(name="needed")
    b.m.d.sync += needed.eq(asks | (needed & unit.busy))
    before = [b.was(group, cycles) for cycles in range(1, 4 + FETCHING)]
    b.assume(~asks | Cat(earlier == group for earlier in before[:3]).all(), ~needed | (before[0] == group))
    items = [data.View(column.shape(), item) for item in fetched]
    read = [item.matrix >= c.readout_matrix("head") for item in items]
    offset = (inside["column"] * of.count)[: c.start_bits]
    starts = [of.start + offset, of.start + inside["offset"], inside["start"], inside["entry"].pointer.start]
    for stage, start in enumerate(starts, 1):
        still = Cat(earlier == group for earlier in before[: stage + 3]).all()
        asked = inside["fetched"][stage - 1] & read[stage]
        b.claim(~asked | (needed & still & (Value.cast(inside["group"]) == words[group])))
        b.claim(~asked | (Value.cast(items[stage].pointer) == Cat(start[: c.start_bits], rest)))
    b.claim(inside["of_readout"] == Cat(read[2:4]))
    return read


def walked(b, c, unit, inside, put, column, most):
    """Follow a column to the output, as `Followed` does. Its words are any, and come as `memories.blocks` says."""
    words = stored(b, inside, "weights", inside["weights"], memory_layout(c, "weights"), c.weight_words)
    now, left = inside["addressed"], inside["left"]
    runs, half = left != 0, now.half if c.has_pairs else C(0)
    ends = (left == 1) & (half == twice(c, now.matrix))
    followed = Followed(b, c, unit, put, column, runs, runs, ends, 1 + LATENCY, most)
    pointer, address = followed.kept.pointer, inside["address"]
    for stage in range(2 + LATENCY):
        mine = followed.mine[stage]
        at, rest, again = ((b.was(value, stage) if stage else value) for value in (address, left, half))
        passed = (pointer.count - rest)[: len(left)]
        followed.place(stage, passed, again)
        b.claim(~mine | (at == (pointer.start + passed)[: len(at)]))
    beside = Cat(now.value, now.matrix, now.begins)
    b.claim(~followed.mine[0] | (beside == Cat(followed.kept.value, followed.kept.matrix, pointer.begins)))
    b.claim(~followed.mine[0] | (now.first == ((left == pointer.count) & ~half)))
    b.claim(inside["reading"] == Cat(followed.begun[1:-1]))
    for stage in range(LATENCY):
        b.claim(Value.cast(inside["read"][stage]) == b.was(Value.cast(now), stage + 1))
    was_at = b.was(address, 1 + LATENCY)
    (entry,) = data.View(memory_layout(c, "weights"), words[was_at]).entries
    run = entry.run
    if c.wide_words:
        wide = stored(b, inside, "run_4", inside["mem"], memory_layout(c, "run_4"), c.wide_words[0])
        run = Cat(run, Mux(was_at < c.wide_words[0], wide[was_at[: len(inside["mem"].address)]], 0))
    followed.output([entry.code], [run], b.was(half, 1 + LATENCY))
    return followed


def in_blocks(b, c):
    """Claim which words the store in block RAM sends, of any memories, whose words come as `memories.blocks` says."""
    unit = WeightStore(c)
    inside = b.add(unit)
    pointers = stored(b, inside, "columns", inside["columns"], memory_layout(c, "columns"), c.columns)
    i, queue, left = unit.i, inside["queue"], inside["left"]
    column = Signal(inside["head"].shape(), name="column")
    asks = i.valid & i.ready
    b.m.d.comb += [
        column.pointer.eq(pointers[i.p.column]),
        column.value.eq(i.p.value),
        column.matrix.eq(i.p.matrix),
    ]
    fetched = [b.was(Value.cast(column), cycles) for cycles in range(FETCHING + 1)]
    reads = of_readout(b, c, unit, inside, column, fetched) if c.readout else [C(0)] * (1 + FETCHING)
    b.assume(i.p.column < c.columns)
    put = asks & (column.pointer.count != 0)
    runs = left != 0
    followed = walked(b, c, unit, inside, put, column, AHEAD + 2 + LATENCY)

    # Where columns are, from the input to the output: pointers are read, wait in the queue, and are walked over.
    follows, ahead, kept, before = followed.follows, followed.ahead, Value.cast(followed.kept), followed.before
    asked = [b.was(put, cycles) for cycles in range(1, FETCHING + 1)]
    b.claim(inside["fetched"] == Cat(b.was(asks, cycles) for cycles in range(1, FETCHING + 1)))
    b.claim(queue.level + total(inside["fetched"]) <= AHEAD, queue.w_en == asked[-1])
    b.claim(b.level == total(asked) + queue.level + runs + before)
    b.claim(unit.busy | (b.level == 0), ~b.was(queue.r_rdy) | runs)
    for number in range(AHEAD):
        held = data.View(column.shape(), inside.word("queue.storage", number))
        filled = (number - inside["queue.consume"])[:4] < queue.level
        b.claim(~filled | (held.pointer.count != 0))
    for stage in range(FETCHING):
        here = follows & asked[stage] & (ahead == total(asked[stage + 1 :]) + queue.level + runs + before)
        b.claim(~here | (fetched[stage + 1] == kept))
    # What is known of each on its way to the queue.
    entry = inside["entry"]
    beside_entry = Cat(entry.value, entry.matrix)
    asked_for = [b.was(asks, cycles) for cycles in range(1, FETCHING + 1)]
    for stage, (there, wanted) in enumerate(zip(asked_for, [*inside["wanted"], beside_entry], strict=True)):
        item = data.View(column.shape(), fetched[stage + 1])
        b.claim(~there | (wanted == Cat(item.value, item.matrix)), asked[stage] == (there & (item.pointer.count != 0)))
        at = b.was(inside["columns"].address, stage) if stage else inside["columns"].address
        b.claim(~there | reads[stage + 1] | (pointers[at] == Value.cast(item.pointer)))
    b.claim(~asked_for[-1] | (Value.cast(entry) == fetched[-1]))
    place = Signal(range(2 * AHEAD), name="place_in_queue")
    b.m.d.comb += place.eq(ahead - before - runs)
    waits = follows & (ahead >= before + runs) & (place < queue.level)
    b.claim(~waits | (inside.word("queue.storage", (inside["queue.consume"] + place)[:4]) == kept))
    if c.readout:
        b.cover(followed.mine[-1] & (followed.kept.matrix >= c.readout_matrix("head")) & (followed.done == 2))


@proof(WeightStore, induction=2, cover=16)
def columns(b):
    """From block RAM the words of each column come, each once, in the columns' order; none come of an empty column."""
    in_blocks(b, CORE)


@proof(WeightStore, induction=2, cover=16)
def groups(b):
    """The same with a read-out, whose columns lie one behind another from where those of their group begin."""
    in_blocks(b, GROUPS)


@proof(WeightStore, induction=2, cover=16)
def pairs(b):
    """The same with two weights in each word of a read-out, which is sent twice."""
    in_blocks(b, PAIRS)


@proof(WeightStore, induction=2, cover=16)
def rows(b):
    """The same with pointers in single-port RAM, which are looked up one at a time and come as `memories.rows` says."""
    c = ROWS
    unit = WeightStore(c)
    inside = b.add(unit)
    i, head, found = unit.i, inside["head"], inside["columns"].o_0
    asked, biases = inside["columns"].i_0, inside["columns"].o_1
    b.cut(inside, "columns", asked.ready, found.valid, found.payload, inside["columns"].i_1.ready, biases.valid)
    pointers = Array(b.fixed(len(found.payload), f"pointer_of_{number}") for number in range(c.columns))
    column, sought = Signal(head.shape(), name="column"), Signal(head.shape(), name="sought")
    asks, ends, there = i.valid & i.ready, found.valid & found.ready, Signal(name="there")
    b.m.d.comb += [
        column.pointer.eq(pointers[i.p.column]),
        column.value.eq(i.p.value),
        column.matrix.eq(i.p.matrix),
    ]
    b.m.d.sync += there.eq(asks | (there & ~ends))
    with b.m.If(asks):
        b.m.d.sync += sought.eq(column)
    b.assume(i.p.column < c.columns, ~asks | ~there | ends, b.held(found))
    b.assume(~found.valid | (there & (found.payload == Value.cast(sought.pointer))))

    followed = walked(b, c, unit, inside, asks & (column.pointer.count != 0), column, 3 + LATENCY)
    runs, before = inside["left"] != 0, followed.before
    sought_now = there & (sought.pointer.count != 0)
    b.claim(b.level == sought_now + runs + before, unit.busy | (b.level == 0))
    b.claim(~there | inside["looking"] | found.valid)
    b.claim(~there | (Cat(head.value, head.matrix) == Cat(sought.value, sought.matrix)))
    b.claim(~(followed.follows & sought_now & (followed.ahead == runs + before)) | (sought == followed.kept))
    b.cover(ends & (sought.pointer.count == 0), followed.mine[-1] & (followed.done == 2) & b.was(asks))


def in_bursts(b, c):
    """Claim which words the store beside an SDRAM asks for and sends, of columns whose pointers come from a queue.

    The SDRAM brings what it was asked for in that order, at any pace. The queue of what has come is left out: its
    words can be taken two cycles after they came (`queues.buffered`). Both queues are shorter than they are in a core.
    """
    unit = WeightStore(c)
    with patch.multiple(weights, UNDER_WAY=UNDER_WAY, ARRIVED=ARRIVED):
        inside = b.add(unit)
    sync, queue, arrived, under_way = b.m.d.sync, inside["queue"], inside["arrived"], inside["under_way"]
    b.cut(inside, "columns", inside["columns"].data)
    b.cut(inside, "queue", queue.r_rdy, queue.r_data, queue.level)
    b.cut(inside, "arrived", arrived.r_rdy, arrived.r_data, arrived.level)
    head, asked = inside["head"], inside["asked"]
    b.assume(~queue.r_rdy | (head.pointer.count != 0))
    asked_valid, moves, goes, leaves, last = (
        inside[name] for name in ("asked_valid", "moves", "goes", "leaves", "last")
    )
    place, half, owed = inside["place"], inside["half"], inside["owed"]
    stages = len(inside["valids"]) + 1
    most = 1 + UNDER_WAY + stages
    put = queue.r_rdy & queue.r_en
    followed = Followed(b, c, unit, put, head, under_way.r_rdy, goes, goes & last, stages, most)
    follows, ahead, before, of = followed.follows, followed.ahead, followed.before, followed.kept
    b.claim(b.level == asked_valid + under_way.level + before, unit.busy | (b.level == 0))

    # Words of bursts are counted: those that were asked for, that came, and that were taken to be sent.
    bursts = unit.burst.valid & unit.burst.ready
    count = asked.of.pointer.count
    width = len(owed) + 1
    wanted, came, taken = (Signal(width, name=name) for name in ("wanted", "came", "taken"))
    sync += [wanted.eq(wanted + Mux(bursts, count, 0)), came.eq(came + inside["whole"]), taken.eq(taken + leaves)]
    waiting = (came - taken)[:width]
    outstanding = (wanted - came)[:width]
    b.assume(~inside["mine"] | (outstanding != 0))
    b.assume(~arrived.r_rdy | (waiting != 0), arrived.r_rdy | (waiting <= b.was(inside["whole"])))
    b.claim((wanted - taken)[:width] == owed, waiting <= owed, owed < ARRIVED + (1 << c.count_bits))
    # There is room for what is asked for, or it leaves as fast as it comes.
    fits = owed + count <= ARRIVED
    b.claim(~bursts | (owed == 0) | fits, ~(asked_valid & inside["room"]) | fits | ~under_way.r_rdy)
    b.claim(~inside["whole"] | (waiting < ARRIVED))
    part = inside["part"] if c.word_beats > 1 else C(0)
    fast = c.word_beats * waiting + part - half
    b.claim((owed <= ARRIVED) | (fast <= 1 + c.word_beats), ~half | arrived.r_rdy)

    # A word is made of its beats, one behind the other.
    beat, beats = unit.beat.p.words, []
    mine, whole = inside["mine"], inside["whole"]
    for _ in range(c.word_beats - 1):
        earlier = Signal(len(beat), name=f"beat_{len(beats)}")
        with b.m.If(mine):
            sync += earlier.eq(beats[0] if beats else beat)
        beats.insert(0, earlier)
    b.claim(mine == (unit.beat.valid & (unit.beat.p.tag == TAGS.index("weights"))))
    b.claim(whole == (mine & (part == c.word_beats - 1)), arrived.w_en == whole)
    b.claim(part == Mux(b.was(whole), 0, b.was(part) + b.was(mine)))
    b.claim(~whole | (arrived.w_data == Cat(*beats, beat)))

    def measured(entry):
        """Whether a column has words, and what follows from its pointer is known."""
        pointer = entry.of.pointer
        resident = pointer.start < c.resident_words if c.resident_words else C(0)
        last = (pointer.count - 1)[: c.count_bits]
        return (pointer.count != 0) & (entry.last == last) & (entry.resident == resident)

    # Each column under way has a first word; that of the next one comes behind its last.
    firsts = Array(Signal(width, name=f"first_{number}") for number in range(UNDER_WAY))
    with b.m.If(moves):
        sync += firsts[inside["under_way.produce"]].eq(wanted)
    consume = inside["under_way.consume"]
    entries = []
    for number in range(UNDER_WAY):
        entry = data.View(asked.shape(), inside.word("under_way.storage", number))
        index = Signal(range(UNDER_WAY), name=f"index_{number}")
        b.m.d.comb += index.eq(number - consume)
        entries.append((entry, index, firsts[number] + Mux(entry.resident, 0, entry.of.pointer.count)))
    for number, (entry, index, end) in enumerate(entries):
        then = firsts[(number + 1) % UNDER_WAY]
        b.claim((index >= under_way.level) | (end[:width] == Mux(index + 1 == under_way.level, wanted, then)))
        b.claim((index >= under_way.level) | measured(entry))
    b.claim(~asked_valid | measured(asked))
    front = data.View(asked.shape(), under_way.r_data)
    begun = Mux(front.resident, 0, place)
    b.claim(taken == Mux(under_way.r_rdy, firsts[consume] + begun, wanted)[:width])
    alone = under_way.r_rdy & ~front.resident & ((firsts[consume] + front.of.pointer.count)[:width] == wanted)
    b.claim((owed <= ARRIVED) | alone)
    b.claim(under_way.r_rdy | ((place == 0) & ~half), ~under_way.r_rdy | (place <= front.last))
    b.claim(~half | (under_way.r_rdy & (followed.twice(front.of) == 1)))

    # Where the column that is followed is, and that it is asked for once.
    kept, pointer = Value.cast(of), of.pointer
    resident = pointer.start < c.resident_words if c.resident_words else C(0)
    in_hand, first, was_asked = Signal(name="in_hand"), Signal(width, name="first"), Signal(name="was_asked")
    b.m.d.comb += in_hand.eq(asked_valid & follows & (ahead == before + under_way.level))
    with b.m.If(in_hand & moves):
        sync += first.eq(wanted)
    with b.m.If(bursts & in_hand):
        sync += was_asked.eq(1)
    with b.m.If(~follows):
        sync += was_asked.eq(0)
    item = Cat(kept, resident, (pointer.count - 1)[: c.count_bits])
    base = c.sdram_base["weights"] // c.memory_ratio
    b.claim(~in_hand | (Value.cast(asked) == item), ~unit.burst.valid | asked_valid)
    b.claim(
        ~(unit.burst.valid & in_hand)
        | (
            ~resident
            & (unit.burst.p.address == base + (pointer.start - c.resident_words) * c.word_beats)
            & (unit.burst.p.count == pointer.count * c.word_beats)
            & (unit.burst.p.tag == TAGS.index("weights"))
        )
    )
    index = Signal(range(2 * UNDER_WAY), name="index")
    b.m.d.comb += index.eq(ahead - before)
    queued = follows & (ahead >= before) & (index < under_way.level)
    number = (consume + index)[: len(consume)]
    b.claim(~queued | (inside.word("under_way.storage", number) == item), ~queued | (firsts[number] == first))
    yet = follows & (ahead >= before + under_way.level)
    b.claim(~follows | (was_asked == (~yet & ~resident)))
    b.claim_stream(unit.burst)

    # Words on their way to the output.
    b.claim(inside["valids"] == Cat(followed.begun[1:-1]))
    for stage in range(stages + 1):
        mine = followed.mine[stage]
        at, again, then = ((b.was(value, stage) if stage else value) for value in (place, half, taken))
        followed.place(stage, at, again)
        b.claim(~mine | resident | (then == (first + at)[:width]))
        if 0 < stage < stages:
            read = inside["read"][stage - 1]
            beside = Cat(of.value, of.matrix, pointer.begins, resident, (at == 0) & ~again)
            b.claim(~mine | (Cat(read.value, read.matrix, read.begins, read.resident, read.first) == beside))
            b.claim(read.word == b.was(arrived.r_data, stage))
            if "half" in read.shape().members:
                b.claim(~mine | (read.half == again))
        if stage and c.resident_words:
            address = b.was(inside["resident"].address, stage - 1) if stage > 1 else inside["resident"].address
            b.claim(~mine | (address == (pointer.start + at)[: len(address)]))
    word = b.was(arrived.r_data, stages)
    if c.resident_words:
        memory = inside["resident"]
        words = stored(b, inside, "resident", memory, memory_layout(c, "resident"), c.resident_words)
        word = Mux(resident, words[b.was(memory.address, 1 + LATENCY)], word)
    entries = data.View(memory_layout(c, "weights"), word).entries
    b.cover(followed.mine[-1] & ~resident & (followed.done == 2), owed > ARRIVED)
    if c.resident_words:
        b.cover(followed.mine[-1] & resident & (waiting != 0))
    followed.output([entry.code for entry in entries], [entry.run for entry in entries], b.was(half, stages))


@proof(WeightStore, induction=1, cover=16)
def bursts(b):
    """Words that bursts bring, or block RAM holds, are sent in the columns' order, each once; none comes without room.

    Each column outside the resident words is asked for once, with its address and count.
    """
    in_bursts(b, BURSTS)


@proof(WeightStore, induction=1, cover=16)
def halves(b):
    """The same with words of two beats, of which those of a read-out are sent twice, without resident ones."""
    in_bursts(b, HALVES)
