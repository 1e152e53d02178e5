"""Banked accumulators: a read-modify-write pipeline a bank, shared by the lanes and the gates."""

from functools import reduce
from operator import or_

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import GATES
from egret.rtl.payloads import access_layout, add_layout, bank_address_bits, row_layout

__all__ = ["Accumulators", "replay"]


class Accumulators(wiring.Component):
    """Accumulator banks with three kinds of access.

    Additions come from the lanes, at most one a bank and cycle, and are never held up. A folded row adds to all banks
    at once, in cycles in which no addition comes. An access from a gate returns
    an accumulator and may replace it; it takes the slot of its bank in a cycle in which no addition and no access of
    an earlier gate does. Throughput is one operation of either kind a bank and cycle. Operations take effect in the
    order in which they enter, whatever their distance: a sum still on its way to the memory is forwarded.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    add : In(array of {valid, address, addend})
        Additions by bank; all zeros where there is none.
    row : In(stream of {address, addends}, always ready)
        All zeros where there is none.
    access : In(array of streams of {bank, address, replace, bias})
        Accesses by gate.
    found : Out(array of streams, always ready)
        The accumulator as each access of the gate found it, two cycles after it.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "add": In(add_layout(c)).array(c.banks),
            "row": In(stream.Signature(row_layout(c), always_ready=True)),
            "access": In(stream.Signature(access_layout(c))).array(len(GATES)),
            "found": Out(stream.Signature(signed(c.accumulator_bits), always_ready=True)).array(len(GATES)),
        })

    def elaborate(self, platform):
        # Each bank is a pipeline: READ (address to the memory), SUM (its output plus the addend, registered), WRITE.
        # Two sums can be younger than what READ sees; the comparisons that select them are made one cycle early.
        c = self._c
        m = Module()
        adding = Signal(c.banks)
        taken = []
        m.d.comb += adding.eq(Cat(add.valid for add in self.add) | self.row.valid.replicate(c.banks))
        free = ~adding
        for gate, access in enumerate(self.access):
            want = Signal(c.banks, name=f"want_{gate}")
            take = Signal(c.banks, name=f"take_{gate}")
            m.d.comb += [
                want.eq(Mux(access.valid, 1 << access.p.bank, 0)),
                take.eq(want & free),
                access.ready.eq((free >> access.p.bank)[0]),
            ]
            free = free & ~want
            taken.append(take)

        reading = Signal(c.banks)
        replacing = Signal(c.banks)
        sum_valid = Signal(c.banks)
        sum_replace = Signal(c.banks, reset_less=True)
        written = Signal(c.banks)
        m.d.comb += [
            reading.eq(_or([adding, *taken])),
            replacing.eq(_or(take & access.p.replace.replicate(c.banks)
                             for take, access in zip(taken, self.access, strict=True))),
        ]
        m.d.sync += [sum_valid.eq(reading), sum_replace.eq(replacing), written.eq(sum_valid)]

        found = []
        for bank, add in enumerate(self.add):
            m.submodules[f"bank_{bank}"] = mem = memory.Memory(
                shape=signed(c.accumulator_bits), depth=max(c.bank_depth, 2), init=[])
            write, read = mem.write_port(), mem.read_port()

            def signal(shape, name, bank=bank):
                return Signal(shape, name=f"{name}_{bank}", reset_less=True)

            # Where nothing is added the lanes and rows send zeros, so that the sources can be joined by OR.
            source = [(add.address, C(0, c.accumulator_bits)), (self.row.p.address, C(0, c.accumulator_bits))]
            source += [(access.p.address & take[bank].replicate(len(access.p.address)),
                        access.p.bias.as_unsigned() & take[bank].replicate(c.accumulator_bits))
                       for take, access in zip(taken, self.access, strict=True)]
            address = signal(bank_address_bits(c), "address")
            bias = signal(c.accumulator_bits, "bias")
            m.d.comb += [
                address.eq(_or(address for address, _ in source)),
                bias.eq(_or(bias for _, bias in source[2:])),
                read.addr.eq(address),
                read.en.eq(reading[bank]),
            ]
            accumulator = signed(c.accumulator_bits)
            sum_address = signal(len(address), "sum_address")
            sum_bias = signal(accumulator, "sum_bias")
            addend = signal(accumulator, "addend")
            added = add.addend | self.row.p.addends[bank] if c.folded else add.addend
            forward_new = signal(1, "forward_new")
            forward_old = signal(1, "forward_old")
            content = signal(accumulator, "content")
            newest = signal(accumulator, "newest")
            older = signal(accumulator, "older")
            written_address = signal(len(address), "written_address")
            m.d.sync += [
                sum_address.eq(address),
                sum_bias.eq(bias),
                addend.eq(added),
                forward_new.eq(sum_valid[bank] & (sum_address == address)),
                forward_old.eq(written[bank] & (written_address == address)),
                newest.eq(Mux(sum_replace[bank], sum_bias, content + addend)),
                older.eq(newest),
                written_address.eq(sum_address),
            ]
            m.d.comb += [
                content.eq(Mux(forward_new, newest, Mux(forward_old, older, read.data))),
                write.addr.eq(written_address),
                write.data.eq(newest),
                write.en.eq(written[bank]),
            ]
            found.append(content)

        for gate, (access, out) in enumerate(zip(self.access, self.found, strict=True)):
            any_found = Signal(name=f"any_found_{gate}")
            bank_found = Signal(c.bank_bits, name=f"bank_found_{gate}", reset_less=True)
            m.d.sync += [
                any_found.eq(access.valid & access.ready),
                bank_found.eq(access.p.bank),
                out.valid.eq(any_found),
                out.payload.eq(Array(found)[bank_found]),
            ]
        return m


def _or(values):
    return reduce(or_, values)


def replay(accumulators, operations):
    """What `Accumulators` does, one operation at a time.

    Parameters
    ----------
    accumulators : dict of (bank, address) to int
        Content; changed in place.
    operations : list of (bank, address, addend) or (bank, address, replace, bias)
        Additions (a row is one a bank) and accesses, in order.

    Returns
    -------
    list of int
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
