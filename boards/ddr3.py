"""The PHY of a board's DDR3, which LiteDRAM generates, and its clocks."""

import importlib
import re
from typing import Any

from amaranth.hdl import *
from amaranth.lib import io, wiring
from amaranth.lib.io import Direction
from amaranth.lib.wiring import In

from egret.boards.clocks import Ecp5Ddr3Pll
from egret.model.errors import needs
from egret.rtl.ddr3 import BURST_BITS, ROW_BITS, dfi_pins

__all__ = ["NAME", "Ddr3Phy", "phy_verilog"]

NAME = "ddr3_phy"
_CHANGING = 8
"""Cycles that the PHY rests before and behind a change of its delays."""
_SLOW = 64e6
"""Up to this clock of the core, LiteX's OrangeCrab has commands a quarter of a cycle later."""
_LINES = ("address", "bank", "cas_n", "cs_n", "ras_n", "we_n", "cke", "odt", "reset_n")
_WORDS = ("wrdata", "wrdata_en", "wrdata_mask", "rddata_en", "rddata", "rddata_valid")
_PADS = {
    "clk_p": 1,
    "a": ROW_BITS,
    "ba": 3,
    "ras_n": 1,
    "cas_n": 1,
    "we_n": 1,
    "cs_n": 1,
    "cke": 1,
    "odt": 1,
    "reset_n": 1,
    "dm": 2,
    "dq": 16,
    "dqs_p": 2,
}
"""Pins of the memory, and how many there are of each. The PHY makes the negative ones of the clock and the strobes."""


def phy_verilog(hertz: float) -> str:
    """LiteDRAM's ``ECP5DDRPHY`` as Verilog, with everything at its ports and no bus.

    Parameters
    ----------
    hertz : float
        Clock of the core.

    Returns
    -------
    str
        The module `NAME`. The same text each time.

    Raises
    ------
    InputError
        LiteDRAM is not installed.
    """
    with needs("litedram", "'egret-fpga[ddr3]'", "a board with a DDR3"):
        # Without types, and large: not for a type checker to read.
        names = ("litedram.phy.ecp5ddrphy", "litex.build.lattice.common", "litex.gen.fhdl.verilog", "migen")
        litedram, lattice, verilog, migen = map(importlib.import_module, names)

    module = migen.Module()
    pads = migen.Record(list(_PADS.items()), name="pads")
    domains = {name: migen.ClockDomain(name, reset_less=name == "sys2x") for name in ("sys", "sys2x", "init")}
    module.clock_domains += list(domains.values())
    # On an OrangeCrab the two masks are swapped.
    delay = 100 if hertz <= _SLOW else 0
    phy = litedram.ECP5DDRPHY(pads, hertz, cl=6, cwl=5, dm_remapping={0: 1, 1: 0}, cmd_delay=delay)
    module.submodules += phy
    ports = {
        "dly_sel": phy._dly_sel.storage,
        "dly_rst": phy._rdly_dq_rst.re,
        "dly_inc": phy._rdly_dq_inc.re,
        "slip_rst": phy._rdly_dq_bitslip_rst.re,
        "slip": phy._rdly_dq_bitslip.re,
        "stop": phy.init.stop,
        "clock_reset": phy.init.reset,
    }
    for number, phase in enumerate(phy.dfi.phases):
        ports |= {f"p{number}_{name}": getattr(phase, name) for name in (*_LINES, *_WORDS)}
    for name, signal in ports.items():
        signal.name_override = name
    clocks = {domain.clk for domain in domains.values()} | {domains["sys"].rst, domains["init"].rst}
    text = str(
        verilog.convert(
            module,
            {*pads.flatten(), *ports.values(), *clocks},
            name=NAME,
            special_overrides=lattice.lattice_ecp5_special_overrides,
        )
    )
    # The comments have the date.
    return re.sub(r"^//.*\n", "", text, flags=re.M)


class Ddr3Phy(wiring.Component):
    """LiteDRAM's PHY between a controller and the pins of a board, and the clock that comes from it.

    Where it is built, the platform has a file with `phy_verilog`.

    Parameters
    ----------
    pll : Ecp5Ddr3Pll

    Attributes
    ----------
    clock : Signal
        That of the core.

    Members
    -------
    dfi : In(dfi_pins())
        Of the controller.
    """

    dfi: Any

    def __init__(self, pll: Ecp5Ddr3Pll) -> None:
        self._pll = pll
        self.clock = Signal(name="divided_clock")
        super().__init__({"dfi": In(dfi_pins())})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pll, dfi = self._pll, self.dfi
        names = ("ddram", 0)
        pins = platform.request(*names, dir={line.name: "-" for line in platform.lookup(*names).ios})
        bridged, edge, stop, clock_reset = Signal(), Signal(), Signal(), Signal()
        m.submodules.bridge = Instance("ECLKBRIDGECS", i_CLK0=pll.edge_clock, i_SEL=C(0, 1), o_ECSOUT=bridged)
        m.submodules.stopper = Instance("ECLKSYNCB", i_ECLKI=bridged, i_STOP=stop, o_ECLKO=edge)
        m.submodules.divider = Instance(
            "CLKDIVF",
            p_DIV="2.0",
            i_CLKI=edge,
            i_RST=clock_reset,
            i_ALIGNWD=C(0, 1),
            o_CDIVX=self.clock,
        )
        # The PHY rests while a byte is chosen: from some cycles before its delays change to some behind.
        select, late = Signal.like(dfi.levels.select), Signal(3 * _CHANGING)
        chosen = Signal(len(select) * 2 * _CHANGING)
        m.d.sync += [
            chosen.eq(Cat(dfi.levels.select, chosen)),
            late.eq(Cat(dfi.levels.restart, dfi.levels.later, dfi.levels.slip, late)),
        ]
        for byte in range(len(select)):
            m.d.comb += select[byte].eq(Cat(chosen[byte :: len(select)]).any())
        restart, later, slip = late[-3], late[-2], late[-1]

        phases: dict[str, Any] = {}
        for number, command in enumerate(dfi.commands):
            half = slice(number * BURST_BITS // 2, (number + 1) * BURST_BITS // 2)
            bytes_ = slice(half.start // 8, half.stop // 8)
            lines = Mux(command.cs, command.code, 0)
            phases |= {
                f"i_p{number}_address": command.a,
                f"i_p{number}_bank": command.ba,
                f"i_p{number}_ras_n": ~lines[0],
                f"i_p{number}_cas_n": ~lines[1],
                f"i_p{number}_we_n": ~lines[2],
                f"i_p{number}_cs_n": ~command.cs,
                f"i_p{number}_cke": dfi.cke,
                f"i_p{number}_odt": C(0, 1),
                f"i_p{number}_reset_n": ~dfi.reset,
                f"i_p{number}_wrdata": dfi.dq_o[half],
                f"i_p{number}_wrdata_mask": dfi.mask[bytes_],
                # Either of the two is looked at.
                f"i_p{number}_wrdata_en": dfi.write if number else C(0, 1),
                f"i_p{number}_rddata_en": dfi.read if number else C(0, 1),
                f"o_p{number}_rddata": dfi.dq_i[half],
            }
        pads = {f"{'io' if name in ('dq', 'dqs_p') else 'o'}_pads_{name}": getattr(pins, name).io for name in _PADS}
        m.submodules.phy = Instance(
            NAME,
            i_sys_clk=ClockSignal(),
            i_sys_rst=ResetSignal(),
            i_sys2x_clk=edge,
            i_init_clk=pll.start_clock,
            i_init_rst=~pll.locked,
            o_stop=stop,
            o_clock_reset=clock_reset,
            i_dly_sel=select,
            i_dly_rst=restart,
            i_dly_inc=later,
            i_slip_rst=restart,
            i_slip=slip,
            o_p0_rddata_valid=dfi.valid,
            **phases,
            **pads,
        )
        # Pins that lend the drivers of others their voltage, and lines of rows that are never used.
        for name, level in (("vccio", 1), ("gnd", 0), ("high_rows", 0)):
            pin = getattr(pins, name)
            m.submodules[name] = buffer = io.Buffer(Direction.Output, pin)
            m.d.comb += buffer.o.eq(C(level, 1).replicate(len(pin)))
        return m
