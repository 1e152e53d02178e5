"""Compact files: a pruned checkpoint in one small file, for networks that are kept in a repository.

``python -m egret.model.compact FILE DIRECTORY`` unpacks one into a checkpoint directory, which everything else reads.

The weights of the recurrent layers and the embedding (and an untied read-out) become 8-bit multiples of one step a
kind; a weight that is not zero stays so. The rest is kept as it is. The file is a safetensors file of U8 tensors:

``embedding.weight`` (and ``readout.weight``)
    zlib data of the multiples as I8, row by row.
``layers.{l}.weight_x.gaps``, ``.values`` (and weight_y)
    zlib data of the zeros before each non-zero weight, row by row through the matrix, as U8 where 255 means "255 zeros
    and go on", and of the multiples of the non-zero weights as I8.
``rest``
    zlib data of the other tensors as little-endian F32, one after another in the order of
    `NetworkConfiguration.tensor_shapes`.
``vocabulary``
    zlib data of ``vocab.txt``.

Its metadata has one entry, ``egret``: a JSON object with ``format`` ("egret-compact-1"), ``config`` (the content of
``config.json``), ``embedding_step`` and ``weight_step``.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from egret.model.checkpoint import Checkpoint, NetworkConfiguration, save_checkpoint
from egret.model.errors import InputError
from egret.model.files import write_aside
from egret.model.tokens import Vocabulary

__all__ = ["load_compact", "save_compact"]

FORMAT = "egret-compact-1"
_LARGEST_VOCABULARY = 1 << 26  # bytes


def save_compact(checkpoint, path, *, embedding_step=2.0**-5, weight_step=2.0**-5):
    """Save a checkpoint as a compact file, written aside and renamed.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str or Path
    embedding_step, weight_step : float
        What the embedding and the recurrent layers' weights become multiples of, at most 127 times; larger ones
        saturate.

    Raises
    ------
    InputError
        If a step is not above zero, or the file cannot be written.
    """
    for name, step in (("embedding_step", embedding_step), ("weight_step", weight_step)):
        if not 0 < step < 1e6:
            raise InputError(f"{name} must be a number above 0, not {step!r}")
    tensors, rest = {"vocabulary": _pack(checkpoint.vocabulary.to_bytes())}, []
    for name in checkpoint.configuration.tensor_shapes():
        tensor = checkpoint.tensors[name]
        if _is_pruned(name):
            flat = tensor.ravel()
            places = np.flatnonzero(flat)
            multiples = np.rint(flat[places] / weight_step)
            multiples = np.where(multiples == 0, np.sign(flat[places]), multiples)
            tensors[f"{name}.gaps"] = _pack(_gaps(places).tobytes())
            tensors[f"{name}.values"] = _pack(np.clip(multiples, -127, 127).astype(np.int8).tobytes())
        elif name.endswith(".weight"):
            tensors[name] = _pack(np.clip(np.rint(tensor / embedding_step), -127, 127).astype(np.int8).tobytes())
        else:
            rest.append(tensor.astype("<f4").tobytes())
    tensors["rest"] = _pack(b"".join(rest))
    metadata = {
        "format": FORMAT,
        "config": checkpoint.configuration.to_json(),
        "embedding_step": float(embedding_step),
        "weight_step": float(weight_step),
    }
    write_aside(path, safetensors.numpy.save(tensors, {"egret": json.dumps(metadata)}))


def load_compact(path):
    """Load and check a compact file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged or of another kind.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("egret", "{}"))
            packed = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise InputError(f"{path}: cannot read the compact file: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a compact file, or truncated: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a compact file: {' '.join(str(error).split())}") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not a compact file of format {FORMAT!r}")
    configuration = NetworkConfiguration.from_json(str(metadata.get("config")), where=path)
    shapes = configuration.tensor_shapes()
    try:
        steps = {name: np.float32(metadata[name]) for name in ("embedding_step", "weight_step")}
        tensors = {}
        others = {n: s for n, s in shapes.items() if not _is_pruned(n) and not n.endswith(".weight")}
        rest = np.frombuffer(_unpack(packed["rest"], 4 * sum(int(np.prod(s)) for s in others.values())), "<f4")
        parts = np.split(rest, np.cumsum([int(np.prod(shape)) for shape in others.values()])[:-1])
        for (name, shape), part in zip(others.items(), parts, strict=True):
            tensors[name] = part.reshape(shape).astype(np.float32)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if _is_pruned(name):
                tensors[name] = _place(packed, name, count).reshape(shape) * steps["weight_step"]
            elif name.endswith(".weight"):
                multiples = np.frombuffer(_unpack(packed[name], count), np.int8)
                tensors[name] = multiples.reshape(shape) * steps["embedding_step"]
        vocabulary = _inflate(packed["vocabulary"], _LARGEST_VOCABULARY)
    except (KeyError, ValueError, TypeError, AttributeError, zlib.error) as error:
        raise InputError(f"{path}: damaged: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error
    checkpoint = Checkpoint(configuration, tensors, Vocabulary.from_bytes(vocabulary, configuration.tokens, where=path))
    checkpoint.check(where=path)
    return checkpoint


def _is_pruned(name):
    return name.endswith((".weight_x", ".weight_y"))


def _gaps(places):
    """Zeros before each place, each as any number of 255 and then a smaller number."""
    gaps = np.diff(places, prepend=-1) - 1
    long, short = np.divmod(gaps, 255)
    ends = np.cumsum(long + 1) - 1
    encoded = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, np.uint8)
    encoded[ends] = short
    return encoded


def _place(packed, name, count):
    """Multiples [count] in float32, zero where no value stands."""
    values = np.frombuffer(_inflate(packed[f"{name}.values"], count), np.int8)
    encoded = np.frombuffer(_inflate(packed[f"{name}.gaps"], 2 * count), np.uint8).astype(np.int64)
    ends = np.flatnonzero(encoded < 255)
    if len(ends) != len(values) or (len(encoded) and encoded[-1] == 255):
        raise ValueError(f"{name} has {len(ends)} places for {len(values)} values")
    places = np.cumsum(encoded)[ends] + np.arange(len(ends))
    if len(places) and places[-1] >= count:
        raise ValueError(f"{name} has more than {count} weights")
    flat = np.zeros(count, np.float32)
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
    if len(data) > most or not unpacker.eof:
        raise ValueError(f"packed data is truncated or longer than {most} bytes")
    return data


def _unpack(packed, count):
    """Unpacked bytes, exactly so many."""
    data = _inflate(packed, count)
    if len(data) != count:
        raise ValueError(f"packed data has {len(data)} bytes, not {count}")
    return data


def main(arguments):
    """Unpack FILE into DIRECTORY; returns the exit status."""
    if len(arguments) != 2:
        print("usage: python -m egret.model.compact FILE DIRECTORY", file=sys.stderr)
        return 2
    try:
        save_checkpoint(load_compact(arguments[0]), arguments[1], compress=True)
    except InputError as error:
        print(f"egret: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
