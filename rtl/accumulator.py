"""Banked accumulators: a read-modify-write pipeline a bank, shared by the lanes and the gates."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import INNER
from egret.model.compiler.configuration import Configuration
from egret.rtl.layouts import access_layout, add_layout, bank_address_bits, row_layout

__all__ = ["Accumulators", "found_after", "replay"]


def found_after(c: Configuration) -> int:
    """Return how many cycles after an access what it found comes, in the core ``c``."""
    return 4 if c.compact else 5


class Accumulators(wiring.Component):
    """Accumulator banks with three kinds of access.

    Additions come from the lanes, at most one a bank and cycle, and are never held up. A folded row adds to all banks
    at once, in cycles in which no addition comes. An access from a gate returns an accumulator and may replace it; it
    is taken one cycle before it enters its bank, if in that cycle no addition and no access that goes first will: gate
    z's goes before that of the sums `INNER`, and both before those of gates u and r.

    Throughput is one operation of either kind a bank and cycle. Operations take effect in the order in which they
    enter, whatever their distance: a sum still on its way to the memory is forwarded. The Python counterpart is
    `replay`.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    coming : In(banks)
        High for each bank that an addition or a row reaches in the next cycle.
    add : In(add_layout(c)).array(banks)
        An addition for each bank; all zeros where there is none.
    row : In(stream.Signature(row_layout(c), always_ready=True))
        A part of a folded row; all zeros while there is none.
    access_u, access_r, access_z, access_zy : In(stream.Signature(access_layout(c, gate)))
        Accesses by gate, as `Configuration.sums` has them, each to one of the banks of `Configuration.gate_banks`,
        whose bit is set.
    found : Out(stream.Signature(signed(accumulator_bits), always_ready=True)).array(len(c.sums))
        The accumulator as each access of the gate found it, `found_after` cycles after it was taken.
    """

    coming: Signal
    add: Any
    row: stream.Interface
    access_u: stream.Interface
    access_r: stream.Interface
    access_z: stream.Interface
    access_zy: stream.Interface
    found: list[stream.Interface]

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        super().__init__(
            {
                "coming": In(c.banks),
                "add": In(add_layout(c)).array(c.banks),
                "row": In(stream.Signature(row_layout(c), always_ready=True)),
                **{
                    f"access_{gate}": In(stream.Signature(access_layout(c, number)))
                    for number, gate in enumerate(c.sums)
                },
                "found": Out(stream.Signature(signed(c.accumulator_bits), always_ready=True)).array(len(c.sums)),
            }
        )

    @property
    def access(self) -> list[stream.Interface]:
        """Accesses by number of their gate in `Configuration.sums`."""
        return [getattr(self, f"access_{gate}") for gate in self._c.sums]

    def elaborate(self, platform: Any) -> Module:
        # Each bank is a pipeline: JOIN (the operation, whatever its source), READ (address to the memory), HOLD (its
        # output), SUM (plus the addend), WRITE. Three sums can be younger than what READ sees; the comparisons that
        # select them are made beside READ. That also covers a read in the cycle in which the same word is written, so
        # it does not matter what a memory does then. A compact core has no HOLD, and writes in SUM: then only the sum
        # of the operation before is younger.
        c = self._c
        latency = found_after(c)
        distances = (1,) if c.compact else (1, 2, 3)
        m = Module()
        accumulator = signed(c.accumulator_bits)
        takes, entering, places = [], [], []
        first = [self.access[c.sums.index(name)] for name in ("z", INNER) if name in c.sums]
        for gate, access in enumerate(self.access):
            banks = c.gate_banks(gate)
            busy = self.coming[banks.start :: banks.step]
            for other in first[: first.index(access)] if access in first else first:
                busy |= Mux(other.valid, other.p.banks[banks.start :: banks.step], 0)
            take = Signal(len(banks), name=f"take_{gate}")
            entered = Signal.like(access.p, name=f"entered_{gate}", reset_less=True)
            known = [
                Signal(range(len(banks)), name=f"place_{gate}_{stage}", reset_less=True) for stage in range(latency - 2)
            ]
            found = Signal(latency - 1, name=f"found_{gate}")
            m.d.comb += access.ready.eq((access.p.banks & busy) == 0)
            place = Cat(
                _or([C(0, 1), *(take[place] for place in range(len(banks)) if place >> bit & 1)])
                for bit in range(len(known[0]))
            )
            m.d.sync += [
                take.eq(Mux(access.valid & access.ready, access.p.banks, 0)),
                entered.address.eq(access.p.address),
                entered.replace.eq(access.p.replace),
                entered.bias.eq(Mux(access.p.replace, access.p.bias, 0)),
                Cat(known).eq(Cat(place, known)),
                Cat(found, self.found[gate].valid).eq(Cat(access.valid & access.ready, found)),
            ]
            takes.append(take)
            entering.append(entered)
            places.append(known[-1])

        contents = []
        for bank, add in enumerate(self.add):
            m.submodules[f"bank_{bank}"] = mem = memory.Memory(shape=accumulator, depth=max(c.bank_depth, 2), init=[])
            write, read = mem.write_port(), mem.read_port()

            def signal(shape, name, bank=bank):
                return Signal(shape, name=f"{name}_{bank}", reset_less=True)

            # Where nothing is added the lanes and rows send zeros, so that the sources can be joined by OR.
            accesses = [
                (takes[gate][c.gate_banks(gate).index(bank)], entered)
                for gate, entered in enumerate(entering)
                if bank in c.gate_banks(gate)
            ]
            addends = [add.addend, *(Mux(take, entered.bias, 0) for take, entered in accesses)]
            if c.folded_tokens:
                addends.append(self.row.p.addends[bank])
            reading = Signal(name=f"reading_{bank}")
            address = signal(bank_address_bits(c), "address")
            replaces = signal(2 if c.compact else 3, "replaces")
            m.d.sync += [
                # JOIN
                reading.eq(_or([add.valid, self.row.valid, *(take for take, _ in accesses)])),
                address.eq(
                    _or(
                        [
                            add.address,
                            self.row.p.address,
                            *(Mux(take, entered.address, 0) for take, entered in accesses),
                        ]
                    )
                ),
                replaces.eq(Cat(_or(take & entered.replace for take, entered in accesses), replaces)),
            ]
            m.d.comb += [read.addr.eq(address), read.en.eq(reading)]
            valids = Signal(len(distances), name=f"valids_{bank}")
            addresses = [signal(len(address), f"address_{stage}") for stage in range(len(distances))]
            matches = [signal(1, f"match_{distance}") for distance in distances]
            sums = [signal(accumulator, f"addend_{stage}") for stage in range(len(replaces))]
            content = signal(accumulator, "content")
            newest = signal(accumulator, "newest")
            sum_ = signal(accumulator, "sum")
            m.d.sync += [
                # READ
                valids.eq(Cat(reading, valids)),
                Cat(addresses).eq(Cat(address, addresses)),
                Cat(matches).eq(
                    Cat(valid & (address == other) for valid, other in zip(valids, addresses, strict=True))
                ),
                Cat(sums).eq(Cat(_or(addend.as_signed() for addend in addends)[: len(sums[0])], sums)),
                # SUM
                newest.eq(sum_),
            ]
            m.d.comb += [
                sum_.eq(Mux(replaces[-1], 0, content) + sums[-1]),
                write.addr.eq(addresses[-1]),
                write.en.eq(valids[-1]),
            ]
            if c.compact:
                m.d.comb += [content.eq(Mux(matches[0], newest, read.data)), write.data.eq(sum_)]
            else:
                # Nothing but a register is behind the memory, so that it can be the block RAM's own.
                near, passed = signal(1, "near"), signal(1, "passed")
                held, forward, older = (signal(accumulator, name) for name in ("held", "forward", "older"))
                m.d.sync += [
                    # HOLD
                    near.eq(matches[0]),
                    passed.eq(matches[1] | matches[2]),
                    held.eq(read.data),
                    forward.eq(Mux(matches[1], newest, older)),
                    older.eq(newest),
                ]
                m.d.comb += [content.eq(Mux(near, newest, Mux(passed, forward, held))), write.data.eq(newest)]
            contents.append(content)

        for gate, (out, place) in enumerate(zip(self.found, places, strict=True)):
            m.d.sync += out.payload.eq(Array(contents[bank] for bank in c.gate_banks(gate))[place])
        return m


def _or(values: Iterable[Any]) -> Any:
    """Return the OR of all values."""
    return reduce(or_, values)


def replay(
    accumulators: dict[tuple[int, int], int], operations: Iterable[tuple[int, int, int] | tuple[int, int, int, int]]
) -> list[int]:
    """Do what `Accumulators` does, one operation at a time.

    Parameters
    ----------
    accumulators : dict[tuple[int, int], int]
        Content by bank and address; changed in place.
    operations : Iterable[tuple[int, int, int] | tuple[int, int, int, int]]
        In order: additions, of bank, address and addend (a row is one a bank); and accesses, of bank, address, whether
        to replace, and the bias that replaces.

    Returns
    -------
    list[int]
        What each access found.
    """
    found = []
    for bank, address, *rest in operations:
        if len(rest) == 1:
            accumulators[bank, address] += rest[0]
        else:
            found.append(accumulators[bank, address])
            if rest[0]:
                accumulators[bank, address] = rest[1]
    return found
