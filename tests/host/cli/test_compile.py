"""The commands `egret quantise` and `egret compile`."""

import dataclasses
import json
import os
import re

import pytest

from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.groups import Groups
from egret.model.integer_file import load_integer
from tests.support.command_line import CONFIGURATION


def test_quantise_and_compile(egret, network):
    assert egret("quantise", "network", "-o", "integer")[0] == 0
    assert egret("compile", "integer", "-o", "image")[0] == 0
    assert egret("compile", "network", "-o", "image2")[0] == 0
    assert (network / "image").read_bytes() == (network / "image2").read_bytes()
    status, out, _ = egret("compile", "integer", "-o", "small", "--lanes", 2, "--weight-bytes", 0)
    assert status == 0
    assert re.search(r"│ lanes +│ 2 +│", out)


def test_quantise_and_compile_for_machines(egret, network):
    made = json.loads(egret("quantise", "network", "-o", "integer", "--json")[1])
    assert made["network"] == "integer" and len(made["shifts"]) == len(CONFIGURATION.hidden_sizes)
    assert 0 < made["nonzero_integer"] <= made["nonzero_float"] <= made["weights"]
    compiled = json.loads(egret("compile", "integer", "-o", "image", "--lanes", 2, "--weight-bytes", 0, "--json")[1])
    assert compiled["image"] == "image" and compiled["verilog"] is None
    assert compiled["configuration"]["lanes"] == 2
    assert compiled["nonzeros"] == made["nonzero_integer"]
    assert compiled["slots_filled"] == compiled["nonzeros"] / (2 * compiled["words"])


def test_read_outs_of_a_network(egret, network, random_checkpoint):
    """In groups or not, the three engines agree; the command says what it has made."""
    made = json.loads(egret("quantise", "network", "-o", "integer", "--weight-bits", 4, "--json")[1])
    assert made["readout"] == {
        "head": 3,
        "groups": 0,
        "rows": 0,
        "codebook": len(load_integer("integer").readout_codebook),
    }
    configuration = dataclasses.replace(CONFIGURATION, readout=Groups(1, (2,), 4))
    save_checkpoint(random_checkpoint(configuration, scale=0.5), "grouped")
    made = json.loads(egret("quantise", "grouped", "-o", "integer", "--json")[1])
    assert made["readout"] == {"head": 1, "groups": 1, "rows": 4, "codebook": 0}
    results = {}
    for source, engine in (("grouped", "float"), ("grouped", "integer"), ("integer", "integer"), ("integer", "native")):
        result = json.loads(egret("evaluate", source, "--engine", engine, "--text", "text", "--json")[1])
        assert result.pop("engine") == engine
        results[source, engine] = result
    assert results["grouped", "integer"] == results["integer", "integer"] == results["integer", "native"]
    assert results["integer", "native"]["perplexity"] == pytest.approx(
        results["grouped", "float"]["perplexity"], rel=0.01
    )
    assert re.search("words in the head, groups +│ 1, 1 +│", egret("quantise", "grouped", "-o", "integer")[1])


def test_compile_writes_verilog(egret, network):
    assert egret("compile", "network", "--verilog", "core.v", "--weight-bytes", 0)[0] == 0
    assert "module egret_core(" in (network / "core.v").read_text()
    assert sorted(os.listdir()) == ["core.v", "network", "text"]


def test_bad_compilation(refused, network, random_checkpoint):
    before = sorted(os.listdir())
    assert refused("compile", "network") == (
        "nothing to write: give --output FILE for the image, --verilog FILE for the core, or both"
    )
    assert refused("compile", "network", "-o", "image", "--weight-bytes", 100).startswith("the network needs ")
    assert refused("compile", "network", "-o", "image", "--lanes", 3) == (
        "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3"
    )
    assert refused("compile", "network", "-o", "image", "--target", "moon").startswith("--target must be one of ")
    assert refused("compile", "text", "-o", "image").startswith("text: not a safetensors file, or cut short: ")
    assert refused("compile", "network", "-o", "no/where") == "no/where: cannot write it: No such file or directory"
    lstm = NetworkConfiguration("lstm", "char", 3, 4, (5, 4))
    assert sorted(os.listdir()) == before
    save_checkpoint(random_checkpoint(lstm), network / "lstm")
    for arguments in (("compile", "lstm", "-o", "image"), ("quantise", "lstm", "-o", "integer")):
        assert refused(*arguments).startswith("only an EGRU has an integer network, not 'lstm'")
    assert sorted(os.listdir()) == sorted([*before, "lstm"])
