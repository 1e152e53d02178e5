"""The way in from Python; what its commands print is tested with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import egret
from egret.boards import build
from egret.host.measure import pipeline_images
from egret.model.checkpoint import save_checkpoint
from egret.model.errors import InputError
from egret.model.integer_file import save_integer
from egret.model.quantise import quantise
from tests.support.command_line import CONFIGURATION, TEXT, compiled


@pytest.fixture
def checkpoint(random_checkpoint):
    return random_checkpoint(CONFIGURATION, scale=0.5)


def test_a_network_in_all_its_forms(checkpoint, tmp_path):
    """Objects and files, numpy's tensors and PyTorch's: the same figures, on the core too."""
    save_checkpoint(checkpoint, tmp_path / "network")
    save_integer(quantise(checkpoint), tmp_path / "integer")
    (tmp_path / "text").write_text(TEXT)
    image = egret.Network(checkpoint).image
    image.save(tmp_path / "image")
    # A state dict as a training leaves it: of PyTorch, and laid out in another order.
    ordered = {name: np.asfortranarray(tensor) for name, tensor in checkpoint.tensors.items()}
    state = {name: torch.from_numpy(tensor).requires_grad_() for name, tensor in ordered.items()}
    networks = [
        egret.Network(checkpoint),
        egret.Network(tmp_path / "network"),
        egret.Network(quantise(checkpoint)),
        egret.Network(str(tmp_path / "integer")),
        egret.Network(image),
        egret.Network(tmp_path / "image"),
        egret.Network.from_tensors(checkpoint.tensors, checkpoint.vocabulary),
        egret.Network.from_tensors(state, checkpoint.vocabulary),
    ]
    ids = checkpoint.vocabulary.encode(TEXT)
    first = networks[0].evaluate(ids)
    for network in networks:
        assert network.image.to_bytes() == image.to_bytes()
        assert network.evaluate(tmp_path / "text") == first == network.evaluate(ids, engine="native")
        assert network.vocabulary.tokens == checkpoint.vocabulary.tokens
    for network in (networks[0], networks[6]):
        assert network.evaluate(ids, tokens=20, engine="float").perplexity == pytest.approx(first.perplexity, rel=0.2)
    measured = networks[0].measure(ids, batch=2)
    assert networks[0].ids([0, 1, 2], 1).tolist() == [0, 1]
    assert measured.mismatches == 0 and measured.evaluation == networks[0].evaluate(ids, batch=2)


def test_text(checkpoint):
    """The prompt and what follows, the same from the core and from this processor."""
    network, written = egret.Network(checkpoint), []
    core = network.generate("ab", 12, write=written.append)
    native = network.generate("ab", 12, engine="native")
    assert core.text == "".join(written) == native.text and core.text.startswith("ab") and len(core.text) == 14
    assert core.matching == core.steps
    assert network.stream(tokens=5).perplexity == network.evaluate(tokens=5).perplexity


def test_every_stream_inside_the_core(checkpoint, monkeypatch):
    calls = []
    monkeypatch.setattr("egret.sim.lockstep.run", lambda image, tokens, **options: calls.append((image, options)))
    network = egret.Network(checkpoint)
    network.simulate(tokens=4, idle=0.5, waves="w")
    ((image, options),) = calls
    assert image is network.image and (options["idle"], options["waves"]) == (0.5, "w")


def test_a_bitstream(checkpoint, tmp_path, monkeypatch):
    def run(design, tools, directory, *, progress):
        progress("placement, 3 s")
        for name in ("top.bit", "top.rpt", "top.tim"):
            (directory / name).write_text("")
        return build.Result(90.0, design.hertz / 1e6, {"luts": 7}, "a to b", {"synthesis": 1.0}, directory / "top.bit")

    monkeypatch.setattr(build, "run", run)
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "/bin/true")
    summary = egret.Network(checkpoint, board="ulx3s-85f").build(tmp_path / "out")
    assert (summary["board"], summary["met"], summary["seed"]) == ("ulx3s-85f", True, 1)
    assert all(Path(path).exists() for path in summary["files"].values())
    assert json.loads(Path(summary["files"]["report"]).read_text())["digest"] == summary["digest"]


def test_what_is_refused(checkpoint, random_checkpoint):
    network = egret.Network(compiled(random_checkpoint)[0])
    with pytest.raises(InputError, match="^a design is for a board: give one, such as board='ulx3s-85f'$"):
        network.build("out")
    with pytest.raises(InputError, match="^--board must be one of ulx3s-85f, "):
        egret.Network(checkpoint, board="ulx4")
    with pytest.raises(InputError, match="^engine must be 'float', 'integer' or 'native', not 'rtl'$"):
        network.evaluate(engine="rtl")
    with pytest.raises(InputError, match="^--reset-every is for the engines float and integer, not for native$"):
        network.evaluate(engine="native", reset_every=3)
    with pytest.raises(InputError, match="^engine must be 'rtl' or 'native', not 'float'$"):
        network.generate(engine="float")
    with pytest.raises(InputError, match="no checkpoint there"):
        network.evaluate(engine="float", tokens=3)
    with pytest.raises(InputError, match="^network: the image of a part of a network, which has no read-out; give"):
        egret.Network(pipeline_images(network.integer, [1], lanes=2)[0])
    tensors, vocabulary = checkpoint.tensors, checkpoint.vocabulary
    with pytest.raises(InputError, match="a matrix embedding.weight and a layer, layers.0.weight_y, are needed"):
        egret.Network.from_tensors({"embedding.weight": np.zeros(3)}, vocabulary)
    with pytest.raises(InputError, match="^tensors: tensor 'layers.1.bias' of shape .* is missing$"):
        egret.Network.from_tensors({n: t for n, t in tensors.items() if n != "layers.1.bias"}, vocabulary)
    with pytest.raises(AttributeError, match="module 'egret' has no attribute 'Core'"):
        _ = egret.Core
