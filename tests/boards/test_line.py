"""The client of the host and a board's core, with simulated USB between them."""

import dataclasses

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.host.board import Board, bytes_to_load
from egret.host.measure import measure
from egret.host.speed import USB_SECONDS
from egret.host.transport import Transport
from egret.model.compiler.compile import compile_image, configuration_for
from egret.rtl.link.accelerator import Accelerator
from egret.rtl.outer import outer_timing
from egret.rtl.protocol import MAX_PAYLOAD, USB_BYTES_PER_SECOND, USB_LOADING_BYTES_PER_SECOND
from egret.sim.sdram import with_memory
from tests.support.networks import few_values, random_network
from tests.support.usb_device import Device, Port
from tests.support.usb_host import Damage, UsbHost

NETWORK = few_values(random_network(3, vocabulary=60, embedding=20, hidden=(50, 40), density=0.4))
IMAGES = {
    "orangecrab-85f": compile_image(NETWORK, configuration_for(NETWORK, lanes=2, weight_bits=8)),
    "ulx3s-85f-sdram": compile_image(NETWORK, configuration_for(NETWORK, store="sdram", weight_bits=4)),
}


def device_of(board, configuration, directory):
    """The core of a configuration behind the link of a board and its USB, compiled."""
    core = Accelerator(
        configuration, window=board.window, receive_bytes=board.receive_bytes, max_payload=board.max_payload
    )
    if configuration.store == "sdram":
        core = with_memory(core, outer_timing(configuration.memory_ratio), configuration.memory_ratio)
    return Device(core, directory, hertz=board.hertz)


def opened(device, seed):
    """A host that has enumerated a device and opened its port."""
    host = UsbHost(drift=-1, seed=seed)
    device.run(host.enumerate())
    assert device.run(host.open())
    return host


def loading_rate(client, host, image, limit):
    """Bytes a second of an image's LOADs, on the line, from the answer to the first one to that to the last one."""
    answers = []
    client.load(image, progress=lambda loaded, total: answers.append((host.bits, loaded)))
    (begin, first), (end, last) = answers[0], answers[-1]
    rate = bytes_to_load(image, limit) * (1 - first / last) / (end - begin) * 12e6
    print(f"{len(answers)} LOADs of up to {limit:,} bytes: {rate:,.0f} bytes a second on the line")
    return rate


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_a_core_behind_usb(name, tmp_path):
    """Identified, loaded and stepped as the integer network, while packets are damaged; how fast an image is loaded.

    A host that asks for answers behind every packet loads it as fast as one that does not wait for them. The memory
    keeps up: no packet is refused.
    """
    board, image = board_named(name).with_line("usb"), IMAGES[name]
    with device_of(board, image.configuration, tmp_path) as device:
        host = opened(device, 5)
        with Board(Transport("USB", Port(device, host))) as client:
            assert (client.identity.max_payload, client.identity.receive_bytes) == (1980, 4096)
            rate = loading_rate(client, host, image, board.max_payload)
            assert rate == pytest.approx(USB_LOADING_BYTES_PER_SECOND, rel=0.03) and rate < USB_BYTES_PER_SECOND
            assert host.naks["out", 4] == 0
            host.damage = Damage(out=4, lost_out=5, answer=3, lost_in=4)
            measurement = measure(client, image, NETWORK, np.random.default_rng(1).integers(0, 60, 41))
            assert (measurement.mismatches, client.repeats, client.damaged) == (0, 0, 0)
            assert min(host.damage.done.values()) >= 3
            assert client.counters()["bad_frames"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("long_loads", [True, False])
def test_loading_from_a_late_host(long_loads, tmp_path):
    """A host that has each answer a millisecond late loads as fast; not so with the short LOADs of other lines."""
    board, image = board_named("ulx3s-85f-sdram").with_line("usb"), IMAGES["ulx3s-85f-sdram"]
    if not long_loads:
        board = dataclasses.replace(board, receive_bytes=1024, max_payload=MAX_PAYLOAD)
    with device_of(board, image.configuration, tmp_path) as device:
        host = opened(device, 6)
        with Board(Transport("USB", Port(device, host, delay=USB_SECONDS))) as client:
            rate = loading_rate(client, host, image, board.max_payload)
            if long_loads:
                assert rate == pytest.approx(USB_LOADING_BYTES_PER_SECOND, rel=0.05)
            else:
                assert rate < 0.7 * USB_LOADING_BYTES_PER_SECOND
