"""The command `egret self-test`."""

import json

from egret.host.board import Board
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import memory_sections
from tests.support.memories import stuck


def test_self_test(egret, refused, network, monkeypatch):
    egret("compile", "network", "-o", "image")
    status, out, err = egret("self-test", "image", "--patterns", 2, "--json")
    result = json.loads(out)
    assert (status, err, result["patterns"], result["wrong_steps"]) == (0, "", 2, 0)
    assert result["first_mismatch"] is None and result["coverage"]["weights"]["used"] > 0
    status, out, _ = egret("self-test", "image", "--patterns", 1)
    assert status == 0 and "│ memory weights" in out and "both 0 and 1" in out
    assert refused("self-test", "image", "--patterns", 0) == "--patterns must be at least 1, not 0"
    counters = Board.counters
    with monkeypatch.context() as faulty:
        faulty.setattr(Board, "counters", lambda board: counters(board) | {"faulty_lines": 1 << 3 | 1 << 15})
        status, out, err = egret("self-test", "image", "--patterns", 1, "--json")
    assert (status, json.loads(out)["faulty_lines"]) == (1, [3, 15])
    assert err == "egret: the board's DDR3 is faulty: data lines 3, 15 of 0 to 15\n"
    load = Board.load
    shift = memory_sections(Image.load("image").configuration)["shift"]
    monkeypatch.setattr(Board, "load", lambda board, image: load(board, stuck(image, shift, 5, 3, 1)))
    status, _, err = egret("self-test", "image")
    assert status == 1 and err.count("\n") == 1
    assert err.startswith("egret: the board's memories, or its core, are faulty: image 0, step ")
