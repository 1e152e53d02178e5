"""Options of the core, on every command that simulates or builds one."""

import sys

import pytest

from egret.host.cli import main as cli
from egret.model.compiler.configuration import ReadoutShape

COMMANDS = [
    ("run", "network"),
    ("self-test", "network"),
    ("simulate", "network"),
    ("evaluate", "network", "--text", "text", "--engine", "rtl"),
    ("bench", "network", "--tokens", "5"),
    ("bench", "network", "--tokens", "5", "--split", "1"),
    ("compile", "network", "-o", "image"),
    ("estimate", "network", "--tokens", "5"),
    ("explain", "network", "--tokens", "5"),
]
BOARD_COMMANDS = [
    ("build", "network", "--board", "ulx3s-85f"),
    ("bench", "network", "--tokens", "5", "--board", "ulx3s-85f"),
    ("bench", "network", "--tokens", "5", "--board", "ulx3s-85f", "--split", "1"),
    ("estimate", "network", "--tokens", "5", "--board", "ulx3s-85f"),
]


class Compiled(Exception):  # noqa: N818
    """Ends a command where it compiles an image."""


@pytest.fixture
def compiled(network, monkeypatch):
    """Run a command line up to where it compiles `network`: the configuration."""

    def stop(network, configuration, **_):
        raise Compiled(configuration)

    # Where it is imported comes first: a module that is imported later would keep the stand-in.
    for module in ("egret.host.self_test", "egret.host.measure", "egret.model.compiler.compile"):
        monkeypatch.setattr(f"{module}.compile_image", stop)
    for variable in ("YOSYS", "NEXTPNR_ECP5", "ECPPACK"):
        monkeypatch.setenv(variable, sys.executable)

    def run(*arguments):
        with pytest.raises(Compiled) as stopped:
            cli.main([str(argument) for argument in arguments])
        return stopped.value.args[0]

    return run


def ids(command):
    return " ".join(argument for argument in command if argument.startswith("--") or argument == command[0])


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_core_as_asked_for(command, compiled):
    default = compiled(*command)
    assert (default.lanes, default.store, default.weight_bits) == (8, "bram", 8)
    assert (default.folded_tokens, default.compact) == (0, False)
    assert compiled(*command, "--lanes", 2).lanes == 2
    spram = compiled(*command, "--store", "spram")
    assert (spram.store, spram.compact) == ("spram", True)
    assert compiled(*command, "--folded", 2).folded_tokens == 2
    sdram = compiled(*command, "--store", "sdram")
    assert (sdram.store, sdram.lanes, sdram.memory_ratio, sdram.folded_tokens) == ("sdram", 8, 2, 3)
    assert sdram.resident_words > 0
    assert compiled(*command, "--store", "sdram", "--memory-ratio", 1).memory_ratio == 1
    assert compiled(*command, "--store", "sdram", "--resident-bytes", 0).resident_words == 0
    assert compiled(*command, "--store", "sdram", "--folded", 1).folded_tokens == 1
    assert default.readout is None and compiled(*command, "--no-readout") == default
    if "--split" not in command:
        assert compiled(*command, "--readout").readout == ReadoutShape(head=default.vocabulary)


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_bits_of_a_weight(command, compiled):
    cli.main(["quantise", "network", "-o", "integer", "--weight-bits", "4"])
    command = ["integer" if argument == "network" else argument for argument in command]
    assert compiled(*command).weight_bits == 4
    assert compiled(*command, "--weight-bits", 8).weight_bits == 8


@pytest.mark.parametrize("command", BOARD_COMMANDS, ids=ids)
def test_the_core_of_a_board(command, compiled, refused):
    assert compiled(*command).lanes == 8
    assert compiled(*command, "--lanes", 2).lanes == 2
    assert compiled(*command, "--folded", 2).folded_tokens == 2
    if "--split" not in command:
        assert compiled(*command, "--readout").readout is not None
    which = "--lanes, --folded and --readout"
    if command[0] == "build":
        which = "--lanes, --weight-bytes, --folded and --readout"
        assert compiled(*command, "--weight-bytes", 0).weight_words < compiled(*command).weight_words
    for option in (("--store", "sdram"), ("--weight-bits", "8"), ("--resident-bytes", "0")):
        assert refused(*command, *option) == (f"--board has a core of its own: of its options only {which} go with it")


def test_compilation_for_a_target(compiled, refused):
    command = ("compile", "network", "-o", "image")
    assert compiled(*command).weight_memory_bytes == pytest.approx(128 * 1024, abs=16)
    assert compiled(*command, "--weight-bytes", 0).weight_memory_bytes < 1000
    assert compiled(*command, "--target", "icebreaker", "--store", "spram") == compiled(
        *command, "--target", "icebreaker"
    )
    assert compiled(*command, "--store", "sdram") == compiled(*command, "--target", "sdram")
    assert refused(*command, "--target", "icebreaker", "--store", "bram") == (
        "--target icebreaker has the store spram: leave --store out, or --target"
    )


@pytest.mark.parametrize(
    "option",
    [("--lanes", "2"), ("--store", "sdram"), ("--weight-bits", "8"), ("--folded", "1"), ("--resident-bytes", "0")],
)
def test_an_engine_without_a_core(option, refused, network):
    assert refused("evaluate", "network", "--text", "text", "--engine", "float", *option) == (
        "--lanes, --store, --weight-bits, --folded and --resident-bytes are for a core, which computes in integers: "
        "--engine must be integer, native or rtl, not float"
    )
