"""What README says."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.split()) < 900


def test_the_python_example_runs(capsys):
    """As it stands, on the virtual board."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(code, {})
    *steps, cycles = capsys.readouterr().out.splitlines()
    assert len(steps) == len("HAMLET:")
    assert all(re.fullmatch(r"\d+ of 128 neurons of the last layer have an event", line) for line in steps)
    assert cycles == "17092 cycles"
