"""Sequences that are not text: their file, their counts, and networks that they enter."""

import dataclasses
import zipfile

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.image import Image
from egret.model.compiler.unpack import read_image
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.model.integer_file import load_integer, save_integer
from egret.model.native import NativeEngine
from egret.model.sequences import NO_CLASS, Sequences, evaluate_sequences
from egret.model.tokens import Vocabulary
from tests.support.numbers import number_network, number_sequences


def counts(network):
    return integer_columns(network), integer_readout(network)


def test_numbers_with_a_sign_enter_two_inputs():
    x = np.array([[[-128, -1, 0], [1, 2, 127]]], np.int8)
    found = Sequences.of(x, np.array([3]))
    assert found.values.tolist() == [[[0, 0, 0, 255, 2, 0], [2, 4, 254, 0, 0, 0]]]
    assert found.classes.tolist() == [[NO_CLASS, 3]]
    assert (len(found), found.steps, found.inputs) == (1, 2, 6)


def test_files(tmp_path):
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (5, 3, 4)).astype(np.uint8), random.integers(0, 3, (5, 3))
    np.savez(tmp_path / "dense.npz", x=x, y=y)
    sequence, step, index = x.nonzero()
    events = {"sequence": sequence, "step": step, "index": index, "value": x[x != 0]}
    np.savez_compressed(tmp_path / "events.npz", shape=x.shape, y=y, **events)
    for name in ("dense", "events"):
        found = Sequences.load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(found.values, x)
        np.testing.assert_array_equal(found.classes, y)
    assert len(found.first(2)) == 2 and found.first(None) is found
    for wrong, message in (
        ({"index": index + 4}, "index must be 0 to 3"),
        ({"value": x[x != 0].astype(int)}, "value must be"),
        ({"shape": [5, 3]}, "shape must hold three"),
        ({"shape": [1, 0, 3]}, "shape must be three sizes of at least 1"),
        ({"shape": [1 << 20] * 3}, "would hold 1152921504606846976 numbers; its [0-9]+ bytes may stand for [0-9]+$"),
    ):
        np.savez(tmp_path / "wrong.npz", **{"shape": x.shape, "y": y, **events, **wrong})
        with pytest.raises(InputError, match=f"wrong.npz: {message}"):
            Sequences.load(tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": [1]}, "lacks x; it holds y"),
        ({"x": np.zeros((1, 2, 3), np.uint8)}, "lacks y; it holds x"),
        (
            {"x": np.zeros((1, 2, 3)), "y": [1]},
            r"x must be uint8 or int8 of three dimensions, .*, not float64 \[1, 2, 3\]",
        ),
        ({"x": np.zeros((1, 0, 3), np.uint8), "y": [1]}, r"x must be .*none of them empty, not uint8 \[1, 0, 3\]"),
        ({"x": np.zeros((1, 2, 3), np.uint8), "y": [1, 1]}, "y must have a class for each of 1 sequences"),
        ({"x": np.zeros((1, 2, 3), np.uint8), "y": [0.5]}, "y must hold integers, the classes, not float64"),
        ({"x": np.zeros((1, 2, 3), np.uint8), "y": [-1]}, "y asks for no class"),
        ({"x": np.zeros((1, 1 << 40, 0), np.uint8), "y": [1]}, "x must be uint8 or int8 of three dimensions"),
        ({"x": np.zeros((1, 2, 3), np.uint8), "y": [1 << 32]}, "y must hold classes of 32 bits, not 4294967296 to"),
        ({"x": np.array([None]), "y": [1]}, "x: cannot read the numpy array"),
    ],
)
def test_files_that_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=f"^{tmp_path}/data.npz: {message}"):
        Sequences.load(tmp_path / "data.npz")


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "cut.npz", x=np.ones((9, 9, 9), np.uint8), y=np.ones(9, int))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:400])
    with zipfile.ZipFile(tmp_path / "packed.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", bytes(1 << 20))
    for name, message in (
        ("packed.npz", "not a .npz of numbers: 'x.npy' is packed as numpy packs none"),
        ("one.npy", "must be a .npz"),
        ("text.npz", "not a .npz of numbers"),
        ("cut.npz", "not a .npz of numbers"),
        ("none.npz", "cannot read it: No such file or directory"),
    ):
        with pytest.raises(InputError, match=f"^{tmp_path}/{name}: {message}"):
            Sequences.load(tmp_path / name)


def test_sequences_of_another_network():
    found = number_sequences(1)
    found.check(5, 4)
    with pytest.raises(InputError, match="5 numbers enter in each step, and the network takes 6"):
        found.check(6, 4)
    with pytest.raises(InputError, match=r"asks for class 3; the network has 0 to 2"):
        found.check(5, 3)
    with pytest.raises(InputError, match="there are 1 to 6 sequences to take, not 7"):
        found.first(7)


def test_evaluation_against_one_sequence_at_a_time():
    network, found = number_network(2), number_sequences(3, count=7)
    found = dataclasses.replace(found, classes=found.classes.copy())
    found.classes[2] = [1, NO_CLASS, 0, 2]  # asked for in several steps
    ran = evaluate_sequences(IntegerEngine(network), *counts(network), found, integers=True, batch=3)
    engine, events, macs, steps, right = IntegerEngine(network), np.zeros(2), 0, 0, 0
    columns = integer_columns(network)
    for values, classes in zip(found.values, found.classes, strict=True):
        engine.reset_state()
        for x, wanted in zip(values, classes, strict=True):
            traces = engine.step(x[None].astype(np.int32))
            events += [np.count_nonzero(trace.y) for trace in traces]
            macs += sum(
                int(layer.x @ (trace.x[0] != 0) + layer.y @ (trace.y_before[0] != 0) + layer.s @ (trace.s[0] != 0))
                for layer, trace in zip(columns, traces, strict=True)
            )
            steps += 1
            right += wanted != NO_CLASS and engine.readout.scores(traces[-1].y)[0].argmax() == wanted
    assert ran.tokens == steps == 28
    assert (ran.asked, ran.right) == (9, right) and ran.accuracy == right / 9
    assert ran.activity == (events / steps / network.hidden).tolist() and min(ran.activity) > 0.05
    assert ran.macs.event_driven_pruned == pytest.approx(macs / steps)
    assert ((ran.answers == NO_CLASS) == (found.classes == NO_CLASS)).all()
    native = evaluate_sequences(NativeEngine(network), *counts(network), found, integers=True)
    np.testing.assert_array_equal(native.answers, ran.answers)
    assert (native.activity, native.macs, native.macs_readout) == (ran.activity, ran.macs, ran.macs_readout)


def test_a_network_of_numbers_in_its_files(tmp_path):
    network = number_network(4)
    save_integer(network, tmp_path / "integer")
    image = compile_image(network, configuration_for(network, lanes=2))
    image.save(tmp_path / "image")
    for again in (load_integer(tmp_path / "integer"), read_image(Image.load(tmp_path / "image"))):
        assert again.takes_events and again.vocabulary == network.vocabulary
        np.testing.assert_array_equal(again.readout_weight, network.readout_weight)
        np.testing.assert_array_equal(again.readout_bias, network.readout_bias)
        np.testing.assert_array_equal(again.layers[0].weight_x, network.layers[0].weight_x)
    with pytest.raises(InputError, match="without an embedding the read-out needs a readout.weight"):
        dataclasses.replace(network, readout_weight=None)
    with pytest.raises(InputError, match=r"readout.bias must have the shape \[4\], not \[3\]"):
        dataclasses.replace(network, readout_bias=network.readout_bias[:3])


def test_configurations():
    for wrong in ({"tied": True, "embedding_size": 7}, {"readout": {"head": 1, "groups": [1], "rows": 1}}):
        fields = {"cell": "egru", "tokens": "number", "vocab_size": 2, "embedding_size": 4, "hidden_sizes": (7,)}
        with pytest.raises(InputError, match="a network of numbers has no embedding"):
            NetworkConfiguration(**{**fields, "tied": False, **wrong})
    for names in ([""], ["a\nb"], ["a", "a"]):
        with pytest.raises(InputError, match="vocabulary line"):
            Vocabulary(names, "number")
    assert Vocabulary.from_bytes(b"a class\nb\n", "number").tokens == ("a class", "b")
    with pytest.raises(InputError, match="the network takes numbers, not a text"):
        Vocabulary(["left", "right"], "number").encode("left")
