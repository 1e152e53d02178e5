"""Memories with one port: the large memories of small devices."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RowMemory", "SinglePort"]

ROW_BITS = 16
ROWS = 1 << 14
"""Of an SB_SPRAM256KA."""


class SinglePort(wiring.Component):
    """A memory that reads or writes one word a cycle, without initial content.

    On an iCE40 UltraPlus it is made of SB_SPRAM256KA cells, elsewhere (so in every simulation) it is an ordinary
    memory.

    Parameters
    ----------
    words, bits : int
        Number of words and their width, at least 1.

    Members
    -------
    address : In(unsigned), write_data : In(bits)
        A word's number, and what to write.
    enable : In(1), write : In(1)
        While ``enable`` is high, reads or, if ``write`` is high, writes.
    read_data : Out(bits)
        What the last read found, from the next cycle on until the memory is enabled again.

    Raises
    ------
    ValueError
        A parameter is below 1.
    """

    address: Signal
    write_data: Signal
    enable: Signal
    write: Signal
    read_data: Signal

    def __init__(self, words: int, bits: int) -> None:
        if words < 1 or bits < 1:
            raise ValueError(f"words and bits must be at least 1, not {words!r} and {bits!r}")
        self._words, self._bits = words, bits
        super().__init__(
            {
                "address": In(max((words - 1).bit_length(), 1)),
                "write_data": In(bits),
                "enable": In(1),
                "write": In(1),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if getattr(platform, "device", None) == "iCE40UP5K":
            self._add_cells(m)
            return m
        m.submodules.rows = rows = memory.Memory(shape=self._bits, depth=max(self._words, 2), init=[])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.addr.eq(self.address),
            write.data.eq(self.write_data),
            write.en.eq(self.enable & self.write),
            read.addr.eq(self.address),
            read.en.eq(self.enable & ~self.write),
            self.read_data.eq(read.data),
        ]
        return m

    def _add_cells(self, m: Module) -> None:
        # 2 or 4 narrow words share a row, of which nibbles can be written alone. A wider word is spread over columns of
        # cells; a column deeper than a cell is cells one after another, of which the one that was read is remembered.
        shared = 4 if self._bits <= 4 else 2 if self._bits <= 8 else 1
        field_bits = ROW_BITS // shared
        place, row = self.address[: shared.bit_length() - 1], self.address[shared.bit_length() - 1 :]
        cells = -(-self._words // (shared * ROWS))
        chosen = row[ROWS.bit_length() - 1 :]
        read_place, read_chosen = Signal(len(place)), Signal(len(chosen))
        with m.If(self.enable & ~self.write):
            m.d.sync += [read_place.eq(place), read_chosen.eq(chosen)]
        mask = Signal(ROW_BITS // 4)
        m.d.comb += mask.eq(((1 << field_bits // 4) - 1) << (place * (field_bits // 4)))
        columns = []
        for column in range(-(-self._bits // ROW_BITS)):
            field = Signal(field_bits, name=f"field_{column}")
            m.d.comb += field.eq(self.write_data[column * ROW_BITS : (column + 1) * ROW_BITS])
            outputs = Array(Signal(ROW_BITS, name=f"output_{column}_{cell}") for cell in range(cells))
            for cell, output in enumerate(outputs):
                m.submodules[f"cell_{column}_{cell}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(),
                    i_ADDRESS=row[: ROWS.bit_length() - 1],
                    i_DATAIN=field.replicate(shared),
                    i_MASKWREN=mask,
                    i_WREN=self.write,
                    i_CHIPSELECT=self.enable & (chosen == cell),
                    i_STANDBY=0,
                    i_SLEEP=0,
                    i_POWEROFF=1,
                    o_DATAOUT=output,
                )
            read = Signal(ROW_BITS, name=f"read_{column}")
            m.d.comb += read.eq(outputs[read_chosen] if cells > 1 else outputs[0])
            columns.append(read.word_select(read_place, field_bits) if shared > 1 else read)
        m.d.comb += self.read_data.eq(Cat(columns))


class RowMemory(wiring.Component):
    """Wide words in one `SinglePort`, as rows of 16 bits that are read one a cycle, for several readers at once.

    A word comes its rows and two cycles after its address, where no reader before it in ``shapes`` reads, and stays
    until it is taken; then, or in the same cycle, the next address is taken. Each word takes a power of two of rows.

    Parameters
    ----------
    shapes : Iterable[tuple[int, int]]
        Words and bits of each part, at least 2 and 1.

    Members
    -------
    load_0, load_1, ... : In(data.StructLayout({"valid": 1, "index": unsigned, "data": bits}))
        Writes a word of a part, while nothing is read. It takes as many cycles as the word has rows.
    i_0, i_1, ... : In(stream.Signature(unsigned))
        Numbers of words to read, by part.
    o_0, o_1, ... : Out(stream.Signature(bits))
        These words, by part.

    Raises
    ------
    ValueError
        The parts do not fit.
    """

    load_0: Any
    i_0: stream.Interface
    o_0: stream.Interface
    load_1: Any
    i_1: stream.Interface
    o_1: stream.Interface

    def __init__(self, shapes: Iterable[tuple[int, int]]) -> None:
        self._shapes = tuple(shapes)
        # The larger part first, so that each begins where its address has only zeros.
        self._rows = [-(-bits // ROW_BITS) for _, bits in self._shapes]
        self._row_bits = [(rows - 1).bit_length() for rows in self._rows]
        sizes = [
            1 << ((words - 1).bit_length() + row_bits)
            for (words, _), row_bits in zip(self._shapes, self._row_bits, strict=True)
        ]
        self._bases, end = [0] * len(sizes), 0
        for part in sorted(range(len(sizes)), key=lambda part: -sizes[part]):
            self._bases[part], end = end, end + sizes[part]
        if end > ROWS:
            raise ValueError(f"shapes must fit {ROWS} rows of {ROW_BITS} bits, not {self._shapes!r}, which take {end}")
        self._end = end
        members = {}
        for part, (words, bits) in enumerate(self._shapes):
            address = (words - 1).bit_length()
            members |= {
                f"load_{part}": In(data.StructLayout({"valid": 1, "index": address, "data": bits})),
                f"i_{part}": In(stream.Signature(address)),
                f"o_{part}": Out(stream.Signature(bits)),
            }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        # Each part has a register of its word, through which rows are shifted both ways. In each cycle the first part
        # that wants a row gets it.
        m = Module()
        m.submodules.memory = rows = SinglePort(self._end, ROW_BITS)
        free = Const(1, 1)
        for part, count in enumerate(self._rows):
            load, i, o = getattr(self, f"load_{part}"), getattr(self, f"i_{part}"), getattr(self, f"o_{part}")
            word = Signal(count * ROW_BITS, name=f"word_{part}", reset_less=True)
            index = Signal.like(i.payload, name=f"index_{part}", reset_less=True)
            row = Signal(self._row_bits[part], name=f"row_{part}")
            reading, writing, arriving, last = (
                Signal(name=f"{name}_{part}") for name in ("reading", "writing", "arriving", "last")
            )
            granted = Signal(name=f"granted_{part}")
            m.d.comb += [
                granted.eq((reading | writing) & free),
                i.ready.eq(~reading & ~arriving & (~o.valid | o.ready)),
                o.payload.eq(word),
            ]
            m.d.sync += [arriving.eq(granted & reading), last.eq(row == count - 1)]
            with m.If(granted):
                m.d.comb += [
                    rows.enable.eq(1),
                    rows.write.eq(writing),
                    rows.write_data.eq(word[:ROW_BITS]),
                    rows.address.eq(self._bases[part] | Cat(row, index)),
                ]
                m.d.sync += row.eq(row + 1)
                with m.If(row == count - 1):
                    m.d.sync += [reading.eq(0), writing.eq(0), row.eq(0)]
            with m.If(arriving | (granted & writing)):
                m.d.sync += word.eq(Cat(word[ROW_BITS:], rows.read_data))
            with m.If(o.ready):
                m.d.sync += o.valid.eq(0)
            with m.If(arriving & last):
                m.d.sync += o.valid.eq(1)
            with m.If(i.valid & i.ready):
                m.d.sync += [index.eq(i.payload), reading.eq(1)]
            with m.If(load.valid):
                m.d.sync += [word.eq(load.data), index.eq(load.index), writing.eq(1)]
            free = free & ~(reading | writing)
        return m
