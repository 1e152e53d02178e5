"""Every option that `--help` promises: where its effect is tested, and tests of those that no other looks at."""

import ast
import json
import sys
from pathlib import Path

import click
import pytest

from egret.boards import build
from egret.host.cli import main as cli
from egret.host.comparison import Variant
from egret.host.measure import Measurement
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.compiler.image import Image
from egret.model.integer_file import load_integer
from egret.rtl.protocol import USB_BYTES_PER_SECOND, USB_LOADING_BYTES_PER_SECOND
from egret.sim.lockstep import Result
from egret.sim.virtual import VirtualBoard, board_build

HERE = "test_every_option"
_CORE = {
    **dict.fromkeys(
        ("--lanes", "--store", "--memory-ratio", "--folded", "--resident-bytes", "--no-readout"),
        "test_options::test_a_core_as_asked_for",
    ),
    "--weight-bits": "test_options::test_bits_of_a_weight",
}
_BUILT = dict.fromkeys(
    (
        "--lanes",
        "--store",
        "--memory-ratio",
        "--folded",
        "--resident-bytes",
        "--no-readout",
        "--weight-bits",
        "--weight-bytes",
    ),
    "test_options::test_the_core_of_a_board",
)
_TRAINING = dict.fromkeys(
    ("--output", "--train", "--valid", "--device", "--set", "--json"), "test_training::test_train_and_prune"
)
_SIMULATED = ("--text", "--tokens", "--simulator", "--idle", "--backpressure", "--seed", "--waves", "--json")
TESTED = {
    "bench": {
        **_CORE,
        "--text": f"{HERE}::test_bench_of_a_text_as_a_picture",
        "--data": "test_sequences::test_bench",
        "--tokens": "test_bench::test_bench_of_a_board",
        "--board": "test_bench::test_bench_of_a_board",
        "--line": f"{HERE}::test_lines_of_a_board",
        "--split": "test_bench::test_bench_of_boards_in_a_pipeline",
        "--speed-ups": f"{HERE}::test_bench_of_speed_ups",
        "--energy": "test_bench::test_bench_estimates_energy",
        "--peers": "test_bench::test_bench_compares_peers",
        "--plot": f"{HERE}::test_bench_of_a_text_as_a_picture",
        "--json": "test_bench::test_bench_of_a_board",
    },
    "build": {
        **_BUILT,
        **dict.fromkeys(
            ("--board", "--output", "--clock", "--tokens", "--json"), "test_build::test_build_says_what_to_expect"
        ),
        **dict.fromkeys(("--sdram-module", "--line"), f"{HERE}::test_build_of_a_module_and_a_seed"),
        "--seed": f"{HERE}::test_build_of_a_module_and_a_seed",
    },
    "calibrate": dict.fromkeys(
        ("--output", "--text", "--batch", "--weight-bits", "--embedding-bits", "--json"),
        "test_calibrate::test_calibrate",
    ),
    "compile": {
        **_CORE,
        "--output": "test_compile::test_quantise_and_compile",
        "--target": "test_options::test_compilation_for_a_target",
        "--weight-bytes": "test_options::test_compilation_for_a_target",
        "--goal": f"{HERE}::test_goals_of_packing",
        "--verilog": "test_compile::test_compile_writes_verilog",
        "--json": "test_compile::test_quantise_and_compile_for_machines",
    },
    "demo": dict.fromkeys(("--checkpoint", "--text", "--tokens", "--seed"), f"{HERE}::test_demo_of_another_network"),
    "estimate": {
        **_CORE,
        **dict.fromkeys(("--board", "--text", "--tokens", "--json"), "test_estimate::test_a_board"),
        "--line": f"{HERE}::test_lines_of_a_board",
        "--data": "test_sequences::test_estimate",
    },
    "evaluate": {
        **_CORE,
        **dict.fromkeys(("--text", "--tokens", "--engine", "--json"), "test_evaluate::test_evaluate"),
        "--data": "test_sequences::test_evaluate",
        **dict.fromkeys(("--batch", "--agreement"), "test_evaluate::test_evaluate_in_streams_with_agreement"),
        "--reset-every": "test_evaluate::test_state_that_becomes_zero_again",
        "--simulator": f"{HERE}::test_evaluation_under_icarus",
    },
    "explain": {
        **_CORE,
        **dict.fromkeys(("--text", "--tokens", "--output", "--json"), "test_explain::test_the_page"),
        "--data": "test_sequences::test_explain",
    },
    "fit": {
        **dict.fromkeys(
            ("--hidden", "--vocabulary", "--sparsity", "--activity", "--board", "--json"), "test_fit::test_a_board"
        ),
        **dict.fromkeys(("--embedding", "--weight-bits", "--line"), "test_fit::test_all_boards"),
    },
    "group": dict.fromkeys(
        ("--output", "--text", "--head", "--groups", "--rows", "--tokens", "--json"),
        "test_group::test_a_plain_read_out_becomes_one_that_a_core_makes",
    ),
    "import": {
        **dict.fromkeys(("--output", "--text", "--json"), "test_import::test_evnn"),
        "--map": "test_import::test_names_of_a_map",
        "--simulate": "test_import::test_from_evnn_to_a_core",
    },
    "prune": {
        **_TRAINING,
        **dict.fromkeys(("--sparsity", "--steps", "--epochs"), "test_training::test_train_and_prune"),
        **dict.fromkeys(
            ("--config", "--limit-seconds", "--spread", "--learning-rate", "--regrow"),
            f"{HERE}::test_pruning_as_asked_for",
        ),
    },
    "quantise": {
        **dict.fromkeys(("--output", "--json"), "test_compile::test_quantise_and_compile_for_machines"),
        **dict.fromkeys(
            ("--weight-bits", "--embedding-bits", "--accumulator-bits", "--gate-index-bits"),
            f"{HERE}::test_bits_of_a_network",
        ),
    },
    "report": dict.fromkeys(("--study", "--output", "--json"), "test_sweep::test_sweep_and_report"),
    "run": {
        **_CORE,
        **dict.fromkeys(("--prompt", "--tokens", "--seed", "--json"), "test_run::test_simulated_core"),
        **dict.fromkeys(("--port", "--text", "--no-check", "--pins"), "test_run::test_a_text_on_a_board"),
        "--data": "test_sequences::test_run",
        "--baud": f"{HERE}::test_bits_a_second",
        "--temperature": f"{HERE}::test_temperatures",
        **dict.fromkeys(("--top-k", "--stop"), "test_run::test_how_tokens_are_drawn"),
        "--by-factors": "test_run::test_words_of_groups_are_drawn_by_factors_where_that_is_asked_for",
        "--engine": "test_run::test_the_native_engine",
        "--trace": f"{HERE}::test_a_waveform_of_the_virtual_board",
    },
    "self-test": {
        **_CORE,
        **dict.fromkeys(("--port", "--baud"), f"{HERE}::test_bits_a_second"),
        **dict.fromkeys(("--patterns", "--json"), "test_self_test::test_self_test"),
    },
    "simulate": {
        "--data": "test_sequences::test_every_stream_inside_the_core",
        **_CORE,
        **dict.fromkeys(_SIMULATED, f"{HERE}::test_simulation_as_asked_for"),
    },
    "sweep": {
        **dict.fromkeys(
            ("--output", "--train", "--valid", "--test", "--device", "--json"), "test_sweep::test_sweep_and_report"
        ),
        "--ray": f"{HERE}::test_a_sweep_on_a_cluster",
        "--limit-seconds": "test_sweep::test_a_sweep_of_limited_time",
    },
    "train": {
        **_TRAINING,
        "--config": "test_training::test_training_from_a_configuration",
        "--limit-seconds": "test_training::test_a_training_without_time",
    },
}
"""For each command, the test that looks at the effect of each option."""


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_has_a_test(command):
    parameters = cli.egret.get_command(click.Context(cli.egret), command).params
    options = {(one.secondary_opts or one.opts)[-1]: one.opts for one in parameters if isinstance(one, click.Option)}
    assert set(TESTED[command]) == set(options)
    for option, test in TESTED[command].items():
        file, name = test.split("::")
        source = Path(__file__).with_name(f"{file}.py").read_text()
        tests = {one.name for one in ast.parse(source).body if isinstance(one, ast.FunctionDef)}
        assert name in tests, test
        # It stands there as an argument, not only as a key of the table above.
        source = (
            source.replace(source[source.index("_CORE = {") : source.index("@pytest")], "") if file == HERE else source
        )
        assert any(f'"{one}"' in source for one in [option, *options[option]]), f"{test} does not give {option}"


@pytest.fixture
def lockstep(monkeypatch):
    """Stands in for the simulation of `egret.sim.lockstep`: what it is called with, a list."""
    calls = []

    def run(image, tokens, **options):
        calls.append((list(tokens), options))
        return Result({"output": 1}, {}, {"tokens": len(list(tokens)), "cycles": 90, "macs": 8})

    monkeypatch.setattr("egret.sim.lockstep.run", run)
    return calls


def test_simulation_as_asked_for(egret, network, lockstep):
    (network / "text").write_text("abcab")
    arguments = ("--simulator", "icarus", "--idle", 0.25, "--backpressure", 0.5, "--seed", 7, "--waves", "w.fst")
    status, out, _ = egret("simulate", "network", "--text", "text", "--tokens", 3, *arguments, "--json")
    assert (status, json.loads(out)["simulator"], json.loads(out)["tokens"]) == (0, "icarus", 3)
    options = {"simulator": "icarus", "seed": 7, "idle": 0.25, "backpressure": 0.5, "waves": Path("w.fst")}
    assert lockstep == [([0, 1, 2], options)]


def test_evaluation_under_icarus(egret, network, lockstep):
    arguments = ("evaluate", "network", "--text", "text", "--tokens", 4, "--engine", "rtl", "--simulator", "icarus")
    status, out, _ = egret(*arguments, "--json")
    assert (status, json.loads(out)["counters"]["cycles"]) == (0, 90)
    ((tokens, options),) = lockstep
    assert tokens == [0, 1, 2, 0] and options["simulator"] == "icarus"


def test_bench_of_a_text_as_a_picture(egret, network):
    (network / "network").rename(network / "a$b$c_{")
    for suffix, begin in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("PDF", b"%PDF")):
        plot = f"plot.{suffix}"
        status, out, _ = egret("bench", "a$b$c_{", "--text", "text", "--tokens", 20, "--plot", plot, "--json")
        assert status == 0 and (network / plot).read_bytes().startswith(begin)
    sampled = json.loads(egret("bench", "a$b$c_{", "--tokens", 20, "--json")[1])
    assert json.loads(out)["counters"] != sampled["counters"]  # another text


def test_bench_of_speed_ups(egret, network, monkeypatch):
    """Shown beside the network's own figures; what they are is tested with `egret.host.comparison`."""
    asked = {}

    def compare(network, ids, **options):
        asked.update(options)
        return [Variant("nothing", measured[0]), Variant("events", measured[0])]

    measured, measure = [], Measurement.__init__
    monkeypatch.setattr(
        Measurement, "__init__", lambda self, *one, **more: (measure(self, *one, **more), measured.append(self))[0]
    )
    monkeypatch.setattr("egret.host.comparison.compare", compare)
    status, out, _ = egret("bench", "network", "--tokens", 20, "--speed-ups", "--json")
    variants = json.loads(out)["variants"]
    assert status == 0 and [(one["uses"], one["speed_up"]) for one in variants] == [("nothing", 1), ("events", 1)]
    assert (asked["lanes"], asked["folded_tokens"]) == (None, 0)


def test_build_of_a_module_and_a_seed(egret, refused, network, monkeypatch):
    designs = []

    def run(design, tools, directory, *, progress):
        designs.append(design)
        for name in ("top.bit", "top.rpt", "top.tim"):
            (directory / name).write_text("")
        return build.Result(90.0, design.hertz / 1e6, {"luts": 7}, "a to b", {"synthesis": 1.0}, directory / "top.bit")

    monkeypatch.setattr(build, "run", run)
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, sys.executable)
    command = ("build", "network", "--board", "ulx3s-85f-sdram", "--tokens", 0, "-o", "out")
    for more in ((), ("--seed", 5), ("--sdram-module", "is42s16160g-7"), ("--line", "usb")):
        assert egret(*command, *more)[0] == 0
    plain, seeded, module, usb = designs
    assert seeded.commands != plain.commands and "5" in " ".join(map(str, sum(map(list, seeded.commands), []))).split()
    assert module.files != plain.files and module.commands == plain.commands
    assert refused(*command, "--sdram-module", "x").endswith("not 'x'")
    assert (usb.board.line, plain.board.line) == ("usb", "uart") and Path("out/ulx3s-85f-sdram-usb.bit").exists()
    assert json.loads(Path("out/report.json").read_text())["line"] == "usb"


def test_lines_of_a_board(egret, refused, network):
    """Its rate, and how long an image takes to load: a bit of a UART is 27 cycles of 80 MHz."""
    for command in ("estimate", "bench"):
        call = (command, "network", "--tokens", 5, "--board", "ulx3s-85f", "--no-readout", "--json")
        uart, usb = (json.loads(egret(*call, "--line", line)[1]) for line in ("uart", "usb"))
        rates = [one["speed"]["line_bytes_per_second"] for one in (uart, usb)]
        assert rates == [round(80e6 / 270), USB_BYTES_PER_SECOND]
        assert (uart["speed"]["baud"], usb["speed"]["baud"]) == (round(80e6 / 27), None)
        if command == "estimate":
            seconds = [one["load_bytes"] / one["load_seconds"] for one in (uart, usb)]
            assert seconds == pytest.approx([80e6 / 270, USB_LOADING_BYTES_PER_SECOND])
            assert usb["load_bytes"] < uart["load_bytes"] and (uart["line"], usb["line"]) == ("uart", "usb")
    message = "--line is the line of a board: give --board, too"
    assert refused("estimate", "network", "--line", "usb") == refused("bench", "network", "--line", "usb") == message
    assert refused("build", "network", "--board", "icebreaker", "--line", "usb") == (
        "iCEBreaker: --line must be uart, not 'usb'"
    )


def test_goals_of_packing(egret, network, random_checkpoint):
    configuration = NetworkConfiguration("egru", "char", 3, 24, (24, 24))
    save_checkpoint(random_checkpoint(configuration, density=0.3), "network")
    words = {}
    for goal in ("speed", "size"):
        _, out, _ = egret("compile", "network", "-o", goal, "--goal", goal, "--lanes", 4, "--json")
        words[goal] = json.loads(out)["words"]
    assert words["speed"] < words["size"]  # a word takes a cycle


def test_demo_of_another_network(egret, refused, network, monkeypatch):
    asked = []
    monkeypatch.setattr("egret.host.demo.run", lambda *arguments: asked.append(arguments[:4]) or True)
    assert egret("demo", "--checkpoint", "network", "--text", "text", "--tokens", 9, "--seed", 4)[0] == 0
    assert asked == [("network", "text", 9, 4)]
    assert refused("demo", "--text", "text") == "--checkpoint and --text go together"


def test_pruning_as_asked_for(egret, network, monkeypatch):
    (network / "p.toml").write_text('[text]\ntrain = "text"\nvalid = "text"\n[training]\nbatch = 3\ndevice = "cpu"\n')
    asked = []

    def prune(checkpoint, output, options, pruning, **more):
        asked.append((options.training.batch, pruning.spread, pruning.learning_rate, pruning.regrow, more))
        raise KeyboardInterrupt

    monkeypatch.setattr("egret.model.training.prune.prune", prune)
    command = ("prune", "network", "-o", "pruned", "--config", "p.toml", "--sparsity", 0)
    egret(*command, "--spread", 0.7, "--learning-rate", 0.01, "--regrow", "--limit-seconds", 5)
    assert asked == [(3, 0.7, 0.01, True, {"progress": False, "limit_seconds": 5.0})]


def test_bits_of_a_network(egret, network):
    bits = {"weight": 4, "embedding": 5, "accumulator": 20, "gate-index": 9}
    options = [part for name, value in bits.items() for part in (f"--{name}-bits", value)]
    assert options[::2] == ["--weight-bits", "--embedding-bits", "--accumulator-bits", "--gate-index-bits"]
    assert egret("quantise", "network", "-o", "integer", *options)[0] == 0
    made = load_integer("integer")
    assert (made.accumulator_bits, made.gate_index_bits) == (20, 9)
    assert not (made.embedding & 7).any() and (made.embedding & 8).any()  # 5 bits of 8
    assert len(set(made.layers[0].weight_y[:10].ravel().tolist()) - {0}) <= 15


def test_temperatures(egret, network):
    texts = [egret("run", "network", "--tokens", 40, "--temperature", 0, "--seed", seed)[1] for seed in (1, 2)]
    assert texts[0] == texts[1] != egret("run", "network", "--tokens", 40, "--temperature", 5, "--seed", 1)[1]


def test_bits_a_second(egret, refused, network, monkeypatch):
    egret("compile", "network", "-o", "image")
    rates = []
    with VirtualBoard(board_build(Image.load("image").configuration).program()) as board:
        from egret.host import transport

        opened = transport.open_serial

        def open_serial(port, **options):
            rates.append(options)
            return opened(port, **options)

        monkeypatch.setattr(transport, "open_serial", open_serial)
        for command in (("run", "image", "--tokens", 5), ("self-test", "image", "--patterns", 1)):
            assert egret(*command, "--port", board.port, "--baud", 115200)[0] == 0
            assert refused(*command, "--baud", 115200) == ("--baud is for a board on --port, not for the virtual board")
            assert refused(*command, "--port", board.port, "--baud", 0).startswith(
                "Invalid value for '--baud': 0 is not"
            )
    assert rates == [{"baud_rate": 115200}] * 2


def test_a_waveform_of_the_virtual_board(egret, network, monkeypatch):
    """The board is opened with it; what it writes is tested with `egret.sim.virtual`."""
    from egret.host import transport

    asked, opened = [], transport.open_virtual

    def open_virtual(configuration, *, trace, **options):
        asked.append(trace)
        return opened(configuration, **options)

    monkeypatch.setattr(transport, "open_virtual", open_virtual)
    assert egret("run", "network", "--tokens", 5, "--trace", "t.vcd")[0] == 0
    assert asked == ["t.vcd"]


def test_a_sweep_on_a_cluster(egret, network, monkeypatch):
    from egret.model.training import sweep

    asked = []
    monkeypatch.setitem(sys.modules, "ray", sys)  # stands in for it
    monkeypatch.setattr(sweep.Study, "from_toml", lambda path, **texts: path)
    monkeypatch.setattr(sweep, "sweep", lambda *arguments, **options: asked.append(options["ray"]) or sys.exit(3))
    with pytest.raises(SystemExit):
        egret("sweep", "s.toml", "-o", "swept", "--ray", "head:6379")
    assert asked == ["head:6379"]
