"""The front of zeros by prices: steps, rates and the picture, from figures made up."""

import json

import click
import pytest

from bench.front import front, main, networks, price, steps
from egret.model.errors import InputError
from tests.model.training.test_report import result, write_study


def point(name, sparsity, weight=None, **changes):
    made = result(name, sparsity=sparsity, **changes)
    made["specification"] = {"options": {**made["specification"]["options"], "mac_weight": 0.0}, "prunings": []}
    if weight is not None:
        made["specification"]["prunings"] = [{"set": {}}, {"set": {"mac_weight": weight}}]
    return made


def row(perplexity, cycles, energy=(1.0, 3.0)):
    return {"perplexity": perplexity, "bram_cycles": 9, "sdram_cycles": cycles, "microjoules": energy and [*energy]}


GRID = [point("egru", 0.0), point("egru", 0.9), point("egru-priced", 0.0, 2), point("egru-priced", 0.9, 2)]
NAMES = [one["name"] for one in GRID]
CORE = {
    "networks": dict(zip(NAMES, [row(50.0, 400), row(51.0, 100), row(50.5, 200), row(53.0, 110)], strict=True)),
    "bounds": {},
}


def test_the_price_of_a_point():
    assert [price(one) for one in GRID] == [0, 0, 2, 2]
    assert price({"specification": {"options": {"mac_weight": 3}, "prunings": []}}) == 3


def test_the_networks_that_a_core_ran():
    core = {"networks": {NAMES[2]: row(50.5, 200, (2.0, 4.0)), "other": row(1, 1)}}
    assert networks(GRID, core) == [
        {"name": NAMES[2], "price": 2, "sparsity": 0.0, "perplexity": 50.5, "bram": 9, "sdram": 200, "energy": 3.0}
    ]


def test_steps_and_their_rates():
    """A quarter of the cycles for 1 in perplexity is 0.5 for each halving."""
    found = steps(networks(GRID, CORE), "sdram")
    assert [(one["of"], one["by"], one["to"]) for one in found] == [
        (NAMES[0], "zeros", 0.9), (NAMES[0], "price", 2), (NAMES[1], "price", 2), (NAMES[2], "zeros", 0.9)
    ]  # fmt: skip
    assert [one["perplexity"] for one in found] == [1.0, 0.5, 2.0, 2.5]
    assert [one["share"] for one in found] == pytest.approx([0.25, 0.5, 1.1, 0.55])
    assert [one["rate"] for one in found[:2]] == [0.5, 0.5] and found[2]["rate"] is None


def test_the_front():
    found = networks(GRID, CORE)
    assert [one["name"] for one in front(found, "sdram")] == [NAMES[1], NAMES[2], NAMES[0]]
    assert [one["name"] for one in front(found, "energy")] == [NAMES[0]]


def test_the_script(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    study, lstms, core, picture = (tmp_path / name for name in ("study", "lstms", "core.json", "front.svg"))
    for folder, points in ((study, GRID), (lstms, [result("lstm", cell="lstm")])):
        folder.mkdir()
        write_study(folder, points)
    core.write_text(json.dumps(CORE | {"bounds": {result("lstm", cell="lstm")["name"]: row(49, 500, None)}}))
    main([str(study), str(core), "--picture", str(picture), "--lstms", str(lstms), "--json"], standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert said["front"] == [NAMES[1], NAMES[2], NAMES[0]] and len(said["steps"]) == 4
    svg = picture.read_text()
    assert all(text in svg for text in ("EGRU, no price", "EGRU, price 2", "LSTM, at least", "90 %"))
    main([str(study), str(core), "--cost", "energy"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "costs more" in text and "53.00" in text


def test_what_is_refused(tmp_path):
    (tmp_path / "study").mkdir()
    write_study(tmp_path / "study", GRID)
    core = tmp_path / "core.json"
    core.write_text('{"networks": {}, "bounds": {}}')
    with pytest.raises(click.UsageError, match=r"core.json has no network of .*study"):
        main([str(tmp_path / "study"), str(core)], standalone_mode=False)
    core.write_text('{"networks": {"a": {}}, "bounds": {}}')
    with pytest.raises(InputError, match=r"core.json: not a file of bench.zeros_and_events, or damaged"):
        main([str(tmp_path / "study"), str(core)], standalone_mode=False)
