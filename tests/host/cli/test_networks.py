"""Networks and texts that cannot be used, for every command that takes one."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from egret.host.measure import pipeline_images
from egret.host.network import Network
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.compiler.image import Image

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


@SOURCES
def test_files_that_are_no_networks(arguments, refused, network):
    """They are named, where a path is taken for a network; a checkpoint's tensors alone are one of them."""
    torch = pytest.importorskip("torch")
    checkpoint = network / "network"
    model = (checkpoint / "model.safetensors").read_bytes()
    shutil.rmtree(checkpoint)
    torch.save({"weight": torch.zeros(3)}, checkpoint)
    assert refused(*arguments).startswith("network: a PyTorch file; `egret import evnn`")
    checkpoint.write_bytes(model)
    assert refused(*arguments).startswith(("network: not an integer network", "network: no checkpoint there"))
    checkpoint.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert refused(*arguments).startswith("network: a graph (ONNX, NIR or HDF5)")


WHOLE = "; give the whole network: a checkpoint, an integer network, or the image of all its layers and the read-out"
NO_READOUT = "the image of a part of a network, which has no read-out"
EVENTS = "the image of a part of a network, which takes events, not tokens"


@pytest.mark.parametrize(
    "arguments, first, later",
    [
        (("run", "part"), NO_READOUT, NO_READOUT),
        (("run", "part", "--prompt", "a"), NO_READOUT, NO_READOUT),
        (("run", "part", "--text", "text"), NO_READOUT, NO_READOUT),
        (("run", "part", "--text", "text", "--no-check"), NO_READOUT, NO_READOUT),
        (("evaluate", "part", "--text", "text", "--engine", "integer"), NO_READOUT, NO_READOUT),
        (("evaluate", "part", "--text", "text", "--engine", "rtl"), NO_READOUT, NO_READOUT),
        (("estimate", "part"), NO_READOUT, NO_READOUT),
        (("bench", "part"), NO_READOUT, NO_READOUT),
        (("bench", "part", "--split", "1"), NO_READOUT, NO_READOUT),
        (("simulate", "part"), f"{NO_READOUT} to write a text with", None),
        (("simulate", "part", "--text", "text"), None, EVENTS),
    ],
)
def test_the_image_of_a_part_of_a_network_is_named(arguments, first, later, refused, network):
    """In one line, before any work. What a first part can do, from its tokens to its events, is not tried here."""
    parts = pipeline_images(Network("network").integer, [1], lanes=2)
    for part, expected in zip(parts, (first, later), strict=True):
        part.save("part")
        if expected is not None:
            assert refused(*arguments) == f"part: {expected}{WHOLE}"
        assert refused("build", "part", "--board", "ulx3s-85f", "-o", "built") == (
            f"part: {NO_READOUT} to simulate a text with; --tokens 0 leaves the simulation out"
        )
    assert sorted(os.listdir()) == ["network", "part", "text"]


def test_a_later_part_is_simulated(egret, network):
    integer = Network("network").integer
    pipeline_images(integer, [1], lanes=2)[1].save("part")
    status, out, err = egret("simulate", "part", "--tokens", 3, "--simulator", "icarus", "--json")
    found = json.loads(out)
    assert (status, err, found["tokens"], found["compared"]["gate_u"]) == (0, "", 3, 3 * integer.hidden[1])


def test_parts_can_be_compiled_again(egret, network):
    for number, part in enumerate(pipeline_images(Network("network").integer, [1], lanes=2)):
        part.save("part")
        assert egret("compile", "part", "-o", "again", "--lanes", 2, "--weight-bytes", 0)[0] == 0
        assert egret("self-test", "part", "--patterns", 1)[0] == 0
        again = Image.load("again")
        assert again.memories == part.memories and again.configuration.takes_events == bool(number)


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
    assert evaluate() == "text: cannot read it: No such file or directory"


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
