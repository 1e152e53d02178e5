"""The update pass."""

from amaranth.hdl import *

from egret.model.arithmetic import GATES, STATE_FRACTION, VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.rtl.update import STATE, UpdatePass
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=1, hidden=(5, 2), lanes=1)
ANSWERED = [GATES.index(gate) for gate in ("u", "z")]


class Used:
    """An update pass whose requests are stored, and answered where they want it, each once and not at once."""

    def __init__(self, b):
        self.unit = unit = UpdatePass(CORE)
        self.inside = inside = b.add(unit)
        self.clearing, self.size = inside["clearing"], Array(CORE.hidden)[unit.layer]
        b.assume(b.held(unit.bias), ~unit.start | (~unit.busy & (unit.start_layer < CORE.layers)))
        answers = (unit.update, unit.candidate)
        neuron, finished, opened = inside["neuron"], inside["finished"], inside["open_requests"]
        computed, queue = sum(inside["answered"]), inside["queue"]
        quiet = unit.busy & inside["quiet"]
        for gate, answer, name in zip(ANSWERED, answers, ("updates", "candidates"), strict=True):
            request, waiting = unit.request[gate], inside[name]
            asked = Signal(range(16), name=f"asked_{name}")
            taken = request.valid & request.ready & request.p.respond
            b.m.d.sync += asked.eq(asked + taken - answer.valid)
            b.assume((asked != 0) | ~answer.valid)
            # A neuron that is begun waits to be asked for, for its answer, for the other gate's, or is computed.
            begun = (opened[gate] & ~self.clearing) + asked + waiting.level + computed
            b.claim(inside["free"] + begun + queue.level == CORE.in_flight)
            b.claim(Mux(self.clearing, begun == 0, neuron == finished + begun))
            b.claim(~waiting.w_en | waiting.w_rdy)
            b.claim((unit.busy & ~quiet) | (begun == 0))
        stored, owed = Signal(range(16 * len(CORE.sums)), name="asked_and_not_stored"), C(0)
        for gate, request in enumerate(unit.request):
            asks, left = inside["requests"][gate], Signal(range(16), name=f"unstored_{gate}")
            b.m.d.sync += left.eq(left + asks - unit.stored[gate])
            b.assume((left != 0) | ~unit.stored[gate])
            b.claim(asks == b.was(request.valid & request.ready), left + asks + opened[gate] <= neuron)
            owed += left
        b.m.d.comb += stored.eq(owed)
        b.claim(inside["owed"] == stored)
        b.claim((unit.busy & ~quiet) | ((stored == 0) & (inside["requests"] == 0)))
        b.claim(unit.layer < CORE.layers, neuron <= self.size, ~self.clearing | (queue.level == 0))
        b.claim((unit.busy & ~quiet) | ((opened == 0) & (queue.level == 0)))
        b.claim(~quiet | (neuron == self.size))
        b.claim(~queue.w_en | queue.w_rdy)


@proof(UpdatePass, induction=3, cover=30)
def room(b):
    """No queue of the update pass overflows, and a pass ends when all of its neurons are done and sent."""
    used = Used(b)
    unit, inside = used.unit, used.inside
    ends = b.was(unit.busy) & ~unit.busy
    b.claim(~ends | used.clearing | (inside["finished"] == used.size))
    b.cover(inside["free"] == 0)
    b.cover(ends & ~used.clearing & (unit.layer == 1))


@proof(UpdatePass, induction=3, cover=30)
def stream(b):
    """An event of the last layer that waits, and the end of a step, stay as they are until they are taken."""
    b.claim_stream(Used(b).unit.o)


@proof(UpdatePass, induction=3, cover=10)
def request(b):
    """A request that waits for a gate stays as it is until it is taken."""
    used = Used(b)
    for stream in used.unit.request:
        b.claim_stream(stream)


@proof(UpdatePass, induction=8, cover=30)
def neuron(b):
    """Every state, gate and threshold gives the state and the event that the integer network's equations give."""
    used = Used(b)
    inside = used.inside
    answer, after = inside["answer"], b.was
    update, candidate = after(inside["updates"].r_data), after(inside["candidates"].r_data).as_signed()
    state, threshold = inside.read("state").as_signed(), inside.read("threshold")
    one = 1 << STATE_FRACTION
    for number in (candidate, state):
        b.assume((number >= -one) & (number <= one))
    b.assume(threshold <= one)
    half, shift = 1 << VALUE_FRACTION >> 1, STATE_FRACTION - VALUE_FRACTION
    before = Signal(STATE, name="blended_state")
    b.m.d.comb += before.eq(state + ((update * (candidate - state) + half) >> VALUE_FRACTION))
    fires, rounded = before >= threshold, (before + (1 << shift >> 1)) >> shift
    value = Mux(rounded > (1 << VALUE_FRACTION) - 1, (1 << VALUE_FRACTION) - 1, rounded)
    done = inside["blended"]
    b.claim(done == after(answer, 6))
    b.claim(~done | (inside["carried"] == after(Mux(fires, before - threshold, before), 5)))
    b.claim(~done | ((inside["carried"] >= -one) & (inside["carried"] <= one)))
    b.claim(~done | (inside["queue"].w_en == after(fires & (rounded != 0), 5)))
    b.claim(~inside["queue"].w_en | (inside["fresh"].value == after(value[:VALUE_FRACTION], 5)))
    b.cover(inside["queue"].w_en & (inside["fresh"].value == 255))
    b.cover(done & ~inside["fires"] & (inside["carried"] < 0))
