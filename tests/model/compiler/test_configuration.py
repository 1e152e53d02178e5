"""Configuration: ranges, derived values, interchange."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.compiler.compile import configuration_for
from egret.model.compiler.configuration import TARGETS, TINY, Configuration, ReadoutShape, token_bits
from egret.model.compiler.layouts import memory_sections
from egret.model.errors import InputError
from tests.support.networks import few_values, random_network

DDR3 = {"store": "sdram", "memory_ratio": 4, "lanes": 8, "weight_bits": 4}

quick = settings(deadline=None, print_blob=True, derandomize=True, max_examples=100)
lanes = st.sampled_from([1, 2, 4, 8, 16, 32])


@st.composite
def configurations(draw, largest=1 << 14, layers=15):
    """Any configuration, whose dependent parameters are within their ranges."""
    words = draw(st.one_of(st.integers(1, 100), st.integers(1, 1 << 24)))
    wide, most = [], words
    for _ in range(draw(st.integers(0, 4))):
        most = draw(st.integers(1, most))
        wide.append(most)
    vocabulary = draw(st.one_of(st.integers(2, 1 << 16), st.integers(2, 1 << 20), st.just(0)))
    accumulator_bits = draw(st.integers(16, 24))
    row_bits = draw(st.integers(1, accumulator_bits))
    return Configuration(
        vocabulary=vocabulary,
        embedding=draw(st.integers(1, min(1 << 14, (1 << 24) // max(1, vocabulary)))),
        hidden=tuple(draw(st.lists(st.integers(1, largest), min_size=1, max_size=layers))),
        lanes=draw(lanes),
        weight_bits=draw(st.sampled_from([4, 8])),
        weight_words=words,
        wide_words=tuple(wide),
        # However large the first layer is.
        folded_tokens=draw(st.one_of(st.just(0), st.integers(0, min(vocabulary, (1 << 24) // 24576)))),
        accumulator_bits=accumulator_bits,
        row_bits=row_bits,
        row_shift=draw(st.integers(0, accumulator_bits - row_bits)),
        gate_index_bits=draw(st.integers(8, 12)),
        reset=draw(st.sampled_from(["before", "after"])),
    )


@quick
@given(configurations())
def test_json_round_trip(configuration):
    again = Configuration.from_json(configuration.to_json())
    assert again == configuration and hash(again) == hash(configuration)
    assert again.to_json() == configuration.to_json() and again.digest == configuration.digest
    assert len(configuration.digest) == 8
    assert type(again.wide_words) is tuple and type(again.hidden) is tuple


@quick
@given(configurations())
def test_derived_widths_hold_what_they_must(c):
    assert c.banks == 2 * c.lanes == 1 << c.bank_bits
    bits = token_bits(c.tokens)
    assert c.tokens <= 1 << bits and (bits == 16 or c.tokens > 1 << (bits - 1))
    assert c.weight_words <= 1 << c.start_bits and (c.start_bits == 1 or c.weight_words > 1 << (c.start_bits - 1))
    assert c.run_bits == 4 + len(c.wide_words) and c.narrow_bits == c.weight_bits + 4
    bits = sum(
        section.word_bits * section.words
        for name, section in memory_sections(c).items()
        if name == "weights" or name.startswith("run_")
    )
    assert 8 * (c.weight_memory_bytes - 1) < bits <= 8 * c.weight_memory_bytes
    kinds = "xys" if c.reset == "before" else "xy"
    spans = [c.matrix_span(layer, kind) for layer in range(c.layers) for kind in kinds]
    assert max(spans) <= 1 << c.span_bits and (max(spans) == 1 or max(spans) > 1 << (c.span_bits - 1))
    # A lane may begin at every address of a bank, and no entry passes more than the ends of two.
    assert all((span - 1) // 16 < 1 << c.block_bits for span in spans) and min(spans) >= 16
    # The longest columns: all rows of a layer, dealt out to the lanes, and a lane that does both of its own banks.
    rows = 3 * max(c.hidden)
    assert -(-rows // c.lanes) < 1 << c.count_bits
    assert all(2 * span < 1 << c.count_bits for span in spans)
    bases = [c.column_base[layer][kind] for layer in range(c.layers) for kind in kinds]
    sizes = [c.inputs(layer) if kind == "x" else c.hidden[layer] for layer in range(c.layers) for kind in kinds]
    assert bases == [sum(sizes[:place]) for place in range(len(sizes))] and c.columns == sum(sizes)
    assert c.neurons == sum(c.hidden) == c.neuron_base[-1] + c.hidden[-1]
    assert c.neuron_base == tuple(sum(c.hidden[:layer]) for layer in range(c.layers))
    assert c.sigmoid_fraction == c.gate_index_bits - 4 and c.tanh_fraction == c.gate_index_bits - 3


@quick
@given(configurations(50, 5))
def test_accumulators_have_addresses_of_their_own(c):
    """Layers come one behind the other in all banks; none has more addresses than it needs."""
    places, bases = set(), []
    for layer, size in enumerate(c.hidden):
        own = [c.place(layer, gate, neuron) for gate in range(len(c.sums)) for neuron in range(size)]
        assert all(0 <= bank < c.banks and 0 <= address < c.layer_depth(layer) for bank, address in own)
        assert max(address for _, address in own) == c.layer_depth(layer) - 1
        places |= {(bank, c.bank_base[layer] + address) for bank, address in own}
        bases.append(sum(c.layer_depth(below) for below in range(layer)))
    assert c.bank_base == tuple(bases)
    assert len(places) == (3 if c.reset == "before" else 4) * c.neurons
    assert max(address for _, address in places) == c.bank_depth - 1


@quick
@given(configurations(50, 5))
def test_matrices_cover_their_rows(c):
    """The addresses of a matrix's rows, from its offset on, lie within its span, and it has no rows of others."""
    gates = {"x": "urz", "y": "ur", "s": "z"} if c.reset == "before" else {"x": "urz", "y": ["u", "r", "zy"]}
    assert c.matrix_kinds == tuple(gates) and c.row_depth == c.matrix_depth(0, "x")
    for layer, size in enumerate(c.hidden):
        for kind, names in gates.items():
            offset, span = c.matrix_offset(layer, kind), c.matrix_span(layer, kind)
            depth = c.pair_depth(layer) * ("u" in names) + c.candidate_depth(layer) * (
                "u" not in names or len(names) > 2
            )
            own = {c.place(layer, c.sums.index(name), neuron)[1] for name in names for neuron in range(size)}
            others = {
                c.place(layer, number, neuron)[1]
                for number, name in enumerate(c.sums)
                if name not in names
                for neuron in range(size)
            }
            assert own == set(range(offset, offset + depth)) and not own & others
            assert span == max(depth, 16) and offset + depth <= c.layer_depth(layer)


@pytest.mark.parametrize(
    "lanes, hidden, places",
    [
        # Gates u and r of a neuron lie side by side, z behind both.
        (1, (2,), [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 2), (1, 2)]]),
        (2, (3,), [[(0, 0), (2, 0), (0, 1)], [(1, 0), (3, 0), (1, 1)], [(0, 2), (1, 2), (2, 2)]]),
        (4, (2,), [[(0, 0), (2, 0)], [(1, 0), (3, 0)], [(0, 1), (1, 1)]]),
    ],
)
def test_place(lanes, hidden, places):
    c = dataclasses.replace(TINY, lanes=lanes, hidden=hidden)
    assert [[c.place(0, gate, neuron) for neuron in range(hidden[0])] for gate in range(3)] == places


def test_digests_differ():
    changes = [
        {},
        {"vocabulary": 6},
        {"embedding": 4},
        {"hidden": (4, 4)},
        {"hidden": (4,)},
        {"lanes": 1},
        {"weight_words": 257},
        {"weight_bits": 4},
        {"wide_words": (256,)},
        {"wide_words": (255,)},
        {"wide_words": (256, 256)},
        {"folded_tokens": 1},
        {"folded_tokens": 5},
        {"accumulator_bits": 23},
        {"gate_index_bits": 11},
        {"store": "spram"},
        {"compact": True},
        {"store": "sdram", "weight_bits": 4, "embedding": 4},
        {"store": "sdram", "weight_bits": 4, "embedding": 4, "resident_words": 1},
        {"reset": "after"},
    ]
    assert len({dataclasses.replace(TINY, **change).digest for change in changes}) == len(changes)


def test_digest_does_not_drift():
    """A change here makes every image and board of today unusable: it must be wanted, and count one of `FORMATS` up."""
    assert TINY.to_json() == (
        '{"accumulator_bits":24,"compact":false,"embedding":3,"folded_tokens":0,"format":6,"gate_index_bits":10,'
        '"hidden":[4,3],"lanes":2,"resident_words":0,"row_bits":16,"row_shift":0,"store":"bram",'
        '"vocabulary":5,"weight_bits":8,"weight_words":256,"wide_words":[]}'
    )
    assert TINY.digest.hex() == "df34cdc3eb0696ee"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reset": "never"}, "configuration: reset must be 'before' or 'after', not 'never'"),
        ({"compact": 1}, "configuration: compact must be true or false, not 1"),
        ({"store": "rom"}, "configuration: store must be bram or spram or sdram, not 'rom'"),
        ({"store": "sdram", "wide_words": (1,)}, "configuration: wide_words must be () with the store sdram, not (1,)"),
        (
            {"store": "sdram", "embedding": 4},
            ("configuration: lanes must be such that 12 bits each fill beats of 16 bits with the store sdram, not 2"),
        ),
        (
            {"store": "sdram", "weight_bits": 4, "memory_ratio": 2},
            "configuration: lanes must be such that 8 bits each fill beats of 32 bits with the store sdram, not 2",
        ),
        (
            {"store": "sdram", "weight_bits": 4, "memory_ratio": 3},
            "configuration: memory_ratio must be 1, 2 or 4, not 3",
        ),
        ({"memory_ratio": 2}, "configuration: memory_ratio must be 1 with the store bram, not 2"),
        (
            {"store": "sdram", "weight_bits": 4, "embedding": 4, "weight_words": 1 << 24},
            ("configuration: weights, embedding and 0 folded rows need 33554452 bytes of SDRAM; it has 33554432"),
        ),
        (
            DDR3 | {"vocabulary": 1 << 15, "embedding": 1032},
            "configuration: embedding must be at most 33554432 bytes of DDR3, not 33816576",
        ),
        ({"resident_words": 1}, "configuration: resident_words must be 0 with the store bram, not 1"),
        (
            {"store": "spram", "resident_words": 7},
            "configuration: resident_words must be 0 with the store spram, not 7",
        ),
        ({"resident_words": -1}, "configuration: resident_words must be an integer from 0 to 1048576, not -1"),
        ({"store": "spram", "wide_words": (1,)}, "configuration: wide_words must be () with the store spram, not (1,)"),
        ({"row_bits": 0}, "configuration: row_bits must be an integer from 1 to 24, not 0"),
        ({"accumulator_bits": 20, "row_bits": 21}, "configuration: row_bits must be an integer from 1 to 20, not 21"),
        ({"row_bits": 17, "row_shift": 8}, "configuration: row_shift must be an integer from 0 to 7, not 8"),
        ({"vocabulary": 1}, "configuration: vocabulary must be an integer from 2 to 1048576, not 1"),
        ({"vocabulary": 1048577}, "configuration: vocabulary must be an integer from 2 to 1048576, not 1048577"),
        ({"vocabulary": True}, "configuration: vocabulary must be an integer from 2 to 1048576, not True"),
        ({"vocabulary": 5.0}, "configuration: vocabulary must be an integer from 2 to 1048576, not 5.0"),
        (
            {"vocabulary": 65537, "readout": ReadoutShape(head=5)},
            "configuration: vocabulary must be an integer from 2 to 65536, not 65537",
        ),
        ({"embedding": 0}, "configuration: embedding must be an integer from 1 to 16384, not 0"),
        ({"hidden": [4]}, "configuration: hidden must be a tuple of 1 to 15 layer sizes, not [4]"),
        ({"hidden": ()}, "configuration: hidden must be a tuple of 1 to 15 layer sizes, not ()"),
        ({"hidden": (1,) * 16}, f"configuration: hidden must be a tuple of 1 to 15 layer sizes, not {(1,) * 16}"),
        ({"hidden": (4, 0)}, "configuration: hidden[1] must be an integer from 1 to 16384, not 0"),
        ({"lanes": 3}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3"),
        ({"lanes": 64}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 64"),
        ({"lanes": True}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not True"),
        ({"lanes": 2.0}, "configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 2.0"),
        ({"weight_bits": 5}, "configuration: weight_bits must be 4 or 8, not 5"),
        ({"weight_bits": 8.0}, "configuration: weight_bits must be 4 or 8, not 8.0"),
        ({"weight_bits": None}, "configuration: weight_bits must be 4 or 8, not None"),
        ({"weight_words": 0}, "configuration: weight_words must be an integer from 1 to 16777216, not 0"),
        (
            {"weight_words": (1 << 24) + 1},
            "configuration: weight_words must be an integer from 1 to 16777216, not 16777217",
        ),
        ({"weight_words": True}, "configuration: weight_words must be an integer from 1 to 16777216, not True"),
        ({"wide_words": [9]}, "configuration: wide_words must be a tuple of at most 4 numbers, not [9]"),
        ({"wide_words": None}, "configuration: wide_words must be a tuple of at most 4 numbers, not None"),
        (
            {"wide_words": (5, 4, 3, 2, 1)},
            "configuration: wide_words must be a tuple of at most 4 numbers, not (5, 4, 3, 2, 1)",
        ),
        ({"wide_words": (257,)}, "configuration: wide_words[0] must be an integer from 1 to 256, not 257"),
        ({"wide_words": (0,)}, "configuration: wide_words[0] must be an integer from 1 to 256, not 0"),
        ({"wide_words": (9, 10)}, "configuration: wide_words[1] must be an integer from 1 to 9, not 10"),
        ({"wide_words": (9, 8, True)}, "configuration: wide_words[2] must be an integer from 1 to 8, not True"),
        ({"wide_words": (9, 8, 7, "7")}, "configuration: wide_words[3] must be an integer from 1 to 7, not '7'"),
        ({"folded_tokens": -1}, "configuration: folded_tokens must be an integer from 0 to 5, not -1"),
        ({"folded_tokens": 6}, "configuration: folded_tokens must be an integer from 0 to 5, not 6"),
        ({"folded_tokens": True}, "configuration: folded_tokens must be an integer from 0 to 5, not True"),
        (
            {"vocabulary": 1 << 16, "embedding": 257},
            "configuration: vocabulary * embedding must be at most 16777216 with the store bram, not 16842752",
        ),
        (
            {"vocabulary": 1 << 16, "hidden": (171, 4), "lanes": 1, "folded_tokens": 1 << 16, "store": "spram"},
            "configuration: folded_tokens * 257 addresses must be at most 16777216 with the store spram, not 16842752",
        ),
        ({"accumulator_bits": 25}, "configuration: accumulator_bits must be an integer from 16 to 24, not 25"),
        ({"gate_index_bits": 7}, "configuration: gate_index_bits must be an integer from 8 to 12, not 7"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(TINY, **change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "change",
    [
        {"weight_words": 1, "wide_words": (1, 1, 1, 1)},
        {"weight_words": 1 << 24},
        {"wide_words": (256,) * 4},
        {"folded_tokens": 5},
        {"weight_bits": 4},
        {"vocabulary": 1 << 16, "embedding": 256},
        {"vocabulary": 1 << 10, "embedding": 1 << 14, "hidden": (1 << 14,) * 15, "lanes": 32},
        {"vocabulary": 1 << 16, "hidden": (170, 4), "lanes": 1, "folded_tokens": 1 << 16},
        DDR3 | {"vocabulary": 1 << 15, "embedding": 1024, "weight_words": 1 << 22},
        {"vocabulary": 1 << 16, "readout": ReadoutShape(head=1 << 16)},
    ],
)
def test_ends_of_the_ranges_are_accepted(change):
    c = dataclasses.replace(TINY, **change)
    assert Configuration.from_json(c.to_json()) == c
    assert max(section.words for section in memory_sections(c).values()) <= 1 << 24


@pytest.mark.parametrize("text", ["", "x", "[]", "1", "null", "{}", '"a"', "[" * 100])
def test_other_json_is_refused(text):
    with pytest.raises(InputError, match="^configuration: "):
        Configuration.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"format": 5},
        {"format": 7},
        {"format": "6"},
        {"lanes": None},
        {"lanes": {}},
        {"hidden": [[1]]},
        {"hidden": {"1": 2}},
        {"wide_words": 3},
        {"wide_words": [[1]]},
        {"wide_words": {"1": 2}},
        {"folded_tokens": None},
        {"weight_bits": "8"},
        {"compact": 1},
        {"weight_bytes": 1024},
    ],
)
def test_changed_json_is_refused(change):
    with pytest.raises(InputError, match="^configuration: "):
        Configuration.from_json(json.dumps(json.loads(TINY.to_json()) | change))


@pytest.mark.parametrize(
    "name", ["hidden", "compact", "wide_words", "folded_tokens", "weight_bits", "resident_words", "format"]
)
def test_json_that_lacks_something_is_refused(name):
    values = json.loads(TINY.to_json())
    del values[name]
    with pytest.raises(InputError) as error:
        Configuration.from_json(json.dumps(values))
    assert str(error.value) == (
        "configuration: must be an object with exactly the keys accumulator_bits, compact, embedding, folded_tokens, "
        "format, gate_index_bits, hidden, lanes, resident_words, row_bits, row_shift, store, vocabulary, weight_bits, "
        "weight_words, wide_words"
    )


@pytest.mark.parametrize("version", [5, 7])
def test_another_format_is_refused(version):
    with pytest.raises(InputError) as error:
        Configuration.from_json(TINY.to_json().replace('"format":6', f'"format":{version}'))
    assert str(error.value) == "configuration: format must be 6; compile the image again"


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name):
    c = configuration_for(few_values(random_network(1, hidden=(9, 7), embedding=6)), **TARGETS[name])
    if c.store == "sdram":
        ratio = TARGETS[name].get("memory_ratio", 2)
        assert (c.lanes, c.memory_ratio, c.weight_bits, c.folded_tokens) == (8, ratio, 4, 7)  # all rows find room
        return
    assert c.weight_words > 1000
    assert c.lanes == TARGETS[name]["lanes"]
    # All of the weight memory that is not needed for wide runs holds words.
    word_bits = c.lanes * c.narrow_bits
    assert TARGETS[name]["weight_bytes"] - c.weight_memory_bytes <= word_bits // 8
    assert c.weight_memory_bytes <= TARGETS[name]["weight_bytes"]


def test_what_an_sdram_holds():
    c = dataclasses.replace(TINY, store="sdram", weight_bits=4, embedding=6, weight_words=100, folded_tokens=3)
    # A word of two lanes is one of the memory; an address of a row is four numbers of 24 bits.
    c = dataclasses.replace(c, row_bits=24)
    assert (c.word_beats, c.row_beats) == (1, 6)
    assert c.sdram_sizes == {"weights": 100, "embedding": 5 * 3, "rows": 3 * c.layer_depth(0) * 6}
    assert c.sdram_base == {"weights": 0, "embedding": 100, "rows": 115}
    assert c.sdram_words == sum(c.sdram_sizes.values())
    assert dataclasses.replace(c, lanes=4).word_beats == 2
    assert dataclasses.replace(c, row_bits=17).row_beats == 5
    sections = memory_sections(c)
    assert {name: sections[name].words for name in c.sdram_sizes} == c.sdram_sizes
    assert {section.word_bits for name, section in sections.items() if name in c.sdram_sizes} == {16}
    # Resident words lie in block RAM, whole ones, and before the others.
    assert "resident" not in sections
    c = dataclasses.replace(c, resident_words=29)
    section = memory_sections(c)["resident"]
    assert (section.number, section.word_bits, section.words) == (12, 16, 29)
    assert (c.resident_bytes, c.sdram_base["embedding"], c.start_bits) == (58, 100, 8)
