"""The memory self-test: networks that no text has seen, run on a board and compared with the integer network.

The link cannot read a memory back, which would cost an iCEBreaker logic that it does not have. What the core answers
depends on all that its memories hold, so the test is made of images: each has random numbers in every memory and its
columns in another order, so that pointers, runs and weights change too. A bit that does not hold what was written
changes an event, sooner or later. The link's own check has then passed: it looks at what came over the line.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from egret.host.measure import Mismatch
from egret.model.arithmetic import CODEBOOK, EVENT_MAX
from egret.model.compiler.compile import compile_image
from egret.model.compiler.layouts import memory_sections
from egret.model.integer import INPUT_MAX, THRESHOLD_MAX, IntegerEngine, IntegerLayer
from egret.rtl.protocol import FAULTY_LINES

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.model.integer import IntegerNetwork

__all__ = ["PATTERNS", "Coverage", "SelfTest", "pattern", "self_test"]

PATTERNS = 8
"""Images that a test loads, unless said otherwise."""

_LEAST_STEPS = 256
_MAGNITUDES = (127, 11, 1)  # of weights, in turn: with small ones the low bits of the sums decide
_EVENT_POWER = 4000.0  # mean square of an event value, silence included, about
_ENTERING_POWER = EVENT_MAX**2 / 6  # of one that enters
_PATIENCE = 0.1  # seconds, in which a board reads tens of blocks again
_RARE = 4  # one of so many thresholds, in turn, may be any; the others leave the neuron active


@dataclass(frozen=True)
class Coverage:
    """How much of a memory was tested.

    Attributes
    ----------
    words, used : int
        Words that it has, and words that were written.
    toggled : float
        Share of the bits of the words used that were 0 in one image and 1 in another.
    """

    words: int
    used: int
    toggled: float


@dataclass(frozen=True)
class SelfTest:
    """Result of `self_test`.

    Attributes
    ----------
    patterns, steps : int
        Images loaded, and steps run with all of them together.
    wrong_steps : int
        Steps in which an event was not the integer network's.
    first_mismatch : Mismatch or None
    first_pattern : int or None
        The image, from zero, in which that was.
    coverage : dict of str to Coverage
        By memory.
    faulty_lines : tuple of int
        Data lines of a DDR3 that were wrong when it was started.
    scrubbed : int
        Blocks of an SDRAM that were read again and compared, with all images together.
    seconds : float
    """

    patterns: int
    steps: int
    wrong_steps: int
    first_mismatch: Mismatch | None
    first_pattern: int | None
    coverage: dict
    faulty_lines: tuple[int, ...]
    scrubbed: int
    seconds: float


def pattern(network: "IntegerNetwork", configuration: "Configuration", number: int) -> "IntegerNetwork":
    """A random network with as many weights in each column, in another order, as a given one.

    It needs the same memories, and its folded rows are no wider. Gates are chosen such that neither all nor none of the
    neurons have events, and that the sums lie where the gates are steep.

    Parameters
    ----------
    network : IntegerNetwork
    configuration : Configuration
        Of the core.
    number : int
        The same number gives the same network.

    Returns
    -------
    IntegerNetwork
    """
    c, rng = configuration, np.random.default_rng(number)
    magnitude = _MAGNITUDES[number % len(_MAGNITUDES)]
    limit = (1 << network.accumulator_bits - 1) - 1

    def scramble(weights, most):
        nonzero = rng.permutation((weights != 0).T).T
        values = rng.integers(1, most + 1, CODEBOOK if c.weight_bits == 4 else weights.shape)
        values *= rng.choice((-1, 1), values.shape)
        if c.weight_bits == 4:
            values = rng.choice(values, weights.shape)
        return np.where(nonzero, values, 0).astype(np.int8)

    # A folded row holds twice the sum of products of at most so many weights with the embedding of its token.
    step = max(1, 1 << c.row_shift >> 1)
    room = (1 << c.row_bits + c.row_shift - 1) - 1
    room //= 2 * max(1, int(np.count_nonzero(network.layers[0].weight_x, axis=1).max()))
    largest, power = (EVENT_MAX, _ENTERING_POWER) if c.takes_events else (INPUT_MAX, INPUT_MAX**2 / 3)
    layers, in_rows = [], 0
    for layer in network.layers:
        size = len(layer.threshold)
        reach = IntegerLayer(
            np.sign(layer.weight_x), np.sign(layer.weight_y), np.zeros_like(layer.bias), layer.threshold, layer.shift
        )
        most = max(1, min(magnitude, limit // (2 * int(network.reach(reach, largest).max() or 1))))
        if c.folded_tokens and not layers:
            most = max(1, min(most, room // step))
            in_rows = min(127, room // most) // step
        gates = [slice(gate * size, (gate + 1) * size) for gate in range(3)]
        # Of a gate's sums, about: half of them lie within this.
        spread = [
            max(
                1,
                most
                / 2
                * np.sqrt(
                    np.count_nonzero(layer.weight_x[rows]) / size * power
                    + np.count_nonzero(layer.weight_y[rows]) / size * _EVENT_POWER
                ),
            )
            for rows in gates
        ]
        bias = np.concatenate([rng.integers(-int(part), int(part) + 1, size) for part in spread])
        bias[gates[2]] += int(spread[2])  # a state above zero is what an event shows
        threshold = rng.integers(0, THRESHOLD_MAX // 4, size) >> rng.integers(0, 6, size)
        rare = np.arange(number % _RARE, size, _RARE)
        # The next time all bits are the others.
        any_of_them = np.random.default_rng(size).integers(0, THRESHOLD_MAX + 1, size)[rare]
        threshold[rare] = any_of_them ^ THRESHOLD_MAX * (number // _RARE % 2)
        first, second, third = (int(np.clip(np.log2(part) - network.gate_index_bits + 3, 1, 15)) for part in spread)
        bias_y = layer.bias_y
        parts = np.split(layer.weight_y, [2 * size] if bias_y is None else [])
        layers.append(
            IntegerLayer(
                scramble(layer.weight_x, most),
                np.concatenate([scramble(part, most) for part in parts]),
                bias.astype(np.int32),
                threshold.astype(np.int32),
                (first, second, third),
                bias_y if bias_y is None else rng.integers(-int(spread[2]), int(spread[2]) + 1, size).astype(np.int32),
            )
        )
        largest, power = EVENT_MAX, _EVENT_POWER
    embedding = rng.integers(1, 128, network.embedding.shape) * rng.choice((-1, 1), network.embedding.shape)
    if c.folded_tokens:
        shape = embedding[: c.folded_tokens].shape
        embedding[: c.folded_tokens] = step * rng.integers(-in_rows, in_rows + 1, shape)
    return dataclasses.replace(network, embedding=embedding.astype(np.int8), layers=tuple(layers))


def _entering(c, number, count):
    """What enters with an image, one a step: every token, in an order of its own; or events, half of them zeros."""
    rng = np.random.default_rng(number)
    if c.takes_events:
        return list(rng.integers(-EVENT_MAX, EVENT_MAX + 1, (count, c.embedding)).clip(0).astype(np.uint8))
    return np.resize(rng.permutation(c.vocabulary), count).tolist()


def _either(one, other):
    """Bitwise or of bytes. Which columns are resident is a pattern's own, so the other words may differ in number."""
    size = max(len(one), len(other))
    return np.pad(one, (0, size - len(one))) | np.pad(other, (0, size - len(other)))


def _scrubbed(board, blocks):
    """Give a board the time to read its whole SDRAM again, as long as it does so; return how many blocks it read.

    The clock of a virtual board stands still while the host only waits.
    """
    begun = last = board.counters()["scrubbed"]
    while last - begun < blocks:
        time.sleep(_PATIENCE)
        if (now := board.counters()["scrubbed"]) == last:
            break
        last = now
    return last - begun


def self_test(
    board: "Board",
    image: "Image",
    network: "IntegerNetwork",
    *,
    patterns: int = PATTERNS,
    progress: Callable[[int, int], None] | None = None,
) -> "SelfTest":
    """Test the memories of a board, and the core that reads them; what was loaded before is gone.

    Parameters
    ----------
    board : egret.host.board.Board
    image : egret.model.compiler.image.Image
        For the board's configuration: says how much of each memory is used.
    network : IntegerNetwork
        What the image was compiled from.
    patterns : int
        Images to try.
    progress : callable, optional
        Called as ``progress(done, total)``, both in steps.

    Returns
    -------
    SelfTest

    Raises
    ------
    InputError
        The image is for another board, or the board stops answering.
    BoardError
        An SDRAM did not keep what was loaded.
    """
    c = image.configuration
    count = max(_LEAST_STEPS, c.vocabulary)
    begin = time.perf_counter()
    wrong, first, first_pattern, scrubbed = 0, None, None, 0
    seen = {}
    for number in range(patterns):
        other = pattern(network, c, number)
        test_image = compile_image(other, c)
        for name, content in test_image.memories.items():
            bits = np.frombuffer(content, np.uint8)
            zeros, ones = seen.get(name, (bits[:0], bits[:0]))
            seen[name] = _either(zeros, ~bits), _either(ones, bits)
        board.load(test_image)
        reference, entering = IntegerEngine(other), _entering(c, number, count)
        for step, events in enumerate(board.step_many(entering)):
            expected = reference.step(np.array([entering[step]], np.int32))[-1].y[0]
            found = Mismatch.find(step, expected, events)
            wrong += found is not None
            if first is None and found is not None:
                first, first_pattern = found, number
        if c.checked_blocks:
            scrubbed += _scrubbed(board, c.checked_blocks)
        if progress is not None:
            progress((number + 1) * count, patterns * count)
    coverage = {}
    for name, section in memory_sections(c).items():
        zeros, ones = seen[name]
        used = len(ones) // section.word_bytes
        toggled = int(np.unpackbits(zeros & ones).sum())
        coverage[name] = Coverage(section.words, used, toggled / max(1, used * section.word_bits))
    lines = board.counters().get(FAULTY_LINES, 0)
    faulty = tuple(line for line in range(lines.bit_length()) if lines >> line & 1)
    seconds = time.perf_counter() - begin
    return SelfTest(patterns, patterns * count, wrong, first, first_pattern, coverage, faulty, scrubbed, seconds)
