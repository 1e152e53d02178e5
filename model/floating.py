"""The float network: inference in float32, what quantisation and hardware are measured against.

The cell is that of arXiv 2405.00433 eq. 1-5, per layer and step, with y' and c' from the step before and both zero at
the start::

    u = sigma(W_ux x + W_uy y' + b_u)
    r = sigma(W_rx x + W_ry y' + b_r)
    z = tanh (W_zx x + W_zy (r * y') + b_z)         reset "before"
    z = tanh (W_zx x + b_z + r * (W_zy y' + b_y))   reset "after", b_y: the inner bias
    p = u*z + (1-u)*c'
    e = H(p - theta), H(0) = 1
    y = e*p            c = p - e*theta

and for the LSTM of the same shape, gates i | f | g | o::

    c = sigma(f)*c' + sigma(i)*tanh(g)          y = sigma(o)*tanh(c)
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from egret.model.groups import log_probabilities

if TYPE_CHECKING:
    from egret.model.checkpoint import Checkpoint

__all__ = ["FloatEngine", "LayerStep"]

_TABLE_LIMIT = 1 << 24  # elements of the table of layer 1's input products; larger ones are multiplied each step
_OVERFLOW = np.errstate(over="ignore", invalid="ignore")  # sums too large for float32 are infinite, and saturate gates
_SPARSE_SHARE = 0.25  # below this share of active inputs, picking rows beats the whole product at batch 1


class LayerStep(NamedTuple):
    """What one layer did in one step; every array is float32 [B, ...].

    Attributes
    ----------
    x : [B, I], values that entered the layer
    y_before : [B, H], outputs of the previous step
    s : [B, H], what entered W_zy: r * y' for EGRU with reset "before", y' otherwise
    p : [B, H], state before reset (LSTM: cell state)
    c : [B, H], carried state
    y : [B, H], outputs; non-zeros are the events
    """

    x: np.ndarray
    y_before: np.ndarray
    s: np.ndarray
    p: np.ndarray
    c: np.ndarray
    y: np.ndarray


class FloatEngine:
    """Runs a checkpoint's network over B independent streams.

    Parameters
    ----------
    checkpoint : Checkpoint

    Attributes
    ----------
    states : list of np.ndarray [B, H]
        Carried state c of each layer.
    events : list of np.ndarray [B, H]
        Outputs y of the latest step of each layer.
    """

    @_OVERFLOW
    def __init__(self, checkpoint: "Checkpoint") -> None:
        self.configuration = checkpoint.configuration
        tensors = checkpoint.tensors
        self._embedding = tensors.get("embedding.weight")  # None where numbers enter
        cell = _LstmLayer if self.configuration.cell == "lstm" else _EgruLayer
        self._layers = [
            cell(
                tensors[f"layers.{layer}.weight_x"],
                tensors[f"layers.{layer}.weight_y"],
                tensors[f"layers.{layer}.bias"],
                tensors.get(f"layers.{layer}.threshold"),
                tensors.get(f"layers.{layer}.bias_y"),
            )
            for layer in range(self.configuration.layers)
        ]
        first = self._layers[0]
        self._table = None
        if self._embedding is not None and len(self._embedding) * first.bias.size <= _TABLE_LIMIT:
            self._table = self._embedding @ first.weight_x + first.bias
        readout = tensors["embedding.weight" if self.configuration.tied else "readout.weight"]
        bias, groups = tensors["readout.bias"], self.configuration.readout
        if groups is not None:
            self._order = tensors["readout.order"].astype(np.int64)
            head, others = self._order[: groups.head], self._order[groups.head :]
            readout = np.concatenate([readout[head], tensors["readout.group_weight"], readout[others]])
            bias = np.concatenate([bias[head], tensors["readout.group_bias"], bias[others]])
        self._readout, self._readout_bias = readout.T, bias
        self.reset_state()

    def reset_state(self, batch: int = 1) -> None:
        """Start ``batch`` streams with zero state and zero outputs."""
        self.states = [np.zeros((batch, size), np.float32) for size in self.configuration.hidden_sizes]
        self.events = [np.zeros((batch, size), np.float32) for size in self.configuration.hidden_sizes]

    @_OVERFLOW
    def step(self, tokens: np.ndarray) -> "list[LayerStep]":
        """Feed one token to every stream.

        Parameters
        ----------
        tokens : np.ndarray of int, shape [B]; or the numbers that enter, float32 [B, I], where the network takes those

        Returns
        -------
        list of LayerStep
            One a layer; the last one's ``y`` is what the read-out takes.
        """
        steps = []
        x = np.asarray(tokens, np.float32) if self._embedding is None else self._embedding[tokens]
        for number, layer in enumerate(self._layers):
            if number == 0 and self._table is not None:
                gates = self._table[tokens]
            else:
                gates = _product(x, layer.weight_x)
                gates += layer.bias
            step = layer.step(x, gates, self.events[number], self.states[number])
            self.states[number], self.events[number] = step.c, step.y
            steps.append(step)
            x = step.y
        return steps

    @property
    def words(self) -> int:
        """V, words that the read-out predicts."""
        return self.configuration.vocab_size

    @_OVERFLOW
    def log_probabilities(self, y: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Log-probabilities of one word for each row of outputs, computed in float64.

        Parameters
        ----------
        y : np.ndarray of float32, shape [B, H]
            Outputs of the last layer.
        words : np.ndarray of int, shape [B]

        Returns
        -------
        np.ndarray of float64, shape [B]
            In nats.
        """
        logits = self.read_out(y).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return logits[np.arange(len(words)), words] - np.log(np.exp(logits).sum(axis=1))

    @_OVERFLOW
    def read_out(self, y: np.ndarray) -> np.ndarray:
        """Logits of the last layer's outputs; of a read-out in groups log-probabilities, which are logits too.

        Parameters
        ----------
        y : np.ndarray of float32, shape [B, H]

        Returns
        -------
        np.ndarray of float32, shape [B, V]
        """
        scores = y @ self._readout + self._readout_bias
        groups = self.configuration.readout
        if groups is None:
            return scores
        result = np.empty((len(y), groups.words), np.float32)
        result[:, self._order] = log_probabilities(scores, groups)
        return result


def _product(x, weights):
    """``x @ weights`` ([B, I] by [I, N]), from the active rows alone where one stream has few of them."""
    if len(x) == 1:
        (active,) = x[0].nonzero()
        if active.size < _SPARSE_SHARE * x.size:
            return x[:, active] @ weights[active]
    return x @ weights


def _sigmoid(x):
    # The tanh form cannot overflow.
    return 0.5 * np.tanh(0.5 * x) + 0.5


class _EgruLayer:
    def __init__(self, weight_x, weight_y, bias, threshold, bias_y):
        self._size = len(threshold)
        # One row a source, so that the rows of the active sources are contiguous.
        self.weight_x = np.ascontiguousarray(weight_x.T)
        self.bias = bias
        self._weight_ur = np.ascontiguousarray(weight_y[: 2 * self._size].T)
        self._weight_z = np.ascontiguousarray(weight_y[2 * self._size :].T)
        self._threshold = threshold
        self._bias_y = bias_y  # None: reset "before"

    def step(self, x, gates, y_before, c_before):
        size = self._size
        u_and_r = _sigmoid(gates[:, : 2 * size] + _product(y_before, self._weight_ur))
        u, r = u_and_r[:, :size], u_and_r[:, size:]
        if self._bias_y is None:
            s = r * y_before
            recurrent = _product(s, self._weight_z)
        else:
            s = y_before
            recurrent = r * (_product(s, self._weight_z) + self._bias_y)
        z = np.tanh(gates[:, 2 * size :] + recurrent)
        p = u * z + (1 - u) * c_before
        fires = p >= self._threshold
        return LayerStep(x, y_before, s, p, p - fires * self._threshold, fires * p)


class _LstmLayer:
    def __init__(self, weight_x, weight_y, bias, _threshold, _bias_y):
        self._size = weight_y.shape[1]
        self.weight_x = np.ascontiguousarray(weight_x.T)
        self.bias = bias
        self._weight_y = np.ascontiguousarray(weight_y.T)

    def step(self, x, gates, y_before, c_before):
        size = self._size
        gates = gates + y_before @ self._weight_y
        i, f = _sigmoid(gates[:, :size]), _sigmoid(gates[:, size : 2 * size])
        g, o = np.tanh(gates[:, 2 * size : 3 * size]), _sigmoid(gates[:, 3 * size :])
        c = f * c_before + i * g
        return LayerStep(x, y_before, y_before, c, c, o * np.tanh(c))
