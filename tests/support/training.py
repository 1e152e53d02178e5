"""A tiny training on a CPU."""

import numpy as np
import pytest

from egret.model.checkpoint import load_checkpoint
from egret.model.training.options import TrainingOptions

__all__ = ["TEXT", "assert_same_checkpoint", "small_options", "texts"]

TEXT = "to be or not to be that is the question\nwhether tis nobler in the mind to suffer\n" * 6


@pytest.fixture
def texts(tmp_path):
    """Paths of a training and a validation text, as options."""
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "valid.txt").write_text(TEXT[:200])
    return {"train": tmp_path / "train.txt", "valid": tmp_path / "valid.txt"}


def small_options(texts, **changes):
    fields = {
        "tokens": "char", "embedding_size": 8, "hidden_sizes": (12, 8), "epochs": 3, "batch": 4, "bptt": 20,
        "bptt_deviation": 5.0, "learning_rate": 5e-3, "embedding_scale": 0.5, "dropout_recurrent": 0.3,
        "dropout_words": 0.1, "dropout_between": 0.1, "eval_batch": 2, "save_seconds": 1e9, "device": "cpu",
    }  # fmt: skip
    return TrainingOptions.of(**{**fields, **texts, **changes})


def assert_same_checkpoint(one, other):
    one, other = load_checkpoint(one), load_checkpoint(other)
    for name, tensor in one.tensors.items():
        assert np.array_equal(tensor, other.tensors[name]), name
