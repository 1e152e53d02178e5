"""Folded rows: their numbers, their format, and where they lie."""

import dataclasses

import numpy as np
import pytest

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.folded import folded_rows, row_format
from egret.model.errors import InputError
from tests.support.memories import fields_of
from tests.support.networks import random_network


@pytest.mark.parametrize("tokens", [1, 7])
def test_folded_rows(tokens):
    """A row is the sum of its token's columns."""
    network = random_network(6, hidden=(9, 4), embedding=5)
    rows = folded_rows(network, tokens)
    assert rows.shape == (tokens, 27) and rows.dtype == np.int32
    for token in range(tokens):
        expected = [
            sum(2 * int(network.embedding[token, j]) * int(network.layers[0].weight_x[row, j]) for j in range(5))
            for row in range(27)
        ]
        assert rows[token].tolist() == expected
    c = configuration_for(network, lanes=2, folded_tokens=tokens)
    ones = int(np.bitwise_or.reduce(rows, axis=None))
    assert ones % (1 << c.row_shift) == 0 != ones % (2 << c.row_shift)
    fits = [
        (-1 << bits - 1 <= rows >> c.row_shift).all() and (rows >> c.row_shift < 1 << bits - 1).all()
        for bits in (c.row_bits - 1, c.row_bits)
    ]
    assert fits == [False, True]
    words = fields_of(compile_image(network, c).memories["rows"], [c.row_bits] * 4)
    assert len(words) == tokens * c.layer_depth(0)
    for gate in range(3):
        for neuron in range(9):
            bank, address = c.place(0, gate, neuron)
            value = words[(tokens - 1) * c.layer_depth(0) + address][bank]
            value -= value >> c.row_bits - 1 << c.row_bits
            assert value << c.row_shift == rows[-1, 9 * gate + neuron]


@pytest.mark.parametrize(
    "values, expected",
    [([0, 0, 0], (1, 0)), ([1, 0, 0], (2, 1)), ([-1, 0, 0], (1, 1)), ([4, -8, 0], (2, 3)), ([127, -127, 3], (8, 1))],
)
def test_row_format(values, expected):
    """Of weights 1 and an embedding of one value a token, of which a row has twice."""
    network = random_network(6, hidden=(2,), embedding=1, vocabulary=3)
    layer = dataclasses.replace(network.layers[0], weight_x=np.ones((6, 1), np.int8))
    embedding = np.array(values, np.int8)[:, None]
    network = dataclasses.replace(network, embedding=embedding, layers=(layer,))
    assert row_format(network) == row_format(network, 3) == expected
    assert row_format(network, 1) == row_format(
        dataclasses.replace(network, embedding=np.where([[True], [False], [False]], embedding, 0).astype(np.int8))
    )


def test_rows_that_a_core_has_no_room_for_are_refused():
    network = random_network(6, hidden=(9,), embedding=5)
    c = configuration_for(network, folded_tokens=7)
    compile_image(network, dataclasses.replace(c, row_bits=c.row_bits + 1))
    for change in ({"row_bits": c.row_bits - 1}, {"row_bits": c.row_bits - 1, "row_shift": c.row_shift + 1}):
        with pytest.raises(InputError, match=f"the network's have {c.row_bits} and {c.row_shift}"):
            compile_image(network, dataclasses.replace(c, **change))
