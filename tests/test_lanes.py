"""The ways to a product that `bench/lanes.py` measures compute the same, in the cycles it counts."""

import json
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from bench.lanes import (
    WAYS,
    check,
    column_use,
    fill_cycles,
    load_network,
    main,
    products,
    simulate,
    stalls,
    words_taken,
)
from egret.host.demo import NETWORK, TEXT
from egret.model.integer_file import save_integer
from egret.model.tokens import read_text
from tests.support.networks import random_network


@pytest.mark.parametrize("idle", [0.0, 0.4])
@pytest.mark.parametrize("name", WAYS)
def test_equal(name, idle):
    check(WAYS[name].make(lanes=3, matrices=2), 3, 2, idle=idle, seed=1)


@pytest.mark.parametrize("name", WAYS)
def test_every_code_of_every_codebook(name):
    """Nine codebooks, but two where the way holds no more; the largest values; columns of one word."""
    matrices = 2 if name == "dsp-two" else 9
    random = Random(1)
    codebooks = [
        [0, *(random.choice([-127, 127, random.randint(-127, 127)]) for _ in range(15))] for _ in range(matrices)
    ]
    columns = [
        (value, matrix, [[code, 15 - code]])
        for matrix in range(matrices)
        for code in range(16)
        for value in (-254, 255)
    ]
    component = WAYS[name].make(lanes=2, matrices=matrices)
    sent, _, _ = simulate(component, codebooks, columns)
    assert sent == products(codebooks, columns)


def test_fill_cycles():
    assert [fill_cycles(multipliers) for multipliers in (1, 2, 4)] == [15, 8, 4]


def test_words_taken():
    assert words_taken([2, 1, 3, 1], 1) == [0, 1, 2, 3, 4, 5, 6]
    assert words_taken([2, 1, 5, 1], 4) == [0, 1, 4, 8, 9, 10, 11, 12, 13]


def test_stalls_by_hand():
    """Columns of 1, 2 and 5 words on 2 lanes, used always, every second and every fourth step."""
    result = stalls(np.array([2, 3, 9]), np.array([1, 0.5, 0.25]), 2, [1, 4])
    assert result["words"] == 1 + 1 + 1.25
    assert result["utilisation"] == (2 + 1.5 + 2.25) / 6.5
    assert result["lost"] == {1: 0.0, 4: 1 - 3.25 / (4 + 2 + 1.25)}
    assert result["columns_shorter"] == {1: 0.0, 4: 1.5 / 1.75}


def test_stalls_of_a_simulation():
    """The share of cycles lost is what a component loses."""
    lengths = [Random(2).choice([1, 3, 6, 9, 20]) for _ in range(50)]
    for fill in (15, 8, 4):
        lost = stalls(np.array(lengths), np.ones(len(lengths)), 1, [fill])["lost"][fill]
        cycles = words_taken([*lengths, 1], fill)[-1]
        assert lost == pytest.approx(1 - sum(lengths) / cycles)


def test_column_use_of_the_demo_network():
    parameters = load_network(NETWORK)
    nonzeros, share = column_use(parameters, parameters.vocabulary.encode(read_text(TEXT)))
    assert len(nonzeros) == len(share)
    assert nonzeros.min() > 0 and 0 <= share.min() and share.max() <= 1
    weights = np.concatenate(
        [layer.weight_y.ravel() for layer in parameters.layers]
        + [layer.weight_x.ravel() for layer in parameters.layers[1:]]
    )
    assert nonzeros.sum() == np.count_nonzero(weights)


def test_command(tmp_path):
    """Each kind of network is taken; figures without synthesis."""
    parameters = random_network(3, vocabulary=20, embedding=8, hidden=(12, 8))
    save_integer(parameters, tmp_path / "network")
    text = tmp_path / "text"
    text.write_text("".join(parameters.vocabulary.tokens[:7]) * 700)
    for options in ([], [str(tmp_path / "network"), "--text", str(text)]):
        done = CliRunner().invoke(main, [*options, "--part", "stalls", "--json"])
        assert done.exit_code == 0, done.output
        assert [row["lanes"] for row in json.loads(done.stdout)["stalls"]] == [4, 8, 16, 32]
    done = CliRunner().invoke(main, [str(tmp_path / "network")])
    assert done.exit_code == 2 and "needs a --text" in done.output
