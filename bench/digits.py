"""Write the sequences of `model/digits`: handwritten digits, which enter row by row.

    pip install scikit-learn
    python -m bench.digits -o build/digits

The digits are scikit-learn's (the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI, 1998, CC BY 4.0): 1,797 images of 8 x 8 numbers from 0 to 16. A seed draws which are in ``test.npz``, in
``valid.npz`` and in ``train.npz``. The last has copies of each image, of which about half are moved by a pixel. The
same seed gives the same files. docs/sequences.md has the commands that train the network.
"""

import io
from pathlib import Path

import click
import numpy as np

from egret.model.errors import needs
from egret.model.files import write_aside

TEST, VALID = 360, 137
"""Images of the test and of the validation; the other 1,300 are trained on."""


def moved(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images uint8 [B, 8, 8], some of them a pixel up, down, left or right; what leaves the image is lost."""
    wide, result = np.pad(images, ((0, 0), (1, 1), (1, 1))), np.empty_like(images)
    for index, (row, column) in enumerate(random.choice(3, (len(images), 2), p=(0.15, 0.7, 0.15))):
        result[index] = wide[index, row : row + 8, column : column + 8]
    return result


@click.command()
@click.option("-o", "--output", required=True, help="Directory to write to.")
@click.option("--copies", default=8, show_default=True, help="Of each image that is trained on.")
@click.option("--seed", default=0, show_default=True)
def main(output: str, copies: int, seed: int) -> None:
    """Write train.npz, valid.npz and test.npz."""
    with needs("sklearn", "scikit-learn", "the digits"):
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    data, random = load_digits(), np.random.default_rng(seed)
    images, digits = (data.images * 16).clip(0, 255).astype(np.uint8), data.target.astype(np.int32)
    test, valid, train = np.split(random.permutation(len(images)), [TEST, TEST + VALID])
    train = np.tile(train, copies)
    Path(output).mkdir(parents=True, exist_ok=True)
    for name, x, of in (
        ("train", moved(images[train], random), train),
        ("valid", images[valid], valid),
        ("test", images[test], test),
    ):
        packed = io.BytesIO()
        np.savez_compressed(packed, x=x, y=digits[of])
        write_aside(Path(output) / f"{name}.npz", packed.getvalue())
        click.echo(f"{name}.npz: {len(x):,} sequences")


if __name__ == "__main__":
    main()
