"""The command ``egret group``."""

import math

import click

from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.host.progress import working
from egret.model.errors import needs

__all__ = ["group"]


@click.command()
@click.argument("network")
@click.option("-o", "--output", required=True, help="File to write the integer network to.")
@click.option("--text", required=True, help="UTF-8 text that it was not trained on, such as the validation text.")
@click.option("--head", type=click.IntRange(0), default=500, show_default=True, help="Frequent words in the head.")
@click.option("--groups", type=click.IntRange(1), default=64, show_default=True, help="Groups of the other words.")
@click.option("--rows", type=int, default=8, show_default=True, help="Rows of a group in the head: 1, 2, 4, 8 or 16.")
@click.option("--tokens", type=click.IntRange(1), default=60_000, show_default=True, help="Of the text, to fit to.")
@as_json
def group(network: str, output: str, text: str, head: int, groups: int, rows: int, tokens: int, as_json: bool) -> None:
    """Give NETWORK, whose read-out is plain, a read-out in groups, which a core can make.

    NETWORK is an integer network's file. Its layers and the weights of its words stay what they are, and the rows that
    stand for groups are fitted to what the plain read-out says. Where the layers have 4-bit weights, those of the
    read-out become so, too. Takes minutes.
    """
    with needs("torch", "torch", "training"):
        from egret.model.training.regroup import regroup
    from egret.model.arithmetic import CODEBOOK
    from egret.model.compiler.pack import most_values
    from egret.model.integer_file import save_integer

    check_files({"-o": output}, {"--text": text})
    opened = Network(network)
    opened.refuse_numbers()
    source, ids = opened.integer, opened.ids(text)
    shape = {"head": head, "groups": groups, "rows": rows}
    with working("dividing the words") as say:
        made = regroup(source, ids, **shape, tokens=tokens, codebook=most_values(source) <= CODEBOOK, say=say)
    save_integer(made.network, output)
    in_groups, codebook = made.network.groups, made.network.readout_codebook
    assert in_groups is not None
    shape |= {"largest_group": max(in_groups.sizes), "codebook": 0 if codebook is None else len(codebook)}
    losses = {"loss_plain": made.loss_plain, "loss": made.loss}
    rows_shown = [
        ("words in the head, groups, rows of each", f"{head:,}, {groups:,}, {rows}"),
        ("words of the largest group", f"{shape['largest_group']:,}"),
        ("values of a weight of the read-out", f"{shape['codebook'] or 'as they were'}"),
        ("tokens fitted to, tokens held out", f"{made.tokens:,}, {made.held_out:,}"),
        ("perplexity of the held-out tokens, plain", f"{math.exp(made.loss_plain):.3f}"),
        ("in groups", f"{math.exp(made.loss):.3f} ({math.expm1(made.loss - made.loss_plain):+.2%})"),
    ]
    figures = {"network": output, "tokens": made.tokens, "held_out": made.held_out, "readout": shape, **losses}
    show(Result(figures, rows_shown), output, as_json)
