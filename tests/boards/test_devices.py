"""Block RAMs that memories take."""

import pytest

from egret.boards.devices import DEVICES


@pytest.mark.parametrize(
    "words, bits, blocks",
    [(1024, 18, 1), (1025, 18, 2), (512, 36, 1), (16384, 1, 1), (10, 5, 0), (384, 72, 2), (8320, 8, 5)],
)
def test_blocks_of_an_ecp5(words, bits, blocks):
    assert DEVICES["lfe5u-85f"].blocks(words, bits) == blocks


@pytest.mark.parametrize("words, bits, blocks", [(256, 16, 1), (288, 24, 3), (384, 72, 9), (16, 15, 0)])
def test_blocks_of_an_ice40(words, bits, blocks):
    assert DEVICES["up5k"].blocks(words, bits) == blocks
