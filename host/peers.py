"""Peers: the same network on this processor, in PyTorch and as machine code, and what others have published.

PyTorch computes in float32 with the integer network's numbers, which is exact (see `IntegerEngine`), so that every
event must be equal. Its read-out is that of the network, head and groups, each matrix multiplied like those of the
layers, and the logarithms are float32's. All are timed both ways: to the last layer's events, and to the
log-probability of the next token.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from egret.model.arithmetic import EVENT_MAX
from egret.model.integer import IntegerEngine, IntegerNetwork, sigmoid_table, tanh_table
from egret.model.native import NativeEngine
from egret.model.readout import LOG_FRACTION, SCORE_BITS, SCORE_FRACTION, ReadOut

if TYPE_CHECKING:
    import torch

__all__ = ["CLOSE", "ENGINES", "NATIVE", "PUBLISHED", "Published", "Run", "TorchNetwork", "run_engines"]


@dataclass(frozen=True)
class Published:
    """What others measured.

    Attributes
    ----------
    name, network : str
        Of the device, and of what it ran.
    seconds, joules : float
        Of a step.
    source : str
    """

    name: str
    network: str
    seconds: float
    joules: float
    source: str


PUBLISHED = (
    Published("SpiNNaker 2", "EGRU, 95 %, WikiText-2", 170e-3 / 70, 65e-3 / 70, "arXiv 2312.09084, derived"),
    Published("Loihi 2", "370 M parameters", 1 / 41, 0.4, "arXiv 2503.18002"),
    Published("EdgeDRNN", "GRU, 2 layers", 0.5e-3, 2.4 * 0.5e-3, "arXiv 2012.13600, energy derived"),
    Published("Spartus", "LSTM, a layer of 1024", 1e-6, 9.4 / 1.1 * 1e-6, "arXiv 2108.02297, energy derived"),
)
"""Derived: of SpiNNaker 2 (150 processors) from 170 ms and 65 mJ a sequence of, probably, 70 tokens; of EdgeDRNN
(MiniZed) from 2.4 W at the wall; of Spartus (Zynq-7100, DeltaLSTM) from 9.4 TOp/s and 1.1 TOp/s/W."""


Product = Callable[["torch.Tensor"], "torch.Tensor"]
"""Of a matrix with a vector."""


def _dense(weights: np.ndarray) -> Product:
    import torch

    columns = torch.from_numpy(np.ascontiguousarray(weights.T, np.float32))
    return lambda values: torch.mv(columns.T, values)


def _pruned(weights: np.ndarray) -> Product:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows = torch.from_numpy(weights.astype(np.float32)).to_sparse_csr()
        # With indices of 32 bits the product is MKL's.
        rows = torch.sparse_csr_tensor(
            rows.crow_indices().int(), rows.col_indices().int(), rows.values(), rows.shape, check_invariants=True
        )
    return lambda values: rows @ values


def _events(weights: np.ndarray) -> Product:
    import torch

    columns, begin = torch.from_numpy(np.ascontiguousarray(weights.T, np.float32)), torch.zeros(1, dtype=torch.int64)

    def product(values: "torch.Tensor") -> "torch.Tensor":
        active = values.nonzero()[:, 0]
        return torch.nn.functional.embedding_bag(active, columns, begin, mode="sum", per_sample_weights=values[active])[
            0
        ]

    return product


def _events_pruned(weights: np.ndarray) -> Product:
    import torch

    columns = torch.from_numpy(weights.astype(np.float32)).to_sparse_csc()
    begin, rows, kept = columns.ccol_indices(), columns.row_indices(), columns.values()

    def product(values: "torch.Tensor") -> "torch.Tensor":
        active = values.nonzero()[:, 0]
        counts = begin[active + 1] - begin[active]
        places = torch.repeat_interleave(begin[active] - counts.cumsum(0) + counts, counts)
        places += torch.arange(len(places))
        products = kept[places] * torch.repeat_interleave(values[active], counts)
        return torch.zeros(len(weights)).index_add_(0, rows[places], products)

    return product


ENGINES = {
    "dense": _dense,
    "pruned": _pruned,
    "events": _events,
    "events and pruned": _events_pruned,
}
"""Ways to multiply a matrix, int8 [R, S], with values [S], by what is made use of: nothing, the zeros of the matrix,
those of the values (only the columns of active sources are read), or both."""

NATIVE = {"native engine": False, "native engine, folded rows": True}
"""Ways to run the native engine: whether what a token adds to the first layer is read from a table."""

CLOSE = 1 / 32
"""Nats between a log-probability of float32 and that of the integers, whose three sums of exponentials come from a
table with steps of 1/64."""

PASSES = 3
"""Over the text."""


class TorchNetwork:
    """An integer network in PyTorch, one stream from zero state.

    Parameters
    ----------
    network : IntegerNetwork
    multiplier : callable
        One of `ENGINES`.
    """

    def __init__(self, network: IntegerNetwork, multiplier: Callable[[np.ndarray], Product]):
        import torch

        def tensor(values: object) -> torch.Tensor:
            return torch.from_numpy(np.asarray(values, np.float32))

        bits = network.gate_index_bits
        self._lowest, self._highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        self._sigmoid, self._tanh = tensor(sigmoid_table(bits)), tensor(tanh_table(bits))
        self._embedding = 2 * tensor(network.embedding)
        self._layers = []
        for layer in network.layers:
            size = len(layer.threshold)
            self._layers.append(
                (
                    multiplier(layer.weight_x),
                    multiplier(layer.weight_y[: 2 * size]),
                    multiplier(layer.weight_y[2 * size :]),
                    tensor(layer.bias),
                    tensor(layer.threshold),
                    tensor(np.repeat(0.5 ** np.array(layer.shift), size)),
                    None if layer.bias_y is None else torch.from_numpy(layer.bias_y.astype(np.float64)),
                )
            )
        self._readout = readout = ReadOut(network)
        self._matrices = [
            (multiplier(weight), tensor(bias)) for weight, bias in zip(readout.weights, readout.biases, strict=True)
        ]
        self.reset()

    def reset(self) -> None:
        """Start from zero state and no events."""
        import torch

        self._states = [[torch.zeros(len(layer[4])), torch.zeros(len(layer[4]))] for layer in self._layers]

    def step(self, token: int) -> "list[torch.Tensor]":
        """Events of every layer, float32 [H], after one more ``token``."""
        x, events = self._embedding[token], []
        for layer, state in zip(self._layers, self._states, strict=True):
            times_x, times_y, times_s, bias, threshold, scale, bias_y = layer
            size, (before, y) = len(threshold), state
            sums = times_x(x).add_(bias)
            sums[: 2 * size] += times_y(y)
            u, r = self._sigmoid[self._index(sums[: 2 * size], scale[: 2 * size])].split(size)
            if bias_y is None:
                inner = times_s(_half_up(r * y, 2**-8))
            else:  # the product has more than the 24 bits of a float32
                inner = _half_up(r * (times_s(y) + bias_y), 2**-8).float()
            z = self._tanh[self._index(sums[2 * size :] + inner, scale[2 * size :])]
            p = before + _half_up(u * (z - before), 2**-8)
            fires = p >= threshold
            x = _half_up(p, 2**-6).clamp_(max=EVENT_MAX) * fires
            state[:] = p - threshold * fires, x
            events.append(x)
        return events

    def log_probability(self, y: "torch.Tensor", word: int) -> float:
        """Of a ``word``, in nats, behind the last layer's events y, float32 [H]."""
        readout = self._readout
        matrix, entry = readout.target(word)
        head = self._scores(0, y)
        whole = head.logsumexp(0)
        if matrix == 0:
            return float(head[entry] - whole)
        group = self._scores(matrix, y)
        rows = head[readout.group_rows(matrix - 1)]
        return float(rows.logsumexp(0) - whole + group[entry] - group.logsumexp(0))

    def _scores(self, matrix: int, y: "torch.Tensor") -> "torch.Tensor":
        """Of the entries of a matrix, in nats."""
        times, bias = self._matrices[matrix]
        half = 1 << (SCORE_BITS - 1)
        scores = _half_up(times(y), 2.0 ** (SCORE_FRACTION - self._readout.fraction)).add_(bias)
        return scores.clamp_(-half, half - 1).mul_(2.0**-SCORE_FRACTION)

    def _index(self, sums: "torch.Tensor", scale: "torch.Tensor") -> "torch.Tensor":
        # A negative index counts from the end, as in two's complement.
        return _half_up(sums, scale).clamp_(self._lowest, self._highest).long()


def _half_up(values: "torch.Tensor", scale: "torch.Tensor | float") -> "torch.Tensor":
    return (values * scale).add_(0.5).floor_()


@dataclass(frozen=True)
class Run:
    """One way of `ENGINES` or `NATIVE` over a text.

    Attributes
    ----------
    name : str
    threads : int
        That did best with whole tokens.
    seconds : float
        A step of the layers, with as many threads as did best.
    mismatches : int
        Event values and log-probabilities that are wrong, with any number of threads: those of the native engine are
        equal, those of PyTorch within `CLOSE`.
    whole_seconds : float
        A whole token: a step and its read-out.
    """

    name: str
    threads: int
    seconds: float
    mismatches: int
    whole_seconds: float


def run_engines(
    network: IntegerNetwork, ids: np.ndarray, *, progress: Callable[[int, int], object] | None = None
) -> list[Run]:
    """Run a text in every way of `NATIVE`, and of `ENGINES` that there is here, at batch 1, and compare everything.

    The native engine runs in one thread. PyTorch runs with one thread, and with as many as it takes by itself unless
    these are much slower. The time of each step is the least of `PASSES` over the text, so that what else the machine
    does matters little.

    Parameters
    ----------
    network : IntegerNetwork
    ids : np.ndarray of int, shape [N + 1]
    progress : callable, optional
        Called as ``progress(done, total)``, both in engines.

    Returns
    -------
    list of Run

    Raises
    ------
    InputError
        There is no C++ compiler.
    """
    import torch

    integer = IntegerEngine(network)
    expected = [[trace.y[0] for trace in integer.step(ids[step : step + 1])] for step in range(len(ids) - 1)]
    engines = {
        name: engine for name, engine in ENGINES.items() if engine is not _pruned or torch.backends.mkl.is_available()
    }
    usual = torch.get_num_threads()
    scores = integer.log_probabilities(np.stack([one[-1] for one in expected]), ids[1:])
    runs = _run_native(network, ids, expected, scores)
    total = len(runs) + len(engines)
    try:
        with torch.inference_mode():
            for done, (name, engine) in enumerate(engines.items(), len(runs) + 1):
                runner, times, mismatches = TorchNetwork(network, engine), {}, 0
                for threads in sorted({1, usual}):
                    torch.set_num_threads(threads)
                    limit = 2 * len(expected) * min((whole for _, whole in times.values()), default=float("inf"))
                    *times[threads], wrong = _time(runner, ids, expected, scores * 2.0**-LOG_FRACTION, limit)
                    mismatches += wrong
                best = min(times, key=lambda threads: times[threads][1])
                layers = min(layers for layers, _ in times.values())
                runs.append(Run(f"PyTorch, {name}", best, layers, mismatches, times[best][1]))
                if progress is not None:
                    progress(done, total)
    finally:
        torch.set_num_threads(usual)
    return runs


def _run_native(network, ids, expected, expected_results):
    """The native engine's runs, with the events and log-probabilities that are expected."""
    runs = []
    for name, folded in NATIVE.items():
        engine = NativeEngine(network, folded=folded)
        events = [[trace.y[0] for trace in engine.step(ids[step : step + 1])] for step in range(len(ids) - 1)]
        results = engine.log_probabilities(np.stack([one[-1] for one in events]), ids[1:])
        wrong = np.count_nonzero(results != expected_results) + sum(
            np.count_nonzero(one != other)
            for layers, right in zip(events, expected, strict=True)
            for one, other in zip(layers, right, strict=True)
        )
        layers, whole = (
            np.min([engine.step_seconds(ids, read_out=read_out) for _ in range(PASSES)], axis=0).mean()
            for read_out in (False, True)
        )
        runs.append(Run(name, 1, float(layers), int(wrong), float(whole)))
    return runs


def _time(
    network: TorchNetwork, ids: np.ndarray, expected: list[list[np.ndarray]], scores: np.ndarray, limit: float
) -> tuple[float, float, int]:
    """Seconds of a step and of a whole token, and what is wrong of the events and log-probabilities expected.

    Seconds are infinite where a pass takes longer than ``limit``.
    """
    least, mismatches = np.full((2, len(ids) - 1), np.inf), 0
    for _ in range(PASSES):
        network.reset()
        left = limit
        for step, (token, word, right) in enumerate(zip(ids[:-1].tolist(), ids[1:].tolist(), expected, strict=True)):
            begin = time.perf_counter()
            events = network.step(token)
            stepped = time.perf_counter()
            score = network.log_probability(events[-1], word)
            end = time.perf_counter()
            least[:, step] = np.minimum(least[:, step], (stepped - begin, end - begin))
            mismatches += sum(np.count_nonzero(one.numpy() != other) for one, other in zip(events, right, strict=True))
            mismatches += not abs(score - scores[step]) <= CLOSE
            left -= end - begin
            if left < 0:
                return float("inf"), float("inf"), int(mismatches)
    layers, whole = least.mean(axis=1).tolist()
    return layers, whole, int(mismatches)
