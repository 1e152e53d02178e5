"""Accepted utilisation and clock of each board, and the comparison with a new build."""

import json
from pathlib import Path
from typing import Any

__all__ = ["DIRECTORY", "deviations", "load_baseline"]

DIRECTORY = Path(__file__).parent / "baselines"
"""One file a board: ``accepted`` values, and the ``tolerance`` of each as a share of it."""


def load_baseline(name: str) -> dict[str, Any]:
    """What is accepted for the board ``name``: dict with ``accepted`` and ``tolerance``."""
    return json.loads((DIRECTORY / f"{name}.json").read_text())


def deviations(baseline: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Where a build differs from what is accepted by more than the tolerance, to either side.

    Parameters
    ----------
    baseline : dict
        From `load_baseline`.
    summary : dict
        What ``egret build --json`` prints.

    Returns
    -------
    list of str
        A line for each; a better value is one too, so that the file follows.
    """
    found = {"megahertz": summary["megahertz"], **summary["used"]}
    lines = []
    for key, accepted in baseline["accepted"].items():
        share = baseline["tolerance"][key]
        if abs(found[key] - accepted) > share * accepted:
            lines.append(f"{key}: {found[key]:,.6g}, accepted are {accepted:,.6g} within {share:.0%}")
    return lines
