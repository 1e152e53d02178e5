"""A board measured over a text: every event of its last layer compared with the integer network, and its cycles.

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
from egret.model.evaluate import Evaluation, evaluate, stream_steps
from egret.model.integer import IntegerEngine, IntegerLayer, split
from egret.model.readout import LOG_FRACTION, ReadOut, Sampler
from egret.rtl.protocol import CAUSES

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.compiler.image import Image
    from egret.model.integer import IntegerNetwork

__all__ = [
    "DENSE_STEPS",
    "Measurement",
    "Mismatch",
    "Stream",
    "dense_counterpart",
    "measure",
    "measure_pipeline",
    "pipeline_images",
    "sample",
    "simulation_images",
    "stream",
    "unpruned_counterpart",
]

_SHOWN = 100  # steps between two reports of progress

DENSE_STEPS = 50
"""Steps that suffice for a core without sparsity: each takes as long as any other."""


@dataclass(frozen=True)
class Mismatch:
    """One event value that differs.

    Parameters
    ----------
    step : int
        From zero.
    neuron : int
        Of the last layer.
    expected, actual : int
        Values of the integer network and of the board.
    """

    step: int
    neuron: int
    expected: int
    actual: int

    @classmethod
    def find(cls, step: int, expected: np.ndarray, actual: np.ndarray) -> "Mismatch | None":
        """The first neuron whose actual value, of [H_last], is not the expected one in a step, or None."""
        different = np.flatnonzero(actual != expected)
        if not different.size:
            return None
        neuron = int(different[0])
        return cls(step, neuron, int(expected[neuron]), int(actual[neuron]))

    def __str__(self):
        return (
            f"step {self.step}, last layer, neuron {self.neuron}: the integer network says {self.expected}, "
            f"the board {self.actual}"
        )


@dataclass(frozen=True)
class Measurement:
    """Result of `measure`.

    Attributes
    ----------
    evaluation : Evaluation
        Perplexity of what the board sent; activity and operations of the integer network.
    mismatches : int
        Event values of the last layer that differ from the integer network's.
    wrong_steps : int
        Steps with such values.
    first_mismatch : Mismatch or None
    counters : dict of str to int
        Of the core and the link over these steps.
    lanes : int
        Of the core.
    bytes_sent, bytes_received : int
        On the line, of the steps alone.
    seconds : float
        Wall time.
    """

    evaluation: Evaluation
    mismatches: int
    wrong_steps: int
    first_mismatch: Mismatch | None
    counters: dict[str, int]
    lanes: int
    bytes_sent: int
    bytes_received: int
    seconds: float

    @property
    def cycles_per_token(self) -> float:
        """Cycles of the core for a step."""
        return self.counters["cycles"] / self.counters["tokens"]

    @property
    def lane_utilisation(self) -> float:
        """Non-zero weights multiplied, divided by lanes times cycles."""
        return self.counters["macs"] / (self.lanes * self.counters["cycles"])

    @property
    def bus_utilisation(self) -> float | None:
        """Words that came from an SDRAM, divided by cycles, in each of which one can come; None without an SDRAM."""
        return self.counters["beats"] / self.counters["cycles"] if "beats" in self.counters else None

    @property
    def macs_per_token(self) -> float:
        """Multiplications that the core made."""
        return self.counters["macs"] / self.counters["tokens"]

    @property
    def bound(self) -> float:
        """Cycles per token if every lane multiplied in every cycle."""
        return self.macs_per_token / self.lanes

    @property
    def shares(self) -> dict[str, float]:
        """What the lanes' cycles went into, as shares that add up to 1: dict.

        ``macs``: multiplications; ``packing``: slots of issued words without a weight; then cycles without a word, by
        cause.
        """
        slots = self.lanes * self.counters["cycles"]
        packing = self.lanes * self.counters["words"] - self.counters["macs"]
        return {
            "macs": self.counters["macs"] / slots,
            "packing": packing / slots,
            **{name: self.lanes * self.counters[name] / slots for name in CAUSES if name in self.counters},
        }

    @property
    def tokens_per_second(self) -> float:
        """Steps a second of wall time, the comparison included."""
        return self.evaluation.tokens / self.seconds


@dataclass(frozen=True)
class Stream:
    """Result of `stream`.

    Parameters
    ----------
    tokens : int
        Predictions made.
    perplexity : float
    bytes_sent, bytes_received : int
        On the line.
    seconds : float
        Wall time.
    """

    tokens: int
    perplexity: float
    bytes_sent: int
    bytes_received: int
    seconds: float


class _CheckedBoard:
    """What one of the boards sent, beside what the integer network's layer behind which it ends says."""

    def __init__(self, board, layer):
        self.board, self._layer = board, layer
        self.mismatches, self.wrong_steps, self.first = 0, 0, None
        self._seen = deque()

    def start(self, inputs):
        """Clear the board; gives the events of its steps, as they come."""
        self.board.clear()
        self._bytes = self.board.bytes_sent, self.board.bytes_received
        # Known in advance, so that the link and the core are busy at once.
        for events in self.board.step_many(inputs):
            self._seen.append(events)
            yield events

    def compare(self, step, traces):
        actual, expected = self._seen.popleft(), traces[self._layer].y[0]
        found = Mismatch.find(step, expected, actual)
        if found is not None:
            self.mismatches += int(np.count_nonzero(actual != expected))
            self.wrong_steps += 1
            self.first = self.first or found

    @property
    def bytes(self):
        """Sent and received for the steps."""
        sent, received = self._bytes
        return self.board.bytes_sent - sent, self.board.bytes_received - received


class _CheckedPipeline:
    """Boards one behind the other in the place of the integer network, beside that network."""

    def __init__(self, boards, network, inputs):
        self._boards, self._network, self._inputs, self._steps = boards, network, inputs, 0

    def reset_state(self, batch):
        assert batch == 1, "a board runs one stream"
        self._network.reset_state(1)
        self._events = self._inputs
        for board in self._boards:
            self._events = board.start(self._events)

    def step(self, tokens):
        traces = self._network.step(tokens)
        last, actual = traces[-1], next(self._events)
        for board in self._boards:
            board.compare(self._steps, traces)
        self._steps += 1
        return [*traces[:-1], dataclasses.replace(last, y=actual[None].astype(last.y.dtype))]

    def log_probabilities(self, y, words):
        return self._network.log_probabilities(y, words)

    @property
    def words(self):
        return self._network.words

    def finish(self):
        """Let the boards end: nothing may be left over."""
        assert next(self._events, None) is None, "the board answered more steps than were asked for"


def measure(
    board: "Board",
    image: "Image",
    network: "IntegerNetwork",
    ids: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> "Measurement":
    """Run a text through a board, from zero state, and compare every step with the integer network.

    Parameters
    ----------
    board : egret.host.board.Board
        Gets the image loaded first.
    image : egret.model.compiler.image.Image
        Compiled from `network`.
    network : IntegerNetwork
    ids : np.ndarray of int, shape [N + 1]
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions.

    Returns
    -------
    Measurement

    Raises
    ------
    InputError
        The text has fewer than two tokens, or the board does not do what it should.
    """
    (measurement,) = measure_pipeline([board], [image], network, ids, progress=progress)
    return measurement


def measure_pipeline(
    boards: "list[Board]",
    images: "list[Image]",
    network: "IntegerNetwork",
    ids: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
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
    ids, progress
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
    checked = [_CheckedBoard(board, end - 1) for board, end in zip(boards, ends, strict=True)]
    pipeline = _CheckedPipeline(checked, IntegerEngine(network), [int(token) for token in ids[:-1]])
    before = [board.counters() for board in boards]
    begin = time.perf_counter()
    evaluation = evaluate(pipeline, integer_columns(network), ids, readout=integer_readout(network), progress=progress)
    seconds = time.perf_counter() - begin
    pipeline.finish()
    traffic = [one.bytes for one in checked]  # before the counters are asked for
    after = [board.counters() for board in boards]
    return [
        Measurement(
            evaluation=evaluation,
            mismatches=one.mismatches,
            wrong_steps=one.wrong_steps,
            first_mismatch=one.first,
            counters={name: now[name] - then[name] for name in now},
            lanes=image.configuration.lanes,
            bytes_sent=sent,
            bytes_received=received,
            seconds=seconds,
        )
        for one, image, (sent, received), then, now in zip(checked, images, traffic, before, after, strict=True)
    ]


def stream(
    board: "Board", readout: ReadOut, ids: np.ndarray, *, progress: Callable[[int, int], None] | None = None
) -> "Stream":
    """Run a text through a board, from zero state, as fast as board and link can, and compare nothing.

    Parameters
    ----------
    board : egret.host.board.Board
        With the image loaded.
    readout : egret.model.readout.ReadOut
        Of the network.
    ids : np.ndarray of int, shape [N + 1]
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions.

    Returns
    -------
    Stream

    Raises
    ------
    InputError
        The text has fewer than two tokens, or the board does not do what it should.
    """
    pairs = stream_steps(ids, 1)
    board.clear()
    likelihood, total = 0, len(ids) - 1
    sent, received = board.bytes_sent, board.bytes_received
    begin = time.perf_counter()
    steps = board.step_many(int(token) for token in ids[:-1])
    for done, (events, (_, targets)) in enumerate(zip(steps, pairs, strict=True), 1):
        likelihood += int(readout.log_probabilities(events[None], targets)[0])
        if progress is not None and (done % _SHOWN == 0 or done == total):
            progress(done, total)
    return Stream(
        total,
        float(np.exp(-likelihood / total * 2.0**-LOG_FRACTION)),
        board.bytes_sent - sent,
        board.bytes_received - received,
        time.perf_counter() - begin,
    )


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


def dense_counterpart(network: "IntegerNetwork", *, pruned: bool = False) -> "IntegerNetwork":
    """A network of the same shape in which every neuron has an event in every step, and no weight is zero.

    All weights are 1, inputs and thresholds such that every gate is open: the sums are positive, so the state before
    reset is positive and above the threshold of zero from the first step on.

    Parameters
    ----------
    network : IntegerNetwork
    pruned : bool
        Leave the weights zero that are zero.

    Returns
    -------
    IntegerNetwork
    """

    def ones(weights):
        return (weights != 0).astype(weights.dtype) if pruned else np.ones_like(weights)

    layers = tuple(
        IntegerLayer(
            weight_x=ones(layer.weight_x),
            weight_y=ones(layer.weight_y),
            bias=np.full_like(layer.bias, 1 << 12),
            threshold=np.zeros_like(layer.threshold),
            shift=(1, 1, 1),
        )
        for layer in network.layers
    )
    return dataclasses.replace(network, embedding=np.full_like(network.embedding, 127), layers=layers)


def unpruned_counterpart(network: "IntegerNetwork", *, seed: int = 0) -> "IntegerNetwork":
    """A network of the same shape, and of nearly the same activity, in which no weight is zero.

    The zeros become 1 or -1, at random: the least that an 8-bit weight can be.

    Parameters
    ----------
    network : IntegerNetwork
    seed : int

    Returns
    -------
    IntegerNetwork
    """
    rng = np.random.default_rng(seed)

    def fill(weights):
        least = rng.integers(0, 2, weights.shape, np.int8) * 2 - 1
        return np.where(weights == 0, least, weights).astype(np.int8)

    return dataclasses.replace(
        network,
        layers=tuple(
            dataclasses.replace(layer, weight_x=fill(layer.weight_x), weight_y=fill(layer.weight_y))
            for layer in network.layers
        ),
    )
