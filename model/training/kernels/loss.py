"""Fused GPU path of the read-out's cross-entropy (Triton), with the text and with teachers' probabilities.

`egret.model.training.readout` has the plain path, which gives the same gradients.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from egret.model.training.kernels.stack import launch, pad_last, padded_size, sum_product
from egret.model.training.readout import LEAST

__all__ = ["readout_loss"]


@triton.jit
def _cross_entropy(logits, bias, targets, taught, words, losses, vocab, share, least, STRIDE: tl.constexpr,
                   TAUGHT: tl.constexpr, KEPT: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
                   KEPT_BLOCK: tl.constexpr):  # fmt: skip
    """Loss of one row; with GRADIENT the logits are replaced by the gradient of the row's loss.

    With TAUGHT the share `share` of the loss is the cross-entropy with the row's probabilities in `taught`, which need
    not sum to exactly one. With KEPT it is that with as many probabilities, those of the row's `words`, and with what
    they lack to one, which is that of all other words together.
    """
    row = tl.program_id(0)
    logits += row.to(tl.int64) * STRIDE
    taught += row.to(tl.int64) * (KEPT if KEPT else vocab)
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
    if KEPT:
        hard = 1.0 - share
        column = tl.arange(0, KEPT_BLOCK)
        inside = column < KEPT
        word = tl.load(words + row.to(tl.int64) * KEPT + column, mask=inside, other=0)
        asked = tl.load(taught + column, mask=inside, other=0.0).to(tl.float32)
        score = tl.load(logits + word, mask=inside, other=0.0).to(tl.float32)
        score += tl.load(bias + word, mask=inside, other=0.0)
        own = tl.where(inside, tl.exp(score - normaliser), 0.0)
        others = tl.maximum(1.0 - tl.sum(asked, axis=0), 0.0)  # pyright: ignore[reportOperatorIssue]
        own_others = 1.0 - tl.sum(own, axis=0)  # pyright: ignore[reportOperatorIssue]
        learnt = tl.where(own_others > least, others, 0.0)
        own_others = tl.maximum(own_others, least)
        soft = tl.sum(asked * (normaliser - score), axis=0) - others * tl.log(own_others)  # pyright: ignore[reportOperatorIssue]
        loss = hard * (normaliser - chosen) + share * soft
        known = hard + share * (tl.sum(asked, axis=0) + learnt)
        weight = known - share * learnt / own_others  # of all other words' probabilities
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
        if KEPT:
            tl.debug_barrier()  # the stores above come first
            slope = known * own - share * asked - tl.where(word == target, hard, 0.0)  # pyright: ignore[reportOperatorIssue, reportPossiblyUnboundVariable]
            tl.store(logits + word, slope.to(logits.dtype.element_ty), mask=inside)  # pyright: ignore[reportPossiblyUnboundVariable]


class _ReadoutLoss(torch.autograd.Function):
    """Logits, cross-entropy and its gradient, with the gradient in the place of the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        taught: torch.Tensor | None,
        words: torch.Tensor | None,
        share: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        count, size = hidden.shape
        kept = 0 if words is None else words.shape[1]
        vocab = weight.shape[0]
        left = pad_last(hidden, padded_size(size), dtype)
        right = torch.zeros(padded_size(vocab), padded_size(size), dtype=dtype, device=weight.device)
        right[:vocab, :size] = weight
        logits = left @ right.t()
        losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
        training = any(ctx.needs_input_grad)
        launch(
            _cross_entropy, (count,),
            logits, bias, targets, bias if taught is None else taught, targets if words is None else words, losses,
            vocab, share, LEAST, STRIDE=padded_size(vocab), TAUGHT=taught is not None and not kept, KEPT=kept,
            GRADIENT=training, BLOCK=min(2048, triton.next_power_of_2(vocab)),
            KEPT_BLOCK=triton.next_power_of_2(max(1, kept)), num_warps=4,
        )  # fmt: skip
        if training:
            ctx.save_for_backward(logits, left, right)
            ctx.sizes = size, vocab
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple:
        (gradient,) = gradients
        d_logits, left, right = ctx.saved_tensors
        size, vocab = ctx.sizes
        scale = gradient / d_logits.shape[0]
        d_hidden = sum_product(d_logits, right)[:, :size] * scale
        d_weight = sum_product(d_logits.t(), left)[:vocab, :size] * scale
        d_bias = d_logits.sum(0, dtype=torch.float32)[:vocab] * scale
        return d_hidden, d_weight, d_bias, *[None] * 5


def readout_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    dtype: torch.dtype = torch.bfloat16,
    *,
    taught: torch.Tensor | None = None,
    words: torch.Tensor | None = None,
    share: float = 0.0,
) -> torch.Tensor:
    """Mean cross-entropy of a read-out, with the logits in memory only once and in `dtype`.

    Parameters
    ----------
    hidden : torch.Tensor, shape [N, H]
    weight, bias : torch.Tensor
        Shapes [V, H] and [V].
    targets : torch.Tensor of int64, shape [N]
    dtype : torch.dtype
        Of the logits, and of the operands of matrix products.
    taught : torch.Tensor, shape [N, V or K], optional
        Probabilities to be predicted beside the targets; contiguous.
    words : torch.Tensor of int, shape [N, K], optional
        Whose probabilities they are, see `egret.model.training.readout.loss`; contiguous.
    share : float
        Of the loss that is the cross-entropy with `taught`.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    return _ReadoutLoss.apply(hidden, weight, bias, targets, taught, words, float(share), dtype)
