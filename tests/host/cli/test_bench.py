"""The command `egret bench`."""

import json
import re
import sys

import numpy as np
import pytest

from egret.host.peers import Run


@pytest.mark.slow
def test_bench_of_a_board(egret, network):
    """What a board's core is measured to do in simulation says how many tokens a second it does at its clock."""
    status, out, _ = egret("bench", "network", "--board", "ulx3s-85f", "--no-readout", "--tokens", 30, "--json")
    result = json.loads(out)
    speed = result["speed"]
    assert (status, result["lanes"], speed["megahertz"], speed["baud"]) == (0, 8, 80, 2_962_963)
    assert speed["cycles_per_token"] == result["cycles_per_token"]
    byte = 10 / speed["baud"]
    sent, received = speed["bytes_sent_per_token"] * byte, speed["bytes_received_per_token"] * byte
    assert speed["at_once"]["limit"] == "link"
    assert speed["at_once"]["streamed_tokens_per_second"] == pytest.approx(1 / max(sent, received))
    assert speed["at_once"]["generated_tokens_per_second"] == pytest.approx(
        1 / (sent + received + speed["cycles_per_token"] / 80e6)
    )
    whole = result["end_to_end"]
    assert (whole["tokens"], whole["matching"]) == (30, 30) and whole["core_cycles_per_token"] > 0
    # The host draws the words: a round trip, a millisecond, and its own time.
    cycles = whole["core_cycles_per_token"] / 80e6
    assert 1 / whole["tokens_per_second"] == pytest.approx(
        whole["link_bytes_per_token"] * byte + cycles + 1e-3 + whole["host_seconds_per_token"]
    )
    # The core draws the words, as it does where nothing else is asked for: what it generates is streamed.
    status, out, _ = egret("bench", "network", "--board", "ulx3s-85f", "--tokens", 30, "--json")
    drawn, speed = json.loads(out), json.loads(out)["speed"]
    assert status == 0 and drawn["mismatches"] == 0 and drawn["macs_readout_per_token"] > 0
    longest = max(speed["bytes_sent_per_token"] * byte, speed["bytes_received_per_token"] * byte)
    for delay in ("at_once", "usb"):
        assert speed[delay]["generated_tokens_per_second"] == pytest.approx(1 / longest)
    assert drawn["end_to_end"]["tokens_per_second"] > 5 * whole["tokens_per_second"]
    status, out, _ = egret("bench", "network", "--board", "ulx3s-85f", "--tokens", 30)
    assert status == 0 and "expected tokens a second" in out


def test_bench_of_a_board_that_cannot_be(refused, network):
    assert refused("bench", "network", "--board", "x") == (
        "--board must be one of ulx3s-85f, ulx3s-85f-sdram, icebreaker, orangecrab-85f, orangecrab-85f-ddr3, not 'x'"
    )
    assert refused("bench", "network", "--board", "ulx3s-85f", "--store", "sdram") == (
        "--board has a core of its own: of its options only --lanes, --folded and --readout go with it"
    )


@pytest.mark.slow
def test_bench_of_boards_in_a_pipeline(egret, network):
    """Each part of the network on a board of its own: its events enter the next one, all are checked."""
    options = ("bench", "network", "--board", "ulx3s-85f", "--split", 1, "--tokens", 30)
    status, out, _ = egret(*options, "--json")
    result = json.loads(out)
    assert status == 0 and [board["layers"] for board in result["boards"]] == [[1, 1], [2, 2]]
    assert [board["mismatches"] for board in result["boards"]] == [0, 0]
    assert result["cycles_per_token"] == max(board["cycles_per_token"] for board in result["boards"])
    status, out, _ = egret(*options)
    assert status == 0 and "network on 2 boards, 30 tokens" in out and "tokens a second, streamed" in out


def test_bench_of_boards_that_cannot_be(refused, network):
    assert refused("bench", "network", "--split", "x") == (
        "--split must be numbers of layers, such as 1 or 1,2, not 'x'"
    )
    assert refused("bench", "network", "--split", "2") == (
        "a network of 2 layers can be cut behind layers 1 to 1, in rising order, not 2"
    )
    assert refused("bench", "network", "--split", "1", "--speed-ups") == (
        "--split prints the boards' figures alone: --speed-ups, --energy, --peers and --plot do not go with it"
    )


@pytest.mark.slow
def test_bench_from_a_ddr3(egret, network):
    status, out, _ = egret(
        "bench", "network", "--store", "sdram", "--memory-ratio", 4, "--tokens", 20, "--energy", "--json"
    )
    result = json.loads(out)
    memory, cycles = result["memory"], result["cycles_per_token"]
    assert (status, result["lanes"], result["mismatches"]) == (0, 16, 0)
    assert (memory["part"], memory["rated_bytes_per_second"], memory["peak_bytes_per_second"]) == ("any", 3.2e9, 6e8)
    assert memory["share"] == pytest.approx(result["counters"]["beats"] / 20 / cycles)
    assert memory["bytes_per_second"] == pytest.approx(6e8 * memory["share"])
    energy = result["energy"]
    assert energy["megahertz"] == 75 and "board_joules_at_most" not in energy
    assert energy["causes"]["DDR3, read"]["count"] == [result["counters"]["beats"] * 8 / 20]
    assert energy["causes"]["DDR3, standby"]["joules"] == [pytest.approx(0.0675 * cycles / 75e6)] * 2


@pytest.mark.slow
def test_bench_estimates_energy(egret, network):
    status, out, _ = egret(
        "bench", "network", "--store", "sdram", "--resident-bytes", 100, "--tokens", 20, "--energy", "--json"
    )
    result = json.loads(out)
    energy = result["energy"]
    low, high = energy["joules_per_token"]
    assert (status, energy["estimate"], energy["megahertz"]) == (0, True, 62.5) and 0 < low < high
    causes = energy["causes"]
    assert causes["resident weights"]["count"] > [0] and causes["queues"]["count"] > [0]
    np.testing.assert_allclose(np.sum([cause["joules"] for cause in causes.values()], axis=0), [low, high])
    assert causes["SDRAM, read"]["count"] == [result["counters"]["beats"] * 4 / 20]
    fewest, most = causes["SDRAM, rows"]["count"]
    assert fewest < most
    assert causes["SDRAM, standby"]["count"] == [pytest.approx(result["cycles_per_token"] / 62.5e6)]
    assert energy["board_joules_at_most"] == pytest.approx(2.5 * result["cycles_per_token"] / 62.5e6)
    assert "peers" not in result


@pytest.mark.parametrize(
    "board, megahertz", [("ulx3s-85f", 80), pytest.param("icebreaker", 24, marks=pytest.mark.slow)]
)
def test_bench_estimates_energy_of_a_board(board, megahertz, egret, network):
    status, out, _ = egret("bench", "network", "--board", board, "--tokens", 20, "--energy")
    assert status == 0 and f"an estimate, nothing measured, at {megahertz} MHz" in " ".join(out.split())
    assert re.search(r"│ accumulators +│ +[\d,]+ bits │", out) and "SDRAM" not in out
    assert ("a ULX3S at its most" in out) == board.startswith("ulx3s")


@pytest.mark.slow
def test_bench_compares_peers(egret, network, monkeypatch):
    status, out, _ = egret(
        "bench", "network", "--store", "sdram", "--resident-bytes", 100, "--tokens", 20, "--peers", "--json"
    )
    result = json.loads(out)
    peers = {peer["name"]: peer for peer in result["peers"]}
    assert status == 0 and "energy" not in result
    core = peers["this core"]
    assert core["steps_per_second"] == pytest.approx(62.5e6 / result["cycles_per_token"])
    assert "estimated" in core["source"] and len(core["joules_per_step"]) == 2
    assert peers["its bound: lanes"]["steps_per_second"] == pytest.approx(62.5e6 / result["bound_cycles_per_token"])
    assert peers["its bound: bus"]["steps_per_second"] == pytest.approx(62.5e6 * 20 / result["counters"]["beats"])
    measured = [peer for name, peer in peers.items() if name.startswith("PyTorch, ")]
    assert len(measured) >= 3 and all(peer["mismatches"] == 0 and peer["joules_per_step"] is None for peer in measured)
    for name in ("native engine", "native engine, folded rows"):
        native = peers[name]
        assert native["mismatches"] == 0 and native["threads"] == 1
        assert 0 < native["tokens_per_second"] and native["steps_per_second"] > 1000
    assert "derived" in peers["SpiNNaker 2"]["source"]
    status, out, _ = egret("bench", "network", "--tokens", 20, "--peers")
    assert status == 0 and "│ PyTorch, dense " in out and "bound: bus" not in out
    run = Run("PyTorch, dense", 1, 1e-3, 7, 2e-3)
    monkeypatch.setattr("egret.host.peers.run_engines", lambda *arguments, progress: [run])
    status, out, err = egret("bench", "network", "--tokens", 20, "--peers", "--json")
    assert status == 1 and json.loads(out)["peers"]
    assert err == "egret: not as the integer network says: 7 values of PyTorch, dense\n"


def test_bench_without_torch(refused, network, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused("bench", "network", "--peers") == (
        "--peers needs torch, which is not installed; install it: pip install torch"
    )
