"""Scan: from the accumulators of a matrix of the read-out to scores."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.readout import SCORE_BITS
from egret.rtl.blocks import BlockMemory
from egret.rtl.layouts import access_layout, bank_address_bits, load_layout, memory_layout

__all__ = ["SCORE", "Scan", "entry_bits", "most_entries", "score_layout"]

SCORE = signed(SCORE_BITS)


def most_entries(c: Configuration) -> int:
    """Return the entries of the largest matrix of the read-out of the core ``c``."""
    assert c.readout is not None
    return max(c.readout.entries, c.readout.group_size)


def entry_bits(c: Configuration) -> int:
    """Width of an entry's number among those of all matrices of the read-out of the core ``c``."""
    return max((memory_sections(c)["entries"].words - 1).bit_length(), 1)


def score_layout(most: int) -> data.StructLayout:
    """A score and its place among ``most``."""
    return data.StructLayout({"place": range(most), "score": SCORE})


class Scan(wiring.Component):
    """Reads the accumulators of a matrix in the order of its entries, sets them to zero, and makes scores of them.

    At most one entry a cycle; its score comes four cycles after its accumulator. It also says which word an entry is.

    Parameters
    ----------
    configuration : Configuration
        Of the core, with a read-out.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memories ``shift`` and ``entries``, while ``load_valid`` is high.
    start : In(1), base : In(bank_address_bits(c)), first : In(entry_bits(c)), size : In(range(most_entries(c) + 1))
        While ``start`` is high, begins a scan over ``size`` entries, at least one, from the accumulators at address
        ``base`` on; ``first`` is the number of the first entry. Only while not ``busy``.
    clear : In(1)
        With ``start``: only sets accumulators to zero, and makes no scores.
    access : Out(stream.Signature(access_layout(c, z))), found : In(stream.Signature(signed(accumulator_bits), ...))
        As those of gate z, in use while ``busy``.
    o : Out(stream.Signature(score_layout(most_entries(c)), always_ready=True))
        Scores in rising places.
    busy : Out(1)
        A score is still to come.
    entry : In(entry_bits(c)), word : Out(16)
        The word of an entry, `egret.rtl.blocks.LATENCY` cycles later; only while not ``busy``.
    """

    load: Any
    load_valid: Signal
    start: Signal
    base: Signal
    first: Signal
    size: Signal
    clear: Signal
    access: stream.Interface
    found: stream.Interface
    o: stream.Interface
    busy: Signal
    entry: Signal
    word: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "start": In(1),
                "base": In(bank_address_bits(c)),
                "first": In(entry_bits(c)),
                "size": In(range(most_entries(c) + 1)),
                "clear": In(1),
                "access": Out(stream.Signature(access_layout(c, GATES.index("z")))),
                "found": In(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
                "o": Out(stream.Signature(score_layout(most_entries(c)), always_ready=True)),
                "busy": Out(1),
                "entry": In(entry_bits(c)),
                "word": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # FOUND, SHIFT, ROUND (the bias comes), HOLD, SCORE.
        c = self._c
        m = Module()
        sections = memory_sections(c)
        m.submodules.entries = entries = BlockMemory(memory_layout(c, "entries"), sections["entries"].words)
        at = Signal.like(self.entry)
        m.d.comb += [
            entries.write_address.eq(self.load.index),
            Value.cast(entries.write_data).eq(self.load.data),
            entries.write_valid.eq(self.load_valid & (self.load.section == sections["entries"].number)),
            entries.address.eq(Mux(self.busy, at, self.entry)),
            self.word.eq(entries.data.word),
        ]
        shift = Signal(4, reset_less=True)  # less one
        shifts = self.load_valid & (self.load.section == sections["shift"].number)
        with m.If(shifts & (self.load.index == len(GATES) * c.layers)):
            m.d.sync += shift.eq(self.load.data - 1)

        asked, left = (Signal.like(self.size, name=name) for name in ("asked", "left"))
        asking = Signal()  # Whether any is left to ask for: known a cycle before, since the accumulators wait for it.
        bank = Signal(c.banks, reset_less=True)
        address = Signal(bank_address_bits(c), reset_less=True)
        m.d.comb += [
            self.access.valid.eq(asking),
            self.access.p.banks.eq(bank),
            self.access.p.address.eq(address),
            self.access.p.replace.eq(1),
        ]
        with m.If(self.access.valid & self.access.ready):
            m.d.sync += [
                asked.eq(asked - 1),
                asking.eq(asked != 1),
                bank.eq(bank.rotate_left(1)),
                address.eq(address + bank[-1]),
            ]

        valids, quiet = Signal(4), Signal()
        shifted, rounded = (
            Signal(signed(c.accumulator_bits), name=name, reset_less=True) for name in ("shifted", "rounded")
        )
        held = Signal.like(rounded, name="held", reset_less=True)
        bias = Signal.like(entries.data.bias, name="bias", reset_less=True)
        exact = Signal(signed(c.accumulator_bits + 1))
        half = 1 << (SCORE_BITS - 1)
        m.d.comb += [exact.eq(held + bias), self.o.valid.eq(valids[-1] & ~quiet)]
        m.d.sync += [
            valids.eq(Cat(self.found.valid & self.busy, valids)),
            shifted.eq(self.found.payload >> shift),
            rounded.eq((shifted + 1) >> 1),
            held.eq(rounded),
            bias.eq(entries.data.bias),
            self.o.p.score.eq(Mux(exact > half - 1, half - 1, Mux(exact < -half, -half, exact))),
        ]
        with m.If(self.found.valid & self.busy):
            m.d.sync += at.eq(at + 1)
        with m.If(valids[-1]):
            m.d.sync += [self.o.p.place.eq(self.o.p.place + 1), left.eq(left - 1), self.busy.eq(left != 1)]
        with m.If(self.start):
            m.d.sync += [
                address.eq(self.base),
                bank.eq(1),
                asked.eq(self.size),
                asking.eq(self.size != 0),
                left.eq(self.size),
                self.busy.eq(self.size != 0),
                at.eq(self.first),
                self.o.p.place.eq(0),
                quiet.eq(self.clear),
            ]
        return m
