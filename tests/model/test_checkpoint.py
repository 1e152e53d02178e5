"""Checkpoint directories: round trips, and refusal of everything that is not one."""

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.checkpoint import NetworkConfiguration, load_checkpoint, parse_tensors, save_checkpoint
from egret.model.errors import InputError
from egret.model.groups import Groups

CONFIGURATION = NetworkConfiguration("egru", "char", 3, 4, (5, 4))


@pytest.fixture
def make_checkpoint(random_checkpoint):
    return lambda configuration=CONFIGURATION, seed=1: random_checkpoint(configuration, seed)


def assert_equal(one, other):
    assert one.configuration == other.configuration
    assert one.vocabulary == other.vocabulary
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensor, other.tensors[name])


@pytest.fixture
def saved(tmp_path, make_checkpoint):
    path = tmp_path / "network"
    save_checkpoint(make_checkpoint(), path)
    return path


def refusal(path):
    with pytest.raises(InputError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).removeprefix("/")


def test_an_inner_bias_that_lacks_is_zero(tmp_path, make_checkpoint):
    checkpoint = make_checkpoint(replace(CONFIGURATION, reset="after"))
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "layers.0.bias_y"}
    save_checkpoint(replace(checkpoint, tensors=tensors), tmp_path / "network")
    safetensors.numpy.save_file(tensors, tmp_path / "network" / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "network").tensors
    np.testing.assert_array_equal(loaded.pop("layers.0.bias_y"), np.zeros(5))
    np.testing.assert_array_equal(loaded["layers.1.bias_y"], checkpoint.tensors["layers.1.bias_y"])
    assert loaded.keys() == tensors.keys()


@pytest.mark.parametrize(
    "configuration",
    [
        CONFIGURATION,
        NetworkConfiguration("egru", "word", 7, 3, (1,), "after", False),
        NetworkConfiguration("lstm", "word", 2, 6, (3, 5, 6), "before", True),
        NetworkConfiguration("egru", "id", 70_000, 3, (3,)),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_round_trip(configuration, compress, tmp_path, make_checkpoint):
    checkpoint = make_checkpoint(configuration)
    path = tmp_path / "new" / "network"
    save_checkpoint(checkpoint, path, compress=compress)
    assert_equal(load_checkpoint(path), checkpoint)
    assert sorted(file.name for file in path.parent.iterdir()) == ["network"]
    model = "model.safetensors.gz" if compress else "model.safetensors"
    assert sorted(file.name for file in path.iterdir()) == ["config.json", model, "vocab.txt"]


def test_saving_twice_gives_the_same_bytes(saved, tmp_path, make_checkpoint):
    save_checkpoint(make_checkpoint(), tmp_path / "again")
    for file in saved.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_saving_replaces_and_keeps_other_files(saved, make_checkpoint):
    (saved / "log").write_text("kept")
    checkpoint = make_checkpoint(seed=2)
    save_checkpoint(checkpoint, saved, compress=True)
    assert_equal(load_checkpoint(saved), checkpoint)
    assert (saved / "log").read_text() == "kept"
    assert not (saved / "model.safetensors").exists()


def test_memory_order_does_not_matter(tmp_path, make_checkpoint):
    checkpoint = make_checkpoint()
    transposed = {name: np.asfortranarray(tensor) for name, tensor in checkpoint.tensors.items()}
    save_checkpoint(replace(checkpoint, tensors=transposed), tmp_path / "network")
    assert_equal(load_checkpoint(tmp_path / "network"), checkpoint)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_widened(dtype, saved, make_checkpoint):
    checkpoint = make_checkpoint()
    narrow = {name: tensor.astype(dtype) for name, tensor in checkpoint.tensors.items()}
    (saved / "model.safetensors").write_bytes(safetensors.numpy.save(narrow))
    wide = {name: tensor.astype(np.float32) for name, tensor in narrow.items()}
    assert_equal(load_checkpoint(saved), replace(checkpoint, tensors=wide))


def test_a_bad_checkpoint_is_not_saved(saved, tmp_path, make_checkpoint):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    checkpoint = make_checkpoint(seed=2)
    checkpoint.tensors["readout.bias"][1] = np.nan
    for path in (saved, tmp_path / "other"):
        with pytest.raises(InputError, match=r"tensor 'readout.bias' holds nan at \[1\]; must be finite"):
            save_checkpoint(checkpoint, path)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["network"]


def test_a_failed_save_leaves_nothing(tmp_path, make_checkpoint):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "network"):
        with pytest.raises(InputError, match="cannot save the checkpoint"):
            save_checkpoint(make_checkpoint(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


# Refusals


def test_no_directory(tmp_path):
    expected = "no checkpoint there; expected a directory with config.json, model.safetensors, vocab.txt"
    assert refusal(tmp_path / "none") == f": {expected}"
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file") == f": {expected}"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    assert refusal(saved) == f"{name}: cannot read it: No such file or directory"


def test_directory_instead_of_file(saved):
    (saved / "vocab.txt").unlink()
    (saved / "vocab.txt").mkdir()
    assert refusal(saved) == "vocab.txt: cannot read it: Is a directory"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gru"}, "cell must be 'egru' or 'lstm', not 'gru'"),
        ({"cell": ["egru"]}, "cell must be 'egru' or 'lstm', not ['egru']"),
        ({"tokens": "bytes"}, "tokens must be 'word', 'char', 'id', 'bpe' or 'number', not 'bytes'"),
        ({"reset": None}, "reset must be 'before' or 'after', not None"),
        ({"vocab_size": 0}, "vocab_size must be an integer from 1 to 1048576, not 0"),
        ({"vocab_size": True}, "vocab_size must be an integer from 1 to 1048576, not True"),
        ({"embedding_size": 4.0}, "embedding_size must be an integer from 1 to 1048576, not 4.0"),
        ({"hidden_sizes": []}, "hidden_sizes must be a list of at least one size, not []"),
        ({"hidden_sizes": 4}, "hidden_sizes must be a list of at least one size, not 4"),
        ({"hidden_sizes": [4, -1]}, "hidden_sizes must be an integer from 1 to 1048576, not -1"),
        ({"tied": 1}, "tied must be true or false, not 1"),
        ({"embedding_size": 9}, "a tied read-out needs embedding_size equal to the last hidden size, not 9 and 4"),
        (
            {"dropout": 0.5},
            (
                "unknown field 'dropout'; it must hold cell, tokens, vocab_size, embedding_size, hidden_sizes, reset, "
                "tied, readout"
            ),
        ),
        ({"readout": {"head": 1}}, "readout must be null or hold head, groups, rows, not {'head': 1}"),
        (
            {"readout": {"head": 1, "groups": [1], "rows": 3}},
            "readout.rows must be a power of two from 1 to 16, not 3",
        ),
        (
            {"readout": {"head": 1, "groups": [100, 1], "rows": 2}},
            "readout must hold all 3 words of the vocabulary once: 1 in the head and 101 in groups are 102",
        ),
    ],
)
def test_bad_configuration(saved, changes, message):
    content = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(content | changes))
    assert refusal(saved) == f"config.json: {message}"


@pytest.mark.parametrize("name", ["cell", "hidden_sizes", "tied"])
def test_missing_field(saved, name):
    content = json.loads((saved / "config.json").read_text())
    del content[name]
    (saved / "config.json").write_text(json.dumps(content))
    assert refusal(saved).startswith(f"config.json: lacks '{name}'; it must hold cell, ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "must hold one JSON object, not list"),
        (b"\xff", "not a JSON file: "),
        (b"[" * 100000, "not a JSON file: "),
        (b'{"cell": ' + b"1" * 5000 + b"}", "not a JSON file: "),
    ],
)
def test_not_a_configuration(saved, content, message):
    (saved / "config.json").write_bytes(content)
    assert refusal(saved).startswith(f"config.json: {message}")


def test_vocabulary_of_another_size(saved):
    (saved / "vocab.txt").write_text("a\nb\n")
    expected = "the vocabulary has 2 tokens (char), the configuration wants 3 (char)"
    assert refusal(saved) == f"model.safetensors: {expected}"


def test_bad_vocabulary(saved):
    (saved / "vocab.txt").write_text("a\nb\nb\n")
    assert refusal(saved) == "vocab.txt: vocabulary line 3: token 'b' already stands on line 2"
    (saved / "vocab.txt").write_bytes(b"a\n\xff\nb\n")
    assert refusal(saved) == "vocab.txt: line 2 is not UTF-8 (byte 0xff at offset 2)"


def test_bad_tensors(saved, make_checkpoint):
    def rewrite(change):
        tensors = dict(make_checkpoint().tensors)
        change(tensors)
        (saved / "model.safetensors").write_bytes(safetensors.numpy.save(tensors))
        return refusal(saved).removeprefix("model.safetensors: ")

    def put(name, place, value):
        def change(tensors):
            tensors[name][place] = value

        return change

    assert rewrite(lambda t: t.pop("layers.1.bias")) == "tensor 'layers.1.bias' of shape [12] is missing"
    assert rewrite(lambda t: t.update(extra=np.zeros(1, np.float32))).startswith("unexpected tensor 'extra'; ")
    assert rewrite(lambda t: t.update({"layers.0.weight_x": np.zeros((15, 5), np.float32)})) == (
        "tensor 'layers.0.weight_x' has shape [15, 5]; the configuration wants [15, 4]"
    )
    assert rewrite(lambda t: t.update({"readout.bias": np.zeros((0,), np.float32)})) == (
        "tensor 'readout.bias' has shape [0]; the configuration wants [3]"
    )
    assert rewrite(lambda t: t.update({"readout.bias": np.zeros(3, np.int32)})) == (
        "tensor 'readout.bias' is I32; accepted are F32, F16, BF16"
    )
    assert rewrite(put("layers.0.weight_y", (2, 3), np.nan)) == (
        "tensor 'layers.0.weight_y' holds nan at [2, 3]; must be finite"
    )
    assert rewrite(put("embedding.weight", (0, 1), -np.inf)) == (
        "tensor 'embedding.weight' holds -inf at [0, 1]; must be finite"
    )
    assert rewrite(put("layers.1.threshold", 3, -0.5)) == (
        "tensor 'layers.1.threshold' holds -0.5 at [3]; thresholds must be >= 0"
    )


def test_truncated_model(saved):
    model = saved / "model.safetensors"
    data = model.read_bytes()
    for length in (0, 7, 8, 100, len(data) - 1):
        model.write_bytes(data[:length])
        assert refusal(saved).startswith("model.safetensors: not a safetensors file, or truncated: ")


def test_truncated_or_corrupted_gzip(tmp_path, make_checkpoint):
    path = tmp_path / "network"
    save_checkpoint(make_checkpoint(), path, compress=True)
    model = path / "model.safetensors.gz"
    data = model.read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 1):
        model.write_bytes(data[:length])
        assert refusal(path) == "model.safetensors.gz: the gzip data is truncated"
    model.write_bytes(data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    assert refusal(path).startswith("model.safetensors.gz: corrupted gzip data: ")
    model.write_bytes(gzip.compress(bytes(1 << 24)))
    assert refusal(path) == "model.safetensors.gz: the gzip data holds more than the configuration wants"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "model.safetensors.gz"])
def test_random_and_mutated_bytes(name, tmp_path, make_checkpoint):
    path = tmp_path / "network"
    save_checkpoint(make_checkpoint(), path, compress=name.endswith(".gz"))
    original = (path / name).read_bytes()

    @settings(max_examples=200)
    @given(st.data())
    def check(data):
        content = bytearray(original)
        if data.draw(st.booleans()):
            content = data.draw(st.binary())
        else:
            for _ in range(data.draw(st.integers(1, 3))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (path / name).write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except InputError as error:
            assert re.match(f"{re.escape(str(path))}/(model|{re.escape(name)})[^:]*: [^\n]+$", str(error))
        else:
            loaded.check()

    check()


@pytest.mark.parametrize("compress", [False, True])
def test_the_most_layers_are_read_again(compress, tmp_path, make_checkpoint):
    """Their names take the more room the more there are, which counts where data is unpacked."""
    most = NetworkConfiguration("egru", "char", 2, 1, (1,) * 4096)
    save_checkpoint(make_checkpoint(most), tmp_path / "most", compress=compress)
    assert load_checkpoint(tmp_path / "most").configuration == most
    with pytest.raises(InputError, match="^hidden_sizes must be a list of at most 4096 sizes, not 4097$"):
        replace(most, hidden_sizes=(1,) * 4097)


@pytest.mark.parametrize("name", ["vocab_size", "embedding_size", "hidden_sizes"])
def test_sizes_end_alike_where_they_are_written_and_read(name):
    most = {"embedding_size": 3, "hidden_sizes": (3,), "vocab_size": 2, "tied": False}

    def of(size):
        return NetworkConfiguration("egru", "char", **most | {name: (size,) if name == "hidden_sizes" else size})

    largest = of(1 << 20)
    assert NetworkConfiguration.from_json(largest.to_json()) == largest
    for size in (0, (1 << 20) + 1):
        with pytest.raises(InputError, match=f"^{name} must be an integer from 1 to 1048576, not {size}$"):
            of(size)


def test_shapes_that_numpy_lacks():
    for shape in ([0] * 70, [0, (1 << 64) - 1], [1 << 62, 0]):
        header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
        with pytest.raises(InputError, match="^m: tensor 'a' has a shape that is not accepted: "):
            parse_tensors(len(header).to_bytes(8, "little") + header, "m")


def test_an_order_must_hold_each_word_once(random_checkpoint, tmp_path):
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 5, 4, (4,), readout=Groups(1, (3, 1), 2)))
    save_checkpoint(checkpoint, tmp_path / "grouped")
    loaded = load_checkpoint(tmp_path / "grouped")
    assert loaded.configuration == checkpoint.configuration
    for order, message in (
        ([0, 1, 2, 3, 3], "holds word 3 twice; must hold each word once"),
        ([0, 1, 2, 3, 5], r"holds 5 at \[4\]; must hold words' numbers, 0 to 4"),
        ([0, 1, 2, 3.5, 4], r"holds 3\.5 at \[3\]; must hold words' numbers, 0 to 4"),
    ):
        checkpoint.tensors["readout.order"] = np.array(order, np.float32)
        with pytest.raises(InputError, match=f"tensor 'readout.order': {message}"):
            save_checkpoint(checkpoint, tmp_path / "grouped")


def test_the_example_of_the_page(tmp_path, monkeypatch):
    """In twelve lines, as it stands; and what it warns of."""
    page = (Path(__file__).parents[2] / "docs/checkpoint.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    assert sum(map(bool, code.splitlines())) == 12
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    checkpoint = load_checkpoint("tiny")
    assert checkpoint.vocabulary.tokens == ("a", "b", "\n") and checkpoint.configuration.hidden_sizes == (4,)
    matrix = checkpoint.tensors["layers.0.weight_x"]
    file = {"a": matrix.T}
    assert (safetensors.numpy.load(safetensors.numpy.save(file))["a"] != matrix.T).any()  # else the warning can go
    checkpoint.tensors["layers.0.weight_x"] = np.asfortranarray(matrix)
    save_checkpoint(checkpoint, "tiny")
    assert (load_checkpoint("tiny").tensors["layers.0.weight_x"] == matrix).all()
