"""The command ``egret simulate``."""

from pathlib import Path

import click

from egret.host.cli.cores import lockstep
from egret.host.cli.options import SIMULATORS, as_json
from egret.host.cli.show import Result, show
from egret.host.cli.sources import load_image, load_text
from egret.model.errors import InputError

__all__ = ["simulate"]


@click.command()
@click.argument("source")
@click.option("--text", help="Text to run; the network's own samples by default.")
@click.option("--tokens", type=int, default=20, show_default=True, help="Steps to run.")
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True)
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--idle", type=float, default=0.0, show_default=True, help="Probability of a cycle without a token.")
@click.option("--backpressure", type=float, default=0.0, show_default=True, help="Probability of a cycle not read.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of idle cycles and backpressure.")
@click.option("--waves", help="Waveform to write: VCD from Verilator, FST from Icarus.")
@as_json
def simulate(source, text, tokens, simulator, lanes, idle, backpressure, seed, waves, as_json):
    """Run SOURCE under a simulator and compare every stream inside the core with the integer network.

    The first divergence is named: stream, step, layer and place.
    """
    from egret.host.measure import sample

    for name, probability in (("--idle", idle), ("--backpressure", backpressure)):
        if not 0 <= probability < 1:
            raise InputError(f"{name} must be a probability from 0 to below 1, not {probability}")
    if tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    image, parameters = load_image(source, lanes=lanes)
    ids = sample(parameters, tokens) if text is None else load_text(text, parameters.vocabulary, tokens)[:-1]
    options = {"seed": seed, "idle": idle, "backpressure": backpressure, "waves": waves and Path(waves)}
    result = lockstep(image, ids, simulator=simulator, **options)
    figures = {"simulator": simulator, "tokens": tokens, "compared": result.compared, "counters": result.counters}
    rows = [("steps", f"{tokens:,}"), *((f"compared: {name}", f"{count:,}") for name, count in result.compared.items())]
    rows += [(f"counter: {name}", f"{count:,}") for name, count in result.counters.items()]
    title = f"{source} under {simulator}: every value equals the integer network's"
    show(Result(figures, rows), title, as_json)
