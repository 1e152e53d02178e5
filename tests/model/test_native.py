"""The native engine is the integer network: every stream of every layer, and what it makes of a whole text."""

from pathlib import Path

import numpy as np
import pytest

from egret.model import native
from egret.model.counts import integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import evaluate
from egret.model.integer import IntegerEngine, split
from egret.model.integer_file import load_integer
from egret.model.native import NativeEngine, NativeSampler, library
from egret.model.readout import ReadOut, Sampler
from tests.support.networks import random_groups, random_network, random_shape

NETWORKS = Path(native.__file__).parent / "networks"
CASES = {
    **{str(seed): random_network(seed, vocabulary=3 + seed, **random_shape(seed, size=40)) for seed in range(12)},
    "one": random_network(20, vocabulary=1, embedding=1, hidden=(1,)),
    "untied": random_network(21, vocabulary=131, embedding=9, hidden=(5, 17), tied=False),
    "many words": random_network(22, vocabulary=300, embedding=33, hidden=(7, 33), threshold=500, z_bias=3000),
    "no weights": random_network(23, hidden=(6, 5), density=0.0),
    "silent": random_network(24, hidden=(9, 7), threshold=(32767, 32767)),
    "always active": random_network(25, hidden=(9, 7), threshold=0, z_bias=1 << 20),
    "large": random_network(26, embedding=200, hidden=(300, 200), density=0.2, shift=(8, 14), bias=1 << 20),
    "wide tables": random_network(27, hidden=(20, 20), gate_index_bits=12, threshold=500, z_bias=3000),
    **{
        f"groups, {bits} bits of a logit": random_groups(
            random_network(30 + bits, vocabulary=90, embedding=12, hidden=(9, 12), threshold=500, z_bias=3000),
            head=head,
            sizes=sizes,
            rows=rows,
            seed=bits,
            fraction=bits,
            bias=bias,
        )
        for bits, head, sizes, rows, bias in (
            (0, 70, (20,), 1, 3),
            (10, 0, (1, 88, 1), 4, 1 << 12),
            (14, 20, (33, 37), 2, 1 << 15),
            (30, 89, (1,), 16, 9),
        )
    },
    "codebook": random_groups(
        random_network(29, vocabulary=200, embedding=9, hidden=(5, 17), tied=False, threshold=500, z_bias=3000),
        head=66,
        sizes=(64, 70),
        codebook=np.array([-90, -31, -8, 5, 22, 77], np.int8),
    ),
    **{
        f"reset after, {seed}": random_network(
            seed, vocabulary=20, **random_shape(seed, size=40), threshold=500, z_bias=3000, bias=bias, reset="after"
        )
        for seed, bias in ((70, 300), (71, 30_000), (72, 1_000_000))
    },
    "narrow": random_network(28, hidden=(9, 4), density=0.1, accumulator_bits=18, gate_index_bits=8),
}


@pytest.fixture(params=["this processor's instructions", "any processor's"])
def code(request, monkeypatch):
    """The engine as it is compiled for this processor, and for a compiler that knows no more than the language."""
    if request.param == "any processor's":
        monkeypatch.setattr(native, "TUNED", ())
        library.cache_clear()
        yield
        library.cache_clear()
    else:
        yield


def compare(engine, network, steps, batch=1):
    """Run both over random tokens; the events of the last layer."""
    integer, seen = IntegerEngine(network), 0
    integer.reset_state(batch)
    engine.reset_state(batch)
    random = np.random.default_rng(3)
    for step in range(steps):
        if network.vocabulary is None:
            given = random.integers(0, 256, (batch, network.embedding.shape[1]))
        else:
            given = random.integers(0, len(network.embedding), batch)
        expected, traces = integer.step(given), engine.step(given)
        assert len(traces) == len(expected)
        for layer, (one, other) in enumerate(zip(traces, expected, strict=True)):
            for name, values in vars(other).items():
                np.testing.assert_array_equal(getattr(one, name), values, f"step {step}, layer {layer}, {name}")
        seen += np.count_nonzero(traces[-1].y)
        if network.readout_bias is not None:
            y, words = traces[-1].y, random.integers(0, integer.words, batch)
            np.testing.assert_array_equal(engine.log_probabilities(y, words), integer.log_probabilities(y, words))
    return seen


@pytest.mark.usefixtures("code")
def test_every_stream_is_the_integer_networks():
    seen = {name: compare(NativeEngine(network), network, 20, batch=3) for name, network in CASES.items()}
    assert seen.pop("silent") == 0 and sum(map(bool, seen.values())) >= 26, seen


@pytest.mark.parametrize("name", ["3", "many words", "large", "reset after, 70"])
def test_rows_that_are_not_kept(name, monkeypatch):
    network = CASES[name]
    assert compare(NativeEngine(network, folded=False), network, 10)
    monkeypatch.setattr(native, "FOLDED_BYTES", 4 * 3 * network.hidden[0] * (len(network.embedding) // 2) + 5)
    engine = NativeEngine(network)
    assert compare(engine, network, 20)
    check(engine, network, batch=2)


def test_parts_of_a_network():
    network = random_network(5, hidden=(9, 7, 11), threshold=500, z_bias=3000)
    first, *others = split(network, [1, 2])
    for part in (first, *others):
        assert compare(NativeEngine(part), part, 20, batch=2)
    with pytest.raises(InputError, match="^a part of a network has no read-out; give the whole network$"):
        NativeEngine(first).evaluate(np.arange(4))


def test_streams_begin_again():
    network = CASES["many words"]
    engine = NativeEngine(network)
    for _ in range(2):
        compare(engine, network, 5)


def check(engine, network, batch, tokens=100, **options):
    """Evaluate a random text with both."""
    ids = np.random.default_rng(4).integers(0, len(network.embedding), tokens)
    columns = integer_columns(network)
    expected = evaluate(IntegerEngine(network), columns, ids, readout=integer_readout(network), batch=batch)
    found = engine.evaluate(ids, batch=batch, **options)
    assert found == expected
    assert expected.sources is not None and found.sources is not None
    for kind in ("x", "y", "s"):
        for one, other in zip(getattr(found.sources, kind), getattr(expected.sources, kind), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 3), (99, 2)])
def test_evaluation(batch, threads):
    for network in CASES.values():
        check(NativeEngine(network), network, batch, threads=threads)


@pytest.mark.parametrize("name", ["ptb-egru-85", "ptb-egru-95", "wikitext2-egru-95"])
def test_networks_of_ten_thousand_words_and_more(name):
    network = load_integer(NETWORKS / f"{name}.egret")
    engine = NativeEngine(network)
    assert compare(engine, network, 4)
    check(engine, network, batch=2, tokens=9)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    "options",
    [
        *({}, {"temperature": 0.5}, {"temperature": 9.0}, {"temperature": 0}, {"top_k": 2}, {"top_k": 64}),
        {"temperature": 0.5, "by_factors": True},
    ],
)
def test_generation(options):
    """Every token is the one that the integer network's sampler draws, and its generator is as far."""
    different = set()
    for name, network in CASES.items():
        native_sampler, sampler, other = (Sampler(ReadOut(network), seed=7, **options) for _ in range(3))
        draws = NativeSampler(other)
        integer, prompt, expected = IntegerEngine(network), [0, len(network.embedding) - 1], []
        given = prompt
        for _ in range(12):
            y = [integer.step(np.array([token]))[-1].y[0] for token in given][-1]
            expected.append(sampler.sample(y))
            assert draws.sample(y) == expected[-1], name
            given = expected[-1:]
        assert list(NativeEngine(network).generate(native_sampler, prompt, 12)) == expected, name
        assert native_sampler.state == sampler.state == other.state
        different |= set(expected)
    assert len(different) > 20


def test_generation_ends_behind_a_token():
    network = CASES["many words"]
    engine, sampler = NativeEngine(network), Sampler(ReadOut(network), seed=1)
    tokens = list(engine.generate(sampler, [1], 30))
    end = tokens.index(tokens[10])
    sampler = Sampler(ReadOut(network), seed=1)
    assert list(engine.generate(sampler, [1], 30, stop=tokens[10])) == tokens[: end + 1]
    for prompt, count, message in (
        ([], 1, "the prompt must have at least one token"),
        ([1], -1, "the number of tokens must be at least 0, not -1"),
        ([300], 1, r"token 300 is not in the vocabulary \(0 to 299\)"),
    ):
        with pytest.raises(InputError, match=f"^{message}$"):
            engine.generate(sampler, prompt, count)


def test_the_run_does_not_depend_on_threads():
    network = CASES["many words"]
    ids = np.random.default_rng(5).integers(0, len(network.embedding), 300)
    losses = {NativeEngine(network).evaluate(ids, batch=8, threads=threads).loss for threads in (1, 2, 8)}
    assert len(losses) == 1


def test_progress_and_an_end_in_mid_run():
    network, seen = CASES["large"], []
    ids = np.random.default_rng(6).integers(0, len(network.embedding), 30_001)
    engine = NativeEngine(network)
    engine.evaluate(ids[:50], progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (49, 49)

    def interrupt(done, total):
        seen.append((done, total))
        raise KeyboardInterrupt

    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        engine.evaluate(ids, progress=interrupt)
    assert len(seen) == 1 and seen[0][0] < seen[0][1] == 30_000


def test_seconds_of_steps():
    network = random_network(8, vocabulary=20_000, embedding=20, hidden=(2, 20), threshold=0)
    engine, ids = NativeEngine(network), np.arange(50)
    layers, whole = (engine.step_seconds(ids, read_out=read_out) for read_out in (False, True))
    assert layers.shape == whole.shape == (49,) and layers.min() > 0
    assert np.median(whole) > 3 * np.median(layers)  # 400,000 MACs more than 300


@pytest.mark.parametrize("token", [-1, 7])
def test_tokens_that_do_not_exist(token):
    engine = NativeEngine(random_network(1))
    ids = np.array([0, 1, token])
    for run in (engine.step, engine.evaluate, lambda ids: engine.step_seconds(ids, read_out=True)):
        engine.reset_state(3)
        with pytest.raises(InputError, match=rf"^token {token} is not in the vocabulary \(0 to 6\)$"):
            run(ids)


def test_a_layer_that_is_too_large(monkeypatch):
    monkeypatch.setattr(native, "_MOST_NEURONS", 5)
    with pytest.raises(InputError, match="^the native engine runs layers of at most 5 neurons, not 6$"):
        NativeEngine(random_network(1, hidden=(3, 6)))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """The path of the user's cache, where nothing was compiled yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    yield tmp_path / "egret"
    library.cache_clear()


def test_no_compiler(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(InputError, match=r"^c\+\+ is needed and was not found; install it"):
        NativeEngine(random_network(1))


def test_a_source_that_does_not_compile(empty_cache, tmp_path, monkeypatch):
    (tmp_path / "native.cpp").write_text("int main() { return none; }\n")
    monkeypatch.setattr(native, "SOURCES", [tmp_path / "native.cpp"])
    with pytest.raises(InputError, match="^native engine: compiling it failed: .*native.cpp:1:21: error: .none"):
        NativeEngine(random_network(1))
    assert not list(empty_cache.glob("native/*"))


def test_what_is_kept_is_used_again(empty_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-O0"))  # which compiles faster
    library()
    (program,) = (empty_cache / "native").iterdir()
    library.cache_clear()
    monkeypatch.setattr(native, "run_tools", None)
    library()
    other = tmp_path / "other" / "egret" / "native" / program.name
    other.parent.mkdir(parents=True)
    other.write_bytes(b"no program")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    library.cache_clear()
    with pytest.raises(InputError, match=f"^native engine: {other} cannot be loaded: "):
        library()
