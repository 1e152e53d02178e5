"""Sequences that are not text on a board: every event compared, classes counted, cycles measured."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.measure import Measurement, Mismatch
from egret.model.counts import checkpoint_columns, checkpoint_readout, integer_columns, integer_readout
from egret.model.floating import FloatEngine
from egret.model.integer import IntegerEngine, IntegerNetwork
from egret.model.native import NativeEngine
from egret.model.readout import ReadOut
from egret.model.sequences import NO_CLASS, SequenceEvaluation, Sequences, evaluate_sequences

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.checkpoint import Checkpoint
    from egret.model.compiler.image import Image

__all__ = ["SequenceStream", "evaluate_numbers", "measure_sequences", "stream_sequences"]


def evaluate_numbers(
    network: "Checkpoint | IntegerNetwork",
    sequences: Sequences,
    *,
    native: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> SequenceEvaluation:
    """Run sequences through a network, without a board.

    Parameters
    ----------
    network : Checkpoint or IntegerNetwork
        Whose input is numbers.
    sequences : Sequences
    native : bool
        Whether an integer network runs as machine code.
    progress : callable, optional
        Called as ``progress(done, total)``, both in sequences.

    Returns
    -------
    SequenceEvaluation

    Raises
    ------
    InputError
        There is no C++ compiler, with ``native``.
    """
    if isinstance(network, IntegerNetwork):
        engine = NativeEngine(network) if native else IntegerEngine(network)
        counts, integers = (integer_columns(network), integer_readout(network)), True
    else:
        engine, integers = FloatEngine(network), False
        counts = checkpoint_columns(network), checkpoint_readout(network)
    return evaluate_sequences(engine, *counts, sequences, integers=integers, progress=progress)


class _Checked:
    """A board in the place of the integer network, beside that network, one sequence at a time."""

    def __init__(self, board, network, sequences):
        self._board, self._network = board, IntegerEngine(network)
        self.readout = self._network.readout
        self._answers = board.step_many(_steps(sequences))
        self.steps = self.mismatches = self.wrong_steps = 0
        self.first = None

    def reset_state(self, batch):
        assert batch == 1, "a board runs one stream"
        self._network.reset_state()

    def step(self, x: np.ndarray) -> list[Any]:
        traces, actual = self._network.step(x), next(self._answers)
        expected = traces[-1].y[0]
        found = Mismatch.find(self.steps, expected, actual)
        if found is not None:
            self.mismatches += int(np.count_nonzero(actual != expected))
            self.wrong_steps += 1
            self.first = self.first or found
        self.steps += 1
        return [*traces[:-1], dataclasses.replace(traces[-1], y=actual[None].astype(np.int32))]

    def log_probabilities(self, y: np.ndarray, words: np.ndarray) -> np.ndarray:
        return self._network.log_probabilities(y, words)

    def finish(self):
        """Let the board end: nothing may be left over."""
        assert next(self._answers, None) is None, "a board answered more steps than were asked for"


def _steps(sequences):
    """What enters a board: before each sequence, zero state."""
    for values in sequences.values:
        yield None
        yield from values


def measure_sequences(
    board: "Board",
    image: "Image",
    network: "IntegerNetwork",
    sequences: Sequences,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Measurement:
    """Run sequences on a board, and compare each event with the integer network's.

    Parameters
    ----------
    board : egret.host.board.Board
        Gets the image loaded first.
    image : egret.model.compiler.image.Image
        Compiled from `network`.
    network : IntegerNetwork
        Whose input is numbers.
    sequences : Sequences
    progress : callable, optional
        Called as ``progress(done, total)``, both in sequences.

    Returns
    -------
    egret.host.measure.Measurement
        Its ``evaluation`` is an `egret.model.sequences.SequenceEvaluation`, of what the board sent; its tokens are
        steps. Cycles and bytes have those of the zero state before each sequence.

    Raises
    ------
    InputError
        The board does not do what it should.
    """
    board.load(image)
    engine, before = _Checked(board, network, sequences), board.counters()
    sent, received, begin = board.bytes_sent, board.bytes_received, time.perf_counter()
    counts: dict[str, Any] = {"columns": integer_columns(network), "readout": integer_readout(network)}
    evaluation = evaluate_sequences(engine, **counts, sequences=sequences, integers=True, batch=1, progress=progress)
    engine.finish()
    seconds, sent, received = time.perf_counter() - begin, board.bytes_sent - sent, board.bytes_received - received
    after = board.counters()
    return Measurement(
        evaluation=evaluation,
        mismatches=engine.mismatches,
        wrong_steps=engine.wrong_steps,
        first_mismatch=engine.first,
        counters={name: after[name] - before[name] for name in after},
        lanes=image.configuration.lanes,
        bytes_sent=sent,
        bytes_received=received,
        seconds=seconds,
    )


@dataclass(frozen=True)
class SequenceStream:
    """Result of `stream_sequences`.

    Parameters
    ----------
    tokens : int
        Steps of all sequences together.
    asked : int
        Classes that were asked for.
    right : int
        Of these, those that had the largest score.
    answers : np.ndarray of int32, shape [N, T]
        The class that came out, `egret.model.sequences.NO_CLASS` where none was asked for.
    bytes_sent, bytes_received : int
        On the line.
    seconds : float
        Wall time.
    """

    tokens: int
    asked: int
    right: int
    answers: np.ndarray
    bytes_sent: int
    bytes_received: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the classes that are right, 0 to 1."""
        return self.right / self.asked


def stream_sequences(
    board: "Board",
    readout: ReadOut,
    sequences: Sequences,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> SequenceStream:
    """Run sequences on a board as fast as board and link can, and compare no event.

    Parameters
    ----------
    board : egret.host.board.Board
        With the image loaded.
    readout : egret.model.readout.ReadOut
        Of the network.
    sequences : Sequences
    progress : callable, optional
        Called as ``progress(done, total)``, both in sequences.

    Returns
    -------
    SequenceStream

    Raises
    ------
    InputError
        The board does not do what it should.
    """
    answers, asked = np.full(sequences.classes.shape, NO_CLASS, np.int32), sequences.classes != NO_CLASS
    sent, received, begin = board.bytes_sent, board.bytes_received, time.perf_counter()
    for (sequence, step), events in zip(np.ndindex(answers.shape), board.step_many(_steps(sequences)), strict=True):
        if asked[sequence, step]:
            answers[sequence, step] = readout.scores(events[None])[0].argmax()
        if progress is not None and step == sequences.steps - 1:
            progress(sequence + 1, len(sequences))
    return SequenceStream(
        tokens=answers.size,
        asked=int(asked.sum()),
        right=int((answers == sequences.classes)[asked].sum()),
        answers=answers,
        bytes_sent=board.bytes_sent - sent,
        bytes_received=board.bytes_received - received,
        seconds=time.perf_counter() - begin,
    )
