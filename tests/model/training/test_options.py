"""Options of a training: groups, files, names, and what is refused."""

from pathlib import Path

import pytest

from egret.model.errors import InputError
from egret.model.training.options import TrainingOptions, flat_name
from tests.support.training import small_options

CONFIGS = Path(__file__).parents[3] / "model" / "configs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"batch": 2.5}, "batch must be an integer"),
        ({"hidden_sizes": ()}, "hidden_sizes must be a list of at least one size"),
        ({"hidden_sizes": (12, 9)}, "a tied read-out needs embedding_size equal to the last hidden size"),
        ({"cell": "gru"}, "cell must be 'egru' or 'lstm', not 'gru'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number from"),
        ({"decay_from": 4}, "decay_from must be a number from 0 to 3, not 4"),
        ({"dropout_words": 1.0}, "dropout of words must be a number from 0 to below 1"),
        ({"tied": 1}, "tied must be true or false"),
        ({"averaging": -1}, "averaging must be a number from 0"),
        ({"shard_mib": 0}, "shard_mib must be an integer of at least 1"),
        ({"train": 3}, "train must be the path of a text file"),
        ({"seed": 1 << 64}, "seed must be an integer of at most 18446744073709551615, not 18446744073709551616"),
        ({"embedding_bits": 6.0}, "embedding_bits must be 4 or 5 or 6 or 7 or 8, not 6.0"),
        ({"rows": True}, "rows must be 1 or 2 or 4 or 8 or 16, not True"),
        ({"device": "tpu"}, "device must be 'auto' or 'cpu' or 'cuda'"),
    ],
)
def test_bad_options_are_refused(texts, change, message):
    with pytest.raises(InputError, match=message) as caught:
        small_options(texts, **change)
    assert "\n" not in str(caught.value)


def test_configuration_file(tmp_path, texts):
    path = tmp_path / "a.toml"
    path.write_text(
        '[network]\nembedding_size = 8\nhidden_sizes = [12, 8]\n[text]\ntrain = "train.txt"\nvalid = "valid.txt"\n'
        "[training]\nepochs = 7\n[dropout]\nwords = 0.25\n[events]\nthreshold_mean = 0.3\n"
    )
    read = TrainingOptions.from_toml(path, epochs=9, batch=None)
    assert (read.training.epochs, read.training.batch, read.dropout.words, read.events.threshold_mean) == (
        9,
        64,
        0.25,
        0.3,
    )
    assert read.network.hidden_sizes == (12, 8) and read.text.train == str(texts["train"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs = 3", "unknown table 'epochs'"),
        ("[training]\nepoch = 3", r"unknown field 'epoch' in \[training\]"),
        ("[training]\nepochs = ", "not a TOML file"),
        ("[training]\nepochs = 3", "lacks 'train'"),
        ('[text]\ntrain = "a"\nvalid = "b"\n[training]\nepochs = -1', "epochs must be"),
    ],
)
def test_bad_configuration_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        TrainingOptions.from_toml(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_committed_configurations_are_accepted():
    names = sorted(path.name for path in CONFIGS.glob("*.toml"))
    assert {"demo.toml", "ptb-egru.toml", "ptb-lstm.toml", "wikitext2-egru.toml", "wikitext2-lstm.toml"} <= set(names)
    for name in names:
        if not name.startswith("study-"):
            TrainingOptions.from_toml(CONFIGS / name, train="t", valid="v")


@pytest.mark.parametrize(
    ("name", "flat"),
    [("epochs", "epochs"), ("training.epochs", "epochs"), ("dropout.words", "dropout_words"),
     ("dropout_words", "dropout_words"), ("distillation.teachers", "teachers")],
)  # fmt: skip
def test_names_need_no_group(name, flat):
    assert flat_name(name) == flat


@pytest.mark.parametrize("name", ["speed", "network.epochs", "words", "dropout.dropout_words", "epochs.training", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match=rf"^unknown field '{name}'; accepted are train, valid, vocabulary, tokens, "):
        flat_name(name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("output_weight", "activation_regularisation"),
        ("change_weight", "temporal_activation_regularisation"),
        ("teaching", "distillation_weight"),
    ],
)
def test_old_names_are_refused_with_the_new_one(tmp_path, texts, old, new):
    for name in (old, f"training.{old}"):
        with pytest.raises(InputError, match=f"^'{name}' is called '{new}' now$"):
            flat_name(name)
    with pytest.raises(InputError, match=f"^'{old}' is called '{new}' now$"):
        small_options(texts, **{old: 0.5})
    path = tmp_path / "a.toml"
    path.write_text(f"[training]\n{old} = 0.5\n")
    with pytest.raises(InputError) as caught:
        TrainingOptions.from_toml(path, **texts)
    assert str(caught.value) == f"{path}: '{old}' in [training] is called '{new}' now"


def test_flat_options_make_the_same_options(texts):
    """Every field has a unique name, and every group its fields."""
    plan = small_options(texts, teachers="a", clip=0.5)
    values = plan.flat()
    assert TrainingOptions.of(**values) == plan
    assert len(values) == sum(len(vars(group)) for group in vars(plan).values()) == 51
    other = plan.with_values(epochs=7, dropout_words=0.5)
    assert (other.training.epochs, other.dropout.words, other.network) == (7, 0.5, plan.network)
    assert {name for name, value in other.flat().items() if value != values[name]} == {"epochs", "dropout_words"}
