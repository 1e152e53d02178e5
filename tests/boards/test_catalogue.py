"""The boards that there are."""

import re

import pytest

from egret.boards.catalogue import BOARDS, board_named
from egret.boards.definition import LINES
from egret.boards.devices import DEVICES
from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.errors import InputError
from egret.rtl.protocol import USB_BYTES_PER_SECOND
from tests.support.networks import few_values, random_network

VARIANTS = [(name, line) for name in BOARDS for line in board_named(name).lines]


@pytest.mark.parametrize("name, line", VARIANTS)
def test_board(name, line):
    """The line's rate comes from the clock, the target is there, and the device is that of the platform."""
    board = board_named(name).with_line(line)
    assert board.target in TARGETS and board.line == line
    rate = board.hertz / board.divisor(board.hertz) / 10
    if board.shares_line:
        assert rate == pytest.approx(USB_BYTES_PER_SECOND) and board.port[0] == "usb"
    else:
        assert board.divisor(board.hertz) >= 8 and rate == pytest.approx(board.baud / 10, rel=0.015)
    assert board.platform.device.lower() in (name for name in DEVICES) or board.platform.device == "iCE40UP5K"
    configuration_for(few_values(random_network(1, hidden=(9, 7), embedding=6)), **TARGETS[board.target])


def test_lines():
    """Those with two are files' names apart, those with one refuse the other; and the board is the same but for it."""
    assert ("ulx3s-85f", "usb") in VARIANTS and ("ulx3s-85f-sdram", "usb") in VARIANTS
    for board in map(board_named, BOARDS):
        assert board.suffix == "" and board.with_line(board.line) is board
        for line in set(LINES) - {board.line}:
            if line in board.lines:
                other = board.with_line(line)
                assert (other.suffix, other.title, other.hertz) == (f"-{line}", board.title, board.hertz)
            else:
                message = f"{board.title}: --line must be {board.line}, not '{line}'"
                with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
                    board.with_line(line)


def test_unknown_board():
    with pytest.raises(
        InputError,
        match=(
            "^--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, orangecrab-85f-ddr3, "
            "not 'x'$"
        ),
    ):
        board_named("x")
