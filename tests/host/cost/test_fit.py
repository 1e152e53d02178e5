"""What a shape alone says: against networks that are made, compiled and run."""

import dataclasses

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.boards.estimate import Estimate
from egret.host.cost.fit import Shape, fit
from egret.host.cost.model import cycles
from egret.host.cost.work import Work
from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.errors import InputError
from tests.support.cost import counted, small


def made(**options):
    """A network and its shape, with the activity that it has over a text."""
    network = small(**{"vocabulary": 40, "threshold": 9000} | options)
    sources, ids = counted(network, steps=20)
    layers = len(network.hidden)
    shape = Shape(network.hidden, network.embedding.shape[1], 40, (0.8,) * layers, tuple(sources.activity))
    return shape, network, sources, ids


@pytest.mark.parametrize("name", ["ulx3s-85f", "ulx3s-85f-sdram", "icebreaker"])
def test_the_core_is_the_one_that_is_compiled(name):
    """But for the words of the weights, which the model knows within some per cent."""
    board = board_named(name)
    shape, network, *_ = made(gate_index_bits=board.quantised.get("gate_index_bits", 10))
    bits = board.quantised.get("weight_bits", 8)
    compiled = configuration_for(network, **TARGETS[board.target], weight_bits=bits)
    own = shape.configuration(board, "readout" in TARGETS[board.target], bits)
    differ = ("weight_words", "wide_words", "resident_words", "row_bits", "row_shift")
    same = {name: getattr(own, name) for name in differ}
    assert dataclasses.replace(compiled, **same) == own
    for one in ("weight_memory_bytes", "resident_words"):
        assert getattr(own, one) == pytest.approx(getattr(compiled, one), rel=0.04)


def test_a_weight_memory_grows_beyond_the_boards():
    board = board_named("ulx3s-85f")
    shape = Shape((256, 256), 256, 60, (0.5, 0.5), (0.1, 0.1))
    assert shape.configuration(board, False, 8).weight_memory_bytes > TARGETS[board.target]["weight_bytes"]


@pytest.mark.parametrize("options", [{"lanes": 4}, {"store": "sdram", "lanes": 8, "memory_ratio": 2}])
def test_cycles_are_those_of_a_network_with_random_weights(options):
    shape, network, sources, ids = made()
    c = configuration_for(network, weight_bits=4, folded_tokens=0, resident_bytes=0, **options)
    work = Work.of(network, sources, ids, lanes=c.lanes, store=c.store, width=c.beat_bits)
    # Of its embedding a tenth is zero.
    assert cycles(shape.work(c)) == pytest.approx(cycles(work), rel=0.08)


def test_rows_and_resident_columns_save_cycles():
    """Frequent words have rows, and what is taken most often is resident: the inputs, where not every word has one."""
    shape, network, *_ = made()
    c = configuration_for(network, store="sdram", folded_tokens=0, resident_bytes=0)
    bare = shape.work(c)
    folded = shape.work(dataclasses.replace(c, folded_tokens=10))
    assert folded.folded_share == pytest.approx(sum(1 / np.arange(1, 11)) / sum(1 / np.arange(1, 41)))
    assert cycles(shape.work(dataclasses.replace(c, folded_tokens=40))) < cycles(folded) < cycles(bare)
    few = shape.work(dataclasses.replace(c, resident_words=100))
    assert 0 < few.resident[0][0] < 1 and not any(few.resident[1]) and cycles(few) < cycles(bare)
    every = shape.work(dataclasses.replace(c, resident_words=1 << 16))
    assert {share for layer in every.resident for share in layer} == {1.0}


@pytest.mark.parametrize(
    ("shape", "name", "measured"),
    [
        (Shape((256, 128), 128, 65, (0.887, 0.887), (0.152, 0.143)), "ulx3s-85f", 2379),
        (Shape((1350, 1350, 750), 750, 10_000, (0.95,) * 3, (0.063, 0.109, 0.437)), "ulx3s-85f-sdram", 36147),
    ],
    ids=["demo", "ptb-egru-95"],
)
def test_trained_networks_take_a_fifth_less(shape, name, measured):
    """As docs/boards.md says; the cycles are those that `egret bench` counted (docs/results.md)."""
    board = board_named(name)
    found = cycles(shape.work(shape.configuration(board, name == "ulx3s-85f", board.quantised.get("weight_bits", 8))))
    assert measured / found == pytest.approx(0.8, abs=0.03)


@pytest.fixture
def estimated(monkeypatch):
    """Stands in for the design: what each call needs, and the configurations that were asked for."""
    needs, asked = [], []
    monkeypatch.setattr("egret.boards.design.generate", lambda board, c: asked.append(c) or c)
    monkeypatch.setattr("egret.boards.estimate.estimate", lambda design: needs.pop(0))
    return needs, asked


def need(blocks, luts=9000):
    return Estimate({"luts": luts, "block_rams": blocks, "multipliers": 9}, 100.0, blocks)


def test_what_lacks(estimated):
    """Without the read-out it may fit; look-up tables are known within a fifth."""
    needs, asked = estimated
    board, shape = board_named("ulx3s-85f"), Shape((64, 32), 32, 50, (0.9, 0.9), (0.1, 0.1))
    needs[:] = [need(100)]
    found = fit(shape, board, "b")
    assert found.fits and found.options == () and asked[-1].readout.head == 50
    assert found.cycles == pytest.approx(cycles(shape.work(asked[-1]))) and found.speed.generated() > 1000
    needs[:] = [need(209), need(200)]
    found = fit(shape, board, "b")
    assert found.fits and found.options == ("--no-readout",) and asked[-1].readout is None
    needs[:] = [need(209), need(210, luts=120_000)]
    found = fit(shape, board, "b")
    assert not found.fits and found.lacks == ("210 block rams of 208", "100,000 luts of 83,640")
    assert found.cycles is None and found.speed is None
    needs[:] = [need(100)]
    found = fit(dataclasses.replace(shape, hidden=(200, 200), sparsity=(0.5, 0.5)), board, "b")
    assert found.fits and found.options == ("--weight-bytes 0",)


def test_no_design_is_made_of_what_its_memories_say(estimated):
    shape = Shape((1350, 750), 750, 10_000, (0.9, 0.9), (0.1, 0.1))
    for name in ("ulx3s-85f", "icebreaker"):
        found = fit(shape, board_named(name), name)
        assert not found.fits and found.lacks[0].count(" bytes of memories; it has ") == 1
    found = fit(dataclasses.replace(shape, vocabulary=60_000), board_named("ulx3s-85f-sdram"), "s")
    assert not found.fits and found.lacks[0].startswith("weights, embedding and ") and estimated[1] == []
    found = fit(dataclasses.replace(shape, vocabulary=1 << 21), board_named("ulx3s-85f"), "s")
    assert found.lacks == ("vocabulary must be an integer from 2 to 1048576, not 2097152",)


def test_a_design_that_cannot_be_made_here(monkeypatch):
    def generate(*_):
        raise InputError("needs luna")

    monkeypatch.setattr("egret.boards.design.generate", generate)
    found = fit(Shape((64,), 64, 50, (0.9,), (0.1,)), board_named("ulx3s-85f-sdram"), "s")
    assert found.fits is None and found.missing == "needs luna"


@pytest.mark.parametrize(
    ("sparsity", "activity", "message"),
    [
        ((1,), (0.1,), "sparsity must be from 0 to 1, a share of zeros, below 1, not 1"),
        ((0.9,), (1.5,), "activity must be from 0 to 1, a share of neurons with an event, not 1.5"),
        ((0.9, 0.8), (0.1,), "sparsity must be one number, or one for each of 1 layers"),
    ],
)
def test_shares_that_are_none(sparsity, activity, message):
    with pytest.raises(InputError, match=message):
        Shape((64,), 64, 50, sparsity, activity)
