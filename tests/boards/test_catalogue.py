"""The boards that there are."""

import pytest

from egret.boards.catalogue import BOARDS, board_named
from egret.boards.devices import DEVICES
from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.errors import InputError
from egret.rtl.uart import divisor_for
from tests.support.networks import random_network


@pytest.mark.parametrize("name", BOARDS)
def test_board(name):
    """The UART's rate comes from the clock, the target is there, and the device is that of the platform."""
    board = board_named(name)
    assert board.target in TARGETS
    assert divisor_for(board.hertz, board.baud) >= 8
    assert board.platform.device.lower() in (name for name in DEVICES) or board.platform.device == "iCE40UP5K"
    configuration_for(random_network(1, hidden=(9, 7), embedding=6), **TARGETS[board.target])


def test_unknown_board():
    with pytest.raises(
        InputError, match=("^--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, not 'x'$")
    ):
        board_named("x")
