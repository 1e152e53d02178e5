"""The read-out: scores of all tokens from the last layer's outputs, and the loss that training lowers.

It is one piece with few functions, so that another read-out takes its place without a change elsewhere: `LanguageModel`
calls these, and everything else calls `LanguageModel`.

A read-out in groups (`egret.model.groups`) takes its weights in the order of its scores: the head's words, the groups'
rows in the head, the groups' words. Teachers' probabilities come in the like order (`arrange`): the head's words, the
sums of the groups, the groups' words.
"""

import torch
from torch.nn import functional

from egret.model.groups import Groups

__all__ = ["LEAST", "arrange", "group_log_probabilities", "group_loss", "logits", "loss"]


LEAST = 1e-6
"""Probability that all words together, beside those of which teachers' probabilities are known, have at least."""


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
    words: torch.Tensor | None = None,
    fused_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Mean cross-entropy with the text, and with teachers' probabilities where there are any.

    Parameters
    ----------
    hidden : torch.Tensor, shape [N, H]
    weight, bias : torch.Tensor
        Shapes [V, H] and [V].
    targets : torch.Tensor of int64, shape [N]
    taught : torch.Tensor, shape [N, V or K], optional
        Probabilities to be predicted beside the targets.
    share : float
        Of the loss that is the cross-entropy with `taught`.
    words : torch.Tensor of int, shape [N, K], optional
        Whose probabilities they are, each word at most once in a row. What they lack to one is the probability that
        the teachers give all other words together.
    fused_dtype : torch.dtype, optional
        Of the matrix products of the fused kernels; without one the plain path runs.

    Returns
    -------
    torch.Tensor
        Scalar, nats a token.
    """
    if fused_dtype is not None:
        from egret.model.training.kernels.loss import readout_loss

        return readout_loss(hidden, weight, bias, targets, fused_dtype, taught=taught, words=words, share=share)
    scores = logits(hidden, weight, bias)
    hard = functional.cross_entropy(scores, targets)
    if taught is None:
        return hard
    taught, own = taught.to(scores.dtype), functional.log_softmax(scores, dim=-1)
    if words is not None:
        own = own.gather(-1, words.long())
        others, own_others = ((1 - part.sum(-1, keepdim=True)) for part in (taught, own.exp()))
        taught = torch.cat([taught, others.clamp(min=0)], dim=-1)
        own = torch.cat([own, own_others.clamp(min=LEAST).log()], dim=-1)
    soft = -(taught * own).sum(-1).mean()
    return (1 - share) * hard + share * soft


def _factors(scores: torch.Tensor, groups: Groups) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of the head's words [..., K], of the groups [..., G], of words given a group [..., V - K]."""
    head, rows, words = scores.split([groups.head, len(groups.groups) * groups.rows, sum(groups.groups)], dim=-1)
    whole = torch.cat([head, rows], dim=-1).logsumexp(-1, keepdim=True)
    shares = rows.unflatten(-1, (len(groups.groups), groups.rows)).logsumexp(-1) - whole
    given = torch.cat([part.log_softmax(-1) for part in words.split(list(groups.groups), dim=-1)], dim=-1)
    return head - whole, shares, given


def group_log_probabilities(scores: torch.Tensor, groups: Groups) -> torch.Tensor:
    """Log-probabilities of all words by place.

    Parameters
    ----------
    scores : torch.Tensor, shape [..., E + V - K]
    groups : Groups

    Returns
    -------
    torch.Tensor, shape [..., V]
    """
    head, shares, given = _factors(scores, groups)
    sizes = torch.tensor(groups.groups, device=scores.device)
    return torch.cat([head, given + shares.repeat_interleave(sizes, dim=-1)], dim=-1)


def arrange(probabilities: torch.Tensor, order: torch.Tensor, groups: Groups) -> torch.Tensor:
    """Teachers' probabilities as a read-out in groups learns them.

    Parameters
    ----------
    probabilities : torch.Tensor, shape [..., V]
        By word.
    order : torch.Tensor of int64, shape [V]
    groups : Groups

    Returns
    -------
    torch.Tensor, shape [..., V + G]
    """
    placed = probabilities.index_select(-1, order)
    words = placed[..., groups.head :]
    sums = torch.stack([part.sum(-1) for part in words.split(list(groups.groups), dim=-1)], dim=-1)
    return torch.cat([placed[..., : groups.head], sums, words], dim=-1)


def group_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: Groups,
    starts: torch.Tensor,
    places: torch.Tensor,
    taught: torch.Tensor | None = None,
    share: float = 0.0,
    *,
    fused_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """As `loss`, of a read-out in groups.

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
    taught : torch.Tensor, shape [N, V + G], optional
        Probabilities to be predicted beside the targets, as `arrange` gives them.
    share : float
    fused_dtype : torch.dtype, optional
        As for `loss`.

    Returns
    -------
    torch.Tensor
        Scalar, nats a token.
    """
    if fused_dtype is not None:
        from egret.model.training.kernels.groups import group_readout_loss

        return group_readout_loss(hidden, weight, bias, groups, starts, places, fused_dtype, taught=taught, share=share)
    factors = _factors(logits(hidden, weight, bias), groups)
    head, shares, given = factors
    group = torch.bucketize(places - groups.head, starts, right=True) - 1  # -1: the head
    of_head = places < groups.head
    in_head = torch.cat([head, shares], dim=-1).gather(1, torch.where(of_head, places, group + groups.head)[:, None])
    in_group = given.gather(1, (places - groups.head).clamp(min=0)[:, None])
    hard = -(in_head[:, 0] + torch.where(of_head, torch.zeros_like(in_group[:, 0]), in_group[:, 0])).mean()
    if taught is None:
        return hard
    soft = -(taught.to(given.dtype) * torch.cat(factors, dim=-1)).sum(-1).mean()
    return (1 - share) * hard + share * soft
