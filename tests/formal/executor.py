"""The executor of the link behind a line that damages, repeats and loses frames."""

from amaranth.hdl import *

from egret.rtl import protocol
from egret.rtl.link.executor import Executor
from egret.rtl.link.sender import CONTENT_HEADER_BYTES
from egret.rtl.protocol import Command, Status
from tests.formal.proof import proof

WINDOW = 2
IDENTITY = protocol.Identity(
    digest=bytes(8),
    window=WINDOW,
    max_payload=protocol.MAX_PAYLOAD,
    receive_bytes=8,
    tokens=2,
    outputs=8,
    counters=0,
    layers=1,
    head=0,
)


class Session:
    """An executor, a host that keeps to the protocol, and a line.

    The host sends IDENTIFY, and commands with rising numbers once it has the reply; no more than ``WINDOW`` of them are
    unanswered. The line brings any frame that was sent, as often as it likes and in any order. But it brings no
    IDENTIFY behind a later command. A frame that it damages or loses does not come, and of replies any may be lost.
    """

    def __init__(self, b):
        self.unit = unit = Executor(IDENTITY, {0: (1, 1)})
        self.inside = inside = b.add(unit)
        b.cut(inside, "load_crc", inside["load_crc"].crc, inside["load_crc"].match_detected)
        frame, first = unit.frames.p, b.fixed(16, "first")
        self.identifies = identifies = frame.command == Command.IDENTIFY
        self.waits = waits = inside.is_in("fsm", "DISPATCH")
        b.assume(b.held(unit.frames))
        # Commands are counted from IDENTIFY on: those that were sent, answered, and executed.
        sent, answered, done, number = (Signal(16, name=name) for name in ("sent", "answered", "done", "number"))
        self.first, self.number, self.done, self.begun = first, number, done, Signal(name="begun")
        known, later = Signal(name="known"), Signal(name="later")
        sends, hears = b.free(1, "sends"), b.free(1, "hears")
        b.assume(~sends | (known & (sent - answered < WINDOW)), sent < 1 << 15)
        b.assume(~hears | (self.begun & (~known | (answered < done))))
        b.m.d.sync += [sent.eq(sent + sends), known.eq(known | hears), answered.eq(answered + (hears & known))]
        b.m.d.comb += number.eq(frame.sequence - first)
        comes = unit.frames.valid
        b.assume(~comes | (number <= sent), ~comes | (identifies == (number == 0)), ~(comes & identifies & later))
        with b.m.If(comes & ~identifies & self.begun):
            b.m.d.sync += later.eq(1)
        self.ends = comes & unit.frames.ready & ~waits
        with b.m.If(self.ends):
            b.m.d.sync += [self.begun.eq(1), done.eq(number)]
        # What the executor knows of it.
        b.claim(inside["_connected"] == self.begun, ~self.begun | (unit.expected == (first + done + 1)[:16]))
        b.claim(inside["_kept"] == Mux(self.begun, Mux(done == 0, 1, WINDOW), 0))
        b.claim(~known | self.begun, self.begun | (done == 0), known | (sent == 0) & (answered == 0))
        b.claim((answered <= done) & (done <= sent) & (sent - answered <= WINDOW), later | (done == 0))
        b.claim(~later | self.begun)


# An IDENTIFY of a wrong length begins a session, too, and soon enough for the covers.
@proof(Executor, induction=3, cover=34)
def once(b):
    """Whatever frames come again or do not come: each command is executed once, in order, and answered as itself."""
    session = Session(b)
    unit, waits, identifies = session.unit, session.waits, session.identifies
    number, done = session.number, session.done
    # What is executed is the next command, or IDENTIFY before any other; nothing else touches the core.
    b.claim(waits | (unit.frames.valid & Mux(identifies, done == 0, session.begun & (number == done + 1))))
    b.claim(~session.ends | identifies | (number == done + 1))
    touches = unit.core.token.valid | unit.core.clear | session.inside["loader"].bytes.valid
    b.claim(~touches | ~waits)
    # At most one step in a command, and one in a STEP that is answered as done.
    stepped = Signal(name="stepped")
    steps = unit.core.token.valid & unit.core.token.ready
    b.m.d.sync += stepped.eq(~waits & ~session.ends & (stepped | steps))
    b.claim(~(stepped & steps) & ~(stepped & waits))
    b.claim(~stepped | session.inside.is_in("fsm", "EVENT", "HEADER"))
    step = ~waits & (unit.frames.p.command == Command.STEP)
    runs = session.inside.is_in("fsm", "EVENT") | (session.inside["_status"] == Status.OK)
    ended = session.inside.is_in("fsm", "EVENT", "HEADER")
    b.claim(~step | ended | session.inside.is_in("fsm", "EXECUTE", "TOKEN"), ~(step & ended & runs) | stepped)
    # An answer without an execution is that to one of the last commands, which are all that is kept.
    again = unit.replies.valid & waits
    b.claim(~again | (session.begun & (number <= done) & (done - number < WINDOW)))
    # The slot that is announced holds the number of its command: that of the last ones, when nothing is executed.
    inside, content, sequence = session.inside, unit.content, unit.frames.p.sequence
    told = Array(Signal(16, name=f"told_{slot}") for slot in range(WINDOW))
    header = content.p.place[3:].all()
    for byte in range(2):
        with b.m.If(content.valid & header & (content.p.place[:3] == 8 - CONTENT_HEADER_BYTES + byte)):
            b.m.d.sync += told[content.p.slot][8 * byte : 8 * byte + 8].eq(content.p.byte)
    # Nothing is written to a slot that is being sent, as the sender takes for granted.
    announced = Mux(unit.replies.valid, 1 << unit.replies.payload, 0)
    b.assume((unit.pending & ~(b.was(unit.pending) | b.was(announced))) == 0)
    b.claim(waits | ~unit.pending.bit_select(sequence[0], 1))
    b.claim(~content.valid | ~b.was(unit.pending).bit_select(content.p.slot, 1))
    slot = (session.first + done)[0]
    b.claim(~session.begun | (~waits & identifies) | (told[slot] == (session.first + done)[:16]))
    b.claim(~waits | (done == 0) | (told[~slot] == (session.first + done - 1)[:16]))
    written = inside["header_index"] - (8 - CONTENT_HEADER_BYTES)
    heads = inside.is_in("fsm", "HEADER")
    for byte in range(2):
        here = told[sequence[0]][8 * byte : 8 * byte + 8]
        b.claim(~heads | (written < byte + 2) | (here == sequence[8 * byte : 8 * byte + 8]))
    b.claim(heads | (written == 0), written < CONTENT_HEADER_BYTES)
    b.cover(again & (number == 1))
    b.cover(session.ends & (number == 2))
