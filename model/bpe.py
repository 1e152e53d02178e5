"""Byte pairs: the vocabulary of the kind ``"bpe"``, of a byte-level tokenizer such as GPT-2's.

Its file is the ``tokenizer.json`` of the package `tokenizers <https://github.com/huggingface/tokenizers>`_, which cuts
texts. Text is put together here, without that package: each character of a token stands for one byte, as the function
``bytes_to_unicode`` of GPT-2 (https://github.com/openai/gpt-2, ``src/encoder.py``) has it.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.model.errors import InputError, needs
from egret.model.files import read
from egret.model.tokens import Vocabulary

if TYPE_CHECKING:
    import tokenizers

__all__ = ["MERGES", "VOCABULARY", "BytePairs", "read_tokenizer"]

VOCABULARY, MERGES = "vocab.json", "merges.txt"
"""Names of the two files that GPT-2 came with, side by side."""

_END_OF_TEXT = "<|endoftext|>"
_PACKAGE = "'egret-fpga[bpe]'"
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes that stand for themselves
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTED]  # and those that characters from U+0100 on stand for
_BYTES = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + place): byte for place, byte in enumerate(_OTHERS)}


def read_tokenizer(path: str | Path) -> bytes:
    """Content of a ``tokenizer.json``, which is made from GPT-2's two files where the path names ``vocab.json``.

    Parameters
    ----------
    path : str or Path
        ``tokenizer.json``; or ``vocab.json``, with ``merges.txt`` beside it.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        A file cannot be read, or the package ``tokenizers`` is not installed and there are two files.
    """
    path = Path(path)
    data = read(path)
    if "model" in _parse(data, path):
        return data
    merges = path.with_name(MERGES)
    read(merges)  # for the message where it is missing
    with needs("tokenizers", _PACKAGE, f"{path}: a byte-pair vocabulary in two files"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    try:
        # The package raises plain exceptions.
        tokenizer = Tokenizer(models.BPE.from_file(str(path), str(merges)))
    except Exception as error:
        raise InputError(f"{path}, {merges}: not a byte-pair vocabulary: {' '.join(str(error).split())}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    if tokenizer.token_to_id(_END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([_END_OF_TEXT])
    return tokenizer.to_str().encode()


def _parse(data, where) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a JSON file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: must hold one JSON object, not {type(content).__name__}")
    return content


class BytePairs(Vocabulary):
    """The tokens of a byte-level tokenizer.

    Parameters
    ----------
    data : bytes
        Content of a ``tokenizer.json``. Its tokens have the numbers from 0 on without a gap, and each of the 256 bytes
        is one of them, so that it can cut any text.
    where : str or Path
        Named in errors.

    Attributes
    ----------
    tokens : tuple of str
        As the file has them: each character stands for a byte, except in the tokens that were added as they are, such
        as ``<|endoftext|>``.
    kind, size, line_end
        As of `Vocabulary`; a line ends with ``<|endoftext|>`` or a newline.

    Raises
    ------
    InputError
        The bytes are no such file.
    """

    def __init__(self, data: bytes, where: str | Path = "vocabulary") -> None:
        self._content = _parse(data, where)
        try:
            model = self._content["model"]
            added = {entry["content"]: entry["id"] for entry in self._content.get("added_tokens") or ()}
            kind, self._ids = model["type"], {**model["vocab"], **added}
            decoder = (self._content.get("decoder") or {}).get("type")
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a tokenizer.json: lacks its model, vocab or tokens") from error
        if (kind, decoder) != ("BPE", "ByteLevel"):
            raise InputError(
                f"{where}: the tokenizer must be a BPE with the decoder ByteLevel, such as GPT-2's, "
                f"not {kind!r} with {decoder!r}"
            )
        for name in ("continuing_subword_prefix", "end_of_word_suffix"):
            if model.get(name):
                raise InputError(f"{where}: a byte-level tokenizer has no {name}, but this one has {model[name]!r}")
        if any(type(index) is not int for index in self._ids.values()) or sorted(self._ids.values()) != list(
            range(len(self._ids))
        ):
            raise InputError(f"{where}: the {len(self._ids)} tokens must have the ids from 0 on, each once")
        for token in model["vocab"]:
            if token not in added and not set(token) <= _BYTES.keys():
                raise InputError(f"{where}: token {token!r} is not made of the characters that stand for bytes")
        try:
            self.to_bytes()
        except (UnicodeEncodeError, RecursionError) as error:
            raise InputError(f"{where}: cannot be written again: {' '.join(str(error).split())}") from error
        lacking = [byte for character, byte in _BYTES.items() if character not in model["vocab"]]
        if lacking:
            raise InputError(f"{where}: lacks the byte 0x{min(lacking):02x}; a byte-level tokenizer has all 256")
        self.tokens, self.kind = tuple(sorted(self._ids, key=self._ids.__getitem__)), "bpe"
        self._added, self._where = frozenset(added), where
        self.line_end = self._ids.get(_END_OF_TEXT, self._ids["Ċ"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BytePairs) and self._content == other._content

    __hash__ = Vocabulary.__hash__

    def to_bytes(self) -> bytes:
        """Content of a ``tokenizer.json``."""
        return json.dumps(self._content, ensure_ascii=False, separators=(",", ":")).encode()

    def reordered(self, order: np.ndarray) -> "BytePairs":
        """Vocabulary of the same tokens with other ids, in the ``order`` [V] of the tokens; it cuts texts alike."""
        ids = {self.tokens[token]: index for index, token in enumerate(order.tolist())}
        model = self._content["model"]
        content = self._content | {
            "model": model | {"vocab": {token: ids[token] for token in model["vocab"]}},
            "added_tokens": sorted(
                ({**entry, "id": ids[entry["content"]]} for entry in self._content.get("added_tokens") or ()),
                key=lambda entry: entry["id"],
            ),
            "post_processor": None,  # which may name ids, and is not used
        }
        return BytePairs(json.dumps(content).encode(), self._where)

    @cached_property
    def _tokenizer(self) -> "tokenizers.Tokenizer":
        with needs("tokenizers", _PACKAGE, "cutting a text into byte pairs"):
            from tokenizers import Tokenizer
        try:
            # The package raises plain exceptions.
            return Tokenizer.from_str(self.to_bytes().decode())
        except Exception as error:
            raise InputError(f"{self._where}: not a tokenizer.json: {' '.join(str(error).split())}") from error

    def find(self, token: str) -> int | None:
        """Id of a ``token``, as text, or None where it is not one token."""
        ids = self.encode(token)
        return int(ids[0]) if len(ids) == 1 else None

    def encode(self, text: str) -> np.ndarray:
        """Cut a ``text`` into tokens, int32 [N]. Raises `InputError` where the package ``tokenizers`` is lacking."""
        (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.array(found.ids, dtype=np.int32)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode tokens as they come.

        Parameters
        ----------
        ids : iterable of int

        Yields
        ------
        str
            One for each token. A character whose bytes are in several tokens comes with the last of them; what is no
            UTF-8 becomes U+FFFD, and an unfinished character at the end nothing.

        Raises
        ------
        InputError
            If an id is not in the vocabulary.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for index in self._checked(ids):
            token = self.tokens[index]
            data = token.encode() if token in self._added else bytes(_BYTES[character] for character in token)
            yield decoder.decode(data)
