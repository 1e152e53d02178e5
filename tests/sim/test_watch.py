"""The stream watcher must see what it is there for."""

import pytest

from egret.sim.watch import StreamWatch


def run(cycles):
    watch = StreamWatch("o")
    for cycle in cycles:
        watch.sample(*cycle)
    return watch


def test_counts():
    watch = run([(0, 1, None), (1, 0, 5), (1, 0, 5), (1, 1, 5), (1, 1, 6), (0, 0, None)])
    assert (watch.cycles, watch.transfers, watch.stalls) == (6, 2, 2)


def test_payload_may_change_after_a_transfer_and_while_invalid():
    run([(1, 1, 1), (1, 1, 2), (0, 0, 3), (0, 0, 4), (1, 0, 5)])


def test_valid_that_falls():
    with pytest.raises(AssertionError, match="stream o, cycle 1: valid fell before the payload 5 was accepted"):
        run([(1, 0, 5), (0, 0, 5)])


def test_payload_that_changes():
    with pytest.raises(AssertionError, match="stream o, cycle 2: payload changed from 5 to 6 before it was accepted"):
        run([(1, 0, 5), (1, 0, 5), (1, 1, 6)])
