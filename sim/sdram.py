"""An SDRAM for simulation: it answers like the part, and says when it is used against its data sheet."""

import dataclasses
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from amaranth.hdl import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import SDR_RATIOS
from egret.rtl import ddr3
from egret.rtl.core import Core
from egret.rtl.outer import OuterTiming, outer_timing
from egret.rtl.sdram import (
    BANK_BITS,
    COLUMN_BITS,
    ROW_BITS,
    WORD_BITS,
    Timing,
    sdram_pins,
)
from egret.sim.ddr3 import RIGHT_LEVELS, Ddr3Model

if TYPE_CHECKING:
    from amaranth.hdl import Module

    from egret.model.compiler.configuration import Configuration

__all__ = ["VIOLATIONS", "SdramModel", "core_with_memory", "quick_timing", "with_memory"]


def quick_timing(ratio: int = 1) -> OuterTiming:
    """Times for a ``ratio`` as `egret.rtl.outer.outer_timing` has them, of a memory that starts at once."""
    timing = outer_timing(ratio)
    if isinstance(timing, Timing):
        return dataclasses.replace(timing, start=40)
    return dataclasses.replace(timing, reset=40, wake=40, zq=40, levelled=False)


VIOLATIONS = (
    "command before the memory has been started",
    "activate of a bank that is open",
    "activate too early after a precharge",
    "read or write in a bank that is closed",
    "read or write too early after an activate",
    "precharge too early after an activate",
    "precharge too early after a write",
    "refresh with a bank open, or too early after a precharge",
    "command during a refresh",
    "write while the memory drives its pins",
    "rows not refreshed in time",
    "mode that is not modelled",
)
"""What can be wrong, in the order of the bits of ``violations``."""

_LATE = 10
"""Times between refreshes after which one is late: eight may be put off."""


class SdramModel(wiring.Component):
    """An SDRAM of four banks with bursts of whole rows and single written words, cycle by cycle.

    With a ``ratio`` of two its clock is twice as fast as that of the core, and each cycle of the core is two of its
    own: it takes the command of one of them and drives two words. Times are held in its own cycles. The registers at
    the device's edge are part of the model.

    Set to bursts of one word, which `egret.rtl.sdram.Sdram` does not use, it also knows the precharge that follows a
    read or write with address bit 10.

    Parameters
    ----------
    timing : egret.rtl.sdram.Timing
        What is held against the commands, and the CAS latency.
    ratio : int
        Of `egret.model.compiler.configuration.SDR_RATIOS`.
    row_bits : int
        Rows of a bank, as a power of two, that have memory; further ones are the same again.

    Members
    -------
    pins : In(sdram_pins(ratio))
    violations : Out(len(VIOLATIONS))
        Bits of `VIOLATIONS`, which stay set.
    """

    pins: Any
    violations: Signal

    def __init__(self, timing: Timing, ratio: int = 1, *, row_bits: int = ROW_BITS) -> None:
        self._t, self._ratio, self._row_bits = timing, ratio, row_bits
        super().__init__({"pins": In(sdram_pins(ratio)), "violations": Out(len(VIOLATIONS))})

    def elaborate(self, platform: Any) -> "Module":
        # One long method: nearly every line is about one of the commands, which all see the same banks and times.
        t, ratio = self._t, self._ratio
        skipped = SDR_RATIOS.index(ratio)  # bits of a word's address within a beat
        m = Module()
        # The registers at the device's edge; that of the data that come in is at the end.
        pins = Signal(
            data.StructLayout(
                {name: member.shape for name, member in sdram_pins(ratio).members.items() if member.flow == Out}
            )
        )
        m.d.sync += [pins[name].eq(getattr(self.pins, name)) for name in pins.shape().members]
        m.submodules.cells = cells = memory.Memory(
            shape=ratio * WORD_BITS, depth=1 << self._row_bits + BANK_BITS + COLUMN_BITS - skipped, init=[]
        )
        read, write = cells.read_port(domain="sync"), cells.write_port(granularity=WORD_BITS)
        command = Cat(pins.ras, pins.cas, pins.we)
        activate, reads, writes, precharge, refresh, mode, stop = (
            Signal(name=name) for name in ("activate", "reads", "writes", "precharge", "refresh", "mode", "stop")
        )
        for signal, value in (
            (activate, 0b001),
            (reads, 0b010),
            (writes, 0b110),
            (precharge, 0b101),
            (refresh, 0b011),
            (mode, 0b111),
            (stop, 0b100),
        ):
            m.d.comb += signal.eq(pins.cs & (command == value))
        every = pins.a[10]
        violated = Signal(len(VIOLATIONS))
        m.d.sync += self.violations.eq(self.violations | violated)

        def wrong(name, condition):
            m.d.comb += violated[VIOLATIONS.index(name)].eq(condition)

        def since(name, events, time):
            """Of each of several events, whether fewer of the memory's cycles have gone by since than there must."""
            # Commands are a whole number of the core's cycles apart. A register of what came in each of these is
            # simulated faster than a counter an event.
            width, cycles = len(events), -(-time // ratio)
            came = Signal(width * (cycles - 1), name=f"since_{name}")
            m.d.sync += came.eq(Cat(events, came))
            return reduce(or_, (came.word_select(cycle, width) for cycle in range(cycles - 1)), Const(0, width))

        is_open = Signal(1 << BANK_BITS)
        rows = Array(Signal(ROW_BITS, name=f"row_{bank}") for bank in range(1 << BANK_BITS))
        to_close = Signal(1 << BANK_BITS)  # banks that close on their own, as soon as they may
        closing = Signal(1 << BANK_BITS)
        mine = Signal(1 << BANK_BITS)
        closes, closed = Signal(1 << BANK_BITS), Signal(1 << BANK_BITS)
        m.d.comb += [
            mine.eq(1 << pins.ba),
            closes.eq(Mux(every, ~0, mine)),
            closed.eq(closing | Mux(precharge, closes, 0)),
        ]
        early = {
            name: since(name, events, cycles)
            for name, events, cycles in (
                ("rcd", Mux(activate, mine, 0), t.rcd),
                ("ras", Mux(activate, mine, 0), t.ras),
                ("rp", closed, t.rp),
                ("wr", Mux(writes, mine, 0), t.wr),
            )
        }
        m.d.comb += closing.eq(to_close & ~early["ras"] & ~early["wr"])
        own = {name: (bits & mine).any() for name, bits in early.items()}
        m.d.sync += [
            is_open.eq((is_open | Mux(activate, mine, 0)) & ~closed),
            to_close.eq((to_close | Mux((reads | writes) & every, mine, 0)) & ~closed),
        ]
        with m.If(activate):
            m.d.sync += rows[pins.ba].eq(pins.a)

        # A burst goes on, around the end of its row, until something cuts it off, unless the mode is of single words.
        bursting, single = Signal(), Signal()
        burst_bank, burst_column = Signal(BANK_BITS), Signal(COLUMN_BITS - skipped)
        bank, column = Mux(reads, pins.ba, burst_bank), Mux(reads, pins.a[skipped:COLUMN_BITS], burst_column)
        drives = reads | (bursting & ~stop & ~writes & ~(precharge & closes.bit_select(burst_bank, 1)))
        m.d.sync += [bursting.eq(drives & ~single), burst_bank.eq(bank), burst_column.eq(column + 1)]
        m.d.comb += [
            read.addr.eq(Cat(column, bank, Value.cast(rows[bank])[: self._row_bits])),
            read.en.eq(drives),
            write.addr.eq(Cat(pins.a[skipped:COLUMN_BITS], pins.ba, Value.cast(rows[pins.ba])[: self._row_bits])),
            write.data.eq(pins.dq_o.replicate(ratio)),
            write.en.eq(Mux(writes & pins.dq_oe, 1 << pins.a[:skipped], 0)),
        ]
        # Of the delay, the port's register is the first cycle behind the one above, that at the device's edge the last.
        stages = t.delay(ratio) - 3
        words = [Signal(ratio * WORD_BITS, name=f"word_{stage}", reset_less=True) for stage in range(stages)]
        driven = Signal(stages + 1)
        m.d.sync += [Cat(words, self.pins.dq_i).eq(Cat(read.data, words)), driven.eq(Cat(drives, driven))]

        started, told = Signal(), Signal(range(10))
        powered = Signal(range(t.start + ratio))
        with m.If(powered < t.start):
            m.d.sync += powered.eq(powered + ratio)
        with m.If(refresh & (told != 9)):
            m.d.sync += told.eq(told + 1)
        with m.If(mode):
            m.d.sync += [started.eq(told >= 2), single.eq(pins.a[:3] == 0)]
        age, oldest = Signal(range(t.refresh * _LATE + ratio)), t.refresh * _LATE
        with m.If(refresh & (age > t.refresh)):
            m.d.sync += age.eq(age - t.refresh)
        with m.Elif(refresh):
            m.d.sync += age.eq(0)
        with m.Elif(started & (age < oldest)):
            m.d.sync += age.eq(age + ratio)
        refreshing = since("refresh", refresh, t.rfc)

        wrong(
            "command before the memory has been started",
            pins.cs & ((powered < t.start) | (~started & (activate | reads | writes))),
        )
        wrong("activate of a bank that is open", activate & is_open.bit_select(pins.ba, 1))
        wrong("activate too early after a precharge", activate & own["rp"])
        wrong(
            "read or write in a bank that is closed", (reads | writes) & ~(is_open & ~to_close).bit_select(pins.ba, 1)
        )
        wrong("read or write too early after an activate", (reads | writes) & own["rcd"])
        wrong("precharge too early after an activate", precharge & (early["ras"] & is_open & closes).any())
        wrong("precharge too early after a write", precharge & (early["wr"] & closes).any())
        wrong(
            "refresh with a bank open, or too early after a precharge",
            (refresh | mode) & (is_open.any() | early["rp"].any()),
        )
        wrong("command during a refresh", pins.cs & refreshing)
        wrong("write while the memory drives its pins", pins.dq_oe & (driven.any() | (bursting & ~writes & ~stop)))
        wrong("rows not refreshed in time", age >= oldest)
        wrong(
            "mode that is not modelled",
            (mode & (pins.a != (1 << 9 | t.latency << 4 | 7)) & (pins.a != t.latency << 4))
            | ((reads | writes) & every & ~single)
            | (reads & pins.a[:skipped].any()),
        )
        return m


def with_memory(component: Any, timing: OuterTiming, ratio: int = 1, **options: Any) -> wiring.Component:
    """A component with the member ``sdram`` (of `egret.rtl.outer.outer_pins`), and the memory that it drives.

    The other members are its own; ``violations`` joins them. The memory is an `SdramModel` of ``timing``, ``ratio`` and
    ``options``, or an `egret.sim.ddr3.Ddr3Model` of ``timing`` and ``options``.
    """
    model = SdramModel(timing, ratio, **options) if isinstance(timing, Timing) else Ddr3Model(timing, **options)
    members = {name: member for name, member in component.signature.members.items() if name != "sdram"}

    class WithMemory(wiring.Component):
        violations: Signal

        def __init__(self):
            super().__init__({**members, "violations": Out(len(model.violations))})

        def elaborate(self, platform):
            m = Module()
            m.submodules.inner = component
            m.submodules.memory = model
            wiring.connect(m, component.sdram, model.pins)
            m.d.comb += self.violations.eq(model.violations)
            for name, member in members.items():
                mine, its = getattr(self, name), getattr(component, name)
                if member.is_signature:
                    wiring.connect(m, wiring.flipped(mine), its)
                elif member.flow == In:
                    m.d.comb += its.eq(mine)
                else:
                    m.d.comb += mine.eq(its)
            return m

    return WithMemory()


def core_with_memory(configuration: "Configuration") -> wiring.Component:
    """The `Core` of a ``configuration``, with a memory at its pins where it has an SDRAM.

    The core is then the submodule ``inner``.
    """
    if configuration.store != "sdram":
        return Core(configuration)
    timing, ratio = quick_timing(configuration.memory_ratio), configuration.memory_ratio
    within = ddr3.BANK_BITS + ddr3.COLUMN_BITS if configuration.ddr3 else BANK_BITS + COLUMN_BITS
    row_bits = max((configuration.sdram_words - 1).bit_length() - within, 1)
    options = {"levels": RIGHT_LEVELS} if configuration.ddr3 else {}
    return with_memory(Core(configuration, timing=timing), timing, ratio, row_bits=row_bits, **options)
