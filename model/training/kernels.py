"""Fused GPU path of language models (Triton): recurrent layers, and the read-out's cross-entropy.

Each step of an EGRU layer is two kernels forward and two backward, a matrix product each whose epilogue is the
pointwise part: (u, r, r*y') and (z, p, e, y, c); then (dL/dr) and (dL/dy', and the whole pointwise gradient of the step
before). A step of an LSTM layer is one kernel forward (the gates, h and c), and two backward: dL/dh' as four partial
sums, one a gate, then the pointwise gradient.
What does not depend on the step before is one large matrix product for a piece of the segment (W_x x, its gradient)
or for the whole segment (gradients of weights). Layers run as a wavefront, each on a stream of its own, a piece of
`PIECE` steps behind the layer that it waits for.

Matrix products take operands in `dtype` (bfloat16, or float32 for tests) and sum in float32; states, thresholds and
biases are float32. Sizes are padded to a multiple of `PAD` with zero weights and thresholds of one, so that padded
neurons never have an event, and those of an LSTM stay at zero.

This module needs Triton and serves LSTM, and EGRU with reset "before"; `egret.model.training.network` has the plain
path, which
gives the same gradients.
"""

import torch
import triton
import triton.language as tl

__all__ = ["PAD", "PIECE", "TILES", "readout_loss", "run_lstm_stack", "run_stack"]

PAD = 64
PIECE = 10
# Columns, depth, stages and warps of each step kernel's tile; rows are the batch (at most 64 a tile).
TILES = {
    "gates": (32, 64, 5, 4),
    "candidate": (16, 128, 4, 4),
    "reset_gradient": (16, 128, 4, 4),
    "output_gradient": (16, 128, 4, 4),
    "lstm": (16, 64, 5, 4),
    "lstm_gradient": (64, 64, 5, 4),
}


def _padded(size):
    return -(-size // PAD) * PAD


@triton.jit
def _product(a, a_stride, b, b_stride_k, b_stride_n, rows, valid, columns, DEPTH: tl.constexpr, BM: tl.constexpr,
             BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """a[rows, :DEPTH] @ b[:DEPTH, columns] in float32."""
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, DEPTH, BK):
        depth = start + tl.arange(0, BK)
        left = tl.load(a + rows[:, None] * a_stride + depth[None, :], mask=valid[:, None], other=0.0)
        right = tl.load(b + depth[:, None] * b_stride_k + columns[None, :] * b_stride_n)
        total = tl.dot(left, right, total, input_precision="ieee")
    return total


@triton.jit
def _forward_gates(y, from_input, weight, bias, u, r, ry, batch, SIZE: tl.constexpr, BM: tl.constexpr,
                   BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """u, r and r*y' of one step."""
    first = tl.program_id(0) * BN
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = first + tl.arange(0, BN)
    valid = rows < batch
    total = _product(y, SIZE, weight, 1, SIZE, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    total += tl.load(from_input + rows[:, None] * (3 * SIZE) + columns[None, :], mask=held, other=0.0).to(tl.float32)
    gate = tl.sigmoid(total + tl.load(bias + columns)[None, :])
    if first < SIZE:
        tl.store(u + rows[:, None] * SIZE + columns[None, :], gate.to(u.dtype.element_ty), mask=held)
    else:
        place = rows[:, None] * SIZE + columns[None, :] - SIZE
        tl.store(r + place, gate.to(r.dtype.element_ty), mask=held)
        before = tl.load(y + place, mask=held, other=0.0).to(tl.float32)
        tl.store(ry + place, (gate * before).to(ry.dtype.element_ty), mask=held)


@triton.jit
def _forward_candidate(ry, from_input, weight, bias, u, c_before, threshold, dropped, z, p, y, c, x_next, batch,
                       SIZE: tl.constexpr, DROP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                       BK: tl.constexpr):  # fmt: skip
    """z, p, e, y and c of one step, and the next layer's input."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = _product(ry, SIZE, weight, 1, SIZE, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
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
def _step_gradient(dy, rows, columns, held, u, z, c_before, p, threshold, de, dc, da, d_threshold, slope, width,
                   SIZE: tl.constexpr, THRESHOLDS: tl.constexpr):  # fmt: skip
    """From dL/dy of one step: gradients of the arguments of u and z into `da`, dL/dc' into `dc` (dL/dc before)."""
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
    if THRESHOLDS:
        tl.store(d_threshold + place, -d_event - tl.where(fires, d_after, 0.0), mask=held)


@triton.jit
def _backward_start(d_hidden, dropped, u, z, c_before, p, threshold, de, dc, da, d_threshold, batch, slope, width,
                    SIZE: tl.constexpr, DROP: tl.constexpr, THRESHOLDS: tl.constexpr, BM: tl.constexpr,
                    BN: tl.constexpr):  # fmt: skip
    """Pointwise gradient of the segment's last step, which has no step after it."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    held = (rows < batch)[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    dy = tl.load(d_hidden + place, mask=held, other=0.0).to(tl.float32)
    if DROP:
        dy *= tl.load(dropped + place, mask=held, other=0.0)
    _step_gradient(dy, rows, columns, held, u, z, c_before, p, threshold, de, dc, da, d_threshold, slope, width, SIZE,
                   THRESHOLDS)  # fmt: skip


@triton.jit
def _backward_reset(da, weight, r, y_before, dy_reset, batch, SIZE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                    BK: tl.constexpr):  # fmt: skip
    """Gradient of the argument of r into `da`, and the part of dL/dy' that comes through r*y'."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = _product(da + 2 * SIZE, 3 * SIZE, weight, SIZE, 1, rows, valid, columns, SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    gate = tl.load(r + place, mask=held, other=0.0).to(tl.float32)
    before = tl.load(y_before + place, mask=held, other=0.0).to(tl.float32)
    tl.store(dy_reset + place, total * gate, mask=held)
    d_gate = total * before * gate * (1 - gate)
    tl.store(da + rows[:, None] * (3 * SIZE) + columns[None, :] + SIZE, d_gate.to(da.dtype.element_ty), mask=held)


@triton.jit
def _backward_output(da_after, weight, dy_reset, d_hidden, dropped, u, z, c_before, p, threshold, de, dc, da,
                     d_threshold, batch, slope, width, SIZE: tl.constexpr, DROP: tl.constexpr,
                     THRESHOLDS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """dL/dy of one step from the step after it and the layer above, then the step's pointwise gradient."""
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    dy = _product(da_after, 3 * SIZE, weight, SIZE, 1, rows, valid, columns, 2 * SIZE, BM, BN, BK)
    held = valid[:, None] & (columns[None, :] >= 0)
    place = rows[:, None] * SIZE + columns[None, :]
    above = tl.load(d_hidden + place, mask=held, other=0.0).to(tl.float32)
    if DROP:
        above *= tl.load(dropped + place, mask=held, other=0.0)
    dy += above + tl.load(dy_reset + place, mask=held, other=0.0)
    _step_gradient(dy, rows, columns, held, u, z, c_before, p, threshold, de, dc, da, d_threshold, slope, width, SIZE,
                   THRESHOLDS)  # fmt: skip


@triton.jit
def _lstm_forward(h, from_input, weight, bias, c_before, dropped, gates, h_after, c_after, x_next, batch,
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
def _lstm_backward_output(da_after, weight, parts, batch, SIZE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                          BK: tl.constexpr):  # fmt: skip
    """The part of dL/dh of one step that comes through one gate (the grid's third axis) of the step after it."""
    gate = tl.program_id(2)
    rows = tl.program_id(1) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    valid = rows < batch
    total = _product(da_after + gate * SIZE, 4 * SIZE, weight + gate * SIZE * SIZE, SIZE, 1, rows, valid, columns, SIZE,
                     BM, BN, BK)  # fmt: skip
    held = valid[:, None] & (columns[None, :] >= 0)
    tl.store(parts + gate * batch * SIZE + rows[:, None] * SIZE + columns[None, :], total, mask=held)


@triton.jit
def _lstm_backward_step(parts, d_hidden, dropped, gates, c_before, c_after, dc, da, batch, SIZE: tl.constexpr,
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
        for gate in tl.static_range(4):
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


@triton.jit
def _cross_entropy(logits, bias, targets, taught, losses, vocab, share, STRIDE: tl.constexpr, TAUGHT: tl.constexpr,
                   GRADIENT: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Loss of one row; with GRADIENT the logits are replaced by the gradient of the row's loss.

    With TAUGHT the share `share` of the loss is the cross-entropy with the row's probabilities in `taught`, which need
    not sum to exactly one.
    """
    row = tl.program_id(0)
    logits += row.to(tl.int64) * STRIDE
    taught += row.to(tl.int64) * vocab
    largest = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    mass = tl.zeros((BLOCK,), dtype=tl.float32)
    expected = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, STRIDE, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        held = columns < vocab
        value = tl.load(logits + columns, mask=held, other=0.0).to(tl.float32)
        value = tl.where(held, value + tl.load(bias + columns, mask=held, other=0.0), -1e30)
        larger = tl.maximum(largest, value)
        total = total * tl.exp(largest - larger) + tl.exp(value - larger)
        largest = larger
        if TAUGHT:
            wanted = tl.load(taught + columns, mask=held, other=0.0).to(tl.float32)
            mass += wanted
            expected += wanted * value
    top = tl.max(largest, axis=0)
    normaliser = top + tl.log(tl.sum(total * tl.exp(largest - top), axis=0))
    target = tl.load(targets + row)
    chosen = tl.load(logits + target).to(tl.float32) + tl.load(bias + target)
    loss = normaliser - chosen
    weight = 1.0
    hard = 1.0
    if TAUGHT:
        hard = 1.0 - share
        weight = hard + share * tl.sum(mass, axis=0)
        loss = weight * normaliser - hard * chosen - share * tl.sum(expected, axis=0)
    tl.store(losses + row, loss)
    if GRADIENT:
        for start in range(0, STRIDE, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            held = columns < vocab
            value = tl.load(logits + columns, mask=held, other=0.0).to(tl.float32)
            value += tl.load(bias + columns, mask=held, other=0.0)
            gradient = tl.where(held, weight * tl.exp(value - normaliser), 0.0)
            gradient = tl.where(columns == target, gradient - hard, gradient)
            if TAUGHT:
                gradient -= share * tl.load(taught + columns, mask=held, other=0.0).to(tl.float32)
            tl.store(logits + columns, gradient.to(logits.dtype.element_ty), mask=columns < STRIDE)


_STREAMS = {}  # device -> list of streams


class _Lanes:
    """One CUDA stream a layer, forked from the current stream and joined to it again; nothing at all on a CPU.

    Memory that a lane allocated may be freed by the current stream: a lane uses it again only after the next fork,
    which waits for all that the current stream was given before.
    """

    def __init__(self, device, count):
        self.main = None
        if device.type == "cuda":
            self.main = torch.cuda.current_stream(device)
            streams = _STREAMS.setdefault(device, [])
            while len(streams) < count:
                streams.append(torch.cuda.Stream(device))
            self.lanes = streams[:count]
            for lane in self.lanes:
                lane.wait_stream(self.main)

    def on(self, layer):
        """Context in which work goes to a layer's stream."""
        return torch.cuda.stream(None if self.main is None else self.lanes[layer])

    def mark(self, layer):
        """A point in a layer's stream that another may wait for."""
        return None if self.main is None else self.lanes[layer].record_event()

    def wait(self, layer, mark):
        if self.main is not None and mark is not None:
            self.lanes[layer].wait_event(mark)

    def join(self):
        if self.main is not None:
            for lane in self.lanes:
                self.main.wait_stream(lane)


def _sum_product(a, b):
    """a @ b with float32 result."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def _pad_gates(weight, rows, columns, dtype, gates=3):
    """[gates * H, I] to [gates * rows, columns] in another dtype, each gate padded."""
    size = weight.shape[0] // gates
    if size == rows and weight.shape[1] == columns:
        return weight.to(dtype)
    padded = torch.zeros(gates, rows, columns, dtype=dtype, device=weight.device)
    padded[:, :size, : weight.shape[1]] = weight.view(gates, size, -1)
    return padded.view(gates * rows, columns)


def _pad_last(tensor, size, dtype, value=0.0):
    if tensor.shape[-1] == size:
        return tensor.to(dtype).contiguous()
    padded = torch.full((*tensor.shape[:-1], size), value, dtype=dtype, device=tensor.device)
    padded[..., : tensor.shape[-1]] = tensor
    return padded


def _cut_gates(gradient, size, columns, gates=3):
    """Undo `_pad_gates`."""
    return gradient.view(gates, -1, gradient.shape[1])[:, :size, :columns].reshape(gates * size, columns)


def _rows(batch):
    block = max(16, min(64, triton.next_power_of_2(batch)))
    return block, triton.cdiv(batch, block)


def _tile(name, batch, columns, depth):
    """Grid and tile keywords of a step kernel with a [batch, depth] by [depth, columns] product."""
    block, blocks = _rows(batch)
    across, deep, stages, warps = TILES[name]
    deep = deep if depth % deep == 0 else PAD
    return (columns // across, blocks), {
        "BM": block, "BN": across, "BK": deep, "num_stages": stages, "num_warps": warps,
    }  # fmt: skip


def _pieces(steps):
    return [range(start, min(start + PIECE, steps)) for start in range(0, steps, PIECE)]


class _Saved:
    """Padded tensors of one layer that the backward pass needs."""


class _Stack(torch.autograd.Function):
    """All recurrent layers over one segment.

    Arguments after the options and x, seven a layer: weight_x, weight_y, bias, threshold, mask (or None), y, c.
    Results: the last layer's (dropped) output, padded; activity; then y and c of each layer.
    """

    @staticmethod
    def forward(ctx, options, x, *flat):
        dtype = options[2]
        steps, batch, inputs = x.shape
        device = x.device
        layers = [flat[start : start + 7] for start in range(0, len(flat), 7)]
        saved = []
        current = _pad_last(x, _padded(inputs), dtype)
        for weight_x, weight_y, bias, threshold, mask, y, c in layers:
            part = _Saved()
            part.size = threshold.shape[0]
            part.inputs = weight_x.shape[1]
            size = part.padded = _padded(part.size)
            part.x = current
            part.weight_x = _pad_gates(weight_x, size, current.shape[2], dtype)
            part.weight_y = _pad_gates(weight_y, size, size, dtype)
            part.bias = _pad_last(bias.view(3, -1), size, torch.float32).view(-1)
            part.threshold = _pad_last(threshold, size, torch.float32, 1.0)
            part.mask = None if mask is None else _pad_last(mask, size, torch.float32)

            def empty(count, columns, kind):
                return torch.empty(count, batch, columns, dtype=kind, device=device)

            part.from_input = empty(steps, 3 * size, dtype)
            part.u, part.r, part.z, part.ry = (empty(steps, size, dtype) for _ in range(4))
            part.p = empty(steps, size, torch.float32)
            part.y, part.c = empty(steps + 1, size, dtype), empty(steps + 1, size, torch.float32)
            part.y[0] = _pad_last(y, size, dtype)
            part.c[0] = _pad_last(c, size, torch.float32)
            part.after = part.y[1:] if mask is None else empty(steps, size, dtype)
            current = part.after
            saved.append(part)
        lanes = _Lanes(device, len(saved))
        pieces = _pieces(steps)
        marks = [None] * len(pieces)
        for layer, part in enumerate(saved):
            size = part.padded
            transposed = part.weight_x.t()
            weight_z = part.weight_y[2 * size :]
            gates_grid, gates = _tile("gates", batch, 2 * size, size)
            candidate_grid, candidate = _tile("candidate", batch, size, size)
            with lanes.on(layer):
                for number, piece in enumerate(pieces):
                    lanes.wait(layer, marks[number])
                    span = slice(piece.start, piece.stop)
                    torch.mm(part.x[span].flatten(0, 1), transposed, out=part.from_input[span].flatten(0, 1))
                    for t in piece:
                        from_input = part.from_input[t]
                        _forward_gates[gates_grid](
                            part.y[t], from_input, part.weight_y, part.bias, part.u[t], part.r[t], part.ry[t], batch,
                            SIZE=size, **gates,
                        )  # fmt: skip
                        _forward_candidate[candidate_grid](
                            part.ry[t], from_input[:, 2 * size :], weight_z, part.bias[2 * size :], part.u[t],
                            part.c[t], part.threshold, part.threshold if part.mask is None else part.mask, part.z[t],
                            part.p[t], part.y[t + 1], part.c[t + 1], part.after[t], batch, SIZE=size,
                            DROP=part.mask is not None, **candidate,
                        )  # fmt: skip
                    marks[number] = lanes.mark(layer)
        lanes.join()
        activity = torch.stack(
            [(part.p >= part.threshold)[..., : part.size].mean(dtype=torch.float32) for part in saved]
        )
        ctx.options, ctx.saved, ctx.dtype = options, saved, x.dtype
        states = [part.y[-1, :, : part.size].float() for part in saved]
        states += [part.c[-1, :, : part.size].clone() for part in saved]
        ctx.mark_non_differentiable(*states)
        return saved[-1].after.clone(), activity, *states

    @staticmethod
    def backward(ctx, d_hidden, d_activity, *_):
        slope, width, dtype = ctx.options
        saved = ctx.saved
        steps, batch = d_hidden.shape[:2]
        device = d_hidden.device
        block, blocks = _rows(batch)
        lasts = len(saved) - 1
        d_activity = d_activity.float().contiguous()
        for layer, part in enumerate(saved):
            size = part.padded

            def empty(*shape, kind):
                return torch.empty(shape, dtype=kind, device=device)

            part.needs_threshold = ctx.needs_input_grad[2 + 7 * layer + 3]
            part.da = empty(steps, batch, 3 * size, kind=dtype)
            part.dc = torch.zeros(batch, size, dtype=torch.float32, device=device)
            part.dy_reset = empty(batch, size, kind=torch.float32)
            part.de = d_activity[layer : layer + 1] / (steps * batch * part.size)
            part.d_threshold = empty(steps, batch, size, kind=torch.float32) if part.needs_threshold else None
            part.d_after = d_hidden.to(dtype).contiguous() if layer == lasts else empty(steps, batch, size, kind=dtype)
        first = saved[0]
        d_x = torch.empty(steps, batch, first.x.shape[2], dtype=torch.float32, device=device)
        lanes = _Lanes(device, len(saved))
        pieces = _pieces(steps)
        marks = [None] * len(pieces)
        gradients = [None] * (7 * len(saved))
        for layer in reversed(range(len(saved))):
            part = saved[layer]
            size = part.padded
            weight_z = part.weight_y[2 * size :]
            reset_grid, reset = _tile("reset_gradient", batch, size, size)
            output_grid, output = _tile("output_gradient", batch, size, 2 * size)
            flags = {"SIZE": size, "DROP": part.mask is not None, "THRESHOLDS": part.needs_threshold}
            mask = part.threshold if part.mask is None else part.mask
            with lanes.on(layer):
                for number in reversed(range(len(pieces))):
                    lanes.wait(layer, marks[number])
                    for t in reversed(pieces[number]):
                        d_threshold = part.d_threshold[t] if part.needs_threshold else part.dc
                        common = (
                            part.d_after[t], mask, part.u[t], part.z[t], part.c[t], part.p[t], part.threshold,
                            part.de, part.dc, part.da[t], d_threshold, batch, slope, width,
                        )  # fmt: skip
                        if t == steps - 1:
                            _backward_start[(size // PAD, blocks)](*common, **flags, BM=block, BN=PAD)
                        else:
                            _backward_output[output_grid](
                                part.da[t + 1], part.weight_y, part.dy_reset, *common, **flags, **output
                            )
                        _backward_reset[reset_grid](
                            part.da[t], weight_z, part.r[t], part.y[t], part.dy_reset, batch, SIZE=size, **reset
                        )
                    span = slice(pieces[number].start, pieces[number].stop)
                    da = part.da[span].flatten(0, 1)
                    if layer:
                        torch.mm(da, part.weight_x, out=saved[layer - 1].d_after[span].flatten(0, 1))
                    else:
                        d_x[span] = _sum_product(da, part.weight_x).view(len(pieces[number]), batch, -1)
                    marks[number] = lanes.mark(layer)
                da = part.da.flatten(0, 1)
                d_weight_x = _sum_product(da.t(), part.x.flatten(0, 1))
                d_weight_y = torch.cat(
                    [
                        _sum_product(da[:, : 2 * size].t(), part.y[:-1].flatten(0, 1)),
                        _sum_product(da[:, 2 * size :].t(), part.ry.flatten(0, 1)),
                    ]
                )
                gradients[7 * layer : 7 * layer + 3] = (
                    _cut_gates(d_weight_x, part.size, part.inputs),
                    _cut_gates(d_weight_y, part.size, part.size),
                    _cut_gates(da.sum(0, dtype=torch.float32).view(-1, 1), part.size, 1).view(-1),
                )
                if part.needs_threshold:
                    gradients[7 * layer + 3] = part.d_threshold.sum((0, 1))[: part.size]
        lanes.join()
        ctx.saved = None
        return None, d_x[..., : first.inputs].to(ctx.dtype), *gradients


def run_stack(x, state, weights_x, weights_y, biases, thresholds, masks, *, slope, width, dtype=torch.bfloat16):
    """Run all EGRU layers (reset "before") over a segment.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
        Input of the first layer.
    state : list of tuple of torch.Tensor
        y and c of each layer, each [B, H].
    weights_x, weights_y, biases, thresholds : list of torch.Tensor
        Of each layer, shapes [3H, I], [3H, H], [3H] and [H].
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
        flat += [weights_x[index], weights_y[index], biases[index], thresholds[index], masks[index], y, c]
    hidden, activity, *ends = _Stack.apply((slope, width, dtype), x, *flat)
    count = len(state)
    return hidden[..., : thresholds[-1].shape[0]], list(zip(ends[:count], ends[count:], strict=True)), activity


class _LstmStack(torch.autograd.Function):
    """All recurrent layers over one segment.

    Arguments after the dtype and x, six a layer: weight_x, weight_y, bias, mask (or None), h, c.
    Results: the last layer's (dropped) output, padded; then h and c of each layer.
    """

    @staticmethod
    def forward(ctx, dtype, x, *flat):
        steps, batch, inputs = x.shape
        device = x.device
        saved = []
        current = _pad_last(x, _padded(inputs), dtype)
        for weight_x, weight_y, bias, mask, h, c in (flat[start : start + 6] for start in range(0, len(flat), 6)):
            part = _Saved()
            part.size, part.inputs = weight_y.shape[1], weight_x.shape[1]
            size = part.padded = _padded(part.size)
            part.x = current
            part.weight_x = _pad_gates(weight_x, size, current.shape[2], dtype, 4)
            part.weight_y = _pad_gates(weight_y, size, size, dtype, 4)
            part.bias = _pad_last(bias.view(4, -1), size, torch.float32).view(-1)
            part.mask = None if mask is None else _pad_last(mask, size, torch.float32)

            def empty(count, columns, kind):
                return torch.empty(count, batch, columns, dtype=kind, device=device)

            part.gates = empty(steps, 4 * size, dtype)  # W_x x at first, which each step's gates then replace
            part.h, part.c = empty(steps + 1, size, dtype), empty(steps + 1, size, torch.float32)
            part.h[0] = _pad_last(h, size, dtype)
            part.c[0] = _pad_last(c, size, torch.float32)
            part.after = part.h[1:] if mask is None else empty(steps, size, dtype)
            current = part.after
            saved.append(part)
        lanes = _Lanes(device, len(saved))
        pieces = _pieces(steps)
        marks = [None] * len(pieces)
        for layer, part in enumerate(saved):
            size = part.padded
            transposed = part.weight_x.t()
            grid, tile = _tile("lstm", batch, size, size)
            mask = part.bias if part.mask is None else part.mask
            with lanes.on(layer):
                for number, piece in enumerate(pieces):
                    lanes.wait(layer, marks[number])
                    span = slice(piece.start, piece.stop)
                    torch.mm(part.x[span].flatten(0, 1), transposed, out=part.gates[span].flatten(0, 1))
                    for t in piece:
                        _lstm_forward[grid](
                            part.h[t], part.gates[t], part.weight_y, part.bias, part.c[t], mask, part.gates[t],
                            part.h[t + 1], part.c[t + 1], part.after[t], batch, SIZE=size, DROP=part.mask is not None,
                            **tile,
                        )  # fmt: skip
                    marks[number] = lanes.mark(layer)
        lanes.join()
        ctx.saved, ctx.dtype = saved, x.dtype
        states = [part.h[-1, :, : part.size].float() for part in saved]
        states += [part.c[-1, :, : part.size].clone() for part in saved]
        ctx.mark_non_differentiable(*states)
        return saved[-1].after.clone(), *states

    @staticmethod
    def backward(ctx, d_hidden, *_):
        saved = ctx.saved
        steps, batch = d_hidden.shape[:2]
        device, dtype = d_hidden.device, saved[0].h.dtype
        lasts = len(saved) - 1
        for layer, part in enumerate(saved):
            size = part.padded
            part.da = torch.empty(steps, batch, 4 * size, dtype=dtype, device=device)
            part.dc = torch.zeros(batch, size, dtype=torch.float32, device=device)
            part.parts = torch.empty(4, batch, size, dtype=torch.float32, device=device)
            part.d_after = d_hidden.to(dtype).contiguous() if layer == lasts else torch.empty_like(part.after)
        first = saved[0]
        d_x = torch.empty(steps, batch, first.x.shape[2], dtype=torch.float32, device=device)
        lanes = _Lanes(device, len(saved))
        pieces = _pieces(steps)
        marks = [None] * len(pieces)
        gradients = [None] * (6 * len(saved))
        for layer in reversed(range(len(saved))):
            part = saved[layer]
            size = part.padded
            mask = part.bias if part.mask is None else part.mask
            grid, tile = _tile("lstm_gradient", batch, size, size)
            with lanes.on(layer):
                for number in reversed(range(len(pieces))):
                    lanes.wait(layer, marks[number])
                    for t in reversed(pieces[number]):
                        last = t == steps - 1
                        if not last:
                            _lstm_backward_output[(*grid, 4)](
                                part.da[t + 1], part.weight_y, part.parts, batch, SIZE=size, **tile
                            )
                        _lstm_backward_step[(size // 64, triton.cdiv(batch, 16))](
                            part.parts, part.d_after[t], mask, part.gates[t], part.c[t], part.c[t + 1], part.dc,
                            part.da[t], batch, SIZE=size, LAST=last, DROP=part.mask is not None, BM=16, BN=64,
                        )  # fmt: skip
                    span = slice(pieces[number].start, pieces[number].stop)
                    da = part.da[span].flatten(0, 1)
                    if layer:
                        torch.mm(da, part.weight_x, out=saved[layer - 1].d_after[span].flatten(0, 1))
                    else:
                        d_x[span] = _sum_product(da, part.weight_x).view(len(pieces[number]), batch, -1)
                    marks[number] = lanes.mark(layer)
                da = part.da.flatten(0, 1)
                gradients[6 * layer : 6 * layer + 3] = (
                    _cut_gates(_sum_product(da.t(), part.x.flatten(0, 1)), part.size, part.inputs, 4),
                    _cut_gates(_sum_product(da.t(), part.h[:-1].flatten(0, 1)), part.size, part.size, 4),
                    _cut_gates(da.sum(0, dtype=torch.float32).view(-1, 1), part.size, 1, 4).view(-1),
                )
        lanes.join()
        ctx.saved = None
        return None, d_x[..., : first.inputs].to(ctx.dtype), *gradients


def run_lstm_stack(x, state, weights_x, weights_y, biases, masks, *, dtype=torch.bfloat16):
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
    hidden, *ends = _LstmStack.apply(dtype, x, *flat)
    count = len(state)
    return hidden[..., : weights_y[-1].shape[1]], list(zip(ends[:count], ends[count:], strict=True))


class _ReadoutLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, taught, share, dtype):
        count, size = hidden.shape
        vocab = weight.shape[0]
        left = _pad_last(hidden, _padded(size), dtype)
        right = torch.zeros(_padded(vocab), _padded(size), dtype=dtype, device=weight.device)
        right[:vocab, :size] = weight
        logits = left @ right.t()
        losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
        training = any(ctx.needs_input_grad)
        _cross_entropy[(count,)](
            logits, bias, targets, bias if taught is None else taught, losses, vocab, share, STRIDE=_padded(vocab),
            TAUGHT=taught is not None, GRADIENT=training, BLOCK=min(2048, triton.next_power_of_2(vocab)), num_warps=4,
        )  # fmt: skip
        if training:
            ctx.save_for_backward(logits, left, right)
            ctx.sizes = size, vocab
        return losses.mean()

    @staticmethod
    def backward(ctx, gradient):
        d_logits, left, right = ctx.saved_tensors
        size, vocab = ctx.sizes
        scale = gradient / d_logits.shape[0]
        d_hidden = _sum_product(d_logits, right)[:, :size] * scale
        d_weight = _sum_product(d_logits.t(), left)[:vocab, :size] * scale
        d_bias = d_logits.sum(0, dtype=torch.float32)[:vocab] * scale
        return d_hidden, d_weight, d_bias, None, None, None, None


def readout_loss(hidden, weight, bias, targets, dtype=torch.bfloat16, *, taught=None, share=0.0):
    """Mean cross-entropy of a read-out, with the logits in memory only once and in `dtype`.

    Parameters
    ----------
    hidden : torch.Tensor, shape [N, H]
    weight, bias : torch.Tensor
        Shapes [V, H] and [V].
    targets : torch.Tensor of int64, shape [N]
    dtype : torch.dtype
    taught : torch.Tensor, shape [N, V], optional
        Probabilities to be predicted beside the targets; contiguous.
    share : float
        Of the loss that is the cross-entropy with `taught`.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    return _ReadoutLoss.apply(hidden, weight, bias, targets, taught, float(share), dtype)
