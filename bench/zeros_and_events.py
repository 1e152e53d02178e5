"""What zeros and events give on the simulated core: perplexity against MACs, cycles, bytes and energy of a token.

    python -m bench.zeros_and_events NETWORK... --text ptb.test.txt [--study DIR]... [--results FILE] [--json]

Each integer network predicts the whole text in 64 streams, and the core runs the first tokens of it, once with its
weights in block RAM, and once in the SDRAM of a ULX3S. Every event is checked. Energies are estimates (docs/energy.md).

``--results`` is written after each network. Networks whose figures it has already, over as many tokens of the same
text, are not run again.

With ``--study``, the LSTMs of studies stand beside them (`egret.model.training.sweep`). No core runs these. Theirs are
lower bounds: all lanes multiply in each cycle, each weight is read once, and nothing else is. Their perplexities are
those of float networks.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.results import asked
from bench.show import as_json, progress_bar, run_script, show
from egret.model.errors import InputError
from egret.model.files import digest, json_text, read, write_aside
from egret.model.training.results import RESULT, read_result

__all__ = ["LANES", "bound", "figures", "main"]

LANES = 8
WEIGHT_BITS = 4
_SDRAM_BYTES = 4  # that come in a cycle of the core: two beats of two bytes


def figures(whole: dict[str, Any], bram: dict[str, Any], sdram: dict[str, Any]) -> dict[str, Any]:
    """One row of the table.

    Parameters
    ----------
    whole : dict
        What ``egret evaluate --json`` says of a network over a text.
    bram, sdram : dict
        What ``egret bench --json`` says of it with either store; the latter with ``--energy``.

    Returns
    -------
    dict
        Cycles, bytes and microjoules (the low and the high estimate) are those of a token.
    """
    return {
        "perplexity": round(whole["perplexity"], 3),
        "activity": [round(share, 4) for share in whole["activity"]],
        "macs": round(whole["macs_per_token"]),
        "bram_cycles": round(bram["cycles_per_token"]),
        "bram_bytes": round(bram["bytes_per_token"]),
        "sdram_cycles": round(sdram["cycles_per_token"]),
        "sdram_bytes": round(sdram["energy"]["causes"]["SDRAM, read"]["count"][0]),
        "microjoules": [round(1e6 * joules, 1) for joules in sdram["energy"]["joules_per_token"]],
    }


def bound(point: dict[str, Any]) -> dict[str, Any]:
    """The row of a network that no core runs: the least that `LANES` lanes and the SDRAM would take.

    Parameters
    ----------
    point : dict
        Content of its ``result.json``.

    Returns
    -------
    dict
        As for `figures`, without an energy.
    """
    macs = round(point["macs"]["event_driven_pruned"])
    size = macs * WEIGHT_BITS // 8
    return {
        "perplexity": round(point["test"]["perplexity"], 3),
        "activity": point["activity"],
        "macs": macs,
        "bram_cycles": -(-macs // LANES),
        "bram_bytes": size,
        "sdram_cycles": max(-(-macs // LANES), -(-size // _SDRAM_BYTES)),
        "sdram_bytes": size,
        "microjoules": None,
    }


def _says(*arguments: str) -> dict[str, Any]:
    """What a command of ``egret`` prints as JSON."""
    status, content = asked([*arguments, "--json"])
    if status:
        raise InputError(f"egret {' '.join(arguments)}: status {status}")
    return content


def _run(network: str, text: str, tokens: int, evaluated: Path | None) -> dict[str, Any]:
    """`figures` of a network's file."""
    said = evaluated and evaluated / f"{Path(network).stem}.json"
    if said is not None and said.exists():
        try:
            content = json.loads(read(said))
            whole = {name: content[name] for name in ("perplexity", "activity", "macs_per_token")}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{said}: not what `egret evaluate --json` says of a text") from error
    else:
        whole = _says("evaluate", network, "--text", text, "--batch", "64", "--engine", "native")
    bench = ("bench", network, "--text", text, "--tokens", str(tokens), "--lanes", str(LANES), "--no-readout")
    return figures(whole, _says(*bench), _says(*bench, "--store", "sdram", "--energy"))


def _keep(result: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        write_aside(path, json_text(result, indent=1).encode() + b"\n")


def _before(results: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Networks of a file of results, if these are over what is `wanted`."""
    try:
        content = json.loads(read(results))
        same = all(content[name] == wanted[name] for name in ("tokens", "lanes", "text"))
        networks = dict(content["networks"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{results}: not a file of this script, or damaged") from error
    if not same:
        raise InputError(f"{results}: has figures over other tokens or another text; give another file")
    return networks


def _row(name: str, one: dict[str, Any]) -> Sequence[str]:
    energy = "" if one["microjoules"] is None else " to ".join(f"{value:.0f}" for value in one["microjoules"])
    counts = (f"{one[key]:,}" for key in ("macs", "bram_cycles", "bram_bytes", "sdram_cycles", "sdram_bytes"))
    return (name, f"{one['perplexity']:.2f}", *counts, energy)


@click.command(help=__doc__)
@click.argument("networks", nargs=-1, required=True)
@click.option("--text", required=True, help="UTF-8 text.")
@click.option("--tokens", type=click.IntRange(1), default=20, show_default=True, help="Of it, that the core runs.")
@click.option("--study", "studies", type=click.Path(path_type=Path), multiple=True, help="Directory with LSTMs.")
@click.option(
    "--evaluated",
    type=click.Path(path_type=Path),
    help="Directory with what `egret evaluate NETWORK --text TEXT --batch 64 --json` said, by names: NAME.json.",
)
@click.option("--results", type=click.Path(path_type=Path), help="JSON file to write, and to go on from.")
@as_json
def main(
    networks: tuple[str, ...],
    text: str,
    tokens: int,
    studies: tuple[Path, ...],
    evaluated: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    stems = [Path(network).stem for network in networks]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise click.UsageError(f"two networks are named {twice!r}")
    points = [read_result(path) for study in studies for path in sorted(study.glob(f"*/{RESULT}"))]
    lstms = {point["name"]: bound(point) for point in points if point is not None and point["cell"] == "lstm"}
    result = {"tokens": tokens, "lanes": LANES, "text": digest(text), "networks": {}, "bounds": lstms}
    found = result["networks"]
    if results is not None and results.exists():
        found |= _before(results, result)
    with progress_bar() as bar:
        for network in bar.track(networks):
            known = {"file": digest(network)}
            if found.get(name := Path(network).stem, {}).items() >= known.items():
                continue
            found[name] = known | _run(network, text, tokens, evaluated)
            _keep(result, results)
    _keep(result, results)
    heads = ("network", "perplexity", "MACs", "cycles", "bytes", "SDRAM: cycles", "bytes", "estimated µJ")
    rows = [_row(name, one) for name, one in found.items()]
    rows += [_row(f"{name}: at least", one) for name, one in lstms.items()]
    show(result, [(f"A token, {LANES} lanes", heads, rows)], as_json)


if __name__ == "__main__":
    run_script(main, "zeros_and_events")
