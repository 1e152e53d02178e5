"""The reset pass."""

from amaranth.hdl import *
from amaranth.lib import data

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.rtl.layouts import event_layout
from egret.rtl.reset import ResetPass
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=1, hidden=(3,), lanes=1)


class Used:
    """A reset pass whose requests are answered in order, each once, from the next cycle on; events come as they may."""

    def __init__(self, b):
        self.unit = unit = ResetPass(CORE)
        self.inside = inside = b.add(unit)
        b.assume(b.held(unit.i))
        b.assume(~b.was(unit.busy) | (unit.layer == b.was(unit.layer)))
        asked = Signal(range(16), name="asked_and_not_answered")
        b.m.d.sync += asked.eq(asked + (unit.request.valid & unit.request.ready) - unit.gate.valid)
        b.assume((asked != 0) | ~unit.gate.valid)
        # Every event is before the gate's answer, being multiplied, or scaled; each has a place in the last queue.
        pending, scaled, queue = inside["pending"], inside["scaled"], inside["queue"]
        b.claim(pending.level == asked + queue.level)
        b.claim(inside["free"] + pending.level + sum(inside["valid"]) + scaled.level == CORE.in_flight)
        b.claim(~scaled.w_en | scaled.w_rdy)
        b.claim(~pending.w_en | pending.w_rdy)
        b.claim(~unit.gate.valid | pending.r_rdy)


@proof(ResetPass, induction=3, cover=16)
def room(b):
    """No queue of the reset pass overflows, whenever answers come and however long its output waits."""
    used = Used(b)
    b.cover(used.inside["scaled"].level == CORE.in_flight)
    b.cover(used.inside["pending"].level == CORE.in_flight)


@proof(ResetPass, induction=3, cover=10)
def stream(b):
    """A scaled event that waits stays as it is until it is taken."""
    used = Used(b)
    b.claim_stream(used.unit.o)


@proof(ResetPass, induction=3, cover=10)
def request(b):
    """A request that waits for the gate stays as it is until it is taken."""
    used = Used(b)
    b.assume(~b.was(used.unit.request.valid) | (used.unit.layer == b.was(used.unit.layer)))
    b.claim_stream(used.unit.request)


@proof(ResetPass, induction=3, cover=10)
def order(b):
    """Each answer of the gate meets its own event, the oldest one without an answer; none is lost."""
    used = Used(b)
    unit, inside = used.unit, used.inside
    answered = b.was(unit.gate.valid)
    follows, ahead, kept = b.follow(unit.i.valid & unit.i.ready, unit.i.payload, answered, inside["scaling"], 8)
    b.claim(inside["valid"][0] == answered)
    b.claim(b.level == inside["pending"].level + answered)
    word = inside.word("pending.storage", inside["pending.consume"] + ahead - answered)
    b.claim(~(follows & ((ahead != 0) | ~answered)) | (word == kept))
    b.claim(~(follows & answered & (ahead == 0)) | (Value.cast(inside["scaling"]) == kept))


@proof(ResetPass, induction=3, cover=10)
def product(b):
    """What leaves is r times the event's value, rounded half up, and only zeros are dropped."""
    used = Used(b)
    event, scaled, done = used.inside["scaling"], used.inside["scaled"], used.inside["valid"][1]
    gate = b.was(used.unit.gate.payload[:VALUE_FRACTION])
    exact, result = Signal(2 * VALUE_FRACTION + 1), data.View(event_layout(CORE), scaled.w_data)
    b.m.d.comb += exact.eq(b.was(event.value * gate) + (1 << VALUE_FRACTION >> 1))
    b.claim(done == b.was(used.unit.gate.valid, 2))
    b.claim(scaled.w_en == (done & (exact >= 1 << VALUE_FRACTION)))
    b.claim(~scaled.w_en | (result.value == exact >> VALUE_FRACTION))
    b.claim(~scaled.w_en | (result.index == b.was(event.index)))
    b.cover(done & ~scaled.w_en & (exact == (1 << VALUE_FRACTION) - 1))
    b.cover(scaled.w_en & (result.value == 254))
