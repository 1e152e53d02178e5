"""Networks of other programs as checkpoints: EvNN's, and modules like ``torch.nn.GRU`` whose names a map gives.

`Layout` says what the tensors of a module are called and how they lie. `converted` makes a checkpoint of them that
computes the same. EvNN is one such layout (`EVNN`). It has, with y' and c' of the step before::

    z = sigma(Kz x + bz + Rz y' + b'z)        r = sigma(Kr x + br + Rr y' + b'r)
    g = tanh(Kg x + bg + r * (Rg y' + b'g))
    p = z*c' + (1-z)*g      e = H(p - thr)      y = e*p      c = p - e*thr

so that its z is 1 - u and its g is Egret's z. Its vocabulary is in no file: words are numbered as they first appear.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np

from egret.model.checkpoint import RESETS, Checkpoint
from egret.model.errors import InputError
from egret.model.files import read, read_toml
from egret.model.tokens import END_OF_LINE, Vocabulary, read_text

__all__ = ["EVNN", "EVNN_0_1", "Imported", "Layout", "by_frequency", "converted", "from_evnn", "from_map"]

_GATES = ("u", "r", "z")
_LARGEST_THRESHOLD = 1e38  # of float32
_THRESHOLDS = ("plain", "clip", "sigmoid")


@dataclass(frozen=True)
class Layout:
    """Names of a module's tensors, and how they lie.

    In a name of a layer's tensor, ``{}`` stands for the layer. A name that is None is of what the module lacks.

    Parameters
    ----------
    embedding, weight_x, weight_y : str
        Names: of the embedding [V, E], and of a layer's weights of its inputs and of its events.
    threshold : str or float
        Name of a layer's thresholds, [H] or one for all; or a number for all layers.
    bias_x, bias_y : str or None
        Biases of a layer beside these two matrices, [3 H].
    readout_weight, readout_bias : str or None
        Without weights the read-out uses the embedding.
    projection_weight, projection_bias : str or None
        Of a linear projection before the read-out, [E, H] and [E].
    gates : tuple of str
        Order of the gates in a layer's matrices: u, r and z. ``"not u"`` stands for 1 - u, the share of the state that
        stays.
    transposed : bool
        Whether a layer's matrices are [I, 3 H], not [3 H, I].
    thresholds : str
        ``"plain"``, ``"clip"`` to 0..1, or ``"sigmoid"`` of what is in the file.
    reset : str
        ``"before"`` or ``"after"``, as in `egret.model.checkpoint.NetworkConfiguration`.
    layers : tuple of str or None
        What ``{}`` stands for in each layer; 0, 1 and so on by default.
    ignore : tuple of str
        Patterns of names that are left out, such as ``"*.num_batches_tracked"``.

    Raises
    ------
    InputError
        A value is none of those that are accepted.
    """

    embedding: str
    weight_x: str
    weight_y: str
    threshold: str | float
    bias_x: str | None = None
    bias_y: str | None = None
    readout_weight: str | None = None
    readout_bias: str | None = None
    projection_weight: str | None = None
    projection_bias: str | None = None
    gates: tuple[str, ...] = _GATES
    transposed: bool = False
    thresholds: str = "plain"
    reset: str = "before"
    layers: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("gates", "layers", "ignore"):
            value = getattr(self, name)
            if (value is not None or name != "layers") and not (
                isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
            ):
                raise InputError(f"{name} must be a list of strings, not {value!r}")
            object.__setattr__(self, name, None if value is None else tuple(value))
        for name, accepted in (("thresholds", _THRESHOLDS), ("reset", RESETS), ("transposed", (False, True))):
            value = getattr(self, name)
            if value not in accepted or type(value) is not type(accepted[0]):
                raise InputError(f"{name} must be one of {', '.join(map(repr, accepted))}, not {value!r}")
        if sorted(gate.removeprefix("not ") for gate in self.gates) != sorted(_GATES) or {"not r", "not z"} & {
            *self.gates
        }:
            raise InputError(f"gates must be u (or 'not u'), r and z in some order, not {list(self.gates)}")
        if self.layers is not None and len(self.layers) > 1:
            if len({*self.layers}) < len(self.layers) or "{}" not in self.weight_x or "{}" not in self.weight_y:
                raise InputError("layers must be different ones, and weight_x and weight_y have {} where each stands")
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, str | int | float):
            raise InputError(f"threshold must be a name or a number, not {self.threshold!r}")
        if not isinstance(self.threshold, str) and not abs(self.threshold) <= _LARGEST_THRESHOLD:
            raise InputError(f"threshold must be a finite number, not {self.threshold!r}")

    @property
    def names(self) -> dict[str, str]:
        """The name that is given for each tensor: those of the module, and those with ``{}`` of a layer."""
        given = {name: getattr(self, name) for name in _TENSORS}
        return {name: value for name, value in given.items() if isinstance(value, str)}

    @classmethod
    def from_fields(cls, content: Mapping[str, Any], where: str | Path) -> Self:
        """Of the ``content`` of a map, without its vocabulary.

        Parameters
        ----------
        content : mapping
            A field for each parameter, those that name tensors within ``tensors``.
        where : str or Path
            Named in errors.

        Returns
        -------
        Layout

        Raises
        ------
        InputError
            A field is missing, unknown or not accepted.
        """
        tensors, rest = content.get("tensors"), {name: value for name, value in content.items() if name != "tensors"}
        if not isinstance(tensors, dict):
            raise InputError(f"{where}: lacks the table 'tensors', of names of tensors: {', '.join(_TENSORS)}")
        others = [field.name for field in fields(cls) if field.name not in _TENSORS]
        for name, known in [*((one, _TENSORS) for one in tensors), *((one, others) for one in rest)]:
            if name not in known:
                raise InputError(f"{where}: unknown field {name!r}; expected are {', '.join(known)}")
        for name, value in tensors.items():
            if not isinstance(value, str) and name != "threshold":
                raise InputError(f"{where}: {name} must be the name of a tensor, not {value!r}")
        for name in ("embedding", "weight_x", "weight_y", "threshold"):
            if name not in tensors:
                raise InputError(f"{where}: lacks {name!r} in 'tensors'")
        try:
            return cls(**tensors, **rest)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


_TENSORS = tuple(field.name for field in fields(Layout))[:10]

EVNN = Layout(
    embedding="embeddings.weight",
    weight_x="rnns.{}.kernel",
    weight_y="rnns.{}.recurrent_kernel",
    threshold="rnns.{}.thr",
    bias_x="rnns.{}.bias",
    bias_y="rnns.{}.recurrent_bias",
    readout_weight="decoder.decoder.weight",
    readout_bias="decoder.decoder.bias",
    projection_weight="decoder.projection.weight",
    projection_bias="decoder.projection.bias",
    gates=("not u", "r", "z"),
    transposed=True,
    thresholds="clip",
    reset="after",
    ignore=("rnns.*._max_norm", "rnns.*.dampening_factor", "rnns.*.pseudo_derivative_support"),
)
"""The language model of EvNN 0.2.0's benchmarks, with a projection."""

EVNN_0_1 = replace(EVNN, threshold="rnns.{}.thr_reparam", thresholds="sigmoid")
"""That of EvNN 0.1.0, whose thresholds are a sigmoid."""


@dataclass(frozen=True)
class Imported:
    """What became of a network.

    Attributes
    ----------
    checkpoint : Checkpoint
    notes : tuple of str
        What is another than in the source, though the network computes the same; and what was left out.
    """

    checkpoint: Checkpoint
    notes: tuple[str, ...]


@np.errstate(all="ignore")  # what is too large for float32 becomes infinite, and is refused at the end
def converted(
    tensors: Mapping[str, np.ndarray], layout: Layout, vocabulary: Vocabulary, where: str | Path = "tensors"
) -> Imported:
    """A checkpoint that computes what a module computes.

    Parameters
    ----------
    tensors : mapping of str to np.ndarray of float32
        Of the module. Of one that ``torch.nn.utils.prune`` has pruned, masks are applied.
    layout : Layout
    vocabulary : Vocabulary
        In the order of the rows of the embedding.
    where : str or Path
        Named in errors.

    Returns
    -------
    Imported

    Raises
    ------
    InputError
        A tensor is missing or has another shape, one is left that the layout does not name, or the checkpoint does
        not pass `Checkpoint.check`.
    """
    source = _Source(tensors, layout, where)
    made, notes = {"embedding.weight": source.matrix("embedding")}, []
    if source.masked:
        notes.append(f"{source.masked} masks of a pruning were applied")
    clipped = 0
    for number, layer in enumerate(_layers(source, layout)):
        weights = {name: source.gates(name, layer) for name in ("weight_x", "weight_y")}
        size = weights["weight_y"].shape[-1]
        if len(weights["weight_y"]) != 3 * size or len(weights["weight_x"]) != 3 * size:
            shapes = " and ".join(str(list(weight.shape)) for weight in weights.values())
            raise InputError(
                f"{where}: layer {layer} has matrices of {shapes} as [3 H, I] and [3 H, H], which do not fit; "
                "are they transposed?"
            )
        of_x, of_y = (source.gates(name, layer, 3 * size) for name in ("bias_x", "bias_y"))
        inner = of_y[2 * size :].copy()
        if layout.reset == "after":
            of_y[2 * size :] = 0
            made[f"layers.{number}.bias_y"] = inner
        threshold, outside = _thresholds(source.thresholds(layer, size), layout.thresholds)
        clipped += outside
        made |= {f"layers.{number}.{name}": weight for name, weight in weights.items()}
        made |= {f"layers.{number}.bias": of_x + of_y, f"layers.{number}.threshold": threshold}
    if clipped:
        notes.append(f"{clipped} thresholds were clipped to 0..1")
    notes += _read_out(source, layout, made)
    notes += source.finish()
    try:
        return Imported(Checkpoint.from_tensors(made, vocabulary, reset=layout.reset), tuple(notes))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('tensors: ')}") from error


def _layers(source, layout):
    """What ``{}`` stands for in each layer of the file."""
    if layout.layers is not None:
        return layout.layers
    found = (str(number) for number in count())
    layers = [next(found)]  # the first one is missed by its name
    while "{}" in layout.weight_x and source.has("weight_x", layer := next(found)):
        layers.append(layer)
    return layers


def _thresholds(values, kind):
    """Thresholds from what is in the file, and how many were clipped."""
    if kind == "sigmoid":
        return (1 / (1 + np.exp(-values.astype(np.float64)))).astype(np.float32), 0
    within = np.clip(values, 0, 1) if kind == "clip" else values
    return within, int(np.count_nonzero(within != values))


def _read_out(source, layout, made):
    """Add the read-out to what was ``made``; what became of it."""
    embedding = made["embedding.weight"]
    weight = embedding if layout.readout_weight is None else source.matrix("readout_weight")
    bias = source.vector("readout_bias", len(embedding))
    if layout.projection_weight is not None:
        projection = source.matrix("projection_weight")
        if weight.shape[1] != len(projection):
            raise InputError(
                f"{source.where}: the projection has {len(projection)} outputs, the read-out {weight.shape[1]} inputs"
            )
        # In float64: the product replaces two that the source rounds one after the other.
        wide = weight.astype(np.float64)
        made["readout.bias"] = (wide @ source.vector("projection_bias", len(projection)) + bias).astype(np.float32)
        made["readout.weight"] = (wide @ projection).astype(np.float32)
        return ["the projection was multiplied into the read-out"]
    made["readout.bias"] = bias
    if not np.array_equal(weight, embedding):
        made["readout.weight"] = weight
    return []


class _Source:
    """The tensors of a file, taken by what a layout calls them."""

    def __init__(self, tensors, layout, where):
        self._tensors, self.masked = {}, 0
        for name, tensor in tensors.items():
            mask = tensors.get(name.removesuffix("_orig") + "_mask")
            if name.endswith("_orig") and mask is not None and mask.shape == tensor.shape:
                self._tensors[name.removesuffix("_orig")] = tensor * mask
                self.masked += 1
            elif not (name.endswith("_mask") and name.removesuffix("_mask") + "_orig" in tensors):
                self._tensors[name] = tensor
        self._layout, self.where, self._left = layout, where, {*self._tensors}

    def _name(self, field, layer):
        return self._layout.names[field].replace("{}", layer)

    def has(self, field, layer):
        return self._name(field, layer) in self._tensors

    def _take(self, field, layer=""):
        name = self._name(field, layer)
        if name not in self._tensors:
            raise InputError(
                f"{self.where}: lacks {name!r} for {field}; it has {', '.join(self._tensors) or 'nothing'}"
            )
        self._left.discard(name)
        return self._tensors[name]

    def _of_shape(self, field, tensor, dimensions):
        if tensor.ndim != dimensions:
            shape = list(tensor.shape)
            raise InputError(f"{self.where}: {field} must have {dimensions} dimensions, not the shape {shape}")
        return tensor

    def matrix(self, field):
        return self._of_shape(field, self._take(field), 2)

    def vector(self, field, size):
        """A vector of the module; zeros where the layout names none."""
        return self._sized(field, "", size) if field in self._layout.names else np.zeros(size, np.float32)

    def _sized(self, field, layer, size):
        tensor = self._take(field, layer)
        if tensor.shape != (size,):
            name = self._name(field, layer)
            raise InputError(f"{self.where}: tensor {name!r} must have the shape [{size}], not {list(tensor.shape)}")
        return tensor

    def gates(self, field, layer, size=None):
        """A layer's matrix, or of so many rows its bias, with the gates u, r and z in this order."""
        if size is None:
            tensor = self._of_shape(field, self._take(field, layer), 2)
            tensor = tensor.T if self._layout.transposed else tensor
        elif field in self._layout.names:
            tensor = self._sized(field, layer, size)
        else:
            return np.zeros(size, np.float32)
        if len(tensor) % 3:
            raise InputError(f"{self.where}: {self._name(field, layer)!r} has {len(tensor)} rows of three gates")
        parts = dict(zip(self._layout.gates, np.split(tensor, 3), strict=True))
        if "not u" in parts:  # 1 - sigma(a) is sigma(-a)
            parts["u"] = -parts["not u"]
        return np.concatenate([parts[gate] for gate in _GATES])

    def thresholds(self, layer, size):
        given = self._layout.threshold
        tensor = self._take("threshold", layer) if isinstance(given, str) else np.float32(given)
        if tensor.size == 1:
            return np.full(size, tensor.reshape(()), np.float32)
        return self._sized("threshold", layer, size)

    def finish(self):
        """What was left out, as notes; raises `InputError` where nobody said that it may be."""
        ignored = {name for name in self._left if any(fnmatchcase(name, one) for one in self._layout.ignore)}
        if kept := sorted(self._left - ignored):
            raise InputError(f"{self.where}: nothing is known of {', '.join(map(repr, kept))}; a network would lack it")
        return [f"left out: {', '.join(sorted(ignored))}"] if ignored else []


def by_frequency(imported: Imported, texts: Iterable[str | Path]) -> Imported:
    """The same network, its frequent words first: a core with an external memory folds the rows of the first ones.

    Parameters
    ----------
    imported : Imported
    texts : iterable of str or Path
        To count words on.

    Returns
    -------
    Imported

    Raises
    ------
    InputError
        A text cannot be read, or the tokens are ids.
    """
    checkpoint = imported.checkpoint
    counts = np.zeros(checkpoint.vocabulary.size, np.int64)
    for text in texts:
        counts += np.bincount(checkpoint.vocabulary.read(text), minlength=len(counts))
    order = np.argsort(-counts, kind="stable")
    tensors = dict(checkpoint.tensors)
    for name in ("embedding.weight", "readout.weight", "readout.bias"):
        if name in tensors:
            tensors[name] = tensors[name][order]
    changed = replace(checkpoint, tensors=tensors, vocabulary=checkpoint.vocabulary.reordered(order))
    return Imported(changed, (*imported.notes, "words were sorted by their frequency"))


def from_evnn(
    tensors: Mapping[str, np.ndarray], texts: Sequence[str | Path], where: str | Path = "tensors"
) -> Imported:
    """The language model of EvNN's benchmarks.

    Parameters
    ----------
    tensors : mapping of str to np.ndarray of float32
        Its state dict, of EvNN 0.2.0 or 0.1.0.
    texts : sequence of str or Path
        Its texts for training, validation and test in this order, which number the words.
    where : str or Path
        Named in errors.

    Returns
    -------
    Imported
        Words sorted by frequency.

    Raises
    ------
    InputError
        A text cannot be read, the texts have another number of words than the network, or it computes what Egret
        cannot: EvNN 0.1.0 has a ReLU behind its projection.
    """
    layout = EVNN_0_1 if any(name.endswith(".thr_reparam") for name in tensors) else EVNN
    if EVNN.projection_weight not in tensors:
        layout = replace(layout, projection_weight=None, projection_bias=None)
    elif layout is EVNN_0_1:
        raise InputError(f"{where}: EvNN 0.1.0 has a ReLU behind its projection, which no read-out of Egret has")
    words: Counter[str] = Counter()
    for text in texts:
        for line in read_text(text).removesuffix("\n").split("\n"):
            words.update((*line.split(), END_OF_LINE))
    rows = _rows(tensors, layout, len(words))
    if rows != len(words):
        raise InputError(
            f"{where}: has {rows} words, and the texts have {len(words)}; give the texts that it was trained with, "
            "each with --text, in the order train, valid, test"
        )
    return by_frequency(converted(tensors, layout, Vocabulary(words, "word"), where), texts)


def _rows(tensors, layout, otherwise):
    """Words of the embedding; where there is none that could be one, so many."""
    embedding = tensors.get(layout.embedding)
    return len(embedding) if embedding is not None and embedding.ndim else otherwise


def from_map(
    tensors: Mapping[str, np.ndarray],
    path: str | Path,
    texts: Sequence[str | Path] = (),
    where: str | Path = "tensors",
) -> Imported:
    """A module whose names a file gives.

    Parameters
    ----------
    tensors : mapping of str to np.ndarray of float32
        Its state dict.
    path : str or Path
        TOML, or JSON where the name ends so: the fields of `Layout`, ``tokens``, and ``vocabulary``, a path from where
        the file is.
    texts : sequence of str or Path
        To sort the words by frequency.
    where : str or Path
        Named in errors.

    Returns
    -------
    Imported

    Raises
    ------
    InputError
        The file is not such a one, or `converted` or `by_frequency` refuses it.
    """
    content = dict(_read_map(Path(path)))
    kind, name = content.pop("tokens", None), content.pop("vocabulary", None)
    layout = Layout.from_fields(content, path)
    if kind == "id" and name is None:
        vocabulary = Vocabulary.of_ids(_rows(tensors, layout, 1))
    elif isinstance(kind, str) and isinstance(name, str):
        vocabulary = Vocabulary.from_file(Path(path).parent / name, kind)
    else:
        raise InputError(
            f"{path}: needs tokens, the kind of the tokens, and vocabulary, the path of its file, which ids have not"
        )
    imported = converted(tensors, layout, vocabulary, where)
    return by_frequency(imported, texts) if texts else imported


def _read_map(path):
    if path.suffix.lower() != ".json":
        return read_toml(path)
    try:
        content = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold one JSON object, not {type(content).__name__}")
    return content
