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


PUBLISHED = (
    Published("ptb", "egru", 0.0, "perplexity", 56.6, _COMPLEMENTS),
    Published("ptb", "egru", 0.8, "perplexity", 58.0, _COMPLEMENTS),
    Published("ptb", "egru", 0.85, "perplexity", 58.7, _COMPLEMENTS),
    Published("ptb", "egru", 0.9, "perplexity", 60.2, _COMPLEMENTS),
    Published("ptb", "egru", 0.95, "perplexity", 65.2, _COMPLEMENTS),
    Published("ptb", "lstm", 0.0, "perplexity", 57.1, _COMPLEMENTS),
    Published("ptb", "lstm", 0.8, "perplexity", 57.6, _COMPLEMENTS),
    Published("ptb", "lstm", 0.95, "perplexity", 66.5, _COMPLEMENTS),
    Published("ptb", "egru", 0.0, "macs", 6.4e6, _COMPLEMENTS),
    Published("ptb", "egru", 0.85, "macs", 1.2e6, _COMPLEMENTS),
    Published("ptb", "egru", 0.95, "macs", 0.5e6, _COMPLEMENTS),
    Published("ptb", "lstm", 0.0, "macs", 20.2e6, _COMPLEMENTS),
    Published("ptb", "egru", 0.0, "macs_dense", 24.2e6, _COMPLEMENTS),
)

NOTES = {
    "activity": "The papers' activities (arXiv 2405.00433, fig. 3) are not available as numbers.",
    "weight decay": "The papers' curves (arXiv 2405.00433, fig. 4) are not available as numbers; the authors' recipe "
    "has weight decay 0.10 for Penn Treebank and 0.12 for WikiText-2.",
    "parameters": "The papers' distributions (arXiv 2405.00433, fig. 5) are not available as numbers. They report that "
    "training drives the means of weights and biases below zero, which makes the activity sparse.",
    "neurons": "The workshop paper's histograms (arXiv 2311.07625, fig. 4) are not available as numbers.",
    "distances": "The workshop paper's distances (arXiv 2311.07625, fig. 5) are not available as numbers.",
    "macs": "Numbers of the papers without both a perplexity and MACs are in the tables only. The workshop paper's "
    "abstract (arXiv 2311.07625) claims up to 20 times less computation at perplexities below 60 on Penn Treebank.",
    "wikitext-2": "The papers' numbers for WikiText-2 (arXiv 2405.00433) are not available.",
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
