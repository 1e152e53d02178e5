"""Scrubbing: what is compared with a block's CRC is that block, whole and in order, as it has been since the load."""

from amaranth.hdl import *

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.rtl.scrub import Scrub
from egret.rtl.sdram import TAGS
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=2, hidden=(1,), lanes=2, weight_bits=4, weight_words=9, store="sdram")
BEATS, BLOCK, BURST = CORE.sdram_words, 4, 2
"""Beats of the memory, which do not end with a burst, of a block and of a burst."""
BLOCKS = -(-BEATS // BLOCK)
assert BEATS % BURST and BLOCKS > 2


def started(b):
    """The unit, with any CRCs, and a memory that brings the beats of each burst in order, whenever it likes."""
    unit = Scrub(CORE, block_words=BLOCK, pace=2, burst_beats=BURST)
    inside = b.add(unit)
    b.cut(inside, "crc", inside["crc"].crc)
    b.cut(inside, "checks", inside["read"].data)
    sync, burst = b.m.d.sync, unit.burst
    owed, place = Signal(range(BURST + 1), name="owed"), Signal(range(BEATS + 1), name="place")
    mine = unit.beat.valid & (unit.beat.p.tag == TAGS.index("scrub"))
    b.assume(~mine | (owed != 0))
    asks = burst.valid & burst.ready
    sync += owed.eq(owed + Mux(asks, burst.p.count, 0) - mine)
    with b.m.If(asks):
        sync += place.eq(burst.p.address)
    with b.m.Elif(mine):
        sync += place.eq(place + 1)
    return unit, inside, mine, owed, place


@proof(Scrub, induction=3, cover=45)
def blocks(b):
    """Each block's beats are taken once, in order and all of them, before its CRC is looked at; none is left out.

    One beat is followed, any one. The CRC itself is Amaranth's, and is left out.
    """
    unit, inside, mine, owed, place = started(b)
    crc, block, address = inside["crc"], inside["block"], inside["address"]
    sync, burst = b.m.d.sync, unit.burst
    which, word = b.fixed(range(BEATS), "which"), b.fixed(16, "word")
    b.assume(which < BEATS, ~mine | (place != which) | (unit.beat.p.words == word))
    state = {name: inside.is_in("fsm", name) for name in ("WAIT", "ASK", "READ", "SETTLE", "COMPARE", "JUDGE")}
    b.claim(Cat(state.values()).any())

    fed, first = Signal(range(BLOCK + 1), name="fed"), Signal(range(BEATS + 1), name="first")
    size = Signal(range(BLOCK + 1), name="size")
    b.m.d.comb += [first.eq(block * BLOCK), size.eq(Mux(block == BLOCKS - 1, BEATS - (BLOCKS - 1) * BLOCK, BLOCK))]
    sync += fed.eq(Mux(crc.start, 0, fed + crc.valid))
    coming = fed + crc.valid  # once what is on its way has been taken
    b.claim(block < BLOCKS, coming <= size, ~crc.valid | (first + fed != which) | (crc.data == word))
    b.claim(~(crc.valid & crc.start))
    # Between two bursts, and at the end of a block, where the address is that of the next one.
    b.claim(~(state["WAIT"] | state["ASK"]) | ((address == first + coming) & (coming < size) & (owed == 0)))
    b.claim(~(state["WAIT"] | state["ASK"]) | (address % BURST == 0), ~state["ASK"] | ~crc.valid)
    b.claim(~burst.valid | ((burst.p.address == first + fed) & (burst.p.count <= size - fed) & (burst.p.count != 0)))
    b.claim(~state["READ"] | ((owed == inside["left"]) & (owed != 0) & (place == address)))
    b.claim(
        ~state["READ"] | ((address == first + coming) & (coming + owed <= size) & (address % BURST + owed <= BURST))
    )
    b.claim(~state["READ"] | (address % BURST + owed == BURST) | (address + owed == BEATS))
    ends = state["SETTLE"] | state["COMPARE"] | state["JUDGE"]
    b.claim(~ends | ((coming == size) & (owed == 0) & (address == Mux(block == BLOCKS - 1, 0, first + BLOCK))))
    b.claim(~(state["COMPARE"] | state["JUDGE"]) | ~crc.valid, ~state["COMPARE"] | (b.was(block) == block))
    b.claim(~state["JUDGE"] | (inside["differs"] == b.was(crc.crc != inside["read"].data)))
    b.claim(~unit.scrubbed | (state["JUDGE"] & (fed == size)), unit.damaged == (unit.scrubbed & inside["differs"]))
    b.claim_stream(unit.burst)
    b.cover(unit.scrubbed & (block == BLOCKS - 1), unit.damaged & (block == 1))


@proof(Scrub, induction=2, cover=20)
def loads(b):
    """What was loaded meanwhile is not judged; nothing is asked for before a sequence begins, or while not idle.

    The first block that was damaged is told until the next load.
    """
    unit, inside, *_ = started(b)
    sync = b.m.d.sync
    sections = memory_sections(CORE)
    numbers = [sections[name].number for name in (*CORE.sdram_sizes, "checks") if name in sections]
    loads = unit.load_valid & Cat(unit.load.section == number for number in numbers).any()
    with_crcs = unit.load_valid & (unit.load.section == sections["checks"].number)
    known, whole, changed = Signal(name="crcs_loaded"), Signal(name="is_whole"), Signal(name="has_changed")
    told, starts = Signal.like(unit.damaged_block, name="told"), inside["crc"].start
    sync += [known.eq(known | with_crcs), whole.eq(Mux(loads, 0, Mux(unit.clear, known, whole)))]
    restarts = inside.is_in("fsm", "WAIT") & starts
    # From a load on until the first block is begun again.
    sync += changed.eq(loads | (changed & ~restarts))
    with b.m.If(restarts):
        sync += told.eq(0)
    with b.m.Elif(unit.damaged & (told == 0)):
        sync += told.eq(inside["block"] + 1)
    b.claim(~((unit.scrubbed | unit.damaged) & changed), unit.damaged_block == told, ~restarts | changed)
    b.claim(inside["known"] == known, inside["holds"] == whole, inside["anew"] == changed)
    begins = unit.burst.valid & ~b.was(unit.burst.valid)
    b.claim(~begins | b.was(unit.idle & whole & ~changed))
    b.claim(~b.was(restarts) | ((inside["address"] == 0) & (inside["block"] == 0)))
    b.cover(unit.damaged & (told == 0), restarts & (told != 0), begins & b.was(unit.load_valid))
