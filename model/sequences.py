"""Sequences that are not text: numbers enter in each step, and classes come out.

The file of sequences is a ``.npz``:

``x``
    uint8 [N, T, I], what enters in each step of each sequence: numbers from 0 to 255 that stand for 0 to 255/256. Or
    int8 [N, T, I], for numbers with a sign, -128 to 127, which stand for -1 to 127/128: these enter a network of 2 I
    inputs, first what is above zero of each, then what is below. Zeros are no events, and cost nothing.
``shape``, ``sequence``, ``step``, ``index``, ``value``
    Instead of ``x``, for data that is events already: the shape (N, T, I), and for each event where it is and its
    number.
``y``
    The class of each sequence, int [N], which is asked for in its last step; or one for each step, int [N, T], where -1
    stands for a step in which none is asked for.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.counts import ReadoutCounts, SourceCounts, count_macs
from egret.model.errors import InputError
from egret.model.evaluate import Evaluation
from egret.model.files import check_unpacked, read, read_array
from egret.model.readout import LOG_FRACTION

if TYPE_CHECKING:
    from egret.model.counts import ColumnCounts, ReadoutColumns

__all__ = ["BATCH", "NO_CLASS", "SequenceEvaluation", "Sequences", "evaluate_sequences"]

NO_CLASS = -1
"""Of a step in which no class is asked for."""

BATCH = 256
"""Sequences that run at once."""

_ARRAYS = ("x", "y", "shape", "sequence", "step", "index", "value")  # of a file


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length, and what is asked for.

    Attributes
    ----------
    values : np.ndarray of uint8, shape [N, T, I]
        That enter, as events do: with 8 fraction bits.
    classes : np.ndarray of int32, shape [N, T]
        Asked for in each step, `NO_CLASS` where none is.

    Raises
    ------
    InputError
        Of other types or shapes, or empty.
    """

    values: np.ndarray
    classes: np.ndarray

    def __post_init__(self):
        _check_numbers(self.values, (np.uint8,))
        if self.classes.shape != self.values.shape[:2]:
            raise InputError(
                f"y must have a class for each of {self.values.shape[0]} sequences, or for each of their "
                f"{self.values.shape[1]} steps, not the shape {list(self.classes.shape)}"
            )
        if not (self.classes != NO_CLASS).any():
            raise InputError("y asks for no class")

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Self:
        """Sequences of arrays.

        Parameters
        ----------
        x : np.ndarray of uint8 or int8, shape [N, T, I]
            Numbers with a sign enter 2 I inputs.
        y : np.ndarray of int, shape [N] or [N, T]

        Returns
        -------
        Sequences

        Raises
        ------
        InputError
            Of other types or shapes, or empty.
        """
        x, y = np.asarray(x), np.asarray(y)
        _check_numbers(x)
        if y.dtype.kind not in "iu":
            raise InputError(f"y must hold integers, the classes, not {y.dtype}")
        limits = np.iinfo(np.int32)
        if y.size and not limits.min <= int(y.min()) <= int(y.max()) <= limits.max:
            raise InputError(f"y must hold classes of 32 bits, not {y.min()} to {y.max()}")
        if x.dtype == np.int8:
            wide = 2 * x.astype(np.int16)
            x = np.concatenate([wide.clip(0), (-wide).clip(0, 255)], axis=2).astype(np.uint8)
        if y.ndim == 1 and len(y) == len(x):
            last, y = y, np.full(x.shape[:2], NO_CLASS)
            y[:, -1:] = last[:, None]
        return cls(x, y.astype(np.int32))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a file of sequences.

        Parameters
        ----------
        path : str or Path
            Of a ``.npz``.

        Returns
        -------
        Sequences

        Raises
        ------
        InputError
            The file cannot be read, or does not hold sequences.
        """
        data = read(path)
        if data.startswith(b"\x93NUMPY"):
            raise InputError(f"{path}: must be a .npz with x and y, not a .npy")
        arrays = _arrays(data, path)
        try:
            if "x" not in arrays and "value" in arrays:
                arrays["x"] = _dense(arrays, len(data))
            if lacking := [name for name in ("x", "y") if name not in arrays]:
                raise InputError(f"lacks {lacking[0]}; it holds {', '.join(arrays) or 'nothing'}")
            return cls.of(arrays["x"], arrays["y"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def __len__(self) -> int:
        return len(self.values)

    @property
    def steps(self) -> int:
        """T, steps of a sequence."""
        return self.values.shape[1]

    @property
    def inputs(self) -> int:
        """I, numbers that enter in each step."""
        return self.values.shape[2]

    def entering(self) -> Iterator[np.ndarray | None]:
        """What enters a core, step by step: numbers uint8 [I]; and before each sequence None, for zero state."""
        for values in self.values:
            yield None
            yield from values

    def first(self, count: int | None) -> Self:
        """The first ``count`` of them, all by default; `InputError` where there are not so many."""
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise InputError(f"there are 1 to {len(self)} sequences to take, not {count}")
        return type(self)(self.values[:count], self.classes[:count])

    def check(self, inputs: int, classes: int) -> None:
        """Raise `InputError` unless they are for a network of so many ``inputs`` and ``classes``."""
        if self.inputs != inputs:
            raise InputError(f"{self.inputs} numbers enter in each step, and the network takes {inputs}")
        wrong = np.argwhere((self.classes < NO_CLASS) | (self.classes >= classes))
        if len(wrong):
            sequence, step = wrong[0].tolist()
            raise InputError(
                f"step {step} of sequence {sequence} asks for class {self.classes[sequence, step]}; the network has "
                f"0 to {classes - 1}"
            )


def _check_numbers(x, accepted=(np.uint8, np.int8)):
    """Refuse what is no x."""
    if x.dtype not in accepted or x.ndim != 3 or not x.size:
        raise InputError(
            f"x must be uint8 or int8 of three dimensions, sequences, steps and inputs, none of them empty, not "
            f"{x.dtype} {list(x.shape)}"
        )


def _arrays(data, path):
    """The arrays of a ``.npz`` by name, of which none is larger than what its file can pack."""
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{member.filename!r} is packed as numpy packs none")
                if (name := member.filename.removesuffix(".npy")) in _ARRAYS:
                    arrays[name] = read_array(archive.read(member), f"{path}: {name}")
    except InputError:
        raise
    except Exception as error:  # what a damaged archive brings about
        raise InputError(f"{path}: not a .npz of numbers: {' '.join(str(error).split())}") from error
    return arrays


def _dense(arrays, size):
    """The numbers of events in a file of ``size`` bytes, uint8 or int8 [N, T, I]."""
    names = ("sequence", "step", "index", "value")
    if lacking := [name for name in ("shape", *names) if name not in arrays]:
        raise InputError(f"lacks {lacking[0]}, which events need; it holds {', '.join(arrays)}")
    shape, places, value = arrays["shape"], [arrays[name] for name in names[:3]], arrays["value"]
    if any(array.dtype.kind not in "iu" for array in (shape, *places, value)) or shape.shape != (3,):
        raise InputError("shape must hold three integers, and sequence, step, index and value integers")
    sizes = shape.tolist()
    if min(sizes) < 1:
        raise InputError(f"shape must be three sizes of at least 1, not {sizes}")
    check_unpacked(math.prod(sizes), size)
    if value.ndim != 1 or any(place.shape != value.shape for place in places) or value.dtype not in (np.uint8, np.int8):
        raise InputError("value must be uint8 or int8 of one dimension, and sequence, step and index as long")
    for name, place, size in zip(names, places, sizes, strict=False):
        if place.size and not 0 <= int(place.min()) <= int(place.max()) < size:
            raise InputError(f"{name} must be 0 to {size - 1}, not {place.min()} to {place.max()}")
    x = np.zeros(sizes, value.dtype)
    x[tuple(places)] = value
    return x


@dataclass(frozen=True, kw_only=True)
class SequenceEvaluation(Evaluation):
    """Result of `evaluate_sequences`.

    Attributes
    ----------
    tokens : int
        Steps of all sequences together.
    loss : float
        Mean negative log-likelihood of a class that was asked for, in nats.
    activity : list of float
        Share of neurons with an event per step, 0 to 1, one a layer.
    macs : MacCounts
        Of a step.
    readout : ReadoutCounts or None
        What the read-out takes for a class that is asked for.
    sources : SourceCounts or None
        How often each source was active.
    asked : int
        Classes that were asked for.
    right : int
        Of these, those that had the largest score, the first one among equal ones. Scores of integers are rounded as
        those of words are (`egret.model.readout`).
    answers : np.ndarray of int32, shape [N, T]
        The class that came out, `NO_CLASS` where none was asked for.
    """

    asked: int
    right: int
    answers: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of the classes that are right, 0 to 1."""
        return self.right / self.asked


def evaluate_sequences(
    engine: Any,
    columns: "list[ColumnCounts]",
    readout: "ReadoutColumns",
    sequences: Sequences,
    *,
    integers: bool,
    batch: int = BATCH,
    progress: Callable[[int, int], object] | None = None,
) -> SequenceEvaluation:
    """Run sequences through a network, each from zero state.

    Parameters
    ----------
    engine : FloatEngine, IntegerEngine or NativeEngine
        Of a network whose input is numbers.
    columns, readout
        Its counts, see `egret.model.counts`.
    sequences : Sequences
    integers : bool
        Whether the engine takes integers, not fractions of one.
    batch : int
        Sequences that run at once.
    progress : callable, optional
        Called as ``progress(done, total)``, both in sequences.

    Returns
    -------
    SequenceEvaluation
    """
    sources, counts, likelihood = SourceCounts(columns), ReadoutCounts(), 0.0
    answers = np.full(sequences.classes.shape, NO_CLASS, np.int32)
    for some in (slice(first, first + batch) for first in range(0, len(sequences), batch)):
        values, classes = sequences.values[some], sequences.classes[some]
        engine.reset_state(len(values))
        for step in range(sequences.steps):
            x = values[:, step].astype(np.int32)
            traces = engine.step(x if integers else x * np.float32(2.0**-VALUE_FRACTION))
            sources.add(traces)
            (asked,) = np.nonzero(classes[:, step] != NO_CLASS)
            if asked.size:
                y = traces[-1].y[asked]
                scores = engine.readout.scores(y) if integers else engine.read_out(y)
                answers[some.start + asked, step] = scores.argmax(axis=1)
                counts += readout.count(y, classes[asked, step])
                likelihood += float(engine.log_probabilities(y, classes[asked, step]).sum())
        if progress is not None:
            progress(min(some.stop, len(sequences)), len(sequences))
    sources.starts = len(sequences)
    asked = sequences.classes != NO_CLASS
    number = int(asked.sum())
    return SequenceEvaluation(
        tokens=len(sequences) * sequences.steps,
        loss=-likelihood * (2.0**-LOG_FRACTION if integers else 1) / number,
        activity=sources.activity,
        macs=count_macs(columns, sources),
        readout=counts.per_token(number),
        sources=sources,
        asked=number,
        right=int((answers == sequences.classes)[asked].sum()),
        answers=answers,
    )
