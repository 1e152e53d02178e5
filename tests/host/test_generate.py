"""Read-out, sampling and the token loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egret.host.generate import ReadOut, Sampler, generate
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine, split
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


@pytest.mark.parametrize("tied", [True, False])
def test_read_out_is_that_of_the_integer_network(tied):
    network = random_network(4, vocabulary=13, embedding=9, hidden=(5, 9), tied=tied)
    image = compile_image(network, configuration_for(network))
    engine, read_out = IntegerEngine(network), ReadOut(image)
    random = np.random.default_rng(1)
    for density in (0, 0.1, 0.5, 1):
        for _ in range(20):
            events = (random.integers(1, 256, 9) * (random.random(9) < density)).astype(np.uint8)
            np.testing.assert_array_equal(read_out(events), engine.read_out(events[None])[0])


logits = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20).map(np.array)


@given(logits, st.sampled_from([0, 1e-300, 1e-3, 0.8, 1.0, 1e6]), st.integers(0, 1 << 70))
def test_any_logits_give_a_token(values, temperature, seed):
    assert 0 <= Sampler(temperature=temperature, seed=seed)(values) < len(values)


@given(logits)
def test_no_temperature_takes_the_most_probable(values):
    assert Sampler(temperature=0)(values) == values.argmax()


def test_samples_follow_the_softmax():
    values, temperature = np.array([0.0, 1.0, -2.0, 1.5, -np.inf]), 0.7
    sampler = Sampler(temperature=temperature, seed=3)
    drawn = np.bincount([sampler(values) for _ in range(20_000)], minlength=5) / 20_000
    expected = np.exp(values / temperature)
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.012)
    assert drawn[4] == 0


def test_seeds():
    values = np.zeros(1000)
    first, again, other = (Sampler(seed=seed) for seed in (5, 5, 6))
    draws = [[sampler(values) for _ in range(20)] for sampler in (first, again, other)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or a positive number, not -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 or a positive number, not nan"),
        ({"temperature": float("inf")}, "temperature must be 0 or a positive number, not inf"),
        ({"seed": -1}, "seed must be an integer of at least 0, not -1"),
    ],
)
def test_sampler_parameters(options, message):
    with pytest.raises(InputError, match=message):
        Sampler(**options)


def test_a_part_of_a_network_has_no_read_out():
    part, _ = split(random_network(4, hidden=(9, 5)), [1])
    with pytest.raises(InputError, match="the image is that of a part of a network, which has no read-out"):
        ReadOut(compile_image(part, configuration_for(part)))


def test_generation():
    network = random_network(4, vocabulary=13, embedding=9, hidden=(9,))
    image = compile_image(network, configuration_for(network))
    board, steps = NetworkBoard(network), []
    board.step(3)  # leaves a state that generation must not see
    tokens = list(
        generate(
            board,
            ReadOut(image),
            Sampler(temperature=0),
            [1, 2, 3],
            10,
            observe=lambda token, events: steps.append((token, events)),
        )
    )
    assert board.clears == 1
    assert [token for token, _ in steps] == [1, 2, 3, *tokens[:9]] and len(tokens) == 10
    engine = IntegerEngine(network)
    for token, events in steps:
        y = engine.step(np.array([token]))[-1].y
        np.testing.assert_array_equal(events, y[0])
    assert tokens[9] == engine.read_out(y)[0].argmax()


def test_tokens_come_as_they_are_known():
    network = random_network(4, vocabulary=13, embedding=9, hidden=(9,))
    image = compile_image(network, configuration_for(network))
    steps = []
    tokens = generate(
        NetworkBoard(network), ReadOut(image), Sampler(), [1], 5, observe=lambda token, events: steps.append(token)
    )
    assert next(tokens) in range(13) and steps == [1]


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [([], 3, "the prompt must have at least one token"), ([1], -1, "the number of tokens must be at least 0, not -1")],
)
def test_bad_requests(prompt, count, message):
    with pytest.raises(InputError, match=message):
        generate(None, None, None, prompt, count)


def test_a_prompt_alone():
    network = random_network(4, vocabulary=13, embedding=9, hidden=(9,))
    assert list(generate(NetworkBoard(network), None, None, [1, 2], 0)) == []
