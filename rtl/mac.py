"""Multiply-accumulate lanes: a word of packed weights times one value, to the accumulator banks."""

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import VALUE_BITS, WEIGHT_BITS
from egret.rtl.payloads import add_layout, bank_address_bits, word_layout

__all__ = ["Lanes", "additions"]


class Lanes(wiring.Component):
    """Lanes and the crossbar from lanes to banks.

    The compiler has packed every word so that no two of its entries fall into one bank; an entry of weight 0 is no
    entry. One word a cycle, never held up; additions leave two cycles after their word.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    i : In(stream of words, always ready)
    add : Out(array of {valid, address, addend})
        Additions by bank.
    macs : Out(unsigned)
        Entries in use of the word that comes.
    busy : Out(1)
        A word is on its way.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        super().__init__({
            "i": In(stream.Signature(word_layout(c), always_ready=True)),
            "add": Out(add_layout(c)).array(c.banks),
            "macs": Out(range(c.lanes + 1)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        # PRODUCT, then CROSSBAR: at most one lane is for a bank, so what it gets is the OR of all lanes, masked.
        c = self._c
        m = Module()
        base = Signal(bank_address_bits(c))
        m.d.comb += base.eq(Array(c.bank_base)[self.i.p.layer])

        used = Signal(c.lanes)
        targets = []
        carried = []
        for lane in range(c.lanes):
            entry = self.i.p.entries[lane]
            target = Signal(c.banks, name=f"target_{lane}")
            address = Signal(bank_address_bits(c), name=f"address_{lane}", reset_less=True)
            product = Signal(signed(WEIGHT_BITS + VALUE_BITS), name=f"product_{lane}", reset_less=True)
            m.d.comb += used[lane].eq(self.i.valid & (entry.weight != 0))
            m.d.sync += [
                target.eq(Mux(used[lane], 1 << entry.row[:c.bank_bits], 0)),
                address.eq(base + entry.row[c.bank_bits:]),
                product.eq(entry.weight * self.i.p.value),
            ]
            targets.append(target)
            carried.append(Cat(C(1, 1), address, product))

        for number, add in enumerate(self.add):
            chosen = C(0, len(carried[0]))
            for lane in range(c.lanes):
                chosen = chosen | (carried[lane] & targets[lane][number].replicate(len(chosen)))
            m.d.sync += add.eq(chosen)
        m.d.comb += [
            self.macs.eq(sum(used[lane] for lane in range(c.lanes))),
            self.busy.eq(Cat(targets).any() | Cat(add.valid for add in self.add).any()),
        ]
        return m


def additions(entries, value, layer, configuration):
    """What `Lanes` sends for a word.

    Parameters
    ----------
    entries : list of (weight, row), one a lane
    value, layer : int
    configuration : Configuration

    Returns
    -------
    dict of bank to (address, addend)
    """
    c = configuration
    return {row % c.banks: (c.bank_base[layer] + row // c.banks, weight * value)
            for weight, row in entries if weight}
