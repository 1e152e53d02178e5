"""Verilog export: memories with loops for their initial content."""

import shutil
import subprocess

import pytest
from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from egret.rtl.export import compact_initial, to_verilog

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
        m.d.comb += [read.addr.eq(self.address), other.addr.eq(0x1FF), self.o.eq(read.data + other.data)]
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


@pytest.mark.parametrize("compact", [False, True])
def test_content_is_the_same(compact, tmp_path):
    """Icarus reads every row, of the text as Yosys writes it and of the compacted one."""
    bench = """
        module bench;
          reg clk = 0, rst = 0; wire [7:0] o, address; integer i;
          rom dut(.clk(clk), .rst(rst), .o(o), .address(address));
          initial for (i = 0; i < %d; i = i + 1) begin #1 $display("%%0d", o); clk = 1; #1 clk = 0; end
        endmodule
    """
    text = to_verilog(Rom(), "rom")
    if not compact:
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
