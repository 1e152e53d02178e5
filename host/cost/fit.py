"""Which board a network fits before there is one: from its shape, its sparsity and its activity.

The words of the weights, the cycles and the bytes are those of the model (`egret.host.cost.model`) with weights that
lie at random and neurons that are all as active as each other. The design of a board is generated with memories of
these sizes, and what it needs is counted (`egret.boards.estimate`). Nothing is synthesised or simulated.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.cost.model import board_speed, cycles, packed
from egret.host.cost.work import Columns, ReadoutWork, Work
from egret.model.compiler.compile import configuration_of
from egret.model.compiler.configuration import RUN_BITS, TARGETS, WIDEST_RUN, Configuration, ReadoutShape
from egret.model.compiler.layouts import memory_sections
from egret.model.counts import ReadoutCounts
from egret.model.errors import InputError

if TYPE_CHECKING:
    from egret.boards.definition import BoardDefinition
    from egret.host.speed import Speed

__all__ = ["Fit", "Shape", "fit"]

ROW_BITS = 17
"""Of a number in a folded row: as many as in the Penn Treebank networks (docs/scaling.md)."""


@dataclass(frozen=True)
class Shape:
    """A network that need not exist.

    Parameters
    ----------
    hidden : tuple of int
        Neurons of each layer.
    embedding : int
        E, inputs of the first layer.
    vocabulary : int
        V, words. Those of a text are as frequent as Zipf has it.
    sparsity : tuple of float
        Share of each layer's weights that are zero, 0 to below 1.
    activity : tuple of float
        Share of each layer's neurons with an event in a step, 0 to 1.

    Raises
    ------
    InputError
        A share is out of its range, or there is not one for each layer.
    """

    hidden: tuple[int, ...]
    embedding: int
    vocabulary: int
    sparsity: tuple[float, ...]
    activity: tuple[float, ...]

    def __post_init__(self):
        for name, what in (("sparsity", "zeros, below 1"), ("activity", "neurons with an event")):
            shares = getattr(self, name)
            if len(shares) != len(self.hidden):
                raise InputError(
                    f"{name} must be one number, or one for each of {len(self.hidden)} layers, not {shares}"
                )
            for share in shares:
                if not 0 <= share <= 1 or (name, share) == ("sparsity", 1):
                    raise InputError(f"{name} must be from 0 to 1, a share of {what}, not {share:g}")

    def folded_share(self, tokens: int) -> float:
        """Share of a text that the most frequent ``tokens`` are."""
        frequency = 1 / np.arange(1, self.vocabulary + 1)
        return float(frequency[:tokens].sum() / frequency.sum())

    def work(self, c: Configuration) -> Work:
        """What the model takes, on a core of the configuration ``c``."""
        random = np.random.default_rng(0)
        share = self.folded_share(c.folded_tokens)
        layers, inputs, entering = [], self.embedding, 1 - share
        for size, zeros, active in zip(self.hidden, self.sparsity, self.activity, strict=True):
            columns = []
            for rows, sources, taken in ((3 * size, inputs, entering), (2 * size, size, active), (size, size, active)):
                weights = random.binomial(rows, 1 - zeros, sources)
                columns.append(Columns.of(rows, weights, np.full(sources, taken)))
            layers.append(tuple(columns))
            inputs, entering = size, active
        events = tuple(size * active for size, active in zip(self.hidden, self.activity, strict=True))
        readout = None
        if c.readout is not None:
            readout = ReadoutWork(c.readout, 0.0, ReadoutCounts(events[-1] * self.vocabulary, events[-1]))
        work = Work(
            self.hidden,
            self.embedding,
            self.vocabulary,
            matrices=tuple(layers),
            events=events,
            lanes=c.lanes,
            store=c.store,
            weight_bits=c.weight_bits,
            folded_tokens=c.folded_tokens,
            folded_share=share,
            row_bits=c.row_bits,
            width=c.beat_bits,
            readout=readout,
        )
        return replace(work, resident=_resident(work, c.resident_words)) if c.store == "sdram" else work

    def configuration(self, board: "BoardDefinition", readout: bool, weight_bits: int) -> Configuration:
        """The core that ``egret build`` makes for such a network, its weight memory as large as needed at least.

        Parameters
        ----------
        board : BoardDefinition
        readout : bool
            Whether the core makes the read-out.
        weight_bits : int
            4 or 8.

        Returns
        -------
        Configuration

        Raises
        ------
        InputError
            No core has such a shape, or it does not fit an external memory.
        """
        options: dict[str, Any] = {name: one for name, one in TARGETS[board.target].items() if name != "weight_bytes"}
        options |= {
            "vocabulary": self.vocabulary,
            "embedding": self.embedding,
            "hidden": self.hidden,
            "weight_bits": weight_bits,
            "gate_index_bits": board.quantised.get("gate_index_bits", 10),
            "readout": ReadoutShape(head=self.vocabulary) if readout else None,
        }

        def words(bare: Configuration) -> list[int]:
            work = self.work(bare)
            found = [
                (columns.number @ own, bits)
                for layer, packed_layer in zip(work.matrices, packed(work), strict=True)
                for columns, (own, bits) in zip(layer, packed_layer, strict=True)
            ]
            widths = range(RUN_BITS, WIDEST_RUN + 1)
            return [int(np.ceil(sum(count for count, bits in found if bits >= width))) for width in widths]

        needed = configuration_of(words, lambda tokens: (ROW_BITS, 0), **options)
        least = TARGETS[board.target].get("weight_bytes", 0)
        if needed.weight_memory_bytes >= least:
            return needed
        return configuration_of(words, lambda tokens: (ROW_BITS, 0), weight_bytes=least, **options)


def _resident(work, words):
    """`Work.resident` where so many words are resident, those of the columns first that are taken most often."""
    every = [
        (float(columns.taken.sum() / columns.number.sum()), layer, matrix, float(columns.number @ own))
        for layer, (of_layer, packed_layer) in enumerate(zip(work.matrices, packed(work), strict=True))
        for matrix, (columns, (own, _)) in enumerate(zip(of_layer, packed_layer, strict=True))
    ]
    shares = [[0.0] * len(layer) for layer in work.matrices]
    for often in sorted({one[0] for one in every}, reverse=True):
        alike = [one for one in every if one[0] == often]
        total = sum(count for *_, count in alike)
        share = min(1.0, words / total) if total else 0.0
        words -= share * total
        for _, layer, matrix, _ in alike:
            shares[layer][matrix] = share
    return tuple(map(tuple, shares))


@dataclass(frozen=True)
class Fit:
    """How a network and a board go together.

    Attributes
    ----------
    board : str
        Name of the board.
    lacks : tuple of str
        What the board has too little of, in words; none where it fits.
    options : tuple of str
        Of ``egret build``, without which it does not fit.
    configuration : Configuration or None
        Of the core; None where there is no such core.
    used, available : dict of str to int
        Look-up tables, block RAMs and more, as `egret.boards.estimate.Estimate.used`; empty where the memories alone
        say that it does not fit.
    memory_bytes : dict of str to float
        Of the core's memories by name.
    cycles : float or None
        A token; None where it does not fit, or the model does not know the core.
    speed : Speed or None
        Tokens a second, likewise.
    missing : str or None
        What keeps its design from being generated on this machine.
    """

    board: str
    lacks: tuple[str, ...]
    options: tuple[str, ...] = ()
    configuration: Configuration | None = None
    used: dict[str, int] = field(default_factory=dict)
    available: dict[str, int] = field(default_factory=dict)
    memory_bytes: dict[str, float] = field(default_factory=dict)
    cycles: float | None = None
    speed: "Speed | None" = None
    missing: str | None = None

    @property
    def fits(self) -> bool | None:
        """Whether it fits, by its memories, multipliers and, within a fifth, look-up tables; None: not known here."""
        return None if self.missing else not self.lacks


def fit(shape: Shape, board: "BoardDefinition", name: str, *, weight_bits: int | None = None) -> Fit:
    """Whether a network fits a board, and what a token would take there.

    Parameters
    ----------
    shape : Shape
    board : BoardDefinition
    name : str
        Its name.
    weight_bits : int, optional
        4 or 8; as the board quantises a checkpoint by default.

    Returns
    -------
    Fit
        Where the board's core makes the read-out but has no room for it, of a core without.
    """
    bits = weight_bits or board.quantised.get("weight_bits", 8)
    first, *others = _readouts(board)
    found = _fit(shape, board, name, first, bits)
    for readout in others if found.fits is False else ():
        found = _fit(shape, board, name, readout, bits)
    return found


def _readouts(board):
    return (True, False) if TARGETS[board.target].get("readout") else (False,)


def _fit(shape, board, name, readout, weight_bits):
    from egret.boards.design import generate
    from egret.boards.estimate import estimate

    options = ("--no-readout",) if not readout and len(_readouts(board)) > 1 else ()
    try:
        c = shape.configuration(board, readout, weight_bits)
    except InputError as error:
        return Fit(name, (str(error).removeprefix("configuration: "),), options)
    if c.weight_memory_bytes > TARGETS[board.target].get("weight_bytes", c.weight_memory_bytes):
        options = (*options, "--weight-bytes 0")
    sizes = {name: section.words * section.word_bits / 8 for name, section in memory_sections(c).items()}
    known = Fit(name, (), options, c, memory_bytes=sizes)
    device = board.device
    room = device.capacity["block_rams"] * device.block_bits / 8 + device.capacity.get("large_rams", 0) * LARGE_BYTES
    if c.store != "sdram" and sum(sizes.values()) > room:
        return replace(known, lacks=(f"{sum(sizes.values()):,.0f} bytes of memories; it has {room:,.0f}",))
    try:
        needed = estimate(generate(board, c))
    except InputError as error:
        return replace(known, missing=str(error))
    available = {key: device.capacity[key] for key in needed.used}
    lacks = tuple(
        f"{count:,} {key.replace('_', ' ')} of {device.capacity[key]:,}"
        for key, count in (needed.certain | {"luts": round(needed.used["luts"] / UNSURE)}).items()
        if count > device.capacity[key]
    )
    known = replace(known, lacks=lacks, used=needed.used, available=available)
    if lacks or c.compact:
        return known
    work = shape.work(c)
    return replace(known, cycles=cycles(work), speed=board_speed(work, board, board.hertz))


LARGE_BYTES = 32 * 1024
"""Of a single-port RAM of an iCE40 UP5K."""
UNSURE = 1.2
"""By which look-up tables may have been estimated too many (`egret.boards.estimate.Estimate`)."""
