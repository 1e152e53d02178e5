"""Configuration: ranges, derived values, interchange."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.configuration import TARGETS, TINY, Configuration
from egret.model.errors import InputError

quick = settings(deadline=None, print_blob=True, derandomize=True, max_examples=100)
configurations = st.builds(
    Configuration, vocabulary=st.integers(2, 1 << 16), embedding=st.integers(1, 1 << 14),
    hidden=st.lists(st.integers(1, 1 << 14), min_size=1, max_size=15).map(tuple),
    lanes=st.sampled_from([1, 2, 4, 8, 16, 32]), weight_bytes=st.integers(100, 1 << 27),
    accumulator_bits=st.integers(16, 24), gate_index_bits=st.integers(8, 12))


@quick
@given(configurations)
def test_json_round_trip(configuration):
    again = Configuration.from_json(configuration.to_json())
    assert again == configuration and hash(again) == hash(configuration)
    assert again.to_json() == configuration.to_json() and again.digest == configuration.digest
    assert len(configuration.digest) == 8


@quick
@given(configurations)
def test_derived_widths_hold_what_they_must(c):
    rows = 3 * max(c.hidden)
    assert c.banks == 2 * c.lanes == 1 << c.bank_bits
    assert rows <= 1 << c.row_bits
    assert c.entry_bits <= 32, "an entry has to fit a uint32"
    assert 8 * c.weight_bytes - c.word_bits < c.weight_words * c.word_bits <= 8 * c.weight_bytes
    assert c.weight_words <= 1 << c.start_bits
    # The longest column: all rows of a layer, dealt out to the lanes.
    assert -(-rows // c.lanes) < 1 << c.count_bits
    bases = [c.column_base[layer][segment] for layer in range(c.layers) for segment in "xys"]
    sizes = [size for layer in range(c.layers) for size in (c.inputs(layer), c.hidden[layer], c.hidden[layer])]
    assert bases == [sum(sizes[:place]) for place in range(len(sizes))] and c.columns == sum(sizes)
    assert c.neurons == sum(c.hidden) == c.neuron_base[-1] + c.hidden[-1]


@quick
@given(st.builds(Configuration, vocabulary=st.just(2), embedding=st.just(1),
                 lanes=st.sampled_from([1, 2, 4, 8, 16, 32]),
                 hidden=st.lists(st.integers(1, 50), min_size=1, max_size=5).map(tuple)))
def test_accumulators_have_addresses_of_their_own(c):
    places = {(row % c.banks, c.bank_base[layer] + row // c.banks)
              for layer, size in enumerate(c.hidden) for row in range(3 * size)}
    assert len(places) == 3 * c.neurons
    assert max(address for _, address in places) == c.bank_depth - 1


def test_digests_differ():
    changes = [{}, {"vocabulary": 6}, {"embedding": 4}, {"hidden": (4, 4)}, {"hidden": (4,)}, {"lanes": 1},
               {"weight_bytes": 1025}, {"accumulator_bits": 23}, {"gate_index_bits": 11}]
    assert len({dataclasses.replace(TINY, **change).digest for change in changes}) == len(changes)


def test_digest_does_not_drift():
    """A change here makes every image and board of today unusable: it must be wanted, and count `FORMAT` up."""
    assert TINY.to_json() == ('{"accumulator_bits":24,"embedding":3,"format":1,"gate_index_bits":10,"hidden":[4,3],'
                              '"lanes":2,"vocabulary":5,"weight_bytes":1024}')
    assert TINY.digest.hex() == "75df1d9caff7c632"


@pytest.mark.parametrize("change, message", [
    ({"vocabulary": 1}, "configuration: vocabulary must be an integer from 2 to 65536, not 1"),
    ({"vocabulary": 65537}, "configuration: vocabulary must be an integer from 2 to 65536, not 65537"),
    ({"vocabulary": True}, "configuration: vocabulary must be an integer from 2 to 65536, not True"),
    ({"vocabulary": 5.0}, "configuration: vocabulary must be an integer from 2 to 65536, not 5.0"),
    ({"embedding": 0}, "configuration: embedding must be an integer from 1 to 16384, not 0"),
    ({"hidden": [4]}, "configuration: hidden must be a tuple of 1 to 15 layer sizes, not [4]"),
    ({"hidden": ()}, "configuration: hidden must be a tuple of 1 to 15 layer sizes, not ()"),
    ({"hidden": (1,) * 16}, f"configuration: hidden must be a tuple of 1 to 15 layer sizes, not {(1,) * 16}"),
    ({"hidden": (4, 0)}, "configuration: hidden[1] must be an integer from 1 to 16384, not 0"),
    ({"lanes": 3}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3"),
    ({"lanes": 64}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 64"),
    ({"lanes": True}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not True"),
    ({"lanes": 2.0}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 2.0"),
    ({"weight_bytes": 0}, "configuration: weight_bytes must be an integer from 1 to 134217728, not 0"),
    ({"weight_bytes": 2}, "configuration: weight_bytes must be at least 3 (one word), not 2"),
    ({"accumulator_bits": 25}, "configuration: accumulator_bits must be an integer from 16 to 24, not 25"),
    ({"gate_index_bits": 7}, "configuration: gate_index_bits must be an integer from 8 to 12, not 7"),
])
def test_refusals(change, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(TINY, **change)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["", "x", "[]", "1", "null", "{}", '"a"', "[" * 100])
def test_other_json_is_refused(text):
    with pytest.raises(InputError, match="^configuration: "):
        Configuration.from_json(text)


@pytest.mark.parametrize("change", [{"extra": 1}, {"format": 2}, {"format": "1"}, {"lanes": None}, {"lanes": {}},
                                    {"hidden": [[1]]}, {"hidden": {"1": 2}}])
def test_changed_json_is_refused(change):
    with pytest.raises(InputError, match="^configuration: "):
        Configuration.from_json(json.dumps(json.loads(TINY.to_json()) | change))


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name):
    c = Configuration(vocabulary=5, embedding=3, hidden=(4,), **TARGETS[name])
    assert c.weight_words > 1000
