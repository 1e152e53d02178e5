"""Reports: the numbers of the results beside the papers', in HTML and in CSV."""

import csv
import json
import re
from pathlib import Path

import pytest

from egret.model.errors import InputError
from egret.model.training.report.data import deviation, over_seeds
from egret.model.training.report.figures import perplexity_against_sparsity
from egret.model.training.report.page import write_report
from tests.support.page import Page, needs_nothing

SIZES = [3, 5]


def histogram(total, low=-1.0, high=1.0, **more):
    return {"low": low, "high": high, "counts": [0, total - 1, 1, 0], **more}


def result(run="egru", sparsity=0.0, seed=1, decay=0.1, *, cell="egru", test=60.0, macs=5e6):
    """What a sweep writes, with perplexities and activities that tell points apart."""
    name = f"{run}-decay{decay:g}-seed{seed}-{f'sparse{100 * sparsity:g}' if sparsity else 'dense'}"
    return {
        "version": 2, "name": name, "run": run, "cell": cell, "seed": seed, "weight_decay": decay,
        "sparsity": sparsity, "parent": None, "specification": {"options": {"hidden_sizes": SIZES}}, "epochs": 7,
        "seconds": 12.5, "device": "CPU", "tokens_per_second": 1234.5, "zeros": sparsity, "streams": 64,
        "valid": {"tokens": 10, "perplexity": test + 2}, "test": {"tokens": 10, "perplexity": test},
        "activity": [0.25, 0.5] if cell == "egru" else [1.0, 1.0],
        "macs": {"dense": 24165000, "pruned": 9, "event_driven": 8.0, "event_driven_pruned": macs,
                 "layers": [macs / 4, 3 * macs / 4]},
        "histograms": {
            "weights": [histogram(20, mean=-0.1, zeros=4), histogram(30, mean=0.1, zeros=0)],
            "biases": [histogram(9, mean=-0.3), histogram(15, mean=0.0)],
            "activity": [histogram(size, 0.0) for size in SIZES],
            "distances": [histogram(10 * size, -2.0) for size in SIZES] if cell == "egru" else [],
        },
    }  # fmt: skip


RESULTS = (
    result(test=59.12, macs=6.5e6),
    result(seed=2, test=56.55, macs=6.3e6),
    result(sparsity=0.85, test=58.31, macs=1.1e6),
    result(decay=1.0, test=61.77),
    result("lstm", cell="lstm", test=57.44, macs=20.19e6),
)
MISSING = {"name": "lstm-decay0.1-seed1-sparse95", "run": "lstm", "cell": "lstm", "seed": 1, "weight_decay": 0.1}


def write_study(directory, results=RESULTS, corpus="ptb"):
    """Make a directory that of a study, with the results given and one point missing."""
    for content in results:
        (directory / content["name"]).mkdir()
        (directory / content["name"] / "result.json").write_text(json.dumps(content))
    content = {
        "version": 2,
        "title": "Penn & Treebank",
        "corpus": corpus,
        "points": [*results, {**MISSING, "sparsity": 0.95}],
    }
    (directory / "study.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with the report of `RESULTS`, and what was returned."""
    directory = tmp_path_factory.mktemp("study")
    write_study(directory)
    return directory, write_report(directory)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_page(written):
    directory, report = written
    assert (report.page, report.finished, report.missing) == (f"{directory}/report.html", 5, 1)
    text = (directory / "report.html").read_text()
    page = Page(text)
    summary, sparsities, points = page.tables
    assert summary[0] == ["network", "figure", "goal (papers)", "reached", "gap"]
    assert len(summary) == 1 + 37
    # Two seeds of the dense EGRU: (59.12 + 56.55) / 2, and their difference over the root of two.
    assert ["EGRU, dense", "test perplexity", "56.60", "57.83 \N{PLUS-MINUS SIGN} 1.82", "+1.23"] in summary
    assert ["EGRU, 85 % of weights zero", "test perplexity", "58.70", "58.31", "\N{MINUS SIGN}0.39"] in summary
    assert ["EGRU, 95 % of weights zero", "test perplexity", "65.20", "missing", "\N{EM DASH}"] in summary
    assert ["LSTM, dense", "test perplexity", "57.10", "57.44", "+0.34"] in summary
    assert ["EGRU, 85 % of weights zero", "MACs per token", "1.20 M", "1.10 M", "\N{MINUS SIGN}0.10 M"] in summary
    full = ["EGRU, dense", "MACs per token, all neurons active", "24.20 M", "24.16 M", "\N{MINUS SIGN}0.04 M"]
    assert full in summary or [*full[:3], "24.17 M", "\N{MINUS SIGN}0.03 M"] in summary
    two = ["59.83 \N{PLUS-MINUS SIGN} 1.82", "57.83 \N{PLUS-MINUS SIGN} 1.82", "56.60"]
    two += ["40.6 %", "6.40 M \N{PLUS-MINUS SIGN} 0.14 M", "6.40 M"]
    assert ["egru (2 seeds)", "0 %", *two] in sparsities
    assert ["egru", "85 %", "60.31", "58.31", "58.70", "40.6 %", "1.10 M", "1.20 M"] in sparsities
    assert ["lstm", "95 %", "missing", "missing", "66.50", "missing", "missing", "1.00 M"] in sparsities
    assert [row[0] for row in points[1:]] == [*(content["name"] for content in RESULTS), MISSING["name"]]
    assert points[1][1:7] == ["7", "12 s", "CPU", "1,234", "61.12", "59.12"]
    assert points[-1][1] == "missing"
    assert "<title>Penn &amp; Treebank</title>" in text
    assert "5 of 6 points are finished, trained on Penn Treebank" in text
    assert text.count("not available") >= 5  # what the papers show in figures only
    assert text.count("arXiv 2405.00433") > 5 and text.count("arXiv 2311.07625") > 2


def test_the_page_needs_nothing_beside_it(written):
    text = (written[0] / "report.html").read_text()
    assert needs_nothing(text).tags.count("svg") == 7


def test_the_figures_are_files_too(written):
    directory, report = written
    names = ["macs", "sparsity", "activity", "weight-decay", "parameters", "neurons", "distances"]
    assert report.figures == [f"{directory}/report-{name}.svg" for name in names]
    text = (directory / "report.html").read_text()
    for name in names:
        assert (directory / f"report-{name}.svg").read_text() in text


def test_figures_over_sparsity_show_one_weight_decay(tmp_path):
    """The one that was pruned, even if another's dense network is better; with none pruned, the better."""
    write_study(tmp_path, [*RESULTS[:4], result(decay=0.03, test=40)])
    write_report(tmp_path)
    shown = re.findall(r'<p class="points">Points: (.*)\.</p>', (tmp_path / "report.html").read_text())
    assert shown[:3] == [", ".join(point["name"] for point in RESULTS[:3])] * 3
    assert "egru-decay0.03-seed1-dense" in shown[3]
    for path in tmp_path.glob("*sparse*/result.json"):
        path.unlink()
    write_report(tmp_path)
    shown = re.findall(r'<p class="points">Points: (.*)\.</p>', (tmp_path / "report.html").read_text())
    assert shown[:3] == ["egru-decay0.03-seed1-dense"] * 3


def test_layers_differ_in_number(tmp_path):
    """One run whose networks have one and two layers."""
    one = result(sparsity=0.5)
    one = one | {
        "activity": [0.3],
        "specification": {"options": {"hidden_sizes": [3]}},
        "macs": one["macs"] | {"layers": [1.0]},
        "histograms": {name: layers[:1] for name, layers in one["histograms"].items()},
    }
    for directory, results in (("first", [result(), one]), ("last", [one | {"sparsity": 0.0}, result(sparsity=0.5)])):
        (tmp_path / directory).mkdir()
        for number, content in enumerate(results):
            content["name"] = f"{number}"
        write_study(tmp_path / directory, results)
        write_report(tmp_path / directory)
        figure = (tmp_path / directory / "report-activity.svg").read_text()
        assert figure.count(">layer 1<") == figure.count(">layer 2<") == 1


def test_the_tables(written):
    directory, report = written
    names = ["points", "seeds", "weights", "biases", "activity", "distances"]
    assert report.tables == [f"{directory}/report-{name}.csv" for name in names]
    points = read(directory / "report-points.csv")
    assert [row["state"] for row in points] == ["finished"] * 5 + ["missing"]
    for row, content in zip(points[:5], RESULTS, strict=True):
        assert row["name"] == content["name"]
        assert float(row["test_perplexity"]) == content["test"]["perplexity"]
        assert float(row["valid_perplexity"]) == content["valid"]["perplexity"]
        assert float(row["macs_per_token"]) == content["macs"]["event_driven_pruned"]
        assert [float(row[f"macs_layer_{layer}"]) for layer in (1, 2)] == content["macs"]["layers"]
        assert [float(row[f"activity_layer_{layer}"]) for layer in (1, 2)] == content["activity"]
    assert float(points[0]["activity"]) == pytest.approx((3 * 0.25 + 5 * 0.5) / 8)
    papers = [(row["papers_test_perplexity"], row["papers_macs_per_token"]) for row in points]
    assert papers == [("56.6", "6400000.0")] * 2 + [("58.7", "1200000.0"), papers[3], ("57.1", "20200000.0"), ("", "")]
    assert points[5]["name"] == MISSING["name"] and points[5]["test_perplexity"] == ""
    for name in names[2:]:
        rows = read(directory / f"report-{name}.csv")
        for content in RESULTS:
            for layer, expected in enumerate(content["histograms"][name]):
                own = [row for row in rows if (row["point"], row["layer"]) == (content["name"], str(layer + 1))]
                assert [int(row["count"]) for row in own] == expected["counts"]
                assert (float(own[0]["low"]), float(own[-1]["high"])) == (expected["low"], expected["high"])
                assert all(one["high"] == next["low"] for one, next in zip(own, own[1:], strict=False))
    assert not {row["point"] for row in read(directory / "report-distances.csv")} & {"lstm-decay0.1-seed1-dense"}


def test_mean_and_deviation_over_seeds(tmp_path):
    """Perplexities of 1, 2 and 6 have the mean 3 and the deviation sqrt((4 + 1 + 9) / 2)."""
    tests, counts = (1.0, 2.0, 6.0), (1e6, 4e6, 4e6)
    own = [result(seed=n, test=test, macs=m) for n, (test, m) in enumerate(zip(tests, counts, strict=True))]
    own[0]["activity"], own[1]["activity"] = [0.1, 0.5], [0.4, 0.5]
    (merged,) = over_seeds(own)
    assert (merged["test"]["perplexity"], merged["valid"]["perplexity"]) == (3.0, 5.0)
    assert deviation(merged, lambda point: point["test"]["perplexity"]) == pytest.approx(7**0.5)
    assert merged["macs"]["layers"] == [0.75e6, 2.25e6] and merged["macs"]["event_driven_pruned"] == 3e6
    assert merged["activity"] == pytest.approx([0.25, 0.5])
    assert (merged["name"], merged["members"]) == (own[0]["name"], own)
    assert own[1]["test"]["perplexity"] == 2.0  # what came in is as it was
    other = result(seed=1, decay=1.0)
    assert [len(point["members"]) for point in over_seeds([*own, other])] == [3, 1]
    assert deviation(over_seeds([other])[0], lambda point: point["test"]["perplexity"]) == 0
    write_study(tmp_path, [*own, other])
    write_report(tmp_path)
    first, second = read(tmp_path / "report-seeds.csv")
    assert (first["seeds"], first["test_perplexity"], first["macs_per_token"]) == ("3", "3.0", "3000000.0")
    assert float(first["test_perplexity_deviation"]) == pytest.approx(7**0.5)
    assert float(first["macs_per_token_deviation"]) == pytest.approx(3e6**0.5 * 1e3)
    assert (second["seeds"], second["test_perplexity_deviation"]) == ("1", "0.0")


def test_a_band_where_there_are_several_seeds():
    def bands(results):
        return perplexity_against_sparsity(results, None).axes[0].collections

    assert len(bands([RESULTS[0], RESULTS[2]])) == 0
    (band,) = bands([*RESULTS[:3], RESULTS[4]])  # the LSTM has one seed
    heights = band.get_paths()[0].vertices[:, 1]
    mean, spread = (59.12 + 56.55) / 2, (59.12 - 56.55) / 2**0.5
    assert (heights.min(), heights.max()) == (
        pytest.approx(min(58.31, mean - spread)),
        pytest.approx(max(58.31, mean + spread)),
    )


def test_one_seed_has_no_table_of_seeds(tmp_path):
    write_study(tmp_path, [RESULTS[0], *RESULTS[2:]])
    report = write_report(tmp_path)
    assert not any("seeds" in path for path in report.tables)
    assert "\N{PLUS-MINUS SIGN}" not in (tmp_path / "report.html").read_text().replace(
        "\N{PLUS-MINUS SIGN} the standard deviation", ""
    )


def test_goals(written):
    goals = written[1].goals
    assert len(goals) == 37
    assert goals[0] == {
        "study": written[0].name, "cell": "egru", "sparsity": 0.0, "quantity": "perplexity", "goal": 56.6,
        "reached": pytest.approx(57.835), "gap": pytest.approx(57.835 - 56.6), "point": "egru-decay0.1-seed2-dense",
        "deviation": pytest.approx((59.12 - 56.55) / 2**0.5), "seeds": 2,
        "source": "arXiv 2405.00433, fig. 2, tables 3 and 4",
    }  # fmt: skip
    reached = [(goal["cell"], goal["sparsity"], goal["quantity"]) for goal in goals if goal["reached"] is not None]
    assert reached == [
        *[("egru", 0.0, "perplexity"), ("egru", 0.85, "perplexity"), ("egru", 0.0, "macs"), ("egru", 0.85, "macs")],
        *[("lstm", 0.0, "perplexity"), ("lstm", 0.0, "macs"), ("egru", 0.0, "macs_dense")],
    ]


def test_a_study_without_a_corpus(tmp_path):
    write_study(tmp_path, corpus=None)
    assert write_report(tmp_path).goals == []
    text = (tmp_path / "report.html").read_text()
    assert "The study names no corpus of the papers, so there are no goals to compare with." in text
    assert "n/a" in text
    assert "papers</text>" not in text  # no line of theirs in any figure


def test_figures_without_points(tmp_path):
    write_study(tmp_path, [result("lstm", cell="lstm")])
    write_report(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg ") == 2
    assert text.count("Missing: no such point is finished.") == 5
    assert {path.name for path in tmp_path.glob("*.svg")} == {"report-macs.svg", "report-sparsity.svg"}


def test_the_same_results_give_the_same_page(written, tmp_path):
    directory, calls = written[0], []
    report = write_report(directory, tmp_path / "again.htm", progress=lambda *call: calls.append(call))
    assert report.tables[0] == f"{tmp_path}/again-points.csv"
    assert (tmp_path / "again.htm").read_bytes() == (directory / "report.html").read_bytes()
    assert calls == [(number, 7) for number in range(1, 8)]


def test_an_infinite_perplexity(tmp_path):
    """Null in the file, for JSON has no infinity."""
    write_study(tmp_path, [*RESULTS, result(seed=3) | {"test": {"tokens": 10, "perplexity": None}}])
    assert write_report(tmp_path).finished == len(RESULTS) + 1
    text = (tmp_path / "report.html").read_text()
    assert ">inf</td>" in text and "nan" not in text


def test_what_is_refused(tmp_path):
    def refused(directory=tmp_path, path=None):
        with pytest.raises(InputError) as caught:
            write_report(directory, path)
        assert not any(path.suffix in (".html", ".csv", ".svg") for path in tmp_path.rglob("*"))
        return str(caught.value)

    assert refused(tmp_path / "no") == f"{tmp_path}/no: no such directory; expected one that `egret sweep` wrote"
    assert refused() == f"{tmp_path}: no point is finished there (no */result.json); run `egret sweep` first"
    write_study(tmp_path)
    path = tmp_path / RESULTS[0]["name"] / "result.json"
    assert refused(path=tmp_path / "no" / "page.html") == (
        f"{tmp_path}/no/page-points.csv: cannot write it: No such file or directory"
    )
    histograms = RESULTS[0]["histograms"]
    for damage in (
        {"version": 1},
        {"activity": ["a"]},
        {"histograms": {}},
        {"cell": "gru"},
        {"valid": 1},
        {"macs": {}},
        {"activity": [0.5]},
        {"activity": [0.5, 1e300]},
        {"run": 3},
        {"weight_decay": []},
        {"specification": {}},
        {"sparsity": "0"},
        {"histograms": histograms | {"biases": [histogram(9, mean=None)]}},
        {"histograms": histograms | {"weights": [{"low": 0, "high": 1, "counts": []}]}},
    ):
        path.write_text(json.dumps({**RESULTS[0], **damage}))
        assert refused() == f"{path}: not a file of `egret sweep`, or damaged"
    path.write_text(json.dumps(RESULTS[0]))
    study = json.loads((tmp_path / "study.json").read_text())
    for damage in ({"version": 1}, {"title": 3}, {"corpus": "other"}, {"points": 3}, {"points": [{"name": "a"}]}):
        (tmp_path / "study.json").write_text(json.dumps(study | damage))
        assert refused() == f"{tmp_path}/study.json: not a file of `egret sweep`, or damaged"
    (tmp_path / "study.json").write_text(json.dumps(study))
    for damaged in (json.dumps(RESULTS[0])[:-1], "[" * 100_000):
        path.write_text(damaged)
        assert refused() == f"{path}: not a file of `egret sweep`, or damaged"


def test_one_page_of_several_studies(tmp_path):
    """Each study as on a page of its own, with its own figures and tables beside."""
    alone = []
    for name, corpus in (("a", "ptb"), ("b", None)):
        (tmp_path / name).mkdir()
        write_study(tmp_path / name, corpus=corpus)
        alone.append(write_report(tmp_path / name))
    steps = []
    both = write_report(
        [tmp_path / "a", tmp_path / "b"], tmp_path / "all.html", progress=lambda *step: steps.append(step)
    )
    assert (both.finished, both.missing) == (10, 2)
    assert both.goals == alone[0].goals and {goal["study"] for goal in both.goals} == {"a"}
    assert steps == [(number + 1, 14) for number in range(14)]
    text, bodies = (tmp_path / "all.html").read_text(), []
    for name, report in zip("ab", alone, strict=True):
        own = (tmp_path / name / "report.html").read_text()
        bodies.append(own.split("<body>\n")[1].split("</body>")[0])
        assert bodies[-1] in text and f'<a href="#{name}">' in text
        for kind, files in (("csv", report.tables), ("svg", report.figures)):
            for file in files:
                beside = tmp_path / f"all-{name}-{file.split('report-')[1]}"
                assert file.endswith(kind) and beside.read_text() == Path(file).read_text()
    assert text.index(bodies[0]) < text.index(bodies[1])
    assert len({*both.tables, *both.figures}) == sum(len(one.tables) + len(one.figures) for one in alone)


def test_studies_that_cannot_be_on_one_page(tmp_path):
    with pytest.raises(InputError, match="^one page of 2 studies needs its name: -o FILE$"):
        write_report(["a", "b"])
    with pytest.raises(InputError, match="^a: two studies on one page must be in directories of different names$"):
        write_report(["x/a", "y/a"], tmp_path / "all.html")
    assert not any(tmp_path.iterdir())
