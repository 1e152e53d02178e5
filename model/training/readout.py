"""The read-out: scores of all tokens from the last layer's outputs, and the loss that training lowers.

It is one piece with two functions, so that another read-out takes its place without a change elsewhere: `LanguageModel`
calls these, and everything else calls `LanguageModel`.
"""

import torch
from torch.nn import functional

__all__ = ["logits", "loss"]


def logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Scores of all tokens.

    Parameters
    ----------
    hidden : torch.Tensor, shape [..., H]
    weight, bias : torch.Tensor
        Shapes [V, H] and [V].

    Returns
    -------
    torch.Tensor, shape [..., V]
    """
    return functional.linear(hidden.to(weight.dtype), weight, bias)


def loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    taught: torch.Tensor | None = None,
    share: float = 0.0,
    *,
    fused_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Mean cross-entropy with the text, and with teachers' probabilities where there are any.

    Parameters
    ----------
    hidden : torch.Tensor, shape [N, H]
    weight, bias : torch.Tensor
        Shapes [V, H] and [V].
    targets : torch.Tensor of int64, shape [N]
    taught : torch.Tensor, shape [N, V], optional
        Probabilities to be predicted beside the targets.
    share : float
        Of the loss that is the cross-entropy with `taught`.
    fused_dtype : torch.dtype, optional
        Of the matrix products of the fused kernels; without one the plain path runs.

    Returns
    -------
    torch.Tensor
        Scalar, nats a token.
    """
    if fused_dtype is not None:
        from egret.model.training.kernels.loss import readout_loss

        return readout_loss(hidden, weight, bias, targets, fused_dtype, taught=taught, share=share)
    scores = logits(hidden, weight, bias)
    hard = functional.cross_entropy(scores, targets)
    if taught is None:
        return hard
    soft = -(taught.to(scores.dtype) * functional.log_softmax(scores, dim=-1)).sum(-1).mean()
    return (1 - share) * hard + share * soft
