"""The papers' numbers."""

import pytest

from egret.model.training.papers import CORPORA, NOTES, PUBLISHED, published


@pytest.mark.parametrize(
    ("cell", "quantity", "numbers"),
    [
        ("egru", "perplexity", {0: 56.6, 0.8: 58.0, 0.85: 58.7, 0.9: 60.2, 0.95: 65.2}),
        ("lstm", "perplexity", {0: 57.1, 0.8: 57.6, 0.95: 66.5}),
        ("egru", "macs", {0: 6.4e6, 0.85: 1.2e6, 0.95: 0.5e6}),
        ("lstm", "macs", {0: 20.2e6}),
        ("egru", "macs_dense", {0: 24.2e6}),
    ],
)
def test_numbers_of_penn_treebank(cell, quantity, numbers):
    known = {n.sparsity: n.value for n in PUBLISHED if (n.cell, n.quantity) == (cell, quantity)}
    assert known == numbers
    for sparsity in (0, 0.2, 0.8, 0.85, 0.9, 0.95):
        assert published("ptb", cell, sparsity, quantity) == numbers.get(sparsity)
        assert published("wikitext-2", cell, sparsity, quantity) is published(None, cell, sparsity, quantity) is None


def test_each_has_its_source_and_each_corpus_numbers_or_a_note():
    assert all(number.source.startswith("arXiv ") and number.corpus in CORPORA for number in PUBLISHED)
    assert {number.corpus for number in PUBLISHED} | set(NOTES) >= set(CORPORA)
