"""Gates: from an accumulator to the value of a sigmoid or tanh, through a table.

Gate z of a core with reset "after" is `egret.rtl.candidate`, behind two of `Fetch`.
"""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Mapping
from typing import Any

from amaranth.hdl import *
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import GATES
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.integer import sigmoid_table, tanh_table
from egret.rtl.accumulator import found_after
from egret.rtl.layouts import GATE, access_layout, layer_bits, load_layout, request_layout

__all__ = ["Fetch", "Gate", "gate_value", "look_up", "value_after"]

WAITING = 8
"""Requests that wait for a free bank, but in a compact core."""


def value_after(c: Configuration) -> int:
    """Return how many cycles after an access the value comes, in the core ``c``."""
    return found_after(c) + (4 if c.compact else 5)


def table_of(gate: int) -> Callable[[int], list[int]]:
    """Return the function of the table of the gate with number ``gate``."""
    return tanh_table if GATES[gate] == "z" else sigmoid_table


class Fetch(wiring.Component):
    """Fetches accumulators of one kind as they are.

    One request a cycle; what it found comes `found_after` cycles after the accumulators took it.

    Parameters
    ----------
    configuration : Configuration
        Of the core.
    gate : int
        Number in `Configuration.sums`.
    members : mapping of str to Any, optional
        Further members, of a subclass.

    Members
    -------
    i : In(stream.Signature(request_layout(c)))
        Requests, of one neuron each.
    access : Out(stream.Signature(access_layout(c, gate)))
        Accesses to `Accumulators`.
    found : In(stream.Signature(signed(accumulator_bits), always_ready=True))
        What they find.
    stored : Out(1)
        High for one cycle for each request with ``replace`` that has reached the accumulators.
    o : Out(stream.Signature(signed(accumulator_bits), always_ready=True))
        What requests with ``respond`` found.
    """

    i: stream.Interface
    access: stream.Interface
    found: stream.Interface
    stored: Signal
    o: stream.Interface

    def __init__(self, configuration: Configuration, gate: int, members: Mapping[str, Any] | None = None) -> None:
        self._c = c = configuration
        self._gate = gate
        super().__init__(
            {
                "i": In(stream.Signature(request_layout(c))),
                "access": Out(stream.Signature(access_layout(c, gate))),
                "found": In(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
                "stored": Out(1),
                "o": Out(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
            }
            | dict(members or {})
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        taken, now = self._fetch(m)
        respond = Signal(found_after(self._c) - 1)
        m.d.sync += Cat(respond, self.o.valid).eq(Cat(now.responds & taken, respond))
        m.d.comb += self.o.payload.eq(self.found.payload)
        return m

    def _fetch(self, m: Module) -> tuple[Signal, Any]:
        """Send the accesses; return whether one is taken, and what belongs to it."""
        # In a compact core requests do not wait here.
        c = self._c
        is_candidate = self._gate >= GATES.index("z")
        request = self.i.p.shape()
        head = Signal(request)
        entry = Signal(len(head.neuron) + 1)
        place = entry[: c.bank_bits] if is_candidate else entry[1 : c.bank_bits]
        base = Array(c.bank_base[layer] + c.gate_offset(layer, self._gate) for layer in range(c.layers))
        m.d.comb += entry.eq(head.neuron if is_candidate else Cat(C(self._gate, 1), head.neuron))
        item = data.StructLayout({"access": self.access.p.shape(), "responds": 1, "layer": layer_bits(c)})
        coming, now = Signal(item), Signal(item, reset_less=True)
        m.d.comb += [
            coming.access.banks.eq(1 << place),
            coming.access.address.eq(base[head.layer] + entry[c.bank_bits :]),
            coming.access.replace.eq(head.replace),
            coming.access.bias.eq(head.bias),
            coming.responds.eq(head.respond),
            coming.layer.eq(head.layer),
            self.access.payload.eq(now.access),
        ]
        if c.compact:
            m.d.comb += [
                head.eq(self.i.payload),
                now.eq(coming),
                self.access.valid.eq(self.i.valid),
                self.i.ready.eq(self.access.ready),
            ]
        else:
            # That an access is taken is known late in a cycle, so that only the registers of `now` depend on it: what
            # comes in that cycle waits in `spare`.
            m.submodules.queue = queue = fifo.SyncFIFO(width=request.size, depth=WAITING)
            spare, spared, moving = Signal(item, reset_less=True), Signal(), Signal()
            m.d.comb += [
                queue.w_data.eq(self.i.payload),
                queue.w_en.eq(self.i.valid),
                self.i.ready.eq(queue.w_rdy),
                head.eq(queue.r_data),
                queue.r_en.eq(~spared),
                moving.eq(~self.access.valid | self.access.ready),
            ]
            m.d.sync += spared.eq(~moving & (spared | queue.r_rdy))
            with m.If(~spared):
                m.d.sync += spare.eq(coming)
            with m.If(moving):
                m.d.sync += [self.access.valid.eq(spared | queue.r_rdy), now.eq(Mux(spared, spare, coming))]
        taken = Signal()
        m.d.comb += [taken.eq(self.access.valid & self.access.ready), self.stored.eq(taken & self.access.p.replace)]
        return taken, now


class Gate(Fetch):
    """Fetches the accumulators of one of the gates and looks their values up.

    One request a cycle; its value comes `value_after` cycles after the accumulators took it.

    Parameters
    ----------
    configuration : Configuration
        Of the core.
    gate : int
        Number in `GATES`.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``shift``, while ``load_valid`` is high.
    i, access, found, stored
        As those of `Fetch`.
    o : Out(stream.Signature(GATE, always_ready=True))
        Answers to the requests with ``respond``.
    """

    load: Any
    load_valid: Signal
    i: stream.Interface
    access: stream.Interface
    found: stream.Interface
    stored: Signal
    o: stream.Interface

    def __init__(self, configuration: Configuration, gate: int) -> None:
        o = Out(stream.Signature(GATE, always_ready=True))
        super().__init__(configuration, gate, {"load": In(load_layout(configuration)), "load_valid": In(1), "o": o})

    def elaborate(self, platform: Any) -> Module:
        # What belongs to a request travels beside it in shift registers.
        c = self._c
        m = Module()
        taken, now = self._fetch(m)
        shifts = loaded_shifts(m, c, self._gate, self.load, self.load_valid)
        # The accumulator arrives beside the last of the layers and bit found_after - 1 of respond.
        respond = Signal(value_after(c) - 1)
        layers = [Signal(layer_bits(c), name=f"layer_{stage}", reset_less=True) for stage in range(found_after(c) - 1)]
        shift = Signal(4, reset_less=True)
        m.d.sync += [
            Cat(respond, self.o.valid).eq(Cat(taken & now.responds, respond)),
            Cat(layers).eq(Cat(now.layer, layers)),
            shift.eq(shifts[layers[-1]] - 1),
        ]
        m.d.comb += self.o.payload.eq(look_up(m, c, self._gate, self.found.payload, shift))
        return m


def loaded_shifts(m: Module, c: Configuration, gate: int, load: Any, load_valid: Signal) -> Any:
    """Return the shifts of a gate in the core ``c``, one a layer, which the load bus sets."""
    section = memory_sections(c)["shift"]
    shifts = Array(Signal(4, name=f"shift_{layer}", reset_less=True) for layer in range(c.layers))
    with m.If(load_valid & (load.section == section.number)):
        for layer, shift in enumerate(shifts):
            with m.If(load.index == layer * len(GATES) + gate):
                m.d.sync += shift.eq(load.data)
    return shifts


def look_up(m: Module, c: Configuration, gate: int, accumulator: Value, shift: Signal) -> Signal:
    """Look the values of accumulators up, one a cycle.

    Parameters
    ----------
    m : Module
    c : Configuration
        Of the core.
    gate : int
        Number in `GATES`.
    accumulator : Value
    shift : Signal
        Shift of the accumulator, less one.

    Returns
    -------
    Signal
        The value of an accumulator, five cycles after it, or four in a compact core, where the table's output is the
        value.
    """
    # half_up(v, n) = ((v >> (n - 1)) + 1) >> 1: the long shift, then the short one, then saturation, each in a cycle of
    # its own.
    shifted = Signal(signed(c.accumulator_bits), reset_less=True)
    rounded = Signal(signed(c.accumulator_bits), reset_less=True)
    index = Signal(signed(c.gate_index_bits), reset_less=True)
    value = Signal(GATE, reset_less=True)
    half = 1 << (c.gate_index_bits - 1)
    m.submodules.table = table = memory.Memory(
        shape=GATE, depth=1 << c.gate_index_bits, init=table_of(gate)(c.gate_index_bits)
    )
    read = table.read_port()
    m.d.comb += read.addr.eq(index)
    m.d.sync += [
        shifted.eq(accumulator >> shift),
        rounded.eq((shifted + 1) >> 1),
        index.eq(Mux(rounded > half - 1, half - 1, Mux(rounded < -half, -half, rounded))),
    ]
    m.d["comb" if c.compact else "sync"] += value.eq(read.data)
    return value


def gate_value(accumulator: int, gate: int, shift: int, index_bits: int) -> int:
    """Return what `Gate` answers.

    Parameters
    ----------
    accumulator : int
        What it finds.
    gate : int
        Its number in `GATES`.
    shift : int
        Of the layer, at least 1.
    index_bits : int
        Address width of the table.

    Returns
    -------
    int
        The value, as the table holds it.
    """
    half = 1 << (index_bits - 1)
    index = min(max((accumulator + (1 << (shift - 1))) >> shift, -half), half - 1)
    return table_of(gate)(index_bits)[index]
