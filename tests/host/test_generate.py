"""The token loop."""

import numpy as np
import pytest

from egret.host.generate import generate
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.model.readout import ReadOut, Sampler
from tests.support.networks import random_network


class NetworkBoard:
    """A board whose core is the integer network."""

    def __init__(self, network):
        self.engine = IntegerEngine(network)
        self.clears = 0

    def clear(self):
        self.engine.reset_state()
        self.clears += 1

    def step(self, token):
        return self.engine.step(np.array([token]))[-1].y[0].astype(np.uint8)

    def begin_step(self, token):
        return lambda: self.step(token)

    def step_many(self, tokens):
        return (self.step(token) for token in tokens)


def network_and_sampler(**options):
    network = random_network(4, vocabulary=13, embedding=9, hidden=(9,))
    return network, Sampler(ReadOut(network), **options)


def test_generation():
    network, sampler = network_and_sampler(temperature=0)
    board, steps = NetworkBoard(network), []
    board.step(3)  # leaves a state that generation must not see
    tokens = list(generate(board, sampler, [1, 2, 3], 10, observe=lambda token, events: steps.append((token, events))))
    assert board.clears == 1
    assert [token for token, _ in steps] == [1, 2, 3, *tokens[:9]] and len(tokens) == 10
    engine = IntegerEngine(network)
    for token, events in steps:
        y = engine.step(np.array([token]))[-1].y
        np.testing.assert_array_equal(events, y[0])
    assert tokens[9] == engine.log_probabilities(np.repeat(y, 13, axis=0), np.arange(13)).argmax()


def test_generation_ends_behind_a_token():
    network, sampler = network_and_sampler(seed=1)
    steps, every = [], list(generate(NetworkBoard(network), sampler, [1], 40))
    stop = every[10]
    for observe in (None, lambda token, events: steps.append(token)):
        _, sampler = network_and_sampler(seed=1)
        board = NetworkBoard(network)
        assert list(generate(board, sampler, [1], 40, stop=stop, observe=observe)) == every[: every.index(stop) + 1]
    assert steps == [1, *every[: every.index(stop)]]


def test_tokens_come_as_they_are_known():
    network, sampler = network_and_sampler()
    steps = []
    tokens = generate(NetworkBoard(network), sampler, [1], 5, observe=lambda token, events: steps.append(token))
    assert next(tokens) in range(13) and steps == [1]


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [([], 3, "the prompt must have at least one token"), ([1], -1, "the number of tokens must be at least 0, not -1")],
)
def test_bad_requests(prompt, count, message):
    with pytest.raises(InputError, match=message):
        generate(None, None, prompt, count)


def test_a_prompt_alone():
    network, sampler = network_and_sampler()
    assert list(generate(NetworkBoard(network), sampler, [1, 2], 0)) == []
