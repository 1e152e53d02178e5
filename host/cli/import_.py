"""The command ``egret import``."""

import click

from egret.host.cli.cores import describe_measurement, mismatch_status
from egret.host.cli.options import as_json
from egret.host.cli.outputs import check_directory
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import InputError, needs

__all__ = ["import_"]


@click.command("import")
@click.argument("source", type=click.Choice(("evnn", "safetensors")))
@click.argument("file")
@click.option("-o", "--output", required=True, help="Directory to write the checkpoint to.")
@click.option(
    "--text",
    "texts",
    multiple=True,
    help="A text that words are counted on; of EvNN those of its training, in the order train, valid, test.",
)
@click.option("--map", "map_", help="TOML or JSON file with the names of a module's tensors (docs/importing.md).")
@click.option(
    "--simulate",
    "steps",
    type=click.IntRange(1),
    metavar="STEPS",
    help="Run so many steps on the simulated core, too, of the last text if there is one, and compare each event.",
)
@as_json
def import_(
    source: str,
    file: str,
    output: str,
    texts: tuple[str, ...],
    map_: str | None,
    steps: int | None,
    as_json: bool,
) -> int:
    """Make a checkpoint of another program's network in FILE, which computes the same.

    The source evnn is the language model of EvNN's benchmarks. The source safetensors is any module with the cell of an
    EGRU, whose names a map gives. FILE is a safetensors file, or a state dict that torch.save wrote, of which tensors
    alone are loaded. Of a network with words the frequent ones come first, where texts are given.
    """
    from egret.model.checkpoint import parse_tensors, save_checkpoint
    from egret.model.counts import checkpoint_columns
    from egret.model.files import is_torch, read
    from egret.model.importing import from_evnn, from_map

    if source == "evnn" and (map_ is not None or not texts):
        raise InputError("egret import evnn needs --text for each text of its training, in their order, and no --map")
    if source == "safetensors" and map_ is None:
        raise InputError("egret import safetensors needs --map, a file with the names of the tensors")
    check_directory(output)
    if is_torch(file):
        with needs("torch", "'egret-fpga[train]'", "a file of PyTorch"):
            from egret.model.training.pickles import read_state_dict
        tensors = read_state_dict(file)
    else:
        tensors = parse_tensors(read(file), file)
    imported = from_evnn(tensors, texts, file) if map_ is None else from_map(tensors, map_, texts, file)
    measured = None
    if steps is not None:
        measured = Network(imported.checkpoint).measure(texts[-1] if texts else None, tokens=steps)
    save_checkpoint(imported.checkpoint, output)
    shape, columns = imported.checkpoint.configuration, checkpoint_columns(imported.checkpoint)
    weights, nonzeros = sum(one.weights for one in columns), sum(one.nonzeros for one in columns)
    figures = {
        "checkpoint": output,
        "vocab_size": shape.vocab_size,
        "embedding_size": shape.embedding_size,
        "hidden_sizes": shape.hidden_sizes,
        "reset": shape.reset,
        "weights": weights,
        "nonzero": nonzeros,
        "notes": imported.notes,
    }
    rows = [
        ("words, embedding", f"{shape.vocab_size:,}, {shape.embedding_size:,}"),
        ("neurons by layer", ", ".join(f"{size:,}" for size in shape.hidden_sizes)),
        ("reset", f"{shape.reset} the matrix"),
        ("RNN weights, non-zero", f"{weights:,}, {nonzeros:,} ({nonzeros / weights:.1%})"),
        *(("note", one) for one in imported.notes),
    ]
    result = Result(figures, rows)
    if measured is not None:
        result.add(describe_measurement(measured))
    show(result, output, as_json)
    return 0 if measured is None else mismatch_status(measured)
