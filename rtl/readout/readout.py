"""The read-out: from the accumulators of the head and of groups of words to log-probabilities and words."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from enum import IntEnum
from itertools import pairwise
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.readout import (
    ALL_WORDS,
    BETA_ONE,
    BY_FACTORS,
    LOG_FRACTION,
    MOST_BETA,
    MOST_TOP,
    SCORE_BITS,
    SCORE_FRACTION,
)
from egret.rtl.blocks import LATENCY
from egret.rtl.layouts import (
    Task,
    access_layout,
    group_bits,
    load_layout,
    memory_layout,
    result_layout,
    sampling_layout,
    task_layout,
)
from egret.rtl.readout.best import LOG, Best
from egret.rtl.readout.dice import Dice
from egret.rtl.readout.logarithm import Logarithm
from egret.rtl.readout.scan import SCORE, Scan, entry_bits, most_entries
from egret.rtl.readout.walk import Walk, Walking

__all__ = ["ReadOut"]

FINER = LOG_FRACTION - SCORE_FRACTION


def _wait(m: Module, *states: str) -> None:
    """Lead through states in which a memory or a register is waited for, to the last one."""
    for state, following in pairwise(states):
        with m.State(state):
            m.next = following


class _Of(IntEnum):
    """What a logarithm of a sum is of."""

    HEAD = 0
    ROWS = 1
    GROUP = 2
    PART = 3


class ReadOut(wiring.Component):
    """Makes of the last layer's events what `egret.model.readout` says, a task at a time.

    It asks for the columns of the head or of a group, and scans the accumulators when all sums are there. Scores stay
    in a memory, over which it walks: once for the sum of their powers, once for the largest where only some rows of the
    head are meant, once to pick a word. For top-k it reads the groups that can matter, and sorts their words into a
    list. To draw from all words it weighs the head's words and each group, picks one of these parts, and reads it
    again.

    Parameters
    ----------
    configuration : Configuration
        Of the core, with a read-out.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memories ``shift``, ``groups`` and ``entries``, while ``load_valid`` is high.
    sampling : In(sampling_layout()), sampling_load : In(1)
        Sets how words are drawn, while ``sampling_load`` is high; only while not ``busy``.
    start : In(1), task : In(task_layout())
        While ``start`` is high, begins a task; only while not ``busy``. Its token is of no meaning here.
    clear : In(1)
        Sets all accumulators of the read-out to zero; only while not ``busy``, and with no access of a gate.
    ask : Out(stream.Signature(group_bits(c)))
        Whose columns are to be added: 0, the head's, or a group's number from 1. The payload holds still until the next
        one.
    fed : In(1)
        High for one cycle when all of them have been.
    access : Out(stream.Signature(access_layout(c, z))), found : In(stream.Signature(signed(accumulator_bits), ...))
        As those of gate z, in use while ``scanning`` is high.
    scanning : Out(1)
        Accumulators are being read.
    o : Out(stream.Signature(result_layout()))
        Results.
    busy : Out(1)
        A task is not over.
    rests : Out(1)
        It waits for columns or a task, and nothing comes to it.
    """

    load: Any
    load_valid: Signal
    sampling: Any
    sampling_load: Signal
    start: Signal
    task: Any
    clear: Signal
    ask: stream.Interface
    fed: Signal
    access: stream.Interface
    found: stream.Interface
    scanning: Signal
    o: stream.Interface
    busy: Signal
    rests: Signal

    def __init__(self, configuration: Configuration) -> None:
        assert configuration.readout is not None
        self._c = c = configuration
        self._shape = configuration.readout
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "sampling": In(sampling_layout()),
                "sampling_load": In(1),
                "start": In(1),
                "task": In(task_layout()),
                "clear": In(1),
                "ask": Out(stream.Signature(group_bits(c))),
                "fed": In(1),
                "access": Out(stream.Signature(access_layout(c, GATES.index("z")))),
                "found": In(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
                "scanning": Out(1),
                "o": Out(stream.Signature(result_layout())),
                "busy": Out(1),
                "rests": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self._c
        self._places = max(most_entries(c), MOST_TOP, self._shape.groups + 1)
        m.submodules.scan = self._scan = Scan(c)
        m.submodules.walk = self._walk = Walk(self._places)
        m.submodules.best = self._best = Best(entry_bits(c))
        connect(m, self._scan.access, flipped(self.access))
        connect(m, flipped(self.found), self._scan.found)
        m.d.comb += [
            self._scan.load.eq(self.load),
            self._scan.load_valid.eq(self.load_valid),
            self.scanning.eq(self._scan.busy),
        ]
        self._now = Signal(task_layout(), reset_less=True)
        self._how = Signal(sampling_layout())  # how words are drawn
        self._matrix = self._matrices(m)
        self._log = Signal(LOG)
        self._listing = Signal()  # whether words are sorted into a list
        self._parting = Signal()  # whether a word is drawn from all
        samples, listed = self._now.task == Task.SAMPLE, ~self._how.top.matches(BY_FACTORS, ALL_WORDS)
        m.d.comb += [
            self._listing.eq((self._now.task == Task.TOP) | (samples & listed)),
            # Without groups by factors is the same.
            self._parting.eq(samples & (self._how.top == ALL_WORDS) & (self._shape.groups != 0)),
        ]
        with m.If(self.sampling_load):
            m.d.sync += self._how.eq(self.sampling)
        with m.If(self.start):
            m.d.sync += self._now.eq(self.task)
        self._sequence(m)
        return m

    def _matrices(self, m: Module) -> Any:
        """First entry and size of the matrix that is asked for; known three cycles after its number."""
        layout = memory_layout(self._c, "groups")
        section = memory_sections(self._c)["groups"]
        m.submodules.groups = groups = memory.Memory(shape=layout, depth=max(section.words, 2), init=[])
        write, read = groups.write_port(), groups.read_port()
        matrix = Signal(layout, reset_less=True)
        m.d.comb += [
            write.addr.eq(self.load.index),
            Value.cast(write.data).eq(self.load.data),
            write.en.eq(self.load_valid & (self.load.section == section.number)),
            read.addr.eq(self.ask.payload),
        ]
        m.d.sync += matrix.eq(read.data)
        return matrix

    def _sequence(self, m: Module) -> None:
        """Run the steps of a task, each of which is a state of one machine."""
        self._of = Signal(_Of)
        self._drawing = Signal()  # whether sums are for a draw
        self._weighing = Signal()  # whether they are for the weight of a part
        self._choosing = Signal()  # whether it is a part that is drawn
        self._whole, self._bound, self._offset, self._value = (
            Signal(LOG, name=name) for name in ("whole", "bound", "offset", "value")
        )
        self._at = Signal(range(self._places + 1))
        self._entry, self._word = Signal(entry_bits(self._c)), Signal(16)
        self._rows_of = Signal(range(max(self._shape.groups, 2)))
        self._amount = Signal(range(self._places + 1))  # of what is walked over
        self._words = Signal(range(self._places + 1))  # of the matrix that is asked for
        m.d.comb += [
            self.busy.eq(1),
            self._walk.beta.eq(Mux((self._drawing & ~self._choosing) | self._weighing, self._how.beta, BETA_ONE)),
            self._walk.place.eq(self._at),
            self._best.most.eq(Mux(self._now.task == Task.TOP, self._now.index, self._how.top)),
            self._best.place.eq(self._at),
            self._best.i.p.value.eq(self._offset + (self._walk.score << FINER)),
            self._best.i.p.entry.eq(self._matrix.first + self._at),
            self._scan.entry.eq(self._entry),
            self._amount.eq(self._matrix.size),
            self._words.eq(Mux(self.ask.payload == 0, self._shape.head, self._matrix.size)),
            self._walk.i.valid.eq(self._scan.o.valid),
            self._walk.i.p.place.eq(self._scan.o.p.place),
            self._walk.i.p.score.eq(self._scan.o.p.score),
        ]
        with m.If(self._drawing):
            with m.If(self._listing):
                m.d.comb += self._amount.eq(self._best.count)
            with m.Elif(self._choosing):
                m.d.comb += self._amount.eq(self._shape.groups + 1)
            with m.Elif(self._parting):
                m.d.comb += self._amount.eq(self._words)
        comes = Cat(self.load_valid, self.sampling_load, self.start, self.clear, self.fed).any()
        with m.FSM(name="sequencer") as sequencer:
            m.d.comb += self.rests.eq((sequencer.ongoing("IDLE") | sequencer.ongoing("FEEDING")) & ~comes)
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    self.ask.payload.eq(0),
                    self._rows_of.eq(0),
                    self._value.eq(0),
                    self._word.eq(0),
                    self._drawing.eq(self.task.task == Task.SAMPLE),
                    self._choosing.eq(0),
                ]
                with m.If(~self._how.top.matches(BY_FACTORS, *([] if self._shape.groups else [ALL_WORDS]))):
                    m.d.sync += self._drawing.eq(0)
                with m.If(self.start):
                    m.next = "ASK"
                with m.Elif(self.clear):
                    m.next = "CLEAR"
            self._reading(m)
            self._logarithm(m)
            self._logged(m)
            self._draw(m)
            self._list(m)
            if self._shape.groups:
                self._part(m)
            self._answer(m)

    def _start_walk(self, m: Module, kind: Walking, begin: Any, end: Any) -> None:
        m.d.comb += [
            self._walk.start.eq(1),
            self._walk.kind.eq(kind),
            self._walk.begin.eq(begin),
            self._walk.end.eq(end),
        ]

    def _reading(self, m: Module) -> None:
        """Read the accumulators of the head or a group, or set all to zero; then add the powers up."""
        c, scan, shape = self._c, self._scan, self._shape
        bases = [C(c.readout_base[kind], len(scan.base)) for kind in ("head", "group")]
        second = Signal()
        with m.State("CLEAR"):
            m.d.comb += [
                scan.start.eq(1),
                scan.clear.eq(1),
                scan.base.eq(Mux(second, bases[1], bases[0])),
                scan.size.eq(Mux(second, shape.group_size, shape.entries)),
            ]
            m.next = "CLEARING"
        with m.State("CLEARING"):
            with m.If(~scan.busy):
                m.d.sync += second.eq(~second if shape.groups else 0)
                with m.If(second | (shape.groups == 0)):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "CLEAR"
        with m.State("ASK"):
            m.d.comb += self.ask.valid.eq(1)
            with m.If(self.ask.ready):
                m.next = "FEEDING"
        with m.State("FEEDING"):
            with m.If(self.fed):
                m.next = "SCAN"
        with m.State("SCAN"):
            m.d.comb += [
                scan.start.eq(1),
                scan.base.eq(Mux(self.ask.payload == 0, bases[0], bases[1])),
                scan.first.eq(self._matrix.first),
                scan.size.eq(self._matrix.size),
            ]
            m.d.sync += self._of.eq(Mux(self.ask.payload == 0, _Of.HEAD, _Of.GROUP))
            m.next = "SCANNING"
        with m.State("SCANNING"):
            with m.If(~scan.busy):
                m.next = "SUM"
                if shape.groups:
                    with m.If(self._drawing & self._parting):
                        m.next = "PART"
        with m.State("SUM"):
            self._start_walk(m, Walking.SUM, 0, self._amount)
            m.next = "SUMMING"
        with m.State("SUMMING"):
            with m.If(~self._walk.busy):
                with m.If(self._drawing):
                    m.next = "DRAW"
                with m.Else():
                    m.next = "LOGARITHM"
        # The rows of a group have a largest score of their own.
        begin = Signal.like(self._walk.begin)
        m.d.comb += begin.eq(shape.head + self._rows_of * shape.rows)
        with m.State("ROWS"):
            self._start_walk(m, Walking.LARGEST, begin, begin + shape.rows)
            m.d.sync += self._of.eq(_Of.ROWS)
            m.next = "ROWS_LARGEST"
        with m.State("ROWS_LARGEST"):
            with m.If(~self._walk.busy):
                self._start_walk(m, Walking.SUM, begin, begin + shape.rows)
                m.next = "SUMMING"

    def _logarithm(self, m: Module) -> None:
        """Take the logarithm of a sum of powers."""
        m.submodules.logarithm = logarithm = Logarithm()
        m.d.comb += [
            logarithm.total.eq(self._walk.total),
            logarithm.base.eq(Mux(self._weighing, 0, self._walk.largest << FINER)),
            self._log.eq(logarithm.o),
        ]
        with m.State("LOGARITHM"):
            m.d.comb += logarithm.start.eq(1)
            m.next = "LOGGING"
        with m.State("LOGGING"):
            with m.If(logarithm.done):
                m.next = "LOGGED"

    def _logged(self, m: Module) -> None:
        """Go on with a logarithm, whatever it is of."""
        bound = self._log - self._whole
        scoring = self._now.task == Task.SCORE
        with m.State("LOGGED"):
            m.d.sync += self._at.eq(0)
            with m.Switch(self._of):
                with m.Case(_Of.HEAD):
                    m.d.sync += [self._whole.eq(self._log), self._offset.eq(-self._log)]
                    with m.If(~scoring):
                        m.d.comb += self._best.start.eq(1)
                        m.next = "SORT"
                    with m.Else():
                        m.d.sync += [self._at.eq(self._now.index), self._rows_of.eq(self._now.group - 1)]
                        with m.If((self._now.group == 0) | (self._shape.groups == 0)):
                            m.next = "READ"
                        with m.Else():
                            m.next = "ROWS"
                with m.Case(_Of.ROWS):
                    m.d.sync += self._bound.eq(bound)
                    with m.If(scoring):
                        m.d.sync += self.ask.payload.eq(self._now.group)
                        m.next = "ASK"
                    with m.Else():
                        m.next = "BOUND"
                with m.Case(_Of.GROUP):
                    m.d.sync += self._offset.eq(self._bound - self._log)
                    with m.If(scoring):
                        m.d.sync += self._at.eq(self._now.index)
                        m.next = "READ"
                    with m.Else():
                        m.next = "SORT"
                with m.Default():
                    if self._shape.groups:
                        m.next = "WEIGH"
            if self._shape.groups:
                with m.If(self._parting & (self._of == _Of.HEAD)):
                    m.next = "PART" if self._shape.head else "ROWS"
                with m.If(self._parting & (self._of == _Of.GROUP)):
                    m.next = "PART"

    def _draw(self, m: Module) -> None:
        """Draw a number below a sum, and pick the place that it falls into."""
        walk, shape = self._walk, self._shape
        m.submodules.dice = dice = Dice()
        m.d.comb += [
            dice.load.eq(self.sampling_load),
            dice.state.eq(self.sampling.state),
            dice.total.eq(walk.total),
            walk.number.eq(dice.number),
        ]
        with m.State("DRAW"):
            m.d.comb += dice.start.eq(1)
            m.next = "DRAWING"
        with m.State("DRAWING"):
            with m.If(dice.done):
                m.next = "PICK"
        with m.State("PICK"):
            self._start_walk(m, Walking.PICK, 0, self._amount)
            m.next = "PICKING"
        of_group = Signal.like(walk.picked)
        m.d.comb += of_group.eq(walk.picked - shape.head)
        with m.State("PICKING"):
            m.d.sync += [self._at.eq(walk.picked), self._entry.eq(self._matrix.first + walk.picked)]
            with m.If(~walk.busy):
                with m.If(self._listing):
                    m.next = "ITEM"
                with m.Elif(self._choosing):
                    m.d.sync += [self._choosing.eq(0), self.ask.payload.eq(walk.picked)]
                    m.next = "ASK"
                with m.Elif((self.ask.payload == 0) & (walk.picked >= shape.head)):
                    m.d.sync += self.ask.payload.eq((of_group >> (shape.rows.bit_length() - 1)) + 1)
                    m.next = "ASK"
                with m.Else():
                    m.next = "WORD"

    def _list(self, m: Module) -> None:
        """Sort the words of a matrix into the list, and choose the group that is read next."""
        best, shape = self._best, self._shape
        groups = max(shape.groups, 2)
        m.submodules.bounds = bounds = memory.Memory(
            shape=data.StructLayout({"value": LOG, "read": 1}), depth=groups, init=[]
        )
        self._bounds_write, read = bounds.write_port(), bounds.read_port()
        write = self._bounds_write
        have, self._most, which = Signal(), Signal(LOG), Signal(range(groups))
        most = self._most
        m.d.comb += [
            write.addr.eq(self._rows_of),
            write.data.value.eq(self._bound),
            read.addr.eq(self._rows_of),
        ]
        last_group = self._rows_of == shape.groups - 1
        with m.State("SORT"):
            with m.If(self._at != self._words):
                m.next = "FETCH"
            with m.Elif(~best.busy):
                with m.If(shape.groups == 0):
                    m.next = "LISTED"
                with m.Elif(self._of == _Of.HEAD):
                    m.next = "ROWS"
                with m.Else():
                    m.next = "CHOOSE"
                m.d.sync += [self._rows_of.eq(0), have.eq(0)]
        _wait(m, "FETCH", "GIVE")
        with m.State("GIVE"):
            m.d.comb += best.i.valid.eq(1)
            with m.If(best.i.ready):
                m.d.sync += self._at.eq(self._at + 1)
                m.next = "SORT"
        with m.State("BOUND"):
            m.d.comb += write.en.eq(1)
            m.d.sync += [self._rows_of.eq(Mux(last_group, 0, self._rows_of + 1)), have.eq(0)]
            m.next = "CHOOSE"
            if shape.groups:
                with m.If(self._parting):
                    m.next = "NEXT_PART"
            with m.If(~last_group):
                m.next = "ROWS"
        self._stored = bound = Signal(read.data.shape(), reset_less=True)
        m.d.sync += bound.eq(read.data)
        _wait(m, "CHOOSE", "FETCH_BOUND", "COMPARE")
        with m.State("COMPARE"):
            with m.If(~bound.read & (~have | (bound.value > most))):
                m.d.sync += [have.eq(1), most.eq(bound.value), which.eq(self._rows_of)]
            m.d.sync += self._rows_of.eq(self._rows_of + 1)
            with m.If(last_group):
                m.next = "CHOSEN"
            with m.Else():
                m.next = "CHOOSE"
        with m.State("CHOSEN"):
            m.d.comb += [write.addr.eq(which), write.data.read.eq(1)]
            m.d.sync += [self._bound.eq(most), self.ask.payload.eq(which + 1)]
            with m.If(have & ((best.count != best.most) | (most >= best.last.value))):
                m.d.comb += write.en.eq(1)
                m.next = "ASK"
            with m.Else():
                m.next = "LISTED"
        half = 1 << (SCORE_BITS - 1)
        self._exact = Signal(signed(len(most) + 1), reset_less=True)  # what is rounded where no word of the list is
        rounded, self._rounded = Signal.like(self._exact), Signal(SCORE)
        m.d.comb += [
            rounded.eq((Mux(self._parting, self._exact, best.item.value) + (1 << (FINER - 1))) >> FINER),
            self._rounded.eq(Mux(rounded < -half, -half, Mux(rounded > half - 1, half - 1, rounded))),
        ]
        with m.State("LISTED"):
            m.d.sync += self._at.eq(0)
            with m.If((self._now.task == Task.TOP) | (best.count == 1)):
                m.next = "ITEM"
            with m.Else():
                m.next = "COPY"
        _wait(m, "COPY", "FETCH_COPY", "PUT")
        with m.State("PUT"):
            self._put(m)
            m.d.sync += self._at.eq(self._at + 1)
            with m.If(self._at == best.count - 1):
                m.d.sync += self._drawing.eq(1)
                m.next = "SUM"
            with m.Else():
                m.next = "COPY"

    def _put(self, m: Module) -> None:
        """Write what is rounded as a score to the place ``at``."""
        m.d.comb += [
            self._walk.i.valid.eq(1),
            self._walk.i.p.place.eq(self._at),
            self._walk.i.p.score.eq(self._rounded),
        ]

    def _part(self, m: Module) -> None:
        """Weigh the words of the head, or of a group, or draw one of them; and draw one of these parts."""
        walk, shape, write = self._walk, self._shape, self._bounds_write
        of_head, weight = Signal(LOG), Signal(LOG)
        best = Signal(SCORE, reset_less=True)
        scaled = Signal(signed(SCORE_BITS + MOST_BETA.bit_length()), reset_less=True)
        m.d.sync += [best.eq(self._rounded), scaled.eq(best * self._how.beta[: MOST_BETA.bit_length()])]
        last_group = self._rows_of == shape.groups - 1
        # The rows among the head's entries are no words.
        with m.State("PART"):
            self._start_walk(m, Walking.LARGEST, 0, self._words)
            m.d.sync += [self._weighing.eq(~self._drawing), self._of.eq(_Of.PART)]
            m.next = "PART_LARGEST"
        with m.State("PART_LARGEST"):
            with m.If(~walk.busy):
                self._start_walk(m, Walking.SUM, 0, self._words)
                m.next = "SUMMING"
        # The weight is known four cycles later.
        with m.State("WEIGH"):
            m.d.sync += [self._weighing.eq(0), self._exact.eq(self._offset + (walk.largest << FINER))]
            m.next = "ROUND"
        _wait(m, "ROUND", "SCALE", "WEIGHT")
        with m.State("WEIGHT"):
            m.d.sync += weight.eq((scaled >> (SCORE_FRACTION + BETA_ONE.bit_length() - 1 - LOG_FRACTION)) + self._log)
            m.next = "WEIGHED"
        with m.State("WEIGHED"):
            m.d.comb += write.data.value.eq(weight)
            with m.If((self.ask.payload == (0 if shape.head else 1)) | (weight > self._most)):
                m.d.sync += self._most.eq(weight)
            with m.If(self.ask.payload == 0):
                m.d.sync += of_head.eq(weight)
                m.next = "ROWS"
            with m.Else():
                m.d.comb += write.en.eq(1)
                m.d.sync += self._rows_of.eq(Mux(last_group, 0, self._rows_of + 1))
                m.next = "NEXT_PART"
                with m.If(last_group):
                    m.d.sync += self._at.eq(0)
                    m.next = "OF_HEAD"
        _wait(m, "NEXT_PART", "FETCH_PART", "ASK_PART")
        with m.State("ASK_PART"):
            m.d.sync += [self._bound.eq(self._stored.value), self.ask.payload.eq(self._rows_of + 1)]
            m.next = "ASK"
        # A head without words is the least score, whose power is nothing.
        least = -(1 << len(self._most) - 1)
        with m.State("OF_HEAD"):
            m.d.sync += self._exact.eq(of_head - self._most if shape.head else least)
            m.next = "PUT_PART"
        _wait(m, "OF_GROUP", "FETCH_WEIGHT", "HELD_WEIGHT")
        with m.State("HELD_WEIGHT"):
            m.d.sync += [self._exact.eq(self._stored.value - self._most), self._rows_of.eq(self._rows_of + 1)]
            m.next = "PUT_PART"
        with m.State("PUT_PART"):
            self._put(m)
            m.d.sync += self._at.eq(self._at + 1)
            m.next = "OF_GROUP"
            with m.If(self._at == shape.groups):
                m.d.sync += [self._drawing.eq(1), self._choosing.eq(1)]
                m.next = "SUM"

    def _answer(self, m: Module) -> None:
        """Look up what is answered, and answer."""
        top = self._now.task == Task.TOP
        waited = Signal(range(LATENCY + 2))
        m.d.comb += [
            self.o.p.word.eq(self._word),
            self.o.p.value.eq(self._value),
            self.o.p.end.eq(~top | (self._at == self._best.count - 1)),
        ]
        _wait(m, "READ", "FETCH_SCORE", "SCORED")
        with m.State("SCORED"):
            m.d.sync += self._value.eq(self._offset + (self._walk.score << FINER))
            m.next = "ANSWER"
        _wait(m, "ITEM", "FETCH_ITEM", "FOUND")
        with m.State("FOUND"):
            m.d.sync += [self._entry.eq(self._best.item.entry), self._value.eq(Mux(top, self._best.item.value, 0))]
            m.next = "WORD"
        with m.State("WORD"):
            m.d.sync += [waited.eq(waited + 1), self._word.eq(self._scan.word)]
            with m.If(waited == LATENCY):
                m.d.sync += waited.eq(0)
                m.next = "ANSWER"
        with m.State("ANSWER"):
            m.d.comb += self.o.valid.eq(1)
            with m.If(self.o.ready):
                m.d.sync += self._at.eq(self._at + 1)
                with m.If(self.o.p.end):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "ITEM"
