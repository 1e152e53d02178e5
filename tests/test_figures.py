"""The results that the documents state are measured again, with their commands; and a network that may be at hand."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from bench.results import RESULTS, ROOT, command_line, missing_text, split_by_machine
from egret.boards.catalogue import board_named
from egret.host.board import MOST_AT_ONCE, Board, scores_at_once
from egret.host.cli.main import main
from egret.host.demo import NETWORK, TEXT
from egret.host.speed import BITS, Speed
from egret.host.transport import open_program
from egret.model import quantise
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.readout import ReadOut
from egret.rtl.uart import divisor_for
from egret.sim.virtual import board_build

pytestmark = pytest.mark.slow

ENTRIES = json.loads(RESULTS.read_text())
DATA = Path(os.environ.get("EGRET_DATA", ""))
"""Folder with ``ptb/test.txt`` and ``networks/ptb-egru-85``, another network of that shape."""


def mismatches(figures):
    """Every count of mismatches in a command's JSON: of the core, of each of several boards, of PyTorch."""
    for name, value in figures.items():
        if name == "mismatches":
            yield value
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from mismatches(one)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_result_is_what_its_command_says(capsys, name):
    """Every value that does not depend on the machine, exactly."""
    entry = ENTRIES[name]
    if missing := missing_text(entry["command"]):
        pytest.skip(missing)
    assert main(command_line(entry["command"])) == 0
    result, _ = split_by_machine(json.loads(capsys.readouterr().out))
    assert result == entry["result"]
    assert not any(mismatches(result))
    assert abs(sum(result.get("shares", {"all": 1}).values()) - 1) < 1e-9


def test_the_demos_output_in_readme(capsys):
    """Lines that are left out are replaced by an ellipsis."""
    (expected,) = re.findall(r"```text\n(65 tokens.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert main(["demo"]) == 0
    lines = iter(capsys.readouterr().out.splitlines())
    for line in expected.splitlines():
        assert line == "…" or line in lines, line


def evaluate(capsys, *options):
    assert main(["evaluate", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def bench(capsys, *options):
    assert main(["bench", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mismatches"] == 0
    return result


@pytest.mark.parametrize("run", ["stream", "generate", "score words", "generate words"])
def test_tokens_a_second_at_the_pins(run):
    """The ULX3S's core and UART, whose pins are driven bit by bit: by the difference of two runs, 300 steps or more.

    The simulated clock does not wait for the host, so that the host's own time counts. The core makes the read-out, and
    takes or draws the words; or the host does, from the events that come.
    """
    board, network = board_named("ulx3s-85f"), quantise.quantise(load_checkpoint(NETWORK))
    draws = run.endswith("words")
    configuration = configuration_for(network, **TARGETS[board.target] | {"readout": draws})
    image, divisor = compile_image(network, configuration), divisor_for(board.hertz, board.baud)
    readout, ids = ReadOut(network), network.vocabulary.encode(TEXT.read_text()[:500]).tolist()
    program = board_build(
        configuration, bit_cycles=divisor, window=board.window, receive_bytes=board.receive_bytes
    ).program()

    def answers(client, steps):
        if run == "stream":
            return client.step_many(ids[:steps])
        if run == "generate":
            return map(client.step, ids[:steps])
        if run == "score words":
            return client.score(ids[:steps], map(readout.target, ids[1 : steps + 1]))
        return client.generate(ids[0], steps, seed=1)

    def cost(steps):
        with Board(open_program(program, timeout=10)) as client:
            client.load(image)
            before = client.counters()["cycles"], client.bytes_sent, client.bytes_received
            assert sum(1 for _ in answers(client, steps)) == steps
            sent, received = client.bytes_sent, client.bytes_received
            core = client.counters()["cycles"] - before[0]
            virtual = client.virtual
        return np.array([virtual.cycles, core, sent - before[1], received - before[2]])

    most, least = (400, 80) if draws else (320, 20)
    total, core, sent, received = (cost(most) - cost(least)) / (most - least)
    batch = {"score words": scores_at_once(board.receive_bytes), "generate words": MOST_AT_ONCE}.get(run, 1)
    speed = Speed(board.hertz, divisor, board.window, board.receive_bytes, core, sent, received, batch, draws)
    busy = (max(sent, received) if draws else received) * BITS * divisor / total
    print(f"{run}: {board.hertz / total:.0f} tokens a second, link busy {busy:.1%}; {speed.summary()['at_once']}")
    if run == "stream":
        assert speed.limit() == "link" and busy >= 0.8
    else:
        assert board.hertz / total == pytest.approx(speed.generated(), rel=0.03)
    if draws:
        assert speed.limit() == "core"


@pytest.mark.long
def test_a_long_text_from_an_sdram(capsys):
    result = bench(
        capsys,
        str(ROOT / "model/networks/ptb-egru-95.egret"),
        "--tokens",
        "5000",
        "--store",
        "sdram",
        "--folded",
        "500",
    )
    print(f"{result['simulated_tokens_per_second']:.1f} tokens a second simulated")
    assert result["mismatches"] == 0
    assert result["bus_utilisation"] >= 0.93


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
