"""UART: bytes from and to two pins, eight data bits, no parity, one stop bit."""

# What the stubs of Amaranth lack: `init` of members, members of a Signal of a layout, streams and levels of FIFOs.
# pyright: reportCallIssue=false

from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["Receiver", "Transmitter", "Uart", "divisor_for", "line_levels"]

DATA_BITS = 8
LEAST_DIVISOR = 4
TOLERANCE = 0.015
"""Of the bit rate. Each end may be off by so much: a stop bit, 9.5 bits after its start, is then still met."""


def divisor_for(hertz: float, baud: int) -> int:
    """Return the clock cycles a bit.

    Parameters
    ----------
    hertz : float
        The clock.
    baud : int
        Bits a second.

    Returns
    -------
    int
        Clock cycles a bit.

    Raises
    ------
    ValueError
        The clock is too slow for this rate, or no multiple of it, by more than `TOLERANCE`.
    """
    divisor = round(hertz / baud)
    if divisor < LEAST_DIVISOR or abs(hertz / divisor / baud - 1) > TOLERANCE:
        raise ValueError(
            f"baud must be the clock divided by an integer from {LEAST_DIVISOR} up, within "
            f"{TOLERANCE:.1%}: {hertz / 1e6:g} MHz does not give {baud!r}"
        )
    return divisor


class Receiver(wiring.Component):
    """Bytes from a pin.

    A byte is there in the middle of its stop bit. It waits until it is taken; if the next one comes before that, the
    next one is dropped, since the sender cannot be stopped. So is a byte without a stop bit. The link's frames
    carry a CRC and so tell that something is missing; a host that keeps to ``receive_bytes`` never causes it.

    Parameters
    ----------
    divisor : int
        Clock cycles a bit, at least 4.

    Members
    -------
    rx : In(1)
        The pin, high at rest, of any phase.
    o : Out(stream.Signature(8))
        Bytes.
    dropped : Out(1)
        High for one cycle for each byte that is lost.
    """

    rx: Signal
    o: stream.Interface
    dropped: Signal

    def __init__(self, divisor: int) -> None:
        self._divisor = _checked(divisor)
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8)), "dropped": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        # ``wait`` counts down to the middle of the next bit.
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, rx, init=1)
        wait = Signal(range(self._divisor))
        bits = Signal(DATA_BITS)
        left = Signal(range(DATA_BITS + 1))
        m.d.sync += wait.eq(Mux(wait == 0, self._divisor - 1, wait - 1))
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM(name="receiver"):
            with m.State("IDLE"):
                m.d.sync += wait.eq(self._divisor // 2 - 2)  # one cycle to come here, half of one seen late
                with m.If(~rx):
                    m.next = "START"
            with m.State("START"):
                with m.If(wait == 0):
                    m.d.sync += left.eq(DATA_BITS)
                    m.next = "DATA"
                with m.If(rx):
                    m.next = "IDLE"  # too short for a bit
            with m.State("DATA"), m.If(wait == 0):
                m.d.sync += [bits.eq(Cat(bits[1:], rx)), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "STOP"
            with m.State("STOP"), m.If(wait == 0):
                with m.If(rx & (~self.o.valid | self.o.ready)):
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits)]
                with m.Else():
                    m.d.comb += self.dropped.eq(1)
                m.next = "REST"
            with m.State("REST"), m.If(rx):
                m.next = "IDLE"
        return m


class Transmitter(wiring.Component):
    """Bytes to a pin, without gaps while there are bytes.

    Parameters
    ----------
    divisor : int
        Clock cycles a bit, at least 4.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes.
    tx : Out(1)
        The pin, high at rest, from a register.
    """

    i: stream.Interface
    tx: Signal

    def __init__(self, divisor: int) -> None:
        self._divisor = _checked(divisor)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        # What is left to send is shifted out above ones, so that the line rests when nothing is left.
        m = Module()
        wait = Signal(range(self._divisor))
        left = Signal(range(DATA_BITS + 3))
        bits = Signal(DATA_BITS + 1, init=-1)
        m.d.comb += self.i.ready.eq((left == 0) | ((left == 1) & (wait == 0)))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [wait.eq(self._divisor - 1), left.eq(left - 1), self.tx.eq(bits[0]), bits.eq(Cat(bits[1:], 1))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self.tx.eq(0),
                bits.eq(Cat(self.i.payload, 1)),
                left.eq(DATA_BITS + 2),
                wait.eq(self._divisor - 1),
            ]
        return m


class Uart(wiring.Component):
    """A receiver and a transmitter of one rate.

    Parameters
    ----------
    divisor : int
        Clock cycles a bit, at least 4.

    Members
    -------
    rx : In(1), tx : Out(1)
        The pins.
    i, o : In(stream.Signature(8)), Out(stream.Signature(8))
        Bytes to and from the pins.
    dropped : Out(1)
        As of `Receiver`.
    """

    rx: Signal
    tx: Signal
    i: stream.Interface
    o: stream.Interface
    dropped: Signal

    def __init__(self, divisor: int) -> None:
        self._divisor = _checked(divisor)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.receiver = receiver = Receiver(self._divisor)
        m.submodules.transmitter = transmitter = Transmitter(self._divisor)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), self.dropped.eq(receiver.dropped)]
        return m


def line_levels(data: bytes) -> list[int]:
    """Return the levels of the line, one a bit, while ``data`` is sent without gaps."""
    return [level for byte in data for level in (0, *(byte >> bit & 1 for bit in range(DATA_BITS)), 1)]


def _checked(divisor: int) -> int:
    """Return the divisor, or raise `ValueError`."""
    if not isinstance(divisor, int) or divisor < LEAST_DIVISOR:
        raise ValueError(f"divisor must be an integer from {LEAST_DIVISOR} up, not {divisor!r}")
    return divisor
