"""Teachers: what they predict, and that they are known by their content."""

import pytest
import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.training.loop import Trainer
from egret.model.training.network import LanguageModel
from egret.model.training.schedule import equal_streams
from egret.model.training.train import read_texts, train
from tests.support.training import assert_same_checkpoint, small_options


def test_teachers_are_predicted_beside_the_text(texts, tmp_path):
    """A student of a teacher that is another in every respect but the vocabulary, and of two of them."""
    train(small_options(texts, cell="lstm", hidden_sizes=(8,), epochs=2, dropout_words=0.0), tmp_path / "teacher")
    train(small_options(texts, seed=2, epochs=1), tmp_path / "other")
    teachers = [str(tmp_path / "teacher"), str(tmp_path / "other")]
    made = small_options(texts, teachers=teachers, distillation_weight=0.5)
    vocabulary, train_ids, valid_ids = read_texts(made)

    def trainer(options):
        model = LanguageModel(load_checkpoint(tmp_path / "other").configuration)
        return Trainer(options, model, vocabulary, train_ids, valid_ids)

    (taught,) = trainer(made).taught
    assert taught.shape == (len(train_ids) // 4 - 1, 4, vocabulary.size)
    torch.testing.assert_close(taught.sum(-1), torch.ones(taught.shape[:2]).half(), rtol=2e-3, atol=0)
    tokens = torch.from_numpy(equal_streams(train_ids, 4))[:-1]
    for path in teachers:
        (alone,) = trainer(small_options(texts, teachers=path)).taught
        model = LanguageModel.from_checkpoint(load_checkpoint(path)).eval()
        with torch.no_grad():
            expected = model.logits(model(tokens, model.zero_state(4))[0]).softmax(-1)
        torch.testing.assert_close(alone.float(), expected, rtol=2e-3, atol=1e-6)
        taught = taught - alone / 2
    assert taught.abs().max() < 1e-3

    # Of the likeliest words alone the probabilities are the same, and are learnt as well.
    (everything,) = trainer(made).taught
    probabilities, words = trainer(small_options(texts, teachers=teachers, teacher_words=3)).taught
    assert probabilities.shape == words.shape == (*taught.shape[:2], 3)
    assert torch.equal(everything.gather(-1, words.long()), probabilities)
    assert torch.equal(probabilities.sort(descending=True).values, everything.sort(descending=True).values[..., :3])
    few = small_options(texts, teachers=teachers, distillation_weight=1.0, epochs=4, teacher_words=3)
    result = train(few, tmp_path / "few")
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    with pytest.raises(InputError, match="teacher_words must be 0 for a read-out in groups, not 3"):
        train(small_options(texts, teachers=teachers, teacher_words=3, head=2, groups=2, rows=1), tmp_path / "groups")

    # Alone, the teachers' prediction is learnt; killed runs go on exactly.
    student = small_options(texts, teachers=teachers, distillation_weight=1.0, epochs=4)
    train(student, tmp_path / "student")
    train(student, tmp_path / "again", limit_seconds=0)
    result = train(student, tmp_path / "again")
    assert_same_checkpoint(tmp_path / "student", tmp_path / "again")
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_teachers_are_known_by_their_content(texts, tmp_path):
    """A teacher may move while a run is stopped; another in its place is refused."""
    for seed in (1, 2):
        train(small_options(texts, seed=seed, epochs=1), tmp_path / f"teacher-{seed}")
    taught = small_options(texts, teachers=str(tmp_path / "teacher-1"))
    train(taught, tmp_path / "student", limit_seconds=0)
    (tmp_path / "teacher-1").rename(tmp_path / "moved")
    train(small_options(texts, teachers=str(tmp_path / "moved")), tmp_path / "student", limit_seconds=0)
    (tmp_path / "teacher-2").rename(tmp_path / "teacher-1")
    with pytest.raises(InputError, match=r"training began with teachers = \['\w{64}'\], not \['\w{64}'\]; give the"):
        train(taught, tmp_path / "student")


def test_teachers_need_the_vocabulary(texts, tmp_path):
    (tmp_path / "letters.txt").write_text("abc" * 50)
    letters = {"train": tmp_path / "letters.txt", "valid": tmp_path / "letters.txt"}
    train(small_options(letters, epochs=1), tmp_path / "teacher")
    with pytest.raises(InputError, match="a teacher needs the vocabulary of the network in training, not another"):
        train(small_options(texts, teachers=[str(tmp_path / "teacher")]), tmp_path / "student")
    with pytest.raises(InputError, match="none: no "):
        train(small_options(texts, teachers=[str(tmp_path / "none")]), tmp_path / "student")
    with pytest.raises(InputError, match="teachers must be paths of networks, not 3"):
        small_options(texts, teachers=3)
    with pytest.raises(InputError, match="teacher_words must be an integer of at least 0, not -1"):
        small_options(texts, teacher_words=-1)
    with pytest.raises(InputError, match="distillation_weight must be a number from 0 to 1, not 1.5"):
        small_options(texts, distillation_weight=1.5)
