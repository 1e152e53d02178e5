"""Measuring a board: a stand-in that computes like the integer network, and lies when told to."""

import contextlib
import dataclasses
import io
import itertools

import numpy as np
import pytest
from rich.console import Console

from egret.host.comparison import compare, plot
from egret.host.counterparts import dense_counterpart, unpruned_counterpart
from egret.host.demo import run
from egret.host.measure import Measurement, Mismatch, measure, sample
from egret.host.network import Network
from egret.host.session import generate_text, prompt_ids, prompt_text
from egret.host.streaming import stream
from egret.host.traffic import weight_bytes_per_token
from egret.model.checkpoint import NetworkConfiguration, save_checkpoint
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.unpack import column_bytes, read_image
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import evaluate, stream_starts
from egret.model.integer import IntegerEngine
from egret.model.quantise import quantise
from egret.model.readout import ReadOut, Sampler
from egret.model.tokens import Vocabulary
from egret.rtl import protocol
from tests.support.numbers import number_network, number_sequences

CONFIGURATION = NetworkConfiguration("egru", "char", 6, 5, (7, 5))
IDS = np.random.default_rng(7).integers(0, 6, 101).astype(np.int32)


class FakeBoard:
    """Answers like a board whose core takes ten cycles a step."""

    bytes_sent = bytes_received = 0
    identity = protocol.Identity(bytes(8), 2, 508, 64, 6, 5, 10, 0)

    def __init__(self, network, lies=()):
        self._network, self._lies = IntegerEngine(network), dict(lies)
        self.loaded, self._steps = None, 0

    def load(self, image):
        self.loaded = image

    def clear(self):
        self._network.reset_state(1)

    def step(self, token):
        entering = token.astype(np.int32)[None] if isinstance(token, np.ndarray) else np.array([token])
        events = self._network.step(entering)[-1].y[0].astype(np.uint8)
        if self._steps in self._lies:
            neuron, value = self._lies[self._steps]
            events[neuron] = value
        self._steps += 1
        self.bytes_sent += 15
        self.bytes_received += 12 + 3 * int(np.count_nonzero(events))
        return events

    def begin_step(self, token):
        return lambda: self.step(token)

    def step_many(self, tokens):
        for token in tokens:
            if token is None:
                self.clear()
            else:
                yield self.step(token)

    def counters(self):
        self.bytes_sent += 11
        self.bytes_received += 200
        causes = {"fetch": 1, "rows": 0, "wait_layer": 2, "settle": 0, "reset_pass": 1, "wait_update": 2}
        per_step = {"tokens": 1, "cycles": 10, "words": 4, "macs": 16, **causes}
        return {name: 1000 + count * self._steps for name, count in per_step.items()}


class AnyBoard(FakeBoard):
    """Runs the image that it is given; lies only until it gets the second one."""

    def __init__(self, configuration, lies):
        self._configuration, self._lies, self._steps, self.loaded = configuration, dict(lies), 0, None

    def load(self, image, *, progress=None):
        assert image.configuration == self._configuration
        if self.loaded is not None and image != self.loaded:
            self._lies = {}
        self.loaded = image
        self._network = IntegerEngine(read_image(image))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@contextlib.contextmanager
def silent(what):
    yield lambda done, total: None


@pytest.fixture
def compiled(random_checkpoint):
    network = quantise(random_checkpoint(CONFIGURATION, density=0.5))
    return network, compile_image(network, configuration_for(network, lanes=4))


def test_measurement_is_the_evaluation_of_the_integer_network(compiled):
    network, image = compiled
    board = FakeBoard(network)
    board.step(3)  # what ran before must not matter
    measurement = measure(board, image, network, IDS)
    assert board.loaded is image
    readout = integer_readout(network)
    assert measurement.evaluation == evaluate(IntegerEngine(network), integer_columns(network), IDS, readout=readout)
    assert (measurement.mismatches, measurement.wrong_steps, measurement.first_mismatch) == (0, 0, None)
    assert measurement.counters["tokens"] == 100
    assert measurement.cycles_per_token == 10
    events = sum(np.count_nonzero(board_events) for board_events in outputs_of(network))
    assert (measurement.bytes_sent, measurement.bytes_received) == (100 * 15, 100 * 12 + 3 * events)
    assert measurement.lane_utilisation == 16 / (4 * 10)
    assert (measurement.macs_per_token, measurement.bound) == (16, 4)
    # Of ten cycles of four lanes, four issued a word; so do the shares add up to one.
    assert measurement.shares == {
        "macs": 0.4, "packing": 0, "fetch": 0.1, "rows": 0, "wait_layer": 0.2, "settle": 0, "reset_pass": 0.1,
        "wait_update": 0.2,
    }  # fmt: skip


def outputs_of(network):
    integer = IntegerEngine(network)
    return [integer.step(IDS[step : step + 1])[-1].y[0].copy() for step in range(100)]


def test_streaming_gives_the_same_perplexity(compiled):
    network, image = compiled
    board, seen = FakeBoard(network), []
    board.step(3)
    result = stream(board, ReadOut(network), IDS, progress=lambda *counts: seen.append(counts))
    expected = evaluate(IntegerEngine(network), integer_columns(network), IDS)
    assert (result.tokens, result.bytes_sent) == (100, 1500) and seen == [(100, 100)]
    assert result.perplexity == pytest.approx(expected.perplexity, rel=1e-14)
    with pytest.raises(InputError, match="the text has 1 tokens; at least 2 are needed"):
        stream(board, ReadOut(network), IDS[:1])


def test_measurement_finds_every_wrong_event(compiled):
    network, image = compiled
    right = outputs_of(network)
    board = FakeBoard(network, {12: (3, right[12][3] ^ 1), 99: (0, right[99][0] ^ 128)})
    measurement = measure(board, image, network, IDS)
    assert (measurement.mismatches, measurement.wrong_steps) == (2, 2)
    assert measurement.first_mismatch == Mismatch(12, 3, right[12][3], right[12][3] ^ 1)
    assert str(measurement.first_mismatch) == (
        f"step 12, last layer, neuron 3: the integer network says {right[12][3]}, the board {right[12][3] ^ 1}"
    )


@pytest.mark.parametrize("boards", [2, 3, 7])
def test_streams_have_a_board_each(compiled, boards):
    """100 predictions in as many streams: the evaluation is the integer network's, and a wrong event has its place."""
    network, image = compiled
    readout = integer_readout(network)
    starts, steps = stream_starts(IDS, boards)
    right = IntegerEngine(network)
    *_, expected = (right.step(IDS[[place]])[-1].y[0].copy() for place in range(starts[1], starts[1] + 5))
    lies = [{}, {4: (2, expected[2] ^ 1)}, *[{}] * (boards - 2)]
    fakes = [FakeBoard(network, one) for one in lies]
    measurement = measure(fakes, image, network, IDS)
    assert (measurement.mismatches, measurement.wrong_steps) == (1, 1)
    assert measurement.first_mismatch == Mismatch(starts[1] + 4, 2, expected[2], expected[2] ^ 1)
    assert [fake._steps for fake in fakes] == steps.tolist()
    assert measurement.counters["tokens"] == 100 and measurement.bytes_sent == 1500
    whole = measure([FakeBoard(network) for _ in range(boards)], image, network, IDS)
    assert whole.mismatches == 0 and whole.first_mismatch is None
    assert whole.evaluation == evaluate(
        IntegerEngine(network), integer_columns(network), IDS, readout=readout, batch=boards
    )


def test_a_board_that_ends_early_is_no_match(compiled):
    network, image = compiled
    board, other = FakeBoard(network), FakeBoard(network)
    other.step_many = lambda tokens: itertools.islice(map(other.step, tokens), 40)
    with pytest.raises(RuntimeError, match="StopIteration"):
        measure([board, other], image, network, IDS)


def test_dense_counterpart_has_no_sparsity(compiled):
    network, _ = compiled
    dense = dense_counterpart(network)
    columns = integer_columns(dense)
    evaluation = evaluate(IntegerEngine(dense), columns, IDS[:11])
    assert evaluation.activity == [1, 1]
    # Only the first step's recurrent sources are silent: there was no step before.
    per_step = sum(layer.weights for layer in columns)
    recurrent = sum(layer.weights - layer.rows_x * len(layer.x) for layer in columns)
    assert evaluation.macs.event_driven_pruned == pytest.approx(per_step - recurrent / 10)
    assert evaluation.macs.pruned == evaluation.macs.dense == per_step


def test_other_counterparts(compiled):
    """Pruned but always active; and unpruned, with as many events as before or nearly so."""
    network, _ = compiled
    active = dense_counterpart(network, pruned=True)
    unpruned = unpruned_counterpart(network)
    for own, pruned, full in zip(network.layers, active.layers, unpruned.layers, strict=True):
        for name in ("weight_x", "weight_y"):
            before = getattr(own, name)
            assert np.array_equal(getattr(pruned, name), before != 0)
            after = getattr(full, name)
            assert after.dtype == before.dtype and np.array_equal(after[before != 0], before[before != 0])
            assert set(np.abs(after[before == 0]).tolist()) == {1}
    assert evaluate(IntegerEngine(active), integer_columns(active), IDS[:11]).activity == [1, 1]


def test_comparison(compiled, tmp_path):
    """One core for all but the folded rows; every variant checked; bounds from what the core multiplied."""
    network, image = compiled
    boards = []

    def open_board(configuration):
        boards.append(AnyBoard(configuration, {}))
        return boards[-1]

    variants = compare(network, IDS, lanes=4, folded_tokens=3, open_board=open_board, progress=silent)
    assert [variant.name for variant in variants] == [
        "nothing",
        "events",
        "pruning",
        "events and pruning",
        "events, pruning and folded rows",
    ]
    assert len(boards) == 2 and boards[1].loaded.configuration.folded_tokens == 3
    assert all(variant.measurement.mismatches == 0 for variant in variants)
    assert [variant.measurement.evaluation.tokens for variant in variants] == [50, 50, 50, 100, 100]
    assert variants[3].measurement.evaluation == measure(FakeBoard(network), image, network, IDS).evaluation
    assert variants[3].speed_up(variants[0]) == variants[3].theory(variants[0]) == 1  # this board counts so
    for suffix in ("svg", "png"):
        plot(tmp_path / f"plot.{suffix}", "A network", variants[3].measurement, variants)
        plot(tmp_path / f"alone.{suffix}", "A network", variants[3].measurement, [])
        assert (tmp_path / f"plot.{suffix}").stat().st_size > (tmp_path / f"alone.{suffix}").stat().st_size > 5000


def test_comparison_over_sequences():
    """Where every neuron is active, every number that enters is, too."""
    network, sequences = number_network(5), number_sequences(6)
    boards = {"lanes": 4, "folded_tokens": 0, "open_board": lambda one: AnyBoard(one, {}), "progress": silent}
    variants = compare(network, sequences, **boards)
    assert [variant.name for variant in variants] == ["nothing", "events", "pruning", "events and pruning"]
    dense, *others = (variant.measurement for variant in variants)
    assert [one.mismatches for one in (dense, *others)] == [0] * 4
    columns = integer_columns(network)
    from_zero = sum(layer.rows_y * len(layer.y) + layer.rows_s * len(layer.s) for layer in columns)
    whole = sum(layer.weights for layer in columns)
    assert dense.evaluation.macs.event_driven_pruned == whole - from_zero / sequences.steps
    assert others[-1].evaluation.answers.tolist() == Network(network).evaluate(sequences).answers.tolist()


@pytest.mark.parametrize("folded", [0, 4])
def test_bytes_per_token(compiled, folded):
    """Counted by hand: the words and the pointer of every active source, and a row for a folded token."""
    network, _ = compiled
    c = configuration_for(network, lanes=4, folded_tokens=folded)
    image = compile_image(network, c)
    measurement = measure(FakeBoard(network), image, network, IDS)
    costs = column_bytes(image)
    pointer = (c.start_bits + c.count_bits + 4 * (3 + c.block_bits)) / 8
    assert len(costs) == c.columns and costs.min() >= pointer
    bits = c.weight_words * 4 * c.narrow_bits + 4 * sum(c.wide_words)
    assert (costs - pointer).sum() == bits / 8
    integer, total = IntegerEngine(network), 0.0
    for token in IDS[:-1]:
        for layer, trace in enumerate(integer.step(np.array([token]))):
            for kind, values in (("x", trace.x[0]), ("y", trace.y_before[0]), ("s", trace.s[0])):
                if (layer, kind) == (0, "x") and token < folded:
                    total += c.layer_depth(0) * c.row_bits
                else:
                    base = c.column_base[layer][kind]
                    total += sum(costs[base + source] for source in np.flatnonzero(values))
    assert weight_bytes_per_token(image, measurement, IDS, network.embedding) == total / 100


def test_samples(compiled):
    network, _ = compiled
    tokens = sample(network, 50)
    assert tokens.shape == (50,)
    assert (tokens == sample(network, 50)).all()
    assert (tokens != sample(network, 50, seed=1)).any()
    assert set(tokens.tolist()) <= set(range(6))


def test_session(compiled):
    network, image = compiled
    texts = []
    for seed, board in ((4, FakeBoard(network)), (4, FakeBoard(network)), (5, FakeBoard(network))):
        pieces = []
        session = generate_text(
            board, image, network, [0, 1, 2], 40, Sampler(ReadOut(network), seed=seed), pieces.append
        )
        # The last token's step is not run: nothing would read it.
        assert (session.tokens, session.steps, session.matching, session.first_mismatch) == (40, 42, 42, None)
        assert session.counters["tokens"] == 42
        assert session.lines()[0] == "42 of 42 tokens match the integer network"
        assert session.lines()[1].startswith("10 cycles per token; ")
        assert len(pieces) == 40
        texts.append("".join(pieces))
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "prompt", ["w1", "w1 w2", "w3  w2 \t", "w2\n", "w1\nw2", "w1\n\n", "w1 \n  ", "1", "2 3 ", "0\n1"]
)
def test_prompt_and_text_are_one(prompt, random_checkpoint):
    """What is written, the prompt and then the text, has the tokens that went in and came out."""
    kind = "word" if "w" in prompt else "id"
    network = quantise(random_checkpoint(NetworkConfiguration("egru", kind, 4, 3, (3,))))
    image = compile_image(network, configuration_for(network, lanes=2))
    vocabulary, pieces = network.vocabulary, []
    ids = prompt_ids(vocabulary, prompt)
    session = generate_text(FakeBoard(network), image, None, ids, 9, Sampler(ReadOut(network), seed=2), pieces.append)
    text = prompt_text(vocabulary, prompt) + "".join(pieces)
    tokens = vocabulary.encode(text.removesuffix("\n") if pieces[-1] == "\n" else text)
    assert session.tokens == len(pieces) == 9
    assert tokens[: len(ids)].tolist() == ids
    assert len(tokens) - (kind == "word" and pieces[-1] != "\n") == len(ids) + 9
    assert "  " not in text[len(prompt.rstrip()) :]


def test_a_prompt_of_characters_is_kept(compiled):
    assert prompt_text(compiled[0].vocabulary, "ab \n ") == "ab \n "


def test_session_with_a_wrong_board(compiled):
    network, image = compiled
    board = FakeBoard(network, {step: (1, 7) for step in range(5, 100)})
    session = generate_text(board, image, network, [0], 20, Sampler(ReadOut(network), seed=1), lambda text: None)
    assert session.first_mismatch is not None
    assert session.first_mismatch.step >= 5
    assert session.matching < session.steps == 20
    assert session.lines()[1].startswith("first mismatch: step ")


def test_session_without_comparison(compiled):
    network, image = compiled
    sampler = Sampler(ReadOut(network), seed=1)
    session = generate_text(FakeBoard(network), image, None, [0], 5, sampler, lambda text: None)
    assert session.matching is None
    assert len(session.lines()) == 1


def test_demonstration(random_checkpoint, tmp_path):
    source = random_checkpoint(CONFIGURATION, density=0.5)
    save_checkpoint(source, tmp_path / "network")
    (tmp_path / "text").write_text(source.vocabulary.decode(IDS))
    boards = []

    def demonstrate(lies=()):
        def open_board(configuration):
            boards.append(AnyBoard(configuration, lies))
            return boards[-1]

        console = Console(file=io.StringIO(), width=120)
        good = run(tmp_path / "network", tmp_path / "text", 30, 1, console, silent, open_board)
        return good, console.file.getvalue()

    good, text = demonstrate()
    assert good
    assert "\n130 of 130 tokens match the integer network\n" in text
    for title in ("perplexity, float", "activity by layer", "MACs per token, dense ", "speed-up, measured"):
        assert f"│ {title}" in text
    good, text = demonstrate({7: (2, 77)})
    assert not good
    assert "\n129 of 130 tokens match the integer network\n" in text
    assert "\nfirst mismatch: step 7, last layer, neuron 2: the integer network says " in text
    assert len(boards) == 2  # one core for the network and for its dense counterpart


def test_prompts():
    characters, words = Vocabulary("ab\n", "char"), Vocabulary(["a", "<eos>"], "word")
    assert prompt_ids(characters, None) == [2]
    assert prompt_ids(Vocabulary("ab", "char"), None) == [0]
    assert prompt_ids(words, None) == [1]
    assert prompt_ids(characters, "ba\n") == [1, 0, 2]
    assert prompt_ids(words, "a a") == [0, 0]
    assert prompt_ids(words, "a\n") == [0, 1]
    assert prompt_ids(Vocabulary("ab", "word"), "a b") == prompt_ids(Vocabulary("ab", "word"), "a b\n") == [0, 1]
    assert prompt_ids(Vocabulary.of_ids(3), None) == [0] and prompt_ids(Vocabulary.of_ids(3), "2 1") == [2, 1]
    with pytest.raises(InputError, match="^--prompt: the prompt is empty; at least one token is needed$"):
        prompt_ids(characters, "")
    with pytest.raises(InputError, match="^--prompt: line 1 of the text: character 'c' is not in the vocabulary$"):
        prompt_ids(characters, "c")


def test_weights_in_pairs_take_one_cycle_of_a_lane():
    """Of 4 lanes with 8 multipliers: 10 cycles, of which 6 bring a word, 20 weights, 12 of them in pairs."""
    counters = {"cycles": 10, "tokens": 2, "words": 6, "macs": 20, "readout_macs": 12, "memory": 4}
    measurement = Measurement(None, 0, 0, None, counters, 4, 8, bytes_sent=0, bytes_received=0, seconds=1.0)
    assert measurement.shares == pytest.approx({"macs": 14 / 40, "packing": 10 / 40, "memory": 16 / 40})
    assert measurement.lane_utilisation == pytest.approx(14 / 40)
    assert (measurement.bound, measurement.macs_per_token) == (14 / 4 / 2, 10)
    alone = dataclasses.replace(measurement, multipliers=4)
    assert alone.lane_utilisation == pytest.approx(20 / 40)
