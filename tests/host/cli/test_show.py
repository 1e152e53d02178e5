"""How a result is printed."""

import json
import math

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
