"""The image: one file with everything that a core and its host need. `docs/image.md` documents it bit by bit.

Sections below `HOST_SECTIONS` are the contents of the core's memories, one section a memory, as arrays of
little-endian words of whole bytes; a loader copies them as they are. The others are for the host.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from egret.model.compiler.checks import checks_of
from egret.model.compiler.configuration import Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.errors import InputError
from egret.model.files import read, write_aside
from egret.model.tokens import check_kind

__all__ = ["HOST_SECTIONS", "MAGIC", "VERSION", "Image"]

MAGIC = b"EGRETIMG"
VERSION = 2
HOST_SECTIONS = 16
"""First section number that no memory of the core has."""

_LARGEST = (1 << 32) - 1  # bytes: the section table and the link count no further

VOCABULARY, READOUT_BIAS, READOUT_WEIGHT = 16, 17, 18
HOST_NAMES = {VOCABULARY: "vocabulary", READOUT_BIAS: "readout_bias", READOUT_WEIGHT: "readout_weight"}

_HEADER = struct.Struct("<8sHHI8s")  # magic, version, sections, bytes of the configuration, digest
_SECTION = struct.Struct("<HHIII")  # number, bytes a word, words, offset from the file's start, CRC-32
_CRC = struct.Struct("<I")  # CRC-32 of all bytes before it


@dataclass(frozen=True)
class Image:
    """A compiled network.

    Attributes
    ----------
    configuration : Configuration
        Of the core that it runs on.
    memories : dict of str to bytes
        Content by name of memory, from its first word; what is not given is not written.
    vocabulary_kind : str
        One of `egret.model.tokens.KINDS`.
    vocabulary : bytes
        Content of a ``vocab.txt``, or of a ``tokenizer.json``; empty in a later part of a network.
    readout_fraction : int
        Fraction bits of a logit.
    readout_bias : bytes
        V little-endian signed 32-bit integers, in logit LSBs; empty in a part of a network, which has no read-out.
    readout_weight : bytes
        V * H_last signed bytes; empty where the embedding serves.
    """

    configuration: Configuration
    memories: dict[str, bytes]
    vocabulary_kind: str
    vocabulary: bytes
    readout_fraction: int
    readout_bias: bytes
    readout_weight: bytes = b""

    def __post_init__(self):
        c = self.configuration
        sections, weight_words = memory_sections(c), 0
        if set(self.memories) != set(sections):
            raise InputError(f"image: needs the memories {', '.join(sections)}")
        for name, section in sections.items():
            data = self.memories[name]
            words, rest = divmod(len(data), section.word_bytes)
            most = least = section.words
            if name == "weights" and c.store != "sdram":
                least, weight_words = 0, words
            elif name.startswith("run_"):
                most = least = min(section.words, weight_words)
            if rest or not least <= words <= most:
                raise InputError(
                    f"image: memory {name!r} holds {most} words of {section.word_bytes} bytes, not {len(data)} bytes"
                )
        try:
            check_kind(self.vocabulary_kind)
        except InputError as error:
            raise InputError(f"image: {error}") from error
        if type(self.readout_fraction) is not int or not 0 <= self.readout_fraction <= 30:
            raise InputError(f"image: readout_fraction must be 0 to 30, not {self.readout_fraction!r}")
        if not self.readout_bias:
            if self.readout_weight:
                raise InputError("image: has readout_weight and no readout_bias")
            return
        # Where numbers enter, the core has no vocabulary: what comes out are classes.
        words = len(self.readout_bias) // 4 if c.takes_events else c.vocabulary
        if len(self.readout_bias) != 4 * words:
            raise InputError(f"image: readout_bias must have {4 * words} bytes, not {len(self.readout_bias)}")
        if self.readout_weight:
            if len(self.readout_weight) != words * c.hidden[-1]:
                raise InputError(
                    f"image: readout_weight must have {words * c.hidden[-1]} bytes, not {len(self.readout_weight)}"
                )
        elif c.hidden[-1] != c.embedding:
            raise InputError("image: lacks readout_weight, which a network with another embedding width needs")

    def to_bytes(self) -> bytes:
        """The file's content. Raises `InputError` where that would be 4 GiB or more."""
        header = json.loads(self.configuration.to_json())
        header = json.dumps(
            {"configuration": header, "readout_fraction": self.readout_fraction, "tokens": self.vocabulary_kind},
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        sections = [
            (section.number, section.word_bytes, self.memories[name])
            for name, section in memory_sections(self.configuration).items()
        ]
        sections += [(VOCABULARY, 1, self.vocabulary), (READOUT_BIAS, 4, self.readout_bias)]
        if self.readout_weight:
            sections.append((READOUT_WEIGHT, 1, self.readout_weight))
        offset = _HEADER.size + len(header) + len(sections) * _SECTION.size
        if (size := offset + sum(len(data) for _, _, data in sections) + _CRC.size) > _LARGEST:
            raise InputError(f"image: must have at most {_LARGEST} bytes, not {size}")
        table = b""
        for number, word_bytes, data in sections:
            table += _SECTION.pack(number, word_bytes, len(data) // word_bytes, offset, zlib.crc32(data))
            offset += len(data)
        content = b"".join(
            [
                _HEADER.pack(MAGIC, VERSION, len(sections), len(header), self.configuration.digest),
                header,
                table,
                *(data for _, _, data in sections),
            ]
        )
        return content + _CRC.pack(zlib.crc32(content))

    @classmethod
    def from_bytes(cls, data: bytes, where: str | Path = "image") -> Self:
        """Parse and check a file's content.

        Parameters
        ----------
        data : bytes
        where : str or Path
            Named in errors.

        Returns
        -------
        Image

        Raises
        ------
        InputError
            Not an image, another version, cut short, corrupted, or inconsistent.
        """
        if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
            raise InputError(
                f"{where}: not an image (it must begin with {MAGIC.decode()!r}); `egret compile` writes one"
            )
        if len(data) > _LARGEST:
            raise InputError(f"{where}: the image must have at most {_LARGEST} bytes, not {len(data)}")
        if len(data) < _HEADER.size + _CRC.size:
            raise InputError(f"{where}: the image is cut short at {len(data)} bytes")
        _, version, count, header_bytes, digest = _HEADER.unpack_from(data)
        if version != VERSION:
            raise InputError(
                f"{where}: image version {version}; this program reads version {VERSION}: compile it again"
            )
        table_at = _HEADER.size + header_bytes
        data_at = table_at + count * _SECTION.size
        if data_at + _CRC.size > len(data):
            raise InputError(f"{where}: the image is cut short at {len(data)} bytes; its header needs {data_at}")
        table = [_SECTION.unpack_from(data, table_at + index * _SECTION.size) for index in range(count)]
        end = data_at
        for number, word_bytes, words, offset, _ in table:
            if offset != end or not word_bytes:
                raise InputError(f"{where}: section {number} of the image is not where it must be")
            end += word_bytes * words
        if end + _CRC.size != len(data):
            raise InputError(f"{where}: the image must have {end + _CRC.size} bytes, not {len(data)}")
        if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
            raise InputError(f"{where}: the image is corrupted: its CRC does not match")
        try:
            header = json.loads(data[_HEADER.size : table_at])
            configuration = Configuration.from_json(json.dumps(header["configuration"]))
            fraction, kind = header["readout_fraction"], header["tokens"]
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{where}: the image's header cannot be read ({type(error).__name__})") from error
        if digest != configuration.digest:
            raise InputError(
                f"{where}: the image's digest {digest.hex()} is not that of its configuration, "
                f"{configuration.digest.hex()}"
            )
        memories, host = {}, {}
        known = {section.number: section for section in memory_sections(configuration).values()}
        for number, word_bytes, words, offset, crc in table:
            content = data[offset : offset + word_bytes * words]
            if zlib.crc32(content) != crc:
                raise InputError(f"{where}: section {number} of the image is corrupted: its CRC does not match")
            if number in known and known[number].word_bytes == word_bytes:
                memories[known[number].name] = content
            elif number in HOST_NAMES:
                host[HOST_NAMES[number]] = content
            else:
                raise InputError(
                    f"{where}: section {number} with words of {word_bytes} bytes is not one of this configuration"
                )
        if len(memories) + len(host) != count or not {"vocabulary", "readout_bias"} <= set(host):
            raise InputError(f"{where}: the image lacks a section, or has one twice")
        try:
            image = cls(
                configuration=configuration, memories=memories, vocabulary_kind=kind, readout_fraction=fraction, **host
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if configuration.checked_blocks and memories["checks"] != checks_of(memories, configuration):
            raise InputError(f"{where}: the memory 'checks' of the image has not the CRC-32 of each block of the SDRAM")
        return image

    def save(self, path: str | Path) -> None:
        """Write the file ``path`` aside, then rename. Raises `InputError` where it cannot be written."""
        write_aside(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check the file ``path``. Raises `InputError` where it cannot be read or is no whole image."""
        return cls.from_bytes(read(path), path)
