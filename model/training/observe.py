"""What a trained network does on a text, in the figures that a study compares.

The network runs step by step on the device that trained it, in float32, with every token predicted once and the state
carried, as `egret.model.evaluate` runs it with numpy; beside what that counts, it gathers distributions.

A histogram is a dict for JSON: ``low`` and ``high``, the outer edges; ``counts``, one a bin of equal width. Values
beyond an edge count in the outermost bin, so the counts add up to the number of values.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from egret.model.checkpoint import Checkpoint
from egret.model.counts import SourceCounts, checkpoint_columns, count_macs
from egret.model.evaluate import Evaluation, stream_steps
from egret.model.training.cells import egru_layer, lstm_layer
from egret.model.training.network import LanguageModel

__all__ = ["Observation", "histogram", "observe", "parameter_histograms"]

_PARAMETERS = ("weight_x", "weight_y", "bias", "bias_y")  # of a layer; not all have the last
_READOUT_ELEMENTS = 1 << 24  # logits taken at once: 64 MB
_DISTANCES = (-2.0, 1.0, 150)  # p lies within +-1 and theta within 0 and 1


@dataclass(frozen=True)
class Observation:
    """Result of `observe`.

    Attributes
    ----------
    evaluation : Evaluation
        Perplexity, activity and operations.
    neurons : list of np.ndarray of float, shape [H], one a layer
        Share of steps in which each neuron had an event.
    distances : list of dict, one a layer, or None
        Histograms of p - theta, over all neurons and steps; None for an LSTM, which has no thresholds.
    """

    evaluation: Evaluation
    neurons: list[np.ndarray]
    distances: list[dict[str, Any]] | None


@torch.no_grad()
def observe(
    checkpoint: Checkpoint,
    ids: np.ndarray,
    *,
    streams: int = 1,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Observation:
    """Run a text through a network, with zero state at the start of each stream and state carried along it.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : np.ndarray of int, shape [N + 1]
        The text; every token after the first is predicted.
    streams : int
        Number of streams B that the text is cut into (`egret.model.evaluate.stream_steps`).
    device : str or torch.device
    progress : callable, optional
        Called now and then as ``progress(done, total)``, both in predictions.

    Returns
    -------
    Observation

    Raises
    ------
    InputError
        See `stream_steps`.
    """
    steps, total = stream_steps(ids, streams), len(ids) - 1
    configuration = checkpoint.configuration
    events = configuration.cell == "egru"
    model = LanguageModel.from_checkpoint(checkpoint).to(device)
    state = model.zero_state(streams)
    sizes = zip(configuration.input_sizes, configuration.hidden_sizes, strict=True)
    active_x, active_y_before, active_y = zip(
        *([torch.zeros(size, dtype=torch.int64, device=device) for size in (inputs, hidden, hidden)]
          for inputs, hidden in sizes),
        strict=True,
    )  # fmt: skip
    distances = [torch.zeros(_DISTANCES[2], dtype=torch.int64, device=device) for _ in model.layers]
    loss = torch.zeros((), dtype=torch.float64, device=device)
    rows = max(1, _READOUT_ELEMENTS // configuration.vocab_size)
    outputs, wanted, waiting, done = [], [], 0, 0
    for inputs, targets in steps:
        count = len(targets)
        x = model.embedding.weight[torch.from_numpy(inputs.astype(np.int64)).to(device)]
        for number, layer in enumerate(model.layers):
            active_x[number].add_((x[:count] != 0).sum(0))
            active_y_before[number].add_((state[number][0][:count] != 0).sum(0))
            parameters = (layer.weight_x, layer.weight_y, layer.bias)
            if events:
                _, event, state[number] = egru_layer(x[None], state[number], *parameters, layer.threshold, layer.bias_y)
                y, c = state[number]
                # The state before reset: the event's value where there is one, else the carried state.
                distance = torch.where(event[0] > 0, y, c)[:count] - layer.threshold
                low, high, bins = _DISTANCES
                distances[number].add_(torch.histc(distance.clamp(low, high), bins, low, high).long())
            else:
                _, state[number] = lstm_layer(x[None], state[number], *parameters)
            x = state[number][0]
            active_y[number].add_((x[:count] != 0).sum(0))
        outputs.append(x[:count])
        wanted.append(targets)
        waiting += count
        done += count
        if waiting >= rows or done == total:
            targets = torch.from_numpy(np.concatenate(wanted).astype(np.int64)).to(device)
            logits = model.logits(torch.cat(outputs))
            loss += functional.cross_entropy(logits, targets, reduction="none").double().sum()
            outputs, wanted, waiting = [], [], 0
            if progress is not None:
                progress(done, total)
    columns = checkpoint_columns(checkpoint)
    sources = SourceCounts(columns)
    sources.steps = total
    sources.x, sources.y = ([count.cpu().numpy() for count in counts] for counts in (active_x, active_y_before))
    sources.s = sources.y  # r is never zero, so r * y' is active where y' is
    neurons = [count.cpu().numpy() for count in active_y]
    sources.events = [int(count.sum()) for count in neurons]
    return Observation(
        evaluation=Evaluation(
            tokens=total, loss=loss.item() / total, activity=sources.activity, macs=count_macs(columns, sources)
        ),
        neurons=[count / total for count in neurons],
        distances=[_as_dict(*_DISTANCES[:2], counts.tolist()) for counts in distances] if events else None,
    )


def histogram(values: np.ndarray, low: float, high: float, bins: int = 100) -> dict[str, Any]:
    """Count values in bins of equal width.

    Parameters
    ----------
    values : np.ndarray
        Of any shape.
    low, high : float
        Outer edges; values beyond count in the outermost bins.
    bins : int

    Returns
    -------
    dict
        A histogram, see the module's description.
    """
    counts, _ = np.histogram(np.clip(values, low, high), bins, (low, high))
    return _as_dict(low, high, counts)


def _as_dict(low: float, high: float, counts: Iterable[int]) -> dict[str, Any]:
    return {"low": float(low), "high": float(high), "counts": [int(count) for count in counts]}


def parameter_histograms(checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Distributions of the recurrent layers' weights and biases.

    Parameters
    ----------
    checkpoint : Checkpoint

    Returns
    -------
    weights, biases : list of dict, one a layer
        Histograms with ``mean`` added; those of weights leave out the zeros, which ``zeros`` counts.
    """
    weights, biases = [], []
    for number in range(checkpoint.configuration.layers):
        tensors = [checkpoint.tensors.get(f"layers.{number}.{name}") for name in _PARAMETERS]
        present = [[part.ravel() for part in kind if part is not None] for kind in (tensors[:2], tensors[2:])]
        values, both = map(np.concatenate, present)
        kept = values[values != 0]
        weights.append({**_symmetric(kept), "zeros": int(values.size - kept.size)})
        biases.append(_symmetric(both))
    return weights, biases


def _symmetric(values: np.ndarray) -> dict[str, Any]:
    """Histogram within +- the largest magnitude, with the mean."""
    largest = float(np.abs(values).max(initial=0)) or 1.0
    mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    return {**histogram(values, -largest, largest), "mean": mean}
