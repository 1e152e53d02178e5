"""Controllers of an SDRAM on the bursts of a network's columns: share of the cycles with a word, area, clock.

    python -m bench.sdram [NETWORK] [--lanes 2] [--bursts 2000] [--area] [--clock] [--json]
    pip install migen litex litedram      # then LiteDRAM is measured beside ours

Verilator runs each controller with the model of the memory (`egret.sim.sdram`), which checks every command, at 100 MHz
and with a word of 16 bits a cycle at most. The next burst is always there. Lists of bursts:

- random: 80 to 320 words anywhere in the memory;
- anywhere: the words of columns of NETWORK's image (4-bit weights), each drawn at random;
- rising: every column in turn, each one taken with the chance ``--activity``, as the events of a layer are.

LiteDRAM has native ports of a word each. A port turns to another bank only when the one before has done all it was
asked, so a row is opened while nothing is read. With several ports the bursts take turns; they come mixed, and whoever
reads them has to keep them apart. Its controller and crossbar alone are measured, started by a small circuit in place
of a processor. Its area is without that circuit and without what asks for the words of a burst; ours has both.
In the table "queue" is its setting ``cmd_buffer_depth``, "refreshes" its ``refresh_postponing``.
"""

# Migen's modules take whatever is assigned to them.
# pyright: reportAttributeAccessIssue=false

import dataclasses
import importlib.util
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bench.ecp5 import Edges, place, synthesise
from bench.show import as_json, progress_bar, run_script, show
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.image import Image
from egret.model.compiler.unpack import column_words
from egret.model.errors import InputError
from egret.model.integer_file import load_integer
from egret.rtl.export import to_verilog
from egret.rtl.sdram import (
    ADDRESS_BITS,
    COUNT_BITS,
    PARTS,
    TAG_BITS,
    WORD_BITS,
    Sdram,
    Timing,
    beat_layout,
    burst_layout,
    sdram_pins,
    write_layout,
)
from egret.sim.sdram import VIOLATIONS, with_memory
from egret.sim.verilate import compile_program

NETWORK = Path(__file__).parent.parent / "model" / "networks" / "ptb-egru-85.egret"
PART = "mt48lc16m16a2-75"
HERTZ = 100e6
CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD")
_MAIN = Path(__file__).with_suffix(".cpp")
_SIZES = {"ADDRESS_BITS": ADDRESS_BITS, "COUNT_BITS": COUNT_BITS, "TAG_BITS": TAG_BITS, "WORD_BITS": WORD_BITS}
_DEFINES = [f"{name}={value}" for name, value in _SIZES.items()]


@dataclass(frozen=True)
class Lite:
    """What LiteDRAM is generated with.

    Parameters
    ----------
    ports : int
        Native ports, 1 to 4; bursts take turns on them.
    depth : int
        Commands that wait at each bank.
    refreshes : int
        Refreshes that are put off and done together, 1 to 8.
    """

    ports: int
    depth: int
    refreshes: int = 1


LITES = (Lite(1, 8), Lite(1, 16), Lite(1, 16, 8), Lite(2, 16, 8), Lite(4, 16, 8))


def litedram_verilog(lite: Lite, timing: Timing) -> str:
    """LiteDRAM's controller and crossbar with the options ``lite``, for module MT48LC16M16: Verilog ``litedram``.

    Raises `InputError` where its times are not those of ``timing``.
    """
    # Installed by whoever compares with it.
    import litedram.modules  # pyright: ignore[reportMissingImports]
    from litedram.common import PhySettings  # pyright: ignore[reportMissingImports]
    from litedram.core.controller import ControllerSettings, LiteDRAMController  # pyright: ignore[reportMissingImports]
    from litedram.core.crossbar import LiteDRAMCrossbar  # pyright: ignore[reportMissingImports]
    from litex.gen.fhdl.verilog import convert  # pyright: ignore[reportMissingImports]
    from migen import ClockDomain as MigenDomain  # pyright: ignore[reportMissingImports]
    from migen import Module as MigenModule  # pyright: ignore[reportMissingImports]

    memory = litedram.modules.MT48LC16M16(HERTZ, "1:1")
    theirs, geometry = memory.timing_settings, memory.geom_settings
    for name in ("rcd", "rp", "ras", "rfc", "wr"):
        if getattr(theirs, f"t{name.upper()}") != getattr(timing, name):
            raise InputError(f"LiteDRAM keeps another time {name} than {getattr(timing, name)} cycles")
    theirs.tREFI = timing.refresh  # theirs is rounded up, so that refreshes would come late by some microseconds
    # As GENSDRPHY says, save that our model has a register more on the way: latency only.
    phy = PhySettings(
        phytype="GENSDRPHY",
        memtype="SDR",
        databits=WORD_BITS,
        dfi_databits=WORD_BITS,
        nphases=1,
        rdphase=0,
        wrphase=0,
        cl=timing.latency,
        read_latency=timing.latency + 2,
        write_latency=0,
    )

    top = MigenModule()
    top.clock_domains.cd_sys = domain = MigenDomain("sys")
    top.submodules.controller = controller = LiteDRAMController(
        phy,
        geometry,
        theirs,
        HERTZ,
        ControllerSettings(
            cmd_buffer_depth=lite.depth, refresh_postponing=lite.refreshes, address_mapping="ROW_BANK_COL"
        ),
    )
    top.submodules.crossbar = crossbar = LiteDRAMCrossbar(controller.interface)
    signals = {"sys_clk": domain.clk, "sys_rst": domain.rst}
    for number in range(lite.ports):
        port = crossbar.get_port()
        signals |= {
            f"cmd_valid_{number}": port.cmd.valid,
            f"cmd_ready_{number}": port.cmd.ready,
            f"cmd_we_{number}": port.cmd.we,
            f"cmd_addr_{number}": port.cmd.addr,
            f"wdata_valid_{number}": port.wdata.valid,
            f"wdata_ready_{number}": port.wdata.ready,
            f"wdata_we_{number}": port.wdata.we,
            f"wdata_data_{number}": port.wdata.data,
            f"rdata_valid_{number}": port.rdata.valid,
            f"rdata_data_{number}": port.rdata.data,
        }
    phase = controller.dfi.phases[0]
    signals |= {
        name: getattr(phase, name)
        for name in ("cs_n", "ras_n", "cas_n", "we_n", "bank", "address", "wrdata", "wrdata_en", "rddata")
    }
    for name, signal in signals.items():
        signal.name_override = name
    return str(convert(top, set(signals.values()), name="litedram"))


class LiteDram(wiring.Component):
    """LiteDRAM with the members of `Sdram`.

    Burst k has to have the tag k modulo ``ports``, which names its port. Each port asks for a word a cycle and takes
    the next burst while it asks for the last word of one.

    Parameters
    ----------
    lite : Lite
    timing : Timing

    Members
    -------
    i, o, write, ready, busy, sdram
        As `Sdram` has them.
    """

    i: stream.Interface
    o: stream.Interface
    write: stream.Interface
    ready: Signal
    busy: Signal
    sdram: Any

    def __init__(self, lite: Lite, timing: Timing):
        self._lite, self._t = lite, timing
        super().__init__(
            {
                "i": In(stream.Signature(burst_layout())),
                "o": Out(stream.Signature(beat_layout(), always_ready=True)),
                "write": In(stream.Signature(write_layout())),
                "ready": Out(1),
                "busy": Out(1),
                "sdram": Out(sdram_pins()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        t, m, pins = self._t, Module(), self.sdram
        ports = []
        for _ in range(self._lite.ports):
            ports.append(
                {
                    name: Signal(width)
                    for name, width in (
                        ("cmd_valid", 1),
                        ("cmd_ready", 1),
                        ("cmd_we", 1),
                        ("cmd_addr", ADDRESS_BITS),
                        ("wdata_valid", 1),
                        ("wdata_ready", 1),
                        ("wdata_we", WORD_BITS // 8),
                        ("wdata_data", WORD_BITS),
                        ("rdata_valid", 1),
                        ("rdata_data", WORD_BITS),
                    )
                }
            )
        outputs = {"cmd_ready", "wdata_ready", "rdata_valid", "rdata_data"}
        started = Signal()
        cs_n, ras_n, cas_n, we_n = (Signal(name=name) for name in ("cs_n", "ras_n", "cas_n", "we_n"))
        bank, address = Signal(len(pins.ba)), Signal(len(pins.a))
        m.submodules.litedram = Instance(
            "litedram",
            i_sys_clk=ClockSignal(),
            i_sys_rst=ResetSignal() | ~started,
            o_cs_n=cs_n,
            o_ras_n=ras_n,
            o_cas_n=cas_n,
            o_we_n=we_n,
            o_bank=bank,
            o_address=address,
            o_wrdata=pins.dq_o,
            o_wrdata_en=pins.dq_oe,
            i_rddata=pins.dq_i,
            **{
                f"{'o' if name in outputs else 'i'}_{name}_{number}": signal
                for number, port in enumerate(ports)
                for name, signal in port.items()
            },
        )

        # The start: precharge, two refreshes, mode.
        count = Signal(range(t.start + 100))
        command = Signal(3)  # ras, cas, we
        with m.If(~started):
            m.d.sync += [count.eq(count + 1), started.eq(count == t.start + 40)]
            with m.Switch(count):
                with m.Case(t.start):
                    m.d.comb += [command.eq(0b101), pins.a.eq(1 << 10)]
                with m.Case(t.start + 5, t.start + 5 + t.rfc):
                    m.d.comb += command.eq(0b011)
                with m.Case(t.start + 5 + 2 * t.rfc):
                    m.d.comb += [command.eq(0b111), pins.a.eq(t.latency << 4)]
        with m.Else():
            m.d.comb += [command.eq(Mux(cs_n, 0, ~Cat(ras_n, cas_n, we_n))), pins.a.eq(address), pins.ba.eq(bank)]
        m.d.comb += [Cat(pins.ras, pins.cas, pins.we).eq(command), pins.cs.eq(command.any())]

        writes = self.write
        owed, asked, came = Signal(24), Signal(len(ports)), Signal(len(ports))
        lefts = []
        m.d.comb += [self.ready.eq(started), self.o.valid.eq(came.any())]
        for number, port in enumerate(ports):
            burst, left = Signal(burst_layout(), name=f"burst_{number}"), Signal(name=f"left_{number}")
            lefts.append(left)
            last = burst.count == 1
            free = Signal(name=f"free_{number}")
            m.d.comb += [
                free.eq(started & (~left | last & port["cmd_ready"])),
                port["cmd_valid"].eq(left),
                port["cmd_addr"].eq(burst.address),
                came[number].eq(port["rdata_valid"]),
                asked[number].eq(left & port["cmd_ready"] & ~port["cmd_we"]),
            ]
            with m.If(left & port["cmd_ready"]):
                m.d.sync += [burst.address.eq(burst.address + 1), burst.count.eq(burst.count - 1), left.eq(~last)]
            with m.If(self.i.p.tag == number):
                m.d.comb += self.i.ready.eq(free & ~writes.valid)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [burst.eq(self.i.payload), left.eq(1)]
            with m.If(port["rdata_valid"]):
                m.d.comb += [self.o.p.words.eq(port["rdata_data"]), self.o.p.tag.eq(number)]
        port = ports[0]
        m.d.comb += [port["wdata_data"].eq(writes.p.word), port["wdata_we"].eq(~0)]
        with m.FSM(name="writing"):
            with m.State("IDLE"):
                with m.If(started & writes.valid & ~self.busy):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += [
                    port["cmd_valid"].eq(1),
                    port["cmd_we"].eq(1),
                    port["cmd_addr"].eq(writes.p.address),
                    port["wdata_valid"].eq(1),
                ]
                with m.If(port["cmd_ready"]):
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [port["wdata_valid"].eq(1), writes.ready.eq(port["wdata_ready"])]
                with m.If(port["wdata_ready"]):
                    m.next = "IDLE"
        m.d.sync += owed.eq(owed + sum(asked) - came.any())
        m.d.comb += self.busy.eq((owed != 0) | Cat(lefts).any())
        return m


class Plain(wiring.Component):
    """A controller whose stream ``o`` is two signals, ``valid`` and ``beat``: Verilog has no port that is constant.

    Parameters
    ----------
    inner : Component

    Members
    -------
    valid, beat
        Instead of ``o``.
    ready, busy, sdram
        As ``inner`` has them, and its streams ``i`` and ``write``.
    """

    valid: Signal
    beat: Any
    ready: Signal
    busy: Signal
    sdram: Any

    def __init__(self, inner: Any):
        self._inner = inner
        members = {name: member for name, member in inner.signature.members.items() if name != "o"}
        super().__init__({**members, "valid": Out(1), "beat": Out(beat_layout())})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.inner = inner = self._inner
        m.d.comb += [
            self.valid.eq(inner.o.valid),
            self.beat.eq(inner.o.payload),
            self.ready.eq(inner.ready),
            self.busy.eq(inner.busy),
        ]
        for name in ("i", "write"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, name))
        wiring.connect(m, inner.sdram, wiring.flipped(self.sdram))
        return m


def bursts_of(image: Image, kind: str, count: int, activity: float, seed: int = 1) -> list[tuple[int, int]]:
    """A list of bursts, (address, words) each.

    Parameters
    ----------
    image : Image
        For the store ``sdram``.
    kind : str
        ``random``, ``anywhere`` or ``rising``.
    count : int
        Bursts.
    activity : float
        Chance of a column of ``rising`` to be taken.
    seed : int
        Of what is drawn.

    Returns
    -------
    list of (int, int)

    Raises
    ------
    InputError
        No column has a weight.
    """
    rng = random.Random(seed)
    if kind == "random":
        return [(rng.randrange((1 << ADDRESS_BITS) - 400), rng.randint(80, 320)) for _ in range(count)]
    c = image.configuration
    starts, words = column_words(image)
    each = c.lanes * c.narrow_bits // WORD_BITS
    base = c.sdram_base["weights"]
    columns = [
        (base + start * each, size * each) for start, size in zip(starts.tolist(), words.tolist(), strict=True) if size
    ]
    if not columns:
        raise InputError("the network has no weights")
    if kind == "anywhere":
        return [rng.choice(columns) for _ in range(count)]
    taken = []
    while len(taken) < count:
        taken += [column for column in columns if rng.random() < activity]
    return taken[:count]


class Simulation:
    """A controller and the memory, compiled by Verilator.

    Parameters
    ----------
    controller : Component
        With the members of `Sdram`.
    timing : Timing
    ports : int
        Number of tags that bursts have in turn.
    sources : dict of str to str
        Further Verilog, by file name.
    directory : Path
        To build in; exists and is empty.

    Raises
    ------
    InputError
        A tool is missing or failed.
    """

    def __init__(self, controller: Any, timing: Timing, ports: int, sources: dict[str, str], directory: Path):
        self._ports = ports
        for name, text in {"top.v": to_verilog(with_memory(Plain(controller), timing), "top"), **sources}.items():
            (directory / name).write_text(text)
        self._program = compile_program(directory, ["top.v", *sources], _MAIN, prefix="Vtop", defines=_DEFINES)

    def run(self, bursts: list[tuple[int, int]]) -> float:
        """Share of the cycles, from the first word of ``bursts`` to the last, in which a word came.

        Raises `InputError` where a word was wrong or the memory was used against its data sheet.
        """
        lines = [f"{address} {count} {number % self._ports}" for number, (address, count) in enumerate(bursts)]
        result = subprocess.run(
            [self._program], input="\n".join([str(len(lines)), *lines]), capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise InputError(f"the simulation failed: {result.stderr.strip() or result.returncode}")
        words, cycles, wrong, violated = map(int, result.stdout.split())
        if wrong or violated:
            names = [name for bit, name in enumerate(VIOLATIONS) if violated >> bit & 1]
            raise InputError(f"{wrong} of {words} words are wrong; violations: {', '.join(names) or 'none'}")
        return words / cycles


def area(component: Any, sources: dict[str, str], directory: Path) -> dict[str, int]:
    """Cells on an ECP5 of a component, or of LiteDRAM alone where that is among the ``sources``.

    ``component``, ``sources`` and ``directory`` are those of `Simulation`. Raises `InputError` where Yosys is missing
    or failed.
    """
    plain = Plain(component)
    cells = synthesise(plain, directory, verilog=_verilog(plain, sources), top="litedram" if sources else "component")
    return {cell: cells.get(cell, 0) for cell in CELLS}


def clock(component: Any, sources: dict[str, str], directory: Path) -> float:
    """Clock on an ECP5 of speed grade 6 after routing, in MHz, registered at the edges: median of three seeds.

    ``component``, ``sources`` and ``directory`` are those of `Simulation`. Raises `InputError` where a tool is missing
    or failed.
    """
    edges = Edges(Plain(component))
    synthesise(edges, directory, verilog=_verilog(edges, sources), top="component")
    return statistics.median(place(directory, seed, HERTZ / 1e6).megahertz for seed in (1, 2, 3))


def _verilog(component: wiring.Component, sources: dict[str, str]) -> dict[str, str]:
    return {"component.v": to_verilog(component, "component"), **sources}


def controllers(timing: Timing) -> list[tuple[str, Callable[[], Any], int, dict[str, str]]]:
    """What is measured at ``timing``: name, component, ports and further Verilog of each.

    Ours alone where there is no LiteDRAM.
    """
    found: list[tuple[str, Callable[[], Any], int, dict[str, str]]] = [("ours", lambda: Sdram(timing), 1, {})]
    if importlib.util.find_spec("litedram"):
        for lite in LITES:
            name = f"LiteDRAM: ports {lite.ports}, queue {lite.depth}, refreshes {lite.refreshes}"
            found.append(
                (
                    name,
                    lambda lite=lite: LiteDram(lite, timing),
                    lite.ports,
                    {"litedram.v": litedram_verilog(lite, timing)},
                )
            )
    return found


@click.command(help=__doc__)
@click.argument("network", default=str(NETWORK))
@click.option("--lanes", type=int, default=2, show_default=True, help="For which the columns are packed.")
@click.option("--bursts", type=click.IntRange(1), default=2000, show_default=True, help="In each list.")
@click.option("--activity", type=click.FloatRange(0, 1, min_open=True), default=0.15, show_default=True)
@click.option("--area", "with_area", is_flag=True, help="Also synthesise for an ECP5.")
@click.option("--clock", "with_clock", is_flag=True, help="Also place and route on an ECP5.")
@as_json
def main(
    network: str, lanes: int, bursts: int, activity: float, with_area: bool, with_clock: bool, as_json: bool
) -> None:
    timing = Timing.of(dataclasses.replace(PARTS[PART], start=400), HERTZ)
    with progress_bar() as bar:
        task = bar.add_task("packing the network", total=None)
        integer = load_integer(network)
        options = {"weight_bits": 4, "store": "sdram", "folded_tokens": 0, "resident_bytes": 0}
        image = compile_image(integer, configuration_for(integer, lanes=lanes, **options))
        lists = {kind: bursts_of(image, kind, bursts, activity) for kind in ("random", "anywhere", "rising")}
        results = {}
        found = controllers(timing)
        bar.update(task, total=len(found))
        for name, make, ports, sources in found:
            bar.update(task, description=name)
            results[name] = {}
            with tempfile.TemporaryDirectory() as work:
                simulation = Simulation(make(), timing, ports, sources, Path(work))
                results[name]["share"] = {kind: simulation.run(jobs) for kind, jobs in lists.items()}
            if with_area:
                with tempfile.TemporaryDirectory() as work:
                    results[name]["area"] = area(make(), sources, Path(work))
            if with_clock:
                with tempfile.TemporaryDirectory() as work:
                    results[name]["megahertz"] = clock(make(), sources, Path(work))
            bar.advance(task)
    mean = {kind: sum(count for _, count in jobs) / len(jobs) for kind, jobs in lists.items()}
    result = {
        "network": network,
        "lanes": lanes,
        "bursts": bursts,
        "part": PART,
        "hertz": HERTZ,
        "words_per_burst": mean,
        "controllers": results,
    }
    shares = [
        ("words of a burst, mean", *(f"{words:.0f}" for words in mean.values())),
        ("bound", *["100 %"] * len(lists)),
        *((name, *(f"{100 * share:.1f} %" for share in one["share"].values())) for name, one in results.items()),
    ]
    title = f"{PART} at {HERTZ / 1e6:g} MHz, {bursts} bursts a list"
    tables = [(title, ("cycles with a word", *lists), shares)]
    if with_area or with_clock:
        heads = ("on an ECP5", *(CELLS if with_area else ()), *(["MHz"] if with_clock else []))
        rows = [
            (
                name,
                *(f"{count:,}" for count in one.get("area", {}).values()),
                *([f"{one['megahertz']:.0f}"] if with_clock else []),
            )
            for name, one in results.items()
        ]
        tables.append(("", heads, rows))
    show(result, tables, as_json)


if __name__ == "__main__":
    run_script(main, "sdram")
