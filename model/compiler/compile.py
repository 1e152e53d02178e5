"""Compile an integer network into the image of a core, and read one back.

A column holds the non-zero weights of one source: an input x_j (rows of u, r, z), an event y'_j (rows of u, r) or a
reset value s_j (rows of z). Its entries are sorted by position, that is by accumulator bank and then by address, and
cut into as many pieces as there are lanes, one a lane, so that

- each piece fits W words, W being the same for all lanes and as small as possible,
- lane l's piece lies in the `WINDOW` banks around its own two, 2 l and 2 l + 1,
- no two lanes have an entry for one bank in the same word.

A lane meets its entries in rising order of position, so an entry needs only the run of positions before it; a run that
is too long for its field is cut by entries without a weight. Where a lane begins is stored beside the column's pointer.
How wide the field is, is chosen for each matrix (a layer's segment); the matrices lie in the weight memory in falling
order of that width.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from egret.model.arithmetic import CODEBOOK, GATES, WEIGHT_BITS
from egret.model.compiler.configuration import (
    GOALS,
    RESIDENT_BYTES,
    RUN_BITS,
    SDRAM_BITS,
    SDRAM_WORDS,
    SEGMENTS,
    WIDEST_RUN,
    WINDOW,
    Configuration,
    first_bank,
)
from egret.model.compiler.image import Image, memory_sections
from egret.model.compiler.lookups import estimate_lookups
from egret.model.errors import InputError
from egret.model.integer import IntegerLayer, IntegerNetwork
from egret.model.tokens import Vocabulary

__all__ = [
    "Matrix",
    "column_bytes",
    "column_words",
    "compile_image",
    "configuration_for",
    "folded_rows",
    "matrices",
    "pack_matrix",
    "read_image",
    "row_format",
]

_SKIP = 1 << RUN_BITS
_SPEED_SHARE = 1.002  # of the fewest words: what narrower runs may cost when the goal is speed
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Matrix:
    """The non-zero weights of a layer's segment, sorted by source and position.

    Attributes
    ----------
    layer : int
    segment : str
    span : int
        Positions of a bank.
    sources : int
        Number of columns.
    source, position, weight : np.ndarray of int, shape [n]
        Of each weight: its column, bank * span + address, and value.
    """

    layer: int
    segment: str
    span: int
    sources: int
    source: np.ndarray
    position: np.ndarray
    weight: np.ndarray

    def slots(self, run_bits):
        """About how many slots the lanes need with runs of some width: entries, and skips (save a lane's first)."""
        skips = _skips(np.diff(self.position), self.span, run_bits)
        same = np.diff(self.source) == 0
        return len(self.source) + int(skips[same].sum())


def _gate_rows(size, segment):
    """(gate, rows of it in the stacked weight matrix) of a segment."""
    gates = {"x": GATES, "y": GATES[:2], "s": GATES[2:]}[segment]
    return [(GATES.index(gate), slice(GATES.index(gate) * size, (GATES.index(gate) + 1) * size)) for gate in gates]


def _positions(configuration, layer, segment):
    """Position of each row of the stacked weight matrix within a segment: int64 [3H], -1 where it has none."""
    c, size = configuration, configuration.hidden[layer]
    positions = np.full(3 * size, -1)
    for gate, rows in _gate_rows(size, segment):
        bank, address = c.place(layer, gate, np.arange(size))
        positions[rows] = bank * c.segment_span(layer, segment) + address - c.segment_offset(layer, segment)
    return positions


def matrices(parameters, configuration):
    """All matrices of a network, in the order of their columns: list of `Matrix`."""
    result = []
    for number, layer in enumerate(parameters.layers):
        for segment in SEGMENTS:
            weights = layer.weight_x if segment == "x" else layer.weight_y
            positions = _positions(configuration, number, segment)
            rows = np.argsort(positions, kind="stable")[np.count_nonzero(positions < 0) :]
            sources, places = np.nonzero(weights[rows].T)
            result.append(
                Matrix(
                    number,
                    segment,
                    configuration.segment_span(number, segment),
                    weights.shape[1],
                    sources,
                    positions[rows[places]],
                    weights[rows[places], sources],
                )
            )
    return result


def _most_values(parameters):
    """Most non-zero values that a matrix has."""
    return max(
        np.count_nonzero(np.unique(np.concatenate([weights[rows] for _, rows in _gate_rows(size, segment)])))
        for layer, size in zip(parameters.layers, parameters.hidden, strict=True)
        for segment, weights in (("x", layer.weight_x), ("y", layer.weight_y), ("s", layer.weight_y))
    )


def _skips(distance, span, run_bits):
    """Entries without a weight that it takes to go on by some distances (0 or more) with runs of some width."""
    return np.maximum(0, -(-(distance - (1 << run_bits)) // _farthest(span, run_bits)))


def _farthest(span, run_bits):
    """Positions that one entry without a weight can go on by: it passes the ends of at most two banks."""
    return _SKIP * min(1 << run_bits, 2 * span // _SKIP)


def _widest(span):
    """Widest run: in one step a lane may pass the ends of two banks."""
    return min(WIDEST_RUN, span.bit_length())


def _choose(matrix, weight_bits, lanes, goal, wide=True):
    """Width of a matrix's runs that takes the least memory, or next to the fewest words; and the packed matrix."""
    widths = range(RUN_BITS, _widest(matrix.span) + 1)
    if not wide:
        return RUN_BITS, pack_matrix(matrix, RUN_BITS, lanes)
    if goal == "size":
        width = min(widths, key=lambda width: matrix.slots(width) * (weight_bits + width))
        return width, pack_matrix(matrix, width, lanes)
    width, packed = widths[-1], pack_matrix(matrix, widths[-1], lanes)
    most = _SPEED_SHARE * len(packed[0])
    while width > RUN_BITS and len((narrower := pack_matrix(matrix, width - 1, lanes))[0]) <= most:
        width, packed = width - 1, narrower
    return width, packed


def _choose_all(parts, weight_bits, lanes, goal, wide=True):
    """Width of the runs of each matrix, and the packed matrices."""
    return zip(*(_choose(part, weight_bits, lanes, goal, wide) for part in parts), strict=True)


def _words_by_width(widths, packed):
    """How many words have runs of at least 4, 5, ... 8 bits: list of int."""
    return [
        sum(len(part[0]) for part, own in zip(packed, widths, strict=True) if own >= width)
        for width in range(RUN_BITS, WIDEST_RUN + 1)
    ]


def _shape(parameters):
    """Parameters of `Configuration` that are the network's: dict."""
    vocabulary, embedding = parameters.embedding.shape
    return {
        "vocabulary": vocabulary,
        "embedding": embedding,
        "hidden": parameters.hidden,
        "accumulator_bits": parameters.accumulator_bits,
        "gate_index_bits": parameters.gate_index_bits,
    }


def pack_matrix(matrix, run_bits, lanes):
    """Deal the entries of all columns of a matrix out to words.

    Parameters
    ----------
    matrix : Matrix
    run_bits : int
        Width of a run, `RUN_BITS` to `WIDEST_RUN`, with 2^run_bits no more than two spans.
    lanes : int
        L.

    Returns
    -------
    weights : int8 [words, L]
        0 where a lane has none.
    runs : uint8 [words, L]
    counts : int64 [sources]
        Words of each column; they follow each other.
    starts : int64 [sources, L, 2]
        Where each lane begins: bank, counted from the first one of its window, and address in steps of 2^`RUN_BITS`.
    """
    total, span = len(matrix.source), matrix.span
    ends = np.searchsorted(matrix.source, np.arange(matrix.sources), side="right")
    begins = np.concatenate([[0], ends[:-1]])
    distance = np.diff(matrix.position, prepend=0)
    skips = _skips(distance, span, run_bits)
    cost = np.cumsum(1 + skips)  # slots up to and with each entry
    bank = matrix.position // span
    key = matrix.source * (2 * lanes) + bank
    counts = -(-(ends - begins) // lanes)
    first = np.zeros((matrix.sources, lanes + 1), np.int64)  # entry with which each lane begins
    open_columns = np.flatnonzero(counts)
    while len(open_columns):
        columns = open_columns
        place, end, words = begins[columns].copy(), ends[columns], counts[columns]
        good = np.ones(len(columns), bool)
        for lane in range(lanes):
            first[columns, lane] = place
            low, high = first_bank(lane), first_bank(lane) + WINDOW - 1
            entry = np.minimum(place, total - 1)
            mine = (place < end) & (bank[entry] <= high)
            good &= ~mine | (bank[entry] >= low)
            fits = np.searchsorted(cost, cost[entry] - 1 + words, side="right")
            reach = np.searchsorted(key, columns * (2 * lanes) + high, side="right")
            place = np.where(mine, np.minimum(np.minimum(fits, reach), end), place)
        first[columns, lanes] = place
        good &= place == end
        # No bank twice in a word.
        entries, lane, slot = _slots(columns[good], begins, ends, first, cost)
        word = np.stack([matrix.source[entries], slot, bank[entries]])
        order = np.lexsort(word)
        twice = (np.diff(word[:, order]) == 0).all(axis=0)
        good[np.isin(columns, word[0, order][:-1][twice])] = False
        open_columns = columns[~good]
        counts[open_columns] += 1

    used = np.flatnonzero(counts)
    entries, lane, slot = _slots(used, begins, ends, first, cost)
    base = np.cumsum(counts) - counts
    place = base[matrix.source[entries]] + slot
    weights = np.zeros((int(counts.sum()), lanes), np.int8)
    runs = np.zeros(weights.shape, np.uint8)
    is_first = first[matrix.source[entries], lane] == entries
    weights[place, lane] = matrix.weight[entries]
    # An entry's skips lie in the slots before it; each goes as far as it may, the last one so that a run remains.
    farthest = _farthest(span, run_bits)
    left = np.where(is_first, 1 + matrix.position[entries] % span % _SKIP, distance[entries])
    count = np.where(is_first, 0, skips[entries])
    while (more := np.flatnonzero(count)).size:
        last = count[more] == 1
        jump = np.where(last, -(-(left[more] - (1 << run_bits)) // _SKIP) * _SKIP, farthest)
        runs[place[more] - count[more], lane[more]] = jump // _SKIP - 1
        left[more] -= jump
        count[more] -= 1
    runs[place, lane] = left - 1
    starts = np.zeros((matrix.sources, lanes, 2), np.int64)
    begin = np.flatnonzero(is_first)
    at = matrix.position[entries[begin]]
    starts[matrix.source[entries[begin]], lane[begin], 0] = at // span - first_bank(lane[begin])
    starts[matrix.source[entries[begin]], lane[begin], 1] = at % span // _SKIP
    return weights, runs, counts, starts


def _slots(columns, begins, ends, first, cost):
    """Entries of some columns, the lane that each was dealt to, and its place among the lane's slots."""
    sizes = ends[columns] - begins[columns]
    entries = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins[columns], sizes)
    owner = np.repeat(columns, sizes)
    lane = (first[owner, 1:] <= entries[:, None]).sum(axis=1)
    return entries, lane, cost[entries] - cost[first[owner, lane]]


def configuration_for(
    parameters, *, weight_bytes=None, weight_bits=None, goal="speed", resident_bytes=RESIDENT_BYTES, **options
):
    """Configuration of a core for a network.

    Parameters
    ----------
    parameters : IntegerNetwork
    weight_bytes : int, optional
        Size of the weight memory; just large enough for the network when not given. The words with wide runs are as
        many as the network needs, the other ones what remains.
    resident_bytes : int
        With the store ``sdram``: block RAM for the columns that are looked up most often.
    weight_bits : int, optional
        8, or 4 where no matrix has more than `CODEBOOK` values; 4 where possible when not given.
    goal : str
        ``"speed"`` for runs so wide that hardly a slot is lost, ``"size"`` for the least memory.
    **options
        Any of the other parameters of `Configuration`, e.g. ``lanes``. With the store ``sdram``, where they are not
        given: twice the lanes that the memory feeds, and as many folded rows as find room beside the rest. A core with
        the store ``spram`` is compact where that is not given, since chips with that memory are small and slow.

    Returns
    -------
    Configuration

    Raises
    ------
    InputError
        An option is not accepted, or the network does not fit the weight memory, saying what it needs.
    """
    if goal not in GOALS:
        raise InputError(f"the goal of packing must be {' or '.join(GOALS)}, not {goal!r}")
    options |= _shape(parameters)
    if weight_bits is None:
        weight_bits = 4 if _most_values(parameters) <= CODEBOOK else 8
    folded = options.pop("folded_tokens", None)
    options.setdefault("compact", options.get("store") == "spram")
    if options.get("store") == "sdram":
        options.setdefault("lanes", 4)
    elif folded is None:
        folded = 0
    bare = Configuration(**options, weight_bits=weight_bits)
    parts = matrices(parameters, bare)
    widths, packed = _choose_all(parts, weight_bits, bare.lanes, goal, bare.store == "bram")
    words, *wide = _words_by_width(widths, packed)
    wide = tuple(count for count in wide if count)
    resident = min(words, 8 * resident_bytes // (bare.lanes * bare.narrow_bits)) if bare.store == "sdram" else 0
    # Which words are resident is for the image to say: the SDRAM has room for all of them, unless there is no choice.
    weight_words = 1 if words == resident else words
    needed = Configuration(
        **options, weight_bits=weight_bits, weight_words=max(1, weight_words), wide_words=wide, resident_words=resident
    )
    if folded != 0:
        row_bits, row_shift = row_format(parameters, folded)
        needed = dataclasses.replace(needed, row_bits=row_bits, row_shift=row_shift)
    if folded is None:
        row = needed.layer_depth(0) * needed.row_beats
        folded = min(needed.vocabulary, (SDRAM_WORDS - needed.sdram_words) // row)
    needed = dataclasses.replace(needed, folded_tokens=folded)
    if weight_bytes is None:
        return needed
    narrow = (8 * weight_bytes // needed.lanes - sum(wide)) // needed.narrow_bits
    if narrow < needed.weight_words:
        raise _too_small(needed, needed.weight_words, weight_bytes)
    return dataclasses.replace(needed, weight_words=narrow)


def folded_rows(parameters, tokens):
    """What the embedding of each of some tokens adds to the accumulators of the first layer: int32 [tokens, 3H], gates
    stacked.

    Exactly the sum that the columns of x would add, by the definition of the integer network, in which no sum is
    more than 24 bits wide.

    Parameters
    ----------
    parameters : IntegerNetwork
    tokens : int or slice
        The first so many, or which.
    """
    chosen = tokens if isinstance(tokens, slice) else slice(tokens)
    values = 2 * parameters.embedding[chosen].astype(np.float32)
    return (values @ parameters.layers[0].weight_x.T.astype(np.float32)).astype(np.int32)


def row_format(parameters, tokens=None):
    """Width of the narrowest numbers that hold the folded rows of the first tokens, or of all, and how many zeros end
    all of these: (bits, shift), as a `Configuration` has them."""
    tokens = len(parameters.embedding) if tokens is None else tokens
    least, most, ones = 0, 0, 0
    for start in range(0, tokens, _ROWS_AT_ONCE):
        rows = folded_rows(parameters, slice(start, min(start + _ROWS_AT_ONCE, tokens)))
        least, most = min(least, int(rows.min())), max(most, int(rows.max()))
        ones |= int(np.bitwise_or.reduce(rows, axis=None))
    shift = (ones & -ones).bit_length() - 1 if ones else 0
    return max(most >> shift, ~(least >> shift)).bit_length() + 1, shift


def compile_image(parameters, configuration, *, lookups=None):
    """Compile a network for a core.

    Parameters
    ----------
    parameters : IntegerNetwork
    configuration : Configuration
    lookups : list of np.ndarray, one a layer, optional
        How often each column is looked up, which decides what is resident; `estimate_lookups` when not given, save for
        a part of a network, which writes no text: there the first columns are resident.

    Returns
    -------
    Image

    Raises
    ------
    InputError
        The configuration has another shape than the network, too small a weight memory, or runs or weights that are
        too narrow for it.
    """
    c = configuration
    for name, value in _shape(parameters).items():
        if getattr(c, name) != value:
            raise InputError(f"the core is built for {name} {getattr(c, name)}; the network has {value}")
    parts = matrices(parameters, c)
    codebooks = [np.unique(part.weight) for part in parts]
    if c.weight_bits == 4 and (most := max(map(len, codebooks))) > CODEBOOK:
        raise InputError(f"the core is built for 4-bit weights, {CODEBOOK} a matrix; the network has up to {most}")
    packed, widths = _pack_into(parts, c)
    weights, runs, counts, begins = (np.concatenate(part) for part in zip(*packed, strict=True))
    weights = weights.astype(np.uint8)
    if c.weight_bits == 4:
        weights = np.concatenate(
            [
                np.where(part == 0, 0, 1 + np.searchsorted(codebook, part))
                for (part, *_), codebook in zip(packed, codebooks, strict=True)
            ]
        )
    sections = {section.name: section for section in memory_sections(c)}
    resident = np.zeros(0, np.int64)
    if c.resident_words:
        if lookups is None and parameters.readout_bias is not None and counts.sum() > c.resident_words:
            lookups = estimate_lookups(parameters, c.folded_tokens)
        resident = _resident(parts, counts, np.zeros(len(counts)) if lookups is None else np.concatenate(lookups), c)
    # Words with wide runs come first.
    others = np.argsort(-np.repeat(widths, [part.sources for part in parts]), kind="stable")
    others = others[~np.isin(others, resident)]
    starts = np.zeros(len(counts), np.int64)
    for columns, base in ((resident, 0), (others, c.resident_words)):
        starts[columns] = base + np.cumsum(counts[columns]) - counts[columns]
    if (need := int(counts[others].sum())) > c.weight_words:
        raise _too_small(c, need, c.weight_memory_bytes)

    def words_of(columns):
        own = counts[columns]
        return np.repeat((np.cumsum(counts) - counts)[columns] - (np.cumsum(own) - own), own) + np.arange(own.sum())

    def narrow(at):
        return _to_words(
            [
                field
                for lane in range(c.lanes)
                for field in ((weights[at, lane], c.weight_bits), (runs[at, lane] & (_SKIP - 1), RUN_BITS))
            ]
        )

    at = words_of(others)
    memories = {
        "weights": narrow(at),
        "columns": _to_words(
            [
                (np.where(counts > 0, starts, 0), c.start_bits),
                (counts, c.count_bits),
                *(
                    field
                    for lane in range(c.lanes)
                    for field in ((begins[:, lane, 0], 3), (begins[:, lane, 1], c.block_bits))
                ),
            ]
        ),
        "bias": b"".join(
            _to_words([(part, c.accumulator_bits) for part in np.split(layer.bias, 3)]) for layer in parameters.layers
        ),
        "threshold": np.concatenate([layer.threshold for layer in parameters.layers]).astype("<u2").tobytes(),
        "shift": bytes(shift for layer in parameters.layers for shift in layer.shift),
    }
    if not c.takes_events:
        memories["embedding"] = parameters.embedding.astype(np.int8).tobytes()
    if c.resident_words:
        memories["resident"] = narrow(words_of(resident)).ljust(
            c.resident_words * sections["resident"].word_bytes, b"\0"
        )
    for bit, count in enumerate(c.wide_words, RUN_BITS):
        memories[f"run_{bit}"] = _to_words([(runs[at[:count], lane] >> bit & 1, 1) for lane in range(c.lanes)])
    if c.weight_bits == 4:
        memories["codebook"] = b"".join(
            b"\0" + values.astype(np.int8).tobytes() + bytes(CODEBOOK - len(values)) for values in codebooks
        )
    if c.folded_tokens:
        bits, shift = row_format(parameters, c.folded_tokens)
        if shift < c.row_shift or bits + shift > c.row_bits + c.row_shift:
            raise InputError(
                f"the core is built for folded rows of {c.row_bits} bits followed by {c.row_shift} zeros; "
                f"the network's have {bits} and {shift}"
            )
        memories["rows"] = _row_words(folded_rows(parameters, c.folded_tokens), c)
    assert set(memories) == set(sections)
    vocabulary, bias, weight = parameters.vocabulary, parameters.readout_bias, parameters.readout_weight
    return Image(
        configuration=c,
        memories=memories,
        vocabulary_kind="word" if vocabulary is None else vocabulary.kind,
        vocabulary=b"" if vocabulary is None else vocabulary.to_bytes(),
        readout_fraction=parameters.readout_fraction,
        readout_bias=b"" if bias is None else bias.astype("<i4").tobytes(),
        readout_weight=b"" if weight is None else weight.astype(np.int8).tobytes(),
    )


def _resident(parts, counts, lookups, c):
    """Numbers of the columns that shall be resident, in falling order of how often they are looked up.

    Those that are looked up most often, as many as fit; but of a matrix no more than leave time for its others to come,
    each in `word_beats` cycles, while all are sent, a word a cycle; and a twentieth more, for gaps between bursts, and
    because no two tokens are alike.
    """
    part = np.repeat(np.arange(len(parts)), [matrix.sources for matrix in parts])
    sent, room = counts * lookups, c.resident_words
    left = np.bincount(part, sent) * (1 - 1 / c.word_beats + 1 / 20)
    chosen = []
    for column in np.argsort(-lookups, kind="stable"):
        if 0 < counts[column] <= room and sent[column] <= left[part[column]]:
            chosen.append(column)
            room -= counts[column]
            left[part[column]] -= sent[column]
    return np.array(chosen, np.int64)


def _too_small(c, words, weight_bytes):
    """The error of a weight memory that has fewer words than a network needs."""
    need = dataclasses.replace(c, weight_words=words).weight_memory_bytes
    return InputError(
        f"the network needs {need} bytes of weight memory, the store has {weight_bytes}; "
        "prune further, or compile with --weight-bytes"
    )


def _fits(packed, widths, c):
    """Whether packed matrices fit a weight memory, whose words with wide runs are limited."""
    limits = (c.resident_words + c.weight_words, *c.wide_words, *[0] * (WIDEST_RUN - c.run_bits))
    return all(words <= limit for words, limit in zip(_words_by_width(widths, packed), limits, strict=True))


def _pack_into(parts, c):
    """Packed matrices and their run widths, for a configuration made for them, or for others of their shape."""
    for goal in GOALS if c.wide_words else ():
        widths, packed = _choose_all(parts, c.weight_bits, c.lanes, goal)
        if _fits(packed, widths, c):
            return packed, widths
    widths, packed = _choose_all(parts, c.weight_bits, c.lanes, goal=None, wide=False)
    if _fits(packed, widths, c):
        return packed, widths
    raise _too_small(c, sum(len(part[0]) for part in packed) - c.resident_words, c.weight_memory_bytes)


def _row_words(rows, c):
    """Folded rows [tokens, 3H] as words of one number a bank, a word an address of the first layer."""
    size = c.hidden[0]
    table = np.zeros((len(rows), c.layer_depth(0), c.banks), np.int64)
    for gate in range(len(GATES)):
        bank, address = c.place(0, gate, np.arange(size))
        table[:, address, bank] = rows[:, gate * size : (gate + 1) * size]
    flat = table.reshape(-1, c.banks) >> c.row_shift
    fields = [(flat[:, bank], c.row_bits) for bank in range(c.banks)]
    if c.store == "sdram":
        fields.append((np.zeros(len(flat), np.int64), c.row_beats * SDRAM_BITS - c.banks * c.row_bits))
    return _to_words(fields)


def _to_words(fields):
    """Pack fields (integers [n], bits), the first one lowest, into little-endian words of whole bytes."""
    count, total = len(fields[0][0]), sum(bits for _, bits in fields)
    bits = np.zeros((count, -(-total // 8) * 8), np.uint8)
    at = 0
    for values, width in fields:
        bytes_of = np.ascontiguousarray(np.asarray(values).astype("<i8")).view(np.uint8).reshape(count, 8)
        bits[:, at : at + width] = np.unpackbits(bytes_of, axis=1, count=width, bitorder="little")
        at += width
    return np.packbits(bits, axis=1, bitorder="little").tobytes()


def _from_words(data, widths, signed=False):
    """The inverse of `_to_words`: list of int64 [n], one a field."""
    total = sum(widths)
    bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, -(-total // 8)), axis=1, bitorder="little")
    ends = np.cumsum(widths)
    fields = []
    for end, width in zip(ends, widths, strict=True):
        padded = np.zeros((len(bits), 64), np.uint8)
        padded[:, : min(width, 64)] = bits[:, end - width : end][:, :64]
        if signed:
            padded[:, width:] = bits[:, end - 1 : end]
        fields.append(np.packbits(padded, axis=1, bitorder="little").view("<i8")[:, 0])
    return fields


def read_image(image):
    """The integer network that an image was compiled from.

    Parameters
    ----------
    image : Image

    Returns
    -------
    IntegerNetwork

    Raises
    ------
    InputError
        The memories do not hold a network.
    """
    c = image.configuration
    words = _from_words(
        image.memories.get("resident", b"") + image.memories["weights"], [c.weight_bits, RUN_BITS] * c.lanes
    )
    codes, runs = np.stack(words[0::2], axis=1), np.stack(words[1::2], axis=1)
    for bit in range(RUN_BITS, c.run_bits):
        wide = np.stack(_from_words(image.memories[f"run_{bit}"], [1] * c.lanes), axis=1)
        runs[: len(wide)] |= wide << bit
    pointers = _from_words(image.memories["columns"], [c.start_bits, c.count_bits, *[3, c.block_bits] * c.lanes])
    thresholds = np.frombuffer(image.memories["threshold"], "<u2").astype(np.int32)
    biases = np.stack(_from_words(image.memories["bias"], [c.accumulator_bits] * 3, signed=True)).astype(np.int32)
    layers, column = [], 0
    for number, size in enumerate(c.hidden):
        weight = {"x": np.zeros((3 * size, c.inputs(number)), np.int8), "y": np.zeros((3 * size, size), np.int8)}
        weight["s"] = weight["y"]
        for place, segment in enumerate(SEGMENTS):
            own = slice(column, column := column + weight[segment].shape[1])
            if c.weight_bits == 4:
                at = (len(SEGMENTS) * number + place) << c.weight_bits
                book = np.frombuffer(image.memories["codebook"], np.int8)[at : at + CODEBOOK + 1]
            else:
                book = np.arange(1 << WEIGHT_BITS).astype(np.uint8).view(np.int8)
            _unpack_columns(
                codes,
                runs,
                [pointer[own] for pointer in pointers],
                own.start,
                book,
                weight[segment],
                c,
                number,
                segment,
            )
        base = c.neuron_base[number]
        shift = tuple(image.memories["shift"][3 * number : 3 * number + 3])
        layers.append(
            IntegerLayer(
                weight["x"], weight["y"], biases[:, base : base + size].ravel(), thresholds[base : base + size], shift
            )
        )
    readout = None
    if image.readout_weight:
        readout = np.frombuffer(image.readout_weight, np.int8).reshape(c.vocabulary, c.hidden[-1])
    vocabulary = None if c.takes_events else Vocabulary.from_bytes(image.vocabulary, image.vocabulary_kind, "image")
    parameters = IntegerNetwork(
        vocabulary=vocabulary,
        embedding=np.frombuffer(image.memories.get("embedding", b""), np.int8).reshape(c.vocabulary, c.embedding),
        layers=tuple(layers),
        readout_weight=readout,
        readout_bias=np.frombuffer(image.readout_bias, "<i4").astype(np.int32) if image.readout_bias else None,
        readout_fraction=image.readout_fraction,
        accumulator_bits=c.accumulator_bits,
        gate_index_bits=c.gate_index_bits,
    )
    if c.folded_tokens and image.memories["rows"] != _row_words(folded_rows(parameters, c.folded_tokens), c):
        raise InputError("image: the folded rows are not those of its embedding and weights")
    return parameters


def column_words(image):
    """First word of each column, and how many words it has: two arrays of int, [columns]."""
    c = image.configuration
    return _from_words(image.memories["columns"], [c.start_bits, c.count_bits, c.lanes * (3 + c.block_bits)])[:2]


def column_bytes(image):
    """Bytes of each column's words and of its pointer: float64 [columns]."""
    c = image.configuration
    start, count = column_words(image)
    bits = np.full(len(start), c.narrow_bits)
    for words in c.wide_words:
        bits += start < words
    section = next(section for section in memory_sections(c) if section.name == "columns")
    return (count * bits * c.lanes + section.word_bits) / 8


def _unpack_columns(codes, runs, pointers, first_column, codebook, weights, c, layer, segment):
    """Walk as the lanes do, and set ``weights``, the rows of one segment in the stacked matrix."""
    start, count, *begins = pointers
    if (wrong := np.flatnonzero(start + count > len(codes))).size:
        raise InputError(f"image: column {first_column + wrong[0]} ends behind the last weight word")
    span = c.segment_span(layer, segment)
    rows = np.full((c.banks + WINDOW) * span, -1)
    positions = _positions(c, layer, segment)
    rows[positions[positions >= 0]] = np.flatnonzero(positions >= 0)
    owner = np.repeat(np.arange(len(start)), count)
    word = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    is_first, word = word == 0, word + start[owner]
    for lane in range(c.lanes):
        code, run = codes[word, lane], runs[word, lane]
        step = np.where(code != 0, run + 1, (run + 1) * _SKIP)
        begin = (begins[2 * lane][owner] + first_bank(lane)) * span + begins[2 * lane + 1][owner] * _SKIP
        # A running sum that begins anew with each column, whose first word knows narrow runs only.
        step = np.where(is_first, run % _SKIP, step)
        total = np.cumsum(step)
        place = begin + total - np.repeat((total - step)[is_first], count[count > 0])
        used = code != 0
        row = rows[np.clip(place[used], 0, len(rows) - 1)]
        if (wrong := np.flatnonzero((row < 0) | (place[used] < 0) | (place[used] >= len(rows)))).size:
            raise InputError(
                f"image: column {first_column + owner[used][wrong[0]]} has a weight at position "
                f"{place[used][wrong[0]]} of layer {layer}, segment {segment}, where no row is"
            )
        weights[row, owner[used]] = codebook[code[used]]
