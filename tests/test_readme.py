"""What README says that can be checked without running it for long."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECTION = README.partition("## On a board\n")[2].partition("\n## ")[0]
MESSAGES = [
    message
    for row in SECTION.partition("| what it says")[2].splitlines()[2:]
    if row.startswith("| `")
    for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])
]


def literals():
    """Every text in the host's source, what is filled in left out."""
    for path in sorted((ROOT / "host").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_trouble_shooting_table_is_read():
    assert len(MESSAGES) >= 9


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_one_of_the_hosts(message):
    texts = list(literals())
    for part in message.split("…"):
        assert any(part.strip() in text for text in texts), part


def test_the_python_example_runs(monkeypatch):
    """On a board that takes it all."""
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.S)
    calls = []

    class Board:
        def __init__(self, transport):
            calls.append(transport)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            calls.append("close")

        def load(self, image):
            calls.append(image)

        def step(self, token):
            calls.append(token)

        def step_many(self, tokens):
            return iter(tokens)

    monkeypatch.setattr("egret.host.board.Board", Board)
    monkeypatch.setattr("egret.host.transport.open_serial", lambda port: port)
    monkeypatch.setattr("egret.model.compiler.image.Image.load", lambda path: path)
    exec(code, {})
    assert calls == ["/dev/ttyUSB1", "build/icebreaker/image", 0, "close"]
