"""Frames in Python: counterpart of the receiver and of the sender's framing.

A frame is delimited as in RFC 1662: a flag byte before and after it, and inside it every byte equal to the flag or to
the escape byte is sent as the escape byte and the byte XOR 0x20. Its content ends with RFC 1662's 32-bit check, the
CRC-32 that `zlib.crc32` computes. So a reader that lost its place finds it again at the next flag.
"""

import re
import zlib
from dataclasses import dataclass

from egret.rtl.protocol import CRC_BYTES, HEADER, SEQUENCES

__all__ = ["BadFrame", "Frame", "FrameReader", "encode_frame"]


@dataclass(frozen=True)
class Frame:
    """Content of a frame.

    Parameters
    ----------
    sequence : int
        The sequence number, 16 bits.
    command : int
        The command byte.
    payload : bytes
        What follows the header.
    """

    sequence: int
    command: int
    payload: bytes


class BadFrame:
    """What `FrameReader.feed` returns in place of a frame that was cut or corrupted."""


def encode_frame(sequence: int, command: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame on the line, flags included: ``sequence`` modulo 2^16, ``command``, ``payload``."""
    content = HEADER.pack(sequence % SEQUENCES, command, len(payload)) + payload
    content += zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    content = content.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + content + b"\x7e"


_BAD_ESCAPE = re.compile(rb"\x7d(?![\x5d\x5e])")


class FrameReader:
    """Finds frames in bytes that arrive in pieces of any size, and survives any bytes.

    Parameters
    ----------
    max_payload : int
        A frame with a longer payload is bad.
    """

    def __init__(self, max_payload: int) -> None:
        self._limit = HEADER.size + max_payload + CRC_BYTES
        self._synchronised = False
        self._pending = b""

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """Take bytes, and return the frames that they complete.

        Parameters
        ----------
        data : bytes
            The next bytes on the line. What comes before the first flag ever seen is dropped without a word.

        Returns
        -------
        list[Frame | BadFrame]
            In order; a `BadFrame` for each one that was damaged.
        """
        *complete, self._pending = (self._pending + data).split(b"\x7e")
        if complete and not self._synchronised:
            self._synchronised = True
            del complete[0]
        if len(self._pending) > 2 * self._limit or not self._synchronised:
            # Enough to be judged a bad frame: longer than any good one, escapes included.
            self._pending = self._pending[: 2 * self._limit + 1] if self._synchronised else b""
        return [self._decode(content) for content in complete if content]

    def _decode(self, content: bytes) -> Frame | BadFrame:
        if _BAD_ESCAPE.search(content):
            return BadFrame()
        # This order of replacements undoes the escapes: the first makes no new escape byte.
        content = content.replace(b"\x7d\x5e", b"\x7e").replace(b"\x7d\x5d", b"\x7d")
        if not HEADER.size + CRC_BYTES <= len(content) <= self._limit:
            return BadFrame()
        body, crc = content[:-CRC_BYTES], content[-CRC_BYTES:]
        sequence, command, length = HEADER.unpack_from(body)
        payload = body[HEADER.size :]
        if zlib.crc32(body).to_bytes(CRC_BYTES, "little") != crc or length != len(payload):
            return BadFrame()
        return Frame(sequence, command, payload)
