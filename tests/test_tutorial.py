"""docs/tutorial.ipynb: its cells run as they stand, from a module to a waveform, and to a bitstream."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent / "docs/tutorial.ipynb"
CELLS = json.loads(TUTORIAL.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def is_slow(cell):
    return "slow" in cell["metadata"].get("tags", ())


def test_its_form():
    """About fifteen cells that do something, each explained before; no output is kept, as no test compares it."""
    assert len(CODE) == 14 and len({cell["id"] for cell in CELLS}) == len(CELLS)
    assert [cell for cell in CODE if is_slow(cell)] == CODE[-1:]
    for before, cell in zip(CELLS, CELLS[1:], strict=False):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown" and not cell["outputs"] and cell["execution_count"] is None
            compile("".join(cell["source"]), cell["id"], "exec")
    links = re.findall(r"\]\(([^:)]+)\)", "".join(line for cell in CELLS for line in cell["source"]))
    assert links and all((TUTORIAL.parent / link).is_file() for link in links)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_cells_run(tmp_path, whole):
    """The last cell, which builds the bitstream, in the long test alone."""
    cells = [cell for cell in CODE if whole or not is_slow(cell)]
    (tmp_path / "tutorial.py").write_text("\n\n".join("".join(cell["source"]) for cell in cells))
    done = subprocess.run([sys.executable, "tutorial.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    perplexities = [float(one) for one in re.findall(r"^(?:float|integer): perplexity (.*)$", done.stdout, re.M)]
    assert perplexities[0] < 12 and perplexities[1] == pytest.approx(perplexities[0], rel=0.05)
    assert "cycles a token, 0 mismatches" in done.stdout and "\nHAMLET:" in done.stdout
    made = {path.name for path in (tmp_path / "tutorial").iterdir()}
    assert {"image", "explain.html", "core.gtkw", "core.sucl"} < made
    assert ("icebreaker" in made) == whole
