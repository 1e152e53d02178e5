"""Memory in blocks, with a register behind each: for what fills many block RAMs."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportCallIssue=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.single_port import SinglePort

__all__ = ["LATENCY", "SIMULATOR", "BlockMemory", "block_words"]

LATENCY = 2
"""Cycles from an address to its word."""
SIMULATOR = "simulator"
"""The platform for which a memory is left whole: a simulator needs time for every block."""
MOST = 1 << 17
"""Words; a deeper memory fits no device that this is built for, and is left whole, too."""


def block_words(width: int, depth: int) -> int:
    """Return the words of a block in a memory of ``depth`` words of ``width`` bits.

    It is what a block RAM of ECP5 holds of 9 bits, or of 18, so that none lies behind another. In a deep memory it is
    what one holds of single bits, which makes the fewest wires.
    """
    if depth >= 1 << 14:
        return 1 << 14
    return 2048 if width <= 9 else 1024


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
        size = self._depth if whole else block_words(width, self._depth)
        words = []
        for number, base in enumerate(range(0, self._depth, size)):
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
                mine.eq(self.write_valid & (self.write_address // size == number)),
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
        chosen = [Signal(range(len(words)), name=f"chosen_{stage}", reset_less=True) for stage in range(LATENCY)]
        with m.If(self.enable):
            m.d.sync += Cat(chosen).eq(Cat((self.address // size)[: len(chosen[0])], chosen))
        m.d.comb += Value.cast(self.data).eq(Array(words)[chosen[-1]])
        return m
