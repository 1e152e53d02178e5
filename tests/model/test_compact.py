"""Compact files: round trips and damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.checkpoint import Checkpoint, NetworkConfiguration, load_checkpoint
from egret.model.compact import _gaps, load_compact, main, save_compact
from egret.model.errors import InputError
from egret.model.tokens import Vocabulary


def checkpoint(density=0.05, tied=True, cell="egru", seed=1):
    random = np.random.default_rng(seed)
    configuration = NetworkConfiguration(
        cell=cell, tokens="word", vocab_size=3, embedding_size=7, hidden_sizes=(53, 7), tied=tied
    )
    tensors = {}
    for name, shape in configuration.tensor_shapes().items():
        tensor = random.normal(0, 0.3, shape).astype(np.float32)
        if name.endswith((".weight_x", ".weight_y")):
            tensor *= random.random(shape) < density
        tensors[name] = np.abs(tensor) if name.endswith("threshold") else tensor
    return Checkpoint(configuration, tensors, Vocabulary(["<eos>", "<unk>", "é"], "word"))


@pytest.mark.parametrize("density", [0, 0.001, 0.05, 1])
@pytest.mark.parametrize(("tied", "cell"), [(True, "egru"), (False, "lstm")])
def test_round_trip(tmp_path, density, tied, cell):
    original = checkpoint(density, tied, cell)
    save_compact(original, tmp_path / "a", embedding_step=0.02, weight_step=0.03)
    again = load_compact(tmp_path / "a")
    assert again.configuration == original.configuration and again.vocabulary == original.vocabulary
    for name, tensor in original.tensors.items():
        got = again.tensors[name]
        if name.endswith((".weight_x", ".weight_y")):
            assert np.array_equal(got != 0, tensor != 0), name
            assert np.abs(got - tensor).max() <= 0.03, name
        elif name.endswith(".weight"):
            assert np.abs(got - tensor).max() <= 0.0101, name
        else:
            assert np.array_equal(got, tensor), name
    save_compact(again, tmp_path / "b", embedding_step=0.02, weight_step=0.03)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert main([str(tmp_path / "a"), str(tmp_path / "directory")]) == 0
    unpacked = load_checkpoint(tmp_path / "directory")
    assert all(np.array_equal(unpacked.tensors[name], again.tensors[name]) for name in again.tensors)


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


@settings(max_examples=60)
@given(st.data())
def test_damage_gives_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("compact") / "a"
    save_compact(checkpoint(), path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        load_compact(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_bad_use(tmp_path, capsys):
    with pytest.raises(InputError, match="cannot read the compact file"):
        load_compact(tmp_path / "nothing")
    with pytest.raises(InputError, match="weight_step must be a number above 0, not 0"):
        save_compact(checkpoint(), tmp_path / "a", weight_step=0)
    assert main(["one"]) == 2 and main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
