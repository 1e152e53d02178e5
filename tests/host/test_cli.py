"""The command line: what it prints, and what it says to bad input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from egret.host import cli
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint

CONFIGURATION = NetworkConfiguration("egru", "char", 3, 4, (5, 4))
TEXT = "abcacbbacabbbcacbcabca" * 3


@pytest.fixture
def egret(capsys):
    """Run the command line: (status, standard output, standard error)."""

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refused(egret):
    """Run the command line and expect a refusal: the message."""

    def run(*arguments):
        status, out, err = egret(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("egret: error: ")
        assert err.count("\n") == 1
        return err.removeprefix("egret: error: ").rstrip("\n")

    return run


@pytest.fixture
def network(tmp_path, random_checkpoint, monkeypatch):
    """A directory, made the current one, with the checkpoint `network` and the text `text`."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(random_checkpoint(CONFIGURATION, scale=0.5), tmp_path / "network")
    (tmp_path / "text").write_text(TEXT)
    return tmp_path


# Commands


def test_help(egret):
    status, out, err = egret("--help")
    assert (status, err) == (0, "")
    for name in cli.egret.commands:
        assert f"\n  {name} " in out
    assert egret() == (status, out, err)
    for name in cli.egret.commands:
        status, out, err = egret(name, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(f"Usage: egret {name} ")


def test_quantise_and_compile(egret, network):
    assert egret("quantise", "network", "-o", "integer")[0] == 0
    assert egret("compile", "integer", "-o", "image")[0] == 0
    assert egret("compile", "network", "-o", "image2")[0] == 0
    assert (network / "image").read_bytes() == (network / "image2").read_bytes()
    status, out, _ = egret("compile", "integer", "-o", "small", "--lanes", 2, "--weight-bytes", 0)
    assert status == 0
    assert "│ lanes             │ 2 " in out


def test_compile_writes_verilog(egret, network):
    assert egret("compile", "network", "--verilog", "core.v", "--weight-bytes", 0)[0] == 0
    assert "module egret_core(" in (network / "core.v").read_text()
    assert sorted(os.listdir()) == ["core.v", "network", "text"]


def test_evaluate(egret, network):
    egret("quantise", "network", "-o", "integer")
    egret("compile", "network", "-o", "image")
    common = ("--text", "text", "--tokens", 40, "--json")
    results = {}
    for source, engine in (("network", "float"), ("network", "integer"), ("integer", "integer"), ("image", "integer")):
        status, out, err = egret("evaluate", source, "--engine", engine, *common)
        assert (status, err) == (0, "")
        results[source, engine] = json.loads(out)
    assert results["network", "integer"] == results["integer", "integer"] == results["image", "integer"]
    for (_, engine), result in results.items():
        assert result["engine"] == engine
        assert result["tokens"] == 40
        assert len(result["activity"]) == 2
        assert result["macs_per_token_dense"] == 15 * (4 + 5) + 12 * (5 + 4)
        assert 0 < result["macs_per_token"] < result["macs_per_token_dense"]
    perplexities = [results["network", engine]["perplexity"] for engine in ("float", "integer")]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=0.01)


def test_evaluate_in_streams_with_agreement(egret, network):
    arguments = ("evaluate", "network", "--text", "text", "--engine", "integer", "--batch", 4, "--agreement")
    status, out, _ = egret(*arguments, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["batch"]) == (0, len(TEXT) - 1, 4)
    assert len(result["event_agreement"]) == len(result["event_overlap"]) == 2
    status, out, _ = egret(*arguments)
    assert status == 0
    assert f"│ {len(TEXT) - 1} in 4 streams" in out
    assert f"{result['perplexity']:.3f}" in out


# Bad input


def test_bad_usage(refused, network):
    assert refused("fly") == "No such command 'fly'."
    assert refused("evaluate") == "Missing argument 'CHECKPOINT'."
    assert refused("evaluate", "network", "--text", "text", "--engine", "spice").startswith(
        "Invalid value for '--engine': 'spice' is not one of "
    )
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", "--tokens", "few") == (
        "Invalid value for '--tokens': 'few' is not a valid integer."
    )


SOURCES = pytest.mark.parametrize(
    "arguments",
    [
        ("quantise", "network", "-o", "output"),
        ("compile", "network", "-o", "output"),
        ("evaluate", "network", "--text", "text", "--engine", "float"),
        ("evaluate", "network", "--text", "text", "--engine", "integer"),
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


def test_corrupted_image(egret, refused, network):
    egret("compile", "network", "-o", "image")
    content = (network / "image").read_bytes()
    evaluate = ("evaluate", "image", "--engine", "integer", "--text", "text")
    for place in (9, len(content) // 2, len(content) - 1):
        (network / "image").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert refused(*evaluate).startswith("image: ")
    (network / "image").write_bytes(content[:-1])
    assert refused(*evaluate).startswith("image: ")


def test_agreement_needs_both_networks(refused, network):
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", "--agreement") == (
        "--agreement compares the integer network with the float one; --engine is float"
    )


# Other ends


def test_interruption(egret, network, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("egret.model.evaluate.evaluate", interrupt)
    status, out, err = egret("evaluate", "network", "--text", "text", "--engine", "float")
    assert (status, out, err) == (130, "", "\negret: interrupted\n")


def test_errors_of_the_system_take_one_line(refused, network, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("egret.model.evaluate.evaluate", fail)
    message = refused("evaluate", "network", "--text", "text", "--engine", "float")
    assert message == "some/file: Permission denied"


def test_closed_pipe(network):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        command = [sys.executable, "-W", "error", "-m", "egret.host.cli", "--help"]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (1, b"")
