"""Float networks for training: EGRU and LSTM language models in PyTorch.

Parameters are named as in the checkpoint directory (see `egret.model.checkpoint`). Sequences are time-major: tokens
[T, B], inputs of a layer [T, B, I], outputs [T, B, H]. A state is one pair of tensors a layer, see
`egret.model.training.cells`; it is float32, zero at the start of a text and carried from segment to segment.

`LanguageModel` runs the plain PyTorch path of `egret.model.training.cells` anywhere (which is cuDNN for LSTM on a CUDA
device), and on a CUDA device the fused kernels of `egret.model.training.kernels`. All dropout comes from one `Masks`
object that is drawn beforehand, so the paths compute the same function and the same gradients. The read-out and its
loss are `egret.model.training.readout`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.groups import Groups
from egret.model.sequences import NO_CLASS
from egret.model.tokens import Vocabulary
from egret.model.training import readout
from egret.model.training.cells import SLOPE, WIDTH, State, egru_layer, lstm_layer
from egret.model.training.dropout import Dropout, Masks, draw_mask, masked

__all__ = ["LanguageModel", "configuration_of"]


class _Layer(nn.Module):
    """Parameters of one recurrent layer."""

    def __init__(self, inputs: int, size: int, configuration: NetworkConfiguration):
        super().__init__()
        gates, events = configuration.gates, configuration.cell == "egru"
        self.weight_x = nn.Parameter(torch.empty(gates * size, inputs))
        self.weight_y = nn.Parameter(torch.empty(gates * size, size))
        self.bias = nn.Parameter(torch.zeros(gates * size))
        if events:
            self.threshold = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.bias_y = nn.Parameter(torch.zeros(size)) if events and configuration.reset == "after" else None


class _Table(nn.Module):
    """Parameters of the embedding or the read-out."""

    def __init__(self, weight: tuple[int, int] | None = None, bias: int | None = None):
        super().__init__()
        if weight is not None:
            self.weight = nn.Parameter(torch.empty(weight))
        if bias is not None:
            self.bias = nn.Parameter(torch.zeros(bias))


class _GroupTable(_Table):
    """Parameters of a read-out in groups beside the words' own, and where each word is."""

    order: torch.Tensor
    places: torch.Tensor
    starts: torch.Tensor

    def __init__(self, weight: tuple[int, int] | None, groups: Groups, size: int):
        super().__init__(weight, groups.words)
        rows = len(groups.groups) * groups.rows
        self.group_weight = nn.Parameter(torch.zeros(rows, size))
        self.group_bias = nn.Parameter(torch.zeros(rows))
        self.register_buffer("order", torch.arange(groups.words))
        self.register_buffer("places", torch.arange(groups.words), persistent=False)
        self.register_buffer("starts", torch.from_numpy(groups.starts - groups.head), persistent=False)

    def put(self, order: torch.Tensor) -> None:
        """Take an `order` [V] of the words."""
        with torch.no_grad():
            self.order.copy_(order)
            self.places[self.order] = torch.arange(len(self.order), device=self.order.device)


class LanguageModel(nn.Module):
    """Embedding, recurrent layers and (tied) read-out.

    Parameters
    ----------
    configuration : NetworkConfiguration
    dropout : Dropout, optional
        Used while the module is in training mode.
    slope, width : float
        Of the surrogate gradient.
    fused : bool, optional
        Whether to use the fused kernels on a CUDA device. With False the plain path runs there too.

    Attributes
    ----------
    matrix_dtype : torch.dtype
        Of the matrix products on a CUDA device, bfloat16 unless set otherwise; states, sums, gradients and parameters
        are always float32. On a CPU everything keeps the dtype of the parameters.
    readout_offset : torch.Tensor, shape [V, H], or None
        What a tied read-out in groups adds to the embedding, where it is rounded more than the embedding is.
    """

    def __init__(
        self,
        configuration: NetworkConfiguration,
        dropout: Dropout | None = None,
        *,
        slope: float = SLOPE,
        width: float = WIDTH,
        fused: bool = True,
    ):
        super().__init__()
        self.configuration = configuration
        self.dropout = dropout or Dropout()
        self.slope, self.width = slope, width
        self.fused = fused
        self.matrix_dtype = torch.bfloat16
        self.readout_offset: torch.Tensor | None = None
        words = (configuration.vocab_size, configuration.embedding_size)
        self.embedding = _Table(None if configuration.takes_numbers else words)
        layers = nn.ModuleList(
            _Layer(inputs, size, configuration)
            for inputs, size in zip(configuration.input_sizes, configuration.hidden_sizes, strict=True)
        )
        self.layers = cast(Sequence[_Layer], layers)  # a ModuleList does not know what it holds
        shape = None if configuration.tied else (configuration.vocab_size, configuration.hidden_sizes[-1])
        groups = configuration.readout
        self.readout = (
            _Table(shape, configuration.vocab_size)
            if groups is None
            else _GroupTable(shape, groups, configuration.hidden_sizes[-1])
        )

    # Making and saving

    def initialise(
        self,
        seed: int,
        *,
        threshold_mean: float = 0.01,
        embedding_scale: float = 0.1,
        order: np.ndarray | None = None,
    ) -> None:
        """Draw all parameters.

        Weights are uniform within 1 / sqrt(H), biases zero (1 for the LSTM's forget gate), thresholds come from a
        Beta distribution.

        Parameters
        ----------
        seed : int
        threshold_mean : float
            Mean of the Beta distribution, from 0 (all thresholds zero) to below 1; its alpha is 3.
        embedding_scale : float
            Embedding weights are uniform within +- this.
        order : np.ndarray of int64, shape [V], optional
            Of the words of a read-out in groups.
        """
        random = np.random.default_rng(seed)

        def fill(parameter: torch.Tensor, values: np.ndarray) -> None:
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.asarray(values, np.float32)))

        def uniform(parameter: torch.Tensor, scale: float) -> None:
            fill(parameter, random.uniform(-scale, scale, tuple(parameter.shape)))

        if not self.configuration.takes_numbers:
            uniform(self.embedding.weight, embedding_scale)
        for layer, size in zip(self.layers, self.configuration.hidden_sizes, strict=True):
            uniform(layer.weight_x, 1 / math.sqrt(size))
            uniform(layer.weight_y, 1 / math.sqrt(size))
            bias = np.zeros(layer.bias.shape[0])
            if self.configuration.cell == "lstm":
                bias[size : 2 * size] = 1
            fill(layer.bias, bias)
            if layer.bias_y is not None:
                fill(layer.bias_y, np.zeros(size))
            if self.configuration.cell == "egru":
                alpha, zero = 3, np.zeros(size)
                drawn = threshold_mean > 0
                fill(layer.threshold, random.beta(alpha, alpha / threshold_mean - alpha, size) if drawn else zero)
        if not self.configuration.tied:
            uniform(self.readout.weight, embedding_scale)
        fill(self.readout.bias, np.zeros(self.configuration.vocab_size))
        if isinstance(self.readout, _GroupTable):
            uniform(self.readout.group_weight, embedding_scale)
            fill(self.readout.group_bias, np.zeros(len(self.readout.group_bias)))
            if order is not None:
                self.put_order(torch.from_numpy(order))

    def to_checkpoint(self, vocabulary: Vocabulary, parameters: Mapping[str, torch.Tensor] | None = None) -> Checkpoint:
        """The parameters as a checkpoint.

        Parameters
        ----------
        vocabulary : egret.model.tokens.Vocabulary
        parameters : dict of str to torch.Tensor, optional
            Instead of the model's own, named as those.

        Returns
        -------
        Checkpoint
        """
        found: dict[str, torch.Tensor] = dict(self.named_parameters() if parameters is None else parameters)
        if isinstance(self.readout, _GroupTable):
            found["readout.order"] = self.readout.order
        tensors = {name: parameter.detach().float().cpu().numpy().copy() for name, parameter in found.items()}
        return Checkpoint(self.configuration, tensors, vocabulary)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, dropout: Dropout | None = None, **keywords: Any) -> Self:
        """A model with the parameters of a checkpoint.

        Parameters
        ----------
        checkpoint : egret.model.checkpoint.Checkpoint
        dropout : Dropout, optional
        **keywords
            As for the class.

        Returns
        -------
        LanguageModel
        """
        model = cls(checkpoint.configuration, dropout, **keywords)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.from_numpy(checkpoint.tensors[name]))
        if model.configuration.readout is not None:
            model.put_order(torch.from_numpy(checkpoint.tensors["readout.order"]))
        return model

    def order(self) -> np.ndarray:
        """Order of the words of a read-out in groups, int64 [V]; as they come where it is plain."""
        if isinstance(self.readout, _GroupTable):
            return self.readout.order.cpu().numpy()
        return np.arange(self.configuration.vocab_size)

    def put_order(self, order: torch.Tensor) -> None:
        """Take an `order` [V] of the words, for a read-out in groups."""
        if isinstance(self.readout, _GroupTable):
            self.readout.put(order)

    # Running

    @property
    def readout_weight(self) -> torch.Tensor:
        """Weights of the read-out [V, H], the embedding's when tied."""
        return self.embedding.weight if self.configuration.tied else self.readout.weight

    def zero_state(self, batch: int) -> list[State]:
        """State at the start of a text.

        Parameters
        ----------
        batch : int
            Number of streams B.

        Returns
        -------
        list of tuple of torch.Tensor
            (y, c) or (h, c) a layer, each [B, H].
        """
        like = self.layers[0].bias
        return [(like.new_zeros(batch, size), like.new_zeros(batch, size)) for size in self.configuration.hidden_sizes]

    def draw_masks(self, batch: int) -> Masks:
        """Draw the dropout of one segment from PyTorch's generator; everything None outside training mode.

        Parameters
        ----------
        batch : int

        Returns
        -------
        Masks
        """
        configuration, like = self.configuration, self.layers[0].bias
        dropout = self.dropout if self.training else Dropout()
        last = configuration.layers - 1
        return Masks(
            words=draw_mask((configuration.vocab_size, 1), dropout.words, like),
            embedding=draw_mask((batch, configuration.embedding_size), dropout.embedding, like),
            outputs=[
                draw_mask((batch, size), dropout.output if index == last else dropout.between, like)
                for index, size in enumerate(configuration.hidden_sizes)
            ],
            recurrent=[draw_mask(layer.weight_y.shape, dropout.recurrent, like) for layer in self.layers],
        )

    def forward(
        self, tokens: torch.Tensor, state: list[State], masks: Masks | None = None
    ) -> tuple[torch.Tensor, list[State], torch.Tensor]:
        """Run a segment through the embedding and the recurrent layers.

        Parameters
        ----------
        tokens : torch.Tensor of int64, shape [T, B]
            Of a network of numbers what enters, float32 [T, B, I].
        state : list of tuple of torch.Tensor
            As `zero_state` gives it.
        masks : Masks, optional
            Drawn here when not given.

        Returns
        -------
        hidden : torch.Tensor, shape [T, B, H]
            Last layer's outputs after output dropout.
        state : list of tuple of torch.Tensor
            After the last step, detached.
        activity : torch.Tensor, shape [layers]
            Share of neurons with an event, mean over steps and streams, with the surrogate gradient; ones for LSTM.
        """
        masks = masks or self.draw_masks(tokens.shape[1])
        entering = tokens if self.configuration.takes_numbers else self._embed(tokens, masks)
        embedded = masked(entering, masks.embedding)
        weights_y = [masked(layer.weight_y, mask) for layer, mask in zip(self.layers, masks.recurrent, strict=True)]
        if self.uses_fused_path:
            return self._run_fused(embedded, state, weights_y, masks)
        run = self._run_lstm if self.configuration.cell == "lstm" else self._run_egru
        return run(embedded, state, weights_y, masks)

    def _embed(self, tokens: torch.Tensor, masks: Masks) -> torch.Tensor:
        # index_select, since its gradient is one scatter without sorting or sizes that a graph could not capture
        words = tokens.flatten()
        embedded = self.embedding.weight.index_select(0, words)
        if masks.words is not None:
            embedded = embedded * masks.words.index_select(0, words)
        return embedded.view(*tokens.shape, -1)

    @property
    def uses_fused_path(self) -> bool:
        """Whether `forward` takes the fused kernels."""
        return self.fused and self.layers[0].bias.is_cuda

    def _run_fused(
        self, x: torch.Tensor, state: list[State], weights_y: list[torch.Tensor], masks: Masks
    ) -> tuple[torch.Tensor, list[State], torch.Tensor]:
        from egret.model.training.kernels import egru, lstm

        weights_x = [layer.weight_x for layer in self.layers]
        biases = [layer.bias for layer in self.layers]
        dtype = self.matrix_dtype
        if self.configuration.cell == "lstm":
            hidden, after = lstm.run_stack(x, state, weights_x, weights_y, biases, masks.outputs, dtype=dtype)
            return hidden, after, self._full_activity(hidden)
        thresholds, biases_y = ([getattr(layer, name) for layer in self.layers] for name in ("threshold", "bias_y"))
        return egru.run_stack(
            x, state, weights_x, weights_y, biases, thresholds, biases_y, masks.outputs,
            slope=self.slope, width=self.width, dtype=dtype,
        )  # fmt: skip

    def _full_activity(self, like: torch.Tensor) -> torch.Tensor:
        """Activity of an LSTM, whose neurons always have an output."""
        return torch.ones(self.configuration.layers, device=like.device)

    def _run_egru(
        self, x: torch.Tensor, state: list[State], weights_y: list[torch.Tensor], masks: Masks
    ) -> tuple[torch.Tensor, list[State], torch.Tensor]:
        after, activity = [], []
        with torch.autocast("cuda", self.matrix_dtype, enabled=x.is_cuda and self.matrix_dtype != torch.float32):
            for layer, weight_y, start, mask in zip(self.layers, weights_y, state, masks.outputs, strict=True):
                y, e, end = egru_layer(
                    x,
                    start,
                    layer.weight_x,
                    weight_y,
                    layer.bias,
                    layer.threshold,
                    layer.bias_y,
                    slope=self.slope,
                    width=self.width,
                )
                after.append((end[0].detach(), end[1].detach()))
                activity.append(e.mean())
                x = masked(y, mask)
        return x, after, torch.stack(activity)

    def _run_lstm(
        self, x: torch.Tensor, state: list[State], weights_y: list[torch.Tensor], masks: Masks
    ) -> tuple[torch.Tensor, list[State], torch.Tensor]:
        after = []
        dtype = self.matrix_dtype if x.is_cuda else x.dtype
        for layer, weight_y, start, mask in zip(self.layers, weights_y, state, masks.outputs, strict=True):
            weights = (tensor.to(dtype) for tensor in (layer.weight_x, weight_y, layer.bias))
            y, end = lstm_layer(x.to(dtype), start, *weights)
            after.append((end[0].detach().to(start[0].dtype), end[1].detach().to(start[1].dtype)))
            x = masked(y.to(x.dtype), mask)
        return x, after, self._full_activity(x)

    def loss(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        taught: torch.Tensor | None = None,
        words: torch.Tensor | None = None,
        *,
        share: float = 0.0,
    ) -> torch.Tensor:
        """Mean cross-entropy of the read-out, over what is asked for where the targets are classes of sequences.

        Parameters
        ----------
        hidden : torch.Tensor, shape [T, B, H]
        targets : torch.Tensor of int64, shape [T, B]
        taught : torch.Tensor, shape [T, B, V or K], optional
            Teachers' probabilities, to be predicted beside the targets, as `arrange` gives them.
        words : torch.Tensor of int32, shape [T, B, K], optional
            Whose probabilities they are where they are not those of all; only for a plain read-out.
        share : float
            Of the loss that is the cross-entropy with `taught`.

        Returns
        -------
        torch.Tensor
            Scalar, nats a token.
        """
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
        taught = None if taught is None else taught.flatten(0, 1)
        words = None if words is None else words.flatten(0, 1)
        dtype = self.matrix_dtype if self.fused and hidden.is_cuda else None
        groups = self.configuration.readout
        if groups is None:
            weight, bias = self.readout_weight, self.readout.bias
            if self.configuration.takes_numbers:
                scores, asked = readout.logits(hidden, weight, bias), targets != NO_CLASS
                every = functional.cross_entropy(scores, targets, ignore_index=NO_CLASS, reduction="sum")
                return every / asked.sum().clamp(min=1)
            return readout.loss(hidden, weight, bias, targets, taught, share, words=words, fused_dtype=dtype)
        table = cast(_GroupTable, self.readout)
        places = table.places.index_select(0, targets)
        return readout.group_loss(
            hidden, *self._group_weights(groups), groups, table.starts, places, taught, share, fused_dtype=dtype
        )

    def _group_weights(self, groups: Groups) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases of a read-out in groups, in the order of its scores."""
        table = cast(_GroupTable, self.readout)
        weight = self.readout_weight if self.readout_offset is None else self.readout_weight + self.readout_offset
        weight, bias = weight.index_select(0, table.order), table.bias.index_select(0, table.order)
        return (
            torch.cat([weight[: groups.head], table.group_weight, weight[groups.head :]]),
            torch.cat([bias[: groups.head], table.group_bias, bias[groups.head :]]),
        )

    def arrange(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Teachers' `probabilities` [..., V] of all tokens as `loss` takes them; of a plain read-out as they are."""
        groups = self.configuration.readout
        if groups is None:
            return probabilities
        return readout.arrange(probabilities, cast(_GroupTable, self.readout).order, groups)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of all tokens [..., V] from outputs of the last layer `hidden` [..., H].

        Of a read-out in groups they are log-probabilities.
        """
        groups = self.configuration.readout
        if groups is None:
            return readout.logits(hidden, self.readout_weight, self.readout.bias)
        scores = readout.logits(hidden, *self._group_weights(groups))
        return readout.group_log_probabilities(scores, groups).index_select(-1, cast(_GroupTable, self.readout).places)

    # Weights

    @property
    def prunable_weights(self) -> list[torch.Tensor]:
        """Weights that pruning acts on: weight_x and weight_y of each recurrent layer."""
        return [weight for layer in self.layers for weight in (layer.weight_x, layer.weight_y)]

    def event_weights(self, readout_rows: float = 0.0) -> list[float]:
        """Share of the weights behind events that is behind each layer's; their sum is 1.

        A layer's events drive its own weight_y and the next layer's weight_x, and the last layer's a read-out in
        groups, too. Beside that one zeros do not count. A plain read-out is left out, as in all counts of MACs, and
        then zeros do count.

        Parameters
        ----------
        readout_rows : float
            Scores of a read-out in groups that a token takes on average.

        Returns
        -------
        list of float
        """
        plain = self.configuration.readout is None

        def size(weight: torch.Tensor) -> int:
            return weight.numel() if plain else int((weight != 0).sum())

        behind = [float(size(layer.weight_y)) for layer in self.layers]
        for index, layer in enumerate(self.layers[1:]):
            behind[index] += size(layer.weight_x)
        behind[-1] += readout_rows * self.configuration.hidden_sizes[-1]
        return [weights / sum(behind) for weights in behind]

    def sparsity(self) -> float:
        """Share of the prunable weights that are zero."""
        weights = self.prunable_weights
        return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def configuration_of(
    vocabulary: Vocabulary,
    *,
    cell: str,
    embedding_size: int,
    hidden_sizes: tuple[int, ...],
    reset: str = "before",
    tied: bool = True,
    readout: Groups | None = None,
) -> NetworkConfiguration:
    """The configuration of a network over a vocabulary.

    Parameters
    ----------
    vocabulary : Vocabulary
    cell, embedding_size, hidden_sizes, reset, tied, readout
        As in `NetworkConfiguration`.

    Returns
    -------
    NetworkConfiguration
    """
    return NetworkConfiguration(
        cell=cell,
        tokens=vocabulary.kind,
        vocab_size=vocabulary.size,
        embedding_size=embedding_size,
        hidden_sizes=hidden_sizes,
        reset=reset,
        tied=tied,
        readout=readout,
    )
