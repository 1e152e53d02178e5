"""Dropout: its rates, and the masks that are drawn from them for one segment."""

from dataclasses import dataclass

import torch

from egret.model.errors import InputError

__all__ = ["Dropout", "Masks", "draw_mask", "masked"]


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Dropout rates, each from 0 to below 1.

    Parameters
    ----------
    words : float
        Rate at which whole words are taken out of the embedding (all their occurrences in the segment).
    embedding, between, output : float
        Locked dropout (one mask for all steps of a segment) of the embedding's output, between layers, and of the
        last layer's output.
    recurrent : float
        DropConnect: rate at which recurrent weights are taken out for a segment.

    Raises
    ------
    InputError
        If a rate is not accepted, naming it.
    """

    words: float = 0.0
    embedding: float = 0.0
    between: float = 0.0
    output: float = 0.0
    recurrent: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < 1:
                raise InputError(f"dropout of {name} must be a number from 0 to below 1, not {rate!r}")


@dataclass
class Masks:
    """What dropout multiplies one segment with, already scaled by 1 / (1 - rate); None where nothing is dropped.

    Parameters
    ----------
    words : torch.Tensor of shape [V, 1], or None
    embedding : torch.Tensor of shape [B, E], or None
    outputs : list of torch.Tensor of shape [B, H], or of None
        One a layer: between layers, and after the last one.
    recurrent : list of torch.Tensor of the shape of weight_y, or of None
    """

    words: torch.Tensor | None
    embedding: torch.Tensor | None
    outputs: list[torch.Tensor | None]
    recurrent: list[torch.Tensor | None]


def draw_mask(shape: tuple[int, ...], rate: float, like: torch.Tensor) -> torch.Tensor | None:
    """Draw a mask from PyTorch's generator.

    Parameters
    ----------
    shape : tuple of int
    rate : float
        Share of zeros, from 0 to below 1.
    like : torch.Tensor
        Has the mask's dtype and device.

    Returns
    -------
    torch.Tensor or None
        Of zeros and of 1 / (1 - rate); None with rate 0.
    """
    if rate == 0:
        return None
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate).mul_(1 / (1 - rate))


def masked(tensor: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The `tensor` times the `mask`, or the tensor itself where there is none."""
    return tensor if mask is None else tensor * mask
