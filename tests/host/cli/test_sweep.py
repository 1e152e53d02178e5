"""The commands `egret sweep` and `egret report`."""

import json
import os
import subprocess
import sys

import pytest

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
    assert refused("sweep", "none.toml", "-o", "swept") == ("none.toml: cannot read it: No such file or directory")
    assert refused("sweep", "study.toml", "-o", "swept") == (
        "study.toml: lacks the text 'train'; give it in [texts] or as --train"
    )
    (network / "study.toml").write_text(STUDY.replace("network.toml", "no.toml"))
    assert refused("sweep", *study, "-o", "swept").startswith("study.toml: runs[0]: no.toml: cannot read it")
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
