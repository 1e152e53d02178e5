"""Compile an integer network into the image of a core, and say what core it needs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from egret.model.arithmetic import CODEBOOK, GATES, INNER, WEIGHT_BITS
from egret.model.compiler.checks import checks_of
from egret.model.compiler.configuration import (
    GOALS,
    READOUT_KINDS,
    RESIDENT_BYTES,
    RUN_BITS,
    SDR_RATIOS,
    SDRAM_BITS,
    SDRAM_WORDS,
    TOKEN_BITS,
    WIDEST_RUN,
    Configuration,
    ReadoutShape,
)
from egret.model.compiler.folded import folded_rows, row_format, row_words
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import memory_sections, word_layouts
from egret.model.compiler.lookups import estimate_lookups
from egret.model.compiler.pack import SKIP, matrices, most_values, pack_matrices, words_by_width
from egret.model.compiler.readout import (
    pack_readout,
    readout_bytes,
    readout_codebook,
    readout_shape,
    readout_values,
    readout_words,
    score_shift,
)
from egret.model.errors import InputError
from egret.model.integer import IntegerNetwork
from egret.model.readout import ReadOut, nearest

__all__ = ["compile_image", "configuration_for", "configuration_of"]


def _shape(network: IntegerNetwork) -> dict[str, Any]:
    """Parameters of `Configuration` that are the network's."""
    vocabulary, embedding = network.embedding.shape
    return {
        "vocabulary": vocabulary,
        "embedding": embedding,
        "hidden": network.hidden,
        "accumulator_bits": network.accumulator_bits,
        "gate_index_bits": network.gate_index_bits,
        "reset": network.reset,
    }


def configuration_for(
    network: IntegerNetwork,
    *,
    weight_bytes: int | None = None,
    weight_bits: int | None = None,
    goal: str = "speed",
    resident_bytes: int | None = None,
    readout: bool | None = None,
    **options: Any,
) -> Configuration:
    """Configuration of a core for a network.

    Parameters
    ----------
    network : IntegerNetwork
    weight_bytes : int, optional
        Size of the weight memory; just large enough for the network when not given. The words with wide runs are as
        many as the network needs, the other ones what remains.
    weight_bits : int, optional
        8, or 4 where no matrix has more than `CODEBOOK` values; 4 where possible when not given.
    goal : str
        ``"speed"`` for runs so wide that hardly a slot is lost, ``"size"`` for the least memory.
    resident_bytes : int, optional
        With the store ``sdram``: block RAM for the columns that are looked up most often. When not given,
        `RESIDENT_BYTES`, less what the memories of a read-out take, and of that a power of two of words.
    readout : bool, optional
        Whether the core makes the read-out. When not given, it does where the words are divided into groups, but with
        the store ``spram`` or more than 65,536 words.
    **options
        Any of the other parameters of `Configuration`, e.g. ``lanes``. With the store ``sdram``, where they are not
        given: a memory twice as fast as the core, where the lanes' words are whole beats of it; twice the lanes that
        weights of 4 bits feed; and as many folded rows as find room beside the rest. A core with the store ``spram`` is
        compact where that is not given, since chips with that memory are small and slow.

    Returns
    -------
    Configuration

    Raises
    ------
    InputError
        An option is not accepted, the network does not fit the weight memory, saying what it needs, or no core can make
        its read-out.
    """
    if readout is None:
        few = len(network.embedding) <= 1 << TOKEN_BITS
        readout = network.groups is not None and few and options.get("store") != "spram"
    read = ReadOut(network) if readout else None
    if goal not in GOALS:
        raise InputError(f"the goal of packing must be {' or '.join(GOALS)}, not {goal!r}")
    options |= _shape(network)
    if weight_bits is None:
        values = most_values(network)
        if read is not None:
            values = max(values, len(readout_values(read)))
        weight_bits = 4 if values <= CODEBOOK else 8
    if read is not None:
        options["readout"] = _shape_of_readout(network, read, weight_bits)

    def words(bare: Configuration) -> list[int]:
        wanted = goal if bare.store == "bram" else None
        return words_by_width(*pack_matrices(matrices(network, bare), weight_bits, bare.lanes, wanted))

    return configuration_of(
        words,
        lambda tokens: row_format(network, tokens),
        weight_bytes=weight_bytes,
        resident_bytes=resident_bytes,
        weight_bits=weight_bits,
        **options,
    )


def configuration_of(
    words: Callable[[Configuration], Sequence[int]],
    rows: Callable[[int | None], tuple[int, int]],
    *,
    weight_bytes: int | None = None,
    resident_bytes: int | None = None,
    **options: Any,
) -> Configuration:
    """Configuration of a core for weights of which only the words are known.

    Parameters
    ----------
    words : callable
        Of a core: how many words of the layers' weights have runs of at least 4, 5, ... 8 bits.
    rows : callable
        Of so many tokens, or all: width of a number in a folded row, and the zeros that follow it.
    weight_bytes, resident_bytes, **options
        As for `configuration_for`, with the shape of the network and of the read-out.

    Returns
    -------
    Configuration

    Raises
    ------
    InputError
        An option is not accepted, or the weights do not fit the weight memory, saying what they need.
    """
    folded = options.pop("folded_tokens", None)
    options.setdefault("compact", options.get("store") == "spram")
    if options.get("store") == "sdram":
        options.setdefault("lanes", 4 * options.get("memory_ratio", SDR_RATIOS[-1]))
        if "memory_ratio" not in options:
            entry = options["weight_bits"] + RUN_BITS
            options["memory_ratio"] = max(
                ratio for ratio in SDR_RATIOS if ratio == 1 or options["lanes"] * entry % (ratio * SDRAM_BITS) == 0
            )
    elif folded is None:
        folded = 0
    bare = Configuration(**options)
    every, *wide = words(bare)
    wide = tuple(count for count in wide if count)
    resident = 0
    if bare.store == "sdram":
        word_bytes = bare.lanes * bare.narrow_bits // 8
        if resident_bytes is None:
            # A power of two has the fewest wires: that many words a block RAM, of one bit or two.
            room = max(RESIDENT_BYTES - readout_bytes(bare.vocabulary, bare.readout), 0) // word_bytes
            resident = min(every, 1 << room.bit_length() - 1 if room else 0)
        else:
            resident = min(every, resident_bytes // word_bytes)
    # Which words are resident is for the image to say: the SDRAM has room for all of them, unless there is no choice.
    weight_words = 1 if every == resident else every
    weight_words += readout_words(bare)
    needed = Configuration(**options, weight_words=max(1, weight_words), wide_words=wide, resident_words=resident)
    if folded != 0:
        row_bits, row_shift = rows(folded)
        needed = dataclasses.replace(needed, row_bits=row_bits, row_shift=row_shift)
    if folded is None:
        row = needed.row_depth * needed.row_beats * needed.memory_ratio
        # Not more than that of a DDR3 either: an image takes its time to be loaded.
        folded = min(needed.vocabulary, max(SDRAM_WORDS - needed.sdram_words, 0) // row)
    needed = dataclasses.replace(needed, folded_tokens=folded)
    if weight_bytes is None:
        return needed
    narrow = (8 * weight_bytes // needed.lanes - sum(wide)) // needed.narrow_bits
    if narrow < needed.weight_words:
        raise _too_small(needed, needed.weight_words, weight_bytes)
    return dataclasses.replace(needed, weight_words=narrow)


def _shape_of_readout(network: IntegerNetwork, readout: ReadOut, weight_bits: int) -> ReadoutShape:
    """Shape of the read-out of a network for a core with such weights; `InputError` where no core can make it."""
    if (reach := readout.reach()) >= 1 << (network.accumulator_bits - 1):
        raise InputError(
            f"a row of the read-out can reach {reach}; an accumulator of {network.accumulator_bits} bits holds "
            f"{(1 << (network.accumulator_bits - 1)) - 1}"
        )
    score_shift(network)
    readout_codebook(readout, weight_bits)
    return readout_shape(readout)


def compile_image(
    network: IntegerNetwork, configuration: Configuration, *, lookups: Sequence[np.ndarray] | None = None
) -> Image:
    """Compile a network for a core.

    Parameters
    ----------
    network : IntegerNetwork
    configuration : Configuration
    lookups : sequence of np.ndarray, one a layer, optional
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
    for name, value in _shape(network).items():
        if getattr(c, name) != value:
            raise InputError(f"the core is built for {name} {getattr(c, name)}; the network has {value}")
    if c.readout is not None and (shape := _shape_of_readout(network, ReadOut(network), c.weight_bits)) != c.readout:
        raise InputError(f"the core is built for {c.readout}; the network has {shape}")
    parts = matrices(network, c)
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
    resident = np.zeros(0, np.int64)
    if c.resident_words:
        if lookups is None and network.readout_bias is not None and counts.sum() > c.resident_words:
            lookups = estimate_lookups(network, c.folded_tokens)
        resident = _resident(parts, counts, np.zeros(len(counts)) if lookups is None else np.concatenate(lookups), c)
    # Words with wide runs come first.
    others = np.argsort(-np.repeat(widths, [part.sources for part in parts]), kind="stable")
    others = others[~np.isin(others, resident)]
    starts = np.zeros(len(counts), np.int64)
    for columns, base in ((resident, 0), (others, c.resident_words)):
        starts[columns] = base + np.cumsum(counts[columns]) - counts[columns]
    need = int(counts[others].sum())
    if need + readout_words(c) > c.weight_words:
        raise _too_small(c, need + readout_words(c), c.weight_memory_bytes)

    def words_of(columns):
        own = counts[columns]
        return np.repeat((np.cumsum(counts) - counts)[columns] - (np.cumsum(own) - own), own) + np.arange(own.sum())

    layouts = word_layouts(c)

    def narrow(at):
        return layouts["weights"].pack({"entries": {"code": weights[at], "run": runs[at] & (SKIP - 1)}})

    at = words_of(others)
    memories = {
        "weights": narrow(at),
        "columns": layouts["columns"].pack(
            {
                "start": np.where(counts > 0, starts, 0),
                "count": counts,
                "begins": {"bank": begins[:, :, 0], "block": begins[:, :, 1]},
            }
        ),
        "bias": b"".join(
            layouts["bias"].pack(
                dict(zip(GATES, np.split(layer.bias, len(GATES)), strict=True)) | {INNER: layer.bias_y}
            )
            for layer in network.layers
        ),
        "threshold": layouts["threshold"].pack(
            {"threshold": np.concatenate([layer.threshold for layer in network.layers])}
        ),
        "shift": layouts["shift"].pack({"shift": np.concatenate([layer.shift for layer in network.layers])}),
    }
    if not c.takes_events:
        rows = network.embedding
        if c.store == "sdram":
            rows = np.pad(rows, ((0, 0), (0, c.embedding_beats * c.beat_bits // WEIGHT_BITS - c.embedding)))
        memories["embedding"] = layouts["embedding"].pack({"value": rows.ravel()})
    if c.resident_words:
        section = memory_sections(c)["resident"]
        memories["resident"] = narrow(words_of(resident)).ljust(section.words * section.word_bytes, b"\0")
    for bit, count in enumerate(c.wide_words, RUN_BITS):
        memories[f"run_{bit}"] = layouts[f"run_{bit}"].pack({"bits": runs[at[:count]] >> bit & 1})
    if c.weight_bits == 4:
        books = np.zeros((len(codebooks), CODEBOOK + 1), np.int64)  # weight 0 comes first
        for book, values in zip(books, codebooks, strict=True):
            book[1 : 1 + len(values)] = values
        memories["codebook"] = layouts["codebook"].pack({"weight": books.ravel()})
    if c.readout is not None:
        _add_readout(memories, network, c, c.resident_words + need)
    if c.folded_tokens:
        bits, shift = row_format(network, c.folded_tokens)
        if shift < c.row_shift or bits + shift > c.row_bits + c.row_shift:
            raise InputError(
                f"the core is built for folded rows of {c.row_bits} bits followed by {c.row_shift} zeros; "
                f"the network's have {bits} and {shift}"
            )
        memories["rows"] = row_words(folded_rows(network, c.folded_tokens), c)
    if c.store == "sdram":
        section = memory_sections(c)["weights"]
        memories["weights"] = memories["weights"].ljust(section.words * section.word_bytes, b"\0")
        memories["checks"] = checks_of(memories, c)
    vocabulary, (bias, weight) = network.vocabulary, _readout_of_the_host(network, c.readout is not None)
    return Image(
        configuration=c,
        memories=memories,
        vocabulary_kind="word" if vocabulary is None else vocabulary.kind,
        vocabulary=b"" if vocabulary is None else vocabulary.to_bytes(),
        readout_fraction=network.readout_fraction,
        readout_bias=bias,
        readout_weight=weight,
    )


def _readout_of_the_host(network: IntegerNetwork, made: bool) -> tuple[bytes, bytes]:
    """Biases and weights for a host that makes the read-out, unless it is ``made`` by the core; empty without one."""
    bias, weight = network.readout_bias, network.readout_weight
    if not made and network.groups is not None:
        # The host's sections hold a read-out over all words, which this network has not.
        bias = weight = None
    elif not made and network.readout_codebook is not None:
        weight = nearest(network.embedding if weight is None else weight, network.readout_codebook)
    return (
        b"" if bias is None else bias.astype("<i4").tobytes(),
        b"" if weight is None else weight.astype(np.int8).tobytes(),
    )


def _add_readout(memories: dict[str, bytes], network: IntegerNetwork, c: Configuration, start: int) -> None:
    """Append the words of a read-out, which begin at word ``start``, and fill its own memories."""
    readout, layouts = ReadOut(network), word_layouts(c)
    read = pack_readout(readout, c)
    if (codebook := readout_codebook(readout, c.weight_bits)) is not None:
        book = np.zeros(CODEBOOK + 1, np.int64)
        book[1 : 1 + len(codebook)] = codebook
        memories["codebook"] += layouts["codebook"].pack({"weight": np.tile(book, len(READOUT_KINDS))})
    memories["weights"] += layouts["weights"].pack({"entries": {"code": read.codes, "run": read.runs}})
    memories["shift"] += layouts["shift"].pack({"shift": np.array([score_shift(network)])})
    sizes = np.array([len(weight) for weight in readout.weights])
    memories["groups"] = layouts["groups"].pack(
        {"start": start + read.starts, "count": read.counts, "first": np.cumsum(sizes) - sizes, "size": sizes}
    )
    rows = np.zeros(readout.groups * readout.rows, np.int64)
    words = np.concatenate([readout.order[: readout.head], rows, readout.order[readout.head :]])
    memories["entries"] = layouts["entries"].pack({"bias": np.concatenate(readout.biases), "word": words})


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
        f"prune further, or compile with {'--no-readout or ' if c.readout else ''}--weight-bytes"
    )


def _fits(packed, widths, c):
    """Whether packed matrices fit a weight memory, whose words with wide runs are limited."""
    limits = (c.resident_words + c.weight_words, *c.wide_words, *[0] * (WIDEST_RUN - c.run_bits))
    return all(words <= limit for words, limit in zip(words_by_width(widths, packed), limits, strict=True))


def _pack_into(parts, c):
    """Packed matrices and their run widths, for a configuration made for them, or for others of their shape."""
    for goal in GOALS if c.wide_words else ():
        widths, packed = pack_matrices(parts, c.weight_bits, c.lanes, goal)
        if _fits(packed, widths, c):
            return packed, widths
    widths, packed = pack_matrices(parts, c.weight_bits, c.lanes, None)
    if _fits(packed, widths, c):
        return packed, widths
    raise _too_small(c, sum(len(part[0]) for part in packed) - c.resident_words, c.weight_memory_bytes)
