"""A host of full-speed USB in Python: packets to and from the levels of D+ and D-, and the transfers of a serial port.

What a host does is written as generators. Each yields levels to drive, one for each cycle of 48 MHz, and whether to
listen afterwards; it is sent the levels that the device then drove, as runs of (level, cycles). So the same host runs
on Amaranth's simulator and on a compiled design.
"""

import random
from dataclasses import dataclass, field

__all__ = ["IDLE", "PATIENCE", "Damage", "UsbError", "UsbHost", "decode", "encode"]

SE0, J, K, SE1, IDLE = range(5)
"""Levels: D+ in bit 0, D- in bit 1; `IDLE` is driven by nobody, and so pulled to `J`."""
PATIENCE = 18 * 4
"""Cycles after which a host no longer waits for an answer."""
OUT, IN, SOF, SETUP, DATA0, DATA1, ACK, NAK, STALL = 0x1, 0x9, 0x5, 0xD, 0x3, 0xB, 0x2, 0xA, 0xE
TURNAROUND = (2, 16)
"""Bits from the end of the host's packet, where SE0 ends, to the device's answer: a host waits 16 to 18 (USB 2.0,
7.1.19.1). A device should have begun after 6.5 (7.1.18.1), which LUNA's does not."""


class UsbError(Exception):
    """The device broke a rule of USB."""


def crc(bits, count, polynomial, width):
    """Complement of the remainder of the ``count`` lowest bits, least significant first, reversed as it is sent."""
    remainder = (1 << width) - 1
    for place in range(count):
        remainder = remainder >> 1 ^ (polynomial if (remainder ^ bits >> place) & 1 else 0)
    return remainder ^ ((1 << width) - 1)


def crc16(data):
    """Of the bytes of a packet, two bytes."""
    return crc(int.from_bytes(data, "little"), 8 * len(data), 0xA001, 16).to_bytes(2, "little")


def token(kind, address, endpoint):
    """A token packet."""
    content = address | endpoint << 7
    return bytes([kind | (kind ^ 15) << 4]) + (content | crc(content, 11, 0x14, 5) << 11).to_bytes(2, "little")


def data_packet(kind, content):
    """A packet of data, `DATA0` or `DATA1`."""
    return bytes([kind | (kind ^ 15) << 4]) + content + crc16(content)


def handshake(kind):
    """A packet of one byte."""
    return bytes([kind | (kind ^ 15) << 4])


def encode(packet):
    """The levels of a packet, a bit each: synchronisation, bits with those that are stuffed, two of SE0 and one J."""
    bits = [0] * 7 + [1]
    ones = 1
    for byte in packet:
        for place in range(8):
            bits.append(byte >> place & 1)
            ones = ones + 1 if bits[-1] else 0
            if ones == 6:
                bits.append(0)
                ones = 0
    levels, level = [], J
    for bit in bits:
        level = level if bit else J + K - level
        levels.append(level)
    return [*levels, SE0, SE0, J]


def decode(runs):
    """The packet in runs of levels that a device drove, without what is stuffed; raises `UsbError` where it is none."""
    bits, ones = [], 0
    for place, (level, cycles) in enumerate(runs):
        count = round(cycles / 4)
        if level == SE0:
            if count != 2 or place != len(runs) - 2 or runs[-1][0] != J:
                raise UsbError(f"a packet ends with two bits of SE0 and one of J, not {runs[place:]}")
            break
        if abs(cycles / 4 - count) > 0.26 or count < 1:
            raise UsbError(f"a level of {cycles / 4} bits")
        bits += [0] + [1] * (count - 1)
    if bits[:8] != [0] * 7 + [1]:
        raise UsbError(f"a packet begins with {bits[:8]}")
    content = []
    ones = 1
    for bit in bits[8:]:
        if ones == 6:
            if bit:
                raise UsbError("seven ones in a row")
            ones = 0
            continue
        content.append(bit)
        ones = ones + 1 if bit else 0
    if len(content) % 8:
        raise UsbError(f"a packet of {len(content)} bits")
    packet = bytes(
        sum(bit << place for place, bit in enumerate(content[at : at + 8])) for at in range(0, len(content), 8)
    )
    if not packet or packet[0] & 15 ^ packet[0] >> 4 != 15:
        raise UsbError(f"a packet of unknown kind: {packet.hex()}")
    if packet[0] & 3 == 3 and crc16(packet[1:-2]) != packet[-2:]:
        raise UsbError(f"a damaged packet: {packet.hex()}")
    return packet


@dataclass
class Damage:
    """What goes wrong on the cable, each in every so many packets of its kind (0: never), and how often it did.

    Attributes
    ----------
    out, answer : int
        A data packet of the host arrives with a wrong bit; a data packet of the device does.
    lost_out, lost_in : int
        An acknowledgement of the device, or one of the host, is lost.
    done : dict of str to int
    """

    out: int = 0
    answer: int = 0
    lost_out: int = 0
    lost_in: int = 0
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("out", "answer", "lost_out", "lost_in"), 0))
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("out", "answer", "lost_out", "lost_in"), 0))

    def strikes(self, name):
        """Whether the next packet of that kind is hit."""
        self.seen[name] += 1
        every = getattr(self, name)
        hit = every > 0 and self.seen[name] % every == 0
        self.done[name] += hit
        return hit


class UsbHost:
    """The host: its side of every transaction, with repeats as USB has them.

    Parameters
    ----------
    damage : Damage, optional
    drift : int
        Cycles that every hundredth bit is longer: 1 or -1 is as far as a host's clock may be off, 0.25 %.
    seed : int
        Of when packets begin within a bit of the device, and of how far apart the edges of the two lines are.

    Attributes
    ----------
    naks : dict of (str, int) to int
        Answers that the device was not ready, by direction and endpoint.
    bits : float
        Time on the bus so far.
    turnarounds : list of float
        Bits from the end of a packet to each answer.
    """

    def __init__(self, damage=None, drift=0, seed=0):
        self.damage = damage or Damage()
        self.drift, self.random = drift, random.Random(seed)
        self.address = 0
        self.toggles = {}
        self.naks = {("in", endpoint): 0 for endpoint in (0, 3, 4)} | {("out", endpoint): 0 for endpoint in (0, 4)}
        self.bits = 0
        self.turnarounds = []
        self.frame = 0
        self.next_frame = 12000

    def reset(self, bits=600):
        """Reset the device: SE0 for 50 us (a real host takes 10 ms), and no address, configuration or toggles."""
        yield from self._levels([SE0] * bits + [J] * 40)
        self.address, self.toggles = 0, {}

    def idle(self, bits):
        """Leave the lines alone for a time."""
        yield from self._levels([IDLE] * bits)

    def _levels(self, levels, listen=False):
        """Drive levels of a bit each."""
        cycles = [IDLE] * self.random.randrange(4)
        for place, level in enumerate(levels):
            bit = [level] * (4 + (self.drift if place % 100 == 99 else 0))
            if cycles and {cycles[-1], level} == {J, K} and self.random.random() < 0.25:
                bit[0] = self.random.choice((SE0, SE1))  # one line is a cycle later than the other
            cycles += bit
        runs = yield cycles, listen
        self.bits += (len(cycles) + sum(count for _, count in runs)) / 4
        return runs

    def _send(self, packet, listen=False, spoil=False):
        levels = encode(packet)
        if spoil:
            # A bit in the middle of the content is turned, and the levels behind it with it, up to the end.
            middle = len(levels) // 2
            levels[middle:-3] = [J + K - level for level in levels[middle:-3]]
        runs = yield from self._levels([IDLE] * 4 + levels, listen)
        if not listen:
            return None
        if len(runs) < 2:
            return None  # nothing came
        (_, before), *rest = runs
        # The host's J, a bit long, is a part of the end of its packet.
        self.turnarounds.append(before / 4 + 1)
        if not TURNAROUND[0] <= self.turnarounds[-1] <= TURNAROUND[1]:
            raise UsbError(f"answered after {self.turnarounds[-1]} bits")
        return decode(rest)

    def _frame(self):
        """A new frame every millisecond."""
        if self.bits >= self.next_frame:
            self.next_frame += 12000
            self.frame = (self.frame + 1) % 2048
            content = self.frame
            word = (content | crc(content, 11, 0x14, 5) << 11).to_bytes(2, "little")
            yield from self._send(bytes([SOF | (SOF ^ 15) << 4]) + word)

    def out(self, endpoint, content, kind=OUT):
        """One transaction to the device: True where it took ``content``, False where it was not ready."""
        toggle = self.toggles.get(("out", endpoint), 0)
        while True:
            yield from self._frame()
            yield from self._send(token(kind, self.address, endpoint))
            spoil = kind == OUT and endpoint and self.damage.strikes("out")
            answer = yield from self._send(data_packet((DATA0, DATA1)[toggle], content), True, spoil)
            if spoil:
                if answer is not None:
                    raise UsbError(f"a damaged packet was answered: {answer.hex()}")
                continue
            if answer is None:
                raise UsbError(f"no answer from endpoint {endpoint}")
            if answer == handshake(ACK):
                if kind == OUT and endpoint and self.damage.strikes("lost_out"):
                    continue  # and sent again
                self.toggles["out", endpoint] = 1 - toggle
                return True
            if answer == handshake(NAK) and kind == OUT:
                self.naks["out", endpoint] += 1
                return False
            raise UsbError(f"endpoint {endpoint} answered {answer.hex()}")

    def inward(self, endpoint):
        """One transaction from the device: its bytes, or None where it has none."""
        toggle = self.toggles.get(("in", endpoint), 0)
        while True:
            yield from self._frame()
            answer = yield from self._send(token(IN, self.address, endpoint), True)
            if answer is None:
                raise UsbError(f"no answer from endpoint {endpoint}")
            if answer == handshake(NAK):
                self.naks["in", endpoint] += 1
                return None
            if answer[0] & 15 not in (DATA0, DATA1):
                raise UsbError(f"endpoint {endpoint} answered {answer.hex()}")
            if endpoint and self.damage.strikes("answer"):
                yield from self.idle(20)
                continue  # a host that finds a wrong CRC says nothing, and asks again
            if not (endpoint and self.damage.strikes("lost_in")):
                yield from self._send(handshake(ACK))
            else:
                # It comes again, and is dropped for its toggle.
                self.toggles["in", endpoint] = 1 - toggle
                yield from self.idle(20)
                again = yield from self.inward_dropped(endpoint, answer)
                assert again
                return answer[1:-2]
            if answer[0] & 15 != (DATA0, DATA1)[toggle]:
                raise UsbError(f"endpoint {endpoint} sent a packet twice")
            self.toggles["in", endpoint] = 1 - toggle
            return answer[1:-2]

    def inward_dropped(self, endpoint, before):
        """The repeat of a packet whose acknowledgement was lost."""
        answer = yield from self._send(token(IN, self.address, endpoint), True)
        if answer != before:
            raise UsbError(f"after a lost acknowledgement endpoint {endpoint} sent {answer and answer.hex()}")
        yield from self._send(handshake(ACK))
        return True

    def elsewhere(self, kind, content=b"", spoilt=None, toggle=0):
        """A transaction with another device behind the same hub, of which this one hears what the host says.

        Its token may be ``"lost"`` or ``"changed"``.
        """
        if spoilt != "lost":
            yield from self._send(token(kind, self.address ^ 0x40, 0), spoil=spoilt == "changed")
        else:
            yield from self.idle(40)
        if kind == IN:
            yield from self.idle(100)
            yield from self._send(handshake(ACK))
        elif (answer := (yield from self._send(data_packet((DATA0, DATA1)[toggle], content), True))) is not None:
            raise UsbError(f"another device was asked, and this one answered {answer.hex()}")

    def unanswered(self, endpoint):
        """A token to the device whose packet is lost: the host waits for an answer in vain."""
        yield from self._send(token(OUT, self.address, endpoint))
        yield from self.idle(60)

    def out_in_part(self, endpoint, content, bits):
        """A packet to the device, of which so many bits are sent."""
        yield from self._send(token(OUT, self.address, endpoint))
        yield from self._levels(
            encode(data_packet((DATA0, DATA1)[self.toggles.get(("out", endpoint), 0)], content))[:bits]
        )

    def unheard(self, endpoint):
        """What the device sends does not come to the host, which waits for it no longer."""
        yield from self._send(token(IN, self.address, endpoint), True)
        yield from self.idle(20)

    def begin(self, kind, request, value, index, length=0, spoilt=None):
        """The first stage of a control transfer, whose bytes may be ``"lost"`` or ``"changed"``."""
        setup = bytes([kind, request]) + b"".join(number.to_bytes(2, "little") for number in (value, index, length))
        if spoilt is None:
            self.toggles["out", 0] = 0
            yield from self.out(0, setup, SETUP)
            self.toggles["in", 0] = self.toggles["out", 0] = 1
            return
        yield from self._send(token(SETUP, self.address, 0))
        if spoilt == "changed":
            yield from self._send(data_packet(DATA0, setup), spoil=True)
        yield from self.idle(20)

    def control(self, kind, request, value, index, content=b"", length=0):
        """A control transfer: what came, where ``length`` bytes are asked for; None where it was refused."""
        yield from self.begin(kind, request, value, index, length or len(content))
        received = b""
        try:
            if kind & 0x80:
                while True:
                    part = yield from self.inward(0)
                    if part is None:
                        continue
                    received += part
                    if len(part) < 64 or len(received) == length:
                        break
                self.toggles["out", 0] = 1
                while not (yield from self.out(0, b"")):
                    pass
            else:
                for at in range(0, len(content), 64):
                    while not (yield from self.out(0, content[at : at + 64])):
                        pass
                self.toggles["in", 0] = 1
                while (yield from self.inward(0)) is None:
                    pass
        except UsbError as error:
            if f"endpoint 0 answered {handshake(STALL).hex()}" in str(error):
                return None
            raise
        return received

    def enumerate(self, address=5):
        """What a host does with a new device; returns its descriptors: device, configuration, and texts by number."""
        yield from self.reset()
        yield from self.control(0x80, 6, 0x0100, 0, length=64)
        yield from self.reset()
        yield from self.control(0x00, 5, address, 0)
        self.address = address
        device = yield from self.control(0x80, 6, 0x0100, 0, length=18)
        head = yield from self.control(0x80, 6, 0x0200, 0, length=9)
        configuration = yield from self.control(0x80, 6, 0x0200, 0, length=int.from_bytes(head[2:4], "little"))
        texts = {}
        for number in {*device[14:17]} - {0}:
            text = yield from self.control(0x80, 6, 0x0300 | number, 0x0409, length=255)
            texts[number] = text[2:].decode("utf-16-le")
        yield from self.control(0x00, 9, configuration[5], 0)
        self.toggles = {}
        return device, configuration, texts

    def open(self, baud=3_000_000):
        """What opening a serial port does: its rate, DTR and RTS; True where the device took both."""
        coding = baud.to_bytes(4, "little") + bytes([0, 0, 8])
        taken = yield from self.control(0x21, 0x20, 0, 0, coding)
        state = yield from self.control(0x21, 0x22, 3, 0)
        return taken is not None and state is not None
