"""A board measured over a text, or over sequences: every answer compared with the integer network, and its cycles.

`measure` is the engine ``rtl`` of ``egret evaluate``; `dense_counterpart` makes the network that a core without any
sparsity to use would have to run, which gives the measured speed-up.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.lookups import estimate_lookups
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import Evaluation, evaluate, stream_starts
from egret.model.integer import IntegerEngine, split
from egret.model.readout import Sampler
from egret.model.sequences import Sequences, evaluate_sequences
from egret.rtl.protocol import CAUSES

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.compiler.image import Image
    from egret.model.integer import IntegerNetwork

__all__ = [
    "DENSE_STEPS",
    "Measurement",
    "Mismatch",
    "measure",
    "measure_pipeline",
    "pipeline_images",
    "sample",
    "simulation_images",
]

DENSE_STEPS = 50
"""Steps that suffice for a core without sparsity: each takes as long as any other."""


@dataclass(frozen=True)
class Mismatch:
    """One number that differs.

    Parameters
    ----------
    step : int
        From zero.
    neuron : int or None
        Of the last layer, where it is an event value.
    expected, actual : int
        Values of the integer network and of the board.
    what : str
        What it is, where it is no event value.
    """

    step: int
    neuron: int | None
    expected: int
    actual: int
    what: str = ""

    @classmethod
    def find(cls, step: int, expected: np.ndarray, actual: np.ndarray) -> "Mismatch | None":
        """The first neuron whose actual value, of [H_last], is not the expected one in a step, or None."""
        different = np.flatnonzero(actual != expected)
        if not different.size:
            return None
        neuron = int(different[0])
        return cls(step, neuron, int(expected[neuron]), int(actual[neuron]))

    def __str__(self):
        where = self.what or f"last layer, neuron {self.neuron}"
        return f"step {self.step}, {where}: the integer network says {self.expected}, the board {self.actual}"


@dataclass(frozen=True)
class Measurement:
    """Result of `measure`.

    Attributes
    ----------
    evaluation : Evaluation
        Perplexity of what the board sent; activity and operations of the integer network. Of sequences an
        `egret.model.sequences.SequenceEvaluation`, whose tokens are steps.
    mismatches : int
        Numbers that differ from the integer network's: event values of the last layer, or log-probabilities of a core
        with a read-out.
    wrong_steps : int
        Steps with such values.
    first_mismatch : Mismatch or None
    counters : dict of str to int
        Of the core and the link over these steps, and over the zero state before each sequence.
    lanes, multipliers : int
        Of the core.
    bytes_sent, bytes_received : int
        On the line, of the steps alone; of sequences, of the zero state before each, too.
    seconds : float
        Wall time.
    """

    evaluation: Evaluation
    mismatches: int
    wrong_steps: int
    first_mismatch: Mismatch | None
    counters: dict[str, int]
    lanes: int
    multipliers: int
    bytes_sent: int
    bytes_received: int
    seconds: float

    @property
    def compared(self) -> str:
        """What the numbers are that were compared."""
        return "log-probabilities" if "readout_macs" in self.counters else "event values"

    @property
    def cycles_per_token(self) -> float:
        """Cycles of the core for a step."""
        return self.counters["cycles"] / self.counters["tokens"]

    @property
    def lane_utilisation(self) -> float:
        """Cycles in which a lane multiplied a weight that is not zero, divided by lanes times cycles."""
        return self._multiplying / (self.lanes * self.counters["cycles"])

    @property
    def _multiplying(self) -> float:
        """Cycles of lanes with a multiplication; a weight that is taken in a pair counts as half of one."""
        alone = self.lanes / self.multipliers
        return self.counters["macs"] - (1 - alone) * self.counters.get("readout_macs", 0)

    @property
    def bus_utilisation(self) -> float | None:
        """Beats that came from an SDRAM, divided by cycles, in each of which one can come; None without an SDRAM."""
        return self.counters["beats"] / self.counters["cycles"] if "beats" in self.counters else None

    @property
    def macs_per_token(self) -> float:
        """Multiplications that the core made, for its read-out too."""
        return self.counters["macs"] / self.counters["tokens"]

    @property
    def macs_readout_per_token(self) -> float | None:
        """Of these, those for its read-out; None where it has none."""
        macs = self.counters.get("readout_macs")
        return None if macs is None else macs / self.counters["tokens"]

    @property
    def bound(self) -> float:
        """Cycles per token if every lane multiplied in every cycle."""
        return self._multiplying / self.counters["tokens"] / self.lanes

    @property
    def shares(self) -> dict[str, float]:
        """What the lanes' cycles went into, as shares that add up to 1: dict.

        ``macs``: multiplications; ``packing``: slots of issued words without a weight; then cycles without a word, by
        cause.
        """
        slots = self.lanes * self.counters["cycles"]
        packing = self.lanes * self.counters["words"] - self._multiplying
        return {
            "macs": self._multiplying / slots,
            "packing": packing / slots,
            **{name: self.lanes * self.counters[name] / slots for name in CAUSES if name in self.counters},
        }

    @property
    def tokens_per_second(self) -> float:
        """Steps a second of wall time, the comparison included."""
        return self.evaluation.tokens / self.seconds


class _Checked:
    """Boards in the place of the integer network, beside that network: a stream of the text each, or all sequences.

    A board's steps begin with those of the others, so that all simulated ones are busy at once.
    """

    def __init__(self, network, streams):
        self._network, self._streams, self._steps = network, streams, 0

    def reset_state(self, batch):
        assert batch == len(self._streams), "a board runs one stream"
        self._network.reset_state(batch)
        if self._steps == 0:
            for stream in self._streams:
                stream.start(self._network)

    def _answers(self):
        """What came for this step, of each stream that still has one, with its row."""
        rows = [row for row, stream in enumerate(self._streams) if self._steps < stream.steps]
        self._steps += 1
        return [(row, self._streams[row], next(self._streams[row].answers)) for row in rows]

    @property
    def words(self):
        return self._network.words

    @property
    def readout(self):
        return self._network.readout

    def finish(self):
        """Let the boards end: nothing may be left over."""
        for stream in self._streams:
            assert next(stream.answers, None) is None, "a board answered more steps than were asked for"


class _Compared:
    """A board from a step of the whole text on: what was wrong, and the bytes on its line."""

    def __init__(self, board, first_step):
        self.board, self._first_step = board, first_step
        self.mismatches, self.wrong_steps, self.first = 0, 0, None

    def _begin(self):
        self._bytes = self.board.bytes_sent, self.board.bytes_received

    def _wrong(self, found, count):
        self.mismatches += count
        self.wrong_steps += 1
        self.first = self.first or found

    @property
    def bytes(self):
        """Sent and received for the steps."""
        sent, received = self._bytes
        return self.board.bytes_sent - sent, self.board.bytes_received - received


class _CheckedBoard(_Compared):
    """What one of the boards sent, beside what the integer network's layer behind which it ends says."""

    def __init__(self, board, layer, first_step):
        super().__init__(board, first_step)
        self._layer, self._seen = layer, deque()

    def start(self, inputs):
        """Gives the events of its steps, as they come."""
        self._begin()
        # Known in advance, so that the link and the core are busy at once.
        for events in self.board.step_many(inputs):
            self._seen.append(events)
            yield events

    def compare(self, step, traces, row):
        actual, expected = self._seen.popleft(), traces[self._layer].y[row]
        found = Mismatch.find(self._first_step + step, expected, actual)
        if found is not None:
            self._wrong(found, int(np.count_nonzero(actual != expected)))


class _EventStream:
    """Boards one behind the other, and the tokens that go in."""

    def __init__(self, boards, tokens):
        self.boards, self._tokens, self.steps = boards, tokens, len(tokens)

    def start(self, _):
        for one in self.boards:
            one.board.clear()
        self.answers = map(int, self._tokens)
        for board in self.boards:
            self.answers = board.start(self.answers)


class _NumberStream:
    """A board, and the sequences that go in, each from zero state."""

    def __init__(self, board, sequences):
        self.boards, self._sequences, self.steps = [board], sequences, sequences.classes.size

    def start(self, _):
        self.answers = self.boards[0].start(self._sequences.entering())


class _CheckedEvents(_Checked):
    """Boards without a read-out: what they send are events of the last layer."""

    def step(self, tokens):
        traces = self._network.step(tokens)
        y, step = traces[-1].y.copy(), self._steps
        for row, stream, actual in self._answers():
            y[row] = actual
            for board in stream.boards:
                board.compare(step, traces, row)
        return [*traces[:-1], dataclasses.replace(traces[-1], y=y)]

    def log_probabilities(self, y, words):
        return self._network.log_probabilities(y, words)


class _ScoreStream(_Compared):
    """A board with a read-out, and the text that it scores."""

    def __init__(self, board, ids, first_step):
        super().__init__(board, first_step)
        self._ids, self.steps, self._compared = [int(token) for token in ids], len(ids) - 1, 0

    def start(self, network):
        self.board.clear()
        self._begin()
        self.answers = self.board.score(self._ids[:-1], map(network.readout.target, self._ids[1:]))

    def compare(self, expected, actual):
        if actual != expected:
            step = self._first_step + self._compared
            self._wrong(Mismatch(step, None, expected, actual, "log-probability"), 1)
        self._compared += 1


class _CheckedScores(_Checked):
    """Boards with a read-out: what they send are log-probabilities."""

    def __init__(self, network, streams):
        super().__init__(network, streams)
        self._seen = []

    def step(self, tokens):
        # The boards are at work on what follows meanwhile.
        self._seen += [(stream, value) for _, stream, value in self._answers()]
        return self._network.step(tokens)

    def log_probabilities(self, y, words):
        seen, self._seen = self._seen, []
        expected = self._network.log_probabilities(y, words)
        for (stream, actual), right in zip(seen, expected.tolist(), strict=True):
            stream.compare(right, actual)
        return np.array([actual for _, actual in seen], np.int64)


def measure(
    boards: "Board | Sequence[Board]",
    image: "Image",
    network: "IntegerNetwork",
    inputs: np.ndarray | Sequences,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> "Measurement":
    """Run a text, or sequences, through a board, from zero state, and compare every step with the integer network.

    Of a core with a read-out log-probabilities are compared, else the events of its last layer.

    Parameters
    ----------
    boards : egret.host.board.Board or list of them
        Get the image loaded first. Of several each runs one of the streams that the text is cut into
        (`egret.model.evaluate.stream_steps`), all at the same time. Sequences run on one.
    image : egret.model.compiler.image.Image
        Compiled from `network`.
    network : IntegerNetwork
    inputs : np.ndarray of int, shape [N + 1], or Sequences
        A text, or what enters a network of numbers.
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions, or in sequences.

    Returns
    -------
    Measurement
        Of all boards together. A step of a mismatch is the place in the text, or in all sequences.

    Raises
    ------
    InputError
        The text has fewer than two tokens, there are more boards than predictions or several for sequences, or a board
        does not do what it should.
    """
    boards = list(boards) if isinstance(boards, Sequence) else [boards]
    cut = [(0, inputs)] if isinstance(inputs, Sequences) else _cut(inputs, len(boards))
    if len(cut) != len(boards):
        raise InputError(f"sequences run on one board, not on {len(boards)}")
    for board in boards:
        board.load(image)
    parts, engine = list(zip(boards, cut, strict=True)), IntegerEngine(network)
    if image.configuration.readout is None:
        checked = [_CheckedBoard(board, image.configuration.layers - 1, start) for board, (start, _) in parts]
        streams = [
            _NumberStream(one, part) if isinstance(part, Sequences) else _EventStream([one], part[:-1])
            for one, (_, part) in zip(checked, cut, strict=True)
        ]
        runs = _CheckedEvents(engine, streams)
    else:
        checked = [_ScoreStream(board, part, start) for board, (start, part) in parts]
        runs = _CheckedScores(engine, checked)
    measurements = _measure(checked, [image] * len(boards), runs, network, inputs, progress, len(boards))
    counters = [one.counters for one in measurements]
    return dataclasses.replace(
        measurements[0],
        mismatches=sum(one.mismatches for one in measurements),
        wrong_steps=sum(one.wrong_steps for one in measurements),
        first_mismatch=next((one.first_mismatch for one in measurements if one.first_mismatch is not None), None),
        counters={name: sum(one[name] for one in counters) for name in counters[0]},
        bytes_sent=sum(one.bytes_sent for one in measurements),
        bytes_received=sum(one.bytes_received for one in measurements),
    )


def _cut(ids, streams):
    """The streams of a text: where each begins, and its tokens."""
    starts, steps = (numbers.tolist() for numbers in stream_starts(ids, streams))
    return [(start, ids[start : start + count + 1]) for start, count in zip(starts, steps, strict=True)]


def measure_pipeline(
    boards: "list[Board]",
    images: "list[Image]",
    network: "IntegerNetwork",
    ids: np.ndarray,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> "list[Measurement]":
    """`measure` a network that is cut into parts, one a board: the events of each board enter the next one.

    Parameters
    ----------
    boards : list of egret.host.board.Board
        All of them are busy at once, each with another step.
    images : list of egret.model.compiler.image.Image
        Of the parts that `egret.model.integer.split` makes of `network`.
    network : IntegerNetwork
        The whole network.
    ids : np.ndarray of int, shape [N + 1]
    progress
        As for `measure`.

    Returns
    -------
    list of Measurement
        One a board, its events compared with those of the network's layer behind which the part ends; the evaluation
        is that of all together.

    Raises
    ------
    InputError
        As `measure`.
    """
    for board, image in zip(boards, images, strict=True):
        board.load(image)
    ends = accumulate(image.configuration.layers for image in images)
    checked = [_CheckedBoard(board, end - 1, 0) for board, end in zip(boards, ends, strict=True)]
    pipeline = _CheckedEvents(IntegerEngine(network), [_EventStream(checked, ids[:-1])])
    return _measure(checked, images, pipeline, network, ids, progress)


def _measure(checked, images, engine, network, inputs, progress, batch=1):
    """Measurements of boards, with what they said in an engine beside the network."""
    before = [one.board.counters() for one in checked]
    begin = time.perf_counter()
    columns, readout = integer_columns(network), integer_readout(network)
    if isinstance(inputs, Sequences):
        options = {"integers": True, "batch": batch, "progress": progress}
        evaluation = evaluate_sequences(engine, columns, readout, inputs, **options)
    else:
        evaluation = evaluate(engine, columns, inputs, readout=readout, batch=batch, progress=progress)
    seconds = time.perf_counter() - begin
    engine.finish()
    traffic = [one.bytes for one in checked]  # before the counters are asked for
    after = [one.board.counters() for one in checked]
    return [
        Measurement(
            evaluation=evaluation,
            mismatches=one.mismatches,
            wrong_steps=one.wrong_steps,
            first_mismatch=one.first,
            counters={name: now[name] - then[name] for name in now},
            lanes=image.configuration.lanes,
            multipliers=image.configuration.multipliers,
            bytes_sent=sent,
            bytes_received=received,
            seconds=seconds,
        )
        for one, image, (sent, received), then, now in zip(checked, images, traffic, before, after, strict=True)
    ]


def simulation_images(network: "IntegerNetwork", *others: "IntegerNetwork", **options: Any) -> "list[Image]":
    """Compile networks of one shape for the simulation of one core, whose weight memory is just large enough.

    Parameters
    ----------
    network : IntegerNetwork
        The network that decides how wide the runs and the weights are.
    *others : IntegerNetwork
        Their matrices may have no more values than those of ``network``.
    **options
        Of `configuration_for`; None is ignored.

    Returns
    -------
    list of Image
    """
    options = {name: value for name, value in options.items() if value is not None}
    configuration = configuration_for(network, **options)
    options["weight_bits"] = configuration.weight_bits
    words = [configuration_for(other, **options).weight_words for other in others]
    configuration = dataclasses.replace(configuration, weight_words=max([configuration.weight_words, *words]))
    return [compile_image(one, configuration) for one in (network, *others)]


def pipeline_images(
    network: "IntegerNetwork", behind: Sequence[int], *, lookups: list[np.ndarray] | None = None, **options: Any
) -> "list[Image]":
    """Compile the parts of a network for boards in a row.

    Parameters
    ----------
    network : IntegerNetwork
    behind : list of int
        As for `egret.model.integer.split`.
    lookups : list of np.ndarray, one a layer, optional
        As for `compile_image`, of the whole network; estimated when not given, as a part writes no text.
    **options
        Of `configuration_for`; None is ignored.
        ``folded_tokens`` is for the first part, the only one whose input is tokens.

    Returns
    -------
    list of Image
    """
    options = {name: value for name, value in options.items() if value is not None}
    images, first = [], 0
    for part in split(network, behind):
        configuration = configuration_for(part, **options)
        if lookups is None and configuration.resident_words:
            lookups = estimate_lookups(network, configuration.folded_tokens)
        last = first + len(part.layers)
        images.append(compile_image(part, configuration, lookups=None if lookups is None else lookups[first:last]))
        options.pop("folded_tokens", None)
        first = last
    return images


def sample(network: "IntegerNetwork", count: int, *, seed: int = 0) -> np.ndarray:
    """Tokens that an integer network writes itself, so that it can be measured without a text.

    Parameters
    ----------
    network : IntegerNetwork
    count : int
    seed : int

    Returns
    -------
    np.ndarray of int32, shape [count]
    """
    engine = IntegerEngine(network)
    sampler = Sampler(engine.readout, seed=seed)
    tokens = [0]
    while len(tokens) < count:
        tokens.append(sampler.sample(engine.step(np.array(tokens[-1:]))[-1].y[0]))
    return np.array(tokens, np.int32)
