"""Image file: round trip, and refusal of everything else."""

import dataclasses
import hashlib
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.model.compile import compile_image, configuration_for
from egret.model.errors import InputError
from egret.model.image import HOST_SECTIONS, MAGIC, VERSION, Image, memory_sections
from tests.networks import random_network

quick = settings(deadline=None, print_blob=True, derandomize=True, max_examples=200)


def make(**options):
    parameters = random_network(1, **{"vocabulary": 3, "embedding": 2, "hidden": (2,), "density": 0.8} | options)
    weight_bytes = 200 if "hidden" in options else 64
    return compile_image(parameters, configuration_for(parameters, lanes=1, weight_bytes=weight_bytes))


IMAGE = make()
DATA = IMAGE.to_bytes()


def sealed(data):
    """The file with its last CRC made right."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def with_header(change):
    """A file whose JSON header text went through ``change``, all sizes, offsets and CRCs made right again."""
    sections, size = struct.unpack_from("<HI", DATA, 10)
    header = change(DATA[24:24 + size])
    table = b""
    for index in range(sections):
        number, word, words, offset, crc = struct.unpack_from("<HHIII", DATA, 24 + size + 16 * index)
        table += struct.pack("<HHIII", number, word, words, offset + len(header) - size, crc)
    return sealed(DATA[:12] + struct.pack("<I", len(header)) + DATA[16:24] + header + table
                  + DATA[24 + size + 16 * sections:])


@pytest.mark.parametrize("options", [{}, {"hidden": (3, 2)}, {"hidden": (4,)}, {"density": 0}])
def test_round_trip(options, tmp_path):
    image = make(**options)
    assert Image.from_bytes(image.to_bytes()) == image
    image.save(tmp_path / "an.image")
    assert Image.load(tmp_path / "an.image") == image
    assert [path.name for path in tmp_path.iterdir()] == ["an.image"]
    assert image.to_bytes() == make(**options).to_bytes()


def test_head_is_as_documented():
    """Magic, version, number of sections, bytes of the header, digest."""
    assert DATA[:8] == MAGIC == b"EGRETIMG"
    version, sections, header, digest = struct.unpack_from("<HHI8s", DATA, 8)
    assert (version, sections, digest) == (VERSION, 8, IMAGE.configuration.digest)
    assert json.loads(DATA[24:24 + header])["configuration"] == json.loads(IMAGE.configuration.to_json())
    assert digest == hashlib.sha256(IMAGE.configuration.to_json().encode()).digest()[:8]


@pytest.mark.parametrize("value", [0x01, 0x80, 0xFF])
def test_every_corrupted_byte_is_refused(value):
    for place in range(len(DATA)):
        broken = bytearray(DATA)
        broken[place] ^= value
        with pytest.raises(InputError) as error:
            Image.from_bytes(bytes(broken), "x.image")
        assert str(error.value).startswith("x.image: ") and "\n" not in str(error.value), place


@pytest.mark.parametrize("value", [0x01, 0x80])
def test_every_corrupted_byte_under_a_right_crc(value):
    """Whoever writes the last CRC anew is caught by the sections' CRCs, the digest, or the checks of the content."""
    passed = []
    for place in range(len(DATA) - 4):
        broken = bytearray(DATA)
        broken[place] ^= value
        try:
            Image.from_bytes(sealed(bytes(broken)), "x.image")
        except InputError as error:
            assert str(error).startswith("x.image: ") and "\n" not in str(error), place
        else:
            passed.append(place)
    # Only the read-out's scale, which nothing else depends on, can become another number.
    scale = DATA.index(b'"readout_fraction":') + len(b'"readout_fraction":')
    assert all(scale <= place < scale + 2 for place in passed)


def test_every_truncation_is_refused():
    for length in range(len(DATA)):
        with pytest.raises(InputError, match=r"^x\.image: ") as error:
            Image.from_bytes(DATA[:length], "x.image")
        assert "\n" not in str(error.value)
        if length > 4:
            with pytest.raises(InputError, match=r"^x\.image: "):
                Image.from_bytes(sealed(DATA[:length]), "x.image")


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
    broken = sealed(DATA[:place] + data[:len(DATA) - 4 - place] + DATA[place + len(data):len(DATA) - 4] + DATA[-4:])
    try:
        image = Image.from_bytes(broken)
    except InputError:
        return
    assert image.configuration == IMAGE.configuration and image.memories == IMAGE.memories


@pytest.mark.parametrize("text", [
    b"", b"{", b"[]", b"null", b"{}", b'"x"', b"1e999", b'{"configuration":{}}', b"\xff\xfe", b"[" * 5000])
def test_other_headers_are_refused(text):
    with pytest.raises(InputError, match="^x: ") as error:
        Image.from_bytes(with_header(lambda _: text), "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("before, after, message", [
    (b'"tokens":"char"', b'"tokens":"byte"', "x: image: vocabulary_kind must be 'word' or 'char', not 'byte'"),
    (b'"tokens":"char"', b'"tokens":null', "x: image: vocabulary_kind must be 'word' or 'char', not None"),
    (b'"tokens":"char"', b'"tokens":[]', "x: image: vocabulary_kind must be 'word' or 'char', not []"),
    (b'"format":1', b'"format":2', "x: configuration: format must be 1; compile the image again"),
    (b'"lanes":1', b'"lanes":3', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 3"),
    (b'"lanes":1', b'"lanes":true', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not True"),
    (b'"lanes":1', b'"lanes":[]', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not []"),
    (b'"lanes":1', b'"lanes":1.0', "x: configuration: lanes must be 1, 2, 4, 8, 16 or 32, not 1.0"),
    (b'"hidden":[2]', b'"hidden":[]', "x: configuration: hidden must be a tuple of 1 to 15 layer sizes, not ()"),
    (b'"hidden":[2]', b'"hidden":2', "x: configuration: hidden must be a tuple of 1 to 15 layer sizes, not 2"),
    (b'"hidden":[2]', b'"hidden":["2"]',
     "x: configuration: hidden[0] must be an integer from 1 to 16384, not '2'"),
])
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
    with pytest.raises(InputError, match="^x: image version 2; this program reads version 1: compile it again$"):
        Image.from_bytes(sealed(DATA[:8] + b"\2\0" + DATA[10:]), "x")


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"PK\3\4")
    with pytest.raises(InputError) as error:
        Image.load(tmp_path / "a")
    assert str(error.value) == (f"{tmp_path / 'a'}: not an image (it must begin with 'EGRETIMG'); "
                                "`egret compile` writes one")
    for missing in ("b", "."):
        with pytest.raises(InputError, match=": cannot read it: (No such file|Is a directory)"):
            Image.load(tmp_path / missing)


@pytest.mark.parametrize("change, message", [
    ({"memories": {}}, "image: needs the memories weights, columns, embedding, bias, threshold, shift"),
    ({"vocabulary_kind": "x"}, "image: vocabulary_kind must be 'word' or 'char', not 'x'"),
    ({"readout_fraction": 31}, "image: readout_fraction must be 0 to 30, not 31"),
    ({"readout_fraction": True}, "image: readout_fraction must be 0 to 30, not True"),
    ({"readout_bias": bytes(11)}, "image: readout_bias must have 12 bytes, not 11"),
    ({"readout_weight": bytes(7)}, "image: readout_weight must have 6 bytes, not 7"),
    ({"memories": IMAGE.memories | {"bias": IMAGE.memories["bias"][1:]}},
     "image: memory 'bias' holds 2 words of 9 bytes, not 17 bytes"),
    ({"memories": IMAGE.memories | {"shift": b"\1\1"}}, "image: memory 'shift' holds 3 words of 1 bytes, not 2 bytes"),
    ({"memories": IMAGE.memories | {"weights": bytes(100)}},
     "image: memory 'weights' holds 46 words of 2 bytes, not 100 bytes"),
])
def test_refusals(change, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(IMAGE, **change)
    assert str(error.value) == message


def test_untied_needs_weights():
    with pytest.raises(InputError, match="^image: lacks readout_weight, which a network with another embedding width"):
        dataclasses.replace(make(hidden=(3,)), readout_weight=b"")


def test_sections():
    sections = memory_sections(make(hidden=(3, 2)).configuration)
    assert [section.name for section in sections] == ["weights", "columns", "embedding", "bias", "threshold", "shift"]
    assert [section.number for section in sections] == list(range(6)) and len(sections) <= HOST_SECTIONS
    # Columns: 2 inputs and twice 3 neurons, then 3 inputs and twice 2 neurons.
    assert [section.words for section in sections][1:] == [2 + 6 + 3 + 4, 6, 5, 5, 6]
