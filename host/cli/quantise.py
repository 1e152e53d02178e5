"""The command ``egret quantise``."""

import click

from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show

__all__ = ["quantise"]


@click.command()
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="File to write the integer network to.")
@click.option("--weight-bits", type=int, default=8, show_default=True, help="8, or 4 for 15 values a matrix.")
@click.option("--embedding-bits", type=int, default=8, show_default=True, help="Of embedding and read-out, 4 to 8.")
@click.option("--accumulator-bits", type=int, default=24, show_default=True, help="Width of an accumulator, 16 to 24.")
@click.option("--gate-index-bits", type=int, default=10, show_default=True, help="Index of a gate table, 8 to 12.")
@as_json
def quantise(checkpoint: str, output: str, as_json: bool, **options: int) -> None:
    """Turn the float network of CHECKPOINT into the integer network, one file.

    Weights become 8-bit integers with one power-of-two scale for each gate of each layer; every rounding is defined,
    and the core answers like the integer network bit for bit. With 4-bit weights, those of one matrix take one of 15
    of these integers, and so do those of a read-out in groups or of at most 1,024 words.
    """
    from egret.model.checkpoint import load_checkpoint
    from egret.model.counts import checkpoint_columns, integer_columns
    from egret.model.integer_file import save_integer
    from egret.model.quantise import quantise

    check_files({"-o": output})
    source = load_checkpoint(checkpoint)
    network = quantise(source, **options)
    save_integer(network, output)
    before = sum(layer.nonzeros for layer in checkpoint_columns(source))
    columns = integer_columns(network)
    after, weights = sum(layer.nonzeros for layer in columns), sum(layer.weights for layer in columns)
    shifts = [list(map(int, layer.shift)) for layer in network.layers]
    counts = {"weights": weights, "nonzero_float": before, "nonzero_integer": after}
    rows = [
        ("RNN weights", f"{weights:,}"),
        ("non-zero, float", f"{before:,} ({before / weights:.1%})"),
        ("non-zero, integer", f"{after:,} ({after / weights:.1%})"),
        *((f"layer {n}: shifts of u, r, z", ", ".join(map(str, layer))) for n, layer in enumerate(shifts)),
    ]
    groups, codebook = network.groups, network.readout_codebook
    shape = {
        "head": len(network.embedding),
        "groups": 0,
        "rows": 0,
        "codebook": 0 if codebook is None else len(codebook),
    }
    if groups is not None:
        shape |= {"head": groups.head, "groups": len(groups.sizes), "rows": groups.rows}
        rows.append(("read-out: words in the head, groups", f"{groups.head:,}, {len(groups.sizes):,}"))
    if codebook is not None:
        rows.append(("values of a weight of the read-out", f"{len(codebook)}"))
    figures = {"network": output, **counts, "shifts": shifts, "readout": shape}
    show(Result(figures, rows), output, as_json)
