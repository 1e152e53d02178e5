"""The command line: ``egret``.

Everything heavy is imported by the command that needs it, so that ``egret --help`` answers at once and no command
needs torch but those that train.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import click

from egret.model.compiler.configuration import GOALS, RESIDENT_BYTES, STORES
from egret.model.errors import EgretError, InputError, needs

__all__ = ["main"]

ENGINES = ("float", "integer", "rtl")
SIMULATORS = ("verilator", "icarus")
FOLDED = "Tokens with folded rows, the first ones: 0, or with the store sdram as many as fit."
RESIDENT = f"With the store sdram: block RAM for the weights that are read most often; {RESIDENT_BYTES} by default."


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
        interrupted or terminated.
    """
    # The matrices are small: numpy's second thread gains little, and on a busy machine costs ten times what it gains.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is terminated cleans up like what is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return egret.main(arguments or ["--help"], prog_name="egret", standalone_mode=False) or 0
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("egret: interrupted", err=True)
        return 130
    except EgretError as error:
        return _refuse(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _refuse(f"{where}{error.strerror or error}")


def _refuse(message):
    click.echo(f"egret: error: {' '.join(message.split())}", err=True)
    return 2


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


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


def _is_image(source):
    """Whether a path is a file that begins like an image."""
    from egret.model.compiler.image import MAGIC

    try:
        with open(source, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except IsADirectoryError:
        return False
    except OSError as error:
        raise InputError(
            f"{source}: cannot read it: {error.strerror}; expected a checkpoint directory, an integer network or an "
            "image"
        ) from error


def _load_integer(source):
    """Integer network of a checkpoint directory (quantised now), of an integer network's file, or of an image."""
    path = Path(source)
    if path.is_dir():
        from egret.model.checkpoint import load_checkpoint
        from egret.model.quantise import quantise

        return quantise(load_checkpoint(path))
    if _is_image(path):
        from egret.model.compiler.compile import read_image
        from egret.model.compiler.image import Image

        return read_image(Image.load(path))
    from egret.model.integer_file import load_integer

    return load_integer(path)


def _load_image(source, **options):
    """Image and integer network of anything that `_load_integer` accepts, compiled now unless it is an image.

    Options are those of `egret.host.measure.simulation_images`.
    """
    from egret.host.measure import simulation_images
    from egret.model.compiler.image import Image

    parameters = _load_integer(source)
    if not _is_image(source):
        return simulation_images(parameters, **options)[0], parameters
    image = Image.load(source)
    for name, value in options.items():
        compiled = getattr(image.configuration, name)
        if value is not None and compiled != value:
            raise InputError(f"{source}: the image is compiled for {name} {compiled}, not {value}; give its checkpoint")
    return image, parameters


def _open_board(configuration, port=None, baud_rate=None, trace=None, bit_cycles=None):
    """A `Board` on a serial port, or the virtual board of a configuration."""
    from rich.console import Console

    from egret.host.board import Board
    from egret.host.transport import open_serial, open_virtual

    if port is not None:
        return Board(open_serial(port, **({} if baud_rate is None else {"baud_rate": baud_rate})))
    return Board(open_virtual(configuration, console=Console(stderr=True), trace=trace, bit_cycles=bit_cycles))


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


def _settings(assignments):
    """Fields of `TrainingOptions` from ``NAME=VALUE`` arguments; a value that is not TOML is a string."""
    import tomllib

    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, as in --set epochs=10, not {assignment!r}")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value
    return values


def _training_options(config, settings, **options):
    """`TrainingOptions` of a configuration file, or of its defaults, with what the command line says instead."""
    from dataclasses import fields

    from egret.model.training.train import TrainingOptions

    settings = _settings(settings)
    names = [field.name for field in fields(TrainingOptions)]
    for name in settings:
        if name not in names:
            raise InputError(f"--set: unknown field {name!r}; accepted are {', '.join(names)}")
    settings |= {name: value for name, value in options.items() if value is not None}
    if config is not None:
        return TrainingOptions.from_toml(config, **settings)
    for name in ("train", "valid"):
        if name not in settings:
            raise InputError(f"no text to use: give --{name} FILE, or --config FILE that names one")
    return TrainingOptions(**settings)


_training_help = "Another field of the configuration (see the head of model/training/train.py); may be repeated."


def _training_decorators(command):
    """Options that `train` and `prune` share."""
    for decorator in reversed(
        [
            click.option("-o", "--output", required=True, help="Checkpoint directory to write, and to resume from."),
            click.option("--config", help="Configuration file (TOML), such as those in model/configs."),
            click.option("--train", help="Text to train on."),
            click.option("--valid", help="Text to validate on."),
            click.option("--device", help="auto, cpu or cuda."),
            click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help=_training_help),
            click.option("--limit-seconds", type=float, help="Save and stop after this time; run again to go on."),
            _as_json,
        ]
    ):
        command = decorator(command)
    return command


def _show_training(result, output, as_json):
    if as_json:
        click.echo(json.dumps(result.summary()))
        return
    summary = result.summary()
    _table(
        output,
        [
            ("epochs", str(summary["epochs"])),
            ("validation loss", f"{summary['valid_loss']:.4f} nats (perplexity {summary['valid_perplexity']:.3f})"),
            ("RNN weights that are zero", f"{summary['sparsity']:.1%}"),
            ("activity by layer", _percentages(summary["activity"])),
            ("time", f"{summary['seconds']:.0f} s"),
            ("training speed", f"{summary['tokens_per_second']:,.0f} tokens/s"),
        ],
    )


# Commands


@egret.command()
@_training_decorators
def train(output, config, train, valid, device, settings, limit_seconds, as_json):
    """Train a float network into a checkpoint directory.

    Started again with the same options after it was stopped or killed, it goes on where it last saved.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.train import train as run
    options = _training_options(config, settings, train=train, valid=valid, device=device)
    result = run(options, output, progress=sys.stderr.isatty(), limit_seconds=limit_seconds)
    _show_training(result, output, as_json)


@egret.command()
@click.argument("checkpoint")
@_training_decorators
@click.option("--sparsity", type=float, required=True, help="Share of RNN weights that end as zero, 0 to below 1.")
@click.option("--steps", type=int, default=1, show_default=True, help="Times that weights are pruned.")
@click.option("--epochs", type=int, default=10, show_default=True, help="Epochs of fine-tuning, all steps together.")
@click.option("--spread", type=float, default=0.4, show_default=True, help="Share of epochs before the last pruning.")
@click.option("--learning-rate", type=float, default=5e-4, show_default=True, help="At the start of fine-tuning.")
@click.option("--regrow", is_flag=True, help="With --sparsity 0: let weights that are zero grow again.")
def prune(checkpoint, output, config, train, valid, device, settings, limit_seconds, as_json, sparsity, **pruning):
    """Prune the smallest RNN weights of CHECKPOINT, all layers together, and fine-tune what is left.

    CHECKPOINT is a checkpoint directory, or an integer network's file, such as those in model/networks. The embedding
    and the read-out are left alone. The configuration gives texts, batch and dropout; the network's
    shape is the checkpoint's. Like `egret train`, it resumes.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.prune import PruningOptions
        from egret.model.training.prune import prune as run
    options = _training_options(config, settings, train=train, valid=valid, device=device)
    options = (checkpoint, output, options, PruningOptions(sparsity=sparsity, **pruning))
    result = run(*options, progress=sys.stderr.isatty(), limit_seconds=limit_seconds)
    _show_training(result, output, as_json)


@egret.command()
@click.argument("study")
@click.option("-o", "--output", required=True, help="Directory of the study, to write and to resume from.")
@click.option("--train", help="Text to train on, instead of the study's.")
@click.option("--valid", help="Text to validate on.")
@click.option("--test", help="Text to measure on.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--ray", help="Ray cluster to run on: HOST:PORT, or local to start one here.")
@click.option("--limit-seconds", type=float, help="Save and stop after this time; run again to go on.")
@_as_json
def sweep(study, output, train, valid, test, device, ray, limit_seconds, as_json):
    """Train, prune and measure every network of STUDY (TOML, such as model/configs/study-ptb.toml).

    Started again with the same options it goes on where it last saved, and never repeats a finished network. On a Ray
    cluster, all nodes must see the texts and the directory under the same paths.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.sweep import Study
        from egret.model.training.sweep import sweep as run
    if ray is not None:
        with needs("ray", "ray", "--ray"):
            importlib.import_module("ray")
    study = Study.from_toml(study, train=train, valid=valid, test=test, device=device)
    shown = {}
    if sys.stderr.isatty():
        shown = {"progress": _progress, "tell": lambda line: click.echo(line, err=True)}
    result = run(study, output, ray=ray, limit_seconds=limit_seconds, **shown)
    if as_json:
        counts = {"points": len(study.points), "finished": [*result.finished]}
        click.echo(json.dumps({**counts, "ran": result.ran, "left": result.left}))
        return
    rows = [
        (name, f"test perplexity {point['test']['perplexity']:.2f}, activity {_percentages(point['activity'])}")
        for name, point in result.finished.items()
    ]
    _table(output, [*rows, *((name, "time is up; run again to go on") for name in result.left)])


@egret.command()
@click.option("--study", required=True, help="Directory that egret sweep wrote.")
@click.option("-o", "--output", help="HTML file to write, CSV and SVG beside it; report.html in the study by default.")
@_as_json
def report(study, output, as_json):
    """Write the report of a study beside the papers' numbers: one HTML page, its data as CSV, its figures as SVG."""
    with needs("matplotlib", "matplotlib", "the report"):
        from egret.model.training.report import write_report
    with _progress("figures") as progress:
        result = write_report(study, output, progress=progress)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
        return
    reached = sum(1 for goal in result.goals if goal["gap"] is not None and goal["gap"] <= 0)
    rows = [
        ("points finished", f"{result.finished} of {result.finished + result.missing}"),
        ("goals reached", f"{reached} of {len(result.goals)}"),
        ("tables", "\n".join(result.tables)),
        ("figures", "\n".join(result.figures)),
    ]
    _table(result.page, rows)


@egret.command()
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="Checkpoint directory to write.")
@click.option("--text", required=True, help="UTF-8 text to predict: the validation text, not the test text.")
@click.option("--batch", type=int, default=64, show_default=True, help="Streams that the text is cut into.")
@click.option("--weight-bits", type=int, help="Calibrate for egret quantise with these bits, 8 or 4.")
@click.option("--embedding-bits", type=int, help="Likewise, 4 to 8.")
@_as_json
def calibrate(checkpoint, output, text, batch, weight_bits, embedding_bits, as_json):
    """Scale the read-out of the float network of CHECKPOINT to be as sure of its predictions as it should be.

    The scale is the one that predicts the text best, with the float network, or with the integer network where bits
    are given. The network keeps its size and its events.
    """
    from egret.model.calibrate import calibrate, scale_readout
    from egret.model.checkpoint import load_checkpoint, save_checkpoint
    from egret.model.floating import FloatEngine
    from egret.model.integer import IntegerEngine
    from egret.model.quantise import quantise

    source = load_checkpoint(checkpoint)
    ids = _load_text(text, source.vocabulary, None)
    if weight_bits is None and embedding_bits is None:
        network = FloatEngine(source)
    else:
        bits = {"weight_bits": weight_bits or 8, "embedding_bits": embedding_bits or 8}
        network = IntegerEngine(quantise(source, **bits))
    with _progress("network") as progress:
        scale = calibrate(network, ids, batch=batch, progress=progress)
    save_checkpoint(scale_readout(source, scale), output)
    if as_json:
        click.echo(json.dumps({"checkpoint": output, "scale": scale}))
        return
    _table(output, [("scale of the read-out", f"{scale:.4f}")])


@egret.command()
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="File to write the integer network to.")
@click.option("--weight-bits", type=int, default=8, show_default=True, help="8, or 4 for 15 values a matrix.")
@click.option("--embedding-bits", type=int, default=8, show_default=True, help="Of embedding and read-out, 4 to 8.")
@click.option("--accumulator-bits", type=int, default=24, show_default=True, help="Width of an accumulator, 16 to 24.")
@click.option("--gate-index-bits", type=int, default=10, show_default=True, help="Index of a gate table, 8 to 12.")
@_as_json
def quantise(checkpoint, output, as_json, **options):
    """Turn the float network of CHECKPOINT into the integer network, one file.

    Weights become 8-bit integers with one power-of-two scale for each gate of each layer; every rounding is defined,
    and the core answers like the integer network bit for bit. With 4-bit weights, those of one matrix take one of 15
    of these integers.
    """
    from egret.model.checkpoint import load_checkpoint
    from egret.model.counts import checkpoint_columns, integer_columns
    from egret.model.integer_file import save_integer
    from egret.model.quantise import quantise

    source = load_checkpoint(checkpoint)
    parameters = quantise(source, **options)
    save_integer(parameters, output)
    before = sum(layer.nonzeros for layer in checkpoint_columns(source))
    columns = integer_columns(parameters)
    after, weights = sum(layer.nonzeros for layer in columns), sum(layer.weights for layer in columns)
    shifts = [list(map(int, layer.shift)) for layer in parameters.layers]
    if as_json:
        counts = {"weights": weights, "nonzero_float": before, "nonzero_integer": after}
        click.echo(json.dumps({"network": output, **counts, "shifts": shifts}))
        return
    _table(
        f"{output}",
        [
            ("RNN weights", f"{weights:,}"),
            ("non-zero, float", f"{before:,} ({before / weights:.1%})"),
            ("non-zero, integer", f"{after:,} ({after / weights:.1%})"),
            *((f"layer {n}: shifts of u, r, z", ", ".join(map(str, layer))) for n, layer in enumerate(shifts)),
        ],
    )


@egret.command("compile")
@click.argument("source")
@click.option("-o", "--output", help="File to write the image to.")
@click.option("--target", default="default", show_default=True, help="Named lanes and weight memory.")
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--weight-bytes", type=int, help="Size of the weight memory; 0 makes it just large enough.")
@click.option("--goal", type=click.Choice(GOALS), default=GOALS[0], show_default=True, help="Of packing the weights.")
@click.option("--folded", type=int, help=FOLDED)
@click.option("--resident-bytes", type=click.IntRange(min=0), help=RESIDENT)
@click.option("--verilog", help="File to write the core's Verilog to.")
@_as_json
def compile_(source, output, target, lanes, weight_bytes, goal, folded, resident_bytes, verilog, as_json):
    """Compile SOURCE (a checkpoint or an integer network) into an image and the Verilog of its core."""
    import numpy as np

    from egret.model.compiler.compile import column_words, compile_image, configuration_for
    from egret.model.compiler.configuration import TARGETS
    from egret.model.compiler.image import memory_sections
    from egret.model.files import write_aside

    if output is None and verilog is None:
        raise InputError("nothing to write: give --output FILE for the image, --verilog FILE for the core, or both")
    if target not in TARGETS:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, not {target!r}")
    options = TARGETS[target] | {"goal": goal, "folded_tokens": folded}
    if lanes is not None:
        options["lanes"] = lanes
    if weight_bytes is not None:
        options["weight_bytes"] = weight_bytes or None
    if resident_bytes is not None:
        options["resident_bytes"] = resident_bytes
    parameters = _load_integer(source)
    configuration = configuration_for(parameters, **options)
    image = compile_image(parameters, configuration)
    sections = {section.name: section for section in memory_sections(configuration)}
    words = int(column_words(image)[1].sum())
    layers = parameters.layers
    entries = int(sum(np.count_nonzero(layer.weight_x) + np.count_nonzero(layer.weight_y) for layer in layers))
    used = dataclasses.replace(configuration, weight_words=max(1, words)).weight_memory_bytes
    slots_filled = entries / max(1, words * configuration.lanes)
    pointers = sections["columns"].word_bits * configuration.columns // 8
    rows = [
        ("configuration", configuration.digest.hex()),
        ("layers", " - ".join(map(str, (configuration.embedding, *configuration.hidden)))),
        ("lanes", str(configuration.lanes)),
        ("non-zero weights", f"{entries:,}"),
        ("bits of a weight", str(configuration.weight_bits)),
        ("weight memory", f"{words:,} of {configuration.weight_words:,} words, {used:,} bytes"),
        ("lane slots filled", f"{slots_filled:.1%}"),
        (
            "bytes a non-zero weight, without and with pointers",
            f"{used / max(1, entries):.3f}, {(used + pointers) / max(1, entries):.3f}",
        ),
    ]
    if configuration.resident_words:
        rows.append(("of these in block RAM", f"{configuration.resident_bytes:,} bytes"))
    if configuration.folded_tokens:
        rows.append(("folded rows", f"{configuration.folded_tokens:,} tokens, {len(image.memories['rows']):,} bytes"))
    if verilog is not None:
        from egret.rtl.core import Core
        from egret.rtl.export import to_verilog

        write_aside(verilog, to_verilog(Core(configuration), "egret_core").encode())
        rows.append(("Verilog", verilog))
    if output is not None:
        image.save(output)
        rows.append(("image", f"{output}, {Path(output).stat().st_size:,} bytes"))
    if as_json:
        figures = {"nonzeros": entries, "words": words, "weight_bytes": used, "slots_filled": slots_filled}
        configured = json.loads(configuration.to_json())
        click.echo(json.dumps({"source": source, "configuration": configured, **figures, "image": output,
                               "verilog": verilog}))  # fmt: skip
        return
    _table(source, rows)


@egret.command()
@click.argument("checkpoint")
@click.option("--text", required=True, help="UTF-8 text to predict.")
@click.option("--tokens", type=int, help="Predictions to make; all of the text by default.")
@click.option("--engine", type=click.Choice(ENGINES), required=True, help="What runs the network.")
@click.option("--batch", type=int, default=1, show_default=True, help="Streams that the text is cut into.")
@click.option("--agreement", is_flag=True, help="Compare the integer network's events with the float network's too.")
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True, help="For rtl.")
@click.option("--lanes", type=int, help="For rtl: multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--store", type=click.Choice(STORES), help="For rtl: where the weights are; bram by default.")
@click.option("--folded", type=int, help=f"For rtl: {FOLDED[0].lower()}{FOLDED[1:]}")
@_as_json
def evaluate(checkpoint, text, tokens, engine, batch, agreement, simulator, lanes, store, folded, as_json):
    """Measure perplexity, activity and operations of CHECKPOINT over a text.

    The state is zero at the start of each stream and carried along it; every token after the first is predicted.
    CHECKPOINT is a checkpoint directory; for the engines integer and rtl also an integer network's file or an image.
    The engine rtl is the simulated core: its events are compared with the integer network's, step by step.
    """
    from egret.model.counts import checkpoint_columns, integer_columns
    from egret.model.evaluate import evaluate, event_agreement

    core = {"lanes": lanes, "store": store, "folded_tokens": folded}
    if engine != "rtl" and any(value is not None for value in core.values()):
        raise InputError(f"--lanes, --store and --folded are for the core: --engine must be rtl, not {engine}")
    if agreement and engine != "integer":
        raise InputError(f"--agreement compares the integer network with the float one; --engine is {engine}")
    if engine == "rtl":
        if batch != 1:
            raise InputError(f"the core runs one stream: --batch must be 1 with --engine rtl, not {batch}")
        image, parameters = _load_image(checkpoint, **core)
        ids = _load_text(text, parameters.vocabulary, tokens)
        measurement = (_measure if simulator == "verilator" else _measure_icarus)(image, parameters, ids)
        _show_evaluation(measurement.evaluation, f"{checkpoint}, {engine}, {text}", engine, 1, as_json, measurement)
        return _mismatch_status(measurement)
    if engine == "float" or agreement:
        from egret.model.checkpoint import load_checkpoint
        from egret.model.floating import FloatEngine

        source = load_checkpoint(checkpoint)
        float_network, vocabulary = FloatEngine(source), source.vocabulary
        network, columns = float_network, checkpoint_columns(source)
    if engine == "integer":
        from egret.model.integer import IntegerEngine

        parameters = _load_integer(checkpoint)
        network, vocabulary = IntegerEngine(parameters), parameters.vocabulary
        columns = integer_columns(parameters)
    ids = _load_text(text, vocabulary, tokens)
    with _progress(f"{engine} network") as progress:
        evaluation = evaluate(network, columns, ids, batch=batch, progress=progress)
    layers = None
    if agreement:
        with _progress("agreement of events") as progress:
            layers = event_agreement(float_network, network, ids, batch=batch, progress=progress)
    _show_evaluation(evaluation, f"{checkpoint}, {engine}, {text}", engine, batch, as_json, agreement=layers)


def _measure(image, parameters, ids, port=None, *where):
    """Figures of a text on the board that ``_open_board(configuration, port, *where)`` opens."""
    from egret.host.measure import measure

    what = "simulated core" if port is None else "board"
    with _open_board(image.configuration, port, *where) as board, _progress(what) as progress:
        return measure(board, image, parameters, ids, progress=progress)


def _stream(image, ids, *where):
    from egret.host.measure import stream

    with _open_board(image.configuration, *where) as board:
        with _progress("loading") as progress:
            board.load(image, progress=progress)
        with _progress("streaming") as progress:
            return stream(board, image, ids, progress=progress)


def _measure_icarus(image, parameters, ids):
    """`_measure` under Icarus Verilog, where every stream inside the core is compared, and nothing may differ."""
    import time

    from egret.host.measure import Measurement
    from egret.model.counts import integer_columns
    from egret.model.evaluate import evaluate
    from egret.model.integer import IntegerEngine

    evaluation = evaluate(IntegerEngine(parameters), integer_columns(parameters), ids)
    begin = time.perf_counter()
    result = _lockstep(image, ids[:-1], simulator="icarus")
    seconds = time.perf_counter() - begin
    return Measurement(
        evaluation,
        0,
        0,
        None,
        result.counters,
        image.configuration.lanes,
        bytes_sent=0,
        bytes_received=0,
        seconds=seconds,
    )


def _lockstep(image, tokens, **options):
    with needs("cocotb_tools", "cocotb==2.1.*", "this simulation"):
        from egret.sim.lockstep import LockstepError, run

        try:
            return run(image, tokens, **options)
        except LockstepError as error:
            raise click.exceptions.Exit(_diverged(str(error))) from error


def _diverged(message):
    click.echo(f"egret: the core differs from the integer network: {message}", err=True)
    return 1


def _mismatch_status(measurement):
    """Exit status, after saying where the board first differed if it did."""
    if not measurement.mismatches:
        return 0
    return _diverged(f"{measurement.mismatches} event values, the first: {measurement.first_mismatch}")


def _show_evaluation(evaluation, title, engine, batch, as_json, measurement=None, agreement=None):
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
    rows = [
        ("tokens predicted", f"{evaluation.tokens:,} in {batch} stream{'s' if batch > 1 else ''}"),
        ("perplexity", f"{evaluation.perplexity:.3f} (loss {evaluation.loss:.4f} nats)"),
        ("activity by layer", _percentages(evaluation.activity)),
        ("MACs per token, dense", f"{macs.dense:,}"),
        ("pruned only", f"{macs.pruned:,}"),
        ("event-driven only", f"{macs.event_driven:,.0f}"),
        ("event-driven and pruned", f"{macs.event_driven_pruned:,.0f}"),
    ]
    if agreement is not None:
        result["event_agreement"] = [layer.agreement for layer in agreement]
        result["event_overlap"] = [layer.overlap for layer in agreement]
        rows.append(("neurons and steps that agree with float, by layer", _percentages(result["event_agreement"])))
        rows.append(("events of both over events of either, by layer", _percentages(result["event_overlap"])))
    if measurement is not None:
        more, more_rows = _describe_measurement(measurement)
        result |= more
        rows += more_rows
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(title, rows)


def _describe_measurement(measurement):
    """Keys for JSON, and rows for a table."""
    result = {
        "mismatches": measurement.mismatches,
        "cycles_per_token": measurement.cycles_per_token,
        "lane_utilisation": measurement.lane_utilisation,
        "lanes": measurement.lanes,
        "simulated_tokens_per_second": measurement.tokens_per_second,
        "counters": measurement.counters,
    }
    rows = [
        ("event values unlike the integer network's", f"{measurement.mismatches:,}"),
        ("cycles per token", f"{measurement.cycles_per_token:,.0f}"),
        (f"utilisation of {measurement.lanes} lanes", f"{measurement.lane_utilisation:.1%}"),
        ("simulated tokens a second", f"{measurement.tokens_per_second:,.0f}"),
    ]
    if measurement.bus_utilisation is not None:
        result["bus_utilisation"] = measurement.bus_utilisation
        rows.insert(3, ("SDRAM's peak in use", f"{measurement.bus_utilisation:.1%}"))
    return result, rows


def _percentages(shares):
    return ", ".join(f"{share:.2%}" for share in shares)


@egret.command()
@click.argument("source")
@click.option("--text", help="Text to run; the network's own samples by default.")
@click.option("--tokens", type=int, default=20, show_default=True, help="Steps to run.")
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True)
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--idle", type=float, default=0.0, show_default=True, help="Probability of a cycle without a token.")
@click.option("--backpressure", type=float, default=0.0, show_default=True, help="Probability of a cycle not read.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of idle cycles and backpressure.")
@click.option("--waves", help="Waveform to write: VCD from Verilator, FST from Icarus.")
@_as_json
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
    image, parameters = _load_image(source, lanes=lanes)
    ids = sample(parameters, tokens) if text is None else _load_text(text, parameters.vocabulary, tokens)[:-1]
    options = {"seed": seed, "idle": idle, "backpressure": backpressure, "waves": waves and Path(waves)}
    result = _lockstep(image, ids, simulator=simulator, **options)
    if as_json:
        click.echo(
            json.dumps(
                {"simulator": simulator, "tokens": tokens, "compared": result.compared, "counters": result.counters}
            )
        )
        return
    rows = [("steps", f"{tokens:,}"), *((f"compared: {name}", f"{count:,}") for name, count in result.compared.items())]
    rows += [(f"counter: {name}", f"{count:,}") for name, count in result.counters.items()]
    _table(f"{source} under {simulator}: every value equals the integer network's", rows)


@egret.command()
@click.argument("source", required=False)
@click.option(
    "--board", "name", required=True, help="Name of a board: ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f."
)
@click.option("-o", "--output", help="Directory to write to; build/BOARD by default.")
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--weight-bytes", type=int, help="Size of the weight memory; 0 makes it just large enough.")
@click.option("--folded", type=int, help=FOLDED)
@click.option("--clock", type=float, help="Clock of the core in MHz instead of the board's.")
@click.option("--sdram-module", help="The SDRAM that the board carries, e.g. is42s16160g-7; any of those by default.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the placement.")
@click.option(
    "--tokens",
    type=int,
    default=200,
    show_default=True,
    help="Steps to simulate first, for the tokens a second to expect; 0 leaves that out.",
)
@_as_json
def build(source, name, output, lanes, weight_bytes, folded, clock, sdram_module, seed, tokens, as_json):
    """Build the bitstream of a board for SOURCE: a checkpoint, an integer network or an image; the demo network.

    Writes bitstream, image and report; the virtual board says how many tokens a second to expect. Needs Yosys and
    nextpnr: pip install 'egret-fpga[build]'. The variables YOSYS, NEXTPNR_ECP5, ECPPACK, NEXTPNR_ICE40 and ICEPACK name
    other commands.
    """
    from rich.console import Console

    board = _board_named(name, "building")
    from egret.boards import build as builder
    from egret.host.demo import NETWORK

    if tokens < 0:
        raise InputError(f"--tokens must be at least 0, not {tokens}")
    if clock is not None and clock <= 0:
        raise InputError(f"--clock must be above 0, not {clock:g}")
    tools = builder.Tools.find(board.device.family)
    source = str(NETWORK) if source is None else source
    image = _board_image(board, source, lanes=lanes, weight_bytes=weight_bytes, folded=folded)
    output = Path(output) if output is not None else Path("build") / name
    console = Console(stderr=True)
    with console.status("generating the design"):
        design = builder.generate(
            board, image.configuration, hertz=clock and clock * 1e6, seed=seed, sdram=sdram_module
        )
        estimate = builder.estimate(design)
    capacity = board.device.capacity
    if not as_json:
        _table(
            f"{board.title}, estimate",
            [
                *((key.replace("_", " "), _share(count, capacity[key])) for key, count in estimate.used.items()),
                ("time", f"about {_minutes(estimate.seconds)}"),
            ],
        )
    certain = estimate.used | {"block_rams": estimate.least_block_rams}
    del certain["luts"]
    builder.refuse_what_cannot_fit(board, certain, "its memories and multipliers")
    speed = None
    if tokens:
        from egret.host.measure import sample

        parameters = _image_network(image)
        measurement = _measure(image, parameters, sample(parameters, tokens + 1))
        if (status := _mismatch_status(measurement)) != 0:
            return status
        speed = _speed(board, measurement, design.hertz)
    with builder.working_directory(output) as directory:
        with console.status("synthesis") as status:
            result = builder.run(design, tools, directory, progress=status.update)
        summary = {
            "board": name,
            "source": source,
            "configuration": json.loads(image.configuration.to_json()),
            "digest": image.configuration.digest.hex(),
            "seed": seed,
            "megahertz": result.megahertz,
            "wanted_megahertz": result.wanted_megahertz,
            "met": result.met,
            "baud": board.baud,
            "used": result.used,
            "available": {key: capacity[key] for key in result.used},
            "critical_path": result.critical_path,
            "seconds": {key: round(value, 1) for key, value in result.seconds.items()},
            "estimate": {"used": estimate.used, "seconds": round(estimate.seconds)},
            "tools": tools.paths,
            "speed": speed and speed.summary(),
        }
        (directory / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
        image.save(directory / "image")
        files = builder.publish(result, directory, output, name)
    summary["files"] = {key: str(path) for key, path in files.items()}
    if as_json:
        click.echo(json.dumps(summary))
    else:
        _table(
            f"{board.title}, {source}",
            [
                ("clock", f"{result.megahertz:.1f} MHz, {result.wanted_megahertz:.1f} wanted"),
                *((key.replace("_", " "), _share(count, capacity[key])) for key, count in result.used.items()),
                ("critical path", result.critical_path),
                ("time", ", ".join(f"{key} {value:.0f} s" for key, value in result.seconds.items())),
                *(speed.rows() if speed else []),
                *((key, str(path)) for key, path in files.items()),
            ],
        )
    if not result.met:
        click.echo(
            f"egret: {board.title}: the clock is missed: {result.megahertz:.1f} of {result.wanted_megahertz:.1f}"
            f" MHz; no bitstream is written; try another --seed, or --clock {result.megahertz:.0f}",
            err=True,
        )
        return 1
    return 0


def _board_named(name, what):
    """The board of a name, for something that needs the tables of boards."""
    with needs("amaranth_boards", "'egret-fpga[build]'", what):
        from egret.boards.catalogue import board_named

        return board_named(name)


def _speed(board, measurement, hertz):
    """`Speed` of a board with some clock, from what was measured on its core in simulation."""
    from egret.host.speed import Speed
    from egret.rtl.uart import divisor_for

    tokens = measurement.evaluation.tokens
    return Speed(
        hertz=hertz,
        divisor=divisor_for(hertz, board.baud),
        window=board.window,
        receive_bytes=board.receive_bytes,
        cycles=measurement.cycles_per_token,
        sent=measurement.bytes_sent / tokens,
        received=measurement.bytes_received / tokens,
    )


def _image_network(image):
    """The integer network in an image."""
    from egret.model.compiler.compile import read_image

    return read_image(image)


def _board_image(board, source, *, lanes, folded, weight_bytes=None):
    """Image of anything that `_load_integer` accepts for a board's core."""
    from egret.model.compiler.compile import compile_image, configuration_for
    from egret.model.compiler.image import Image

    if Path(source).is_file() and _is_image(source):
        image = Image.load(source)
        if any(value is not None for value in (lanes, weight_bytes, folded)):
            raise InputError(
                f"{source}: an image is compiled already; give its checkpoint, or leave --lanes, "
                "--weight-bytes and --folded out"
            )
        return image
    parameters = _board_network(board, source)
    options = _board_options(board, lanes, folded, weight_bytes)
    return compile_image(parameters, configuration_for(parameters, **options))


def _board_options(board, lanes, folded, weight_bytes=None):
    """Of `configuration_for`, for a board's core."""
    from egret.model.compiler.configuration import TARGETS

    options = TARGETS[board.target] | {"folded_tokens": folded}
    if lanes is not None:
        options["lanes"] = lanes
    if weight_bytes is not None:
        options["weight_bytes"] = weight_bytes or None
    return options


def _board_network(board, source):
    """Integer network of anything that `_load_integer` accepts, a checkpoint quantised as the board wants it."""
    if not Path(source).is_dir():
        return _load_integer(source)
    from egret.model.checkpoint import load_checkpoint
    from egret.model.quantise import quantise

    return quantise(load_checkpoint(source), **board.quantised)


def _share(count, capacity):
    return f"{count:,} of {capacity:,} ({count / capacity:.0%})"


def _minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@egret.command()
@click.argument("source")
@click.option("--port", help="Serial port of a board; a virtual board by default.")
@click.option("--baud", type=int, help="Bits a second on that port.")
@click.option("--text", help="Measure perplexity on this text instead of generating one.")
@click.option("--prompt", help="Text to begin with; a line's end by default.")
@click.option("--tokens", type=int, help="Tokens to generate, 400 by default; or predictions, all of --text.")
@click.option("--folded", type=int, help=f"{FOLDED} Of a SOURCE that is compiled now.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the most probable token.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same text.")
@click.option("--check/--no-check", default=True, show_default=True, help="Compare with the integer network.")
@click.option("--trace", help="Waveform (VCD) of the virtual board to write; much slower.")
@click.option(
    "--pins",
    type=click.IntRange(min=4),
    metavar="CYCLES",
    help="Drive the UART pins of the virtual board bit by bit, with so many clock cycles a bit: 27 as on the "
    "ULX3S, 8 as on the iCEBreaker. Slower than whole bytes.",
)
@_as_json
def run(source, port, baud, text, prompt, tokens, folded, temperature, seed, check, trace, pins, as_json):
    """Generate text on a board, or measure one: SOURCE is an image, or what can be compiled into one.

    Generated text goes to standard output as it comes, its figures to standard error. A text that is given is streamed:
    its steps are sent before the answers to those before have come. The comparison takes the host longer than
    a board takes its steps: --no-check shows how fast the board is.
    """
    from egret.host.generate import Sampler

    for name, value in (("--trace", trace), ("--pins", pins)):
        if port is not None and value is not None:
            raise InputError(f"{name} is for the virtual board, not for a board on --port")
    if text is not None and prompt is not None:
        raise InputError("--text measures a text, and --prompt begins one to generate: give one of them")
    sampler = Sampler(temperature=temperature, seed=seed)
    image, parameters = _load_image(source, folded_tokens=folded)
    if text is not None:
        ids = _load_text(text, parameters.vocabulary, tokens)
        return _run_text(image, parameters, ids, f"{source}, {text}", (port, baud, trace, pins), check, as_json)
    from egret.host.session import generate_text, prompt_ids

    ids = prompt_ids(parameters.vocabulary, prompt)
    pieces = []

    def write(piece):
        pieces.append(piece)
        if not as_json:
            click.echo(piece, nl=False)

    if prompt is not None:
        write(prompt)
    with _open_board(image.configuration, port, baud, trace, pins) as board:
        with _progress("loading") as progress:
            board.load(image, progress=progress)
        session = generate_text(
            board, image, parameters if check else None, ids, 400 if tokens is None else tokens, sampler, write
        )
    if as_json:
        click.echo(json.dumps({"text": "".join(pieces), **session.summary()}))
    else:
        click.echo()
        for line in session.lines():
            click.echo(line, err=True)
    return 1 if session.first_mismatch is not None else 0


def _run_text(image, parameters, ids, title, where, check, as_json):
    """`run` over a text, on the board that ``_open_board(configuration, *where)`` opens.

    Only on a real port do bytes and wall time say how busy the line was.
    """
    from egret.host.speed import line_share
    from egret.host.transport import BAUD_RATE

    port, baud_rate, *_ = where
    if check:
        result = _measure(image, parameters, ids, *where)
        tokens, perplexity, mismatches = result.evaluation.tokens, result.evaluation.perplexity, result.mismatches
    else:
        result = _stream(image, ids, *where)
        tokens, perplexity, mismatches = result.tokens, result.perplexity, None
    figures = {
        "tokens": tokens,
        "perplexity": perplexity,
        "mismatches": mismatches,
        "tokens_per_second": tokens / result.seconds,
        "bytes_sent_per_token": result.bytes_sent / tokens,
        "bytes_received_per_token": result.bytes_received / tokens,
    }
    if port is not None:
        figures["link_busy"] = line_share(result, baud_rate or BAUD_RATE)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        rows = [
            ("tokens predicted", f"{tokens:,}"),
            ("perplexity", f"{perplexity:.3f}"),
            ("tokens a second", f"{figures['tokens_per_second']:,.0f}"),
            (
                "bytes to and from the board, per token",
                f"{figures['bytes_sent_per_token']:.1f} and {figures['bytes_received_per_token']:.1f}",
            ),
        ]
        if check:
            rows.append(("event values unlike the integer network's", f"{mismatches:,}"))
        if port is not None:
            rows.append(("link busy", f"{figures['link_busy']:.0%}"))
        _table(title, rows)
    return _mismatch_status(result) if check else 0


@egret.command("self-test")
@click.argument("source")
@click.option("--port", help="Serial port of a board; a virtual board by default.")
@click.option("--baud", type=int, help="Bits a second on that port.")
@click.option("--patterns", type=int, help="Images to load and compare, 8 by default; more find more.")
@_as_json
def self_test(source, port, baud, patterns, as_json):
    """Test the memories of a board, and the core that reads them: SOURCE is an image for it, or becomes one.

    Loads images of random numbers as large as that of SOURCE and compares every event with the integer network's.
    Exit status 1 where one differs. `egret run` loads its own image again afterwards.
    """
    from egret.host.self_test import PATTERNS
    from egret.host.self_test import self_test as run

    patterns = PATTERNS if patterns is None else patterns
    if patterns < 1:
        raise InputError(f"--patterns must be at least 1, not {patterns}")
    image, parameters = _load_image(source)
    with _open_board(image.configuration, port, baud) as board, _progress("self-test") as progress:
        result = run(board, image, parameters, patterns=patterns, progress=progress)
    if as_json:
        first = None if result.first_mismatch is None else str(result.first_mismatch)
        click.echo(json.dumps(dataclasses.asdict(result) | {"first_mismatch": first}))
    else:
        rows = [
            (f"memory {name}", f"{one.used:,} of {one.words:,} words, {one.toggled:.0%} of bits both 0 and 1")
            for name, one in result.coverage.items()
        ]
        _table(
            source,
            [
                *rows,
                ("images", str(result.patterns)),
                ("steps", f"{result.steps:,}"),
                ("steps with a wrong event", f"{result.wrong_steps:,}"),
                ("time", f"{result.seconds:.1f} s"),
            ],
        )
    if result.first_mismatch is None:
        return 0
    click.echo(
        f"egret: the board's memories, or its core, are faulty: image {result.first_pattern}, {result.first_mismatch}",
        err=True,
    )
    return 1


@egret.command()
@click.option("--checkpoint", help="Another network than the one that comes with Egret; needs --text too.")
@click.option("--text", help="Text to measure on; the demo network's validation text by default.")
@click.option("--tokens", type=int, default=400, show_default=True, help="Tokens to generate.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same text.")
def demo(checkpoint, text, tokens, seed):
    """Show the whole chain: generate text on the virtual board, every token checked, and measure it."""
    from rich.console import Console

    from egret.host.demo import NETWORK, TEXT, run

    if (checkpoint is None) != (text is None):
        raise InputError("--checkpoint and --text go together")
    if tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    good = run(checkpoint or NETWORK, text or TEXT, tokens, seed, Console(), _progress, _open_board)
    return 0 if good else 1


@egret.command()
@click.argument("checkpoint")
@click.option("--lanes", type=int, help="Multiply-accumulate lanes, a power of two from 1 to 32.")
@click.option("--store", type=click.Choice(STORES), help="Where the weights are; bram by default.")
@click.option("--text", help="Text to run; the network's own samples by default.")
@click.option("--tokens", type=int, default=1000, show_default=True, help="Steps to run.")
@click.option("--weight-bits", type=int, help="Bits of a stored weight, 4 or 8; 4 where the network allows.")
@click.option("--folded", type=int, help=FOLDED)
@click.option("--resident-bytes", type=click.IntRange(min=0), help=RESIDENT)
@click.option("--board", "name", help="The core of this board, and tokens a second at its clock and over its link.")
@click.option(
    "--split",
    help="Layers behind which the network is cut, such as 1 or 1,2; each part runs on a board of "
    "its own, whose events enter the next one.",
)
@click.option("--speed-ups", is_flag=True, help="Measure what events, pruning and folding gain on the same core, too.")
@click.option("--energy", is_flag=True, help="Estimate the energy of a token, by cause (docs/energy.md).")
@click.option("--peers", is_flag=True, help="Compare with PyTorch on this processor, and with published figures.")
@click.option("--plot", help="Picture to write: .png, .svg or .pdf.")
@_as_json
def bench(
    checkpoint,
    lanes,
    store,
    text,
    tokens,
    weight_bits,
    folded,
    resident_bytes,
    name,
    split,
    speed_ups,
    energy,
    peers,
    plot,
    as_json,
):
    """Measure cycles and lane utilisation of the simulated core with CHECKPOINT, every event checked."""
    from egret.host import comparison
    from egret.host.measure import sample
    from egret.host.traffic import weight_bytes_per_token

    if tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    if plot is not None:
        with needs("matplotlib", "matplotlib", "--plot"):
            importlib.import_module("matplotlib")  # refused before the long part
    if peers:
        with needs("torch", "torch", "--peers"):
            importlib.import_module("torch")
    options = {
        "lanes": lanes,
        "weight_bits": weight_bits,
        "folded_tokens": folded,
        "store": store,
        "resident_bytes": resident_bytes,
    }
    board = None
    if name is not None:
        if speed_ups or any(value is not None for value in (weight_bits, store, resident_bytes)):
            raise InputError("--board has a core of its own: of its options only --lanes and --folded go with it")
        board = _board_named(name, "--board")
    if split is not None:
        if speed_ups or energy or peers or plot is not None:
            raise InputError(
                "--split prints the boards' figures alone: --speed-ups, --energy, --peers and --plot do not go with it"
            )
        return _bench_pipeline(checkpoint, split, board, options, text, tokens, as_json)
    if board is not None:
        image = _board_image(board, checkpoint, lanes=lanes, folded=folded)
        parameters = _image_network(image)
    else:
        image, parameters = _load_image(checkpoint, **options)
    store = image.configuration.store
    ids = sample(parameters, tokens + 1) if text is None else _load_text(text, parameters.vocabulary, tokens)
    measurement = _measure(image, parameters, ids)
    read = weight_bytes_per_token(image, measurement, ids, parameters.embedding)
    macs = measurement.evaluation.macs
    more, more_rows = _describe_measurement(measurement)
    shares = measurement.shares
    result = {
        "store": store,
        "tokens": tokens,
        "folded": image.configuration.folded_tokens,
        "weight_bits": image.configuration.weight_bits,
        "weight_memory_bytes": image.configuration.weight_memory_bytes,
        "bytes_per_token": read,
        "macs_per_token": measurement.macs_per_token,
        "macs_per_token_dense": macs.dense,
        "bound_cycles_per_token": measurement.bound,
        "shares": shares,
        **more,
    }
    rows = [
        ("steps", f"{tokens:,}"),
        ("MACs per token", f"{measurement.macs_per_token:,.0f} of {macs.dense:,}"),
        ("cycles per token", f"{measurement.cycles_per_token:,.0f}, bound {measurement.bound:,.0f}"),
        *(row for row in more_rows if row[0] != "cycles per token"),
        *((f"lanes' cycles: {name}", f"{share:.2%}") for name, share in shares.items() if share),
        ("bytes read per token", f"{read:,.0f}"),
    ]
    if board is not None:
        speed = _speed(board, measurement, board.hertz)
        result["speed"] = speed.summary()
        rows += speed.rows()
    variants = []
    if speed_ups:
        variants = comparison.compare(
            parameters,
            ids,
            lanes=lanes,
            folded_tokens=image.configuration.folded_tokens,
            open_board=_open_board,
            progress=_progress,
        )
        dense = variants[0]
        result["variants"] = [
            {
                "uses": variant.name,
                "mismatches": variant.measurement.mismatches,
                "tokens": variant.measurement.evaluation.tokens,
                "activity": variant.measurement.evaluation.activity,
                "macs_per_token": variant.measurement.macs_per_token,
                "cycles_per_token": variant.measurement.cycles_per_token,
                "bound_cycles_per_token": variant.measurement.bound,
                "speed_up": variant.speed_up(dense),
                "speed_up_in_macs": variant.theory(dense),
            }
            for variant in variants
        ]
    tables, wrong = [], None
    if energy or peers:
        from egret.host.energy import HERTZ

        hertz = HERTZ if board is None else board.hertz
        estimate, table = _estimate_energy(image, measurement, ids, parameters, hertz, board)
        if energy:
            result["energy"] = estimate
            tables.append(table)
    if peers:
        result["peers"], table, wrong = _compare_peers(
            measurement, parameters, ids, hertz, estimate["joules_per_token"]
        )
        tables.append(table)
    if plot is not None:
        comparison.plot(plot, f"{checkpoint}, {tokens:,} tokens", measurement, variants)
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(f"{checkpoint}, {measurement.lanes} lanes, weights in {store}", rows)
        if variants:
            _show_variants(variants)
        for title, columns in tables:
            _show_columns(title, columns)
    statuses = [_mismatch_status(one) for one in (measurement, *(variant.measurement for variant in variants))]
    if wrong is not None:
        click.echo(f"egret: not as the integer network says: {wrong}", err=True)
        statuses.append(1)
    return max(statuses)


def _estimate_energy(image, measurement, ids, parameters, hertz, board):
    """Keys for JSON, and title and columns of a table."""
    import numpy as np

    from egret.host.energy import BOARD_WATTS, activity, energy

    done = activity(image, measurement, ids, parameters.embedding, hertz)
    costs = energy(done)
    low, high = sum(costs.values()).tolist()
    result = {"estimate": True, "megahertz": hertz / 1e6, "joules_per_token": [low, high], "causes": {}}
    counts, lows, highs = [], [], []
    for name, (unit, count) in done.items():
        bounds = np.unique(count).tolist()
        result["causes"][name] = {"unit": unit, "count": bounds, "joules": costs[name].tolist()}
        counts.append(
            (name, " to ".join(f"{bound:,.0f}" if bound >= 1 else f"{bound:.3g}" for bound in bounds) + f" {unit}")
        )
        lows.append((name, f"{costs[name][0] * 1e6:,.1f}"))
        highs.append((name, f"{costs[name][1] * 1e6:,.1f}"))
    for rows, total in ((counts, ""), (lows, f"{low * 1e6:,.1f}"), (highs, f"{high * 1e6:,.1f}")):
        rows.append(("together", total))
    if board is None or board.title.startswith("ULX3S"):
        most = BOARD_WATTS * measurement.cycles_per_token / hertz
        result["board_joules_at_most"] = most
        name = f"a ULX3S at its most, {BOARD_WATTS} W"
        for rows, value in ((counts, ""), (lows, ""), (highs, f"{most * 1e6:,.1f}")):
            rows.append((name, value))
    title = f"Energy of a token: an estimate, nothing measured, at {hertz / 1e6:g} MHz (docs/energy.md)"
    return result, (title, [("a token", counts), ("µJ, low", lows), ("µJ, high", highs)])


def _compare_peers(measurement, parameters, ids, hertz, joules):
    """List for JSON, title and columns of a table, and whether PyTorch was wrong: in words, or None."""
    from egret.host.peers import PUBLISHED, run_engines

    with _progress("PyTorch") as progress:
        runs = run_engines(parameters, ids, progress=progress)
    core = {"this core": (measurement.cycles_per_token, joules), "its bound: lanes": (measurement.bound, None)}
    if "beats" in measurement.counters:
        core["its bound: bus"] = measurement.counters["beats"] / measurement.counters["tokens"], None
    peers = [
        {
            "name": name,
            "network": "this",
            "steps_per_second": hertz / cycles,
            "joules_per_step": energy,
            "source": "bound" if energy is None else "simulated, energy estimated",
        }
        for name, (cycles, energy) in core.items()
    ]
    peers += [
        {
            "name": f"PyTorch, {run.name}",
            "network": "this",
            "steps_per_second": run.tokens_per_second,
            "joules_per_step": None,
            "threads": run.threads,
            "mismatches": run.mismatches,
            "source": f"measured, threads: {run.threads}",
        }
        for run in runs
    ]
    peers += [
        {
            "name": one.name,
            "network": one.network,
            "steps_per_second": 1 / one.seconds,
            "joules_per_step": one.joules,
            "source": one.source,
        }
        for one in PUBLISHED
    ]

    def millijoules(value):
        if value is None:
            return ""
        return " to ".join(f"{joules * 1e3:.3g}" for joules in (value if isinstance(value, list) else [value]))

    columns = {
        "network": lambda peer: peer["network"],
        "steps a second": lambda peer: f"{peer['steps_per_second']:,.0f}",
        "mJ a step": lambda peer: millijoules(peer["joules_per_step"]),
        "from": lambda peer: peer["source"],
    }
    title = f"Peers; this core at {hertz / 1e6:g} MHz, before the link (docs/energy.md)"
    table = (title, [(name, [(peer["name"], value(peer)) for peer in peers]) for name, value in columns.items()])
    wrong = [f"{run.mismatches} event values of PyTorch, {run.name}" for run in runs if run.mismatches]
    return peers, table, ", ".join(wrong) or None


def _bench_pipeline(checkpoint, split, board, options, text, tokens, as_json):
    """`bench` of a network that is cut behind some layers, its parts on boards that work at once."""
    from egret.host.measure import measure_pipeline, pipeline_images, sample

    try:
        behind = [int(layer) for layer in split.split(",")]
    except ValueError:
        raise InputError(f"--split must be numbers of layers, such as 1 or 1,2, not {split!r}") from None
    parameters = _load_integer(checkpoint) if board is None else _board_network(board, checkpoint)
    if board is not None:
        options = _board_options(board, options["lanes"], options["folded_tokens"])
    images = pipeline_images(parameters, behind, **options)
    ids = sample(parameters, tokens + 1) if text is None else _load_text(text, parameters.vocabulary, tokens)
    with contextlib.ExitStack() as stack:
        boards = [stack.enter_context(_open_board(image.configuration)) for image in images]
        progress = stack.enter_context(_progress(f"{len(boards)} simulated boards"))
        measurements = measure_pipeline(boards, images, parameters, ids, progress=progress)
    slowest = max(one.cycles_per_token for one in measurements)
    result = {
        "tokens": tokens,
        "perplexity": measurements[0].evaluation.perplexity,
        "cycles_per_token": slowest,
        "boards": [],
    }
    columns = []
    for first, last, measurement in zip([0, *behind], [*behind, len(parameters.layers)], measurements, strict=True):
        name = f"layer {last}" if last == first + 1 else f"layers {first + 1} to {last}"
        sent, received = measurement.bytes_sent / tokens, measurement.bytes_received / tokens
        figures = {
            "layers": [first + 1, last],
            "mismatches": measurement.mismatches,
            "macs_per_token": measurement.macs_per_token,
            "cycles_per_token": measurement.cycles_per_token,
            "lane_utilisation": measurement.lane_utilisation,
            "bytes_sent_per_token": sent,
            "bytes_received_per_token": received,
            "counters": measurement.counters,
        }
        rows = [
            ("event values unlike the integer network's", f"{measurement.mismatches:,}"),
            ("MACs per token", f"{measurement.macs_per_token:,.0f}"),
            ("cycles per token", f"{measurement.cycles_per_token:,.0f}"),
            (f"utilisation of {measurement.lanes} lanes", f"{measurement.lane_utilisation:.1%}"),
            ("bytes to and from the board, per token", f"{sent:,.1f} and {received:,.1f}"),
        ]
        if board is not None:
            speed = _speed(board, measurement, board.hertz)
            figures["speed"] = speed.summary()
            rows.append(("tokens a second, streamed", f"{speed.streamed():,.0f} (limit: {speed.limit()})"))
        result["boards"].append(figures)
        columns.append((name, rows))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show_columns(f"{checkpoint} on {len(images)} boards, {tokens:,} tokens", columns)
    return max(map(_mismatch_status, measurements))


def _show_columns(title, columns):
    """A table of named columns with rows of the same names."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right")
    for cells in zip(*(rows for _, rows in columns), strict=True):
        table.add_row(cells[0][0], *(value for _, value in cells))
    Console().print(table)


def _show_variants(variants):
    from rich.console import Console
    from rich.table import Table

    title = "Speed-up over every neuron active and no weight pruned, on the same core, simulated"
    table = Table("made use of", title=title, title_justify="left")
    for name in ("MACs per token", "cycles per token", "bound", "speed-up", "by MACs"):
        table.add_column(name, justify="right")
    for variant in variants:
        measurement = variant.measurement
        table.add_row(
            variant.name,
            f"{measurement.macs_per_token:,.0f}",
            f"{measurement.cycles_per_token:,.0f}",
            f"{measurement.bound:,.0f}",
            f"{variant.speed_up(variants[0]):.1f}",
            f"{variant.theory(variants[0]):.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
