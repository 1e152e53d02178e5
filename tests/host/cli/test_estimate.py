"""The command `egret estimate`: cycles of the model, memories of the configuration, fit of the board's design."""

import json

import pytest

from egret.host.cli import main as cli
from egret.host.demo import NETWORK, TEXT
from egret.model.integer_file import save_integer
from tests.support.cost import small


@pytest.fixture
def estimate(capsys):
    def run(*arguments):
        status = cli.main(["estimate", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_core_without_a_board(estimate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_integer(small(), tmp_path / "network")
    status, out, _ = estimate("network", "--lanes", 2, "--tokens", 20, "--json")
    two = json.loads(out)
    assert status == 0 and (two["lanes"], two["store"], two["tokens"]) == (2, "bram", 20)
    assert two["macs_per_token"] / 2 < two["cycles_per_token"] < two["macs_per_token"]
    assert "fits" not in two and "speed" not in two
    four = json.loads(estimate("network", "--lanes", 4, "--tokens", 20, "--json")[1])
    assert four["macs_per_token"] == two["macs_per_token"] and four["cycles_per_token"] < two["cycles_per_token"]
    external = json.loads(estimate("network", "--store", "sdram", "--resident-bytes", 0, "--tokens", 20, "--json")[1])
    assert external["folded"] == 7 and external["cycles_per_token"] > 0
    _, out, _ = estimate("network", "--tokens", 20)
    assert "cycles per token" in out and "Estimate: network, 8 lanes" in out


@pytest.mark.slow
def test_a_board(estimate):
    """Against the cycles that `egret bench` counts (docs/results.md); exact memories; the link's rates."""
    status, out, _ = estimate(NETWORK, "--board", "ulx3s-85f", "--text", TEXT, "--tokens", 500, "--json")
    result = json.loads(out)
    assert status == 0 and result["fits"] and result["cycles_per_token"] == pytest.approx(2379, rel=0.03)
    assert result["used"]["block_rams"] < result["available"]["block_rams"] == 208
    at_once, usb = result["speed"]["at_once"], result["speed"]["usb"]
    assert usb["generated_tokens_per_second"] == at_once["streamed_tokens_per_second"] and at_once["limit"] == "link"
    assert set(result["memory_bytes"]) >= {"weights", "columns", "embedding"}
    # The host draws the words.
    options = ("--board", "ulx3s-85f", "--no-readout", "--text", TEXT, "--tokens", 500, "--json")
    status, out, _ = estimate(NETWORK, *options)
    result = json.loads(out)
    assert status == 0 and result["fits"] and result["cycles_per_token"] == pytest.approx(2029, rel=0.03)
    assert (
        result["speed"]["usb"]["generated_tokens_per_second"] < result["speed"]["at_once"]["streamed_tokens_per_second"]
    )


def test_a_compact_core(estimate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_integer(small(gate_index_bits=8), tmp_path / "network")
    status, out, _ = estimate("network", "--board", "icebreaker", "--tokens", 5)
    assert status == 0 and "unknown; egret bench" in out and "fits iCEBreaker" in out


def test_a_board_has_a_core_of_its_own(estimate):
    status, _, err = estimate(NETWORK, "--board", "ulx3s-85f", "--store", "sdram")
    assert status == 2 and "--board has a core of its own" in err
