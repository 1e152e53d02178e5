"""The file of an integer network: small enough to be kept in a repository.

A safetensors file of U8 tensors, each zlib data (which carries a checksum) of little-endian numbers:

``vocabulary``
    The content of a ``vocab.txt``, or of a ``tokenizer.json`` where the tokens are ``"bpe"``.
``embedding``, and ``readout.weight`` only where the read-out is not tied
    I8, row by row. The embedding has no rows where the tokens are ``"number"``.
``readout.bias``, and ``layers.{l}.bias``, ``.threshold``, ``.shift``
    I32.
``layers.{l}.weight_x.gaps``, ``.values`` (and weight_y)
    The zeros before each non-zero weight, row by row through the matrix, as U8 where 255 means "255 zeros and go on";
    and the non-zero weights as I8.

Its metadata has one entry, ``egret``: a JSON object with ``format`` ("egret-integer-2"), ``tokens`` ("word" |
"char" | "id" | "bpe" | "number"),
``vocabulary_size``, ``embedding_size``, ``hidden`` (list of layer sizes), ``tied``, ``readout_fraction``,
``accumulator_bits`` and ``gate_index_bits``. Equal networks give equal files.

A network whose read-out has groups or a codebook has the format "egret-integer-3", and more metadata: ``readout``, null
or an object of ``head``, ``groups`` (list of sizes) and ``rows``; and ``readout_codebook``, how many numbers that has.
Its tensors besides, where it has them:

``readout.order`` and ``readout.group_bias``
    I32.
``readout.group_weight``, row by row, and ``readout.codebook``
    I8.

A network with reset "after" has the format "egret-integer-4": as the one before, and ``layers.{l}.bias_y``, I32.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from egret.model.arithmetic import CODEBOOK
from egret.model.errors import InputError
from egret.model.files import MOST_LAYERS, MOST_TOKENS, check_unpacked, refuse_foreign, write_aside
from egret.model.groups import MOST_ROWS
from egret.model.integer import IntegerLayer, IntegerNetwork
from egret.model.readout import IntegerGroups
from egret.model.tokens import Vocabulary

__all__ = ["load_integer", "save_integer"]

PLAIN, GROUPED, AFTER = FORMATS = "egret-integer-2", "egret-integer-3", "egret-integer-4"
_NUMBERS = ("readout_fraction", "accumulator_bits", "gate_index_bits")
_LARGEST_SIZE = 1 << 16  # of one dimension but the vocabulary
_LARGEST_VOCABULARY = 1 << 26  # bytes


def save_integer(network: IntegerNetwork, path: str | Path) -> None:
    """Save an integer network as one file, written aside and renamed.

    Parameters
    ----------
    network : IntegerNetwork
    path : str or Path

    Raises
    ------
    InputError
        It is a part of a network, or larger than such a file may be; or the file cannot be written.
    """
    if network.vocabulary is None or network.readout_bias is None:
        raise InputError(f"{path}: a later part of a network has no vocabulary and no read-out; save the whole network")
    vocabulary, embedding = network.vocabulary.size, network.embedding.shape[1]
    text = network.vocabulary.to_bytes()
    if len(text) > _LARGEST_VOCABULARY:
        raise InputError(f"{path}: the vocabulary must have at most {_LARGEST_VOCABULARY} bytes, not {len(text)}")
    _check_sizes(vocabulary, embedding, network.hidden, path)
    tensors = {
        "vocabulary": _pack(text),
        "embedding": _pack(network.embedding.astype(np.int8).tobytes()),
        "readout.bias": _pack(network.readout_bias.astype("<i4").tobytes()),
    }
    if network.readout_weight is not None:
        tensors["readout.weight"] = _pack(network.readout_weight.astype(np.int8).tobytes())
    for number, layer in enumerate(network.layers):
        for name in ("weight_x", "weight_y"):
            flat = getattr(layer, name).astype(np.int8).ravel()
            places = np.flatnonzero(flat)
            tensors[f"layers.{number}.{name}.gaps"] = _pack(_gaps(places).tobytes())
            tensors[f"layers.{number}.{name}.values"] = _pack(flat[places].tobytes())
        for name in ("bias", "threshold", "shift", *([] if layer.bias_y is None else ["bias_y"])):
            tensors[f"layers.{number}.{name}"] = _pack(np.asarray(getattr(layer, name)).astype("<i4").tobytes())
    groups, codebook = network.groups, network.readout_codebook
    if groups is not None:
        tensors |= {
            "readout.order": _pack(groups.order.astype("<i4").tobytes()),
            "readout.group_weight": _pack(groups.weight.astype(np.int8).tobytes()),
            "readout.group_bias": _pack(groups.bias.astype("<i4").tobytes()),
        }
    if codebook is not None:
        tensors["readout.codebook"] = _pack(codebook.astype(np.int8).tobytes())
    metadata: dict[str, Any] = {
        "format": AFTER if network.reset == "after" else PLAIN if groups is None and codebook is None else GROUPED,
        "tokens": network.vocabulary.kind,
        "vocabulary_size": vocabulary,
        "embedding_size": embedding,
        "hidden": list(network.hidden),
        "tied": network.readout_weight is None,
        **{name: getattr(network, name) for name in _NUMBERS},
    }
    if metadata["format"] != PLAIN:
        metadata["readout"] = groups and {"head": groups.head, "groups": list(groups.sizes), "rows": groups.rows}
        metadata["readout_codebook"] = 0 if codebook is None else len(codebook)
    write_aside(path, safetensors.numpy.save(tensors, {"egret": json.dumps(metadata)}))


def load_integer(path: str | Path) -> IntegerNetwork:
    """Load what `save_integer` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    IntegerNetwork

    Raises
    ------
    InputError
        The file is missing, cut, corrupted, or does not hold an integer network.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("egret", "{}"))
            packed = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        refuse_foreign(path)
        raise InputError(f"{path}: not a safetensors file, or cut short: {' '.join(str(error).split())}") from error
    if not isinstance(metadata, dict) or metadata.get("format") not in FORMATS:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise InputError(
            f"{path}: not an integer network: its format must be {PLAIN!r}, {GROUPED!r} or {AFTER!r}, not {found!r}; "
            "`egret quantise` writes one from a checkpoint's directory"
        )
    try:
        network = _parse(metadata, packed, path)
    except KeyError as error:
        raise InputError(f"{path}: lacks {error.args[0]!r}") from error
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError, MemoryError, zlib.error) as error:
        raise InputError(f"{path}: damaged: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error
    if packed:
        raise InputError(f"{path}: unexpected tensor {min(packed)!r}")
    return network


def _parse(metadata, packed, path):
    """The network, whose tensors are taken out of ``packed``."""
    vocabulary, embedding, hidden = metadata["vocabulary_size"], metadata["embedding_size"], metadata["hidden"]
    _check_sizes(vocabulary, embedding, hidden, path)
    # Zeros at the end of a matrix take no byte.
    weights = sum(3 * size * (inputs + size) for inputs, size in zip([embedding, *hidden], hidden, strict=False))
    check_unpacked(weights, sum(tensor.nbytes for tensor in packed.values()))

    def numbers(name, *shape):
        return np.frombuffer(_unpack(packed.pop(name), 4 * int(np.prod(shape))), "<i4").reshape(shape).astype(np.int32)

    def matrix(name, *shape):
        return np.frombuffer(_unpack(packed.pop(name), int(np.prod(shape))), np.int8).reshape(shape)

    def sparse(name, *shape):
        return _place(packed.pop(f"{name}.values"), packed.pop(f"{name}.gaps"), int(np.prod(shape))).reshape(shape)

    text = _inflate(packed.pop("vocabulary"), _LARGEST_VOCABULARY)
    layers = tuple(
        IntegerLayer(
            sparse(f"layers.{number}.weight_x", 3 * size, inputs),
            sparse(f"layers.{number}.weight_y", 3 * size, size),
            numbers(f"layers.{number}.bias", 3 * size),
            numbers(f"layers.{number}.threshold", size),
            tuple(int(shift) for shift in numbers(f"layers.{number}.shift", 3)),  # pyright: ignore[reportArgumentType]
            numbers(f"layers.{number}.bias_y", size) if metadata["format"] == AFTER else None,
        )
        for number, (inputs, size) in enumerate(zip([embedding, *hidden], hidden, strict=False))
    )
    groups, codebook = None, 0
    if metadata["format"] != PLAIN:
        shape, codebook = metadata["readout"], metadata["readout_codebook"]
        if codebook not in range(CODEBOOK + 1):
            raise InputError(f"{path}: readout_codebook must be 0 to {CODEBOOK}, not {codebook!r}")
        if shape is not None:
            head, sizes, rows = _check_groups(shape, vocabulary, path)
            groups = IntegerGroups(
                order=numbers("readout.order", vocabulary),
                head=head,
                sizes=tuple(sizes),
                rows=rows,
                weight=matrix("readout.group_weight", len(sizes) * rows, hidden[-1]),
                bias=numbers("readout.group_bias", len(sizes) * rows),
            )
    return IntegerNetwork(
        vocabulary=Vocabulary.from_bytes(text, metadata["tokens"], where=path),
        embedding=matrix("embedding", 0 if metadata["tokens"] == "number" else vocabulary, embedding),
        layers=layers,
        readout_weight=None if metadata["tied"] is True else matrix("readout.weight", vocabulary, hidden[-1]),
        readout_bias=numbers("readout.bias", vocabulary),
        groups=groups,
        readout_codebook=matrix("readout.codebook", codebook) if codebook else None,
        **{name: metadata[name] for name in _NUMBERS},
    )


def _check_sizes(vocabulary, embedding, hidden, path):
    """Refuse what such a file cannot hold, whether it is to be written or read."""
    layers = len(hidden) if isinstance(hidden, list | tuple) else repr(hidden)
    if layers not in range(1, MOST_LAYERS + 1):
        raise InputError(f"{path}: hidden must be a list of 1 to {MOST_LAYERS} sizes, not {layers}")
    sizes = [("vocabulary_size", vocabulary), ("embedding_size", embedding)]
    for name, size in (*sizes, *((f"hidden[{layer}]", size) for layer, size in enumerate(hidden))):
        most = MOST_TOKENS if name == "vocabulary_size" else _LARGEST_SIZE
        if type(size) is not int or not 1 <= size <= most:
            raise InputError(f"{path}: {name} must be an integer from 1 to {most}, not {size!r}")


def _check_groups(shape, vocabulary, path):
    """Refuse groups that such a file cannot hold, before their weights are read: head, sizes and rows."""
    names = ("head", "groups", "rows")
    if not isinstance(shape, dict) or set(shape) != set(names) or not isinstance(shape["groups"], list):
        raise InputError(f"{path}: readout must be null or hold {', '.join(names)}, not {shape!r:.80}")
    head, sizes, rows = (shape[name] for name in names)
    if len(sizes) > vocabulary or type(rows) is not int or not 1 <= rows <= MOST_ROWS:
        raise InputError(
            f"{path}: readout must have at most {vocabulary} groups of 1 to {MOST_ROWS} rows, "
            f"not {len(sizes)} of {rows!r:.80}"
        )
    return head, sizes, rows


def _gaps(places):
    """Zeros before each place, each as any number of 255 and then a smaller number."""
    gaps = np.diff(places, prepend=-1) - 1
    long, short = np.divmod(gaps, 255)
    ends = np.cumsum(long + 1) - 1
    encoded = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, np.uint8)
    encoded[ends] = short
    return encoded


def _place(packed_values, packed_gaps, count):
    """The inverse: int8 [count]."""
    values = np.frombuffer(_inflate(packed_values, count), np.int8)
    encoded = np.frombuffer(_inflate(packed_gaps, 2 * count), np.uint8).astype(np.int64)
    ends = np.flatnonzero(encoded < 255)
    if len(ends) != len(values) or (len(encoded) and encoded[-1] == 255):
        raise ValueError(f"{len(ends)} places for {len(values)} weights")
    places = np.cumsum(encoded)[ends] + np.arange(len(ends))
    if len(places) and places[-1] >= count:
        raise ValueError(f"a weight behind the last one, {count}")
    flat = np.zeros(count, np.int8)
    flat[places] = values
    return flat


def _pack(data):
    # Without the search for repetitions, which finds none that help here, it packs better and faster.
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(packer.compress(data) + packer.flush(), np.uint8)


def _inflate(packed, most):
    """Unpacked bytes, at most so many."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed.tobytes(), most + 1)
    if len(data) > most or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"packed data is truncated, or longer than {most} bytes")
    return data


def _unpack(packed, count):
    """Unpacked bytes, exactly so many."""
    data = _inflate(packed, count)
    if len(data) != count:
        raise ValueError(f"packed data has {len(data)} bytes, not {count}")
    return data
