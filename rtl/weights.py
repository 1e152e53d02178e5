"""Weight store: columns of packed words, found through a pointer a column, in block RAM, single-port RAM or SDRAM."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import RUN_BITS, Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.readout import HOME
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.layouts import column_layout, group_bits, load_layout, memory_layout, word_layout
from egret.rtl.mac import Word
from egret.rtl.sdram import TAGS, beat_layout, burst_layout
from egret.rtl.single_port import RowMemory

__all__ = ["WeightStore", "words_of"]

AHEAD = 16
"""Pointers fetched ahead of the words."""
UNDER_WAY = 16
"""Columns whose words an SDRAM has been asked for, and resident ones between them."""
ARRIVED = 512
"""Words of an SDRAM that can wait for resident ones."""

_BESIDE = ("value", "matrix", "first", "begins")  # what belongs to a word


class WeightStore(wiring.Component):
    """Streams the words of each column that is asked for.

    One column is looked up each cycle, so words follow each other without gaps, also from one column to the next, while
    no more columns than words are asked for; the first word comes eight cycles after the first column.
    With the store ``spram`` a column is looked up in as many cycles as its pointer has rows of 16 bits, and two; and a
    pointer takes as many cycles to load. With ``sdram`` the words come in bursts, a column each, asked for ahead, save
    those of resident columns, which are in block RAM: these are sent while bursts go on.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memories ``columns``, ``weights``, ``run_4`` and so on, while ``load_valid`` is high; with
        the store ``sdram`` of ``resident`` in their place, with ``spram`` of ``bias``, too.
    i : In(stream.Signature(column_layout(c)))
        Columns.
    o : Out(stream.Signature(word_layout(c), always_ready=True))
        The words of one column after another.
    busy : Out(1)
        Something is between ``i`` and ``o``.
    group : In(group_bits(c))
        With a read-out: whose columns those of its matrices are, 0 for the head, or a group's number from 1. It must
        hold still from three cycles before the first of them until not ``busy``.
    bias_ask : In(stream.Signature(unsigned)), bias_found : Out(stream.Signature(memory_layout(c, "bias").size))
        With the store ``spram``: numbers of neurons, and their biases, which share the pointers' memory.
    burst : Out(stream.Signature(burst_layout()))
        With the store ``sdram``: asks the SDRAM for beats.
    beat : In(stream.Signature(beat_layout(c.memory_ratio), always_ready=True))
        With the store ``sdram``: the beats that come, of all bursts; only those with a tag of its own are taken.
    waits : Out(1)
        With the store ``sdram``: it has been asked for words that are to be sent next.
    """

    load: Any
    load_valid: Signal
    i: stream.Interface
    o: stream.Interface
    busy: Signal
    group: Signal
    bias_ask: stream.Interface
    bias_found: stream.Interface
    burst: stream.Interface
    beat: stream.Interface
    waits: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        members = {
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "i": In(stream.Signature(column_layout(c))),
            "o": Out(stream.Signature(word_layout(c), always_ready=True)),
            "busy": Out(1),
        }
        if c.readout:
            members["group"] = In(group_bits(c))
        if c.store == "spram":
            members |= {
                "bias_ask": In(stream.Signature((max(c.neurons, 2) - 1).bit_length())),
                "bias_found": Out(stream.Signature(memory_layout(c, "bias").size)),
            }
        if c.store == "sdram":
            members |= {
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(beat_layout(c.memory_ratio), always_ready=True)),
                "waits": Out(1),
            }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        # COLUMN, POINTER (memory), queue, WORD (memory), output register.
        c = self._c
        m = Module()
        head, head_valid, take, looking = (self._rows_of_pointers if c.store == "spram" else self._block_of_pointers)(m)
        if c.store == "sdram":
            self._bursts(m, head, head_valid, take, looking)
            return m
        narrow = memory_layout(c, "weights")
        m.submodules.weights = weights = BlockMemory(narrow, c.weight_words, single_port=c.store == "spram")
        self._load(m, weights, "weights")
        # Further bits of the runs, one a lane, which only the words up to some address have.
        wide = [BlockMemory(memory_layout(c, f"run_{bit}"), words) for bit, words in enumerate(c.wide_words, RUN_BITS)]
        for bit, mem in enumerate(wide, RUN_BITS):
            m.submodules[f"run_{bit}"] = mem
            self._load(m, mem, f"run_{bit}")

        # What belongs to a word travels beside it, from its address to the output.
        beside = data.StructLayout(self._beside())
        address = Signal(c.start_bits)
        left = Signal(c.count_bits)
        addressed = Signal(beside)
        again = self._again(addressed) & (left != 0)
        with m.If(left != 0):
            m.d.sync += addressed.first.eq(0)
            with m.If(~again):
                m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            if self._halves:
                m.d.sync += addressed.half.eq(again)
        with m.If((left <= 1) & head_valid & ~again):
            m.d.comb += take.eq(1)
            m.d.sync += [
                address.eq(head.pointer.start),
                left.eq(head.pointer.count),
                addressed.first.eq(1),
                addressed.begins.eq(head.pointer.begins),
                addressed.value.eq(head.value),
                addressed.matrix.eq(head.matrix),
                *([addressed.half.eq(0)] if self._halves else []),
            ]

        reading = Signal(LATENCY)
        read = [Signal(beside, name=f"read_{stage}", reset_less=True) for stage in range(LATENCY)]
        m.d.comb += weights.address.eq(address)
        m.d.sync += [
            Cat(reading, self.o.valid).eq(Cat(left != 0, reading)),
            read[0].eq(addressed),
            *(later.eq(earlier) for earlier, later in pairwise(read)),
            *(self.o.p[name].eq(read[-1][name]) for name in _BESIDE),
        ]
        runs = [[weights.data.entries[lane].run] for lane in range(c.lanes)]
        for words, mem in zip(c.wide_words, wide, strict=True):
            has = Signal(LATENCY)
            m.d.comb += mem.address.eq(address)
            m.d.sync += has.eq(Cat(address < words, has))
            for lane in range(c.lanes):
                runs[lane].append(mem.data.bits[lane] & has[-1])
        self._send(m, read[-1], [(entry.code, Cat(run)) for entry, run in zip(weights.data.entries, runs, strict=True)])
        m.d.comb += self.busy.eq(looking | head_valid | (left != 0) | reading.any() | self.o.valid)
        return m

    def _bursts(self, m: Module, head: Any, head_valid: Value, take: Signal, looking: Value) -> None:
        """Send the words of each column, resident ones from block RAM, the others as a burst brings them."""
        # ASKED (a burst, unless resident), under way, PLACE (which word), WORD (memory), output register. Words of a
        # burst wait in a queue while those of a resident column before it are sent.
        c = self._c
        # `last`, the place of its last word, and `resident` follow from the pointer; known early for the clock's sake.
        column = data.StructLayout({"of": head.shape(), "resident": 1, "last": c.count_bits})
        asked, asked_valid = Signal(column, reset_less=True), Signal()
        m.submodules.under_way = under_way = fifo.SyncFIFO(width=column.size, depth=UNDER_WAY)
        m.submodules.arrived = arrived = fifo.SyncFIFOBuffered(width=c.lanes * c.narrow_bits, depth=ARRIVED)
        pointer, base = asked.of.pointer, c.sdram_base["weights"] // c.memory_ratio
        # Words that are still to leave the queue. A column that finds nothing before it can have more than fit: it is
        # sent faster than it comes.
        owed = Signal(range(ARRIVED + (1 << c.count_bits)))
        room, moves, waiting = Signal(), Signal(), Signal()
        # Of the cycle before, for the clock's sake: only a burst that is taken leaves less room than there was.
        m.d.sync += room.eq(asked_valid & ~moves & ((owed + pointer.count <= ARRIVED) | ~under_way.r_rdy))
        m.d.comb += [
            waiting.eq(asked_valid & under_way.w_rdy),
            self.burst.valid.eq(waiting & ~asked.resident & room),
            self.burst.p.address.eq(base + (pointer.start - c.resident_words) * c.word_beats),
            self.burst.p.count.eq(pointer.count * c.word_beats),
            self.burst.p.tag.eq(TAGS.index("weights")),
            moves.eq(Mux(asked.resident, waiting, self.burst.valid & self.burst.ready)),
            take.eq(head_valid & ~asked_valid),
            under_way.w_data.eq(asked),
            under_way.w_en.eq(moves),
        ]
        m.d.sync += asked_valid.eq(head_valid & ~asked_valid | asked_valid & ~moves)
        with m.If(~asked_valid):
            m.d.sync += [
                asked.of.eq(head),
                asked.resident.eq(head.pointer.start < c.resident_words if c.resident_words else 0),
                asked.last.eq(head.pointer.count - 1),
            ]

        mine, whole = Signal(), Signal()
        beats = [self.beat.p.words]
        m.d.comb += mine.eq(self.beat.valid & (self.beat.p.tag == TAGS.index("weights")))
        if c.word_beats > 1:
            part = Signal(range(c.word_beats))
            earlier = [Signal.like(beats[0], name=f"beat_{place}", reset_less=True) for place in range(1, c.word_beats)]
            with m.If(mine):
                m.d.sync += [part.eq(Mux(whole, 0, part + 1)), Cat(earlier).eq(Cat(earlier[1:], beats))]
            m.d.comb += whole.eq(mine & (part == c.word_beats - 1))
            beats = [*earlier, *beats]
        else:
            m.d.comb += whole.eq(mine)
        m.d.comb += [arrived.w_en.eq(whole), arrived.w_data.eq(Cat(beats))]

        next_ = data.View(column, under_way.r_data)
        place, last, goes, leaves = Signal(c.count_bits), Signal(), Signal(), Signal()
        half = Signal()
        again = self._again(next_.of, half)
        m.d.comb += [
            goes.eq(under_way.r_rdy & (next_.resident | arrived.r_rdy)),
            leaves.eq(goes & ~next_.resident & ~again),
            last.eq((place == next_.last) & ~again),
            under_way.r_en.eq(goes & last),
            arrived.r_en.eq(leaves),
        ]
        m.d.sync += owed.eq(owed + Mux(self.burst.valid & self.burst.ready, pointer.count, 0) - leaves)
        with m.If(goes):
            m.d.sync += [place.eq(Mux(last, 0, place + ~again)), half.eq(again)]

        # What belongs to a word travels beside it, and the word of a burst, too.
        beside = self._beside()
        travels = data.StructLayout({**beside, "resident": 1, "word": c.lanes * c.narrow_bits})
        stages = LATENCY if c.resident_words else 0
        valids = Signal(1 + stages)
        read = [Signal(travels, name=f"read_{stage}", reset_less=True) for stage in range(1 + stages)]
        m.d.sync += [
            Cat(valids, self.o.valid).eq(Cat(goes, valids)),
            read[0].value.eq(next_.of.value),
            read[0].matrix.eq(next_.of.matrix),
            read[0].first.eq((place == 0) & ~half),
            *([read[0].half.eq(half)] if self._halves else []),
            read[0].begins.eq(next_.of.pointer.begins),
            read[0].resident.eq(next_.resident),
            read[0].word.eq(arrived.r_data),
            *(later.eq(earlier) for earlier, later in pairwise(read)),
            *(self.o.p[name].eq(read[-1][name]) for name in _BESIDE),
        ]
        word = read[-1].word
        if c.resident_words:
            m.submodules.resident = resident = BlockMemory(c.lanes * c.narrow_bits, c.resident_words)
            self._load(m, resident, "resident")
            m.d.sync += resident.address.eq(next_.of.pointer.start + place)
            word = Mux(read[-1].resident, resident.data, word)
        entries = data.View(data.ArrayLayout(self.o.p.entries[0].shape(), c.lanes), word)
        self._send(m, read[-1], [(entry.code, entry.run) for entry in entries])
        m.d.comb += [
            self.waits.eq(under_way.r_rdy & ~next_.resident),
            self.busy.eq(looking | head_valid | asked_valid | under_way.r_rdy | valids.any() | self.o.valid),
        ]

    @property
    def _halves(self) -> bool:
        """Whether words of a read-out are sent twice."""
        return self._c.has_pairs and not self._c.paired

    def _beside(self) -> dict[str, Any]:
        """What belongs to a word: fields of the output, and which half of a read-out's word it is."""
        return {name: self.o.p[name].shape() for name in _BESIDE} | ({"half": 1} if self._halves else {})

    def _of_readout(self, of: Any) -> Value:
        return of.matrix >= self._c.readout_matrix("head") if self._c.readout else C(0)

    def _again(self, of: Any, half: Value | None = None) -> Value:
        """Whether a word of a column is to be sent once more."""
        if not self._halves:
            return C(0)
        return self._of_readout(of) & ~(of.half if half is None else half)

    def _send(self, m: Module, of: Any, entries: list[tuple[Value, Value]]) -> None:
        """Put codes and runs at the output; of a word of a read-out, which has no runs, a half, or both codes."""
        for sent, (code, run) in zip(self.o.p.entries, entries, strict=True):
            if self._halves:
                m.d.sync += sent.code.eq(Mux(of.half, run, code))
            else:
                m.d.sync += sent.code.eq(code)
            m.d.sync += sent.run.eq(run if self._c.paired else Mux(self._of_readout(of), 0, run))

    def _loads(self, name: str) -> Value:
        """Whether the word on the load bus is for a memory."""
        return self.load_valid & (self.load.section == memory_sections(self._c)[name].number)

    def _load(self, m: Module, mem: BlockMemory, name: str) -> None:
        """Connect a memory to the load bus."""
        m.d.comb += [
            mem.write_address.eq(self.load.index),
            Value.cast(mem.write_data).eq(self.load.data),
            mem.write_valid.eq(self._loads(name)),
        ]

    def _column(self) -> data.StructLayout:
        """What is known of a column once its pointer has been looked up."""
        return data.StructLayout(
            {
                "pointer": memory_layout(self._c, "columns"),
                "value": self.i.p.value.shape(),
                "matrix": self.i.p.matrix.shape(),
            }
        )

    def _block_of_pointers(self, m: Module) -> tuple[Any, Value, Signal, Value]:
        """Pointers in block RAM, a column a cycle: the next column, whether there is one, its taking, more to come."""
        # A column can be taken while the queue has room for it and for those whose pointers are being read.
        c = self._c
        m.submodules.columns = columns = BlockMemory(memory_layout(c, "columns"), c.columns)
        self._load(m, columns, "columns")
        m.submodules.queue = queue = fifo.SyncFIFO(width=self._column().size, depth=AHEAD)
        entry, head = Signal(self._column(), reset_less=True), Signal(self._column())
        fetched = Signal(2 + LATENCY)
        wanted = [
            Signal(len(self.i.p.value) + len(self.i.p.matrix), name=f"wanted_{stage}", reset_less=True)
            for stage in range(1 + LATENCY)
        ]
        column = Signal.like(self.i.p.column, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(queue.level < AHEAD - len(fetched)),
            columns.address.eq(column),
            queue.w_data.eq(entry),
            queue.w_en.eq(fetched[-1] & (entry.pointer.count != 0)),
            head.eq(queue.r_data),
        ]
        pointer = columns.data
        if c.readout:
            # Of a read-out all columns of a matrix are equally long, and need no pointer.
            group, start = self._group(m), Signal(c.start_bits, reset_less=True)
            offset = Signal(c.start_bits, reset_less=True)
            of_readout = Signal(LATENCY)
            m.d.sync += [
                offset.eq(column * group.count),
                start.eq(group.start + offset),
                of_readout.eq(Cat(wanted[0][-len(self.i.p.matrix) :] >= c.readout_matrix("head"), of_readout)),
            ]
            pointer = Signal(columns.data.shape())
            m.d.comb += pointer.eq(columns.data)
            with m.If(of_readout[-1]):
                m.d.comb += [pointer.start.eq(start), pointer.count.eq(group.count)]
                m.d.comb += [begin.eq(Cat(C(HOME, 3), C(0, c.block_bits))) for begin in pointer.begins]
        m.d.sync += [
            column.eq(self.i.p.column),
            fetched.eq(Cat(self.i.valid & self.i.ready, fetched)),
            Cat(wanted, entry.value, entry.matrix).eq(Cat(self.i.p.value, self.i.p.matrix, wanted)),
            entry.pointer.eq(pointer),
        ]
        return head, queue.r_rdy, queue.r_en, fetched.any()

    def _group(self, m: Module) -> Any:
        """Where the columns of the read-out's head, or of a group, begin, and how long each is."""
        c = self._c
        layout = memory_layout(c, "groups")
        m.submodules.groups = groups = memory.Memory(
            shape=layout, depth=max(memory_sections(c)["groups"].words, 2), init=[]
        )
        write, read = groups.write_port(), groups.read_port()
        group = Signal(layout, reset_less=True)
        m.d.comb += [
            write.addr.eq(self.load.index),
            Value.cast(write.data).eq(self.load.data),
            write.en.eq(self._loads("groups")),
            read.addr.eq(self.group),
        ]
        m.d.sync += group.eq(read.data)
        return group

    def _rows_of_pointers(self, m: Module) -> tuple[Any, Value, Signal, Value]:
        """The same with pointers in rows of 16 bits, of which one is looked up while the words of another are read."""
        c = self._c
        m.submodules.columns = columns = RowMemory(
            [(max(c.columns, 2), memory_layout(c, "columns").size), (max(c.neurons, 2), memory_layout(c, "bias").size)]
        )
        head = Signal(self._column())
        take, empty, looking = Signal(), Signal(), Signal()
        m.d.comb += [
            columns.load_0.valid.eq(self._loads("columns")),
            columns.load_0.index.eq(self.load.index),
            columns.load_0.data.eq(self.load.data),
            columns.i_0.valid.eq(self.i.valid),
            columns.i_0.payload.eq(self.i.p.column),
            self.i.ready.eq(columns.i_0.ready),
            Value.cast(head.pointer).eq(columns.o_0.payload),
            empty.eq(head.pointer.count == 0),
            columns.o_0.ready.eq(take | empty),
        ]
        wiring.connect(m, wiring.flipped(self.bias_ask), columns.i_1)
        wiring.connect(m, columns.o_1, wiring.flipped(self.bias_found))
        m.d.comb += [
            columns.load_1.valid.eq(self._loads("bias")),
            columns.load_1.index.eq(self.load.index),
            columns.load_1.data.eq(self.load.data),
        ]
        with m.If(columns.o_0.valid):
            m.d.sync += looking.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [head.value.eq(self.i.p.value), head.matrix.eq(self.i.p.matrix), looking.eq(1)]
        return head, columns.o_0.valid & ~empty, take, looking


def words_of(
    columns: Iterable[tuple[int, int, int]], pointers: Sequence[tuple[int, int, Any]], words: Sequence[Any]
) -> list[Word]:
    """Return what `WeightStore` sends for columns.

    Parameters
    ----------
    columns : Iterable[tuple[int, int, int]]
        Column, value and matrix of each.
    pointers : Sequence[tuple[int, int, Any]]
        Start, count and begins of each column.
    words : Sequence[Any]
        Entries of each word.

    Returns
    -------
    list[Word]
        Words, as `egret.rtl.mac.additions` takes them.
    """
    return [
        (words[pointers[column][0] + place], value, matrix, int(place == 0), pointers[column][2])
        for column, value, matrix in columns
        for place in range(pointers[column][1])
    ]
