"""Opening ports."""

import os

import pytest

from egret.host import transport
from egret.host.transport import Transport, open_program, open_serial, usb_boards
from egret.model.errors import InputError
from egret.rtl import protocol
from egret.sim import virtual


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_port_that_is_not_there():
    with pytest.raises(InputError) as caught:
        open_serial("/dev/ttyNOWHERE")
    message = str(caught.value)
    assert message.startswith("serial port /dev/ttyNOWHERE: cannot be opened: ")
    assert "; serial ports found: " in message and "\n" not in message


def test_boards_that_are_usb_devices(monkeypatch):
    """They are told from other things with the same numbers by their name, where the system tells it."""
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    def port(device, vid=None, pid=None, product=None):
        entry = ListPortInfo(device, skip_link_detection=True)
        entry.vid, entry.pid, entry.product = vid, pid, product
        return entry

    numbers = protocol.USB_VENDOR_ID, protocol.USB_PRODUCT_ID
    ports = [
        port("/dev/ttyS0"),
        port("/dev/ttyACM1", *numbers, f"{protocol.USB_PRODUCT}: ULX3S-85F"),
        port("/dev/ttyACM0", *numbers, "Something"),
        port("COM3", *numbers),
        port("/dev/ttyUSB0", 0x0403, 0x6015, protocol.USB_PRODUCT),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert usb_boards() == {"/dev/ttyACM1": "Egret: ULX3S-85F", "COM3": "Egret"}
    with pytest.raises(
        InputError,
        match=r"; serial ports found: /dev/ttyACM0, /dev/ttyACM1 \(Egret: ULX3S-85F\), /dev/ttyS0, /dev/ttyUSB0$",
    ):
        ports.pop(3)
        open_serial("/dev/ttyNOWHERE")


def test_a_rate_that_is_none(terminal):
    with pytest.raises(InputError, match="cannot be opened"):
        open_serial(terminal, baud_rate=-5)


def test_a_port_is_for_one_client(terminal):
    with open_serial(terminal), pytest.raises(InputError, match="cannot be opened: .*exclusive"):
        open_serial(terminal)


def test_urls():
    with open_serial("loop://") as opened:
        opened.serial.write(b"abc")
        assert opened.serial.read(3) == b"abc"
    with pytest.raises(InputError, match="serial port nonsense://x: cannot be opened"):
        open_serial("nonsense://x")


def test_closing_ends_the_board_even_if_the_port_fails():
    class Broken:
        def close(self):
            raise OSError("gone")

    class Board:
        closed = False

        def close(self):
            self.closed = True

    board = Board()
    with pytest.raises(OSError, match="gone"):
        Transport("x", Broken(), board=board).close()
    assert board.closed


def test_a_board_whose_port_cannot_be_opened_is_ended(monkeypatch):
    boards = []

    class Recorded(virtual.VirtualBoard):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            boards.append(self)

    def fail(*arguments, **options):
        raise InputError("no such port")

    monkeypatch.setattr(virtual, "VirtualBoard", Recorded)
    monkeypatch.setattr(transport, "open_serial", fail)
    with pytest.raises(InputError, match="no such port"):
        open_program(virtual.stand_in_build().program(), stepped=False)
    assert [board.cycles for board in boards] == [0]  # known once it is closed
