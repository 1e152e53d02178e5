"""Training with the rounding of quantisation in mind (straight-through).

The network computes with rounded weights, as the integer network will; their gradients go to exact ones, which are
trained and rounded again after each step. The values that a weight may take are those of the network quantised when the
training begins (and after each pruning), so that what is trained this way is quantised without further loss: 15 values
a matrix, the embedding in fewer bits, and 15 values for the weights of a read-out in groups.
"""

from collections.abc import Mapping

import numpy as np
import torch

from egret.model.arithmetic import CODEBOOK
from egret.model.quantise import dequantise, quantise
from egret.model.tokens import Vocabulary
from egret.model.training.averaging import copy_parameters
from egret.model.training.network import LanguageModel

__all__ = ["Rounding"]


class Rounding:
    """Rounds the weights of a model in training.

    Parameters
    ----------
    model : LanguageModel
        An EGRU with reset "before"; from now on its weights are rounded ones.
    vocabulary : Vocabulary
    weight_bits, embedding_bits : int
        As for `egret.model.quantise.quantise`; `weight_bits` is 4.

    Attributes
    ----------
    exact : dict of str to torch.Tensor
        The exact weights, by their names in the model.
    values : dict of str to torch.Tensor, shape [15]
        What a weight may become, rising, for each part of a matrix that has values of its own; the embedding's step.
    """

    def __init__(self, model: LanguageModel, vocabulary: Vocabulary, weight_bits: int, embedding_bits: int):
        self._model, self._vocabulary = model, vocabulary
        self._bits = {"weight_bits": weight_bits, "embedding_bits": embedding_bits}
        names = [f"layers.{number}.weight_{side}" for number in range(len(model.layers)) for side in "xy"]
        names.append("embedding.weight")
        self._in_groups = model.configuration.readout is not None
        if self._in_groups:
            names.append("readout.group_weight")
            if not model.configuration.tied:
                names.append("readout.weight")
        parameters = dict(model.named_parameters())
        self._rounded = {name: parameters[name] for name in names}
        self.exact = copy_parameters(self._rounded)
        self.values: dict[str, torch.Tensor] = {}
        self.fit()

    def fit(self) -> None:
        """Choose the values anew, for the exact weights as they are, and round."""
        checkpoint = self._model.to_checkpoint(self._vocabulary, {**dict(self._model.named_parameters()), **self.exact})
        found: dict[str, np.ndarray] = {}
        network = quantise(checkpoint, **self._bits)
        plain = dequantise(network).tensors
        for number in range(len(self._model.layers)):
            for side in "xy":
                name = f"layers.{number}.weight_{side}"
                for gate, part in enumerate(np.split(plain[name], 3)):
                    found[f"{name}.{gate}"] = _spread(part)
        step = float(2.0 ** (8 - self._bits["embedding_bits"])) * _unit(plain["embedding.weight"], network.embedding)
        found["embedding.weight"] = np.array([step], np.float32)
        if self._in_groups:
            assert network.readout_codebook is not None
            name = "embedding.weight" if self._model.configuration.tied else "readout.weight"
            unit = _unit(plain[name], network.embedding if network.readout_weight is None else network.readout_weight)
            found["readout"] = _spread(network.readout_codebook * unit)
        for name, array in found.items():
            values = torch.from_numpy(array.astype(np.float32))
            if name in self.values:
                self.values[name].copy_(values)
            else:
                self.values[name] = values.to(self._rounded["embedding.weight"].device)
        self.round()

    @torch.no_grad()
    def round(self) -> None:
        """Put the exact weights, rounded, into the model."""
        self.put(self.exact)

    @torch.no_grad()
    def put(self, exact: Mapping[str, torch.Tensor]) -> None:
        """Put the weights among `exact` parameters, rounded, into the model, and all others as they are."""
        for name, parameter in self._model.named_parameters():
            if name in exact:
                parameter.copy_(self._nearest(name, exact[name]) if name in self._rounded else exact[name])
        if self._in_groups and self._model.configuration.tied:
            weight = self._rounded["embedding.weight"]
            offset = self._to_values(weight, "readout") - weight
            if self._model.readout_offset is None:
                self._model.readout_offset = offset
            else:
                self._model.readout_offset.copy_(offset)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the exact weights into the model, for a step of the optimiser."""
        for name, parameter in self._rounded.items():
            parameter.copy_(self.exact[name])

    @torch.no_grad()
    def take(self) -> None:
        """Take the model's weights for the exact ones, behind a step of the optimiser, and round them."""
        for name, parameter in self._rounded.items():
            self.exact[name].copy_(parameter)
        self.round()

    def rounded(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Copies of `parameters` with their weights rounded."""
        with torch.no_grad():
            return {
                name: self._nearest(name, tensor) if name in self._rounded else tensor.detach().clone()
                for name, tensor in parameters.items()
            }

    def _nearest(self, name: str, exact: torch.Tensor) -> torch.Tensor:
        if name == "embedding.weight":
            step = self.values[name]
            limit = 127 >> (8 - self._bits["embedding_bits"])
            return (exact / step).round().clamp(-limit, limit) * step
        if name.startswith("readout."):
            return self._to_values(exact, "readout")
        return torch.cat([self._to_values(part, f"{name}.{gate}") for gate, part in enumerate(exact.chunk(3))])

    def _to_values(self, exact: torch.Tensor, name: str) -> torch.Tensor:
        """The nearest of a matrix's values to each weight that is not zero."""
        values = self.values[name]
        place = torch.bucketize(exact, (values[1:] + values[:-1]) / 2, out_int32=True)
        return torch.where(exact == 0, exact, values[place])


def _unit(plain: np.ndarray, integers: np.ndarray) -> float:
    """What one of the integers stands for."""
    place = np.unravel_index(np.abs(integers.astype(np.int64)).argmax(), integers.shape)
    return float(plain[place] / integers[place]) if integers[place] else 1.0


def _spread(weights: np.ndarray) -> np.ndarray:
    """The values of weights but zero, the largest again and again so that they are always 15."""
    values = np.unique(weights[weights != 0])
    values = values if values.size else np.array([1.0], np.float32)
    return np.concatenate([values, np.repeat(values[-1:], CODEBOOK - len(values))])
