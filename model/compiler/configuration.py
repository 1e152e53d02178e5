"""The one configuration object of a generated core.

Everything below the integer network (image, core, virtual board, bitstream) is made from a `Configuration`. It fixes
the shape of the hardware, not the numbers in it: two networks of one shape run on the same build.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

from egret.model.arithmetic import GATES, INNER, WEIGHT_BITS
from egret.model.errors import InputError
from egret.model.files import MOST_TOKENS

__all__ = [
    "DDR3_RATIO",
    "GOALS",
    "MEMORY_RATIOS",
    "MEMORY_WORDS",
    "RESIDENT_BYTES",
    "RUN_BITS",
    "SDRAM_BITS",
    "SDRAM_WORDS",
    "SDR_RATIOS",
    "MATRIX_KINDS",
    "STORES",
    "READOUT_KINDS",
    "ReadoutShape",
    "TARGETS",
    "TINY",
    "TOKEN_BITS",
    "WIDEST_RUN",
    "WINDOW",
    "Configuration",
    "first_bank",
    "pointer_bits",
    "token_bits",
]

MATRIX_KINDS = ("x", "y", "s")
"""The matrices of a layer by what they multiply: input x, previous output y' (gates u and r), reset output s = r * y'
(gate z). With reset "after" there is no s: y' is multiplied for gate z, too."""

READOUT_KINDS = ("head", "group")
"""The matrices of a read-out: that of its head, and those of its groups of words, which take turns."""

RUN_BITS = 4
"""Bits of a zero run that every entry has; an entry that is no weight skips this power of two, or a multiple."""
WIDEST_RUN = 8
WINDOW = 6
"""Neighbouring accumulator banks that a lane reaches: lane l those from 2 l - 2 to 2 l + 3."""
GOALS = ("speed", "size")
"""What zero runs can be made wide for; see `egret.model.compiler.compile.configuration_for`."""

STORES = ("bram", "spram", "sdram")
"""Where the weights are."""
SDRAM_BITS = 16
"""Width of an SDRAM."""
SDR_RATIOS = (1, 2)
"""Clock of an SDRAM, over that of the core."""
DDR3_RATIO = 4
"""Stands for a DDR3: its clock is twice that of the core, and it brings two words in each of its own cycles."""
MEMORY_RATIOS = (*SDR_RATIOS, DDR3_RATIO)
"""Words of 16 bits that an SDRAM can bring in a cycle of the core."""
MEMORY_WORDS = 1 << 24
"""Words that a memory may have: the link counts no further."""
TOKEN_BITS = 16
"""Of a token in most cores, and of a word in a read-out."""
SDRAM_WORDS = MEMORY_WORDS
"""Words of an SDRAM that a core can use: 32 MB. Of a DDR3 it uses as many for each of the sections there."""
RESIDENT_BYTES = 128 * 1024
"""Of weights in block RAM beside an SDRAM: what an ECP5-85F has left."""

BLOCK_WORDS = 1 << 14
"""Words of an SDRAM that have a CRC together."""

FORMATS = {"bram": 6, "spram": 6, "sdram": 7}
"""Counts, for each store, changes of the arithmetic or of a memory's layout; part of the digest."""


def token_bits(tokens: int) -> int:
    """Width of what a step begins with, in a core of so many ``tokens``: `TOKEN_BITS`, or more where they need it."""
    return max(TOKEN_BITS, (tokens - 1).bit_length())


def first_bank(lane: int) -> int:
    """Number of the first bank of a lane's window, negative where there is no such bank."""
    return 2 * lane - 2


def pointer_bits(words: int, span: int) -> tuple[int, int, int]:
    """Widths of the numbers in a column's pointer.

    Parameters
    ----------
    words : int
        Of weights.
    span : int
        The largest one of a matrix.

    Returns
    -------
    start, count, block : int
        Of the first word; of the number of words, where a lane that did all of its two home banks would need two spans;
        and of an address counted in steps of 2^`RUN_BITS`.
    """
    return (
        max((words - 1).bit_length(), 1),
        (3 * span).bit_length(),
        max((span - 1).bit_length() - RUN_BITS, 1),
    )


@dataclass(frozen=True, kw_only=True)
class ReadoutShape:
    """Shape of a read-out (`egret.model.readout`).

    Parameters
    ----------
    head : int
        Words of the head, 0 to 65536.
    groups : int
        Number of groups, 0 to 1024.
    group_size : int
        Words of the largest group, 1 to 16384; 0 without groups.
    rows : int
        Rows of the head that stand for one group: 1, 2, 4, 8 or 16.

    Raises
    ------
    InputError
        A parameter is outside its range.
    """

    head: int
    groups: int = 0
    group_size: int = 0
    rows: int = 1

    def __post_init__(self):
        least = 1 if self.groups else 0
        for name, low, high in (
            ("head", 1 - least, 1 << TOKEN_BITS),
            ("groups", 0, 1 << 10),
            ("group_size", least, least << 14),
            ("rows", 1, 16),
        ):
            if type(value := getattr(self, name)) is not int or not low <= value <= high:
                raise InputError(
                    f"configuration: {name} of the read-out must be an integer from {low} to {high}, not {value!r}"
                )
        if self.rows not in (1, 2, 4, 8, 16):
            raise InputError(f"configuration: rows of the read-out must be 1, 2, 4, 8 or 16, not {self.rows}")

    @property
    def entries(self) -> int:
        """Entries of the head: its words, and the rows that stand for groups."""
        return self.head + self.groups * self.rows

    @property
    def matrices(self) -> int:
        """The head and the groups."""
        return 1 + self.groups


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Shape of a core.

    Parameters
    ----------
    vocabulary : int
        Number of tokens V, 2 to 1048576, or to 65536 with a read-out; or 0, for a part of a network whose input is
        events, those of another core.
    embedding : int
        Width E of the input embedding, or neurons whose events enter, 1 to 16384.
    hidden : tuple of int
        Neurons of each layer, 1 to 16384 each.
    lanes : int
        Multiply-accumulate lanes, a power of two, 1 to 32. There are twice as many accumulator banks.
    weight_bits : int
        Bits of a stored weight: 8, or 4 for a code into a codebook of 15 values a matrix.
    weight_words : int
        Words of the weight memory, 1 to 2^24.
    wide_words : tuple of int
        How many of these, from the first one on, have a fifth, sixth, ... bit of each zero run; at most four numbers,
        none larger than the one before.
    resident_words : int
        Words of weights in block RAM beside those in an SDRAM, 0 to 2^20: the first addresses.
    folded_tokens : int
        Tokens, from the first one on, whose folded rows are stored: 0 to ``vocabulary``.
    row_bits, row_shift : int
        Width of a number in a folded row, and how many zeros follow it: 1 to 24, 0 to 23, not more than an accumulator
        together.
    accumulator_bits : int
        Width of an accumulator, 16 to 24 (the integer network relies on 24 bits being exact in float32).
    gate_index_bits : int
        Address width of each gate table, 8 to 12.
    store : str
        ``"bram"``; ``"spram"``, where pointers are read 16 bits at a time; or ``"sdram"``, where weights, embedding and
        folded rows are read in bursts of beats, whole ones. The last two know narrow runs only.
    memory_ratio : int
        Of `MEMORY_RATIOS`. A beat, what an SDRAM brings in a cycle of the core, is as many words of 16 bits. With
        `DDR3_RATIO` the SDRAM is a DDR3.
    compact : bool
        Whether pipelines and queues are as short as they can be, for a chip whose flip-flops are few and whose clock is
        slow.
    readout : ReadoutShape or None
        The read-out that the core makes; None where it ends with the events of its last layer. Not with the store
        ``spram``, and not for a part of a network.
    reset : str
        ``"before"``, or ``"after"``, where a neuron has a fourth sum, that of gate z over y', and gate r scales it.

    Raises
    ------
    InputError
        A parameter is outside its range, or a memory would have more than `MEMORY_WORDS` words.
    """

    vocabulary: int
    embedding: int
    hidden: tuple[int, ...]
    lanes: int = 8
    weight_bits: int = 8
    weight_words: int = 1024
    wide_words: tuple[int, ...] = ()
    resident_words: int = 0
    folded_tokens: int = 0
    row_bits: int = 16
    row_shift: int = 0
    accumulator_bits: int = 24
    gate_index_bits: int = 10
    store: str = "bram"
    memory_ratio: int = 1
    compact: bool = False
    readout: ReadoutShape | None = None
    reset: str = "before"

    def __post_init__(self):
        def check(name, value, low, high):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InputError(f"configuration: {name} must be an integer from {low} to {high}, not {value!r}")

        if type(self.vocabulary) is not int or self.vocabulary:
            check("vocabulary", self.vocabulary, 2, MOST_TOKENS if self.readout is None else 1 << TOKEN_BITS)
        check("embedding", self.embedding, 1, 1 << 14)
        if not isinstance(self.hidden, tuple) or not 1 <= len(self.hidden) <= 15:
            raise InputError(f"configuration: hidden must be a tuple of 1 to 15 layer sizes, not {self.hidden!r}")
        for layer, size in enumerate(self.hidden):
            check(f"hidden[{layer}]", size, 1, 1 << 14)
        if type(self.lanes) is not int or self.lanes not in (1, 2, 4, 8, 16, 32):
            raise InputError(f"configuration: lanes must be 1, 2, 4, 8, 16 or 32, not {self.lanes!r}")
        if type(self.weight_bits) is not int or self.weight_bits not in (4, 8):
            raise InputError(f"configuration: weight_bits must be 4 or 8, not {self.weight_bits!r}")
        check("weight_words", self.weight_words, 1, MEMORY_WORDS)
        if not isinstance(self.wide_words, tuple) or len(self.wide_words) > WIDEST_RUN - RUN_BITS:
            raise InputError(
                f"configuration: wide_words must be a tuple of at most {WIDEST_RUN - RUN_BITS} numbers, "
                f"not {self.wide_words!r}"
            )
        most = self.weight_words
        for index, words in enumerate(self.wide_words):
            check(f"wide_words[{index}]", words, 1, most)
            most = words
        check("resident_words", self.resident_words, 0, 1 << 20)
        check("folded_tokens", self.folded_tokens, 0, self.vocabulary)
        check("accumulator_bits", self.accumulator_bits, 16, 24)
        check("row_bits", self.row_bits, 1, self.accumulator_bits)
        check("row_shift", self.row_shift, 0, self.accumulator_bits - self.row_bits)
        check("gate_index_bits", self.gate_index_bits, 8, 12)
        if self.store not in STORES:
            raise InputError(f"configuration: store must be {' or '.join(STORES)}, not {self.store!r}")
        if self.reset not in ("before", "after"):
            raise InputError(f"configuration: reset must be 'before' or 'after', not {self.reset!r}")
        if type(self.compact) is not bool:
            raise InputError(f"configuration: compact must be true or false, not {self.compact!r}")
        if self.readout is not None:
            if not isinstance(self.readout, ReadoutShape):
                raise InputError(f"configuration: readout must be a ReadoutShape or None, not {self.readout!r}")
            if self.store == "spram" or self.takes_events:
                raise InputError(
                    "configuration: a read-out needs the store bram or sdram, and a vocabulary, not "
                    f"{'events as input' if self.takes_events else 'the store spram'}"
                )
        if self.store != "bram" and self.wide_words:
            raise InputError(
                f"configuration: wide_words must be () with the store {self.store}, not {self.wide_words!r}"
            )
        if type(self.memory_ratio) is not int or self.memory_ratio not in MEMORY_RATIOS:
            raise InputError(f"configuration: memory_ratio must be 1, 2 or 4, not {self.memory_ratio!r}")
        for name, none in (("resident_words", 0), ("memory_ratio", 1)) if self.store != "sdram" else ():
            if (value := getattr(self, name)) != none:
                raise InputError(f"configuration: {name} must be {none} with the store {self.store}, not {value}")
        if self.store != "sdram":
            for name, words in (
                ("vocabulary * embedding", self.vocabulary * self.embedding),
                (f"folded_tokens * {self.row_depth} addresses", self.folded_tokens * self.row_depth),
            ):
                if words > MEMORY_WORDS:
                    raise InputError(
                        f"configuration: {name} must be at most {MEMORY_WORDS} with the store {self.store}, not {words}"
                    )
        else:
            if self.lanes * self.narrow_bits % self.beat_bits:
                raise InputError(
                    f"configuration: lanes must be such that {self.narrow_bits} bits each fill beats of "
                    f"{self.beat_bits} bits with the store sdram, not {self.lanes}"
                )
            if not self.ddr3 and self.sdram_words > SDRAM_WORDS:
                raise InputError(
                    f"configuration: weights, embedding and {self.folded_tokens} folded rows need "
                    f"{2 * self.sdram_words} bytes of SDRAM; it has {2 * SDRAM_WORDS}"
                )
            for name, words in self.sdram_sizes.items():
                if words > MEMORY_WORDS:
                    raise InputError(
                        f"configuration: {name} must be at most {2 * MEMORY_WORDS} bytes of DDR3, not {2 * words}"
                    )

    # Shape.

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.hidden)

    @property
    def neurons(self) -> int:
        """Neurons of all layers together."""
        return sum(self.hidden)

    @property
    def takes_events(self) -> bool:
        """Whether the input is events, not tokens."""
        return self.vocabulary == 0

    @property
    def tokens(self) -> int:
        """Numbers that a step can begin with: tokens, or how many events enter."""
        return self.embedding + 1 if self.takes_events else self.vocabulary

    def inputs(self, layer: int) -> int:
        """Number of inputs of a layer."""
        return self.hidden[layer - 1] if layer else self.embedding

    @cached_property
    def neuron_base(self) -> tuple[int, ...]:
        """First position of each layer in the memories with one word a neuron."""
        return tuple(accumulate(self.hidden[:-1], initial=0))

    # Accumulators. Gates u and r of a layer alternate over the banks, those of gate z come behind them: a layer has
    # `pair_depth` addresses in each bank for the former and `candidate_depth` for the latter. With reset "after" gate z
    # comes first, and its sums over y' last: so the rows of x lie together, and so do those of y.

    @property
    def sums(self) -> tuple[str, ...]:
        """Sums of a neuron: those of the gates, and with reset "after" `INNER`."""
        return GATES if self.reset == "before" else (*GATES, INNER)

    @property
    def banks(self) -> int:
        """Accumulator banks, B = 2 L."""
        return 2 * self.lanes

    @property
    def in_flight(self) -> int:
        """Neurons that the update pass, and events that the reset pass, have under way: more where lanes are faster."""
        return min((2 if self.compact else 4) * self.lanes, 32)

    @property
    def bank_bits(self) -> int:
        """Width of a bank's number."""
        return (self.banks - 1).bit_length()

    def pair_depth(self, layer: int) -> int:
        """Addresses of a bank for the gates u and r of a layer: entry 2 i + g is in bank (2 i + g) mod B."""
        return -(-2 * self.hidden[layer] // self.banks)

    def candidate_depth(self, layer: int) -> int:
        """Addresses of a bank for gate z of a layer: entry i is in bank i mod B."""
        return -(-self.hidden[layer] // self.banks)

    def layer_depth(self, layer: int) -> int:
        """Addresses of a layer in each bank."""
        return self.pair_depth(layer) + (len(self.sums) - 2) * self.candidate_depth(layer)

    @property
    def row_depth(self) -> int:
        """Addresses of a bank to which a folded row adds: the first ones of layer 1."""
        return self.matrix_depth(0, "x")

    @cached_property
    def bank_base(self) -> tuple[int, ...]:
        """First address of each layer in every bank."""
        return tuple(accumulate((self.layer_depth(layer) for layer in range(self.layers - 1)), initial=0))

    def readout_depth(self, kind: str) -> int:
        """Addresses of a bank for a ``kind`` of matrix of the read-out: entry i is in bank i mod B; 0 where none is."""
        if self.readout is None:
            return 0
        return -(-(self.readout.entries if kind == "head" else self.readout.group_size) // self.banks)

    @cached_property
    def readout_base(self) -> dict[str, int]:
        """First address in every bank of the head, and of the group that is being read: dict."""
        head = self.bank_base[-1] + self.layer_depth(self.layers - 1)
        return {"head": head, "group": head + self.readout_depth("head")}

    @property
    def bank_depth(self) -> int:
        """Words of a bank."""
        return self.readout_base["group"] + self.readout_depth("group")

    def place(self, layer: int, gate: int, neuron: Any) -> tuple[Any, Any]:
        """Bank, and address from the layer's first one, of a neuron's accumulator for a gate, by its number in `sums`;
        arrays are taken too.
        """
        entry = neuron if gate >= GATES.index("z") else 2 * neuron + gate
        return entry % self.banks, self.gate_offset(layer, gate) + entry // self.banks

    def gate_offset(self, layer: int, gate: int) -> int:
        """Address, from the layer's first one, where the accumulators of a gate begin, by its number in `sums`."""
        pair, one = self.pair_depth(layer), self.candidate_depth(layer)
        if self.reset == "before":
            return pair if gate == GATES.index("z") else 0
        return (one, one, 0, one + pair)[gate]

    def gate_banks(self, gate: int) -> range:
        """The banks in which the accumulators of a gate lie, by its number in `sums`, as a range."""
        return range(self.banks) if gate >= GATES.index("z") else range(gate, self.banks, 2)

    # Weights: columns of words, one column a source. An entry of a word is {code, run}. A lane walks over positions,
    # bank * span + address, of its rows: it goes on by run + 1, or, where code is 0, by (run + 1) << RUN_BITS.

    @property
    def matrix_kinds(self) -> tuple[str, ...]:
        """The kinds of matrices of a layer, of `MATRIX_KINDS`."""
        return MATRIX_KINDS if self.reset == "before" else MATRIX_KINDS[:2]

    def matrix_gates(self, kind: str) -> tuple[int, ...]:
        """Numbers in `sums` that the rows of a ``kind`` of matrix have."""
        return {"x": (0, 1, 2), "y": (0, 1) if self.reset == "before" else (0, 1, 3), "s": (2,)}[kind]

    def matrix_offset(self, layer: int, kind: str) -> int:
        """Address in a bank, from the layer's first one, where the rows of a ``kind`` of matrix begin."""
        return min(self.gate_offset(layer, gate) for gate in self.matrix_gates(kind))

    def matrix_depth(self, layer: int, kind: str) -> int:
        """Addresses of a bank that the rows of a ``kind`` of matrix of a layer take."""
        pair, one = self.pair_depth(layer), self.candidate_depth(layer)
        return {1: one, 2: pair, 3: pair + one}[len(self.matrix_gates(kind))]

    def matrix_span(self, layer: int, kind: str) -> int:
        """`matrix_depth` of a ``kind`` of matrix of a ``layer``, at least the addresses that an empty entry skips."""
        return max(self.matrix_depth(layer, kind), 1 << RUN_BITS)

    def readout_span(self, kind: str) -> int:
        """The same of a ``kind`` of matrix of the read-out."""
        return max(self.readout_depth(kind), 1 << RUN_BITS)

    @cached_property
    def matrix_places(self) -> tuple[tuple[int, int], ...]:
        """Span, and first address in every bank, of each matrix by its number, the read-out's behind the layers'."""
        places = [
            (self.matrix_span(layer, kind), self.bank_base[layer] + self.matrix_offset(layer, kind))
            for layer in range(self.layers)
            for kind in self.matrix_kinds
        ]
        if self.readout is not None:
            places += [(self.readout_span(kind), self.readout_base[kind]) for kind in READOUT_KINDS]
        return tuple(places)

    def readout_matrix(self, kind: str) -> int:
        """Number of a ``kind`` of matrix of the read-out, behind those of the layers."""
        return len(self.matrix_kinds) * self.layers + READOUT_KINDS.index(kind)

    @property
    def span(self) -> int:
        """The largest span of a matrix."""
        return max(span for span, _ in self.matrix_places)

    @property
    def span_bits(self) -> int:
        """Width of an address within the largest span."""
        return (self.span - 1).bit_length()

    @property
    def run_bits(self) -> int:
        """Bits of the widest zero run."""
        return RUN_BITS + len(self.wide_words)

    @property
    def narrow_bits(self) -> int:
        """Bits of an entry in a word of the narrowest kind."""
        return self.weight_bits + RUN_BITS

    @property
    def weight_memory_bytes(self) -> int:
        """Bytes of the weight memory, all bits of the runs included."""
        bits = self.weight_words * self.narrow_bits + sum(self.wide_words)
        return -(-self.lanes * bits // 8)

    @property
    def resident_bytes(self) -> int:
        """Bytes of the weights in block RAM beside an SDRAM."""
        return self.resident_words * self.lanes * self.narrow_bits // 8

    # What an SDRAM holds: weights, then the embedding, then folded rows. What is read in one burst takes whole beats.

    @property
    def ddr3(self) -> bool:
        """Whether the SDRAM is a DDR3."""
        return self.memory_ratio == DDR3_RATIO

    @property
    def beat_bits(self) -> int:
        """Bits of a beat."""
        return SDRAM_BITS * self.memory_ratio

    @property
    def word_beats(self) -> int:
        """Beats of a word of weights."""
        return self.lanes * self.narrow_bits // self.beat_bits

    @property
    def paired(self) -> bool:
        """Whether each lane multiplies both weights that a word of a read-out has for it in one cycle.

        So it is where an SDRAM can bring such a word in each cycle. Elsewhere a lane takes two cycles for them.
        """
        return self.has_pairs and self.store == "sdram" and self.word_beats == 1

    @property
    def multipliers(self) -> int:
        """Multipliers of the lanes: one each, and where they are `paired` a second one."""
        return self.lanes * (2 if self.paired else 1)

    @property
    def has_pairs(self) -> bool:
        """Whether a word of a read-out has two weights for each lane."""
        return self.readout is not None and self.weight_bits == RUN_BITS

    @property
    def embedding_beats(self) -> int:
        """Beats of a row of the embedding."""
        return -(-self.embedding * WEIGHT_BITS // self.beat_bits)

    @property
    def row_beats(self) -> int:
        """Beats of an address of a folded row."""
        return -(-self.banks * self.row_bits // self.beat_bits)

    @cached_property
    def sdram_sizes(self) -> dict[str, int]:
        """Words of 16 bits of an SDRAM that each of its sections takes: dict, in their order."""
        return {
            "weights": self.weight_words * self.word_beats * self.memory_ratio,
            "embedding": self.vocabulary * self.embedding_beats * self.memory_ratio,
            "rows": self.folded_tokens * self.row_depth * self.row_beats * self.memory_ratio,
        }

    @cached_property
    def sdram_base(self) -> dict[str, int]:
        """First word of 16 bits in an SDRAM of each of its sections: dict."""
        return dict(zip(self.sdram_sizes, accumulate(self.sdram_sizes.values(), initial=0), strict=False))

    @property
    def sdram_words(self) -> int:
        """Words of an SDRAM that are in use."""
        return sum(self.sdram_sizes.values())

    @property
    def checked_blocks(self) -> int:
        """Blocks of `BLOCK_WORDS` in an SDRAM that have a CRC, the last one with fewer words or as many."""
        return -(-self.sdram_words // BLOCK_WORDS) if self.store == "sdram" else 0

    @cached_property
    def column_base(self) -> tuple[dict[str, int], ...]:
        """First column of each layer's matrices: ``column_base[layer][kind]``."""
        bases, base = [], 0
        for layer, size in enumerate(self.hidden):
            bases.append({})
            for kind in self.matrix_kinds:
                bases[-1][kind] = base
                base += self.inputs(layer) if kind == "x" else size
        return tuple(bases)

    @property
    def columns(self) -> int:
        """Number of columns of all layers together."""
        return self.column_base[-1][self.matrix_kinds[-1]] + self.hidden[-1]

    @property
    def start_bits(self) -> int:
        """Width of a column's first word address."""
        return pointer_bits(self.resident_words + self.weight_words, self.span)[0]

    @property
    def count_bits(self) -> int:
        """Width of a column's word count."""
        return pointer_bits(self.resident_words + self.weight_words, self.span)[1]

    @property
    def block_bits(self) -> int:
        """Width of a start's address, counted in steps of 2^`RUN_BITS`."""
        return pointer_bits(self.resident_words + self.weight_words, self.span)[2]

    # Gate tables.

    @property
    def sigmoid_fraction(self) -> int:
        """Fraction bits of the sigmoid table's signed index, which spans -8 to 8."""
        return self.gate_index_bits - 4

    @property
    def tanh_fraction(self) -> int:
        """Fraction bits of the tanh table's signed index, which spans -4 to 4."""
        return self.gate_index_bits - 3

    # Interchange.

    def to_json(self) -> str:
        """Canonical JSON text, the same for the same configuration. It leaves out what is as `_OPTIONAL` says."""
        values = {name: value for name, value in asdict(self).items() if (name, value) not in _OPTIONAL.items()}
        return json.dumps(values | {"format": FORMATS[self.store]}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text that `to_json` wrote. Raises `InputError` for anything else."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"configuration: not JSON ({error})") from None
        names = {field.name for field in fields(cls)} | {"format"}
        if isinstance(values, dict):
            values = _OPTIONAL | values
        if isinstance(values, dict) and isinstance(store := values.get("store"), str) and store in FORMATS:
            if values.get("format", FORMATS[store]) != FORMATS[store]:
                raise InputError(f"configuration: format must be {FORMATS[store]}; compile the image again")
        if not isinstance(values, dict) or set(values) != names:
            raise InputError(
                f"configuration: must be an object with exactly the keys {', '.join(sorted(names - _OPTIONAL.keys()))}"
            )
        del values["format"]
        for name in ("hidden", "wide_words"):
            if isinstance(values[name], list):
                values[name] = tuple(values[name])
        if isinstance(shape := values["readout"], dict):
            if set(shape) != {field.name for field in fields(ReadoutShape)}:
                raise InputError(
                    "configuration: readout must have exactly the keys "
                    + ", ".join(sorted(field.name for field in fields(ReadoutShape)))
                )
            values["readout"] = ReadoutShape(**shape)
        return cls(**values)

    @property
    def digest(self) -> bytes:
        """Eight bytes that name this configuration: the head of the SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).digest()[:8]


_OPTIONAL = {"readout": None, "memory_ratio": 1, "reset": "before"}
"""Parameters that the text of a configuration leaves out where they have these values."""

TARGETS = {
    "default": {"lanes": 8, "weight_bytes": 128 * 1024},
    "icebreaker": {"lanes": 1, "weight_bytes": 64 * 1024, "store": "spram", "compact": True},
    "ulx3s": {"lanes": 8, "weight_bytes": 128 * 1024, "readout": True},
    "sdram": {"store": "sdram"},
    "ddr3": {"store": "sdram", "memory_ratio": DDR3_RATIO, "lanes": 8, "resident_bytes": 0},
}
"""Named lanes and weight memories, for `egret.model.compiler.compile.configuration_for`."""

TINY = Configuration(vocabulary=5, embedding=3, hidden=(4, 3), lanes=2, weight_words=256)
"""The smallest configuration with two layers: for tests and first waveforms."""
