"""Studies: what runs, what does not run again, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.training import sweep as sweeping
from egret.model.training.study import Study
from egret.model.training.sweep import sweep

CONFIGS = Path(sweeping.__file__).parent.parent / "configs"
TINY = CONFIGS / "study-tiny.toml"
TEXT = "the quality of mercy is not strained\nit droppeth as the gentle rain from heaven\n"
NAMES = [
    *(f"egru-decay0.1-seed{seed}-{kind}" for seed in (1, 2) for kind in ("dense", "sparse50", "sparse90")),
    "egru-decay1-seed1-dense",
    *(f"lstm-decay0.1-seed1-{kind}" for kind in ("dense", "sparse50", "sparse90")),
]


@pytest.fixture
def texts(tmp_path):
    for name, text in {"train": TEXT * 5, "valid": TEXT[:80], "test": TEXT[40:80]}.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in ("train", "valid", "test")}


@pytest.fixture
def study(texts):
    return Study.from_toml(TINY, **texts, device="cpu")


@pytest.fixture
def trained(monkeypatch):
    """Names of the directories that training or pruning was called for."""
    names = []
    for name in ("train", "prune"):
        original = getattr(sweeping, name)

        def counted(first, directory, *arguments, original=original, **keywords):
            names.append(directory.name)
            return original(first, directory, *arguments, **keywords)

        monkeypatch.setattr(sweeping, name, counted)
    return names


def small(tmp_path, texts, content="", pruning=""):
    """A study of one run: two epochs of a dense network, and what `pruning` adds."""
    path = tmp_path / "study.toml"
    path.write_text(
        f'title = "Small"\nstreams = 2\n{content}\n[[runs]]\nname = "a"\nconfig = "{CONFIGS / "tiny-egru.toml"}"\n'
        f"prune = true\nset = {{epochs = 2, decay_from = 1, hidden_sizes = [6, 5], embedding_size = 5}}\n{pruning}"
    )
    return Study.from_toml(path, **texts, device="cpu")


PRUNING = "[[prunings]]\nsparsity = 0.5\nepochs = 1\n"


# The grid


def test_the_tiny_study_end_to_end(study, tmp_path, trained):
    assert [point.name for point in study.points] == NAMES
    result = sweep(study, tmp_path / "out")
    assert (list(result.finished), result.ran, result.left) == (NAMES, NAMES, [])
    assert trained == NAMES
    listed = json.loads((tmp_path / "out" / "study.json").read_text())
    assert (listed["title"], listed["corpus"]) == ("Tiny networks", None)
    assert [point["name"] for point in listed["points"]] == NAMES
    for point in study.points:
        folder = tmp_path / "out" / point.name
        content = json.loads((folder / "result.json").read_text())
        assert content == result.finished[point.name]
        checkpoint = load_checkpoint(folder)
        assert (content["cell"], content["seed"]) == (checkpoint.configuration.cell, point.options.training.seed)
        assert content["zeros"] == pytest.approx(point.sparsity, abs=1e-3)
        assert (content["valid"]["tokens"], content["test"]["tokens"]) == (79, 39)
        assert content["macs"]["pruned"] == pytest.approx((1 - point.sparsity) * content["macs"]["dense"], abs=2)
        assert sum(content["macs"]["layers"]) == pytest.approx(content["macs"]["event_driven_pruned"])
        assert content["streams"] == 8 and content["device"] == "CPU" and content["tokens_per_second"] > 0
        histograms = content["histograms"]
        assert [sum(layer["counts"]) for layer in histograms["activity"]] == [24, 16]
        gates = checkpoint.configuration.gates
        assert [sum(layer["counts"]) for layer in histograms["biases"]] == [24 * gates, 16 * gates]
        weights = sum(sum(layer["counts"]) for layer in histograms["weights"])
        assert weights == content["macs"]["pruned"]
        steps = content["test"]["tokens"]
        expected = [steps * 24, steps * 16] if content["cell"] == "egru" else []
        assert [sum(layer["counts"]) for layer in histograms["distances"]] == expected
    parents = [result.finished[name]["parent"] for name in NAMES[:3]]
    assert parents == [None, NAMES[0], NAMES[1]]  # the tiny study chains its prunings


def test_a_finished_point_is_not_repeated(tmp_path, texts, trained):
    first = sweep(small(tmp_path, texts), tmp_path / "out")
    path = tmp_path / "out" / "a-decay0.1-seed1-dense" / "result.json"
    before = path.stat()
    study = small(tmp_path, texts, pruning=PRUNING)
    second = sweep(study, tmp_path / "out")
    assert trained == ["a-decay0.1-seed1-dense", "a-decay0.1-seed1-sparse50"]
    assert second.ran == ["a-decay0.1-seed1-sparse50"]
    assert second.finished["a-decay0.1-seed1-dense"] == first.finished["a-decay0.1-seed1-dense"]
    assert sweep(study, tmp_path / "out").ran == []
    assert len(trained) == 2
    assert path.stat() == before


def test_all_prunings_may_start_from_the_dense_network(tmp_path, texts):
    second = "[[prunings]]\nsparsity = 0.8\nepochs = 2\nsteps = 2\nset = {dropout_recurrent = 0.0}\n"
    chained = small(tmp_path, texts, 'parent = "previous"', PRUNING + second)
    assert [point.parent for point in chained.points] == [None, *[point.name for point in chained.points[:2]]]
    assert len(chained.points[2].prunings) == 2
    study = small(tmp_path, texts, 'parent = "dense"', PRUNING + second)
    assert [point.parent for point in study.points] == [None, *[study.points[0].name] * 2]
    pruning, changes = study.points[2].prunings[-1]
    assert (pruning.sparsity, pruning.steps, changes) == (0.8, 2, {"dropout_recurrent": 0.0})


def test_a_pruning_of_some_runs_with_a_name(tmp_path, texts):
    other = f'[[runs]]\nname = "b"\nconfig = "{CONFIGS / "tiny-egru.toml"}"\nprune = true\n'
    priced = PRUNING + 'runs = ["b"]\nname = "priced"\nset = {mac_weight = 1}\n'
    study = small(tmp_path, texts, other, PRUNING + priced)
    ends = [(point.run, point.name.rsplit("-", 1)[1], point.parent and point.parent[0]) for point in study.points]
    first, second = [("b", "dense", None), ("b", "sparse50", "b"), ("b-priced", "sparse50", "b")], ends[3:]
    assert ends[:3] == first and second == [("a", "dense", None), ("a", "sparse50", "a")]
    assert study.points[2].name.startswith("b-priced-decay") and study.points[2].parent == study.points[0].name
    assert study.points[2].prunings[0][1] == {"mac_weight": 1}


def test_a_named_pruning_without_new_zeros(tmp_path, texts):
    """It trains its parent on, and others may start from it by its sparsity."""
    longer = '[[prunings]]\nname = "on"\nsparsity = 0\nepochs = 1\n'
    study = small(tmp_path, texts, pruning=longer + longer.replace("= 0", "= 0.5\nparent = 0"))
    assert [point.name for point in study.points] == [
        "a-decay0.1-seed1-dense", "a-on-decay0.1-seed1-sparse0", "a-on-decay0.1-seed1-sparse50"
    ]  # fmt: skip
    assert [point.parent for point in study.points[1:]] == [point.name for point in study.points[:2]]
    assert [point.sparsity for point in study.points] == [0, 0, 0.5]


def test_what_a_pruning_starts_from(tmp_path, texts):
    """By the study the previous one of its name; by the table the dense network, or the sparsity of an earlier one."""

    def table(sparsity, *lines):
        return "\n".join(["[[prunings]]", f"sparsity = {sparsity}", "epochs = 1", *lines, ""])

    tables = [table(0.5), table(0.6), table(0.5, 'name = "b"'), table(0.6, 'name = "b"')]
    tables += [table(0.7, "parent = 0.5"), table(0.8, 'parent = "previous"'), table(0.9, 'parent = "dense"')]
    study = small(tmp_path, texts, 'parent = "previous"', "".join(tables))
    parents = {point.name.replace("-decay0.1-seed1", ""): point.parent for point in study.points}
    parents = {name: parent and parent.replace("-decay0.1-seed1", "") for name, parent in parents.items()}
    assert parents == {
        "a-dense": None, "a-sparse50": "a-dense", "a-sparse60": "a-sparse50", "a-b-sparse50": "a-dense",
        "a-b-sparse60": "a-b-sparse50", "a-sparse70": "a-sparse50", "a-sparse80": "a-sparse70", "a-sparse90": "a-dense",
    }  # fmt: skip
    assert [pruning.sparsity for pruning, _ in study.points[5].prunings] == [0.5, 0.7]


def test_a_pruning_of_some_seeds(tmp_path, texts):
    content = TINY.read_text().replace('"tiny-', f'"{CONFIGS}/tiny-').replace("steps = 2", "seeds = [2]", 1)
    (tmp_path / "study.toml").write_text(content)
    names = [point.name for point in Study.from_toml(tmp_path / "study.toml", **texts).points]
    assert [name for name in names if "sparse90" in name] == ["egru-decay0.1-seed2-sparse90"]
    assert len([name for name in names if "sparse50" in name]) == 3


def test_time_that_is_up(tmp_path, texts, trained):
    study = small(tmp_path, texts, pruning=PRUNING)
    result = sweep(study, tmp_path / "out", limit_seconds=0)
    assert (result.finished, result.ran, trained) == ({}, [], [])
    assert result.left == [point.name for point in study.points]
    # Time for the first steps only: the training state is there, the result is not.
    result = sweep(study, tmp_path / "out", limit_seconds=1e-3)
    assert len(result.left) == 2
    assert not list((tmp_path / "out").glob("*/result.json"))
    assert sweep(study, tmp_path / "out").left == []


def test_time_that_is_up_while_pruning(tmp_path, texts, monkeypatch):
    study = small(tmp_path, texts, pruning=PRUNING)
    sweep(small(tmp_path, texts), tmp_path / "out")
    original = sweeping.prune

    def late(*arguments, **keywords):
        return original(*arguments, **{**keywords, "limit_seconds": 0})

    clock = iter([0.0, 0.0, 100.0])
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "prune", late)
        patch.setattr(sweeping.time, "time", lambda: next(clock))
        result = sweep(study, tmp_path / "out", limit_seconds=50)
    assert (result.ran, result.left) == ([], ["a-decay0.1-seed1-sparse50"])
    assert (tmp_path / "out" / "a-decay0.1-seed1-sparse50" / "training.json").exists()
    assert sweep(study, tmp_path / "out").left == []


def test_a_killed_sweep_goes_on_to_the_same_end(tmp_path, texts):
    study = small(tmp_path, texts, pruning=PRUNING)
    program = (
        "import os, sys, torch\nfrom egret.model.training import loop, study, sweep\ntorch.set_num_threads(1)\n"
        "save = loop.Trainer.save\n"
        "def kill(self, directory):\n    save(self, directory)\n    os._exit(9)\n"
        "loop.Trainer.save = kill\n"
        "folder = sys.argv[1]\n"
        "texts = {name: f'{folder}/{name}' for name in ('train', 'valid', 'test')}\n"
        "study = study.Study.from_toml(f'{folder}/study.toml', **texts, device='cpu')\n"
        "sweep.sweep(study, f'{folder}/killed')\n"
    )
    for finished in (0, 1):  # dies once in each point, after its training and before its result
        assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode == 9
        assert len(list((tmp_path / "killed").glob("*/result.json"))) == finished
        if not finished:
            sweep(small(tmp_path, texts), tmp_path / "killed")
            small(tmp_path, texts, pruning=PRUNING)
    whole, resumed = (sweep(study, tmp_path / name).finished for name in ("whole", "killed"))
    for name in whole:
        for key in ("seconds", "tokens_per_second"):
            del whole[name][key], resumed[name][key]
    assert resumed == whole


# On Ray


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed; pip install 'egret-fpga[ray]' to run this")
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_ray_runs_the_same_points(tmp_path, texts, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    study = small(tmp_path, texts, pruning=PRUNING)
    here = sweep(study, tmp_path / "here")
    told = []
    there = sweep(study, tmp_path / "there", ray="local", tell=told.append)
    assert there.ran == list(there.finished) == here.ran
    assert told == [f"{name} ({number + 1} of 2)" for number, name in enumerate(here.ran)]
    for name, result in there.finished.items():
        for key in ("seconds", "tokens_per_second"):
            del result[key], here.finished[name][key]
        assert result == here.finished[name]
    assert sweep(study, tmp_path / "there", ray="no such place").ran == []  # nothing to run, so no cluster is asked
    # What is refused on another machine is one line here.
    (tmp_path / "there" / here.ran[1] / "result.json").unlink()
    (tmp_path / "there" / here.ran[0] / "config.json").unlink()
    with pytest.raises(InputError) as caught:
        sweep(study, tmp_path / "there", ray="local")
    assert str(caught.value) == f"{tmp_path}/there/{here.ran[0]}/config.json: cannot read it: No such file or directory"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto", "127.0.0.1:99999", ":"])
def test_an_address_where_no_cluster_is(tmp_path, texts, address):
    with pytest.raises(InputError) as caught:
        sweep(small(tmp_path, texts), tmp_path / "out", ray=address)
    assert str(caught.value).startswith(f"ray {address!r}: no cluster there: ")
    assert str(caught.value).endswith("; accepted are local and HOST:PORT")
    assert not (tmp_path / "out").exists()


# What is refused


def test_a_changed_specification_is_refused(tmp_path, texts, trained):
    sweep(small(tmp_path, texts), tmp_path / "out")
    where = f"{tmp_path}/out/a-decay0.1-seed1-dense/result.json: finished with "
    path = tmp_path / "study.toml"
    content = path.read_text()
    path.write_text(content.replace("epochs = 2", "epochs = 3"))
    with pytest.raises(InputError) as caught:
        sweep(Study.from_toml(path, **texts, device="cpu"), tmp_path / "out")
    assert str(caught.value) == where + "options.epochs = 2, not 3; give the same study or another directory"
    path.write_text(content)
    texts["test"].write_text(TEXT)
    with pytest.raises(InputError, match="finished with texts.test = '[0-9a-f]{64}', not '[0-9a-f]{64}'; give "):
        sweep(Study.from_toml(path, **texts, device="cpu"), tmp_path / "out")
    assert len(trained) == 1


def test_what_a_pruning_sets_is_compared_both_ways(tmp_path, texts, trained):
    """Added or taken away, where the name alone has no value to compare with."""
    one, two = "set = {dropout_words = 0.1}\n", "set = {dropout_words = 0.1, clip = 0.5}\n"
    for first, second, message in ((one, two, "clip = None, not 0.5;"), (two, one, "clip = 0.5, not None;")):
        out = tmp_path / message[7:10]
        sweep(small(tmp_path, texts, pruning=PRUNING + first), out)
        with pytest.raises(InputError, match=f"finished with prunings.0.set.{message} give the same study"):
            sweep(small(tmp_path, texts, pruning=PRUNING + second), out)
    assert len(trained) == 4


def test_teachers_are_checked_before_anything_runs(tmp_path, texts, trained):
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").write_text("junk")
    other = small(tmp_path, texts | {"train": texts["test"], "valid": texts["test"]})
    sweep(other, tmp_path / "other")
    trained.clear()
    for place, message in (
        ("empty", "empty/model.safetensors: cannot read it: No such file or directory"),
        ("junk", "junk: "),
        ("other/a-decay0.1-seed1-dense", "dense: a teacher needs the vocabulary of the network "),
    ):
        run = f'[[runs]]\nname = "b"\nconfig = "{CONFIGS / "tiny-egru.toml"}"\n'
        for table in (PRUNING, run):
            table += f'set = {{teachers = ["{place}"]}}\n'
            with pytest.raises(InputError, match=f"^{tmp_path}/.*{message}"):
                sweep(small(tmp_path, texts, pruning=table), tmp_path / "out")
    assert not trained


def test_a_changed_pruning_is_refused_before_anything_runs(tmp_path, texts, trained):
    sweep(small(tmp_path, texts, pruning=PRUNING), tmp_path / "out")
    more = small(tmp_path, texts, pruning="[[prunings]]\nsparsity = 0.4\n" + PRUNING.replace("= 1", "= 2"))
    with pytest.raises(InputError, match=r"finished with prunings.0.epochs = 1, not 2; give the same study or another"):
        sweep(more, tmp_path / "out")
    assert len(trained) == 2
    assert sorted(os.listdir(tmp_path / "out")) == [
        "a-decay0.1-seed1-dense", "a-decay0.1-seed1-sparse50", "study.json"
    ]  # fmt: skip


def test_teachers_count_by_their_content(tmp_path, texts, trained):
    """Another place of the same teacher is the same study; another teacher in the same place is not."""

    def taught(place):
        pruning = f'{PRUNING}set = {{teachers = ["{place}"]}}\n'
        return small(tmp_path, texts, pruning=pruning)

    sweep(small(tmp_path, texts), tmp_path / "teacher")
    shutil.copytree(tmp_path / "teacher" / "a-decay0.1-seed1-dense", tmp_path / "elsewhere")
    sweep(taught("teacher/a-decay0.1-seed1-dense"), tmp_path / "out")
    assert len(trained) == 3
    sweep(taught("elsewhere"), tmp_path / "out")
    assert len(trained) == 3
    shutil.copy(tmp_path / "out" / "a-decay0.1-seed1-sparse50" / "model.safetensors", tmp_path / "elsewhere")
    message = "finished with prunings.0.set.teachers = .'[0-9a-f]{64}'., not .'[0-9a-f]{64}'.; give the same study"
    with pytest.raises(InputError, match=message):
        sweep(taught("elsewhere"), tmp_path / "out")
    for nowhere in ('["nowhere"]', '"nowhere"'):
        pruning = f"{PRUNING}set = {{teachers = {nowhere}}}\n"
        with pytest.raises(InputError) as caught:
            sweep(small(tmp_path, texts, pruning=pruning), tmp_path / "out")
        assert str(caught.value) == f"{tmp_path}/nowhere: cannot read it: No such file or directory"
    with pytest.raises(InputError, match=r"runs.0.: prunings.0.: teachers must be paths of networks, not 3"):
        small(tmp_path, texts, pruning=f"{PRUNING}set = {{teachers = 3}}\n")


def test_another_study_and_damaged_results_are_refused(study, tmp_path, texts):
    out = tmp_path / "out"
    one = small(tmp_path, texts)
    sweep(one, out)
    with pytest.raises(InputError) as caught:
        sweep(study, out)
    assert str(caught.value) == (
        f"{out}/study.json: belongs to another study than 'Tiny networks'; give another directory"
    )
    path = out / "a-decay0.1-seed1-dense" / "result.json"
    path.write_text("{")
    with pytest.raises(InputError) as caught:
        sweep(one, out)
    assert str(caught.value) == f"{path}: not a JSON file; remove it to run the point again"
    path.write_text('{"version": 0}')
    with pytest.raises(InputError) as caught:
        sweep(one, out)
    assert str(caught.value) == f"{path}: not a result of version 2; remove it to run the point again"


def test_texts_are_checked_before_anything_runs(study, tmp_path, texts):
    def refused():
        with pytest.raises(InputError) as caught:
            sweep(study, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    texts["test"].write_text("the Quality of mercy")
    assert refused() == f"{texts['test']}: line 1 of the text: character 'Q' is not in the vocabulary"
    texts["test"].write_text("the rain")
    assert refused() == f"{texts['test']}: 8 tokens are too few for 8 streams"
    texts["test"].unlink()
    assert refused() == f"{texts['test']}: cannot read it: No such file or directory"


STARTS = "'dense' or 'previous', or the sparsity of an earlier pruning of its name"
KEYS = {
    "study": "title, corpus, streams, parent, texts, runs, prunings",
    "run": "name, config, seeds, weight_decays, prune, set",
    "pruning": "sparsity, steps, epochs, spread, learning_rate, regrow, set, runs, seeds, parent, name",
}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "= 1", "not a TOML file: Invalid statement (at line 1, column 1)"),
        ("", "colour = 1\n", "the study holds the unknown key 'colour'; accepted are " + KEYS["study"]),
        ('title = "Tiny networks"', "", "lacks 'title', a string"),
        ('title = "Tiny networks"', "title = 4", "title must be a string, not 4"),
        ("", 'corpus = "mine"\n', "corpus must be 'ptb' or 'wikitext-2', or left out, not 'mine'"),
        ("streams = 8", "streams = 0", "streams must be an integer of at least 1, not 0"),
        ('"previous"', '"none"', "parent must be 'dense' or 'previous', not 'none'"),
        ('name = "lstm"', 'name = "egru"', f"two points are named {NAMES[0]!r}; give their runs other names"),
        ('name = "lstm"', 'name = "../x"', "runs[2]: name must be of letters, digits, - and _, not '../x'"),
        ("seeds = [1, 2]", "seeds = []", "runs[0]: seeds and weight_decays must not be empty"),
        ("seeds = [1, 2]", "seeds = [-1]", "runs[0]: seed must be an integer of at least 0, not -1"),
        ("seeds = [1, 2]", "seeds = 1", "runs[0]: seeds must be a list of integers, not 1"),
        ("seeds = [1, 2]", f"seeds = {[*range(4000)]}",
         "runs[0]: a study may have 10000 points; with this run it has up to 12000"),
        ("[1.0]", '["a"]', "runs[1]: weight_decay must be a number from 0 to 1000.0, not 'a'"),
        ("prune = true", "a = 1", "runs[0]: the run holds the unknown key 'a'; accepted are " + KEYS["run"]),
        ("sparsity = 0.5", "sparsity = 1.5", "prunings[0]: sparsity must be a number from 0 to below 1, not 1.5"),
        ("sparsity = 0.5", "", "prunings[0]: lacks a sparsity, above 0 unless it has a name"),
        ("sparsity = 0.5", "sparsity = 0", "prunings[0]: lacks a sparsity, above 0 unless it has a name"),
        ("steps = 2", "a = 2", "prunings[1] holds the unknown key 'a'; accepted are " + KEYS["pruning"]),
        ("dropout_recurrent", "seed", "prunings[1]: set holds 'seed', which is no field that it may change"),
        ("dropout_recurrent", "epochs", "prunings[1]: set holds 'epochs', which is no field that it may change"),
        ("steps = 2", 'runs = ["b"]', "prunings[1]: runs holds 'b'; the study's runs are 'egru', 'lstm'"),
        ("steps = 2", 'runs = ["b"]\n[[runs]]\nname = {}',
         "prunings[1]: runs holds 'b'; the study's runs are 'egru', 'lstm'"),
        ("steps = 2", 'seeds = ["1"]', "prunings[1]: seeds must be a list of integers, not ['1']"),
        ("steps = 2", "seeds = [1, 3]", "prunings[1]: seeds holds 3, which is the seed of no run"),
        ("steps = 2", "parent = 2", f"prunings[1]: parent must be {STARTS}, not 2"),
        ("sparsity = 0.9", "sparsity = 0.7\nepochs = 9\nseeds = [2]\n[[prunings]]\nsparsity = 0.8\nparent = 0.7",
         "runs[0]: prunings[2]: no pruning to the parent's sparsity, 0.7, follows seed 1"),
        ("steps = 2", 'name = "a/b"', "prunings[1]: name must be of letters, digits, - and _, not 'a/b'"),
        ("dropout_recurrent = 0.0", "bptt = 0", "runs[0]: prunings[1]: bptt must be an integer of at least 1, not 0"),
    ],
)  # fmt: skip
def test_bad_studies_are_refused(tmp_path, texts, old, new, message):
    content = TINY.read_text().replace('"tiny-', f'"{CONFIGS}/tiny-')
    assert old in content
    path = tmp_path / "study.toml"
    path.write_text(content.replace(old, new, 1) if old else new + content)
    with pytest.raises(InputError) as caught:
        Study.from_toml(path, **texts)
    assert str(caught.value) == f"{path}: {message}"


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        Study.from_toml(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path}/none.toml: cannot read it: No such file or directory"
    with pytest.raises(InputError) as caught:
        Study.from_toml(TINY, train="a", valid="b")
    assert str(caught.value) == f"{TINY}: lacks the text 'test'; give it in [texts] or as --test"


@pytest.mark.parametrize("name", ["study-ptb", "study-wikitext2"])
def test_the_papers_studies(name):
    study = Study.from_toml(CONFIGS / f"{name}.toml", train="t", valid="v", test="s")
    for run in ("egru", "lstm"):
        sparsities = {point.sparsity for point in study.points if point.run == run}
        assert sparsities == {0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95}
    decays = {point.options.training.weight_decay for point in study.points if point.run == "egru"}
    assert len(decays) == 5 and {"ptb": 0.1, "wikitext-2": 0.12}[study.corpus] in decays
