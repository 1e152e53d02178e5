"""The float networks: gradients, carried state, dropout, checkpoints; the fused kernels against the plain path."""

import os

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint, save_checkpoint
from egret.model.errors import InputError
from egret.model.tokens import Vocabulary
from egret.model.training.network import Dropout, LanguageModel, configuration_of, egru_layer, event, lstm_layer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# TRITON_INTERPRET=1 runs the kernels on a CPU, very slowly.
needs_kernels = pytest.mark.skipif(
    DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1", reason="fused kernels need a CUDA device"
)
SIZES = [(1, 1, 1, 1), (5, 3, 7, 11), (4, 2, 13, 5)]  # T, B, I, H


def random_layer(inputs, size, batch, seed, gates=3):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, low=-1.0, high=1.0):
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low

    return {
        "weight_x": draw(gates * size, inputs),
        "weight_y": draw(gates * size, size),
        "bias": draw(gates * size),
        "threshold": draw(size, low=0, high=0.4),
        "y": draw(batch, size, low=0),
        "c": draw(batch, size, low=-0.5, high=0.5),
    }


def reference_gradients(x, layer, d_outputs, d_events, reset, slope, width):
    """Forward and backward of one layer written out by hand, step by step, from the equations of the cell."""
    weight_x, weight_y, bias, threshold = (layer[name] for name in ("weight_x", "weight_y", "bias", "threshold"))
    y, c, size = layer["y"], layer["c"], threshold.shape[0]
    (ux, rx, zx), (uy, ry, zy) = weight_x.split(size), weight_y.split(size)
    bu, br, bz = bias.split(size)
    tape, outputs = [], []
    for x_t in x:
        u = torch.sigmoid(x_t @ ux.T + y @ uy.T + bu)
        r = torch.sigmoid(x_t @ rx.T + y @ ry.T + br)
        m = y @ zy.T
        z = torch.tanh(x_t @ zx.T + bz + ((r * y) @ zy.T if reset == "before" else r * m))
        p = u * z + (1 - u) * c
        e = (p >= threshold).double()
        tape.append((x_t, y, c, u, r, m, z, p, e))
        y, c = e * p, p - e * threshold
        outputs.append(y)
    grads = {name: torch.zeros_like(layer[name]) for name in layer}
    d_x = torch.zeros_like(x)
    dy_next, dc = torch.zeros_like(y), torch.zeros_like(c)
    for t in reversed(range(len(x))):
        x_t, y, c, u, r, m, z, p, e = tape[t]
        dy = dy_next + d_outputs[t]
        de = (dy * p - dc * threshold + d_events[t]) * slope * (1 - (p - threshold).abs() / width).clamp(min=0)
        grads["threshold"] += (-de - dc * e).sum(0)
        dp = dy * e + dc + de
        a_u = dp * (z - c) * u * (1 - u)
        a_z = dp * u * (1 - z * z)
        dc = dp * (1 - u)
        if reset == "before":
            d_ry = a_z @ zy
            d_r, dy_next = d_ry * y, d_ry * r
            grads["weight_y"][2 * size :] += a_z.T @ (r * y)
        else:
            d_r, d_m = a_z * m, a_z * r
            dy_next = d_m @ zy
            grads["weight_y"][2 * size :] += d_m.T @ y
        a_r = d_r * r * (1 - r)
        dy_next = dy_next + a_u @ uy + a_r @ ry
        grads["weight_y"][: 2 * size] += torch.cat([a_u, a_r], 1).T @ y
        a = torch.cat([a_u, a_r, a_z], 1)
        grads["weight_x"] += a.T @ x_t
        grads["bias"] += a.sum(0)
        d_x[t] = a @ weight_x
    grads["y"], grads["c"] = dy_next, dc
    return torch.stack(outputs), d_x, grads


def test_event_is_a_step_with_a_triangle_for_gradient():
    distance = torch.tensor([-1.0, -0.1, 0.0, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    fired = event(distance, slope=3.0, width=0.4)
    fired.sum().backward()
    assert fired.tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(distance.grad, torch.tensor([0, 2.25, 3.0, 1.5, 0], dtype=torch.float64))


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("sizes", SIZES)
def test_egru_gradients_equal_the_written_out_ones(sizes, reset):
    steps, batch, inputs, size = sizes
    layer = random_layer(inputs, size, batch, seed=sum(sizes))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(steps, batch, inputs, generator=generator, dtype=torch.float64, requires_grad=True)
    d_outputs, d_events = torch.randn(2, steps, batch, size, generator=generator, dtype=torch.float64)
    expected, d_x, grads = reference_gradients(x.detach(), layer, d_outputs, d_events, reset, 2.0, 0.7)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in layer.items()}
    outputs, events, _ = egru_layer(
        x, (leaves["y"], leaves["c"]), *(leaves[name] for name in ("weight_x", "weight_y", "bias", "threshold")),
        reset=reset, slope=2.0, width=0.7,
    )  # fmt: skip
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(events, (expected > 0).double())
    ((outputs * d_outputs).sum() + (events * d_events).sum()).backward()
    torch.testing.assert_close(x.grad, d_x)
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, grads[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("reset", ["before", "after"])
def test_egru_gradients_equal_finite_differences_without_events(reset):
    """With thresholds out of reach and a surrogate too narrow to matter, the cell is smooth."""
    layer = random_layer(5, 3, 2, seed=7)
    layer["threshold"] += 10
    x = torch.randn(4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    leaves = [layer[name].requires_grad_() for name in ("y", "c", "weight_x", "weight_y", "bias")]

    def run(x, y, c, weight_x, weight_y, bias):
        # A state carried through plain steps; its last value depends on everything but events.
        return egru_layer(x, (y, c), weight_x, weight_y, bias, layer["threshold"], reset=reset)[2][1]

    assert torch.autograd.gradcheck(run, (x, *leaves))


def test_egru_gradients_equal_finite_differences_with_events():
    """All neurons fire at every step and none changes sides within the difference: the gradient is exact again."""
    layer = random_layer(5, 3, 2, seed=8)
    layer["threshold"] = torch.full_like(layer["threshold"], 1e-3)
    layer["bias"][:3] += 3
    layer["bias"][6:] += 9
    x = torch.randn(4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    leaves = [layer[name].requires_grad_() for name in ("y", "c", "weight_x", "weight_y", "bias", "threshold")]

    def run(x, y, c, *parameters):
        outputs, events, state = egru_layer(x, (y, c), *parameters, width=1e-6)
        assert events.all()
        return outputs, state[1]

    assert torch.autograd.gradcheck(run, (x, *leaves))


def vocabulary(size):
    return Vocabulary([chr(0x61 + index) for index in range(size)], "char")


def model_of(cell="egru", reset="before", seed=3, threshold_mean=0.1, dropout=None, sizes=(7, 5), vocab=9, **keywords):
    configuration = configuration_of(
        vocabulary(vocab), cell=cell, embedding_size=sizes[-1], hidden_sizes=sizes, reset=reset
    )
    model = LanguageModel(configuration, dropout, **keywords)
    model.initialise(seed, threshold_mean=threshold_mean, embedding_scale=0.5)
    return model


@pytest.mark.parametrize(("cell", "reset"), [("egru", "before"), ("egru", "after"), ("lstm", "before")])
def test_carried_state_equals_one_long_run(cell, reset):
    model = model_of(cell, reset).double().eval()
    tokens = torch.randint(0, 9, (23, 3), generator=torch.Generator().manual_seed(1))
    whole, end, _ = model(tokens, model.zero_state(3))
    state, parts = model.zero_state(3), []
    for start, stop in ((0, 1), (1, 12), (12, 23)):
        part, state, _ = model(tokens[start:stop], state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts), whole)
    for (y, c), (end_y, end_c) in zip(state, end, strict=True):
        torch.testing.assert_close(y, end_y)
        torch.testing.assert_close(c, end_c)


def test_lstm_follows_its_equations():
    layer = random_layer(4, 3, 2, seed=5, gates=4)
    x = torch.randn(5, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    h, c = layer["y"], layer["c"]
    expected = []
    for x_t in x:
        i, f, g, o = (x_t @ layer["weight_x"].T + h @ layer["weight_y"].T + layer["bias"]).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        expected.append(h)
    outputs, state = lstm_layer(
        x, (layer["y"], layer["c"]), *(layer[name] for name in ("weight_x", "weight_y", "bias"))
    )
    torch.testing.assert_close(outputs, torch.stack(expected))
    torch.testing.assert_close(state, (h, c))


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_every_parameter_learns(cell):
    model = model_of(cell, dropout=Dropout(recurrent=0.5), sizes=(30, 20), threshold_mean=0.02)
    if cell == "egru":
        for layer in model.layers:
            layer.threshold.requires_grad_()
    tokens = torch.randint(0, 9, (12, 4), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    hidden, _, activity = model(tokens[:-1], model.zero_state(4))
    model.loss(hidden, tokens[1:]).backward()
    assert all(0 <= share <= 1 for share in activity.tolist())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_masks_are_locked_scaled_and_absent_in_evaluation():
    rates = Dropout(words=0.3, embedding=0.5, between=0.2, output=0.4, recurrent=0.7)
    model = model_of(dropout=rates, sizes=(60, 50), vocab=26)
    torch.manual_seed(0)
    masks = model.draw_masks(40)
    drawn = [(masks.words, (26, 1), 0.3), (masks.embedding, (40, 50), 0.5), (masks.outputs[0], (40, 60), 0.2),
             (masks.outputs[1], (40, 50), 0.4), (masks.recurrent[0], (180, 60), 0.7),
             (masks.recurrent[1], (150, 50), 0.7)]  # fmt: skip
    for mask, shape, rate in drawn:
        assert mask.shape == shape
        values = set(np.unique(mask.numpy()).tolist())
        assert values <= {0.0, float(np.float32(1 / (1 - rate)))}
        assert abs((mask == 0).float().mean().item() - rate) < (0.3 if shape[1] == 1 else 0.05)
    model.eval()
    masks = model.draw_masks(40)
    assert masks.words is None and masks.embedding is None
    assert masks.outputs == [None, None] and masks.recurrent == [None, None]


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "x", True])
def test_a_bad_dropout_rate_is_refused(rate):
    with pytest.raises(InputError, match="dropout of between must be a number from 0 to below 1"):
        Dropout(between=rate)


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_checkpoint_round_trip(cell, tmp_path):
    model = model_of(cell)
    save_checkpoint(model.to_checkpoint(vocabulary(9)), tmp_path / "network")
    again = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / "network"))
    assert again.configuration == model.configuration
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]
    for (name, parameter), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter, other), name


def test_thresholds_have_the_mean_that_is_asked_for():
    model = model_of(sizes=(2000, 5), threshold_mean=0.2)
    threshold = model.layers[0].threshold
    assert threshold.min() >= 0 and abs(threshold.mean().item() - 0.2) < 0.02
    assert not threshold.requires_grad
    assert (model_of(threshold_mean=0).layers[0].threshold == 0).all()


# The fused kernels


def run_both(steps, batch, sizes, inputs, dtype, dropped, train_thresholds=True):
    from egret.model.training import kernels

    generator = torch.Generator().manual_seed(steps + batch)
    layers = [
        random_layer(i, h, batch, seed=h + n) for n, (i, h) in enumerate(zip((inputs, *sizes[:-1]), sizes, strict=True))
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
                    layer["threshold"], slope=1.2, width=0.8,
                )  # fmt: skip
                hidden = hidden if mask is None else hidden * mask
                activity.append(events.mean())
                ends.append(end)
            activity = torch.stack(activity)
        else:
            if not train_thresholds:
                for layer in leaves:
                    layer["threshold"].requires_grad_(False)
            names = ("weight_x", "weight_y", "bias", "threshold")
            hidden, ends, activity = kernels.run_stack(
                x_leaf, [(layer["y"].detach(), layer["c"].detach()) for layer in leaves],
                *([layer[name] for layer in leaves] for name in names),
                [None if mask is None else mask.to(device, precision) for mask in masks],
                slope=1.2, width=0.8, dtype=dtype,
            )  # fmt: skip
        ((hidden * d_hidden.to(hidden)).sum() + (activity * d_activity.to(activity)).sum()).backward()
        result = {"hidden": hidden, "activity": activity, "x": x_leaf.grad}
        for index, (y, c) in enumerate(ends):
            result |= {f"{index}.y": y, f"{index}.c": c}
        for index, layer in enumerate(leaves):
            names = ("weight_x", "weight_y", "bias", "threshold")
            result |= {f"{index}.d_{name}": layer[name].grad for name in names if layer[name].grad is not None}
        results.append({name: tensor.detach().double().cpu() for name, tensor in result.items()})
    return results


def relative_errors(expected, got):
    return {name: ((got[name] - expected[name]).norm() / (expected[name].norm() + 1e-12)).item() for name in got}


@needs_kernels
@pytest.mark.parametrize(
    ("steps", "batch", "sizes", "inputs", "dropped"),
    [(1, 1, (1,), 1, False), (12, 3, (70, 5), 11, True), (23, 5, (64, 3, 65), 64, False), (3, 17, (130,), 66, True)],
)
def test_fused_layers_equal_the_plain_path(steps, batch, sizes, inputs, dropped):
    expected, got = run_both(steps, batch, sizes, inputs, torch.float32, dropped)
    assert set(expected) == set(got)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 2e-5, errors


@needs_kernels
def test_fused_layers_need_no_threshold_gradient():
    expected, got = run_both(4, 2, (5, 6), 3, torch.float32, True, train_thresholds=False)
    assert not any("threshold" in name for name in got)
    assert max(relative_errors(expected, got).values()) < 2e-5


def run_both_lstm(steps, batch, sizes, inputs, dtype, dropped):
    """Results and gradients of the plain path in float64 and of the fused path."""
    from egret.model.training import kernels

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
            hidden, ends = kernels.run_lstm_stack(x_leaf, states, *columns, own_masks, dtype=dtype)
        (hidden * d_hidden.to(hidden)).sum().backward()
        result = {"hidden": hidden, "x": x_leaf.grad}
        for index, (h, c) in enumerate(ends):
            result |= {f"{index}.h": h, f"{index}.c": c}
            result |= {f"{index}.d_{name}": leaves[index][name].grad for name in names}
        results.append({name: tensor.detach().double().cpu() for name, tensor in result.items()})
    return results


@needs_kernels
@pytest.mark.parametrize(
    ("steps", "batch", "sizes", "inputs", "dropped"),
    [(1, 1, (1,), 1, False), (12, 3, (70, 5), 11, True), (23, 5, (64, 3, 65), 64, False), (3, 17, (130,), 66, True)],
)
def test_fused_lstm_equals_the_plain_path(steps, batch, sizes, inputs, dropped):
    expected, got = run_both_lstm(steps, batch, sizes, inputs, torch.float32, dropped)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 2e-5, errors


@pytest.mark.skipif(DEVICE == "cpu", reason="bfloat16 matrix products are tested on a CUDA device")
@pytest.mark.parametrize(("batch", "sizes"), [(64, (190, 130)), (100, (300, 64, 70))])
def test_fused_lstm_in_bfloat16_is_close(batch, sizes):
    expected, got = run_both_lstm(20, batch, sizes, 90, torch.bfloat16, True)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 0.03, errors


@pytest.mark.skipif(DEVICE == "cpu", reason="bfloat16 matrix products are tested on a CUDA device")
@pytest.mark.parametrize(("batch", "sizes"), [(64, (190, 130)), (100, (300, 64, 70))])
def test_fused_layers_in_bfloat16_are_close(batch, sizes):
    # A rounding that moves a state over its threshold changes an event; few do.
    expected, got = run_both(20, batch, sizes, 90, torch.bfloat16, True)
    errors = relative_errors(expected, got)
    assert max(errors.values()) < 0.25, errors


@needs_kernels
@pytest.mark.parametrize(("count", "size", "vocab"), [(1, 1, 2), (7, 70, 65), (5, 64, 2100)])
def test_fused_readout_loss_equals_cross_entropy(count, size, vocab):
    from egret.model.training import kernels

    generator = torch.Generator().manual_seed(count)
    hidden, weight = torch.randn(count, size, generator=generator), torch.randn(vocab, size, generator=generator)
    bias, targets = torch.randn(vocab, generator=generator), torch.randint(0, vocab, (count,), generator=generator)
    reference = [tensor.double().requires_grad_() for tensor in (hidden, weight, bias)]
    logits = reference[0] @ reference[1].T + reference[2]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    leaves = [tensor.to(DEVICE).clone().requires_grad_() for tensor in (hidden, weight, bias)]
    got = kernels.readout_loss(*leaves, targets.to(DEVICE), torch.float32)
    got.backward()
    assert abs(got.item() - loss.item()) < 1e-5
    for leaf, expected in zip(leaves, reference, strict=True):
        torch.testing.assert_close(leaf.grad.double().cpu(), expected.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert abs(kernels.readout_loss(*leaves, targets.to(DEVICE), torch.float32).item() - loss.item()) < 1e-5


@needs_kernels
@pytest.mark.parametrize(("count", "size", "vocab", "share"), [(7, 70, 65, 0.7), (5, 64, 2100, 1.0), (3, 5, 10, 0.0)])
def test_fused_readout_loss_takes_taught_probabilities(count, size, vocab, share):
    from egret.model.training import kernels

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
    got = kernels.readout_loss(*leaves, targets.to(DEVICE), torch.float32, taught=taught.to(DEVICE), share=share)
    got.backward()
    assert abs(got.item() - loss.item()) < 1e-5 * max(1, loss.item())
    for leaf, expected in zip(leaves, reference, strict=True):
        torch.testing.assert_close(leaf.grad.double().cpu(), expected.grad, rtol=1e-4, atol=2e-6)


def test_taught_probabilities_are_a_share_of_the_loss():
    model = LanguageModel(configuration_of(Vocabulary(["a", "b", "c"], "char"), cell="egru", embedding_size=4,
                                           hidden_sizes=(4,)))  # fmt: skip
    model.initialise(3)
    hidden, targets = torch.randn(5, 2, 4), torch.randint(0, 3, (5, 2))
    certain = torch.nn.functional.one_hot(targets, 3).float()
    taught = torch.randn(5, 2, 3).softmax(-1)
    hard, soft = model.loss(hidden, targets), model.loss(hidden, targets, taught, 1.0)
    torch.testing.assert_close(model.loss(hidden, targets, certain, 0.6), hard)
    torch.testing.assert_close(model.loss(hidden, targets, taught, 0.6), 0.4 * hard + 0.6 * soft)
    likelihood = model.logits(hidden).log_softmax(-1)
    torch.testing.assert_close(soft, -(taught * likelihood).sum(-1).mean())
