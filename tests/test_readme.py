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
    perplexity, core, *text = capsys.readouterr().out.splitlines()
    assert perplexity == "perplexity 4.865"
    assert re.fullmatch(r"[\d,]+ cycles a token, 0 mismatches", core)
    assert text[0] == "HAMLET:" and len("\n".join(text)) >= 40
