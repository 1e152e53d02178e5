"""The published studies: their reports, their tables in the documents and their study files say the same."""

import csv
import json
import re
from pathlib import Path

import pytest

from egret.model.errors import InputError
from egret.model.training.report.page import write_report
from egret.model.training.results import RESULT, read_result
from egret.model.training.study import Study
from egret.model.training.sweep import check_specification

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "docs" / "study-ptb"
LONGER = ROOT / "docs" / "study-ptb-lstm"
WIKITEXT = ROOT / "docs" / "study-wikitext2"
SHARES = ROOT / "docs" / "study-ptb-shares"
SEEDS = ROOT / "docs" / "study-ptb-seeds"
GRID, UNTAUGHT, SMALL = (ROOT / "docs" / f"study-ptb-{name}" for name in ("grid", "untaught", "small"))
SECTION = (ROOT / "docs" / "training.md").read_text().split("### The Penn Treebank study\n")[1].split("\n## ")[0]


def read_points(study):
    with open(study / "report-points.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def points():
    return read_points(STUDY)


def row(start, text=SECTION):
    """Cells of the one row of the text that begins with these, numbers of each."""
    (line,) = re.findall(rf"^\| {re.escape(start)} \|(.*)\|$", text, re.MULTILINE)
    return [re.findall(r"-?\d+\.?\d*", cell) for cell in line.split("|")]


def millions(text):
    return f"{float(text) / 1e6:.2f}"


def percent(point):
    return [f"{100 * float(point[f'activity_layer_{layer}']):.1f}" for layer in (1, 2, 3)]


def perplexities(point):
    return [f"{float(point[name]):.2f}" for name in ("valid_perplexity", "test_perplexity")]


@pytest.mark.parametrize(
    ("study", "finished", "left", "reached", "missing"),
    [(STUDY, 22, 0, 32, 0), (LONGER, 6, 0, 8, 27), (SHARES, 8, 0, 3, 32), (WIKITEXT, 10, 0, 18, 16),
     (SEEDS, 40, 1, 7, 24), (GRID, 28, 0, 4, 24), (UNTAUGHT, 8, 0, 6, 24), (SMALL, 60, 0, 0, 0)],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_the_report_is_that_of_the_results(study, finished, left, reached, missing, tmp_path):
    """The tables to the last digit; figures depend on matplotlib's version."""
    report = write_report(study, tmp_path / "report.html")
    assert (report.finished, report.missing) == (finished, left)
    gaps = [goal["gap"] for goal in report.goals]
    assert sum(gap is not None and gap <= 0 for gap in gaps) == reached
    assert gaps.count(None) == missing and len(gaps) == {WIKITEXT: 36, SMALL: 0}.get(study, 37)
    for path in map(Path, report.tables):
        if study in (SEEDS, GRID, UNTAUGHT, SMALL) and path.stem not in ("report-points", "report-seeds"):
            continue  # left out, as they are large
        assert path.read_text() == (study / path.name).read_text()
    assert all((study / Path(path).name).exists() for path in report.figures)


def test_the_document_has_the_figures_over_sparsity(points):
    for sparsity in (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95):
        cells = row(f"{100 * sparsity:g} %" if sparsity else "dense")
        egru, lstm = (
            next(
                point
                for point in points
                if (point["run"], float(point["sparsity"])) == (run, sparsity)
                and point["weight_decay"] in ("0.1", "0.06")
            )
            for run in ("egru", "lstm")
        )
        papers = [list(filter(None, [point["papers_test_perplexity"]])) for point in (egru, lstm)]
        assert cells == [
            perplexities(egru),
            papers[0],
            percent(egru),
            [millions(egru["macs_per_token"])],
            perplexities(lstm),
            papers[1],
            [millions(lstm["macs_per_token"])],
        ]


def test_the_document_has_the_figures_of_the_longer_chain(points):
    study = {float(point["sparsity"]): point for point in points if point["run"] == "lstm"}
    text = SECTION.split("### An LSTM with a longer chain")[1].split("### ")[0]
    for point in read_points(LONGER):
        sparsity = float(point["sparsity"])
        assert row(f"LSTM, {100 * sparsity:g} %" if sparsity else "LSTM, dense", text) == [
            [point["epochs"]],
            perplexities(point),
            perplexities(study[sparsity])[1:] if sparsity in study else [],
            [millions(point["macs_per_token"])],
        ]


def test_the_documents_have_the_shares_of_teachers_and_price():
    found = {(point["run"], point["sparsity"]): point for point in read_points(SHARES)}
    rows = {
        "taught, dense | two | none": ("egru", "0.0"),
        "taught | two | none": ("egru", "0.85"),
        "taught, priced | two | 0.6": ("egru-priced", "0.85"),
        "taught, priced more | two | 2": ("egru-priced-2", "0.85"),
        "untaught, dense | none | none": ("egru-untaught", "0.0"),
        "untaught | none | none": ("egru-untaught", "0.85"),
        "untaught, priced | none | 0.6": ("egru-untaught-priced", "0.85"),
        "untaught, less dropout | none | none": ("egru-untaught-light", "0.85"),
    }
    assert {*rows.values()} == {*found}
    for start, key in rows.items():
        point = found[key]
        assert row(start) == [perplexities(point), percent(point), [millions(point["macs_per_token"])]]
    results = (ROOT / "docs" / "results.md").read_text()
    for start, stem in (("with teachers", "egru"), ("without", "egru-untaught")):
        points = [found[stem, "0.85"], found[f"{stem}-priced", "0.85"]]
        assert row(start, results) == [[*perplexities(one)[1:], millions(one["macs_per_token"])] for one in points]


def test_the_documents_have_the_spread_over_seeds():
    results = (ROOT / "docs" / "results.md").read_text()
    names = {
        ("egru", "0.0"): "EGRU, dense", ("egru", "0.85"): "EGRU, 85 %", ("egru", "0.95"): "EGRU, 95 %",
        ("egru-priced", "0.85"): "EGRU, 85 %, priced", ("egru-priced", "0.95"): "EGRU, 95 %, priced",
        ("egru-priced-2", "0.85"): "EGRU, 85 %, priced 2", ("lstm", "0.0"): "LSTM, dense",
        ("lstm", "0.85"): "LSTM, 85 %", ("lstm", "0.95"): "LSTM, 95 %",
    }  # fmt: skip
    with open(SEEDS / "report-seeds.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert {(one["run"], one["sparsity"]) for one in found} == {*names}
    for one in found:
        cells = []
        for name, scale in (("valid_perplexity", 1), ("test_perplexity", 1), ("macs_per_token", 1e6)):
            numbers = [f"{float(one[column]) / scale:.2f}" for column in (name, f"{name}_deviation")]
            cells.append(numbers if numbers[1] != "0.00" else numbers[:1])
        text = SECTION.split("### Spread over seeds")[1].split("### ")[0]
        assert row(names[one["run"], one["sparsity"]], text) == [[one["seeds"]], *cells]
        if one["run"] != "egru-priced-2":
            assert row(names[one["run"], one["sparsity"]], results) == cells[1:]


def test_the_document_has_the_figures_of_the_core():
    results = (ROOT / "docs" / "results.md").read_text()
    content = json.loads((SEEDS / "core.json").read_bytes())
    found = content["networks"] | content["bounds"]
    names = {
        "EGRU, 85 %, no price": "unpriced-85",
        "EGRU, 95 %, no price": "unpriced-95",
        "`ptb-egru-85.egret`": "ptb-egru-85",
        "`ptb-egru-95.egret`": "ptb-egru-95",
        "LSTM, 85 %, at least": "lstm-decay0.06-seed1-sparse85",
        "LSTM, 95 %, at least": "lstm-decay0.06-seed1-sparse95",
    }
    for start, name in names.items():
        one = found[name]
        counts = (one[key] for key in ("macs", "bram_cycles", "bram_bytes", "sdram_cycles", "sdram_bytes"))
        energy = " to ".join(f"{value:.0f}" for value in one["microjoules"] or ())
        cells = [f"{one['perplexity']:.2f}", *(f"{count:,}" for count in counts), energy]
        assert f"| {start} | {' | '.join(cells)} |".replace("|  |", "| |") in results


def test_the_document_says_what_an_lstm_needs_to_be_as_good(points):
    """Between the better of both LSTMs at each sparsity, in a straight line."""
    both = [point for point in [*points, *read_points(LONGER)] if point["run"] == "lstm"]
    chosen = {}
    for point in sorted(both, key=lambda point: -float(point["test_perplexity"])):
        chosen[float(point["sparsity"])] = float(point["test_perplexity"]), float(point["macs_per_token"])
    results = (ROOT / "docs" / "results.md").read_text()
    for perplexity, own, low, high, needed, times in [
        (55.9, 672_320, 0.9, 0.95, "1.8", "2.6"),
        (58.5, 252_005, 0.95, 0.97, "0.87", "3.4"),
        (55.36, 980_000, 0.9, 0.95, "2.0", "2.1"),
        (58.21, 430_000, 0.95, 0.97, "0.91", "2.1"),
    ]:
        (left, most), (right, least) = chosen[low], chosen[high]
        assert left < perplexity < right
        macs = most + (perplexity - left) / (right - left) * (least - most)
        assert f"{macs / 1e6:.{len(needed) - 2}f}" == needed and f"{macs / own:.1f}" == times
        assert f"{times} times" in results


def test_the_documents_have_the_figures_of_wikitext2():
    results = (ROOT / "docs" / "results.md").read_text().split("## WikiText-2\n")[1].split("\n## ")[0]
    training = SECTION.split("### WikiText-2\n")[1]
    points = {(point["run"], float(point["sparsity"])): point for point in read_points(WIKITEXT)}
    for sparsity in (0, 0.8, 0.85, 0.9, 0.95):
        egru, lstm = points["egru", sparsity], points["lstm", sparsity]
        papers, their_macs = [egru["papers_test_perplexity"]], [f"{float(egru['papers_macs_per_token']) / 1e6:.1f}"]
        assert row(f"{100 * sparsity:g}", training) == [
            perplexities(egru),
            papers,
            percent(egru),
            [millions(egru["macs_per_token"])],
            their_macs,
            perplexities(lstm),
            [lstm["papers_test_perplexity"]],
            [millions(lstm["macs_per_token"])],
        ]
        assert row(f"{100 * sparsity:g} %", results) == [
            perplexities(egru)[1:],
            papers,
            [millions(egru["macs_per_token"])],
            their_macs,
            perplexities(lstm)[1:],
            [lstm["papers_test_perplexity"]],
            [millions(lstm["macs_per_token"])],
        ]


def test_the_document_has_the_figures_of_wikitext2_in_four_bits():
    training = SECTION.split("### WikiText-2\n")[1]
    for percentage in (85, 95):
        path = WIKITEXT / f"egru-decay0.12-seed1-sparse{percentage}" / "quantised.json"
        content = json.loads(path.read_bytes())
        said = content["evaluate"]
        assert row(f"EGRU {percentage} %", training) == [
            [f"{content['float_test_perplexity_64_streams']:.2f}"],
            [f"{said['perplexity']:.2f}"],
            [f"{content['bytes'] / 1e6:.1f}"],
            [f"{100 * share:.1f}" for share in said["activity"]],
            [millions(said["macs_per_token"])],
        ]


def means(point, name):
    """Of a histogram of the point, one a layer."""
    histograms = json.loads((STUDY / point["name"] / RESULT).read_bytes())["histograms"][name]
    return [histogram["mean"] for histogram in histograms]


def test_the_document_has_the_figures_over_weight_decay(points):
    dense = [point for point in points if point["run"] == "egru" and float(point["sparsity"]) == 0]
    assert sorted(float(point["weight_decay"]) for point in dense) == [0.01, 0.03, 0.1, 0.3, 1]
    for point in dense:
        cells = row(f"{float(point['weight_decay']):g}")
        assert cells == [
            perplexities(point),
            percent(point),
            [millions(point["macs_per_token"])],
            [f"{mean:.3f}" for mean in means(point, "weights")],
            [f"{mean:.2f}" for mean in means(point, "biases")],
        ]


@pytest.mark.parametrize(
    ("name", "folder", "count"), [("ptb", STUDY, 22), ("ptb-shares", SHARES, 8), ("ptb-seeds", SEEDS, 41)]
)
def test_the_results_are_those_of_the_study_file(name, folder, count, tmp_path):
    """But for the texts, which are not at hand."""
    text = tmp_path / "text"
    text.write_text("a b\n")
    study = Study.from_toml(ROOT / "model" / "configs" / f"study-{name}.toml", train=text, valid=text, test=text)
    assert len(study.points) == count
    for point in study.points:
        path = folder / point.name / RESULT
        result = read_result(path)
        if result is None:
            assert point.name == "egru-priced-decay0.1-seed7-sparse95"  # time was up
            continue
        specification = {**point.specification(), "texts": result["specification"]["texts"]}
        check_specification(path, result, specification)
        changed = {**specification, "streams": 7}
        with pytest.raises(InputError, match=f"finished with streams = {point.streams}, not 7"):
            check_specification(path, result, changed)
