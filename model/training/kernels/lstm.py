"""Fused GPU path of LSTM layers (Triton).

A step of a layer is one kernel forward (the gates, h and c), and two backward: dL/dh' as four partial sums, one a gate,
then the pointwise gradient. `egret.model.training.kernels.stack` says in which order they run, and how sizes are
padded. `egret.model.training.cells.lstm_layer` is the plain path, which gives the same gradients.
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
    run_backward,
    run_forward,
    sum_product,
    tile,
)

__all__ = ["TILES", "run_stack"]

# Columns, depth, stages and warps of each step kernel's tile.
TILES = {"forward": (16, 64, 5, 4), "gradient": (64, 64, 5, 4)}
_ROWS = 16  # of a tile of the pointwise gradient


@triton.jit
def _forward(h, from_input, weight, bias, c_before, dropped, gates, h_after, c_after, x_next, batch,
                  SIZE: tl.constexpr, DROP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                  BK: tl.constexpr):  # fmt: skip
    """i, f, g and o (into `gates`), c and h of one step, and the next layer's input."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total_i = tl.zeros((BM, BN), dtype=tl.float32)
    total_f = tl.zeros((BM, BN), dtype=tl.float32)
    total_g = tl.zeros((BM, BN), dtype=tl.float32)
    total_o = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, SIZE, BK):
        depth = start + tl.arange(0, BK)
        left = tl.load(h + rows[:, None] * SIZE + depth[None, :], mask=valid[:, None], other=0.0)
        right = weight + depth[:, None] + columns[None, :] * SIZE
        total_i = tl.dot(left, tl.load(right), total_i, input_precision="ieee")
        total_f = tl.dot(left, tl.load(right + SIZE * SIZE), total_f, input_precision="ieee")
        total_g = tl.dot(left, tl.load(right + 2 * SIZE * SIZE), total_g, input_precision="ieee")
        total_o = tl.dot(left, tl.load(right + 3 * SIZE * SIZE), total_o, input_precision="ieee")
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    wide = rows[:, None] * (4 * SIZE) + columns[None, :]
    total_i += tl.load(from_input + wide, mask=held, other=0.0).to(tl.float32) + tl.load(bias + columns)[None, :]
    total_f += tl.load(from_input + wide + SIZE, mask=held, other=0.0).to(tl.float32)
    total_f += tl.load(bias + columns + SIZE)[None, :]
    total_g += tl.load(from_input + wide + 2 * SIZE, mask=held, other=0.0).to(tl.float32)
    total_g += tl.load(bias + columns + 2 * SIZE)[None, :]
    total_o += tl.load(from_input + wide + 3 * SIZE, mask=held, other=0.0).to(tl.float32)
    total_o += tl.load(bias + columns + 3 * SIZE)[None, :]
    i = tl.sigmoid(total_i)
    f = tl.sigmoid(total_f)
    g = 2 * tl.sigmoid(2 * total_g) - 1
    o = tl.sigmoid(total_o)
    c = f * tl.load(c_before + place, mask=held, other=0.0) + i * g
    output = o * (2 * tl.sigmoid(2 * c) - 1)
    tl.store(gates + wide, i.to(gates.dtype.element_ty), mask=held)
    tl.store(gates + wide + SIZE, f.to(gates.dtype.element_ty), mask=held)
    tl.store(gates + wide + 2 * SIZE, g.to(gates.dtype.element_ty), mask=held)
    tl.store(gates + wide + 3 * SIZE, o.to(gates.dtype.element_ty), mask=held)
    tl.store(c_after + place, c, mask=held)
    tl.store(h_after + place, output.to(h_after.dtype.element_ty), mask=held)
    if DROP:
        output *= tl.load(dropped + place, mask=held, other=0.0)
        tl.store(x_next + place, output.to(x_next.dtype.element_ty), mask=held)


@triton.jit
def _backward_output(da_after, weight, parts, batch, SIZE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                          BK: tl.constexpr):  # fmt: skip
    """The part of dL/dh of one step that comes through one gate (the grid's third axis) of the step after it."""
    gate = tl.program_id(2)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = product(da_after + gate * SIZE, 4 * SIZE, weight + gate * SIZE * SIZE, SIZE, 1, rows, valid, columns, SIZE,
                     BM, BN, BK)  # fmt: skip
    held = valid[:, None] & (columns[None, :] >= 0)
    tl.store(parts + gate * batch * SIZE + rows[:, None] * SIZE + columns[None, :], total, mask=held)


@triton.jit
def _backward_step(parts, d_hidden, dropped, gates, c_before, c_after, dc, da, batch, SIZE: tl.constexpr,
                        LAST: tl.constexpr, DROP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    """Pointwise gradient of one step: of the gates' arguments into `da`, dL/dc' into `dc` (dL/dc before)."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    held = (rows < batch)[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    wide = rows[:, None] * (4 * SIZE) + columns[None, :]
    dh = tl.load(d_hidden + place, mask=held, other=0.0).to(tl.float32)
    if DROP:
        dh *= tl.load(dropped + place, mask=held, other=0.0)
    if not LAST:
        for gate in tl.static_range(4):  # pyright: ignore[reportGeneralTypeIssues] - the compiler unrolls it
            dh += tl.load(parts + gate * batch * SIZE + place, mask=held, other=0.0)
    i = tl.load(gates + wide, mask=held, other=0.0).to(tl.float32)
    f = tl.load(gates + wide + SIZE, mask=held, other=0.0).to(tl.float32)
    g = tl.load(gates + wide + 2 * SIZE, mask=held, other=0.0).to(tl.float32)
    o = tl.load(gates + wide + 3 * SIZE, mask=held, other=0.0).to(tl.float32)
    before = tl.load(c_before + place, mask=held, other=0.0)
    bent = 2 * tl.sigmoid(2 * tl.load(c_after + place, mask=held, other=0.0)) - 1
    d_state = tl.load(dc + place, mask=held, other=0.0) + dh * o * (1 - bent * bent)
    tl.store(dc + place, d_state * f, mask=held)
    tl.store(da + wide, (d_state * g * i * (1 - i)).to(da.dtype.element_ty), mask=held)
    tl.store(da + wide + SIZE, (d_state * before * f * (1 - f)).to(da.dtype.element_ty), mask=held)
    tl.store(da + wide + 2 * SIZE, (d_state * i * (1 - g * g)).to(da.dtype.element_ty), mask=held)
    tl.store(da + wide + 3 * SIZE, (dh * bent * o * (1 - o)).to(da.dtype.element_ty), mask=held)


class _Layer(PaddedLayer):
    """One LSTM layer over one segment; each step's gates replace its `from_input`."""

    gates = 4

    def forward_step(self, t: int) -> None:
        grid, shape = tile(TILES["forward"], self.batch, self.padded, self.padded)
        launch(
            _forward, grid,
            self.outputs[t], self.from_input[t], self.weight_y, self.bias, self.c[t], self.mask, self.from_input[t],
            self.outputs[t + 1], self.c[t + 1], self.after[t], self.batch, SIZE=self.padded, DROP=self.dropped,
            **shape,
        )  # fmt: skip

    def begin_backward(self, d_after: torch.Tensor | None) -> None:
        super().begin_backward(d_after)
        self.parts = self.empty(4, self.padded, torch.float32)

    def backward_step(self, t: int) -> None:
        size, last = self.padded, t == self.steps - 1
        if not last:
            grid, shape = tile(TILES["gradient"], self.batch, size, size)
            launch(
                _backward_output, (*grid, 4), self.da[t + 1], self.weight_y, self.parts, self.batch, SIZE=size, **shape
            )
        launch(
            _backward_step, (size // PAD, -(-self.batch // _ROWS)),
            self.parts, self.d_after[t], self.mask, self.from_input[t], self.c[t], self.c[t + 1], self.dc, self.da[t],
            self.batch, SIZE=size, LAST=last, DROP=self.dropped, BM=_ROWS, BN=PAD,
        )  # fmt: skip

    def recurrent_gradient(self, da: torch.Tensor) -> torch.Tensor:
        return sum_product(da.t(), self.outputs[:-1].flatten(0, 1))


_PER_LAYER = 6  # tensors that `_Stack` takes for each layer: weight_x, weight_y, bias, mask (or None), h, c


class _Stack(torch.autograd.Function):
    """All recurrent layers over one segment.

    Results: the last layer's (dropped) output, padded; then h of each layer, then c of each layer.
    """

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, x: torch.Tensor, *flat: Any) -> tuple:
        layers: list[_Layer] = []
        current = pad_last(x, padded_size(x.shape[2]), dtype)
        for start in range(0, len(flat), _PER_LAYER):
            weight_x, weight_y, bias, mask, h, c = flat[start : start + _PER_LAYER]
            layers.append(_Layer(current, weight_x, weight_y, bias, mask, (h, c)))
            current = layers[-1].after
        run_forward(layers)
        ctx.layers, ctx.dtype = layers, x.dtype
        states = [part for parts in zip(*(layer.end() for layer in layers), strict=True) for part in parts]
        ctx.mark_non_differentiable(*states)
        return current.clone(), *states

    @staticmethod
    def backward(ctx: Any, *gradients_after: Any) -> tuple:
        d_x, gradients = run_backward(ctx.layers, gradients_after[0])
        ctx.layers = None
        flat = [gradient for own in gradients for gradient in (*own, None, None, None)]
        return None, d_x.to(ctx.dtype), *flat


def run_stack(
    x: torch.Tensor,
    state: list[State],
    weights_x: Sequence[torch.Tensor],
    weights_y: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor | None],
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[torch.Tensor, list[State]]:
    """Run all LSTM layers over a segment.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
        Input of the first layer.
    state : list of tuple of torch.Tensor
        h and c of each layer, each [B, H].
    weights_x, weights_y, biases : list of torch.Tensor
        Of each layer, shapes [4H, I], [4H, H] and [4H].
    masks : list of torch.Tensor of shape [B, H], or of None
        What each layer's output is multiplied with on its way to the next layer (or out).
    dtype : torch.dtype
        Of the operands of matrix products, and of the stored gates and outputs.

    Returns
    -------
    hidden : torch.Tensor, shape [T, B, H]
    state : list of tuple of torch.Tensor
        After the last step, detached.
    """
    flat = []
    for index, (h, c) in enumerate(state):
        flat += [weights_x[index], weights_y[index], biases[index], masks[index], h, c]
    hidden, *ends = _Stack.apply(dtype, x, *flat)
    count = len(state)
    return hidden[..., : weights_y[-1].shape[1]], list(zip(ends[:count], ends[count:], strict=True))
