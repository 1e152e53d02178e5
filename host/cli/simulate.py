"""The command ``egret simulate``."""

from pathlib import Path
from typing import Any

import click

from egret.host.cli.cores import until_it_differs
from egret.host.cli.options import as_json, core_options, simulator_option
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import InputError

__all__ = ["simulate"]


@click.command()
@click.argument("source")
@click.option("--text", help="Text to run; the network's own samples by default.")
@click.option("--data", help="Sequences to run (.npz), where numbers enter; drawn by default.")
@click.option("--tokens", type=int, default=20, show_default=True, help="Steps to run.")
@simulator_option
@core_options()
@click.option("--idle", type=float, default=0.0, show_default=True, help="Probability of a cycle without a token.")
@click.option("--backpressure", type=float, default=0.0, show_default=True, help="Probability of a cycle not read.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of idle cycles and backpressure.")
@click.option(
    "--waves",
    help="Waveform to write: VCD from Verilator, FST from Icarus; save files of GTKWave and Surfer beside it.",
)
@as_json
def simulate(
    source: str,
    text: str | None,
    data: str | None,
    tokens: int,
    simulator: str,
    core: dict[str, Any],
    idle: float,
    backpressure: float,
    seed: int,
    waves: str | None,
    as_json: bool,
) -> None:
    """Run SOURCE under a simulator and compare every stream inside the core with the integer network.

    The first divergence is named: stream, step, layer and place. SOURCE may be the image of a part of a network; what
    enters a later part is drawn.
    """
    for name, probability in (("--idle", idle), ("--backpressure", backpressure)):
        if not 0 <= probability < 1:
            raise InputError(f"{name} must be a probability from 0 to below 1, not {probability}")
    if tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    check_files({"--waves": waves}, {"SOURCE": source, "--text": text, "--data": data})
    network = Network(source, parts=True, **core)
    inputs = None if text is None and data is None else network.inputs(text, data)
    options = {"seed": seed, "idle": idle, "backpressure": backpressure, "waves": waves and Path(waves)}
    with until_it_differs():
        result = network.simulate(inputs, tokens=tokens, simulator=simulator, **options)
    figures = {"simulator": simulator, "tokens": tokens, "compared": result.compared, "counters": result.counters}
    rows = [("steps", f"{tokens:,}"), *((f"compared: {name}", f"{count:,}") for name, count in result.compared.items())]
    rows += [(f"counter: {name}", f"{count:,}") for name, count in result.counters.items()]
    title = f"{source} under {simulator}: every value equals the integer network's"
    show(Result(figures, rows), title, as_json)
