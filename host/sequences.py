"""Sequences that are not text on a board: every event compared, classes counted, cycles measured."""

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.measure import Measurement, Mismatch
from egret.model.counts import checkpoint_columns, checkpoint_readout, integer_columns, integer_readout
from egret.model.floating import FloatEngine
from egret.model.integer import IntegerEngine, IntegerNetwork
from egret.model.native import NativeEngine
from egret.model.sequences import SequenceEvaluation, Sequences, evaluate_sequences

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.checkpoint import Checkpoint
    from egret.model.compiler.image import Image

__all__ = ["evaluate_numbers", "measure_sequences"]


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

    def __init__(self, board, network):
        self._board, self._network = board, IntegerEngine(network)
        self.readout = self._network.readout
        self.steps = self.mismatches = self.wrong_steps = self.sent = self.received = 0
        self.first = None

    def reset_state(self, batch):
        assert batch == 1, "a board runs one stream"
        self._board.clear()
        self._network.reset_state()

    def step(self, x: np.ndarray) -> list[Any]:
        sent, received = self._board.bytes_sent, self._board.bytes_received
        finish = self._board.begin_step(x[0].astype(np.uint8))
        traces = self._network.step(x)  # while the board is at work
        actual = finish()
        self.sent += self._board.bytes_sent - sent
        self.received += self._board.bytes_received - received
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


def measure_sequences(
    board: "Board",
    image: "Image",
    network: "IntegerNetwork",
    sequences: Sequences,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Measurement:
    """Run sequences on a board that has the image loaded, and compare each event with the integer network's.

    Parameters
    ----------
    board : egret.host.board.Board
    image : egret.model.compiler.image.Image
    network : IntegerNetwork
        Whose input is numbers.
    sequences : Sequences
    progress : callable, optional
        Called as ``progress(done, total)``, both in sequences.

    Returns
    -------
    egret.host.measure.Measurement
        Its ``evaluation`` is an `egret.model.sequences.SequenceEvaluation`, of what the board sent; its tokens are
        steps.
    """
    engine, before = _Checked(board, network), board.counters()
    begin = time.perf_counter()
    counts: dict[str, Any] = {"columns": integer_columns(network), "readout": integer_readout(network)}
    evaluation = evaluate_sequences(engine, **counts, sequences=sequences, integers=True, batch=1, progress=progress)
    seconds, after = time.perf_counter() - begin, board.counters()
    return Measurement(
        evaluation=evaluation,
        mismatches=engine.mismatches,
        wrong_steps=engine.wrong_steps,
        first_mismatch=engine.first,
        counters={name: after[name] - before[name] for name in after},
        lanes=image.configuration.lanes,
        bytes_sent=engine.sent,
        bytes_received=engine.received,
        seconds=seconds,
    )
