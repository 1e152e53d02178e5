"""One scale for the read-out of a trained network, chosen on a text.

A network that has seen its training text a thousand times is surer of its predictions than it has reason to be on
another text. One number mends the largest part of it: all logits times a scale. The scale goes into the parameters, so
the calibrated network is an ordinary one of the same size. Where the read-out is tied, the embedding takes it, and the
first layer's input weights its inverse: every state and event stays what it was, but for rounding.

Quantisation to few bits makes a network less sure, too, so what is to be quantised is calibrated as it will be then::

    scale = calibrate(IntegerEngine(quantise(checkpoint, weight_bits=4)), ids)
    network = quantise(scale_readout(checkpoint, scale), weight_bits=4)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from egret.model.checkpoint import Checkpoint
from egret.model.errors import InputError
from egret.model.evaluate import outputs

if TYPE_CHECKING:
    from egret.model.floating import FloatEngine
    from egret.model.integer import IntegerEngine

__all__ = ["calibrate", "scale_readout"]

_STEP = 1 / 16
_SCALES = range(8, 33)
"""Scales tried, in steps: 1/2 to 2."""


def calibrate(
    network: "FloatEngine | IntegerEngine",
    ids: np.ndarray,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """The scale of the logits that predicts a text best.

    The loss is convex in the scale; it is computed at multiples of 1/16, and a parabola through the best of them and
    its neighbours gives the scale.

    Parameters
    ----------
    network : FloatEngine, IntegerEngine or alike
    ids : np.ndarray of int, shape [N + 1]
        A text that is used for nothing else, such as the validation text; every token after the first is predicted.
    batch : int
        Streams that the text is cut into (`egret.model.evaluate.stream_steps`).
    progress : callable, optional
        As for `egret.model.evaluate.evaluate`.

    Returns
    -------
    float
        From 1/2 to 2.

    Raises
    ------
    InputError
        See `egret.model.evaluate.stream_steps`; or logits are too large for float32.
    """
    losses = np.zeros(len(_SCALES))
    for y, targets in outputs(network, ids, batch, progress=progress):
        losses += _losses(network.read_out(y), targets)
    if not np.isfinite(losses).all():
        raise InputError("the network's logits are too large to be calibrated: its weights must be smaller")
    best = min(max(int(np.argmin(losses)), 1), len(losses) - 2)
    left, middle, right = losses[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    offset = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return float((_SCALES[best] + np.clip(offset, -1, 1)) * _STEP)


@np.errstate(over="ignore", invalid="ignore")  # then the losses are not finite
def _losses(logits, targets):
    """Sum of the negative log-likelihoods of targets [B] at every scale, from one exponential of the logits [B, V]."""
    logits = (logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    chosen = logits[np.arange(len(targets)), targets].astype(np.float64)
    factor = np.exp(logits * _STEP)
    power = np.exp(logits * (_STEP * _SCALES[0]))
    losses = []
    for scale in _SCALES:
        losses.append((np.log(power.sum(axis=1, dtype=np.float64)) - scale * _STEP * chosen).sum())
        power *= factor
    return np.array(losses)


def scale_readout(checkpoint: Checkpoint, scale: float) -> Checkpoint:
    """A network whose logits are another's times a scale.

    Parameters
    ----------
    checkpoint : Checkpoint
    scale : float
        Positive.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        A weight would be too large for float32.
    """
    tied = checkpoint.configuration.tied
    factors = {"embedding.weight": scale, "layers.0.weight_x": 1 / scale} if tied else {"readout.weight": scale}
    factors |= dict.fromkeys(("readout.bias", "readout.group_weight", "readout.group_bias"), scale)
    with np.errstate(over="ignore"):
        tensors = {name: tensor * np.float32(factors.get(name, 1)) for name, tensor in checkpoint.tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite([tensor.min(), tensor.max()]).all():
            raise InputError(f"{name} is too large to be scaled by {factors[name]:.3g}: its weights must be smaller")
    return Checkpoint(checkpoint.configuration, tensors, checkpoint.vocabulary)
