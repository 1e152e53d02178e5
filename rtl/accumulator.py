"""Banked accumulators: a read-modify-write pipeline a bank, shared by the lanes and the gates."""

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import GATES
from egret.rtl.payloads import access_layout, add_layout, bank_address_bits

__all__ = ["Accumulators", "replay"]


class Accumulators(wiring.Component):
    """Accumulator banks with two kinds of access.

    Additions come from the lanes, at most one a bank and cycle, and are never held up. An access from a gate returns
    an accumulator and may replace it; it takes the slot of its bank in a cycle in which no addition and no access of
    an earlier gate does. Throughput is one operation of either kind a bank and cycle. Operations take effect in the
    order in which they enter, whatever their distance: a sum still on its way to the memory is forwarded.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    add : In(array of {valid, address, addend})
        Additions by bank.
    access : In(array of streams of {bank, address, replace, bias})
        Accesses by gate.
    found : Out(array of streams, always ready)
        The accumulator as each access of the gate found it, two cycles after it.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "add": In(add_layout(c)).array(c.banks),
            "access": In(stream.Signature(access_layout(c))).array(len(GATES)),
            "found": Out(stream.Signature(signed(c.accumulator_bits), always_ready=True)).array(len(GATES)),
        })

    def elaborate(self, platform):
        # Each bank is a pipeline: READ (address to the memory), SUM (its output plus the addend, registered), WRITE.
        # Two sums can be younger than what READ sees; the comparisons that select them are made one cycle early.
        c = self._c
        m = Module()
        wanted = [[access.valid & (access.p.bank == bank) for access in self.access] for bank in range(c.banks)]
        free = [Signal(c.banks, name=f"free_{gate}") for gate in range(len(GATES))]
        for gate, access in enumerate(self.access):
            m.d.comb += [
                free[gate].eq(Cat(~(self.add[bank].valid | Cat(wanted[bank][:gate]).any())
                                  for bank in range(c.banks))),
                access.ready.eq(free[gate].bit_select(access.p.bank, 1)),
            ]

        found = []
        for bank in range(c.banks):
            m.submodules[f"bank_{bank}"] = mem = memory.Memory(
                shape=signed(c.accumulator_bits), depth=max(c.bank_depth, 2), init=[])
            write, read = mem.write_port(), mem.read_port()
            add = self.add[bank]

            accessed, replaced = Signal(name=f"accessed_{bank}"), Signal(name=f"replaced_{bank}")
            address = Signal(bank_address_bits(c), name=f"address_{bank}")
            bias = Signal(signed(c.accumulator_bits), name=f"bias_{bank}")
            m.d.comb += [address.eq(add.address), bias.eq(self.access[0].p.bias)]
            for access, want in reversed(list(zip(self.access, wanted[bank], strict=True))):
                with m.If(want & ~add.valid):
                    m.d.comb += [address.eq(access.p.address), bias.eq(access.p.bias),
                                 accessed.eq(1), replaced.eq(access.p.replace)]
            m.d.comb += [read.addr.eq(address), read.en.eq(add.valid | accessed)]

            sum_valid = Signal(name=f"sum_valid_{bank}")
            sum_address = Signal.like(address, name=f"sum_address_{bank}", reset_less=True)
            sum_replace = Signal(name=f"sum_replace_{bank}", reset_less=True)
            sum_bias = Signal.like(bias, name=f"sum_bias_{bank}", reset_less=True)
            addend = Signal.like(add.addend, name=f"addend_{bank}", reset_less=True)
            forward_new = Signal(name=f"forward_new_{bank}", reset_less=True)
            forward_old = Signal(name=f"forward_old_{bank}", reset_less=True)
            written, written_address = Signal(name=f"written_{bank}"), Signal.like(sum_address,
                                                                                   name=f"written_address_{bank}")
            m.d.sync += [
                sum_valid.eq(read.en),
                sum_address.eq(address),
                sum_replace.eq(replaced),
                sum_bias.eq(bias),
                addend.eq(add.addend & add.valid.replicate(len(add.addend))),
                forward_new.eq(sum_valid & (sum_address == address)),
                forward_old.eq(written & (written_address == address)),
            ]

            content, newest, older = (Signal(signed(c.accumulator_bits), name=f"{name}_{bank}", reset_less=True)
                                      for name in ("content", "newest", "older"))
            m.d.comb += [
                content.eq(Mux(forward_new, newest, Mux(forward_old, older, read.data))),
                write.addr.eq(written_address),
                write.data.eq(newest),
                write.en.eq(written),
            ]
            m.d.sync += [
                newest.eq(Mux(sum_replace, sum_bias, content + addend)),
                older.eq(newest),
                written_address.eq(sum_address),
                written.eq(sum_valid),
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


def replay(accumulators, operations):
    """What `Accumulators` does, one operation at a time.

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
