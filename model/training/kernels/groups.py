"""Fused GPU path of the cross-entropy of a read-out in groups (Triton), with the text and with teachers' probabilities.

`egret.model.training.readout` has the plain path, which gives the same gradients, and the order of scores.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from egret.model.groups import Groups
from egret.model.training.kernels.stack import PAD, launch, pad_last, padded_size, sum_product

__all__ = ["group_readout_loss"]


@triton.jit
def _group_cross_entropy(logits, bias, starts, places, target_groups, taught, losses, share, groups, HEAD: tl.constexpr,
                         ROWS: tl.constexpr, GROUPS: tl.constexpr, COUNT: tl.constexpr, STRIDE: tl.constexpr,
                         TAUGHT: tl.constexpr, GRADIENT: tl.constexpr, HEAD_BLOCK: tl.constexpr,
                         GROUP_BLOCK: tl.constexpr, BLOCK: tl.constexpr, TAIL: tl.constexpr):  # fmt: skip
    """Loss of one row; with GRADIENT the logits are replaced by the gradient of the row's loss.

    With TAUGHT the share `share` of the loss is the cross-entropy with the row's probabilities in `taught`, which need
    not sum to exactly one. `starts` are the groups' first words, counted from the first word of group 0.
    """
    row = tl.program_id(0)
    logits += row.to(tl.int64) * STRIDE
    taught += row.to(tl.int64) * (COUNT - GROUPS * (ROWS - 1))
    place = tl.load(places + row)
    target_group = tl.load(target_groups + row)
    hard = 1.0
    if TAUGHT:
        hard = 1.0 - share
    # The head: its words, and its rows of groups
    words = tl.arange(0, HEAD_BLOCK)
    held = words < HEAD
    word = tl.load(logits + words, mask=held, other=0.0).to(tl.float32)
    word = tl.where(held, word + tl.load(bias + words, mask=held, other=0.0), -1e30)
    group = tl.arange(0, GROUP_BLOCK)
    used = group < GROUPS
    places_of_rows = HEAD + group[:, None] * ROWS + tl.arange(0, ROWS)[None, :]
    entry = tl.load(logits + places_of_rows, mask=used[:, None], other=0.0).to(tl.float32)
    entry = tl.where(used[:, None], entry + tl.load(bias + places_of_rows, mask=used[:, None], other=0.0), -1e30)
    largest = tl.max(entry, axis=1)
    below = entry - tl.expand_dims(largest, 1)
    sums = largest + tl.log(tl.sum(tl.exp(below), axis=1))
    top = tl.maximum(tl.max(word, axis=0), tl.max(sums, axis=0))
    total = tl.sum(tl.where(held, tl.exp(word - top), 0.0), axis=0)
    total += tl.sum(tl.where(used, tl.exp(sums - top), 0.0), axis=0)
    normaliser = top + tl.log(total)
    # What is wanted of each, in the head
    wanted_word = tl.where(held & (words == place), hard, 0.0)
    wanted_group = tl.where(group == target_group, hard, 0.0)
    if TAUGHT:
        wanted_word += share * tl.load(taught + words, mask=held, other=0.0).to(tl.float32)
        wanted_group += share * tl.load(taught + HEAD + group, mask=used, other=0.0).to(tl.float32)
    weight = tl.sum(wanted_word, axis=0) + tl.sum(wanted_group, axis=0)
    loss = weight * normaliser
    loss -= tl.sum(tl.where(held, wanted_word * word, 0.0), axis=0)
    loss -= tl.sum(tl.where(used, wanted_group * sums, 0.0), axis=0)
    if GRADIENT:
        gradient = weight * tl.exp(word - normaliser) - wanted_word
        tl.store(logits + words, gradient.to(logits.dtype.element_ty), mask=held)
        gradients = weight * tl.exp(entry - normaliser) - wanted_group[:, None] * tl.exp(
            entry - tl.expand_dims(sums, 1)
        )
        tl.store(logits + places_of_rows, gradients.to(logits.dtype.element_ty), mask=used[:, None])
        tail = COUNT + tl.arange(0, TAIL)
        tl.store(logits + tail, tl.zeros((TAIL,), dtype=tl.float32).to(logits.dtype.element_ty), mask=tail < STRIDE)
    # The groups' words
    logits += HEAD + GROUPS * ROWS
    bias += HEAD + GROUPS * ROWS
    taught += HEAD + GROUPS
    place -= HEAD
    for number in range(0, groups):
        first = tl.load(starts + number)
        columns = first + tl.arange(0, BLOCK)
        inside = columns < tl.load(starts + number + 1)
        score = tl.load(logits + columns, mask=inside, other=0.0).to(tl.float32)
        score = tl.where(inside, score + tl.load(bias + columns, mask=inside, other=0.0), -1e30)
        asked = tl.where(columns == place, hard, 0.0)
        if TAUGHT:
            asked += share * tl.load(taught + columns, mask=inside, other=0.0).to(tl.float32)
        asked = tl.where(inside, asked, 0.0)
        mass = tl.sum(asked, axis=0)
        peak = tl.max(score, axis=0)
        log_sum = peak + tl.log(tl.sum(tl.where(inside, tl.exp(score - peak), 0.0), axis=0))
        loss += mass * log_sum - tl.sum(tl.where(inside, asked * score, 0.0), axis=0)  # pyright: ignore[reportOperatorIssue]
        if GRADIENT:
            slopes = mass * tl.exp(score - log_sum) - asked
            tl.store(logits + columns, slopes.to(logits.dtype.element_ty), mask=inside)
    tl.store(losses + row, loss)


class _GroupReadoutLoss(torch.autograd.Function):
    """Logits, cross-entropy and its gradient, with the gradient in the place of the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        groups: Groups,
        starts: torch.Tensor,
        places: torch.Tensor,
        taught: torch.Tensor | None,
        share: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        rows, size = hidden.shape
        count, stride = len(weight), padded_size(len(weight))
        left = pad_last(hidden, padded_size(size), dtype)
        right = torch.zeros(stride, padded_size(size), dtype=dtype, device=weight.device)
        right[:count, :size] = weight
        logits = left @ right.t()
        losses = torch.empty(rows, dtype=torch.float32, device=hidden.device)
        training = any(ctx.needs_input_grad)
        target_groups = torch.bucketize(places - groups.head, starts, right=True) - 1
        launch(
            _group_cross_entropy, (rows,),
            logits, bias, starts, places, target_groups, bias if taught is None else taught, losses, share,
            len(groups.groups), HEAD=groups.head, ROWS=groups.rows, GROUPS=len(groups.groups), COUNT=count,
            STRIDE=stride, TAUGHT=taught is not None, GRADIENT=training,
            HEAD_BLOCK=triton.next_power_of_2(max(1, groups.head)),
            GROUP_BLOCK=triton.next_power_of_2(len(groups.groups)),
            BLOCK=triton.next_power_of_2(max(groups.groups)), TAIL=PAD, num_warps=4,
        )  # fmt: skip
        if training:
            ctx.save_for_backward(logits, left, right)
            ctx.sizes = size, count
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple:
        (gradient,) = gradients
        d_logits, left, right = ctx.saved_tensors
        size, count = ctx.sizes
        scale = gradient / d_logits.shape[0]
        d_hidden = sum_product(d_logits, right)[:, :size] * scale
        d_weight = sum_product(d_logits.t(), left)[:count, :size] * scale
        d_bias = d_logits.sum(0, dtype=torch.float32)[:count] * scale
        return d_hidden, d_weight, d_bias, *[None] * 6


def group_readout_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: Groups,
    starts: torch.Tensor,
    places: torch.Tensor,
    dtype: torch.dtype = torch.bfloat16,
    *,
    taught: torch.Tensor | None = None,
    share: float = 0.0,
) -> torch.Tensor:
    """Mean cross-entropy of a read-out in groups, with the logits in memory only once and in `dtype`.

    Parameters
    ----------
    hidden : torch.Tensor, shape [N, H]
    weight, bias : torch.Tensor
        Shapes [E + V - K, H] and [E + V - K].
    groups : Groups
    starts : torch.Tensor of int64, shape [G + 1]
        First word of each group and the end of the last, counted from the first word of group 0.
    places : torch.Tensor of int64, shape [N]
        Of the targets.
    dtype : torch.dtype
        Of the logits, and of the operands of matrix products.
    taught : torch.Tensor, shape [N, V + G], optional
        Probabilities to be predicted beside the targets, as `egret.model.training.readout.arrange` gives them;
        contiguous.
    share : float
        Of the loss that is the cross-entropy with `taught`.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    return _GroupReadoutLoss.apply(hidden, weight, bias, groups, starts, places, taught, float(share), dtype)
