"""The recurrent cells: one layer over one segment with plain PyTorch operations.

The EGRU cell, per step, with y' and c' the output and the state of the step before::

    u = sigma(W_ux x + W_uy y' + b_u)
    r = sigma(W_rx x + W_ry y' + b_r)
    z = tanh (W_zx x + W_zy (r * y') + b_z)        reset "before"
    z = tanh (W_zx x + r * (W_zy y' + b_y) + b_z)  reset "after", b_y: the inner bias
    p = u*z + (1-u)*c'
    e = H(p - theta), H(0) = 1
    y = e*p,  c = p - e*theta

The step function H has the surrogate gradient ``slope * max(0, 1 - |p - theta| / width)``. Gates are stacked u | r | z,
or i | f | g | o for the LSTM. Sequences are time-major: inputs [T, B, I], outputs [T, B, H]. A state is (y, c) for EGRU
and (h, c) for LSTM, each [B, H].
"""

import warnings
from typing import Any

import torch
from torch.nn import functional

__all__ = ["SLOPE", "WIDTH", "State", "egru_layer", "event", "lstm_layer"]

SLOPE = 3.6
WIDTH = 1 / 3.6
_PADDING = 64  # sizes that fit the tensor cores are multiples of it

State = tuple[torch.Tensor, torch.Tensor]
"""State of one layer: y and c, or h and c, each [B, H]."""


class _Event(torch.autograd.Function):
    """H(distance) with a triangular surrogate gradient."""

    @staticmethod
    def forward(ctx: Any, distance: torch.Tensor, slope: float, width: float) -> torch.Tensor:
        ctx.save_for_backward(distance)
        ctx.slope, ctx.width = slope, width
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None, None]:
        (gradient,), (distance,) = gradients, ctx.saved_tensors
        surrogate = ctx.slope * (1 - distance.abs() / ctx.width).clamp(min=0)
        return gradient * surrogate, None, None


def event(distance: torch.Tensor, slope: float = SLOPE, width: float = WIDTH) -> torch.Tensor:
    """Whether a state has reached its threshold, with a gradient.

    Parameters
    ----------
    distance : torch.Tensor
        p - theta, any shape.
    slope, width : float
        Surrogate gradient: ``slope * max(0, 1 - |distance| / width)``.

    Returns
    -------
    torch.Tensor
        1 where ``distance >= 0``, else 0, in the dtype of `distance`.
    """
    return _Event.apply(distance, slope, width)


def egru_layer(
    x: torch.Tensor,
    state: State,
    weight_x: torch.Tensor,
    weight_y: torch.Tensor,
    bias: torch.Tensor,
    threshold: torch.Tensor,
    bias_y: torch.Tensor | None = None,
    *,
    slope: float = SLOPE,
    width: float = WIDTH,
) -> tuple[torch.Tensor, torch.Tensor, State]:
    """Run one EGRU layer over a segment.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
    state : tuple of torch.Tensor
        y and c, each [B, H].
    weight_x, weight_y, bias, threshold : torch.Tensor
        Shapes [3H, I], [3H, H], [3H] and [H], gates u | r | z.
    bias_y : torch.Tensor, shape [H], optional
        Inner bias of reset "after"; without one the reset is "before".
    slope, width : float
        Of the surrogate gradient.

    Returns
    -------
    outputs : torch.Tensor, shape [T, B, H]
        Event values y; zero where there is no event.
    events : torch.Tensor, shape [T, B, H]
        e, 0 or 1, with the surrogate gradient.
    state : tuple of torch.Tensor
        y and c after the last step.
    """
    y, c = state
    size = threshold.shape[0]
    from_inputs = functional.linear(x, weight_x, bias)
    weight_ur, weight_z = weight_y[: 2 * size], weight_y[2 * size :]
    outputs, events = [], []
    for from_input in from_inputs:
        if bias_y is None:
            u, r = torch.sigmoid(from_input[:, : 2 * size] + functional.linear(y, weight_ur)).chunk(2, dim=1)
            z = torch.tanh(from_input[:, 2 * size :] + functional.linear(r * y, weight_z))
        else:
            recurrent = functional.linear(y, weight_y)
            u, r = torch.sigmoid(from_input[:, : 2 * size] + recurrent[:, : 2 * size]).chunk(2, dim=1)
            z = torch.tanh(from_input[:, 2 * size :] + r * (recurrent[:, 2 * size :] + bias_y))
        p = u * z + (1 - u) * c
        e = event(p - threshold, slope, width)
        y = e * p
        c = p - e * threshold
        outputs.append(y)
        events.append(e)
    return torch.stack(outputs), torch.stack(events), (y, c)


def lstm_layer(
    x: torch.Tensor, state: State, weight_x: torch.Tensor, weight_y: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, State]:
    """Run one LSTM layer over a segment; cuDNN on a CUDA device.

    There sizes are padded with zeros to multiples of 64, which fit the tensor cores. A padded neuron's state stays
    zero, so nothing else changes.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
    state : tuple of torch.Tensor
        h and c, each [B, H].
    weight_x, weight_y, bias : torch.Tensor
        Shapes [4H, I], [4H, H] and [4H], gates i | f | g | o.

    Returns
    -------
    outputs : torch.Tensor, shape [T, B, H]
    state : tuple of torch.Tensor
    """
    size, inputs = weight_y.shape[1], x.shape[2]
    h, c = (part.to(x.dtype).unsqueeze(0) for part in state)
    if x.is_cuda and (size % _PADDING or inputs % _PADDING):
        more, more_inputs = -size % _PADDING, -inputs % _PADDING
        x, h, c = functional.pad(x, (0, more_inputs)), functional.pad(h, (0, more)), functional.pad(c, (0, more))
        weight_x = functional.pad(weight_x.view(4, size, inputs), (0, more_inputs, 0, more)).flatten(0, 1)
        weight_y = functional.pad(weight_y.view(4, size, size), (0, more, 0, more)).flatten(0, 1)
        bias = functional.pad(bias.view(4, size), (0, more)).flatten()
    weights = (weight_x, weight_y, bias, torch.zeros_like(bias))
    with warnings.catch_warnings():
        # DropConnect makes new weights every step, so they never lie in one piece as cuDNN would like.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
        outputs, h, c = torch._VF.lstm(x, (h, c), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)
    return outputs[..., :size], (h[0, :, :size], c[0, :, :size])
