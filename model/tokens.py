"""Tokens: a vocabulary, and the ways of cutting text into its tokens.

``word``: words are separated by whitespace, and each line ends with ``<eos>`` where the vocabulary has it; a word
outside the vocabulary becomes ``<unk>`` where the vocabulary has it. ``char``: every character is a token, the newline
too. ``id``: a text is the tokens' numbers, separated by whitespace. ``bpe``: `egret.model.bpe`. Of every kind, a text
may also be the file of a numpy array (``.npy``) that holds the numbers.

``number``: what enters a network is no text, but numbers (`egret.model.sequences`). Its vocabulary names the classes
that the network tells apart, one a line.

The file of a vocabulary (``vocab.txt``) is UTF-8 and has one token a line; the line number, counted from zero, is the
token's id. A character vocabulary writes the newline as ``\\n``, the carriage return as ``\\r`` and the backslash as
``\\\\``, since these would break the lines; words need no escapes, for they hold no whitespace. Of ids the file has
one line, how many there are.

A byte-order mark, with which some editors begin a file, is no part of a text or a vocabulary, and is left out. A
vocabulary whose first token begins with that character is written behind a mark.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from egret.model.errors import InputError
from egret.model.files import MOST_TOKENS, read, read_array

__all__ = ["END_OF_LINE", "KINDS", "UNKNOWN", "Vocabulary", "check_kind", "read_text"]

KINDS = ("word", "char", "id", "bpe", "number")
END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"

_NUMPY = b"\x93NUMPY"  # begins a .npy

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
    return _text_of(read(path), path)


def _text_of(data, path):
    """The text of a file's bytes."""
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


def check_kind(kind: object) -> None:
    """Refuse what is no ``kind`` of tokens with an `InputError`."""
    if kind not in KINDS:
        raise InputError(f"tokens must be {', '.join(map(repr, KINDS[:-1]))} or {KINDS[-1]!r}, not {kind!r}")


class Vocabulary:
    """An ordered set of tokens with the rules for cutting text into them.

    Parameters
    ----------
    tokens : iterable of str
        Token of each id, in order; at least one, all different. Words hold no whitespace, characters are single, an
        id is its own number, and the name of a class is within one line.
    kind : str
        ``"word"``, ``"char"``, ``"id"`` or ``"number"``; `egret.model.bpe.BytePairs` is that of the kind ``"bpe"``.

    Attributes
    ----------
    tokens : tuple of str
    kind : str
    size : int
        Number of tokens.
    line_end : int or None
        Token that ends a line, or with ``"bpe"`` a text; None where there is no such.

    Raises
    ------
    InputError
        If a token is malformed or stands twice, naming the line it would have in ``vocab.txt``.
    """

    def __init__(self, tokens: Iterable[str], kind: str) -> None:
        check_kind(kind)
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
            if kind == "id" and token != str(index):
                raise InputError(f"vocabulary line {index + 1}: token {index} must be its own number, not {token!r}")
        self.line_end = self._ids.get({"word": END_OF_LINE, "char": "\n"}.get(kind, ""))

    def _check_token(self, token, where):
        if not isinstance(token, str):
            raise InputError(f"{where}: a token must be a string, not {token!r}")
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise InputError(f"{where}: token {token!r} cannot be written as UTF-8")
        if self.kind == "char" and len(token) != 1:
            raise InputError(f"{where}: a token must be one character, not {token!r}")
        if self.kind == "word" and token.split() != [token]:
            raise InputError(f"{where}: a word must be non-empty and hold no whitespace, not {token!r}")
        if self.kind == "number" and (not token.strip() or "\n" in token):
            raise InputError(f"{where}: the name of a class must be non-empty and within one line, not {token!r}")

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
    def of_ids(cls, size: int) -> "Vocabulary":
        """Vocabulary of the ids from 0 to ``size`` - 1, of the kind ``"id"``.

        Raises `InputError` where there is no id, or are more than `MOST_TOKENS`.
        """
        if not 1 <= size <= MOST_TOKENS:
            raise InputError(f"a vocabulary of ids must have 1 to {MOST_TOKENS} ids, not {size}")
        return Vocabulary(map(str, range(size)), "id")

    @classmethod
    def of_text(cls, path: str | Path, kind: str) -> "Vocabulary":
        """Vocabulary of everything that occurs in the text of a file.

        Parameters
        ----------
        path : str or Path
        kind : str
            ``"word"``, ``"char"`` or ``"id"``: as `from_text` says; of a ``.npy`` the ids are up to the largest in it.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            The file cannot be read, or the kind needs a vocabulary of its own.
        """
        data = read(path)
        found = _numbers_of(data, path)
        try:
            if found is None:
                return cls.from_text(_text_of(data, path), kind)
            if kind != "id":
                raise InputError(f"a .npy holds ids; a vocabulary of the kind {kind!r} has to be given")
            return cls.of_ids(int(found.max()) + 1)
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error

    @classmethod
    def from_text(cls, text: str, kind: str) -> "Vocabulary":
        """Vocabulary of everything that occurs in a text.

        Characters come in the order of their code points; words by falling frequency, equally frequent ones in
        alphabetical order, so that a store that keeps the first n rows keeps the n most frequent words. Ids are all up
        to the largest of the text.

        Parameters
        ----------
        text : str
        kind : str
            ``"word"``, ``"char"`` or ``"id"``.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            The text holds what is no id; or the kind is ``"bpe"``, whose tokens no text names.
        """
        if kind == "bpe":
            raise InputError("tokens of the kind 'bpe' need a tokenizer; give its tokenizer.json as the vocabulary")
        if kind == "number":
            raise InputError("no text names the classes of a network whose input is numbers; give its vocabulary")
        if kind == "id":
            return cls.of_ids(1 + max((_number(token) for token in text.split()), default=-1))
        if kind == "word":
            counts = Counter(word for line in _lines(text) for word in (*line.split(), END_OF_LINE))
            return cls(sorted(counts, key=lambda word: (-counts[word], word)), kind)
        return cls(sorted(set(text)), kind)

    @classmethod
    def from_bytes(cls, data: bytes, kind: str, where: str | Path = "vocabulary") -> "Vocabulary":
        """Parse the content of a ``vocab.txt``, or of a ``tokenizer.json`` where the kind is ``"bpe"``.

        Parameters
        ----------
        data : bytes
        kind : str
            One of `KINDS`.
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
        if kind == "bpe":
            from egret.model.bpe import BytePairs

            # pyright sees this module's class and the one that `bpe` imports, through src, as two.
            return BytePairs(data, where)  # pyright: ignore[reportReturnType]
        lines = _lines(_decode_utf8(data, where))
        if kind == "char":
            for number, line in enumerate(lines, 1):
                if line.startswith("\\") and line not in _UNESCAPES:
                    raise InputError(rf"{where}: line {number}: unknown escape {line!r}; accepted are \n, \r and \\")
            lines = [_UNESCAPES.get(line, line) for line in lines]
        try:
            if kind == "id":
                if len(lines) != 1:
                    raise InputError(f"must hold one line, how many ids there are, not {len(lines)}")
                return cls.of_ids(_number(lines[0]))
            return Vocabulary(lines, kind)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def from_file(cls, path: str | Path, kind: str) -> "Vocabulary":
        """Load a ``vocab.txt``, or a tokenizer where the kind is ``"bpe"`` (`egret.model.bpe.read_tokenizer`).

        Parameters
        ----------
        path : str or Path
        kind : str
            One of `KINDS`.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            If the file cannot be read or is not a vocabulary.
        """
        if kind == "bpe":
            from egret.model.bpe import read_tokenizer

            return cls.from_bytes(read_tokenizer(path), kind, where=path)
        return cls.from_bytes(read(path), kind, where=path)

    def to_bytes(self) -> bytes:
        """Content of the file of this vocabulary, as `from_bytes` reads it."""
        if self.kind == "id":
            return f"{self.size}\n".encode()
        tokens = self.tokens
        if self.kind == "char":
            tokens = (_ESCAPES.get(token, token) for token in tokens)
        text = "".join(f"{token}\n" for token in tokens)
        return (_MARK + text if text.startswith(_MARK) else text).encode("utf-8")

    def reordered(self, order: np.ndarray) -> "Vocabulary":
        """Vocabulary of the same tokens with other ids, where a token's id is known by more than its number.

        Parameters
        ----------
        order : np.ndarray of int, shape [V]
            Token of each new id.

        Returns
        -------
        Vocabulary

        Raises
        ------
        InputError
            The kind is ``"id"``.
        """
        if self.kind == "id":
            raise InputError("ids are numbers that texts hold; they cannot be given in another order")
        return Vocabulary([self.tokens[token] for token in order.tolist()], self.kind)

    # Text to ids and back

    def read(self, path: str | Path) -> np.ndarray:
        """Read a text and cut it into tokens.

        Parameters
        ----------
        path : str or Path
            UTF-8 text; or a ``.npy`` of integers, which are the tokens' ids.

        Returns
        -------
        np.ndarray of int32, shape [N]

        Raises
        ------
        InputError
            The file cannot be read, or holds what the vocabulary lacks, naming the file.
        """
        self._refuse_text()
        data = read(path)
        found = _numbers_of(data, path)
        if found is None:
            text = _text_of(data, path)
            try:
                return self.encode(text)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
        if (wrong := np.flatnonzero((found < 0) | (found >= self.size))).size:
            raise InputError(
                f"{path}: id {found[wrong[0]]} at {wrong[0]} is not in the vocabulary (0 to {self.size - 1})"
            )
        return found.astype(np.int32)

    def _refuse_text(self):
        if self.kind == "number":
            raise InputError("the network takes numbers, not a text; give sequences (--data)")

    def find(self, token: str) -> int | None:
        """Id of a ``token``, or None where the vocabulary has no such."""
        return self._ids.get(token)

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
            If the text holds a token that the vocabulary lacks, naming it and its line; or the kind is ``"number"``.
        """
        self._refuse_text()
        return self._encode_characters(text) if self.kind == "char" else self._encode_words(text)

    def _encode_words(self, text):
        ids = []
        unknown = self._ids.get(UNKNOWN)
        for number, line in enumerate(_lines(text), 1):
            for word in line.split():
                index = self._ids.get(word, unknown)
                if index is None:
                    reason = f"which has no {UNKNOWN!r}" if self.kind == "word" else f"0 to {self.size - 1}"
                    raise InputError(
                        f"line {number} of the text: {self.kind} {word!r} is not in the vocabulary, {reason}"
                    )
                ids.append(index)
            if self.line_end is not None:
                ids.append(self.line_end)
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

        Words and ids are joined by single spaces and ``<eos>`` becomes a newline, so ``encode(decode(ids))`` gives the
        ids back for every sequence of characters or ids, and for every sequence of words that ends with ``<eos>`` or
        has none in its vocabulary.

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
        for index in self._checked(ids):
            token = self.tokens[index]
            if self.kind == "char":
                yield token
            elif index == self.line_end:
                yield "\n"
                separator = ""
            else:
                yield separator + token
                separator = " "

    def _checked(self, ids):
        for position, index in enumerate(ids):
            if not 0 <= index < self.size:
                raise InputError(f"token {position}: id {index} is not in the vocabulary (0 to {self.size - 1})")
            yield index


def _number(token):
    """A number in decimal digits."""
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InputError(f"ids must be numbers in decimal digits, not {token!r}")
    return int(token)


def _numbers_of(data, path):
    """Integers of the ``.npy`` whose bytes ``data`` are, int64 [N]; None where it is another file."""
    if not data.startswith(_NUMPY):
        return None
    found = read_array(data, path)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise InputError(f"{path}: must hold integers in one dimension, not {found.dtype} {list(found.shape)}")
    if not found.size:
        raise InputError(f"{path}: the text is empty; at least one token is needed")
    return found.astype(np.int64)


def _lines(text):
    """Lines of a text without their ends; only the newline ends a line, and it may lack on the last one."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
