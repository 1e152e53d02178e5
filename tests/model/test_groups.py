"""A read-out in groups: its shape, where words are, and that its probabilities are those of its definition."""

import numpy as np
import pytest

from egret.model.checkpoint import Checkpoint, NetworkConfiguration, load_checkpoint, save_checkpoint
from egret.model.errors import InputError
from egret.model.floating import FloatEngine
from egret.model.groups import Groups, check_order, log_probabilities
from egret.model.tokens import Vocabulary


def network(groups, seed=1, tied=True):
    """A random network with a read-out in groups."""
    configuration = NetworkConfiguration("egru", "char", groups.words, 4, (5, 4), tied=tied, readout=groups)
    random = np.random.default_rng(seed)
    tensors = {
        name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in configuration.tensor_shapes().items()
    }
    for name in tensors:
        if name.endswith("threshold"):
            tensors[name] = np.abs(tensors[name]) / 10
    tensors["readout.order"] = random.permutation(groups.words).astype(np.float32)
    return Checkpoint(configuration, tensors, Vocabulary([chr(97 + n) for n in range(groups.words)], "char"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": -1}, "readout.head must be an integer of at least 0, not -1"),
        ({"groups": ()}, r"readout.groups must be a list of at least one size, not \(\)"),
        ({"groups": (3, 0)}, "readout.groups must hold integers of at least 1, not 0"),
        ({"groups": (2.0,)}, "readout.groups must hold integers of at least 1, not 2.0"),
        ({"rows": 3}, "readout.rows must be a power of two from 1 to 16, not 3"),
        ({"rows": 32}, "readout.rows must be a power of two from 1 to 16, not 32"),
    ],
)
def test_groups_that_are_none_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Groups(**{"head": 2, "groups": (3, 4), "rows": 2, **fields})


def test_places():
    groups = Groups(2, (3, 1), 4)
    assert (groups.words, groups.entries, groups.starts.tolist()) == (6, 10, [2, 5, 6])
    group, index = groups.locate(np.arange(6))
    assert group.tolist() == [0, 0, 1, 1, 1, 2] and index.tolist() == [0, 1, 0, 1, 2, 0]
    assert groups.expected_size(np.array([5, 5, 4, 3, 0, 3])) == (7 * 3 + 3 * 1) / 20


@pytest.mark.parametrize("groups", [Groups(2, (3, 1), 2), Groups(0, (1, 5), 1), Groups(1, (4,), 8)])
@pytest.mark.parametrize("tied", [True, False])
def test_float_engine_gives_the_probabilities_of_the_definition(groups, tied):
    checkpoint = network(groups, tied=tied)
    tensors, order = checkpoint.tensors, checkpoint.tensors["readout.order"].astype(int)
    y = np.random.default_rng(2).uniform(0, 1, (3, 4)).astype(np.float32)
    weight = tensors["embedding.weight" if tied else "readout.weight"].astype(np.float64)
    words = np.exp(y @ weight.T + tensors["readout.bias"])
    rows = np.exp(y @ tensors["readout.group_weight"].astype(np.float64).T + tensors["readout.group_bias"])
    total = words[:, order[: groups.head]].sum(1) + rows.sum(1)
    expected = np.empty((3, groups.words))
    for place, word in enumerate(order):
        expected[:, word] = words[:, word] / total
        if place >= groups.head:
            (group,), _ = groups.locate(np.array([place]))
            members = order[groups.starts[group - 1] : groups.starts[group]]
            mine = rows[:, (group - 1) * groups.rows : group * groups.rows].sum(1)
            expected[:, word] = mine / total * words[:, word] / words[:, members].sum(1)
    got = FloatEngine(checkpoint).read_out(y)
    np.testing.assert_allclose(np.exp(got), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(got.astype(np.float64)).sum(1), 1, rtol=1e-6)
    targets = np.array([0, 3, 5]) % groups.words
    chosen = np.log(expected[np.arange(3), targets])
    np.testing.assert_allclose(FloatEngine(checkpoint).log_probabilities(y, targets), chosen, rtol=1e-5)


def test_large_scores_do_not_overflow():
    groups = Groups(1, (2, 2), 2)
    scores = np.array([[900.0, -900, 800, 900, 899, 700, 0, -5000, -5000]])
    result = log_probabilities(scores, groups)
    assert np.isfinite(result).all() and np.exp(result).sum() == pytest.approx(1)


def test_checkpoint_keeps_the_groups(tmp_path):
    checkpoint = network(Groups(2, (3, 1), 2))
    save_checkpoint(checkpoint, tmp_path / "a")
    loaded = load_checkpoint(tmp_path / "a")
    assert loaded.configuration == checkpoint.configuration and loaded.configuration.readout is not None
    assert loaded.configuration.readout.groups == (3, 1)
    for name, tensor in checkpoint.tensors.items():
        assert np.array_equal(loaded.tensors[name], tensor)


def test_configuration_without_the_field_is_plain():
    text = NetworkConfiguration("egru", "char", 3, 4, (4,)).to_json()
    assert '"readout": null' in text
    without = text.replace(',\n "readout": null', "")
    assert "readout" not in without
    assert NetworkConfiguration.from_json(without) == NetworkConfiguration.from_json(text)


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        (3, "readout must be null or hold head, groups, rows, not 3"),
        ({"head": 2}, "readout must be null or hold head, groups, rows"),
        (
            {"head": 1, "groups": [3], "rows": 1},
            "readout must hold all 3 words .*: 1 in the head and 3 in groups are 4",
        ),
    ],
)
def test_bad_groups_in_a_configuration_are_refused(readout, message):
    with pytest.raises(InputError, match=message) as caught:
        NetworkConfiguration("egru", "char", 3, 4, (4,), readout=readout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 1], r"x: holds word 1 twice; must hold each word once"),
        ([0, 1, 3], r"x: holds 3 at \[2\]; must hold words' numbers, 0 to 2"),
        ([0.5, 1, 2], r"x: holds 0.5 at \[0\]; must hold words' numbers, 0 to 2"),
    ],
)
def test_orders_hold_each_word_once(order, message):
    with pytest.raises(InputError, match=message):
        check_order(np.array(order, np.float32), 3, "x")
    checkpoint = network(Groups(1, (2,), 1))
    checkpoint.tensors["readout.order"] = np.array(order, np.float32)
    with pytest.raises(InputError, match="tensor 'readout.order': holds"):
        checkpoint.check()
