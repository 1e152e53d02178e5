"""Compiler: packing, layout, and the way back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egret.model.compile import compile_image, configuration_for, pack_column, read_image
from egret.model.configuration import Configuration
from egret.model.errors import InputError
from egret.model.image import memory_sections
from tests.networks import random_network

quick = settings(deadline=None, print_blob=True, derandomize=True, max_examples=60,
                 suppress_health_check=[HealthCheck.too_slow])

shapes = st.fixed_dictionaries({
    "vocabulary": st.integers(2, 5), "embedding": st.integers(1, 9),
    "hidden": st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple),
    "density": st.sampled_from([0.0, 0.05, 0.5, 1.0]), "empty_columns": st.sampled_from([0.0, 0.5]),
    "accumulator_bits": st.integers(22, 24), "gate_index_bits": st.integers(8, 12)})
lanes = st.sampled_from([1, 2, 4, 8, 16, 32])


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
            if field.name != "shift":
                assert first.dtype == second.dtype and first.shape == second.shape, field.name
            assert np.array_equal(first, second), field.name


def unpack_words(image):
    """Entries (weight, row) of every lane of every weight word, read bit by bit: [words][lanes]."""
    c = image.configuration
    width = -(-c.word_bits // 8)
    data = image.memories["weights"]
    words = []
    for at in range(0, len(data), width):
        word = int.from_bytes(data[at:at + width], "little")
        assert word >> c.word_bits == 0
        lanes = [word >> lane * c.entry_bits & ((1 << c.entry_bits) - 1) for lane in range(c.lanes)]
        words.append([((entry & 255) - (entry & 128) * 2, entry >> 8) for entry in lanes])
    return words


def columns_of(image):
    """(start, count) of every column."""
    c = image.configuration
    width = -(-(c.start_bits + c.count_bits) // 8)
    data = image.memories["columns"]
    values = [int.from_bytes(data[at:at + width], "little") for at in range(0, len(data), width)]
    return [(value % (1 << c.start_bits), value >> c.start_bits) for value in values]


@quick
@given(shapes, lanes, st.integers(0, 1 << 32))
def test_round_trip(shape, lanes, seed):
    """An image holds exactly the network that it was compiled from."""
    parameters = random_network(seed, **shape)
    image = compile_image(parameters, configuration_for(parameters, lanes=lanes, weight_bytes=None))
    assert_equal(read_image(image), parameters)
    assert image.used_bytes == len(image.memories["weights"]) == len(unpack_words(image)) * (
        -(-image.configuration.word_bits // 8))


@quick
@given(shapes, lanes, st.integers(0, 1 << 32))
def test_columns_are_optimal_and_free_of_conflicts(shape, lanes, seed):
    """Each column has its weights once, in max(ceil(n / L), m) words, no word with one bank twice."""
    parameters = random_network(seed, **shape)
    c = configuration_for(parameters, lanes=lanes, weight_bytes=None)
    image = compile_image(parameters, c)
    words, columns = unpack_words(image), columns_of(image)
    assert len(columns) == c.columns
    column, used = 0, 0
    for number, layer in enumerate(parameters.layers):
        size = len(layer.threshold)
        for segment, matrix, gates in (("x", layer.weight_x, (0, 1, 2)), ("y", layer.weight_y, (0, 1)),
                                       ("s", layer.weight_y, (2,))):
            assert c.column_base[number][segment] == column
            for source in range(matrix.shape[1]):
                wanted = {3 * neuron + gate: int(matrix[gate * size + neuron, source])
                          for gate in gates for neuron in range(size) if matrix[gate * size + neuron, source]}
                start, count = columns[column]
                banks = [row % c.banks for row in wanted]
                least = max(-(-len(wanted) // lanes), max(map(banks.count, banks), default=0))
                assert count == least
                got = {}
                for word in words[start:start + count]:
                    entries = [(weight, row) for weight, row in word if weight]
                    assert len({row % c.banks for _, row in entries}) == len(entries)
                    assert not got.keys() & {row for _, row in entries}
                    got |= {row: weight for weight, row in entries}
                assert got == wanted
                used += count
                column += 1
    assert used == len(words)
    assert c.weight_words == max(1, used)


@quick
@given(lanes, st.data())
def test_pack_column(lanes, data):
    """Any set of rows, also all of one bank."""
    c = Configuration(vocabulary=2, embedding=1, hidden=(200,), lanes=lanes, weight_bytes=1 << 16)
    rows = data.draw(st.one_of(
        st.sets(st.integers(0, 599), max_size=200), st.sets(st.integers(0, 9), max_size=10).map(
            lambda places: {place * c.banks % 600 for place in places})))
    rows = np.array(sorted(rows, key=lambda row: (row % c.banks, row)), int)
    weights = np.array(data.draw(st.lists(st.sampled_from([-127, -1, 1, 127]), min_size=len(rows),
                                          max_size=len(rows))), np.int8)
    packed = pack_column(rows, weights, c)
    most = int(np.bincount(rows % c.banks).max()) if len(rows) else 0
    assert packed.shape == (max(-(-len(rows) // lanes), most), lanes) and packed.dtype == np.uint32
    entries = [(entry >> 8, (entry & 255) - (entry & 128) * 2) for entry in packed.ravel().tolist() if entry & 255]
    assert sorted(entries) == sorted(zip(rows.tolist(), weights.tolist(), strict=True))
    for word in packed:
        banks = [int(entry >> 8) % c.banks for entry in word if entry & 255]
        assert len(banks) == len(set(banks))


def test_a_memory_that_just_fits_and_one_that_does_not():
    parameters = random_network(1, hidden=(20, 10), embedding=9)
    c = configuration_for(parameters, lanes=4, weight_bytes=None)
    assert len(compile_image(parameters, c).memories["weights"]) == c.weight_words * -(-c.word_bits // 8)
    with pytest.raises(InputError) as error:
        compile_image(parameters, dataclasses.replace(c, weight_bytes=c.weight_bytes - 1))
    assert str(error.value) == (
        f"the network needs {c.weight_bytes} bytes of weight memory, the store has {c.weight_bytes - 1}; "
        "prune further, or compile with --weight-bytes")


@pytest.mark.parametrize("change, message", [
    ({"vocabulary": 8}, "the core is built for vocabulary 8; the network has 7"),
    ({"embedding": 6}, "the core is built for embedding 6; the network has 5"),
    ({"hidden": (6, 6)}, "the core is built for hidden (6, 6); the network has (6,)"),
    ({"accumulator_bits": 23}, "the core is built for accumulator_bits 23; the network has 24"),
    ({"gate_index_bits": 9}, "the core is built for gate_index_bits 9; the network has 10"),
])
def test_another_configuration_is_refused(change, message):
    parameters = random_network(1)
    with pytest.raises(InputError) as error:
        compile_image(parameters, dataclasses.replace(configuration_for(parameters), **change))
    assert str(error.value) == message


def test_memories_hold_what_they_must():
    """The small memories, read by hand."""
    parameters = random_network(2, hidden=(3, 2), embedding=4)
    c = configuration_for(parameters, lanes=2)
    image = compile_image(parameters, c)
    sections = {section.name: section for section in memory_sections(c)}
    assert np.frombuffer(image.memories["embedding"], np.int8).tolist() == parameters.embedding.ravel().tolist()
    assert list(image.memories["shift"]) == [shift for layer in parameters.layers for shift in layer.shift]
    thresholds = [int(value) for layer in parameters.layers for value in layer.threshold]
    assert np.frombuffer(image.memories["threshold"], "<u2").tolist() == thresholds
    biases = [[int(layer.bias[gate * len(layer.threshold) + neuron]) for gate in range(3)]
              for layer in parameters.layers for neuron in range(len(layer.threshold))]
    width = sections["bias"].word_bytes
    assert width == 9
    data = image.memories["bias"]
    assert [[int.from_bytes(data[at + 3 * gate:at + 3 * gate + 3], "little", signed=True) for gate in range(3)]
            for at in range(0, len(data), width)] == biases


def test_nothing_of_the_parameters_is_lost_by_a_file(tmp_path):
    parameters = random_network(3, hidden=(7, 5), tied=False)
    image = compile_image(parameters, configuration_for(parameters))
    image.save(tmp_path / "a.image")
    assert_equal(read_image(type(image).load(tmp_path / "a.image")), parameters)


@pytest.mark.parametrize("column, message", [
    ((1 << 62) - 1, "image: column 2 ends behind the last weight word"),
])
def test_wrong_columns_are_refused(column, message):
    parameters = random_network(4, density=1)
    image = compile_image(parameters, configuration_for(parameters, lanes=2))
    c = image.configuration
    width = -(-(c.start_bits + c.count_bits) // 8)
    data = bytearray(image.memories["columns"])
    data[2 * width:3 * width] = (column % (1 << (c.start_bits + c.count_bits))).to_bytes(width, "little")
    with pytest.raises(InputError) as error:
        read_image(dataclasses.replace(image, memories=image.memories | {"columns": bytes(data)}))
    assert str(error.value) == message


def test_row_outside_the_layer_is_refused():
    parameters = random_network(4, hidden=(5,), density=1)
    image = compile_image(parameters, configuration_for(parameters, lanes=2))
    data = bytearray(image.memories["weights"])
    data[1] |= 0x0F  # row of lane 0 of the first word: 15, one more than the last
    with pytest.raises(InputError, match="^image: column 0 has row 15; layer 0 has 15$"):
        read_image(dataclasses.replace(image, memories=image.memories | {"weights": bytes(data)}))
