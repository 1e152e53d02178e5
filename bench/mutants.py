"""Faults put into the sources one at a time, and what finds them.

    python -m bench.mutants [--check] [--state build/mutants.json] [--resume] [--json] [NAME ...]

Each mutant of ``bench/mutants.toml`` is put into a copy of the tree. Then the quick tests of the changed file run and,
if they pass, the smallest lockstep. A mutant is killed by the first test that fails, or by ``--limit`` seconds without
an end; otherwise it survives. The same tests run on the unchanged copy first, and must pass there.

Results are written to the file of ``--state`` as they come; ``--resume`` keeps those of mutants that are still the
same. ``NAME``, the beginning of a mutant's name, runs only some. The exit status is 0 if all were killed, 1 if some
survived, 2 for an error. ``--check`` runs nothing: it only says whether every mutant finds its text.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.show import as_json, progress_bar, run_script, show
from egret.model.errors import InputError
from egret.model.files import json_text, write_aside

TREE = Path(__file__).resolve().parent.parent
NOT_COPIED = (".*", "build", "__pycache__", "*.egg-info", "shared")
TESTED, FAILED, INTERRUPTED = 0, 1, 2
"""Exit statuses of pytest; of the others, nothing can be said about a mutant."""


@dataclass(frozen=True)
class Mutant:
    """A fault: in ``file``, ``old`` becomes ``new``. Each of some ``proofs`` of `tests.formal` finds it, too."""

    name: str
    file: str
    old: str
    new: str
    proofs: tuple[str, ...] = ()

    def apply(self, tree: Path) -> None:
        """Put the fault into a tree. Raises `InputError` where ``old`` does not occur exactly once."""
        path = tree / self.file
        text = path.read_text() if path.is_file() else ""
        if (count := text.count(self.old)) != 1:
            raise InputError(f"mutant {self.name!r}: {self.old!r} must occur once in {self.file}, not {count} times")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Plan:
    """What a list of mutants says.

    Attributes
    ----------
    mutants : tuple of Mutant
    tests : mapping of str to list of str
        Test files of the files that have others than the one of their name.
    lockstep : str
        The test that runs where these pass.
    """

    mutants: tuple[Mutant, ...]
    tests: Mapping[str, list[str]]
    lockstep: str

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a list of mutants. Raises `InputError` where two have one name."""
        content = tomllib.loads(path.read_text())
        mutants = tuple(Mutant(**{**mutant, "proofs": tuple(mutant.get("proofs", ()))}) for mutant in content["mutant"])
        names = [mutant.name for mutant in mutants]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"{path}: names must differ; {', '.join(sorted(twice))} is there twice")
        return cls(mutants, content.get("tests", {}), content["lockstep"])

    def tests_of(self, file: str) -> list[str]:
        """Quick tests of a file: those of its name, unless the list says others."""
        path = Path(file)
        return self.tests.get(file, [str(Path("tests", *path.parts[:-1], f"test_{path.name}"))])

    def stages(self, file: str) -> list[list[str]]:
        """What runs for a file, one after the other: its quick tests, the lockstep."""
        return [self.tests_of(file), [self.lockstep]]


def check(plan: Plan, tree: Path) -> None:
    """Raise `InputError` where a mutant does not find its text in a tree, or the tree lacks one of its tests."""
    for mutant in plan.mutants:
        with tempfile.TemporaryDirectory() as work:
            copy = Path(work, mutant.file)
            copy.parent.mkdir(parents=True)
            if (tree / mutant.file).is_file():
                shutil.copy(tree / mutant.file, copy)
            mutant.apply(Path(work))
        for test in [*plan.tests_of(mutant.file), plan.lockstep.partition("::")[0]]:
            if not (tree / test).is_file():
                raise InputError(f"mutant {mutant.name!r}: there is no {test}")


class Copy:
    """A copy of a tree, in which mutants run.

    Parameters
    ----------
    tree : Path
        Is copied, without what git ignores.
    work : Path
        Existing folder, which takes the copy, what tests put into the user's cache and what killed ones leave behind.
    plan : Plan
        Which tests run.
    limit : float
        Seconds for the quick tests of a file, and again for the lockstep.
    """

    def __init__(self, tree: Path, work: Path, plan: Plan, limit: float) -> None:
        self._tree, self._copy, self._plan, self._limit = tree, work / "tree", plan, limit
        shutil.copytree(tree, self._copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        (work / "tmp").mkdir()
        # Without .pyc files: a mutant may have the size and the second of what it replaces.
        self._environment = os.environ | {
            "PYTHONPATH": str(self._copy / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(work / "cache"),
            "COLUMNS": "200",  # of pytest's summary
            "TMPDIR": str(work / "tmp"),
        }

    def run(self, mutant: Mutant) -> dict[str, Any]:
        """Run the quick tests of a mutant's file and, if they pass, the lockstep, with the mutant in the copy.

        Returns
        -------
        dict of str to Any
            ``killed`` and ``reason``: the test that failed and how, None if none did; ``seconds``.
        """
        start, failure = time.monotonic(), None
        mutant.apply(self._copy)
        try:
            for tests in self._plan.stages(mutant.file):
                if failure := self.first_failure(tests):
                    break
        finally:
            shutil.copy(self._tree / mutant.file, self._copy / mutant.file)
        killed, reason = failure or (None, None)
        return {"killed": killed, "reason": reason, "seconds": round(time.monotonic() - start, 1)}

    def first_failure(self, tests: list[str]) -> tuple[str, str] | None:
        """The first of some tests that fails, and how; None if all pass."""
        # What hypothesis found once is not tried first the next time.
        shutil.rmtree(self._copy / ".hypothesis", ignore_errors=True)
        options = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self._copy,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=self._limit)
            except BaseException as error:
                # With it goes what it has started, such as a simulator.
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    return " ".join(tests), f"more than {self._limit:g} s"
                raise
        if process.returncode == TESTED:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", output, re.MULTILINE)
        if process.returncode not in (FAILED, INTERRUPTED) or not failed:
            raise InputError(f"pytest {' '.join(tests)} ended with status {process.returncode}:\n{output[-2000:]}")
        return failed[1], failed[2] or ""


class State:
    """Results, in a file.

    Parameters
    ----------
    path : Path
        Written at each result.
    resume : bool
        Whether to begin with what the file has.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self._path = path
        content = json.loads(path.read_text()) if resume and path.is_file() else {}
        self._unchanged: list[list[str]] = content.get("unchanged", [])
        self._results: dict[str, dict[str, Any]] = content.get("mutants", {})

    def passes(self, tests: list[str]) -> bool:
        """Whether some tests are known to pass on the unchanged tree."""
        return tests in self._unchanged

    def add_passing(self, tests: list[str]) -> None:
        """Keep that some tests pass on the unchanged tree."""
        self._unchanged.append(tests)
        self._save()

    def result(self, mutant: Mutant) -> dict[str, Any] | None:
        """Result of a mutant, None if it has not run as it is now."""
        result = self._results.get(mutant.name, {})
        same = all(result.get(name) == getattr(mutant, name) for name in ("file", "old", "new"))
        return result if same else None

    def add(self, mutant: Mutant, result: dict[str, Any]) -> None:
        """Keep the result of a mutant."""
        self._results[mutant.name] = {"file": mutant.file, "old": mutant.old, "new": mutant.new, **result}
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"unchanged": self._unchanged, "mutants": self._results}
        write_aside(self._path, json_text(content, indent=1).encode())


def commit_of(tree: Path) -> str:
    """Name of a tree's commit, with ``-dirty`` where something is not committed; empty where there is no git."""
    described = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


def run_all(plan: Plan, chosen: list[Mutant], tree: Path, state: State, limit: float) -> None:
    """Run mutants that have no result yet. Raises `InputError` where a test fails without one."""
    commit = commit_of(tree)
    with tempfile.TemporaryDirectory(prefix="mutants-") as work, progress_bar() as bar:
        copy = Copy(tree, Path(work), plan, limit)
        left = [mutant for mutant in chosen if state.result(mutant) is None]
        task = bar.add_task("", total=len(chosen), completed=len(chosen) - len(left))
        for mutant in left:
            for tests in plan.stages(mutant.file):
                if not state.passes(tests):
                    bar.update(task, description=f"unchanged: {' '.join(tests)}")
                    if failed := copy.first_failure(tests):
                        raise InputError(f"the unchanged tree must pass its tests, but not {failed[0]}: {failed[1]}")
                    state.add_passing(tests)
            bar.update(task, description=mutant.name)
            state.add(mutant, {**copy.run(mutant), "commit": commit})
            bar.advance(task)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--check", "only_check", is_flag=True, help="Only see whether every mutant finds its text.")
@click.option("--tree", type=click.Path(path_type=Path, exists=True), default=TREE, help="Instead of this one.")
@click.option("--list", "list_", type=click.Path(path_type=Path, exists=True), help="Instead of bench/mutants.toml.")
@click.option("--state", type=click.Path(path_type=Path), default=Path("build/mutants.json"), show_default=True)
@click.option("--resume", is_flag=True, help="Keep the results that the file of --state has.")
@click.option("--limit", type=click.FloatRange(0, min_open=True), default=180, show_default=True, help="Seconds.")
@as_json
def main(
    names: tuple[str, ...],
    only_check: bool,
    tree: Path,
    list_: Path | None,
    state: Path,
    resume: bool,
    limit: float,
    as_json: bool,
) -> None:
    plan = Plan.load(list_ or TREE / "bench" / "mutants.toml")
    check(plan, tree)
    if only_check:
        print(f"{len(plan.mutants)} mutants find their text")
        return
    chosen = [mutant for mutant in plan.mutants if not names or mutant.name.startswith(names)]
    if not chosen:
        raise InputError(f"no mutant's name begins with {' or '.join(names)}")
    results = State(state, resume)
    run_all(plan, chosen, tree, results, limit)
    found = {mutant.name: results.result(mutant) or {} for mutant in chosen}
    survived = [name for name, result in found.items() if not result["killed"]]
    summary = {
        "mutants": len(found),
        "killed": len(found) - len(survived),
        "survived": survived,
        "results": found,
    }
    rows = [
        (name, result["killed"] or "SURVIVED", result["reason"] or "", f"{result['seconds']:.0f} s", result["commit"])
        for name, result in found.items()
    ]
    title = f"{summary['killed']} of {len(found)} mutants are killed"
    show(summary, [(title, ("mutant", "killed by", "reason", "time", "commit"), rows)], as_json)
    if survived:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main, "mutants")
