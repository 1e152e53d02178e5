"""``egret explain``: a page whose figures are those that a measurement has, and that needs nothing beside it."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import egret as package
from egret.host.demo import NETWORK, TEXT
from egret.host.explain import account
from tests.support.page import Page, needs_nothing

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEADINGS = [
    "Events", "Cycles by cause", "Roofline", "Activity of neurons", "Length of columns",
    "Folded rows and resident columns",
]  # fmt: skip


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_the_page(egret, network):
    """Its numbers are those of `Network.measure`, and of the integer network's events."""
    status, out, _ = egret("explain", "network", "--text", "text", "--tokens", 30, "--output", "page.html", "--json")
    result, opened = json.loads(out), package.Network("network")
    ids = opened.ids("text", 30)
    measured = opened.measure(ids)
    assert (status, result["page"], result["tokens"], result["mismatches"]) == (0, "page.html", 30, 0)
    assert result["cycles_per_token"] == measured.cycles_per_token
    text = (network / "page.html").read_text()
    page = needs_nothing(text)
    summary, causes, gains = (dict((row[0], row[1:]) for row in table) for table in page.tables)
    assert summary["perplexity"] == [f"{measured.evaluation.perplexity:.3f}"]
    assert summary["cycles per token"] == [f"{measured.cycles_per_token:,.0f}"]
    assert summary["utilisation of 8 lanes"] == [f"{measured.lane_utilisation:.1%}"]
    assert summary["MACs per token"] == [f"{measured.macs_per_token:,.0f}"]
    assert summary["activity of layer 2"] == [f"{measured.evaluation.activity[1]:.2%}"]
    # What is multiplied does not depend on when tokens come; how long the core waits does, a little.
    counters, tokens = measured.counters, result["cycles"]
    assert sum(one["words"] for one in tokens) == counters["words"]
    assert sum(one["macs"] for one in tokens) == counters["macs"]
    assert causes["words"][1] == f"{counters['words'] / 30:,.1f}"
    spent = sum(value for one in tokens for name, value in one.items() if name not in ("token", "macs"))
    assert spent == pytest.approx(counters["cycles"], rel=0.2)
    assert [one["token"] for one in tokens] == [opened.vocabulary.tokens[token] for token in ids[:-1]]
    assert list(gains) == ["with", "neither (this core)", "3 folded rows"]
    assert headings(text) == HEADINGS and page.tags.count("svg") == 5
    raster = text[text.index('aria-label="Events"') : text.index("<h2>Cycles by cause")]
    marks = max(re.findall(r'<path d="(.*?)"', raster.replace("\n", " ")), key=len).count("L")
    events = [counters["events_0"], counters["events_1"]]
    assert marks == max(events) > 0


def test_an_sdram_and_a_read_out(egret, network):
    options = ("--store", "sdram", "--resident-bytes", 100, "--tokens", 20)
    assert egret("explain", "network", *options)[0] == 0
    text = (network / "explain.html").read_text()
    summary, causes, gains = Page(text).tables
    names = ["neither", "3 folded rows", "91 resident bytes", "3 folded rows and 91 resident bytes (this core)"]
    got = [re.sub(r"\d+ resident", "91 resident", row[0]) for row in gains[1:]]
    assert got == names
    read = [float(row[2].replace(",", "")) for row in gains[1:]]
    assert read[2] < read[0] and read[3] < read[1]
    assert [row[0] for row in summary].count("SDRAM's peak in use") == 1
    assert causes[-1][0] == "memory" and "4 bytes" in text


def test_where_the_core_differs_first(egret, network, monkeypatch):
    """A network of which one threshold is not what the core has."""
    make = account.make_account

    def changed(opened, ids):
        assert opened.image  # compiled before
        first, last = opened.integer.layers
        last = dataclasses.replace(last, threshold=np.full_like(last.threshold, 1))
        opened.integer = dataclasses.replace(opened.integer, layers=(first, last))
        return make(opened, ids)

    monkeypatch.setattr(account, "make_account", changed)
    status, _, err = egret("explain", "network", "--text", "text", "--tokens", 9, "--lanes", 8, "-o", "page.html")
    text = (network / "page.html").read_text()
    assert status == 1 and headings(text) == ["First divergence", *HEADINGS]
    rows = dict(row for row in Page(text).tables[1])
    assert f"step {rows['step']}, {rows['where']}: the integer network says" in err
    assert rows["where"].startswith("last layer, neuron") and rows["the core says"] in err
    assert "egret simulate network --text text --tokens 9 --lanes 8<" in text


def test_what_is_refused(refused, network):
    assert refused("explain", "network", "--text", "text", "--tokens", 999).startswith("text: --tokens must be from 1")
    assert refused("explain", "network", "-o", "none/page.html") == (
        "none/page.html: cannot write it: No such file or directory"
    )
    assert refused("explain", "network", "--text", "text", "-o", "text") == (
        "text: --text and -o name the same file; give two"
    )
    assert refused("explain", "other").startswith("other: cannot read it")
    assert not list(network.glob("*.html"))


def test_without_arguments_the_demo_network(egret, network, monkeypatch):
    """Of which a few numbers are made here, in the place of a simulation."""
    make = account.make_account
    asked = []

    def small(opened, ids):
        asked.append((opened.integer.hidden, ids.tolist()))
        other = package.Network("network")
        found = make(other, other.ids("text", 2))
        return dataclasses.replace(found, tokens=["a$b$", "<\N{SNOWMAN}"])

    monkeypatch.setattr(account, "make_account", small)
    assert egret("explain")[0] == 0
    demo = package.Network(NETWORK)
    assert asked == [((256, 128), demo.ids(TEXT, 40).tolist())]
    text = (network / "explain.html").read_text()
    assert "<h1>The demo network on its core</h1>" in text and ">a$b$<" in text and ">&lt;\N{SNOWMAN}<" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(egret, network):
    """In a frame of 400 pixels: nothing is cut off, figures are drawn, names of tokens can be read."""
    assert egret("explain", "network", "--text", "text", "-o", "page.html")[0] == 0
    script = """
        frame.onload = () => {
          const page = frame.contentDocument, root = page.documentElement;
          const figures = [...page.querySelectorAll("svg")].map(one => one.getBoundingClientRect());
          const small = [...page.querySelectorAll("svg text")].map(one => one.getBoundingClientRect().height);
          result.textContent = JSON.stringify([root.scrollWidth, figures.map(one => [one.width, one.height]),
            Math.min(...small), [...page.querySelectorAll("table")].map(one => one.scrollWidth)]);
        };
        frame.srcdoc = source.textContent;
    """
    page = html.escape((network / "page.html").read_text())
    (network / "frame.html").write_text(
        f'<meta charset="utf-8"><iframe id="frame" width="400" height="900"></iframe>'
        f'<pre id="source" hidden>{page}</pre><pre id="result"></pre><script>{script}</script>'
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=5000", f"--user-data-dir={network / 'profile'}", f"file://{network}/frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (found,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout)
    width, figures, smallest, tables = json.loads(html.unescape(found))
    assert width <= 400 and "CONSOLE" not in done.stderr
    assert len(figures) == 5 and all(350 <= one[0] <= 400 and one[1] > 150 for one in figures)
    assert smallest >= 8 and max(tables) <= 400
