"""The papers' numbers."""

import pytest

from egret.model.training.papers import CORPORA, NOTES, PUBLISHED, published

SPARSITIES = (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize(
    ("corpus", "cell", "perplexities", "macs"),
    [
        ("ptb", "egru", "56.6 57.1 56.9 57.0 57.1 58.0 58.7 60.2 65.2", "6.4 5.3 4.1 2.8 2.2 1.6 1.2 0.9 0.5"),
        ("ptb", "lstm", "57.1 56.9 56.8 56.9 57.1 57.6 57.7 58.3 66.5", "20.2 16.2 12.1 8.1 6.1 4.1 3.1 2.0 1.0"),
        ("wikitext-2", "egru", "66.6 66.7 67.0 67.1 67.6 69.4 70.7 73.3 79.3", "7.4 6.0 4.7 3.3 2.6 2.0 1.6 1.1 0.6"),
        (
            "wikitext-2",
            "lstm",
            "65.7 65.9 66.1 66.4 66.3 68.0 68.9 71.2 81.9",
            "20.2 16.2 12.1 8.1 6.1 4.1 3.1 2.0 1.0",
        ),
    ],
)
def test_every_number_of_the_tables(corpus, cell, perplexities, macs):
    for quantity, numbers, unit in (("perplexity", perplexities, 1), ("macs", macs, 1e6)):
        found = [published(corpus, cell, sparsity, quantity) for sparsity in SPARSITIES]
        assert found == [pytest.approx(float(number) * unit) for number in numbers.split()]
    assert published(corpus, cell, 0.5, "perplexity") is published(None, cell, 0.8, "perplexity") is None


def test_the_tables_are_all_there_is():
    dense = [n for n in PUBLISHED if n.quantity == "macs_dense"]
    assert [(n.corpus, n.cell, n.sparsity, n.value) for n in dense] == [("ptb", "egru", 0, 24.2e6)]
    assert len(PUBLISHED) == 4 * 2 * len(SPARSITIES) + 1


def test_each_has_its_source_and_each_corpus_numbers():
    assert all(number.source.startswith("arXiv ") for number in PUBLISHED)
    assert {number.corpus for number in PUBLISHED} == set(CORPORA)
    assert set(NOTES).isdisjoint(CORPORA)
