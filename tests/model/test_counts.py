"""Operation counts: the papers' figures, and brute force."""

import numpy as np
import pytest

from egret.model.checkpoint import NetworkConfiguration
from egret.model.counts import (
    ColumnCounts,
    ReadoutCounts,
    SourceCounts,
    checkpoint_columns,
    checkpoint_readout,
    count_macs,
    folded_macs,
    integer_columns,
    integer_readout,
)
from egret.model.evaluate import evaluate
from egret.model.floating import FloatEngine, LayerStep
from egret.model.groups import Groups
from egret.model.integer import IntegerEngine
from egret.model.quantise import quantise


def full_activity(columns, steps=1):
    sources = SourceCounts(columns)
    for _ in range(steps):
        sources.add(
            [
                LayerStep(*(np.ones((1, len(n))) for n in (layer.x, layer.y, layer.s, layer.y, layer.y, layer.y)))
                for layer in columns
            ]
        )
    return sources


@pytest.mark.parametrize(
    ("cell", "embedding", "hidden", "millions"),
    [("lstm", 400, (1150, 1150, 400), 20.2), ("egru", 750, (1350, 1350, 750), 24.2)],
)
def test_dense_networks_of_the_papers(cell, embedding, hidden, millions):
    shapes = NetworkConfiguration(cell, "word", 10000, embedding, hidden).tensor_shapes()
    columns = [
        ColumnCounts.of_layer(
            *(np.ones(shapes[f"layers.{n}.{part}"], bool) for part in ("weight_x", "weight_y")),
            gates=4 if cell == "lstm" else 3,
        )
        for n in range(3)
    ]
    macs = count_macs(columns, full_activity(columns, steps=2))
    assert round(macs.dense / 1e6, 1) == millions
    assert macs.dense == macs.pruned == macs.event_driven == macs.event_driven_pruned == sum(macs.layers)


@pytest.mark.parametrize("cell", ["egru", "lstm"])
@pytest.mark.parametrize("reset", ["before", "after"])
def test_counts_equal_brute_force(cell, reset, random_checkpoint):
    configuration = NetworkConfiguration(cell, "char", 6, 5, (7, 5), reset)
    checkpoint = random_checkpoint(configuration, density=0.4)
    columns = checkpoint_columns(checkpoint)
    network, sources = FloatEngine(checkpoint), SourceCounts(columns)
    network.reset_state(3)
    gates = configuration.gates
    dense = pruned = event_driven = both = events = 0
    for step, tokens in enumerate(np.random.default_rng(1).integers(0, 6, (8, 3))):
        traces = network.step(tokens)
        streams = 2 if step == 7 else 3
        sources.add(traces, streams)
        for stream in range(streams):
            for number, trace in enumerate(traces):
                weight_x = checkpoint.tensors[f"layers.{number}.weight_x"]
                weight_y = checkpoint.tensors[f"layers.{number}.weight_y"]
                hidden = weight_y.shape[1]
                split = 2 * hidden if cell == "egru" else gates * hidden
                products = [(weight_x, trace.x), (weight_y[:split], trace.y_before), (weight_y[split:], trace.s)]
                for weights, values in products:
                    for j, value in enumerate(values[stream]):
                        dense += len(weights)
                        pruned += np.count_nonzero(weights[:, j])
                        if value != 0:
                            event_driven += len(weights)
                            both += np.count_nonzero(weights[:, j])
                events += np.count_nonzero(trace.y[stream])
    assert sources.steps == 7 * 3 + 2
    macs = count_macs(columns, sources)
    assert (macs.dense * 23, macs.pruned * 23) == (dense, pruned)
    assert (macs.event_driven, macs.event_driven_pruned) == pytest.approx((event_driven / 23, both / 23), rel=1e-12)
    assert sum(sources.events) == events
    assert sources.activity == [count / (23 * size) for count, size in zip(sources.events, (7, 5), strict=True)]
    if cell == "egru":
        assert both < event_driven < dense


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("groups", [None, Groups(2, (3, 1, 3), 2), Groups(0, (9,), 1)])
def test_macs_of_a_read_out(tied, groups, random_checkpoint):
    """Weight by weight: of the head, and of the group that the word to come is in."""
    configuration = NetworkConfiguration("egru", "char", 9, 6, (8, 6), tied=tied, readout=groups)
    checkpoint = random_checkpoint(configuration, 3, 0.6)
    tensors = checkpoint.tensors
    tensors["embedding.weight"][:, 1:] *= np.random.default_rng(1).random((9, 5)) < 0.5
    network = quantise(checkpoint)
    order = tensors["readout.order"].astype(int).tolist() if groups else list(range(9))
    starts = [0, *np.cumsum([groups.head, *groups.groups])] if groups else [0, 9]
    matrices = [set(order[first:last]) for first, last in zip(starts, starts[1:], strict=False)]
    ids = np.random.default_rng(2).integers(0, 9, 31)
    for engine, columns, readout, words, rows in (
        (
            FloatEngine(checkpoint),
            checkpoint_columns(checkpoint),
            checkpoint_readout(checkpoint),
            tensors["embedding.weight" if tied else "readout.weight"],
            tensors.get("readout.group_weight", []),
        ),
        (
            IntegerEngine(network),
            integer_columns(network),
            integer_readout(network),
            network.embedding if tied else network.readout_weight,
            network.groups.weight if groups else [],
        ),
    ):
        expected = head_columns = groups_read = group_columns = 0
        engine.reset_state()
        for token, target in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            y = engine.step(np.array([token]))[-1].y[0]
            read = [*rows, *(words[word] for word in matrices[0])]
            read += [words[word] for matrix in matrices[1:] if target in matrix for word in matrix]
            expected += sum(int(weight != 0) for row in read for weight, value in zip(row, y, strict=True) if value)
            events, grouped = np.count_nonzero(y), target not in matrices[0]
            head_columns, groups_read = head_columns + events, groups_read + grouped
            group_columns += grouped * events
        evaluation = evaluate(engine, columns, ids, readout=readout)
        assert evaluation.macs_readout == expected / 30
        counts = ReadoutCounts(expected, head_columns, groups_read, group_columns)
        assert evaluation.readout == counts.per_token(30) and (group_columns > 0) == (groups is not None)
        assert expected > 0 and evaluate(engine, columns, ids).macs_readout is None


def test_macs_that_folded_rows_save(random_checkpoint):
    """Weight by weight, of the tokens that have a row."""
    checkpoint = random_checkpoint(NetworkConfiguration("egru", "char", 9, 6, (8, 6)), 3, 0.6)
    checkpoint.tensors["embedding.weight"][:, 1:] *= np.random.default_rng(1).random((9, 5)) < 0.5
    network = quantise(checkpoint)
    tokens = np.random.default_rng(2).integers(0, 9, 31)
    for folded in (0, 4, 9):
        expected = 0
        for token in tokens[tokens < folded].tolist():
            inputs = np.flatnonzero(network.embedding[token])
            expected += sum(int(weight != 0) for row in network.layers[0].weight_x for weight in row[inputs])
        assert folded_macs(network, tokens, folded) == pytest.approx(expected / 31, rel=1e-12)
        assert (expected > 0) == (folded > 0)
