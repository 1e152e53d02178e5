"""Faults at the pins of both links, a few thousand frames, and what is seen where something is wrong.

One quick test needs the program for USB, which takes long to compile the first time.
"""

from collections import Counter
from random import Random

import pytest

from egret.host.exchange import BoardError, Exchange
from egret.sim.stand_in import StandInModel
from tests.faults.session import FRAMES, Failure, run_case
from tests.faults.uart import UartCable
from tests.faults.usb import SETUP, UsbCable
from tests.host.faults import FaultyPort


def run(line, seed, frames, rate=1.0):
    """Cases of a seed, until the host has sent so many frames; returns as `run_case` does."""
    seen, number = Counter(), 0
    while seen["frames"] < frames:
        seen.update(run_case(line, seed, number, min(frames, FRAMES), rate))
        number += 1
    assert sum(count for name, count in seen.items() if name.startswith("end ")) == seen["sessions"]
    return seen


KINDS = {
    "uart": (*UartCable.KINDS, *(f"bytes: {kind}" for kind in FaultyPort.KINDS)),
    "usb": (*UsbCable.KINDS, *(f"bytes: {kind}" for kind in FaultyPort.KINDS)),
}
ENDS = {"uart": ("finished", "reset", "lost", "silent"), "usb": ("finished", "lost")}


@pytest.mark.parametrize("line", KINDS)
def test_faults_at_the_pins(line):
    """Denser faults than usual, so that all kinds come."""
    seen = run(line, 5, 2000, rate=5.0)
    assert seen["steps"] > 500 and seen["words"] > 500 and seen["repeats"] > 50 and seen["damaged"] > 5
    assert all(seen[f"fault {kind}"] > 0 for kind in KINDS[line] if kind != "suspend"), seen
    assert all(seen[f"end {end}"] > 0 for end in ENDS[line]), seen


@pytest.mark.slow
@pytest.mark.parametrize("line", KINDS)
def test_a_hundred_thousand_frames_at_the_pins(line):
    seen = run(line, 2, 100_000)
    assert seen["steps"] > 40_000 and seen["words"] > 40_000
    assert all(seen[f"fault {kind}"] > 3 for kind in KINDS[line]), seen
    assert all(seen[f"end {end}"] > 10 for end in ENDS[line]), seen


@pytest.mark.parametrize("line", ["uart", pytest.param("usb", marks=pytest.mark.slow)])
def test_a_line_without_faults(line):
    """Nothing is sent twice there; on the UART with a host whose clock is off by 2 %."""
    seen = run_case(line, 1, 0, 300, rate=0)
    assert seen["repeats"] == seen["damaged"] == seen["bad frames"] == 0
    assert {name for name in seen if name.startswith("end ")} == {"end finished"}


def test_a_case_is_always_the_same():
    assert run_case("uart", 3, 5, 300, 5.0) == run_case("uart", 3, 5, 300, 5.0) != run_case("uart", 3, 6, 300, 5.0)


def wrong_value(monkeypatch):
    step = StandInModel.step
    monkeypatch.setattr(StandInModel, "step", lambda self, token: [(i, v ^ 2) for i, v in step(self, token)])


def step_made_twice(monkeypatch):
    step = StandInModel.step

    def twice(self, token):
        if self.steps == 20:
            step(self, token)
        return step(self, token)

    monkeypatch.setattr(StandInModel, "step", twice)


def wrong_reason(monkeypatch):
    def fail(self, reason):
        return BoardError("the board: the board was reset, says a host that does not know")

    monkeypatch.setattr(Exchange, "_fail", fail)


def no_end(monkeypatch):
    monkeypatch.setattr(Exchange, "_await", lambda self, sent, replies: [self._serial.read(1) for _ in iter(int, 1)])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (wrong_value, "step 1: "),
        (step_made_twice, "step 2[12]: |steps and clears: "),
        (wrong_reason, "ended with 'the board: the board was reset, says .*"),
        (no_end, "the host reads without end"),
    ],
)
def test_what_is_wrong_is_seen(fault, reason, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(Failure, match=reason):
        run("uart", 1, 20_000, rate=2.0)


@pytest.mark.slow
def test_a_device_that_does_not_answer_is_seen():
    with UsbCable(Random(1), 0) as cable:
        cable.control = lambda *arguments, **options: b""
        with pytest.raises(AssertionError, match="cannot be enumerated on a sound line"):
            cable.open()


@pytest.mark.slow
def test_a_reset_ends_a_request_that_was_broken_off():
    """A host that resets a device may ask for its descriptor first."""
    with UsbCable(Random(1), 0) as cable:
        cable.open()
        cable.transact(SETUP, 0, 0, bytes([0, 5, 9, 0, 0, 0, 0, 0]))
        cable.reset()
        assert len(cable.control(0x80, 6, 0x0100, length=18)) == 18
