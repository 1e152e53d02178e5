"""The command line: ``egret``.

Everything heavy is imported by the command that needs it, so that ``egret --help`` answers at once and no command
needs torch but those that train.
"""

import contextlib
import json
import sys
from pathlib import Path

import click

from egret.model.errors import InputError

__all__ = ["main"]

ENGINES = ("float", "integer")

_help = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of the process's own.

    Returns
    -------
    int
        Exit status: 0 on success, 2 with one line on standard error where the user's input cannot be used, 130 when
        interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return egret.main(arguments or ["--help"], prog_name="egret", standalone_mode=False) or 0
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("egret: interrupted", err=True)
        return 130
    except InputError as error:
        return _refuse(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _refuse(f"{where}{error.strerror or error}")


def _refuse(message):
    click.echo(f"egret: error: {' '.join(message.split())}", err=True)
    return 2


@click.group(context_settings=_help)
@click.version_option(package_name="egret-fpga", prog_name="egret", message="%(prog)s %(version)s")
def egret():
    """Event-driven, sparse recurrent language models, from training to an FPGA core."""


# What several commands share


@contextlib.contextmanager
def _progress(what):
    """Yield ``progress(done, total)``, which draws a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(title, rows):
    """Print a table of two columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=title, show_header=False, title_justify="left")
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def _load_integer(source):
    """Integer network of a checkpoint directory (quantised now), of an integer network's file, or of an image."""
    from egret.model.image import MAGIC

    path = Path(source)
    if path.is_dir():
        from egret.model.checkpoint import load_checkpoint
        from egret.model.quantise import quantise

        return quantise(load_checkpoint(path))
    try:
        with open(path, "rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise InputError(
            f"{path}: cannot read it: {error.strerror}; expected a checkpoint directory, an integer network or an image"
        ) from error
    if head == MAGIC:
        from egret.model.compile import read_image
        from egret.model.image import Image

        return read_image(Image.load(path))
    from egret.model.quantise import load_integer

    return load_integer(path)


def _load_text(path, vocabulary, tokens):
    """Ids of a text: all of it, or the first ``tokens + 1``."""
    from egret.model.tokens import read_text

    text = read_text(path)
    try:
        ids = vocabulary.encode(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if tokens is None:
        return ids
    if not 1 <= tokens < len(ids):
        raise InputError(f"{path}: --tokens must be from 1 to {len(ids) - 1}, the text's predictions, not {tokens}")
    return ids[: tokens + 1]


# Commands


@egret.command()
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="File to write the integer network to.")
@click.option("--accumulator-bits", type=int, default=24, show_default=True, help="Width of an accumulator, 16 to 24.")
@click.option("--gate-index-bits", type=int, default=10, show_default=True, help="Index of a gate table, 8 to 12.")
def quantise(checkpoint, output, accumulator_bits, gate_index_bits):
    """Turn the float network of CHECKPOINT into the integer network, one file.

    Weights become 8-bit integers with one power-of-two scale for each gate of each layer; every rounding is defined,
    and the core answers like the integer network bit for bit.
    """
    from egret.model.checkpoint import load_checkpoint
    from egret.model.counts import checkpoint_columns, integer_columns
    from egret.model.quantise import quantise, save_integer

    source = load_checkpoint(checkpoint)
    parameters = quantise(source, accumulator_bits=accumulator_bits, gate_index_bits=gate_index_bits)
    save_integer(parameters, output)
    before = sum(layer.nonzeros for layer in checkpoint_columns(source))
    columns = integer_columns(parameters)
    after, weights = sum(layer.nonzeros for layer in columns), sum(layer.weights for layer in columns)
    _table(
        f"{output}",
        [
            ("RNN weights", f"{weights:,}"),
            ("non-zero, float", f"{before:,} ({before / weights:.1%})"),
            ("non-zero, integer", f"{after:,} ({after / weights:.1%})"),
            *(
                (f"layer {number}: shifts of u, r, z", ", ".join(map(str, layer.shift)))
                for number, layer in enumerate(parameters.layers)
            ),
        ],
    )


@egret.command("compile")
@click.argument("source")
@click.option("-o", "--output", help="File to write the image to.")
@click.option("--target", default="default", show_default=True, help="Named lanes and weight memory.")
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--weight-bytes", type=int, help="Size of the weight memory; 0 makes it just large enough.")
@click.option("--verilog", help="File to write the core's Verilog to.")
def compile_(source, output, target, lanes, weight_bytes, verilog):
    """Compile SOURCE (a checkpoint or an integer network) into an image and the Verilog of its core."""
    from egret.model.compile import compile_image, configuration_for
    from egret.model.configuration import TARGETS
    from egret.model.files import write_aside
    from egret.model.image import memory_sections

    if output is None and verilog is None:
        raise InputError("nothing to write: give --output FILE for the image, --verilog FILE for the core, or both")
    if target not in TARGETS:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, not {target!r}")
    options = dict(TARGETS[target])
    if lanes is not None:
        options["lanes"] = lanes
    if weight_bytes is not None:
        options["weight_bytes"] = weight_bytes or None
    parameters = _load_integer(source)
    configuration = configuration_for(parameters, **options)
    image = compile_image(parameters, configuration)
    sections = {section.name: section for section in memory_sections(configuration)}
    words = len(image.memories["weights"]) // sections["weights"].word_bytes
    entries = sum(int((layer.weight_x != 0).sum() + (layer.weight_y != 0).sum()) for layer in parameters.layers)
    rows = [
        ("configuration", configuration.digest.hex()),
        ("layers", " - ".join(map(str, (configuration.embedding, *configuration.hidden)))),
        ("lanes", str(configuration.lanes)),
        ("non-zero weights", f"{entries:,}"),
        ("weight memory", f"{words:,} of {configuration.weight_words:,} words of {configuration.word_bits} bits"),
        ("lane slots filled", f"{entries / max(1, words * configuration.lanes):.1%}"),
    ]
    if verilog is not None:
        from egret.rtl.core import Core
        from egret.rtl.export import to_verilog

        write_aside(verilog, to_verilog(Core(configuration), "egret_core").encode())
        rows.append(("Verilog", verilog))
    if output is not None:
        image.save(output)
        rows.append(("image", f"{output}, {Path(output).stat().st_size:,} bytes"))
    _table(source, rows)


@egret.command()
@click.argument("checkpoint")
@click.option("--text", required=True, help="UTF-8 text to predict.")
@click.option("--tokens", type=int, help="Predictions to make; all of the text by default.")
@click.option("--engine", type=click.Choice(ENGINES), required=True, help="What runs the network.")
@click.option("--batch", type=int, default=1, show_default=True, help="Streams that the text is cut into.")
@click.option("--agreement", is_flag=True, help="Compare the integer network's events with the float network's too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(checkpoint, text, tokens, engine, batch, agreement, as_json):
    """Measure perplexity, activity and operations of CHECKPOINT over a text.

    The state is zero at the start of each stream and carried along it; every token after the first is predicted.
    CHECKPOINT is a checkpoint directory; for the integer engine also an integer network's file or an image.
    """
    from egret.model.counts import checkpoint_columns, integer_columns
    from egret.model.evaluate import evaluate, event_agreement

    if agreement and engine != "integer":
        raise InputError(f"--agreement compares the integer network with the float one; --engine is {engine}")
    if engine == "float" or agreement:
        from egret.model.checkpoint import load_checkpoint
        from egret.model.floating import FloatNetwork

        source = load_checkpoint(checkpoint)
        float_network, vocabulary = FloatNetwork(source), source.vocabulary
        network, columns = float_network, checkpoint_columns(source)
    if engine == "integer":
        from egret.model.integer import IntegerNetwork

        parameters = _load_integer(checkpoint)
        network, vocabulary = IntegerNetwork(parameters), parameters.vocabulary
        columns = integer_columns(parameters)
    ids = _load_text(text, vocabulary, tokens)
    with _progress(f"{engine} network") as progress:
        evaluation = evaluate(network, columns, ids, batch=batch, progress=progress)
    macs = evaluation.macs
    result = {
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
    }
    if agreement:
        with _progress("agreement of events") as progress:
            layers = event_agreement(float_network, network, ids, batch=batch, progress=progress)
        result["event_agreement"] = [layer.agreement for layer in layers]
        result["event_overlap"] = [layer.overlap for layer in layers]
    if as_json:
        click.echo(json.dumps(result))
        return
    rows = [
        ("tokens predicted", f"{evaluation.tokens:,} in {batch} stream{'s' if batch > 1 else ''}"),
        ("perplexity", f"{evaluation.perplexity:.3f} (loss {evaluation.loss:.4f} nats)"),
        ("activity by layer", _percentages(evaluation.activity)),
        ("MACs per token, dense", f"{macs.dense:,}"),
        ("pruned only", f"{macs.pruned:,}"),
        ("event-driven only", f"{macs.event_driven:,.0f}"),
        ("event-driven and pruned", f"{macs.event_driven_pruned:,.0f}"),
    ]
    if agreement:
        rows.append(("neurons and steps that agree with float, by layer", _percentages(result["event_agreement"])))
        rows.append(("events of both over events of either, by layer", _percentages(result["event_overlap"])))
    _table(f"{checkpoint}, {engine} network, {text}", rows)


def _percentages(shares):
    return ", ".join(f"{share:.2%}" for share in shares)


if __name__ == "__main__":
    sys.exit(main())
