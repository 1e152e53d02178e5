"""The script that measures how cost grows, and its model: arithmetic, fit, and runs."""

import dataclasses
import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from bench import scaling
from bench.scaling import Columns, Constants, Point, Work
from egret.model.compiler.compile import column_words, compile_image, configuration_for, matrices, pack_matrix
from egret.model.compiler.image import memory_sections
from egret.model.counts import SourceCounts, integer_columns
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from tests.support.networks import few_values, random_network

EXACT = Constants(layer=50, passes=1.5, gate=20, burst=2, gaps=1.2)


def columns(rows, weights, number, taken):
    return Columns(rows, np.array([float(weights)]), np.array([float(number)]), np.array([float(taken)]))


def work(hidden=(100,), *, inputs=50, weights=60, taken=20.0, **others):
    """Every column of a matrix alike, all inputs and ``taken`` events taken."""
    layers, before = [], inputs
    for size in hidden:
        layers.append(
            (
                columns(3 * size, weights, before, min(before, 50)),
                columns(2 * size, weights, size, taken),
                columns(size, weights, size, taken),
            )
        )
        before = size
    return Work(hidden, inputs, 1000, tuple(layers), (taken,) * len(hidden), **{"lanes": 4, "store": "bram"} | others)


def small(seed=1, **options):
    return few_values(random_network(seed, **{"embedding": 64, "hidden": (96, 80), "density": 0.2} | options))


def counted(parameters, steps=12):
    ids = np.random.default_rng(3).integers(0, parameters.embedding.shape[0], steps + 1)
    network, sources = IntegerEngine(parameters), SourceCounts(integer_columns(parameters))
    for token in ids[:-1]:
        sources.add(network.step(np.array([token])))
    return sources, ids


@pytest.mark.parametrize("weights, lanes, words", [(0, 4, 0), (1, 4, 1), (300, 4, 75), (299, 4, 75), (300, 1, 300)])
def test_words_of_full_and_empty_columns(weights, lanes, words):
    """Without zeros to bridge, and with every bank as full as any other."""
    depth = scaling.depth_of(100, lanes, "x")[0]
    assert scaling.words_of(columns(300, weights, 1, 1), lanes, depth, 8) == pytest.approx(words, rel=0.01)


@pytest.mark.parametrize(
    "density, lanes, store",
    [(0.05, 2, "sdram"), (0.2, 2, "sdram"), (0.05, 8, "bram"), (0.3, 8, "bram"), (0.2, 32, "bram")],
)
def test_words_are_those_that_the_compiler_makes(density, lanes, store):
    parameters = small(hidden=(256,), embedding=128, density=density)
    c = configuration_for(parameters, lanes=lanes, store=store, folded_tokens=0, resident_bytes=0)
    sources, ids = counted(parameters)
    own = Work.of(parameters, sources, ids, lanes=lanes, store=store)
    for matrix, part, (words, bits) in zip(
        matrices(parameters, c), own.matrices[0], scaling.packed(own)[0], strict=True
    ):
        assert part.number @ words == pytest.approx(len(pack_matrix(matrix, bits, lanes)[0]), rel=0.05)
    # A matrix near the limit between two widths of its runs may get the other one: a bit of eight.
    assert scaling.traffic(own)["weights"] == pytest.approx(c.weight_memory_bytes, rel=0.12)


def test_uneven_gates_bridge_less():
    """The zeros of a sparse gate beside a dense one are bridged in longer steps."""
    even = columns(4050, 230, 1, 1)
    uneven = dataclasses.replace(even, regions=((2 / 3, 0.92), (1 / 3, 0.08)))
    depth = scaling.depth_of(1350, 2, "x")[0]
    assert scaling.words_of(uneven, 2, depth, 4) < scaling.words_of(even, 2, depth, 4)


@pytest.mark.parametrize("store, folded", [("bram", 0), ("bram", 3), ("sdram", 3)])
def test_memories(store, folded):
    parameters = small()
    c = configuration_for(parameters, lanes=2, store=store, folded_tokens=folded, resident_bytes=0)
    sources, ids = counted(parameters)
    memory = scaling.traffic(Work.of(parameters, sources, ids, lanes=2, store=store, folded=folded))
    sizes = {section.name: section.words * section.word_bits / 8 for section in memory_sections(c)}
    assert memory["embedding"] == sizes["embedding"] and memory["rows"] == sizes.get("rows", 0)
    assert memory["columns"] == pytest.approx(sizes["columns"], rel=0.05)


def test_work_is_that_of_the_steps():
    """As many MACs as the integer network counts, with a step more of the first layer's y and none before the first."""
    parameters = small()
    sources, ids = counted(parameters)
    own = Work.of(parameters, sources, ids, lanes=2, store="sdram", folded=2)
    folded = np.isin(ids[:-1], (0, 1))
    assert own.folded_share == folded.mean() and 0 < folded.sum() < 12
    for number, (matrix, counts) in enumerate(zip(own.matrices, integer_columns(parameters), strict=True)):
        x = sources.x[number] if number else (parameters.embedding[ids[:-1][~folded]] != 0).sum(axis=0)
        y = sources.y[number] * (1 if number else 12 / 11)
        for mine, weights, taken in zip(matrix, (counts.x, counts.y, counts.s), (x, y, sources.s[number]), strict=True):
            assert mine.taken @ mine.weights == pytest.approx(weights @ taken / 12)
            assert mine.number.sum() == len(weights)
    assert Work.from_json(json.loads(json.dumps(own.to_json()))).to_json() == own.to_json()


def test_cycles_of_one_layer():
    """Events, the update pass that nothing hides, the embedding, the reset pass."""
    own = work()
    (x, _), (y, _), (s, _) = scaling.packed(own)[0]
    gate = 20 / 16
    expected = 20 * y[0] + 100 * gate + 50 * x[0] + 20 * s[0] + 50
    assert scaling.cycles(own, EXACT) == pytest.approx(expected)
    # With a word a column, what decides is that an element of the embedding comes a cycle, and one event from a gate.
    few = work(weights=1, inputs=80, lanes=32)
    assert scaling.cycles(few, EXACT) == pytest.approx(20 + 100 + 80 + 20 + 50)
    assert scaling.cycles(few, dataclasses.replace(EXACT, gate=64)) == pytest.approx(20 + 200 + 80 + 40 + 50)


def test_cycles_of_two_layers():
    """The update pass is hidden as far as neurons pass beside columns."""
    own = work((100, 100))
    first, second = ([words[0] for words, _ in layer] for layer in scaling.packed(own))
    words = 20 * first[1] + 50 * first[0] + 20 * first[2] + 20 * second[1] + 50 * second[0] + 20 * second[2]
    waits = 20 / 16 * ((100 - 1.5 * 20) + 0)
    assert scaling.cycles(own, EXACT) == pytest.approx(words + waits + 2 * 50)
    blocked = dataclasses.replace(EXACT, passes=1e-9)
    assert scaling.cycles(own, blocked) == pytest.approx(words + 20 / 16 * 200 + 2 * 50)
    # In the gaps between the bursts of an SDRAM more pass: 2.7 of them a column.
    external = work((100, 100), lanes=2, store="sdram", taken=10.0)
    fewer = dataclasses.replace(EXACT, gaps=0.2)
    assert scaling.cycles(external, fewer) - scaling.cycles(external, EXACT) == pytest.approx(20 / 8 * 10)


def test_cycles_with_an_sdram():
    own = work(lanes=2, store="sdram")
    (x, _), (y, _), (s, _) = scaling.packed(own)[0]
    gate = 20 / 8
    columns_cycles = 20 * (y[0] + 2) + 50 * (x[0] + 2) + 20 * (s[0] + 2)
    assert scaling.cycles(own, EXACT) == pytest.approx(columns_cycles + 100 * gate + (25 + 2) + 50)
    folded = dataclasses.replace(
        own,
        folded_share=1.0,
        matrices=((dataclasses.replace(own.matrices[0][0], taken=np.zeros(1)), *own.matrices[0][1:]),),
    )
    row = 75 * -(-4 * 24 // 16)
    assert scaling.cycles(folded, EXACT) == pytest.approx(20 * (y[0] + 2) + 20 * (s[0] + 2) + 100 * gate + row + 2 + 50)
    # Twice the width brings a word in half a cycle, but the lanes take one.
    assert scaling.cycles(dataclasses.replace(own, width=32), EXACT) == pytest.approx(
        scaling.cycles(own, EXACT) - 25 / 2
    )


def test_cycles_with_resident_words():
    """What is in block RAM need not come, but every word takes the lanes a cycle."""
    own = work(lanes=4, store="sdram")
    (x, _), (y, _), (s, _) = scaling.packed(own)[0]

    def comes(words, taken):
        return taken * (2 * words[0] + 2)

    shares = dataclasses.replace(own, resident=((0.25, 0.5, 0.9),))
    saved = 0.25 * comes(x, 50) + 0.5 * comes(y, 20) + comes(s, 20) - 20 * s[0]
    assert scaling.cycles(own, EXACT) - scaling.cycles(shares, EXACT) == pytest.approx(saved)
    assert shares.part(0, 1).resident == shares.resident
    assert scaling.on_core(shares, scaling.ULX3S).resident and not scaling.on_core(shares, scaling.DDR3).resident


def test_what_is_resident():
    """The words of an image that a text takes from block RAM, counted column by column."""
    parameters = few_values(small())
    sources, ids = counted(parameters)
    taken = scaling.taken_by(parameters, sources, ids, 2)
    image = compile_image(
        parameters,
        configuration_for(parameters, store="sdram", folded_tokens=2, resident_bytes=2000),
        lookups=[np.concatenate(layer) for layer in taken],
    )
    start, words = column_words(image)
    shares = scaling.resident_shares(image, taken)
    base = 0
    for layer, mine in zip(taken, shares, strict=True):
        for one, share in zip(layer, mine, strict=True):
            own = [
                (one[place] * words[base + place], start[base + place] < image.configuration.resident_words)
                for place in range(len(one))
            ]
            base += len(one)
            assert share * sum(count for count, _ in own) == pytest.approx(sum(count for count, near in own if near))
    assert 0 < min(map(max, shares)) and max(map(max, shares)) <= 2 / 3 and len(set(sum(shares, ()))) > 3


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
    measured = [scaling.cycles(own, EXACT) for own in works]
    found = scaling.fit(works, measured)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(EXACT), rel=1e-3)


def test_larger_networks():
    own = work((100, 80))
    twice = own.wider(2)
    assert twice.hidden == (200, 160) and twice.embedding == 100 and twice.events == (40, 40)
    for layer, larger in zip(own.matrices, twice.matrices, strict=True):
        for one, other in zip(layer, larger, strict=True):
            assert other.rows == 2 * one.rows and other.taken @ other.weights == 4 * (one.taken @ one.weights)


def test_parts():
    own = work((100, 80), folded=5, folded_share=0.5, lanes=2, store="sdram")
    first, second = own.part(0, 1), own.part(1, 2)
    assert (first.hidden, first.vocabulary, first.folded) == ((100,), 1000, 5)
    assert (second.hidden, second.embedding, second.vocabulary, second.folded_share) == ((80,), 100, 0, 0)
    sent, received = scaling.link_bytes(second)
    assert 150 < sent - 30 < 160 and 10 + 20 <= received - 12 < 10 + 22


def test_what_fits_a_memory():
    own = work((100,))
    rows = [scaling.on_core(own, dataclasses.replace(scaling.ULX3S, size=size)) for size in (1e4, 2e5, 1e9)]
    assert rows[0] is None and rows[2].folded == own.vocabulary
    memory = scaling.traffic(rows[1])
    assert sum(memory[name] for name in ("weights", "embedding", "rows")) <= 2e5
    assert memory["row"] == 38 * 8 * 3 and 0 < rows[1].folded < own.vocabulary


def test_activity():
    point = Point(name="", hidden=(64, 48), embedding=32, activity=0.3)
    sources, _ = counted(scaling.active_network(point), 40)
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

    monkeypatch.setattr(scaling, "run", run)
    path, points = tmp_path / "new" / "results.json", [Point(name="a"), Point(name="b")]
    first = scaling.gather(points, path)
    assert json.loads(json.dumps(first)) == scaling.gather(points, path) and ran == ["a", "b"]
    scaling.gather([Point(name="a", lanes=4), *points[1:]], path)
    assert ran == ["a", "b", "a"]
    path.write_text("[]")
    with pytest.raises(InputError, match="not a file of results"):
        scaling.gather(points, path)


def test_a_wrong_event_ends_it(monkeypatch):
    monkeypatch.setattr(
        scaling, "measure", lambda *_: SimpleNamespace(mismatches=1, first_mismatch="step 3", counters={"tokens": 1})
    )
    with pytest.raises(InputError, match="tiny: step 3"):
        scaling.run(
            Point(name="tiny", hidden=(4,), embedding=4, lanes=2, density=0.5),
            open_board=lambda configuration: nullcontext(),
        )


def test_a_tiny_study(tmp_path, monkeypatch):
    """One build: run, fit, table, picture."""
    tiny = Point(name="tiny", hidden=(12, 8), embedding=6, lanes=2, vocabulary=9, density=0.5, tokens=5)
    monkeypatch.setattr(scaling, "POINTS", [tiny, dataclasses.replace(tiny, name="again", fitted=False)])
    monkeypatch.setattr(scaling, "STUDIED", ())
    options = ["--results", str(tmp_path / "results"), "--plot", str(tmp_path / "picture.svg")]
    done = CliRunner().invoke(scaling.main, [*options, "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["runs"]] == ["tiny", "again"]
    assert all(abs(row["predicted"] / row["cycles"] - 1) < 0.01 for row in result["runs"])
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    done = CliRunner().invoke(scaling.main, options)
    assert done.exit_code == 0 and "held out" in done.stdout


@pytest.mark.slow
def test_the_model_says_what_the_core_does(tmp_path):
    """All runs of the default set, and what the model makes of the large networks."""
    done = CliRunner().invoke(scaling.main, ["--results", str(tmp_path / "results"), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["runs"]) == len(scaling.POINTS)
    print(result["constants"], result["largest_error"])
    assert abs(result["largest_error"]["fitted"]) < 0.08 and abs(result["largest_error"]["held_out"]) < 0.08
