"""The definition of the link, and its documentation."""

import zlib
from pathlib import Path

from amaranth.lib.crc.catalog import CRC32_ISO_HDLC

from egret.rtl import protocol


def test_crc_is_the_catalogued_one():
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert CRC32_ISO_HDLC(8).compute(b"123456789") == 0xCBF43926
    assert zlib.crc32(b"") == protocol.NO_CRC


def test_event_bytes():
    assert protocol.event_bytes([], 9) == bytes(2)
    assert protocol.event_bytes([(0, 7), (3, 255), (8, 1)], 9) == bytes([0b1001, 1, 7, 255, 1])
    assert [protocol.bitmap_bytes(outputs) for outputs in (1, 8, 9, 750)] == [1, 1, 2, 94]


def test_counter_names():
    plain = protocol.counter_names(2, sdram=False)
    assert plain[:4] == ("tokens", "cycles", "words", "macs") and plain[-2:] == ("events_0", "events_1")
    sdram = (*plain, "memory", "beats", "scrubbed", "damaged")
    assert protocol.counter_names(2, sdram=True) == (*sdram, "damaged_block")
    assert protocol.counter_names(2, sdram=True, ddr3=True) == (*sdram, "faulty_lines", "damaged_block")
    assert set(protocol.CAUSES) - set(plain) == {"memory", "read_out"}


def test_documentation_is_current():
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert text.split("describe() -->\n\n")[1] == protocol.describe()
