"""A thousand cases over all loaders, and what each loader is seen to do."""

import pytest

from tests.fuzz.cases import bounded, case_of, judge
from tests.fuzz.loaders import LOADERS, Loader

CASES = 84
"""Of each loader."""


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_but_a_line_comes_of_a_file(name, tmp_path):
    seen = []
    for number in range(CASES):
        files = case_of(LOADERS[name], name, 1, number)
        with bounded():
            verdict, reason = judge(LOADERS[name], files, tmp_path / "case")
        assert verdict != "failed", f"--seed 1 --loader {name}, case {number}: {reason}"
        seen.append(verdict)
    assert {"loaded", "refused"} == {*seen}


def test_a_case_is_always_the_same():
    for name, loader in LOADERS.items():
        assert name == "pickle" or case_of(loader, name, 3, 5) == case_of(loader, name, 3, 5)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (lambda directory: [][0], "IndexError"),
        (lambda directory: bytearray(1 << 31), "MemoryError"),
        (lambda directory: __import__("warnings").warn("a word"), "UserWarning: a word"),
    ],
)
def test_what_fails_is_seen(load, reason, tmp_path):
    with bounded():
        verdict, found = judge(Loader(lambda random: {}, load), {"a/b": b"c"}, tmp_path / "case")
    assert verdict == "failed" and reason in found and (tmp_path / "case/a/b").read_bytes() == b"c"


def test_what_takes_too_long_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.cases.SECONDS", 0.05)

    def load(directory):
        while True:
            pass

    with bounded():
        verdict, found = judge(Loader(lambda random: {}, load), {}, tmp_path / "case")
    assert verdict == "failed" and "TooLong" in found
