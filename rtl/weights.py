"""Weight store in block RAM: columns of packed words, found through a pointer a column."""

from itertools import pairwise

from amaranth.hdl import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import RUN_BITS
from egret.model.image import memory_sections
from egret.rtl.blocks import LATENCY, BlockMemory
from egret.rtl.payloads import column_layout, load_layout, pointer_layout, word_layout

__all__ = ["WeightStore", "words_of"]

AHEAD = 8
"""Pointers fetched ahead of the words."""


class WeightStore(wiring.Component):
    """Streams the words of each column that is asked for.

    One column is looked up each cycle, so words follow each other without gaps, also from one column to the next, while
    no more columns than words are asked for; the first word comes eight cycles after the first column.

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
        # COLUMN, POINTER (memory), queue, WORD (memory), output register. A column can be taken while the queue has
        # room for it and for those whose pointers are being read.
        c = self._c
        m = Module()
        pointers = pointer_layout(c)
        m.submodules.columns = columns = BlockMemory(pointers, c.columns)
        narrow = data.ArrayLayout(data.StructLayout({"code": c.weight_bits, "run": RUN_BITS}), c.lanes)
        m.submodules.weights = weights = BlockMemory(narrow, c.weight_words)
        # Further bits of the runs, one a lane, which only the words up to some address have.
        wide = [BlockMemory(c.lanes, words) for words in c.wide_words]
        memories = {"columns": columns, "weights": weights}
        for bit, mem in enumerate(wide, RUN_BITS):
            m.submodules[f"run_{bit}"] = memories[f"run_{bit}"] = mem
        for section in memory_sections(c):
            if (mem := memories.get(section.name)) is not None:
                m.d.comb += [
                    mem.write_address.eq(self.load.index),
                    Value.cast(mem.write_data).eq(self.load.data),
                    mem.write_valid.eq(self.load_valid & (self.load.section == section.number)),
                ]

        queued = data.StructLayout({"pointer": pointers, "value": self.i.p.value.shape(),
                                    "matrix": self.i.p.matrix.shape()})
        m.submodules.queue = queue = fifo.SyncFIFO(width=queued.size, depth=AHEAD)
        entry = Signal(queued)
        head = Signal(queued)
        fetched = Signal(1 + LATENCY)
        wanted = [Signal(len(self.i.p.value) + len(self.i.p.matrix), name=f"wanted_{stage}", reset_less=True)
                  for stage in range(len(fetched))]
        column = Signal.like(self.i.p.column, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(queue.level < AHEAD - len(fetched)),
            columns.address.eq(column),
            entry.pointer.eq(columns.data),
            Cat(entry.value, entry.matrix).eq(wanted[-1]),
            queue.w_data.eq(entry),
            queue.w_en.eq(fetched[-1] & (entry.pointer.count != 0)),
            head.eq(queue.r_data),
        ]
        m.d.sync += [
            column.eq(self.i.p.column),
            fetched.eq(Cat(self.i.valid & self.i.ready, fetched)),
            Cat(wanted).eq(Cat(self.i.p.value, self.i.p.matrix, wanted)),
        ]

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
        m.d.comb += self.busy.eq(fetched.any() | queue.r_rdy | (left != 0) | reading.any() | self.o.valid)
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
