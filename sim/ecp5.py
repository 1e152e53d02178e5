"""Models of an ECP5's block RAM (DP16KD) and multiplier (MULT18X18D), of which Yosys has none, for netlists.

And models of what nextpnr makes of the rest: half a slice (TRELLIS_COMB, TRELLIS_FF), pins and a PLL, see
`placed_models`.

They know what Egret's netlists use, and a cell in another mode does not build: a module is named that there is not. The
behaviour is that of Lattice's FPGA-TN-02204 and FPGA-TN-02205, as far as Yosys' maps rely on it.

- A block RAM has two ports on 1024 words of 18 bits, each 1, 2, 4, 9, 18 or 36 bits wide. An address counts bits, of
  which the lowest are not used by a wider port: there are enables of its bytes of 9 bits instead. One, two or four bits
  are in the lower eight of such a byte.
- A port that is written keeps its output (``NORMAL``), or shows what is written (``WRITETHROUGH``) or what was there
  (``READBEFOREWRITE``). ``OUTREG`` adds a register, which has an enable of its own.
- What one port reads while the other writes it is not defined. The model inverts the bits that are written, so that a
  design that looks at them fails.
- A port of 36 bits writes on port A and reads on port B, with the pins of both.
- A multiplier may have registers at its inputs and its output, with the first clock, enable and reset.
"""

__all__ = ["cell_models", "placed_models"]


def cell_models() -> str:
    """Verilog of ``DP16KD`` and ``MULT18X18D``."""
    return f"{_memory()}\n{_MULTIPLIER}"


def placed_models() -> str:
    """Verilog of the cells of a netlist that nextpnr has placed, `cell_models` among them.

    - ``TRELLIS_COMB`` is a look-up table of four inputs, alone, with half of a carry (``CCU2``), or as sixteen words of
      one bit of a RAM (``DPRAM``). The RAM's read address is on D, B, C, A, the lowest bit first.
    - ``TRELLIS_RAMW`` leads the inputs of two tables to the write port of such a RAM.
    - ``TRELLIS_FF`` takes the table's output (``SD`` 1) or M. Its parameters are numbers, but for the names of modes.
    - ``TRELLIS_IO`` is a plain input or output.
    - ``EHXPLLL`` passes its clock on: a simulation gives its pin the clock that it makes. It locks late.
    """
    return cell_models() + _PLACED


def _bits(name: str, count: int) -> list[str]:
    """Ports of one bit each, the highest first."""
    return [f"{name}{bit}" for bit in reversed(range(count))]


def _vector(name: str, count: int) -> str:
    return f"{{{', '.join(_bits(name, count))}}}"


def _memory() -> str:
    modes = {"DATA_WIDTH_A": "18", "DATA_WIDTH_B": "18", "RESETMODE": '"SYNC"', "ASYNC_RESET_RELEASE": '"SYNC"'}
    modes |= {"GSR": '"ENABLED"', "INIT_DATA": '"STATIC"', "WID": "0"}
    for port in "AB":
        modes |= {f"REGMODE_{port}": '"NOREG"', f"WRITEMODE_{port}": '"NORMAL"', f"CSDECODE_{port}": '"0b000"'}
        modes[f"CLK{port}MUX"] = f'"CLK{port}"'
    rows = [f"INITVAL_{row:02X}" for row in range(64)]
    inputs, outputs = [], []
    for port in "AB":
        inputs += [*_bits(f"DI{port}", 18), *_bits(f"AD{port}", 14), *_bits(f"CS{port}", 3)]
        inputs += [f"{name}{port}" for name in ("CE", "OCE", "CLK", "WE", "RST")]
        outputs += _bits(f"DO{port}", 18)
    parameters = [*(f"parameter {name} = {value}" for name, value in modes.items())]
    parameters += [f"parameter [319:0] {row} = 0" for row in rows]
    contents = "\n".join(f"    fill({number}, {row});" for number, row in enumerate(rows))
    return "\n".join(
        [
            f"module DP16KD #({', '.join(parameters)}) (",
            f"  input {', '.join(inputs)},",
            f"  output {', '.join(outputs)}",
            ");",
            "  reg [8:0] bytes [0:2047];",
            # Rows of sixteen words, each in twenty bits.
            "  task fill(input integer row, input [319:0] words);",
            "    integer word;",
            "    for (word = 0; word < 16; word = word + 1)",
            "      {bytes[32 * row + 2 * word + 1], bytes[32 * row + 2 * word]} = words[20 * word +: 18];",
            "  endtask",
            f"  initial begin\n{contents}\n  end",
            f"  wire [35:0] given_a = {{{_vector('DIB', 18)}, {_vector('DIA', 18)}}};",
            f"  wire [35:0] given_b = {{18'd0, {_vector('DIB', 18)}}};",
            *(_port(port, other) for port, other in ("ab", "ba")),
            _OUTPUTS,
            f"  assign {_vector('DOA', 18)} = DATA_WIDTH_B == 36 ? out_b[17:0] : out_a[17:0];",
            f"  assign {_vector('DOB', 18)} = DATA_WIDTH_B == 36 ? out_b[35:18] : out_b[17:0];",
            "endmodule",
            "",
        ]
    )


_OUTPUTS = """
  generate
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000") DP16KD_with_chip_select not_known();
    if (DATA_WIDTH_B == 36 && REGMODE_A != REGMODE_B) DP16KD_half_registered not_known();
    if (RESETMODE != "SYNC" && RESETMODE != "ASYNC") DP16KD_with_another_reset not_known();
  endgenerate
"""


def _port(port: str, other: str) -> str:
    """One port: what it writes in each byte, what it reads, its latch and its register."""
    upper = port.upper()
    text = f"""
  wire [13:0] at_P = {_vector(f"AD{upper}", 14)};
  wire clock_P = CLKUMUX == "INV" ? !CLKU : CLKU;
  wire at_once_P = RESETMODE == "ASYNC" && RSTU;
  wire writes_P = CEU && WEU && !(RESETMODE == "SYNC" && RSTU);
  localparam BYTES_P = DATA_WIDTH_U < 9 ? 1 : DATA_WIDTH_U / 9;
  // First byte of the word, and place of a bit of a narrow one.
  wire [10:0] first_P = at_P[13:3] & ~(BYTES_P - 1);
  wire [2:0] place_P = DATA_WIDTH_U < 9 ? at_P[2:0] & ~(DATA_WIDTH_U - 1) : 0;
  // The bits of a byte that are written at this edge, and what these become.
  function [8:0] mask_P(input [10:0] index);
    mask_P = !writes_P || (index & ~(BYTES_P - 1)) != first_P ? 9'd0
      : DATA_WIDTH_U < 9 ? ((1 << DATA_WIDTH_U) - 1) << place_P
      : DATA_WIDTH_U == 9 || at_P[index & (BYTES_P - 1)] ? 9'h1ff : 9'd0;
  endfunction
  function [8:0] new_P(input [10:0] index);
    new_P = DATA_WIDTH_U < 9 ? given_P[8:0] << place_P : given_P[9 * (index & (BYTES_P - 1)) +: 9];
  endfunction
  function [8:0] seen_P(input [10:0] index);
    seen_P = (WRITEMODE_U == "WRITETHROUGH" ? bytes[index] & ~mask_P(index) | new_P(index) & mask_P(index)
      : bytes[index]) ^ (clock_O == clock_P ? mask_O(index) : 9'd0);
  endfunction
  reg [35:0] latch_P = 0, register_P = 0;
  integer byte_P, bit_P;
  always @(posedge clock_P)
    if (writes_P) for (byte_P = 0; byte_P < BYTES_P; byte_P = byte_P + 1)
      for (bit_P = 0; bit_P < 9; bit_P = bit_P + 1)
        if (mask_P(first_P + byte_P) >> bit_P & 1)
          bytes[first_P + byte_P][bit_P] <= new_P(first_P + byte_P) >> bit_P;
  always @(posedge clock_P or posedge at_once_P)
    if (at_once_P || RSTU) latch_P <= 0;
    else if (CEU && !(WEU && WRITEMODE_U == "NORMAL"))
      latch_P <= DATA_WIDTH_U < 9 ? (seen_P(first_P) >> place_P) & ((1 << DATA_WIDTH_U) - 1)
        : DATA_WIDTH_U == 9 ? seen_P(first_P)
        : DATA_WIDTH_U == 18 ? {{seen_P(first_P + 1), seen_P(first_P)}}
        : {{seen_P(first_P + 3), seen_P(first_P + 2), seen_P(first_P + 1), seen_P(first_P)}};
  always @(posedge clock_P or posedge at_once_P)
    if (at_once_P || RSTU) register_P <= 0;
    else if (OCEU) register_P <= latch_P;
  wire [35:0] out_P = REGMODE_U == "OUTREG" ? register_P : latch_P;
  generate
    if (DATA_WIDTH_U != 1 && DATA_WIDTH_U != 2 && DATA_WIDTH_U != 4 && DATA_WIDTH_U != 9 && DATA_WIDTH_U != 18
        && DATA_WIDTH_U != 36) DP16KD_of_another_width not_known();
    if (WRITEMODE_U != "NORMAL" && WRITEMODE_U != "WRITETHROUGH" && WRITEMODE_U != "READBEFOREWRITE")
      DP16KD_written_in_another_way not_known();
    if (CLKUMUX != "CLKU" && CLKUMUX != "INV") DP16KD_with_another_clock not_known();
    if (REGMODE_U != "NOREG" && REGMODE_U != "OUTREG") DP16KD_registered_in_another_way not_known();
  endgenerate"""
    named = text
    for name in ("CE", "OCE", "CLK", "WE", "RST"):
        named = named.replace(f"{name}U", f"{name}{upper}")
    return (
        named.replace("WIDTH_U", f"WIDTH_{upper}")
        .replace("MODE_U", f"MODE_{upper}")
        .replace("_P", f"_{port}")
        .replace("_O(", f"_{other}(")
        .replace("clock_O", f"clock_{other}")
    )


_MULTIPLIER_INPUTS = [
    *(bit for name in "ABC" for bit in _bits(name, 18)),
    *("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", "CLK0", "CE0", "RST0"),
]

_MULTIPLIER = f"""
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_PIPELINE_CLK = "NONE", REG_OUTPUT_CLK = "NONE",
  parameter RESETMODE = "SYNC", GSR = "ENABLED"
) (
  input {", ".join(_MULTIPLIER_INPUTS)},
  output {", ".join(_bits("P", 36))}
);
  reg [18:0] registered_a = 0, registered_b = 0;
  reg [35:0] registered_p = 0;
  wire signed [18:0] given_a = {{SIGNEDA & A17, {_vector("A", 18)}}};
  wire signed [18:0] given_b = {{SIGNEDB & B17, {_vector("B", 18)}}};
  wire signed [18:0] a = REG_INPUTA_CLK == "NONE" ? given_a : registered_a;
  wire signed [18:0] b = REG_INPUTB_CLK == "NONE" ? given_b : registered_b;
  wire signed [37:0] product = a * b;
  always @(posedge CLK0)
    if (RST0) {{registered_a, registered_b, registered_p}} <= 0;
    else if (CE0) {{registered_a, registered_b, registered_p}} <= {{given_a, given_b, product[35:0]}};
  assign {_vector("P", 36)} = REG_OUTPUT_CLK == "NONE" ? product[35:0] : registered_p;
  generate
    if (REG_INPUTA_CLK != "NONE" && REG_INPUTA_CLK != "CLK0" || REG_INPUTB_CLK != "NONE" && REG_INPUTB_CLK != "CLK0"
        || REG_OUTPUT_CLK != "NONE" && REG_OUTPUT_CLK != "CLK0" || REG_PIPELINE_CLK != "NONE" || RESETMODE != "SYNC")
      MULT18X18D_in_another_mode not_known();
  endgenerate
endmodule
"""

_PLACED = """
module TRELLIS_COMB #(parameter MODE = "LOGIC", CCU2_INJECT1 = "YES", WREMUX = "WRE", WCKMUX = "WCK",
  parameter [15:0] INITVAL = 0) (
  input A, B, C, D, FCI, WD, WAD0, WAD1, WAD2, WAD3, WRE, WCK, output F, FCO
);
  generate
    if (MODE == "LOGIC") begin : alone
      assign F = INITVAL[{D, C, B, A}];
      assign FCO = 0;
    end else if (MODE == "CCU2") begin : carry
      wire table_ = INITVAL[{D, C, B, A}], generated = INITVAL[{2'b00, B, A}];
      wire taken = CCU2_INJECT1 == "NO";
      assign F = table_ ^ (taken & FCI);
      assign FCO = table_ ? FCI : taken & generated;
    end else if (MODE == "DPRAM") begin : memory
      reg cells [0:15];
      integer address;
      initial
        for (address = 0; address < 16; address = address + 1)
          cells[address] = INITVAL >> {address[0], address[2], address[1], address[3]};
      wire write = WREMUX == "INV" ? !WRE : WREMUX == "1" || WREMUX != "0" && WRE;
      wire clock = WCKMUX == "INV" ? !WCK : WCK;
      always @(posedge clock) if (write) cells[{WAD3, WAD2, WAD1, WAD0}] <= WD;
      assign F = cells[{A, C, B, D}];
      assign FCO = 0;
    end else TRELLIS_COMB_in_another_mode not_known();
  endgenerate
endmodule

module TRELLIS_RAMW (
  input A0, B0, C0, D0, A1, B1, C1, D1, output WDO0, WDO1, WDO2, WDO3, WADO0, WADO1, WADO2, WADO3
);
  assign {WADO3, WADO2, WADO1, WADO0} = {A0, C0, B0, D0};
  assign {WDO3, WDO2, WDO1, WDO0} = {B1, D1, A1, C1};
endmodule

module TRELLIS_FF #(parameter CLKMUX = "CLK", CEMUX = "CE", LSRMUX = "LSR", SRMODE = "LSR_OVER_CE", REGSET = "RESET",
  parameter LSRMODE = "LSR", GSR = "DISABLED", SD = "0") (input CLK, CE, LSR, DI, M, output reg Q);
  localparam SET = REGSET == "SET";
  wire clock = CLKMUX == "INV" ? !CLK : CLK;
  wire enabled = CEMUX == "INV" ? !CE : CEMUX == "1" || CEMUX != "0" && CE;
  wire set = LSRMUX == "INV" ? !LSR : LSR;
  wire next = SD == "1" ? DI : M;
  initial Q = SET;
  generate
    if (SRMODE == "ASYNC") begin : at_once
      always @(posedge clock or posedge set) if (set) Q <= SET; else if (enabled) Q <= next;
    end else begin : clocked
      always @(posedge clock) if (set) Q <= SET; else if (enabled) Q <= next;
    end
    if (LSRMODE != "LSR" || GSR != "DISABLED" || SRMODE != "ASYNC" && SRMODE != "LSR_OVER_CE"
        || CLKMUX != "CLK" && CLKMUX != "INV") TRELLIS_FF_in_another_mode not_known();
  endgenerate
endmodule

module TRELLIS_IO #(parameter DIR = "INPUT") (input I, T, output O, inout B);
  generate
    if (DIR == "INPUT") assign O = B;
    else if (DIR == "OUTPUT") assign B = I;
    else TRELLIS_IO_in_another_direction not_known();
  endgenerate
endmodule

module EHXPLLL (input CLKI, CLKFB, RST, STDBY, output CLKOP, LOCK);
  reg [4:0] cycles = 0;
  assign CLKOP = CLKI;
  assign LOCK = &cycles;
  always @(posedge CLKI) cycles <= RST || STDBY ? 0 : cycles + !LOCK;
endmodule
"""
