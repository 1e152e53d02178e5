"""Memories with faults."""

import dataclasses


def stuck(image, section, word, bit, value):
    """The image as a memory gives it back that has a stuck bit."""
    content = bytearray(image.memories[section.name])
    place = word * section.word_bytes + bit // 8
    content[place] = content[place] & ~(1 << bit % 8) | value << bit % 8
    return dataclasses.replace(image, memories=image.memories | {section.name: bytes(content)})
