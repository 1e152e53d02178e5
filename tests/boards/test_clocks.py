"""Dividers of the PLLs."""

import pytest

from egret.boards.clocks import ecp5_settings, ice40_settings


@pytest.mark.parametrize(
    "reference, hertz, expected",
    [
        (25e6, 80e6, (5, 16, 7)),
        (25e6, 100e6, (1, 4, 6)),
        (48e6, 84e6, (4, 7, 7)),
        (12e6, 60e6, (1, 5, 10)),
    ],
)
def test_ecp5_clock(reference, hertz, expected):
    settings = ecp5_settings(reference, hertz)
    assert (settings.reference, settings.feedback, settings.output) == expected
    assert settings.hertz == hertz
    assert 400e6 <= settings.hertz * settings.output <= 800e6


@pytest.mark.parametrize("reference, hertz, expected", [(12e6, 24e6, (0, 63, 5)), (12e6, 48e6, (0, 63, 4))])
def test_ice40_clock(reference, hertz, expected):
    """The dividers that icepll gives."""
    settings = ice40_settings(reference, hertz)
    assert (settings.reference, settings.feedback, settings.output) == expected
    assert settings.hertz == hertz


@pytest.mark.parametrize(
    "settings, hertz", [(ecp5_settings, 1e6), (ecp5_settings, 900e6), (ice40_settings, 24.3e6), (ice40_settings, 600e6)]
)
def test_clock_that_cannot_be_had(settings, hertz):
    with pytest.raises(ValueError, match="^hertz must be a clock that the PLL makes of 12 MHz, not "):
        settings(12e6, hertz)
