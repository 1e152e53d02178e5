"""Streams of a text, lengths of segments, the learning rate."""

import numpy as np
import pytest

from egret.model.training.schedule import QUANTUM, equal_streams, learning_rate_factor, segment_lengths
from tests.support.training import small_options


def loop_options(texts, **changes):
    return small_options(texts, **changes).training


def test_learning_rate_schedule(texts):
    plan = loop_options(texts, epochs=10, warmup=2, decay_from=4, decay_to=0.1)
    assert [learning_rate_factor(epoch, plan) for epoch in (0, 1, 2, 4)] == [0, 0.5, 1, 1]
    assert learning_rate_factor(7, plan) == pytest.approx(0.55)
    assert learning_rate_factor(10, plan) == pytest.approx(0.1)
    constant = loop_options(texts, epochs=10, decay_from=10)
    assert {learning_rate_factor(epoch / 4, constant) for epoch in range(41)} == {1.0}


def test_segment_lengths(texts):
    plan = loop_options(texts, bptt=70, bptt_deviation=5.0)
    drawn = [length for epoch in range(40) for length in segment_lengths(3001, plan, epoch)[:-1]]
    assert all(length % QUANTUM == 0 for length in drawn)
    assert 66 < np.mean(drawn) < 70 and len({length for length in drawn if length < 50}) > 0
    assert segment_lengths(3001, plan, 3) == segment_lengths(3001, plan, 3) != segment_lengths(3001, plan, 4)
    assert all(2996 <= sum(segment_lengths(3001, plan, epoch)) <= 3000 for epoch in range(5))
    assert segment_lengths(4, plan, 0) == [3]
    assert segment_lengths(11, loop_options(texts, bptt=4, bptt_deviation=0), 0) == [4, 4, 2]


def test_streams_follow_the_text():
    assert equal_streams(np.arange(11), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
