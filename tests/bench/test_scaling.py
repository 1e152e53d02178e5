"""The script that measures how cost grows: fit, runs, and what is printed."""

import dataclasses
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bench import scaling
from bench import scaling_runs as runs
from bench.scaling_runs import Point, active_network, fit
from egret.host.cost.model import FITTED, cycles
from egret.model.errors import InputError
from tests.support.cost import EXACT, counted, work


def test_fit_finds_the_constants():
    works = [
        work(),
        work((200,)),
        work((100, 100)),
        work((300,), lanes=1),
        work((100,), lanes=1, taken=90.0),
        work((50,), weights=3, lanes=32),
        work(lanes=2, store="sdram"),
        work(lanes=2, store="sdram", taken=60.0),
        work((100, 100), lanes=2, store="sdram", weights=20),
    ]
    measured = [cycles(own, EXACT) for own in works]
    found = fit(works, measured)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(EXACT), rel=1e-3)


def test_activity():
    point = Point(name="", hidden=(64, 48), embedding=32, activity=0.3)
    sources, _ = counted(active_network(point), 40)
    assert sources.activity == pytest.approx([0.3, 0.3], abs=0.08)


def record(point):
    return {
        "point": dataclasses.asdict(point),
        "cycles": 1000.0,
        "words": 900.0,
        "macs": 3000.0,
        "bytes": 1.0,
        "weight_memory": 1.0,
        "memory": 1.0,
        "activity": [0.2],
        "work": work().to_json(),
    }


def test_results_are_kept(tmp_path, monkeypatch):
    ran = []

    def run(point, **options):
        ran.append(point.name)
        return record(point)

    monkeypatch.setattr(runs, "run", run)
    path, points = tmp_path / "new" / "results.json", [Point(name="a"), Point(name="b")]
    first = runs.gather(points, path)
    assert json.loads(json.dumps(first)) == runs.gather(points, path) and ran == ["a", "b"]
    runs.gather([Point(name="a", lanes=4), *points[1:]], path)
    assert ran == ["a", "b", "a"]
    path.write_text("[]")
    with pytest.raises(InputError, match="not a file of results"):
        runs.gather(points, path)


def test_a_wrong_event_ends_it(monkeypatch):
    monkeypatch.setattr(
        runs, "measure", lambda *_: SimpleNamespace(mismatches=1, first_mismatch="step 3", counters={"tokens": 1})
    )
    with pytest.raises(InputError, match="tiny: step 3"):
        runs.run(
            Point(name="tiny", hidden=(4,), embedding=4, lanes=2, density=0.5),
            open_board=lambda configuration: nullcontext(),
        )


@pytest.mark.slow
def test_a_tiny_study(tmp_path, monkeypatch):
    """One build: run, fit, table, picture."""
    tiny = Point(name="tiny", hidden=(12, 8), embedding=6, lanes=2, vocabulary=9, density=0.5, tokens=5)
    monkeypatch.setattr(scaling, "POINTS", [tiny, dataclasses.replace(tiny, name="again", fitted=False)])
    monkeypatch.setattr(scaling, "STUDIED", ())
    options = ["--results", str(tmp_path / "results"), "--plot", str(tmp_path / "picture.svg")]
    options += ["--constants", str(tmp_path / "constants.json")]
    done = CliRunner().invoke(scaling.main, [*options, "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["runs"]] == ["tiny", "again"]
    assert all(abs(row["predicted"] / row["cycles"] - 1) < 0.01 for row in result["runs"])
    assert json.loads((tmp_path / "constants.json").read_text())["constants"] == result["constants"]
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    done = CliRunner().invoke(scaling.main, options)
    assert done.exit_code == 0 and "held out" in done.stdout


@pytest.mark.slow
def test_the_model_says_what_the_core_does(tmp_path):
    """All runs of the default set, what is fitted to them, and what the model makes of the large networks."""
    done = CliRunner().invoke(scaling.main, ["--results", str(tmp_path / "results"), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["runs"]) == len(scaling.POINTS)
    assert result["constants"] == pytest.approx(dataclasses.asdict(FITTED), rel=0.05)
    assert abs(result["largest_error"]["fitted"]) < 0.08 and abs(result["largest_error"]["held_out"]) < 0.08
