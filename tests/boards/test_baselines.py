"""Accepted figures; `test_build` compares whole builds with them."""

import pytest

from egret.boards.baselines import DIRECTORY, deviations, load_baseline
from egret.boards.catalogue import BOARDS, board_named

VARIANTS = {
    name + board.suffix: board for name in BOARDS for board in map(board_named(name).with_line, board_named(name).lines)
}


def test_deviations():
    baseline = {"accepted": {"luts": 100, "megahertz": 50.0}, "tolerance": {"luts": 0.05, "megahertz": 0.1}}
    assert deviations(baseline, {"megahertz": 45.5, "used": {"luts": 105}}) == []
    assert deviations(baseline, {"megahertz": 44, "used": {"luts": 106}}) == [
        "luts: 106, accepted are 100 within 5%",
        "megahertz: 44, accepted are 50 within 10%",
    ]
    assert len(deviations(baseline, {"megahertz": 56, "used": {"luts": 94}})) == 2


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda path: path.stem)
def test_every_baseline_is_complete(path):
    assert path.stem in VARIANTS
    baseline = load_baseline(path.stem)
    assert set(baseline["accepted"]) == set(baseline["tolerance"])
    assert set(baseline["accepted"]) - {"megahertz"} <= set(VARIANTS[path.stem].device.capacity)
