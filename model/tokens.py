"""Tokens: a vocabulary, and the two ways of cutting text into its tokens.

``word``: words are separated by whitespace and each line ends with ``<eos>``; a word outside the vocabulary becomes
``<unk>`` where the vocabulary has it. ``char``: every character is a token, the newline too.

The file of a vocabulary (``vocab.txt``) is UTF-8 and has one token a line; the line number, counted from zero, is the
token's id. A character vocabulary writes the newline as ``\\n``, the carriage return as ``\\r`` and the backslash as
``\\\\``, since these would break the lines; words need no escapes, for they hold no whitespace.

A byte-order mark, with which some editors begin a file, is no part of a text or a vocabulary, and is left out. A
vocabulary whose first token begins with that character is written behind a mark.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from egret.model.errors import InputError

__all__ = ["END_OF_LINE", "KINDS", "UNKNOWN", "Vocabulary", "read_text"]

KINDS = ("word", "char")
END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"

_MARK = "\ufeff"
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\\": "\\\\"}
_UNESCAPES = {escaped: character for character, escaped in _ESCAPES.items()}


def read_text(path: str | Path) -> str:
    """Read a text file as it is: strict UTF-8, no translation of line ends, but without a byte-order mark.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    str
        At least one character.

    Raises
    ------
    InputError
        If the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the text: {error.strerror or error}") from error
    text = _decode_utf8(data, path)
    if not text:
        raise InputError(f"{path}: the text is empty; at least one token is needed")
    return text


def _decode_utf8(data, where):
    """Text of a file's bytes, without the mark that it may begin with."""
    try:
        return data.decode("utf-8").removeprefix(_MARK)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}: line {line} is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})"
        ) from error


class Vocabulary:
    """An ordered set of tokens with the rules for cutting text into them.

    Parameters
    ----------
    tokens : iterable of str
        Token of each id, in order; at least one, all different. Words hold no whitespace and include ``<eos>``;
        characters are single.
    kind : str
        ``"word"`` or ``"char"``.

    Attributes
    ----------
    tokens : tuple of str
    kind : str
    size : int
        Number of tokens.

    Raises
    ------
    InputError
        If a token is malformed or stands twice, naming the line it would have in ``vocab.txt``.
    """

    def __init__(self, tokens: Iterable[str], kind: str) -> None:
        if kind not in KINDS:
            raise InputError(f"tokens must be 'word' or 'char', not {kind!r}")
        self.tokens = tuple(tokens)
        self.kind = kind
        if not self.tokens:
            raise InputError("the vocabulary is empty; at least one token is needed")
        self._ids = {}
        for index, token in enumerate(self.tokens):
            self._check_token(token, f"vocabulary line {index + 1}")
            first = self._ids.setdefault(token, index)
            if first != index:
                raise InputError(f"vocabulary line {index + 1}: token {token!r} already stands on line {first + 1}")
        if kind == "word" and END_OF_LINE not in self._ids:
            raise InputError(f"the vocabulary lacks {END_OF_LINE!r}, which ends each line of a word text")

    def _check_token(self, token, where):
        if not isinstance(token, str):
            raise InputError(f"{where}: a token must be a string, not {token!r}")
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise InputError(f"{where}: token {token!r} cannot be written as UTF-8")
        if self.kind == "char" and len(token) != 1:
            raise InputError(f"{where}: a token must be one character, not {token!r}")
        if self.kind == "word" and token.split() != [token]:
            raise InputError(f"{where}: a word must be non-empty and hold no whitespace, not {token!r}")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def __eq__(self, other):
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self.kind == other.kind and self.tokens == other.tokens

    def __hash__(self):
        return hash((self.kind, self.tokens))

    def __repr__(self):
        return f"<Vocabulary of {self.size} tokens ({self.kind})>"

    # Building, loading, saving

    @classmethod
    def from_text(cls, text: str, kind: str) -> Self:
        """Vocabulary of everything that occurs in a text.

        Characters come in the order of their code points; words by falling frequency, equally frequent ones in
        alphabetical order, so that a store that keeps the first n rows keeps the n most frequent words.

        Parameters
        ----------
        text : str
        kind : str
            ``"word"`` or ``"char"``.

        Returns
        -------
        Vocabulary
        """
        if kind == "word":
            counts = Counter(word for line in _lines(text) for word in (*line.split(), END_OF_LINE))
            return cls(sorted(counts, key=lambda word: (-counts[word], word)), kind)
        return cls(sorted(set(text)), kind)

    @classmethod
    def from_bytes(cls, data: bytes, kind: str, where: str | Path = "vocabulary") -> Self:
        """Parse the content of a ``vocab.txt``.

        Parameters
        ----------
        data : bytes
        kind : str
            ``"word"`` or ``"char"``.
        where : str or Path
            Named in errors.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            If the bytes are not such a file.
        """
        lines = _lines(_decode_utf8(data, where))
        if kind == "char":
            for number, line in enumerate(lines, 1):
                if line.startswith("\\") and line not in _UNESCAPES:
                    raise InputError(rf"{where}: line {number}: unknown escape {line!r}; accepted are \n, \r and \\")
            lines = [_UNESCAPES.get(line, line) for line in lines]
        try:
            return cls(lines, kind)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def from_file(cls, path: str | Path, kind: str) -> Self:
        """Load a ``vocab.txt``.

        Parameters
        ----------
        path : str or Path
        kind : str
            ``"word"`` or ``"char"``.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            If the file cannot be read or is not a vocabulary.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot read the vocabulary: {error.strerror or error}") from error
        return cls.from_bytes(data, kind, where=path)

    def to_bytes(self) -> bytes:
        """Content of the ``vocab.txt`` of this vocabulary, as `from_bytes` reads it."""
        tokens = self.tokens
        if self.kind == "char":
            tokens = (_ESCAPES.get(token, token) for token in tokens)
        text = "".join(f"{token}\n" for token in tokens)
        return (_MARK + text if text.startswith(_MARK) else text).encode("utf-8")

    # Text to ids and back

    def encode(self, text: str) -> np.ndarray:
        """Cut a text into tokens.

        Parameters
        ----------
        text : str

        Returns
        -------
        np.ndarray of int32, shape [N]

        Raises
        ------
        InputError
            If the text holds a token that the vocabulary lacks, naming it and its line.
        """
        return self._encode_words(text) if self.kind == "word" else self._encode_characters(text)

    def _encode_words(self, text):
        ids = []
        end_of_line = self._ids[END_OF_LINE]
        unknown = self._ids.get(UNKNOWN)
        for number, line in enumerate(_lines(text), 1):
            for word in line.split():
                index = self._ids.get(word, unknown)
                if index is None:
                    raise InputError(
                        f"line {number} of the text: word {word!r} is not in the vocabulary, which has no {UNKNOWN!r}"
                    )
                ids.append(index)
            ids.append(end_of_line)
        return np.array(ids, dtype=np.int32)

    @cached_property
    def _sorted_characters(self):
        codes = np.array([ord(token) for token in self.tokens], dtype=np.uint32)
        order = np.argsort(codes)
        return codes[order], order.astype(np.int32)

    def _encode_characters(self, text):
        codes, order = self._sorted_characters
        text_codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        places = np.minimum(np.searchsorted(codes, text_codes), len(codes) - 1)
        unknown = np.flatnonzero(codes[places] != text_codes)
        if unknown.size:
            position = int(unknown[0])
            number = text.count("\n", 0, position) + 1
            raise InputError(f"line {number} of the text: character {text[position]!r} is not in the vocabulary")
        return order[places]

    def decode(self, ids: Iterable[int]) -> str:
        """Put tokens together again.

        Words are joined by single spaces and ``<eos>`` becomes a newline, so ``encode(decode(ids))`` gives the ids
        back for every sequence of characters, and for every sequence of words that ends with ``<eos>``.

        Parameters
        ----------
        ids : sequence of int or np.ndarray of int, shape [N]

        Returns
        -------
        str

        Raises
        ------
        InputError
            If an id is not in the vocabulary.
        """
        return "".join(self.pieces(np.asarray(ids).reshape(-1).tolist()))

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode tokens as they come.

        Parameters
        ----------
        ids : iterable of int

        Yields
        ------
        str
            One for each token; together they are what `decode` gives.

        Raises
        ------
        InputError
            If an id is not in the vocabulary.
        """
        separator = ""
        for position, index in enumerate(ids):
            if not 0 <= index < self.size:
                raise InputError(f"token {position}: id {index} is not in the vocabulary (0 to {self.size - 1})")
            token = self.tokens[index]
            if self.kind == "char":
                yield token
            elif token == END_OF_LINE:
                yield "\n"
                separator = ""
            else:
                yield separator + token
                separator = " "


def _lines(text):
    """Lines of a text without their ends; only the newline ends a line, and it may lack on the last one."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
