"""The figures that README states for the demo network, and those of a large network where one is at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.host.board import Board
from egret.host.cli.main import main
from egret.host.demo import NETWORK, TEXT
from egret.host.speed import BITS, Speed
from egret.host.transport import open_program
from egret.model import quantise
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.rtl.uart import divisor_for
from egret.sim.virtual import board_build

pytestmark = pytest.mark.slow

DEMO = (str(NETWORK), "--text", str(TEXT))
LARGE = str(Path(quantise.__file__).parent / "networks" / "ptb-egru-85.egret")
DATA = Path(os.environ.get("EGRET_DATA", ""))
"""Folder with ``ptb/test.txt`` and ``networks/ptb-egru-85``, another network of that shape."""


def evaluate(capsys, *options):
    assert main(["evaluate", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_twenty_thousand_tokens_under_verilator(capsys):
    result = evaluate(capsys, *DEMO, "--tokens", "20000", "--engine", "rtl")
    assert (result["tokens"], result["mismatches"]) == (20000, 0)
    assert result["lane_utilisation"] >= 0.70


def test_five_hundred_tokens_under_icarus(capsys):
    result = evaluate(capsys, *DEMO, "--tokens", "500", "--engine", "rtl", "--simulator", "icarus")
    assert (result["tokens"], result["mismatches"]) == (500, 0)


def test_integer_perplexity_is_within_half_a_percent(capsys):
    exact, integer = (
        evaluate(capsys, *DEMO, "--batch", "64", "--engine", engine)["perplexity"] for engine in ("float", "integer")
    )
    assert abs(integer / exact - 1) < 0.005


def bench(capsys, *options):
    assert main(["bench", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mismatches"] == 0 and abs(sum(result["shares"].values()) - 1) < 1e-9
    return result


@pytest.mark.parametrize("lanes, least", [(8, 0.95), (16, 0.93)])
def test_lanes_are_busy_on_the_large_network(capsys, lanes, least):
    """24 million weights, 85 % of them pruned without structure; the network's own samples."""
    result = bench(capsys, LARGE, "--lanes", str(lanes), "--tokens", "20")
    assert result["lane_utilisation"] >= least
    assert result["weight_bits"] == 4


def test_tokens_a_second_of_the_boards(capsys):
    """At least 300 characters a second on the iCEBreaker, over USB too; the ULX3S's link is the limit, and busy."""
    options = ("--text", str(TEXT), "--tokens", "500", "--board")
    result = bench(capsys, str(NETWORK), *options, "icebreaker")
    assert result["cycles_per_token"] == pytest.approx(15_177, rel=0.01)
    assert result["speed"]["usb"]["generated_tokens_per_second"] >= 300
    result = bench(capsys, str(NETWORK), *options, "ulx3s-85f")
    assert result["cycles_per_token"] == pytest.approx(2_031, rel=0.01)
    speed = result["speed"]["at_once"]
    assert speed["limit"] == "link" and speed["link_busy"] >= 0.8


@pytest.mark.parametrize("run, share", [("stream", 0.8), ("generate", None)])
def test_tokens_a_second_at_the_pins(run, share):
    """The ULX3S's core and UART, whose pins are driven bit by bit: 300 steps, by the difference of two runs.

    The simulated clock does not wait for the host, so that the host's own time counts.
    """
    board, network = board_named("ulx3s-85f"), quantise.quantise(load_checkpoint(NETWORK))
    configuration = configuration_for(network, **TARGETS[board.target])
    image, divisor = compile_image(network, configuration), divisor_for(board.hertz, board.baud)
    ids = network.vocabulary.encode(TEXT.read_text()[:400]).tolist()
    program = board_build(
        configuration, bit_cycles=divisor, window=board.window, receive_bytes=board.receive_bytes
    ).program()

    def cost(steps):
        with Board(open_program(program, timeout=10)) as client:
            client.load(image)
            before = client.counters()["cycles"], client.bytes_sent, client.bytes_received
            for _ in client.step_many(ids[:steps]) if run == "stream" else map(client.step, ids[:steps]):
                pass
            sent, received = client.bytes_sent, client.bytes_received
            core = client.counters()["cycles"] - before[0]
            virtual = client.virtual
        return np.array([virtual.cycles, core, sent - before[1], received - before[2]])

    total, core, sent, received = (cost(320) - cost(20)) / 300
    speed = Speed(board.hertz, divisor, board.window, board.receive_bytes, core, sent, received)
    busy = received * BITS * divisor / total
    print(f"{run}: {board.hertz / total:.0f} tokens a second, link busy {busy:.1%}; {speed.summary()['at_once']}")
    if share is None:
        assert board.hertz / total == pytest.approx(speed.generated(), rel=0.03)
    else:
        assert speed.limit() == "link" and busy >= share


def test_folded_rows_halve_the_work_of_the_large_network(capsys):
    """Of 10000 tokens, 500 have their rows."""
    plain, folded = (bench(capsys, LARGE, "--tokens", "10", "--folded", str(rows)) for rows in (0, 500))
    assert folded["macs_per_token"] < 0.75 * plain["macs_per_token"]
    assert folded["cycles_per_token"] < 0.8 * plain["cycles_per_token"]


@pytest.mark.long
def test_a_long_text_from_an_sdram(capsys):
    result = bench(capsys, LARGE.replace("85", "95"), "--tokens", "5000", "--store", "sdram", "--folded", "500")
    print(f"{result['simulated_tokens_per_second']:.1f} tokens a second simulated")
    assert result["mismatches"] == 0
    assert result["bus_utilisation"] >= 0.93


@pytest.mark.skipif(not (DATA / "ptb").is_dir(), reason="EGRET_DATA names no folder with Penn Treebank")
@pytest.mark.parametrize("sparsity", ["85", "95"])
def test_the_cards_of_the_large_networks(capsys, sparsity):
    path = LARGE.replace("85", sparsity)
    result = evaluate(capsys, path, "--text", str(DATA / "ptb/test.txt"), "--batch", "64", "--engine", "integer")
    card = json.loads((Path(LARGE).parent / "card.json").read_text())[sparsity]
    assert round(result["perplexity"], 2) == card["test_perplexity"]
    assert round(result["macs_per_token"]) == card["test_macs_per_token"]
    assert [round(share, 4) for share in result["activity"]] == card["test_activity"]


@pytest.mark.skipif(not (DATA / "networks/ptb-egru-85").is_dir(), reason="EGRET_DATA names no folder with the network")
@pytest.mark.parametrize("lanes, least", [(8, 0.95), (16, 0.93), (32, 0.88)])
def test_lanes_are_busy_on_another_network(capsys, lanes, least):
    options = ("--lanes", str(lanes), "--text", str(DATA / "ptb/test.txt"), "--tokens", "20")
    assert bench(capsys, str(DATA / "networks/ptb-egru-85"), *options)["lane_utilisation"] >= least


@pytest.mark.skipif(not (DATA / "networks/ptb-egru-85").is_dir(), reason="EGRET_DATA names no folder with the network")
def test_a_large_network(capsys):
    """Penn Treebank, 82429 predictions in 64 streams that carry their state."""
    options = (str(DATA / "networks/ptb-egru-85"), "--text", str(DATA / "ptb/test.txt"), "--batch", "64")
    exact, integer = (evaluate(capsys, *options, "--engine", engine)["perplexity"] for engine in ("float", "integer"))
    assert 65 < exact < 76
    assert abs(integer - exact) < 0.2
