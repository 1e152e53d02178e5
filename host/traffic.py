"""What a core reads of its memories over a text: columns looked up, and bytes of weights, rows and pointers."""

import numpy as np

from egret.host.measure import Measurement
from egret.model.compiler import lookups
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import word_layouts
from egret.model.compiler.unpack import column_bytes

__all__ = ["column_lookups", "readout_words_per_token", "weight_bytes_per_token"]


def column_lookups(image: Image, measurement: Measurement, ids: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """How often the core looks up each column over a text.

    Parameters
    ----------
    image : Image
    measurement : Measurement
        Of the image over the text.
    ids : np.ndarray of int, shape [N + 1]
        The text; empty where numbers entered.
    embedding : np.ndarray, shape [V, E]

    Returns
    -------
    np.ndarray of int64, shape [columns]
    """
    sources = measurement.evaluation.sources
    assert sources is not None
    c = image.configuration
    found = lookups.column_lookups(sources, ids[:-1], embedding, c.folded_tokens, c.reset)
    if c.takes_events:
        # Those of y in layer 1 are looked up behind the last step of each sequence, too.
        x, y, *s = found[0]
        found[0] = x, y * sources.steps // max(sources.steps - sources.starts, 1), *s
    return np.concatenate([part for layer in found for part in layer])


def weight_bytes_per_token(image: Image, measurement: Measurement, ids: np.ndarray, embedding: np.ndarray) -> float:
    """Bytes of weight words, the read-out's too, folded rows and pointers that the core reads for a token of a text.

    ``image``, ``measurement``, ``ids`` and ``embedding`` are those of `column_lookups`.
    """
    c = image.configuration
    columns = float(column_lookups(image, measurement, ids, embedding) @ column_bytes(image))
    row = c.row_depth * (c.beat_bits * c.row_beats if c.store == "sdram" else c.banks * c.row_bits) / 8
    words = readout_words_per_token(image, measurement) * c.lanes * c.narrow_bits / 8
    steps = measurement.evaluation.tokens
    return (columns + row * int((ids[:-1] < c.folded_tokens).sum())) / steps + words


def readout_words_per_token(image: Image, measurement: Measurement) -> float:
    """Words of weights that the core of an ``image`` reads for its read-out, a token of a ``measurement``."""
    counts = measurement.evaluation.readout
    if image.configuration.readout is None:
        return 0.0
    assert counts is not None
    head, *groups = word_layouts(image.configuration)["groups"].unpack(image.memories["groups"])["count"].tolist()
    # All groups have columns of one length.
    return head * counts.head_columns + (groups[0] * counts.group_columns if groups else 0.0)
