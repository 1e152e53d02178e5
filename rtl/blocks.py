"""Memory in blocks, with a register behind each: for what fills many block RAMs."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportCallIssue=false

from itertools import accumulate
from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.single_port import SinglePort

__all__ = ["LATENCY", "SHAPES", "SIMULATOR", "BlockMemory", "block_sizes"]

LATENCY = 2
"""Cycles from an address to its word."""
SIMULATOR = "simulator"
"""The platform for which a memory is left whole: a simulator needs time for every block."""
SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words and bits of a block RAM of ECP5."""
UNIT = SHAPES[0][0]
"""Of which the words of the other shapes are multiples."""
MOST = 1 << 17
"""Words; a deeper memory fits no device that this is built for, and is left whole, too."""


def block_sizes(width: int, depth: int) -> list[int]:
    """Return the words of each block of a memory of ``depth`` words of ``width`` bits, in falling order.

    Each is what a block RAM of ECP5 holds in one of its shapes, so that none lies behind another. Of the ways that
    take the fewest block RAMs it is the one with the fewest blocks, which makes the fewest wires.
    """
    best: list[tuple[int, int, list[int]]] = [(0, 0, [])]  # block RAMs, blocks and their words, by units of depth
    for units in range(1, -(-depth // UNIT) + 1):
        best.append(
            min(
                (rams - (-width // bits), blocks + 1, sorted([*sizes, words], reverse=True))
                for words, bits in SHAPES
                for rams, blocks, sizes in [best[max(units - words // UNIT, 0)]]
            )
        )
    return best[-1][-1]


class BlockMemory(wiring.Component):
    """A memory with one port to write and one to read, whose block RAMs drive nothing but registers.

    A word comes `LATENCY` cycles after its address. One that is written can be read two cycles later; it must not be
    read earlier.

    Parameters
    ----------
    shape : ShapeLike
        Of a word.
    depth : int
        Words; at least 2 are made.
    single_port : bool
        Make it of `SinglePort` instead of blocks: then what is read in the cycle of a write is any word, and it is
        always enabled.

    Members
    -------
    write_address : In(range(depth)), write_data : In(shape), write_valid : In(1)
        Writes a word, while ``write_valid`` is high.
    address : In(range(depth))
        The word to read.
    enable : In(1)
        High unless connected; while it is low, what is under way stays where it is.
    data : Out(shape)
        The word read, `LATENCY` enabled cycles later.
    """

    write_address: Signal
    write_data: Signal
    write_valid: Signal
    address: Signal
    enable: Signal
    data: Signal

    def __init__(self, shape: ShapeLike, depth: int, *, single_port: bool = False) -> None:
        self._shape, self._depth, self._single_port = shape, max(depth, 2), single_port
        address = range(self._depth)
        super().__init__(
            {
                "write_address": In(address),
                "write_data": In(shape),
                "write_valid": In(1),
                "address": In(address),
                "enable": In(1, init=1),
                "data": Out(shape),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # Left to Yosys, the multiplexers over the depth would stand between block RAM and register.
        m = Module()
        width = Shape.cast(self._shape).width
        if self._single_port:
            m.submodules.cells = cells = SinglePort(self._depth, width)
            m.d.comb += [
                cells.enable.eq(1),
                cells.write.eq(self.write_valid),
                cells.address.eq(Mux(self.write_valid, self.write_address, self.address)),
                cells.write_data.eq(self.write_data),
            ]
            m.d.sync += Value.cast(self.data).eq(cells.read_data)
            return m
        whole = platform == SIMULATOR or self._depth > MOST
        sizes = [self._depth] if whole else block_sizes(width, self._depth)
        bases = [0, *accumulate(sizes[:-1])]
        words = []
        for number, (base, size) in enumerate(zip(bases, sizes, strict=True)):
            m.submodules[f"block_{number}"] = block = memory.Memory(
                shape=self._shape, depth=max(min(size, self._depth - base), 2), init=[]
            )
            write, read = block.write_port(), block.read_port()
            word = Signal(width, name=f"word_{number}", reset_less=True)
            written = Signal(width, name=f"written_{number}", reset_less=True)
            written_address = Signal.like(write.addr, name=f"written_address_{number}", reset_less=True)
            writes = Signal(name=f"writes_{number}")
            mine = Signal(name=f"mine_{number}")
            m.d.comb += [
                mine.eq(self.write_valid & (self.write_address // size == base // size)),
                write.addr.eq(written_address),
                Value.cast(write.data).eq(written),
                write.en.eq(writes),
                read.addr.eq(self.address),
                read.en.eq(self.enable),
            ]
            m.d.sync += writes.eq(mine)
            with m.If(self.enable):
                m.d.sync += word.eq(read.data)
            with m.If(mine):
                m.d.sync += [written.eq(self.write_data), written_address.eq(self.write_address)]
            words.append(word)
        # The block is told from the address in the second cycle, in which nothing else is done.
        place = Signal.like(self.address, reset_less=True)
        chosen = Signal(range(len(words)), reset_less=True)
        number: Any = C(0)
        for later, base in enumerate(bases[1:], 1):
            number = Mux(place // UNIT >= base // UNIT, later, number)
        with m.If(self.enable):
            m.d.sync += [place.eq(self.address), chosen.eq(number)]
        m.d.comb += Value.cast(self.data).eq(Array(words)[chosen])
        return m
