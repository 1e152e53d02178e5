"""Words of memories, read bit by bit, and memories with faults."""

import dataclasses


def stuck(image, section, word, bit, value):
    """The image as a memory gives it back that has a stuck bit."""
    content = bytearray(image.memories[section.name])
    place = word * section.word_bytes + bit // 8
    content[place] = content[place] & ~(1 << bit % 8) | value << bit % 8
    return dataclasses.replace(image, memories=image.memories | {section.name: bytes(content)})


def fields_of(data, widths):
    """Words of whole bytes as tuples of unsigned numbers, read bit by bit."""
    size = -(-sum(widths) // 8)
    assert len(data) % size == 0
    words = []
    for at in range(0, len(data), size):
        word, fields = int.from_bytes(data[at : at + size], "little"), []
        for width in widths:
            fields.append(word % (1 << width))
            word >>= width
        assert word == 0
        words.append(fields)
    return words
