"""The parts of the link."""

from amaranth.hdl import *

from egret.rtl import protocol
from egret.rtl.link.loader import Loader
from egret.rtl.link.receiver import Receiver, payload_depth
from egret.rtl.link.sender import Sender
from tests.formal.proof import proof

SECTIONS = {1: (1, 3), 2: (2, 5), 3: (4, 2)}
"""Bytes of a word and words of the memories that are loaded."""


def received(b):
    """A receiver, and what is inside; whatever its CRC says may be."""
    unit = Receiver(receive_bytes=8)
    inside = b.add(unit)
    b.cut(inside, "crc", inside["crc"].match_detected)
    return unit, inside


@proof(Receiver, induction=4, cover=14, arrays=True)
def frames(b):
    """A frame that is offered stays as it is until it is taken, whatever bytes come."""
    unit, _ = received(b)
    b.claim(b.held(unit.frames))
    b.cover(unit.frames.valid)


@proof(Receiver, induction=4, cover=14, arrays=True)
def lengths(b):
    """A frame that is offered has as many bytes as it says, and none is written beyond the payload's memory."""
    unit, inside = received(b)
    position, overhead = inside["position"], inside["overhead"]
    b.claim(position <= overhead + protocol.MAX_PAYLOAD)
    ended = b.was(position)
    b.claim(~(unit.frames.valid & b.was(~unit.frames.valid)) | (ended == unit.frames.p.length + overhead))
    b.claim(~unit.frames.valid | (unit.frames.p.length <= protocol.MAX_PAYLOAD))
    b.claim(~inside["write"].en | (inside["write"].addr < payload_depth(protocol.MAX_PAYLOAD)))
    b.claim(~inside["write"].en | (inside["write"].addr == position - protocol.HEADER.size))
    b.cover(inside["write"].en & (inside["write"].addr == 0))


@proof(Sender, induction=3, cover=16)
def frames_out(b):
    """A byte for the host stays as it is until it is taken, and flags and escapes are only where they belong."""
    unit = Sender(window=2, reply_bytes=16)
    inside = b.add(unit)
    # The last byte of a reply may come in the cycle behind its announcement.
    b.assume(~unit.content.valid | ~b.was(unit.pending).bit_select(unit.content.p.slot, 1))
    b.claim_stream(unit.o)
    flag = unit.o.valid & (unit.o.payload == protocol.FLAG)
    between = (inside["fsm_state"] == 1) | (inside["fsm_state"] == 5)
    b.claim(~flag | between)
    b.claim(~inside["stuffed"] | ((inside["fsm_state"] == 4) & inside["needs_escape"]))
    taken = unit.o.valid & unit.o.ready
    escapes = Signal(name="escapes")
    with b.m.If(taken):
        b.m.d.sync += escapes.eq(unit.o.payload == protocol.ESCAPE)
    b.claim(escapes == inside["stuffed"])
    b.claim(~(taken & escapes) | Cat(unit.o.payload == byte for byte in protocol.ESCAPED).any())
    b.cover(taken & escapes)


def loaded(b):
    """A loader whose section holds still within a command."""
    unit = Loader(SECTIONS)
    inside = b.add(unit)
    b.assume(unit.start | (unit.section == b.was(unit.section)))
    b.assume(~(unit.start & unit.bytes.valid))
    b.assume(~unit.start | ~b.was(unit.bytes.valid))
    begun = Signal(name="begun")
    with b.m.If(unit.start):
        b.m.d.sync += begun.eq(1)
    b.assume(begun | ~unit.bytes.valid)
    return unit, inside


@proof(Loader, induction=3, cover=12)
def within(b):
    """No word is written beyond the end of a memory, nor to one that there is not."""
    unit, _ = loaded(b)
    for section, (_, words) in SECTIONS.items():
        b.claim(~(unit.load_valid & (unit.load.section == section)) | (unit.load.index < words))
        b.cover(unit.load_valid & (unit.load.section == section) & (unit.load.index == words - 1))
    known = Cat(unit.load.section == section for section in SECTIONS).any()
    b.claim(~unit.load_valid | known)


@proof(Loader, induction=3, cover=16)
def words(b):
    """Bytes become words one after another, the lowest byte first, from the first index on; the rest is told."""
    unit, inside = loaded(b)
    # What a command has brought: bytes of the word that is not complete, and where it belongs.
    index, place, word = Signal(25, name="at"), Signal(2, name="place"), Signal(32, name="word")
    size, depth = Signal(3, name="size"), Signal(25, name="depth")
    with b.m.Switch(unit.section):
        for section, (bytes_, words) in SECTIONS.items():
            with b.m.Case(section):
                b.m.d.comb += [size.eq(bytes_), depth.eq(words)]
    whole = Signal(name="whole")
    b.m.d.comb += whole.eq(unit.bytes.valid & (place + 1 == size))
    lost = Signal(name="lost")
    with b.m.If(unit.bytes.valid & (size != 0)):
        b.m.d.sync += [word.word_select(place, 8).eq(unit.bytes.payload), place.eq(Mux(whole, 0, place + 1))]
        with b.m.If(whole):
            b.m.d.sync += [index.eq(index + (index < depth)), lost.eq(lost | (index >= depth))]
    with b.m.If(unit.start):
        b.m.d.sync += [index.eq(unit.index), place.eq(0), lost.eq(0)]
    written = b.was(whole & (index < depth))
    b.claim((inside["index"] == index) & (inside["overrun"] == lost) & (inside["place"] == place))
    for byte in range(4):
        b.claim((place <= byte) | (inside["word"].word_select(byte, 8) == word.word_select(byte, 8)))
    b.claim(unit.start | (size == 0) | (place < size))
    b.claim(unit.load_valid == written)
    b.claim(~written | (unit.load.index == b.was(index)))
    for bytes_ in (1, 2, 4):
        b.claim(~(written & (size == bytes_)) | (unit.load.data[: 8 * bytes_] == word[: 8 * bytes_]))
    good = (size != 0) & ~lost & (place == 0)
    b.claim(unit.start | ((unit.status == protocol.Status.OK) == good))
    b.cover(written & (size == 4) & (unit.load.index == 1))
