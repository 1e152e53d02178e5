"""The lines of USB: damaged and cut packets, a host that resets, suspends or counts anew, and a cable pulled out."""

from dataclasses import dataclass
from functools import cache

from amaranth.hdl import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from egret.rtl.usb import DATA_ENDPOINT, PACKET_BYTES
from egret.sim.stand_in import StandInBoard
from egret.sim.virtual import Build
from tests.faults.pins import INVERT, NOISE, RESET, Cable, Lost, Port, build_of, numbers
from tests.support.usb_device import Bench

__all__ = ["UsbCable", "usb_build"]

SE0, J, K, SE1, NOBODY = range(5)
NONE, BAD, OUT, ACK, DATA0, IN, NAK, DATA1, SETUP = 0, 1, 1, 2, 3, 9, 10, 11, 13
ERRORS = 3
"""Transactions without a sound answer after which a host gives a transfer up."""
TRIES = 4
"""Enumerations after which a host lets a device alone."""
_BIT = 4
_HERTZ = 48e6
_ADDRESS = 5


class _Top(wiring.Component):
    """`Bench`, and whether the board behind it is busy."""

    busy: Signal

    def __init__(self, board):
        self._board, self._bench = board, Bench(board)
        super().__init__({**self._bench.signature.members, "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.bench = bench = self._bench
        for name, member in bench.signature.members.items():
            inner, outer = getattr(bench, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        m.d.comb += self.busy.eq(self._board.busy)
        return m


@dataclass(frozen=True)
class _UsbBuild(Build):
    """A `Build` that has the pins of USB, and no clock that stands still."""

    def _verilog(self):
        from egret.rtl.export import to_verilog

        # One evaluation a cycle rather than two: every change of a clock is an active edge.
        return to_verilog(self.component(), "top").replace("@(posedge ", "@(edge ")

    def _defines(self):
        return []


@cache
def usb_build() -> Build:
    """The stand-in core behind the link and USB, and a host controller."""
    build = _UsbBuild(lambda: _Top(StandInBoard(readout=True)), "stand-in behind USB")
    return build_of(build, "usb_pins.cpp")


class _Refused(Exception):
    """A control transfer failed."""


class UsbCable(Cable):
    """As `Cable`, with a host controller and the driver of a serial port; what `open` returns is such a port.

    Attributes
    ----------
    attached : bool
        Whether the host knows the device.
    toggles : dict of str to int
        Of the next packet ``in`` and ``out``.
    """

    KINDS = (
        *("bit", "glitch", "noise", "cut", "lost", "reset", "unplug", "bus reset", "count anew", "suspend"),
        *("transfer given up", "driver gives up", "failed enumeration"),
    )

    def __init__(self, random, rate=1.0):
        super().__init__(usb_build(), random, rate)
        self.attached = False
        self.toggles = {}
        self._address = 0
        self._sound = False  # no faults for now
        if rate:
            self.send(b"d" + numbers(8 + random.randint(-1, 1)))

    def open(self):
        """Plug it in where it is not, and open the serial port."""
        self.was_reset = self.was_lost = self.is_silent = False
        for _ in range(50):
            if not self.attached:
                self._attach()
            try:
                self._open()
            except _Refused:
                self.attached = False
                continue
            return _Port(self)
        raise AssertionError("the port cannot be opened")

    # Transactions.

    def transact(self, kind, endpoint, toggle, data=b"", patience=0):
        """One transaction, with what befalls it: how it ended, whether the board is idle, and its bytes."""
        if not self._sound:
            self._damage(len(data))
        self.send(b"x" + bytes([kind, self._address, endpoint, toggle]) + numbers(patience, len(data)) + data)
        self.flush()
        answer, idle, was_reset = self.take(3)
        self.now += self.number() / _HERTZ
        content = self.take(self.number())
        self._note_reset(was_reset)
        return answer, idle, content

    def _note_reset(self, was_reset):
        if was_reset:
            # Its pull-up has gone for a moment, which the host takes for an unplugged device.
            self.was_reset = self.was_lost = True
            self.attached = False
            self.faults["reset"] += 1

    def hold(self, level, bits):
        """Drive a level for so many bits."""
        self.send(b"l" + bytes([level]) + numbers(bits))
        self.flush()
        self.now += bits / 12e6
        self._note_reset(self.take(1)[0])

    def _damage(self, size):
        random = self.random
        if self.happens(0.015):
            kind = random.choice(("bit", "glitch", "noise", "cut", "lost"))
            event = random.randint(1, 3)
            length = {1: 35, 2: 40 + 9 * (size or 20), 3: 19}[event]  # bits of the packet, more or less
            start = random.randrange(_BIT * length)
            match kind:
                case "bit":
                    self.fault(INVERT, event, start, _BIT)
                case "glitch":
                    self.fault(random.choice([SE0, J, K, SE1]), event, start, random.randint(1, _BIT - 1))
                case "noise":
                    self.fault(NOISE, event, start, _BIT * random.randint(2, 1500))
                case "cut":
                    # The longer ones of SE0 are a reset for the device, of which the host knows nothing.
                    self.fault(random.choice([SE0, J, K, SE1]), event, start, _BIT * random.randint(2, 1500))
                case "lost":
                    self.fault(J, event, 0, _BIT * length)
            self.faults[kind] += 1
        if self.happens(0.0008):
            self.fault(RESET, random.randrange(4), random.randrange(_BIT * 600), 1)
        if self.happens(0.0015):
            self.toggles[random.choice(("in", "out"))] = 0
            self.faults["count anew"] += 1

    # What a host does with a new device.

    def control(self, kind, request, value, content=b"", length=0):
        """A control transfer to interface 0: what came."""
        setup = bytes([kind, request]) + numbers(value) + (length or len(content)).to_bytes(2, "little")
        self._stage(SETUP, 0, setup)
        received, toggle = b"", 1
        if kind & 0x80:
            while len(received) < length:
                part = self._stage(IN, toggle)
                received, toggle = received + part, 1 - toggle
                if len(part) < PACKET_BYTES:
                    break
            self._stage(OUT, 1)
        else:
            if content:
                self._stage(OUT, 1, content)
            self._stage(IN, 1)
        return received

    def _stage(self, kind, toggle, data=b""):
        """A packet of a control transfer, which is repeated as USB has it."""
        errors = 0
        for _ in range(100):
            answer, _, content = self.transact(kind, 0, toggle, data)
            if not self.attached and not self._sound:
                raise _Refused
            if answer == ACK and kind != IN:
                return b""
            if kind == IN and answer in (DATA0, DATA1):
                if answer == (DATA0, DATA1)[toggle]:
                    return content
            elif answer != NAK:
                errors += 1
                if errors == ERRORS:
                    raise _Refused
        raise _Refused

    def _attach(self):
        """Enumerate the device as Linux does: four tries, the later two with the address first.

        The next one is on a line without faults, and must not fail.
        """
        for attempt in range(TRIES + 1):
            self._sound = attempt == TRIES
            if self._sound:
                self.send(b"c")
            self.attached = True
            try:
                self._enumerate(address_first=TRIES // 2 <= attempt < TRIES)
            except _Refused:
                self.faults["failed enumeration"] += 1
                continue
            if self.attached:
                self._sound = False
                return
        raise AssertionError("the device cannot be enumerated on a sound line")

    def _enumerate(self, address_first):
        self.reset()
        if not address_first:
            self.control(0x80, 6, 0x0100, length=64)
            self.reset()
        self.control(0x00, 5, _ADDRESS)
        self._address = _ADDRESS
        self.control(0x80, 6, 0x0100, length=18)
        head = self.control(0x80, 6, 0x0200, length=9)
        if len(head) != 9:
            raise _Refused
        self.control(0x80, 6, 0x0200, length=int.from_bytes(head[2:4], "little"))
        self.control(0x00, 9, 1)
        self.toggles = {"in": 0, "out": 0}

    def reset(self):
        """50 us of SE0; a real host takes 10 ms."""
        self.hold(SE0, 600)
        self.hold(J, 40)
        self._address = 0

    def reset_bus(self):
        """A reset behind which the driver goes on with the open port."""
        self._attach()
        self.faults["bus reset"] += 1

    def suspend(self):
        """The bus stands still for longer than 3 ms, and is woken."""
        self.hold(NOBODY, self.random.randint(36_000, 200_000))
        self.hold(K, 2000)
        self.hold(SE0, 2)
        self.hold(NOBODY, 200)
        self.faults["suspend"] += 1

    def unplug(self):
        """The port goes; the device is left with lines that nobody drives, or that somebody shakes."""
        if self.random.random() < 0.3:
            self.fault(NOISE, 0, 0, _BIT * 1500)
        self.hold(self.random.choice([SE0, J, NOBODY]), 2000)
        self.was_lost, self.attached = True, False

    def _open(self):
        self.control(0x21, 0x20, 0, (3_000_000).to_bytes(4, "little") + bytes([0, 0, 8]))
        self.control(0x21, 0x22, 3)


class _Port(Port):
    def __init__(self, cable):
        super().__init__(cable)
        self._sending = bytearray()
        self._errors = {"in": 0, "out": 0}
        self._given_up = 0

    def write(self, data):
        cable = self._cable
        self._present()
        cable.frames += 1
        if cable.happens(0.0004):
            cable.unplug()
            cable.faults["unplug"] += 1
        if cable.happens(0.0004):
            cable.reset_bus()
        if cable.happens(0.0001):
            cable.suspend()
        self._sending += data

    def read(self, size):
        cable = self._cable
        deadline = cable.now + self.timeout
        while not self._received and cable.now < deadline:
            self._present()
            if self._sending:
                self._send()
            if self._receive() and not self._sending and not self._received:
                cable.now = deadline
        self._present()
        return self._taken(size)

    def _present(self):
        if self._cable.was_lost:
            raise Lost("the device has gone")

    def _send(self):
        cable, packet = self._cable, bytes(self._sending[:PACKET_BYTES])
        answer, _, _ = cable.transact(OUT, DATA_ENDPOINT, cable.toggles["out"], packet)
        if answer == ACK:
            self._done("out")
            del self._sending[: len(packet)]
        elif answer != NAK and self._failed("out"):
            # A driver drops what it could not send, or tries again.
            if cable.random.random() < 0.5:
                del self._sending[: len(packet)]

    def _receive(self):
        """Take a packet if there is one; True where nothing more will come."""
        cable = self._cable
        answer, idle, content = cable.transact(IN, DATA_ENDPOINT, cable.toggles["in"], patience=3000)
        if answer in (DATA0, DATA1):
            # What comes a second time, because its acknowledgement was lost, is dropped.
            if answer == (DATA0, DATA1)[cable.toggles["in"]]:
                self._received += content
                self._done("in")
            return False
        if answer != NAK:
            self._failed("in")
        return answer == NAK and idle

    def _done(self, way):
        self._cable.toggles[way] ^= 1
        self._errors[way] = self._given_up = 0

    def _failed(self, way):
        """A transaction came to nothing; True where the transfer is given up."""
        cable = self._cable
        self._errors[way] += 1
        if self._errors[way] < ERRORS or not cable.attached:
            return False
        self._errors[way] = 0
        self._given_up += 1
        cable.faults["transfer given up"] += 1
        if self._given_up < 3:
            # The controller forgets its count of packets, and may tell the device so.
            if cable.random.random() < 0.5:
                cable.toggles[way] = 0
            return True
        self._given_up = 0
        if cable.random.random() < 0.5:
            cable.reset_bus()
        else:
            cable.unplug()
            cable.faults["driver gives up"] += 1
        return True
