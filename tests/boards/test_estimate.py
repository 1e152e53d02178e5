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
    small = dataclasses.replace(board.device, capacity=board.device.capacity | {"block_rams": 2})
    board = dataclasses.replace(board, device=small)
    needed = estimate(generate(board, dataclasses.replace(SMALL, weight_words=3000)))
    assert needed.least_block_rams > 2
    with pytest.raises(InputError, match=r"^ULX3S-85F: does not fit, by its memories: \d+ block rams of 2; "):
        refuse_what_cannot_fit(board, {"block_rams": needed.least_block_rams}, "its memories")
