"""Banked accumulators: a read-modify-write pipeline a bank, shared by the lanes and the gates."""

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.payloads import add_layout, bank_address_bits

__all__ = ["Accumulators", "replay"]


def access_layout(c):
    """One access of a gate: a bank, an address, and what replaces the content (or not)."""
    return data.StructLayout({"bank": c.bank_bits, "address": bank_address_bits(c), "replace": 1,
                              "bias": signed(c.accumulator_bits)})


class Accumulators(wiring.Component):
    """Accumulator banks with two kinds of access.

    Additions come from the lanes, at most one a bank and cycle, and are never held up. An access from the gate unit
    returns an accumulator and may replace it; it takes the slot of its bank in a cycle in which no addition does.
    Throughput is one access of either kind a bank and cycle. Accesses take effect in the order in which they enter,
    whatever their distance: a sum still on its way to the memory is forwarded.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    add : In(array of {address, addend}), add_valid : In(banks)
        Additions by bank.
    i : In(stream of {bank, address, replace, bias})
        Accesses.
    o : Out(stream, always ready)
        The accumulator as each access found it, two cycles after it.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "add": In(data.ArrayLayout(add_layout(c), c.banks)),
            "add_valid": In(c.banks),
            "i": In(stream.Signature(access_layout(c))),
            "o": Out(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
        })

    def elaborate(self, platform):
        # Each bank is a pipeline: READ (address to the memory), SUM (its output plus the addend, registered), WRITE.
        # Two sums can be younger than what READ sees; the comparisons that select them are made one cycle early.
        c = self._c
        m = Module()
        access = self.i.p
        m.d.comb += self.i.ready.eq(~self.add_valid.bit_select(access.bank, 1))

        found = []
        for bank in range(c.banks):
            m.submodules[f"bank_{bank}"] = mem = memory.Memory(
                shape=signed(c.accumulator_bits), depth=max(c.bank_depth, 2), init=[])
            write, read = mem.write_port(), mem.read_port()

            granted = Signal(name=f"granted_{bank}")
            valid = Signal(name=f"valid_{bank}")
            address = Signal(bank_address_bits(c), name=f"address_{bank}")
            m.d.comb += [
                granted.eq(self.i.valid & (access.bank == bank) & ~self.add_valid[bank]),
                valid.eq(granted | self.add_valid[bank]),
                address.eq(Mux(self.add_valid[bank], self.add[bank].address, access.address)),
                read.addr.eq(address),
                read.en.eq(valid),
            ]

            sum_valid = Signal(name=f"sum_valid_{bank}")
            sum_address = Signal.like(address, name=f"sum_address_{bank}")
            sum_replace = Signal(name=f"sum_replace_{bank}")
            addend = Signal(signed(c.accumulator_bits), name=f"addend_{bank}")
            forward_new, forward_old = Signal(name=f"forward_new_{bank}"), Signal(name=f"forward_old_{bank}")
            m.d.sync += sum_valid.eq(valid)
            with m.If(valid):
                m.d.sync += [
                    sum_address.eq(address),
                    sum_replace.eq(granted & access.replace),
                    forward_new.eq(sum_valid & (sum_address == address)),
                    forward_old.eq(write.en & (write.addr == address)),
                    addend.eq(Mux(granted, Mux(access.replace, access.bias, 0), self.add[bank].addend)),
                ]

            content = Signal(signed(c.accumulator_bits), name=f"content_{bank}")
            newest, older = Signal.like(content, name=f"newest_{bank}"), Signal.like(content, name=f"older_{bank}")
            m.d.comb += [
                content.eq(Mux(forward_new, newest, Mux(forward_old, older, read.data))),
                write.data.eq(newest),
            ]
            m.d.sync += [
                newest.eq(Mux(sum_replace, 0, content) + addend),
                older.eq(newest),
                write.addr.eq(sum_address),
                write.en.eq(sum_valid),
            ]
            found.append(content)

        bank_found, any_found = Signal(c.bank_bits), Signal()
        m.d.sync += [
            any_found.eq(self.i.valid & self.i.ready),
            bank_found.eq(access.bank),
            self.o.valid.eq(any_found),
            self.o.payload.eq(Array(found)[bank_found]),
        ]
        return m


def replay(accumulators, operations):
    """What `Accumulators` does, one cycle at a time.

    Parameters
    ----------
    accumulators : dict of (bank, address) to int
        Content; changed in place.
    operations : list of (bank, address, addend) or (bank, address, replace, bias)
        Additions and accesses, in order.

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
