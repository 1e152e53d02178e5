"""Bitstreams of an iCE40 UP5K, read back by `egret.sim.bitstream` and simulated at their pins."""

import re
import subprocess
import sys

import pytest

from egret.boards.icebreaker import BOARD
from egret.boards.tools import Tools
from egret.host.demo import NETWORK, TEXT
from egret.host.exchange import BoardError
from egret.model.checkpoint import load_checkpoint
from egret.model.compiler.image import Image
from egret.model.errors import InputError
from egret.model.tokens import read_text
from egret.rtl.protocol import CAUSES
from egret.rtl.uart import divisor_for
from egret.sim.bitstream import cell_models, decode, find_icebox, pins_program
from tests.support.pins import check_at_pins, pin_of

try:
    find_icebox()
except InputError as error:
    pytest.skip(str(error), allow_module_level=True)


TOKENS = 20

# Everything that the decoder knows: a PLL, tables, carries, flip-flops with enables and both kinds of reset, a block
# RAM with a content, a multiplier with registers, and a large RAM whose words are written whole, then in part.
SMALL = """
module top(input clk, d, hold, output q);
  wire clock, locked;
  SB_PLL40_PAD #(.FEEDBACK_PATH("SIMPLE"), .DIVR(0), .DIVF(63), .DIVQ(5), .FILTER_RANGE(1)) pll(
    .PACKAGEPIN(clk), .RESETB(1'b1), .BYPASS(1'b0), .PLLOUTGLOBAL(clock), .LOCK(locked));
  reg [47:0] s = 1;
  reg [9:0] count = 0;
  reg signed [15:0] a = 0, b = 0;
  reg signed [31:0] product = 0;
  reg [31:0] sum = 0;
  reg [15:0] block [0:255];
  reg [15:0] read = 0;
  reg [7:0] once = 8'h5a;
  wire [15:0] wide;
  reg was = 0, started = 0;
  initial begin : content
    integer i;
    for (i = 0; i < 256; i = i + 1) block[i] = i * 40503;
  end
  SB_SPRAM256KA spram(.ADDRESS({4'b0, count[8:1], 2'b10}), .DATAIN(s[15:0]), .MASKWREN(count[9] ? s[19:16] : 4'hf),
    .WREN(count[0]), .CHIPSELECT(1'b1), .CLOCK(clock), .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1), .DATAOUT(wide));
  always @(posedge clock) begin
    was <= count[9] && !count[0];
    if (!hold && locked) begin
      s <= {s[46:0], s[47] ^ d};
      count <= count + 1;
      a <= s[15:0];
      b <= s[37:22];
      product <= a * b;
      started <= started | count[4];
      if (started) sum <= sum + product + {wide & {16{was}}, read};
      if (s[3]) block[s[12:5]] <= sum[31:16];
      read <= block[sum[7:0]];
    end
  end
  always @(posedge clock or posedge hold)
    if (hold) once <= 8'h3c; else if (s[1]) once <= {once[6:0], once[7] ^ sum[9]};
  assign q = ^sum ^ once[3];
endmodule
"""
SMALL_PINS = "set_io clk 35\nset_io d 6\nset_io hold 10\nset_io q 9\n"
BENCH = """
module bench;
  reg clk = 0, d = 0, hold = 0;
  wire q, expected;
  top model(.clk(clk), .d(d), .hold(hold), .q(expected));
  chip chip(.pin_35(clk), .pin_6(d), .pin_10(hold), .pin_9(q));
  integer cycle, ones = 0, wrong = 0;
  initial begin
    for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
      #1 clk = 1;
      #1 if (q !== expected) wrong = wrong + 1;
      if (expected) ones = ones + 1;
      clk = 0;
      d = $random;
      hold = ($random & 15) == 0;
    end
    $display("%0d %0d", wrong, ones);
  end
endmodule
"""


def unpacked(directory, name):
    """Path of the text form of the bitstream ``name``.bin."""
    tool = Tools.find("ice40").paths["icepack"]
    subprocess.run([tool, "-u", f"{name}.bin", f"{name}.asc"], cwd=directory, check=True, capture_output=True)
    return directory / f"{name}.asc"


def flipped(path, x, y, row, column):
    """Path of a bitstream with one other bit of a tile."""
    head, line, rest = re.split(rf"(^\.\w+_tile {x} {y}\n)", path.read_text(), flags=re.M)
    rows = rest.split("\n")
    rows[row] = rows[row][:column] + "10"[int(rows[row][column])] + rows[row][column + 1 :]
    other = path.with_name(f"{path.stem}_{x}_{y}_{row}_{column}.asc")
    other.write_text(head + line + "\n".join(rows))
    return other


def multiplier_bit(path, x, y, name):
    """Column and row of a tile, and row and column in it, of a bit of the multiplier at (x, y)."""
    chip = find_icebox().iceconfig()
    chip.read_file(str(path))
    column, row, bit = chip.get_dsp_config_db(x, y)[name]
    (pattern,) = (entry[0] for entry in chip.tile_db(column, row) if entry[1:] == ["IpConfig", bit])
    return column, row, *map(int, re.fullmatch(r"B(\d+)\[(\d+)\]", pattern[0]).groups())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(directory, bitstream in the text form, what was decoded) of the small design."""
    directory = tmp_path_factory.mktemp("small")
    for name, content in {
        "small.v": SMALL,
        "small.pcf": SMALL_PINS,
        "bench.v": BENCH,
        "cells.v": cell_models(),
    }.items():
        (directory / name).write_text(content)
    tools = Tools.find("ice40")
    tools.run("yosys", ["-q", "-p", "read_verilog small.v; synth_ice40 -dsp -top top -json small.json"], directory)
    files = ["--json", "small.json", "--pcf", "small.pcf", "--asc", "placed.asc"]
    tools.run("nextpnr-ice40", ["--quiet", "--up5k", "--package", "sg48", *files], directory)
    tools.run("icepack", ["placed.asc", "small.bin"], directory)
    path = unpacked(directory, "small")
    return directory, path, decode(path)


def compared(directory, decoded):
    """Cycles of 5000 in which the decoded design's output is not that of the source, and those in which that is one."""
    (directory / "chip.v").write_text(decoded.verilog)
    # Parameters of the PLL, which the model lacks, bring a warning.
    command = ["iverilog", "-g2005", "-o", "bench", "cells.v", "small.v", "chip.v", "bench.v"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    result = subprocess.run(["vvp", "-n", "bench"], cwd=directory, check=True, capture_output=True, text=True)
    wrong, ones = map(int, result.stdout.split())
    return wrong, ones


def test_a_small_design_behaves_as_its_source(small):
    directory, _, decoded = small
    assert (set(decoded.inputs), decoded.outputs) == ({"pin_35", "pin_6", "pin_10"}, ("pin_9",))
    assert decoded.pll.pin == "pin_35" and decoded.pll.hertz(12e6) == 24e6
    once = {"SB_PLL40_PAD", "SB_RAM40_4K", "SB_MAC16", "SB_SPRAM256KA"}
    assert {kind for kind, count in decoded.cells.items() if count == 1} == once
    assert decoded.cells.keys() - once == {"SB_LUT4", "SB_CARRY", "SB_DFF"}
    wrong, ones = compared(directory, decoded)
    assert wrong == 0 and 2000 < ones < 3000


def test_one_other_bit_of_a_table_is_noticed(small):
    """The table that drives the output, where all of its inputs are zero."""
    directory, path, decoded = small
    (net,) = re.findall(r"^assign pin_9 = (\w+);$", decoded.verilog, re.M)
    x, y, index = map(int, re.search(rf"^// (\d+) (\d+) (\d+)\nassign {net} = ", decoded.verilog, re.M).groups())
    # IceStorm's bit 4 of a cell.
    wrong, _ = compared(directory, decode(flipped(path, x, y, 2 * index, 40)))
    assert wrong > 100


@pytest.mark.parametrize("name", ["A_SIGNED", "B_REG", "TOPOUTPUT_SELECT_1"])
def test_one_other_bit_of_a_multiplier_is_noticed(small, name):
    directory, path, decoded = small
    x, y = map(int, re.search(r" mac_(\d+)_(\d+) ", decoded.verilog).groups())
    wrong, _ = compared(directory, decode(flipped(path, *multiplier_bit(path, x, y, name))))
    assert wrong > 100


def test_bits_that_are_not_known_are_refused(small):
    """Those of a tile of logic that no cell and no wire has, and of a multiplier's tile that passes wires on."""
    path = small[1]
    with pytest.raises(InputError, match=r"^the bitstream sets bits of tile \(12, 15\) that are not known: B0\[1\]$"):
        decode(flipped(path, 12, 15, 0, 1))
    with pytest.raises(InputError, match=r"^the bitstream uses a cell of tile \(0, 15\) as a table, which has none$"):
        decode(flipped(path, 0, 15, 0, 40))


def test_what_is_no_bitstream(tmp_path):
    path = tmp_path / "no.asc"
    with pytest.raises(InputError, match=r"no\.asc: cannot be read: No such file or directory$"):
        decode(path)
    path.write_text(".device 8k\n")
    expected = r"no\.asc: a bitstream of an iCE40 UP5K in its text form is needed, as iceunpack writes it$"
    with pytest.raises(InputError, match=expected):
        decode(path)
    path.write_text(".device 5k\n.logic_tile 1\n")
    with pytest.raises(InputError, match=expected):
        decode(path)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """(directory, bitstream in the text form, what was decoded, image, tokens) of the iCEBreaker's demo: minutes."""
    directory = tmp_path_factory.mktemp("icebreaker")
    command = ["-m", "egret.host.cli.main", "build", "--board", "icebreaker", "--tokens", "0", "-o", "out"]
    subprocess.run([sys.executable, *command], cwd=directory, check=True, capture_output=True)
    vocabulary = load_checkpoint(NETWORK).vocabulary
    tokens = vocabulary.encode(read_text(TEXT))[:TOKENS]
    path = unpacked(directory / "out", "icebreaker")
    return directory, path, decode(path), Image.load(directory / "out" / "image"), tokens


def check(directory, decoded, image, tokens):
    """Identify, load and run the board at its pins: all events and the counters are those of the integer network."""
    places = {"rx": (*BOARD.port, "rx"), "tx": (*BOARD.port, "tx"), "light": BOARD.led}
    ports = {name: f"pin_{pin_of(BOARD, *place)}" for name, place in places.items()}
    directory.mkdir()
    divisor = divisor_for(decoded.pll.hertz(12e6), BOARD.baud)
    program = pins_program(decoded, cell_models(), directory, **ports, lit=False, bit_cycles=divisor)
    counters = check_at_pins(program, image, tokens)
    assert counters["cycles"] == counters["words"] + sum(counters[cause] for cause in CAUSES[:-2])


@pytest.mark.slow
def test_the_demo_network_on_the_icebreaker(board):
    """The bitstream that `egret build` makes, from its UART's pins to its UART's pins."""
    directory, _, decoded, image, tokens = board
    assert decoded.pll.hertz(12e6) == BOARD.hertz
    counts = {kind: decoded.cells[kind] for kind in ("SB_RAM40_4K", "SB_MAC16", "SB_SPRAM256KA", "SB_PLL40_PAD")}
    assert counts == {"SB_RAM40_4K": 24, "SB_MAC16": 3, "SB_SPRAM256KA": 4, "SB_PLL40_PAD": 1}
    check(directory / "whole", decoded, image, tokens)


@pytest.mark.slow
def test_one_other_bit_on_the_icebreaker_is_noticed(board):
    """One multiplier's second operand has no sign."""
    directory, path, decoded, image, tokens = board
    place = map(int, re.search(r"\.B_SIGNED\(1'd1\)\) mac_(\d+)_(\d+) ", decoded.verilog).groups())
    broken = decode(flipped(path, *multiplier_bit(path, *place, "B_SIGNED")))
    with pytest.raises((AssertionError, BoardError)):
        check(directory / "broken", broken, image, tokens)
