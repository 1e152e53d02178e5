"""The fused kernels against the plain path, on a GPU or in Triton's interpreter (see conftest.py)."""

import pytest
import torch

from egret.model.training import readout
from egret.model.training.cells import egru_layer, lstm_layer
from tests.support.layers import random_layer

pytest.importorskip("triton", reason="triton is not installed, which has wheels for Linux only")
from egret.model.training.kernels import egru, lstm, stack
from egret.model.training.kernels.loss import readout_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter takes ten to forty seconds for these.
LONG = () if DEVICE == "cuda" else (pytest.mark.slow,)
CASES = [
    (1, 1, (1,), 1, False),
    (3, 17, (130,), 66, True),
    pytest.param(12, 3, (70, 5), 11, True, marks=LONG),
    pytest.param(23, 5, (64, 3, 65), 64, False, marks=LONG),
]


def run_both(steps, batch, sizes, inputs, dtype, dropped, train_thresholds=True, reset="before"):
    generator = torch.Generator().manual_seed(steps + batch)
    layers = [
        random_layer(i, h, batch, seed=h + n, reset=reset)
        for n, (i, h) in enumerate(zip((inputs, *sizes[:-1]), sizes, strict=True))
    ]
    for layer in layers:
        layer["weight_x"] /= layer["weight_x"].shape[1] ** 0.5
        layer["weight_y"] /= layer["weight_y"].shape[1] ** 0.5
    x = torch.randn(steps, batch, inputs, generator=generator, dtype=torch.float64)
    masks = [
        (torch.rand(batch, size, generator=generator, dtype=torch.float64) < 0.7) / 0.7 if dropped else None
        for size in sizes
    ]
    d_hidden = torch.randn(steps, batch, sizes[-1], generator=generator, dtype=torch.float64)
    d_activity = 10 * torch.randn(len(sizes), generator=generator, dtype=torch.float64)
    results = []
    for precision, device in ((torch.float64, "cpu"), (torch.float32, DEVICE)):
        leaves = [
            {name: tensor.to(device, precision, copy=True).requires_grad_() for name, tensor in layer.items()}
            for layer in layers
        ]
        x_leaf = x.to(device, precision).clone().requires_grad_()
        if precision == torch.float64:
            hidden, activity, ends = x_leaf, [], []
            for layer, mask in zip(leaves, masks, strict=True):
                hidden, events, end = egru_layer(
                    hidden, (layer["y"], layer["c"]), layer["weight_x"], layer["weight_y"], layer["bias"],
                    layer["threshold"], layer.get("bias_y"), slope=1.2, width=0.8,
                )  # fmt: skip
                hidden = hidden if mask is None else hidden * mask
                activity.append(events.mean())
                ends.append(end)
            activity = torch.stack(activity)
        else:
            if not train_thresholds:
                for layer in leaves:
                    layer["threshold"].requires_grad_(False)
            names = ("weight_x", "weight_y", "bias", "threshold", "bias_y")
            hidden, ends, activity = egru.run_stack(
                x_leaf, [(layer["y"].detach(), layer["c"].detach()) for layer in leaves],
                *([layer.get(name) for layer in leaves] for name in names),
                [None if mask is None else mask.to(device, precision) for mask in masks],
                slope=1.2, width=0.8, dtype=dtype,
            )  # fmt: skip
        ((hidden * d_hidden.to(hidden)).sum() + (activity * d_activity.to(activity)).sum()).backward()
        result = {"hidden": hidden, "activity": activity, "x": x_leaf.grad}
        for index, (y, c) in enumerate(ends):
            result |= {f"{index}.y": y, f"{index}.c": c}
        for index, layer in enumerate(leaves):
            names = ("weight_x", "weight_y", "bias", "threshold", "bias_y")
            result |= {f"{index}.d_{name}": layer[name].grad for name in names if name in layer}
        results.append({name: tensor.detach().double().cpu() for name, tensor in result.items() if tensor is not None})
    return results


def relative_errors(expected, got):
    return {name: ((got[name] - expected[name]).norm() / (expected[name].norm() + 1e-12)).item() for name in got}


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize(
    ("steps", "batch", "sizes", "inputs", "dropped"),
    CASES,
)
def test_fused_layers_equal_the_plain_path(steps, batch, sizes, inputs, dropped, reset):
    expected, got = run_both(steps, batch, sizes, inputs, torch.float32, dropped, reset=reset)
    assert ("0.d_bias_y" in got) == (reset == "after")
    assert set(expected) == set(got)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 2e-5, errors


def test_fused_layers_run_piece_by_piece_and_need_no_threshold_gradient(monkeypatch):
    monkeypatch.setattr(stack, "PIECE", 2)
    expected, got = run_both(5, 2, (5, 6), 3, torch.float32, True, train_thresholds=False)
    assert not any("threshold" in name for name in got)
    assert max(relative_errors(expected, got).values()) < 2e-5


def run_both_lstm(steps, batch, sizes, inputs, dtype, dropped):
    """Results and gradients of the plain path in float64 and of the fused path."""
    generator = torch.Generator().manual_seed(steps + batch)

    def draw(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    layers = [
        {
            "weight_x": draw(4 * size, columns, scale=columns**-0.5),
            "weight_y": draw(4 * size, size, scale=size**-0.5),
            "bias": draw(4 * size, scale=0.3), "h": draw(batch, size), "c": draw(batch, size),
        }
        for columns, size in zip((inputs, *sizes), sizes, strict=False)
    ]  # fmt: skip
    x, d_hidden = draw(steps, batch, inputs), draw(steps, batch, sizes[-1])
    masks = [((draw(batch, size) < 0.5).double() / 0.7 if dropped else None) for size in sizes]
    results = []
    for precision, device in ((torch.float64, "cpu"), (torch.float32, DEVICE)):
        names = ("weight_x", "weight_y", "bias")
        leaves = [
            {name: layer[name].to(device, precision, copy=True).requires_grad_() for name in names} for layer in layers
        ]
        states = [(layer["h"].to(device, precision), layer["c"].to(device, precision)) for layer in layers]
        own_masks = [None if mask is None else mask.to(device, precision) for mask in masks]
        x_leaf = x.to(device, precision).clone().requires_grad_()
        if precision == torch.float64:
            hidden, ends = x_leaf, []
            for leaf, state, mask in zip(leaves, states, own_masks, strict=True):
                hidden, end = lstm_layer(hidden, state, *leaf.values())
                hidden = hidden if mask is None else hidden * mask
                ends.append(end)
        else:
            columns = ([leaf[name] for leaf in leaves] for name in names)
            hidden, ends = lstm.run_stack(x_leaf, states, *columns, own_masks, dtype=dtype)
        (hidden * d_hidden.to(hidden)).sum().backward()
        result = {"hidden": hidden, "x": x_leaf.grad}
        for index, (h, c) in enumerate(ends):
            result |= {f"{index}.h": h, f"{index}.c": c}
            result |= {f"{index}.d_{name}": leaves[index][name].grad for name in names}
        results.append({name: tensor.detach().double().cpu() for name, tensor in result.items()})
    return results


@pytest.mark.parametrize(
    ("steps", "batch", "sizes", "inputs", "dropped"),
    CASES,
)
def test_fused_lstm_equals_the_plain_path(steps, batch, sizes, inputs, dropped):
    expected, got = run_both_lstm(steps, batch, sizes, inputs, torch.float32, dropped)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 2e-5, errors


def test_fused_lstm_runs_piece_by_piece(monkeypatch):
    monkeypatch.setattr(stack, "PIECE", 2)
    assert max(relative_errors(*run_both_lstm(5, 2, (5, 6), 3, torch.float32, True)).values()) < 2e-5


@pytest.mark.skipif(DEVICE == "cpu", reason="bfloat16 matrix products are tested on a CUDA device")
@pytest.mark.parametrize(("batch", "sizes"), [(64, (190, 130)), (100, (300, 64, 70))])
def test_fused_lstm_in_bfloat16_is_close(batch, sizes):
    expected, got = run_both_lstm(20, batch, sizes, 90, torch.bfloat16, True)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 0.03, errors


@pytest.mark.skipif(DEVICE == "cpu", reason="bfloat16 matrix products are tested on a CUDA device")
@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize(("batch", "sizes"), [(64, (190, 130)), (100, (300, 64, 70))])
def test_fused_layers_in_bfloat16_are_close(batch, sizes, reset):
    # A rounding that moves a state over its threshold changes an event; few do.
    expected, got = run_both(20, batch, sizes, 90, torch.bfloat16, True, reset=reset)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 0.25, errors


@pytest.mark.parametrize(("count", "size", "vocab"), [(1, 1, 2), (7, 70, 65), (5, 64, 2100)])
def test_fused_readout_loss_equals_cross_entropy(count, size, vocab):
    generator = torch.Generator().manual_seed(count)
    hidden, weight = torch.randn(count, size, generator=generator), torch.randn(vocab, size, generator=generator)
    bias, targets = torch.randn(vocab, generator=generator), torch.randint(0, vocab, (count,), generator=generator)
    reference = [tensor.double().requires_grad_() for tensor in (hidden, weight, bias)]
    logits = reference[0] @ reference[1].T + reference[2]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    leaves = [tensor.to(DEVICE).clone().requires_grad_() for tensor in (hidden, weight, bias)]
    got = readout_loss(*leaves, targets.to(DEVICE), torch.float32)
    got.backward()
    assert abs(got.item() - loss.item()) < 1e-5
    for leaf, expected in zip(leaves, reference, strict=True):
        torch.testing.assert_close(leaf.grad.double().cpu(), expected.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert abs(readout_loss(*leaves, targets.to(DEVICE), torch.float32).item() - loss.item()) < 1e-5


@pytest.mark.parametrize(
    ("count", "size", "vocab", "kept", "share"), [(7, 70, 65, 5, 0.7), (5, 64, 2100, 130, 1.0), (3, 5, 10, 10, 0.4)]
)
def test_fused_readout_loss_takes_the_likeliest_words(count, size, vocab, kept, share):
    """With all words kept there are no others; the target is among the kept words in some rows only."""
    generator = torch.Generator().manual_seed(vocab)
    hidden, weight = torch.randn(count, size, generator=generator), torch.randn(vocab, size, generator=generator)
    bias, targets = torch.randn(vocab, generator=generator), torch.randint(0, vocab, (count,), generator=generator)
    taught, words = (2 * torch.randn(count, vocab, generator=generator)).softmax(-1).topk(kept, sorted=False)
    targets[0], taught = words[0, 0], taught.half()
    reference = [tensor.double().requires_grad_() for tensor in (hidden / size**0.5, weight, bias)]
    likelihood = (reference[0] @ reference[1].T + reference[2]).softmax(-1)
    hard = -likelihood[torch.arange(count), targets].log().mean()
    soft = (taught.double() * likelihood.gather(1, words).log()).sum(-1)
    if kept < vocab:
        others = torch.ones(count, vocab, dtype=torch.float64).scatter(1, words, 0.0)
        soft = soft + (1 - taught.double().sum(-1)) * (likelihood * others).sum(-1).log()
    loss = (1 - share) * hard - share * soft.mean()
    loss.backward()
    words = words.int()
    plain = [tensor.detach().clone().requires_grad_() for tensor in reference]
    fused = [tensor.detach().float().to(DEVICE).requires_grad_() for tensor in reference]
    got = [
        readout.loss(*plain, targets, taught, share, words=words),
        readout_loss(
            *fused, targets.to(DEVICE), torch.float32, taught=taught.to(DEVICE), words=words.to(DEVICE), share=share
        ),
    ]
    for own, leaves in zip(got, (plain, fused), strict=True):
        own.backward()
        assert abs(own.item() - loss.item()) < (1e-5 if kept < vocab else 1e-2) * max(1, loss.item())
        for leaf, expected in zip(leaves, reference, strict=True):
            tolerance = {"rtol": 1e-4, "atol": 2e-6} if kept < vocab else {"rtol": 1e-2, "atol": 1e-3}
            torch.testing.assert_close(leaf.grad.double().cpu(), expected.grad, **tolerance)


@pytest.mark.parametrize(("count", "size", "vocab", "share"), [(7, 70, 65, 0.7), (5, 64, 2100, 1.0), (3, 5, 10, 0.0)])
def test_fused_readout_loss_takes_taught_probabilities(count, size, vocab, share):
    generator = torch.Generator().manual_seed(vocab)
    hidden, weight = torch.randn(count, size, generator=generator), torch.randn(vocab, size, generator=generator)
    bias, targets = torch.randn(vocab, generator=generator), torch.randint(0, vocab, (count,), generator=generator)
    taught = (2 * torch.randn(count, vocab, generator=generator)).softmax(-1).half()  # sums that are not quite one
    reference = [tensor.double().requires_grad_() for tensor in (hidden, weight, bias)]
    likelihood = (reference[0] @ reference[1].T + reference[2]).log_softmax(-1)
    hard = -likelihood[torch.arange(count), targets].mean()
    loss = (1 - share) * hard - share * (taught.double() * likelihood).sum(-1).mean()
    loss.backward()
    leaves = [tensor.to(DEVICE).clone().requires_grad_() for tensor in (hidden, weight, bias)]
    got = readout_loss(*leaves, targets.to(DEVICE), torch.float32, taught=taught.to(DEVICE), share=share)
    got.backward()
    assert abs(got.item() - loss.item()) < 1e-5 * max(1, loss.item())
    for leaf, expected in zip(leaves, reference, strict=True):
        torch.testing.assert_close(leaf.grad.double().cpu(), expected.grad, rtol=1e-4, atol=2e-6)
