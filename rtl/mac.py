"""Multiply-accumulate lanes: words of packed weights times one value, to the accumulator banks nearby."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from amaranth.hdl import *
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.arithmetic import VALUE_BITS, WEIGHT_BITS
from egret.model.compiler.configuration import READOUT_KINDS, RUN_BITS, WINDOW, Configuration, first_bank
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.readout import HOME
from egret.rtl.layouts import add_layout, bank_address_bits, load_layout, memory_layout, word_layout

__all__ = ["LATENCY", "Lanes", "Word", "additions"]

Word = tuple[Sequence[tuple[int, int]], int, int, int, Sequence[tuple[int, int]]]
"""Entries (code and run of each lane), value, matrix, first, and begins (bank and block of each lane)."""

LATENCY = 5
"""Cycles from a word to its additions."""

_SKIP = 1 << RUN_BITS


class Lanes(wiring.Component):
    """Lanes, each walking over the positions of a column's rows, and the crossbar from lanes to banks.

    The compiler has dealt every column so that a lane reaches only the `WINDOW` banks around its own two, and that
    no two entries of a word fall into one bank. A code of 0 is no weight and goes on by ``(run + 1) << RUN_BITS``
    positions, any other by run + 1; the first word of a column sets each lane to where it begins instead, and its
    runs count from there. In a matrix of the read-out a lane takes turns between its own two banks, whatever the
    code; or it has a second multiplier for the odd one, whose code is in the place of the run, where
    `Configuration.paired` is so. One word a cycle, never held up; additions leave `LATENCY` cycles after their word.

    Parameters
    ----------
    configuration : Configuration
        Of the core.

    Members
    -------
    load : In(load_layout(c)), load_valid : In(1)
        Writes a word of the memory ``codebook``, where weights have 4 bits, while ``load_valid`` is high.
    i : In(stream.Signature(word_layout(c), always_ready=True))
        Words of weights.
    coming : Out(banks)
        High for each bank that has an addition in the next cycle.
    add : Out(add_layout(c)).array(banks)
        An addition for each bank; all zeros where there is none.
    macs : Out(range(c.multipliers + 1))
        Weights in the word that came two cycles ago.
    busy : Out(1)
        A word is on its way.
    """

    load: Any
    load_valid: Signal
    i: stream.Interface
    coming: Signal
    add: Any
    macs: Signal
    busy: Signal

    def __init__(self, configuration: Configuration) -> None:
        self._c = c = configuration
        super().__init__(
            {
                "load": In(load_layout(c)),
                "load_valid": In(1),
                "i": In(stream.Signature(word_layout(c), always_ready=True)),
                "coming": Out(c.banks),
                "add": Out(add_layout(c)).array(c.banks),
                "macs": Out(range(c.multipliers + 1)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # STEP, OVER, WALK, MULTIPLY, CROSSBAR. A walk adds the step to the address, and at the same time the step less
        # one span and less two: their signs tell how many ends of banks the walk passed. The codebook is read
        # beside OVER, so that position and weight meet in MULTIPLY, between whose registers the multiplier stands.
        c = self._c
        m = Module()
        spans, bases = (Array(numbers) for numbers in zip(*c.matrix_places, strict=True))
        valid = Signal(LATENCY)
        m.d.sync += valid.eq(Cat(self.i.valid, valid))
        step_bits = c.run_bits + RUN_BITS + 1
        values = [Signal(signed(VALUE_BITS), name=f"value_{stage}", reset_less=True) for stage in range(3)]
        span = Signal(range(max(spans) + 1), reset_less=True)
        base = [Signal(bank_address_bits(c), name=f"base_{stage}", reset_less=True) for stage in range(3)]
        base_now = Signal(bank_address_bits(c))
        first = [Signal(name=f"first_{stage}", reset_less=True) for stage in range(2)]
        dense = [Signal(name=f"dense_{stage}", reset_less=True) for stage in range(2)]
        matrix = Signal.like(self.i.p.matrix, reset_less=True)
        of_readout = self.i.p.matrix >= c.readout_matrix("head") if c.readout else C(0)
        m.d.comb += base_now.eq(bases[self.i.p.matrix])
        m.d.sync += [
            Cat(values).eq(Cat(self.i.p.value, values)),
            Cat(first).eq(Cat(self.i.p.first, first)),
            Cat(dense).eq(Cat(of_readout, dense)),
            Cat(base).eq(Cat(base_now, base)),
            span.eq(spans[self.i.p.matrix]),
            matrix.eq(self.i.p.matrix),
        ]
        look_up = self._codebooks(m)
        used = Signal(c.multipliers)
        carried, targets, seconds = [], [], []
        for lane in range(c.lanes):

            def signal(shape, name, lane=lane):
                return Signal(shape, name=f"{name}_{lane}", reset_less=True)

            entry, begin = self.i.p.entries[lane], self.i.p.begins[lane]
            code = signal(c.weight_bits, "code")
            step = signal(step_bits, "step")
            starts = [signal(c.block_bits + RUN_BITS, f"start_{stage}") for stage in range(2)]
            banks = [signal(3, f"start_bank_{stage}") for stage in range(2)]
            uses = Signal(3, name=f"uses_{lane}")
            skipped = entry.run[:RUN_BITS]
            if c.paired:
                skipped = Mux(of_readout, 0, skipped)  # where the run is a weight
            m.d.comb += used[lane].eq(self.i.valid & (entry.code != 0))
            # STEP
            m.d.sync += [
                uses.eq(Cat(used[lane], uses)),
                code.eq(entry.code),
                step.eq(Mux(entry.code != 0, entry.run + 1, (entry.run + 1) << RUN_BITS)),
                Cat(starts).eq(Cat(skipped, begin.block, starts)),
                Cat(banks).eq(Cat(begin.bank, banks)),
            ]
            # OVER
            over = [signal(signed(max(step_bits, len(span)) + 2), f"over_{passed}") for passed in range(3)]
            m.d.sync += [over[0].eq(step), over[1].eq(step - span), over[2].eq(step - (span << 1))]
            weight = signal(signed(WEIGHT_BITS), "weight")
            found = look_up(lane, code, matrix)
            # WALK
            address = signal(c.span_bits, "address")
            bank = signal(3, "bank")
            ahead = [
                Signal(signed(max(len(over[0]), c.span_bits) + 1), name=f"ahead_{passed}_{lane}") for passed in range(3)
            ]
            m.d.comb += [sum_.eq(address + step_) for sum_, step_ in zip(ahead, over, strict=True)]
            m.d.sync += weight.eq(found)
            with m.If(first[1]):
                m.d.sync += [address.eq(starts[1]), bank.eq(banks[1])]
            with m.Elif(valid[1] & dense[1]):
                m.d.sync += address.eq(address + 1) if c.paired else [address.eq(address + bank[0]), bank.eq(bank ^ 1)]
            with m.Elif(valid[1]):
                m.d.sync += [
                    address.eq(Mux(ahead[1] < 0, ahead[0], Mux(ahead[2] < 0, ahead[1], ahead[2]))),
                    bank.eq(bank + (ahead[1] >= 0) + (ahead[2] >= 0)),
                ]
            # MULTIPLY
            product = signal(signed(WEIGHT_BITS + VALUE_BITS), "product")
            place = signal(bank_address_bits(c), "place")
            target = Signal(WINDOW, name=f"target_{lane}")
            next_target = Signal(WINDOW, name=f"next_target_{lane}")
            m.d.comb += next_target.eq(Mux(uses[2], 1 << bank, 0))
            m.d.sync += [
                product.eq(weight * values[-1]),
                place.eq(base[2] + address),
                target.eq(next_target),
            ]
            carried.append(Cat(C(1, 1), place, product))
            targets.append((target, next_target))
            if c.paired:
                # Beside the first weight, for the odd bank and the same address.
                m.d.comb += used[c.lanes + lane].eq(self.i.valid & of_readout & (entry.run != 0))
                again, uses_second = signal(c.weight_bits, "second_code"), Signal(4, name=f"second_uses_{lane}")
                second, second_product = signal(weight.shape(), "second"), signal(product.shape(), "second_product")
                m.d.sync += [
                    again.eq(entry.run),
                    uses_second.eq(Cat(used[c.lanes + lane], uses_second)),
                    second.eq(look_up(lane, again, matrix, second=True)),
                    second_product.eq(second * values[-1]),
                ]
                seconds.append((uses_second, Cat(C(1, 1), place, second_product)))

        # CROSSBAR: at most one lane is for a bank, so what it gets is the OR of its neighbours, masked.
        for number, add in enumerate(self.add):
            chosen, coming = C(0, len(carried[0])), C(0)
            for lane in range(c.lanes):
                if 0 <= (offset := number - first_bank(lane)) < WINDOW:
                    target, next_target = targets[lane]
                    chosen = chosen | Mux(target[offset], carried[lane], 0)
                    coming = coming | next_target[offset]
                    if c.paired and offset == HOME + 1:
                        uses_second, addition = seconds[lane]
                        chosen, coming = chosen | Mux(uses_second[3], addition, 0), coming | uses_second[2]
            m.d.sync += [add.eq(chosen), self.coming[number].eq(coming)]
        came = Signal.like(used)
        m.d.sync += [came.eq(used), self.macs.eq(sum(came[place] for place in range(len(came))))]
        m.d.comb += self.busy.eq(valid.any())
        return m

    def _codebooks(self, m: Module) -> Callable[..., Value]:
        """Return the function that makes of a lane's code in a matrix a weight, which comes in the next cycle."""
        c = self._c
        section = memory_sections(c).get("codebook")
        if section is None:

            def plain(lane: int, code: Signal, matrix: Value) -> Value:
                again = Signal(c.weight_bits, name=f"code_again_{lane}", reset_less=True)
                m.d.sync += again.eq(code)
                return again.as_signed()

            return plain
        loading = Signal()
        load_address = Signal(range(section.words), reset_less=True)
        load_data = Signal(section.word_bits, reset_less=True)
        mine = self.load_valid & (self.load.section == section.number)
        m.d.sync += loading.eq(mine)
        with m.If(mine):
            m.d.sync += [load_address.eq(self.load.index), load_data.eq(self.load.data)]

        def from_codebook(lane: int, code: Signal, matrix: Value, *, second: bool = False) -> Value:
            # A memory a lane: Yosys makes nothing good of one with as many read ports. That of a second weight holds
            # the matrices of the read-out alone.
            bits = c.weight_bits
            matrices = len(READOUT_KINDS) if second else section.words >> bits
            m.submodules[f"{'second_' * second}codebook_{lane}"] = codebook = memory.Memory(
                shape=memory_layout(c, "codebook"), depth=matrices << bits, init=[]
            )
            write, read = codebook.write_port(), codebook.read_port()

            loads, place = loading, load_address
            if second:
                loaded, group = load_address[bits:], c.readout_matrix("group")
                loads, place = loading & (loaded >= c.readout_matrix("head")), Cat(place[:bits], loaded == group)
                matrix = matrix == group
            m.d.comb += [
                write.addr.eq(place),
                Value.cast(write.data).eq(load_data),
                write.en.eq(loads),
                read.addr.eq(Cat(code, matrix)),
            ]
            return read.data.weight

        return from_codebook


def additions(
    words: Iterable[Word], configuration: Configuration, codebook: Sequence[int] | None = None
) -> list[dict[int, tuple[int, int]]]:
    """Return what `Lanes` sends for words, one after another.

    Parameters
    ----------
    words : Iterable[Word]
        Entries, value, matrix, whether it is a column's first, and begins of each word.
    configuration : Configuration
        Of the core.
    codebook : Sequence[int] or None
        Content of the memory of that name, signed, where weights have 4 bits.

    Returns
    -------
    list[dict[int, tuple[int, int]]]
        For each word, address and addend by bank.
    """
    c = configuration
    addresses, banks, result = [0] * c.lanes, [0] * c.lanes, []
    for entries, value, matrix, first, begins in words:
        span, base = c.matrix_places[matrix]
        added = {}
        for lane, (code, run) in enumerate(entries):
            dense = c.readout is not None and matrix >= c.readout_matrix("head")
            both = dense and c.paired
            if first:
                banks[lane], addresses[lane] = begins[lane][0], begins[lane][1] * _SKIP + (0 if both else run % _SKIP)
            elif both:
                addresses[lane] += 1
            elif dense:
                addresses[lane], banks[lane] = addresses[lane] + banks[lane] % 2, banks[lane] ^ 1
            else:
                addresses[lane] += run + 1 if code else (run + 1) * _SKIP
                while addresses[lane] >= span:
                    addresses[lane], banks[lane] = addresses[lane] - span, banks[lane] + 1
            for place, one in enumerate((code, run) if both else (code,)):
                if one:
                    weight = one - (one >> 7 << 8) if codebook is None else codebook[16 * matrix + one]
                    added[first_bank(lane) + banks[lane] + place] = (base + addresses[lane], weight * value)
        result.append(added)
    return result
