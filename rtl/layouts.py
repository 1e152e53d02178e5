"""Layouts of what the streams inside a core carry, as functions of its `Configuration`."""

from amaranth.hdl import signed
from amaranth.lib import data

from egret.model.arithmetic import STATE_FRACTION, VALUE_BITS, VALUE_FRACTION, WEIGHT_BITS
from egret.model.compiler.configuration import SEGMENTS
from egret.model.compiler.image import memory_sections

__all__ = [
    "GATE",
    "access_layout",
    "add_layout",
    "ahead",
    "bank_address_bits",
    "column_layout",
    "event_layout",
    "index_bits",
    "input_layout",
    "layer_bits",
    "load_bus_layout",
    "load_layout",
    "matrix_bits",
    "output_layout",
    "pointer_layout",
    "request_layout",
    "row_layout",
    "word_layout",
]

GATE = signed(STATE_FRACTION + 2)
"""A gate's value: u and r as 0 to 255, z with 14 fraction bits."""


def ahead(c, latency):
    """Places of a queue behind a memory of some latency: for what is being read, and room beyond that; else one."""
    return 1 if c.compact else latency + 3


def index_bits(c):
    """Width of an input's or neuron's number inside its layer."""
    return max((max(c.embedding, *c.hidden) - 1).bit_length(), 1)


def layer_bits(c):
    """Width of a layer's number."""
    return max((c.layers - 1).bit_length(), 1)


def event_layout(c):
    """An event of a known layer: neuron and value, 1 to 255."""
    return data.StructLayout({"index": index_bits(c), "value": VALUE_FRACTION})


def input_layout(c):
    """An element of the input: number and value, -254 to 254, not 0."""
    return data.StructLayout({"index": index_bits(c), "value": signed(VALUE_BITS)})


def output_layout():
    """What leaves the core: the last layer's events of a step, then one beat with ``end`` alone."""
    return data.StructLayout({"index": 16, "value": VALUE_FRACTION, "end": 1})


def matrix_bits(c):
    """Width of a matrix's number: three a layer, in the order of `SEGMENTS`."""
    return max((len(SEGMENTS) * c.layers - 1).bit_length(), 1)


def column_layout(c):
    """A source whose column of weights is to be multiplied with a value and added, and the matrix it belongs to."""
    return data.StructLayout(
        {"column": max((c.columns - 1).bit_length(), 1), "value": signed(VALUE_BITS), "matrix": matrix_bits(c)}
    )


def begins_layout(c):
    """Where each lane begins in a column: bank from the first one of its window, address in blocks."""
    return data.ArrayLayout(data.StructLayout({"bank": 3, "block": c.block_bits}), c.lanes)


def pointer_layout(c):
    """A word of the memory ``columns``."""
    return data.StructLayout({"start": c.start_bits, "count": c.count_bits, "begins": begins_layout(c)})


def word_layout(c):
    """A word of packed weights with the value and the matrix of its column.

    ``first`` tells a column's first word, with which ``begins`` counts.
    """
    entry = data.StructLayout({"code": c.weight_bits, "run": c.run_bits})
    return data.StructLayout(
        {
            "entries": data.ArrayLayout(entry, c.lanes),
            "value": signed(VALUE_BITS),
            "matrix": matrix_bits(c),
            "first": 1,
            "begins": begins_layout(c),
        }
    )


def row_layout(c):
    """An address of the first layer and what a folded row adds there, one addend a bank."""
    return data.StructLayout(
        {"address": bank_address_bits(c), "addends": data.ArrayLayout(signed(c.accumulator_bits), c.banks)}
    )


def bank_address_bits(c):
    """Width of an address in a bank."""
    return max((c.bank_depth - 1).bit_length(), 1)


def add_layout(c):
    """One addition in a bank."""
    return data.StructLayout({"valid": 1, "address": bank_address_bits(c), "addend": signed(WEIGHT_BITS + VALUE_BITS)})


def access_layout(c, gate):
    """One access of a gate: which of its banks (one bit is set), an address, and what replaces the content (or not)."""
    return data.StructLayout(
        {
            "banks": len(c.gate_banks(gate)),
            "address": bank_address_bits(c),
            "replace": 1,
            "bias": signed(c.accumulator_bits),
        }
    )


def request_layout(c):
    """A look-up of one neuron's gate.

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


def load_layout(c):
    """A word for a memory, as `memory_sections` numbers them."""
    return load_bus_layout(max(section.word_bytes for section in memory_sections(c)))


def load_bus_layout(word_bytes: int) -> data.StructLayout:
    """A word of up to ``word_bytes`` bytes for a memory: the memory's number, the word's, and the word."""
    return data.StructLayout({"section": 4, "index": 24, "data": 8 * word_bytes})
