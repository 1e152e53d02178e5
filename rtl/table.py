"""What units have in common that stream the row of a token: the embedding and the folded rows."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import Configuration, token_bits
from egret.rtl.layouts import load_layout
from egret.rtl.sdram import ADDRESS_BITS, TAGS, beat_layout, burst_layout

__all__ = ["TokenTable"]


class TokenTable(wiring.Component):
    """A table with a row for each token, in block RAM or in the SDRAM, where a row comes in one burst.

    Parameters
    ----------
    configuration : Configuration
        Of the core.
    members : dict of str to wiring.Member
        Further ports.
    bursts : bool
        Whether the rows come from the SDRAM.

    Attributes
    ----------
    bursts : bool

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the table, while ``load_valid`` is high; unused where the rows come from the SDRAM.
    start : In(1), token : In(token_bits(c.tokens))
        Begins the row of ``token``, while ``start`` is high; ``token`` must hold still until the row is over.
    done : Out(1)
        The row is over: nothing is left to come.
    burst : Out(stream.Signature(burst_layout()))
        Where `bursts`: asks the SDRAM for a row.
    beat : In(stream.Signature(beat_layout(c.memory_ratio), always_ready=True))
        Where `bursts`: the words that come, of all bursts; only those with a tag of its own are taken.
    """

    load: Any
    load_valid: Signal
    start: Signal
    token: Signal
    done: Signal
    burst: stream.Interface
    beat: stream.Interface

    def __init__(self, configuration: Configuration, members: dict[str, wiring.Member], *, bursts: bool) -> None:
        self._c, self.bursts = configuration, bursts
        members = members | {
            "load": In(load_layout(configuration)),
            "load_valid": In(1),
            "start": In(1),
            "token": In(token_bits(configuration.tokens)),
            "done": Out(1),
        }
        if bursts:
            members |= {
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(beat_layout(configuration.memory_ratio), always_ready=True)),
            }
        super().__init__(members)

    def _row_of_a_burst(self, m: Module, table: str, beats: int) -> Value:
        """Ask for the row of a token, of so many ``beats``, at each start; return whether one comes."""
        asks = Signal()
        product, address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        starting = Signal(2)
        m.d.comb += [
            self.burst.valid.eq(asks),
            self.burst.p.address.eq(address),
            self.burst.p.count.eq(beats),
            self.burst.p.tag.eq(TAGS.index(table)),
        ]
        m.d.sync += [
            product.eq(self.token * beats),
            address.eq(self._c.sdram_base[table] // self._c.memory_ratio + product),
            starting.eq(Cat(self.start, starting)),
        ]
        with m.If(self.burst.ready):
            m.d.sync += asks.eq(0)
        with m.If(starting[-1]):
            m.d.sync += asks.eq(1)
        return self.beat.valid & (self.beat.p.tag == TAGS.index(table))
