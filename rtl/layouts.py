"""Layouts of what the memories of a core hold and its streams carry, as functions of its `Configuration`."""

from enum import IntEnum

from amaranth.hdl import Shape, ShapeLike, signed
from amaranth.lib import data

from egret.model.arithmetic import STATE_FRACTION, VALUE_BITS, VALUE_FRACTION, WEIGHT_BITS
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import Field, Layout, memory_sections, word_layouts

__all__ = [
    "GATE",
    "Task",
    "access_layout",
    "add_layout",
    "ahead",
    "bank_address_bits",
    "column_layout",
    "event_layout",
    "group_bits",
    "index_bits",
    "input_layout",
    "layer_bits",
    "load_bus_layout",
    "load_layout",
    "matrix_bits",
    "memory_layout",
    "output_layout",
    "request_layout",
    "result_layout",
    "row_layout",
    "sampling_layout",
    "task_layout",
    "word_layout",
]

GATE = signed(STATE_FRACTION + 2)
"""A gate's value: u and r as 0 to 255, z with 14 fraction bits."""


def ahead(c: Configuration, latency: int) -> int:
    """Places of a queue behind a memory of some ``latency`` in the core ``c``; one where that is compact."""
    return 1 if c.compact else latency + 3


def memory_layout(c: Configuration, name: str) -> data.StructLayout:
    """A word of the memory ``name`` of the core ``c``, with the fields that `word_layouts` gives it."""
    return _struct(word_layouts(c)[name])


def _struct(layout: Layout) -> data.StructLayout:
    return data.StructLayout({field.name: _shape(field) for field in layout.fields})


def _shape(field: Field) -> ShapeLike:
    content = field.content
    one = _struct(content) if isinstance(content, Layout) else Shape(content, field.signed)
    return one if field.repeat is None else data.ArrayLayout(one, field.repeat)


def index_bits(c: Configuration) -> int:
    """Width of an input's or neuron's number inside its layer in the core ``c``."""
    return max((max(c.embedding, *c.hidden) - 1).bit_length(), 1)


def layer_bits(c: Configuration) -> int:
    """Width of a layer's number in the core ``c``."""
    return max((c.layers - 1).bit_length(), 1)


def event_layout(c: Configuration) -> data.StructLayout:
    """An event of a known layer in the core ``c``: neuron and value, 1 to 255."""
    return data.StructLayout({"index": index_bits(c), "value": VALUE_FRACTION})


def input_layout(c: Configuration) -> data.StructLayout:
    """An element of the input of the core ``c``: number and value, -254 to 254, not 0."""
    return data.StructLayout({"index": index_bits(c), "value": signed(VALUE_BITS)})


def output_layout() -> data.StructLayout:
    """What leaves the core: the last layer's events of a step, then one beat with ``end`` alone."""
    return data.StructLayout({"index": 16, "value": VALUE_FRACTION, "end": 1})


class Task(IntEnum):
    """What a core with a read-out does with the events of a token's last layer, beside handing them out."""

    EVENTS = 0
    """Nothing."""
    SCORE = 1
    """Tells the log-probability of one word."""
    SAMPLE = 2
    """Draws the word that follows."""
    TOP = 3
    """Tells the most probable words."""


def task_layout() -> data.StructLayout:
    """A token for a core with a read-out, and its `Task`.

    For SCORE, ``group`` is 0 for the head or g + 1 for group g, and ``index`` the entry of the head, or the word's
    number in the group; for TOP, ``index`` is how many words are asked for, 1 to 64. Otherwise both are of no meaning.
    """
    return data.StructLayout({"token": 16, "task": 2, "group": 16, "index": 16})


def result_layout() -> data.StructLayout:
    """What a read-out answers to a token; the last beat of a token has ``end``.

    SCORE: one beat, ``value`` the log-probability (LSB 2^-16 nats). SAMPLE: one beat, ``word`` the word. TOP: as many
    beats as were asked for, the most probable word first, with its log-probability.
    """
    return data.StructLayout({"word": 16, "value": signed(32), "end": 1})


def sampling_layout() -> data.StructLayout:
    """How words are drawn: 256 over the temperature, ``top`` as `egret.model.readout.drawn_from` says it, and the
    generator's state.
    """
    return data.StructLayout({"beta": 16, "top": 7, "state": 64})


def matrix_bits(c: Configuration) -> int:
    """Width of a matrix's number in the core ``c``: those of a layer as in `matrix_kinds`; the read-out's."""
    return max((len(c.matrix_places) - 1).bit_length(), 1)


def group_bits(c: Configuration) -> int:
    """Width of the number of the read-out's head, 0, or of a group, counted from 1, in the core ``c``."""
    return max((c.readout.matrices - 1).bit_length(), 1) if c.readout else 1


def column_layout(c: Configuration) -> data.StructLayout:
    """A column of weights of the core ``c``, what it is to be multiplied with, and the matrix it belongs to."""
    return data.StructLayout(
        {"column": max((c.columns - 1).bit_length(), 1), "value": signed(VALUE_BITS), "matrix": matrix_bits(c)}
    )


def word_layout(c: Configuration) -> data.StructLayout:
    """A word of packed weights of the core ``c`` with the value and the matrix of its column.

    ``first`` tells a column's first word, with which ``begins`` counts.
    """
    entry = data.StructLayout({"code": c.weight_bits, "run": c.run_bits})
    return data.StructLayout(
        {
            "entries": data.ArrayLayout(entry, c.lanes),
            "value": signed(VALUE_BITS),
            "matrix": matrix_bits(c),
            "first": 1,
            "begins": memory_layout(c, "columns")["begins"].shape,
        }
    )


def row_layout(c: Configuration) -> data.StructLayout:
    """An address of the first layer and what a folded row of the core ``c`` adds there, one addend a bank."""
    return data.StructLayout(
        {"address": bank_address_bits(c), "addends": data.ArrayLayout(signed(c.accumulator_bits), c.banks)}
    )


def bank_address_bits(c: Configuration) -> int:
    """Width of an address in a bank of the core ``c``."""
    return max((c.bank_depth - 1).bit_length(), 1)


def add_layout(c: Configuration) -> data.StructLayout:
    """One addition in a bank of the core ``c``."""
    return data.StructLayout({"valid": 1, "address": bank_address_bits(c), "addend": signed(WEIGHT_BITS + VALUE_BITS)})


def access_layout(c: Configuration, gate: int) -> data.StructLayout:
    """One access of a ``gate`` of the core ``c``, by its number in `Configuration.sums`.

    Which of its banks (one bit is set), an address, and what replaces the content (or not).
    """
    return data.StructLayout(
        {
            "banks": len(c.gate_banks(gate)),
            "address": bank_address_bits(c),
            "replace": 1,
            "bias": signed(c.accumulator_bits),
        }
    )


def request_layout(c: Configuration) -> data.StructLayout:
    """A look-up of one neuron's gate in the core ``c``.

    ``replace`` stores ``bias`` in the accumulator; without ``respond`` no value is returned.
    """
    return data.StructLayout(
        {
            "layer": layer_bits(c),
            "neuron": index_bits(c),
            "respond": 1,
            "replace": 1,
            "bias": signed(c.accumulator_bits),
        }
    )


def load_layout(c: Configuration) -> data.StructLayout:
    """A word for a memory of the core ``c``, as `memory_sections` numbers them."""
    return load_bus_layout(max(section.word_bytes for section in memory_sections(c).values()))


def load_bus_layout(word_bytes: int) -> data.StructLayout:
    """A word of up to ``word_bytes`` bytes for a memory: the memory's number, the word's, and the word."""
    return data.StructLayout({"section": 4, "index": 24, "data": 8 * word_bytes})
