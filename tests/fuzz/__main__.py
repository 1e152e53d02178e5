"""Changes files and lines at random, and sees that nothing but a line of Egret's comes of it.

    python -m tests.fuzz --cases 1000000 --seed 1 [--first 0] [--loader NAME ...]
    python -m tests.fuzz --loader NAME --replay DIRECTORY

A case is a valid small input, changed with its structure known. It must be loaded, and work once; or be refused with
one line. Either takes no more than 5 s, and 256 MiB beside what the process has. Cases go to the loaders in turn. Case
``n`` of a seed is always the same, so that ranges of them (``--first``) run on several machines, or go on later. What
fails is written to ``--output``, and ``--replay`` runs it again. The exit status is 1 if something failed.
"""

import sys
from collections import Counter
from pathlib import Path

import click

from bench.show import as_json, progress_bar, run_script, show
from egret.model.errors import InputError
from tests.fuzz.cases import bounded, case_of, judge, scratch
from tests.fuzz.loaders import LOADERS

VERDICTS = ("loaded", "refused", "failed")


@click.command(help=__doc__)
@click.option("--cases", type=click.IntRange(1), default=1000, show_default=True, help="Of all loaders together.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first case.")
@click.option("--loader", "names", multiple=True, type=click.Choice([*LOADERS]), help="Only this one; may be repeated.")
@click.option("--replay", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A case that failed.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/fuzz"), show_default=True)
@as_json
def main(
    cases: int, seed: int, first: int, names: tuple[str, ...], replay: Path | None, output: Path, as_json: bool
) -> None:
    names = names or tuple(LOADERS)
    with scratch() as directory:
        if replay is not None:
            if len(names) != 1:
                raise InputError("--replay needs --loader, the one that the case is for")
            files = {str(path.relative_to(replay)): path.read_bytes() for path in replay.rglob("*") if path.is_file()}
            with bounded():
                verdict, reason = judge(LOADERS[names[0]], files, directory / "case")
            print(f"{verdict}: {reason}")
            sys.exit(verdict == "failed")
        counts = {name: Counter() for name in names}
        with progress_bar() as progress:
            task = progress.add_task("cases", total=cases)
            for number in range(first, first + cases):
                name = names[number % len(names)]
                files = case_of(LOADERS[name], name, seed, number)
                with bounded():
                    verdict, reason = judge(LOADERS[name], files, directory / "case")
                counts[name][verdict] += 1
                if verdict == "failed":
                    _keep(output / f"{name}-{seed}-{number}", files)
                    progress.console.print(f"{output / f'{name}-{seed}-{number}'}: {reason}", markup=False)
                progress.advance(task)
    figures = {name: {verdict: count[verdict] for verdict in VERDICTS} for name, count in counts.items()}
    rows = [
        (name, f"{sum(one.values()):,}", *(f"{one[verdict]:,}" for verdict in VERDICTS))
        for name, one in figures.items()
    ]
    total = sum(counts.values(), Counter())
    rows.append(("all", f"{cases:,}", *(f"{total[verdict]:,}" for verdict in VERDICTS)))
    result = {"seed": seed, "first": first, "cases": cases, "loaders": figures}
    show(result, [("", ("loader", "cases", *VERDICTS), rows)], as_json)
    sys.exit(total["failed"] > 0)


def _keep(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    run_script(main, "fuzz")
