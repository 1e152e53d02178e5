"""Files that a user hands over: valid small ones, changed with their structure known, and what a loaded one must do."""

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from egret.host.network import Network
from egret.model.bpe import BytePairs
from egret.model.checkpoint import Checkpoint, NetworkConfiguration, load_checkpoint, parse_tensors, save_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.image import _CRC, _HEADER, _SECTION, Image
from egret.model.files import json_text, read
from egret.model.floating import FloatEngine
from egret.model.groups import Groups
from egret.model.importing import from_evnn, from_map
from egret.model.integer import IntegerEngine
from egret.model.integer_file import load_integer, save_integer
from egret.model.quantise import quantise
from egret.model.sequences import Sequences
from egret.model.tokens import Vocabulary
from egret.model.training.options import TrainingOptions
from egret.model.training.pickles import read_state_dict
from egret.model.training.report import data as report_data
from egret.model.training.results import read_result
from egret.model.training.state import Position, read_state, write_state
from egret.model.training.study import Study
from tests.fuzz.lines import make_device, make_line, run_session
from tests.fuzz.mutate import NUMBERS, change_bytes, change_tree, to_json, to_toml
from tests.support.networks import few_values, random_groups, random_network

__all__ = ["LOADERS", "Loader"]

Files = Mapping[str, bytes]
"""Content by name; of a case, in a directory of its own."""


@dataclass(frozen=True)
class Loader:
    """A kind of files.

    Parameters
    ----------
    make : callable
        ``make(random)`` gives the files of a case.
    load : callable
        ``load(directory)`` loads them, and uses what it loaded once. Raises `EgretError` where they are refused.
    """

    make: Callable[[Random], Files]
    load: Callable[[Path], object]


def _words(count):
    return ["<eos>", "<unk>", *(f"w{number}" for number in range(2, count))]


def _vocabulary(kind, size):
    if kind == "id":
        return Vocabulary.of_ids(size)
    return Vocabulary(_words(size) if kind != "char" else [chr(97 + number) for number in range(size)], kind)


def _changed(random, files, trees, change=None):
    """The files, one changed: as a tree where ``trees`` has what writes it, or by ``change``, or bytes."""
    name = random.choice(sorted(files))
    data = files[name]
    way = random.random()
    if name in trees and way < 0.8:
        data = trees[name](change_tree(random, json.loads(data)))
    elif change is not None and name not in trees and way < 0.8:
        data = change(random, data)
    else:
        data = change_bytes(random, data)
    if random.random() < 0.01:
        return {other: content for other, content in files.items() if other != name}
    return {**{other: trees[other](json.loads(files[other])) if other in trees else files[other] for other in files},
            name: data}  # fmt: skip


# safetensors


def _safetensors(random, data):
    """A file of tensors whose header, or whose numbers, are others."""
    (size,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    match random.randrange(4):
        case 0:
            body = change_bytes(random, body)
        case 1:
            values = np.frombuffer(body[: len(body) // 4 * 4], "<f4").copy()
            odd = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -1.0, -0.0, 1e6]
            values[random.randrange(len(values))] = random.choice(odd)
            body = values.tobytes()
        case 2 if len(header) > 1:
            _exchange(random, header)
        case _:
            header = change_tree(random, header)
    text = to_json(header)
    size = len(text) if random.random() < 0.95 else random.choice(NUMBERS) % (1 << 64)
    return struct.pack("<Q", size) + text + body


def _exchange(random, header):
    """Give a tensor another's entry, another shape of as many numbers, or none."""
    one, other = random.sample(sorted(name for name in header if name != "__metadata__"), 2)
    shape = header[one]["shape"]
    match random.randrange(5):
        case 0:
            header[one] = header[other]
        case 1:
            header[one], header[other] = header[other], header[one]
        case 2:
            header[one]["shape"] = random.choice([shape[::-1], [*shape, 1], [1] * 70 + shape, [1, *shape]])
        case 3:
            empty = random.choice([[0], [0, (1 << 64) - 1], [0, 1 << 63], [1 << 62, 0], [0] * 70])
            header["empty"] = {"dtype": "F32", "shape": empty, "data_offsets": [0, 0]}
        case _:
            header[one]["dtype"] = random.choice(["F16", "BF16", "F64", "I8", "BOOL", "F8_E4M3", "I64", "x"])


# Checkpoints


@functools.cache
def _checkpoints():
    shapes = [
        NetworkConfiguration("egru", "char", 5, 3, (4, 3)),
        NetworkConfiguration("egru", "word", 7, 3, (4,), "after", tied=False),
        NetworkConfiguration("lstm", "id", 6, 3, (3,)),
        NetworkConfiguration("egru", "char", 9, 3, (3,), readout=Groups(3, (4, 2), 2)),
        NetworkConfiguration("egru", "number", 3, 4, (5,), tied=False),
    ]
    found = []
    for shape in shapes:
        numbers = np.random.default_rng(1)
        tensors = {
            name: numbers.standard_normal(size).astype(np.float32) for name, size in shape.tensor_shapes().items()
        }
        for name in tensors:
            if name.endswith(".threshold"):
                tensors[name] = np.abs(tensors[name])
            elif name == "readout.order":
                tensors[name] = numbers.permutation(shape.vocab_size).astype(np.float32)
        vocabulary = _vocabulary(shape.tokens, shape.vocab_size)
        Checkpoint(shape, tensors, vocabulary).check()
        model = safetensors.numpy.save(tensors)
        found.append(
            {"config.json": shape.to_json().encode(), "model.safetensors": model, "vocab.txt": vocabulary.to_bytes()}
        )
    return found


def _checkpoint(random):
    files = _changed(random, random.choice(_checkpoints()), {"config.json": to_json}, _model_or_vocabulary)
    if random.random() < 0.2 and "model.safetensors" in files:
        files = dict(files)
        packed = gzip.compress(files.pop("model.safetensors") + bytes(random.choice([0, 0, 1 << 20])), mtime=0)
        files["model.safetensors.gz"] = change_bytes(random, packed) if random.random() < 0.3 else packed
    return files


def _model_or_vocabulary(random, data):
    return _safetensors(random, data) if len(data) > 300 else _text(random, data)


def _use_checkpoint(checkpoint, directory):
    with np.errstate(all="ignore"):  # weights may be as large as a float
        engine, shape = FloatEngine(checkpoint), checkpoint.configuration
        first = np.ones((1, shape.embedding_size), np.float32) if shape.takes_numbers else np.array([0])
        engine.log_probabilities(engine.step(first)[-1].y, np.array([shape.vocab_size - 1]))
    checkpoint.vocabulary.decode([0, shape.vocab_size - 1])
    save_checkpoint(checkpoint, directory / "saved")
    load_checkpoint(directory / "saved")
    if shape.cell == "egru":
        _use_integer(quantise(checkpoint), directory)


def _load_checkpoint(directory):
    _use_checkpoint(Network(directory).checkpoint, directory)


# Integer networks


@functools.cache
def _networks():
    plain = random_network(1)
    words = dataclasses.replace(random_network(2, hidden=(4, 3), embedding=3), vocabulary=_vocabulary("word", 7))
    after = dataclasses.replace(random_network(3, reset="after", tied=False), vocabulary=_vocabulary("id", 7))
    grouped = random_groups(
        few_values(random_network(4, vocabulary=11, density=0.3)),
        head=4,
        sizes=(4, 3),
        codebook=np.array([-90, -50, 3, 40, 99], np.int8),
    )
    numbers = dataclasses.replace(
        random_network(5, vocabulary=3, embedding=4, hidden=(5,), tied=False),
        vocabulary=_vocabulary("number", 3),
        embedding=np.zeros((0, 4), np.int8),
    )
    return plain, words, after, grouped, numbers


@functools.cache
def _integer_files():
    with TemporaryDirectory() as directory:
        path = Path(directory) / "network.egret"
        return [(save_integer(network, path), path.read_bytes())[1] for network in _networks()]


def _integer(random):
    data = random.choice(_integer_files())
    (size,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    tensors = {name: body[slice(*entry["data_offsets"])] for name, entry in header.items() if name != "__metadata__"}
    metadata = header["__metadata__"]["egret"]
    match random.randrange(8):
        case 0 | 1 | 2:
            tree = json.loads(metadata)
            metadata = to_json(change_tree(random, tree)).decode("utf-8", "surrogateescape")
            if random.random() < 0.1:
                metadata = json.dumps({**tree, "hidden": [random.choice([4096, 65536])] * random.choice([1, 2, 400])})
        case 3 | 4 | 5:
            name = random.choice(sorted(tensors))
            content = zlib.decompress(tensors[name])
            content = (
                random.choice([content, bytes(1 << 20)]) if random.random() < 0.1 else change_bytes(random, content)
            )
            tensors[name] = zlib.compress(content)
        case 6:
            name = random.choice(sorted(tensors))
            tensors[name] = change_bytes(random, tensors[name])
        case _:
            return {"network.egret": _safetensors(random, data)}
    names = sorted(tensors)
    if random.random() < 0.03:
        names.remove(random.choice(names))
    header, at = {"__metadata__": {"egret": metadata}}, 0
    for name in names:
        header[name] = {
            "dtype": "U8",
            "shape": [len(tensors[name])],
            "data_offsets": [at, at := at + len(tensors[name])],
        }
    text = json.dumps(header).encode()
    return {"network.egret": struct.pack("<Q", len(text)) + text + b"".join(tensors[name] for name in names)}


def _use_integer(network, directory):
    engine, words = IntegerEngine(network), network.vocabulary.size
    first = np.ones((1, network.embedding.shape[1]), np.int32) if network.takes_events else np.array([0])
    y = engine.step(first)[-1].y
    engine.log_probabilities(y, np.array([words - 1]))
    engine.read_out(y)
    path = directory / "saved.egret"
    save_integer(network, path)
    load_integer(path)


def _load_integer(directory):
    _use_integer(Network(directory / "network.egret").integer, directory)


# Images


@functools.cache
def _images():
    plain, words, after, grouped, numbers = _networks()
    few = few_values(plain)
    made = [
        (plain, {"lanes": 2}),
        (words, {"lanes": 1, "store": "spram"}),
        (after, {"lanes": 2, "folded_tokens": 3}),
        (few, {"lanes": 2, "store": "sdram", "folded_tokens": 2, "resident_bytes": 64}),
        (grouped, {"lanes": 2, "readout": True}),
        (grouped, {"lanes": 4, "readout": True, "store": "sdram"}),
        (numbers, {"lanes": 2}),
    ]
    return [compile_image(network, configuration_for(network, **core)).to_bytes() for network, core in made]


def _image(random):
    data = random.choice(_images())
    magic, version, count, size, digest = _HEADER.unpack_from(data)
    header = json.loads(data[_HEADER.size : _HEADER.size + size])
    table = [list(_SECTION.unpack_from(data, _HEADER.size + size + index * _SECTION.size)) for index in range(count)]
    contents = [data[offset : offset + width * words] for _, width, words, offset, _ in table]
    way = random.randrange(10)
    if way < 3:
        header = change_tree(random, header)
    elif way < 8:
        place = random.randrange(count)
        before = contents[place]
        contents[place] = change_bytes(random, before)
        if random.random() < 0.7:  # as long as it was
            contents[place] = contents[place][: len(before)].ljust(len(before), b"\0")
    elif way == 8:
        place, field = random.randrange(count), random.randrange(4)
        limit = 1 << (16 if field < 2 else 32)
        table[place][field] = random.choice([random.choice(NUMBERS) % limit, (table[place][field] + 1) % limit])
    text = to_json(header)
    if random.random() < 0.9 and isinstance(header, dict) and "configuration" in header:
        own = (
            json.dumps(json.loads(to_json(header["configuration"])), sort_keys=True, separators=(",", ":"))
            if way >= 3
            else _canonical(header["configuration"])
        )
        digest = hashlib.sha256(own.encode("utf-8", "replace")).digest()[:8]
    at, packed = _HEADER.size + len(text) + count * _SECTION.size, b""
    for entry, content in zip(table, contents, strict=True):
        if way != 8:
            entry[2:4] = len(content) // entry[1], at
        packed += _SECTION.pack(*entry[:4], zlib.crc32(content))
        at += len(content)
    content = _HEADER.pack(magic, version, count, len(text), digest) + text + packed + b"".join(contents)
    content += _CRC.pack(zlib.crc32(content))
    return {"network.image": change_bytes(random, content) if way == 9 else content}


def _canonical(tree):
    try:
        return json.dumps(json.loads(to_json(tree)), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""


def _load_image(directory):
    network = Network(directory / "network.image")
    image = network.image
    assert Image.from_bytes(image.to_bytes()) == image
    _use_integer(network.integer, directory)


# Configurations and studies

_TRAINING = {
    "text": {"train": "train.txt", "valid": "valid.txt"},
    "network": {"tokens": "char", "cell": "egru", "embedding_size": 8, "hidden_sizes": [16, 8], "tied": True},
    "readout": {"head": 4, "groups": 2, "rows": 2},
    "training": {"epochs": 3, "batch": 2, "bptt": 7, "learning_rate": 1e-3, "weight_decay": 0.1, "seed": 3},
    "dropout": {"words": 0.1, "recurrent": 0.2},
    "events": {"threshold_mean": 0.02, "train_thresholds": True, "activity_weight": 0.5},
    "distillation": {"teachers": ["a", "b"], "distillation_weight": 0.5, "teacher_words": 0},
    "rounding": {"weight_bits": 4, "embedding_bits": 6},
    "machine": {"device": "cpu", "save_seconds": 10.0, "shard_mib": 4},
}
_STUDY = {
    "title": "A study",
    "corpus": "ptb",
    "streams": 4,
    "parent": "previous",
    "texts": {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"},
    "runs": [
        {"name": "egru", "config": "config.toml", "seeds": [1, 2], "weight_decays": [0.1, 0.3], "prune": True},
        {"name": "other", "config": "config.toml", "set": {"epochs": 5, "teachers": ["x"]}},
    ],
    "prunings": [
        {"sparsity": 0.5, "steps": 2, "epochs": 10, "set": {"dropout_words": 0.0}},
        {"sparsity": 0.8, "runs": ["egru"], "name": "more"},
    ],
}


def _configuration(random):
    return {"config.toml": _toml(random, _TRAINING)}


def _toml(random, tree):
    if random.random() < 0.85:
        return to_toml(change_tree(random, tree))
    return change_bytes(random, to_toml(tree))


def _load_configuration(directory):
    _use_options(TrainingOptions.from_toml(directory / "config.toml"))


def _use_options(options):
    flat = options.flat()
    assert options.with_values(**flat) == options
    json.loads(json_text(flat))
    for group in dataclasses.astuple(options):
        assert group is not None
    torch.manual_seed(options.training.seed)
    np.random.default_rng(options.training.seed)
    for name in ("weight_bits", "embedding_bits", "rows", "head", "groups", "epochs", "batch", "teacher_words"):
        assert type(flat[name]) is int, f"{name} is {flat[name]!r}"


def _study(random):
    if random.random() < 0.05:
        many = {**_STUDY["runs"][0], "seeds": [*range(2000)], "weight_decays": [number / 1000 for number in range(900)]}
        return {"study.toml": to_toml({**_STUDY, "runs": [many]}), "config.toml": to_toml(_TRAINING)}
    return {"study.toml": _toml(random, _STUDY), "config.toml": to_toml(_TRAINING)}


def _load_study(directory):
    study = Study.from_toml(directory / "study.toml", device="cpu")
    for point in study.points:
        json_text(point.describe())
    _use_options(study.points[-1].options)


# Texts and vocabularies


def _text(random, data):
    if random.random() < 0.3:
        lines = data.split(b"\n")
        place = random.randrange(len(lines))
        odd = [b"", b" ", b"\\x", b"\xff", b"\xed\xa0\x80", b"a b", b"\r", b"\0", b"9" * 30, b"1048577",
               b"-1", b"<eos>", lines[0], "\u2028".encode(), "\xa0".encode(), b"x" * 5000]  # fmt: skip
        lines[place] = random.choice(odd)
        return b"\n".join(lines)
    return change_bytes(random, data)


def _array(random, array):
    """The file of an array whose header, or whose numbers, are others."""
    data = io.BytesIO()
    np.save(data, array)
    data = data.getvalue()
    if random.random() < 0.4:
        return change_bytes(random, data)
    kind = random.choice(
        [array.dtype.str] * 4 + ["<i8", "<u8", ">i4", "<f4", "|O", "|V0", "<U9", "|S0", "|b1", "x", "<m8"]
    )
    shape = list(array.shape)
    if random.random() < 0.7:
        odd = random.choice([*NUMBERS, 0, 10**10, 10**11])
        shape = random.choice(
            [[odd], [*shape, odd], [odd, *shape[1:]], shape[::-1], [0, odd], [1] * 70, [], [odd, odd]]
        )
    order = random.choice(["False", "False", "True", "2"])
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {tuple(shape)!r}, }}"
    if random.random() < 0.1:
        text = random.choice(
            ["(" * 300, "[" * 5000, "{" + "1:" * 50, "'" * 3, text + "L", text.replace(",", "L,", 3), "-" * 9000]
        )
    version = random.choice([(1, "<H"), (1, "<H"), (2, "<I"), (3, "<I"), (9, "<H")])
    size = len(text) if random.random() < 0.95 else random.choice(NUMBERS) % (1 << 16)
    head = b"\x93NUMPY" + bytes([version[0], 0]) + struct.pack(version[1], size) + text.encode()
    body = array.tobytes()
    return head + (body if random.random() < 0.8 else change_bytes(random, body))


def _read_text(random):
    kind = random.choice(["char", "word", "id", "number"])
    size = random.choice([3, 8])
    files = {"kind": kind.encode(), "vocab.txt": _vocabulary(kind, size).to_bytes()}
    text = {"char": "abcab\n", "id": "0 1 2\n1 2\n", "word": "w2 w2 zebra\nw2\n", "number": "w2\n"}[kind].encode()
    which = random.randrange(3)
    if which == 0:
        files["vocab.txt"] = _text(random, files["vocab.txt"])
    if which == 1:
        text = _text(random, text)
    if which == 2:
        dtype = random.choice([np.int32, np.int64, np.uint16])
        text = _array(random, np.array([0, 1, 2, 1] * random.choice([1, 200]), dtype))
    return {**files, "text": text}


def _load_text(directory):
    kind = (directory / "kind").read_text()
    vocabulary = Vocabulary.from_file(directory / "vocab.txt", kind)
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), kind) == vocabulary
    ids = vocabulary.read(directory / "text")
    assert ids.dtype == np.int32 and (not len(ids) or 0 <= ids.min() <= ids.max() < vocabulary.size)
    vocabulary.decode(ids[:100])
    if kind in ("char", "word", "id"):
        Vocabulary.of_text(directory / "text", kind)


@functools.cache
def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=265,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the egret and the heron"] * 3, trainer)
    return tokenizer.to_str().encode()


def _bytes_of_pairs(random):
    return _changed(random, {"tokenizer.json": _tokenizer()}, {"tokenizer.json": to_json})


def _load_bytes_of_pairs(directory):
    pairs = Vocabulary.from_file(directory / "tokenizer.json", "bpe")
    assert isinstance(pairs, BytePairs)
    assert pairs.to_bytes()
    pairs.decode(range(pairs.size))
    ids = pairs.encode("the egret é\n")
    assert all(0 <= index < pairs.size for index in ids.tolist()), "an id that the vocabulary lacks"
    pairs.decode(ids)
    pairs.reordered(np.arange(pairs.size)[::-1]).find("the")


# Sequences


def _sequences(random):
    number = np.random.default_rng(random.randrange(1 << 30))
    x = number.integers(0, 3, (3, 4, 2)).astype(random.choice([np.uint8, np.int8]))
    y = number.integers(0, 3, random.choice([(3,), (3, 4)])).astype(random.choice([np.int64, np.int32, np.uint8]))
    arrays = {"x": x, "y": y}
    if random.random() < 0.4:
        places = np.nonzero(x)
        names = ("sequence", "step", "index")
        arrays = {"shape": np.array(x.shape), **dict(zip(names, places, strict=True)), "value": x[places], "y": y}
    name = random.choice(sorted(arrays))
    if random.random() < 0.4:
        changed = arrays[name].copy().astype(np.int64).reshape(-1)
        if changed.size:
            changed[random.randrange(changed.size)] = random.choice(
                [one for one in NUMBERS if -(1 << 63) <= one < 1 << 63]
            )
        if name == "shape" and random.random() < 0.5:
            changed[:] = random.choice([(1, 1, 1 << 31), (1 << 10, 1 << 20, 1), (1 << 16, 1 << 14, 1), (0, 1, 1)])
        arrays[name] = changed if random.random() < 0.5 else changed.astype(arrays[name].dtype)
    odd = _array(random, arrays[name])
    data = io.BytesIO()
    other = random.random() < 0.02
    method = zipfile.ZIP_BZIP2 if other else random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(data, "w", method) as archive:
        for member, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            content = odd if member == name and random.random() < 0.6 else content.getvalue()
            if random.random() < 0.001:
                content += bytes(1 << 26)
            archive.writestr(f"{member}.npy", content)
        if random.random() < 0.05:
            archive.writestr(random.choice(["x.npy/", "z.npy", "../x.npy", "\u202e", "shape"]), b"\x93NUMPY")
    content = data.getvalue()
    return {"data.npz": change_bytes(random, content) if random.random() < 0.4 else content}


def _load_sequences(directory):
    sequences = Sequences.load(directory / "data.npz")
    assert sequences.classes.dtype == np.int32 and sequences.values.dtype == np.uint8
    sequences.check(sequences.inputs, 1 << 20)
    assert len(sequences.first(1)) == 1


# Networks of other programs

_MAP = {
    "tokens": "word",
    "vocabulary": "vocab.txt",
    "tensors": {
        "embedding": "e.weight", "weight_x": "l.{}.x", "weight_y": "l.{}.y", "threshold": "l.{}.t", "bias_x": "l.{}.b",
        "readout_weight": "o.weight", "readout_bias": "o.bias",
    },
    "gates": ["not u", "r", "z"],
    "transposed": True,
    "thresholds": "sigmoid",
    "reset": "before",
    "layers": ["0", "1"],
    "ignore": ["*.num"],
}  # fmt: skip


@functools.cache
def _module():
    numbers = np.random.default_rng(1)
    shapes = {"e.weight": (7, 3), "o.weight": (7, 3), "o.bias": (7,), "l.num": (1,)}
    for layer, (inputs, size) in enumerate(((3, 4), (4, 3))):
        own = {"x": (inputs, 3 * size), "y": (size, 3 * size), "t": (size,), "b": (3 * size,)}
        shapes |= {f"l.{layer}.{name}": shape for name, shape in own.items()}
    return {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _module_files(random):
    files = {
        "map.json": json.dumps(_MAP).encode(),
        "model.safetensors": safetensors.numpy.save(_module()),
        "vocab.txt": _vocabulary("word", 7).to_bytes(),
        "text.txt": b"w2 w3 zebra\n",
    }
    changed = dict(_changed(random, files, {"map.json": to_json}, _model_or_vocabulary))
    if random.random() < 0.3 and "map.json" in changed and changed["map.json"] != files["map.json"]:
        changed["map.toml"] = _toml(random, _MAP)
    return changed


def _load_module(directory):
    tensors = parse_tensors(read(directory / "model.safetensors"), directory / "model.safetensors")
    path = next((path for path in (directory / "map.toml", directory / "map.json") if path.exists()), directory / "map")
    texts = [directory / "text.txt"] if (directory / "text.txt").exists() else []
    _use_checkpoint(from_map(tensors, path, texts, "model").checkpoint, directory)


@functools.cache
def _evnn():
    numbers = np.random.default_rng(2)
    shapes = {"embeddings.weight": (5, 3), "decoder.decoder.weight": (5, 3), "decoder.decoder.bias": (5,)}
    own = {"kernel": (3, 9), "recurrent_kernel": (3, 9), "bias": (9,), "recurrent_bias": (9,), "thr": (3,)}
    shapes |= {f"rnns.0.{name}": shape for name, shape in {**own, "_max_norm": (1,)}.items()}
    return {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _pickle(random):
    tensors: dict[Any, Any] = {name: torch.from_numpy(array.copy()) for name, array in _evnn().items()}
    name = random.choice(sorted(tensors))
    one = tensors[name]
    number = random.choice([1, 4, 1 << 20, 1 << 40])
    odd = [
        lambda: one.half(), lambda: one.bfloat16(), lambda: one.double(), lambda: one.int(), lambda: one.bool(),
        lambda: one.to(torch.complex64), lambda: one.to_sparse(), lambda: torch.nn.Parameter(one), lambda: one.t(),
        lambda: one.reshape(-1)[:1].expand(number, 1 << 20), lambda: one.half().reshape(-1)[:1].expand(number, 9),
        lambda: one.reshape(-1), lambda: one[None], lambda: one * float("nan"), lambda: one * 1e38, lambda: 5,
        lambda: one[:0], lambda: one.to("meta"), lambda: {"a": one},
    ]  # fmt: skip
    if random.random() < 0.6:
        tensors[name] = random.choice(odd)()
    if random.random() < 0.1:
        tensors[random.choice(["x", 5, (1, 2), "a\nb", "\ud800", "rnns.1.kernel"])] = tensors.pop(name)
    data = io.BytesIO()
    torch.save(
        tensors if random.random() < 0.97 else [tensors], data, _use_new_zipfile_serialization=random.random() < 0.8
    )
    content = data.getvalue()
    if content.startswith(b"PK") and random.random() < 0.4:
        content = _zip_again(random, content)
    elif random.random() < 0.2:
        content = change_bytes(random, content)
    text = b"a b\nc d\n" if random.random() < 0.9 else _text(random, b"a b\nc d\n")
    return {"model.pt": content, "text.txt": text}


def _zip_again(random, content):
    """An archive in which a member is another, with a right checksum."""
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(data, "w") as changed:
        odd = random.choice(archive.namelist())
        for name in archive.namelist():
            member = archive.read(name)
            changed.writestr(name, change_bytes(random, member) if name == odd else member)
    return data.getvalue()


def _load_pickle(directory):
    tensors = read_state_dict(directory / "model.pt")
    _use_checkpoint(from_evnn(tensors, [directory / "text.txt"], "model").checkpoint, directory)


# What a training and a study leave


@functools.cache
def _state_files():
    with TemporaryDirectory() as directory:
        tensors = {"sums": torch.arange(3.0), "random": torch.arange(4, dtype=torch.uint8)}
        position = Position(history=[{"epoch": 1, "loss": 2.0}])
        write_state(Path(directory), position, {"epochs": 3}, {1: 0.5}, tensors, averaged=0, shard_mib=None)
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def _state(random):
    files = _state_files()
    return _changed(random, files, {name: to_json for name in files if name.endswith(".json")}, _safetensors)


def _load_state(directory):
    read_state(directory, {"epochs": 3}, {1: 0.5})


@functools.cache
def _report_files():
    directory = Path(__file__).parents[2] / "docs/study-ptb-lstm"
    results = sorted(directory.glob("*/result.json"))[:2]
    files = {}
    for path in (directory / "study.json", *results):
        content = json.loads(path.read_bytes())
        for histograms in content.get("histograms", {}).values():
            for histogram in histograms:
                del histogram["counts"][3:]
        files[str(path.relative_to(directory))] = json_text(content).encode()
    return files


def _report(random):
    files = _report_files()
    return _changed(random, files, dict.fromkeys(files, to_json))


def _load_report(directory):
    for path in sorted(directory.glob("*/result.json")):
        read_result(path)
    _, corpus, points, missing = report_data.load(directory)
    report_data.as_csv(report_data.points_table(points, missing, corpus))
    report_data.goals(points, corpus)
    report_data.over_sparsity(points)
    for name in report_data.HISTOGRAMS:
        report_data.histogram_table(points, name)


LOADERS = {
    "checkpoint": Loader(_checkpoint, _load_checkpoint),
    "integer": Loader(_integer, _load_integer),
    "image": Loader(_image, _load_image),
    "configuration": Loader(_configuration, _load_configuration),
    "study": Loader(_study, _load_study),
    "text": Loader(_read_text, _load_text),
    "tokenizer": Loader(_bytes_of_pairs, _load_bytes_of_pairs),
    "sequences": Loader(_sequences, _load_sequences),
    "map": Loader(_module_files, _load_module),
    "pickle": Loader(_pickle, _load_pickle),
    "state": Loader(_state, _load_state),
    "report": Loader(_report, _load_report),
    "line": Loader(make_line, run_session),
    "device": Loader(make_device, run_session),
}
"""The loaders by name."""
