"""A text or sequences through a board as fast as board and link can, without a comparison."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from egret.model.evaluate import stream_steps
from egret.model.readout import LOG_FRACTION, ReadOut
from egret.model.sequences import NO_CLASS, Sequences

if TYPE_CHECKING:
    from egret.host.board import Board

__all__ = ["SequenceStream", "Stream", "stream"]

_SHOWN = 100  # steps between two reports of progress


@dataclass(frozen=True)
class Stream:
    """Result of `stream` over a text.

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


@dataclass(frozen=True)
class SequenceStream:
    """Result of `stream` over sequences.

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


def stream(
    board: "Board",
    readout: ReadOut,
    inputs: np.ndarray | Sequences,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> "Stream | SequenceStream":
    """Run a text, or sequences, through a board, from zero state.

    Parameters
    ----------
    board : egret.host.board.Board
        With the image loaded.
    readout : egret.model.readout.ReadOut
        Of the network.
    inputs : np.ndarray of int, shape [N + 1], or Sequences
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions, or in sequences.

    Returns
    -------
    Stream or SequenceStream

    Raises
    ------
    InputError
        The text has fewer than two tokens.
    egret.host.board.BoardError
        The board does not do what it should.
    """
    run = _sequences if isinstance(inputs, Sequences) else _text
    result = run(board, readout, inputs, progress)
    board.counters()  # tells whether an SDRAM has changed meanwhile
    return result


def _text(board, readout, ids, progress):
    pairs = stream_steps(ids, 1)
    board.clear()
    likelihood, total = 0, len(ids) - 1
    tokens = (int(token) for token in ids[:-1])
    sent, received = board.bytes_sent, board.bytes_received
    begin = time.perf_counter()
    if board.identity.head:
        values = board.score(tokens, (readout.target(int(word)) for word in ids[1:]))
    else:
        steps = zip(board.step_many(tokens), pairs, strict=True)
        values = (int(readout.log_probabilities(events[None], targets)[0]) for events, (_, targets) in steps)
    for done, value in enumerate(values, 1):
        likelihood += value
        if progress is not None and (done % _SHOWN == 0 or done == total):
            progress(done, total)
    return Stream(
        total,
        float(np.exp(-likelihood / total * 2.0**-LOG_FRACTION)),
        board.bytes_sent - sent,
        board.bytes_received - received,
        time.perf_counter() - begin,
    )


def _sequences(board, readout, sequences, progress):
    answers, asked = np.full(sequences.classes.shape, NO_CLASS, np.int32), sequences.classes != NO_CLASS
    sent, received, begin = board.bytes_sent, board.bytes_received, time.perf_counter()
    for (sequence, step), events in zip(np.ndindex(answers.shape), board.step_many(sequences.entering()), strict=True):
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
