"""The command `egret import`."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from egret.model.checkpoint import load_checkpoint
from egret.model.tokens import Vocabulary

TEXTS = {"train.txt": "b a b c\nb a\n", "valid.txt": "c c c c c\n", "test.txt": "d\n"}
MAP = """
tokens = "char"
vocabulary = "letters"
[tensors]
embedding = "e"
weight_x = "x"
weight_y = "y"
threshold = "t"
"""


def evnn(random, size=3, layers=1):
    """A state dict of EvNN's language model, of layers of ``size`` neurons; thresholds with a stride."""
    torch = pytest.importorskip("torch")
    matrix, gates = (size, 3 * size), (3 * size,)
    shapes = {"kernel": matrix, "recurrent_kernel": matrix, "bias": gates, "recurrent_bias": gates, "_max_norm": (1,)}

    def normal(shape):
        return torch.tensor(random.standard_normal(shape).astype(np.float32))

    tensors, words = {}, normal((5, size))
    for layer in range(layers):
        tensors |= {f"rnns.{layer}.{name}": normal(shape) for name, shape in shapes.items()}
        tensors[f"rnns.{layer}.thr"] = torch.linspace(0.25, 0.75, 2 * size - 1)[::2]
    tensors |= {"embeddings.weight": words, "decoder.decoder.weight": words, "decoder.decoder.bias": torch.arange(5.0)}
    return torch, tensors


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    return [part for name in TEXTS for part in ("--text", name)]


def test_evnn(egret, texts):
    torch, tensors = evnn(np.random.default_rng(2))
    torch.save(tensors, "best.cpt")
    status, out, err = egret("import", "evnn", "best.cpt", *texts, "-o", "made/network", "--json")
    result = json.loads(out)
    assert (status, err, result["hidden_sizes"], result["reset"]) == (0, "", [3], "after")
    assert (result["weights"], result["nonzero"], result["vocab_size"]) == (54, 54, 5)
    assert result["notes"] == ["left out: rnns.0._max_norm", "words were sorted by their frequency"]
    network = load_checkpoint("made/network")
    assert network.vocabulary.tokens == ("c", "<eos>", "b", "a", "d")  # they appear as b a c <eos> d: 3 2 6 4 1 times
    assert network.tensors["layers.0.threshold"].tolist() == [0.25, 0.5, 0.75]
    status, out, _ = egret("evaluate", "made/network", "--text", "train.txt", "--engine", "float", "--json")
    assert status == 0 and np.isfinite(json.loads(out)["loss"])
    assert "note" in egret("import", "evnn", "best.cpt", *texts, "-o", "made/network")[1]


@pytest.mark.slow
def test_from_evnn_to_a_core(egret, refused, texts):
    """One command: each event of a core with 64 neurons a layer is the integer network's."""
    torch, tensors = evnn(np.random.default_rng(4), size=64, layers=2)
    torch.save(tensors, "best.cpt")
    Path("test.txt").write_text("d " + "a b c c\n" * 20)
    command = ("import", "evnn", "best.cpt", *texts, "-o", "made")
    assert refused(*command, "--simulate", 200).startswith("test.txt: --tokens must be from 1 to ")
    assert not Path("made").exists()
    status, out, err = egret(*command, "--simulate", 60, "--json")
    found = json.loads(out)
    assert (status, err, found["hidden_sizes"], found["mismatches"]) == (0, "", [64, 64], 0)
    assert found["counters"]["tokens"] == 60 and found["counters"]["events_1"] > 60
    assert load_checkpoint("made").configuration.hidden_sizes == (64, 64)


def test_names_of_a_map(egret, texts):
    random = np.random.default_rng(3)
    shapes = {"e": (4, 3), "x": (9, 3), "y": (9, 3), "t": (3,)}
    tensors = {name: np.abs(random.standard_normal(shape).astype(np.float32)) for name, shape in shapes.items()}
    safetensors.numpy.save_file(tensors, "file")
    path = "map.toml"
    Path(path).write_text(MAP)
    Path("letters").write_bytes(Vocabulary("ab\nc", "char").to_bytes())
    Path("text").write_text("cba\na\n")
    status, out, _ = egret("import", "safetensors", "file", "--map", path, "--text", "text", "-o", "made", "--json")
    assert status == 0 and json.loads(out)["reset"] == "before"
    network = load_checkpoint("made")
    assert network.vocabulary.tokens == ("a", "\n", "b", "c")
    assert (network.tensors["embedding.weight"] == tensors["e"][[0, 2, 1, 3]]).all()


def test_nothing_is_written_where_it_is_refused(refused, texts):
    torch, tensors = evnn(np.random.default_rng(2))
    torch.save(tensors, "best.cpt")
    Path("map.toml").write_text(MAP)
    safetensors.numpy.save_file({"e": np.zeros((2, 2), np.int32)}, "integers")
    before = sorted(os.listdir())
    assert refused("import", "evnn", "best.cpt", "-o", "made").startswith("egret import evnn needs --text")
    assert refused("import", "evnn", "best.cpt", *texts, "--map", "map.toml", "-o", "made").endswith("and no --map")
    assert refused("import", "safetensors", "best.cpt", "-o", "made").startswith("egret import safetensors needs --map")
    fewer = refused("import", "evnn", "best.cpt", *texts[:4], "-o", "made")
    assert fewer.startswith("best.cpt: has 5 words, and the texts have 4; give the texts that it was trained with")
    for file in ("train.txt", "integers", "none"):
        assert refused("import", "evnn", file, *texts, "-o", "made").startswith(f"{file}: ")
    assert refused("import", "evnn", "best.cpt", *texts, "-o", "best.cpt").startswith("best.cpt: cannot ")
    assert sorted(os.listdir()) == before


def test_a_file_of_pytorch_needs_it(refused, texts, monkeypatch):
    torch, tensors = evnn(np.random.default_rng(2))
    torch.save(tensors, "best.cpt")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "egret.model.training.pickles", raising=False)
    message = refused("import", "evnn", "best.cpt", *texts, "-o", "made")
    assert message.startswith(
        "a file of PyTorch needs torch, which is not installed; install it: pip install 'egret-fpga"
    )
