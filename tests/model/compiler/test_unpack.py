"""What no network was compiled to is refused; `test_compile.py` reads the others."""

import dataclasses

import pytest

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.unpack import read_image
from egret.model.errors import InputError
from tests.support.memories import fields_of
from tests.support.networks import random_network


def broken_column(image, column, **fields):
    """The image with fields of a column's pointer replaced."""
    c = image.configuration
    widths = [c.start_bits, c.count_bits, *[3, c.block_bits] * c.lanes]
    words = fields_of(image.memories["columns"], widths)
    for name, value in fields.items():
        words[column][{"start": 0, "count": 1, "bank": 2}[name]] = value
    size = -(-sum(widths) // 8)
    data = b""
    for word in words:
        value = at = 0
        for field, width in zip(word, widths, strict=True):
            value |= field << at
            at += width
        data += value.to_bytes(size, "little")
    return dataclasses.replace(image, memories=image.memories | {"columns": data})


def test_wrong_columns_are_refused():
    network = random_network(4, density=1)
    image = compile_image(network, configuration_for(network, lanes=2))
    with pytest.raises(InputError, match="^image: column 2 ends behind the last weight word$"):
        read_image(broken_column(image, 2, start=(1 << image.configuration.start_bits) - 1))
    with pytest.raises(InputError, match=r"^image: its columns have \d+ words together, and there are \d+$"):
        read_image(broken_column(image, 2, start=0, count=image.configuration.weight_words - 1))
    with pytest.raises(InputError, match=r"^image: column 2 has a weight at position \d+ of layer 0, matrix x, where"):
        read_image(broken_column(image, 2, bank=7))


def test_wrong_folded_rows_are_refused():
    network = random_network(6, hidden=(9,), embedding=5)
    image = compile_image(network, configuration_for(network, folded_tokens=2))
    rows = bytearray(image.memories["rows"])
    rows[5] ^= 1
    with pytest.raises(InputError, match=r"^image: the folded rows are not those of its embedding and weights$"):
        read_image(dataclasses.replace(image, memories=image.memories | {"rows": bytes(rows)}))
