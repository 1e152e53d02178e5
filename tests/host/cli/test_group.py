"""The command `egret group`."""

import json

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.integer_file import load_integer, save_integer
from egret.model.quantise import quantise
from egret.model.tokens import Vocabulary

SHAPE = ("--head", 4, "--groups", 5, "--rows", 2)


@pytest.fixture
def words(tmp_path, random_checkpoint, monkeypatch):
    """A directory, made the current one, with the integer network `plain`, of 40 words, and its text `text`."""
    monkeypatch.chdir(tmp_path)
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "word", 40, 8, (12, 8)), scale=0.5)
    save_integer(quantise(checkpoint, weight_bits=4, embedding_bits=6), "plain")
    ids = np.random.default_rng(3).geometric(0.1, 3000).clip(1, 39)
    (tmp_path / "text").write_text(" ".join(checkpoint.vocabulary.tokens[word] for word in ids))
    return tmp_path


def test_a_plain_read_out_becomes_one_that_a_core_makes(egret, words):
    arguments = ("group", "plain", "--text", "text", "-o", "divided", *SHAPE, "--tokens", 1200)
    status, out, _ = egret(*arguments)
    assert status == 0 and "│ words in the head, groups, rows of each" in out
    shown = json.loads(egret(*arguments, "--json")[1])
    network = load_integer("divided")
    assert network.groups is not None and network.readout_codebook is not None
    assert shown["readout"] == {
        "head": 4, "groups": 5, "rows": 2, "largest_group": max(network.groups.sizes),
        "codebook": len(network.readout_codebook),
    }  # fmt: skip
    # 150 streams of 20 steps, of which 8 are run, and the last one is held out.
    assert (shown["tokens"], shown["held_out"], shown["network"]) == (150 * 7, 150, "divided")
    losses = []
    for name in ("plain", "divided"):
        _, out, _ = egret("evaluate", name, "--text", "text", "--engine", "native", "--batch", 20, "--json")
        losses.append(json.loads(out)["loss"])
    assert losses[1] - losses[0] == pytest.approx(shown["loss"] - shown["loss_plain"], abs=0.05)
    status, out, _ = egret("evaluate", "divided", "--text", "text", "--tokens", 9, "--engine", "rtl", "--json")
    assert (status, json.loads(out)["mismatches"]) == (0, 0)


def test_refusals(egret, refused, words):
    egret("group", "plain", "--text", "text", "-o", "divided", *SHAPE, "--tokens", 600)
    before = (words / "divided").read_bytes()
    call = ("group", "plain", "--text", "text", "-o", "divided")
    assert refused(*call[:2], *call[4:]) == "Missing option '--text'."
    assert refused(*call).endswith("needs as many words; there are 40")
    assert refused(*call, *SHAPE[:-1], 5) == "readout.rows must be a power of two from 1 to 16, not 5"
    assert refused(*call, *SHAPE, "--tokens", 0).startswith("Invalid value for '--tokens': 0 is not")
    assert refused("group", "divided", *call[2:], *SHAPE) == "the network has a read-out in groups already"
    (words / "other").write_text("words of another text")
    assert refused(*call[:3], "other", *call[4:], *SHAPE).startswith("other: ")
    assert refused(*call[:-1], "text", *SHAPE) == "text: --text and -o name the same file; give two"
    assert (words / "divided").read_bytes() == before


def test_numbers_have_no_text(refused, words, random_checkpoint):
    configuration = NetworkConfiguration("egru", "number", 3, 4, (5, 4), tied=False)
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 3, 4, (5, 4), tied=False))
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name != "embedding.weight"}
    network = quantise(type(checkpoint)(configuration, tensors, Vocabulary(["a", "b", "c"], "number")))
    save_integer(network, "numbers")
    assert refused("group", "numbers", "--text", "text", "-o", "out").startswith("numbers: takes numbers, not a text")
