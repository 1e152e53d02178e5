"""Dividers and phases of the PLLs."""

import dataclasses
import re

import pytest

from egret.boards.catalogue import board_named
from egret.boards.clocks import ecp5_settings, ice40_settings
from egret.boards.design import generate
from egret.model.compiler.configuration import TINY


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


@pytest.mark.parametrize("reference, expected", [(48e6, (4, 1, 48, None)), (25e6, (5, 1, 40, 96))])
def test_ecp5_clock_of_usb(reference, expected):
    """12 MHz, and 48 beside it. Of 25 MHz they need an output of their own that is fed back, of 5 MHz."""
    settings = ecp5_settings(reference, 12e6, 4)
    assert (settings.reference, settings.feedback, settings.output, settings.fed_back) == expected
    oscillator = settings.hertz * settings.output
    assert settings.hertz == 12e6 and 400e6 <= oscillator <= 800e6 and settings.output % 4 == 0
    compared = reference / settings.reference
    assert compared >= 3.125e6
    assert oscillator / (settings.fed_back or settings.output) / settings.feedback == compared


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


@pytest.mark.parametrize("hertz, expected", [(62.5e6, (2, 5, 10)), (80e6, (5, 16, 8))])
def test_ecp5_clock_of_a_memory(hertz, expected):
    """Twice as fast, so the oscillator's divider for the core is even."""
    settings = ecp5_settings(25e6, hertz, 2)
    assert (settings.reference, settings.feedback, settings.output, settings.ratio) == (*expected, 2)
    assert 400e6 <= settings.hertz * settings.output <= 800e6


def test_no_memory_at_an_ice40():
    with pytest.raises(ValueError, match="^its PLL has no clock for a memory$"):
        ice40_settings(12e6, 24e6, 2)


def test_phases_of_a_memory():
    """At 62.5 MHz, and 3.75 ns late at the pin: 168.75 degrees of 8 ns, which are 2.34 cycles of the oscillator.

    ``ecppll -i 25 -o 62.5 --clkout1 125 --clkout2 125 --phase2 168.75`` gives the same dividers, and the same phases
    counted from that of its first output, save that it cuts eighths off where ours are rounded.
    """
    small = dataclasses.replace(TINY, weight_words=64, store="sdram", weight_bits=4, lanes=4, memory_ratio=2)
    text = generate(board_named("ulx3s-85f-sdram"), small).rtlil
    cell = text[text.index("cell \\EHXPLLL") :]
    values = {name: int(value) for name, value in re.findall(r"parameter \\(CLK\w+) (\d+)\n", cell)}
    assert [values[name] for name in ("CLKI_DIV", "CLKFB_DIV", "CLKOP_DIV", "CLKOS_DIV", "CLKOS2_DIV")] == [
        2,
        5,
        10,
        5,
        5,
    ]
    base = values["CLKOP_CPHASE"]
    assert [values[f"CLKO{name}PHASE"] for name in ("S_C", "S_F", "S2_C", "S2_F")] == [base, 0, base + 2, 3]
