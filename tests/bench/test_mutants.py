"""The script that puts faults into the sources: its list fits them, and it tells the killed from the others."""

import json

import pytest
from click.testing import CliRunner

from bench import mutants
from bench.mutants import Mutant, Plan, State
from egret.model.errors import InputError


def test_every_mutant_finds_its_text():
    plan = Plan.load(mutants.TREE / "bench" / "mutants.toml")
    mutants.check(plan, mutants.TREE)
    assert len(plan.mutants) >= 40
    assert all(mutant.old != mutant.new for mutant in plan.mutants)


LIST = """
lockstep = "tests/test_all.py::test_both"

[tests]
"model/other.py" = ["tests/model/test_thing.py"]
"""

SOURCES = {
    "model/thing.py": "def larger(a, b):\n    return a if a > b else b\n\n\ndef twice(a):\n    return a + a\n",
    "model/other.py": "def half(a):\n    return a // 2\n",
    "tests/conftest.py": "import sys\n\nsys.path.insert(0, '.')\n",
    "tests/model/test_thing.py": "from model.thing import larger\n\n\ndef test_1():\n    assert larger(1, 2) == 2\n",
    "tests/test_all.py": "from model.thing import twice\n\n\ndef test_both():\n    assert twice(3) == 6\n",
}


@pytest.fixture
def tree(tmp_path):
    """A small tree."""
    for name, text in SOURCES.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    return tmp_path / "tree"


@pytest.fixture
def invoke(tree, tmp_path):
    """Run the script on the small tree with some mutants: (name, file, old, new)."""

    def invoke(faults, *arguments):
        entries = [
            "\n[[mutant]]\n"
            + "".join(
                f"{key} = {json.dumps(value)}\n"
                for key, value in zip(("name", "file", "old", "new"), fault, strict=True)
            )
            for fault in faults
        ]
        (tmp_path / "list.toml").write_text(LIST + "".join(entries))
        options = ["--tree", str(tree), "--list", str(tmp_path / "list.toml"), "--state", str(tmp_path / "state.json")]
        return CliRunner().invoke(mutants.main, [*options, "--json", *arguments])

    return invoke


WRONG = ("less", "model/thing.py", "a > b", "a < b")
EQUAL = ("the same", "model/thing.py", "a > b", "a >= b")
ADDS = ("one more", "model/thing.py", "a + a", "a + a + 1")
LOOPS = ("endless", "model/thing.py", "return a if", "while True: pass\n    return a if")
BROKEN = ("broken", "model/thing.py", "def twice(a):", "def twice(a:")


@pytest.mark.slow
def test_killed_and_survived(invoke, tree, tmp_path):
    result = invoke([WRONG, EQUAL, ADDS, BROKEN])
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["mutants"], answer["killed"], answer["survived"]) == (4, 3, ["the same"])
    assert {name: one["killed"] for name, one in answer["results"].items()} == {
        "less": "tests/model/test_thing.py::test_1",
        "the same": None,
        "one more": "tests/test_all.py::test_both",
        "broken": "tests/model/test_thing.py",
    }
    assert answer["results"]["less"]["reason"].startswith("assert 1 == 2")
    # The tree itself is as it was, and so is what the copy was made of.
    assert all((tree / name).read_text() == text for name, text in SOURCES.items())
    assert not list(tree.rglob("__pycache__"))


def test_a_test_without_end_is_a_kill(invoke, tmp_path):
    known = [["tests/model/test_thing.py"], ["tests/test_all.py::test_both"]]
    (tmp_path / "state.json").write_text(json.dumps({"unchanged": known}))
    result = invoke([LOOPS], "--resume", "--limit", "3")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["results"]["endless"]
    assert (found["killed"], found["reason"]) == ("tests/model/test_thing.py", "more than 3 s")


@pytest.mark.slow
def test_some_and_the_rest(invoke, tmp_path):
    """What has a result is kept, and what has none runs."""
    assert list(json.loads(invoke([WRONG, ADDS], "le").stdout)["results"]) == ["less"]
    state = json.loads((tmp_path / "state.json").read_text())
    state["mutants"]["less"]["killed"] = "of another time"
    (tmp_path / "state.json").write_text(json.dumps(state))
    found = json.loads(invoke([WRONG, ADDS], "--resume").stdout)["results"]
    assert {name: one["killed"] for name, one in found.items()} == {
        "less": "of another time",
        "one more": "tests/test_all.py::test_both",
    }
    assert str(invoke([WRONG], "x").exception) == "no mutant's name begins with x"


@pytest.mark.parametrize(
    "fault, message",
    [
        (("a", "model/thing.py", "a", "b"), "mutant 'a': 'a' must occur once in model/thing.py, not 7 times"),
        (
            ("a", "model/thing.py", "nothing", "b"),
            "mutant 'a': 'nothing' must occur once in model/thing.py, not 0 times",
        ),
        (("a", "model/none.py", "a", "b"), "mutant 'a': 'a' must occur once in model/none.py, not 0 times"),
        (("a", "tests/conftest.py", "insert", "b"), "mutant 'a': there is no tests/tests/test_conftest.py"),
    ],
)
def test_check(invoke, fault, message):
    for arguments in (["--check"], []):
        error = invoke([fault], *arguments).exception
        assert isinstance(error, InputError) and str(error) == message


def test_check_alone_runs_nothing(invoke, tmp_path):
    result = invoke([WRONG, EQUAL], "--check")
    assert (result.exit_code, result.stdout) == (0, "2 mutants find their text\n")
    assert not (tmp_path / "state.json").exists()


def test_names_differ(invoke):
    assert "less is there twice" in str(invoke([WRONG, WRONG]).exception)


def test_the_unchanged_tree_must_pass(invoke, tree):
    (tree / "model/thing.py").write_text(SOURCES["model/thing.py"].replace("a > b", "a < b"))
    error = invoke([("more", "model/thing.py", "a < b", "a > b")]).exception
    assert str(error).endswith("tree must pass its tests, but not tests/model/test_thing.py::test_1: assert 1 == 2")


def test_no_tests_say_nothing(invoke, tree):
    (tree / "tests/model/test_thing.py").write_text("")
    error = invoke([WRONG]).exception
    assert isinstance(error, InputError) and "ended with status 5" in str(error)


def test_state_is_that_of_the_fault(tmp_path):
    state = State(tmp_path / "state.json", resume=False)
    one = Mutant("a", "b", "c", "d")
    state.add(one, {"killed": None, "seconds": 1.0, "commit": ""})
    again = State(tmp_path / "state.json", resume=True)
    assert again.result(one) == {"file": "b", "old": "c", "new": "d", "killed": None, "seconds": 1.0, "commit": ""}
    assert again.result(Mutant("a", "b", "c", "e")) is None
