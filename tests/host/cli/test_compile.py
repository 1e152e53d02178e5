"""The commands `egret quantise` and `egret compile`."""

import json
import os
import re

from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
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
        assert refused(*arguments).startswith("only an EGRU with reset 'before' has an integer network, not 'lstm'")
    assert sorted(os.listdir()) == sorted([*before, "lstm"])
