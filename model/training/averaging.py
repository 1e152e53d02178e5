"""An average of the parameters over the last epochs, which predicts better than the parameters at a high rate."""

from collections.abc import Iterable, Mapping

import torch

__all__ = ["EVERY", "Average", "copy_parameters"]

EVERY = 10
"""Steps between two updates of an average, which cost 2 % of a step."""


class Average:
    """Mean of a model's parameters, exponential once it looks back far enough.

    Parameters
    ----------
    parameters : iterable of (str, torch.Tensor)
        Of the model, by name; read at each update.
    horizon : float
        Steps that it looks back.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
    updates : int
        Since the average began.
    """

    def __init__(self, parameters: Iterable[tuple[str, torch.Tensor]], horizon: float):
        self._parameters = dict(parameters)
        self._horizon = horizon
        self.tensors = copy_parameters(self._parameters)
        self.updates = 0

    def restart(self) -> None:
        """Begin anew."""
        self.updates = 0

    def update(self, step: int) -> None:
        """Take in the parameters of now; `step` counts the steps so far, and every `EVERY`-th counts."""
        if step % EVERY:
            return
        self.updates += 1
        share = 1 / max(1.0, min(self.updates, self._horizon / EVERY))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                self.tensors[name].lerp_(parameter, share)


def copy_parameters(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of `parameters` that later steps leave alone."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}
