"""The commands `egret train` and `egret prune`."""

import json
import os
import subprocess
import sys

from tests.support.command_line import TEXT

PRUNING = ("--set", "batch=4", "--set", "bptt=8", "--device", "cpu", "--train", "text", "--valid", "text")
TRAINING = ("--set", "tokens=char", "--set", "hidden_sizes=[5, 4]", "--set", "embedding_size=4", *PRUNING)


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
    status, out, _ = egret("prune", "trained", "-o", "pruned", *PRUNING, *pruning)
    assert status == 0
    assert "│ 79.8% " in out  # 194 of 243 weights
    _, out, _ = egret("evaluate", "pruned", "--text", "text", "--engine", "float", "--json")
    result = json.loads(out)
    assert result["macs_per_token_pruned"] == result["macs_per_token_dense"] - round(0.8 * 243)


def test_a_training_without_time(egret, network):
    """Nothing is measured yet: null in the object, words in the table."""

    def not_json(name):
        raise ValueError(name)

    arguments = ("train", "-o", "trained", *TRAINING, "--limit-seconds", 0)
    result = json.loads(egret(*arguments, "--json")[1], parse_constant=not_json)
    assert (result["epochs"], result["valid_loss"], result["valid_perplexity"]) == (0, None, None)
    json.loads((network / "trained" / "training.json").read_bytes(), parse_constant=not_json)
    status, out, _ = egret(*arguments)
    assert status == 0 and "│ not measured yet │" in out and "inf" not in out


def test_training_from_a_configuration(egret, network):
    (network / "network.toml").write_text(
        '[network]\ncell = "lstm"\ntokens = "char"\nembedding_size = 4\nhidden_sizes = [4]\n'
        '[text]\ntrain = "text"\nvalid = "text"\n[training]\nepochs = 1\nbatch = 2\nbptt = 8\ndevice = "cpu"\n'
    )
    assert egret("train", "--config", "network.toml", "-o", "trained")[0] == 0
    assert json.loads((network / "trained" / "config.json").read_text())["cell"] == "lstm"


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
    assert refused("prune", "network", "-o", "pruned", *PRUNING, "--sparsity", 1) == (
        "sparsity must be a number from 0 to below 1, not 1.0"
    )
    assert refused("prune", "network", "-o", "pruned", *PRUNING, "--sparsity", 0.5, "--regrow") == (
        "sparsity must be 0 where zeros may grow again, not 0.5"
    )
    assert refused("prune", "none", "-o", "pruned", *PRUNING, "--sparsity", 0.5).startswith("none: no ")
    for setting, name in (("network.reset=after", "reset"), ("cell=lstm", "cell"), ("epochs=3", "epochs")):
        assert refused("prune", "network", "-o", "pruned", *PRUNING, "--sparsity", 0.5, "--set", setting) == (
            f"--set: {name} is the checkpoint's, or has an option of its own; it cannot be set here"
        )
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
