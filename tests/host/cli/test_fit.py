"""The command `egret fit`: what it prints; what it says is tested with `egret.host.cost.fit`."""

import json


def test_a_board(egret):
    """Its design is generated."""
    arguments = ("fit", "--hidden", "40,24", "--vocabulary", 50, "--activity", "0.1", "--board", "icebreaker")
    status, out, err = egret(*arguments, "--sparsity", "0.9,0.8", "--json")
    result = json.loads(out)
    assert (status, err, result["embedding"], result["sparsity"]) == (0, "", 24, [0.9, 0.8])
    (board,) = result["boards"]
    assert (board["board"], board["fits"], board["lacks"], board["weight_bits"]) == ("icebreaker", True, [], 4)
    assert board["used"]["large_rams"] <= board["available"]["large_rams"] == 4
    assert board["cycles_per_token"] is board["speed"] is None  # the model does not know compact cores


def test_all_boards(egret, monkeypatch):
    """A table: no board has room for the embedding in block RAM, and one for it in its SDRAM."""
    from egret.boards.estimate import Estimate

    monkeypatch.setattr("egret.boards.design.generate", lambda board, c: c)
    needed = Estimate({"luts": 9000, "block_rams": 100, "multipliers": 9}, 100.0, 100)
    monkeypatch.setattr("egret.boards.estimate.estimate", lambda design: needed)
    arguments = ("fit", "--hidden", "256,256", "--embedding", 256, "--vocabulary", 10_000, "--sparsity", 0.9)
    status, out, _ = egret(*arguments, "--activity", 0.1, "--json")
    boards = {board["board"]: board for board in json.loads(out)["boards"]}
    assert status == 0 and boards["ulx3s-85f"]["options"][0] == "--no-readout"
    assert {name for name, board in boards.items() if board["fits"]} >= {"ulx3s-85f-sdram"}
    assert not any(boards[name]["fits"] for name in ("ulx3s-85f", "icebreaker", "orangecrab-85f"))
    speed = boards["ulx3s-85f-sdram"]["speed"]
    assert speed["cycles_per_token"] == boards["ulx3s-85f-sdram"]["cycles_per_token"] > 0
    wide = json.loads(egret(*arguments, "--weight-bits", 8, "--board", "ulx3s-85f-sdram", "--json")[1])["boards"][0]
    narrow = boards["ulx3s-85f-sdram"]
    assert (narrow["weight_bits"], wide["weight_bits"]) == (4, 8)
    usb = {board["board"]: board for board in json.loads(egret(*arguments, "--line", "usb", "--json")[1])["boards"]}
    assert usb.keys() == boards.keys() - {"icebreaker"}
    assert usb["ulx3s-85f-sdram"]["speed"]["baud"] is None and speed["baud"] > 0
    assert sum(wide["memory_bytes"].values()) > sum(narrow["memory_bytes"].values())
    out = egret(*arguments)[1]
    assert "256,256 neurons, embedding 256, 10,000 words, zeros 0.9, activity 0.1" in out
    assert " bytes of memories; it has " in out and f"{speed['cycles_per_token']:,.0f}" in out and "100 of 208" in out


def test_what_is_refused(refused):
    common = ("fit", "--vocabulary", 50)
    assert refused(*common, "--hidden", "a").startswith("--hidden must be numbers, such as 256,256, not 'a'")
    assert refused(*common, "--hidden", 8, "--activity", "x").startswith("--activity must be numbers, such as 0.9 or")
    assert refused(*common, "--hidden", 8, "--activity", "2").startswith("activity must be from 0 to 1")
    assert refused(*common, "--hidden", 8, "--board", "moon").startswith("--board must be one of ")
