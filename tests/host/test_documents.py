"""What docs/boards.md and docs/guide.md say of the host, which can be checked without a board."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOARDS, GUIDE = ((ROOT / "docs" / name).read_text() for name in ("boards.md", "guide.md"))
MESSAGES = [
    message
    for row in BOARDS.partition("| what it says")[2].partition("\n\n")[0].splitlines()[2:]
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


def test_the_example_with_a_serial_port_runs(monkeypatch):
    """On a board that takes it all."""
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "open_serial(" in one)
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
