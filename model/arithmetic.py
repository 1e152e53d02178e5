"""What the arithmetic of the integer network fixes for everything below it: gates, widths and fractions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CODEBOOK",
    "EVENT_MAX",
    "GATES",
    "INNER",
    "STATE_FRACTION",
    "VALUE_BITS",
    "VALUE_FRACTION",
    "WEIGHT_BITS",
    "half_up",
]

GATES = ("u", "r", "z")
"""Order of the gates in every file and memory: update, reset, candidate."""

INNER = "zy"
"""The fourth sum of a neuron with reset "after", behind those of the gates: what gate r scales and gate z adds."""

WEIGHT_BITS = 8
"""Signed width of a weight that enters a multiplier."""

CODEBOOK = 15
"""Non-zero weights that a matrix with 4-bit codes can have."""

VALUE_BITS = 9
"""Signed width of what enters a multiplier: events are 0..255, embedding values -254..254."""

VALUE_FRACTION = 8
"""Fraction bits of an event value."""

EVENT_MAX = 255
"""The largest value of an event."""

STATE_FRACTION = 14
"""Fraction bits of a neuron's state."""


def half_up(value: "np.ndarray", bits: "int | np.ndarray") -> "np.ndarray":
    """``value / 2^bits`` rounded to the nearest integer, halves upwards; ``bits`` >= 1."""
    return (value + (1 << (bits - 1))) >> bits
