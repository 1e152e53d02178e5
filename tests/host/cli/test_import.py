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


def evnn(random):
    """Of one layer of three neurons; thresholds with a stride."""
    torch = pytest.importorskip("torch")
    shapes = {"kernel": (3, 9), "recurrent_kernel": (3, 9), "bias": (9,), "recurrent_bias": (9,), "_max_norm": (1,)}

    def normal(shape):
        return torch.tensor(random.standard_normal(shape).astype(np.float32))

    tensors, words = {f"rnns.0.{name}": normal(shape) for name, shape in shapes.items()}, normal((5, 3))
    tensors |= {"embeddings.weight": words, "decoder.decoder.weight": words, "decoder.decoder.bias": torch.arange(5.0)}
    tensors["rnns.0.thr"] = torch.tensor([0.25, 9, 0.5, 9, 0.75, 9])[::2]
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
