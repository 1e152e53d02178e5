"""Fused GPU path of EGRU layers (Triton).

A step of a layer is two kernels forward and two backward, a matrix product each whose epilogue is the pointwise part:
(u, r, r*y') and (z, p, e, y, c); then (dL/dr) and (dL/dy', and the whole pointwise gradient of the step before). With
reset "after" dL/dr is pointwise, so that a step is one kernel backward.
`egret.model.training.kernels.stack` says in which order they run, and how sizes are padded.
`egret.model.training.cells.egru_layer` is the plain path, which gives the same gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from egret.model.training.cells import State
from egret.model.training.kernels.stack import (
    PAD,
    PaddedLayer,
    launch,
    pad_last,
    padded_size,
    product,
    row_blocks,
    run_backward,
    run_forward,
    sum_product,
    tile,
)

__all__ = ["TILES", "run_stack"]

# Columns, depth, stages and warps of each step kernel's tile.
TILES = {
    "gates": (32, 64, 5, 4),
    "candidate": (16, 128, 4, 4),
    "reset_gradient": (16, 128, 4, 4),
    "output_gradient": (16, 128, 4, 4),
}


@triton.jit
def _forward_gates(y, from_input, weight, bias, u, r, inner, batch, SIZE: tl.constexpr, AFTER: tl.constexpr,
                   BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """u and r of one step, and with reset "before" r*y', its inner values."""
    first = tl.program_id(0) * BN
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = first + tl.arange(0, BN)
    valid = rows < batch
    total = product(y, SIZE, weight, 1, SIZE, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    total += tl.load(from_input + rows[:, None] * (3 * SIZE) + columns[None, :], mask=held, other=0.0).to(tl.float32)
    gate = tl.sigmoid(total + tl.load(bias + columns)[None, :])
    if first < SIZE:
        tl.store(u + rows[:, None] * SIZE + columns[None, :], gate.to(u.dtype.element_ty), mask=held)
    else:
        place = rows[:, None] * SIZE + columns[None, :] - SIZE
        tl.store(r + place, gate.to(r.dtype.element_ty), mask=held)
        if not AFTER:
            before = tl.load(y + place, mask=held, other=0.0).to(tl.float32)
            tl.store(inner + place, (gate * before).to(inner.dtype.element_ty), mask=held)


@triton.jit
def _forward_candidate(source, from_input, weight, bias, bias_y, u, r, inner, c_before, threshold, dropped, z, p, y, c,
                       x_next, batch, SIZE: tl.constexpr, DROP: tl.constexpr, AFTER: tl.constexpr, BM: tl.constexpr,
                       BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """z, p, e, y and c of one step, and the next layer's input; `source` is r*y', or y' with reset "after"."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = product(source, SIZE, weight, 1, SIZE, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    if AFTER:
        total += tl.load(bias_y + columns)[None, :]
        tl.store(inner + place, total.to(inner.dtype.element_ty), mask=held)
        total *= tl.load(r + place, mask=held, other=0.0).to(tl.float32)
    total += tl.load(from_input + rows[:, None] * (3 * SIZE) + columns[None, :], mask=held, other=0.0).to(tl.float32)
    candidate = 2 * tl.sigmoid(2 * (total + tl.load(bias + columns)[None, :])) - 1
    update = tl.load(u + place, mask=held, other=0.0).to(tl.float32)
    state = update * candidate + (1 - update) * tl.load(c_before + place, mask=held, other=0.0)
    limit = tl.load(threshold + columns)[None, :]
    fires = state >= limit
    output = tl.where(fires, state, 0.0)
    tl.store(z + place, candidate.to(z.dtype.element_ty), mask=held)
    tl.store(p + place, state, mask=held)
    tl.store(y + place, output.to(y.dtype.element_ty), mask=held)
    tl.store(c + place, tl.where(fires, state - limit, state), mask=held)
    if DROP:
        output *= tl.load(dropped + place, mask=held, other=0.0)
        tl.store(x_next + place, output.to(x_next.dtype.element_ty), mask=held)


@triton.jit
def _step_gradient(dy, rows, columns, held, u, r, inner, z, c_before, p, threshold, de, dc, da, da_y, d_threshold,
                   slope, width, SIZE: tl.constexpr, AFTER: tl.constexpr, THRESHOLDS: tl.constexpr):  # fmt: skip
    """From dL/dy of one step: gradients of the arguments of u and z into `da`, dL/dc' into `dc` (dL/dc before).

    With reset "after" also that of r's, and into `da_y` those of W_uy y', W_ry y' and the inner values.
    """
    place = rows[:, None] * SIZE + columns[None, :]
    state = tl.load(p + place, mask=held, other=0.0)
    limit = tl.load(threshold + columns)[None, :]
    update = tl.load(u + place, mask=held, other=0.0).to(tl.float32)
    candidate = tl.load(z + place, mask=held, other=0.0).to(tl.float32)
    before = tl.load(c_before + place, mask=held, other=0.0)
    d_after = tl.load(dc + place, mask=held, other=0.0)
    distance = state - limit
    surrogate = slope * tl.maximum(1 - tl.abs(distance) / width, 0.0)
    d_event = (dy * state - d_after * limit + tl.load(de)) * surrogate
    fires = distance >= 0
    d_state = tl.where(fires, dy, 0.0) + d_after + d_event
    tl.store(dc + place, d_state * (1 - update), mask=held)
    d_update = d_state * (candidate - before) * update * (1 - update)
    d_candidate = d_state * update * (1 - candidate * candidate)
    wide = rows[:, None] * (3 * SIZE) + columns[None, :]
    tl.store(da + wide, d_update.to(da.dtype.element_ty), mask=held)
    tl.store(da + wide + 2 * SIZE, d_candidate.to(da.dtype.element_ty), mask=held)
    if AFTER:
        reset = tl.load(r + place, mask=held, other=0.0).to(tl.float32)
        value = tl.load(inner + place, mask=held, other=0.0).to(tl.float32)
        d_reset = d_candidate * value * reset * (1 - reset)
        tl.store(da + wide + SIZE, d_reset.to(da.dtype.element_ty), mask=held)
        tl.store(da_y + wide, d_update.to(da_y.dtype.element_ty), mask=held)
        tl.store(da_y + wide + SIZE, d_reset.to(da_y.dtype.element_ty), mask=held)
        tl.store(da_y + wide + 2 * SIZE, (d_candidate * reset).to(da_y.dtype.element_ty), mask=held)
    if THRESHOLDS:
        tl.store(d_threshold + place, -d_event - tl.where(fires, d_after, 0.0), mask=held)


@triton.jit
def _backward_start(d_hidden, dropped, u, r, inner, z, c_before, p, threshold, de, dc, da, da_y, d_threshold, batch,
                    slope, width, SIZE: tl.constexpr, DROP: tl.constexpr, AFTER: tl.constexpr,
                    THRESHOLDS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    """Pointwise gradient of the segment's last step, which has no step after it."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    held = (rows < batch)[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    dy = tl.load(d_hidden + place, mask=held, other=0.0).to(tl.float32)
    if DROP:
        dy *= tl.load(dropped + place, mask=held, other=0.0)
    _step_gradient(dy, rows, columns, held, u, r, inner, z, c_before, p, threshold, de, dc, da, da_y, d_threshold,
                   slope, width, SIZE, AFTER, THRESHOLDS)  # fmt: skip


@triton.jit
def _backward_reset(da, weight, r, y_before, dy_reset, batch, SIZE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                    BK: tl.constexpr):  # fmt: skip
    """With reset "before": gradient of the argument of r into `da`, and the part of dL/dy' that comes through r*y'."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = product(da + 2 * SIZE, 3 * SIZE, weight, SIZE, 1, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    gate = tl.load(r + place, mask=held, other=0.0).to(tl.float32)
    before = tl.load(y_before + place, mask=held, other=0.0).to(tl.float32)
    tl.store(dy_reset + place, total * gate, mask=held)
    d_gate = total * before * gate * (1 - gate)
    tl.store(da + rows[:, None] * (3 * SIZE) + columns[None, :] + SIZE, d_gate.to(da.dtype.element_ty), mask=held)


@triton.jit
def _backward_output(da_y_next, weight, dy_reset, d_hidden, dropped, u, r, inner, z, c_before, p, threshold, de, dc,
                     da, da_y, d_threshold, batch, slope, width, SIZE: tl.constexpr, DROP: tl.constexpr,
                     AFTER: tl.constexpr, THRESHOLDS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                     BK: tl.constexpr):  # fmt: skip
    """dL/dy of one step from the step after it and the layer above, then the step's pointwise gradient."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    depth: tl.constexpr = 3 * SIZE if AFTER else 2 * SIZE
    dy = product(da_y_next, 3 * SIZE, weight, SIZE, 1, rows, valid, columns, depth, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    above = tl.load(d_hidden + place, mask=held, other=0.0).to(tl.float32)
    if DROP:
        above *= tl.load(dropped + place, mask=held, other=0.0)
    dy += above
    if not AFTER:
        dy += tl.load(dy_reset + place, mask=held, other=0.0)
    _step_gradient(dy, rows, columns, held, u, r, inner, z, c_before, p, threshold, de, dc, da, da_y, d_threshold,
                   slope, width, SIZE, AFTER, THRESHOLDS)  # fmt: skip


class _Layer(PaddedLayer):
    """One EGRU layer over one segment."""

    gates = 3

    def __init__(self, x: torch.Tensor, parameters: tuple, slope: float, width: float):
        weight_x, weight_y, bias, threshold, bias_y, mask, y, c = parameters
        super().__init__(x, weight_x, weight_y, bias, mask, (y, c))
        size = self.padded
        self.slope, self.width = slope, width
        self.threshold = pad_last(threshold, size, torch.float32, 1.0)
        self.reset_after = bias_y is not None
        # r*y' with reset "before", W_zy y' + b_y with reset "after".
        self.u, self.r, self.z, self.inner = (self.empty(self.steps, size) for _ in range(4))
        self.p = self.empty(self.steps, size, torch.float32)
        self.weight_z = self.weight_y[2 * size :]
        self.bias_z = self.bias[2 * size :]
        # With reset "before" kernels do not read it, but want some tensor in its place.
        self.bias_y = self.bias_z if bias_y is None else pad_last(bias_y, size, torch.float32)
        self.gates_grid, self.gates_tile = tile(TILES["gates"], self.batch, 2 * size, size)
        self.candidate_grid, self.candidate_tile = tile(TILES["candidate"], self.batch, size, size)
        self.threshold_learns = False

    def activity(self) -> torch.Tensor:
        """Share of neurons with an event."""
        return (self.p >= self.threshold)[..., : self.size].mean(dtype=torch.float32)

    def forward_step(self, t: int) -> None:
        from_input = self.from_input[t]
        launch(
            _forward_gates, self.gates_grid,
            self.outputs[t], from_input, self.weight_y, self.bias, self.u[t], self.r[t], self.inner[t], self.batch,
            SIZE=self.padded, AFTER=self.reset_after, **self.gates_tile,
        )  # fmt: skip
        launch(
            _forward_candidate, self.candidate_grid,
            self.outputs[t] if self.reset_after else self.inner[t], from_input[:, 2 * self.padded :], self.weight_z,
            self.bias_z, self.bias_y, self.u[t], self.r[t], self.inner[t], self.c[t], self.threshold, self.mask,
            self.z[t], self.p[t], self.outputs[t + 1], self.c[t + 1], self.after[t], self.batch, SIZE=self.padded,
            DROP=self.dropped, AFTER=self.reset_after, **self.candidate_tile,
        )  # fmt: skip

    def take_activity_gradient(self, d_activity: torch.Tensor, threshold_learns: bool) -> None:
        """Note the gradient [1] of the activity, before the backward pass begins."""
        self.de = d_activity / (self.steps * self.batch * self.size)
        self.threshold_learns = threshold_learns

    def begin_backward(self, d_after: torch.Tensor | None) -> None:
        super().begin_backward(d_after)
        size = self.padded
        self.dy_reset = self.dc if self.reset_after else self.empty(1, size, torch.float32)[0]
        self.da_y = torch.empty_like(self.da) if self.reset_after else self.da
        self.d_threshold = self.empty(self.steps, size, torch.float32) if self.threshold_learns else None
        self.reset_grid, self.reset_tile = tile(TILES["reset_gradient"], self.batch, size, size)
        depth = (3 if self.reset_after else 2) * size
        self.output_grid, self.output_tile = tile(TILES["output_gradient"], self.batch, size, depth)

    def backward_step(self, t: int) -> None:
        size = self.padded
        common = (
            self.d_after[t], self.mask, self.u[t], self.r[t], self.inner[t], self.z[t], self.c[t], self.p[t],
            self.threshold, self.de, self.dc, self.da[t], self.da_y[t],
            self.dc if self.d_threshold is None else self.d_threshold[t], self.batch, self.slope, self.width,
        )  # fmt: skip
        flags = {
            "SIZE": size, "DROP": self.dropped, "AFTER": self.reset_after, "THRESHOLDS": self.threshold_learns,
        }  # fmt: skip
        if t == self.steps - 1:
            block, blocks = row_blocks(self.batch)
            launch(_backward_start, (size // PAD, blocks), *common, **flags, BM=block, BN=PAD)
        else:
            launch(
                _backward_output, self.output_grid, self.da_y[t + 1], self.weight_y, self.dy_reset, *common, **flags,
                **self.output_tile,
            )  # fmt: skip
        if not self.reset_after:
            launch(
                _backward_reset, self.reset_grid,
                self.da[t], self.weight_z, self.r[t], self.outputs[t], self.dy_reset, self.batch, SIZE=size,
                **self.reset_tile,
            )  # fmt: skip

    def recurrent_gradient(self, da: torch.Tensor) -> torch.Tensor:
        if self.reset_after:
            return sum_product(self.da_y.flatten(0, 1).t(), self.outputs[:-1].flatten(0, 1))
        gates, candidate = da[:, : 2 * self.padded], da[:, 2 * self.padded :]
        return torch.cat(
            [
                sum_product(gates.t(), self.outputs[:-1].flatten(0, 1)),
                sum_product(candidate.t(), self.inner.flatten(0, 1)),
            ]
        )

    def parameter_gradients(self) -> list[torch.Tensor | None]:
        d_threshold = None if self.d_threshold is None else self.d_threshold.sum((0, 1))[: self.size]
        d_bias_y = None
        if self.reset_after:
            d_bias_y = self.da_y[..., 2 * self.padded :].sum((0, 1), dtype=torch.float32)[: self.size]
        return [*super().parameter_gradients(), d_threshold, d_bias_y]


_PER_LAYER = 8
"""Tensors that `_Stack` takes for each layer: weight_x, weight_y, bias, threshold, bias_y and mask (or None), y, c."""


class _Stack(torch.autograd.Function):
    """All recurrent layers over one segment.

    Results: the last layer's (dropped) output, padded; activity; then y of each layer, then c of each layer.
    """

    @staticmethod
    def forward(ctx: Any, slope: float, width: float, dtype: torch.dtype, x: torch.Tensor, *flat: Any) -> tuple:
        layers: list[_Layer] = []
        current = pad_last(x, padded_size(x.shape[2]), dtype)
        for start in range(0, len(flat), _PER_LAYER):
            layers.append(_Layer(current, flat[start : start + _PER_LAYER], slope, width))
            current = layers[-1].after
        run_forward(layers)
        activity = torch.stack([layer.activity() for layer in layers])
        ctx.layers, ctx.dtype = layers, x.dtype
        states = [part for parts in zip(*(layer.end() for layer in layers), strict=True) for part in parts]
        ctx.mark_non_differentiable(*states)
        return current.clone(), activity, *states

    @staticmethod
    def backward(ctx: Any, *gradients_after: Any) -> tuple:
        d_hidden, d_activity = gradients_after[:2]
        d_activity = d_activity.float().contiguous()
        for number, layer in enumerate(ctx.layers):
            learns = ctx.needs_input_grad[4 + _PER_LAYER * number + 3]
            layer.take_activity_gradient(d_activity[number : number + 1], learns)
        d_x, gradients = run_backward(ctx.layers, d_hidden)
        ctx.layers = None
        flat = [gradient for own in gradients for gradient in (*own, None, None, None)]
        return None, None, None, d_x.to(ctx.dtype), *flat


def run_stack(
    x: torch.Tensor,
    state: list[State],
    weights_x: Sequence[torch.Tensor],
    weights_y: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    thresholds: Sequence[torch.Tensor],
    biases_y: Sequence[torch.Tensor | None],
    masks: Sequence[torch.Tensor | None],
    *,
    slope: float,
    width: float,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[torch.Tensor, list[State], torch.Tensor]:
    """Run all EGRU layers over a segment.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
        Input of the first layer.
    state : list of tuple of torch.Tensor
        y and c of each layer, each [B, H].
    weights_x, weights_y, biases, thresholds : list of torch.Tensor
        Of each layer, shapes [3H, I], [3H, H], [3H] and [H].
    biases_y : list of torch.Tensor of shape [H], or of None
        Inner biases of reset "after"; without one the reset is "before".
    masks : list of torch.Tensor of shape [B, H], or of None
        What each layer's output is multiplied with on its way to the next layer (or out).
    slope, width : float
        Of the surrogate gradient.
    dtype : torch.dtype
        Of the operands of matrix products, and of the stored gates and outputs.

    Returns
    -------
    hidden : torch.Tensor, shape [T, B, H]
    state : list of tuple of torch.Tensor
        After the last step, detached.
    activity : torch.Tensor, shape [layers]
        Share of neurons with an event.
    """
    flat = []
    for index, (y, c) in enumerate(state):
        own = (weights_x, weights_y, biases, thresholds, biases_y, masks)
        flat += [*(tensors[index] for tensors in own), y, c]
    hidden, activity, *ends = _Stack.apply(slope, width, dtype, x, *flat)
    count = len(state)
    return hidden[..., : thresholds[-1].shape[0]], list(zip(ends[:count], ends[count:], strict=True)), activity
