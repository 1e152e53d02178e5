"""Cores under Icarus and Verilator, every stream compared with the integer network."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Signal

from egret.model.compile import compile_image, configuration_for, read_image
from egret.model.errors import InputError
from egret.model.image import memory_sections
from egret.model.integer import IntegerNetwork
from egret.rtl.core import Core
from egret.sim import lockstep
from egret.sim.lockstep import LockstepError, run
from tests.networks import random_network, random_shape

TOKENS = 12


def check(parameters, *, lanes=4, simulator="icarus", seed=1, tokens=TOKENS, restart=None, **options):
    """Run random tokens; what was compared must be what the network implies. Returns (result, traces)."""
    image = compile_image(parameters, configuration_for(parameters, lanes=lanes, weight_bytes=None))
    tokens = np.random.default_rng(seed).integers(0, parameters.vocabulary.size, tokens)
    result = run(image, tokens, simulator=simulator, seed=seed, restart=restart, **options)
    network, steps = IntegerNetwork(parameters), []
    for step, token in enumerate(tokens):
        if step == restart:
            network.reset_state()
        steps.append(network.step(np.array([token])))
    layers = [trace for traces in steps for trace in traces]
    neurons = sum(parameters.hidden) * len(tokens)

    def active(values):
        return sum(np.count_nonzero(value) for value in values)

    before, events = active(trace.y_before for trace in layers), active(trace.y for trace in layers)
    implied = {"output": active(traces[-1].y for traces in steps) + len(tokens)}
    if options.get("intermediate", True):
        implied |= {
            "embedding": active(traces[0].x for traces in steps), "events": events, "p": neurons, "c": neurons,
            "reset_values": active(trace.s for trace in layers), "accumulator_r": before, "gate_r": before,
            "accumulator_u": neurons, "gate_u": neurons, "accumulator_z": neurons, "gate_z": neurons}
    assert result.compared == implied
    assert result.counters["tokens"] == len(tokens)
    assert sum(value for name, value in result.counters.items() if name.startswith("events_")) == events
    if options.get("backpressure"):
        assert result.stalls["o_events"] > 0
    return result, steps


@pytest.mark.parametrize("seed", range(5))
def test_random_networks(seed):
    """One to four layers, any lanes, density, idle, backpressure, restart."""
    rng = np.random.default_rng(1000 + seed)
    parameters = random_network(seed, **random_shape(seed), density=float(rng.choice([0.1, 0.5, 1])),
                                empty_columns=float(rng.choice([0, 0.5])), z_bias=int(rng.choice([0, 4000])))
    check(parameters, lanes=int(rng.choice([1, 2, 4, 8])), seed=seed, idle=float(rng.choice([0, 0.8])),
          backpressure=float(rng.choice([0.3, 0.8])), restart=int(rng.integers(1, TOKENS)))


@pytest.mark.parametrize("name, options", {
    "one neuron": dict(hidden=(1,), embedding=1, density=1, lanes=1, z_bias=4000),
    "four layers": dict(hidden=(13, 1, 7, 11), embedding=3, lanes=2, z_bias=2000, backpressure=0.5),
    "all active": dict(hidden=(17, 9), embedding=4, threshold=0, z_bias=100_000, density=0.3, shift=(8, 9),
                       backpressure=0.7, restart=5),
    "no events": dict(hidden=(6, 5, 4), threshold=(20_000, 30_000), backpressure=0.5, restart=3),
    "quiet layer": dict(hidden=(5, 4), density=0, z_bias=-100_000),
    "empty columns": dict(hidden=(9, 8), empty_columns=0.8, z_bias=4000, density=0.9, idle=0.5),
    "dense": dict(hidden=(10, 10), density=1, lanes=8, z_bias=4000, backpressure=0.9),
    "more lanes than rows": dict(hidden=(3, 5), lanes=16, z_bias=4000),
    "smallest tables": dict(hidden=(7, 6), accumulator_bits=20, gate_index_bits=8, density=0.2, z_bias=4000),
    "largest tables": dict(hidden=(7, 6), gate_index_bits=12, density=0.6, z_bias=4000),
}.items())
def test_corners(name, options):
    run_options = {key: options[key] for key in ("lanes", "backpressure", "restart", "idle") if key in options}
    shape = {key: value for key, value in options.items() if key not in run_options}
    result, steps = check(random_network(7, **shape), **run_options)
    fired = [np.mean([np.count_nonzero(traces[layer].y) / traces[layer].y.size for traces in steps])
             for layer in range(len(steps[0]))]
    if name == "all active":
        assert min(fired) > 0.8
    elif name in ("no events", "quiet layer"):
        assert max(fired) == 0 and result.compared["output"] == TOKENS
    else:
        assert max(fired) > 0


def test_32_lanes():
    check(random_network(8, hidden=(40, 23), embedding=11, density=0.5, z_bias=4000), lanes=32, tokens=4,
          backpressure=0.5)


def test_streams_wait_inside():
    """Under backpressure and with all neurons active, streams inside the core have to wait too, and keep the rules."""
    result, _ = check(random_network(9, hidden=(40,), embedding=3, threshold=0, z_bias=100_000, shift=(8, 9)),
                      lanes=4, tokens=6, backpressure=0.95)
    assert {"o_events", "weights.i", "update_pass.o"} <= {name for name, stalls in result.stalls.items() if stalls}


def test_output_alone():
    check(random_network(10, hidden=(9, 4), z_bias=4000), intermediate=False, backpressure=0.5)


@pytest.mark.parametrize("hidden, lanes", [
    ((5, 3), 2), pytest.param((37, 29), 8, marks=pytest.mark.slow),
    pytest.param((5, 3, 7, 4), 4, marks=pytest.mark.slow)])
def test_verilator(hidden, lanes):
    """The same bench under the other simulator."""
    check(random_network(11, hidden=hidden, embedding=9, density=0.3, z_bias=4000), lanes=lanes, simulator="verilator",
          tokens=30, idle=0.3, backpressure=0.5, restart=17)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_networks(seed):
    rng = np.random.default_rng(seed)
    shape = random_shape(seed, size=40)
    parameters = random_network(seed, **shape, density=float(rng.choice([0.05, 0.3, 1])), z_bias=2000,
                                empty_columns=float(rng.choice([0, 0.5])), threshold=int(rng.choice([0, 3000, 16000])))
    check(parameters, lanes=int(rng.choice([1, 2, 4, 8, 16])), seed=seed, idle=float(rng.choice([0, 0.8])),
          backpressure=float(rng.choice([0, 0.5, 0.95])), restart=int(rng.integers(1, 40)), tokens=40)


def with_fault(monkeypatch, inject):
    """Let `run` build a core into which ``inject(m, core)`` has put a fault; later assignments win."""
    class FaultyCore(Core):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            inject(m, self)
            return m

    monkeypatch.setattr(lockstep, "Core", FaultyCore)


def flip_loaded_bit(section, index, bit):
    """The fault of one bit of a memory that flips on its way there."""
    def inject(m, core):
        number = {memory.name: memory.number for memory in memory_sections(core.configuration)}[section]
        hit = (core.load.section == number) & (core.load.index == index)
        for unit in (m.submodules.weights, m.submodules.update_pass, m.submodules.embedding):
            m.d.comb += unit.load.data.eq(core.load.data ^ (hit << bit))
    return inject


@pytest.fixture
def network():
    parameters = random_network(12, hidden=(6, 5), embedding=4, density=0.7, z_bias=4000, embedding_density=1)
    return parameters, compile_image(parameters, configuration_for(parameters, lanes=2, weight_bytes=4096))


FAULT_TOKENS = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]


def first_difference(image, changed, differs):
    """(step, layer, good trace, bad trace) of the first difference between two images' networks."""
    networks = [IntegerNetwork(read_image(each)) for each in (image, changed)]
    for step, token in enumerate(FAULT_TOKENS):
        traces = [network.step(np.array([token])) for network in networks]
        for layer, (good, bad) in enumerate(zip(*traces, strict=True)):
            if differs(good, bad).any():
                return step, layer, good, bad
    raise AssertionError("the fault has no effect")


def change(image, section, index, bit):
    """The image with one bit of a memory's word flipped."""
    width = {memory.name: memory.word_bytes for memory in memory_sections(image.configuration)}[section]
    data = bytearray(image.memories[section])
    data[index * width + bit // 8] ^= 1 << bit % 8
    return dataclasses.replace(image, memories=image.memories | {section: bytes(data)})


@pytest.mark.parametrize("layer", [0, 1])
def test_wrong_weight_is_found(layer, network, monkeypatch):
    """One bit of one weight of gate u: the message names the accumulator and both its values."""
    parameters, image = network
    c = image.configuration
    bases = c.column_base[layer]
    # A column of an input and its first word; lane 0 of a word always has an entry.
    for column in range(bases["x"], bases["x"] + c.inputs(layer)):
        width = -(-(c.start_bits + c.count_bits) // 8)
        pointer = int.from_bytes(image.memories["columns"][column * width:(column + 1) * width], "little")
        start, count = pointer & ((1 << c.start_bits) - 1), pointer >> c.start_bits
        changed = change(image, "weights", start, 1)
        good, bad = (read_image(each).layers[layer].weight_x for each in (image, changed))
        row = int(np.argwhere(good != bad)[0, 0])
        if count and row < c.hidden[layer]:
            break
    else:
        raise AssertionError("no such weight")
    step, at, good, bad = first_difference(image, changed, lambda a, b: a.accumulators != b.accumulators)
    assert at == layer and (good.accumulators != bad.accumulators).sum() == 1
    with_fault(monkeypatch, flip_loaded_bit("weights", start, 1))
    with pytest.raises(LockstepError) as error:
        run(image, FAULT_TOKENS, simulator="icarus", backpressure=0.2)
    assert str(error.value) == (f"stream accumulator_u: step {step}, layer {layer}, neuron {row}: "
                                f"expected {good.accumulators[0, row]}, actual {bad.accumulators[0, row]}")


def test_wrong_threshold_is_found(network, monkeypatch):
    parameters, image = network
    neuron = 6 + 2
    changed = change(image, "threshold", neuron, 3)
    step, layer, good, bad = first_difference(image, changed, lambda a, b: (a.c != b.c) | (a.y != b.y))
    assert layer == 1
    with_fault(monkeypatch, flip_loaded_bit("threshold", neuron, 3))
    with pytest.raises(LockstepError) as error:
        run(image, FAULT_TOKENS, simulator="icarus")
    assert str(error.value) == (f"stream c: step {step}, layer 1, neuron 2: expected {good.c[0, 2]}, "
                                f"actual {bad.c[0, 2]}")


def test_wrong_embedding_is_found(network, monkeypatch):
    parameters, image = network
    index = FAULT_TOKENS[2] * 4 + 1
    element = int(parameters.embedding.reshape(-1)[index])
    with_fault(monkeypatch, flip_loaded_bit("embedding", index, 1))
    with pytest.raises(LockstepError) as error:
        run(image, FAULT_TOKENS, simulator="icarus")
    assert str(error.value) == (f"stream embedding: step 2, layer 0, index 1: expected (1, {2 * element}), "
                                f"actual (1, {2 * (element ^ 2)})")


def test_lost_end_is_found(network, monkeypatch):
    """A core that swallows something does not pass for want of comparisons."""
    def inject(m, core):
        update = m.submodules.update_pass
        with m.If(update.o.p.end):
            m.d.comb += [core.o_events.valid.eq(0), update.o.ready.eq(1)]

    with_fault(monkeypatch, inject)
    with pytest.raises(LockstepError, match=r"^stream output: step 0, layer 1, end: expected \(0, 0, 1\), "):
        run(network[1], FAULT_TOKENS, simulator="icarus")


def test_broken_stream_rule_is_found(network, monkeypatch):
    """Right data under a `valid` that is taken back."""
    def inject(m, core):
        update = m.submodules.update_pass
        now = Signal()
        m.d.sync += now.eq(~now)
        m.d.comb += [core.o_events.valid.eq(update.o.valid & now), update.o.ready.eq(core.o_events.ready & now)]

    with_fault(monkeypatch, inject)
    with pytest.raises(LockstepError, match=r"stream .*o_events, cycle \d+: valid fell before the payload"):
        run(network[1], FAULT_TOKENS, simulator="icarus", backpressure=0.7)


def test_unknown_simulator():
    image = compile_image(random_network(1), configuration_for(random_network(1)))
    with pytest.raises(InputError, match="^simulator must be verilator or icarus, not 'modelsim'$"):
        run(image, [1], simulator="modelsim")
