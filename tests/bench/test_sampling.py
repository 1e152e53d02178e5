"""Words drawn by factors beside the distribution over all words, against probabilities worked out word by word."""

import json
import math

import numpy as np
import pytest

from bench.sampling import compare, distributions, main
from egret.model.integer_file import save_integer
from egret.model.readout import ReadOut, beta_of
from tests.support.networks import random_groups, random_network


@pytest.fixture(scope="module")
def network():
    whole = random_network(3, vocabulary=12, embedding=9, hidden=(8, 9), density=0.9, threshold=0, z_bias=20_000)
    codebook = np.array([-9, 9], np.int8)
    return random_groups(whole, head=4, sizes=(5, 3), fraction=14, codebook=codebook, bias=1 << 14)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_word_by_word(network, temperature):
    readout, y = ReadOut(network), np.random.default_rng(1).integers(0, 256, (6, 9))
    full, factors = distributions(readout, y, beta_of(temperature))
    for row in range(6):
        head = readout.scores(y[row : row + 1])[0] / 1024
        groups = [readout.scores(y[row : row + 1], group + 1)[0] / 1024 for group in range(2)]
        whole = sum(math.exp(score) for score in head)
        cooled = sum(math.exp(score / temperature) for score in head)
        expected, by_factors = np.zeros(12), np.zeros(12)
        for place in range(4):
            expected[readout.order[place]] = math.exp(head[place]) / whole
            by_factors[readout.order[place]] = math.exp(head[place] / temperature) / cooled
        for group, (scores, first) in enumerate(zip(groups, (4, 9), strict=True)):
            rows = head[4 + 2 * group : 6 + 2 * group]
            for number, score in enumerate(scores):
                word = readout.order[first + number]
                inside = math.exp(score) / sum(map(math.exp, scores))
                expected[word] = sum(map(math.exp, rows)) / whole * inside
                inside = math.exp(score / temperature) / sum(math.exp(one / temperature) for one in scores)
                by_factors[word] = sum(math.exp(one / temperature) for one in rows) / cooled * inside
        expected = expected ** (1 / temperature)
        # The integers' tables are exact within 1/64 nat.
        np.testing.assert_allclose(full[row], expected / expected.sum(), rtol=0.05)
        np.testing.assert_allclose(factors[row], by_factors, rtol=1e-9)
        variation, read = compare(readout, y[row : row + 1], beta_of(temperature))
        assert variation[0] == pytest.approx(np.maximum(full[row] - factors[row], 0).sum())
        assert read[0] == pytest.approx(by_factors[readout.order[4:]].sum())
    variations, _ = compare(readout, y, beta_of(temperature))
    assert (variations.max() < 0.02) == (temperature == 1)


def test_the_script(network, tmp_path, capsys):
    path, text = tmp_path / "network", tmp_path / "text"
    save_integer(network, path)
    text.write_text("".join(network.vocabulary.tokens[token] for token in range(12)) * 3)
    arguments = [str(path), "--text", str(text), "--tokens", "30", "--temperature", "0.5"]
    main([*arguments, "--json"], standalone_mode=False)
    result = json.loads(capsys.readouterr().out)
    assert result["tokens"] == 30
    (cold,) = result["temperatures"]
    assert 0 < cold["differ"] < cold["differ_at_most"] < 1 and 0 < cold["groups_by_factors"] < 1
    main(arguments, standalone_mode=False)
    assert "of 2" in capsys.readouterr().out
