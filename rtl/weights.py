"""Weight store: columns of packed words, found through a pointer a column, in block RAM, single-port RAM or SDRAM."""

from itertools import pairwise

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import RUN_BITS
from egret.model.image import memory_sections
from egret.rtl.biases import biases_layout
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.payloads import column_layout, load_layout, pointer_layout, word_layout
from egret.rtl.sdram import TAGS, beat_layout, burst_layout
from egret.rtl.single_port import RowMemory

__all__ = ["WeightStore", "words_of"]

AHEAD = 16
"""Pointers fetched ahead of the words."""
UNDER_WAY = 4
"""Columns whose words an SDRAM has been asked for."""


class WeightStore(wiring.Component):
    """Streams the words of each column that is asked for.

    One column is looked up each cycle, so words follow each other without gaps, also from one column to the next, while
    no more columns than words are asked for; the first word comes eight cycles after the first column.
    With the store ``spram`` a column is looked up in as many cycles as its pointer has rows of 16 bits, and two; and a
    pointer takes as many cycles to load. With ``sdram`` the words come in bursts, a column each, asked for ahead.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memories ``weights``, ``run_4`` and so on, and ``columns``.
    i : In(stream of columns)
    o : Out(stream of words, always ready)
    busy : Out(1)
        Something is between ``i`` and ``o``.
    burst, beat : Out(stream of bursts), In(stream of beats, always ready)
        To and from an SDRAM, where that is the store; and ``waits`` : Out(1), it has been asked for words.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        members = {
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "i": In(stream.Signature(column_layout(c))),
            "o": Out(stream.Signature(word_layout(c), always_ready=True)),
            "busy": Out(1),
        }
        if c.store == "spram":
            members |= {"bias_ask": In(stream.Signature((max(c.neurons, 2) - 1).bit_length())),
                        "bias_found": Out(stream.Signature(biases_layout(c).size))}
        if c.store == "sdram":
            members |= {"burst": Out(stream.Signature(burst_layout())),
                        "beat": In(stream.Signature(beat_layout(), always_ready=True)), "waits": Out(1)}
        super().__init__(members)

    def elaborate(self, platform):
        # COLUMN, POINTER (memory), queue, WORD (memory), output register.
        c = self._c
        m = Module()
        head, head_valid, take, looking = (self._rows_of_pointers if c.store == "spram" else self._block_of_pointers)(m)
        if c.store == "sdram":
            self._bursts(m, head, head_valid, take, looking)
            return m
        narrow = data.ArrayLayout(data.StructLayout({"code": c.weight_bits, "run": RUN_BITS}), c.lanes)
        m.submodules.weights = weights = BlockMemory(narrow, c.weight_words, single_port=c.store == "spram")
        self._load(m, weights, "weights")
        # Further bits of the runs, one a lane, which only the words up to some address have.
        wide = [BlockMemory(c.lanes, words) for words in c.wide_words]
        for bit, mem in enumerate(wide, RUN_BITS):
            m.submodules[f"run_{bit}"] = mem
            self._load(m, mem, f"run_{bit}")

        # What belongs to a word travels beside it, from its address to the output.
        beside = data.StructLayout({name: self.o.p[name].shape() for name in ("value", "matrix", "first", "begins")})
        address = Signal(c.start_bits)
        left = Signal(c.count_bits)
        addressed = Signal(beside)
        with m.If(left != 0):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), addressed.first.eq(0)]
        with m.If((left <= 1) & head_valid):
            m.d.comb += take.eq(1)
            m.d.sync += [address.eq(head.pointer.start), left.eq(head.pointer.count), addressed.first.eq(1),
                         addressed.begins.eq(head.pointer.begins), addressed.value.eq(head.value),
                         addressed.matrix.eq(head.matrix)]

        reading = Signal(LATENCY)
        read = [Signal(beside, name=f"read_{stage}", reset_less=True) for stage in range(LATENCY)]
        m.d.comb += weights.address.eq(address)
        m.d.sync += [
            Cat(reading, self.o.valid).eq(Cat(left != 0, reading)),
            read[0].eq(addressed), *(later.eq(earlier) for earlier, later in pairwise(read)),
            *(self.o.p[name].eq(read[-1][name]) for name in beside.members),
        ]
        runs = [[weights.data[lane].run] for lane in range(c.lanes)]
        for words, mem in zip(c.wide_words, wide, strict=True):
            has = Signal(LATENCY)
            m.d.comb += mem.address.eq(address)
            m.d.sync += has.eq(Cat(address < words, has))
            for lane in range(c.lanes):
                runs[lane].append(mem.data[lane] & has[-1])
        for entry, narrow, run in zip(self.o.p.entries, weights.data, runs, strict=True):
            m.d.sync += [entry.code.eq(narrow.code), entry.run.eq(Cat(run))]
        m.d.comb += self.busy.eq(looking | head_valid | (left != 0) | reading.any() | self.o.valid)
        return m

    def _bursts(self, m, head, head_valid, take, looking):
        """Ask for a burst a column, and send its words as they come."""
        c = self._c
        m.submodules.under_way = under_way = fifo.SyncFIFO(width=head.shape().size, depth=UNDER_WAY)
        column = data.View(head.shape(), under_way.r_data)
        m.d.comb += [
            self.burst.valid.eq(head_valid & under_way.w_rdy),
            self.burst.p.address.eq(c.sdram_base["weights"] + head.pointer.start * c.word_beats),
            self.burst.p.count.eq(head.pointer.count * c.word_beats),
            self.burst.p.tag.eq(TAGS.index("weights")),
            take.eq(self.burst.valid & self.burst.ready),
            under_way.w_data.eq(head),
            under_way.w_en.eq(take),
        ]
        mine, whole, last = Signal(), Signal(), Signal()
        beats = [self.beat.p.word]
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
        place = Signal(c.count_bits)
        m.d.comb += [last.eq(place == column.pointer.count - 1), under_way.r_en.eq(whole & last)]
        m.d.sync += [
            self.o.valid.eq(whole),
            Value.cast(self.o.p.entries).eq(Cat(beats)),
            self.o.p.value.eq(column.value),
            self.o.p.matrix.eq(column.matrix),
            self.o.p.begins.eq(column.pointer.begins),
            self.o.p.first.eq(place == 0),
        ]
        with m.If(whole):
            m.d.sync += place.eq(Mux(last, 0, place + 1))
        m.d.comb += [self.waits.eq(under_way.r_rdy), self.busy.eq(looking | head_valid | self.waits | self.o.valid)]

    def _loads(self, name):
        """Whether the word on the load bus is for a memory."""
        section = {section.name: section for section in memory_sections(self._c)}[name]
        return self.load_valid & (self.load.section == section.number)

    def _load(self, m, mem, name):
        m.d.comb += [mem.write_address.eq(self.load.index), Value.cast(mem.write_data).eq(self.load.data),
                     mem.write_valid.eq(self._loads(name))]

    def _column(self):
        """What is known of a column once its pointer has been looked up."""
        return data.StructLayout({"pointer": pointer_layout(self._c), "value": self.i.p.value.shape(),
                                  "matrix": self.i.p.matrix.shape()})

    def _block_of_pointers(self, m):
        """Pointers in block RAM, a column a cycle: the next column, whether there is one, its taking, more to come."""
        # A column can be taken while the queue has room for it and for those whose pointers are being read.
        c = self._c
        m.submodules.columns = columns = BlockMemory(pointer_layout(c), c.columns)
        self._load(m, columns, "columns")
        m.submodules.queue = queue = fifo.SyncFIFO(width=self._column().size, depth=AHEAD)
        entry, head = Signal(self._column(), reset_less=True), Signal(self._column())
        fetched = Signal(2 + LATENCY)
        wanted = [Signal(len(self.i.p.value) + len(self.i.p.matrix), name=f"wanted_{stage}", reset_less=True)
                  for stage in range(1 + LATENCY)]
        column = Signal.like(self.i.p.column, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(queue.level < AHEAD - len(fetched)),
            columns.address.eq(column),
            queue.w_data.eq(entry),
            queue.w_en.eq(fetched[-1] & (entry.pointer.count != 0)),
            head.eq(queue.r_data),
        ]
        m.d.sync += [
            column.eq(self.i.p.column),
            fetched.eq(Cat(self.i.valid & self.i.ready, fetched)),
            Cat(wanted, entry.value, entry.matrix).eq(Cat(self.i.p.value, self.i.p.matrix, wanted)),
            entry.pointer.eq(columns.data),
        ]
        return head, queue.r_rdy, queue.r_en, fetched.any()

    def _rows_of_pointers(self, m):
        """The same with pointers in rows of 16 bits, of which one is looked up while the words of another are read."""
        c = self._c
        m.submodules.columns = columns = RowMemory([
            (max(c.columns, 2), pointer_layout(c).size), (max(c.neurons, 2), biases_layout(c).size)])
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
        m.d.comb += [columns.load_1.valid.eq(self._loads("bias")), columns.load_1.index.eq(self.load.index),
                     columns.load_1.data.eq(self.load.data)]
        with m.If(columns.o_0.valid):
            m.d.sync += looking.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [head.value.eq(self.i.p.value), head.matrix.eq(self.i.p.matrix), looking.eq(1)]
        return head, columns.o_0.valid & ~empty, take, looking


def words_of(columns, pointers, words):
    """What `WeightStore` sends for columns.

    Parameters
    ----------
    columns : list of (column, value, matrix)
    pointers : list of (start, count, begins)
    words : list
        Entries of each word.

    Returns
    -------
    list of (entries, value, matrix, first, begins)
    """
    return [(words[pointers[column][0] + place], value, matrix, int(place == 0), pointers[column][2])
            for column, value, matrix in columns for place in range(pointers[column][1])]
