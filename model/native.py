"""The integer network as machine code: ``native.cpp``, compiled once for this processor and kept in the user's cache.

What `IntegerEngine` defines, event by event: only the non-zero weights of active sources are read. A whole text takes
seconds, its streams spread over threads. The sums that a token adds to the first layer, its folded row, are computed
when it first comes and kept, as far as `FOLDED_BYTES` go.
"""

import ctypes
import functools
import hashlib
import json
import os
import subprocess
import sysconfig
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.model.counts import ReadoutCounts, SourceCounts, count_macs, integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import Evaluation, stream_starts
from egret.model.files import write_aside
from egret.model.integer import LayerTrace, sigmoid_table, tanh_table
from egret.model.machine import (
    cache_directory,
    find_compiler,
    run_tools,
    safe_directory,
    tool_environment,
    users_cache,
)
from egret.model.readout import LOG_FRACTION, ReadOut, Sampler, exponential_table, logarithm_table

if TYPE_CHECKING:
    from egret.model.integer import IntegerNetwork

__all__ = ["FLAGS", "FOLDED_BYTES", "SOURCES", "TUNED", "NativeEngine", "NativeSampler", "library"]

FLAGS = ("-std=gnu++17", "-O3", "-shared", "-fPIC", "-pthread")
"""Of the C++ compiler."""

TUNED = ("-march=native",)
"""For this processor's own instructions, where the compiler knows that option."""

FOLDED_BYTES = 256 << 20
"""Of folded rows that an engine keeps at most."""

SOURCES = tuple(Path(__file__).parent / name for name in ("native.cpp", "native_readout.h"))
_MOST_NEURONS = (1 << 16) // 3  # rows of a layer are 16 bits

_Report = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_size_t)
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_FUNCTIONS = {
    "network_new": (_POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _POINTER),
    "network_layer": (None, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    "network_read_out": (
        *(None, _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, ctypes.c_int, _POINTER, _POINTER, _POINTER, _POINTER),
        _POINTER,
    ),
    "network_matrix": (None, _POINTER, _SIZE, _POINTER, _POINTER),
    "network_fold": (None, _POINTER, _SIZE),
    "network_free": (None, _POINTER),
    "network_log_probabilities": (None, _POINTER, _SIZE, _POINTER, _POINTER, _POINTER),
    "network_sample": (_SIZE, _POINTER, _POINTER, _POINTER, ctypes.c_int32, _SIZE),
    "network_run": (
        *(ctypes.c_bool, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER, ctypes.c_uint, _POINTER, _POINTER),
        _Report,
    ),
    "network_time": (None, _POINTER, _POINTER, _SIZE, ctypes.c_bool, _POINTER),
    "stream_new": (_POINTER, _POINTER),
    "stream_free": (None, _POINTER),
    "stream_step": (None, _POINTER, _SIZE),
    "stream_step_events": (None, _POINTER, _POINTER),
    "stream_sample": (_SIZE, _POINTER, _POINTER, ctypes.c_int32, _SIZE),
    "stream_trace": (None, _POINTER, _SIZE, _POINTER),
}
"""Result and arguments of what native.cpp exports."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled engine, from the cache or compiled now; raises `InputError` where there is no C++ compiler."""
    compiler = find_compiler()
    tuned, predefined = _predefined(compiler)
    content = json.dumps(
        [[source.read_text() for source in SOURCES], FLAGS, tuned, predefined, sysconfig.get_platform()]
    )
    name = f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.so"
    # What a cache holds is used whether it can be written or not.
    path = users_cache() / "native" / name
    if not path.exists():
        path = cache_directory() / "native" / name
        path.parent.mkdir(exist_ok=True)
        _compile([compiler, *FLAGS, *tuned], path)
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise InputError(f"native engine: {path} cannot be loaded: {error}") from error
    for function, (result, *arguments) in _FUNCTIONS.items():
        one = getattr(found, function)
        one.restype, one.argtypes = result, arguments
    return found


def _predefined(compiler):
    """Options for this processor, if the compiler knows any, and all that it defines with them: its version too."""
    for tuned in (TUNED, ()):
        command = [compiler, *tuned, "-dM", "-E", "-x", "c++", os.devnull]
        options: dict[str, Any] = {"env": tool_environment(), "stdin": subprocess.DEVNULL, "text": True}
        ran = subprocess.run(command, capture_output=True, **options)
        if not ran.returncode:
            break
    return tuned, ran.stdout


def _compile(command, path):
    with safe_directory("egret-native-") as work:
        try:
            run_tools([[*command, "-o", "native.so", str(SOURCES[0])]], work, work / "native.log")
        except InputError as error:
            raise InputError(f"native engine: compiling it failed: {error}") from error
        write_aside(path, (work / "native.so").read_bytes())


class NativeEngine:
    """Runs an integer network over B independent streams, as `IntegerEngine` does.

    Parameters
    ----------
    network : IntegerNetwork
    folded : bool
        Whether the sums that tokens add to the first layer are kept.

    Raises
    ------
    InputError
        There is no C++ compiler, or a layer is too large.
    """

    def __init__(self, network: "IntegerNetwork", *, folded: bool = True) -> None:
        self.network = network
        largest = max(network.hidden)
        if largest > _MOST_NEURONS:
            raise InputError(f"the native engine runs layers of at most {_MOST_NEURONS:,} neurons, not {largest:,}")
        self._library = library()
        bits = network.gate_index_bits
        tables = _int32(sigmoid_table(bits)), _int32(tanh_table(bits))
        embedding = np.ascontiguousarray(network.embedding, np.int8)
        self._kept = [tables, embedding]  # what the library goes on reading
        rows, inputs = embedding.shape
        self._pointer = self._library.network_new(inputs, _at(embedding), 1 << bits, *map(_at, tables))
        weakref.finalize(self, self._library.network_free, self._pointer)
        for layer in network.layers:
            weights = [np.ascontiguousarray(weight, np.int8) for weight in (layer.weight_x, layer.weight_y)]
            numbers = [_int32(one) for one in (layer.bias, layer.threshold, layer.shift)]
            bias_y = None if layer.bias_y is None else _int32(layer.bias_y)
            self._kept.append([*numbers, bias_y])
            size, inner = len(layer.threshold), None if bias_y is None else _at(bias_y)
            self._library.network_layer(self._pointer, inputs, size, *map(_at, weights), *map(_at, numbers), inner)
            inputs = size
        # The folder is a link under src, so that pyright knows this class twice.
        self._readout = None if network.readout_bias is None else ReadOut(network)  # pyright: ignore[reportArgumentType]
        if self._readout is not None:
            _add(self._library, self._pointer, self._readout)
        if folded and not network.takes_events:
            row_bytes = 4 * 3 * network.hidden[0]
            self._library.network_fold(self._pointer, min(rows, FOLDED_BYTES // row_bytes))
        self._streams: list[_Stream] = []
        self.reset_state()

    def reset_state(self, batch: int = 1) -> None:
        """Start ``batch`` streams with zero state and no events."""
        self._streams = [_Stream(self) for _ in range(batch)]

    def step(self, tokens: np.ndarray) -> list[LayerTrace]:
        """Feed one token to every stream.

        Parameters
        ----------
        tokens : int [B]; or the events that enter, int [B, I], where the network takes events

        Returns
        -------
        list of LayerTrace, one a layer; the last one's ``y`` is what the read-out takes.
        """
        if self.network.takes_events:
            x = _int32(tokens)
            for stream, values in zip(self._streams, x, strict=True):
                self._library.stream_step_events(stream.pointer, _at(values))
        else:
            tokens = _checked(tokens, len(self.network.embedding))
            for stream, token in zip(self._streams, tokens.tolist(), strict=True):
                self._library.stream_step(stream.pointer, token)
            x = 2 * self.network.embedding[tokens].astype(np.int32)
        traces = []
        for number, size in enumerate(self.network.hidden):
            # As the library has them: y_before, s, accumulators, u, r, z, p, c, y.
            sizes = [3 * size if place == 2 else size for place in range(9)]
            arrays = [np.zeros((len(self._streams), one), np.int32) for one in sizes]
            for index, stream in enumerate(self._streams):
                pointers = (_POINTER * 9)(*(_at(array[index]) for array in arrays))
                self._library.stream_trace(stream.pointer, number, pointers)
            traces.append(LayerTrace(x, *arrays))
            x = traces[-1].y
        return traces

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
        y, words, result = _int32(y), _int32(_checked(words, self.words)), np.zeros(len(y), np.int64)
        self._library.network_log_probabilities(self._pointer, len(y), *map(_at, (y, words, result)))
        return result

    def generate(
        self, sampler: Sampler, prompt: Sequence[int], count: int, *, stop: int | None = None
    ) -> Generator[int, None, None]:
        """Generate tokens from zero state, in the first stream.

        Parameters
        ----------
        sampler : egret.model.readout.Sampler
            Says how tokens are drawn. Its generator goes on with each token, as if it had drawn them.
        prompt : sequence of int
            Token ids to start with, at least one.
        count : int
            Tokens to generate.
        stop : int or None
            Token behind which generation ends before that.

        Yields
        ------
        int
            The generated tokens.

        Raises
        ------
        InputError
            An empty prompt, a token that does not exist, or a negative count.
        """
        tokens = _checked(list(prompt), self.words).tolist()
        if not tokens:
            raise InputError("the prompt must have at least one token")
        if count < 0:
            raise InputError(f"the number of tokens must be at least 0, not {count}")
        self.reset_state()

        def run() -> Generator[int, None, None]:
            given, stream = tokens, self._streams[0].pointer
            for _ in range(count):
                for token in given:
                    self._library.stream_step(stream, token)
                state = ctypes.c_uint64(sampler.state)
                token = self._library.stream_sample(stream, ctypes.byref(state), sampler.beta, sampler.top)
                sampler.state = state.value
                yield token
                if token == stop:
                    return
                given = [token]

        return run()

    def evaluate(
        self,
        ids: np.ndarray,
        *,
        batch: int = 1,
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Evaluation:
        """Run a text through the network, as `egret.model.evaluate.evaluate` does, at the processor's speed.

        Parameters
        ----------
        ids : np.ndarray of int, shape [N + 1]
            The text; every token after the first is predicted.
        batch : int
            Number of streams that the text is cut into (`egret.model.evaluate.stream_steps`).
        threads : int, optional
            Over which the streams are spread; as many as there are processors when not given.
        progress : callable, optional
            Called now and then as ``progress(done, total)``, both in predictions; what it raises ends the run.

        Returns
        -------
        Evaluation

        Raises
        ------
        InputError
            See `egret.model.evaluate.stream_steps`.
        """
        starts, steps = stream_starts(ids, batch)
        ids, total = _int32(_checked(ids, self.words)), len(ids) - 1
        result = np.zeros(total, np.int64)
        readout = integer_readout(self.network)
        counts = np.zeros(3 * sum(self.network.hidden) + readout.groups.size, np.int64)
        raised: list[BaseException] = []

        def report(done):
            try:
                if progress is not None:
                    progress(done, total)
            except BaseException as error:  # raised again below, once the threads have ended
                raised.append(error)
            return bool(raised)

        threads = min(batch, (os.cpu_count() or 1) if threads is None else threads)
        cuts = starts.astype(np.uintp), steps.astype(np.uintp)
        done = self._library.network_run(
            *(self._pointer, _at(ids), batch, *map(_at, cuts), threads, _at(result), _at(counts)),
            _Report(report),
        )
        if not done:
            raise raised[0]
        if progress is not None:
            progress(total, total)
        columns = integer_columns(self.network)
        sources = SourceCounts(columns)
        sources.steps = total
        x = np.bincount(ids[:-1], minlength=len(self.network.embedding)) @ (self.network.embedding != 0)
        for number, size in enumerate(self.network.hidden):
            before, reset, events = counts[: 3 * size].reshape(3, size)
            counts = counts[3 * size :]
            sources.x[number], sources.y[number], sources.s[number] = x, before, reset
            sources.events[number] = int(events.sum())
            x = events
        return Evaluation(
            tokens=total,
            loss=-float(result.sum()) * 2.0**-LOG_FRACTION / total,
            activity=sources.activity,
            macs=count_macs(columns, sources),
            readout=ReadoutCounts(
                macs=float(readout.head @ x + readout.groups.ravel() @ counts),
                head_columns=float(x.sum()),
                groups=float(np.count_nonzero(readout.matrices[ids[1:]])),
                group_columns=float(counts.sum()),
            ).per_token(total),
            sources=sources,
        )

    def step_seconds(self, ids: np.ndarray, *, read_out: bool) -> np.ndarray:
        """Time the steps of one stream in one thread, from zero state.

        Parameters
        ----------
        ids : np.ndarray of int, shape [N + 1]
        read_out : bool
            Whether a step ends with the log-likelihood of the next token rather than with the last layer's events.

        Returns
        -------
        np.ndarray of float, shape [N]
            In seconds.
        """
        ids = _int32(_checked(ids, self.words if read_out else len(self.network.embedding)))
        seconds = np.zeros(len(ids) - 1)
        self._library.network_time(self._pointer, _at(ids), len(seconds), read_out, _at(seconds))
        return seconds


class NativeSampler:
    """Draws tokens from events as a sampler does, with the same results.

    Parameters
    ----------
    sampler : egret.model.readout.Sampler
        Says how tokens are drawn. Its generator goes on with each token, as if it had drawn them.

    Raises
    ------
    InputError
        There is no C++ compiler.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler, self._library = sampler, library()
        self._pointer = self._library.network_new(0, None, 0, None, None)
        weakref.finalize(self, self._library.network_free, self._pointer)
        _add(self._library, self._pointer, sampler.readout)

    def sample(self, y: np.ndarray) -> int:
        """The word that follows, drawn from the last layer's events y, int [H]."""
        events, sampler = _int32(y), self._sampler
        state = ctypes.c_uint64(sampler.state)
        by = ctypes.byref(state), sampler.beta, sampler.top
        word = self._library.network_sample(self._pointer, _at(events), *by)
        sampler.state = state.value
        return word


class _Stream:
    """A stream of an engine, which ends with this object."""

    def __init__(self, engine: NativeEngine):
        self.engine = engine  # which it needs as long as it lives
        self.pointer = engine._library.stream_new(engine._pointer)
        weakref.finalize(self, engine._library.stream_free, self.pointer)


def _add(code, network, readout):
    """Give a network of the library its read-out."""
    matrices = np.searchsorted(readout.starts, readout.place, side="right")
    numbers = readout.order, matrices, readout.place - np.concatenate([[0], readout.starts])[matrices]
    tables = _int32(exponential_table()), _int32(logarithm_table())
    where = [one.astype(np.uint32) for one in numbers]
    words, outputs = len(readout.order), readout.weights[0].shape[1]
    code.network_read_out(
        *(network, words, outputs, readout.head, readout.rows, readout.fraction), *map(_at, (*tables, *where))
    )
    for weight, bias in zip(readout.weights, readout.biases, strict=True):
        weight, bias = np.ascontiguousarray(weight, np.int8), _int32(bias)
        code.network_matrix(network, len(weight), _at(weight), _at(bias))


def _checked(tokens, vocabulary):
    """Tokens as an array; `InputError` where one is not below ``vocabulary``."""
    tokens = np.asarray(tokens)
    wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if len(wrong):
        raise InputError(f"token {wrong[0]} is not in the vocabulary (0 to {vocabulary - 1})")
    return tokens


def _int32(values):
    return np.ascontiguousarray(values, np.int32)


def _at(array):
    return array.ctypes.data
