"""The demonstration: the whole chain once, from a checkpoint to text on the virtual board, checked and measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from egret.host.counterparts import dense_counterpart
from egret.host.measure import DENSE_STEPS, measure, simulation_images
from egret.host.session import generate_text, prompt_ids
from egret.model import arithmetic as _model
from egret.model.checkpoint import load_checkpoint
from egret.model.counts import checkpoint_columns, integer_columns
from egret.model.evaluate import evaluate, event_agreement
from egret.model.floating import FloatEngine
from egret.model.integer import IntegerEngine
from egret.model.quantise import quantise
from egret.model.readout import ReadOut, Sampler

if TYPE_CHECKING:
    from rich.console import Console

    from egret.host.board import Board
    from egret.model.compiler.configuration import Configuration

__all__ = ["NETWORK", "TEXT", "run"]

NETWORK = Path(_model.__file__).parent / "demo" / "network"
"""The demo network, a checkpoint directory."""
TEXT = NETWORK.parent / "valid.txt"
"""The text that it was validated on."""

TEMPERATURE = 0.7
BATCH = 32
"""Streams that the text is cut into for perplexities."""
MEASURED_STEPS = 2000
"""Steps of the text that run on the board; perplexities take the whole text, on the networks."""


def run(
    checkpoint: str | Path,
    text: str | Path,
    tokens: int,
    seed: int,
    console: "Console",
    progress: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
    open_board: "Callable[[Configuration], Board]",
) -> bool:
    """Run the demonstration.

    Parameters
    ----------
    checkpoint : str or Path
    text : str or Path
        To measure on.
    tokens : int
        To generate.
    seed : int
        Of the generated text.
    console : rich.console.Console
    progress : callable
        ``with progress(what) as show: show(done, total)``.
    open_board : callable
        Gives the board of a configuration.

    Returns
    -------
    bool
        Whether every token matched the integer network.

    Raises
    ------
    InputError
        The checkpoint or the text cannot be used, or a tool for the virtual board is missing.
    """
    source = load_checkpoint(checkpoint)
    network = quantise(source)
    ids = source.vocabulary.read(text)
    # One core for both: its weight memory holds all weights, so that the dense counterpart runs on the very same.
    counterpart = dense_counterpart(network)
    image, dense_image = simulation_images(network, counterpart)
    shape = image.configuration
    console.print(
        f"{shape.vocabulary} tokens, embedding {shape.embedding}, layers {' - '.join(map(str, shape.hidden))}, "
        f"{sum(layer.nonzeros for layer in integer_columns(network)):,} non-zero weights, {shape.lanes} lanes"
    )
    console.print("Text generated on the virtual board:\n", style="bold")
    with open_board(shape) as board:
        with progress("loading") as show:
            board.load(image, progress=show)
        session = generate_text(
            board, image, network, prompt_ids(source.vocabulary, None), tokens,
            Sampler(ReadOut(network), temperature=TEMPERATURE, seed=seed),
            lambda piece: console.out(piece, end="", highlight=False),
        )  # fmt: skip
        console.print("\n")
        with progress("measuring the core") as show:
            core = measure(board, image, network, ids[: MEASURED_STEPS + 1], progress=show)
        with progress("measuring it without sparsity") as show:
            dense = measure(board, dense_image, counterpart, ids[: DENSE_STEPS + 1], progress=show)
    networks = FloatEngine(source), IntegerEngine(network)
    batch = min(BATCH, len(ids) - 1)
    with progress("float network") as show:
        floating = evaluate(networks[0], checkpoint_columns(source), ids, batch=batch, progress=show)
    with progress("integer network") as show:
        integer = evaluate(networks[1], integer_columns(network), ids, batch=batch, progress=show)
    with progress("agreement of events") as show:
        agreement = event_agreement(*networks, ids, batch=batch, progress=show)

    steps = session.steps + core.evaluation.tokens
    wrong = session.steps - (session.matching or 0) + core.wrong_steps
    console.print(f"{steps - wrong} of {steps} tokens match the integer network", style="bold", highlight=False)
    for mismatch in (session.first_mismatch, core.first_mismatch, dense.first_mismatch):
        if mismatch is not None:
            console.print(f"first mismatch: {mismatch}", style="red", highlight=False, markup=False)
    console.print(_table(floating, integer, agreement, core, dense))
    return not wrong and not dense.mismatches


def _table(floating, integer, agreement, core, dense):
    macs, dense_cycles = core.evaluation.macs, dense.cycles_per_token
    columns = [
        ("perplexity, float", f"{floating.perplexity:.3f}"),
        ("perplexity, integer", f"{integer.perplexity:.3f} ({integer.perplexity / floating.perplexity - 1:+.2%})"),
        ("RNN weights that are zero", f"{1 - macs.pruned / macs.dense:.1%} of {macs.dense:,}"),
        ("activity by layer", _percentages(core.evaluation.activity)),
        ("event agreement, float and integer", _percentages(layer.agreement for layer in agreement)),
        None,
        ("MACs per token, dense", f"{macs.dense:,}"),
        ("MACs per token, event-driven", f"{macs.event_driven:,.0f}"),
        ("MACs per token, event-driven and pruned", f"{macs.event_driven_pruned:,.0f}"),
        None,
        ("cycles per token", f"{core.cycles_per_token:,.0f}"),
        (f"lane utilisation, {core.lanes} lanes", f"{core.lane_utilisation:.1%}"),
        ("cycles per token, all neurons active, no weight pruned", f"{dense_cycles:,.0f}"),
        ("speed-up, measured", f"{dense_cycles / core.cycles_per_token:.1f}"),
        ("speed-up, theoretical (MACs)", f"{macs.dense / macs.event_driven_pruned:.1f}"),
        ("simulated tokens per second, with the comparison", f"{core.tokens_per_second:,.0f}"),
    ]
    table = Table("", "", show_header=False)
    for row in columns:
        if row is None:
            table.add_section()
        else:
            table.add_row(*row)
    return table


def _percentages(shares):
    return ", ".join(f"{share:.2%}" for share in shares)
