"""The one configuration object of a generated core.

Everything below the integer network (image, core, virtual board, bitstream) is made from a `Configuration`. It fixes
the shape of the hardware, not the numbers in it: two networks of one shape run on the same build.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import accumulate

from egret.model.errors import InputError

__all__ = [
    "GATES", "SEGMENTS", "STATE_FRACTION", "TARGETS", "TINY", "VALUE_BITS", "VALUE_FRACTION", "WEIGHT_BITS",
    "Configuration",
]

GATES = ("u", "r", "z")
"""Order of the gates in every file and memory: update, reset, candidate."""

SEGMENTS = ("x", "y", "s")
"""Kinds of weight column of a layer: input x, previous output y' (gates u and r), reset output s = r * y' (gate z)."""

WEIGHT_BITS = 8
VALUE_BITS = 9
"""Signed width of what enters a multiplier: events are 0..255, embedding values -254..254."""
VALUE_FRACTION = 8
STATE_FRACTION = 14

FORMAT = 1
"""Counts changes of the arithmetic or of a memory's layout; part of the digest."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Shape of a core.

    Parameters
    ----------
    vocabulary : int
        Number of tokens V, 2 to 65536.
    embedding : int
        Width E of the input embedding, 1 to 16384.
    hidden : tuple of int
        Neurons of each layer, 1 to 16384 each.
    lanes : int
        Multiply-accumulate lanes, a power of two, 1 to 32. There are twice as many accumulator banks.
    weight_bytes : int
        Size of the weight memory in bytes.
    accumulator_bits : int
        Width of an accumulator, 16 to 24 (the integer network relies on 24 bits being exact in float32).
    gate_index_bits : int
        Address width of each gate table, 8 to 12.

    Raises
    ------
    InputError
        A parameter is outside its range.
    """

    vocabulary: int
    embedding: int
    hidden: tuple[int, ...]
    lanes: int = 8
    weight_bytes: int = 128 * 1024
    accumulator_bits: int = 24
    gate_index_bits: int = 10

    def __post_init__(self):
        def check(name, value, low, high):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"configuration: {name} must be an integer from {low} to {high}, not {value!r}")
        check("vocabulary", self.vocabulary, 2, 1 << 16)
        check("embedding", self.embedding, 1, 1 << 14)
        if not isinstance(self.hidden, tuple) or not 1 <= len(self.hidden) <= 15:
            raise InputError(f"configuration: hidden must be a tuple of 1 to 15 layer sizes, not {self.hidden!r}")
        for layer, size in enumerate(self.hidden):
            check(f"hidden[{layer}]", size, 1, 1 << 14)
        if type(self.lanes) is not int or self.lanes not in (1, 2, 4, 8, 16, 32):
            raise InputError(f"configuration: lanes must be 1, 2, 4, 8, 16 or 32, not {self.lanes!r}")
        check("weight_bytes", self.weight_bytes, 1, 1 << 27)
        check("accumulator_bits", self.accumulator_bits, 16, 24)
        check("gate_index_bits", self.gate_index_bits, 8, 12)
        if self.weight_words < 1:
            raise InputError(f"configuration: weight_bytes must be at least {(self.word_bits + 7) // 8} (one word), "
                             f"not {self.weight_bytes}")

    # Shape.

    @property
    def layers(self):
        """Number of layers."""
        return len(self.hidden)

    @property
    def neurons(self):
        """Neurons of all layers together."""
        return sum(self.hidden)

    def inputs(self, layer):
        """Number of inputs of a layer."""
        return self.hidden[layer - 1] if layer else self.embedding

    @cached_property
    def neuron_base(self):
        """First position of each layer in the memories with one word a neuron."""
        return tuple(accumulate(self.hidden[:-1], initial=0))

    # Accumulators. Row 3 * i + g of a layer is gate g of neuron i; its bank is the row modulo the number of banks.

    @property
    def banks(self):
        """Accumulator banks."""
        return 2 * self.lanes

    @property
    def bank_bits(self):
        """Low bits of a row that select its bank."""
        return (self.banks - 1).bit_length()

    @property
    def row_bits(self):
        """Width of a row number inside its layer."""
        return max((3 * max(self.hidden) - 1).bit_length(), self.bank_bits)

    @cached_property
    def bank_base(self):
        """First address of each layer in every bank."""
        sizes = [-(-3 * size // self.banks) for size in self.hidden]
        return tuple(accumulate(sizes[:-1], initial=0))

    @property
    def bank_depth(self):
        """Words of a bank."""
        return self.bank_base[-1] + -(-3 * self.hidden[-1] // self.banks)

    # Weights: words of one entry a lane, an entry being {weight, row}; columns of words, one a source.

    @property
    def entry_bits(self):
        """Bits of a packed non-zero: weight, then row."""
        return WEIGHT_BITS + self.row_bits

    @property
    def word_bits(self):
        """Bits of a word of the weight memory."""
        return self.lanes * self.entry_bits

    @property
    def weight_words(self):
        """Words of the weight memory."""
        return self.weight_bytes * 8 // self.word_bits

    @cached_property
    def column_base(self):
        """First column of each layer's segments: ``column_base[layer][segment]``."""
        bases, base = [], 0
        for layer, size in enumerate(self.hidden):
            bases.append({"x": base, "y": base + self.inputs(layer), "s": base + self.inputs(layer) + size})
            base += self.inputs(layer) + 2 * size
        return tuple(bases)

    @property
    def columns(self):
        """Number of columns of all layers together."""
        return self.column_base[-1]["s"] + self.hidden[-1]

    @property
    def start_bits(self):
        """Width of a column's first word address."""
        return max((self.weight_words - 1).bit_length(), 1)

    @property
    def count_bits(self):
        """Width of a column's word count."""
        return (-(-3 * max(self.hidden) // self.lanes)).bit_length()

    # Gate tables.

    @property
    def sigmoid_fraction(self):
        """Fraction bits of the sigmoid table's signed index, which spans -8 to 8."""
        return self.gate_index_bits - 4

    @property
    def tanh_fraction(self):
        """Fraction bits of the tanh table's signed index, which spans -4 to 4."""
        return self.gate_index_bits - 3

    # Interchange.

    def to_json(self):
        """Canonical JSON text; the same configuration always gives the same text."""
        return json.dumps(asdict(self) | {"format": FORMAT}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text):
        """Read what `to_json` wrote. Raises `InputError` for anything else."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"configuration: not JSON ({error})") from None
        names = {field.name for field in fields(cls)} | {"format"}
        if not isinstance(values, dict) or set(values) != names:
            raise InputError(f"configuration: must be an object with exactly the keys {', '.join(sorted(names))}")
        if values.pop("format") != FORMAT:
            raise InputError(f"configuration: format must be {FORMAT}; compile the image again")
        if isinstance(values["hidden"], list):
            values["hidden"] = tuple(values["hidden"])
        return cls(**values)

    @property
    def digest(self):
        """Eight bytes that name this configuration: the head of the SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).digest()[:8]


TARGETS = {
    "default": {"lanes": 8, "weight_bytes": 128 * 1024},
    "icebreaker": {"lanes": 4, "weight_bytes": 128 * 1024},
    "ulx3s": {"lanes": 8, "weight_bytes": 256 * 1024},
}
"""Named parameters of `Configuration`; the sizes come from the network."""

TINY = Configuration(vocabulary=5, embedding=3, hidden=(4, 3), lanes=2, weight_bytes=1024)
"""The smallest configuration with two layers: for tests and first waveforms."""
