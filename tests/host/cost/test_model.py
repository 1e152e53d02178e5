"""The model's arithmetic, by hand and against the compiler."""

import dataclasses
import json

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.host.cost.model import FITTED, READING, board_speed, cycles, depth_of, link_bytes, packed, traffic, words_of
from egret.host.cost.work import ReadoutWork, Work
from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import ReadoutShape
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.pack import matrices, pack_matrix
from egret.model.compiler.readout import readout_bytes
from egret.model.counts import ReadoutCounts
from tests.support.cost import EXACT, columns, counted, evaluated, small, work
from tests.support.networks import random_groups


@pytest.mark.parametrize("weights, lanes, words", [(0, 4, 0), (1, 4, 1), (300, 4, 75), (299, 4, 75), (300, 1, 300)])
def test_words_of_full_and_empty_columns(weights, lanes, words):
    """Without zeros to bridge, and with every bank as full as any other."""
    depth = depth_of(100, lanes, "x")[0]
    assert words_of(columns(300, weights, 1, 1), lanes, depth, 8) == pytest.approx(words, rel=0.01)


@pytest.mark.parametrize(
    "density, lanes, store",
    [(0.05, 2, "sdram"), (0.2, 2, "sdram"), (0.05, 8, "bram"), (0.3, 8, "bram"), (0.2, 32, "bram")],
)
def test_words_are_those_that_the_compiler_makes(density, lanes, store):
    network = small(hidden=(256,), embedding=128, density=density)
    c = configuration_for(network, lanes=lanes, store=store, folded_tokens=0, resident_bytes=0)
    sources, ids = counted(network)
    own = Work.of(network, sources, ids, lanes=lanes, store=store)
    for matrix, part, (words, bits) in zip(matrices(network, c), own.matrices[0], packed(own)[0], strict=True):
        assert part.number @ words == pytest.approx(len(pack_matrix(matrix, bits, lanes)[0]), rel=0.05)
    # A matrix near the limit between two widths of its runs may get the other one: a bit of eight.
    assert traffic(own)["weights"] == pytest.approx(c.weight_memory_bytes, rel=0.12)


def test_uneven_gates_bridge_less():
    """The zeros of a sparse gate beside a dense one are bridged in longer steps."""
    even = columns(4050, 230, 1, 1)
    uneven = dataclasses.replace(even, regions=((2 / 3, 0.92), (1 / 3, 0.08)))
    depth = depth_of(1350, 2, "x")[0]
    assert words_of(uneven, 2, depth, 4) < words_of(even, 2, depth, 4)


@pytest.mark.parametrize("store, folded", [("bram", 0), ("bram", 3), ("sdram", 3)])
def test_memories(store, folded):
    network = small()
    c = configuration_for(network, lanes=2, store=store, folded_tokens=folded, resident_bytes=0)
    sources, ids = counted(network)
    memory = traffic(Work.of(network, sources, ids, lanes=2, store=store, folded_tokens=folded))
    sizes = {name: section.words * section.word_bits / 8 for name, section in memory_sections(c).items()}
    assert memory["embedding"] == sizes["embedding"] and memory["rows"] == sizes.get("rows", 0)
    assert memory["columns"] == pytest.approx(sizes["columns"], rel=0.05)


def test_cycles_of_one_layer():
    """Events, the update pass that nothing hides, the embedding, the reset pass."""
    own = work()
    (x, _), (y, _), (s, _) = packed(own)[0]
    gate = 20 / 16
    expected = 20 * y[0] + 100 * gate + 50 * x[0] + 20 * s[0] + 50
    assert cycles(own, EXACT) == pytest.approx(expected)
    # With a word a column, what decides is that an element of the embedding comes a cycle, and one event from a gate.
    few = work(weights=1, inputs=80, lanes=32)
    assert cycles(few, EXACT) == pytest.approx(20 + 100 + 80 + 20 + 50)
    assert cycles(few, dataclasses.replace(EXACT, gate=64)) == pytest.approx(20 + 200 + 80 + 40 + 50)


def test_cycles_of_two_layers():
    """The update pass is hidden as far as neurons pass beside columns."""
    own = work((100, 100))
    first, second = ([words[0] for words, _ in layer] for layer in packed(own))
    words = 20 * first[1] + 50 * first[0] + 20 * first[2] + 20 * second[1] + 50 * second[0] + 20 * second[2]
    waits = 20 / 16 * ((100 - 1.5 * 20) + 0)
    assert cycles(own, EXACT) == pytest.approx(words + waits + 2 * 50)
    blocked = dataclasses.replace(EXACT, passes=1e-9)
    assert cycles(own, blocked) == pytest.approx(words + 20 / 16 * 200 + 2 * 50)
    # In the gaps between the bursts of an SDRAM more pass: 2.7 of them a column.
    external = work((100, 100), lanes=2, store="sdram", taken=10.0)
    fewer = dataclasses.replace(EXACT, gaps=0.2)
    assert cycles(external, fewer) - cycles(external, EXACT) == pytest.approx(20 / 8 * 10)


def test_cycles_with_an_sdram():
    own = work(lanes=2, store="sdram")
    (x, _), (y, _), (s, _) = packed(own)[0]
    gate = 20 / 8
    columns_cycles = 20 * (y[0] + 2) + 50 * (x[0] + 2) + 20 * (s[0] + 2)
    assert cycles(own, EXACT) == pytest.approx(columns_cycles + 100 * gate + (25 + 2) + 50)
    folded = dataclasses.replace(
        own,
        folded_share=1.0,
        matrices=((dataclasses.replace(own.matrices[0][0], taken=np.zeros(1)), *own.matrices[0][1:]),),
    )
    row = 75 * -(-4 * 24 // 16)
    assert cycles(folded, EXACT) == pytest.approx(20 * (y[0] + 2) + 20 * (s[0] + 2) + 100 * gate + row + 2 + 50)
    # Twice the width brings a word in half a cycle, but the lanes take one; 50 bytes of the embedding take 13 beats.
    assert cycles(dataclasses.replace(own, width=32), EXACT) == pytest.approx(cycles(own, EXACT) - 25 + 13)


def test_cycles_with_a_ddr3():
    """A refresh of 350 ns every 7.8 us stops the words of 16 lanes, two cycles each, but no row and no embedding."""
    own = work(lanes=16, store="sdram", width=64)
    known = cycles(dataclasses.replace(own, width=64, resident=((1.0, 1.0, 1.0),)), EXACT)
    (x, _), (y, _), (s, _) = packed(own)[0]
    comes = [taken * (2 * words[0] + 2) for words, taken in ((x, 50), (y, 20), (s, 20))]
    sent = [taken * words[0] for words, taken in ((x, 50), (y, 20), (s, 20))]
    assert cycles(own, EXACT) - known == pytest.approx(sum(comes) / (1 - 350 / 7800) - sum(sent))


def test_cycles_with_resident_words():
    """What is in block RAM need not come, but every word takes the lanes a cycle."""
    own = work(lanes=4, store="sdram")
    (x, _), (y, _), (s, _) = packed(own)[0]

    def comes(words, taken):
        return taken * (2 * words[0] + 2)

    shares = dataclasses.replace(own, resident=((0.25, 0.5, 0.9),))
    saved = 0.25 * comes(x, 50) + 0.5 * comes(y, 20) + comes(s, 20) - 20 * s[0]
    assert cycles(own, EXACT) - cycles(shares, EXACT) == pytest.approx(saved)
    assert shares.part(0, 1).resident == shares.resident


READ = ReadoutWork(
    ReadoutShape(head=30, groups=5, group_size=90, rows=2),
    80.0,
    ReadoutCounts(macs=1000.0, head_columns=12.0, groups=0.5, group_columns=7.0),
)
"""Of 40 entries, and of groups of 80 words on average."""


@pytest.mark.parametrize("store, lanes", [("bram", 4), ("sdram", 4), ("sdram", 2)])
def test_cycles_of_a_read_out(store, lanes):
    """Whole columns, each word of 4-bit weights for two banks; the scores twice; what it saves the update pass.

    With two lanes the SDRAM brings a word in each cycle, and both banks are added to at once.
    """
    bare = work((100, 100), lanes=lanes, store=store)
    own = dataclasses.replace(bare, readout=READ)
    head, group = -(-40 // (2 * lanes)), -(-90 // (2 * lanes))
    if store == "bram":
        columns = 12 * 2 * head + 7 * 2 * group
    else:
        beats = lanes * 8 // 16  # of 16 bits
        sent = 1 if beats == 1 else 2
        columns = 12 * max(sent * head, beats * head + 2) + 7 * max(sent * group, beats * group + 2)
    walks = 2 * (40 + 0.5 * (2 + 80)) + 1.5 * READING
    passes = EXACT.passes + (EXACT.gaps if store == "sdram" else 0)
    gate = 20 / min(4 * lanes, 32)
    saved = gate * (max(0, 100 - passes * 20) - max(0, 100 - passes * 32))
    assert saved > 0
    assert cycles(own, EXACT) - cycles(bare, EXACT) == pytest.approx(columns + walks - saved)
    read, plain = traffic(own), traffic(bare)
    assert read["words"] - plain["words"] == 2 * (12 * head + 7 * group)
    assert read["weights"] - plain["weights"] == 100 * (head + 5 * group) * lanes
    # Pointers may be a bit wider.
    assert read["bytes"] - plain["bytes"] == pytest.approx((12 * head + 7 * group) * lanes, rel=0.05)
    assert (read["readout"], plain["readout"]) == (2048 * (2 + 9), 0)


def test_a_read_out_in_parts_and_on_the_line():
    own = work((100, 80), readout=READ)
    assert (own.part(0, 1).readout, own.part(1, 2).readout) == (None, READ)
    assert own.wider(3).readout.counts == dataclasses.replace(READ.counts, macs=3000, head_columns=36, group_columns=21)
    assert Work.from_json(json.loads(json.dumps(own.to_json()))).readout == READ
    # Six log-probabilities a command, in less than half of the bytes that events would take.
    assert link_bytes(own) == pytest.approx((8 + 11 / 6, 4.08 + 2))
    assert board_speed(own, board_named("ulx3s-85f"), 80e6).draws


@pytest.mark.parametrize("weight_bits, store", [(4, "bram"), (8, "bram"), (4, "sdram")])
def test_memory_of_a_read_out_is_that_of_the_compiler(weight_bits, store):
    network = random_groups(small(vocabulary=120), head=30, sizes=(40, 50), codebook=np.array([-9, -1, 1, 9], np.int8))
    evaluation, ids = evaluated(network)
    options = {"lanes": 4, "store": store, "weight_bits": weight_bits, "folded_tokens": 0}
    c = configuration_for(network, resident_bytes=0, **options)
    own = Work.of(network, evaluation.sources, ids, readout=ReadoutWork.of(network, evaluation), **options)
    assert traffic(own)["weights"] == pytest.approx(c.weight_memory_bytes, rel=0.12)
    assert own.readout.shape == c.readout and own.readout.group == 45
    assert traffic(own)["readout"] == readout_bytes(120, c.readout)


def test_fitted_constants():
    """All are there, and are what their names say: a few cycles, or neurons."""
    assert all(0 < value < 200 for value in dataclasses.astuple(FITTED))


def test_speed_on_a_board():
    own, board = work(), board_named("ulx3s-85f")
    speed = board_speed(own, board, 80e6, EXACT)
    assert (speed.cycles, speed.sent, speed.received) == (cycles(own, EXACT), *link_bytes(own))
    assert speed.divisor == 27 and speed.window == board.window
