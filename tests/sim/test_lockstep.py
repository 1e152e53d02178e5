"""Cores under Icarus and Verilator, every stream compared with the integer network."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Signal

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import DDR3_RATIO, GOALS
from egret.model.compiler.layouts import memory_sections
from egret.model.compiler.unpack import read_image
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.rtl.core import Core
from egret.rtl.export import in_good_style, to_verilog
from egret.sim import lockstep
from egret.sim import sdram as memories
from egret.sim.lockstep import LockstepError, run
from egret.sim.sdram import core_with_memory
from tests.support.networks import few_values, random_network, random_shape
from tests.support.seeds import seeds

TOKENS = 12


def check(
    network,
    *,
    lanes=4,
    simulator="icarus",
    seed=1,
    tokens=TOKENS,
    restart=None,
    few=False,
    folded=0,
    goal="speed",
    store="bram",
    resident_bytes=0,
    memory_ratio=None,
    **options,
):
    """Run random tokens; what was compared must be what the network implies. Returns (result, traces).

    ``few``: the weights are those of a network with 4-bit weights.
    """
    network = few_values(network) if few else network
    memory = {} if memory_ratio is None else {"memory_ratio": memory_ratio}
    c = configuration_for(
        network, lanes=lanes, folded_tokens=folded, goal=goal, store=store, resident_bytes=resident_bytes, **memory
    )
    assert c.folded_tokens == folded and (c.weight_bits == 4 or not few)
    image = compile_image(network, c)
    tokens = np.random.default_rng(seed).integers(0, network.vocabulary.size, tokens)
    result = run(image, tokens, simulator=simulator, seed=seed, restart=restart, **options)
    engine, steps = IntegerEngine(network), []
    for step, token in enumerate(tokens):
        if step == restart:
            engine.reset_state()
        steps.append(engine.step(np.array([token])))
    layers = [trace for traces in steps for trace in traces]
    neurons = sum(network.hidden) * len(tokens)

    def active(values):
        return sum(np.count_nonzero(value) for value in values)

    before, events = active(trace.y_before for trace in layers), active(trace.y for trace in layers)
    # With reset "after" there is no reset pass, and gate r serves every neuron.
    resets = {"reset_values": active(trace.s for trace in layers)} if network.reset == "before" else {}
    before = before if network.reset == "before" else neurons
    implied = {"output": active(traces[-1].y for traces in steps) + len(tokens)}
    if options.get("intermediate", True):
        implied |= {
            # The embedding of a token with a folded row sends nothing.
            "embedding": active(traces[0].x for token, traces in zip(tokens, steps, strict=True) if token >= folded),
            "events": events,
            "p": neurons,
            "c": neurons,
            **resets,
            "accumulator_r": before,
            "gate_r": before,
            "accumulator_u": neurons,
            "gate_u": neurons,
            "accumulator_z": neurons,
            "gate_z": neurons,
        }
    assert result.compared == implied
    assert result.counters["tokens"] == len(tokens)
    assert sum(value for name, value in result.counters.items() if name.startswith("events_")) == events
    assert result.counters["macs"] == multiplications(network, tokens, steps, folded)
    # A row takes a cycle an address, and those until its first one; more where it comes from an SDRAM.
    rows = np.count_nonzero(tokens < folded)
    if store == "sdram":
        assert (result.counters["rows"] > rows * c.row_depth * c.row_beats) == (rows > 0)
    else:
        assert result.counters["rows"] == rows * (c.row_depth + 4)
    assert (result.counters["reset_pass"] > 0) == (network.reset == "before")
    # Of a few outputs, all may happen to be taken at once.
    if implied["output"] * options.get("backpressure", 0) > 10:
        assert result.stalls["o_events"] > 0
    return result, steps


def multiplications(network, tokens, steps, folded):
    """Multiplications of a run: the non-zero weights of all columns, but those of x where a folded row serves."""
    count = 0
    for token, traces in zip(tokens, steps, strict=True):
        for number, (layer, trace) in enumerate(zip(network.layers, traces, strict=True)):
            size = len(layer.threshold)
            if number or token >= folded:
                count += np.count_nonzero(layer.weight_x[:, trace.x[0] != 0])
            # The first layer's events are accumulated at once, for the next step.
            events = trace.y_before if number else trace.y
            count += np.count_nonzero(layer.weight_y[: 2 * size, events[0] != 0])
            events = trace.s if network.reset == "before" else events
            count += np.count_nonzero(layer.weight_y[2 * size :, events[0] != 0])
    return count


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"few": True},
        {"folded": 4},
        {"few": True, "folded": 7, "goal": "size"},
        {"few": True, "store": "spram"},
        {"few": True, "store": "sdram"},
        {"few": True, "store": "sdram", "folded": 4, "resident_bytes": 200},
    ],
)
@pytest.mark.parametrize("seed", seeds(5))
def test_random_networks(seed, variant):
    """One to four layers, any lanes, density, idle, backpressure, restart; 4-bit weights, folded rows."""
    rng = np.random.default_rng(1000 + seed)
    shape, lanes = random_shape(seed), [1, 2, 4, 8]
    if variant.get("store") == "sdram":
        lanes[0] = 2
    network = random_network(
        seed,
        **shape,
        density=float(rng.choice([0.1, 0.5, 1])),
        empty_columns=float(rng.choice([0, 0.5])),
        z_bias=int(rng.choice([0, 4000])),
    )
    check(
        network,
        lanes=int(rng.choice(lanes)),
        seed=seed,
        idle=float(rng.choice([0, 0.8])),
        backpressure=float(rng.choice([0.3, 0.8])),
        restart=int(rng.integers(1, TOKENS)),
        **variant,
    )


@pytest.mark.slow
def test_weights_in_a_ddr3():
    network = random_network(1, **random_shape(1), density=0.5, z_bias=4000)
    options = {"few": True, "store": "sdram", "memory_ratio": DDR3_RATIO, "folded": 4, "resident_bytes": 200}
    check(network, lanes=16, restart=3, **options)


@pytest.mark.parametrize(
    "hidden, embedding, options",
    [
        ((13, 1, 7), 3, {"lanes": 2, "restart": 4}),
        ((9, 5), 5, {"few": True, "folded": 4, "idle": 0.5}),
        ((5, 3), 4, {"few": True, "lanes": 1, "store": "spram"}),
        ((21, 6), 5, {"few": True, "lanes": 8, "store": "sdram", "folded": 3, "resident_bytes": 200}),
        pytest.param((37, 18), 9, {"lanes": 16, "simulator": "verilator", "restart": 7}, marks=pytest.mark.slow),
        pytest.param(
            (19, 6),
            5,
            {"few": True, "lanes": 16, "store": "sdram", "memory_ratio": DDR3_RATIO, "folded": 4},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_reset_after(hidden, embedding, options):
    """Odd sizes and every store: no reset pass, and two sums of gate z."""
    network = random_network(5, hidden=hidden, embedding=embedding, threshold=1000, z_bias=3000, reset="after")
    check(network, backpressure=0.4, **options)


def test_a_wrong_inner_bias_is_found():
    network = random_network(6, hidden=(4,), embedding=3, threshold=1000, z_bias=3000, reset="after")
    bias_y = network.layers[0].bias_y.copy()
    bias_y[2] += 1 << 15
    wrong = dataclasses.replace(network, layers=(dataclasses.replace(network.layers[0], bias_y=bias_y),))
    c = configuration_for(network, lanes=2)
    image, loaded = (compile_image(one, c) for one in (network, wrong))
    with pytest.raises(LockstepError, match=r"^stream accumulator_z: step 0, layer 0, neuron 2: expected "):
        run(image, [1, 2], simulator="icarus", loaded=loaded)


ALL_ACTIVE = dict(
    hidden=(17, 9),
    embedding=4,
    threshold=0,
    z_bias=100_000,
    density=0.3,
    shift=(8, 9),
    backpressure=0.7,
    restart=5,
)
CORNERS = {
    "four layers": dict(hidden=(13, 1, 7, 11), embedding=3, lanes=2, z_bias=2000, backpressure=0.5),
    "no events": dict(hidden=(6, 5, 4), threshold=(20_000, 30_000), backpressure=0.5, restart=3),
    "empty columns": dict(hidden=(9, 8), empty_columns=0.8, z_bias=4000, density=0.9, idle=0.5),
    "dense": dict(hidden=(10, 10), density=1, lanes=8, z_bias=4000, backpressure=0.9),
    "smallest tables": dict(hidden=(7, 6), accumulator_bits=20, gate_index_bits=8, density=0.2, z_bias=4000),
    "largest tables": dict(hidden=(7, 6), gate_index_bits=12, density=0.6, z_bias=4000),
    "all rows folded": dict(hidden=(11, 3), density=0.7, z_bias=4000, folded=7, lanes=2, restart=4),
    "one neuron, folded": dict(hidden=(1,), embedding=1, density=1, lanes=1, z_bias=4000, folded=7, few=True),
    "more lanes than rows, folded": dict(hidden=(3, 5), lanes=16, z_bias=4000, folded=5, few=True),
    "folded, all active": ALL_ACTIVE | dict(backpressure=0.9, folded=4),
    # The further ones are close to one above, or to a case of another test.
    "one neuron": dict(hidden=(1,), embedding=1, density=1, lanes=1, z_bias=4000),
    "all active": ALL_ACTIVE,
    "quiet layer": dict(hidden=(5, 4), density=0, z_bias=-100_000),
    "more lanes than rows": dict(hidden=(3, 5), lanes=16, z_bias=4000),
    "four-bit weights": dict(hidden=(9, 8), density=0.7, z_bias=4000, few=True, backpressure=0.5, restart=4),
    "some rows folded": dict(hidden=(9, 8), density=0.7, z_bias=4000, folded=3, backpressure=0.5, restart=4),
}


@pytest.mark.parametrize(
    "name", [*list(CORNERS)[:10], *(pytest.param(name, marks=pytest.mark.slow) for name in list(CORNERS)[10:])]
)
def test_corners(name):
    options = CORNERS[name]
    run_options = {
        key: options[key] for key in ("lanes", "backpressure", "restart", "idle", "few", "folded") if key in options
    }
    shape = {key: value for key, value in options.items() if key not in run_options}
    result, steps = check(random_network(7, **shape), **run_options)
    fired = [
        np.mean([np.count_nonzero(traces[layer].y) / traces[layer].y.size for traces in steps])
        for layer in range(len(steps[0]))
    ]
    if name in ("all active", "folded, all active"):
        assert min(fired) > 0.8
    elif name in ("no events", "quiet layer"):
        assert max(fired) == 0 and result.compared["output"] == TOKENS
    else:
        assert max(fired) > 0


@pytest.mark.slow
def test_32_lanes():
    check(
        random_network(8, hidden=(40, 23), embedding=11, density=0.5, z_bias=4000), lanes=32, tokens=4, backpressure=0.5
    )


@pytest.mark.parametrize(
    "lanes, goal, wide, few",
    [
        (1, "speed", 3, True),
        (2, "speed", 2, False),
        pytest.param(1, "size", 1, True, marks=pytest.mark.slow),
        pytest.param(4, "speed", 1, True, marks=pytest.mark.slow),
    ],
)
def test_wide_runs(lanes, goal, wide, few):
    """Sparse matrices, whose runs have further bits in at least some of the words."""
    network = random_network(20, hidden=(110, 70), embedding=20, density=0.03, z_bias=4000)
    c = configuration_for(few_values(network) if few else network, lanes=lanes, goal=goal)
    assert len(c.wide_words) >= wide
    check(network, lanes=lanes, tokens=5, few=few, goal=goal, folded=2, backpressure=0.3, restart=2)


@pytest.mark.slow
def test_tokens_of_more_than_16_bits():
    """A token has its own row, not that of the token whose last 16 bits are the same."""
    network = random_network(3, vocabulary=65_600, embedding=2, hidden=(4,))
    image = compile_image(network, configuration_for(network, lanes=4))
    assert (network.embedding[65_599] != network.embedding[63]).any()
    assert run(image, [65_599, 63, 65_536], simulator="icarus").counters["tokens"] == 3


def test_streams_wait_inside():
    """Under backpressure and with all neurons active, streams inside the core have to wait too, and keep the rules."""
    result, _ = check(
        random_network(9, hidden=(40,), embedding=3, threshold=0, z_bias=100_000, shift=(8, 9)),
        lanes=4,
        tokens=6,
        backpressure=0.95,
    )
    assert {"o_events", "weights.i", "update_pass.o"} <= {name for name, stalls in result.stalls.items() if stalls}


def test_an_exported_core_computes_the_same(monkeypatch):
    """In the words that other tools like better."""
    monkeypatch.setattr(lockstep, "to_verilog", lambda *component: in_good_style(to_verilog(*component)))
    check(random_network(10, hidden=(9, 4), z_bias=4000), lanes=1, few=True, folded=4, backpressure=0.5)


def test_output_alone_and_a_waveform(tmp_path):
    waves = tmp_path / "w.fst"
    check(random_network(10, hidden=(9, 4), z_bias=4000), intermediate=False, backpressure=0.5, waves=waves)
    assert waves.read_bytes().startswith(bytes(7) + b"\1I")  # an FST header of 329 bytes
    for suffix, line in ((".gtkw", "core.weights.i__valid"), (".sucl", "variable_add core.weights.i__valid")):
        assert line in waves.with_suffix(suffix).read_text().splitlines()


@pytest.mark.parametrize(
    "hidden, lanes, variant",
    [
        ((6, 3), 2, {"few": True, "folded": 4}),
        pytest.param((5, 3), 2, {}, marks=pytest.mark.slow),
        pytest.param((37, 29), 8, {}, marks=pytest.mark.slow),
        pytest.param((150, 29), 8, {"few": True, "folded": 4}, marks=pytest.mark.slow),
        pytest.param((5, 3, 7, 4), 4, {"goal": "size"}, marks=pytest.mark.slow),
    ],
)
def test_verilator(hidden, lanes, variant):
    """The same bench under the other simulator."""
    check(
        random_network(11, hidden=hidden, embedding=9, density=0.3, z_bias=4000),
        lanes=lanes,
        simulator="verilator",
        tokens=30,
        idle=0.3,
        backpressure=0.5,
        restart=17,
        **variant,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_networks(seed):
    rng = np.random.default_rng(seed)
    shape = random_shape(seed, size=40)
    network = random_network(
        seed,
        **shape,
        density=float(rng.choice([0.05, 0.3, 1])),
        z_bias=2000,
        empty_columns=float(rng.choice([0, 0.5])),
        threshold=int(rng.choice([0, 3000, 16000])),
    )
    check(
        network,
        lanes=int(rng.choice([1, 2, 4, 8, 16])),
        seed=seed,
        idle=float(rng.choice([0, 0.8])),
        backpressure=float(rng.choice([0, 0.5, 0.95])),
        restart=int(rng.integers(1, 40)),
        tokens=40,
        few=bool(rng.integers(2)),
        folded=int(rng.choice([0, 3, 7])),
        goal=str(rng.choice(GOALS)),
    )


def with_fault(monkeypatch, inject):
    """Let `run` build a core into which ``inject(m, core)`` has put a fault; later assignments win."""

    class FaultyCore(Core):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            inject(m, self)
            return m

    monkeypatch.setattr(memories, "Core", FaultyCore)


@pytest.fixture
def compiled():
    network = random_network(12, hidden=(6, 5), embedding=4, density=0.7, z_bias=4000, embedding_density=1)
    return network, compile_image(network, configuration_for(network, lanes=2, weight_bytes=4096))


@pytest.fixture(scope="module")
def run_fault(tmp_path_factory):
    """Compare an image with a core that holds another one; returns what is said of the first difference."""

    @cache
    def verilog(configuration):
        path = tmp_path_factory.mktemp("core") / "core.v"
        path.write_text(to_verilog(core_with_memory(configuration), "core"))
        return path

    def run_fault(image, loaded):
        with pytest.raises(LockstepError) as error:
            run(
                image,
                FAULT_TOKENS,
                simulator="icarus",
                backpressure=0.2,
                loaded=loaded,
                netlist=[verilog(image.configuration)],
            )
        return str(error.value)

    return run_fault


FAULT_TOKENS = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]


def first_difference(image, changed, differs):
    """(step, layer, good trace, bad trace) of the first difference between two images' networks."""
    engines = [IntegerEngine(read_image(each)) for each in (image, changed)]
    for step, token in enumerate(FAULT_TOKENS):
        traces = [engine.step(np.array([token])) for engine in engines]
        for layer, (good, bad) in enumerate(zip(*traces, strict=True)):
            if differs(good, bad).any():
                return step, layer, good, bad
    raise AssertionError("the fault has no effect")


def change(image, section, index, bit):
    """The image with one bit of a memory's word flipped."""
    width = memory_sections(image.configuration)[section].word_bytes
    data = bytearray(image.memories[section])
    data[index * width + bit // 8] ^= 1 << bit % 8
    return dataclasses.replace(image, memories=image.memories | {section: bytes(data)})


def word(image, section, index):
    """A word of a memory as a number."""
    width = memory_sections(image.configuration)[section].word_bytes
    return int.from_bytes(image.memories[section][index * width : (index + 1) * width], "little")


def pointer(image, column):
    """(start, count) of a column."""
    c, value = image.configuration, word(image, "columns", column)
    return value % (1 << c.start_bits), value >> c.start_bits & ((1 << c.count_bits) - 1)


@pytest.mark.parametrize("layer", [0, 1])
def test_wrong_weight_is_found(layer, compiled, run_fault):
    """One bit of one weight of gate u: the message names the accumulator and both its values."""
    network, image = compiled
    c = image.configuration
    bases = c.column_base[layer]
    assert c.weight_bits == 8
    # A column of an input and its first word, in which lane 0 always has an entry; its weight must not become 0.
    for column in range(bases["x"], bases["x"] + c.inputs(layer)):
        start, count = pointer(image, column)
        changed = change(image, "weights", start, 1)
        if not count or word(image, "weights", start) % 256 == 2:
            continue
        good, bad = (read_image(each).layers[layer].weight_x for each in (image, changed))
        row = int(np.argwhere(good != bad)[0, 0])
        if row < c.hidden[layer]:
            break
    else:
        raise AssertionError("no such weight")
    step, at, good, bad = first_difference(image, changed, lambda a, b: a.accumulators != b.accumulators)
    assert at == layer and (good.accumulators != bad.accumulators).sum() == 1
    assert run_fault(image, changed) == (
        f"stream accumulator_u: step {step}, layer {layer}, neuron {row}: "
        f"expected {good.accumulators[0, row]}, actual {bad.accumulators[0, row]}"
    )


def places_of(c, image, kind):
    """(section, index, bit) of everything of one kind that belongs to the columns of s of the first layer.

    These have rows of gate z alone, so that a lane that goes astray there finds but accumulators of this gate.
    """
    if kind == "codebook":
        return [("codebook", 2 * 16 + code, bit) for code in range(1, 16) for bit in range(8)]
    columns = range(c.column_base[0]["s"], c.column_base[0]["s"] + c.hidden[0])
    words = {
        start + place: place
        for start, count in (pointer(image, column) for column in columns)
        for place in range(count)
    }
    fields = c.start_bits + c.count_bits
    return {
        "start": [("columns", column, bit) for column in columns for bit in range(c.start_bits)],
        "count": [("columns", column, c.start_bits) for column in columns],
        "bank": [("columns", column, fields) for column in columns],
        "block": [("columns", column, fields + 3) for column in columns],
        "run": [("weights", word, c.weight_bits + bit) for word in words for bit in range(4)],
        # A column's first run has no more than four bits: a block says where it begins.
        "wide run": [("run_4", word, 0) for word, place in words.items() if place and word < c.wide_words[0]],
    }[kind]


@pytest.mark.parametrize("kind", ["start", "count", "bank", "block", "run", "wide run", "codebook"])
def test_wrong_walk_is_found(kind, run_fault):
    """One bit of a pointer, a run or the codebook: weights go astray or are others, as the message says."""
    network = few_values(random_network(14, hidden=(80, 5), embedding=4, density=0.06, z_bias=4000))
    c = configuration_for(network, lanes=1)
    assert c.weight_bits == 4 and c.wide_words
    image = compile_image(network, c)
    for fault in places_of(c, image, kind):
        changed = change(image, *fault)
        try:
            step, layer, good, bad = first_difference(image, changed, lambda a, b: a.accumulators != b.accumulators)
        except (InputError, AssertionError):
            continue  # a lane leaves the layer, or the column is not used
        wrong = np.flatnonzero(good.accumulators[0] != bad.accumulators[0])
        assert layer == 0 and wrong[0] >= 2 * 80
        if kind in ("count", "codebook") or len(wrong) > 1:
            break
    else:
        raise AssertionError("no such fault")
    assert run_fault(image, changed) == (
        f"stream accumulator_z: step {step}, layer 0, neuron {wrong[0] - 160}: "
        f"expected {good.accumulators[0, wrong[0]]}, actual {bad.accumulators[0, wrong[0]]}"
    )


@pytest.mark.parametrize("gate, neuron, bit", [(0, 0, 3), (0, 5, 9), (2, 4, -1)])
def test_wrong_folded_row_is_found(gate, neuron, bit, run_fault):
    """One bit of a number of a token's row: the accumulator is off by it, in the token's first step. The last bit is
    its sign."""
    network = random_network(15, hidden=(6, 5), embedding=4, density=0.7, z_bias=4000, embedding_density=1)
    c = configuration_for(network, lanes=2, folded_tokens=5)
    image = compile_image(network, c)
    token = 4
    bank, address = c.place(0, gate, neuron)
    index, place = token * c.layer_depth(0) + address, bank * c.row_bits + bit % c.row_bits
    off = (1 << bit if bit >= 0 else -1 << c.row_bits - 1) << c.row_shift
    if word(image, "rows", index) >> place & 1:
        off = -off
    engine, step = IntegerEngine(network), FAULT_TOKENS.index(token)
    for before in FAULT_TOKENS[:step]:
        engine.step(np.array([before]))
    right = engine.step(np.array([token]))[0].accumulators[0, 6 * gate + neuron]
    assert run_fault(image, change(image, "rows", index, place)) == (
        f"stream accumulator_{'urz'[gate]}: step {step}, layer 0, neuron {neuron}: "
        f"expected {right}, actual {right + off}"
    )


def test_embedding_beside_a_folded_row_is_found(monkeypatch):
    """A core that sends the embedding of a token whose row is folded."""
    network = random_network(15, hidden=(6,), embedding=4, embedding_density=1)
    image = compile_image(network, configuration_for(network, lanes=2, folded_tokens=4))

    def inject(m, core):
        m.d.comb += [m.submodules.embedding.start.eq(m.submodules.rows.start)]

    with_fault(monkeypatch, inject)
    with pytest.raises(LockstepError, match=r"^stream embedding: "):
        run(image, FAULT_TOKENS, simulator="icarus")


def test_wrong_threshold_is_found(compiled, run_fault):
    network, image = compiled
    neuron = 6 + 2
    changed = change(image, "threshold", neuron, 3)
    step, layer, good, bad = first_difference(image, changed, lambda a, b: (a.c != b.c) | (a.y != b.y))
    assert layer == 1
    assert run_fault(image, changed) == (
        f"stream c: step {step}, layer 1, neuron 2: expected {good.c[0, 2]}, actual {bad.c[0, 2]}"
    )


def test_wrong_embedding_is_found(compiled, run_fault):
    network, image = compiled
    index = FAULT_TOKENS[2] * 4 + 1
    element = int(network.embedding.reshape(-1)[index])
    assert run_fault(image, change(image, "embedding", index, 1)) == (
        f"stream embedding: step 2, layer 0, index 1: expected (1, {2 * element}), actual (1, {2 * (element ^ 2)})"
    )


def test_lost_end_is_found(compiled, monkeypatch):
    """A core that swallows something does not pass for want of comparisons."""

    def inject(m, core):
        update = m.submodules.update_pass
        with m.If(update.o.p.end):
            m.d.comb += [core.o_events.valid.eq(0), update.o.ready.eq(1)]

    with_fault(monkeypatch, inject)
    with pytest.raises(LockstepError, match=r"^stream output: step 0, layer 1, end: expected \(0, 0, 1\), "):
        run(compiled[1], FAULT_TOKENS, simulator="icarus")


def test_broken_stream_rule_is_found(compiled, monkeypatch):
    """Right data under a `valid` that is taken back."""

    def inject(m, core):
        update = m.submodules.update_pass
        now = Signal()
        m.d.sync += now.eq(~now)
        m.d.comb += [core.o_events.valid.eq(update.o.valid & now), update.o.ready.eq(core.o_events.ready & now)]

    with_fault(monkeypatch, inject)
    with pytest.raises(LockstepError, match=r"stream .*o_events, cycle \d+: valid fell before the payload"):
        run(compiled[1], FAULT_TOKENS, simulator="icarus", backpressure=0.7)


def test_unknown_simulator():
    image = compile_image(random_network(1), configuration_for(random_network(1)))
    with pytest.raises(InputError, match="^simulator must be verilator or icarus, not 'modelsim'$"):
        run(image, [1], simulator="modelsim")
