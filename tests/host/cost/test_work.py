"""What the model knows of a text, of parts of a network, and of wider ones."""

import json

import numpy as np
import pytest

from egret.host.cost.model import link_bytes
from egret.host.cost.work import Work, columns_taken, resident_shares
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.unpack import column_words
from egret.model.counts import integer_columns
from tests.support.cost import counted, small, work
from tests.support.networks import few_values


def test_work_is_that_of_the_steps():
    """As many MACs as the integer network counts, with a step more of the first layer's y and none before the first."""
    network = small()
    sources, ids = counted(network)
    own = Work.of(network, sources, ids, lanes=2, store="sdram", folded_tokens=2)
    folded = np.isin(ids[:-1], (0, 1))
    assert own.folded_share == folded.mean() and 0 < folded.sum() < 12
    for number, (matrix, counts) in enumerate(zip(own.matrices, integer_columns(network), strict=True)):
        x = sources.x[number] if number else (network.embedding[ids[:-1][~folded]] != 0).sum(axis=0)
        y = sources.y[number] * (1 if number else 12 / 11)
        for mine, weights, taken in zip(matrix, (counts.x, counts.y, counts.s), (x, y, sources.s[number]), strict=True):
            assert mine.taken @ mine.weights == pytest.approx(weights @ taken / 12)
            assert mine.number.sum() == len(weights)
    assert Work.from_json(json.loads(json.dumps(own.to_json()))).to_json() == own.to_json()


def test_what_is_resident():
    """The words of an image that a text takes from block RAM, counted column by column."""
    network = few_values(small())
    sources, ids = counted(network)
    taken = columns_taken(network, sources, ids, 2)
    image = compile_image(
        network,
        configuration_for(network, store="sdram", folded_tokens=2, resident_bytes=2000),
        lookups=[np.concatenate(layer) for layer in taken],
    )
    start, words = column_words(image)
    shares = resident_shares(image, taken)
    base = 0
    for layer, mine in zip(taken, shares, strict=True):
        for one, share in zip(layer, mine, strict=True):
            own = [
                (one[place] * words[base + place], start[base + place] < image.configuration.resident_words)
                for place in range(len(one))
            ]
            base += len(one)
            assert share * sum(count for count, _ in own) == pytest.approx(sum(count for count, near in own if near))
    assert 0 < min(map(max, shares)) and max(map(max, shares)) <= 2 / 3 and len(set(sum(shares, ()))) > 3


def test_larger_networks():
    own = work((100, 80))
    twice = own.wider(2)
    assert twice.hidden == (200, 160) and twice.embedding == 100 and twice.events == (40, 40)
    for layer, larger in zip(own.matrices, twice.matrices, strict=True):
        for one, other in zip(layer, larger, strict=True):
            assert other.rows == 2 * one.rows and other.taken @ other.weights == 4 * (one.taken @ one.weights)


def test_parts():
    own = work((100, 80), folded_tokens=5, folded_share=0.5, lanes=2, store="sdram")
    first, second = own.part(0, 1), own.part(1, 2)
    assert (first.hidden, first.vocabulary, first.folded_tokens) == ((100,), 1000, 5)
    assert (second.hidden, second.embedding, second.vocabulary, second.folded_share) == ((80,), 100, 0, 0)
    sent, received = link_bytes(second)
    assert 150 < sent - 30 < 160 and 10 + 20 <= received - 12 < 10 + 22
