"""Weight store in block RAM: columns of packed words, found through a pointer a column."""

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.image import memory_sections
from egret.rtl.payloads import column_layout, load_layout, word_layout

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
        Writes the memories ``weights`` and ``columns``.
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
        pointer_layout = data.StructLayout({"start": c.start_bits, "count": c.count_bits})
        m.submodules.columns = columns = memory.Memory(shape=pointer_layout, depth=max(c.columns, 2), init=[])
        m.submodules.weights = weights = memory.Memory(shape=c.word_bits, depth=max(c.weight_words, 2), init=[])
        for mem, name in ((columns, "columns"), (weights, "weights")):
            write = mem.write_port()
            m.d.comb += [
                write.addr.eq(self.load.index),
                Value.cast(write.data).eq(self.load.data),
                write.en.eq(self.load_valid & (self.load.section == sections[name].number)),
            ]
        pointer_read, word_read = columns.read_port(), weights.read_port()

        queued = data.StructLayout({"pointer": pointer_layout, "value": self.i.p.value.shape(),
                                    "layer": self.i.p.layer.shape()})
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
            m.d.sync += [entry.value.eq(self.i.p.value), entry.layer.eq(self.i.p.layer)]

        address = Signal(c.start_bits)
        left = Signal(c.count_bits)
        value = Signal(self.i.p.value.shape())
        layer = Signal.like(self.i.p.layer)
        with m.If(left != 0):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.If((left <= 1) & queue.r_rdy):
            m.d.comb += queue.r_en.eq(1)
            m.d.sync += [address.eq(head.pointer.start), left.eq(head.pointer.count),
                         value.eq(head.value), layer.eq(head.layer)]

        reading = Signal()
        read_value = Signal.like(value)
        read_layer = Signal.like(layer)
        m.d.comb += [word_read.addr.eq(address), word_read.en.eq(left != 0)]
        m.d.sync += [
            reading.eq(left != 0), read_value.eq(value), read_layer.eq(layer),
            self.o.valid.eq(reading),
            Value.cast(self.o.p.entries).eq(word_read.data),
            self.o.p.value.eq(read_value), self.o.p.layer.eq(read_layer),
        ]
        m.d.comb += self.busy.eq(fetched | queue.r_rdy | (left != 0) | reading | self.o.valid)
        return m


def words_of(columns, pointers, words):
    """What `WeightStore` sends for columns.

    Parameters
    ----------
    columns : list of (column, value, layer)
    pointers : list of (start, count)
    words : list of int

    Returns
    -------
    list of (word, value, layer)
    """
    return [(words[pointers[column][0] + place], value, layer)
            for column, value, layer in columns for place in range(pointers[column][1])]
