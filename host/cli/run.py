"""The command ``egret run``."""

import os
from typing import TYPE_CHECKING, Any

import click

from egret.host.cli.cores import mismatch_status
from egret.host.cli.options import as_json, core_options, port_options
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from egret.model.sequences import Sequences

__all__ = ["run"]


@click.command()
@click.argument("source")
@port_options
@click.option("--text", help="Measure perplexity on this text instead of generating one.")
@click.option("--data", help="Classify these sequences (.npz), with a network whose input is numbers.")
@click.option("--prompt", help="Text to begin with; a line's end by default.")
@click.option(
    "--tokens",
    type=int,
    help="Tokens to generate, 400 by default; or predictions, all of --text; or sequences, all of --data.",
)
@core_options()
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the most probable token.")
@click.option("--top-k", type=int, help="Draw from so many tokens, the most probable ones; 1 to 64.")
@click.option(
    "--by-factors", is_flag=True, help="Apply the temperature to a word's group and to the word in it: faster."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same text.")
@click.option("--stop", metavar="TOKEN", help="End behind this token, if it comes.")
@click.option(
    "--engine",
    type=click.Choice(("rtl", "native")),
    default="rtl",
    show_default=True,
    help="What generates: the core, on the virtual board or one on --port, or the integer network as machine code.",
)
@click.option("--check/--no-check", default=True, show_default=True, help="Compare with the integer network.")
@click.option("--trace", help="Waveform (VCD) of the virtual board to write; much slower.")
@click.option(
    "--pins",
    type=click.IntRange(min=4),
    metavar="CYCLES",
    help="Drive the UART pins of the virtual board bit by bit, with so many clock cycles a bit: 27 as on the "
    "ULX3S, 8 as on the iCEBreaker. Slower than whole bytes.",
)
@as_json
def run(
    source: str,
    port: str | None,
    baud: int | None,
    text: str | None,
    data: str | None,
    prompt: str | None,
    tokens: int | None,
    core: dict[str, Any],
    temperature: float,
    top_k: int | None,
    by_factors: bool,
    seed: int,
    stop: str | None,
    engine: str,
    check: bool,
    trace: str | None,
    pins: int | None,
    as_json: bool,
) -> int:
    """Generate text on a board, or measure one, or classify sequences: SOURCE is an image, or what becomes one.

    The engine native needs no board: this processor generates, in the integers of the network.

    Generated text goes to standard output as it comes, its figures to standard error. A text or data that is given is
    streamed: its steps are sent before the answers to those before have come. The comparison takes the host longer than
    a board takes its steps: --no-check shows how fast the board is.
    """
    if engine == "native":
        boards = {"--port": port, "--baud": baud, "--text": text, "--data": data, "--trace": trace, "--pins": pins}
        boards |= core
        for name in (name for name, value in boards.items() if value is not None):
            option = name if name.startswith("--") else f"--{name.removesuffix('_tokens').replace('_', '-')}"
            raise InputError(f"{option} is for a board, not for --engine native")
    for name, value in (("--trace", trace), ("--pins", pins)):
        if port is not None and value is not None:
            raise InputError(f"{name} is for the virtual board, not for a board on --port")
    given = [name for name, value in (("--text", text), ("--data", data), ("--prompt", prompt)) if value is not None]
    if len(given) > 1:
        raise InputError(
            f"{' and '.join(given)}: give one of them: --text measures a text, --data classifies sequences, and "
            "--prompt begins a text to generate"
        )
    check_files({"--trace": trace}, {"SOURCE": source, "--text": text, "--data": data})
    network = Network(source, **core)
    where = {"port": port, "baud_rate": baud, "trace": trace, "bit_cycles": pins}
    if text is not None or data is not None:
        inputs = network.inputs(text, data, tokens)
        return _stream(network, inputs, f"{source}, {text or data}", where, check, as_json)
    session = network.generate(
        prompt,
        400 if tokens is None else tokens,
        temperature=temperature,
        top_k=top_k,
        by_factors=by_factors,
        seed=seed,
        stop=stop,
        engine=engine,
        check=check,
        write=None if as_json else lambda piece: click.echo(piece, nl=False),
        **where,
    )
    if as_json:
        show(Result({"text": session.text, **session.summary()}), source, as_json)
    else:
        click.echo()
        for line in session.lines():
            click.echo(line, err=True)
    return 1 if session.first_mismatch is not None else 0


def _stream(
    network: Network,
    inputs: "np.ndarray | Sequences",
    title: str,
    where: dict[str, Any],
    check: bool,
    as_json: bool,
) -> int:
    """`run` over a text or sequences, on the board that ``open_board(configuration, **where)`` opens.

    Only on a real port do bytes and wall time say how busy the line was.
    """
    from egret.host.speed import line_share
    from egret.host.streaming import SequenceStream
    from egret.host.transport import BAUD_RATE, usb_boards
    from egret.model.sequences import SequenceEvaluation

    port, baud_rate = where["port"], where["baud_rate"]
    if check:
        result = measured = network.measure(inputs, **where)
        read = measured.evaluation
    else:
        result = read = network.stream(inputs, **where)
        measured = None
    if isinstance(read, SequenceEvaluation | SequenceStream):
        step, (figures, rows) = "step", _classes(network, inputs, read)
    else:
        step, figures = "token", {"tokens": read.tokens, "perplexity": read.perplexity}
        rows = [("tokens predicted", f"{read.tokens:,}"), ("perplexity", f"{read.perplexity:.3f}")]
    figures |= {
        "mismatches": measured and measured.mismatches,
        f"{step}s_per_second": read.tokens / result.seconds,
        f"bytes_sent_per_{step}": result.bytes_sent / read.tokens,
        f"bytes_received_per_{step}": result.bytes_received / read.tokens,
        "counters": measured and measured.counters,
    }
    if port is not None:
        own = os.path.realpath(port) in usb_boards()
        figures["link_busy"] = line_share(result, None if own else baud_rate or BAUD_RATE)
    sent, received = figures[f"bytes_sent_per_{step}"], figures[f"bytes_received_per_{step}"]
    rows += [
        (f"{step}s a second", f"{figures[f'{step}s_per_second']:,.0f}"),
        (f"bytes to and from the board, per {step}", f"{sent:.1f} and {received:.1f}"),
    ]
    if measured:
        rows.append((f"cycles per {step}", f"{measured.cycles_per_token:,.0f}"))
        rows.append((f"{measured.compared} unlike the integer network's", f"{measured.mismatches:,}"))
    if port is not None:
        rows.append(("link busy", f"{figures['link_busy']:.0%}"))
    show(Result(figures, rows), title, as_json)
    return mismatch_status(measured) if measured else 0


def _classes(network, sequences, read):
    """What a board says the sequences are: figures, and rows of a table."""
    names, asked = network.vocabulary.tokens, sequences.classes >= 0
    figures = {
        "sequences": len(sequences),
        "steps": read.tokens,
        "asked": read.asked,
        "right": read.right,
        "accuracy": read.accuracy,
        "answers": [names[one] for one in read.answers[asked].tolist()],
    }
    rows = [
        ("sequences, steps", f"{len(sequences):,}, {read.tokens:,}"),
        ("classes right", f"{read.right:,} of {read.asked:,} ({read.accuracy:.2%})"),
    ]
    return figures, rows
