"""Verilog export: memories with loops for their initial content, and what other tools say of an exported core."""

import os
import re
import shutil
import subprocess

import pytest
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from egret.model.compiler.configuration import Configuration
from egret.rtl.export import compact_initial, core_verilog, in_good_style, to_verilog
from egret.sim.verilate import find_verilator

CONTENT = [*[0] * 100, *range(7), *[255] * 40, 3]


class Rom(wiring.Component):
    """Reads two memories row by row."""

    def __init__(self):
        super().__init__({"o": Out(8), "address": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=len(CONTENT), init=CONTENT)
        m.submodules.scratch = scratch = Memory(shape=8, depth=1 << 9, init=[])
        write = scratch.write_port()
        m.d.comb += [write.en.eq(1), write.addr.eq(self.address), write.data.eq(self.address)]
        read, other = memory.read_port(domain="comb"), scratch.read_port(domain="comb")
        m.d.sync += self.address.eq(self.address + 1)
        m.d.comb += [
            read.addr.eq(self.address),
            other.addr.eq(0x1FF),
            self.o.eq(Mux(self.address == 0, CONTENT[0], read.data + other.data)),
        ]
        return m


def test_large_memories_stay_small():
    text = to_verilog(Rom(), "rom")
    assert "module rom(" in text
    assert len(text) < 10_000


@pytest.mark.parametrize(
    "depth, init, kept", [((1 << 10) - 1, [], True), (1 << 10, [], False), (1 << 10, [0, 0, 7], True)]
)
def test_large_memories_of_zeros_have_no_content(depth, init, kept):
    """They are loaded before they are read; what is not all zeros, or small, is written as ever."""
    memory = Memory(shape=8, depth=depth, init=init)

    class Ram(wiring.Component):
        o: Out(8)

        def elaborate(self, platform):
            m = Module()
            m.submodules.memory = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.sync += [write.addr.eq(write.addr + 1), read.addr.eq(read.addr + 3), self.o.eq(read.data)]
            m.d.comb += [write.en.eq(1), write.data.eq(self.o)]
            return m

    text = to_verilog(Ram(), "ram")
    assert f" [{depth - 1}:0];" in text and len(text) < 10_000
    assert ("_row < " in text) == kept


@pytest.mark.parametrize("written", ["by Yosys", "compact", "in good style"])
def test_content_is_the_same(written, tmp_path):
    """Icarus reads every row, of the text as Yosys writes it, of the compacted one, and of what others get."""
    bench = """
        module bench;
          reg clk = 0, rst = 0; wire [7:0] o, address; integer i;
          rom dut(.clk(clk), .rst(rst), .o(o), .address(address));
          initial for (i = 0; i < %d; i = i + 1) begin #1 $display("%%0d", o); clk = 1; #1 clk = 0; end
        endmodule
    """
    text = to_verilog(Rom(), "rom")
    if written == "in good style":
        assert " = ! address;" in text
        text = in_good_style(text)
        assert " = ~| address;" in text and "initial address = 8'h00;" in text
    elif written == "by Yosys":
        from amaranth.back import verilog

        text = verilog.convert(Rom(), name="rom", strip_internal_attrs=True)
        assert compact_initial(text) != text
    (tmp_path / "top.v").write_text(text + bench % len(CONTENT))
    assert shutil.which("iverilog"), "Icarus Verilog is needed"
    subprocess.run(["iverilog", "-g2005", "-o", "top", "top.v"], cwd=tmp_path, check=True)
    output = subprocess.run(["vvp", "-n", "top"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in output.split()] == CONTENT


def test_other_text_is_left_alone():
    text = "  initial begin\n    x[0] = 1'h0;\n    x[1] = 1'h1;\n  end\n  initial begin\n    y = 0;\n  end\n"
    assert compact_initial(text) == text


def test_rows_become_a_loop():
    rows = "".join(f"    \\a.b [{row}] = 2'h0;\n" for row in range(20))
    assert compact_initial(f"  initial begin\n{rows}    \\a.b [20] = 2'h1;\n  end\n") == (
        "  initial begin : rows_0\n"
        "    integer _row;\n"
        "    for (_row = 0; _row < 20; _row = _row + 1) \\a.b [_row] = 2'h0;\n"
        "    \\a.b [20] = 2'h1;\n"
        "  end\n"
    )


SMALLEST = {"vocabulary": 2, "embedding": 1, "hidden": (1,), "lanes": 1, "weight_words": 1}
"""Of everything one: where widths are 0."""


@pytest.fixture(scope="module")
def smallest():
    """The Verilog of the smallest core."""
    return core_verilog(Configuration(**SMALLEST))


@pytest.fixture
def lint(tmp_path):
    """Verilator's strictest check of a text: its status, and the names of what it warns of."""

    def run(text):
        (tmp_path / "core.v").write_text(text)
        command = [find_verilator() / "bin" / "verilator_bin", "--lint-only", "-Wall", "core.v"]
        environment = os.environ | {"VERILATOR_ROOT": str(find_verilator())}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, re.findall(r"(?m)^%Warning-(\w+):", done.stdout + done.stderr)

    return run


@pytest.mark.parametrize(
    "options",
    [
        {"vocabulary": 0, "weight_bits": 4, "wide_words": (1, 1, 1, 1), "accumulator_bits": 16},
        {"store": "spram", "compact": True},
        {"hidden": (3, 2), "reset": "after"},
        {"store": "sdram", "embedding": 2, "lanes": 4, "folded_tokens": 2, "compact": True},
        {"vocabulary": 9, "embedding": 3, "hidden": (4, 3), "lanes": 2, "weight_words": 256, "folded_tokens": 3},
    ],
)
def test_verilator_has_nothing_to_say_of_an_exported_core(options, lint):
    text = core_verilog(Configuration(**SMALLEST | options))
    assert "[-1:0]" not in text
    assert lint(text) == (0, [])


def test_what_could_be_a_fault_stays_on(smallest, lint):
    """A bit that is lost, a latch and what nothing drives are told in an exported core, as anywhere."""
    assert lint(smallest) == (0, [])
    faults = """
      wire [3:0] four = {4{busy}}; wire [1:0] two = four;
      reg kept; always @* if (clear) kept = load_valid;
      wire nothing; wire some = nothing;
    """
    status, warnings = lint(smallest.replace("endmodule", f"{faults}endmodule", 1))
    assert status != 0
    assert sorted(warnings) == ["LATCH", "UNDRIVEN", "WIDTHTRUNC"]


def test_an_exported_core_says_what_it_is(smallest):
    configuration, head = Configuration(**SMALLEST), smallest.partition("*/")[0]
    assert head.startswith("/* The core of an Egret accelerator")
    for part in ("Generated by Egret ", configuration.digest.hex(), configuration.to_json(), "UNUSEDSIGNAL"):
        assert part in head
