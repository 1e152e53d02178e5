"""A board's decoded design, run at its pins."""

import numpy as np

from egret.host.board import Board
from egret.host.transport import open_program
from egret.model.compiler.unpack import read_image
from egret.model.integer import IntegerEngine

__all__ = ["check_at_pins", "pin_of"]


def pin_of(board, name, number, *parts):
    """Name of the FPGA's pin that one of a board's resources has."""
    resource = board.platform().lookup(name, number)
    for part in parts:
        (resource,) = (one for one in resource.ios if one.name == part)
    (pin,) = resource.ios[0].names
    return pin


def check_at_pins(program, image, tokens):
    """Identify, load and run a board: all events and their counters are those of the integer network.

    Returns its counters.
    """
    engine = IntegerEngine(read_image(image))
    counted = np.zeros(image.configuration.layers, int)
    with Board(open_program(program)) as board:
        board.load(image)
        for token, events in zip(tokens, board.step_many(tokens), strict=True):
            traces = engine.step(np.array([token]))
            np.testing.assert_array_equal(events, traces[-1].y[0])
            counted += [np.count_nonzero(trace.y) for trace in traces]
        counters = board.counters()
    assert counted[-1] > len(tokens) == counters["tokens"]
    assert [counters[f"events_{layer}"] for layer in range(len(counted))] == counted.tolist()
    return counters
