"""Float networks for training: EGRU and LSTM language models in PyTorch.

The EGRU cell, per layer and step, with y' and c' the output and the state of the step before::

    u = sigma(W_ux x + W_uy y' + b_u)
    r = sigma(W_rx x + W_ry y' + b_r)
    z = tanh (W_zx x + W_zy (r * y') + b_z)        reset "before"
    z = tanh (W_zx x + r * (W_zy y') + b_z)        reset "after"
    p = u*z + (1-u)*c'
    e = H(p - theta), H(0) = 1
    y = e*p,  c = p - e*theta

The step function H has the surrogate gradient ``slope * max(0, 1 - |p - theta| / width)``. Parameters are named as in
the checkpoint directory (see `egret.model.checkpoint`), gates stacked u | r | z, or i | f | g | o for the LSTM.

Sequences are time-major: tokens [T, B], inputs of a layer [T, B, I], outputs [T, B, H]. A state is one pair a layer:
(y, c) for EGRU, (h, c) for LSTM, each [B, H] float32, zero at the start of a text and carried from segment to segment.

`LanguageModel` runs a plain PyTorch path anywhere (which is cuDNN for LSTM on a CUDA device), and on a CUDA device the
fused path of `egret.model.training.kernels` for LSTM, and for EGRU with reset "before". All dropout comes from one
`Masks`
object that is drawn beforehand, so the paths compute the same function and the same gradients.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from egret.model.checkpoint import Checkpoint, NetworkConfiguration
from egret.model.errors import InputError

__all__ = ["Dropout", "LanguageModel", "Masks", "configuration_of", "egru_layer", "event", "lstm_layer"]

SLOPE = 3.6
WIDTH = 1 / 3.6
PADDING = 64


class _Event(torch.autograd.Function):
    """H(distance) with a triangular surrogate gradient."""

    @staticmethod
    def forward(ctx, distance, slope, width):
        ctx.save_for_backward(distance)
        ctx.slope, ctx.width = slope, width
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        surrogate = ctx.slope * (1 - distance.abs() / ctx.width).clamp(min=0)
        return gradient * surrogate, None, None


def event(distance, slope=SLOPE, width=WIDTH):
    """Whether a state has reached its threshold, with a gradient.

    Parameters
    ----------
    distance : torch.Tensor
        p - theta, any shape.
    slope, width : float
        Surrogate gradient: ``slope * max(0, 1 - |distance| / width)``.

    Returns
    -------
    torch.Tensor
        1 where ``distance >= 0``, else 0, in the dtype of `distance`.
    """
    return _Event.apply(distance, slope, width)


def egru_layer(x, state, weight_x, weight_y, bias, threshold, *, reset="before", slope=SLOPE, width=WIDTH):
    """Run one EGRU layer over a segment with plain PyTorch operations.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
    state : tuple of torch.Tensor
        y and c, each [B, H].
    weight_x, weight_y, bias, threshold : torch.Tensor
        Shapes [3H, I], [3H, H], [3H] and [H], gates u | r | z.
    reset : str
        ``"before"`` or ``"after"``.
    slope, width : float
        Of the surrogate gradient.

    Returns
    -------
    outputs : torch.Tensor, shape [T, B, H]
        Event values y; zero where there is no event.
    events : torch.Tensor, shape [T, B, H]
        e, 0 or 1, with the surrogate gradient.
    state : tuple of torch.Tensor
        y and c after the last step.
    """
    y, c = state
    size = threshold.shape[0]
    from_inputs = functional.linear(x, weight_x, bias)
    weight_ur, weight_z = weight_y[: 2 * size], weight_y[2 * size :]
    outputs, events = [], []
    for from_input in from_inputs:
        if reset == "before":
            u, r = torch.sigmoid(from_input[:, : 2 * size] + functional.linear(y, weight_ur)).chunk(2, dim=1)
            z = torch.tanh(from_input[:, 2 * size :] + functional.linear(r * y, weight_z))
        else:
            recurrent = functional.linear(y, weight_y)
            u, r = torch.sigmoid(from_input[:, : 2 * size] + recurrent[:, : 2 * size]).chunk(2, dim=1)
            z = torch.tanh(from_input[:, 2 * size :] + r * recurrent[:, 2 * size :])
        p = u * z + (1 - u) * c
        e = event(p - threshold, slope, width)
        y = e * p
        c = p - e * threshold
        outputs.append(y)
        events.append(e)
    return torch.stack(outputs), torch.stack(events), (y, c)


def lstm_layer(x, state, weight_x, weight_y, bias):
    """Run one LSTM layer over a segment; cuDNN on a CUDA device.

    There sizes are padded with zeros to multiples of `PADDING`, which fit the tensor cores. A padded neuron's state
    stays zero, so nothing else changes.

    Parameters
    ----------
    x : torch.Tensor, shape [T, B, I]
    state : tuple of torch.Tensor
        h and c, each [B, H].
    weight_x, weight_y, bias : torch.Tensor
        Shapes [4H, I], [4H, H] and [4H], gates i | f | g | o.

    Returns
    -------
    outputs : torch.Tensor, shape [T, B, H]
    state : tuple of torch.Tensor
    """
    size, inputs = weight_y.shape[1], x.shape[2]
    h, c = (part.to(x.dtype).unsqueeze(0) for part in state)
    if x.is_cuda and (size % PADDING or inputs % PADDING):
        more, more_inputs = -size % PADDING, -inputs % PADDING
        x, h, c = functional.pad(x, (0, more_inputs)), functional.pad(h, (0, more)), functional.pad(c, (0, more))
        weight_x = functional.pad(weight_x.view(4, size, inputs), (0, more_inputs, 0, more)).flatten(0, 1)
        weight_y = functional.pad(weight_y.view(4, size, size), (0, more, 0, more)).flatten(0, 1)
        bias = functional.pad(bias.view(4, size), (0, more)).flatten()
    weights = (weight_x, weight_y, bias, torch.zeros_like(bias))
    with warnings.catch_warnings():
        # DropConnect makes new weights every step, so they never lie in one piece as cuDNN would like.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
        outputs, h, c = torch._VF.lstm(x, (h, c), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)
    return outputs[..., :size], (h[0, :, :size], c[0, :, :size])


@dataclass(frozen=True)
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
    """

    words: float = 0.0
    embedding: float = 0.0
    between: float = 0.0
    output: float = 0.0
    recurrent: float = 0.0

    def __post_init__(self):
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
    outputs: list
    recurrent: list


def _draw(shape, rate, like):
    if rate == 0:
        return None
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate).mul_(1 / (1 - rate))


def _apply(tensor, mask):
    return tensor if mask is None else tensor * mask


class _Layer(nn.Module):
    """Parameters of one recurrent layer."""

    def __init__(self, inputs, size, gates, threshold):
        super().__init__()
        self.weight_x = nn.Parameter(torch.empty(gates * size, inputs))
        self.weight_y = nn.Parameter(torch.empty(gates * size, size))
        self.bias = nn.Parameter(torch.zeros(gates * size))
        if threshold:
            self.threshold = nn.Parameter(torch.zeros(size), requires_grad=False)


class _Table(nn.Module):
    """Parameters of the embedding or the read-out."""

    def __init__(self, weight=None, bias=None):
        super().__init__()
        if weight is not None:
            self.weight = nn.Parameter(torch.empty(weight))
        if bias is not None:
            self.bias = nn.Parameter(torch.zeros(bias))


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
        Whether to use the fused kernels on a CUDA device where they serve the configuration. With False the plain
        path runs there too.

    Attributes
    ----------
    matrix_dtype : torch.dtype
        Of the matrix products on a CUDA device, bfloat16 unless set otherwise; states, sums, gradients and parameters
        are always float32. On a CPU everything keeps the dtype of the parameters.
    """

    def __init__(self, configuration, dropout=None, *, slope=SLOPE, width=WIDTH, fused=True):
        super().__init__()
        self.configuration = configuration
        self.dropout = dropout or Dropout()
        self.slope, self.width = slope, width
        self.fused = fused
        self.matrix_dtype = torch.bfloat16
        self.embedding = _Table((configuration.vocab_size, configuration.embedding_size))
        self.layers = nn.ModuleList(
            _Layer(inputs, size, configuration.gates, configuration.cell == "egru")
            for inputs, size in zip(configuration.input_sizes, configuration.hidden_sizes, strict=True)
        )
        shape = None if configuration.tied else (configuration.vocab_size, configuration.hidden_sizes[-1])
        self.readout = _Table(shape, configuration.vocab_size)

    # Making and saving

    def initialise(self, seed, *, threshold_mean=0.01, embedding_scale=0.1):
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
        """
        random = np.random.default_rng(seed)

        def fill(parameter, values):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.asarray(values, np.float32)))

        def uniform(parameter, scale):
            fill(parameter, random.uniform(-scale, scale, tuple(parameter.shape)))

        uniform(self.embedding.weight, embedding_scale)
        for layer, size in zip(self.layers, self.configuration.hidden_sizes, strict=True):
            uniform(layer.weight_x, 1 / math.sqrt(size))
            uniform(layer.weight_y, 1 / math.sqrt(size))
            bias = np.zeros(layer.bias.shape[0])
            if self.configuration.cell == "lstm":
                bias[size : 2 * size] = 1
            fill(layer.bias, bias)
            if self.configuration.cell == "egru":
                alpha, zero = 3, np.zeros(size)
                drawn = threshold_mean > 0
                fill(layer.threshold, random.beta(alpha, alpha / threshold_mean - alpha, size) if drawn else zero)
        if not self.configuration.tied:
            uniform(self.readout.weight, embedding_scale)
        fill(self.readout.bias, np.zeros(self.configuration.vocab_size))

    def to_checkpoint(self, vocabulary):
        """The parameters as a `egret.model.checkpoint.Checkpoint`.

        Parameters
        ----------
        vocabulary : egret.model.tokens.Vocabulary

        Returns
        -------
        Checkpoint
        """
        tensors = {name: parameter.detach().float().cpu().numpy().copy() for name, parameter in self.named_parameters()}
        return Checkpoint(self.configuration, tensors, vocabulary)

    @classmethod
    def from_checkpoint(cls, checkpoint, dropout=None, **keywords):
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
        return model

    # Running

    @property
    def readout_weight(self):
        """Weights of the read-out [V, H], the embedding's when tied."""
        return self.embedding.weight if self.configuration.tied else self.readout.weight

    def zero_state(self, batch):
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
        like = self.embedding.weight
        return [
            tuple(torch.zeros(batch, size, dtype=like.dtype, device=like.device) for _ in range(2))
            for size in self.configuration.hidden_sizes
        ]

    def draw_masks(self, batch):
        """Draw the dropout of one segment from PyTorch's generator; everything None outside training mode.

        Parameters
        ----------
        batch : int

        Returns
        -------
        Masks
        """
        configuration, like = self.configuration, self.embedding.weight
        dropout = self.dropout if self.training else Dropout()
        last = configuration.layers - 1
        return Masks(
            words=_draw((configuration.vocab_size, 1), dropout.words, like),
            embedding=_draw((batch, configuration.embedding_size), dropout.embedding, like),
            outputs=[
                _draw((batch, size), dropout.output if index == last else dropout.between, like)
                for index, size in enumerate(configuration.hidden_sizes)
            ],
            recurrent=[_draw(layer.weight_y.shape, dropout.recurrent, like) for layer in self.layers],
        )

    def forward(self, tokens, state, masks=None):
        """Run a segment through the embedding and the recurrent layers.

        Parameters
        ----------
        tokens : torch.Tensor of int64, shape [T, B]
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
        # index_select, since its gradient is one scatter without sorting or sizes that a graph could not capture
        words = tokens.flatten()
        embedded = self.embedding.weight.index_select(0, words)
        if masks.words is not None:
            embedded = embedded * masks.words.index_select(0, words)
        embedded = embedded.view(*tokens.shape, -1)
        embedded = _apply(embedded, masks.embedding)
        weights_y = [_apply(layer.weight_y, mask) for layer, mask in zip(self.layers, masks.recurrent, strict=True)]
        if self.configuration.cell == "lstm":
            if self.uses_fused_path:
                from egret.model.training import kernels

                hidden, state = kernels.run_lstm_stack(
                    embedded,
                    state,
                    [layer.weight_x for layer in self.layers],
                    weights_y,
                    [layer.bias for layer in self.layers],
                    masks.outputs,
                    dtype=self.matrix_dtype,
                )
            else:
                hidden, state = self._run_lstm(embedded, state, weights_y, masks)
            return hidden, state, torch.ones(self.configuration.layers, device=hidden.device)
        if self.uses_fused_path:
            from egret.model.training import kernels

            return kernels.run_stack(
                embedded,
                state,
                [layer.weight_x for layer in self.layers],
                weights_y,
                [layer.bias for layer in self.layers],
                [layer.threshold for layer in self.layers],
                masks.outputs,
                slope=self.slope,
                width=self.width,
                dtype=self.matrix_dtype,
            )
        return self._run_egru(embedded, state, weights_y, masks)

    @property
    def uses_fused_path(self):
        """Whether `forward` takes the fused kernels."""
        configuration = self.configuration
        served = configuration.cell == "lstm" or configuration.reset == "before"
        return self.fused and served and self.embedding.weight.is_cuda

    def _matrix_cast(self, *tensors):
        dtype = self.matrix_dtype if self.embedding.weight.is_cuda else self.embedding.weight.dtype
        return tuple(tensor.to(dtype) for tensor in tensors)

    def _run_egru(self, x, state, weights_y, masks):
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
                    reset=self.configuration.reset,
                    slope=self.slope,
                    width=self.width,
                )
                after.append(tuple(part.detach() for part in end))
                activity.append(e.mean())
                x = _apply(y, mask)
        return x, after, torch.stack(activity)

    def _run_lstm(self, x, state, weights_y, masks):
        after = []
        for layer, weight_y, start, mask in zip(self.layers, weights_y, state, masks.outputs, strict=True):
            y, end = lstm_layer(*self._matrix_cast(x), start, *self._matrix_cast(layer.weight_x, weight_y, layer.bias))
            after.append(tuple(part.detach().to(start[0].dtype) for part in end))
            x = _apply(y.to(x.dtype), mask)
        return x, after

    def loss(self, hidden, targets, taught=None, share=0.0):
        """Mean cross-entropy of the read-out.

        Parameters
        ----------
        hidden : torch.Tensor, shape [T, B, H]
        targets : torch.Tensor of int64, shape [T, B]
        taught : torch.Tensor, shape [T, B, V], optional
            Probabilities to be predicted beside the targets.
        share : float
            Of the loss that is the cross-entropy with `taught`.

        Returns
        -------
        torch.Tensor
            Scalar, nats a token.
        """
        hidden = hidden.flatten(0, 1)
        targets = targets.flatten()
        taught = None if taught is None else taught.flatten(0, 1)
        if hidden.is_cuda and self.fused:
            from egret.model.training import kernels

            readout = (self.readout_weight, self.readout.bias)
            return kernels.readout_loss(hidden, *readout, targets, self.matrix_dtype, taught=taught, share=share)
        logits = self.logits(hidden)
        loss = functional.cross_entropy(logits, targets)
        if taught is None:
            return loss
        soft = -(taught.to(logits.dtype) * functional.log_softmax(logits, dim=-1)).sum(-1).mean()
        return (1 - share) * loss + share * soft

    def logits(self, hidden):
        """Scores of all tokens [..., V] from outputs of the last layer [..., H]."""
        return functional.linear(hidden.to(self.readout_weight.dtype), self.readout_weight, self.readout.bias)


def configuration_of(vocabulary, *, cell, embedding_size, hidden_sizes, reset="before", tied=True):
    """The configuration of a network over a vocabulary.

    Parameters
    ----------
    vocabulary : egret.model.tokens.Vocabulary
    cell, embedding_size, hidden_sizes, reset, tied
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
    )
