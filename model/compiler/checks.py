"""CRCs of what an SDRAM holds, with which a core compares it while it has nothing else to do."""

import zlib
from collections.abc import Mapping

from egret.model.compiler.configuration import BLOCK_WORDS, Configuration
from egret.model.compiler.layouts import memory_sections, word_layouts

__all__ = ["block_place", "checks_of"]


def checks_of(memories: Mapping[str, bytes], configuration: Configuration) -> bytes:
    """Content of the memory ``checks``.

    Parameters
    ----------
    memories : Mapping of str to bytes
        Content of those in the SDRAM, each whole, by name.
    configuration : Configuration
        Of a core with the store ``sdram``.

    Returns
    -------
    bytes
        The CRC-32 of each block of `BLOCK_WORDS` words of 16 bits, as zlib has it; the last block may be shorter.
    """
    c = configuration
    content = b"".join(memories[name] for name, words in c.sdram_sizes.items() if words)
    size = 2 * BLOCK_WORDS
    crcs = [zlib.crc32(content[at : at + size]) for at in range(0, len(content), size)]
    return word_layouts(c)["checks"].pack({"crc": crcs})


def block_place(block: int, configuration: Configuration) -> str:
    """Where a ``block`` of the SDRAM of a ``configuration`` lies, in words: its bytes, and whose they are."""
    c, first = configuration, block * BLOCK_WORDS
    end = min(first + BLOCK_WORDS, c.sdram_words)
    names = [
        name
        for name in memory_sections(c)
        if name in c.sdram_base and c.sdram_base[name] < end and first < c.sdram_base[name] + c.sdram_sizes[name]
    ]
    return f"bytes {2 * first:#x} to {2 * end - 1:#x}, of {' and '.join(names)}"
