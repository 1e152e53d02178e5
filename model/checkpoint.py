"""Checkpoint: the directory that holds a trained float network.

``config.json``
    ``cell`` ("egru" | "lstm"), ``tokens`` ("word" | "char" | "id" | "bpe" | "number"), ``vocab_size``,
    ``embedding_size``, ``hidden_sizes``, ``reset`` ("before" | "after"), ``tied``, and ``readout``: null, or
    ``{"head", "groups", "rows"}`` of a read-out in groups (`egret.model.groups`). A file without it is one with
    null.
``model.safetensors`` (or ``model.safetensors.gz``)
    The tensors that `NetworkConfiguration.tensor_shapes` lists, as F32, F16 or BF16. Gates are stacked u | r | z for
    EGRU and i | f | g | o for LSTM; zeros are pruned weights. Where the tokens are ``"number"`` there is no embedding:
    ``embedding_size`` numbers enter the first layer in each step, and ``vocab_size`` classes come out.
``vocab.txt``, or ``tokenizer.json`` where the tokens are ``"bpe"``
    See `egret.model.tokens` and `egret.model.bpe`, whose two files are read too.

Everything is checked on load and before saving; a directory that does not pass raises `InputError` with one line.
"""

import gzip
import json
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from egret.model import bpe
from egret.model.errors import InputError
from egret.model.files import MOST_LAYERS, MOST_TOKENS, directory_aside, read, refuse_foreign, write_aside
from egret.model.groups import Groups, check_order
from egret.model.tokens import Vocabulary, check_kind

__all__ = [
    "CELLS",
    "RESETS",
    "Checkpoint",
    "NetworkConfiguration",
    "load_checkpoint",
    "model_file",
    "parse_tensors",
    "save_checkpoint",
]

CELLS = ("egru", "lstm")
RESETS = ("before", "after")

_CONFIG, _MODEL, _VOCABULARY, _TOKENIZER = "config.json", "model.safetensors", "vocab.txt", "tokenizer.json"
_GATES = {"egru": 3, "lstm": 4}
_HEADER_BYTES = 1 << 22  # of a safetensors file: enough for so many layers, and something beside
_LARGEST_SIZE = MOST_TOKENS  # of one dimension
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class NetworkConfiguration:
    """Shape of a network, validated at construction.

    Parameters
    ----------
    cell : str
        ``"egru"`` or ``"lstm"``.
    tokens : str
        ``"word"``, ``"char"``, ``"id"`` or ``"bpe"``; ``"number"`` where numbers enter, not tokens.
    vocab_size : int
        V, number of tokens; of classes, where numbers enter.
    embedding_size : int
        E, inputs of the first layer; equals the last hidden size when tied.
    hidden_sizes : tuple of int
        Neurons of each layer, first layer first.
    reset : str
        EGRU only: the reset gate multiplies the recurrent events ``"before"`` or ``"after"`` their matrix.
    tied : bool
        Whether the read-out uses the embedding as its weights.
    readout : Groups, optional
        Of a read-out in groups; a plain one has none.

    Raises
    ------
    InputError
        If a field has a value that is not accepted, naming the field.
    """

    cell: str
    tokens: str
    vocab_size: int
    embedding_size: int
    hidden_sizes: tuple[int, ...]
    reset: str = "before"
    tied: bool = True
    readout: Groups | None = None

    def __post_init__(self):
        check_kind(self.tokens)
        for name, accepted in (("cell", CELLS), ("reset", RESETS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in accepted:
                raise InputError(f"{name} must be {' or '.join(map(repr, accepted))}, not {value!r}")
        if not isinstance(self.hidden_sizes, list | tuple) or not self.hidden_sizes:
            raise InputError(f"hidden_sizes must be a list of at least one size, not {self.hidden_sizes!r}")
        if len(self.hidden_sizes) > MOST_LAYERS:
            raise InputError(
                f"hidden_sizes must be a list of at most {MOST_LAYERS} sizes, not {len(self.hidden_sizes)}"
            )
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        sizes = [("vocab_size", self.vocab_size), ("embedding_size", self.embedding_size)]
        for name, size in (*sizes, *(("hidden_sizes", size) for size in self.hidden_sizes)):
            if type(size) is not int or not 1 <= size <= _LARGEST_SIZE:
                raise InputError(f"{name} must be an integer from 1 to {_LARGEST_SIZE}, not {size!r}")
        if type(self.tied) is not bool:
            raise InputError(f"tied must be true or false, not {self.tied!r}")
        if self.tied and self.embedding_size != self.hidden_sizes[-1]:
            raise InputError(
                "a tied read-out needs embedding_size equal to the last hidden size, "
                f"not {self.embedding_size} and {self.hidden_sizes[-1]}"
            )
        if self.takes_numbers and (self.tied or self.readout is not None):
            raise InputError("a network of numbers has no embedding: tied must be false, and readout null")
        if self.readout is not None:
            if not isinstance(self.readout, Groups):
                object.__setattr__(self, "readout", Groups.from_fields(self.readout))
            if self.readout.words != self.vocab_size:
                raise InputError(
                    f"readout must hold all {self.vocab_size} words of the vocabulary once: {self.readout.head} in the "
                    f"head and {sum(self.readout.groups)} in groups are {self.readout.words}"
                )

    @property
    def takes_numbers(self) -> bool:
        """Whether numbers enter in each step, not tokens."""
        return self.tokens == "number"

    @property
    def layers(self) -> int:
        """Number of recurrent layers."""
        return len(self.hidden_sizes)

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Inputs of each layer, first layer first."""
        return (self.embedding_size, *self.hidden_sizes[:-1])

    @property
    def gates(self) -> int:
        """Gates stacked in one weight matrix: 3 for EGRU, 4 for LSTM."""
        return _GATES[self.cell]

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of such a network.

        Returns
        -------
        dict of str to tuple of int
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if not self.takes_numbers:
            shapes["embedding.weight"] = (self.vocab_size, self.embedding_size)
        for layer, (inputs, hidden) in enumerate(zip(self.input_sizes, self.hidden_sizes, strict=True)):
            shapes[f"layers.{layer}.weight_x"] = (self.gates * hidden, inputs)
            shapes[f"layers.{layer}.weight_y"] = (self.gates * hidden, hidden)
            shapes[f"layers.{layer}.bias"] = (self.gates * hidden,)
            if self.cell == "egru":
                shapes[f"layers.{layer}.threshold"] = (hidden,)
                if self.reset == "after":
                    shapes[f"layers.{layer}.bias_y"] = (hidden,)
        if not self.tied:
            shapes["readout.weight"] = (self.vocab_size, self.hidden_sizes[-1])
        shapes["readout.bias"] = (self.vocab_size,)
        if self.readout is not None:
            rows = len(self.readout.groups) * self.readout.rows
            shapes["readout.order"] = (self.vocab_size,)
            shapes["readout.group_weight"] = (rows, self.hidden_sizes[-1])
            shapes["readout.group_bias"] = (rows,)
        return shapes

    def to_json(self) -> str:
        """The content of ``config.json``, a str."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str | Path = _CONFIG) -> Self:
        """Parse the content of a ``config.json``.

        Parameters
        ----------
        text : str or bytes
        where : str or Path
            Named in errors.

        Returns
        -------
        NetworkConfiguration

        Raises
        ------
        InputError
            If the text is not a JSON object with exactly the fields of this class (``readout`` may lack), or a field
            is not accepted.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where}: not a JSON file: {reason}") from error
        if not isinstance(content, dict):
            raise InputError(f"{where}: must hold one JSON object, not {type(content).__name__}")
        names = [field.name for field in fields(cls)]
        for name in names:
            if name not in content and name != "readout":
                raise InputError(f"{where}: lacks {name!r}; it must hold {', '.join(names)}")
        for name in content:
            if name not in names:
                raise InputError(f"{where}: unknown field {name!r}; it must hold {', '.join(names)}")
        try:
            return cls(**content)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Checkpoint:
    """A trained float network.

    Parameters
    ----------
    configuration : NetworkConfiguration
    tensors : dict of str to np.ndarray of float32
        Names and shapes as `NetworkConfiguration.tensor_shapes` gives them. An inner bias, ``layers.l.bias_y``, that
        is absent is added as zeros.
    vocabulary : Vocabulary
    """

    configuration: NetworkConfiguration
    tensors: dict[str, np.ndarray]
    vocabulary: Vocabulary

    def __post_init__(self):
        added = {}
        for name in self.configuration.tensor_shapes():
            threshold = self.tensors.get(name.replace(".bias_y", ".threshold"))
            if name.endswith(".bias_y") and name not in self.tensors and threshold is not None:
                added[name] = np.zeros(threshold.shape, np.float32)
        if added:
            object.__setattr__(self, "tensors", {**self.tensors, **added})

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], vocabulary: Vocabulary, *, reset: str = "before") -> Self:
        """An EGRU whose sizes follow from its tensors, with a read-out without groups.

        Parameters
        ----------
        tensors : dict of str to np.ndarray of float32
        vocabulary : Vocabulary
        reset : str
            See `NetworkConfiguration`.

        Returns
        -------
        Checkpoint

        Raises
        ------
        InputError
            There is no embedding, or no layer, or the checkpoint does not pass `check`.
        """
        embedding, hidden = tensors.get("embedding.weight"), []
        while (weight := tensors.get(f"layers.{len(hidden)}.weight_y")) is not None:
            hidden.append(weight.shape[-1] if weight.ndim else 0)
        if embedding is None or embedding.ndim != 2 or not hidden:
            raise InputError(
                "tensors: a matrix embedding.weight and a layer, layers.0.weight_y, are needed; there are "
                f"{', '.join(tensors) or 'none'}"
            )
        tied, size = "readout.weight" not in tensors, embedding.shape[1]
        shape = NetworkConfiguration("egru", vocabulary.kind, vocabulary.size, size, tuple(hidden), reset, tied)
        checkpoint = cls(shape, tensors, vocabulary)
        checkpoint.check(where="tensors")
        return checkpoint

    def check(self, where: str | Path = "checkpoint") -> None:
        """Check everything that one part of a checkpoint demands of another.

        Parameters
        ----------
        where : str or Path
            Named in errors.

        Raises
        ------
        InputError
            If the vocabulary has another size or kind than the configuration says; if a tensor is missing,
            superfluous, of another shape, not float32 or not finite; if a threshold is negative; if the read-out's
            order does not hold each word once.
        """
        configuration = self.configuration
        if (self.vocabulary.kind, self.vocabulary.size) != (configuration.tokens, configuration.vocab_size):
            raise InputError(
                f"{where}: the vocabulary has {self.vocabulary.size} tokens ({self.vocabulary.kind}), "
                f"the configuration wants {configuration.vocab_size} ({configuration.tokens})"
            )
        shapes = configuration.tensor_shapes()
        for name in self.tensors:
            if name not in shapes:
                raise InputError(f"{where}: unexpected tensor {name!r}; the configuration wants {', '.join(shapes)}")
        for name, shape in shapes.items():
            tensor = self.tensors.get(name)
            if tensor is None:
                raise InputError(f"{where}: tensor {name!r} of shape {list(shape)} is missing")
            if tensor.shape != shape:
                raise InputError(
                    f"{where}: tensor {name!r} has shape {list(tensor.shape)}; the configuration wants {list(shape)}"
                )
            if tensor.dtype != np.float32:
                raise InputError(f"{where}: tensor {name!r} must be float32, not {tensor.dtype}")
            # NaN and infinity propagate to the extremes, which needs no array of the tensor's size.
            if not np.isfinite([tensor.min(), tensor.max()]).all():
                place = [int(i) for i in np.argwhere(~np.isfinite(tensor))[0]]
                raise InputError(f"{where}: tensor {name!r} holds {tensor[tuple(place)]} at {place}; must be finite")
            if name.endswith(".threshold") and tensor.min() < 0:
                place = int(np.argmax(tensor < 0))
                raise InputError(
                    f"{where}: tensor {name!r} holds {tensor[place]} at [{place}]; thresholds must be >= 0"
                )
            if name == "readout.order":
                check_order(tensor, configuration.vocab_size, f"{where}: tensor {name!r}")


def load_checkpoint(path: str | Path) -> "Checkpoint":
    """Load and check a checkpoint directory.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        If anything is missing, truncated, corrupted or not accepted.
    """
    path = Path(path)
    if not path.is_dir():
        refuse_foreign(path)
        raise InputError(f"{path}: no checkpoint there; expected a directory with {_CONFIG}, {_MODEL}, {_VOCABULARY}")
    configuration = NetworkConfiguration.from_json(read(path / _CONFIG), where=path / _CONFIG)
    vocabulary = Vocabulary.from_file(_vocabulary_file(path, configuration.tokens), configuration.tokens)
    model = model_file(path)
    data = read(model)
    if model.suffix == ".gz":
        data = _decompress(data, configuration, model)
    checkpoint = Checkpoint(configuration, parse_tensors(data, model), vocabulary)
    checkpoint.check(where=model)
    return checkpoint


def model_file(path: str | Path) -> Path:
    """The file of the checkpoint directory ``path`` that holds the tensors, or should."""
    compressed = Path(path) / f"{_MODEL}.gz"
    model = Path(path) / _MODEL
    return compressed if compressed.exists() and not model.exists() else model


def _vocabulary_file(path, kind):
    """The file of the checkpoint directory ``path`` that holds the vocabulary, or should."""
    if kind != "bpe":
        return path / _VOCABULARY
    pair = path / bpe.VOCABULARY
    return pair if pair.exists() and not (path / _TOKENIZER).exists() else path / _TOKENIZER


def _decompress(data, configuration, where):
    """Unpack gzip data to at most the size that the configuration calls for, so that no file can fill the memory."""
    count = sum(int(np.prod(shape, dtype=object)) for shape in configuration.tensor_shapes().values())
    limit = 4 * count + _HEADER_BYTES  # tensors as float32, and a generous header
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(data, limit)
    except (zlib.error, OverflowError, MemoryError) as error:
        raise InputError(f"{where}: corrupted gzip data: {error}") from error
    if not unpacker.eof:
        reason = "holds more than the configuration wants" if len(content) == limit else "is truncated"
        raise InputError(f"{where}: the gzip data {reason}")
    return content


def parse_tensors(data: bytes, where: str | Path) -> dict[str, np.ndarray]:
    """Tensors of the content of a safetensors file, as float32.

    Parameters
    ----------
    data : bytes
    where : str or Path
        Named in errors.

    Returns
    -------
    dict of str to np.ndarray of float32

    Raises
    ------
    InputError
        It is none, or a tensor is neither F32 nor F16 nor BF16.
    """
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not a safetensors file, or truncated: {reason}") from error
    tensors = {}
    for name, entry in entries:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(f"{where}: tensor {name!r} is {entry['dtype']}; accepted are {', '.join(_DTYPES)}")
        try:
            with np.errstate(invalid="ignore"):  # signalling NaNs are reported by the check that follows
                tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"]).astype(np.float32)
        except (ValueError, OverflowError) as error:  # of no numbers, but of more or larger dimensions than numpy has
            raise InputError(f"{where}: tensor {name!r} has a shape that is not accepted: {error}") from error
    return tensors


def save_checkpoint(checkpoint: "Checkpoint", path: str | Path, *, compress: bool = False) -> None:
    """Check and save a checkpoint directory; a reader never sees a file half written.

    A new directory appears at once with all its files. In an existing directory each of the three files is replaced
    at once and other files stay, so a program killed while saving again over its own checkpoint leaves a whole one.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str or Path
        Directory; its parents are made where they lack.
    compress : bool
        Write ``model.safetensors.gz``, which is much smaller for pruned networks.

    Raises
    ------
    InputError
        If the checkpoint does not pass `Checkpoint.check`, or the directory cannot be written.
    """
    path = Path(path)
    checkpoint.check()
    # safetensors reads the memory as it lies, whatever the strides
    model = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in checkpoint.tensors.items()})
    if compress:
        model = gzip.compress(model, mtime=0)
    stale, fresh = (_MODEL, f"{_MODEL}.gz") if compress else (f"{_MODEL}.gz", _MODEL)
    files = {
        _CONFIG: checkpoint.configuration.to_json().encode(),
        _TOKENIZER if checkpoint.configuration.tokens == "bpe" else _VOCABULARY: checkpoint.vocabulary.to_bytes(),
        fresh: model,
    }
    try:
        if path.is_dir():
            _write_files(path, files)
            (path / stale).unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with directory_aside(path) as aside:
                _write_files(aside, files)
    except OSError as error:
        raise InputError(f"{path}: cannot save the checkpoint: {error.strerror or error}") from error


def _write_files(directory, files):
    for name, content in files.items():
        write_aside(directory / name, content)
