"""The command ``egret evaluate``."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import click

from egret.host.cli.cores import describe_measurement, mismatch_status, until_it_differs
from egret.host.cli.options import as_json, core_options, simulator_option
from egret.host.cli.show import Result, percentages, show
from egret.host.network import Network
from egret.host.progress import progress_bar
from egret.model.errors import InputError

if TYPE_CHECKING:
    from egret.model.evaluate import Evaluation
    from egret.model.sequences import SequenceEvaluation

__all__ = ["evaluate"]

ENGINES = ("float", "integer", "native", "rtl")


@click.command()
@click.argument("checkpoint")
@click.option("--text", help="UTF-8 text to predict.")
@click.option("--data", help="Sequences to classify (.npz), of a network whose input is numbers.")
@click.option("--tokens", type=int, help="Predictions to make, or sequences; all by default.")
@click.option(
    "--engine", type=click.Choice(("float", "integer", "native", "rtl")), required=True, help="What runs the network."
)
@click.option("--batch", type=int, default=1, show_default=True, help="Streams that the text is cut into.")
@click.option(
    "--reset-every",
    type=click.IntRange(1),
    help="Zero the carried state, not the events, behind so many tokens of a stream, as EvNN evaluates (70).",
)
@click.option("--agreement", is_flag=True, help="Compare the integer network's events with the float network's too.")
@simulator_option
@core_options()
@as_json
def evaluate(
    checkpoint: str,
    text: str | None,
    data: str | None,
    tokens: int | None,
    engine: str,
    batch: int,
    reset_every: int | None,
    agreement: bool,
    simulator: str,
    core: dict[str, Any],
    as_json: bool,
) -> int:
    """Measure perplexity, activity and operations of CHECKPOINT over a text; or its accuracy over sequences.

    The state is zero at the start of each stream and carried along it; every token after the first is predicted.
    CHECKPOINT is a checkpoint directory; for all engines but float also an integer network's file or an image. The
    engine native is the integer network as machine code; its streams are spread over the processor's cores. The engine
    rtl is the simulated core: what it says is compared with the integer network, step by step. Each of its streams has
    a core of its own, and all run at the same time. Of the options that shape a core the other engines need the folded
    rows alone: a core with these saves the MACs of a token's embedding.
    """
    from egret.model.counts import folded_macs
    from egret.model.evaluate import event_agreement
    from egret.model.floating import FloatEngine
    from egret.model.integer import IntegerEngine

    if (text is None) == (data is None):
        raise InputError("one of --text and --data is needed: a text, or sequences of numbers (.npz)")
    if engine == "float" and core:
        raise InputError(
            "--lanes, --store, --weight-bits, --folded and --resident-bytes are for a core, which computes in "
            "integers: --engine must be integer, native or rtl, not float"
        )
    if agreement and engine != "integer":
        raise InputError(f"--agreement compares the integer network with the float one; --engine is {engine}")
    if reset_every is not None and (agreement or engine not in ("float", "integer")):
        raise InputError("--reset-every is for the engines float and integer, and without --agreement")
    network, title = Network(checkpoint, **core), f"{checkpoint}, {engine}, {text or data}"
    if data is not None:
        if batch != 1 or agreement or reset_every is not None or simulator == "icarus":
            raise InputError(
                "--batch, --reset-every, --agreement and --simulator icarus are for a text, not for --data"
            )
        return _classify(network, data, tokens, engine, title, as_json)
    folded = network.configuration.folded_tokens if core else 0
    ids = network.ids(text, tokens)
    saved = folded_macs(network.integer, ids[:-1], folded) if folded else 0.0
    if engine == "rtl":
        with until_it_differs() if simulator == "icarus" else nullcontext():
            measurement = network.measure(ids, batch=batch, simulator=simulator)
        result = _describe(measurement.evaluation, engine, batch, folded, saved)
        result.add(describe_measurement(measurement))
        show(result, title, as_json)
        return mismatch_status(measurement)
    evaluation = network.evaluate(ids, engine=engine, batch=batch, reset_every=reset_every)
    result = _describe(evaluation, engine, batch, folded, saved)
    if agreement:
        with progress_bar("agreement of events") as progress:
            engines = FloatEngine(network.checkpoint), IntegerEngine(network.integer)
            layers = event_agreement(*engines, ids, batch=batch, progress=progress)
        agreed, overlap = [layer.agreement for layer in layers], [layer.overlap for layer in layers]
        rows = [
            ("neurons and steps that agree with float, by layer", percentages(agreed)),
            ("events of both over events of either, by layer", percentages(overlap)),
        ]
        result.add(Result({"event_agreement": agreed, "event_overlap": overlap}, rows))
    show(result, title, as_json)
    return 0


def _classify(network: Network, data: str, sequences: int | None, engine: str, title: str, as_json: bool) -> int:
    """Show the accuracy over sequences; the exit status."""
    inputs = network.inputs(data=data, count=sequences)
    measurement = network.measure(inputs) if engine == "rtl" else None
    found = network.evaluate(inputs, engine=engine) if measurement is None else measurement.evaluation
    evaluation = cast("SequenceEvaluation", found)
    macs = evaluation.macs
    result = Result(
        {
            "engine": engine,
            "sequences": len(evaluation.answers),
            "steps": evaluation.tokens,
            "asked": evaluation.asked,
            "right": evaluation.right,
            "accuracy": evaluation.accuracy,
            "loss": evaluation.loss,
            "activity": evaluation.activity,
            "macs_per_step": macs.event_driven_pruned,
            "macs_per_step_by_layer": macs.layers,
            "macs_per_step_dense": macs.dense,
            "macs_per_step_pruned": macs.pruned,
            "macs_per_step_event_driven": macs.event_driven,
            "macs_per_class": evaluation.macs_readout,
        },
        [
            ("classes right", f"{evaluation.right:,} of {evaluation.asked:,}"),
            ("accuracy", f"{evaluation.accuracy:.2%} (loss {evaluation.loss:.4f} nats)"),
            ("activity by layer", percentages(evaluation.activity)),
            ("MACs per step of the layers, dense", f"{macs.dense:,}"),
            ("pruned only", f"{macs.pruned:,}"),
            ("event-driven only", f"{macs.event_driven:,.0f}"),
            ("event-driven and pruned", f"{macs.event_driven_pruned:,.0f}"),
            ("MACs per class that is read out", f"{evaluation.macs_readout:,.0f}"),
        ],
    )
    if measurement is not None:
        result.add(describe_measurement(measurement))
    show(result, title, as_json)
    return 0 if measurement is None else mismatch_status(measurement)


def _describe(evaluation: "Evaluation", engine: str, batch: int, folded: int, saved: float) -> Result:
    """What is to be shown; ``folded`` rows of the core save ``saved`` MACs a token."""
    macs = evaluation.macs
    whole = macs.event_driven_pruned - saved + (evaluation.macs_readout or 0)
    figures = {
        "engine": engine,
        "tokens": evaluation.tokens,
        "batch": batch,
        "perplexity": evaluation.perplexity,
        "loss": evaluation.loss,
        "activity": evaluation.activity,
        "macs_per_token": macs.event_driven_pruned,
        "macs_per_token_by_layer": macs.layers,
        "macs_per_token_dense": macs.dense,
        "macs_per_token_pruned": macs.pruned,
        "macs_per_token_event_driven": macs.event_driven,
        "macs_readout_per_token": evaluation.macs_readout,
        "macs_whole_per_token": whole,
        "folded": folded,
    }
    rows = [
        ("tokens predicted", f"{evaluation.tokens:,} in {batch} stream{'s' if batch > 1 else ''}"),
        ("perplexity", f"{evaluation.perplexity:.3f} (loss {evaluation.loss:.4f} nats)"),
        ("activity by layer", percentages(evaluation.activity)),
        ("MACs per token of the layers, dense", f"{macs.dense:,}"),
        ("pruned only", f"{macs.pruned:,}"),
        ("event-driven only", f"{macs.event_driven:,.0f}"),
        ("event-driven and pruned", f"{macs.event_driven_pruned:,.0f}"),
        ("MACs per token of the read-out", f"{evaluation.macs_readout:,.0f}"),
        ("MACs per whole token", f"{whole:,.0f}" + (f", {folded:,} rows folded" if folded else "")),
    ]
    return Result(figures, rows)
