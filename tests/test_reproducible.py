"""The same input gives the same result on every machine, however busy it is."""

import hashlib
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from egret.host.board import Board
from egret.host.demo import NETWORK
from egret.host.measure import measure, simulation_images
from egret.host.session import generate_text
from egret.host.transport import open_virtual
from egret.model.checkpoint import load_checkpoint
from egret.model.integer_file import load_integer
from egret.model.quantise import quantise
from egret.model.readout import ReadOut, Sampler
from tests.support.networks import few_values, random_network

NETWORKS = Path(__file__).parent.parent / "model" / "networks"


@contextmanager
def busy_machine():
    """Two processes that do nothing, as fast as they can."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.fixture(scope="module")
def demo():
    return quantise(load_checkpoint(NETWORK))


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def test_the_demos_image(demo):
    (image,) = simulation_images(demo)
    assert digest(image.to_bytes()) == "704158ae2fe6de71"


@pytest.mark.slow
@pytest.mark.parametrize("name, expected", [("85", "3e206da8e1380c08"), ("95", "448ad3a5306ca59f")])
def test_the_large_images(name, expected):
    network = load_integer(NETWORKS / f"ptb-egru-{name}.egret")
    (image,) = simulation_images(network, store="sdram")
    assert digest(image.to_bytes()) == expected


def test_the_demos_text_and_cycles(demo):
    (image,) = simulation_images(demo)
    pieces = []
    with Board(open_virtual(image.configuration)) as board:
        board.load(image)
        session = generate_text(board, image, demo, [0], 200, Sampler(ReadOut(demo), seed=1), pieces.append)
        counters = board.counters()
    assert session.matching == session.steps == 200
    assert digest("".join(pieces).encode()) == "f53e09c698b7c574"
    assert counters["cycles"] == 408326
    assert board.virtual.cycles == 690869


def test_cycles_of_a_busy_machine():
    """An SDRAM is refreshed as its clock goes on, so every cycle shows how long a board waited for its host."""
    network = few_values(random_network(3, hidden=(40, 30), embedding=20, vocabulary=50))
    (image,) = simulation_images(network, store="sdram", resident_bytes=0, folded_tokens=10)
    ids = np.random.default_rng(1).integers(0, 50, 201)
    results = []

    def slow(done, total):
        if done % 50 == 0:
            time.sleep(0.05)

    for busy in (False, True):
        with Board(open_virtual(image.configuration)) as board:
            if busy:
                with busy_machine():
                    measurement = measure(board, image, network, ids, progress=slow)
            else:
                measurement = measure(board, image, network, ids)
            assert measurement.mismatches == 0
            streamed = [events.tobytes() for events in board.step_many(map(int, ids[:50]))]
            counters = board.counters()
        results.append((measurement.counters, counters, streamed, board.virtual.cycles))
    assert results[0] == results[1]
    assert results[0][0]["cycles"] > 100_000
