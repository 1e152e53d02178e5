"""What events, pruning and folding gain: a network beside its counterparts that lack some of them, all simulated."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egret.host.counterparts import dense_counterpart, unpruned_counterpart
from egret.host.measure import (
    DENSE_STEPS,
    Measurement,
    measure,
    simulation_images,
)
from egret.model.files import write_aside
from egret.model.integer import IntegerNetwork
from egret.model.sequences import Sequences

__all__ = ["Variant", "compare", "plot"]

_CYCLES = 20_000_000
"""Of a counterpart without sparsity, which is run for fewer steps where these take long."""


@dataclass(frozen=True)
class Variant:
    """One network measured for a comparison.

    Attributes
    ----------
    name : str
        What is made use of.
    measurement : Measurement
    """

    name: str
    measurement: Measurement

    def speed_up(self, dense: "Variant") -> float:
        """Cycles per token of another variant, ``dense``, over those of this one."""
        return dense.measurement.cycles_per_token / self.measurement.cycles_per_token

    def theory(self, dense: "Variant") -> float:
        """`speed_up` over ``dense`` in multiplications."""
        return dense.measurement.macs_per_token / self.measurement.macs_per_token


def compare(
    network: IntegerNetwork,
    inputs: np.ndarray | Sequences,
    *,
    lanes: int | None,
    folded_tokens: int,
    open_board: Callable[..., AbstractContextManager[Any]],
    progress: Callable[[str], AbstractContextManager[Any]],
) -> list[Variant]:
    """Measure a network, and its counterparts that lack events, zeros or both, on one and the same core.

    Parameters
    ----------
    network : IntegerNetwork
    inputs : np.ndarray of int, shape [N + 1], or Sequences
        A text, or what else the network takes.
    lanes : int or None
        Of the core; None: as many as by default.
    folded_tokens : int
        Tokens with folded rows, of a further variant; 0 leaves it out.
    open_board, progress : callable
        As for `egret.host.demo.run`.

    Returns
    -------
    list of Variant
        The first one makes use of nothing: every neuron is active, no weight pruned.
    """
    # Where every neuron is to be active, no number that enters is zero.
    active = inputs
    if isinstance(inputs, Sequences):
        active = Sequences(np.maximum(inputs.values, 1), inputs.classes)
    counterparts = {
        "nothing": (dense_counterpart(network), active),
        "events": (unpruned_counterpart(network), inputs),
        "pruning": (dense_counterpart(network, pruned=True), active),
    }
    others = [counterpart for counterpart, _ in counterparts.values()]
    image, *images = simulation_images(network, *others, lanes=lanes, weight_bits=8)
    weights = sum(layer.weight_x.size + layer.weight_y.size for layer in network.layers)
    steps = max(2, min(DENSE_STEPS, _CYCLES * image.configuration.lanes // weights))
    variants = []
    with open_board(image.configuration) as board:
        for (name, (its_network, its_inputs)), its_image in zip(counterparts.items(), images, strict=True):
            with progress(name) as show:
                some = _first(its_inputs, steps)
                variants.append(Variant(name, measure(board, its_image, its_network, some, progress=show)))
        with progress("events and pruning") as show:
            variants.append(Variant("events and pruning", measure(board, image, network, inputs, progress=show)))
    if folded_tokens:
        name = "events, pruning and folded rows"
        (image,) = simulation_images(network, lanes=lanes, weight_bits=8, folded_tokens=folded_tokens)
        with open_board(image.configuration) as board, progress(name) as show:
            variants.append(Variant(name, measure(board, image, network, inputs, progress=show)))
    return variants


def _first(inputs, steps):
    """So many of the first steps, or whole sequences of as many."""
    if isinstance(inputs, Sequences):
        return inputs.first(min(-(-steps // inputs.steps), len(inputs)))
    return inputs[: steps + 1]


def plot(path: str | Path, title: str, measurement: Measurement, variants: list[Variant]) -> None:
    """Draw where the lanes' cycles go and, where there are variants, what each gains; the suffix names the format.

    Parameters
    ----------
    path : str or Path
    title : str
    measurement : Measurement
    variants : list of Variant
        May be empty.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 2 if variants else 1, figsize=(11 if variants else 6, 3.6), squeeze=False, layout="constrained"
    )
    figure.suptitle(title.replace("$", r"\$"))  # a name is no formula
    shares = {name: share for name, share in measurement.shares.items() if share >= 0.0005}
    axis = axes[0][0]
    bars = axis.barh(list(shares), [100 * share for share in shares.values()], color="#4477aa")
    axis.bar_label(bars, fmt="%.1f %%", padding=3)
    axis.invert_yaxis()
    axis.set(xlim=(0, 115), xlabel=f"share of the cycles of {measurement.lanes} lanes, in %")
    if variants:
        axis, (dense, *rest) = axes[0][1], variants
        names = [variant.name.replace(" and ", "\nand ") for variant in rest]
        for offset, label, color, values in (
            (-0.2, "measured", "#4477aa", [variant.speed_up(dense) for variant in rest]),
            (0.2, "by multiplications", "#ccbb44", [variant.theory(dense) for variant in rest]),
        ):
            bars = axis.barh([place + offset for place in range(len(rest))], values, 0.4, label=label, color=color)
            axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_yticks(range(len(rest)), names)
        axis.invert_yaxis()
        axis.set(xscale="log", xlabel="speed-up over every neuron active, no weight pruned")
        axis.set_xlim(1, 2.2 * max(variant.theory(dense) for variant in rest))
        axis.legend(loc="upper right")
        axis.xaxis.set_major_formatter("{x:g}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:].lower())
    pyplot.close(figure)
    write_aside(path, drawn.getvalue())
