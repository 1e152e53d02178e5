"""The papers' numbers that a study is compared with, each with its source.

Only numbers that are at hand are listed; a study's report says of everything else that it is not available.
"""

from dataclasses import dataclass

__all__ = ["CORPORA", "NOTES", "PUBLISHED", "Published", "published"]

CORPORA = {"ptb": "Penn Treebank", "wikitext-2": "WikiText-2"}
_COMPLEMENTS = "arXiv 2405.00433, fig. 2, tables 3 and 4"


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    Parameters
    ----------
    corpus : str
        Of `CORPORA`.
    cell : str
        ``"egru"`` or ``"lstm"``.
    sparsity : float
        Share of the recurrent layers' weights that are zero.
    quantity : str
        ``"perplexity"`` of the test text; ``"macs"``, per token with what is silent or pruned skipped, read-out
        excluded; ``"macs_dense"``, the same with nothing skipped.
    value : float
    source : str
        Paper, table or figure.
    """

    corpus: str
    cell: str
    sparsity: float
    quantity: str
    value: float
    source: str


# Test perplexity and MACs in millions, EGRU's and LSTM's, of the networks with these shares of zero weights.
_SPARSITIES = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
_TABLES = {
    ("ptb", "egru", "perplexity"): (56.6, 57.1, 56.9, 57.0, 57.1, 58.0, 58.7, 60.2, 65.2),
    ("ptb", "egru", "macs"): (6.4, 5.3, 4.1, 2.8, 2.2, 1.6, 1.2, 0.9, 0.5),
    ("ptb", "lstm", "perplexity"): (57.1, 56.9, 56.8, 56.9, 57.1, 57.6, 57.7, 58.3, 66.5),
    ("ptb", "lstm", "macs"): (20.2, 16.2, 12.1, 8.1, 6.1, 4.1, 3.1, 2.0, 1.0),
    ("wikitext-2", "egru", "perplexity"): (66.6, 66.7, 67.0, 67.1, 67.6, 69.4, 70.7, 73.3, 79.3),
    ("wikitext-2", "egru", "macs"): (7.4, 6.0, 4.7, 3.3, 2.6, 2.0, 1.6, 1.1, 0.6),
    ("wikitext-2", "lstm", "perplexity"): (65.7, 65.9, 66.1, 66.4, 66.3, 68.0, 68.9, 71.2, 81.9),
    ("wikitext-2", "lstm", "macs"): (20.2, 16.2, 12.1, 8.1, 6.1, 4.1, 3.1, 2.0, 1.0),
}

PUBLISHED = (
    *(
        Published(
            corpus, cell, share, quantity, float(round(value * 1e6)) if quantity == "macs" else value, _COMPLEMENTS
        )
        for (corpus, cell, quantity), values in _TABLES.items()
        for share, value in zip(_SPARSITIES, values, strict=True)
    ),
    Published("ptb", "egru", 0.0, "macs_dense", 24.2e6, _COMPLEMENTS),
)

NOTES = {
    "activity": "The papers' activities (arXiv 2405.00433, fig. 3) are not available as numbers.",
    "weight decay": "The papers' curves (arXiv 2405.00433, fig. 4, on WikiText-2) are not available as numbers. Their "
    "perplexity is best near 0.14; the authors' recipe has 0.10 for Penn Treebank and 0.12 for WikiText-2.",
    "parameters": "The papers' distributions (arXiv 2405.00433, fig. 5) are not available as numbers. They report that "
    "training drives the means of weights and biases below zero, which makes the activity sparse.",
    "neurons": "The workshop paper's histograms (arXiv 2311.07625, fig. 4) are not available as numbers.",
    "distances": "The workshop paper's distances (arXiv 2311.07625, fig. 5) are not available as numbers.",
    "macs": "The workshop paper's abstract (arXiv 2311.07625) claims up to 20 times less computation at perplexities "
    "below 60 on Penn Treebank.",
}
"""What is known of a figure beyond `PUBLISHED`, and what is not available."""


def published(corpus: str | None, cell: str, sparsity: float, quantity: str) -> float | None:
    """Find a number of the papers.

    Parameters
    ----------
    corpus : str or None
    cell : str
    sparsity : float
    quantity : str

    Returns
    -------
    float or None
        None where it is not available.
    """
    for number in PUBLISHED:
        known = (number.corpus, number.cell, number.quantity)
        if known == (corpus, cell, quantity) and abs(number.sparsity - sparsity) < 1e-9:
            return number.value
    return None
