"""The results that Egret's documents state: measured by commands, kept in one file, written into the documents' tables.

``docs/results.json`` has an entry for each run: the command, and what its JSON says. ``--run`` runs the commands of
some entries again and puts what they say into the file; ``--all`` does this for every entry, as a change of the core
needs it. Without options every table between ``<!-- results: NAME -->`` and ``<!-- end -->`` in the documents is
written anew from the file.

What depends on the machine, such as tokens simulated a second, is kept apart, with the machine and the date.
``tests/test_figures.py`` runs the commands and compares everything else exactly.

    python -m bench.results [--run ID]... [--all]
"""

import contextlib
import datetime
import io
import json
import os
import platform
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench.result_tables import TABLES, Results
from egret.host.cli.main import main as egret

__all__ = ["RESULTS", "ROOT", "asked", "command_line", "documents", "missing_text", "split_by_machine", "write"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results.json"
TEXT = "ptb.test.txt"
"""Stands in commands for the test text of Penn Treebank, which is not free."""

DIGITS = {"perplexity": 3, "loss": 4, "event_agreement": 4, "event_overlap": 4}
"""Decimals that are kept of what is computed in floating point; the last bits depend on the processor."""


def missing_text(command: str) -> str | None:
    """Why a command cannot run here: its text is not there. None where it can."""
    if TEXT in command and not _text().is_file():
        return f"EGRET_DATA names no folder with Penn Treebank's test text, ptb/test.txt: {TEXT}"
    return None


def _text() -> Path:
    return Path(os.environ.get("EGRET_DATA", "")) / "ptb" / "test.txt"


def command_line(command: str) -> list[str]:
    """The arguments of a command of the file, with the place of each text in `EGRET_DATA` and of each network."""
    name, *arguments = shlex.split(command)
    assert name == "egret" and arguments[-1] == "--json"
    places = {TEXT: str(_text())}
    return [places.get(one, str(ROOT / one) if one.startswith("model/") else one) for one in arguments]


def split_by_machine(figures: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a command's JSON says: what is the same on every machine, rounded as `DIGITS` says, and what is not.

    Paths are left out.
    """
    same, machine = {}, {}
    for name, value in figures.items():
        if name in ("source", "image", "verilog", "network"):
            continue  # paths
        if name == "simulated_tokens_per_second":
            machine[name] = value
        elif name == "end_to_end":
            here = ("tokens_per_second", "host_seconds_per_token")  # the host's time is measured
            machine[name] = {figure: value[figure] for figure in here}
            same[name] = {figure: one for figure, one in value.items() if figure not in here}
        elif name == "peers":
            here = [peer for peer in value if "threads" in peer]
            kept = ("steps_per_second", "tokens_per_second", "threads")
            machine[name] = {peer["name"]: {figure: peer[figure] for figure in kept} for peer in here}
            same[name] = {"mismatches": sum(peer["mismatches"] for peer in here)}
        elif name in DIGITS:
            same[name] = (
                [round(one, DIGITS[name]) for one in value] if isinstance(value, list) else round(value, DIGITS[name])
            )
        else:
            same[name] = value
    return same, machine


def asked(arguments: list[str]) -> tuple[int, Any]:
    """Exit status of ``egret`` with ``arguments``, among them ``--json``, and what it printed; None if it failed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = egret(arguments)
    return status, None if status else json.loads(output.getvalue())


def _measure(entry: dict[str, Any]) -> None:
    status, content = asked(command_line(entry["command"]))
    if status:
        raise SystemExit(f"status {status}: {entry['command']}")
    entry["result"], machine = split_by_machine(content)
    if machine:
        entry["machine"] = {"name": _machine(), "date": datetime.date.today().isoformat(), **machine}


def _machine() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return f"{found[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def documents() -> Iterator[Path]:
    """The files that may have tables."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def write(text: str, results: Results) -> str:
    """The text of a document with every table as the results have it."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]].write(results)}\n<!-- end -->"

    return re.sub(r"(<!-- results: ([\w-]+) -->)\n.*?<!-- end -->", table, text, flags=re.S)


@click.command()
@click.option("--run", "names", multiple=True, help="Measure this entry of docs/results.json again; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Measure all entries again.")
def main(names: tuple[str, ...], every: bool) -> None:
    """Write the tables of the results in the documents."""
    results = json.loads(RESULTS.read_text())
    names = (*results,) if every else names
    for name in names:
        if name not in results:
            raise click.UsageError(f"{name}: docs/results.json has {', '.join(results)}")
        if missing := missing_text(results[name]["command"]):
            raise click.UsageError(missing)
    for name in names:
        _measure(results[name])
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        click.echo(name)
    for path in documents():
        path.write_text(write(path.read_text(), results))


if __name__ == "__main__":
    main()
