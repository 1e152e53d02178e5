"""Words of the core's memories: the codec bit by bit, the layouts, and the document's table."""

import re
from pathlib import Path

import numpy as np
import pytest

from egret.model.compiler.configuration import TINY, Configuration
from egret.model.compiler.layouts import (
    EVENT,
    Field,
    Layout,
    input_section,
    memory_sections,
    with_section_table,
    word_layouts,
)
from egret.model.errors import InputError

DOCUMENT = Path(__file__).parent.parent.parent.parent / "docs" / "image.md"

NESTED = Layout(
    (
        Field("start", 5),
        Field("signed", 3, signed=True),
        Field("pairs", Layout((Field("one", 2), Field("other", 7, signed=True))), repeat=3),
        Field("bits", 1, repeat=4),
    )
)


def test_words_by_hand():
    """Fields from the lowest bit up, in whole bytes; what is above the width is zero."""
    layout = Layout((Field("low", 3), Field("high", 6, signed=True)))
    assert layout.bits == 9 and layout.whole_bytes == 2
    data = layout.pack({"low": [5, 0], "high": [-1, 1]})
    assert data == bytes([0b11111101, 0b1, 0b00001000, 0])
    assert {name: part.tolist() for name, part in layout.unpack(data).items()} == {"low": [5, 0], "high": [-1, 1]}


def test_fields_of_fields():
    """Of several, the first one is lowest."""
    assert NESTED.bits == 5 + 3 + 3 * 9 + 4
    pairs = {"one": [[1, 2, 3]], "other": [[-1, 5, -64]]}
    data = NESTED.pack({"start": [9], "signed": [-4], "pairs": pairs, "bits": [[1, 0, 0, 1]]})
    expected = 9 | 4 << 5
    for place, (one, other) in enumerate([(1, 127), (2, 5), (3, 64)]):
        expected |= (one | other << 2) << 8 + 9 * place
    expected |= 0b1001 << 35
    assert int.from_bytes(data, "little") == expected and len(data) == 5


def test_round_trip():
    rng = np.random.default_rng(1)
    values = {
        "start": rng.integers(0, 32, 50),
        "signed": rng.integers(-4, 4, 50),
        "pairs": {"one": rng.integers(0, 4, (50, 3)), "other": rng.integers(-64, 64, (50, 3))},
        "bits": rng.integers(0, 2, (50, 4)),
    }
    data = NESTED.pack(values)
    found = NESTED.unpack(data)
    assert len(data) == 50 * NESTED.whole_bytes and found.keys() == values.keys()
    pairs, wanted = found.pop("pairs"), values.pop("pairs")
    for one, other in ((found, values), (pairs, wanted)):
        assert all(one[name].dtype == np.int64 and np.array_equal(one[name], other[name]) for name in other)


def test_no_words():
    nothing = {"one": np.zeros((0, 3), int), "other": np.zeros((0, 3), int)}
    data = NESTED.pack({"start": [], "signed": [], "pairs": nothing, "bits": np.zeros((0, 4), int)})
    assert data == b"" and NESTED.unpack(data)["pairs"]["other"].shape == (0, 3)


def test_a_word_that_is_cut_short_is_refused():
    with pytest.raises(InputError, match=r"^9 bytes must be whole words of 5 bytes$"):
        NESTED.unpack(bytes(9))


@pytest.mark.parametrize("store", ["bram", "spram", "sdram"])
def test_every_memory_has_a_layout(store):
    c = Configuration(
        vocabulary=9, embedding=6, hidden=(5, 4), lanes=4, store=store, weight_bits=4, folded_tokens=2, row_bits=17
    )
    layouts = word_layouts(c)
    for name, section in memory_sections(c).items():
        outside = store == "sdram" and name in c.sdram_sizes
        assert section.name == name and section.word_bits == (16 if outside else layouts[name].bits)
    # What is in an SDRAM takes whole words of it.
    assert store != "sdram" or layouts["rows"].bits % 16 == layouts["weights"].bits % 16 == 0
    rows = [field.name for field in layouts["rows"].fields]
    assert rows == (["addends", "zeros"] if store == "sdram" else ["addends"])
    section = input_section(c)
    assert (section.number, section.name, section.layout, section.words) == (2, "input", EVENT, 6)
    assert EVENT.bits == 24


def test_the_documents_table():
    text = DOCUMENT.read_text()
    assert with_section_table(text) == text
    table = text[text.index("<!-- sections -->") : text.index("<!-- end -->")]
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \| \w+ \| .* \| .*\(.*\).* \|$", table, re.MULTILINE)]
    assert numbers == list(range(16))
    # A document that says something else is told apart.
    assert with_section_table(text.replace("| 6 | codebook |", "| 5 | book |")) == text
    assert "threshold (15)" in table and memory_sections(TINY)["threshold"].word_bits == 15
