"""Compiler: packing, layout, and the way back."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egret.model.compiler.compile import _resident, compile_image, configuration_for
from egret.model.compiler.configuration import GOALS, MATRIX_KINDS, RESIDENT_BYTES
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import column_words, read_image
from egret.model.errors import InputError
from egret.model.integer import split
from egret.model.readout import ReadOut
from tests.support.memories import fields_of
from tests.support.networks import few_values, random_network

quick = settings(
    deadline=None, print_blob=True, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)

shapes = st.fixed_dictionaries(
    {
        "vocabulary": st.integers(2, 5),
        "embedding": st.integers(1, 9),
        "hidden": st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple),
        "density": st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        "empty_columns": st.sampled_from([0.0, 0.5]),
        "accumulator_bits": st.integers(22, 24),
        "gate_index_bits": st.integers(8, 12),
    }
)
lanes = st.sampled_from([1, 2, 4, 8, 16, 32])
goals = st.sampled_from(GOALS)


def assert_equal(one, other):
    """Two integer networks are the same, field by field."""
    for name in ("vocabulary", "readout_fraction", "accumulator_bits", "gate_index_bits"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("embedding", "readout_bias", "readout_weight"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            assert first.dtype == second.dtype and np.array_equal(first, second), name
    assert len(one.layers) == len(other.layers)
    for layers in zip(one.layers, other.layers, strict=True):
        for field in dataclasses.fields(layers[0]):
            first, second = (getattr(layer, field.name) for layer in layers)
            if first is not None and field.name != "shift":
                assert first.dtype == second.dtype and first.shape == second.shape, field.name
            assert np.array_equal(first, second), field.name


def walk(image):
    """Every lane's walk through every column, as the hardware does it.

    Yields layer, kind, source and, word by word, what each lane adds: lists of {lane: (bank, address, weight)}.
    """
    c = image.configuration
    narrow = fields_of(image.memories["weights"], [c.weight_bits, 4] * c.lanes)
    wide = [fields_of(image.memories[f"run_{bit}"], [1] * c.lanes) for bit in range(4, c.run_bits)]
    pointers = iter(fields_of(image.memories["columns"], [c.start_bits, c.count_bits, *[3, c.block_bits] * c.lanes]))
    for layer in range(c.layers):
        for number, kind in enumerate(c.matrix_kinds):
            span = c.matrix_span(layer, kind)
            for source in range(c.inputs(layer) if kind == "x" else c.hidden[layer]):
                start, count, *begins = next(pointers)
                banks = [begins[2 * lane] + 2 * lane - 2 for lane in range(c.lanes)]
                addresses = [16 * begins[2 * lane + 1] for lane in range(c.lanes)]
                words = []
                for place in range(count):
                    added = {}
                    for lane in range(c.lanes):
                        code, run = narrow[start + place][2 * lane : 2 * lane + 2]
                        for bit, plane in enumerate(wide, 4):
                            run |= plane[start + place][lane] << bit if start + place < len(plane) else 0
                        step = run + 1 if code else 16 * (run + 1)
                        addresses[lane] += step - 1 if place == 0 and code else step if place else 0
                        passed = addresses[lane] // span
                        assert passed <= 2 or not code, "the hardware subtracts two spans at most"
                        addresses[lane] -= passed * span
                        banks[lane] += passed
                        if code:
                            assert 0 <= addresses[lane] < span and 0 <= banks[lane] < c.banks
                            assert -2 <= banks[lane] - 2 * lane <= 3
                            assert place or run < 16, "a first entry is found without an addition"
                            if c.weight_bits == 4:
                                at = 16 * (len(c.matrix_kinds) * layer + number) + code
                                code = image.memories["codebook"][at]
                            added[lane] = (
                                banks[lane],
                                addresses[lane] + c.matrix_offset(layer, kind),
                                (code & 255) - (code & 128) * 2,
                            )
                    words.append(added)
                yield layer, kind, source, words


@quick
@given(shapes, lanes, goals, st.booleans(), st.sampled_from(["before", "after"]), st.integers(0, 1 << 32))
def test_round_trip(shape, lanes, goal, few, reset, seed):
    """An image holds exactly the network that it was compiled from."""
    network = random_network(seed, **shape, reset=reset)
    network = few_values(network) if few else network
    c = configuration_for(network, lanes=lanes, goal=goal, folded_tokens=seed % shape["vocabulary"])
    assert c.weight_bits == 4 or not few
    assert_equal(read_image(compile_image(network, c)), network)


@pytest.mark.parametrize("store", ["bram", "spram", "sdram"])
def test_parts_of_a_network(store):
    """A part's image has no read-out, and a later one's no embedding; each holds exactly its layers."""
    whole = random_network(7, embedding=6, hidden=(9, 5, 4, 7))
    first, *later = split(whole, [1, 3])
    images = [
        compile_image(part, configuration_for(part, store=store, weight_bits=8, lanes=4)) for part in (first, *later)
    ]
    for part, image in zip((first, *later), images, strict=True):
        again = Image.from_bytes(image.to_bytes())
        assert again == image and not again.readout_bias and not again.readout_weight
        assert_equal(read_image(again), part)
    assert [image.configuration.tokens for image in images] == [7, 10, 5]
    assert images[0].memories["embedding"] == whole.embedding.tobytes()
    assert not any("embedding" in image.memories for image in images[1:])


@quick
@given(shapes, lanes, goals, st.booleans(), st.sampled_from(["before", "after"]), st.integers(0, 1 << 32))
def test_every_lane_finds_its_weights(shape, lanes, goal, few, reset, seed):
    """Each column has its weights once, no word has one bank twice, and no lane leaves its window."""
    network = random_network(seed, **shape, reset=reset)
    network = few_values(network) if few else network
    c = configuration_for(network, lanes=lanes, goal=goal)
    columns = words_used = 0
    for number, kind, source, words in walk(compile_image(network, c)):
        layer = network.layers[number]
        size = len(layer.threshold)
        wanted = {}
        for gate in {"x": (0, 1, 2), "y": (0, 1) if reset == "before" else (0, 1, 3), "s": (2,)}[kind]:
            first = min(gate, 2) * size
            matrix = (layer.weight_x if kind == "x" else layer.weight_y)[first : first + size, source]
            for neuron in np.flatnonzero(matrix):
                wanted[tuple(int(part) for part in c.place(number, gate, neuron))] = int(matrix[neuron])
        got = {}
        for added in words:
            banks = [bank for bank, _, _ in added.values()]
            assert len(banks) == len(set(banks))
            for bank, address, weight in added.values():
                assert (bank, address) not in got
                got[bank, address] = weight
        assert got == wanted
        columns += 1
        words_used += len(words)
    assert columns == c.columns
    assert c.weight_words == max(1, words_used)


def test_memories_that_just_fit_and_those_that_do_not():
    network = random_network(1, hidden=(90, 70), embedding=30, density=0.05)
    c = configuration_for(network, lanes=4)
    assert c.wide_words and c.wide_words[0] <= c.weight_words
    assert len(compile_image(network, c).memories["weights"]) == c.weight_words * -(-4 * c.narrow_bits // 8)
    need = c.weight_memory_bytes
    assert configuration_for(network, lanes=4, weight_bytes=need + 100).weight_memory_bytes <= need + 100
    assert configuration_for(network, lanes=4, weight_bytes=need + 100).weight_words > c.weight_words
    message = (
        f"the network needs {need} bytes of weight memory, the store has {need - 50}; "
        "prune further, or compile with --weight-bytes"
    )
    with pytest.raises(InputError) as error:
        configuration_for(network, lanes=4, weight_bytes=need - 50)
    assert str(error.value) == message
    with pytest.raises(InputError, match=r"^the network needs \d+ bytes of weight memory, the store has \d+; prune"):
        compile_image(network, dataclasses.replace(c, weight_words=c.weight_words // 2, wide_words=()))


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("density", [0.005, 0.03, 0.1])
def test_a_configuration_fits_its_own_network(lanes, goal, density):
    """Also where a narrower run happens to need fewer words."""
    for seed in range(3):
        network = random_network(seed, hidden=(250 + 50 * seed,), embedding=40, density=density, tied=False)
        c = configuration_for(network, lanes=lanes, goal=goal)
        assert_equal(read_image(compile_image(network, c)), network)


@pytest.mark.parametrize("wide", [(), (100,), (300, 50)])
def test_fewer_wide_words_than_the_compiler_would_choose(wide):
    """A core built for another network: the runs become narrower where they must."""
    network = random_network(1, hidden=(90, 70), embedding=30, density=0.05)
    c = dataclasses.replace(configuration_for(network, lanes=4), wide_words=wide, weight_words=4096)
    image = compile_image(network, c)
    assert_equal(read_image(image), network)
    for bit, words in enumerate(wide, 4):
        assert len(image.memories[f"run_{bit}"]) <= words


def test_four_bit_cores_refuse_other_networks():
    network = random_network(1, hidden=(20,), density=1.0)
    with pytest.raises(InputError) as error:
        compile_image(network, configuration_for(network, weight_bits=4))
    assert str(error.value).startswith("the core is built for 4-bit weights, 15 a matrix; the network has up to ")
    with pytest.raises(InputError, match=r"^the goal of packing must be speed or size, not 'best'$"):
        configuration_for(network, goal="best")


@pytest.mark.parametrize("folded, accumulator_bits", [(0, 24), (None, 24), (3, 22)])
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("resident_bytes", [0, 1, 50, 200, RESIDENT_BYTES])
def test_an_image_for_an_sdram(resident_bytes, few, folded, accumulator_bits):
    """The same network comes back; as many rows as fit are stored where nobody says how many."""
    network = random_network(3, hidden=(9, 7), embedding=6, accumulator_bits=accumulator_bits)
    network = few_values(network) if few else network
    c = configuration_for(network, store="sdram", folded_tokens=folded, resident_bytes=resident_bytes)
    assert (c.lanes, c.memory_ratio, c.folded_tokens) == (8, 2, 7 if folded is None else folded)
    image = compile_image(network, c)
    assert_equal(read_image(image), network)
    words = column_words(image)[1].sum()
    assert c.resident_words == min(words, resident_bytes // (8 if few else 12))
    assert c.weight_words == (1 if c.resident_words == words else words)


def test_what_is_resident():
    """The columns that are looked up most often, as many as fit, whole ones, and of each matrix half and a twentieth,
    as the SDRAM brings a word in two cycles, in each of which one is sent; the others follow in order."""
    network = few_values(random_network(3, hidden=(9, 7), embedding=6, density=0.8))
    c = configuration_for(network, store="sdram", memory_ratio=1, folded_tokens=0, lanes=4, resident_bytes=200)
    lookups = [
        np.random.default_rng(layer).permutation(inputs + 2 * size) / 1e3
        for layer, (inputs, size) in enumerate(((6, 9), (9, 7)))
    ]
    image = compile_image(network, c, lookups=lookups)
    assert_equal(read_image(image), network)
    start, count = column_words(image)
    assert (c.resident_words, c.word_beats) == (50, 2)
    lookups = np.concatenate(lookups)
    bases = [base[kind] for base in c.column_base for kind in MATRIX_KINDS]
    part = np.searchsorted(bases, np.arange(c.columns), side="right") - 1
    left, share = 50, np.bincount(part, count * lookups) * 0.55
    others, full = [], 0
    for column in np.argsort(-lookups, kind="stable"):
        balanced = count[column] * lookups[column] <= share[part[column]]
        full += not balanced
        if 0 < count[column] <= left and balanced:
            assert start[column] == 50 - left
            left -= count[column]
            share[part[column]] -= count[column] * lookups[column]
        elif count[column]:
            others.append(column)
    assert 0 < len(others) < c.columns - 3 and full and left < count.max()
    others.sort()
    assert start[others].tolist() == (50 + np.cumsum(count[others]) - count[others]).tolist()


@pytest.mark.parametrize("word_beats, most", [(1, 2), (2, 22), (3, 28)])
def test_how_much_of_a_matrix_is_resident(word_beats, most):
    """With columns all alike, the share of them for which the memory is not kept waiting, and a twentieth."""
    parts = [SimpleNamespace(sources=40), SimpleNamespace(sources=40)]
    c = SimpleNamespace(resident_words=1000, word_beats=word_beats)
    chosen = _resident(parts, np.full(80, 3), np.ones(80), c)
    assert chosen.tolist() == [*range(most), *range(40, 40 + most)]


def test_what_is_resident_by_default():
    """Without look-ups the network writes text of its own: a neuron that has no event is not resident, one that always
    has is, and a part of a network, which writes none, has its first columns there."""
    network = few_values(random_network(3, hidden=(12,), embedding=6, density=0.9, threshold=(0, 1), z_bias=60_000))
    threshold = network.layers[0].threshold.copy()
    threshold[:6] = 32767
    layer = dataclasses.replace(network.layers[0], threshold=threshold)
    network = dataclasses.replace(network, layers=(layer,))
    c = configuration_for(network, store="sdram", memory_ratio=1, folded_tokens=7, resident_bytes=108)
    start, count = column_words(compile_image(network, c))
    y = slice(c.column_base[0]["y"], c.column_base[0]["s"])
    resident = (start < c.resident_words) & (count > 0)
    assert not resident[y][:6].any() and not resident[:6].any() and resident[y][6:].sum() == 3
    (part,) = split(network, [])
    start, count = column_words(compile_image(part, c))
    assert start[:3].tolist() == (np.cumsum(count[:3]) - count[:3]).tolist()


def test_rows_fill_an_sdram(monkeypatch):
    network = few_values(random_network(3, hidden=(9, 7), embedding=6))
    needed = configuration_for(network, store="sdram", folded_tokens=4).sdram_words
    for room, folded in ((needed, 4), (needed - 1, 3)):
        monkeypatch.setattr("egret.model.compiler.compile.SDRAM_WORDS", room)
        assert configuration_for(network, store="sdram").folded_tokens == folded


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vocabulary": 8}, "the core is built for vocabulary 8; the network has 7"),
        ({"embedding": 6}, "the core is built for embedding 6; the network has 5"),
        ({"hidden": (6, 6)}, "the core is built for hidden (6, 6); the network has (6,)"),
        ({"accumulator_bits": 23}, "the core is built for accumulator_bits 23; the network has 24"),
        ({"gate_index_bits": 9}, "the core is built for gate_index_bits 9; the network has 10"),
    ],
)
def test_another_configuration_is_refused(change, message):
    network = random_network(1)
    with pytest.raises(InputError) as error:
        compile_image(network, dataclasses.replace(configuration_for(network), **change))
    assert str(error.value) == message


def test_memories_hold_what_they_must():
    """The small memories, read by hand."""
    network = random_network(2, hidden=(3, 2), embedding=4)
    c = configuration_for(network, lanes=2)
    image = compile_image(network, c)
    sections = memory_sections(c)
    assert np.frombuffer(image.memories["embedding"], np.int8).tolist() == network.embedding.ravel().tolist()
    assert list(image.memories["shift"]) == [shift for layer in network.layers for shift in layer.shift]
    thresholds = [int(value) for layer in network.layers for value in layer.threshold]
    assert np.frombuffer(image.memories["threshold"], "<u2").tolist() == thresholds
    biases = [
        [int(layer.bias[gate * len(layer.threshold) + neuron]) for gate in range(3)]
        for layer in network.layers
        for neuron in range(len(layer.threshold))
    ]
    width = sections["bias"].word_bytes
    assert width == 9
    data = image.memories["bias"]
    assert [
        [int.from_bytes(data[at + 3 * gate : at + 3 * gate + 3], "little", signed=True) for gate in range(3)]
        for at in range(0, len(data), width)
    ] == biases


def test_nothing_of_the_parameters_is_lost_by_a_file(tmp_path):
    network = random_network(3, hidden=(7, 5), tied=False)
    image = compile_image(network, configuration_for(network))
    image.save(tmp_path / "a.image")
    assert_equal(read_image(type(image).load(tmp_path / "a.image")), network)


@pytest.mark.parametrize("tied", [True, False])
def test_a_host_makes_the_rounded_read_out(tied):
    """Where the core makes none, the image has the weights that the network's codebook rounds to."""
    network = random_network(3, vocabulary=20, embedding=6, hidden=(9, 6), tied=tied)
    network = dataclasses.replace(network, readout_codebook=np.array([-70, -9, 3, 60], np.int8))
    read = read_image(compile_image(network, configuration_for(network, lanes=2, readout=False)))
    y = np.random.default_rng(1).integers(0, 256, (5, 6))
    expected = ReadOut(network).all_log_probabilities(y).tolist()
    assert ReadOut(read).all_log_probabilities(y).tolist() == expected
    assert ReadOut(dataclasses.replace(network, readout_codebook=None)).all_log_probabilities(y).tolist() != expected
    np.testing.assert_array_equal(read.embedding, network.embedding)
