"""The estimate's arithmetic, against numbers computed by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from egret.boards.catalogue import board_named
from egret.host.counterparts import dense_counterpart
from egret.host.energy import (
    COSTS,
    DDR3_COSTS,
    DDR3_SHEETS,
    FPGA,
    HERTZ,
    SHEETS,
    activity,
    energy,
    rows_opened,
    usual_hertz,
)
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import MATRIX_KINDS, TINY
from egret.model.compiler.unpack import column_words
from egret.model.counts import integer_columns, integer_readout
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine
from tests.support.networks import few_values, random_groups, random_network


def test_costs_of_an_sdram():
    samsung, micron = SHEETS.values()
    # 105 mA x 3.3 V x 7.5 ns for a word of two bytes.
    assert samsung.byte_joules == pytest.approx(1.299375e-9)
    assert micron.byte_joules == pytest.approx(1.2375e-9)
    # 65 mA x 3.3 V x 65 ns less one word; 100 mA x 3.3 V x 66 ns less two.
    assert samsung.row_joules == pytest.approx(13.9425e-9 - 2.59875e-9)
    assert micron.row_joules == pytest.approx(21.78e-9 - 4.95e-9)
    assert samsung.refresh_joules == pytest.approx(33.2475e-9)
    assert micron.refresh_joules == pytest.approx(56.628e-9)
    assert (samsung.standby_watts, micron.standby_watts) == pytest.approx((0.0825, 0.165))
    np.testing.assert_allclose(COSTS["bytes"], [1.2375e-9, 1.299375e-9])
    np.testing.assert_allclose(COSTS["rows"], [11.34375e-9, 16.83e-9])


def test_costs_of_a_ddr3():
    small, large = DDR3_SHEETS.values()
    # 95 mA x 1.5 V, and 225 mA: 1066 and 1600 million words of two bytes in a second.
    assert small.byte_joules == pytest.approx(0.1425 / 2.1333e9, rel=1e-4)
    assert large.byte_joules == pytest.approx(0.3375 / 3.2e9)
    # 30 mA x 1.5 V x 50.6 ns and 65 mA x 1.5 V x 47.5 ns, in which nothing is read.
    np.testing.assert_allclose(DDR3_COSTS["rows"], [2.278125e-9, 4.63125e-9])
    np.testing.assert_allclose(DDR3_COSTS["refreshes"], [0.1725 * 110e-9, 0.255 * 160e-9])
    np.testing.assert_allclose(DDR3_COSTS["seconds"], 0.0675)
    assert DDR3_COSTS.keys() == COSTS.keys() and DDR3_COSTS["bits"] is COSTS["bits"]


def test_costs_on_the_chip():
    np.testing.assert_allclose(COSTS["bits"], [0.15625e-12, 2.1875e-12])
    np.testing.assert_allclose(COSTS["MACs"], [0.3e-12, 4.2e-12])
    assert FPGA == 14


def test_the_clock_is_the_boards():
    assert usual_hertz(TINY) == HERTZ == board_named("ulx3s-85f").hertz
    slow = dataclasses.replace(TINY, store="sdram", weight_bits=4)
    assert usual_hertz(slow) == HERTZ
    fast = dataclasses.replace(slow, lanes=4, memory_ratio=2)
    assert usual_hertz(fast) == board_named("ulx3s-85f-sdram").hertz
    assert usual_hertz(dataclasses.replace(fast, lanes=8, memory_ratio=4)) == 75e6


@pytest.mark.parametrize(
    "start, words, rows",
    [(0, 512, 1), (0, 513, 2), (511, 1, 1), (511, 2, 2), (512, 512, 1), (100, 0, 0), (1000, 1100, 4)],
)
def test_rows_opened(start, words, rows):
    assert rows_opened(start, words, 512) == rows


def measured(network, ids, **counters):
    """What `activity` reads of a measurement."""
    evaluation = evaluate(IntegerEngine(network), integer_columns(network), ids, readout=integer_readout(network))
    return SimpleNamespace(counters=counters, evaluation=evaluation)


def test_activity_from_block_ram():
    """One layer of 4 neurons, 3 inputs, everything active but in the step before the first: 4 steps."""
    network = dense_counterpart(random_network(1, vocabulary=5, embedding=3, hidden=(4,)))
    image = compile_image(network, configuration_for(network, lanes=2, weight_bits=8, folded_tokens=1))
    c = image.configuration
    ids = np.array([0, 2, 4, 3, 1])
    done = activity(image, measured(network, ids, macs=100, words=60, cycles=800), ids, network.embedding, 1e6)
    assert {unit for unit, _ in done.values()} == {"bits", "MACs"}
    done = {name: count * 4 for name, (_, count) in done.items()}
    folded = c.layer_depth(0) * 4  # four banks; 2 addresses for u and r, 1 for z
    assert folded == 12
    assert done["accumulators"] == 2 * 24 * (100 + 12 + 3 * 16 + 12)
    # Columns of x for three of the tokens, of y and s in three of the steps.
    pointer = c.start_bits + c.count_bits + 2 * (3 + c.block_bits)
    assert done["pointers"] == pointer * (3 * 3 + 2 * 3 * 4)
    assert done["biases"] == 3 * 24 * 16
    assert done["thresholds and states"] == (15 + 32) * 16
    assert done["gate tables"] == 16 * (2 * 16 + 12)
    assert done["events"] == (2 + 8) * (16 + 2 * 12)
    assert done["embedding"] == 3 * 3 * 8
    assert done["folded rows"] == 12 * c.row_bits
    _, words = column_words(image)
    x, y, s = (words[c.column_base[0][kind] :][:size].sum() for kind, size in zip(MATRIX_KINDS, (3, 4, 4), strict=True))
    assert done["weights"] == 3 * (x + y + s) * 2 * 12
    assert done["multiplications and additions"] == 100 + 12 + 2 * 16
    assert "codebooks" not in done


@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize("resident_bytes", [0, 40, 10_000])
def test_activity_from_an_sdram(resident_bytes, ratio):
    network = few_values(random_network(2, vocabulary=6, embedding=4, hidden=(5, 3)))
    image = compile_image(
        network,
        configuration_for(
            network, store="sdram", memory_ratio=ratio, folded_tokens=2, resident_bytes=ratio * resident_bytes
        ),
    )
    c = image.configuration
    ids = np.array([0, 5, 1, 3, 2, 4])
    measurement = measured(network, ids, macs=100, words=60, cycles=800, beats=500)
    done = activity(image, measurement, ids, network.embedding, 1e6)
    memory, row = ("DDR3", 1024) if ratio == 4 else ("SDRAM", 512)
    assert done[f"{memory}, read"] == ("bytes", 200 * ratio)
    # All of it is in one row of the memory: a burst each opens it.
    assert c.sdram_words < row
    start, words = column_words(image)
    outside = start >= c.resident_words
    assert outside.any() == (resident_bytes < 10_000) and (words > 0)[~outside].any() == (resident_bytes > 0)
    sources, bursts, read = measurement.evaluation.sources, 5, {True: 0, False: 0}
    for layer in range(2):
        for kind in MATRIX_KINDS:
            active = getattr(sources, kind)[layer]
            if (layer, kind) == (0, "x"):
                active = np.count_nonzero(network.embedding[[5, 3, 2]], axis=0)
            columns = c.column_base[layer][kind] + np.arange(len(active))
            bursts += active[(words > 0)[columns] & outside[columns]].sum()
            for place in read:
                read[place] += words[columns][outside[columns] == place] @ active[outside[columns] == place]
    unit, count = done[f"{memory}, rows"]
    assert unit == "rows"
    np.testing.assert_allclose(count, [100 * ratio / row, bursts / 5])
    # 160 cycles a token are 160 us at 1 MHz: a refresh every 7.8 us.
    assert done[f"{memory}, standby"] == ("seconds", pytest.approx(160e-6))
    assert done[f"{memory}, refresh"] == ("refreshes", pytest.approx(160 / 7.8))
    assert done["codebooks"] == ("bits", 8 * c.lanes * 60 / 5)
    assert done["queues"] == ("bits", 2 * (3 * 4 * 8 + 32 * ratio * read[True]) / 5)
    assert done.get("resident weights", ("bits", 0)) == ("bits", 32 * ratio * read[False] / 5)
    assert not done.keys() & {"weights", "embedding", "folded rows"}


def test_energy():
    costs = energy({"read": ("bytes", 1000), "rows": ("rows", np.array([1, 10])), "sums": ("MACs", 1e6)})
    np.testing.assert_allclose(costs["read"], [1.2375e-6, 1.299375e-6])
    np.testing.assert_allclose(costs["rows"], [11.34375e-9, 168.3e-9])
    small = energy({"read": ("bytes", 1000)}, DDR3_COSTS)["read"]
    np.testing.assert_array_equal(small, 1000 * DDR3_COSTS["bytes"])
    np.testing.assert_allclose(sum(costs.values()), [1.2375e-6 + 11.34375e-9 + 0.3e-6, 1.299375e-6 + 168.3e-9 + 4.2e-6])


def test_sheets_are_of_maxima():
    for sheet in (*SHEETS.values(), *DDR3_SHEETS.values()):
        assert sheet.standby < sheet.row <= sheet.burst < 1
        assert sheet.row < sheet.refresh < 1


@pytest.mark.parametrize("store", ["bram", "sdram"])
def test_activity_of_a_readout(store):
    """A head of 4 words and 2 rows a group, groups of 3 and 2 words; 4 steps, in which 3 groups are read."""
    network = few_values(random_network(1, vocabulary=9, embedding=4, hidden=(4,)))
    network = random_groups(network, head=4, sizes=(3, 2), rows=2, codebook=np.arange(1, 16, dtype=np.int8))
    image = compile_image(network, configuration_for(network, lanes=4, store=store, folded_tokens=0, resident_bytes=0))
    without = compile_image(
        network, configuration_for(network, lanes=4, store=store, folded_tokens=0, resident_bytes=0, readout=False)
    )
    ids = np.array([0, 2, 4, 3, 1])
    counters = {"macs": 100, "words": 60, "cycles": 800, "beats": 1024, "groups": 3, "events_0": 12}
    measurement = measured(network, ids, **counters)
    done, plain = (activity(one, measurement, ids, network.embedding, 1e6) for one in (image, without))
    # 8 entries of the head in each step, and 3 times the larger group; 24 bits twice, 32, 18 twice and 24.
    assert done["read-out"] == ("bits", (4 * 8 + 3 * 3) * (48 + 32 + 36 + 24) / 4)
    assert "read-out" not in plain
    # Columns of the head and of a group have a word of four codes and runs each, through a queue where it comes in two.
    columns = measurement.evaluation.readout.head_columns + measurement.evaluation.readout.group_columns
    name, bits = ("weights", 32) if store == "bram" else ("queues", 2 * 32)
    assert columns > 0 and done[name][1] - plain[name][1] == pytest.approx(bits * columns)
    if store == "sdram":
        # All lies in the first row, so that each of 12 columns opens it, and again for 3 groups in 4 steps.
        rows = {name: one["SDRAM, rows"][1][1] for name, one in (("with", done), ("without", plain))}
        assert (rows["with"] - rows["without"]) * 4 == pytest.approx(12 + 12 * 3 / 4)
