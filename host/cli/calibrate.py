"""The command ``egret calibrate``."""

import click

from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_directory
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.host.progress import progress_bar

__all__ = ["calibrate"]


@click.command()
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, help="Checkpoint directory to write.")
@click.option("--text", required=True, help="UTF-8 text to predict: the validation text, not the test text.")
@click.option("--batch", type=int, default=64, show_default=True, help="Streams that the text is cut into.")
@click.option("--weight-bits", type=int, help="Calibrate for egret quantise with these bits, 8 or 4.")
@click.option("--embedding-bits", type=int, help="Likewise, 4 to 8.")
@as_json
def calibrate(
    checkpoint: str,
    output: str,
    text: str,
    batch: int,
    weight_bits: int | None,
    embedding_bits: int | None,
    as_json: bool,
) -> None:
    """Scale the read-out of the float network of CHECKPOINT to be as sure of its predictions as it should be.

    The scale is the one that predicts the text best, with the float network, or with the integer network where bits
    are given. The network keeps its size and its events.
    """
    from egret.model.calibrate import calibrate, scale_readout
    from egret.model.checkpoint import save_checkpoint
    from egret.model.floating import FloatEngine
    from egret.model.integer import IntegerEngine
    from egret.model.quantise import quantise

    check_directory(output)
    opened = Network(checkpoint)
    source, ids = opened.checkpoint, opened.ids(text, None)
    if weight_bits is None and embedding_bits is None:
        engine = FloatEngine(source)
    else:
        bits = {"weight_bits": weight_bits or 8, "embedding_bits": embedding_bits or 8}
        engine = IntegerEngine(quantise(source, **bits))
    with progress_bar("network") as progress:
        scale = calibrate(engine, ids, batch=batch, progress=progress)
    save_checkpoint(scale_readout(source, scale), output)
    result = Result({"checkpoint": output, "scale": scale}, [("scale of the read-out", f"{scale:.4f}")])
    show(result, output, as_json)
