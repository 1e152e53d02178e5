"""The integer network: the specification of everything below it.

Per layer and step, with values as signed 9-bit integers (LSB 2^-8), weights as 8-bit integers, state with 14 fraction
bits, and per gate g an accumulator LSB 2^-(8 + a_g), a_g the fraction bits of the gate's weights (arXiv 2405.00433
eq. 1-5, integer):

===================================================================  ==================================================
``acc_g = bias_g + W_gx x + W_gy y'``   (g = u, r)                   wide enough for any input: checked once
``index_g = saturate(half_up(acc_g, shift_g))``                      signed, `Configuration.gate_index_bits` wide
``u = sigmoid_table[index_u], r = sigmoid_table[index_r]``           unsigned 8 bit, LSB 2^-8
``s = half_up(r * y', 8)``                                           0 to 254
``acc_z = bias_z + W_zx x + W_zy s``, ``z = tanh_table[index_z]``    signed, LSB 2^-14; reset "before"
``p = c' + half_up(u * (z - c'), 8)``                                state before reset, within -1 to 1
``fires = p >= threshold``                                           thresholds 0 to 32767, LSB 2^-14
``y = min(255, half_up(p, 6)) if fires else 0``                      the event value; 0 is no event to anyone downstream
``c = p - threshold if fires else p``                                carried state
===================================================================  ==================================================

``half_up(v, n)`` is ``(v + 2^(n-1)) >> n`` with an arithmetic shift. Nothing else rounds, and only ``saturate`` and
``min`` saturate.

A layer with an inner bias ``bias_y`` has reset "after": the events enter its second matrix as they are, and gate r
scales what comes out. So there ``s = y'``, and::

    acc_z = bias_z + W_zx x + half_up(r * (bias_y + W_zy y'), 8)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from egret.model.arithmetic import CODEBOOK, EVENT_MAX, STATE_FRACTION, VALUE_FRACTION, half_up
from egret.model.errors import InputError
from egret.model.readout import LOG_FRACTION, IntegerGroups, ReadOut
from egret.model.tokens import Vocabulary

__all__ = [
    "THRESHOLD_MAX",
    "IntegerLayer",
    "IntegerEngine",
    "IntegerNetwork",
    "LayerTrace",
    "fire",
    "gate_index",
    "reset_value",
    "sigmoid_table",
    "split",
    "tanh_table",
    "update_state",
]

INPUT_MAX = 254
THRESHOLD_MAX = (1 << 15) - 1


def sigmoid_table(index_bits: int) -> list[int]:
    """Sigmoid over the signed index -8 to 8 in two's-complement order, as 8 fraction bits, 0 to 255: [2^index_bits]."""
    return [
        min(255, math.floor(256 / (1 + math.exp(-index * 2.0 ** (4 - index_bits))) + 0.5))
        for index in _signed(index_bits)
    ]


def tanh_table(index_bits: int) -> list[int]:
    """Tanh over the signed index -4 to 4 in two's-complement order, as 14 fraction bits: [2^index_bits]."""
    return [
        math.floor((1 << STATE_FRACTION) * math.tanh(index * 2.0 ** (3 - index_bits)) + 0.5)
        for index in _signed(index_bits)
    ]


def _signed(bits):
    half = 1 << (bits - 1)
    return [*range(half), *range(-half, 0)]


def gate_index(accumulator: np.ndarray, shift: int, index_bits: int) -> np.ndarray:
    """Signed table index of ``index_bits`` of an accumulator: rounded shift, then saturation."""
    half = 1 << (index_bits - 1)
    return np.clip(half_up(accumulator, shift), -half, half - 1)


def reset_value(gate: np.ndarray, event: np.ndarray) -> np.ndarray:
    """s = r * y' from the gate r and the event y', both with 8 fraction bits."""
    return half_up(gate * event, VALUE_FRACTION)


def update_state(state: np.ndarray, update: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """State before reset, p = c' + u (z - c'): state c' and candidate z have 14 fraction bits, update u has 8."""
    return state + half_up(update * (candidate - state), VALUE_FRACTION)


def fire(before: np.ndarray, threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Event value y (0: none) and carried state c from the state before reset and the threshold."""
    fires = before >= threshold
    event = np.where(fires, np.minimum(half_up(before, STATE_FRACTION - VALUE_FRACTION), EVENT_MAX), 0)
    return event, before - np.where(fires, threshold, 0)


@dataclass(frozen=True)
class IntegerLayer:
    """Parameters of one layer; gates stacked u | r | z.

    Attributes
    ----------
    weight_x : int8 [3H, I]
    weight_y : int8 [3H, H]
    bias : int32 [3H], in accumulator LSBs of the row's gate
    threshold : int32 [H], 0 to 32767, LSB 2^-14
    shift : tuple of three int, accumulator to table index for u, r, z, 1 to 15
    bias_y : int32 [H] or None
        Inner bias of reset "after", in accumulator LSBs of gate z; None: reset "before".
    """

    weight_x: np.ndarray
    weight_y: np.ndarray
    bias: np.ndarray
    threshold: np.ndarray
    shift: tuple[int, int, int]
    bias_y: np.ndarray | None = None


@dataclass(frozen=True)
class IntegerNetwork:
    """All numbers of an integer network.

    Attributes
    ----------
    vocabulary : Vocabulary or None
        None in a later part of a network (`split`). Of a network whose input is numbers, its classes.
    embedding : np.ndarray of int8, shape [V, E]
        From -127 to 127; twice its value enters layer 1. It has no rows where the network `takes_events`.
    layers : tuple of IntegerLayer
    readout_weight : np.ndarray of int8, shape [V, H], or None
        None where the embedding serves (tied).
    readout_bias : np.ndarray of int32, shape [V], or None
        In logit LSBs; None in a part of a network, which has no read-out.
    readout_fraction : int
        Fraction bits of a logit, 0 to 30.
    accumulator_bits : int
        Width of an accumulator, 16 to 24.
    gate_index_bits : int
        Address width of a gate table, 8 to 12.
    groups : IntegerGroups or None
        How the read-out divides the words; None where all of them are in the head.
    readout_codebook : np.ndarray of int8, shape [at most 15], or None
        Non-zero numbers, rising, to which the weights of the read-out are rounded (`egret.model.readout`).

    Raises
    ------
    InputError
        Shapes that do not match, values out of range, layers of both resets, or a row whose accumulator could overflow.
    """

    vocabulary: Vocabulary | None
    embedding: np.ndarray
    layers: tuple[IntegerLayer, ...]
    readout_weight: np.ndarray | None
    readout_bias: np.ndarray | None
    readout_fraction: int
    accumulator_bits: int = field(default=24)
    gate_index_bits: int = field(default=10)
    groups: IntegerGroups | None = None
    readout_codebook: np.ndarray | None = None

    def __post_init__(self):
        def check(name, array, shape, low, high):
            if array.shape != shape:
                raise InputError(f"integer network: {name} must have the shape {list(shape)}, not {list(array.shape)}")
            if not np.issubdtype(array.dtype, np.integer):
                raise InputError(f"integer network: {name} must hold integers, not {array.dtype}")
            if array.size and not (low <= array.min() and array.max() <= high):
                raise InputError(
                    f"integer network: {name} must lie within {low} to {high}, not {array.min()} to {array.max()}"
                )

        for name, low, high in (("accumulator_bits", 16, 24), ("gate_index_bits", 8, 12), ("readout_fraction", 0, 30)):
            if type(value := getattr(self, name)) is not int or not low <= value <= high:
                raise InputError(f"integer network: {name} must be {low} to {high}, not {value!r}")
        if self.embedding.ndim != 2 or not self.layers:
            raise InputError("integer network: needs an embedding of two dimensions and at least one layer")
        vocabulary, inputs = self.embedding.shape
        if not inputs:
            raise InputError("integer network: embedding must have at least one column")
        words = 0 if self.vocabulary is None else self.vocabulary.size
        tokens = 0 if self.takes_events else words
        if vocabulary != tokens:
            raise InputError(f"integer network: embedding has {vocabulary} rows for {tokens} tokens")
        check("embedding", self.embedding, (vocabulary, inputs), -127, 127)
        limit = (1 << (self.accumulator_bits - 1)) - 1
        largest = INPUT_MAX if tokens else EVENT_MAX
        if len({layer.bias_y is None for layer in self.layers}) > 1:
            raise InputError("integer network: either all layers or none must have a bias_y")
        for number, layer in enumerate(self.layers):
            size = layer.threshold.size
            if not size:
                raise InputError(f"integer network: layers.{number} must have at least one neuron")
            check(f"layers.{number}.weight_x", layer.weight_x, (3 * size, inputs), -127, 127)
            check(f"layers.{number}.weight_y", layer.weight_y, (3 * size, size), -127, 127)
            check(f"layers.{number}.bias", layer.bias, (3 * size,), -limit, limit)
            if layer.bias_y is not None:
                check(f"layers.{number}.bias_y", layer.bias_y, (size,), -limit, limit)
            check(f"layers.{number}.threshold", layer.threshold, (size,), 0, THRESHOLD_MAX)
            if len(layer.shift) != 3 or not all(
                isinstance(shift, int | np.integer) and 1 <= shift <= 15 for shift in layer.shift
            ):
                raise InputError(f"integer network: layers.{number}.shift must be three numbers from 1 to 15")
            reach = self.reach(layer, largest)
            if reach.max() > limit:
                raise InputError(
                    f"integer network: layers.{number} row {int(reach.argmax())} can reach "
                    f"{int(reach.max())}; an accumulator of {self.accumulator_bits} bits holds {limit}"
                )
            inputs, largest = size, EVENT_MAX
        if self.readout_bias is None:
            if self.readout_weight is not None or self.groups is not None or self.readout_codebook is not None:
                raise InputError("integer network: has a part of a read-out and no readout.bias")
            return
        if self.readout_weight is not None:
            check("readout.weight", self.readout_weight, (words, inputs), -127, 127)
        elif self.takes_events:
            raise InputError("integer network: without an embedding the read-out needs a readout.weight")
        elif inputs != self.embedding.shape[1]:
            raise InputError(
                f"integer network: a tied read-out needs a last layer of {self.embedding.shape[1]} "
                f"neurons, not {inputs}"
            )
        check("readout.bias", self.readout_bias, (words,), -(1 << 31), (1 << 31) - 1)
        if (codebook := self.readout_codebook) is not None:
            check("readout.codebook", codebook, (len(codebook),), -127, 127)
            if not 1 <= len(codebook) <= CODEBOOK or (np.diff(codebook.astype(np.int64)) <= 0).any() or 0 in codebook:
                raise InputError(
                    f"integer network: readout.codebook must hold 1 to {CODEBOOK} rising numbers that are not 0, "
                    f"not {codebook.tolist()}"
                )
        if self.groups is not None:
            if len(self.groups.order) != words:
                raise InputError(
                    f"integer network: readout.order must hold {words} words, not {len(self.groups.order)}"
                )
            rows = len(self.groups.sizes) * self.groups.rows
            check("readout.group_weight", self.groups.weight, (rows, inputs), -127, 127)
            check("readout.group_bias", self.groups.bias, (rows,), -(1 << 31), (1 << 31) - 1)
            # The folder is a link under src, so that pyright knows this class twice.
            if (reach := ReadOut(self).reach()) > limit:  # pyright: ignore[reportArgumentType]
                raise InputError(
                    f"integer network: a row of the read-out can reach {reach}; an accumulator of "
                    f"{self.accumulator_bits} bits holds {limit}"
                )

    @staticmethod
    def reach(layer: "IntegerLayer", largest_input: int = EVENT_MAX) -> np.ndarray:
        """Largest magnitude that each accumulator of a layer can pass through, in any order of addition: int64 [3H].

        ``largest_input`` is the largest magnitude of what enters the layer. With reset "after" the two sums of gate z
        are bounded together: no product with r is larger than its sum.
        """
        reach = (
            np.abs(layer.bias.astype(np.int64))
            + np.abs(layer.weight_x.astype(np.int64)).sum(1) * largest_input
            + np.abs(layer.weight_y.astype(np.int64)).sum(1) * EVENT_MAX
        )
        if layer.bias_y is not None:
            reach[-len(layer.bias_y) :] += np.abs(layer.bias_y.astype(np.int64))
        return reach

    @property
    def reset(self) -> str:
        """Whether the reset gate scales the events ``"before"`` or ``"after"`` their matrix."""
        return "before" if self.layers[0].bias_y is None else "after"

    @property
    def takes_events(self) -> bool:
        """Whether events enter, with their 8 fraction bits, not tokens: those of a layer before, or numbers."""
        return self.vocabulary is None or self.vocabulary.kind == "number"

    @property
    def hidden(self) -> tuple[int, ...]:
        """Neurons of each layer."""
        return tuple(len(layer.threshold) for layer in self.layers)


def split(network: "IntegerNetwork", behind: Sequence[int]) -> "list[IntegerNetwork]":
    """Cut a network between layers into parts that run one behind the other.

    Each part's last layer sends its events to the next part, and the last one's go to the read-out of the whole
    network, which no part has. The parts compute the very numbers of the whole.

    Parameters
    ----------
    network : IntegerNetwork
    behind : list of int
        Numbers of the layers, from 1, behind which it is cut: rising, 1 to the number of layers - 1.

    Returns
    -------
    list of IntegerNetwork

    Raises
    ------
    InputError
        It cannot be cut there.
    """
    layers = len(network.layers)
    cuts = [0, *behind, layers]
    if not all(one < other for one, other in zip(cuts, cuts[1:], strict=False)):
        raise InputError(
            f"a network of {layers} layers can be cut behind layers 1 to {layers - 1}, in rising order, "
            f"not {', '.join(map(str, behind))}"
            if layers > 1
            else "a network of one layer cannot be cut"
        )
    parts = []
    for first, last in zip(cuts, cuts[1:], strict=False):
        events = (
            {} if first == 0 else {"vocabulary": None, "embedding": np.zeros((0, network.hidden[first - 1]), np.int8)}
        )
        parts.append(
            replace(
                network,
                layers=network.layers[first:last],
                readout_weight=None,
                readout_bias=None,
                groups=None,
                readout_codebook=None,
                **events,
            )
        )
    return parts


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did in one step, every array [B, ...]: the streams that hardware is compared with.

    Attributes
    ----------
    x : np.ndarray
        Values that enter, [B, I].
    y_before : np.ndarray
        Events of the previous step, [B, H].
    s : np.ndarray
        Reset values, [B, H]; with reset "after" the events of the previous step.
    accumulators : np.ndarray
        After the last addition, [B, 3H], gates stacked u | r | z.
    u, r, z : np.ndarray
        Gates, [B, H].
    p : np.ndarray
        State before reset, [B, H].
    c : np.ndarray
        Carried state, [B, H].
    y : np.ndarray
        Events, [B, H].
    """

    x: np.ndarray
    y_before: np.ndarray
    s: np.ndarray
    accumulators: np.ndarray
    u: np.ndarray
    r: np.ndarray
    z: np.ndarray
    p: np.ndarray
    c: np.ndarray
    y: np.ndarray


class IntegerEngine:
    """Runs an integer network over B independent streams.

    Parameters
    ----------
    network : IntegerNetwork

    Notes
    -----
    The matrix products run in float32, which is exact here: no partial sum exceeds 2^24 in magnitude, as
    `IntegerNetwork` has checked for accumulators of at most 24 bits.
    """

    def __init__(self, network: "IntegerNetwork") -> None:
        self.network = network
        self._sigmoid = np.array(sigmoid_table(network.gate_index_bits), np.int32)
        self._tanh = np.array(tanh_table(network.gate_index_bits), np.int32)
        self._products = []
        for layer in network.layers:
            size = len(layer.threshold)
            weight_y = layer.weight_y.astype(np.float32)
            self._products.append(
                (
                    layer.weight_x.T.astype(np.float32, order="C"),
                    np.ascontiguousarray(weight_y[: 2 * size].T),
                    np.ascontiguousarray(weight_y[2 * size :].T),
                )
            )
        # The folder is a link under src, so that pyright knows this class twice.
        self._readout = None if network.readout_bias is None else ReadOut(network)  # pyright: ignore[reportArgumentType]
        self.reset_state()

    def reset_state(self, batch: int = 1) -> None:
        """Start ``batch`` streams with zero state and no events."""
        self.states = [np.zeros((batch, size), np.int32) for size in self.network.hidden]
        self.events = [np.zeros((batch, size), np.int32) for size in self.network.hidden]

    def step(self, tokens: np.ndarray) -> "list[LayerTrace]":
        """Feed one token to every stream.

        Parameters
        ----------
        tokens : int [B]; or the events that enter, int [B, I], where the network `takes_events`

        Returns
        -------
        list of LayerTrace, one a layer; the last one's ``y`` is what the read-out takes.
        """
        traces = []
        if self.network.takes_events:
            x = np.asarray(tokens, np.int32)
        else:
            x = 2 * self.network.embedding[tokens].astype(np.int32)
        for number, layer in enumerate(self.network.layers):
            trace = self._layer(number, layer, x)
            self.states[number], self.events[number] = trace.c, trace.y
            traces.append(trace)
            x = trace.y
        return traces

    def _layer(self, number, layer, x):
        size = len(layer.threshold)
        bits = self.network.gate_index_bits
        weight_x, weight_ur, weight_z = self._products[number]
        state, y_before = self.states[number], self.events[number]
        accumulators = (x.astype(np.float32) @ weight_x).astype(np.int32) + layer.bias.astype(np.int32)
        accumulators[:, : 2 * size] += (y_before.astype(np.float32) @ weight_ur).astype(np.int32)
        u = self._sigmoid[gate_index(accumulators[:, :size], layer.shift[0], bits)]
        r = self._sigmoid[gate_index(accumulators[:, size : 2 * size], layer.shift[1], bits)]
        s = reset_value(r, y_before) if layer.bias_y is None else y_before
        inner = (s.astype(np.float32) @ weight_z).astype(np.int32)
        if layer.bias_y is not None:
            inner = half_up(r * (inner + layer.bias_y.astype(np.int32)), VALUE_FRACTION)
        accumulators[:, 2 * size :] += inner
        z = self._tanh[gate_index(accumulators[:, 2 * size :], layer.shift[2], bits)]
        p = update_state(state, u, z)
        y, c = fire(p, layer.threshold.astype(np.int32))
        return LayerTrace(x, y_before, s, accumulators, u, r, z, p, c, y)

    @property
    def readout(self) -> ReadOut:
        """Of the network; `InputError` of a part of one, which has none."""
        if self._readout is None:
            raise InputError("a part of a network has no read-out; give the whole network")
        return self._readout

    @property
    def words(self) -> int:
        """V, words that the read-out predicts."""
        return len(self.readout.order)

    def log_probabilities(self, y: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Log-probabilities of one word for each row of events, by `egret.model.readout`.

        Parameters
        ----------
        y : np.ndarray of int, shape [B, H]
            Events of the last layer.
        words : np.ndarray of int, shape [B]

        Returns
        -------
        np.ndarray of int64, shape [B]
            In nats, with 16 fraction bits.
        """
        return self.readout.log_probabilities(y, words)

    def read_out(self, y: np.ndarray) -> np.ndarray:
        """Logits of all words: exact, before they are rounded to scores; or log-probabilities if there are groups.

        Parameters
        ----------
        y : np.ndarray of int, shape [B, H]
            Events of the last layer.

        Returns
        -------
        np.ndarray of float64, shape [B, V]
        """
        if self.network.groups is not None:
            return self.readout.all_log_probabilities(y) * 2.0**-LOG_FRACTION
        return (self.readout.accumulators(y) + self.network.readout_bias) * 2.0**-self.network.readout_fraction
