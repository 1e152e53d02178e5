"""Runs of the simulated core that vary one thing each, and the fit of the model of cost to them (`bench.scaling`)."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egret.host.board import Board
from egret.host.cost.model import Constants, cycles, packed
from egret.host.cost.work import Work, columns_taken, resident_shares
from egret.host.measure import measure, sample, simulation_images
from egret.host.traffic import weight_bytes_per_token
from egret.host.transport import open_virtual
from egret.model.compiler.configuration import RESIDENT_BYTES, Configuration
from egret.model.compiler.layouts import memory_sections
from egret.model.errors import InputError
from egret.model.files import json_text, write_aside
from egret.model.integer import IntegerEngine, IntegerLayer, IntegerNetwork
from egret.model.integer_file import load_integer
from tests.support.networks import few_values, random_network

__all__ = ["LARGE", "NETWORKS", "POINTS", "TOKENS", "Point", "active_network", "fit", "gather", "run", "tokens_of"]

NETWORKS = Path(__file__).parent.parent / "model" / "networks"
TOKENS = 60
FORMAT = 2
"""Of the file of results; counts changes of what a run's record means."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run.

    Parameters
    ----------
    name : str
        What it varies.
    fitted : bool
        Whether the model is fitted to it, or only compared with it.
    network : str or None
        A file in ``model/networks``; None for a random network with the following.
    hidden, embedding, vocabulary
        Its shape.
    density, activity : float
        Share of weights that are not zero, and about the share of neurons with an event in a step.
    lanes, store, memory_ratio, weight_bits, folded_tokens, resident_bytes
        Of the core; ``folded_tokens`` of None lets as many rows as fit be in an SDRAM.
    tokens : int
        Steps.
    """

    name: str
    fitted: bool = True
    network: str | None = None
    hidden: tuple[int, ...] = (256, 256)
    embedding: int = 128
    vocabulary: int = 64
    density: float = 0.15
    activity: float = 0.15
    lanes: int = 8
    store: str = "bram"
    memory_ratio: int = 1
    weight_bits: int = 4
    folded_tokens: int | None = 0
    resident_bytes: int = 0
    tokens: int = TOKENS


def _points() -> list[Point]:
    sdram: dict[str, Any] = {"store": "sdram", "lanes": 2}
    held: dict[str, Any] = {"fitted": False}
    more_active: list[tuple[str, float, dict[str, Any]]] = [
        ("64 neurons a layer", 0.4, {"hidden": (64, 64)}),
        ("512 neurons a layer", 0.3, {"hidden": (512, 512)}),
        ("one layer", 0.05, {"hidden": (256,)}),
        ("density 5%", 0.3, {"density": 0.05}),
        ("2 lanes", 0.3, {"lanes": 2}),
        ("32 lanes", 0.4, {"lanes": 32}),
        ("SDRAM", 0.4, sdram),
    ]
    return [
        Point(name="base"),
        *(Point(name=f"{size} neurons a layer", hidden=(size, size)) for size in (64, 128, 512)),
        Point(name="one layer", hidden=(256,)),
        *(Point(name=f"density {density:.0%}", density=density) for density in (0.05, 0.3)),
        *(Point(name=f"activity {activity:.0%}", activity=activity) for activity in (0.05, 0.4)),
        *(Point(name=f"{lanes} lanes", lanes=lanes) for lanes in (1, 2, 16, 32)),
        Point(name="4000 words", vocabulary=4000),
        Point(name="folded rows", folded_tokens=64),
        Point(name="8-bit weights", weight_bits=8),
        Point(name="SDRAM", **sdram),
        Point(name="SDRAM, 512 neurons", hidden=(512, 512), **sdram),
        Point(name="SDRAM, density 5%", density=0.05, **sdram),
        Point(name="SDRAM, folded rows", folded_tokens=64, **sdram),
        *(
            Point(name=f"{name}, activity {activity:.0%}", activity=activity, **held, **others)
            for name, activity, others in more_active
        ),
        Point(
            name="three layers, 4 lanes",
            hidden=(192, 320, 128),
            embedding=64,
            density=0.2,
            activity=0.1,
            lanes=4,
            **held,
        ),
        Point(
            name="two unequal layers, 16 lanes",
            hidden=(384, 192),
            embedding=256,
            density=0.1,
            activity=0.3,
            lanes=16,
            **held,
        ),
        Point(name="one sparse layer, 32 lanes", hidden=(512,), density=0.04, activity=0.4, lanes=32, **held),
        Point(
            name="SDRAM, two unequal layers",
            hidden=(320, 448),
            embedding=200,
            density=0.08,
            activity=0.3,
            **held,
            **sdram,
        ),
        Point(name="SDRAM, 8-bit weights", weight_bits=8, activity=0.3, store="sdram", lanes=4, **held),
    ]


POINTS = _points()
LARGE = [
    *(
        Point(name=f"PTB 85 %, {lanes} lanes", network="ptb-egru-85", lanes=lanes, tokens=20, fitted=False)
        for lanes in (8, 16, 32)
    ),
    *(
        Point(
            name=f"PTB {share} %, SDRAM",
            network=f"ptb-egru-{share}",
            store="sdram",
            memory_ratio=2,
            folded_tokens=None,
            resident_bytes=RESIDENT_BYTES,
            tokens=20,
            fitted=False,
        )
        for share in (85, 95)
    ),
]
"""Of the networks in ``model/networks``."""


def active_network(point: Point, *, seed: int = 1, steps: int = 24, streams: int = 4) -> IntegerNetwork:
    """The random network of a point, drawn with ``seed``: its thresholds are set, layer by layer,
    so that the activity over so many ``steps`` of ``streams`` is about right."""
    network = random_network(
        seed,
        vocabulary=point.vocabulary,
        embedding=point.embedding,
        hidden=point.hidden,
        density=point.density,
        shift=(8, 10),
        tied=False,
    )
    if point.weight_bits == 4:
        network = few_values(network)
    rng = np.random.default_rng(seed)
    inputs = 2 * network.embedding[rng.integers(0, point.vocabulary, (steps, streams))].astype(np.int32)
    layers = []
    for layer in network.layers:
        spread = rng.uniform(0.6, 1.4, len(layer.threshold))

        def outputs(middle: int, layer=layer, spread=spread, inputs=inputs) -> tuple[IntegerLayer, np.ndarray]:
            tried = dataclasses.replace(layer, threshold=(middle * spread).astype(np.int32))
            engine = IntegerEngine(
                dataclasses.replace(
                    network,
                    layers=(tried,),
                    vocabulary=None,
                    embedding=np.zeros((0, inputs.shape[-1]), np.int8),
                    readout_weight=None,
                    readout_bias=None,
                )
            )
            engine.reset_state(streams)
            return tried, np.stack([engine.step(step)[-1].y for step in inputs])

        low, high = 0, 1 << 14
        while high - low > 128:
            middle = (low + high) // 2
            share = (outputs(middle)[1][steps // 4 :] != 0).mean()
            low, high = (middle, high) if share > point.activity else (low, middle)
        tried, inputs = outputs(high)
        layers.append(tried)
    return dataclasses.replace(network, layers=tuple(layers))


def tokens_of(point: Point, network: IntegerNetwork, text: str | None, *, seed: int = 1) -> np.ndarray:
    """Tokens of a run of ``point``: random ones, drawn with ``seed``, those of ``text``, or the network's own."""
    if point.network is None:
        return np.random.default_rng(seed).integers(0, point.vocabulary, point.tokens + 1).astype(np.int32)
    if text is None:
        return sample(network, point.tokens + 1)
    assert network.vocabulary is not None
    return network.vocabulary.read(text)[: point.tokens + 1]


def run(point: Point, *, text: str | None = None, open_board: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Simulate a point, on ``text`` or its own tokens: its record, for JSON. ``open_board`` takes a configuration.

    Raises `InputError` where an event is not the integer network's, or a tool is missing.
    """
    network = active_network(point) if point.network is None else load_integer(NETWORKS / f"{point.network}.egret")
    (image,) = simulation_images(
        network,
        lanes=point.lanes,
        store=point.store,
        memory_ratio=point.memory_ratio,
        weight_bits=point.weight_bits,
        folded_tokens=point.folded_tokens,
        resident_bytes=point.resident_bytes,
    )
    configuration = image.configuration
    ids = tokens_of(point, network, text)
    with (open_board or _open_board)(configuration) as board:
        measurement = measure(board, image, network, ids)
    if measurement.mismatches:
        raise InputError(f"{point.name}: {measurement.first_mismatch}")
    counters, sources = measurement.counters, measurement.evaluation.sources
    assert sources is not None
    steps = counters["tokens"]
    taken = columns_taken(network, sources, ids, configuration.folded_tokens)
    work = Work.of(
        network,
        sources,
        ids,
        lanes=point.lanes,
        store=point.store,
        weight_bits=point.weight_bits,
        folded_tokens=configuration.folded_tokens,
        width=configuration.beat_bits,
        resident=resident_shares(image, taken),
    )
    return {
        "point": dataclasses.asdict(point),
        "cycles": counters["cycles"] / steps,
        "words": counters["words"] / steps,
        "macs": counters["macs"] / steps,
        "shares": measurement.shares,
        "activity": measurement.evaluation.activity,
        "bytes": weight_bytes_per_token(image, measurement, ids, network.embedding),
        "weight_memory": configuration.weight_memory_bytes,
        "memory": sum(section.words * section.word_bits for section in memory_sections(configuration).values()) / 8,
        "folded_tokens": configuration.folded_tokens,
        "bytes_sent": measurement.bytes_sent / steps,
        "bytes_received": measurement.bytes_received / steps,
        "work": work.to_json(),
    }


def gather(
    points: list[Point],
    path: Path | None,
    *,
    text: str | None = None,
    progress: Callable[[str], object] | None = None,
    open_board: Callable[..., Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Records of points, by name: those of a file where they are there, the others run and added to it.

    Parameters
    ----------
    points : list of Point
    path : Path or None
    text : str or None
        For the points with a network.
    progress : callable, optional
        Called before each run as ``progress(name)``.
    open_board : callable, optional
        As for `run`.

    Returns
    -------
    dict of str to dict

    Raises
    ------
    InputError
        The file is another one.
    """
    kept = {}
    if path is not None and path.exists():
        try:
            content = json.loads(path.read_text())
            kept = content["runs"] if content["format"] == FORMAT else {}
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{path}: not a file of results of this script; name another one") from None
    found = {}
    for point in points:
        if progress is not None:
            progress(point.name)
        wanted = json.loads(json.dumps(dataclasses.asdict(point)))
        if kept.get(point.name, {}).get("point") != wanted:
            kept[point.name] = run(point, text=text, open_board=open_board)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_aside(path, json_text({"format": FORMAT, "runs": kept}).encode())
        found[point.name] = kept[point.name]
    return found


def _open_board(configuration: Configuration) -> Board:
    return Board(open_virtual(configuration))


STARTS = [Constants(passes=passes, gate=gate) for passes in (0.5, 2.0) for gate in (10.0, 40.0)]
"""From where the fit begins: on either side of where gates or update pass decide."""


def fit(works: list[Work], measured: list[float], *, rounds: int = 60) -> Constants:
    """Constants with the least squares of the relative error, by damped Gauss-Newton steps in their logarithms.

    Parameters
    ----------
    works : list of Work
    measured : list of float
        Cycles of a token of each.
    rounds : int
        At most, from each of `STARTS`.

    Returns
    -------
    Constants
    """
    words = [packed(work) for work in works]

    def errors(logs: np.ndarray) -> np.ndarray:
        constants = Constants(*np.exp(logs))
        return np.array(
            [
                np.log(cycles(work, constants, own) / true)
                for work, own, true in zip(works, words, measured, strict=True)
            ]
        )

    def descend(logs: np.ndarray, damping: float = 1e-2, step: float = 1e-4) -> tuple[float, np.ndarray]:
        now = errors(logs)
        for _ in range(rounds):
            slopes = np.stack([(errors(logs + step * one) - now) / step for one in np.eye(len(logs))], axis=1)
            square = slopes.T @ slopes
            move = -np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), slopes.T @ now)
            then = errors(logs + np.clip(move, -1, 1))
            better = now @ now - then @ then
            if better > 0:
                logs, now, damping = logs + np.clip(move, -1, 1), then, max(damping / 4, 1e-9)
                if better < 1e-12:
                    break
            else:
                damping *= 4
        return float(now @ now), logs

    _, best = min((descend(np.log(dataclasses.astuple(start))) for start in STARTS), key=lambda found: found[0])
    return Constants(*np.exp(best).tolist())
