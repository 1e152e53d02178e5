"""The file of an integer network: round trips and damage."""

import dataclasses
import json
import re
import zlib

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model import integer_file
from egret.model.errors import InputError
from egret.model.integer import IntegerLayer, IntegerNetwork
from egret.model.integer_file import _gaps, load_integer, save_integer
from egret.model.readout import IntegerGroups
from egret.model.tokens import Vocabulary
from tests.support.networks import random_groups, random_network


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if field.name == "layers":
            for layers in zip(first, second, strict=True):
                for part in dataclasses.fields(layers[0]):
                    assert np.array_equal(*(getattr(layer, part.name) for layer in layers)), part.name
        elif isinstance(first, np.ndarray):
            assert first.dtype == second.dtype and np.array_equal(first, second), field.name
        elif isinstance(first, IntegerGroups):
            assert_same(first, second)
        else:
            assert first == second, field.name


NETWORK = random_network(1, vocabulary=2, embedding=1, hidden=(2, 1), tied=True)


def saved(tmp_path, network=NETWORK):
    save_integer(network, tmp_path / "a.integer")
    return (tmp_path / "a.integer").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden": (5, 5)},
        {"hidden": (3,), "tied": False},
        {"density": 0},
        {"accumulator_bits": 22, "gate_index_bits": 12, "density": 0.1},
        {"hidden": (90, 40), "embedding": 70, "density": 0.002},
        {"hidden": (7, 3), "reset": "after"},
    ],
)
def test_file_round_trip(options, tmp_path):
    network = random_network(2, **options)
    data = saved(tmp_path, network)
    loaded = load_integer(tmp_path / "a.integer")
    assert_same(loaded, network)
    assert [path.name for path in tmp_path.iterdir()] == ["a.integer"]
    assert saved(tmp_path, loaded) == data


CODEBOOK = np.array([-90, -3, 1, 40], np.int8)
GROUPED = random_groups(random_network(3, vocabulary=8), head=2, sizes=(3, 1, 2), codebook=CODEBOOK)


@pytest.mark.parametrize("groups", [GROUPED.groups, None])
@pytest.mark.parametrize("codebook", [CODEBOOK, None])
def test_read_outs_round_trip(groups, codebook, tmp_path):
    """The format is a new one only where the read-out needs it."""
    network = dataclasses.replace(GROUPED, groups=groups, readout_codebook=codebook)
    data = saved(tmp_path, network)
    assert_same(loaded := load_integer(tmp_path / "a.integer"), network)
    assert saved(tmp_path, loaded) == data
    assert (b"egret-integer-2" in data) == (groups is None and codebook is None) != (b"egret-integer-3" in data)


@pytest.mark.parametrize("network", [NETWORK, GROUPED])
def test_an_inner_bias_needs_a_format_of_its_own(network, tmp_path):
    layers = tuple(
        dataclasses.replace(layer, bias_y=np.arange(len(layer.threshold), dtype=np.int32) - 1)
        for layer in network.layers
    )
    after = dataclasses.replace(network, layers=layers)
    assert b"egret-integer-4" in saved(tmp_path, after)
    assert_same(load_integer(tmp_path / "a.integer"), after)
    for tensors, metadata, message in (
        ({"layers.0.bias_y": None}, {}, "lacks 'layers.0.bias_y'"),
        ({}, {"format": "egret-integer-3"}, "unexpected tensor 'layers.0.bias_y'"),
    ):
        with pytest.raises(InputError, match=f"{message}$"):
            load_integer(rewritten(tmp_path, tensors, metadata, after))


@pytest.mark.parametrize(
    "tensors, metadata, message",
    [
        ({"readout.order": None}, {}, "lacks 'readout.order'"),
        ({"readout.codebook": None}, {}, "lacks 'readout.codebook'"),
        ({}, {"readout_codebook": None}, "lacks 'readout_codebook'"),
        ({}, {"readout_codebook": 0}, "unexpected tensor 'readout.codebook'"),
        ({}, {"readout_codebook": 16}, "readout_codebook must be 0 to 15, not 16"),
        ({}, {"readout_codebook": 3}, "damaged: ValueError: packed data is truncated, or longer than 3 bytes"),
        ({}, {"readout_codebook": []}, "readout_codebook must be 0 to 15, not []"),
        (
            {"readout.codebook": np.array([1, 0, 2, 3], np.int8)},
            {},
            "integer network: readout.codebook must hold 1 to 15 rising numbers that are not 0, not [1, 0, 2, 3]",
        ),
        ({}, {"readout": 3}, "readout must be null or hold head, groups, rows, not 3"),
        ({}, {"readout": {"head": 8, "groups": []}}, "readout must be null or hold head, groups, rows, not {'head'"),
        (
            {},
            {"readout": {"head": 2, "groups": [3, 1, 1], "rows": 2}},
            "read-out: a head of 2 words and groups of 5 do not cover the vocabulary of 8",
        ),
        (
            {"readout.order": np.array([0, 1, 2, 3, 4, 5, 6, 6], np.int32)},
            {},
            "read-out: groups overlap: the order must hold each word once",
        ),
        ({}, {"readout": {"head": 2, "groups": [3, 0, 3], "rows": 2}}, "read-out: groups must be sizes of at least 1"),
        ({}, {"readout": {"head": "2", "groups": [3, 1, 2], "rows": 2}}, "read-out: a head of 2 words"),
        (
            {},
            {"readout": {"head": 0, "groups": [1] * 9, "rows": 2}},
            "readout must have at most 8 groups of 1 to 16 rows, not 9 of 2",
        ),
        ({}, {"readout": {"head": 2, "groups": [6], "rows": 17}}, "readout must have at most 8 groups of 1 to 16 rows"),
        (
            {"readout.group_weight": np.zeros((9, 6), np.int8), "readout.group_bias": np.zeros(9, np.int32)},
            {"readout": {"head": 2, "groups": [3, 1, 2], "rows": 3}},
            "read-out: rows must be 1, 2, 4, 8 or 16, not 3",
        ),
        ({}, {"readout": None}, "unexpected tensor 'readout.group_bias'"),
        ({}, {"format": "egret-integer-2"}, "unexpected tensor 'readout.codebook'"),
    ],
)
def test_damaged_read_outs_are_refused(tensors, metadata, message, tmp_path):
    path = rewritten(tmp_path, tensors, metadata, GROUPED)
    with pytest.raises(InputError) as error:
        load_integer(path)
    assert str(error.value).startswith(f"{path}: {message}") and "\n" not in str(error.value)


@given(st.lists(st.integers(0, 2000), unique=True).map(sorted))
def test_gaps(places):
    encoded = _gaps(np.array(places, np.int64)).astype(int)
    decoded, place = [], -1
    for number in encoded:
        place += number
        if number < 255:
            place += 1
            decoded.append(place)
    assert decoded == places


def test_every_truncation_is_refused(tmp_path):
    data = saved(tmp_path)
    path = tmp_path / "b.integer"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as error:
            load_integer(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("value, changed", [(0x01, {"readout_fraction": 15, "gate_index_bits": 11}), (0x80, {})])
def test_every_corrupted_byte_is_refused(value, changed, tmp_path):
    """Save where a number of the header, which has no checksum, becomes another one in range, or where nothing changes:
    packed data ends within a byte."""
    data, accepted = saved(tmp_path), {}
    header = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "b.integer"
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= value
        path.write_bytes(broken)
        try:
            loaded = load_integer(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            continue
        if place < header:
            accepted[place] = loaded
        else:
            assert_same(loaded, NETWORK)
    assert len(accepted) == len(changed)
    for place, (name, number) in zip(sorted(accepted), changed.items(), strict=True):
        assert name.encode() in data[place - len(name) - 7 : place]
        assert_same(accepted[place], dataclasses.replace(NETWORK, **{name: number}))


@settings(deadline=None, derandomize=True, max_examples=100, print_blob=True)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.integer"
    path.write_bytes(data)
    with pytest.raises(InputError):
        load_integer(path)


def rewritten(tmp_path, tensors=None, metadata=None, network=NETWORK):
    """The file with tensors (arrays, packed here, or bytes as they are) and metadata replaced; None removes one."""
    data = saved(tmp_path, network)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    content = json.loads(header["__metadata__"]["egret"]) | (metadata or {})
    packed = safetensors.numpy.load(data)
    removed = [name for name, value in (metadata or {}).items() if value is None and name != "readout"]
    for name, value in (tensors or {}).items():
        if isinstance(value, np.ndarray):
            value = zlib.compress(value.tobytes())
        packed[name] = None if value is None else np.frombuffer(value, np.uint8)
    path = tmp_path / "b.integer"
    path.write_bytes(
        safetensors.numpy.save(
            {name: value for name, value in packed.items() if value is not None},
            {"egret": json.dumps({name: content[name] for name in content if name not in removed})},
        )
    )
    return path


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"embedding": None}, "lacks 'embedding'"),
        ({"layers.1.bias": None}, "lacks 'layers.1.bias'"),
        ({"layers.0.weight_x.gaps": None}, "lacks 'layers.0.weight_x.gaps'"),
        ({"other": np.zeros(1)}, "unexpected tensor 'other'"),
        ({"layers.0.threshold": np.array([3], np.int32)}, "damaged: ValueError: packed data has 4 bytes, not 8"),
        ({"layers.0.threshold": b"xx"}, "damaged: error: Error -3 while decompressing data: incorrect header check"),
        (
            {"layers.0.shift": np.array([3, 3, 16], np.int32)},
            "integer network: layers.0.shift must be three numbers from 1 to 15",
        ),
        (
            {"layers.0.threshold": np.array([1 << 15, 0], np.int32)},
            "integer network: layers.0.threshold must lie within 0 to 32767, not 0 to 32768",
        ),
        (
            {"embedding": np.zeros(1 << 20, np.int8)},
            "damaged: ValueError: packed data is truncated, or longer than 2 bytes",
        ),
        (
            {"layers.0.weight_x.gaps": np.array([0, 255], np.uint8), "layers.0.weight_x.values": np.ones(2, np.int8)},
            "damaged: ValueError: 1 places for 2 weights",
        ),
        (
            {"layers.0.weight_x.gaps": np.array([0, 5], np.uint8), "layers.0.weight_x.values": np.ones(2, np.int8)},
            "damaged: ValueError: a weight behind the last one, 6",
        ),
        (
            {"layers.0.weight_x.gaps": np.array([0], np.uint8), "layers.0.weight_x.values": np.array([-128], np.int8)},
            "integer network: layers.0.weight_x must lie within -127 to 127, not -128 to 0",
        ),
    ],
)
def test_wrong_tensors(tensors, message, tmp_path):
    path = rewritten(tmp_path, tensors)
    with pytest.raises(InputError) as error:
        load_integer(path)
    assert str(error.value) == f"{path}: {message}"


NOT_ONE = (
    "not an integer network: its format must be 'egret-integer-2', 'egret-integer-3' or 'egret-integer-4', not {}; "
    "`egret quantise` writes one from a checkpoint's directory"
)


def test_a_small_file_is_no_large_network(tmp_path):
    """Zeros at the end of a matrix take no byte."""
    path = rewritten(tmp_path, metadata={"hidden": [65536]})
    with pytest.raises(InputError, match=f"^{path}: would hold 1288[0-9]+ numbers; its [0-9]+ bytes may stand for 4"):
        load_integer(path)


@pytest.mark.parametrize(
    "metadata, message",
    [
        ({"format": "egret-integer-1"}, NOT_ONE.format("'egret-integer-1'")),
        ({"format": None}, NOT_ONE.format(None)),
        ({"hidden": None}, "lacks 'hidden'"),
        ({"hidden": 3}, "hidden must be a list of 1 to 4096 sizes, not 3"),
        ({"hidden": []}, "hidden must be a list of 1 to 4096 sizes, not 0"),
        ({"hidden": [2, 0]}, "hidden[1] must be an integer from 1 to 65536, not 0"),
        ({"hidden": [2, "1"]}, "hidden[1] must be an integer from 1 to 65536, not '1'"),
        ({"vocabulary_size": 1 << 21}, "vocabulary_size must be an integer from 1 to 1048576, not 2097152"),
        ({"tied": False}, "lacks 'readout.weight'"),
        ({"accumulator_bits": None}, "lacks 'accumulator_bits'"),
        ({"accumulator_bits": "24"}, "integer network: accumulator_bits must be 16 to 24, not '24'"),
        ({"accumulator_bits": 25}, "integer network: accumulator_bits must be 16 to 24, not 25"),
        ({"gate_index_bits": 40}, "integer network: gate_index_bits must be 8 to 12, not 40"),
        ({"readout_fraction": -1}, "integer network: readout_fraction must be 0 to 30, not -1"),
        ({"tokens": "byte"}, "tokens must be 'word', 'char', 'id', 'bpe' or 'number', not 'byte'"),
    ],
)
def test_wrong_metadata(metadata, message, tmp_path):
    path = rewritten(tmp_path, metadata=metadata)
    with pytest.raises(InputError) as error:
        load_integer(path)
    assert str(error.value) == f"{path}: {message}"


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=": cannot read it: No such file or directory"):
        load_integer(tmp_path / "none")


def of_shape(vocabulary=2, embedding=1, hidden=(1,)):
    """A network of zeros."""
    layers, inputs = [], embedding
    for size in hidden:
        weights = (np.zeros((3 * size, width), np.int8) for width in (inputs, size))
        layers.append(IntegerLayer(*weights, np.zeros(3 * size, np.int32), np.zeros(size, np.int32), (1, 1, 1)))
        inputs = size
    return IntegerNetwork(
        Vocabulary(map(chr, range(0x4E00, 0x4E00 + vocabulary)), "char"),
        np.zeros((vocabulary, embedding), np.int8),
        tuple(layers),
        np.zeros((vocabulary, hidden[-1]), np.int8),
        np.zeros(vocabulary, np.int32),
        0,
    )


@pytest.mark.parametrize(
    "most, more, message",
    [
        (
            {"embedding": 1 << 16},
            {"embedding": (1 << 16) + 1},
            "embedding_size must be an integer from 1 to 65536, not ",
        ),
        ({"hidden": (1,) * 4096}, {"hidden": (1,) * 4097}, "hidden must be a list of 1 to 4096 sizes, not "),
    ],
)
def test_what_could_not_be_read_is_not_written(most, more, message, tmp_path):
    """Up to each limit a network is the same again; beyond it nothing is written."""
    network = of_shape(**most)
    save_integer(network, tmp_path / "most")
    assert_same(load_integer(tmp_path / "most"), network)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'more'}: {message}")):
        save_integer(of_shape(**more), tmp_path / "more")
    assert [path.name for path in tmp_path.iterdir()] == ["most"]


def test_a_vocabulary_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    """Too many tokens; and too many bytes, by a limit that is set here."""
    tokens = of_shape(vocabulary=(1 << 14) + 1)
    for name, most in (("MOST_TOKENS", 1 << 14), ("_LARGEST_VOCABULARY", 4 * tokens.vocabulary.size - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(integer_file, name, most)
            with pytest.raises(InputError, match=f" must .* {most}"):
                save_integer(tokens, tmp_path / "more")
            assert list(tmp_path.iterdir()) == []
            patched.setattr(integer_file, name, most + 1)
            save_integer(tokens, tmp_path / "most")
            assert_same(load_integer(tmp_path / "most"), tokens)
            (tmp_path / "most").unlink()
