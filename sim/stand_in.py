"""A core of a few lines with the ports of the real one, in hardware and in Python, to test the link alone.

Its events, and what its read-out tells, depend on every step since the last clear and on every word loaded, so a
command lost, repeated or altered shows in all that follows.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from egret.model.integer import IntegerEngine
from egret.model.readout import BETA_ONE, LOG_FRACTION, SCORE_FRACTION, ReadOut, Sampler, log_sum
from egret.rtl import protocol
from egret.rtl.layouts import Task, sampling_layout, task_layout
from egret.rtl.link.core_port import core_signature
from egret.rtl.link.device import Device
from egret.rtl.link.link import Link

if TYPE_CHECKING:
    from amaranth.hdl import Module

    from egret.model.integer import IntegerNetwork

__all__ = [
    "COUNTERS",
    "DIGEST",
    "GROUPS",
    "HEAD",
    "OUTPUTS",
    "SECTIONS",
    "TOKENS",
    "IntegerCore",
    "StandInBoard",
    "StandInCore",
    "StandInModel",
    "device",
    "integer_device",
]

TOKENS = 300
OUTPUTS = 19
SECTIONS = {0: (2, 16), 3: (5, 4), 5: (1, 3)}
HEAD = 40
"""Entries of the head, where there is a read-out."""
GROUPS = {"groups": 3, "group_size": 200}
"""Its groups."""
COUNTERS = 2
WORD_BYTES = max(word_bytes for word_bytes, _ in SECTIONS.values())
DIGEST = bytes.fromhex("7e7d5e5d00ff2b01")


class StandInModel:
    """The stand-in core in Python, with the methods that `egret.rtl.link.device.Device` needs."""

    def __init__(self) -> None:
        self.memories = {section: [0] * depth for section, (_, depth) in SECTIONS.items()}
        self.state = 0
        self.drawn = (0, 0, 0)
        self.steps = 0
        self.clears = 0

    def step(self, token: int) -> list[tuple[int, int]]:
        """Run a step with ``token``; returns ``(index, value)`` pairs."""
        words = self.memories[0][token % 16] + (self.memories[3][token % 4] >> 24) + self.memories[5][token % 3]
        self.state = (self.state * 5 + token + words + 1) % (1 << 16)
        self.steps += 1
        return [
            (index, (self.state ^ 37 * index) & 0xFF | 1) for index in range(OUTPUTS) if self.state >> (index % 16) & 1
        ]

    def sampling(self, top: int, beta: int, state: int) -> None:
        """Say how words are drawn: ``top``, ``beta`` and ``state`` of the sampling layout."""
        self.drawn = (top, beta, state)

    def score(self, token: int, group: int, index: int) -> int:
        """Run a step with ``token``; returns what `score_of` does of ``group`` and ``index``."""
        self.step(token)
        return self.score_of(group, index)

    def sample(self, token: int) -> int:
        """Run a step with ``token``; returns what `draw` does."""
        self.step(token)
        return self.draw()

    def top(self, token: int, count: int) -> list[tuple[int, int]]:
        """Run a step with ``token``; returns what `top_of` does of ``count``."""
        self.step(token)
        return self.top_of(count)

    def score_of(self, group: int, index: int) -> int:
        """A number, signed, that depends on the target, ``index`` of a ``group``."""
        value = (self.state << 16 | self.state ^ group) ^ index << 4
        return value - (value >> 31 << 32)

    def draw(self) -> int:
        """A word, which depends on those drawn before."""
        top, beta, state = self.drawn
        state = (5 * state + beta + top) % (1 << 64)
        self.drawn = (top, beta, state)
        return (self.state ^ state >> 32) & 0x3F

    def top_of(self, count: int) -> list[tuple[int, int]]:
        """So many pairs, ``count``, of a word and a number."""
        return [((self.state + 7 * place) & 0xFF, -1 - place - (self.state << 4)) for place in range(count)]

    def clear(self) -> None:
        """Set the state to zero."""
        self.state = 0
        self.clears += 1

    def load(self, section: int, index: int, word: int) -> None:
        """Write ``word`` at ``index`` of a ``section``."""
        self.memories[section][index] = word

    def counters(self) -> list[int]:
        """Steps and clears so far."""
        return [self.steps, self.clears]


def device(window: int = protocol.DEFAULT_WINDOW, input_section: int | None = None, *, readout: bool = False) -> Device:
    """The whole stand-in board in Python, with a ``window``, a ``readout`` or not.

    There is an ``input_section`` where events enter.
    """
    head, groups = (HEAD, GROUPS) if readout else (0, {})
    identity = protocol.Identity(
        DIGEST, window, protocol.MAX_PAYLOAD, protocol.DEFAULT_RECEIVE_BYTES, TOKENS, OUTPUTS, COUNTERS, 0, head
    )
    return Device(StandInModel(), identity, SECTIONS, input_section, **groups)


class IntegerCore:
    """The integer network as a core, with the methods that `egret.rtl.link.device.Device` needs.

    Parameters
    ----------
    network : IntegerNetwork
        With a read-out.

    Attributes
    ----------
    steps : int
        Steps so far.
    """

    def __init__(self, network: "IntegerNetwork") -> None:
        self._engine, self._readout = IntegerEngine(network), ReadOut(network)
        self._sampler = Sampler(self._readout)
        self.steps = 0

    def _step(self, token: int) -> np.ndarray:
        self.steps += 1
        return self._engine.step(np.array([token]))[-1].y[0]

    def step(self, token: int) -> list[tuple[int, int]]:
        """Run a step with ``token``; returns ``(index, value)`` pairs."""
        events = self._step(token)
        return [(index, int(events[index])) for index in np.flatnonzero(events).tolist()]

    def clear(self) -> None:
        """Set the state to zero."""
        self._engine.reset_state()

    def load(self, section: int, index: int, word: int) -> None:
        """Take a ``word`` of a ``section`` at ``index``, and do nothing with it: the network is here already."""

    def counters(self) -> list[int]:
        """Steps so far."""
        return [self.steps]

    def sampling(self, top: int, beta: int, state: int) -> None:
        """Say how words are drawn: ``top``, ``beta`` and ``state`` of the sampling layout."""
        self._sampler = Sampler(self._readout, temperature=BETA_ONE / beta)
        self._sampler.top, self._sampler.state = top, state

    def score(self, token: int, group: int, index: int) -> int:
        """Run a step with ``token``; returns the log-probability of word ``index`` of a ``group``, or of the head."""
        readout, y = self._readout, self._step(token)[None]
        if group:
            word = readout.order[readout.starts[group - 1] + index]
            return int(readout.log_probabilities(y, np.array([word]))[0])
        head = readout.scores(y)[0]
        return (int(head[index]) << (LOG_FRACTION - SCORE_FRACTION)) - int(log_sum(head))

    def sample(self, token: int) -> int:
        """Run a step with ``token``; returns the word that is drawn behind it."""
        return self._sampler.sample(self._step(token))

    def top(self, token: int, count: int) -> list[tuple[int, int]]:
        """Run a step with ``token``; returns the ``count`` most probable words and their log-probabilities."""
        return self._readout.top(self._step(token), count)[0]


def integer_device(network: "IntegerNetwork", window: int = protocol.DEFAULT_WINDOW) -> Device:
    """A board in Python that computes as the integer ``network``, which has a read-out; with a ``window``.

    Its one memory is a byte.
    """
    readout = ReadOut(network)
    head = len(readout.biases[0])
    tokens, outputs = len(network.embedding), network.layers[-1].threshold.shape[0]
    identity = protocol.Identity(
        DIGEST, window, protocol.MAX_PAYLOAD, protocol.DEFAULT_RECEIVE_BYTES, tokens, outputs, 1, 0, head
    )
    sizes = {"groups": readout.groups, "group_size": max(readout.sizes, default=0)}
    return Device(IntegerCore(network), identity, {0: (1, 1)}, **sizes)


class StandInCore(wiring.Component):
    """The stand-in core in hardware: one cycle a neuron.

    Parameters
    ----------
    readout : bool

    Members
    -------
    link : In(core_signature(WORD_BYTES, COUNTERS, readout=readout))
        What the link asks of a core; see `egret.rtl.link.core_port.core_signature`.
    """

    link: Any

    def __init__(self, *, readout: bool = False) -> None:
        self._readout = readout
        super().__init__({"link": In(core_signature(WORD_BYTES, COUNTERS, readout=readout))})

    def elaborate(self, platform: Any) -> "Module":
        m, link = Module(), self.link
        reads = {}
        for section, (word_bytes, depth) in SECTIONS.items():
            memory = Memory(shape=8 * word_bytes, depth=depth, init=[])
            m.submodules[f"memory_{section}"] = memory
            write, reads[section] = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(link.load.index),
                write.data.eq(link.load.data),
                write.en.eq(link.load_valid & (link.load.section == section)),
            ]
        token, state, index = Signal(range(TOKENS)), Signal(16), Signal(range(max(OUTPUTS, protocol.MOST_WORDS) + 1))
        steps, clears, wait = Signal(64), Signal(64), Signal(2)
        m.d.comb += [
            reads[0].addr.eq(token % 16),
            reads[3].addr.eq(token % 4),
            reads[5].addr.eq(token % 3),
            link.counters_settled.eq(1),
            link.busy.eq(1),
        ]
        m.d.sync += link.counter_read.eq(Cat(steps, clears).word_select(link.counter_byte, 8))
        asked, drawn = Signal(task_layout()), Signal(sampling_layout())
        if self._readout:
            with m.If(link.token.valid & link.token.ready):
                m.d.sync += asked.eq(link.token.payload)
            with m.If(link.sampling_load):
                m.d.sync += drawn.eq(link.sampling)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [link.busy.eq(0), link.token.ready.eq(~link.clear)]
                m.d.sync += [index.eq(0), token.eq(link.token.payload.token if self._readout else link.token.payload)]
                with m.If(link.clear):
                    m.d.sync += [state.eq(0), clears.eq(clears + 1)]
                    m.next = "CLEAR"
                with m.Elif(link.token.valid):
                    m.next = "STEP"
            with m.State("CLEAR"):
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == 3):
                    m.next = "IDLE"
            with m.State("STEP"):
                m.d.sync += [
                    state.eq(state * 5 + token + reads[0].data + (reads[3].data >> 24) + reads[5].data + 1),
                    steps.eq(steps + 1),
                ]
                m.next = "EVENTS"
            with m.State("EVENTS"):
                end = index == OUTPUTS
                fires = state.bit_select(index[:4], 1)
                m.d.comb += [
                    link.events.valid.eq(end | fires),
                    link.events.payload.end.eq(end),
                ]
                with m.If(~end):
                    m.d.comb += [
                        link.events.payload.index.eq(index),
                        link.events.payload.value.eq((state ^ (37 * index))[:8] | 1),
                    ]
                with m.If(link.events.ready | ~link.events.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(end):
                        m.next = "IDLE"
                        if self._readout:
                            m.d.sync += index.eq(0)
                            m.next = "RESULT"
            if self._readout:
                self._tell(m, asked, drawn, state, index)
        return m

    def _tell(self, m: "Module", asked: Any, drawn: Any, state: Signal, index: Signal) -> None:
        """The state that tells what a read-out would."""
        link, result = self.link, self.link.result.payload
        following = (5 * drawn.state + drawn.beta + drawn.top)[:64]
        with m.State("RESULT"):
            m.d.comb += [link.result.valid.eq(asked.task != Task.EVENTS), result.end.eq(1)]
            with m.Switch(asked.task):
                with m.Case(Task.SCORE):
                    m.d.comb += result.value.eq((Cat(state ^ asked.group, state) ^ (asked.index << 4))[:32])
                with m.Case(Task.SAMPLE):
                    m.d.comb += result.word.eq((state ^ following[32:])[:6])
                with m.Case(Task.TOP):
                    m.d.comb += [
                        result.word.eq((state + 7 * index)[:8]),
                        result.value.eq(-1 - index - (state << 4)),
                        result.end.eq(index == asked.index - 1),
                    ]
            with m.If(link.result.ready | ~link.result.valid):
                m.d.sync += index.eq(index + 1)
                with m.If(result.end):
                    m.next = "IDLE"
            with m.If(link.result.ready & (asked.task == Task.SAMPLE)):
                m.d.sync += drawn.state.eq(following)


class StandInBoard(wiring.Component):
    """Link and stand-in core, with the ports of `egret.rtl.link.accelerator.Accelerator`.

    Parameters
    ----------
    window : int
    resting : bool
        As for `egret.rtl.link.accelerator.Accelerator`.
    input_section : int or None
        As for `egret.rtl.link.link.Link`.
    readout : bool

    Members
    -------
    i : In(stream), o : Out(stream), busy : Out(1)
        As those of `egret.rtl.link.accelerator.Accelerator`.
    rests : Out(1)
        The same, of the link alone.
    """

    i: stream.Interface
    o: stream.Interface
    busy: Signal
    rests: Signal

    def __init__(
        self,
        *,
        window: int = protocol.DEFAULT_WINDOW,
        resting: bool = False,
        input_section: int | None = None,
        readout: bool = False,
    ) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "busy": Out(1),
                **({"rests": Out(1)} if resting else {}),
            }
        )
        self._window, self._input_section = window, input_section
        self._resting, self._readout = resting, readout

    def elaborate(self, platform: Any) -> "Module":
        m = Module()
        m.submodules.core = core = StandInCore(readout=self._readout)
        link = Link(
            digest=DIGEST,
            tokens=TOKENS,
            outputs=OUTPUTS,
            sections=SECTIONS,
            counters=COUNTERS,
            layers=0,
            head=HEAD if self._readout else 0,
            **(GROUPS if self._readout else {}),
            window=self._window,
            input_section=self._input_section,
        )
        m.submodules.link = DomainRenamer("link" if self._resting else "sync")(link)
        wiring.connect(m, wiring.flipped(self.i), link.i)
        wiring.connect(m, wiring.flipped(self.o), link.o)
        wiring.connect(m, link.core, core.link)
        m.d.comb += self.busy.eq(link.busy)
        if self._resting:
            m.d.comb += self.rests.eq(link.waiting)
        return m
