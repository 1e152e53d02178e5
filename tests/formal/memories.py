"""Memories of blocks and of one port, the biases that are read from one, and times between commands of an SDRAM."""

from amaranth.hdl import *

from egret.model.compiler.configuration import Configuration
from egret.rtl.biases import Biases
from egret.rtl.blocks import BlockMemory, block_sizes
from egret.rtl.sdram import at_least
from egret.rtl.single_port import ROW_BITS, RowMemory
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=1, hidden=(3, 2), lanes=1)
DEPTH, WIDTH = 2100, 9
MOST = 6


@proof(BlockMemory, induction=3, cover=6, arrays=True)
def blocks(b):
    """A word comes as it was last written, two enabled cycles after its address, from any of several blocks."""
    unit = BlockMemory(WIDTH, DEPTH)
    inside = b.add(unit)
    address, word = b.fixed(range(DEPTH), "address"), Signal(WIDTH, name="word")
    b.assume((address < DEPTH) & (unit.write_address < DEPTH))
    writes = unit.write_valid & (unit.write_address == address)
    with b.m.If(writes):
        b.m.d.sync += word.eq(unit.write_data)
    asks = unit.address == address
    b.assume(~(asks & (writes | b.was(writes))))
    # What was asked for, and its word, as it goes through the stages.
    mine, read = Signal(2, name="mine"), [Signal(WIDTH, name=f"read_{stage}") for stage in range(2)]
    with b.m.If(unit.enable):
        b.m.d.sync += [mine.eq(Cat(asks, mine)), read[0].eq(word), read[1].eq(read[0])]
    base = 0
    for number, size in enumerate(block_sizes(WIDTH, DEPTH)):
        here = Signal(name=f"here_{number}")
        b.m.d.comb += here.eq((address >= base) & (address < base + size))
        stored = inside.word(f"block_{number}", address - base)
        b.claim(~here | (stored == b.was(word)))
        b.claim(~(here & mine[0]) | (inside.read(f"block_{number}") == read[0]))
        b.claim(~(here & mine[0]) | (inside["place"] == address))
        base += size
    b.claim(~mine[1] | (unit.data == read[1]))
    b.cover(mine[1] & (address >= 2048) & (unit.data == 5))


@proof(BlockMemory, induction=2, cover=6, arrays=True)
def single(b):
    """In single-port RAM a word comes as it was last written, two cycles after its address, unless one is written."""
    unit = BlockMemory(WIDTH, DEPTH, single_port=True)
    inside = b.add(unit)
    address, word = b.fixed(range(DEPTH), "address"), Signal(WIDTH, name="word")
    b.assume((address < DEPTH) & (unit.write_address < DEPTH))
    with b.m.If(unit.write_valid & (unit.write_address == address)):
        b.m.d.sync += word.eq(unit.write_data)
    asks = (unit.address == address) & ~unit.write_valid
    b.claim(inside.word("cells.rows", address) == word)
    b.claim(~b.was(asks) | (inside.read("cells.rows") == b.was(word)))
    b.claim(~b.was(asks, 2) | (unit.data == b.was(word, 2)))
    b.cover(b.was(asks, 2) & (address >= 2048) & (unit.data == 5))


@proof(RowMemory, induction=7, cover=14)
def rows(b):
    """One part has the memory at a time, and each word comes once, as its rows hold it; a word that waits stays."""
    shapes = [(4, 2 * ROW_BITS), (2, ROW_BITS)]
    unit = RowMemory(shapes)
    inside = b.add(unit)
    granted = [inside[f"granted_{part}"] for part in range(2)]
    b.claim(~(granted[0] & granted[1]))
    for part, (i, o, load) in enumerate(((unit.i_0, unit.o_0, unit.load_0), (unit.i_1, unit.o_1, unit.load_1))):
        busy = Cat(inside[f"{name}_{part}"] for name in ("reading", "writing", "arriving")).any() | o.valid
        # Words are written while nothing is read, each when the one before is.
        b.assume(~load.valid | (~busy & ~i.valid))
        b.assume(~i.valid | ~inside[f"writing_{part}"])
        index = b.fixed(range(shapes[part][0]), f"index_{part}")
        asked = Signal(i.payload.shape(), name=f"asked_{part}")
        with b.m.If(i.valid & i.ready):
            b.m.d.sync += asked.eq(i.payload)
        reading, writing, arriving = (inside[f"{name}_{part}"] for name in ("reading", "writing", "arriving"))
        b.claim(~(reading & writing) & ~(arriving & writing))
        # One that was asked for is on its way or waits, and no other one.
        asks, takes, sought = i.valid & i.ready, o.valid & o.ready, Signal(name=f"sought_{part}")
        b.m.d.sync += sought.eq(asks | (sought & ~takes))
        b.claim(sought == (reading | arriving | o.valid), ~asks | ~sought | takes)
        b.claim(~(o.valid & (reading | writing | arriving)))
        b.claim(~reading | (inside[f"index_{part}"] == asked))
        b.claim(reading | writing | (inside[f"row_{part}"] == 0))
        bits = shapes[part][1] // ROW_BITS
        stored = [inside.word("memory.rows", unit._bases[part] + index * bits + row) for row in range(bits)]
        b.claim(~(o.valid & (asked == index)) | (o.payload == Cat(stored)))
        b.claim(b.held(o))
        b.cover(o.valid & b.was(~o.valid) & (o.payload[-8:] == 5))


def biased(b):
    """Biases that are loaded and begun while nothing is on its way; and the number of the one that comes next."""
    unit = Biases(CORE)
    inside = b.add(unit)
    address, end, valids = inside["address"], inside["end"], inside["valids"]
    idle = (address == end) & (valids == 0)
    loads = unit.load_valid
    b.assume(~(loads | b.was(loads) | unit.start) | idle)
    b.assume(~unit.start | ~(loads | b.was(loads) | b.was(loads, 2)))
    b.assume(unit.layer < CORE.layers)
    next_ = Signal(range(CORE.neurons + 1), name="next")
    b.m.d.sync += next_.eq(next_ + (unit.o.valid & unit.o.ready))
    with b.m.If(unit.start):
        b.m.d.sync += next_.eq(Array(CORE.neuron_base)[unit.layer])
    b.claim(address == next_ + sum(valids))
    b.claim((address <= end) & (end <= CORE.neurons))
    return unit, inside, next_


@proof(Biases, induction=3, cover=12)
def biases(b):
    """The biases of a layer come in the order of its neurons, each once, and wait unchanged."""
    unit, inside, next_ = biased(b)
    neuron = b.fixed(range(CORE.neurons), "neuron")
    b.assume(neuron < CORE.neurons)
    stored, payload = inside.word("bias.block_0", neuron), Value.cast(unit.o.payload)
    valids = inside["valids"]
    b.claim(~(unit.o.valid & (next_ == neuron)) | (payload == stored))
    b.claim(~(valids[0] & (next_ + valids[1] == neuron)) | (inside.read("bias.block_0") == stored))
    b.claim_stream(unit.o)
    b.cover(unit.o.valid & (next_ == 2) & (payload == 5))


@proof(at_least, induction=8, cover=10)
def times(b):
    """So many cycles, 1 to 6, have gone by since an event when `at_least` says so, and in no cycle before."""
    event = b.free(1, "event")
    age = Signal(range(MOST + 1), name="age", init=MOST)
    b.m.d.sync += age.eq(Mux(event, 1, Mux(age == MOST, MOST, age + 1)))
    for cycles in range(1, MOST + 1):
        count = at_least(b.m, f"count_{cycles}", cycles, event)
        b.claim(count == (age >= cycles))
        if cycles > 1:
            b.cover(count & b.was(~count))
