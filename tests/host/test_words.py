"""Words of a board with a read-out: the client, over good and bad lines, against the integer network."""

import dataclasses
import itertools
import random
import re

import numpy as np
import pytest

from egret.host.board import Board
from egret.host.cost.model import cycles
from egret.host.cost.work import ReadoutWork, Work
from egret.host.measure import measure
from egret.host.session import generate_text
from egret.host.streaming import stream
from egret.host.traffic import readout_words_per_token, weight_bytes_per_token
from egret.host.transport import open_program, open_virtual
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine
from egret.model.readout import ReadOut, Sampler, random_state
from egret.rtl import protocol
from egret.rtl.protocol import Command
from egret.sim.stand_in import DIGEST, SECTIONS, TOKENS, StandInModel, device, integer_device
from egret.sim.virtual import stand_in_build
from tests.host.faults import FaultyPort, ModelPort, ModelTransport
from tests.support.networks import random_groups, random_network

WORDS = 60


@pytest.fixture(scope="module")
def image(network):
    return compile_image(network, configuration_for(network, lanes=2, readout=True))


@pytest.fixture(scope="module")
def network():
    whole = random_network(3, vocabulary=WORDS, embedding=9, hidden=(8, 9), density=0.9, threshold=0, z_bias=20_000)
    return random_groups(whole, head=21, sizes=(30, 1, 8), fraction=15)


def board_of(device, *, faults=0.0, seed=1):
    """A board behind a line with faults, loaded."""
    port = FaultyPort(ModelPort(device), random.Random(seed), faults)
    board = Board(ModelTransport(port), attempts=1000)
    section, (width, depth) = next(iter(device._sections.items()))
    board.load_memories(DIGEST, [(section, width, bytes(width * depth))])
    board.clear()
    return board


def text_of(network, first, count, **options):
    """What the integer network generates."""
    engine, sampler = IntegerEngine(network), Sampler(ReadOut(network), **options)
    words = [first]
    for _ in range(count):
        words.append(sampler.sample(engine.step(np.array(words[-1:]))[-1].y[0]))
    return words[1:]


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"seed": 8, "top_k": 5}, {"top_k": 1}, {"temperature": 0}, {"top_k": 64}),
        {"seed": 7, "temperature": 0.5},
        {"seed": 7, "temperature": 0.5, "by_factors": True},
    ],
)
def test_generates_what_the_integer_network_does(network, options):
    expected = text_of(network, 4, 50, **options)
    assert len(set(expected)) > 2
    with board_of(integer_device(network)) as board:
        assert list(board.generate(4, 50, **options)) == expected
        board.clear()
        # A part of it, and then the board is in step: as many steps were run as replies have come.
        assert list(itertools.islice(board.generate(4, 50, **options), 9)) == expected[:9]
        board.clear()
        assert list(board.generate(4, 50, **options)) == expected
        assert list(board.generate(4, 0)) == []
        board.clear()
        assert list(board.generate_as(Sampler(ReadOut(network), **options), 4, 50)) == expected


def test_a_text_ends_behind_its_stop_token(network):
    text = text_of(network, 4, 60, seed=3)
    stop = text[30]
    end = text.index(stop) + 1
    device = integer_device(network)
    with board_of(device) as board:
        assert list(board.generate(4, 60, seed=3, stop=stop)) == text[:end]
        assert device._core.steps == end < 60  # and no step was run behind it


def test_scores_and_top_words(network):
    generator = random.Random(1)
    tokens = generator.choices(range(WORDS), k=41)
    engine, readout = IntegerEngine(network), ReadOut(network)
    steps = [engine.step(np.array([token]))[-1].y for token in tokens[:-1]]
    with board_of(integer_device(network)) as board:
        scores = list(board.score(tokens[:-1], map(readout.target, tokens[1:])))
        assert scores == readout.log_probabilities(np.concatenate(steps), np.array(tokens[1:])).tolist()
        board.clear()
        for token, y, k in zip(tokens, steps[:3], (1, 7, 64), strict=False):
            assert board.top(token, k) == readout.top(y[0], k)[0]
        assert list(board.score([], [])) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_fault_repeats_no_word_and_loses_none(network, seed):
    device = integer_device(network)
    words = text_of(network, 4, 600, seed=5)
    with board_of(device, faults=0.25, seed=seed) as board:
        assert list(board.generate(4, 600, seed=5)) == words
        assert device._core.steps == 600
        assert board.repeats > 10 and device.repeated_frames > 0
        board.clear()
        readout, pairs = ReadOut(network), list(itertools.pairwise(words))
        engine = IntegerEngine(network)
        y = np.concatenate([engine.step(np.array([token]))[-1].y for token, _ in pairs])
        scores = list(board.score([token for token, _ in pairs], [readout.target(word) for _, word in pairs]))
        assert scores == readout.log_probabilities(y, np.array(words[1:])).tolist()
        assert device._core.steps == 600 + len(pairs)


@pytest.mark.parametrize(("count", "most"), [(2000, 4), (50, 8)])
def test_bytes_on_the_line(network, count, most):
    with board_of(integer_device(network)) as board:
        before = board.bytes_sent + board.bytes_received
        assert sum(1 for _ in board.generate(4, count)) == count
        assert (board.bytes_sent + board.bytes_received - before) / count <= most


def test_the_first_words_come_at_once_and_the_next_are_under_way(network):
    device = integer_device(network)
    with board_of(device) as board:
        answer, asked = device._execute_words, []

        def execute(command, payload):
            if command == Command.GENERATE:
                asked.append(protocol.GENERATE.unpack(payload)[1])
            return answer(command, payload)

        device._execute_words = execute
        words = board.generate(4, 60)
        for _ in range(3):
            next(words)
        assert asked == [1, 2, 4, 8]
        assert len(list(words)) == 57 and asked == [1, 2, 4, 8, 16, 16, 13]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "the seed must be an integer from 0 to 18446744073709551615, not -1"),
        ({"seed": 1 << 64}, "the seed must be an integer from 0 to"),
        ({"temperature": 0.01}, "the temperature must be 0.0625 to 256, or 0 for the most probable word, not 0.01"),
        ({"temperature": float("nan")}, "the temperature must be"),
        ({"top_k": 0}, "top-k takes k from 1 to 64, not 0"),
        ({"top_k": 65}, "top-k takes k from 1 to 64, not 65"),
        ({"stop": 60}, r"the stop token 60 is not one of the board's 60 \(0 to 59\)"),
        ({"stop": -1}, "the stop token -1 is not one"),
        ({"first": 60}, "token 60 is not one of the board's 60"),
        ({"count": -1}, "the number of words must be at least 0, not -1"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_sent(network, options, message):
    with board_of(integer_device(network)) as board:
        before = board.bytes_sent
        with pytest.raises(InputError, match="^" + message):
            board.generate(**({"first": 4, "count": 5} | options))
        assert board.bytes_sent == before


def test_bad_scores_and_counts(network):
    with board_of(integer_device(network)) as board:
        with pytest.raises(InputError, match=r"no read-out has a word -1 in matrix 0: both are from 0 to 65535"):
            list(board.score([1], [(0, -1)]))
        with pytest.raises(InputError, match="token 60 is not one"):
            list(board.score([60], [(0, 0)]))
        with pytest.raises(InputError, match="top-k takes k from 1 to 64, not 65"):
            board.top(1, 65)
        assert board.counters()["tokens"] == 0


def test_a_board_without_a_readout():
    message = f"^{re.escape('the test board has no read-out: it answers with events, not with words')}$"
    with board_of(device()) as board:
        for command in (
            lambda: board.generate(1, 2),
            lambda: board.score([1], [(0, 1)]),
            lambda: board.top(1, 2),
        ):
            with pytest.raises(InputError, match=message):
                command()


def test_faults_between_host_and_hardware():
    """The compiled link: a text of two thousand words, over a bad line."""
    contents = [(section, width, bytes(range(width * depth))) for section, (width, depth) in SECTIONS.items()]
    model = StandInModel()
    for section, width, content in contents:
        for index in range(len(content) // width):
            model.load(section, index, int.from_bytes(content[index * width : (index + 1) * width], "little"))
    transport = open_program(stand_in_build(readout=True).program(), stepped=False, timeout=0.02)
    transport.serial = port = FaultyPort(transport.serial, random.Random(2), 0.1)
    with Board(transport, attempts=1000) as board:
        board.load_memories(DIGEST, contents)
        board.clear()
        words = list(board.generate(5, 2000, seed=9, top_k=3))
        counters = board.counters()
        scores = list(board.score(words[:300], ((1, word) for word in words[:300])))
        top = board.top(TOKENS - 1, 9)
    model.sampling(3, 256, random_state(9))
    expected = [5]
    for _ in range(2000):
        expected.append(model.sample(expected[-1]))
    assert words == expected[1:]
    assert counters["tokens"] == 2000 and counters["repeated_frames"] > 5 and board.repeats > 20
    assert scores == [model.score(word, 1, word) for word in words[:300]]
    assert top == model.top(TOKENS - 1, 9)
    assert sum(port.faults.values()) > 20


def test_a_core_with_a_readout_behind_its_link(network, image):
    """Words and log-probabilities of the virtual board are the integer network's; so are steps in between."""
    text = text_of(network, 4, 120, seed=6, temperature=0.7)
    greedy = text_of(network, 4, 20, temperature=0)
    engine, readout = IntegerEngine(network), ReadOut(network)
    y = np.concatenate([engine.step(np.array([token]))[-1].y for token in text[:-1]])
    with Board(open_virtual(image.configuration)) as board:
        board.load(image)
        assert list(board.generate(4, 120, seed=6, temperature=0.7)) == text
        board.clear()
        assert list(board.generate(4, 20, temperature=0)) == greedy
        board.clear()
        scores = list(board.score(text[:-1], map(readout.target, text[1:])))
        assert scores == readout.log_probabilities(y, np.array(text[1:])).tolist()
        board.clear()
        np.testing.assert_array_equal(board.step(text[0]), y[0])
        assert board.top(text[1], 9) == readout.top(y[1], 9)[0]
        np.testing.assert_array_equal(board.step(text[2]), y[2])
        counters = board.counters()
    assert counters["tokens"] == 120 + 20 + 119 + 3
    assert counters["groups"] > 0 and counters["readout_macs"] > 0
    assert counters["cycles"] == counters["words"] + sum(counters.get(cause, 0) for cause in protocol.CAUSES)


def test_sessions_and_measurements_of_a_core_with_a_readout(network, image):
    """They use what the board does, and find where it differs: here it runs another network."""
    ids = np.array(random.Random(4).choices(range(WORDS), k=31), np.int32)
    other = dataclasses.replace(network, readout_bias=network.readout_bias[::-1].copy())
    expected = evaluate(IntegerEngine(network), integer_columns(network), ids, readout=integer_readout(network))
    sampler = Sampler(ReadOut(network), seed=2)
    pieces = []
    with Board(open_virtual(image.configuration)) as board:
        measurement = measure(board, image, network, ids)
        streamed = stream(board, ReadOut(network), ids)
        session = generate_text(board, image, network, [3, 1, 4], 40, sampler, pieces.append)
        assert measure(board, image, other, ids).mismatches == 30
        wrong = generate_text(board, image, other, [3, 1, 4], 40, Sampler(ReadOut(other), seed=2), pieces.append)
        nothing = generate_text(board, image, network, [3], 0, sampler, pieces.append)
        with Board(open_virtual(image.configuration)) as second:
            streams = measure([board, second], image, network, ids[:-1])
            wrong_streams = measure([board, second], image, other, ids[:-1])
        unchecked = generate_text(board, image, None, [3], 10, Sampler(ReadOut(network), seed=2), pieces.append)
    assert measurement.evaluation == expected and measurement.mismatches == 0
    columns, counted = integer_columns(network), integer_readout(network)
    in_two = evaluate(IntegerEngine(network), columns, ids[:-1], readout=counted, batch=2)
    assert streams.evaluation == in_two and streams.mismatches == 0 and streams.counters["tokens"] == 29
    assert wrong_streams.mismatches == 29 and wrong_streams.first_mismatch.step == 0
    # What the core reads of its read-out, word by word, and the model of its cost.
    readout, y = (
        ReadOut(network),
        np.array([trace[-1].y[0] for trace in map(IntegerEngine(network).step, ids[:-1, None])]),
    )
    events, groups = np.count_nonzero(y, axis=1), [readout.target(int(word))[0] for word in ids[1:]]
    width = {0: 2 * -(-27 // 4)} | dict.fromkeys((1, 2, 3), 2 * -(-30 // 4))  # words of 8-bit weights for 4 banks
    words = sum(
        int(count) * (width[0] + (width[group] if group else 0)) for count, group in zip(events, groups, strict=True)
    )
    assert readout_words_per_token(image, measurement) == pytest.approx(words / 30, rel=1e-12)
    assert weight_bytes_per_token(image, measurement, ids, network.embedding) > words / 30 * 2 * 12 / 8
    work = Work.of(
        network,
        measurement.evaluation.sources,
        ids,
        lanes=2,
        store="bram",
        weight_bits=8,
        readout=ReadoutWork.of(network, expected),
    )
    assert cycles(work) == pytest.approx(measurement.cycles_per_token, rel=0.2)  # nearly all are fixed costs
    assert measurement.compared == "log-probabilities" and measurement.macs_readout_per_token > 0
    assert streamed.perplexity == pytest.approx(expected.perplexity, rel=1e-12)
    assert (session.tokens, session.steps, session.matching, session.first_mismatch) == (40, 42, 42, None)
    assert len(pieces) == 40 + 40 + 10
    assert wrong.matching < 42 and str(wrong.first_mismatch).startswith("step 0, log-probability: the integer network")
    assert nothing.lines()[0] == "0 of 0 tokens match the integer network"
    assert (unchecked.matching, unchecked.steps) == (None, 10)
    assert session.end_to_end()["link_bytes_per_token"] < 9  # of a text so short
