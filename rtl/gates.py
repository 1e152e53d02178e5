"""Gates: from an accumulator to the value of a sigmoid or tanh, through tables."""

from amaranth.hdl import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.configuration import GATES
from egret.model.image import memory_sections
from egret.model.integer import sigmoid_table, tanh_table
from egret.rtl.accumulator import access_layout
from egret.rtl.payloads import GATE, bank_address_bits, layer_bits, load_layout, request_layout

__all__ = ["Gates", "gate_value"]


class Gates(wiring.Component):
    """Fetches accumulators and looks their gates up, for two clients.

    The reset pass goes first, but a request that has been shown to the accumulators stays. Each is an access of `Accumulators`; its gate value comes back six cycles
    after that access, in the order of the requests, to whoever sends requests for that gate.

    Parameters
    ----------
    configuration : Configuration

    Members
    -------
    load : In({section, index, data}), load_valid : In(1)
        Writes the memory ``shift``.
    i_reset, i_update : In(stream of requests)
    access : Out(stream), found : In(stream, always ready)
        To and from `Accumulators`.
    o : Out(stream of {gate, value}, always ready)
        Answers to the requests with ``respond``.
    """

    def __init__(self, configuration):
        self._c = c = configuration
        answer = data.StructLayout({"gate": 2, "value": GATE})
        super().__init__({
            "load": In(load_layout(c)),
            "load_valid": In(1),
            "i_reset": In(stream.Signature(request_layout(c))),
            "i_update": In(stream.Signature(request_layout(c))),
            "access": Out(stream.Signature(access_layout(c))),
            "found": In(stream.Signature(signed(c.accumulator_bits), always_ready=True)),
            "o": Out(stream.Signature(answer, always_ready=True)),
        })

    def elaborate(self, platform):
        # half_up(v, n) = ((v >> (n - 1)) + 1) >> 1: the long shift, then the short one with saturation, each in a
        # cycle of its own. What belongs to a request travels beside it in a shift register.
        c = self._c
        m = Module()
        chosen = Signal(request_layout(c))
        from_reset, waiting, was_from_reset = Signal(), Signal(), Signal()
        m.d.comb += [
            from_reset.eq(Mux(waiting, was_from_reset, self.i_reset.valid)),
            chosen.eq(Mux(from_reset, self.i_reset.payload, self.i_update.payload)),
            self.access.valid.eq(self.i_reset.valid | self.i_update.valid),
            self.access.p.bank.eq(chosen.row[:c.bank_bits]),
            self.access.p.address.eq(Array(c.bank_base)[chosen.layer] + chosen.row[c.bank_bits:]),
            self.access.p.replace.eq(chosen.replace),
            self.access.p.bias.eq(chosen.bias),
            self.i_reset.ready.eq(self.access.ready & from_reset),
            self.i_update.ready.eq(self.access.ready & ~from_reset),
        ]
        m.d.sync += [waiting.eq(self.access.valid & ~self.access.ready), was_from_reset.eq(from_reset)]

        section = {section.name: section for section in memory_sections(c)}["shift"]
        shifts = Array(Signal(4, name=f"shift_{number}") for number in range(section.words))
        with m.If(self.load_valid & (self.load.section == section.number)):
            m.d.sync += shifts[self.load.index[:max((section.words - 1).bit_length(), 1)]].eq(self.load.data)

        tag = data.StructLayout({"respond": 1, "gate": 2, "layer": layer_bits(c)})
        tags = [Signal(tag, name=f"tag_{stage}") for stage in range(5)]
        m.d.sync += [
            tags[0].respond.eq(self.access.valid & self.access.ready & chosen.respond),
            tags[0].gate.eq(chosen.gate),
            tags[0].layer.eq(chosen.layer),
            *(tags[stage].eq(tags[stage - 1]) for stage in range(1, 5)),
        ]

        # The accumulator arrives beside tags[1].
        shift = Signal(4)
        m.d.sync += shift.eq(shifts[tags[0].layer * len(GATES) + tags[0].gate] - 1)
        shifted, index = Signal(signed(c.accumulator_bits)), Signal(signed(c.gate_index_bits))
        rounded = Signal(signed(c.accumulator_bits))
        half = 1 << (c.gate_index_bits - 1)
        m.d.sync += shifted.eq(self.found.payload >> shift)
        m.d.comb += rounded.eq((shifted + 1) >> 1)
        with m.If(rounded > half - 1):
            m.d.sync += index.eq(half - 1)
        with m.Elif(rounded < -half):
            m.d.sync += index.eq(-half)
        with m.Else():
            m.d.sync += index.eq(rounded)

        m.submodules.table = table = memory.Memory(
            shape=GATE, depth=2 << c.gate_index_bits,
            init=sigmoid_table(c.gate_index_bits) + tanh_table(c.gate_index_bits))
        read = table.read_port()
        m.d.comb += read.addr.eq(Cat(index, tags[3].gate == GATES.index("z")))
        m.d.sync += [
            self.o.valid.eq(tags[4].respond),
            self.o.p.gate.eq(tags[4].gate),
            self.o.p.value.eq(read.data),
        ]
        return m


def gate_value(accumulator, gate, shift, index_bits):
    """What `Gates` answers for an accumulator: ``gate`` is its number in `GATES`."""
    half = 1 << (index_bits - 1)
    index = min(max((accumulator + (1 << (shift - 1))) >> shift, -half), half - 1)
    table = tanh_table if GATES[gate] == "z" else sigmoid_table
    return table(index_bits)[index]
