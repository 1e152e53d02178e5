"""Random recurrent layers."""

import torch

__all__ = ["random_layer"]


def random_layer(inputs, size, batch, seed, gates=3, reset="before"):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, low=-1.0, high=1.0):
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low

    layer = {
        "weight_x": draw(gates * size, inputs),
        "weight_y": draw(gates * size, size),
        "bias": draw(gates * size),
        "threshold": draw(size, low=0, high=0.4),
        "y": draw(batch, size, low=0),
        "c": draw(batch, size, low=-0.5, high=0.5),
    }
    if reset == "after":
        layer["bias_y"] = draw(size)
    return layer
