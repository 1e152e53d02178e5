"""Vocabularies: files, and text to tokens and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egret.host.cli.main import main
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.errors import InputError
from egret.model.tokens import END_OF_LINE, UNKNOWN, Vocabulary, read_text

WORDS = Vocabulary([UNKNOWN, "a", "b", END_OF_LINE], "word")
CHARACTERS = Vocabulary(["b", "\n", "\\", "a", "\r", " ", "é"], "char")


def test_words_end_each_line():
    ids = WORDS.encode(" a  b\n\nb c")
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 2, 3, 3, 2, 0, 3]
    assert WORDS.decode(ids) == "a b\n\nb <unk>\n"
    assert list(WORDS.pieces(ids)) == ["a", " b", "\n", "\n", "b", " <unk>", "\n"]
    assert WORDS.encode("a\n").tolist() == WORDS.encode("a").tolist() == [1, 3]
    assert WORDS.encode("").shape == (0,)


def test_words_without_an_end_of_line():
    """A newline is whitespace like any other."""
    vocabulary = Vocabulary(["a", "b"], "word")
    assert vocabulary.line_end is None
    assert vocabulary.encode("a b\n\nb").tolist() == [0, 1, 1]
    assert vocabulary.decode([0, 1, 1]) == "a b b"


def test_ids(tmp_path):
    vocabulary = Vocabulary.of_ids(12)
    assert (vocabulary.kind, vocabulary.size, vocabulary.line_end) == ("id", 12, None)
    assert vocabulary.to_bytes() == b"12\n" and Vocabulary.from_bytes(b"12\n", "id") == vocabulary
    ids = vocabulary.encode("3 11\n0\t3")
    assert ids.dtype == np.int32 and ids.tolist() == [3, 11, 0, 3]
    assert vocabulary.decode(ids) == "3 11 0 3" and list(vocabulary.pieces(ids)) == ["3", " 11", " 0", " 3"]
    (tmp_path / "text").write_text("3 11\n0")
    assert Vocabulary.of_text(tmp_path / "text", "id") == vocabulary
    for text, wrong in (("1\n12", "2 of the text: id '12'"), ("-1", "1 of the text: id '-1'")):
        with pytest.raises(InputError, match=f"^line {wrong} is not in the vocabulary, 0 to 11$"):
            vocabulary.encode(text)
    with pytest.raises(InputError, match="^ids are numbers that texts hold; they cannot be given in another order$"):
        vocabulary.reordered(np.arange(12))
    with pytest.raises(InputError, match="text: ids must be numbers in decimal digits, not '1.5'$"):
        (tmp_path / "text").write_text("1.5")
        Vocabulary.of_text(tmp_path / "text", "id")


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, ">i4"])
def test_a_text_may_be_an_array_of_ids(dtype, tmp_path):
    path = tmp_path / "text.npy"
    np.save(path, np.array([3, 0, 2], dtype))
    for vocabulary in (Vocabulary.of_ids(4), WORDS):
        ids = vocabulary.read(path)
        assert ids.dtype == np.int32 and ids.tolist() == [3, 0, 2]
    assert Vocabulary.of_text(path, "id") == Vocabulary.of_ids(4)
    with pytest.raises(InputError, match="text.npy: a .npy holds ids; a vocabulary of the kind 'word' has to be given"):
        Vocabulary.of_text(path, "word")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0, 4]), "id 4 at 1 is not in the vocabulary (0 to 3)"),
        (np.array([-1, 4]), "id -1 at 0 is not in the vocabulary (0 to 3)"),
        (np.array([0.5]), "must hold integers in one dimension, not float64 [1]"),
        (np.zeros((2, 3), np.uint8), "must hold integers in one dimension, not uint8 [2, 3]"),
        (np.zeros(0, np.uint8), "the text is empty; at least one token is needed"),
        (np.array([{}]), "cannot read the numpy array: ValueError: it holds objects, not numbers"),
    ],
)
def test_bad_arrays(array, message, tmp_path):
    path = tmp_path / "text.npy"
    np.save(path, array)
    with pytest.raises(InputError) as error:
        Vocabulary.of_ids(4).read(path)
    assert str(error.value) == f"{path}: {message}"


def test_the_same_tokens_in_another_order():
    vocabulary = WORDS.reordered(np.array([3, 1, 0, 2]))
    assert vocabulary.tokens == (END_OF_LINE, "a", UNKNOWN, "b")
    assert vocabulary.line_end == vocabulary.find(END_OF_LINE) == 0 and vocabulary.find("c") is None
    assert vocabulary.encode("a b").tolist() == [1, 3, 0]


def test_characters():
    ids = CHARACTERS.encode("ab\n\\ é")
    assert ids.dtype == np.int32
    assert ids.tolist() == [3, 0, 1, 2, 5, 6]
    assert CHARACTERS.decode(ids) == "ab\n\\ é"
    assert CHARACTERS.encode("").shape == (0,)


def test_file_of_characters_is_escaped(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(CHARACTERS.to_bytes())
    assert path.read_bytes() == "b\n\\n\n\\\\\na\n\\r\n \né\n".encode()
    assert Vocabulary.from_file(path, "char") == CHARACTERS


def test_file_of_words_may_hold_backslashes():
    vocabulary = Vocabulary(["\\n", "\\\\", END_OF_LINE], "word")
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), "word") == vocabulary
    assert vocabulary.encode("\\n").tolist() == [0, 2]


def test_from_text_orders_words_by_frequency():
    vocabulary = Vocabulary.from_text("b a\nb c\n", "word")
    assert vocabulary.tokens == ("<eos>", "b", "a", "c")
    assert Vocabulary.from_text("bab\n", "char").tokens == ("\n", "a", "b")


@given(st.text(min_size=1))
def test_any_text_round_trips_as_characters(text):
    if any("\ud800" <= character <= "\udfff" for character in text):
        with pytest.raises(InputError, match="UTF-8"):
            Vocabulary.from_text(text, "char")
        return
    vocabulary = Vocabulary.from_text(text, "char")
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), "char") == vocabulary


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_round_trips_as_words(text):
    vocabulary = Vocabulary.from_text(text, "word")
    ids = vocabulary.encode(text)
    assert vocabulary.encode(vocabulary.decode(ids)).tolist() == ids.tolist()
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), "word") == vocabulary


@given(st.binary(), st.sampled_from(["word", "char", "id"]))
def test_random_bytes_load_or_are_refused(data, kind):
    try:
        vocabulary = Vocabulary.from_bytes(data, kind)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert Vocabulary.from_bytes(vocabulary.to_bytes(), kind) == vocabulary


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "char", "v: the vocabulary is empty; at least one token is needed"),
        (b"a\nb\na\n", "char", "v: vocabulary line 3: token 'a' already stands on line 1"),
        (b"a\n\nb\n", "char", "v: vocabulary line 2: a token must be one character, not ''"),
        (b"ab\n", "char", "v: vocabulary line 1: a token must be one character, not 'ab'"),
        (b"\\t\n", "char", r"v: line 1: unknown escape '\\t'; accepted are \n, \r and \\"),
        (b"a\nb\xff\n", "char", "v: line 2 is not UTF-8 (byte 0xff at offset 3)"),
        (b"", "id", "v: must hold one line, how many ids there are, not 0"),
        (b"3\n4\n", "id", "v: must hold one line, how many ids there are, not 2"),
        (b"x\n", "id", "v: ids must be numbers in decimal digits, not 'x'"),
        (b"0\n", "id", "v: a vocabulary of ids must have 1 to 1048576 ids, not 0"),
        (b"1048577\n", "id", "v: a vocabulary of ids must have 1 to 1048576 ids, not 1048577"),
        (b"a\n\n<eos>\n", "word", "v: vocabulary line 2: a word must be non-empty and hold no whitespace, not ''"),
        (b"a\r\n<eos>\n", "word", r"v: vocabulary line 1: a word must be non-empty and hold no whitespace, not 'a\r'"),
    ],
)
def test_bad_files(data, kind, message):
    with pytest.raises(InputError) as error:
        Vocabulary.from_bytes(data, kind, where="v")
    assert str(error.value) == message


def test_bad_kind():
    with pytest.raises(InputError, match=r"^tokens must be 'word', 'char', 'id', 'bpe' or 'number', not 'bytes'$"):
        Vocabulary(["a"], "bytes")
    with pytest.raises(InputError, match="^vocabulary line 2: token 1 must be its own number, not '2'$"):
        Vocabulary(["0", "2"], "id")


def test_unknown_tokens():
    with pytest.raises(InputError) as error:
        Vocabulary(["a", END_OF_LINE], "word").encode("a\na b")
    assert str(error.value) == "line 2 of the text: word 'b' is not in the vocabulary, which has no '<unk>'"
    with pytest.raises(InputError) as error:
        CHARACTERS.encode("a\nab\n€")
    assert str(error.value) == "line 3 of the text: character '€' is not in the vocabulary"


@pytest.mark.parametrize("index", [-1, 4])
def test_unknown_ids(index):
    with pytest.raises(InputError) as error:
        WORDS.decode([0, index])
    assert str(error.value) == f"token 1: id {index} is not in the vocabulary (0 to 3)"


def test_read_text(tmp_path):
    path = tmp_path / "text"
    with pytest.raises(InputError, match="cannot read it: No such file or directory"):
        read_text(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="the text is empty"):
        read_text(path)
    path.write_bytes(b"a\r\n\n\xff")
    with pytest.raises(InputError, match="line 3 is not UTF-8"):
        read_text(path)
    path.write_bytes("é\r\n".encode())
    assert read_text(path) == "é\r\n"


MARK = "\ufeff".encode()


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    for vocabulary in (WORDS, CHARACTERS):
        assert Vocabulary.from_bytes(MARK + vocabulary.to_bytes(), vocabulary.kind) == vocabulary
    path = tmp_path / "text"
    path.write_bytes(MARK + b"a b")
    assert read_text(path) == "a b"
    path.write_bytes(MARK)
    with pytest.raises(InputError, match="the text is empty"):
        read_text(path)


@pytest.mark.parametrize("tokens, kind", [(["\ufeffa", "\ufeff", END_OF_LINE], "word"), (["\ufeff", "a"], "char")])
def test_a_mark_that_is_a_token_is_kept(tokens, kind):
    vocabulary = Vocabulary(tokens, kind)
    assert Vocabulary.from_bytes(vocabulary.to_bytes(), kind) == vocabulary
    turned = Vocabulary(reversed(tokens), kind)
    assert Vocabulary.from_bytes(turned.to_bytes(), kind) == turned
    assert turned.to_bytes().count(MARK) == "".join(tokens).count("\ufeff")


@pytest.mark.parametrize("kind", ["word", "char"])
@pytest.mark.parametrize("file", ["network/vocab.txt", "text"])
def test_a_mark_changes_no_figure(file, kind, tmp_path, random_checkpoint, monkeypatch, capsys):
    """As the first word it would be another one, `<unk>` perhaps."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(random_checkpoint(NetworkConfiguration("egru", kind, 4, 3, (3,))), "network")
    (tmp_path / "text").write_text("w1 w2 w3 w1\nw2" if kind == "word" else "abcdab")
    printed = []
    for mark in (b"", MARK):
        path = tmp_path / file
        path.write_bytes(mark + path.read_bytes())
        assert main(["evaluate", "network", "--engine", "float", "--text", "text", "--json"]) == 0
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
