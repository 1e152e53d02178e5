"""Weight store in block RAM: columns of packed words, found through a pointer a column."""

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import RUN_BITS
from egret.model.image import memory_sections
from egret.rtl.payloads import column_layout, load_layout, pointer_layout, word_layout

__all__ = ["WeightStore", "words_of"]

AHEAD = 4
"""Pointers fetched ahead of the words."""


class WeightStore(wiring.Component):
    """Streams the words of each column that is asked for.

    One column is looked up each cycle, so words follow each other without gaps, also from one column to the next, while
    no more columns than words are asked for; the first word comes five cycles after the first column.

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
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "i": In(stream.Signature(column_layout(c))),
            "o": Out(stream.Signature(word_layout(c), always_ready=True)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        # POINTER (memory), queue, WORD (address), memory, output register. A column can be taken while the queue has
        # room for it and for the one whose pointer is being read.
        c = self._c
        m = Module()
        sections = {section.name: section for section in memory_sections(c)}
        pointers = pointer_layout(c)
        m.submodules.columns = columns = memory.Memory(shape=pointers, depth=max(c.columns, 2), init=[])
        narrow = data.ArrayLayout(data.StructLayout({"code": c.weight_bits, "run": RUN_BITS}), c.lanes)
        m.submodules.weights = weights = memory.Memory(shape=narrow, depth=max(c.weight_words, 2), init=[])
        # Further bits of the runs, one a lane, which only the words up to some address have.
        wide = [memory.Memory(shape=c.lanes, depth=max(words, 2), init=[]) for words in c.wide_words]
        memories = [(columns, "columns"), (weights, "weights")]
        for bit, mem in enumerate(wide, RUN_BITS):
            m.submodules[f"run_{bit}"] = mem
            memories.append((mem, f"run_{bit}"))
        for mem, name in memories:
            write = mem.write_port()
            m.d.comb += [
                write.addr.eq(self.load.index),
                Value.cast(write.data).eq(self.load.data),
                write.en.eq(self.load_valid & (self.load.section == sections[name].number)),
            ]
        pointer_read, word_read = columns.read_port(), weights.read_port()
        wide_reads = [mem.read_port() for mem in wide]

        queued = data.StructLayout({"pointer": pointers, "value": self.i.p.value.shape(),
                                    "matrix": self.i.p.matrix.shape()})
        m.submodules.queue = queue = fifo.SyncFIFO(width=queued.size, depth=AHEAD)
        entry = Signal(queued)
        head = Signal(queued)
        fetched = Signal()
        m.d.comb += [
            self.i.ready.eq(queue.level + fetched < AHEAD),
            pointer_read.addr.eq(self.i.p.column),
            pointer_read.en.eq(self.i.ready),
            entry.pointer.eq(pointer_read.data),
            queue.w_data.eq(entry),
            queue.w_en.eq(fetched & (entry.pointer.count != 0)),
            head.eq(queue.r_data),
        ]
        m.d.sync += fetched.eq(self.i.valid & self.i.ready)
        with m.If(self.i.ready):
            m.d.sync += [entry.value.eq(self.i.p.value), entry.matrix.eq(self.i.p.matrix)]

        # What belongs to a word travels beside it, from its address to the output.
        beside = data.StructLayout({name: self.o.p[name].shape() for name in ("value", "matrix", "first", "begins")})
        address = Signal(c.start_bits)
        left = Signal(c.count_bits)
        addressed = Signal(beside)
        with m.If(left != 0):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), addressed.first.eq(0)]
        with m.If((left <= 1) & queue.r_rdy):
            m.d.comb += queue.r_en.eq(1)
            m.d.sync += [address.eq(head.pointer.start), left.eq(head.pointer.count), addressed.first.eq(1),
                         addressed.begins.eq(head.pointer.begins), addressed.value.eq(head.value),
                         addressed.matrix.eq(head.matrix)]

        reading = Signal()
        read = Signal(beside)
        m.d.comb += [word_read.addr.eq(address), word_read.en.eq(left != 0)]
        m.d.sync += [
            reading.eq(left != 0), read.eq(addressed), self.o.valid.eq(reading),
            *(self.o.p[name].eq(read[name]) for name in beside.members),
        ]
        runs = [[word_read.data[lane].run] for lane in range(c.lanes)]
        for words, port in zip(c.wide_words, wide_reads, strict=True):
            has = Signal()
            m.d.comb += [port.addr.eq(address), port.en.eq(left != 0)]
            m.d.sync += has.eq(address < words)
            for lane in range(c.lanes):
                runs[lane].append(port.data[lane] & has)
        for entry, narrow, run in zip(self.o.p.entries, word_read.data, runs, strict=True):
            m.d.sync += [entry.code.eq(narrow.code), entry.run.eq(Cat(run))]
        m.d.comb += self.busy.eq(fetched | queue.r_rdy | (left != 0) | reading | self.o.valid)
        return m


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
