"""`UsbSerial` at its two lines, with a host that keeps to USB 2.0 and a cable that does not always."""

import struct

import pytest

from egret.rtl import protocol
from egret.rtl.usb import DATA_ENDPOINT, PACKET_BYTES, STATUS_ENDPOINT
from tests.support.usb_device import Device, simulate
from tests.support.usb_host import IN, OUT, SETUP, Damage, UsbError, UsbHost, crc, crc16, decode, encode, token

GET_STATUS, CLEAR_FEATURE, SET_ADDRESS, GET_DESCRIPTOR = 0, 1, 5, 6


def pass_bytes(host, data, most=PACKET_BYTES, empty=40):
    """Send ``data``, in packets of up to ``most`` bytes, and read until nothing has come ``empty`` times."""
    received, sent, silent = b"", 0, 0
    while sent < len(data) or silent < empty:
        if sent < len(data):
            packet = data[sent : sent + host.random.randint(1, most)]
            sent += len(packet) if (yield from host.out(DATA_ENDPOINT, packet)) else 0
        part = yield from host.inward(DATA_ENDPOINT)
        silent = 0 if part else silent + 1
        received += part or b""
    return received


def runs_of(levels):
    """Levels of a bit each as runs of (level, cycles)."""
    runs = []
    for level in levels:
        runs = [*runs[:-1], (level, runs[-1][1] + 4)] if runs and runs[-1][0] == level else [*runs, (level, 4)]
    return runs


def test_packets_of_the_host():
    """The checks are those of the USB forum's paper on CRCs, ones are followed by a stuffed zero, all is read back."""
    assert crc(0x15 | 0xE << 7, 11, 0x14, 5) == int("10111"[::-1], 2)  # in the order in which they are sent
    assert int.from_bytes(crc16(bytes([0, 1, 2, 3])), "little") == int("1111011101011110"[::-1], 2)
    assert len(encode(b"\xc3")) == 8 + 8 + 3 and len(encode(b"\xc3\xff\xff")) == 8 + 24 + 3 + 3
    for packet in (
        b"\xd2",
        token(0x9, 5, 3),
        b"\xc3" + bytes(8) + crc16(bytes(8)),
        b"\x4b" + b"\xff" * 64 + crc16(b"\xff" * 64),
    ):
        assert decode(runs_of(encode(packet))) == packet
    for wrong in (b"\xd3", b"\xc3\0\0\0"):
        with pytest.raises(UsbError, match="^a (packet of unknown kind|damaged packet): "):
            decode(runs_of(encode(wrong)))


def test_bytes_both_ways():
    """A packet that is damaged is sent again, one whose acknowledgement is lost as well; each byte passes once.

    The device has its first address, 0: enumeration is with the compiled device.
    """
    host, data = UsbHost(Damage(out=2, lost_out=2, answer=2, lost_in=1), seed=1), b"\xff\x7e\xff\x00"
    assert simulate(pass_bytes(host, data, most=2, empty=1)) == data
    assert min(host.damage.done.values()) >= 1 and host.naks["in", DATA_ENDPOINT] > 0


def test_a_request_in_the_middle_of_another():
    """A host may begin a request at any time, and the device answers the last one (USB 2.0, 8.5.3)."""
    host = UsbHost(seed=1)

    def transfers():
        # One packet was read, and the next stage is not asked for.
        yield from host.begin(0x80, GET_DESCRIPTOR, 0x0100, 0, length=18)
        yield from host.inward(0)
        assert (yield from host.control(0, SET_ADDRESS, 5, 0)) == b""
        host.address = 5
        yield from host.begin(0, SET_ADDRESS, 9, 0)
        for spoilt in (None, "changed", "lost"):
            yield from host.begin(0x80, GET_STATUS, 0, 0, length=2, spoilt=spoilt)
            assert len((yield from host.control(0x80, GET_DESCRIPTOR, 0x0100, 0, length=18))) == 18
        # A request that is refused leaves nothing behind.
        assert (yield from host.control(0, CLEAR_FEATURE, 1, 0)) is None
        assert (yield from host.control(0x80, GET_STATUS, 0, 0, length=2)) == bytes(2)

    simulate(transfers())


def test_a_reset_in_the_middle_of_a_request():
    host = UsbHost(seed=2)

    def transfers():
        yield from host.begin(0, SET_ADDRESS, 9, 0)
        yield from host.reset()
        assert len((yield from host.control(0x80, GET_DESCRIPTOR, 0x0100, 0, length=18))) == 18
        yield from host.begin(0x80, GET_DESCRIPTOR, 0x0200, 0, length=75)
        yield from host.inward(0)
        yield from host.reset()
        # Nothing is left to be asked for.
        with pytest.raises(UsbError, match="no answer from endpoint 0"):
            yield from host.inward(0)
        return (yield from host.control(0x80, GET_DESCRIPTOR, 0x0100, 0, length=18))

    assert len(simulate(transfers())) == 18


def test_another_device_behind_the_same_hub():
    """What the host says to that is not taken for a part of a transfer with this one."""
    host = UsbHost(seed=3)

    def transfers():
        yield from host.begin(0, SET_ADDRESS, 5, 0)
        yield from host.elsewhere(IN)
        assert (yield from host.inward(0)) == b""
        host.address = 5
        yield from host.begin(0, SET_ADDRESS, 6, 0, spoilt="lost")
        yield from host.elsewhere(SETUP, bytes([0, SET_ADDRESS, 7, 0, 0, 0, 0, 0]))
        assert (yield from host.control(0x80, GET_STATUS, 0, 0, length=2)) == bytes(2)
        yield from host.out(DATA_ENDPOINT, b"twice")
        yield from host.idle(400)
        yield from host.unheard(DATA_ENDPOINT)
        yield from host.elsewhere(IN)
        return (yield from host.inward(DATA_ENDPOINT))

    assert simulate(transfers()) == b"twice"


@pytest.mark.parametrize("spoilt", ["changed", "lost"])
def test_a_token_that_is_not_heard(spoilt):
    """What follows it is not taken for a part of the transfer before: bytes, a request, an acknowledgement."""
    host = UsbHost(seed=6)

    def transfers():
        yield from host.out(DATA_ENDPOINT, b"once")
        yield from host.elsewhere(OUT, b"other", spoilt, toggle=1)
        yield from host.unanswered(DATA_ENDPOINT)
        yield from host.elsewhere(OUT, b"other", spoilt, toggle=1)
        for lost in ("changed", "lost"):
            yield from host.begin(0, SET_ADDRESS, 6, 0, spoilt=lost)
            yield from host.elsewhere(SETUP, bytes([0, SET_ADDRESS, 7, 0, 0, 0, 0, 0]), spoilt)
        yield from host.begin(0, SET_ADDRESS, 8, 0)
        yield from host.unheard(0)
        yield from host.elsewhere(IN, spoilt=spoilt)
        # The address is the one before, as nobody acknowledged that it changes.
        yield from host.unheard(DATA_ENDPOINT)
        yield from host.elsewhere(IN, spoilt=spoilt)
        return (yield from pass_bytes(host, b" more", empty=1))

    assert simulate(transfers()) == b"once more"


def test_a_host_that_clears_a_halt():
    """Packets are counted anew in that direction alone; one that waits, or was not acknowledged, is kept."""
    host = UsbHost(seed=4)

    def clear(direction):
        assert (yield from host.control(2, CLEAR_FEATURE, 0, (0x80 if direction == "in" else 0) | DATA_ENDPOINT)) == b""
        host.toggles[direction, DATA_ENDPOINT] = 0

    def transfers():
        received = []
        for place, directions in enumerate(("out", "in", "in")):
            yield from host.out(DATA_ENDPOINT, bytes([place]))
            yield from host.idle(200)
            if place == 2:
                yield from host.unheard(DATA_ENDPOINT)
            yield from clear(directions)
            received.append((yield from host.inward(DATA_ENDPOINT)))
        yield from clear("in")
        return [*received, (yield from pass_bytes(host, b"end", empty=1))]

    assert simulate(transfers()) == [b"\0", b"\1", b"\2", b"end"]


def test_a_reset_in_the_middle_of_a_packet():
    """The part of it that came is dropped, and so is the packet before, which the host did not acknowledge."""
    host, data = UsbHost(seed=5), b"anew"

    def transfers():
        yield from host.out(DATA_ENDPOINT, b"before")
        yield from host.idle(200)
        yield from host.unheard(DATA_ENDPOINT)
        yield from host.out_in_part(DATA_ENDPOINT, bytes(PACKET_BYTES), 100)
        for _ in range(2):
            yield from host.reset()
        return (yield from pass_bytes(host, data, empty=1))

    assert simulate(transfers()) == data


@pytest.mark.slow
def test_a_serial_port(tmp_path):
    """All that a host does with one, on a design that returns what it gets."""
    with Device(None, tmp_path) as device:
        host = UsbHost(drift=1, seed=2)
        about, configuration, texts = device.run(host.enumerate())
        assert about[8:12] == struct.pack("<HH", protocol.USB_VENDOR_ID, protocol.USB_PRODUCT_ID)
        assert texts == {1: protocol.USB_PRODUCT, 2: "Egret: test"}
        interfaces, endpoints = described(configuration)
        assert interfaces == [(2, 2, 0), (10, 0, 0)]
        assert endpoints == {
            0x80 | STATUS_ENDPOINT: ("interrupt", 8),
            0x80 | DATA_ENDPOINT: ("bulk", PACKET_BYTES),
            DATA_ENDPOINT: ("bulk", PACKET_BYTES),
        }
        assert device.run(host.open())
        assert device.run(host.control(0xA1, 0x21, 0, 0, length=7)) == struct.pack("<IBBB", 115200, 0, 0, 8)
        # What is of another class is refused, and the next request is not.
        assert device.run(host.control(0x40, 1, 0, 0)) is None
        assert device.run(host.control(0x80, 8, 0, 0, length=1)) == b"\x01"
        assert device.run(host.inward(STATUS_ENDPOINT)) is None

        # Nobody reads: the device takes what it has room for, and refuses the rest until somebody does.
        data, taken = host.random.randbytes(1024), 0
        while device.run(host.out(DATA_ENDPOINT, data[taken : taken + 50])):
            taken += 50
        assert 128 < taken < 400
        assert not any(device.run(host.out(DATA_ENDPOINT, data[taken : taken + 50])) for _ in range(5))
        assert device.run(pass_bytes(host, b"")) == data[:taken]

        # A read ends with a packet that is not full.
        device.run(host.out(DATA_ENDPOINT, data[:PACKET_BYTES]))
        device.run(host.idle(1000))
        assert [device.run(host.inward(DATA_ENDPOINT)) for _ in range(3)] == [data[:PACKET_BYTES], b"", None]

        # A host that begins anew counts its packets anew, with a clock that is off to the other side.
        for drift in (1, -1):
            host.drift = drift
            host.damage = Damage(out=5, lost_out=7, answer=6, lost_in=3)
            data = host.random.randbytes(3001)
            assert device.run(pass_bytes(host, data)) == data
            assert min(host.damage.done.values()) >= 10
            host.damage = Damage()
            device.run(host.out(DATA_ENDPOINT, b"lost"))
            device.run(host.enumerate(address=77))
            assert device.run(host.inward(DATA_ENDPOINT)) is None
        assert 2 < min(host.turnarounds) and max(host.turnarounds) < 15.5


def described(configuration):
    """Class, subclass and protocol of each interface, and kind and longest packet of each endpoint by its address."""
    assert int.from_bytes(configuration[2:4], "little") == len(configuration)
    interfaces, endpoints, at = [], {}, 0
    while at < len(configuration):
        part = configuration[at : at + configuration[at]]
        if part[1] == 4:
            interfaces.append(tuple(part[5:8]))
        elif part[1] == 5:
            endpoints[part[2]] = {2: "bulk", 3: "interrupt"}[part[3]], int.from_bytes(part[4:6], "little")
        at += part[0]
    return interfaces, endpoints
