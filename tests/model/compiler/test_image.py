"""Image file: round trip, and refusal of everything else."""

import dataclasses
import hashlib
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.compiler import image as image_module
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TINY, Configuration
from egret.model.compiler.image import HOST_SECTIONS, MAGIC, VERSION, Image
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import read_image
from egret.model.errors import InputError
from tests.support.networks import few_values, random_network

quick = settings(deadline=None, print_blob=True, derandomize=True, max_examples=200)


def make(folded_tokens=0, few=False, **options):
    """An image, of a network with few values for 4-bit weights."""
    network = random_network(1, **{"vocabulary": 3, "embedding": 2, "hidden": (2,), "density": 0.8} | options)
    network = few_values(network) if few else network
    weight_bytes = 200 if "hidden" in options else 64
    return compile_image(
        network,
        configuration_for(
            network, lanes=1, weight_bytes=weight_bytes, folded_tokens=folded_tokens, weight_bits=None if few else 8
        ),
    )


def with_everything():
    """An image with all optional sections, its weight memory not full."""
    network = few_values(random_network(1, vocabulary=3, embedding=2, hidden=(32,), density=0.05))
    c = dataclasses.replace(
        configuration_for(network, lanes=1, folded_tokens=2), weight_words=300, wide_words=(290, 200, 1)
    )
    return compile_image(network, c)


IMAGE = make()
DATA = IMAGE.to_bytes()
FULL = with_everything()
IMAGES = {"plain": IMAGE, "folded": make(folded_tokens=2), "four bits": make(few=True), "full": FULL}


def sealed(data):
    """The file with its last CRC made right."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def with_header(change):
    """A file whose JSON header text went through ``change``, all sizes, offsets and CRCs made right again."""
    sections, size = struct.unpack_from("<HI", DATA, 10)
    header = change(DATA[24 : 24 + size])
    table = b""
    for index in range(sections):
        number, word, words, offset, crc = struct.unpack_from("<HHIII", DATA, 24 + size + 16 * index)
        table += struct.pack("<HHIII", number, word, words, offset + len(header) - size, crc)
    return sealed(
        DATA[:12] + struct.pack("<I", len(header)) + DATA[16:24] + header + table + DATA[24 + size + 16 * sections :]
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden": (3, 2)},
        {"hidden": (4,)},
        {"density": 0},
        {"folded_tokens": 1},
        {"folded_tokens": 3, "few": True},
        {"hidden": (3, 2), "few": True},
        {"hidden": (3, 2), "few": True, "folded_tokens": 2},
    ],
)
def test_round_trip(options, tmp_path):
    image = make(**options)
    assert Image.from_bytes(image.to_bytes()) == image
    image.save(tmp_path / "an.image")
    assert Image.load(tmp_path / "an.image") == image
    assert [path.name for path in tmp_path.iterdir()] == ["an.image"]
    assert image.to_bytes() == make(**options).to_bytes()


def test_round_trip_with_all_sections(tmp_path):
    assert FULL.configuration.wide_words == (290, 200, 1) and FULL.configuration.folded_tokens == 2
    assert any(FULL.memories["run_4"]) and any(FULL.memories["codebook"]) and any(FULL.memories["rows"])
    assert Image.from_bytes(FULL.to_bytes()) == FULL
    FULL.save(tmp_path / "full.image")
    assert Image.load(tmp_path / "full.image") == FULL
    assert FULL.to_bytes() == with_everything().to_bytes()
    again = compile_image(read_image(Image.load(tmp_path / "full.image")), FULL.configuration)
    assert again.memories == FULL.memories


def test_head_is_as_documented():
    """Magic, version, number of sections, bytes of the header, digest."""
    assert DATA[:8] == MAGIC == b"EGRETIMG"
    version, sections, header, digest = struct.unpack_from("<HHI8s", DATA, 8)
    assert IMAGE.readout_weight == b""
    assert (version, sections, digest) == (VERSION, 8, IMAGE.configuration.digest)
    assert VERSION == 2
    assert json.loads(DATA[24 : 24 + header])["configuration"] == json.loads(IMAGE.configuration.to_json())
    assert digest == hashlib.sha256(IMAGE.configuration.to_json().encode()).digest()[:8]


@pytest.mark.parametrize("name", IMAGES)
def test_table_is_as_documented(name):
    """Number, bytes a word, words, offset and CRC of each section; they follow each other without gaps."""
    image, data = IMAGES[name], IMAGES[name].to_bytes()
    count, header = struct.unpack_from("<HI", data, 10)
    numbers = {section.number: section for section in memory_sections(image.configuration).values()}
    end = 24 + header + 16 * count
    found = []
    for index in range(count):
        number, word_bytes, words, offset, crc = struct.unpack_from("<HHIII", data, 24 + header + 16 * index)
        content = data[offset : offset + word_bytes * words]
        assert offset == end and crc == zlib.crc32(content)
        end += len(content)
        if number in numbers:
            assert word_bytes == -(-numbers[number].word_bits // 8)
            assert content == image.memories[numbers[number].name]
        else:
            assert (number, word_bytes, content) in [
                (16, 1, image.vocabulary),
                (17, 4, image.readout_bias),
                (18, 1, image.readout_weight),
            ]
        found.append(number)
    assert end == len(data) - 4
    wanted = [*numbers, 16, 17, *([18] if image.readout_weight else [])]
    assert found == wanted


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("value", [0x01, 0x80, 0xFF])
def test_every_corrupted_byte_is_refused(value, name):
    data = IMAGES[name].to_bytes()
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= value
        with pytest.raises(InputError) as error:
            Image.from_bytes(bytes(broken), "x.image")
        assert str(error.value).startswith("x.image: ") and "\n" not in str(error.value), place


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("value", [0x01, 0x80])
def test_every_corrupted_byte_under_a_right_crc(value, name):
    """Whoever writes the last CRC anew is caught by the sections' CRCs, the digest, or the checks of the content."""
    passed, data = [], IMAGES[name].to_bytes()
    for place in range(len(data) - 4):
        broken = bytearray(data)
        broken[place] ^= value
        try:
            Image.from_bytes(sealed(bytes(broken)), "x.image")
        except InputError as error:
            assert str(error).startswith("x.image: ") and "\n" not in str(error), place
        else:
            passed.append(place)
    # Only the read-out's scale, which nothing else depends on, can become another number.
    scale = data.index(b'"readout_fraction":') + len(b'"readout_fraction":')
    assert all(scale <= place < scale + 2 for place in passed)


@pytest.mark.parametrize("name", IMAGES)
def test_every_truncation_is_refused(name):
    data = IMAGES[name].to_bytes()
    for length in range(len(data)):
        with pytest.raises(InputError, match=r"^x\.image: ") as error:
            Image.from_bytes(data[:length], "x.image")
        assert "\n" not in str(error.value)
        if length > 4:
            with pytest.raises(InputError, match=r"^x\.image: "):
                Image.from_bytes(sealed(data[:length]), "x.image")


def test_an_image_ends_alike_where_it_is_written_and_read(monkeypatch, tmp_path):
    """The section table cannot say where a section begins behind 4 GiB; the limit is set here to this image's size."""
    monkeypatch.setattr(image_module, "_LARGEST", len(DATA))
    assert Image.from_bytes(IMAGE.to_bytes()) == IMAGE
    monkeypatch.setattr(image_module, "_LARGEST", len(DATA) - 1)
    message = f"the image must have at most {len(DATA) - 1} bytes, not {len(DATA)}"
    with pytest.raises(InputError, match=message.replace("the image", "image:")):
        IMAGE.save(tmp_path / "image")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=message):
        Image.from_bytes(DATA)


def test_appended_bytes_are_refused():
    with pytest.raises(InputError, match=f"^image: the image must have {len(DATA)} bytes, not {len(DATA) + 1}$"):
        Image.from_bytes(DATA + b"\0")


@quick
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(data, begun):
    with pytest.raises(InputError):
        Image.from_bytes(MAGIC + data if begun else data)


@quick
@given(st.integers(0, len(DATA) - 5), st.binary(min_size=1, max_size=24))
def test_overwritten_bytes_never_crash(place, data):
    broken = sealed(DATA[:place] + data[: len(DATA) - 4 - place] + DATA[place + len(data) : len(DATA) - 4] + DATA[-4:])
    try:
        image = Image.from_bytes(broken)
    except InputError:
        return
    assert image.configuration == IMAGE.configuration and image.memories == IMAGE.memories


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"{}", b'"x"', b"1e999", b'{"configuration":{}}', b"\xff\xfe", b"[" * 5000]
)
def test_other_headers_are_refused(text):
    with pytest.raises(InputError, match="^x: ") as error:
        Image.from_bytes(with_header(lambda _: text), "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "before, after, message",
    [
        (
            b'"tokens":"char"',
            b'"tokens":"byte"',
            "x: image: tokens must be 'word', 'char', 'id', 'bpe' or 'number', not 'byte'",
        ),
        (
            b'"tokens":"char"',
            b'"tokens":null',
            "x: image: tokens must be 'word', 'char', 'id', 'bpe' or 'number', not None",
        ),
        (
            b'"tokens":"char"',
            b'"tokens":[]',
            "x: image: tokens must be 'word', 'char', 'id', 'bpe' or 'number', not []",
        ),
        (b'"format":6', b'"format":5', "x: configuration: format must be 6; compile the image again"),
        (b'"format":6', b'"format":7', "x: configuration: format must be 6; compile the image again"),
        (b'"lanes":1', b'"lanes":3', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3"),
        (b'"lanes":1', b'"lanes":true', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not True"),
        (b'"lanes":1', b'"lanes":[]', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not []"),
        (b'"lanes":1', b'"lanes":1.0', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 1.0"),
        (b'"hidden":[2]', b'"hidden":[]', "x: configuration: hidden must be a tuple of 1 to 15 layer sizes, not ()"),
        (b'"hidden":[2]', b'"hidden":2', "x: configuration: hidden must be a tuple of 1 to 15 layer sizes, not 2"),
        (b'"hidden":[2]', b'"hidden":["2"]', "x: configuration: hidden[0] must be an integer from 1 to 16384, not '2'"),
        (b'"weight_bits":8', b'"weight_bits":16', "x: configuration: weight_bits must be 4 or 8, not 16"),
        (
            b'"wide_words":[]',
            b'"wide_words":[0]',
            "x: configuration: wide_words[0] must be an integer from 1 to 42, not 0",
        ),
        (
            b'"wide_words":[]',
            b'"wide_words":7',
            "x: configuration: wide_words must be a tuple of at most 4 numbers, not 7",
        ),
        (
            b'"folded_tokens":0',
            b'"folded_tokens":4',
            "x: configuration: folded_tokens must be an integer from 0 to 3, not 4",
        ),
    ],
)
def test_wrong_headers_say_what_is_wrong(before, after, message):
    def change(header):
        assert before in header
        return header.replace(before, after)

    with pytest.raises(InputError) as error:
        Image.from_bytes(with_header(change), "x")
    assert str(error.value) == message


@pytest.mark.parametrize("fraction", [b"31", b"-1", b"true", b"1.5", b'"3"', b"null", b"1e1"])
def test_wrong_scales_are_refused(fraction):
    old = b'"readout_fraction":%d' % IMAGE.readout_fraction
    with pytest.raises(InputError, match="^x: image: readout_fraction must be 0 to 30, not "):
        Image.from_bytes(with_header(lambda text: text.replace(old, b'"readout_fraction":' + fraction)), "x")


def test_another_version_is_refused():
    for version in (1, 3):
        message = f"^x: image version {version}; this program reads version 2: compile it again$"
        with pytest.raises(InputError, match=message):
            Image.from_bytes(sealed(DATA[:8] + bytes([version, 0]) + DATA[10:]), "x")


def with_configuration(data, **changes):
    """The file with another configuration in its header, whose digest and CRC are right."""
    count, size = struct.unpack_from("<HI", data, 10)
    header = json.loads(data[24 : 24 + size])
    configuration = dataclasses.replace(Configuration.from_json(json.dumps(header["configuration"])), **changes)
    header["configuration"] = json.loads(configuration.to_json())
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    table = b""
    for index in range(count):
        number, word, words, offset, crc = struct.unpack_from("<HHIII", data, 24 + size + 16 * index)
        table += struct.pack("<HHIII", number, word, words, offset + len(text) - size, crc)
    return sealed(
        data[:12] + struct.pack("<I", len(text)) + configuration.digest + text + table + data[24 + size + 16 * count :]
    )


@pytest.mark.parametrize(
    "name, changes, message",
    [
        (
            "plain",
            {"folded_tokens": 1},
            "image: needs the memories weights, columns, embedding, bias, threshold, shift, rows",
        ),
        (
            "plain",
            {"wide_words": (40, 3)},
            "image: needs the memories weights, columns, embedding, bias, threshold, shift, run_4, run_5",
        ),
        ("folded", {"folded_tokens": 1}, "image: memory 'rows' holds 3 words of 4 bytes, not 24 bytes"),
        ("folded", {"folded_tokens": 3}, "image: memory 'rows' holds 9 words of 4 bytes, not 24 bytes"),
        ("folded", {"folded_tokens": 0}, "section 7 with words of 4 bytes is not one of this configuration"),
        ("four bits", {"weight_bits": 8}, "section 0 with words of 1 bytes is not one of this configuration"),
        ("plain", {"weight_bits": 4}, "section 0 with words of 2 bytes is not one of this configuration"),
        ("full", {"wide_words": (290, 200)}, "section 10 with words of 1 bytes is not one of this configuration"),
        ("full", {"wide_words": (100, 100, 1)}, "image: memory 'run_4' holds 100 words of 1 bytes, not WORDS bytes"),
        ("full", {"wide_words": (200, 100, 1)}, "image: memory 'run_5' holds 100 words of 1 bytes, not WORDS bytes"),
        (
            "full",
            {"weight_words": 100, "wide_words": (99, 98, 1)},
            "image: memory 'weights' holds 100 words of 1 bytes, not WORDS bytes",
        ),
    ],
)
def test_sections_of_another_configuration_are_refused(name, changes, message):
    """A header that asks for other optional sections, or for others of their sizes, than the file has."""
    data = IMAGES[name].to_bytes()
    assert with_configuration(data) == data
    with pytest.raises(InputError) as error:
        Image.from_bytes(with_configuration(data, **changes), "x")
    # How many words a network needs is the compiler's affair.
    words = len(IMAGES[name].memories["weights"])
    assert words > 100 or name != "full"
    assert str(error.value) == f"x: {message.replace('WORDS', str(words))}"


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"PK\3\4")
    with pytest.raises(InputError) as error:
        Image.load(tmp_path / "a")
    assert str(error.value) == (
        f"{tmp_path / 'a'}: not an image (it must begin with 'EGRETIMG'); `egret compile` writes one"
    )
    for missing in ("b", "."):
        with pytest.raises(InputError, match=": cannot read it: (No such file|Is a directory)"):
            Image.load(tmp_path / missing)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"memories": {}}, "image: needs the memories weights, columns, embedding, bias, threshold, shift"),
        ({"vocabulary_kind": "x"}, "image: tokens must be 'word', 'char', 'id', 'bpe' or 'number', not 'x'"),
        ({"readout_fraction": 31}, "image: readout_fraction must be 0 to 30, not 31"),
        ({"readout_fraction": True}, "image: readout_fraction must be 0 to 30, not True"),
        ({"readout_bias": bytes(11)}, "image: readout_bias must have 12 bytes, not 11"),
        ({"readout_weight": bytes(7)}, "image: readout_weight must have 6 bytes, not 7"),
        (
            {"memories": IMAGE.memories | {"bias": IMAGE.memories["bias"][1:]}},
            "image: memory 'bias' holds 2 words of 9 bytes, not 17 bytes",
        ),
        (
            {"memories": IMAGE.memories | {"shift": b"\1\1"}},
            "image: memory 'shift' holds 3 words of 1 bytes, not 2 bytes",
        ),
        (
            {"memories": IMAGE.memories | {"weights": bytes(100)}},
            "image: memory 'weights' holds 42 words of 2 bytes, not 100 bytes",
        ),
        (
            {"memories": IMAGE.memories | {"weights": bytes(83)}},
            "image: memory 'weights' holds 42 words of 2 bytes, not 83 bytes",
        ),
        (
            {"memories": IMAGE.memories | {"columns": IMAGE.memories["columns"] + bytes(2)}},
            "image: memory 'columns' holds 6 words of 2 bytes, not 14 bytes",
        ),
        (
            {"memories": IMAGE.memories | {"codebook": bytes(48)}},
            "image: needs the memories weights, columns, embedding, bias, threshold, shift",
        ),
        (
            {"memories": IMAGE.memories | {"rows": b""}},
            "image: needs the memories weights, columns, embedding, bias, threshold, shift",
        ),
    ],
)
def test_refusals(change, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(IMAGE, **change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("codebook", bytes(47), "memory 'codebook' holds 48 words of 1 bytes, not 47 bytes"),
        ("codebook", bytes(64), "memory 'codebook' holds 48 words of 1 bytes, not 64 bytes"),
        ("rows", bytes(380), "memory 'rows' holds 96 words of 4 bytes, not 380 bytes"),
        ("rows", bytes(388), "memory 'rows' holds 96 words of 4 bytes, not 388 bytes"),
        ("weights", bytes(301), "memory 'weights' holds 300 words of 1 bytes, not 301 bytes"),
        ("run_4", bytes(291), "memory 'run_4' holds 170 words of 1 bytes, not 291 bytes"),
        ("run_5", bytes(201), "memory 'run_5' holds 170 words of 1 bytes, not 201 bytes"),
        ("run_6", bytes(2), "memory 'run_6' holds 1 words of 1 bytes, not 2 bytes"),
    ],
)
def test_refusals_of_optional_memories(name, content, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(FULL, memories=FULL.memories | {name: content})
    assert str(error.value) == f"image: {message}"
    with pytest.raises(InputError) as error:
        dataclasses.replace(FULL, memories={other: data for other, data in FULL.memories.items() if other != name})
    assert str(error.value) == (
        "image: needs the memories weights, columns, embedding, bias, threshold, shift, "
        "codebook, rows, run_4, run_5, run_6"
    )


def test_words_that_are_not_needed_may_be_left_out():
    """But a word has all bits of its runs, or none is there."""
    runs = ("run_4", "run_5", "run_6")
    empty = {name: b"" for name in ("weights", *runs)}
    image = dataclasses.replace(FULL, memories=FULL.memories | empty)
    assert Image.from_bytes(image.to_bytes()) == image
    for name in runs:
        short = FULL.memories[name][:-1]
        with pytest.raises(InputError, match=f"^image: memory '{name}' holds {len(short) + 1} words of 1 bytes, not "):
            dataclasses.replace(FULL, memories=FULL.memories | {name: short})


def test_untied_needs_weights():
    with pytest.raises(InputError, match="^image: lacks readout_weight, which a network with another embedding width"):
        dataclasses.replace(make(hidden=(3,)), readout_weight=b"")


def test_sections():
    sections = memory_sections(make(hidden=(3, 2)).configuration)
    assert list(sections) == [section.name for section in sections.values()]
    assert list(sections) == ["weights", "columns", "embedding", "bias", "threshold", "shift"]
    assert [section.number for section in sections.values()] == list(range(6)) and len(sections) <= HOST_SECTIONS
    # Columns: 2 inputs and twice 3 neurons, then 3 inputs and twice 2 neurons.
    assert [section.words for section in sections.values()][1:] == [2 + 6 + 3 + 4, 6, 5, 5, 6]


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_all_sections(lanes):
    """Numbers, names, widths and depths, also of the optional sections."""
    c = Configuration(
        vocabulary=50,
        embedding=7,
        hidden=(30, 20),
        lanes=lanes,
        weight_bits=4,
        weight_words=300,
        wide_words=(300, 17, 2, 1),
        folded_tokens=11,
        accumulator_bits=20,
        row_bits=17,
    )
    # A layer's addresses: gates u and r, then z, over twice as many banks as there are lanes.
    depths = [-(-60 // (2 * lanes)) + -(-30 // (2 * lanes)), -(-40 // (2 * lanes)) + -(-20 // (2 * lanes))]
    span = max(16, *depths)
    start, count, block = 9, (3 * span).bit_length(), max((span - 1).bit_length() - 4, 1)
    assert [(one.number, one.name, one.word_bits, one.words) for one in memory_sections(c).values()] == [
        (0, "weights", 8 * lanes, 300),
        (1, "columns", start + count + lanes * (3 + block), 7 + 60 + 30 + 40),
        (2, "embedding", 8, 350),
        (3, "bias", 60, 50),
        (4, "threshold", 15, 50),
        (5, "shift", 4, 6),
        (6, "codebook", 8, 2 * 3 * 16),
        (7, "rows", 2 * lanes * 17, 11 * depths[0]),
        (8, "run_4", lanes, 300),
        (9, "run_5", lanes, 17),
        (10, "run_6", lanes, 2),
        (11, "run_7", lanes, 1),
    ]
    resident = dataclasses.replace(c, store="sdram", embedding=8, wide_words=(), lanes=4, resident_words=21)
    assert [
        (one.number, one.name, one.word_bits, one.words) for one in list(memory_sections(resident).values())[-2:]
    ] == [
        (12, "resident", 32, 21),
        (15, "checks", 32, 1),
    ]
    for section in memory_sections(c).values():
        assert section.word_bytes == (section.word_bits + 7) // 8
        assert section.number < HOST_SECTIONS == 16


@pytest.mark.parametrize(
    "change, names",
    [
        ({}, []),
        ({"weight_bits": 4}, ["codebook"]),
        ({"folded_tokens": 1}, ["rows"]),
        ({"wide_words": (9,)}, ["run_4"]),
        ({"weight_bits": 4, "wide_words": (9, 9)}, ["codebook", "run_4", "run_5"]),
        ({"folded_tokens": 5, "wide_words": (256, 3, 2, 1)}, ["rows", "run_4", "run_5", "run_6", "run_7"]),
    ],
)
def test_optional_sections(change, names):
    sections = memory_sections(dataclasses.replace(TINY, **change))
    assert list(sections)[6:] == names
    numbers = {"codebook": 6, "rows": 7, "run_4": 8, "run_5": 9, "run_6": 10, "run_7": 11}
    assert [section.number for section in sections.values()] == [*range(6), *(numbers[name] for name in names)]
