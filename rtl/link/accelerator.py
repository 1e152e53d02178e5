"""A core behind its link: one byte stream each way."""

from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import input_section, memory_sections
from egret.rtl import protocol
from egret.rtl.core import RESTING, Core
from egret.rtl.link.link import Link
from egret.rtl.outer import OuterTiming, outer_pins

__all__ = ["DOMAINS", "Accelerator"]

DOMAINS = ("link", *RESTING)
"""Clock domains of the parts of an accelerator that can rest."""


class Accelerator(wiring.Component):
    """Everything of a board that does not depend on its pins.

    Parameters
    ----------
    configuration : Configuration
        Of the core.
    window, receive_bytes, max_payload : int
        As for `egret.rtl.link.link.Link`.
    resting : bool
        As for `egret.rtl.core.Core`, for the parts of `DOMAINS`; and in no cycle that is left out ``i.valid`` is high.
    timing : OuterTiming, optional
        Of the SDRAM, where that is the store; `egret.rtl.outer.outer_timing` when not given.

    Members
    -------
    i, o : In(stream.Signature(8)), Out(stream.Signature(8))
        Bytes from and to the host, as ``docs/protocol.md`` has them.
    busy : Out(1)
        As that of `egret.rtl.link.link.Link`; also while an SDRAM is being started.
    rests : Out(len(DOMAINS))
        Where `resting`: as that of `egret.rtl.core.Core`, for the parts of `DOMAINS`.
    sdram : Out(outer_pins(configuration.memory_ratio))
        Pins of the store ``sdram``. Until it has been started no byte is taken.
    """

    i: stream.Interface
    o: stream.Interface
    busy: Signal
    rests: Signal
    sdram: Any

    def __init__(
        self,
        configuration: Configuration,
        *,
        window: int = protocol.DEFAULT_WINDOW,
        receive_bytes: int = protocol.DEFAULT_RECEIVE_BYTES,
        max_payload: int = protocol.MAX_PAYLOAD,
        resting: bool = False,
        timing: OuterTiming | None = None,
    ) -> None:
        self.configuration = configuration
        self._timing = timing
        self._resting = resting
        self._limits: dict[str, Any] = {
            "window": window,
            "receive_bytes": receive_bytes,
            "max_payload": max_payload,
        }
        members = {
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(8)),
            "busy": Out(1),
        }
        if resting:
            members["rests"] = Out(len(DOMAINS))
        if configuration.store == "sdram":
            members["sdram"] = Out(outer_pins(configuration.memory_ratio))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        c = self.configuration
        m = Module()
        m.submodules.core = core = Core(c, timing=self._timing, resting=self._resting)
        sections = [*memory_sections(c).values(), *([input_section(c)] if c.takes_events else [])]
        sizes = {}
        if c.readout is not None:
            sizes = {"head": c.readout.entries, "groups": c.readout.groups, "group_size": c.readout.group_size}
        link = Link(
            digest=c.digest,
            tokens=c.tokens,
            outputs=c.hidden[-1],
            layers=c.layers,
            counters=len(core.counters),
            sections={section.number: (section.word_bytes, section.words) for section in sections},
            input_section=input_section(c).number if c.takes_events else None,
            **sizes,
            **self._limits,
        )
        m.submodules.link = DomainRenamer("link" if self._resting else "sync")(link)
        ready = Const(1, 1)
        if c.store == "sdram":
            ready = core.ready
            wiring.connect(m, core.sdram, wiring.flipped(self.sdram))
        wiring.connect(m, wiring.flipped(self.o), link.o)
        if c.readout is not None:
            wiring.connect(m, core.o_result, link.core.result)
            m.d.comb += [core.sampling.eq(link.core.sampling), core.sampling_load.eq(link.core.sampling_load)]
        wiring.connect(m, link.core.token, core.i_tokens)
        wiring.connect(m, core.o_events, link.core.events)
        m.d.comb += [
            link.i.valid.eq(self.i.valid & ready),
            link.i.payload.eq(self.i.payload),
            self.i.ready.eq(link.i.ready & ready),
            core.load.eq(link.core.load),
            core.load_valid.eq(link.core.load_valid),
            core.clear.eq(link.core.clear),
            link.core.busy.eq(core.busy),
            core.counter_byte.eq(link.core.counter_byte),
            link.core.counter_read.eq(core.counter_read),
            link.core.counters_settled.eq(core.counters_settled),
            self.busy.eq(link.busy | ~ready),
        ]
        if self._resting:
            m.d.comb += self.rests.eq(Cat(link.waiting, core.rests))
        return m
