"""What a training does when: streams of the text, lengths of segments, the learning rate."""

import math

import numpy as np

from egret.model.training.options import LoopOptions

__all__ = ["QUANTUM", "equal_streams", "learning_rate_factor", "segment_lengths"]

QUANTUM = 5
"""Steps; lengths of segments are multiples of it, so that there are few of them to capture as CUDA graphs."""
_SHORT_SHARE = 0.05  # of segments that are drawn around half the length


def equal_streams(ids: np.ndarray, batch: int) -> np.ndarray:
    """Cut a text into streams of equal length; the rest is left out.

    Parameters
    ----------
    ids : np.ndarray of int, shape [N]
    batch : int

    Returns
    -------
    np.ndarray of int64, shape [N // batch, batch]
    """
    steps = len(ids) // batch
    return np.ascontiguousarray(np.asarray(ids[: steps * batch], np.int64).reshape(batch, steps).T)


def learning_rate_factor(epoch: float, options: LoopOptions) -> float:
    """Share of the learning rate of the `options` that applies at an `epoch`, which may be fractional."""
    factor = min(1.0, epoch / options.warmup) if options.warmup else 1.0
    if epoch > options.decay_from:
        done = min(1.0, (epoch - options.decay_from) / (options.epochs - options.decay_from))
        factor *= options.decay_to + (1 - options.decay_to) * 0.5 * (1 + math.cos(math.pi * done))
    return factor


def segment_lengths(steps: int, options: LoopOptions, epoch: int) -> list[int]:
    """Lengths of an epoch's segments.

    Parameters
    ----------
    steps : int
        Steps of the streams, of which the last one is only a target.
    options : LoopOptions
    epoch : int
        The lengths depend on it and on the seed alone.

    Returns
    -------
    list of int
        Positive; their sum is at most ``steps - 1``.
    """
    quantum = QUANTUM if options.bptt >= 4 * QUANTUM else 1
    random = np.random.default_rng((options.seed, epoch))
    left, lengths = steps - 1, []
    while left >= quantum:
        mean = options.bptt if random.random() >= _SHORT_SHARE or not options.bptt_deviation else options.bptt / 2
        length = quantum * max(1, round(random.normal(mean, options.bptt_deviation) / quantum))
        length = min(length, 2 * options.bptt, left // quantum * quantum)
        lengths.append(length)
        left -= length
    return lengths or [left]
