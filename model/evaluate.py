"""Perplexity, activity and operation counts of a network over a text, whatever engine runs it.

An engine is anything with ``reset_state(batch)``, ``step(tokens [B])``, which returns one trace a layer with arrays
``x``, ``y_before``, ``s`` and ``y``, ``log_probabilities(y [B, H], words [B]) -> [B]``, in nats or in integers with
`egret.model.readout.LOG_FRACTION` fraction bits, and ``words``, their number (`FloatEngine`, `IntegerEngine`). The
perplexity of an integer network is that of its integers, which a board answers too.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.model.counts import MacCounts, ReadoutCounts, SourceCounts, count_macs
from egret.model.errors import InputError
from egret.model.readout import LOG_FRACTION

if TYPE_CHECKING:
    from egret.model.counts import ColumnCounts, ReadoutColumns

__all__ = ["Evaluation", "EventAgreement", "stream_starts", "stream_steps", "evaluate", "event_agreement", "outputs"]

_READOUT_ELEMENTS = 1 << 20  # logits taken at once: enough rows for an efficient product, few enough for a cache


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes
    ----------
    tokens : int
        Predictions made.
    loss : float
        Mean negative log-likelihood of a token, in nats.
    perplexity : float
        ``exp(loss)``.
    activity : list of float
        Share of neurons with an event per step, 0 to 1, one a layer.
    macs : MacCounts
    readout : ReadoutCounts or None
        What the read-out takes a token, where that was counted.
    sources : SourceCounts or None
        How often each source was active, where that was counted.
    """

    tokens: int
    loss: float
    activity: list[float]
    macs: MacCounts
    readout: ReadoutCounts | None = None
    sources: SourceCounts | None = field(default=None, compare=False, repr=False)

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; infinite where that is too large for a float."""
        return math.exp(self.loss) if self.loss < 709 else math.inf

    @property
    def macs_readout(self) -> float | None:
        """MACs of the read-out a token, where they were counted."""
        return None if self.readout is None else self.readout.macs


def stream_steps(ids: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut a text into B streams such that each token but the first is predicted once.

    Stream b starts where stream b-1 has its last target. Where the predictions do not divide evenly, the first
    streams have one step more.

    Parameters
    ----------
    ids : np.ndarray of int, shape [N + 1]
    batch : int
        B, 1 to N.

    Yields
    ------
    inputs, targets : np.ndarray of int, shape [B] and [S]
        Of one step: targets exist for the first S streams only; S is B except in the last step.

    Raises
    ------
    InputError
        If there is nothing to predict, or there are more streams than predictions.
    """
    starts, steps = stream_starts(ids, batch)
    return _streams(np.asarray(ids), starts, steps)


def _streams(ids, starts, steps):
    for step in range(steps[0]):
        targets = starts[steps > step] + step + 1
        yield ids[starts + step], ids[targets]


def stream_starts(ids: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of the streams of `stream_steps` begins, and how many predictions it makes.

    Parameters
    ----------
    ids : np.ndarray of int, shape [N + 1]
    batch : int
        B, 1 to N.

    Returns
    -------
    starts, steps : np.ndarray of int64, shape [B]

    Raises
    ------
    InputError
        If there is nothing to predict, or there are more streams than predictions.
    """
    predictions = len(ids) - 1
    if predictions < 1:
        raise InputError(f"the text has {len(ids)} tokens; at least 2 are needed, the first predicts the second")
    if not 1 <= batch <= predictions:
        raise InputError(f"batch must be from 1 to {predictions}, the number of predictions, not {batch}")
    steps = predictions // batch + (np.arange(batch) < predictions % batch)
    return np.cumsum(steps) - steps, steps


def evaluate(
    engine: Any,
    columns: "list[ColumnCounts]",
    ids: np.ndarray,
    *,
    readout: "ReadoutColumns | None" = None,
    batch: int = 1,
    reset_every: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> "Evaluation":
    """Run a text through a network, with zero state at the start of each stream and state carried along it.

    Parameters
    ----------
    engine : FloatEngine, IntegerEngine or alike
    columns : list of ColumnCounts
        Of this network's weights.
    ids : np.ndarray of int, shape [N + 1]
        The text; every token after the first is predicted.
    readout : ReadoutColumns, optional
        Of this network's read-out, to count what it takes.
    batch : int
        Number of streams that the text is cut into (`stream_steps`).
    reset_every : int, optional
        Steps of a stream behind which its carried state, not its events, becomes zero again, as EvNN evaluates.
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        See `stream_steps`; ``reset_every`` is below 1; or the float network's logits are too large for float32.
    """
    sources = SourceCounts(columns)
    likelihood, counts, total = 0.0, ReadoutCounts(), len(ids) - 1
    for y, targets in outputs(engine, ids, batch, sources=sources, reset_every=reset_every, progress=progress):
        found = engine.log_probabilities(y, targets)
        if readout is not None:
            counts += readout.count(y, targets)
        # Sums of integers are exact, however many are taken at once.
        likelihood += float(found.sum()) * (2.0**-LOG_FRACTION if np.issubdtype(found.dtype, np.integer) else 1)
    if not math.isfinite(likelihood):
        raise InputError("the network's logits are too large for float32: its weights must be smaller")
    return Evaluation(
        tokens=total,
        loss=-likelihood / total,
        activity=sources.activity,
        macs=count_macs(columns, sources),
        readout=None if readout is None else counts.per_token(total),
        sources=sources,
    )


def outputs(
    engine: Any,
    ids: np.ndarray,
    batch: int,
    *,
    sources: SourceCounts | None = None,
    reset_every: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run a text through a network, and hand over what its read-out is to take, many predictions at once.

    Parameters
    ----------
    engine, ids, batch
        As for `evaluate`.
    sources : SourceCounts, optional
        Counts every step.
    reset_every, progress
        As for `evaluate`.

    Yields
    ------
    y : np.ndarray, shape [P, H]
        Outputs of the last layer.
    targets : np.ndarray of int, shape [P]

    Raises
    ------
    InputError
        See `evaluate`.
    """
    if reset_every is not None and reset_every < 1:
        raise InputError(f"reset_every must be at least 1, not {reset_every}")
    streams = stream_steps(ids, batch)
    total, done = len(ids) - 1, 0
    waiting, wanted, rows = [], [], max(1, _READOUT_ELEMENTS // engine.words)
    engine.reset_state(batch)
    for number, (inputs, targets) in enumerate(streams):
        if reset_every is not None and number % reset_every == 0:
            engine.states = [np.zeros_like(state) for state in engine.states]
        traces = engine.step(inputs)
        if sources is not None:
            sources.add(traces, len(targets))
        waiting.append(traces[-1].y[: len(targets)])
        wanted.append(targets)
        done += len(targets)
        if sum(map(len, wanted)) >= rows or done == total:
            yield np.concatenate(waiting), np.concatenate(wanted)
            waiting, wanted = [], []
            if progress is not None:
                progress(done, total)


@dataclass(frozen=True)
class EventAgreement:
    """How far two networks agree on the events of one layer.

    Attributes
    ----------
    agreement : float
        Share of neurons and steps in which both have an event or neither has one.
    overlap : float
        Events of both divided by events of either (Jaccard index); 1 where neither has any.
    """

    agreement: float
    overlap: float


def event_agreement(
    one: Any, other: Any, ids: np.ndarray, *, batch: int = 1, progress: Callable[[int, int], object] | None = None
) -> "list[EventAgreement]":
    """Compare the events of two networks over a text, each running on its own state.

    Parameters
    ----------
    one, other : FloatEngine, IntegerEngine or alike
        Of one shape.
    ids : np.ndarray of int, shape [N + 1]
        The same steps are run as in `evaluate`.
    batch : int
    progress : callable, optional
        As for `evaluate`.

    Returns
    -------
    list of EventAgreement
        One a layer.

    Raises
    ------
    InputError
        See `stream_steps`.
    """
    streams = stream_steps(ids, batch)
    one.reset_state(batch)
    other.reset_state(batch)
    totals: np.ndarray = np.zeros(0)
    done = 0
    for inputs, targets in streams:
        pairs = [
            (first.y[: len(targets)] != 0, second.y[: len(targets)] != 0)
            for first, second in zip(one.step(inputs), other.step(inputs), strict=True)
        ]
        found = [
            (np.count_nonzero(one == two), np.count_nonzero(one & two), np.count_nonzero(one | two), one.size)
            for one, two in pairs
        ]
        totals = np.array(found) + (totals if totals.size else 0)
        done += len(targets)
        if progress is not None:
            progress(done, len(ids) - 1)
    agreements = []
    for equal, shared, any_event, size in totals.tolist():
        agreements.append(EventAgreement(agreement=equal / size, overlap=shared / any_event if any_event else 1.0))
    return agreements
