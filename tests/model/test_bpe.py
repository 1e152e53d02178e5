"""Byte pairs: a tokenizer made by the package, its files, and the network that has its tokens."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egret.host.session import prompt_ids, prompt_text, stop_token
from egret.model.bpe import BytePairs, read_tokenizer
from egret.model.checkpoint import NetworkConfiguration, load_checkpoint, save_checkpoint
from egret.model.errors import InputError
from egret.model.integer_file import load_integer, save_integer
from egret.model.quantise import quantise
from egret.model.tokens import Vocabulary

TEXT = "the heron, the egret's neck, and the heron's 3 eggs\n\nüber the naïve heron — 鷺\n" * 3


@pytest.fixture(scope="module")
def tokenizer():
    """As the package trains it on `TEXT`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return BytePairs(tokenizer.to_str().encode())


def test_texts_are_cut_as_the_package_cuts_them(tokenizer, vocabulary):
    expected = tokenizer.encode(TEXT).ids
    ids = vocabulary.encode(TEXT)
    assert ids.dtype == np.int32 and ids.tolist() == expected and len(expected) < len(TEXT.encode()) / 2
    assert vocabulary.decode(ids) == tokenizer.decode(expected, skip_special_tokens=False) == TEXT
    assert vocabulary.size == tokenizer.get_vocab_size() == 290
    assert "".join(vocabulary.pieces(ids)) == TEXT and len(list(vocabulary.pieces(ids))) == len(ids)
    assert vocabulary.tokens[vocabulary.line_end] == "<|endoftext|>"
    assert vocabulary.encode("a<|endoftext|>").tolist()[1] == vocabulary.line_end


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(0, 289)))
def test_any_text_comes_back_and_any_tokens_are_text(tokenizer, vocabulary, text, ids):
    assert vocabulary.decode(vocabulary.encode(text)) == text
    whole, expected = vocabulary.decode(ids), tokenizer.decode(ids, skip_special_tokens=False)
    assert expected.startswith(whole) and set(expected[len(whole) :]) <= {"\ufffd"}  # an unfinished character


def test_other_ids_cut_texts_alike(vocabulary):
    order = np.random.default_rng(1).permutation(290)
    other = vocabulary.reordered(order)
    ids = other.encode(TEXT)
    assert order[ids].tolist() == vocabulary.encode(TEXT).tolist() and other.decode(ids) == TEXT
    assert other != vocabulary and other.reordered(np.argsort(order)).tokens == vocabulary.tokens


def test_the_two_files_of_gpt2(tokenizer, vocabulary, tmp_path):
    tokenizer.model.save(str(tmp_path))
    two = BytePairs(read_tokenizer(tmp_path / "vocab.json"))
    assert two.tokens == vocabulary.tokens and two.encode(TEXT).tolist() == vocabulary.encode(TEXT).tolist()
    assert two.encode("<|endoftext|>").tolist() == [vocabulary.line_end]
    (tmp_path / "merges.txt").write_text("not merges\n")
    with pytest.raises(InputError, match=r"merges.txt: not a byte-pair vocabulary: "):
        read_tokenizer(tmp_path / "vocab.json")
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges.txt: cannot read it: No such file or directory$"):
        read_tokenizer(tmp_path / "vocab.json")


def test_networks_of_byte_pairs(vocabulary, tokenizer, random_checkpoint, tmp_path):
    configuration = NetworkConfiguration("egru", "bpe", 290, 3, (3,))
    checkpoint = random_checkpoint(configuration)
    save_checkpoint(type(checkpoint)(configuration, checkpoint.tensors, vocabulary), tmp_path / "network")
    assert sorted(file.name for file in (tmp_path / "network").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    loaded = load_checkpoint(tmp_path / "network")
    assert loaded.vocabulary == vocabulary
    save_integer(quantise(loaded), tmp_path / "integer")
    assert load_integer(tmp_path / "integer").vocabulary == vocabulary
    (tmp_path / "network" / "tokenizer.json").unlink()
    tokenizer.model.save(str(tmp_path / "network"))
    assert load_checkpoint(tmp_path / "network").vocabulary.tokens == vocabulary.tokens
    (tmp_path / "network" / "vocab.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json: cannot read it: No such file or directory"):
        load_checkpoint(tmp_path / "network")


def test_prompts(vocabulary):
    assert prompt_ids(vocabulary, None) == [vocabulary.line_end]
    assert prompt_ids(vocabulary, "the heron ") == vocabulary.encode("the heron ").tolist()
    assert prompt_text(vocabulary, "the heron ") == "the heron "
    assert vocabulary.tokens[stop_token(vocabulary, " the")] == "Ġthe"
    with pytest.raises(InputError, match="^--stop: 'the heron' is not in the vocabulary of 290 tokens$"):
        stop_token(vocabulary, "the heron")
    with pytest.raises(InputError, match="^tokens of the kind 'bpe' need a tokenizer; give its tokenizer.json as"):
        Vocabulary.from_text("a", "bpe")


def test_bad_files(vocabulary):
    def refusal(change):
        content = json.loads(vocabulary.to_bytes())
        change(content)
        with pytest.raises(InputError) as error:
            Vocabulary.from_bytes(json.dumps(content).encode(), "bpe", "t")
        return str(error.value)

    def model(content):
        return content["model"]

    assert refusal(lambda content: content.pop("model")) == "t: not a tokenizer.json: lacks its model, vocab or tokens"
    accepted = "t: the tokenizer must be a BPE with the decoder ByteLevel, such as GPT-2's, not "
    assert refusal(lambda content: content.update(decoder=None)) == accepted + "'BPE' with None"
    assert refusal(lambda content: model(content).update(type="Unigram")) == accepted + "'Unigram' with 'ByteLevel'"
    assert (
        refusal(lambda content: model(content).update(end_of_word_suffix="</w>"))
        == "t: a byte-level tokenizer has no end_of_word_suffix, but this one has '</w>'"
    )
    assert (
        refusal(lambda content: model(content)["vocab"].pop("A"))
        == "t: the 289 tokens must have the ids from 0 on, each once"
    )
    assert refusal(lambda content: model(content)["vocab"].update({"more": 289})) == (
        "t: the 291 tokens must have the ids from 0 on, each once"
    )
    assert refusal(lambda content: model(content)["vocab"].update({"a b": 290})) == (
        "t: token 'a b' is not made of the characters that stand for bytes"
    )

    assert refusal(lambda content: content.update(version="\ud800")).startswith("t: cannot be written again: 'utf-8'")

    def rename(content):
        vocab = model(content)["vocab"]
        vocab["AAA"] = vocab.pop("A")

    assert refusal(rename) == "t: lacks the byte 0x41; a byte-level tokenizer has all 256"
    for data, message in ((b"{", "not a JSON file: "), (b"[]", "must hold one JSON object, not list")):
        with pytest.raises(InputError, match=f"^t: {message}"):
            BytePairs(data, "t")
