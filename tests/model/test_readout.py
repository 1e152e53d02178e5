"""The read-out in integers: against exact sums, and against its own full distribution."""

import dataclasses
import math

import numpy as np
import pytest

from egret.model.errors import InputError
from egret.model.readout import (
    ALL_WORDS,
    BY_FACTORS,
    LOG_FRACTION,
    MOST_TOP,
    IntegerGroups,
    ReadOut,
    Sampler,
    beta_of,
    exponential_table,
    log_sum,
    logarithm,
    logarithm_table,
    pick,
    powers,
    random_state,
    score,
)
from tests.support.networks import random_groups, random_network


def network_of(seed, sizes=(3, 1, 5), head=4, rows=2):
    vocabulary = head + sum(sizes)
    network = random_network(vocabulary=vocabulary, embedding=6, hidden=(7, 6), seed=seed)
    return random_groups(network, head=head, sizes=sizes, rows=rows, seed=seed)


def events(network, batch, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (batch, network.hidden[-1])) * (random.random((batch, network.hidden[-1])) < 0.5)


def exact(network, y):
    """Log-probabilities of all words in float64, from the scores: [B, V]."""
    readout = ReadOut(network)

    def log_softmax(scores):
        largest = scores.max(1, keepdims=True)
        return scores - largest - np.log(np.exp(scores - largest).sum(1, keepdims=True))

    head = log_softmax(readout.scores(y) / 1024)
    result = np.zeros((len(y), len(readout.order)))
    result[:, readout.order[: readout.head]] = head[:, : readout.head]
    place = readout.head
    for group, size in enumerate(readout.sizes):
        first = readout.head + group * readout.rows
        own = np.log(np.exp(head[:, first : first + readout.rows]).sum(1, keepdims=True))
        result[:, readout.order[place : place + size]] = own + log_softmax(readout.scores(y, group + 1) / 1024)
        place += size
    return result


def test_tables_are_rounded_functions():
    assert exponential_table()[:2] == [1 << 23, round(2**23 * math.exp(-1 / 64))]
    assert exponential_table()[-1] == 0 and len(exponential_table()) == 1024
    assert logarithm_table()[0] == 0 and logarithm_table()[-1] == round(2**16 * math.log(2047 / 1024))


@pytest.mark.parametrize("fraction", [0, 9, 10, 11, 15, 30])
def test_scores_are_rounded_once_and_saturate(fraction):
    accumulators = np.array([-(1 << 23), -12345, -1, 0, 1, 3, 16, 12345, (1 << 23) - 1])
    found = score(accumulators, np.full(9, 7), fraction)
    for one, value in zip(found.tolist(), accumulators.tolist(), strict=True):
        rounded = math.floor(value * 2.0 ** (10 - fraction) + 0.5) + 7
        assert one == max(-(1 << 17), min((1 << 17) - 1, rounded))


def test_logarithm_is_within_its_index():
    totals = np.concatenate([(1 << 23) + np.arange(2000), np.geomspace(1 << 23, (1 << 40) - 1, 5000).astype(np.int64)])
    error = logarithm(totals) / 2**LOG_FRACTION - np.log(totals / 2.0**23)
    assert np.abs(error).max() < 2.0**-11 + 2.0**-15
    assert logarithm(np.array([1 << 23, 1 << 39])).tolist() == [0, 16 * 45426]
    # Rounded up to the next power of two.
    assert logarithm(np.array([(1 << 24) - 1])).tolist() == [45426]


@pytest.mark.parametrize("largest", [20, 127])
@pytest.mark.parametrize("active", [0, 1, 100, 700])
def test_accumulators_of_one_stream_and_of_many_are_exact(largest, active, monkeypatch):
    """Also where a float32 could not hold them."""
    random = np.random.default_rng(active)
    network = random_network(1, vocabulary=40, hidden=(700,), density=0.01)
    weight = random.integers(-largest, largest + 1, (40, 700)).astype(np.int8)
    weight[0] = largest
    readout = ReadOut(dataclasses.replace(network, readout_weight=weight))
    assert (readout.reach() > 1 << 24) == (largest == 127)
    y = np.zeros((3, 700), np.uint8)
    y[:, random.permutation(700)[:active]] = random.integers(1, 256, (3, active)) | 251
    expected = (y.astype(np.int64) @ weight.T.astype(np.int64)).tolist()
    assert readout.accumulators(y).tolist() == expected
    for gathered in (1, 1000, 1 << 19):
        monkeypatch.setattr("egret.model.readout._GATHERED", gathered)
        assert [readout.accumulators(y[stream : stream + 1])[0].tolist() for stream in range(3)] == expected


@pytest.mark.parametrize("seed", range(4))
def test_log_probabilities_are_those_of_the_full_distribution(seed):
    network = network_of(seed)
    y, readout = events(network, 20, seed), ReadOut(network)
    every = readout.all_log_probabilities(y)
    assert np.abs(every / 2**LOG_FRACTION - exact(network, y)).max() < 0.03
    assert np.abs(np.exp(every / 2**LOG_FRACTION).sum(1) - 1).max() < 0.01
    words = np.random.default_rng(seed).integers(0, len(readout.order), 20)
    assert readout.log_probabilities(y, words).tolist() == every[np.arange(20), words].tolist()


def test_equal_logits_share_the_probability():
    network = dataclasses.replace(network_of(1), groups=None)
    readout = ReadOut(network)
    bias = np.zeros_like(network.readout_bias)
    none = ReadOut(dataclasses.replace(network, readout_bias=bias)).all_log_probabilities(np.zeros((1, 6), np.int64))
    assert set(none[0].tolist()) == {-int(logarithm(np.array([len(readout.order) << 23]))[0])}


def test_a_group_of_one_word_has_the_probability_of_its_rows():
    network = network_of(2, sizes=(1, 8), rows=4)
    readout, y = ReadOut(network), events(network, 5, 2)
    head = readout.scores(y)
    word = readout.order[readout.head]
    expected = log_sum(head[:, readout.group_rows(0)]) - log_sum(head)
    assert readout.log_probabilities(y, np.full(5, word)).tolist() == expected.tolist()


@pytest.mark.parametrize("k", [1, 2, 5, 13, 64])
@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_that_of_the_full_distribution(k, seed):
    network = network_of(seed)
    readout = ReadOut(network)
    for y in events(network, 6, seed):
        every = readout.all_log_probabilities(y[None])[0]
        ranks = sorted(range(len(every)), key=lambda word: (-every[word], readout.place[word]))[:k]
        found, read = readout.top(y, k)
        assert found == [(word, int(every[word])) for word in ranks]
        assert len(set(read)) == len(read) <= readout.groups


def test_a_group_that_cannot_matter_is_not_read():
    network = network_of(3)
    groups = dataclasses.replace(network.groups, bias=np.full_like(network.groups.bias, -(1 << 24)))
    _, read = ReadOut(dataclasses.replace(network, groups=groups)).top(np.zeros(6, np.int64), 4)
    assert read == []


def test_sampling_by_factors_draws_from_the_full_distribution():
    network = network_of(5)
    readout, y = ReadOut(network), events(network, 1, 5)[0]
    sampler, draws = Sampler(readout, seed=9), 6000
    counts = np.bincount([sampler.sample(y) for _ in range(draws)], minlength=len(readout.order))
    expected = np.exp(readout.all_log_probabilities(y[None])[0] / 2**LOG_FRACTION) * draws
    # Five standard deviations of a count.
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1).all()
    assert counts.max() < draws


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("head", [0, 6])
def test_a_word_is_drawn_from_all_words_at_a_temperature(temperature, head):
    network = network_of(5, head=head)
    readout, y = ReadOut(network), events(network, 1, 5)[0]
    sampler, draws = Sampler(readout, seed=9, temperature=temperature), 6000
    assert sampler.top == (BY_FACTORS if temperature == 1 else ALL_WORDS)
    sampler.top = ALL_WORDS
    counts = np.bincount([sampler.sample(y) for _ in range(draws)], minlength=len(readout.order))
    expected = np.exp(readout.all_log_probabilities(y[None])[0] / 2**LOG_FRACTION / temperature)
    expected *= draws / expected.sum()
    # Five standard deviations of a count.
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1).all()
    # By factors the words are others, which shows where the distribution is flat.
    by_factors = Sampler(readout, seed=9, temperature=temperature, by_factors=True)
    others = np.bincount([by_factors.sample(y) for _ in range(draws)], minlength=len(readout.order))
    assert by_factors.top == BY_FACTORS
    close = (np.abs(others - expected) <= 5 * np.sqrt(expected) + 1).all()
    assert close if temperature == 1 else not close or temperature < 1
    assert len(sampler.groups_read) == draws * (readout.groups + 1)


def test_without_groups_all_words_are_drawn_by_factors():
    network = dataclasses.replace(network_of(5), groups=None)
    y = events(network, 1, 5)[0]
    one, other = (Sampler(ReadOut(network), seed=3, temperature=0.5, by_factors=by) for by in (False, True))
    assert [one.sample(y) for _ in range(50)] == [other.sample(y) for _ in range(50)] and one.top != other.top


def test_greedy_takes_the_most_probable_word_and_draws_nothing():
    network = network_of(6)
    sampler, y = Sampler(ReadOut(network), seed=1, top_k=1), events(network, 10, 6)
    every = ReadOut(network).all_log_probabilities(y)
    state = sampler.state
    found = [every[row, sampler.sample(y[row])] for row in range(10)]
    assert found == every.max(1).tolist() and sampler.state == state


def test_top_k_samples_among_the_k_with_temperature():
    network = network_of(7)
    readout, y = ReadOut(network), events(network, 1, 7)[0]
    words, _ = readout.top(y, 3)
    sampler = Sampler(readout, seed=4, top_k=3, temperature=0.5)
    counts = np.bincount([sampler.sample(y) for _ in range(4000)], minlength=len(readout.order))
    assert set(np.flatnonzero(counts).tolist()) <= {word for word, _ in words}
    weights = np.exp(np.array([value for _, value in words]) / 2**LOG_FRACTION / 0.5)
    expected = 4000 * weights / weights.sum()
    assert np.abs(counts[[word for word, _ in words]] - expected).max() < 5 * math.sqrt(4000)


def test_the_generator_is_xorshift_and_seeds_are_mixed():
    sampler = Sampler(ReadOut(network_of(1)), seed=0)
    assert sampler.state == random_state(0) == 0xE220A8397B1DCDAF
    state = sampler.state
    for shift in (13, -7, 17):
        state ^= state << shift & (1 << 64) - 1 if shift > 0 else state >> -shift
    assert sampler.draw(1 << 40) == state >> 24 and sampler.state == state
    assert all(sampler.draw(3) < 3 for _ in range(50)) and sampler.draw(1) == 0


def test_pick_is_the_first_place_that_passes():
    assert [pick(np.array([2, 0, 3]), number) for number in range(5)] == [0, 0, 2, 2, 2]
    assert powers(np.array([[0, -1 << 17]]), np.array([0])).tolist() == [[1 << 23, 0]]


def test_bad_parameters_are_refused():
    readout = ReadOut(network_of(1))
    for changes, message in (
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"temperature": 0.01}, "temperature must be 0.0625 to 256, or 0 for the most probable word, not 0.01"),
        ({"temperature": float("nan")}, "temperature must be 0.0625 to 256, or 0 for the most probable word, not nan"),
        ({"top_k": 0}, "k from 1 to 64, not 0"),
        ({"top_k": MOST_TOP + 1}, "k from 1 to 64"),
    ):
        with pytest.raises(InputError, match=message):
            Sampler(readout, **changes)
    assert beta_of(1.0) == 256 and beta_of(0.0625) == 4096 and beta_of(256) == 1


def test_bad_groups_are_refused():
    groups = network_of(1).groups
    for changes, message in (
        ({"rows": 3}, "rows must be 1, 2, 4, 8 or 16"),
        ({"sizes": (3, 0, 6)}, "sizes of at least 1"),
        ({"head": 5}, "do not cover the vocabulary of 13"),
        ({"order": np.zeros(13, int)}, "groups overlap"),
        ({"bias": groups.bias[:-1]}, "need 6 rows with a bias each"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(groups, **changes)
    with pytest.raises(InputError, match=r"a row of the read-out can reach \d+"):
        wide = random_network(1, vocabulary=8, hidden=(300,), density=0.01)
        wide = dataclasses.replace(wide, readout_weight=np.full((8, 300), 127, np.int8))
        random_groups(wide, head=4, sizes=(4,))
    assert isinstance(groups, IntegerGroups)


def test_a_codebook_takes_the_nearest_number_and_keeps_zeros():
    network = network_of(1)
    embedding = network.embedding.copy()
    embedding[0, :5] = [0, 1, 3, 4, 127]
    codebook = np.array([-100, -8, 2, 6, 90], np.int8)
    readout = ReadOut(dataclasses.replace(network, embedding=embedding, groups=None, readout_codebook=codebook))
    assert readout.weights[0][0, :5].tolist() == [0, 2, 2, 2, 90]
    with pytest.raises(InputError, match="rising numbers that are not 0"):
        dataclasses.replace(network, readout_codebook=np.array([0, 1], np.int8))
