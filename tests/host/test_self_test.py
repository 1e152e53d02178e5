"""The memory self-test: a good board passes, one with a bit that is stuck does not."""

import contextlib
import dataclasses

import numpy as np
import pytest

from egret.host.board import Board
from egret.host.self_test import pattern, self_test
from egret.host.transport import open_program
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import read_image
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.sim.virtual import board_build
from tests.support import command_line
from tests.support.memories import stuck
from tests.support.networks import few_values, random_network
from tests.support.numbers import number_network

SHAPE = {"hidden": (14, 11), "vocabulary": 9, "embedding": 8, "density": 0.4}


class StuckBoard:
    """Computes from memories with a stuck bit, like the core; ``changed`` tells whether that ever changed a word."""

    def __init__(self, *fault):
        self._fault = fault
        self.changed = False

    def load(self, image):
        memories = stuck(image, *self._fault) if self._fault else image
        self.changed |= memories != image
        try:
            self._network = IntegerEngine(read_image(memories))
        except InputError:
            self._network = None  # a pointer that leads nowhere

    def counters(self):
        return {"scrubbed": 0}

    def step_many(self, tokens):
        for token in tokens:
            entering = np.array([token], np.int32)
            yield self._network.step(entering)[-1].y[0] if self._network else np.full(SHAPE["hidden"][-1], -1)


@pytest.fixture(
    scope="module",
    params=[
        "sdram",
        "numbers",
        *(pytest.param(other, marks=pytest.mark.slow) for other in ("8 bit", "4 bit", "folded")),
    ],
)
def compiled(request):
    if request.param == "numbers":
        network = number_network(3, inputs=8, hidden=SHAPE["hidden"])
        return compile_image(network, configuration_for(network, lanes=2)), network
    network = random_network(3, **SHAPE)
    few = request.param in ("4 bit", "sdram")
    if few:
        network = few_values(network)
    folded = 5 if request.param in ("folded", "sdram") else 0
    store = "sdram" if request.param == "sdram" else "bram"
    image = compile_image(
        network, configuration_for(network, lanes=2, folded_tokens=folded, store=store, resident_bytes=200)
    )
    assert image.configuration.weight_bits == (4 if few else 8)
    return image, network


def test_a_good_board(compiled):
    image, network = compiled
    seen = []
    result = self_test(StuckBoard(), image, network, progress=lambda *counts: seen.append(counts))
    assert (result.patterns, result.steps, result.wrong_steps) == (8, 2048, 0)
    assert result.first_mismatch is None and result.first_pattern is None
    assert seen[0] == (256, 2048) and seen[-1] == (2048, 2048)
    sections = memory_sections(image.configuration)
    assert list(result.coverage) == list(sections)
    for name, section in sections.items():
        one = result.coverage[name]
        assert one.words == section.words and 0 < one.used <= one.words and 0 < one.toggled <= 1
    assert ("embedding" in result.coverage) == (not image.configuration.takes_events)
    # Behind the weights in an SDRAM come zeros, as many as could be resident.
    weights = 0.6 if image.configuration.checked_blocks else 0.8
    for name, share in (("embedding", 0.95), ("threshold", 0.95), ("bias", 0.8), ("weights", weights)):
        assert name not in result.coverage or result.coverage[name].toggled > share


def test_stuck_bits_are_found(compiled):
    """Of single bits that are stuck, in any memory, at a value that some image does not have there."""
    image, network = compiled
    rng = np.random.default_rng(1)
    tried, found = 0, 0
    for section in memory_sections(image.configuration).values():
        words = len(image.memories[section.name]) // section.word_bytes
        for _ in range(2):
            fault = section, int(rng.integers(words)), int(rng.integers(section.word_bits)), int(rng.integers(2))
            board = StuckBoard(*fault)
            result = self_test(board, image, network)
            tried += board.changed
            found += result.wrong_steps > 0
            assert (result.first_mismatch is None) == (result.first_pattern is None) == (result.wrong_steps == 0)
            if not board.changed:
                assert result.wrong_steps == 0
    print(f"{found} of {tried}")
    assert tried > 8 and found > 0.8 * tried


def test_a_memory_that_takes_nothing_is_found(compiled):
    """Every bit of one memory stuck at the first image's: the other images show it, whichever memory it is.

    The CRCs of an SDRAM, which no event depends on, are not looked at here.
    """
    image, network = compiled

    class Dead(StuckBoard):
        first = None

        def load(self, image):
            self.first = self.first or image
            memories = image.memories | {self._fault[0]: self.first.memories[self._fault[0]]}
            self._network = None
            with contextlib.suppress(InputError):
                self._network = IntegerEngine(read_image(dataclasses.replace(image, memories=memories)))

    for name in memory_sections(image.configuration).keys() - {"checks"}:
        result = self_test(Dead(name), image, network, patterns=3)
        assert result.wrong_steps > 10 and result.first_pattern == 1, name


def test_patterns_differ_and_repeat(compiled):
    image, network = compiled
    c = image.configuration
    contents = [compile_image(pattern(network, c, number), c).memories for number in (0, 1, 2, 0)]
    assert contents[0] == contents[3]
    for name in contents[0]:
        if name not in ("shift", "codebook"):
            assert len({content[name] for content in contents}) == 3, name


def test_of_the_core(random_checkpoint, monkeypatch):
    """On the virtual board; and with one weight bit other than what was sent, which the link's check cannot see."""
    network, image = command_line.compiled(random_checkpoint)
    program = board_build(image.configuration).program()
    with Board(open_program(program)) as board:
        assert self_test(board, image, network, patterns=3).wrong_steps == 0
    load = Board.load
    weights = memory_sections(image.configuration)["weights"]
    monkeypatch.setattr(Board, "load", lambda board, image: load(board, stuck(image, weights, 3, 7, 1)))
    with Board(open_program(program)) as board:
        result = self_test(board, image, network)
    assert result.wrong_steps > 0 and result.first_mismatch.expected != result.first_mismatch.actual
