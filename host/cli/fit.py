"""The command ``egret fit``."""

import click

from egret.host.cli.options import as_json, line_option
from egret.host.cli.show import Result, Table, show
from egret.model.errors import InputError, needs

__all__ = ["fit"]


@click.command()
@click.option("--hidden", required=True, help="Neurons of each layer, such as 256,256.")
@click.option("--embedding", type=click.IntRange(1), help="Inputs of the first layer; as the last layer by default.")
@click.option("--vocabulary", type=click.IntRange(2), required=True, help="Words.")
@click.option("--sparsity", default="0.9", show_default=True, help="Share of zeros; one number, or one a layer.")
@click.option("--activity", default="0.1", show_default=True, help="Share of neurons with an event, likewise.")
@click.option("--weight-bits", type=click.Choice((4, 8)), help="Of a weight; as each board has it by default.")
@click.option("--board", "names", multiple=True, help="Only this board; may be given several times.")
@line_option
@as_json
def fit(
    hidden: str,
    embedding: int | None,
    vocabulary: int,
    sparsity: str,
    activity: str,
    weight_bits: int | None,
    names: tuple[str, ...],
    line: str | None,
    as_json: bool,
) -> None:
    """Say which boards a network would fit, before it is trained, and how fast it would be there.

    Weights lie at random, all neurons are as active as each other, and words are as frequent as Zipf has it. A trained
    network differs: `egret estimate` knows it. Nothing is synthesised; designs are generated, which takes a few seconds
    for each board that the memories fit.
    """
    from egret.host.cost.fit import Shape
    from egret.host.cost.fit import fit as fit_one
    from egret.host.opening import board_named
    from egret.host.progress import working

    sizes = _numbers("hidden", hidden, int)
    zeros, active = (_numbers(*one, float) for one in (("sparsity", sparsity), ("activity", activity)))
    zeros, active = (one * len(sizes) if len(one) == 1 else one for one in (zeros, active))
    shape = Shape(sizes, embedding or sizes[-1], vocabulary, zeros, active)
    with needs("amaranth_boards", "'egret-fpga[build]'", "egret fit"):
        from egret.boards.catalogue import BOARDS
    known = {name: board_named(name, (), what="egret fit") for name in names or BOARDS}
    if line is not None:
        # Of all boards, those that have it.
        known = {name: board.with_line(line) for name, board in known.items() if names or line in board.lines}
    found = []
    for name, board in known.items():
        with working(f"the design of {name}"):
            found.append(fit_one(shape, board, name, weight_bits=weight_bits))
    figures = {
        "hidden": shape.hidden,
        "embedding": shape.embedding,
        "vocabulary": vocabulary,
        "sparsity": shape.sparsity,
        "activity": shape.activity,
        "boards": [_figures(one) for one in found],
    }
    head = (
        "board",
        "fits",
        "block RAMs",
        "look-up tables",
        "cycles a token",
        "tokens a second",
        "options, what lacks",
    )
    title = f"{hidden} neurons, embedding {shape.embedding}, {vocabulary:,} words"
    title += f", zeros {sparsity}, activity {activity}"
    show(Result(figures, tables=[Table(title, [_row(one) for one in found], head)]), title, as_json)


def _numbers(name, text, kind):
    """Numbers between commas."""
    try:
        return tuple(kind(one) for one in text.split(","))
    except ValueError as error:
        example = "256,256" if kind is int else "0.9 or 0.95,0.8"
        raise InputError(f"--{name} must be numbers, such as {example}, not {text!r}") from error


def _figures(one):
    c, speed = one.configuration, one.speed
    return {
        "board": one.board,
        "fits": one.fits,
        "lacks": one.lacks,
        "missing": one.missing,
        "options": one.options,
        "used": one.used,
        "available": one.available,
        "memory_bytes": one.memory_bytes,
        "lanes": c and c.lanes,
        "store": c and c.store,
        "weight_bits": c and c.weight_bits,
        "readout": c and c.readout is not None,
        "folded": c and c.folded_tokens,
        "cycles_per_token": one.cycles,
        "speed": speed and speed.summary(),
    }


def _row(one):
    from egret.host.speed import USB_SECONDS

    def share(name):
        return f"{one.used[name]:,} of {one.available[name]:,}" if one.used else ""

    unknown = "unknown" if one.fits else ""
    return (
        one.board,
        {True: "yes", False: "no", None: "unknown"}[one.fits],
        share("block_rams"),
        share("luts"),
        unknown if one.cycles is None else f"{one.cycles:,.0f}",
        unknown if one.speed is None else f"{one.speed.generated(USB_SECONDS):,.0f}",
        one.missing or "; ".join(one.lacks) or " ".join(one.options),
    )
