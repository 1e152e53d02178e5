"""Changes to files that keep most of their structure: to trees of JSON and TOML, to bytes, and to arrays of numbers."""

import copy
import json
import struct
from random import Random
from typing import Any

__all__ = ["NUMBERS", "Raw", "change_bytes", "change_tree", "to_json", "to_toml"]

NUMBERS = (
    0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**12, 10**30, -(1 << 31), -(1 << 63), -(1 << 63) - 1,
)  # fmt: skip
"""Integers at which something ends."""


class Raw(str):
    """Text that is written as it is, where a value stands."""


def _odd(random: Random) -> Any:
    """A value that nobody expects."""
    return random.choice(
        [
            lambda: random.choice(NUMBERS),
            lambda: random.choice(NUMBERS),
            lambda: random.choice([0.5, -0.0, 4.0, 1e-300, 1e39, 1e308, True, False, None]),
            lambda: random.choice(
                [Raw("NaN"), Raw("Infinity"), Raw("nan"), Raw("-inf"), Raw("1e999"), Raw("9" * 5000)]
            ),
            lambda: random.choice(["", "\0", "a\0b", "\ud800", "\u202e", "a b", "a\nb", "{}", "../x", "é" * 300]),
            lambda: random.choice([[], {}, [[]], [None], {"a": {}}, [0] * 5000]),
            lambda: _deep(random.choice(["[", '{"a":', "[[{"]), random.choice([50, 200, 900, 3000, 100_000])),
        ]
    )()


def _deep(opening, depth):
    closing = "".join({"[": "]", "{": "}"}.get(letter, "") for letter in reversed(opening))
    return Raw(opening.replace("{", '{"b":' if "a" not in opening else "{") * depth + "0" + closing * depth)


def _place(random, tree):
    """A container within a tree and a key of it; None where the tree has nothing inside."""
    found = None
    while isinstance(tree, dict | list) and tree:
        key = random.choice([*tree]) if isinstance(tree, dict) else random.randrange(len(tree))
        found, tree = (tree, key), tree[key]
        if random.random() < 0.25:
            break
    return found


def change_tree(random: Random, tree: Any) -> Any:
    """A copy of a ``tree`` of dicts and lists in which one to three things are others."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if (place := _place(random, tree)) is None:
            return _odd(random)
        container, key = place
        value = container[key]
        match random.randrange(10):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[random.choice(["", "x", "a\0", "\ud800", "__class__", key + "2", key.upper()])] = value
            case 2 if isinstance(container, dict):
                container[key] = Raw(f"{_text(value)},{json.dumps(key)}:{_text(_odd(random))}")  # the key stands twice
            case 3 if isinstance(container, list):
                container[key:key] = [copy.deepcopy(value)] * random.choice([1, 1, 3, 100])
            case 4 if (other := _place(random, tree)) is not None:
                container[key] = copy.deepcopy(other[0][other[1]])
            case 5 | 6 if type(value) is int:
                container[key] = random.choice(
                    [value + 1, value - 1, -value, 2 * value, value ^ 1 << random.randrange(20)]
                )
            case 5 | 6 if isinstance(value, str) and value:
                cut = random.randrange(len(value))
                container[key] = random.choice([value[:cut], value + value, value[cut:], value.upper()])
            case 5 | 6 if type(value) is float:
                container[key] = random.choice([-value, value * 1e30, value + 1, int(value)])
            case _:
                container[key] = _odd(random)
    return tree


def to_json(tree: Any) -> bytes:
    """A ``tree`` as JSON, with `Raw` text in it as it is."""
    return _text(tree).encode("utf-8", "surrogatepass")


def _text(tree):
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ",".join(map(_text, tree)) + "]"
    return json.dumps(tree)


def to_toml(tree: Any) -> bytes:
    """A dict ``tree`` as TOML, each of its values in one line."""
    if not isinstance(tree, dict):
        return _text(tree).encode("utf-8", "surrogatepass")
    lines = (f"{json.dumps(key)} = {_inline(value)}\n" for key, value in tree.items())
    return "".join(lines).encode("utf-8", "surrogatepass")


def _inline(tree):
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(_inline, tree)) + "]"
    if isinstance(tree, Raw):
        return str(tree).replace('"a":', "a=").replace('"b":', "b=")
    return '""' if tree is None else json.dumps(tree)


def change_bytes(random: Random, data: bytes) -> bytes:
    """The ``data`` with one to three places changed, or cut, or with something added."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        place = random.randrange(len(data) + 1)
        end = place + random.choice([1, 1, 2, 4, 8, 64])
        match random.randrange(10):
            case 0 | 1 if place < len(data):
                data = data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
            case 2:
                data = data[:place] + random.randbytes(len(data[place:end])) + data[end:]
            case 3:
                data = data[:place]
            case 4:
                data = data[:place] + data[end:]
            case 5:
                data = data[:place] + random.randbytes(end - place) + data[place:]
            case 6:
                data = data[:place] + data[place:end] * random.choice([2, 100]) + data[end:]
            case 7 | 8:
                number = struct.pack("<Q", random.choice(NUMBERS) % (1 << 64))[: random.choice([1, 2, 4, 8])]
                data = data[:place] + number + data[place + len(number) :]
            case _:
                data = random.choice([b"", b"\0", b"\xff" * 16, b"\xef\xbb\xbf" + data, data[::-1], b"\0" * len(data)])
    return data
