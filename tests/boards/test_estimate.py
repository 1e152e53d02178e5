"""What is refused before any tool runs; estimates that fit are in `test_design`."""

import dataclasses

import pytest

from egret.boards.catalogue import board_named
from egret.boards.design import generate
from egret.boards.estimate import estimate, refuse_what_cannot_fit
from egret.model.compiler.configuration import TINY
from egret.model.errors import InputError

SMALL = dataclasses.replace(TINY, weight_words=64)


def test_memories_that_cannot_fit():
    """A weight memory of more bits than the device has is refused by name before any tool runs."""
    board = board_named("ulx3s-85f")
    design = generate(board, dataclasses.replace(SMALL, weight_words=165_000))
    needed = estimate(design)
    assert needed.least_block_rams > board.device.capacity["block_rams"]
    with pytest.raises(InputError, match=r"^ULX3S-85F: does not fit, by its memories: \d+ block rams of 208; "):
        refuse_what_cannot_fit(board, {"block_rams": needed.least_block_rams}, "its memories")
