"""The command `egret run`, and the core that it shares with others."""

import json
import os
import re
import subprocess
import sys

import pytest

from egret.host.transport import open_serial
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.image import Image
from egret.model.integer_file import save_integer
from egret.model.native import NativeEngine
from egret.model.quantise import quantise
from egret.sim.virtual import VirtualBoard, board_build
from tests.support.command_line import TEXT
from tests.support.networks import random_groups


def test_simulated_core(egret, network):
    status, out, err = egret("evaluate", "network", "--text", "text", "--engine", "rtl", "--json")
    result = json.loads(out)
    assert (status, result["mismatches"], result["tokens"]) == (0, 0, len(TEXT) - 1)
    _, out, _ = egret("evaluate", "network", "--text", "text", "--engine", "integer", "--json")
    for name, value in json.loads(out).items():
        assert result[name] == value or name == "engine"
    assert result["cycles_per_token"] > 0
    assert 0 < result["lane_utilisation"] <= 1
    # The same core serves text generation and the bench.
    egret("compile", "network", "-o", "image")
    texts = []
    for source, seed in (("network", 3), ("image", 3), ("image", 4)):
        status, out, err = egret("run", source, "--tokens", 50, "--prompt", "ab", "--seed", seed)
        assert status == 0
        assert "51 of 51 tokens match the integer network\n" in err
        assert len(out) == 2 + 50 + 1
        texts.append(out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("ab")
    status, out, _ = egret("run", "image", "--tokens", 20, "--seed", 3, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["steps"], result["matching"]) == (0, 20, 20, 20)
    assert len(result["text"]) == 20 and result["first_mismatch"] is None and result["cycles_per_token"] > 0
    whole = result["end_to_end"]
    assert whole["core_cycles_per_token"] == result["cycles_per_token"]
    assert whole["tokens_per_second"] == result["tokens_per_second"] > 0
    assert 0 < whole["host_seconds_per_token"] and 27 < whole["link_bytes_per_token"] < 40
    status, out, _ = egret("bench", "image", "--tokens", 30, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["mismatches"], result["lanes"]) == (0, 30, 0, 8)
    assert "speed" not in result


def test_the_native_engine(egret, refused, network):
    """Without a board it writes the same text as the core, and every token is compared."""
    texts = {}
    for engine in ("rtl", "native"):
        common = ("run", "network", "--engine", engine, "--tokens", 50, "--prompt", "ab", "--seed", 3)
        status, texts[engine], err = egret(*common)
        assert status == 0
        assert ("50 of 50" if engine == "native" else "51 of 51") + " tokens match the integer network\n" in err
        texts[engine, "top"] = egret(*common, "--top-k", 3, "--no-check")[1]
    assert texts["rtl"] == texts["native"] != texts["native", "top"] == texts["rtl", "top"]
    status, out, _ = egret("run", "network", "--engine", "native", "--tokens", 20, "--json")
    result = json.loads(out)
    assert (status, result["tokens"], result["matching"], len(result["text"])) == (0, 20, 20, 20)
    whole = result["end_to_end"]
    assert whole["tokens_per_second"] == result["tokens_per_second"] > 0
    assert 0 < whole["host_seconds_per_token"] < 1
    assert whole["core_cycles_per_token"] is whole["link_bytes_per_token"] is None
    status, out, _ = egret("run", "network", "--engine", "native", "--tokens", 0, "--json")
    assert status == 0 and 0 <= json.loads(out)["end_to_end"]["host_seconds_per_token"] < 1
    for options, name in (
        (("--port", "x"), "--port"),
        (("--text", "text"), "--text"),
        (("--pins", 8), "--pins"),
        (("--lanes", 4), "--lanes"),
        (("--folded", 0), "--folded"),
    ):
        assert (
            refused("run", "network", "--engine", "native", *options)
            == f"{name} is for a board, not for --engine native"
        )


def test_a_wrong_token_of_the_native_engine(egret, network, monkeypatch):
    wrong = iter([0] * 20)
    monkeypatch.setattr(NativeEngine, "generate", lambda self, *arguments, **options: wrong)
    status, _, err = egret("run", "network", "--engine", "native", "--tokens", 20)
    assert status == 1
    matching, total = re.search(r"(\d+) of (\d+) tokens match", err).groups()
    assert int(matching) < int(total) == 20
    assert re.search(r"first mismatch: token \d+: 0, not [1-9]", err)


def test_a_text_on_a_board(egret, refused, network):
    """Compared or streamed, on the virtual board, at its pins or on a port: the integer network's perplexity."""
    egret("compile", "network", "-o", "image")
    _, out, _ = egret("evaluate", "image", "--text", "text", "--engine", "integer", "--json")
    expected = json.loads(out)
    arguments = ("run", "image", "--text", "text", "--json")
    assert refused(*arguments, "--folded", 3) == (
        "image: the image is compiled for folded_tokens 0, not 3; give its checkpoint"
    )
    results = []
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        for more in ((), ("--no-check",), ("--port", board.port), ("--port", board.port, "--no-check"), ("--pins", 8)):
            status, out, _ = egret(*arguments, *more)
            assert status == 0
            results.append(json.loads(out))
        status, out, _ = egret(*arguments[:-1], "--no-check", "--tokens", 5, "--port", board.port)
        assert status == 0 and re.search(r"│ tokens predicted +│ 5 +│", out) and "│ link busy" in out
    for result in results:
        assert result["tokens"] == len(TEXT) - 1
        assert result["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-9)
        assert 15 <= result["bytes_sent_per_token"] < 17
        assert 13 <= result["bytes_received_per_token"] < 17 + 2  # a frame, the bitmap, and up to four events
    assert [result["mismatches"] for result in results] == [0, None, 0, None, 0]
    assert ["link_busy" in result for result in results] == [False, False, True, True, False]


def test_how_tokens_are_drawn(egret, network):
    """The most probable tokens, and the token that ends a text."""

    def text(*options):
        status, out, _ = egret("run", "network", "--tokens", 30, "--json", *options)
        result = json.loads(out)
        assert (status, result["steps"], result["matching"]) == (0, result["tokens"], result["tokens"])
        return result["text"]

    greedy = text("--top-k", 1)
    assert greedy == text("--temperature", 0) == text("--temperature", 0, "--seed", 9, "--top-k", 3)
    every = text("--top-k", 3, "--temperature", 1)
    assert len(every) == 30 and every != greedy
    assert text("--top-k", 3, "--temperature", 1, "--stop", every[7]) == every[: every.index(every[7]) + 1]


@pytest.mark.slow
def test_words_of_groups_are_drawn_by_factors_where_that_is_asked_for(egret, network):
    plain = quantise(load_checkpoint("network"))
    words = len(plain.embedding)
    save_integer(random_groups(plain, head=1, sizes=(words - 2, 1)), "groups.egret")
    texts = {}
    for options in ((), ("--by-factors",)):
        for engine in ("rtl", "native"):
            common = ("run", "groups.egret", "--engine", engine, "--tokens", 60, "--temperature", 3, "--json")
            status, out, _ = egret(*common, *options)
            result = json.loads(out)
            assert (status, result["matching"]) == (0, 60)
            texts[engine, options] = result["text"]
    assert texts["rtl", ()] == texts["native", ()] != texts["rtl", ("--by-factors",)]
    assert texts["rtl", ("--by-factors",)] == texts["native", ("--by-factors",)]


COMMAND = [sys.executable, "-W", "error", "-m", "egret.host.cli.main", "run", "network", "--tokens"]


def test_a_reader_that_leaves(network):
    with subprocess.Popen([*COMMAND, "10000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_text_that_finds_no_room(network):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*COMMAND, "20"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (2, b"egret: error: No space left on device\n")


def test_a_text_that_cannot_be_shown(network):
    (network / "network" / "vocab.txt").write_text("λ\nμ\nν\n")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([*COMMAND, "20"], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(
        r"egret: error: '\\u03b[bcd]' cannot be written as latin-1; set PYTHONIOENCODING=utf-8, or a UTF-8 locale\n",
        result.stderr,
    )


def test_bad_runs(egret, refused, network):
    egret("compile", "network", "-o", "image")
    assert refused("run", "image", "--prompt", "") == "--prompt: the prompt is empty; at least one token is needed"
    assert refused("run", "image", "--prompt", "abd") == (
        "--prompt: line 1 of the text: character 'd' is not in the vocabulary"
    )
    assert refused("run", "image", "--temperature", 1000) == (
        "the temperature must be 0.0625 to 256, or 0 for the most probable word, not 1000.0"
    )
    assert refused("run", "image", "--seed", -1) == f"the seed must be an integer from 0 to {2**64 - 1}, not -1"
    assert refused("run", "image", "--seed", 1 << 64).endswith(f", not {1 << 64}")
    assert refused("run", "image", "--top-k", 65) == "top-k takes k from 1 to 64, not 65"
    assert refused("run", "image", "--temperature", 0, "--top-k", 0) == "top-k takes k from 1 to 64, not 0"
    assert refused("run", "image", "--stop", "d") == "--stop: 'd' is not in the vocabulary of 3 tokens"
    assert refused("run", "image", "--port", "/dev/egret").startswith("serial port /dev/egret: cannot be opened: ")
    assert refused("run", "image", "--port", "/dev/egret", "--trace", "x.vcd") == (
        "--trace is for the virtual board, not for a board on --port"
    )
    assert refused("run", "image", "--text", "text", "--prompt", "ab") == (
        "--text and --prompt: give one of them: --text measures a text, --data classifies sequences, and --prompt "
        "begins a text to generate"
    )
    assert refused("run", "image", "--text", "text", "--tokens", 66) == (
        "text: --tokens must be from 1 to 65, the text's predictions, not 66"
    )
    assert refused("run", "image", "--port", "/dev/egret", "--pins", 27) == (
        "--pins is for the virtual board, not for a board on --port"
    )
    assert refused("run", "image", "--pins", 3) == "Invalid value for '--pins': 3 is not in the range x>=4."
    assert refused("bench", "image", "--lanes", 4) == (
        "image: the image is compiled for lanes 8, not 4; give its checkpoint"
    )
    assert refused("bench", "image", "--tokens", 0) == "--tokens must be at least 1, not 0"
    evaluation = ("evaluate", "image", "--text", "text", "--engine", "rtl")
    assert refused(*evaluation, "--batch", 2, "--simulator", "icarus") == (
        "under Icarus Verilog one core runs: --batch must be 1 there, not 2"
    )
    assert refused(*evaluation, "--batch", 66) == "batch must be from 1 to 65, the number of predictions, not 66"
    assert sorted(os.listdir()) == ["image", "network", "text"]


def test_boards_that_are_not_for_this_run(egret, refused, network):
    egret("compile", "network", "-o", "image")
    egret("compile", "network", "-o", "other", "--lanes", 2)
    configuration = Image.load("image").configuration
    with VirtualBoard(board_build(configuration).program()) as board:
        message = refused("run", "other", "--port", board.port)
        assert message.startswith("the image is for configuration ") and message.endswith(
            f", but {board.port} has configuration {configuration.digest.hex()} (3 tokens, last layer 4): compile the "
            "image for this board, or build the board for this image"
        )
        with open_serial(board.port):
            message = refused("run", "image", "--port", board.port)
        assert message.startswith(f"serial port {board.port}: cannot be opened: ")
        assert "; serial ports found: " in message
        assert egret("run", "image", "--port", board.port, "--tokens", 5)[0] == 0


@pytest.mark.parametrize(
    "fault, message",
    [
        ("unplugged", "the connection was lost: .*"),
        ("reset", "the board was reset, its memories and state are lost: load the image again"),
    ],
)
def test_boards_that_fail_in_mid_run(fault, message, egret, network):
    """The run ends with one line, with what came before it as text."""
    egret("compile", "network", "-o", "image")
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        command = [
            sys.executable,
            "-m",
            "egret.host.cli.main",
            "run",
            "image",
            "--port",
            board.port,
            "--tokens",
            "10000000",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert len(process.stdout.read(20)) == 20
            board.reset() if fault == "reset" else board._process.kill()
            out, err = process.communicate()
        assert process.returncode == 2 and set(out) <= set("abc\n")
        assert re.fullmatch(f"egret: error: {board.port}: {message}\n", err)
