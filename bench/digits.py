"""Train the network of `model/digits`: handwritten digits, which enter row by row, and their names come out.

    pip install scikit-learn
    python -m bench.digits -o model/digits

The digits are scikit-learn's (the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI, 1998, CC BY 4.0): 1,797 images of 8 x 8 numbers from 0 to 16. A fifth of them, drawn by a seed, are held out and
written to ``test.npz``. A minute or two on one core; the same seed gives the same network.
"""

from pathlib import Path
from typing import cast

import click
import numpy as np

from egret.host.evaluation import evaluate_network
from egret.host.progress import progress_bar
from egret.model.checkpoint import save_checkpoint
from egret.model.errors import needs
from egret.model.files import write_aside
from egret.model.sequences import SequenceEvaluation, Sequences
from egret.model.tokens import Vocabulary
from egret.model.training.sequences import train_sequences

HELD_OUT = 360


def halves(seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [N, 8, 8] and digits int [N]: those to learn from, and those held out."""
    with needs("sklearn", "scikit-learn", "the digits"):
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    data = load_digits()
    images = (data.images * 16).clip(0, 255).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    return (images[train], data.target[train]), (images[test], data.target[test])


def moved(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images uint8 [B, 8, 8], some of them a pixel up, down, left or right; what leaves the image is lost."""
    wide, result = np.pad(images, ((0, 0), (1, 1), (1, 1))), np.empty_like(images)
    for index, (row, column) in enumerate(random.choice(3, (len(images), 2), p=(0.15, 0.7, 0.15))):
        result[index] = wide[index, row : row + 8, column : column + 8]
    return result


@click.command()
@click.option("-o", "--output", required=True, help="Directory to write the checkpoint and test.npz to.")
@click.option("--hidden", default=128, show_default=True, help="Neurons of the one layer.")
@click.option("--sparsity", default=0.8, show_default=True, help="Share of the weights that become zeros.")
@click.option("--event-weight", default=0.05, show_default=True, help="Price of an event a neuron and step.")
@click.option("--epochs", default=60, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(output: str, hidden: int, sparsity: float, event_weight: float, epochs: int, seed: int) -> None:
    """Train, and say how many of the digits held out are told right."""
    import torch

    torch.set_num_threads(1)  # sums in the same order on every machine
    train, test = halves()
    names = Vocabulary([str(digit) for digit in range(10)], "number")
    with progress_bar("training") as progress:
        checkpoint = train_sequences(
            Sequences.of(*train),
            names,
            (hidden,),
            sparsity=sparsity,
            event_weight=event_weight,
            epochs=epochs,
            change=moved,
            seed=seed,
            progress=progress,
        )
    save_checkpoint(checkpoint, output, compress=True)
    write_aside(Path(output) / "test.npz", _packed(x=test[0], y=test[1].astype(np.int32)))
    found = cast(SequenceEvaluation, evaluate_network(checkpoint, Sequences.of(*test)))
    click.echo(f"{found.right} of {found.asked} right, activity {found.activity[0]:.1%}")


def _packed(**arrays: np.ndarray) -> bytes:
    """A .npz that is the same bytes whenever it is written."""
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


if __name__ == "__main__":
    main()
