"""Puts faults on the pins of a link at random, and sees that no result is wrong and every session ends.

    python -m tests.faults --line uart --frames 1000000 --seed 1 [--first 0]

The compiled link, with a core of a few lines behind it, is driven at its pins: the two wires of a UART, or D+ and D- of
USB. The host's own code sends commands over them. Bits turn, packets and bytes are lost, cut and repeated, lines break,
boards are reset, and cables are pulled out. Each result must be right, each step made once, and each session end, or
end in one line of a reason that did happen.

Frames are counted as the host sends them, in cases of 2,000. Case ``n`` of a seed is always the same, so that ranges of
them (``--first``) run on several machines, or go on later; one that failed is run again with ``--first N --frames 1``.
The exit status is 1 if one failed.
"""

import sys
from collections import Counter

import click

from bench.show import as_json, progress_bar, run_script, show
from tests.faults.session import FRAMES, run_case

FIGURES = ("frames", "steps", "words", "repeats", "damaged", "bad frames", "sessions")


@click.command(help=__doc__)
@click.option("--line", type=click.Choice(["uart", "usb"]), required=True)
@click.option("--frames", type=click.IntRange(1), default=FRAMES, show_default=True, help="At least so many.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first case.")
@as_json
def main(line: str, frames: int, seed: int, first: int, as_json: bool) -> None:
    seen, failed, number = Counter(), [], first
    with progress_bar() as progress:
        task = progress.add_task("frames", total=frames)
        while seen["frames"] + FRAMES * len(failed) < frames:
            try:
                seen.update(run_case(line, seed, number))
            except AssertionError as failure:
                failed.append(number)
                progress.console.print(f"case {number}: {failure}", markup=False)
            number += 1
            progress.update(task, completed=min(frames, seen["frames"] + FRAMES * len(failed)))
    ends, faults = _named(seen, "end "), _named(seen, "fault ")
    result = {
        "line": line,
        "seed": seed,
        "first": first,
        "cases": number - first,
        "failed": failed,
        **{name.replace(" ", "_"): seen[name] for name in FIGURES},
        "ends": ends,
        "faults": faults,
    }
    rows = [("cases", number - first), ("failed", len(failed)), *((name, seen[name]) for name in FIGURES)]
    rows += [(f"sessions: {name}", count) for name, count in ends.items()]
    rows += [(f"faults: {name}", count) for name, count in faults.items()]
    show(result, [("", ("", ""), [(name, f"{count:,}") for name, count in rows])], as_json)
    sys.exit(bool(failed))


def _named(seen, prefix):
    return {name.removeprefix(prefix): seen[name] for name in sorted(seen) if name.startswith(prefix)}


if __name__ == "__main__":
    run_script(main, "faults")
