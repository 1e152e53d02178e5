"""How often words drawn by factors differ from words drawn from the full distribution, at a temperature.

    python -m bench.sampling NETWORK --text FILE [--tokens 10000] [--temperature 0.8]... [--json]

A read-out in groups draws an entry of its head, and then, if that stands for a group, a word of the group
(`egret.model.readout`). At temperature 1 that is a draw from the distribution over all words. At another one the
temperature is applied to each of the two factors, which reads one group at most, where the distribution over all words
at that temperature needs every group. The total variation of the two is how often a word must differ at the least,
however the two draws are coupled.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.show import as_json, progress_bar, run_script, show
from egret.model.errors import InputError
from egret.model.evaluate import outputs
from egret.model.integer_file import load_integer
from egret.model.native import NativeEngine
from egret.model.readout import BETA_ONE, LOG_FRACTION, SCORE_FRACTION, ReadOut, beta_of

__all__ = ["compare", "distributions"]

STREAMS = 64
_ROWS = 64  # taken at once


def _shares(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def distributions(readout: ReadOut, y: np.ndarray, beta: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all words, at a temperature.

    Parameters
    ----------
    readout : ReadOut
    y : np.ndarray of int, shape [B, H]
        Events of the last layer.
    beta : int
        256 over the temperature.

    Returns
    -------
    full, factors : np.ndarray of float64, shape [B, V], by number of word
        Of the distribution over all words, and of words drawn by factors.
    """
    scale = beta / BETA_ONE
    full = _shares(readout.all_log_probabilities(y) * (scale * 2.0**-LOG_FRACTION))
    nats = scale * 2.0**-SCORE_FRACTION
    head = _shares(readout.scores(y) * nats)
    parts = [head[:, : readout.head]]
    for group in range(readout.groups):
        share = head[:, readout.group_rows(group)].sum(axis=1, keepdims=True)
        parts.append(share * _shares(readout.scores(y, group + 1) * nats))
    return full, np.concatenate(parts, axis=1)[:, readout.place]


def compare(readout: ReadOut, y: np.ndarray, beta: int) -> tuple[np.ndarray, np.ndarray]:
    """How much words that are drawn by factors differ from the distribution over all words (`distributions`).

    Returns
    -------
    variation : np.ndarray of float, shape [B]
        Total variation.
    groups : np.ndarray of float, shape [B]
        How many groups a draw by factors reads, on average.
    """
    full, factors = distributions(readout, y, beta)
    inside = factors[:, readout.order[readout.head :]].sum(axis=1)
    return np.abs(full - factors).sum(axis=1) / 2, inside


@click.command(help=__doc__)
@click.argument("network", type=click.Path(path_type=Path))
@click.option("--text", required=True, help="UTF-8 text.")
@click.option("--tokens", type=click.IntRange(1), default=10_000, show_default=True, help="Of it, the first ones.")
@click.option("--temperature", "temperatures", type=float, multiple=True, default=(0.8, 1.0), show_default=True)
@as_json
def main(network: Path, text: str, tokens: int, temperatures: tuple[float, ...], as_json: bool) -> None:
    integer = load_integer(network)
    readout, betas = ReadOut(integer), [beta_of(temperature) for temperature in temperatures]
    if integer.vocabulary is None:
        raise InputError(f"{network}: a part of a network, which takes events; give the whole network")
    ids = integer.vocabulary.read(text)[: tokens + 1]
    found: dict[float, list[Any]] = {temperature: [] for temperature in temperatures}
    with progress_bar() as bar:
        task = bar.add_task("", total=len(ids) - 1)
        for y, _ in outputs(NativeEngine(integer), ids, min(STREAMS, len(ids) - 1)):
            for first in range(0, len(y), _ROWS):
                some = y[first : first + _ROWS]
                for temperature, beta in zip(temperatures, betas, strict=True):
                    found[temperature].append(compare(readout, some, beta))
                bar.advance(task, len(some))
    figures = []
    for temperature, parts in found.items():
        variation, groups = (np.concatenate(one) for one in zip(*parts, strict=True))
        mean, most, read = float(variation.mean()), float(variation.max()), float(groups.mean())
        figures.append({"temperature": temperature, "differ": mean, "differ_at_most": most, "groups_by_factors": read})
    rows = [
        (
            f"{one['temperature']:g}",
            f"{one['differ']:.2%}",
            f"{one['differ_at_most']:.1%}",
            f"{one['groups_by_factors']:.2f} of {readout.groups}",
        )
        for one in figures
    ]
    heads = ("temperature", "words that differ, mean", "at most", "groups read by factors")
    show(
        {"tokens": len(ids) - 1, "temperatures": figures},
        [(f"{network}, {len(ids) - 1:,} tokens: by factors, and from all words", heads, rows)],
        as_json,
    )


if __name__ == "__main__":
    run_script(main, "sampling")
