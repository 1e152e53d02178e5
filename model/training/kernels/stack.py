"""What the fused kernels of both cells share: padding, tiles, and the order in which layers and steps run.

What does not depend on the step before is one large matrix product for a piece of the segment (W_x x and its gradient)
or for the whole segment (gradients of weights). Layers run as a wavefront, each on a CUDA stream of its own, a piece of
`PIECE` steps behind the layer that it waits for. On a CPU, where Triton's interpreter runs the kernels, everything runs
in one order.

Matrix products take operands in the `dtype` of a stack (bfloat16, or float32 for tests) and sum in float32; states,
thresholds and biases are float32. Sizes are padded to a multiple of `PAD` with zero weights, so that padded neurons of
an LSTM stay at zero, and with thresholds of one, so that padded neurons of an EGRU never have an event.
"""

import abc
import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from egret.model.training.cells import State

__all__ = [
    "PAD", "PIECE", "PaddedLayer", "cut_gates", "launch", "pad_gates", "pad_last", "padded_size", "product",
    "row_blocks", "run_backward", "run_forward", "sum_product", "tile",
]  # fmt: skip

PAD = 64
PIECE = 10

Tile = tuple[int, int, int, int]
"""Columns, depth, stages and warps of a step kernel's tile; its rows are the batch (at most 64 a tile)."""


@triton.jit
def product(a, a_stride, b, b_stride_k, b_stride_n, rows, valid, columns, DEPTH: tl.constexpr, BM: tl.constexpr,
             BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """a[rows, :DEPTH] @ b[:DEPTH, columns] in float32."""
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, DEPTH, BK):
        depth = start + tl.arange(0, BK)
        left = tl.load(a + rows[:, None] * a_stride + depth[None, :], mask=valid[:, None], other=0.0)
        right = tl.load(b + depth[:, None] * b_stride_k + columns[None, :] * b_stride_n)
        total = tl.dot(left, right, total, input_precision="ieee")
    return total


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **keywords: Any) -> None:
    """Launch a `kernel` over a `grid` with `arguments` and `keywords`, whose types Triton's own do not describe."""
    kernel[grid](*arguments, **keywords)


def padded_size(size: int) -> int:
    """The smallest multiple of `PAD` that is no less than `size`."""
    return -(-size // PAD) * PAD


def pad_gates(weight: torch.Tensor, rows: int, columns: int, dtype: torch.dtype, gates: int) -> torch.Tensor:
    """The stacked `weight` [gates * H, I] as [gates * rows, columns] in `dtype`, each of the `gates` padded."""
    size = weight.shape[0] // gates
    if size == rows and weight.shape[1] == columns:
        return weight.to(dtype)
    padded = torch.zeros(gates, rows, columns, dtype=dtype, device=weight.device)
    padded[:, :size, : weight.shape[1]] = weight.view(gates, size, -1)
    return padded.view(gates * rows, columns)


def cut_gates(gradient: torch.Tensor, size: int, columns: int, gates: int) -> torch.Tensor:
    """Undo `pad_gates` for a `gradient`: back to [gates * size, columns]."""
    return gradient.view(gates, -1, gradient.shape[1])[:, :size, :columns].reshape(gates * size, columns)


def pad_last(tensor: torch.Tensor, size: int, dtype: torch.dtype, value: float = 0.0) -> torch.Tensor:
    """The `tensor` in `dtype`, contiguous, with its last dimension padded to `size` with `value`."""
    if tensor.shape[-1] == size:
        return tensor.to(dtype).contiguous()
    padded = torch.full((*tensor.shape[:-1], size), value, dtype=dtype, device=tensor.device)
    padded[..., : tensor.shape[-1]] = tensor
    return padded


def sum_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product of `a` and `b`, a float32 tensor."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def row_blocks(batch: int) -> tuple[int, int]:
    """Rows of a tile for a `batch`, from 16 to 64, and how many tiles they take."""
    block = max(16, min(64, 1 << (batch - 1).bit_length()))
    return block, -(-batch // block)


def tile(shape: Tile, batch: int, columns: int, depth: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Grid and tile of a step kernel with a [batch, depth] by [depth, columns] product.

    Parameters
    ----------
    shape : tuple of int
        Columns, depth, stages and warps.
    batch, columns, depth : int
        Padded, but for the batch.

    Returns
    -------
    grid : tuple of int
    keywords : dict
        For the kernel's launch.
    """
    block, blocks = row_blocks(batch)
    across, deep, stages, warps = shape
    deep = deep if depth % deep == 0 else PAD
    return (columns // across, blocks), {
        "BM": block, "BN": across, "BK": deep, "num_stages": stages, "num_warps": warps,
    }  # fmt: skip


_STREAMS: dict[torch.device, list[torch.cuda.Stream]] = {}


class _Lanes:
    """One CUDA stream a layer, forked from the current stream and joined to it again; nothing at all on a CPU.

    Memory that a lane allocated may be freed by the current stream: a lane uses it again only after the next fork,
    which waits for all that the current stream was given before.
    """

    def __init__(self, device: torch.device, count: int):
        self._lanes = []
        if device.type == "cuda":
            self._main = torch.cuda.current_stream(device)
            streams = _STREAMS.setdefault(device, [])
            while len(streams) < count:
                streams.append(torch.cuda.Stream(device))
            self._lanes = streams[:count]
            for lane in self._lanes:
                lane.wait_stream(self._main)

    def on(self, layer: int) -> contextlib.AbstractContextManager:
        """Context in which work goes to a layer's stream."""
        return torch.cuda.stream(self._lanes[layer]) if self._lanes else contextlib.nullcontext()

    def mark(self, layer: int) -> torch.Event | None:
        """A point in a layer's stream that another may wait for."""
        return self._lanes[layer].record_event() if self._lanes else None

    def wait(self, layer: int, mark: torch.Event | None) -> None:
        """Let a layer's stream wait for a point in another."""
        if mark is not None:
            self._lanes[layer].wait_event(mark)

    def join(self) -> None:
        """Let the current stream wait for all layers."""
        for lane in self._lanes:
            self._main.wait_stream(lane)


class PaddedLayer(abc.ABC):
    """One layer over one segment: its padded parameters, and what the forward pass leaves for the backward pass.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I padded]
        In the dtype of the matrix products' operands, which is that of the stored outputs too.
    weight_x, weight_y, bias : torch.Tensor
        Gates stacked, not padded.
    mask : torch.Tensor of shape [B, H], or None
        What the output is multiplied with on its way to the next layer.
    state : tuple of torch.Tensor
        y and c, or h and c, each [B, H].

    Attributes
    ----------
    gates : int
        Of the cell.
    size, padded : int
        Neurons, and these padded.
    from_input : torch.Tensor, shape [T, B, gates * padded]
        W_x x, once `run_forward` has come to it.
    outputs, c : torch.Tensor, shape [T + 1, B, padded]
        Before the first step and after each.
    after : torch.Tensor, shape [T, B, padded]
        Outputs after the mask: the next layer's input.
    da : torch.Tensor, shape [T, B, gates * padded]
        In the backward pass: gradient of the gates' arguments.
    dc : torch.Tensor, shape [B, padded]
        In the backward pass: gradient of the carried state.
    d_after : torch.Tensor, shape [T, B, padded]
        In the backward pass: gradient of `after`.
    """

    gates: int

    def __init__(
        self,
        x: torch.Tensor,
        weight_x: torch.Tensor,
        weight_y: torch.Tensor,
        bias: torch.Tensor,
        mask: torch.Tensor | None,
        state: State,
    ):
        self.x = x
        self.steps, self.batch = x.shape[:2]
        self.size, self.inputs = weight_y.shape[1], weight_x.shape[1]
        size = self.padded = padded_size(self.size)
        self.weight_x = pad_gates(weight_x, size, x.shape[2], x.dtype, self.gates)
        self.weight_y = pad_gates(weight_y, size, size, x.dtype, self.gates)
        self.bias = pad_last(bias.view(self.gates, -1), size, torch.float32).view(-1)
        self.dropped = mask is not None
        # Without a mask kernels do not read it, but want some tensor in its place.
        self.mask = self.bias if mask is None else pad_last(mask, size, torch.float32)
        self.from_input = self.empty(self.steps, self.gates * size)
        self.outputs = self.empty(self.steps + 1, size)
        self.c = self.empty(self.steps + 1, size, torch.float32)
        self.outputs[0] = pad_last(state[0], size, x.dtype)
        self.c[0] = pad_last(state[1], size, torch.float32)
        self.after = self.empty(self.steps, size) if self.dropped else self.outputs[1:]

    def empty(self, count: int, columns: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A new tensor [count, B, columns], in the `dtype` of the matrix products' operands unless another is given."""
        return torch.empty(count, self.batch, columns, dtype=dtype or self.x.dtype, device=self.x.device)

    def end(self) -> State:
        """The state after the last step, without padding."""
        return self.outputs[-1, :, : self.size].float(), self.c[-1, :, : self.size].clone()

    def begin_backward(self, d_after: torch.Tensor | None) -> None:
        """Make room for gradients; `d_after` is that of the last layer's output, None for the others."""
        self.da = self.empty(self.steps, self.gates * self.padded)
        self.dc = torch.zeros(self.batch, self.padded, dtype=torch.float32, device=self.x.device)
        self.d_after = torch.empty_like(self.after) if d_after is None else d_after.to(self.x.dtype).contiguous()

    def parameter_gradients(self) -> list[torch.Tensor | None]:
        """Gradients of weight_x, weight_y and bias, once those of all steps are in `da`."""
        da = self.da.flatten(0, 1)
        d_weight_x, d_weight_y = sum_product(da.t(), self.x.flatten(0, 1)), self.recurrent_gradient(da)
        d_bias = da.sum(0, dtype=torch.float32).view(-1, 1)
        return [
            cut_gates(d_weight_x, self.size, self.inputs, self.gates),
            cut_gates(d_weight_y, self.size, self.size, self.gates),
            cut_gates(d_bias, self.size, 1, self.gates).view(-1),
        ]

    @abc.abstractmethod
    def forward_step(self, t: int) -> None:
        """Launch the kernels of step `t`, once those of the step before and W_x x are launched."""

    @abc.abstractmethod
    def backward_step(self, t: int) -> None:
        """Launch the kernels of the gradient of step `t`, once those of the step after are launched."""

    @abc.abstractmethod
    def recurrent_gradient(self, da: torch.Tensor) -> torch.Tensor:
        """Gradient of the padded weight_y, with `da` [T * B, gates * padded]."""


def _pieces(steps: int) -> list[range]:
    return [range(start, min(start + PIECE, steps)) for start in range(0, steps, PIECE)]


def run_forward(layers: Sequence[PaddedLayer]) -> None:
    """Run all steps of all `layers`, each of which has the `after` of the one below as its `x`."""
    lanes = _Lanes(layers[0].x.device, len(layers))
    pieces = _pieces(layers[0].steps)
    marks: list[torch.Event | None] = [None] * len(pieces)
    for index, layer in enumerate(layers):
        transposed = layer.weight_x.t()
        with lanes.on(index):
            for number, piece in enumerate(pieces):
                lanes.wait(index, marks[number])
                span = slice(piece.start, piece.stop)
                torch.mm(layer.x[span].flatten(0, 1), transposed, out=layer.from_input[span].flatten(0, 1))
                for t in piece:
                    layer.forward_step(t)
                marks[number] = lanes.mark(index)
    lanes.join()


def run_backward(
    layers: Sequence[PaddedLayer], d_hidden: torch.Tensor
) -> tuple[torch.Tensor, list[list[torch.Tensor | None]]]:
    """Run the gradients of all steps of all layers, backwards.

    Parameters
    ----------
    layers : sequence of PaddedLayer
        After `run_forward`.
    d_hidden : torch.Tensor, shape [T, B, H padded]
        Gradient of the last layer's output.

    Returns
    -------
    d_x : torch.Tensor, shape [T, B, I]
        Gradient of the first layer's input, float32.
    gradients : list of list of torch.Tensor
        `PaddedLayer.parameter_gradients` of each layer.
    """
    first = layers[0]
    for layer in layers:
        layer.begin_backward(d_hidden if layer is layers[-1] else None)
    d_x = torch.empty(*first.x.shape, dtype=torch.float32, device=first.x.device)
    lanes = _Lanes(first.x.device, len(layers))
    pieces = _pieces(first.steps)
    marks: list[torch.Event | None] = [None] * len(pieces)
    gradients: list[list[torch.Tensor | None]] = [[] for _ in layers]
    for index, layer in reversed(list(enumerate(layers))):
        with lanes.on(index):
            for number, piece in reversed(list(enumerate(pieces))):
                lanes.wait(index, marks[number])
                for t in reversed(piece):
                    layer.backward_step(t)
                span = slice(piece.start, piece.stop)
                da = layer.da[span].flatten(0, 1)
                if index:
                    torch.mm(da, layer.weight_x, out=layers[index - 1].d_after[span].flatten(0, 1))
                else:
                    d_x[span] = sum_product(da, layer.weight_x).view(len(piece), first.batch, -1)
                marks[number] = lanes.mark(index)
            gradients[index] = layer.parameter_gradients()
    lanes.join()
    return d_x[..., : first.inputs], gradients
