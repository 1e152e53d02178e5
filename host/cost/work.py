"""What the model of cost knows of a network, a text and a core: its columns, and how often each is taken."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from egret.model.compiler.configuration import SDRAM_BITS, ReadoutShape
from egret.model.compiler.folded import row_format
from egret.model.compiler.image import Image
from egret.model.compiler.lookups import column_lookups
from egret.model.compiler.readout import readout_shape
from egret.model.compiler.unpack import column_words
from egret.model.counts import ReadoutCounts, SourceCounts, integer_columns
from egret.model.evaluate import Evaluation
from egret.model.integer import IntegerEngine, IntegerNetwork
from egret.model.readout import ReadOut

__all__ = [
    "Columns",
    "ReadoutWork",
    "TextShares",
    "Work",
    "columns_taken",
    "count_sources",
    "resident_shares",
    "text_shares",
]


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
    def of(
        cls, rows: int, weights: np.ndarray, taken: np.ndarray, regions: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    ) -> Self:
        """Of columns of ``rows`` and ``regions``, from the ``weights`` of each and how often it is ``taken``."""
        lengths, place = np.unique(weights, return_inverse=True)
        return cls(
            rows, lengths.astype(float), np.bincount(place).astype(float), np.bincount(place, weights=taken), regions
        )

    def scaled(self, factor: int) -> "Columns":
        """Of a network ``factor`` times as wide, as dense and as active."""
        return Columns(
            self.rows * factor, self.weights * factor, self.number * factor, self.taken * factor, self.regions
        )


@dataclass(frozen=True)
class ReadoutWork:
    """A read-out that a core makes, as the model sees it.

    Attributes
    ----------
    shape : ReadoutShape
    group : float
        Words of a group, on average.
    counts : ReadoutCounts
        What the log-probability of a token takes.
    """

    shape: ReadoutShape
    group: float
    counts: ReadoutCounts

    @classmethod
    def of(cls, network: IntegerNetwork, evaluation: Evaluation) -> Self:
        """Of a ``network`` over the text of an ``evaluation``, which has counted its read-out."""
        assert evaluation.readout is not None
        readout = ReadOut(network)
        return cls(readout_shape(readout), float(np.mean(readout.sizes or [0])), evaluation.readout)

    def scaled(self, factor: int) -> "ReadoutWork":
        """Of a network ``factor`` times as wide, as dense and as active, with as many words."""
        counts = self.counts
        more = {name: factor * getattr(counts, name) for name in ("macs", "head_columns", "group_columns")}
        return dataclasses.replace(self, counts=dataclasses.replace(counts, **more))


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
    lanes : int
    store : str
    weight_bits : int
    folded_tokens : int
        Tokens with a row.
    folded_share : float
        How much of the text they are.
    row_bits : int
        Of a number in a row.
    width : int
        Bits a cycle that the memory brings, where that is not block RAM.
    resident : tuple of tuple of float
        Of each matrix: which share of the words that are taken comes from block RAM beside such a memory.
    readout : ReadoutWork or None
        What the core makes of the last layer's events; None where it ends with these.
    """

    hidden: tuple[int, ...]
    embedding: int
    vocabulary: int
    matrices: tuple[tuple[Columns, ...], ...]
    events: tuple[float, ...]
    lanes: int
    store: str
    weight_bits: int = 4
    folded_tokens: int = 0
    folded_share: float = 0.0
    row_bits: int = 24
    width: int = SDRAM_BITS
    resident: tuple[tuple[float, ...], ...] = ()
    readout: ReadoutWork | None = None

    @classmethod
    def of(
        cls,
        network: IntegerNetwork,
        sources: SourceCounts,
        ids: np.ndarray,
        *,
        lanes: int,
        store: str,
        weight_bits: int = 4,
        folded_tokens: int = 0,
        width: int = SDRAM_BITS,
        resident: tuple[tuple[float, ...], ...] = (),
        readout: ReadoutWork | None = None,
    ) -> Self:
        """Of a text on a core.

        Parameters
        ----------
        network : IntegerNetwork
        sources : SourceCounts
            Over the text.
        ids : np.ndarray of int, shape [N + 1]
            The text; empty where numbers enter.
        lanes, store, weight_bits, folded_tokens, width, resident, readout
            Of the core, as the attributes say.

        Returns
        -------
        Work
        """
        tokens, steps, matrices = np.asarray(ids[:-1]), sources.steps, []
        taken = columns_taken(network, sources, ids, folded_tokens)
        for number, (columns, (x, y, *s)) in enumerate(zip(integer_columns(network), taken, strict=True)):

            def regions(of_z: float) -> tuple[tuple[float, float], ...]:
                return (2 / 3, 1 - of_z), (1 / 3, of_z)

            of_z = np.count_nonzero(network.layers[number].weight_x[columns.rows_y :]) / max(columns.x.sum(), 1)
            matrices.append((Columns.of(columns.rows_x, columns.x, x, regions(of_z)),))
            if s:
                matrices[-1] += (Columns.of(columns.rows_y, columns.y, y), Columns.of(columns.rows_s, columns.s, s[0]))
            else:
                rows, weights = columns.rows_y + columns.rows_s, columns.y + columns.s
                matrices[-1] += (Columns.of(rows, weights, y, regions(columns.s.sum() / max(weights.sum(), 1))),)
        vocabulary, embedding = network.embedding.shape
        return cls(
            network.hidden,
            embedding,
            vocabulary,
            matrices=tuple(matrices),
            events=tuple(count / steps for count in sources.events),
            lanes=lanes,
            store=store,
            weight_bits=weight_bits,
            folded_tokens=folded_tokens,
            folded_share=float((tokens < folded_tokens).sum() / steps),
            row_bits=row_format(network, folded_tokens or None)[0],
            width=width,
            resident=resident,
            readout=readout,
        )

    def wider(self, factor: int) -> "Work":
        """The same with layers and embedding ``factor`` times as wide, as dense and as active."""
        return dataclasses.replace(
            self,
            hidden=tuple(size * factor for size in self.hidden),
            embedding=self.embedding * factor,
            matrices=tuple(tuple(columns.scaled(factor) for columns in layer) for layer in self.matrices),
            events=tuple(factor * count for count in self.events),
            readout=self.readout and self.readout.scaled(factor),
        )

    def part(self, first: int, last: int) -> "Work":
        """The layers from ``first`` to before ``last``, counted from 0, on a core of their own."""
        inputs = (
            {}
            if first == 0
            else {"embedding": self.hidden[first - 1], "vocabulary": 0, "folded_tokens": 0, "folded_share": 0.0}
        )
        return dataclasses.replace(
            self,
            hidden=self.hidden[first:last],
            matrices=self.matrices[first:last],
            events=self.events[first:last],
            resident=self.resident[first:last],
            readout=self.readout if last == len(self.hidden) else None,
            **inputs,
        )

    def to_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
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
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`, of its ``values``."""

        def columns(one: dict[str, Any]) -> Columns:
            weights, number, taken = (np.array(one[name]) for name in ("weights", "number", "taken"))
            return Columns(one["rows"], weights, number, taken, tuple(map(tuple, one["regions"])))

        readout = values.get("readout")
        if readout is not None:
            shape, counts = ReadoutShape(**readout["shape"]), ReadoutCounts(**readout["counts"])
            readout = ReadoutWork(shape, readout["group"], counts)
        return cls(
            **values
            | {
                "readout": readout,
                "hidden": tuple(values["hidden"]),
                "events": tuple(values["events"]),
                "resident": tuple(map(tuple, values["resident"])),
                "matrices": tuple(tuple(map(columns, layer)) for layer in values["matrices"]),
            }
        )


def columns_taken(
    network: IntegerNetwork, sources: SourceCounts, ids: np.ndarray, folded_tokens: int
) -> list[tuple[np.ndarray, ...]]:
    """How often a step takes each column, on average over a text: (x, y, s) of each layer, or (x, y).

    ``network``, ``sources``, ``ids`` and ``folded_tokens`` are those of `Work.of`.
    """
    steps, taken = sources.steps, []
    looked_up = column_lookups(sources, ids[:-1], network.embedding, folded_tokens, network.reset)
    for number, (x, y, *s) in enumerate(looked_up):
        if number == 0:
            # Those of y are taken before the token is known: after the last one, too, and none before the first.
            y = y * steps / max(steps - sources.starts, 1)
        taken.append(tuple(one / steps for one in (x, y, *s)))
    return taken


def resident_shares(image: Image, taken: list[tuple[np.ndarray, ...]]) -> tuple[tuple[float, ...], ...]:
    """`Work.resident` of ``image`` where its columns are ``taken`` so often, as `columns_taken` says."""
    start, words = column_words(image)
    words, resident = words.astype(float), start < image.configuration.resident_words
    base, shares = 0, []
    for layer in taken:
        shares.append([])
        for one in layer:
            own = words[base : base + len(one)] * one
            shares[-1].append(float(own @ resident[base : base + len(one)] / max(own.sum(), 1e-9)))
            base += len(one)
    return tuple(map(tuple, shares))


def count_sources(network: IntegerNetwork, ids: np.ndarray) -> SourceCounts:
    """How often ``network`` has each event over a text, ``ids`` of [N + 1] tokens."""
    engine, sources = IntegerEngine(network), SourceCounts(integer_columns(network))
    for token in ids[:-1]:
        sources.add(engine.step(np.array([token])))
    return sources


TextShares = Callable[[Work, int], dict[str, Any]]
"""Fields of a `Work` that follow from how many tokens have a folded row."""


def text_shares(network: IntegerNetwork, ids: np.ndarray) -> TextShares:
    """What a text, ``ids``, says of so many folded rows: of ``network``, and of one that is `Work.wider`."""
    tokens = np.asarray(ids[:-1])
    columns = integer_columns(network)[0]

    def shares(work: Work, rows: int) -> dict[str, Any]:
        taken = (network.embedding[tokens[tokens >= rows]] != 0).sum(axis=0) / len(tokens)
        regions = work.matrices[0][0].regions
        own = Columns.of(columns.rows_x, columns.x, taken, regions).scaled(work.hidden[0] // network.hidden[0])
        first, *rest = work.matrices
        return {"matrices": ((own, *first[1:]), *rest), "folded_share": float(np.mean(tokens < rows))}

    return shares
