"""The clock at an SDRAM's pin."""

import pytest

from egret.boards.memory import MARGIN, ROUND_TRIP, clock_delay
from egret.rtl.sdram import PARTS


@pytest.mark.parametrize("hertz", [50e6, 80e6, 125e6])
@pytest.mark.parametrize("name", PARTS)
def test_words_stand_when_they_are_sampled(name, hertz):
    """A way there and back of some nanoseconds more or less than is assumed does no harm, nor do commands."""
    part, cycle = PARTS[name], 1 / hertz
    late = clock_delay(part, hertz)
    assert MARGIN <= late <= cycle - MARGIN
    sampled = (part.latency + 1) * cycle
    for way in (ROUND_TRIP - 2e-9, ROUND_TRIP, ROUND_TRIP + 2e-9):
        # Driven from an access time behind the edge before, until some hold time behind the next one.
        edge = late + (part.latency - 1) * cycle
        assert edge + part.access * 1e-9 + way < sampled < edge + cycle + part.hold * 1e-9 + way


def test_a_word_is_sampled_in_its_middle():
    """At 125 MHz 32 ns after the command left; it is there from 16 + 6 + 4 ns on and gone 24 + 2.5 + 4 ns later."""
    late = clock_delay(PARTS["any"], 125e6)
    assert late == pytest.approx(3.75e-9)
    assert 32e-9 - (late + 26e-9) == pytest.approx((late + 30.5e-9) - 32e-9)
