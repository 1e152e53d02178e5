"""The client of the host and a board's core, with simulated USB between them."""

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.host.board import Board
from egret.host.measure import measure
from egret.host.transport import Transport
from egret.model.compiler.compile import compile_image, configuration_for
from egret.rtl.link.accelerator import Accelerator
from egret.rtl.protocol import USB_BYTES_PER_SECOND
from tests.support.networks import random_network
from tests.support.usb_device import Device, Port
from tests.support.usb_host import Damage, UsbHost


@pytest.mark.slow
def test_a_core_behind_usb(tmp_path):
    """Identified, loaded and stepped as the integer network, while packets are damaged; how fast an image is loaded."""
    board = board_named("orangecrab-85f")
    network = random_network(3, vocabulary=30, embedding=20, hidden=(50, 40), density=0.4)
    image = compile_image(network, configuration_for(network, lanes=2, weight_bits=8))
    core = Accelerator(image.configuration, window=board.window, receive_bytes=board.receive_bytes)
    with Device(core, tmp_path, hertz=board.hertz) as device:
        host = UsbHost(drift=-1, seed=5)
        device.run(host.enumerate())
        assert device.run(host.open())
        with Board(Transport("USB", Port(device, host))) as client:
            begin, sent = host.bits, client.bytes_sent
            client.load(image)
            rate = (client.bytes_sent - sent) / (host.bits - begin) * 12e6
            print(f"{client.bytes_sent - sent:,} bytes loaded at {rate:,.0f} a second")
            assert 0.7 * USB_BYTES_PER_SECOND < rate < USB_BYTES_PER_SECOND
            host.damage = Damage(out=4, lost_out=5, answer=3, lost_in=4)
            measurement = measure(client, image, network, np.random.default_rng(1).integers(0, 30, 41))
            assert (measurement.mismatches, client.repeats, client.damaged) == (0, 0, 0)
            assert min(host.damage.done.values()) >= 3
            assert client.counters()["bad_frames"] == 0
