"""Proves what `tests.formal` claims of the hardware, for all inputs.

    python -m tests.formal [--jobs 2] [--no-mutants] [--list] [--write PAGE] [--json] [NAME ...]

``NAME``, the beginning of a proof's name, runs only some. Each proof is of the hardware as it is; then the faults of
``bench/mutants.toml`` that name it are put in, and it must fail on each. The last line counts what was proved for any
number of cycles, what for so many cycles after the reset only, and what failed; the exit status is 1 if something did.
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click

from bench.show import as_json, progress_bar, run_script, show
from egret.model.errors import InputError
from egret.model.files import write_aside
from tests.formal.proof import Proof, all_proofs
from tests.formal.solve import faults_of, kill, missing_tools, prove

PLACE = re.compile(r"(?<=<!-- proofs -->\n).*?(?=<!-- end -->)", re.DOTALL)
"""Where a page has the table."""


def table(proofs: list[Proof]) -> str:
    """Return the proofs as a table for a page: what is proved, and for how many cycles."""
    rows = [
        (proof.unit, proof.claim, "any number" if proof.induction is not None else f"{proof.bound}", f"`{proof.name}`")
        for proof in proofs
    ]
    heads = ("unit", "claim", "cycles", "proof")
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Proofs that run at a time.")
@click.option("--no-mutants", is_flag=True, help="Put in no faults.")
@click.option("--list", "only_list", is_flag=True, help="Only say what there is.")
@click.option("--write", "page", type=click.Path(path_type=Path, exists=True), help="Only write a page's table.")
@click.option("--rtlil", metavar="NAME", help="Only print the module of a proof, for Yosys.")
@as_json
def main(
    names: tuple[str, ...],
    jobs: int,
    no_mutants: bool,
    only_list: bool,
    page: Path | None,
    rtlil: str | None,
    as_json: bool,
) -> None:
    proofs = {proof.name: proof for proof in all_proofs()}
    if rtlil is not None:
        print(proofs[rtlil].rtlil())
        return
    if page is not None:
        write_aside(page, PLACE.sub(lambda _: table(list(proofs.values())), page.read_text()).encode())
        return
    chosen = [proof for name, proof in proofs.items() if not names or name.startswith(names)]
    if not chosen:
        raise InputError(f"no proof's name begins with {' or '.join(names)}")
    if only_list:
        rows = [(proof.name, proof.unit, proof.claim) for proof in chosen]
        show({"proofs": rows}, [(f"{len(rows)} proofs", ("proof", "unit", "claim"), rows)], as_json)
        return
    if missing := missing_tools():
        raise InputError(f"{', '.join(missing)} must be installed: pip install 'egret-fpga[formal]'")

    faults = [] if no_mutants else [(mutant, proof) for proof in chosen for mutant in faults_of(proof)]
    with ThreadPoolExecutor(jobs) as pool, progress_bar() as bar:
        proved = {pool.submit(prove, proof): proof.name for proof in chosen}
        killed = {pool.submit(kill, proof, mutant): (mutant.name, proof.name) for mutant, proof in faults}
        task = bar.add_task("", total=len(proved) + len(killed))
        for future in as_completed([*proved, *killed]):
            name = proved[future] if future in proved else ", ".join(killed[future])
            bar.console.print(f"{name}: {future.result().how}, {future.result().seconds:.1f} s", highlight=False)
            bar.advance(task)

    results = {name: future.result() for future, name in proved.items()}
    unbounded = [proof.name for proof in chosen if proof.induction is not None and results[proof.name].ok]
    bounded = [proof.name for proof in chosen if proof.induction is None and results[proof.name].ok]
    failed = [name for name, result in results.items() if not result.ok]
    failed += [", ".join(names) for future, names in killed.items() if not future.result().ok]
    tables = [
        (
            "Proofs",
            ("proof", "unit", "claim", "how", "seconds"),
            [
                (proof.name, proof.unit, proof.claim, results[proof.name].how, f"{results[proof.name].seconds:.1f}")
                for proof in chosen
            ],
        ),
        (
            "Faults",
            ("fault", "proof", "how", "seconds"),
            [(*names, future.result().how, f"{future.result().seconds:.1f}") for future, names in killed.items()],
        ),
    ]
    summary = {
        "proved": unbounded,
        "bounded": bounded,
        "failed": failed,
        "results": {name: vars(result) for name, result in results.items()},
        "faults": {", ".join(names): vars(future.result()) for future, names in killed.items()},
    }
    show(summary, [table for table in tables if table[2]], as_json)
    if not as_json:
        print(f"{len(unbounded)} proved, {len(bounded)} bounded, {len(failed)} failed")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main, "formal")
