"""The memories of a core and the fields of their words, written once.

The compiler packs words with these layouts, the image and the link count their bytes, and `egret.rtl.layouts` makes
Amaranth's layouts of them. The table of sections in ``docs/image.md`` is written by::

    python -m egret.model.compiler.layouts docs/image.md
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egret.model.arithmetic import CODEBOOK, GATES, STATE_FRACTION, VALUE_FRACTION, WEIGHT_BITS
from egret.model.compiler.configuration import (
    BLOCK_WORDS,
    RUN_BITS,
    SDRAM_BITS,
    TINY,
    WIDEST_RUN,
    Configuration,
)
from egret.model.errors import InputError
from egret.model.readout import BIAS_BITS

__all__ = [
    "EVENT",
    "INPUT_SECTION",
    "Field",
    "Layout",
    "MemorySection",
    "input_section",
    "memory_sections",
    "pointer_layout",
    "with_section_table",
    "word_layouts",
]

INPUT_SECTION = 2
"""Number of the embedding's section; or of the events that enter, in a core that takes these instead."""
CRC_BITS = 32
_TABLE = re.compile(r"(?<=<!-- sections -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """A part of a word.

    Parameters
    ----------
    name : str
    content : int or Layout
        Width of a number in bits, or the fields that it consists of.
    signed : bool
        Whether the number is in two's complement.
    repeat : int, optional
        How many there are, one behind the other. Without it there is one.
    each : str
        What there is one for, where there are several.
    symbol : str
        What the document calls the width; the number of bits when not given.
    meaning : str
        For the document, where the name does not say it.
    """

    name: str
    content: "int | Layout"
    signed: bool = False
    repeat: int | None = None
    each: str = ""
    symbol: str = ""
    meaning: str = ""

    @property
    def one_bits(self) -> int:
        """Width of one of them."""
        return self.content.bits if isinstance(self.content, Layout) else self.content

    @property
    def bits(self) -> int:
        """Width of all of them."""
        return self.one_bits * (1 if self.repeat is None else self.repeat)

    def describe(self) -> str:
        """The field in words, for the document."""
        several = f", one a {self.each}" if self.repeat is not None else ""
        if isinstance(self.content, Layout):
            text = f"{self.name}{several}: {self.content.describe()}"
        else:
            text = f"{self.name} ({'signed ' * self.signed}{self.symbol or self.content}{several})"
        return f"{text}: {self.meaning}" if self.meaning else text


@dataclass(frozen=True)
class Layout:
    """The fields of a word, from its lowest bit up. A word is stored in whole bytes, lowest byte first.

    Parameters
    ----------
    fields : tuple of Field
    """

    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        """Width of a word."""
        return sum(field.bits for field in self.fields)

    @property
    def whole_bytes(self) -> int:
        """Bytes of a word."""
        return -(-self.bits // 8)

    def describe(self) -> str:
        """The fields in words, for the document."""
        return "; ".join(field.describe() for field in self.fields)

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Write words.

        Parameters
        ----------
        values : dict of str to array of int
            Content of each field: shape [n] for n words, or [n, repeat]. A dict of such arrays where the field has
            fields, with ``repeat`` behind n.

        Returns
        -------
        bytes
        """
        numbers = [(np.asarray(column), bits) for column, bits in self._numbers(values)]
        count, at = len(numbers[0][0]), 0
        bits = np.zeros((count, 8 * self.whole_bytes), np.uint8)
        for column, width in numbers:
            octets = np.ascontiguousarray(column.astype("<i8")).view(np.uint8).reshape(count, 8)
            bits[:, at : at + width] = np.unpackbits(octets, axis=1, count=width, bitorder="little")
            at += width
        return np.packbits(bits, axis=1, bitorder="little").tobytes()

    def _numbers(self, values: Mapping[str, Any]) -> Iterator[tuple[Any, int]]:
        """Content and width of each number, from the lowest bit up."""
        for field in self.fields:
            content = values[field.name]
            for one in [content] if field.repeat is None else [_place(content, place) for place in range(field.repeat)]:
                if isinstance(field.content, Layout):
                    yield from field.content._numbers(one)
                else:
                    yield one, field.content

    def unpack(self, data: bytes) -> dict[str, Any]:
        """Read words.

        Parameters
        ----------
        data : bytes
            Of whole words.

        Returns
        -------
        dict of str to np.ndarray of int64
            Content of each field, as `pack` takes it.

        Raises
        ------
        InputError
            The last word is not whole.
        """
        if len(data) % self.whole_bytes:
            raise InputError(f"{len(data)} bytes must be whole words of {self.whole_bytes} bytes")
        octets = np.frombuffer(data, np.uint8).reshape(-1, self.whole_bytes)
        return self._read(np.unpackbits(octets, axis=1, bitorder="little"))

    def _read(self, bits: np.ndarray) -> dict[str, Any]:
        """The fields in single bits: uint8 [n, bits or more]."""
        result, at = {}, 0
        for field in self.fields:
            parts = []
            for _ in range(1 if field.repeat is None else field.repeat):
                own = bits[:, at : at + field.one_bits]
                parts.append(
                    field.content._read(own) if isinstance(field.content, Layout) else _number(own, field.signed)
                )
                at += field.one_bits
            result[field.name] = parts[0] if field.repeat is None else _stack(parts)
        return result


def _place(content: Any, place: int) -> Any:
    """One of several, of an array or of a dict of arrays."""
    if isinstance(content, Mapping):
        return {name: _place(part, place) for name, part in content.items()}
    return np.asarray(content)[:, place]


def _stack(parts: list[Any]) -> Any:
    """The inverse of `_place`: all of several."""
    if isinstance(parts[0], Mapping):
        return {name: _stack([part[name] for part in parts]) for name in parts[0]}
    return np.stack(parts, axis=1)


def _number(bits: np.ndarray, signed: bool) -> np.ndarray:
    """Numbers in single bits: int64 [n]."""
    width, value = bits.shape[1], np.zeros(len(bits), np.int64)
    for place, octet in enumerate(np.packbits(bits, axis=1, bitorder="little").T):
        value |= octet.astype(np.int64) << 8 * place
    return value - (value >> (width - 1) << width) if signed else value


EVENT = Layout((Field("index", 16), Field("value", VALUE_FRACTION)))
"""An event that enters a core: number of its neuron, and its value."""


def pointer_layout(start_bits: int, count_bits: int, block_bits: int, lanes: int) -> Layout:
    """A column's pointer, with fields of ``start_bits``, ``count_bits`` and ``block_bits``, for so many ``lanes``."""
    begin = Layout((Field("bank", 3), Field("block", block_bits, symbol="A")))
    start = "first weight word, of resident ones and then the others"
    return Layout(
        (
            Field("start", start_bits, symbol="S", meaning=start),
            Field("count", count_bits, symbol="C", meaning="number of words"),
            Field("begins", begin, repeat=lanes, each="lane"),
        )
    )


def word_layouts(configuration: Configuration) -> dict[str, Layout]:
    """Layout of a word of each memory that a core can have.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Returns
    -------
    dict of str to Layout
        By name of memory, with ``input`` for the memory of `input_section`. What an SDRAM holds is laid out so, too;
        there a word takes whole beats, and the rest of the last one is ``zeros``.
    """
    c = configuration
    entry = Layout((Field("code", c.weight_bits, symbol="W"), Field("run", RUN_BITS)))
    weights = Layout((Field("entries", entry, repeat=c.lanes, each="lane"),))
    addends = Field("addends", c.row_bits, signed=True, repeat=c.banks, each="bank", symbol="`row_bits`")
    read = c.readout
    entries = 0 if read is None else c.vocabulary + read.groups * read.rows
    most = 0 if read is None else max(read.entries, read.group_size)
    zeros = c.row_beats * c.beat_bits - addends.bits if c.store == "sdram" else 0
    return {
        "weights": weights,
        "columns": pointer_layout(c.start_bits, c.count_bits, c.block_bits, c.lanes),
        "embedding": Layout((Field("value", WEIGHT_BITS, signed=True),)),
        "bias": Layout(
            tuple(Field(gate, c.accumulator_bits, signed=True, symbol="`accumulator_bits`") for gate in c.sums)
        ),
        "threshold": Layout((Field("threshold", STATE_FRACTION + 1, meaning=f"{STATE_FRACTION} bits are fraction"),)),
        "shift": Layout((Field("shift", 4, meaning="1 to 15"),)),
        "codebook": Layout((Field("weight", WEIGHT_BITS, signed=True),)),
        "rows": Layout((addends, *([Field("zeros", zeros)] if zeros else []))),
        **{
            f"run_{bit}": Layout((Field("bits", 1, repeat=c.lanes, each="lane", meaning=f"bit {bit} of its run"),))
            for bit in range(RUN_BITS, WIDEST_RUN)
        },
        "resident": weights,
        "groups": Layout(
            (
                Field("start", c.start_bits, symbol="S", meaning="first weight word"),
                Field("count", c.count_bits, symbol="C", meaning="words of each of its columns"),
                Field("first", max(entries.bit_length(), 1), symbol="F", meaning="its first entry"),
                Field("size", max(most.bit_length(), 1), symbol="N", meaning="number of its entries"),
            )
        ),
        "entries": Layout(
            (
                Field("bias", BIAS_BITS, signed=True),
                Field("word", 16, meaning="number of the word; of a row that stands for a group 0"),
            )
        ),
        "checks": Layout((Field("crc", CRC_BITS, meaning="CRC-32 of the block's bytes"),)),
        "input": EVENT,
    }


@dataclass(frozen=True)
class MemorySection:
    """A memory of the core.

    Parameters
    ----------
    number : int
        Of the section, in the image and on the link.
    name : str
    layout : Layout
        Of a word.
    words : int
        Number of words.
    amount : str
        The number of words, for the document.
    """

    number: int
    name: str
    layout: Layout
    words: int
    amount: str = ""

    @property
    def word_bits(self) -> int:
        """Bits of a word."""
        return self.layout.bits

    @property
    def word_bytes(self) -> int:
        """Bytes of a word in the image and on the link."""
        return self.layout.whole_bytes


def memory_sections(configuration: Configuration) -> dict[str, MemorySection]:
    """Memories of a core, in the order of their section numbers.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Returns
    -------
    dict of str to MemorySection
        By name. What is in an SDRAM has the same bytes as elsewhere, in words of 16 bits; behind a row of the embedding
        come zeros, where it does not end with a beat.
    """
    c = configuration
    sections = {section.name: section for section in _all_sections(c) if section.words}
    if c.store == "sdram":
        beat = Layout((Field("word", SDRAM_BITS),))
        for name in sections.keys() & c.sdram_sizes:
            sections[name] = MemorySection(sections[name].number, name, beat, c.sdram_sizes[name])
    return sections


def _all_sections(c: Configuration) -> list[MemorySection]:
    """Memories that a core can have; those that it has not are without words."""
    codebook = len(c.matrix_places) * (CODEBOOK + 1) if c.weight_bits == 4 else 0
    wide, read = (*c.wide_words, *[0] * (WIDEST_RUN - c.run_bits)), c.readout
    parts: list[tuple[int, str, int, str]] = [
        (0, "weights", c.weight_words, "as many as the network needs"),
        (1, "columns", c.columns, "one a column"),
        (
            INPUT_SECTION,
            "embedding",
            c.vocabulary * c.embedding,
            "V · E; the row of token *t* begins at *t* · E; only where V is not 0",
        ),
        (3, "bias", c.neurons, "one a neuron"),
        (4, "threshold", c.neurons, "one a neuron"),
        (
            5,
            "shift",
            len(GATES) * c.layers + (c.readout is not None),
            "three a layer: u, r, z; then that of the read-out, where there is one",
        ),
        (6, "codebook", codebook, f"{CODEBOOK + 1} a matrix; only where W is 4"),
        (
            7,
            "rows",
            c.folded_tokens * c.row_depth,
            "`folded_tokens` · D, D the addresses of layer 1 in a bank; only where `folded_tokens` is not 0",
        ),
        *(
            (
                8 + place,
                f"run_{RUN_BITS + place}",
                words,
                "as many as the network needs, at most what `wide_words` says",
            )
            for place, words in enumerate(wide)
        ),
        (12, "resident", c.resident_words, "`resident_words`; only where that is not 0"),
        (13, "groups", 0 if read is None else read.matrices, "the head and each group of a read-out"),
        (
            14,
            "entries",
            0 if read is None else c.vocabulary + read.groups * read.rows,
            "the entries of the head and then of each group of a read-out",
        ),
        (
            15,
            "checks",
            c.checked_blocks,
            f"one for each {2 * BLOCK_WORDS // 1024} KB of what is in an SDRAM; only with that store",
        ),
    ]
    layouts = word_layouts(c)
    return [MemorySection(number, name, layouts[name], words, amount) for number, name, words, amount in parts]


def input_section(configuration: Configuration) -> MemorySection:
    """The memory into which the events of a step are put, where the ``configuration`` says that events are the input.

    A step's events begin at the first word. The section has the number of the embedding, which such a core has not. No
    image holds it.
    """
    return MemorySection(INPUT_SECTION, "input", EVENT, configuration.embedding)


def with_section_table(text: str) -> str:
    """The document ``text`` with the table of a core's sections between its two markers."""
    lines = ["| number | name | words | fields of a word, from the lowest bit up |", "|---|---|---|---|"]
    for section in _all_sections(TINY):
        lines.append(f"| {section.number} | {section.name} | {section.amount} | {section.layout.describe()} |")
    return _TABLE.sub(lambda _: "".join(f"{line}\n" for line in lines), text)


if __name__ == "__main__":
    _document = Path(sys.argv[1])
    _document.write_text(with_section_table(_document.read_text()))
