"""The command line: what it prints, and what it says to bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from egret.boards import build
from egret.host.board import Board
from egret.host.cli import main as cli
from egret.host.peers import Run
from egret.host.transport import open_serial
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.compiler.image import Image, memory_sections
from egret.sim.virtual import VirtualBoard, board_build
from tests.host.test_self_test import stuck

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
    for name in cli.COMMANDS:
        assert f"\n  {name} " in out
    assert egret() == (status, out, err)
    for name in cli.COMMANDS:
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


def test_calibrate(egret, network):
    calibrate = ("calibrate", "network", "-o", "calibrated", "--text", "text", "--batch", 2)
    status, out, _ = egret(*calibrate)
    shown = re.search(r"│ scale of the read-out +│ ([0-2]\.\d{4}) │", out)
    assert status == 0 and f"{json.loads(egret(*calibrate, '--json')[1])['scale']:.4f}" == shown[1]
    losses = []
    for name in ("network", "calibrated"):
        _, out, _ = egret("evaluate", name, "--text", "text", "--engine", "float", "--batch", 2, "--json")
        losses.append(json.loads(out)["perplexity"])
    assert losses[1] < losses[0]
    bits = ("--weight-bits", 4, "--embedding-bits", 6)
    assert egret(*calibrate, *bits)[0] == 0
    losses = []
    for name in ("network", "calibrated"):
        egret("quantise", name, "-o", "integer", *bits)
        _, out, _ = egret("evaluate", "integer", "--text", "text", "--engine", "integer", "--batch", 2, "--json")
        losses.append(json.loads(out)["perplexity"])
    assert losses[1] < losses[0]


TRAINING = ("--set", "tokens=char", "--set", "hidden_sizes=[5, 4]", "--set", "embedding_size=4", "--set", "batch=4")
TRAINING += ("--set", "bptt=8", "--device", "cpu", "--train", "text", "--valid", "text")


def test_train_and_prune(egret, refused, network):
    status, out, _ = egret("train", "-o", "trained", *TRAINING, "--set", "epochs=2", "--json")
    result = json.loads(out)
    assert (status, result["epochs"], result["sparsity"]) == (0, 2, 0)
    _, out, _ = egret("evaluate", "trained", "--text", "text", "--engine", "float", "--json")
    assert json.loads(out)["tokens"] == len(TEXT) - 1
    # The same command finds nothing more to do; other options are refused.
    status, out, _ = egret("train", "-o", "trained", *TRAINING, "--set", "epochs=2", "--json")
    assert json.loads(out)["valid_loss"] == result["valid_loss"]
    assert refused("train", "-o", "trained", *TRAINING, "--set", "epochs=2", "--set", "seed=5").startswith(
        "trained/training.json: training began with seed = 1, not 5"
    )
    pruning = ("--sparsity", 0.8, "--epochs", 2, "--steps", 2)
    status, out, _ = egret("prune", "trained", "-o", "pruned", *TRAINING, *pruning)
    assert status == 0
    assert "│ 79.8% " in out  # 194 of 243 weights
    _, out, _ = egret("evaluate", "pruned", "--text", "text", "--engine", "float", "--json")
    result = json.loads(out)
    assert result["macs_per_token_pruned"] == result["macs_per_token_dense"] - round(0.8 * 243)


def test_training_from_a_configuration(egret, network):
    (network / "network.toml").write_text(
        '[network]\ncell = "lstm"\ntokens = "char"\nembedding_size = 4\nhidden_sizes = [4]\n'
        '[text]\ntrain = "text"\nvalid = "text"\n[training]\nepochs = 1\nbatch = 2\nbptt = 8\ndevice = "cpu"\n'
    )
    assert egret("train", "--config", "network.toml", "-o", "trained")[0] == 0
    assert json.loads((network / "trained" / "config.json").read_text())["cell"] == "lstm"


STUDY = """
title = "Small"
streams = 2
[[runs]]
name = "egru"
config = "network.toml"
prune = true
[[prunings]]
sparsity = 0.5
epochs = 1
"""


@pytest.fixture
def study(network):
    """`study.toml`, and what it takes to run it."""
    (network / "network.toml").write_text(
        '[network]\ntokens = "char"\nembedding_size = 4\nhidden_sizes = [5, 4]\n'
        "[training]\nepochs = 1\nbatch = 4\nbptt = 8\n"
    )
    (network / "study.toml").write_text(STUDY)
    return ("study.toml", "--train", "text", "--valid", "text", "--test", "text", "--device", "cpu")


def test_sweep_and_report(egret, refused, network, study):
    names = [f"egru-decay0.1-seed1-{kind}" for kind in ("dense", "sparse50")]
    status, out, err = egret("sweep", *study, "-o", "swept", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"points": 2, "finished": names, "ran": names, "left": []}
    assert json.loads(egret("sweep", *study, "-o", "swept", "--json")[1])["ran"] == []
    results = [json.loads((network / "swept" / name / "result.json").read_text()) for name in names]
    # The results are those of `egret evaluate`.
    evaluate = ("--text", "text", "--engine", "float", "--batch", 2, "--json")
    for name, result in zip(names, results, strict=True):
        expected = json.loads(egret("evaluate", f"swept/{name}", *evaluate)[1])
        assert result["test"]["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-5)
        assert result["activity"] == expected["activity"]
        assert result["macs"]["layers"] == expected["macs_per_token_by_layer"]
    status, out, _ = egret("sweep", *study, "-o", "swept")
    assert (status, f"test perplexity {results[0]['test']['perplexity']:.2f}" in out) == (0, True)
    status, out, err = egret("report", "--study", "swept", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["page"], report["finished"], report["missing"]) == ("swept/report.html", 2, 0)
    assert all((network / path).exists() for path in (report["page"], *report["tables"]))
    assert f"{results[1]['test']['perplexity']:.2f}</td>" in (network / report["page"]).read_text()
    status, out, _ = egret("report", "--study", "swept", "-o", "page.html")
    assert (status, "│ points finished │ 2 of 2" in out, (network / "page-points.csv").exists()) == (0, True, True)
    (network / "network.toml").write_text((network / "network.toml").read_text().replace("batch = 4", "batch = 2"))
    assert refused("sweep", *study, "-o", "swept") == (
        f"{network}/swept/{names[0]}/result.json: finished with options.batch = 4, not 2; "
        "give the same study or another directory"
    )


def test_a_sweep_of_limited_time(egret, network, study):
    status, out, _ = egret("sweep", *study, "-o", "swept", "--limit-seconds", 0, "--json")
    assert (status, json.loads(out)["finished"], len(json.loads(out)["left"])) == (0, [], 2)
    status, out, _ = egret("sweep", *study, "-o", "swept", "--limit-seconds", 0)
    assert (status, out.count("time is up; run again to go on")) == (0, 2)


def test_bad_studies(refused, network, study):
    assert refused("sweep", "none.toml", "-o", "swept") == (
        "none.toml: cannot read the study: No such file or directory"
    )
    assert refused("sweep", "study.toml", "-o", "swept") == (
        "study.toml: lacks the text 'train'; give it in [texts] or as --train"
    )
    (network / "study.toml").write_text(STUDY.replace("network.toml", "no.toml"))
    assert refused("sweep", *study, "-o", "swept").startswith("study.toml: runs[0]: no.toml: cannot read the config")
    assert refused("report", "--study", "swept") == "swept: no such directory; expected one that `egret sweep` wrote"
    assert sorted(os.listdir()) == ["network", "network.toml", "study.toml", "text"]


@pytest.mark.parametrize(
    ("module", "arguments", "what"),
    [
        ("torch", ["sweep", "s.toml", "-o", "d"], "training"),
        ("ray", ["sweep", "s.toml", "-o", "d", "--ray", "local"], "--ray"),
        ("matplotlib", ["report", "--study", "d"], "the report"),
    ],
)
def test_studies_without_what_they_need(network, module, arguments, what):
    program = f"import sys\nsys.modules[{module!r}] = None\n"
    program += f"from egret.host.cli.main import main\nsys.exit(main({arguments}))"
    message = f"{what} needs {module}, which is not installed; install it: pip install {module}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"egret: error: {message}\n")
    assert sorted(os.listdir()) == ["network", "text"]


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


def test_simulated_core(egret, network):
    status, out, err = egret("evaluate", "network", "--text", "text", "--engine", "rtl", "--json")
    result = json.loads(out)
    assert (status, result["mismatches"], result["tokens"]) == (0, 0, len(TEXT) - 1)
    _, out, _ = egret("evaluate", "network", "--text", "text", "--engine", "integer", "--json")
    for name, value in json.loads(out).items():
        assert result[name] == value or name == "engine"
    assert result["cycles_per_token"] > 0
    assert 0 < result["lane_utilisation"] <= 1
    # The same core serves text generation and the bench.
    egret("compile", "network", "-o", "image")
    texts = []
    for source, seed in (("network", 3), ("image", 3), ("image", 4)):
        status, out, err = egret("run", source, "--tokens", 50, "--prompt", "ab", "--seed", seed)
        assert status == 0
        assert "51 of 51 tokens match the integer network\n" in err
        assert len(out) == 2 + 50 + 1
        texts.append(out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("ab")
    status, out, _ = egret("run", "image", "--tokens", 20, "--seed", 3, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["steps"], result["matching"]) == (0, 20, 20, 20)
    assert len(result["text"]) == 20 and result["first_mismatch"] is None and result["cycles_per_token"] > 0
    status, out, _ = egret("bench", "image", "--tokens", 30, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["mismatches"], result["lanes"]) == (0, 30, 0, 8)
    assert "speed" not in result


def test_a_text_on_a_board(egret, refused, network):
    """Compared or streamed, on the virtual board, at its pins or on a port: the integer network's perplexity."""
    egret("compile", "network", "-o", "image")
    _, out, _ = egret("evaluate", "image", "--text", "text", "--engine", "integer", "--json")
    expected = json.loads(out)
    arguments = ("run", "image", "--text", "text", "--json")
    assert refused(*arguments, "--folded", 3) == (
        "image: the image is compiled for folded_tokens 0, not 3; give its checkpoint"
    )
    results = []
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        for more in ((), ("--no-check",), ("--port", board.port), ("--port", board.port, "--no-check"), ("--pins", 8)):
            status, out, _ = egret(*arguments, *more)
            assert status == 0
            results.append(json.loads(out))
        status, out, _ = egret(*arguments[:-1], "--no-check", "--tokens", 5, "--port", board.port)
        assert status == 0 and re.search(r"│ tokens predicted +│ 5 +│", out) and "│ link busy" in out
    for result in results:
        assert result["tokens"] == len(TEXT) - 1
        assert result["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-9)
        assert 15 <= result["bytes_sent_per_token"] < 17
        assert 13 <= result["bytes_received_per_token"] < 17 + 2  # a frame, the bitmap, and up to four events
    assert [result["mismatches"] for result in results] == [0, None, 0, None, 0]
    assert ["link_busy" in result for result in results] == [False, False, True, True, False]


def test_self_test(egret, refused, network, monkeypatch):
    egret("compile", "network", "-o", "image")
    status, out, err = egret("self-test", "image", "--patterns", 2, "--json")
    result = json.loads(out)
    assert (status, err, result["patterns"], result["wrong_steps"]) == (0, "", 2, 0)
    assert result["first_mismatch"] is None and result["coverage"]["weights"]["used"] > 0
    status, out, _ = egret("self-test", "image", "--patterns", 1)
    assert status == 0 and "│ memory weights" in out and "both 0 and 1" in out
    assert refused("self-test", "image", "--patterns", 0) == "--patterns must be at least 1, not 0"
    load = Board.load
    shift = next(section for section in memory_sections(Image.load("image").configuration) if section.name == "shift")
    monkeypatch.setattr(Board, "load", lambda board, image: load(board, stuck(image, shift, 5, 3, 1)))
    status, _, err = egret("self-test", "image")
    assert status == 1 and err.count("\n") == 1
    assert err.startswith("egret: the board's memories, or its core, are faulty: image 0, step ")


def test_bench_of_a_board(egret, refused, network):
    """What a board's core is measured to do in simulation says how many tokens a second it does at its clock."""
    status, out, _ = egret("bench", "network", "--board", "ulx3s-85f", "--tokens", 30, "--json")
    result = json.loads(out)
    speed = result["speed"]
    assert (status, result["lanes"], speed["megahertz"], speed["baud"]) == (0, 8, 80, 2_962_963)
    assert speed["cycles_per_token"] == result["cycles_per_token"]
    byte = 10 / speed["baud"]
    sent, received = speed["bytes_sent_per_token"] * byte, speed["bytes_received_per_token"] * byte
    assert speed["at_once"]["limit"] == "link"
    assert speed["at_once"]["streamed_tokens_per_second"] == pytest.approx(1 / max(sent, received))
    assert speed["at_once"]["generated_tokens_per_second"] == pytest.approx(
        1 / (sent + received + speed["cycles_per_token"] / 80e6)
    )
    status, out, _ = egret("bench", "network", "--board", "ulx3s-85f", "--tokens", 30)
    assert status == 0 and "expected tokens a second" in out
    assert refused("bench", "network", "--board", "x") == (
        "--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, not 'x'"
    )
    assert refused("bench", "network", "--board", "ulx3s-85f", "--store", "sdram") == (
        "--board has a core of its own: of its options only --lanes and --folded go with it"
    )


@pytest.mark.slow
def test_bench_of_boards_in_a_pipeline(egret, network):
    """Each part of the network on a board of its own: its events enter the next one, all are checked."""
    options = ("bench", "network", "--board", "ulx3s-85f", "--split", 1, "--tokens", 30)
    status, out, _ = egret(*options, "--json")
    result = json.loads(out)
    assert status == 0 and [board["layers"] for board in result["boards"]] == [[1, 1], [2, 2]]
    assert [board["mismatches"] for board in result["boards"]] == [0, 0]
    assert result["cycles_per_token"] == max(board["cycles_per_token"] for board in result["boards"])
    status, out, _ = egret(*options)
    assert status == 0 and "network on 2 boards, 30 tokens" in out and "tokens a second, streamed" in out


def test_bench_of_boards_that_cannot_be(refused, network):
    assert refused("bench", "network", "--split", "x") == (
        "--split must be numbers of layers, such as 1 or 1,2, not 'x'"
    )
    assert refused("bench", "network", "--split", "2") == (
        "a network of 2 layers can be cut behind layers 1 to 1, in rising order, not 2"
    )
    assert refused("bench", "network", "--split", "1", "--speed-ups") == (
        "--split prints the boards' figures alone: --speed-ups, --energy, --peers and --plot do not go with it"
    )


def test_bench_estimates_energy(egret, network):
    status, out, _ = egret(
        "bench", "network", "--store", "sdram", "--resident-bytes", 100, "--tokens", 20, "--energy", "--json"
    )
    result = json.loads(out)
    energy = result["energy"]
    low, high = energy["joules_per_token"]
    assert (status, energy["estimate"], energy["megahertz"]) == (0, True, 80) and 0 < low < high
    causes = energy["causes"]
    assert causes["resident weights"]["count"] > [0] and causes["queues"]["count"] > [0]
    np.testing.assert_allclose(np.sum([cause["joules"] for cause in causes.values()], axis=0), [low, high])
    assert causes["SDRAM, read"]["count"] == [result["counters"]["beats"] * 2 / 20]
    fewest, most = causes["SDRAM, rows"]["count"]
    assert fewest < most
    assert causes["SDRAM, standby"]["count"] == [pytest.approx(result["cycles_per_token"] / 80e6)]
    assert energy["board_joules_at_most"] == pytest.approx(2.5 * result["cycles_per_token"] / 80e6)
    assert "peers" not in result
    status, out, _ = egret("bench", "network", "--board", "icebreaker", "--tokens", 20, "--energy")
    assert status == 0 and "an estimate, nothing measured, at 24 MHz" in " ".join(out.split())
    assert re.search(r"│ accumulators +│ +[\d,]+ bits │", out) and "SDRAM" not in out and "ULX3S" not in out


def test_bench_compares_peers(egret, refused, network, monkeypatch):
    status, out, _ = egret(
        "bench", "network", "--store", "sdram", "--resident-bytes", 100, "--tokens", 20, "--peers", "--json"
    )
    result = json.loads(out)
    peers = {peer["name"]: peer for peer in result["peers"]}
    assert status == 0 and "energy" not in result
    core = peers["this core"]
    assert core["steps_per_second"] == pytest.approx(80e6 / result["cycles_per_token"])
    assert "estimated" in core["source"] and len(core["joules_per_step"]) == 2
    assert peers["its bound: lanes"]["steps_per_second"] == pytest.approx(80e6 / result["bound_cycles_per_token"])
    assert peers["its bound: bus"]["steps_per_second"] == pytest.approx(80e6 * 20 / result["counters"]["beats"])
    measured = [peer for name, peer in peers.items() if name.startswith("PyTorch, ")]
    assert len(measured) >= 3 and all(peer["mismatches"] == 0 and peer["joules_per_step"] is None for peer in measured)
    assert "derived" in peers["SpiNNaker 2"]["source"]
    status, out, _ = egret("bench", "network", "--tokens", 20, "--peers")
    assert status == 0 and "│ PyTorch, dense " in out and "bound: bus" not in out
    run = Run("dense", 1, 1e-3, 7)
    monkeypatch.setattr("egret.host.peers.run_engines", lambda *arguments, progress: [run])
    status, out, err = egret("bench", "network", "--tokens", 20, "--peers", "--json")
    assert status == 1 and json.loads(out)["peers"]
    assert err == "egret: not as the integer network says: 7 event values of PyTorch, dense\n"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused("bench", "network", "--peers") == (
        "--peers needs torch, which is not installed; install it: pip install torch"
    )


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


def test_bad_training(refused, network):
    assert refused("train", "-o", "trained") == "no text to use: give --train FILE, or --config FILE that names one"
    assert refused("train", "-o", "trained", *TRAINING, "--set", "speed=9").startswith(
        "--set: unknown field 'speed'; accepted are train, valid, "
    )
    assert refused("train", "-o", "trained", *TRAINING, "--set", "epochs") == (
        "--set takes NAME=VALUE, as in --set epochs=10, not 'epochs'"
    )
    assert refused("train", "-o", "trained", *TRAINING, "--set", "cell=gru") == (
        "cell must be 'egru' or 'lstm', not 'gru'"
    )
    assert refused("train", "-o", "trained", "--config", "none.toml").startswith("none.toml: cannot read ")
    assert refused("prune", "network", "-o", "pruned", *TRAINING, "--sparsity", 1) == (
        "sparsity must be a number from 0 to below 1, not 1.0"
    )
    assert refused("prune", "network", "-o", "pruned", *TRAINING, "--sparsity", 0.5, "--regrow") == (
        "sparsity must be 0 where zeros may grow again, not 0.5"
    )
    assert refused("prune", "none", "-o", "pruned", *TRAINING, "--sparsity", 0.5).startswith("none: no ")
    (network / "text").write_text("")
    assert refused("train", "-o", "trained", *TRAINING) == "text: the text is empty; at least one token is needed"
    assert sorted(os.listdir()) == ["network", "text"]


def test_training_without_torch(network):
    program = (
        "import sys\nsys.modules['torch'] = None\nfrom egret.host.cli.main import main\n"
        "sys.exit(main(['train', '-o', 'trained']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "egret: error: training needs torch, which is not installed; install it: pip install torch\n"
    )


def test_bad_runs(egret, refused, network):
    egret("compile", "network", "-o", "image")
    assert refused("run", "image", "--prompt", "") == "--prompt: the prompt is empty; at least one token is needed"
    assert refused("run", "image", "--prompt", "abd") == (
        "--prompt: line 1 of the text: character 'd' is not in the vocabulary"
    )
    assert refused("run", "image", "--temperature", -1) == "temperature must be 0 or a positive number, not -1.0"
    assert refused("run", "image", "--seed", -1) == "seed must be an integer of at least 0, not -1"
    assert refused("run", "image", "--port", "/dev/egret").startswith("serial port /dev/egret: cannot be opened: ")
    assert refused("run", "image", "--port", "/dev/egret", "--trace", "x.vcd") == (
        "--trace is for the virtual board, not for a board on --port"
    )
    assert refused("run", "image", "--text", "text", "--prompt", "ab") == (
        "--text measures a text, and --prompt begins one to generate: give one of them"
    )
    assert refused("run", "image", "--text", "text", "--tokens", 66) == (
        "text: --tokens must be from 1 to 65, the text's predictions, not 66"
    )
    assert refused("run", "image", "--port", "/dev/egret", "--pins", 27) == (
        "--pins is for the virtual board, not for a board on --port"
    )
    assert refused("run", "image", "--pins", 3) == "Invalid value for '--pins': 3 is not in the range x>=4."
    assert refused("bench", "image", "--lanes", 4) == (
        "image: the image is compiled for lanes 8, not 4; give its checkpoint"
    )
    assert refused("bench", "image", "--tokens", 0) == "--tokens must be at least 1, not 0"
    assert refused("evaluate", "image", "--text", "text", "--engine", "rtl", "--batch", 2) == (
        "the core runs one stream: --batch must be 1 with --engine rtl, not 2"
    )
    assert sorted(os.listdir()) == ["image", "network", "text"]


def test_boards_that_are_not_for_this_run(egret, refused, network):
    egret("compile", "network", "-o", "image")
    egret("compile", "network", "-o", "other", "--lanes", 2)
    configuration = Image.load("image").configuration
    with VirtualBoard(board_build(configuration).program()) as board:
        message = refused("run", "other", "--port", board.port)
        assert message.startswith("the image is for configuration ") and message.endswith(
            f", but {board.port} has configuration {configuration.digest.hex()} (3 tokens, last layer 4): compile the "
            "image for this board, or build the board for this image"
        )
        with open_serial(board.port):
            message = refused("run", "image", "--port", board.port)
        assert message.startswith(f"serial port {board.port}: cannot be opened: ")
        assert "; serial ports found: " in message
        assert egret("run", "image", "--port", board.port, "--tokens", 5)[0] == 0


@pytest.mark.parametrize(
    "fault, message",
    [
        ("unplugged", "the connection was lost: .*"),
        ("reset", "the board was reset, its memories and state are lost: load the image again"),
    ],
)
def test_boards_that_fail_in_mid_run(fault, message, egret, network):
    """The run ends with one line, with what came before it as text."""
    egret("compile", "network", "-o", "image")
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        command = [
            sys.executable,
            "-m",
            "egret.host.cli.main",
            "run",
            "image",
            "--port",
            board.port,
            "--tokens",
            "10000000",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert len(process.stdout.read(20)) == 20
            board.reset() if fault == "reset" else board._process.kill()
            out, err = process.communicate()
        assert process.returncode == 2 and set(out) <= set("abc\n")
        assert re.fullmatch(f"egret: error: {board.port}: {message}\n", err)


def test_agreement_needs_both_networks(refused, network):
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", "--agreement") == (
        "--agreement compares the integer network with the float one; --engine is float"
    )


# Other ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption(egret, network, monkeypatch, number):
    def interrupt(*_, **__):
        if number == signal.SIGINT:  # which a runner of tests may ignore
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)
        time.sleep(10)

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
        command = [sys.executable, "-W", "error", "-m", "egret.host.cli.main", "--help"]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (1, b"")


# Boards


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "Missing option '--board'."),
        (("--board", "x"), "--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, not 'x'"),
        (("--board", "icebreaker", "--clock", "0"), "--clock must be above 0, not 0"),
        (("--board", "icebreaker", "--tokens", "-1"), "--tokens must be at least 0, not -1"),
        (
            ("--board", "icebreaker", "nothing"),
            (
                "nothing: cannot read it: No such file or directory; expected a checkpoint "
                "directory, an integer network or an image"
            ),
        ),
        (
            ("--board", "ulx3s-85f", "network", "--lanes", "3"),
            "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3",
        ),
        (
            ("--board", "ulx3s-85f", "network", "--clock", "3"),
            ("ULX3S-85F: hertz must be a clock that the PLL makes of 25 MHz, not 3 MHz, the nearest is 3.125 MHz"),
        ),
    ],
)
def test_build_refuses(refused, network, monkeypatch, arguments, message):
    for variable in ("YOSYS", "NEXTPNR_ECP5", "NEXTPNR_ICE40", "ECPPACK", "ICEPACK"):
        monkeypatch.setenv(variable, sys.executable)
    assert refused("build", *arguments) == message
    assert not (network / "build").exists()


def test_build_names_the_extra(refused, network, monkeypatch):
    class Lacks:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "amaranth_boards":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in list(sys.modules):
        if name.split(".")[0] == "amaranth_boards" or name == "egret.boards.ulx3s":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Lacks, *sys.meta_path])
    assert refused("build", "--board", "ulx3s-85f") == (
        "building needs amaranth_boards, which is not installed; install it: pip install 'egret-fpga[build]'"
    )


def test_build_leaves_nothing_when_a_tool_fails(egret, network, monkeypatch):
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "false")
    status, _, err = egret("build", "--board", "ulx3s-85f", "network", "-o", "out/here", "--tokens", 10)
    assert status == 2
    assert err.splitlines()[-1] == "egret: error: ULX3S-85F: yosys failed: no message"
    assert list((network / "out").iterdir()) == []


def test_build_says_what_to_expect(egret, network, monkeypatch):
    """Tokens a second at the clock that the PLL makes, in the report, the object and the table; or not at all."""

    def run(design, tools, directory, *, progress):
        for name in ("top.bit", "top.rpt", "top.tim"):
            (directory / name).write_text("")
        return build.Result(90.0, design.hertz / 1e6, {"luts": 7}, "a to b", {"synthesis": 1.0}, directory / "top.bit")

    monkeypatch.setattr(build, "run", run)
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, "true")
    arguments = ("build", "--board", "ulx3s-85f", "network", "-o", "out", "--clock", 60)
    status, out, _ = egret(*arguments, "--tokens", 10, "--json")
    speed = json.loads(out)["speed"]
    assert (status, speed["megahertz"], speed["baud"]) == (0, 60, 3_000_000)
    assert json.loads((network / "out" / "report.json").read_text())["speed"] == speed
    assert 0 < speed["usb"]["generated_tokens_per_second"] < speed["at_once"]["generated_tokens_per_second"]
    status, out, _ = egret(*arguments, "--tokens", 10)
    assert status == 0 and out.count("expected tokens a second") == 4
    status, out, _ = egret(*arguments, "--tokens", 0, "--json")
    assert status == 0 and json.loads(out)["speed"] is None
