"""Networks and texts that cannot be used, for every command that takes one."""

import os

import numpy as np
import pytest
import safetensors.numpy

from egret.model.checkpoint import NetworkConfiguration, save_checkpoint

SOURCES = pytest.mark.parametrize(
    "arguments",
    [
        ("quantise", "network", "-o", "output"),
        ("compile", "network", "-o", "output"),
        ("evaluate", "network", "--text", "text", "--engine", "float"),
        ("evaluate", "network", "--text", "text", "--engine", "integer"),
        ("evaluate", "network", "--text", "text", "--engine", "rtl"),
        ("run", "network"),
        ("bench", "network"),
    ],
)


@SOURCES
def test_bad_checkpoint(arguments, refused, network):
    model = network / "network" / "model.safetensors"
    content = model.read_bytes()
    before = sorted(os.listdir())
    model.write_bytes(content[:-1])
    assert refused(*arguments).startswith("network/model.safetensors: not a safetensors file, or truncated: ")
    tensors = safetensors.numpy.load(content)
    bias, threshold = tensors["layers.0.bias"].copy(), tensors["layers.1.threshold"].copy()
    bias[2] = np.nan
    model.write_bytes(safetensors.numpy.save(tensors | {"layers.0.bias": bias}))
    assert refused(*arguments) == "network/model.safetensors: tensor 'layers.0.bias' holds nan at [2]; must be finite"
    threshold[1] = -1
    model.write_bytes(safetensors.numpy.save(tensors | {"layers.1.threshold": threshold}))
    assert refused(*arguments) == (
        "network/model.safetensors: tensor 'layers.1.threshold' holds -1.0 at [1]; thresholds must be >= 0"
    )
    model.unlink()
    assert refused(*arguments) == "network/model.safetensors: cannot read it: No such file or directory"
    assert sorted(os.listdir()) == before


@SOURCES
def test_missing_checkpoint(arguments, refused, network):
    arguments = [argument.replace("network", "nothing") for argument in arguments]
    assert refused(*arguments).startswith("nothing: ")
    assert sorted(os.listdir()) == ["network", "text"]


def test_bad_text(refused, network):
    def evaluate(**options):
        extra = [part for name, value in options.items() for part in (f"--{name}", value)]
        return refused("evaluate", "network", "--engine", "integer", "--text", "text", *extra)

    assert evaluate(tokens=66) == "text: --tokens must be from 1 to 65, the text's predictions, not 66"
    assert evaluate(tokens=0) == "text: --tokens must be from 1 to 65, the text's predictions, not 0"
    assert evaluate(batch=66) == "batch must be from 1 to 65, the number of predictions, not 66"
    (network / "text").write_text("ab\nd")
    assert evaluate() == "text: line 1 of the text: character '\\n' is not in the vocabulary"
    (network / "text").write_text("a")
    assert evaluate() == "the text has 1 tokens; at least 2 are needed, the first predicts the second"
    (network / "text").write_text("")
    assert evaluate() == "text: the text is empty; at least one token is needed"
    (network / "text").write_bytes(b"a\xff")
    assert evaluate() == "text: line 1 is not UTF-8 (byte 0xff at offset 1)"
    (network / "text").unlink()
    assert evaluate() == "text: cannot read the text: No such file or directory"


def test_unknown_word_without_unk(refused, tmp_path, random_checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(random_checkpoint(NetworkConfiguration("egru", "word", 3, 4, (4,))), tmp_path / "network")
    (tmp_path / "text").write_text("w1 w2\nw1 heron\n")
    assert refused("evaluate", "network", "--engine", "float", "--text", "text") == (
        "text: line 2 of the text: word 'heron' is not in the vocabulary, which has no '<unk>'"
    )


def test_corrupted_image(egret, refused, network):
    egret("compile", "network", "-o", "image")
    content = (network / "image").read_bytes()
    evaluate = ("evaluate", "image", "--engine", "integer", "--text", "text")
    for place in (9, len(content) // 2, len(content) - 1):
        (network / "image").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert refused(*evaluate).startswith("image: ")
    (network / "image").write_bytes(content[:-1])
    assert refused(*evaluate).startswith("image: ")
