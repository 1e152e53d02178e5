"""The UART."""

from amaranth.hdl import *

from egret.rtl.uart import DATA_BITS, LEAST_DIVISOR, Receiver, Transmitter, Uart
from tests.formal.proof import proof

FRAME = (DATA_BITS + 2) * LEAST_DIVISOR


@proof(Receiver, induction=2, cover=45)
def stream(b):
    """A byte that was received stays as it is until it is taken, whatever the line does."""
    unit = Receiver(LEAST_DIVISOR)
    b.add(unit)
    b.claim(b.held(unit.o))
    b.cover(unit.o.valid & (unit.o.payload == 0x5A))


@proof(Receiver, induction=2, cover=90)
def dropped(b):
    """A byte is lost only where one waits or its stop bit is missing, and each such loss is told once."""
    unit = Receiver(LEAST_DIVISOR)
    inside = b.add(unit)
    ends = (inside["receiver_state"] == 3) & (inside["wait"] == 0)
    comes = inside["rx"] & (~unit.o.valid | unit.o.ready)
    b.claim(unit.dropped == (ends & ~comes))
    b.claim(~b.was(ends & comes) | unit.o.valid)
    b.cover(unit.dropped & inside["rx"])


@proof(Transmitter, induction=3, cover=45)
def line(b):
    """Each byte is on the line as a start bit, its bits, and a stop bit, each as long as a bit is, without gaps."""
    unit = Transmitter(LEAST_DIVISOR)
    inside = b.add(unit)
    taken = unit.i.valid & unit.i.ready
    since, byte = Signal(range(FRAME + 1), name="since", init=FRAME), Signal(8, name="byte")
    with b.m.If(taken):
        b.m.d.sync += [since.eq(0), byte.eq(unit.i.payload)]
    with b.m.Elif(since != FRAME):
        b.m.d.sync += since.eq(since + 1)
    levels = Signal(2 * DATA_BITS + 4, name="levels")
    b.m.d.comb += levels.eq(Cat(C(0, 1), byte, C(-1, 16)))
    place = since[(LEAST_DIVISOR - 1).bit_length() :]
    b.claim(since <= FRAME)
    b.claim(unit.tx == levels.bit_select(place, 1))
    b.claim(unit.i.ready == (since >= FRAME - 1))
    # Where the transmitter is, then.
    b.claim(inside["left"] == Mux(since == FRAME, 0, DATA_BITS + 2 - place))
    b.claim((since == FRAME) | (inside["wait"] == LEAST_DIVISOR - 1 - since % LEAST_DIVISOR))
    b.claim((since == FRAME) | ((levels >> (place + 1))[: DATA_BITS + 1] == inside["bits"]))
    b.cover(taken & b.was(~taken) & (since == FRAME - 1) & (byte == 0x7E))


@proof(Uart, bound=FRAME + 14, cover=FRAME + 10)
def loop(b):
    """What is sent is received, byte for byte, over a line from the one to the other."""
    unit = Uart(LEAST_DIVISOR)
    b.add(unit)
    b.m.d.comb += [unit.rx.eq(unit.tx), unit.o.ready.eq(1)]
    b.follow(unit.i.valid & unit.i.ready, unit.i.payload, unit.o.valid, unit.o.payload, 2)
    b.claim(~unit.dropped)
