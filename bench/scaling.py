"""How cycles, bytes and memory of a token grow: runs of the simulated core, and a model fitted to them.

    python -m bench.scaling --results build/scaling.json [--text ptb.test.txt] [--large] [--plot scaling.svg] [--json]

Random networks run on the virtual board, every event checked; each point varies one thing of the first one. What has
run is kept in the file of ``--results`` and not run again. Then the model says what the networks in ``model/networks``
take, on a text or their own samples, larger ones of their kind, and boards; with ``--large`` these networks run too.

The model knows of a network what its columns hold and how often each is taken, of a core its lanes and its memory:

- `words_of` tells the words that columns take. Nothing in it is fitted. A column of k weights needs the larger of
  its slots (weights, and entries that bridge long runs of zeros) over the lanes, rounded up, and of the weights in its
  fullest bank, as a word may add to a bank once.
- `cycles` adds the phases of a step up, each as long as its words or, where that is more, what the words wait for: a
  memory, save for the words that are in block RAM beside it; an element of the embedding a cycle, the gates of a reset
  pass, the update pass beside it. Its five `Constants` are fitted to some of the runs by least squares of the relative
  error; the other runs are held out.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from math import ceil, lgamma
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from egret.boards.catalogue import board_named
from egret.host.board import Board
from egret.host.measure import measure, pipeline_images, sample, simulation_images
from egret.host.speed import Speed
from egret.host.traffic import weight_bytes_per_token
from egret.host.transport import open_virtual
from egret.model.compiler.compile import column_words, compile_image, configuration_for, row_format
from egret.model.compiler.configuration import RESIDENT_BYTES, RUN_BITS, SDRAM_BITS, SDRAM_WORDS, SEGMENTS, WIDEST_RUN
from egret.model.compiler.image import memory_sections
from egret.model.compiler.lookups import column_lookups, estimate_lookups
from egret.model.counts import SourceCounts, integer_columns
from egret.model.errors import InputError, needs
from egret.model.files import write_aside
from egret.model.integer import IntegerEngine
from egret.model.integer_file import load_integer
from egret.model.tokens import read_text
from egret.rtl import protocol
from egret.rtl.uart import divisor_for
from tests.support.networks import few_values, random_network

NETWORKS = Path(__file__).parent.parent / "model" / "networks"
STUDIED = ("ptb-egru-85", "ptb-egru-95")
"""The networks that the model is asked about."""
TOKENS = 60
FORMAT = 1
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
    lanes, store, weight_bits, folded, resident_bytes
        Of the core; a ``folded`` of None lets as many rows as fit be in an SDRAM.
    tokens : int
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
    weight_bits: int = 4
    folded: int | None = 0
    resident_bytes: int = 0
    tokens: int = TOKENS


def _points():
    sdram = {"store": "sdram", "lanes": 2}
    held = {"fitted": False}
    return [
        Point(name="base"),
        *(Point(name=f"{size} neurons a layer", hidden=(size, size)) for size in (64, 128, 512)),
        Point(name="one layer", hidden=(256,)),
        *(Point(name=f"density {density:.0%}", density=density) for density in (0.05, 0.3)),
        *(Point(name=f"activity {activity:.0%}", activity=activity) for activity in (0.05, 0.4)),
        *(Point(name=f"{lanes} lanes", lanes=lanes) for lanes in (1, 2, 16, 32)),
        Point(name="4000 words", vocabulary=4000),
        Point(name="folded rows", folded=64),
        Point(name="8-bit weights", weight_bits=8),
        Point(name="SDRAM", **sdram),
        Point(name="SDRAM, 512 neurons", hidden=(512, 512), **sdram),
        Point(name="SDRAM, density 5%", density=0.05, **sdram),
        Point(name="SDRAM, folded rows", **sdram | {"folded": 64}),
        *(
            Point(name=f"{name}, activity {activity:.0%}", activity=activity, **held, **others)
            for name, activity, others in (
                ("64 neurons a layer", 0.4, {"hidden": (64, 64)}),
                ("512 neurons a layer", 0.3, {"hidden": (512, 512)}),
                ("one layer", 0.05, {"hidden": (256,)}),
                ("density 5%", 0.3, {"density": 0.05}),
                ("2 lanes", 0.3, {"lanes": 2}),
                ("32 lanes", 0.4, {"lanes": 32}),
                ("SDRAM", 0.4, sdram),
            )
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
            lanes=4,
            store="sdram",
            folded=None,
            resident_bytes=RESIDENT_BYTES,
            tokens=20,
            fitted=False,
        )
        for share in (85, 95)
    ),
]
"""Of the networks in ``model/networks``."""


# Runs


def active_network(point, *, seed=1, steps=24, streams=4):
    """The random network of a point: its thresholds are set, layer by layer, so that the activity is about right."""
    parameters = random_network(
        seed,
        vocabulary=point.vocabulary,
        embedding=point.embedding,
        hidden=point.hidden,
        density=point.density,
        shift=(8, 10),
        tied=False,
    )
    if point.weight_bits == 4:
        parameters = few_values(parameters)
    rng = np.random.default_rng(seed)
    inputs = 2 * parameters.embedding[rng.integers(0, point.vocabulary, (steps, streams))].astype(np.int32)
    layers = []
    for layer in parameters.layers:
        spread = rng.uniform(0.6, 1.4, len(layer.threshold))

        def outputs(middle, layer=layer, spread=spread, inputs=inputs):
            tried = dataclasses.replace(layer, threshold=(middle * spread).astype(np.int32))
            network = IntegerEngine(
                dataclasses.replace(
                    parameters,
                    layers=(tried,),
                    vocabulary=None,
                    embedding=np.zeros((0, inputs.shape[-1]), np.int8),
                    readout_weight=None,
                    readout_bias=None,
                )
            )
            network.reset_state(streams)
            return tried, np.stack([network.step(step)[-1].y for step in inputs])

        low, high = 0, 1 << 14
        while high - low > 128:
            middle = (low + high) // 2
            share = (outputs(middle)[1][steps // 4 :] != 0).mean()
            low, high = (middle, high) if share > point.activity else (low, middle)
        tried, inputs = outputs(high)
        layers.append(tried)
    return dataclasses.replace(parameters, layers=tuple(layers))


def texts(point, parameters, text, *, seed=1):
    """Tokens of a point's run: random ones, those of a text, or the network's own."""
    if point.network is None:
        return np.random.default_rng(seed).integers(0, point.vocabulary, point.tokens + 1).astype(np.int32)
    if text is None:
        return sample(parameters, point.tokens + 1)
    return parameters.vocabulary.encode(read_text(text))[: point.tokens + 1]


def run(point, *, text=None, open_board=None):
    """Simulate a point: its record, a dict for JSON.

    Raises `InputError` where an event is not the integer network's, or a tool is missing.
    """
    parameters = active_network(point) if point.network is None else load_integer(NETWORKS / f"{point.network}.egret")
    (image,) = simulation_images(
        parameters,
        lanes=point.lanes,
        store=point.store,
        weight_bits=point.weight_bits,
        folded_tokens=point.folded,
        resident_bytes=point.resident_bytes,
    )
    configuration = image.configuration
    ids = texts(point, parameters, text)
    with (open_board or _open_board)(configuration) as board:
        measurement = measure(board, image, parameters, ids)
    if measurement.mismatches:
        raise InputError(f"{point.name}: {measurement.first_mismatch}")
    counters, steps = measurement.counters, measurement.counters["tokens"]
    work = Work.of(
        parameters,
        measurement.evaluation.sources,
        ids,
        folded=configuration.folded_tokens,
        lanes=point.lanes,
        store=point.store,
        weight_bits=point.weight_bits,
        resident=resident_shares(
            image, taken_by(parameters, measurement.evaluation.sources, ids, configuration.folded_tokens)
        ),
    )
    return {
        "point": dataclasses.asdict(point),
        "cycles": counters["cycles"] / steps,
        "words": counters["words"] / steps,
        "macs": counters["macs"] / steps,
        "shares": measurement.shares,
        "activity": measurement.evaluation.activity,
        "bytes": weight_bytes_per_token(image, measurement, ids, parameters.embedding),
        "weight_memory": configuration.weight_memory_bytes,
        "memory": sum(section.words * section.word_bits for section in memory_sections(configuration)) / 8,
        "folded": configuration.folded_tokens,
        "bytes_sent": measurement.bytes_sent / steps,
        "bytes_received": measurement.bytes_received / steps,
        "work": work.to_json(),
    }


def gather(points, path, *, text=None, progress=None, open_board=None):
    """Records of points, by name: those of a file where they are there, the others run and added to it.

    Parameters
    ----------
    points : list of Point
    path : pathlib.Path or None
    text : str or None
        For the points with a network.
    progress : callable, optional
        Called before each run as ``progress(name)``.
    open_board : callable, optional
        As for `run`.
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
                write_aside(path, json.dumps({"format": FORMAT, "runs": kept}).encode())
        found[point.name] = kept[point.name]
    return found


def _open_board(configuration):
    return Board(open_virtual(configuration))


# What the model knows of a run


@dataclass(frozen=True)
class Columns:
    """The columns of one matrix, those of one length together.

    Attributes
    ----------
    rows : int
        Length of a column, zeros included.
    weights, number, taken : np.ndarray of float
        Weights that are not zero in a column; how many such columns there are; how many of them a token takes.
    regions : tuple of (float, float)
        Parts of a column of different density: their share of the rows and of the weights. Those of x are the gates u
        and r, and gate z.
    """

    rows: int
    weights: np.ndarray
    number: np.ndarray
    taken: np.ndarray
    regions: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    @classmethod
    def of(cls, rows, weights, taken, regions=((1.0, 1.0),)):
        """From the weights of each column and how often a token takes it."""
        lengths, place = np.unique(weights, return_inverse=True)
        return cls(
            rows, lengths.astype(float), np.bincount(place).astype(float), np.bincount(place, weights=taken), regions
        )

    def scaled(self, factor):
        """Of a network ``factor`` times as wide, as dense and as active."""
        return Columns(
            self.rows * factor, self.weights * factor, self.number * factor, self.taken * factor, self.regions
        )


@dataclass(frozen=True)
class Work:
    """A network and a core, as the model sees them.

    Attributes
    ----------
    hidden : tuple of int
    embedding, vocabulary : int
        ``vocabulary`` is 0 where events enter.
    matrices : tuple of tuple of Columns
        Of each layer: x, y and s.
    events : tuple of float
        Of each layer in a step.
    lanes, weight_bits : int
    store : str
    folded, folded_share : int, float
        Tokens with a row, and how much of the text they are.
    row_bits : int
        Of a number in a row.
    width : int
        Bits a cycle that the memory brings, where that is not block RAM.
    resident : tuple of tuple of float
        Of each matrix: which share of the words that are taken comes from block RAM beside such a memory.
    """

    hidden: tuple[int, ...]
    embedding: int
    vocabulary: int
    matrices: tuple[tuple[Columns, ...], ...]
    events: tuple[float, ...]
    lanes: int
    store: str
    weight_bits: int = 4
    folded: int = 0
    folded_share: float = 0.0
    row_bits: int = 24
    width: int = SDRAM_BITS
    resident: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, parameters, sources, ids, *, folded=0, **core):
        """Of a text on a core.

        Parameters
        ----------
        parameters : IntegerNetwork
        sources : SourceCounts
            Over the text.
        ids : np.ndarray of int, shape [N + 1]
            The text.
        folded : int
        **core
            Members that are the core's.
        """
        tokens, steps, matrices = np.asarray(ids[:-1]), sources.steps, []
        taken = taken_by(parameters, sources, ids, folded)
        for number, (columns, (x, y, s)) in enumerate(zip(integer_columns(parameters), taken, strict=True)):
            of_z = np.count_nonzero(parameters.layers[number].weight_x[columns.rows_y :]) / max(columns.x.sum(), 1)
            matrices.append(
                (
                    Columns.of(columns.rows_x, columns.x, x, ((2 / 3, 1 - of_z), (1 / 3, of_z))),
                    Columns.of(columns.rows_y, columns.y, y),
                    Columns.of(columns.rows_s, columns.s, s),
                )
            )
        vocabulary, embedding = parameters.embedding.shape
        return cls(
            parameters.hidden,
            embedding,
            vocabulary,
            matrices=tuple(matrices),
            events=tuple(count / steps for count in sources.events),
            folded=folded,
            folded_share=float(np.mean(tokens < folded)),
            row_bits=row_format(parameters, folded or None)[0],
            **core,
        )

    def wider(self, factor):
        """The same with layers and embedding ``factor`` times as wide, as dense and as active."""
        return dataclasses.replace(
            self,
            hidden=tuple(size * factor for size in self.hidden),
            embedding=self.embedding * factor,
            matrices=tuple(tuple(columns.scaled(factor) for columns in layer) for layer in self.matrices),
            events=tuple(factor * count for count in self.events),
        )

    def part(self, first, last):
        """The layers from ``first`` to before ``last``, counted from 0, on a core of their own."""
        inputs = (
            {}
            if first == 0
            else {"embedding": self.hidden[first - 1], "vocabulary": 0, "folded": 0, "folded_share": 0.0}
        )
        return dataclasses.replace(
            self,
            hidden=self.hidden[first:last],
            matrices=self.matrices[first:last],
            events=self.events[first:last],
            resident=self.resident[first:last],
            **inputs,
        )

    def to_json(self):
        return dataclasses.asdict(self) | {
            "matrices": [
                [
                    {
                        "rows": one.rows,
                        "regions": one.regions,
                        **{name: getattr(one, name).tolist() for name in ("weights", "number", "taken")},
                    }
                    for one in layer
                ]
                for layer in self.matrices
            ]
        }

    @classmethod
    def from_json(cls, values):
        def columns(one):
            return Columns(
                one["rows"],
                *(np.array(one[name]) for name in ("weights", "number", "taken")),
                tuple(map(tuple, one["regions"])),
            )

        return cls(
            **values
            | {
                "hidden": tuple(values["hidden"]),
                "events": tuple(values["events"]),
                "resident": tuple(map(tuple, values["resident"])),
                "matrices": tuple(tuple(map(columns, layer)) for layer in values["matrices"]),
            }
        )


def taken_by(parameters, sources, ids, folded):
    """How often a step takes each column, on average over a text: list of (x, y, s), one a layer.

    Parameters are those of `Work.of`.
    """
    steps, taken = sources.steps, []
    for number, (x, y, s) in enumerate(column_lookups(sources, ids[:-1], parameters.embedding, folded)):
        if number == 0:
            # Those of y are taken before the token is known: after the last one, too, and none before the first.
            y = y * steps / max(steps - 1, 1)
        taken.append((x / steps, y / steps, s / steps))
    return taken


def resident_shares(image, taken):
    """`Work.resident` of an image whose columns are taken so often: a list from `taken_by`."""
    start, words = column_words(image)
    words, resident, base, shares = words.astype(float), start < image.configuration.resident_words, 0, []
    for layer in taken:
        shares.append([])
        for one in layer:
            own = words[base : base + len(one)] * one
            shares[-1].append(float(own @ resident[base : base + len(one)] / max(own.sum(), 1e-9)))
            base += len(one)
    return tuple(map(tuple, shares))


# The model


@dataclass(frozen=True)
class Constants:
    """What is fitted, in cycles.

    Parameters
    ----------
    layer : float
        A layer that nothing hides: pipelines that fill and empty between its phases.
    passes : float
        Neurons of the update pass, not cycles, that find their banks free while a column's words are added; the others
        wait for the lanes to stop.
    gate : float
        From a request of a gate to its place being free again; `Configuration.in_flight` are under way at once, so
        that this sets the pace of the update pass and of the reset pass where lanes are few; otherwise it is 1 a cycle.
    burst : float
        Lost a burst of an SDRAM, refreshes included.
    gaps : float
        Further neurons, not cycles, that pass a column in the gaps between the bursts of an SDRAM.
    """

    layer: float = 60.0
    passes: float = 2.0
    gate: float = 25.0
    burst: float = 3.0
    gaps: float = 2.0


def depth_of(size, lanes, segment):
    """Addresses of a bank that a segment of a layer takes, and the span that its runs know."""
    pair, candidate = -(-size // lanes), -(-size // (2 * lanes))
    depth = {"x": pair + candidate, "y": pair, "s": candidate}[segment]
    return depth, max(depth, 1 << RUN_BITS)


def words_of(columns, lanes, depth, run_bits):
    """Words of columns whose weights lie at random.

    Parameters
    ----------
    columns : Columns
    lanes, depth : int
        Lanes, and addresses of a bank for these rows.
    run_bits : int

    Returns
    -------
    np.ndarray of float, shape [n]
    """
    banks, span, weights = 2 * lanes, max(depth, 1 << RUN_BITS), columns.weights
    # The distance to the next weight is geometric; what it is beyond a run is bridged, save at a lane's beginning.
    farthest = min(1 << run_bits, 2 * span >> RUN_BITS) << RUN_BITS
    bridges = np.zeros_like(weights)
    for of_rows, of_weights in columns.regions:
        stays = np.log1p(-_share(weights * of_weights / (columns.rows * of_rows))) * columns.rows / (banks * span)
        bridges += of_weights * np.exp(stays * (1 << run_bits)) / -np.expm1(stays * farthest)
    bridges *= np.maximum(weights - lanes, 0)
    more = bridges % 1  # how often there is one bridge more than the whole ones
    even = sum(
        part * np.ceil(np.round((weights + np.floor(bridges) + one) / lanes, 6))
        for one, part in ((0, 1 - more), (1, more))
    )
    # The fullest bank: the largest of so many binomial numbers, which decides only where a bank has few weights.
    words, few = even.copy(), weights / banks < 60
    if few.any():
        count = np.arange(depth + 1)
        ways = np.array([lgamma(depth + 1) - lgamma(one + 1) - lgamma(depth - one + 1) for one in count])
        share = _share(weights[few, None] / columns.rows)
        most = np.cumsum(np.exp(ways + count * np.log(share) + (depth - count) * np.log1p(-share)), axis=1)
        beyond = 1 - np.minimum(most, 1) ** banks  # that the fullest bank has more than ``count``
        words[few] += (beyond * np.clip(count + 1 - even[few, None], 0, 1)).sum(axis=1)
    return np.where(weights > 0, np.minimum(words, np.maximum(even, weights)), 0)


def _share(density):
    return np.clip(density, 1e-9, 1 - 1e-9)


def packed(work):
    """Words of the columns of each matrix, and the bits of its runs: ``[layer][segment]`` of (array, int)."""
    result = []
    for size, layer in zip(work.hidden, work.matrices, strict=True):
        result.append([])
        for segment, columns in zip(SEGMENTS, layer, strict=True):
            depth, span = depth_of(round(size), work.lanes, segment)

            def words(bits, columns=columns, depth=depth):
                return words_of(columns, work.lanes, depth, bits)

            bits = min(WIDEST_RUN, span.bit_length()) if work.store == "bram" else RUN_BITS
            best = words(bits)
            most = 1.002 * columns.number @ best  # as the compiler has it
            while bits > RUN_BITS and columns.number @ (narrower := words(bits - 1)) <= most:
                bits, best = bits - 1, narrower
            result[-1].append((best, bits))
    return result


def cycles(work, constants, words=None):
    """Cycles of a token.

    Parameters
    ----------
    work : Work
    constants : Constants
    words : list, optional
        Of `packed`, where that is known already.
    """
    k, in_flight = constants, min(4 * work.lanes, 32)
    words = words or packed(work)
    external, entry = work.store != "bram", work.lanes * (work.weight_bits + RUN_BITS)

    def takes(layer, segment, part=1.0):
        """Cycles of a phase's columns; of the share of tokens that has the phase."""
        columns, (own, _) = work.matrices[layer][segment], words[layer][segment]
        taken = columns.taken / part if part else 0 * columns.taken
        if external:
            share = work.resident[layer][segment] if work.resident else 0.0
            comes = float(taken @ (own * max(1, entry / work.width) + k.burst * (own > 0)))
            return max((1 - share) * comes, float(taken @ own))
        return max(float(taken @ own), float(taken.sum()))

    def inputs():
        plain = 1 - work.folded_share
        total = 0.0
        if work.folded_share:
            row = depth_of(work.hidden[0], work.lanes, "x")[0]
            if external:
                row *= max(1, -(-2 * work.lanes * work.row_bits // work.width))
            total += work.folded_share * (row + (k.burst if external else 0))
        if plain > 0:
            own = takes(0, 0, plain)
            if not work.vocabulary:
                total += plain * own
            elif external:
                row = 8 * work.embedding / work.width
                total += plain * (row + k.burst + max(own, work.embedding - row))
            else:
                total += plain * max(own, work.embedding)
        return total

    gate = max(1, k.gate / in_flight)

    def waits(layer, *beside):
        """Cycles that a layer's update pass goes on after the columns beside it."""
        passes = k.passes + (k.gaps if external else 0)
        return gate * max(0, work.hidden[layer] - passes * sum(float(columns.taken.sum()) for columns in beside))

    total = 0.0
    for layer, (x, y, _) in enumerate(work.matrices):
        total += takes(layer, 1)
        if layer:
            total += takes(layer, 0) + waits(layer - 1, y, x)
        else:
            total += inputs() + (waits(-1, y) if len(work.hidden) > 1 else waits(0))
        total += max(takes(layer, 2), gate * float(y.taken.sum()))
        total += k.layer
    return total


STARTS = [Constants(passes=passes, gate=gate) for passes in (0.5, 2.0) for gate in (10.0, 40.0)]
"""From where the fit begins: on either side of where gates or update pass decide."""


def fit(works, measured, *, rounds=60):
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

    def errors(logs):
        constants = Constants(*np.exp(logs))
        return np.array(
            [
                np.log(cycles(work, constants, own) / true)
                for work, own, true in zip(works, words, measured, strict=True)
            ]
        )

    def descend(logs, damping=1e-2, step=1e-4):
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
        return now @ now, logs

    _, best = min((descend(np.log(dataclasses.astuple(start))) for start in STARTS), key=lambda found: found[0])
    return Constants(*np.exp(best).tolist())


def traffic(work, words=None):
    """What the model says of memory: dict.

    ``words`` and ``bytes`` of a token (as `weight_bytes_per_token` counts them); ``weights``, ``columns``,
    ``embedding`` and ``rows``: bytes of these memories; one row has ``row`` of them.
    """
    words = words or packed(work)
    total, read, stored, used = 0.0, 0.0, 0.0, 0.0
    for layer, own_layer in zip(work.matrices, words, strict=True):
        for columns, (own, bits) in zip(layer, own_layer, strict=True):
            size = work.lanes * (work.weight_bits + bits) / 8
            total += columns.taken @ own
            read += columns.taken @ own * size
            stored += columns.number @ own * size
            used += columns.number @ own
    depth, span = depth_of(max(work.hidden), work.lanes, "x")
    start, count = (round(used) - 1).bit_length(), (3 * span).bit_length()
    pointer = start + count + work.lanes * (3 + max((span - 1).bit_length() - RUN_BITS, 1))
    columns = sum(columns.number.sum() for layer in work.matrices for columns in layer)
    taken = sum(columns.taken.sum() for layer in work.matrices for columns in layer)
    numbers = 2 * work.lanes * work.row_bits
    if work.store == "sdram":
        numbers += -numbers % work.width
    row = depth_of(work.hidden[0], work.lanes, "x")[0] * numbers / 8
    return {
        "words": float(total),
        "bytes": float(read + taken * pointer / 8 + work.folded_share * row),
        "weights": float(stored),
        "columns": float(columns * pointer / 8),
        "embedding": float(work.vocabulary * work.embedding),
        "row": float(row),
        "rows": float(work.folded * row),
    }


# Beyond what was run

MEMORY = SDRAM_WORDS * SDRAM_BITS // 8
"""Bytes of the SDRAM of a ULX3S."""
ESCAPED = 1.02
"""What escapes add to a frame's bytes, about."""
BURSTS = 13.0
"""Cycles that LiteDRAM loses a burst (docs/architecture.md: one port, an SDR memory)."""


@dataclass(frozen=True)
class Core:
    """A core on a board.

    Parameters
    ----------
    name : str
    lanes : int
    width : int
        Bits a cycle that the memory brings.
    size : float
        Bytes of the memory.
    hertz : tuple of float
        Clocks to say tokens a second for.
    burst : float or None
        Cycles lost a burst; None: as fitted.
    resident : bool
        Whether `RESIDENT_BYTES` of weights are in block RAM.
    """

    name: str
    lanes: int
    width: int
    size: float
    hertz: tuple[float, ...]
    burst: float | None = None
    resident: bool = False


ULX3S = Core("ULX3S, SDR SDRAM of 16 bits", 4, 16, MEMORY, (80e6, 100e6), resident=True)
# ECP5DDRPHY (litedram/phy/ecp5ddrphy.py) has two phases of 4 x 16 bits, which makes ports of 128, but brings four of
# the eight beats of a DDR3 burst a cycle: a port has a word every other cycle. With 8 lanes, whose words are half a
# port's, a column begins or ends within one: a cycle more.
CORES = [
    ULX3S,
    *(
        Core(f"DDR3 of 16 bits, {lanes} lanes, LiteDRAM", lanes, 64, 512 << 20, (75e6, 100e6), BURSTS + (lanes == 8))
        for lanes in (8, 16)
    ),
    Core("DDR3 of 16 bits, 16 lanes, rows opened ahead", 16, 64, 512 << 20, (75e6, 100e6)),
]
DDR3 = CORES[2]


def on_core(work, core, shares=None):
    """A network's work on a core whose memory holds as many folded rows as fit: `Work`, or None if it does not fit.

    ``shares`` gives the matrices and the share of a text by the rows: callable of rows to (taken of x, share).
    """
    bare = dataclasses.replace(
        work, lanes=core.lanes, width=core.width, store="sdram", folded=0, **({} if core.resident else {"resident": ()})
    )
    memory = traffic(bare)
    room = core.size - memory["weights"] - memory["embedding"]
    if room < 0:
        return None
    if not work.vocabulary:
        return bare
    rows = min(work.vocabulary, int(room // memory["row"]))
    return dataclasses.replace(bare, folded=rows, **({} if shares is None else shares(bare, rows)))


def text_shares(parameters, ids):
    """For `on_core`: what a text says of so many folded rows, of a network ``wider`` than the text's as well."""
    tokens = np.asarray(ids[:-1])
    columns = integer_columns(parameters)[0]

    def shares(work, rows):
        taken = (parameters.embedding[tokens[tokens >= rows]] != 0).sum(axis=0) / len(tokens)
        regions = work.matrices[0][0].regions
        own = Columns.of(columns.rows_x, columns.x, taken, regions).scaled(work.hidden[0] // parameters.hidden[0])
        first, *rest = work.matrices
        return {"matrices": ((own, *first[1:]), *rest), "folded_share": float(np.mean(tokens < rows))}

    return shares


def link_bytes(work):
    """Bytes to and from the board, a token."""
    answer = 12 + ESCAPED * (protocol.bitmap_bytes(round(work.hidden[-1])) + work.events[-1])
    if work.vocabulary:
        return 15.0, answer
    count = float(work.matrices[0][0].taken.sum())
    return 15 + 15 * ceil(count / 168) + 3 * ESCAPED * count, answer


def speed(work, constants, core, hertz):
    """`Speed` of a board at a clock, its link as on the boards with an ECP5."""
    sent, received = link_bytes(work)
    board = board_named("ulx3s-85f")
    return Speed(
        hertz,
        divisor_for(hertz, board.baud),
        board.window,
        board.receive_bytes,
        on_board(work, constants, core),
        sent,
        received,
    )


def on_board(work, constants, core):
    """Cycles of a token on a core."""
    return cycles(work, constants if core.burst is None else dataclasses.replace(constants, burst=core.burst))


def beyond(parameters, ids, constants):
    """What the model says of a network, larger ones of its kind, boards and boards in a row: dict of lists of dict."""
    network, sources = IntegerEngine(parameters), SourceCounts(integer_columns(parameters))
    for token in ids[:-1]:
        sources.add(network.step(np.array([token])))
    configuration = configuration_for(parameters, store="sdram")
    lookups = estimate_lookups(parameters, configuration.folded_tokens)
    taken = taken_by(parameters, sources, ids, configuration.folded_tokens)
    image = compile_image(parameters, configuration, lookups=lookups)
    work = Work.of(parameters, sources, ids, lanes=ULX3S.lanes, store="sdram", resident=resident_shares(image, taken))
    shares = text_shares(parameters, ids)
    result = {"cores": [], "networks": [], "boards": [], "row_of_boards": []}
    for lanes, folded in ((8, 0), (16, 0), (32, 0), (8, 1000), (8, 10_000)):
        own = dataclasses.replace(work, store="bram", resident=(), lanes=lanes, folded=folded, **shares(work, folded))
        words = packed(own)
        result["cores"].append(
            {
                "lanes": lanes,
                "folded": folded,
                "cycles": cycles(own, constants, words),
                "macs": sum(float(columns.taken @ columns.weights) for layer in own.matrices for columns in layer),
                "bytes": traffic(own, words)["bytes"],
            }
        )
    for width, words in ((1, None), (2, None), (4, None), (1, 30_000), (1, 100_000)):
        larger = dataclasses.replace(work.wider(width), vocabulary=words or work.vocabulary, resident=())
        memory = traffic(larger)
        none = dataclasses.replace(larger, folded=0)
        rows = on_core(larger, ULX3S)
        every = dataclasses.replace(larger, **shares(larger, larger.vocabulary))
        wide = dataclasses.replace(none, store="bram", lanes=16)
        ddr3 = on_core(larger, DDR3, shares)
        result["networks"].append(
            {
                "width": width,
                "vocabulary": larger.vocabulary,
                "weights": memory["weights"],
                "embedding": memory["embedding"],
                "row": memory["row"],
                "rows": memory["row"] * larger.vocabulary,
                "rows_that_fit": None if rows is None else rows.folded,
                "cycles_sdram": cycles(none, constants),
                "cycles_sdram_all_folded": cycles(every, constants),
                "cycles_16_lanes": cycles(wide, constants),
                "ddr3_rows": None if ddr3 is None else ddr3.folded,
                "cycles_ddr3": None if ddr3 is None else on_board(ddr3, constants, DDR3),
            }
        )
    for core in CORES:
        own = on_core(work, core, shares)
        result["boards"].append(
            {
                "name": core.name,
                "rows": own.folded,
                "cycles": on_board(own, constants, core),
                "tokens_per_second": {
                    f"{hertz / 1e6:g}": hertz / on_board(own, constants, core) for hertz in core.hertz
                },
                "streamed": {f"{hertz / 1e6:g}": speed(own, constants, core, hertz).streamed() for hertz in core.hertz},
            }
        )
    layers = len(parameters.layers)
    for cuts in ([1], list(range(1, layers))):
        parts = []
        images = pipeline_images(parameters, cuts, lookups=lookups, store="sdram")
        for own, first, last in zip(images, [0, *cuts], [*cuts, layers], strict=True):
            parts.append(dataclasses.replace(work.part(first, last), resident=resident_shares(own, taken[first:last])))
        parts[0] = on_core(parts[0], ULX3S, shares)
        for number, part in enumerate(parts):
            sent, received = link_bytes(part)
            result["row_of_boards"].append(
                {
                    "split": ",".join(map(str, cuts)),
                    "board": number + 1,
                    "rows": part.folded,
                    "cycles": cycles(part, constants),
                    "bytes_sent": sent,
                    "bytes_received": received,
                    "streamed": {
                        f"{hertz / 1e6:g}": [(own := speed(part, constants, ULX3S, hertz)).streamed(), own.limit()]
                        for hertz in ULX3S.hertz
                    },
                }
            )
    return result


# What is printed


def compare(runs, constants):
    """Measured beside predicted, of each run: list of dict."""
    rows = []
    for name, record in runs.items():
        work, point = Work.from_json(record["work"]), record["point"]
        words = packed(work)
        memory = traffic(work, words)
        rows.append(
            {
                "name": name,
                "fitted": point["fitted"],
                "lanes": work.lanes,
                "store": work.store,
                "macs": record["macs"],
                "cycles": record["cycles"],
                "predicted": cycles(work, constants, words),
                "words": record["words"],
                "predicted_words": memory["words"],
                "bytes": record["bytes"],
                "predicted_bytes": memory["bytes"],
                "weight_memory": record["weight_memory"],
                "predicted_weight_memory": memory["weights"],
                "memory": record["memory"],
                "activity": record["activity"],
                "folded_share": work.folded_share,
            }
        )
    return rows


def error(row, name="cycles", predicted="predicted"):
    """Relative error of a prediction."""
    return row[predicted] / row[name] - 1


def largest(rows, fitted):
    """The largest error of the cycles, by its magnitude, of the runs that were fitted or of those that were not."""
    return max((error(row) for row in rows if row["fitted"] == fitted), key=abs, default=None)


def plot(path, rows):
    """Draw measured and predicted cycles against MACs over lanes; the suffix names the format."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for fitted, marker, label in ((True, "o", "fitted"), (False, "s", "held out")):
        for store, color in (("bram", "#4477aa"), ("sdram", "#ee6677")):
            own = [row for row in rows if row["fitted"] == fitted and row["store"] == store]
            axis.plot(
                [row["macs"] / row["lanes"] for row in own],
                [row["cycles"] for row in own],
                marker,
                color=color,
                mfc="none",
                label=f"{store}, {label}",
            )
    axis.plot([row["macs"] / row["lanes"] for row in rows], [row["predicted"] for row in rows], "k+", label="model")
    ends = [min(row["macs"] / row["lanes"] for row in rows), max(row["cycles"] for row in rows)]
    axis.plot(ends, ends, color="#bbbbbb", label="bound: every lane in every cycle")
    axis.set(xscale="log", yscale="log", xlabel="MACs a token / lanes", ylabel="cycles a token")
    axis.legend(fontsize="small")
    figure.savefig(path)
    pyplot.close(figure)


def _percent(share):
    return "" if share is None else f"{100 * share:+.1f} %"


def _show(rows, constants, ahead):
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # no figure is cut
    table = Table(
        "run",
        *(("MACs", "cycles", "model", "error", "words", "bytes", "weight memory")),
        title="a token, measured and predicted; * was not fitted; errors of words, bytes and memory",
        title_justify="left",
    )
    for row in rows:
        table.add_row(
            row["name"] + ("" if row["fitted"] else " *"),
            f"{row['macs']:,.0f}",
            f"{row['cycles']:,.0f}",
            f"{row['predicted']:,.0f}",
            _percent(error(row)),
            _percent(error(row, "words", "predicted_words")),
            _percent(error(row, "bytes", "predicted_bytes")),
            _percent(error(row, "weight_memory", "predicted_weight_memory")),
        )
    console.print(table)
    print(
        f"largest error of the cycles: fitted {_percent(largest(rows, True))}, "
        f"held out {_percent(largest(rows, False))}"
    )
    print(
        "fitted, in cycles: "
        + ", ".join(f"{name} {value:.2f}" for name, value in dataclasses.asdict(constants).items())
    )
    for network, parts in ahead.items():
        table = Table(
            "lanes, bram", "folded rows", "MACs", "cycles", "bytes", title=f"{network}, predicted", title_justify="left"
        )
        for one in parts["cores"]:
            table.add_row(
                f"{one['lanes']}", f"{one['folded']:,}", *(f"{one[name]:,.0f}" for name in ("macs", "cycles", "bytes"))
            )
        console.print(table)
        table = Table(
            "width",
            "words",
            "weights MB",
            "embedding MB",
            "rows MB",
            "rows in 32 MB",
            "SDRAM",
            "... all rows",
            "DDR3, 16 lanes",
            "bram, 16 lanes",
            title_justify="left",
            title=f"{network}, larger: memory, and cycles a token, predicted",
        )
        for one in parts["networks"]:
            table.add_row(
                f"{one['width']}",
                f"{one['vocabulary']:,}",
                *(f"{one[name] / 1e6:,.1f}" for name in ("weights", "embedding", "rows")),
                "none fits" if one["rows_that_fit"] is None else f"{one['rows_that_fit']:,}",
                *(
                    f"{one[name]:,.0f}"
                    for name in ("cycles_sdram", "cycles_sdram_all_folded", "cycles_ddr3", "cycles_16_lanes")
                ),
            )
        console.print(table)
        table = Table(
            "board",
            "folded rows",
            "cycles",
            "tokens a second of the core",
            "... with the link",
            title=f"{network} on boards, predicted",
            title_justify="left",
        )
        for one in parts["boards"]:
            table.add_row(
                one["name"],
                f"{one['rows']:,}",
                f"{one['cycles']:,.0f}",
                *(
                    ", ".join(f"{rate:,.0f} at {clock} MHz" for clock, rate in one[name].items())
                    for name in ("tokens_per_second", "streamed")
                ),
            )
        console.print(table)
        table = Table(
            "--split",
            "board",
            "rows",
            "cycles",
            "bytes to, from",
            "tokens a second, limit",
            title=f"{network} on ULX3S in a row, predicted",
            title_justify="left",
        )
        for one in parts["row_of_boards"]:
            table.add_row(
                one["split"],
                f"{one['board']}",
                f"{one['rows']:,}",
                f"{one['cycles']:,.0f}",
                f"{one['bytes_sent']:,.0f}, {one['bytes_received']:,.0f}",
                ", ".join(f"{rate:,.0f} at {clock} MHz ({limit})" for clock, (rate, limit) in one["streamed"].items()),
            )
        console.print(table)


@click.command(help=__doc__)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps what has run; a run that is there is not done again.",
)
@click.option(
    "--text", type=click.Path(path_type=Path), help="For the networks in model/networks; their own samples by default."
)
@click.option("--tokens", type=click.IntRange(2), default=TOKENS, show_default=True, help="Of it, for the model.")
@click.option("--large", is_flag=True, help="Simulate the networks in model/networks, too.")
@click.option("--plot", "picture", help="Picture to write: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True)
def main(results, text, tokens, large, picture, as_json):
    with needs("amaranth_boards", "'egret-fpga[build]'", "the link's speed"):
        board_named("ulx3s-85f")  # refused before the long part
    points = POINTS + (LARGE if large else [])
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(points) + 1 + len(STUDIED))

        def progress(name):
            bar.update(task, description=name, advance=1)

        runs = gather(points, results, text=text, progress=progress)
        progress("fitting")
        fitted = [record for record in runs.values() if record["point"]["fitted"]]
        constants = fit([Work.from_json(record["work"]) for record in fitted], [record["cycles"] for record in fitted])
        rows = compare(runs, constants)
        ahead = {}
        for name in STUDIED:
            progress(name)
            parameters = load_integer(NETWORKS / f"{name}.egret")
            ids = texts(Point(name=name, network=name, tokens=tokens), parameters, text)
            ahead[name] = beyond(parameters, ids, constants)
    if picture:
        plot(picture, rows)
    if as_json:
        print(
            json.dumps(
                {
                    "runs": rows,
                    "constants": dataclasses.asdict(constants),
                    "beyond": ahead,
                    "largest_error": {"fitted": largest(rows, True), "held_out": largest(rows, False)},
                }
            )
        )
        return
    _show(rows, constants, ahead)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (InputError, click.ClickException) as failure:
        message = failure.format_message() if isinstance(failure, click.ClickException) else failure
        print(f"scaling: error: {message}", file=sys.stderr)
        sys.exit(2)
