"""How a result is printed."""

import json
import math
import re

import pytest

from egret.host.cli.show import Result, Table, show


def test_a_result_is_tables_or_one_object(capsys):
    result = Result({"loss": 0.5, "worst": [math.inf, (math.nan, 1)]}, [("loss", "0.500")])
    result.add(
        Result({"layers": {"first": -math.inf}}, tables=[Table("Layers", [("first", "1", "2")], ("", "a", "b"))])
    )
    show(result, "network", True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"loss": 0.5, "worst": [None, [None, 1]], "layers": {"first": None}}
    show(result, "network", False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines] == [
        "network",
        "┌──────┬───────┐",
        "│ loss │ 0.500 │",
        "└──────┴───────┘",
        "Layers",
        "┏━━━━━━━┳━━━┳━━━┓",
        "┃       ┃ a ┃ b ┃",
        "┡━━━━━━━╇━━━╇━━━┩",
        "│ first │ 1 │ 2 │",
        "└───────┴───┴───┘",
    ]


def test_nothing_is_shown_of_a_table_without_rows(capsys):
    show(Result({"tokens": 3}), "network", False)
    assert capsys.readouterr().out == ""


NAMES = ["[bold]x", "[/x]", ":smile:", "{task}"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_markup(name, capsys):
    show(Result({}, [(name, name)], [Table(name, [(name, name)], (name, name))]), name, False)
    assert capsys.readouterr().out.count(name) == 8


@pytest.mark.parametrize("terminal", [False, True])
def test_no_digit_is_cut(terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    figures = [f"{number:,}" for number in range(11_006_080, 11_006_086)]
    show(
        Result({}, [("figures", " ".join(figures))], [Table("x", [("figures", *figures)], tuple("abcdefg"))]),
        "x",
        False,
    )
    out = capsys.readouterr().out
    assert "…" not in out
    if terminal:  # folded
        assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", out).splitlines())) <= 40
    else:
        assert all(out.count(figure) == 2 for figure in figures)
