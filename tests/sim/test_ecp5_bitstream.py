"""Designs of an ECP5 as nextpnr placed them, and as their bitstreams say, simulated: `egret.sim.ecp5_bitstream`."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from egret.boards.tools import Tools
from egret.boards.ulx3s import BOARD
from egret.host.exchange import BoardError
from egret.model.compiler.image import Image
from egret.model.errors import InputError
from egret.model.integer_file import save_integer
from egret.rtl.protocol import CAUSES
from egret.sim.bitstream import pins_program
from egret.sim.ecp5 import placed_models
from egret.sim.ecp5_bitstream import _Decoder, decode
from egret.sim.ecp5_placed import read_placed
from tests.support.networks import few_values, random_network
from tests.support.pins import check_at_pins, pin_of

TOKENS = 20
PACKAGE = "CABGA381"

# Everything that the decoder knows: a PLL, tables, carries, flip-flops with enables, both edges and both kinds of
# reset, block RAMs of 18 and 36 bits with contents, distributed RAM, and a multiplier.
SMALL = """
module top(input clk, d, hold, output q, p);
  wire clock, locked;
  EHXPLLL #(.CLKI_DIV(5), .CLKFB_DIV(16), .CLKOP_DIV(7), .CLKOP_ENABLE("ENABLED"), .CLKOP_CPHASE(3),
    .FEEDBK_PATH("CLKOP")) pll(.CLKI(clk), .CLKFB(clock), .CLKOP(clock), .LOCK(locked), .RST(1'b0), .STDBY(1'b0));
  reg [47:0] s = 1;
  reg [9:0] count = 0;
  reg signed [15:0] a = 0, b = 0;
  reg signed [31:0] product = 0;
  reg [31:0] sum = 0;
  reg [15:0] block [0:255];
  reg [35:0] wide [0:511];
  reg [3:0] few [0:15];
  reg [15:0] read = 0;
  reg [35:0] far = 0;
  reg [3:0] near = 0;
  reg [7:0] once = 8'h3c, falling = 8'h33;
  initial begin : content
    integer i;
    for (i = 0; i < 256; i = i + 1) block[i] = i * 40503;
    for (i = 0; i < 512; i = i + 1) wide[i] = i * 36'h39e3779b9;
    for (i = 0; i < 16; i = i + 1) few[i] = i * 7;
  end
  always @(posedge clock)
    if (!hold && locked) begin
      s <= {s[46:0], s[47] ^ d};
      count <= count + 1;
      a <= s[15:0];
      b <= s[37:22];
      product <= a * b;
      if (count[4]) sum <= sum + product + {near, far[11:0], read} + far[35:12];
      if (s[3]) block[s[12:5]] <= sum[31:16];
      read <= block[sum[7:0]];
      if (s[4]) wide[s[21:13]] <= {sum[3:0], sum};
      far <= wide[sum[9:1]];
      if (s[6]) few[s[33:30]] <= sum[19:16];
      near <= few[sum[13:10]];
    end
  always @(posedge clock or posedge hold)
    if (hold) once <= 8'h3c; else if (s[1]) once <= {once[6:0], once[7] ^ sum[9]};
  always @(negedge clock) if (d) falling <= {falling[6:0], falling[7] ^ sum[3]};
  assign q = ^sum ^ once[3];
  assign p = falling[2] ^ sum[17];
endmodule
"""
PINS = {"clk": "G2", "d": "M1", "hold": "R1", "q": "B2", "p": "L4"}
KINDS = {"TRELLIS_COMB", "TRELLIS_FF", "TRELLIS_RAMW", "DP16KD", "MULT18X18D", "EHXPLLL"}
BENCH = """
module bench;
  reg clk = 0, d = 0, hold = 0;
  wire q, p, expected_q, expected_p;
  top model(.clk(clk), .d(d), .hold(hold), .q(expected_q), .p(expected_p));
  chip chip(@);
  integer cycle, ones = 0, wrong = 0;
  initial begin
    for (cycle = 0; cycle < 2000; cycle = cycle + 1) begin
      #1 clk = 1;
      #1 if (q !== expected_q || p !== expected_p) wrong = wrong + 1;
      if (expected_q) ones = ones + 1;
      clk = 0;
      #1 if (q !== expected_q || p !== expected_p) wrong = wrong + 1;
      d = $random;
      hold = ($random & 15) == 0;
    end
    $display("%0d %0d", wrong, ones);
  end
endmodule
"""


def unpacked(tools, directory, name):
    """Path of the text form of the bitstream ``name``.bit."""
    pack = tools.paths["ecppack"]
    tool = str(Path(pack).with_name(Path(pack).name.replace("ecppack", "ecpunpack")))
    command = [tool, "--input", f"{name}.bit", "--textcfg", f"{name}.text"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / f"{name}.text"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(directory, bitstream in the text form) of the small design."""
    directory = tmp_path_factory.mktemp("small")
    (directory / "small.v").write_text(SMALL)
    # The model of the PLL has no settings.
    (directory / "source.v").write_text(re.sub(r"#\(\.CLKI_DIV.*?\)\) pll", "pll", SMALL, flags=re.S))
    pins = [f'LOCATE COMP "{name}" SITE "{pin}"; IOBUF PORT "{name}" IO_TYPE=LVCMOS33;' for name, pin in PINS.items()]
    (directory / "small.lpf").write_text("\n".join(pins))
    (directory / "cells.v").write_text(placed_models())
    tools = Tools.find("ecp5")
    synthesis = "read_verilog small.v; synth_ecp5 -nowidelut -noabc9 -top top -json small.json"
    tools.run("yosys", ["-q", "-p", synthesis], directory)
    files = ["--json", "small.json", "--lpf", "small.lpf", "--textcfg", "small.config", "--write", "placed.json"]
    tools.run("nextpnr-ecp5", ["--quiet", "--85k", "--package", PACKAGE, *files], directory)
    tools.run("ecppack", ["--compress", "--input", "small.config", "--bit", "small.bit"], directory)
    return directory, unpacked(tools, directory, "small")


def compared(directory, decoded):
    """Steps of 4000 in which the outputs are not those of the source, and cycles of 2000 in which one is a one."""
    ports = {name: name if name in decoded.inputs + decoded.outputs else f"pin_{pin}" for name, pin in PINS.items()}
    (directory / "chip.v").write_text(decoded.verilog)
    (directory / "bench.v").write_text(BENCH.replace("@", ", ".join(f".{port}({net})" for net, port in ports.items())))
    command = ["iverilog", "-g2012", "-o", "bench", "cells.v", "source.v", "chip.v", "bench.v"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    result = subprocess.run(["vvp", "-n", "bench"], cwd=directory, check=True, capture_output=True, text=True)
    wrong, ones = map(int, result.stdout.split())
    return wrong, ones


def changed(path, pattern, replacement):
    """Path of a bitstream's text with another line."""
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.M)
    assert count == 1
    other = path.with_name("changed.text")
    other.write_text(text)
    return other


def test_a_small_design_behaves_as_its_source(small):
    directory, path = small
    decoded = decode(path, PACKAGE)
    assert (set(decoded.inputs), set(decoded.outputs)) == ({"pin_G2", "pin_M1", "pin_R1"}, {"pin_B2", "pin_L4"})
    assert decoded.pll.pin == "pin_G2" and decoded.pll.hertz(25e6) == 80e6
    assert decoded.cells.keys() == KINDS and decoded.cells["DP16KD"] == 2
    wrong, ones = compared(directory, decoded)
    assert wrong == 0 and 800 < ones < 1200


def test_a_placed_design_behaves_as_its_source(small):
    directory, path = small
    decoded = read_placed(directory / "placed.json")
    assert (set(decoded.inputs), set(decoded.outputs)) == ({"clk", "d", "hold"}, {"q", "p"})
    assert decoded.pll.pin == "clk" and decoded.pll.hertz(25e6) == 80e6
    # Each flip-flop and block is in the bitstream, too.
    bitstream = decode(path, PACKAGE).cells
    for kind in KINDS - {"TRELLIS_COMB"}:
        assert decoded.cells[kind] == bitstream[kind]
    wrong, ones = compared(directory, decoded)
    assert wrong == 0 and 800 < ones < 1200


def configured(path):
    """What a bitstream's text says of its tiles: lines by tile, and the contents of its block RAMs."""
    parts = re.split(r"^\.(tile|bram_init) (.+)\n", path.read_text(), flags=re.M)
    tiles, contents = {}, {}
    for kind, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        lines = body.split("\n.", 1)[0].split("\n")
        if kind == "tile":
            tiles.setdefault(name, set()).update(filter(None, lines))
        else:
            contents[name] = " ".join(lines).split()
    return tiles, contents


def test_packing_loses_no_wire_and_no_content(small):
    """Every arc and each table's word that nextpnr wrote, and each block RAM's content, are in the bitstream."""
    directory, path = small
    written, contents = configured(directory / "small.config")
    read, contents_read = configured(path)
    assert contents == contents_read and len(contents) == 2
    arcs = 0
    for tile, lines in written.items():
        kept = {line for line in lines if line.startswith("arc:")}
        # Those of a pin's input, of the PLL's first clock, and of a table's own output have no bits.
        without = r"arc: (\w+ JPADDI[A-D]_PIO|\w+ \w+_JREFCLK\d_0|F(\d) F\2_SLICE)"
        kept -= {line for line in kept if re.fullmatch(without, line)}
        assert kept <= read.get(tile, set()), tile
        words = {line for line in lines if re.match(r"word: SLICE[A-D]\.K[01]\.INIT", line)}
        # A table without a zero has no bits.
        assert {word for word in words if "0" in word.split()[2]} <= read.get(tile, set()), tile
        arcs += len(kept)
    assert arcs > 2000


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^(\.bram_init 3\n)\S{3}(.*\n){40}", r"\g<1>"),
        (r"^enum: CLK0\.CLKMUX INV\n", ""),
    ],
    ids=["a block RAM's content", "an edge"],
)
def test_another_setting_is_noticed(small, pattern, replacement):
    directory, path = small
    wrong, _ = compared(directory, decode(changed(path, pattern, replacement), PACKAGE))
    assert wrong > 0


def test_the_number_of_a_block_ram_lies_in_two_tiles(tmp_path):
    """And ``ecpunpack`` leaves out a part without a one, in either of them."""
    tools = Tools.find("ecp5")
    pairs = {
        (10, "MIB_R22C11:MIB_EBR7", "MIB_R22C12:EBR_SPINE_UL2"): 3,
        (19, "MIB_R22C20:MIB_EBR7", "MIB_R22C21:MIB_EBR8"): 14,
        (28, "MIB_R22C29:MIB_EBR7", "MIB_R22C30:EBR_SPINE_UL1"): 16,
        (37, "MIB_R22C38:MIB_EBR7", "MIB_R22C39:MIB_EBR8"): 470,
    }
    text = ".device LFE5U-85F\n"
    for (_, *tiles), number in pairs.items():
        word = f"word: EBR3.WID {number:09b}"
        text += "".join(f"\n.tile {tile}\n{word[:-9]}{word[-9:][::-1]}\n" for tile in tiles)
    (tmp_path / "rams.config").write_text(text)
    tools.run("ecppack", ["--input", "rams.config", "--bit", "rams.bit"], tmp_path)
    lines = unpacked(tools, tmp_path, "rams").read_text().split("\n")
    assert sum("EBR3.WID" in line for line in lines) == 5
    decoder = _Decoder(lines, PACKAGE)
    for (column, *_), number in pairs.items():
        places = [(column + step, 22) for step in range(3)]
        assert decoder._word(places, "EBR3.WID", lowest_first=True) == number


def test_what_is_not_known_is_refused(small):
    path = small[1]
    for pattern, replacement, message in [
        (r"^(\.tile R\d+C\d+:PLC2\n)", r"\1unknown: F1B1\n", "sets bits of a tile PLC2 that are not known: F1B1"),
        (r"^arc: MUXCLK\d CLK\d\n", "", "without a clock"),
        (r"^arc: B2 .*\n", "", "nothing in the bitstream drives the wire"),
        (r"\Z", r"\n.tile R40C100:PLC2\narc: H00L0000 Q0\n", "joins wires that nothing depends on"),
        (r"^(enum: EBR\d\.RESETMODE) ASYNC\n", r"\1 OTHER\n", "the setting EBR"),
        (
            r"^(\.tile R\d+C\d+:PLC2\n)",
            r"\1enum: SLICEA.M0MUX 1\n",
            "sets SLICEA.M0MUX in a tile PLC2, which is not known",
        ),
    ]:
        with pytest.raises(InputError, match=message):
            decode(changed(path, pattern, replacement), PACKAGE)


def test_what_is_no_bitstream_and_no_netlist(tmp_path):
    path = tmp_path / "no.text"
    with pytest.raises(InputError, match=r"no\.text: cannot be read: No such file or directory$"):
        decode(path, PACKAGE)
    with pytest.raises(InputError, match=r"no\.text: cannot be read: No such file or directory$"):
        read_placed(path)
    head = ".device LFE5U-85F\n"
    for text in ("", ".device iCE40\n", f"{head}what\n", f"{head}.tile R1C1:PLC2\narc: A0\n", f"{head}.tile A:PLC2\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"no\.text: a bitstream of an ECP5 in its text form is needed"):
            decode(path, PACKAGE)
    for text in ("{", "{}", '{"modules": {}}', '{"modules": {"top": {"cells": 1}}}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"no\.text: a netlist is needed, as nextpnr-ecp5 --write writes it$"):
            read_placed(path)


def built(directory, *arguments):
    """(directory, placed netlist, bitstream in the text form, image) of a ULX3S as `egret build` makes it."""
    tools = Tools.find("ecp5")
    script, kept = directory / "nextpnr", directory / "placed.json"
    tool = shlex.quote(tools.paths["nextpnr-ecp5"])
    script.write_text(f'#!/bin/sh\nset -e\n{tool} "$@" --write placed.json\nmv placed.json {shlex.quote(str(kept))}\n')
    script.chmod(0o755)
    command = ["-m", "egret.host.cli.main", "build", "--board", "ulx3s-85f", "--tokens", "0", "-o", "out", *arguments]
    environment = os.environ | {"NEXTPNR_ECP5": str(script)}
    subprocess.run([sys.executable, *command], cwd=directory, check=True, capture_output=True, env=environment)
    path = unpacked(tools, directory / "out", "ulx3s-85f")
    return directory, kept, path, Image.load(directory / "out" / "image")


@pytest.fixture(scope="module")
def small_board(tmp_path_factory):
    """As `built`, for a random network: a minute or two."""
    directory = tmp_path_factory.mktemp("small_board")
    network = few_values(random_network(3, vocabulary=60, embedding=20, hidden=(50, 40), density=0.4))
    save_integer(network, directory / "small.egret")
    return built(directory, "small.egret", "--lanes", "2", "--weight-bytes", "0", "--no-readout")


def port(decoded, name, number, *part):
    """That of a design, or of the pin, which one of the board's resources has."""
    net = "__".join([f"{name}_{number}", *part, "io"])
    return net if net in decoded.inputs + decoded.outputs else f"pin_{pin_of(BOARD, name, number, *part)}"


def check(directory, decoded, image, tokens):
    """Identify, load and run the board at its pins: all events and the counters are those of the integer network."""
    directory.mkdir()
    divisor = int(BOARD.divisor(decoded.pll.hertz(25e6)))
    line = {name: port(decoded, *BOARD.port, name) for name in ("rx", "tx")}
    light = port(decoded, *BOARD.led)
    program = pins_program(decoded, placed_models(), directory, **line, light=light, lit=True, bit_cycles=divisor)
    counters = check_at_pins(program, image, tokens)
    assert counters["cycles"] == counters["words"] + sum(counters.get(cause, 0) for cause in CAUSES)


def some_tokens(image):
    return np.random.default_rng(1).integers(0, image.configuration.vocabulary, TOKENS).tolist()


@pytest.mark.slow
def test_a_small_network_on_the_ulx3s_as_it_is_placed(small_board):
    """The cells that nextpnr has placed, from the UART's pins to the UART's pins."""
    directory, placed, _, image = small_board
    decoded = read_placed(placed)
    assert decoded.pll.hertz(25e6) == BOARD.hertz
    check(directory / "placed", decoded, image, some_tokens(image))


@pytest.mark.slow
def test_a_small_network_on_the_ulx3s(small_board):
    """The bitstream that `egret build` makes, from its UART's pins to its UART's pins."""
    directory, placed, path, image = small_board
    decoded = decode(path, PACKAGE)
    assert decoded.pll.hertz(25e6) == BOARD.hertz
    assert decoded.cells["TRELLIS_FF"] == read_placed(placed).cells["TRELLIS_FF"]
    assert decoded.cells.keys() == KINDS
    check(directory / "whole", decoded, image, some_tokens(image))


@pytest.mark.slow
def test_other_tables_on_the_ulx3s_are_noticed(small_board):
    """Bit 3 of each word that the bitstream fills block RAMs with: the host loads all but the gates' tables anew."""
    directory, _, path, image = small_board
    other = path.with_name("other.text")
    row = re.compile(r"^(?:[0-9a-f]{3} ){7}[0-9a-f]{3} *$", re.M)
    other.write_text(
        row.sub(lambda found: " ".join(f"{int(word, 16) ^ 8:03x}" for word in found[0].split()), path.read_text())
    )
    with pytest.raises((AssertionError, BoardError)):
        check(directory / "broken", decode(other, PACKAGE), image, some_tokens(image))
