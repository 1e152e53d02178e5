"""The recurrent cells: equations and gradients."""

import pytest
import torch

from egret.model.training.cells import egru_layer, event, lstm_layer
from tests.support.layers import random_layer

PARAMETERS = ("weight_x", "weight_y", "bias", "threshold", "bias_y")
SIZES = [(1, 1, 1, 1), (5, 3, 7, 11), (4, 2, 13, 5)]  # T, B, I, H


def reference_gradients(x, layer, d_outputs, d_events, slope, width):
    """Forward and backward of one layer written out by hand, step by step, from the equations of the cell."""
    weight_x, weight_y, bias, threshold = (layer[name] for name in ("weight_x", "weight_y", "bias", "threshold"))
    y, c, size, after = layer["y"], layer["c"], threshold.shape[0], "bias_y" in layer
    (ux, rx, zx), (uy, ry, zy) = weight_x.split(size), weight_y.split(size)
    bu, br, bz = bias.split(size)
    tape, outputs = [], []
    for x_t in x:
        u = torch.sigmoid(x_t @ ux.T + y @ uy.T + bu)
        r = torch.sigmoid(x_t @ rx.T + y @ ry.T + br)
        m = y @ zy.T + layer.get("bias_y", 0)
        z = torch.tanh(x_t @ zx.T + bz + (r * m if after else (r * y) @ zy.T))
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
        if after:
            d_r, d_m = a_z * m, a_z * r
            dy_next = d_m @ zy
            grads["weight_y"][2 * size :] += d_m.T @ y
            grads["bias_y"] += d_m.sum(0)
        else:
            d_ry = a_z @ zy
            d_r, dy_next = d_ry * y, d_ry * r
            grads["weight_y"][2 * size :] += a_z.T @ (r * y)
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
    layer = random_layer(inputs, size, batch, seed=sum(sizes), reset=reset)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(steps, batch, inputs, generator=generator, dtype=torch.float64, requires_grad=True)
    d_outputs, d_events = torch.randn(2, steps, batch, size, generator=generator, dtype=torch.float64)
    expected, d_x, grads = reference_gradients(x.detach(), layer, d_outputs, d_events, 2.0, 0.7)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in layer.items()}
    outputs, events, _ = egru_layer(
        x, (leaves["y"], leaves["c"]), *(leaves.get(name) for name in PARAMETERS), slope=2.0, width=0.7,
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
    layer = random_layer(5, 3, 2, seed=7, reset=reset)
    layer["threshold"] += 10
    x = torch.randn(4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    names = ("y", "c", "weight_x", "weight_y", "bias", *(["bias_y"] if reset == "after" else []))
    leaves = [layer[name].requires_grad_() for name in names]

    def run(x, y, c, weight_x, weight_y, bias, *bias_y):
        # A state carried through plain steps; its last value depends on everything but events.
        return egru_layer(x, (y, c), weight_x, weight_y, bias, layer["threshold"], *bias_y)[2][1]

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
