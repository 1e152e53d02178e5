"""What a network does on its core, token by token: events, cycles by cause, and what they come from.

>>> account = make_account(egret.Network("model/demo/network"), ids)
>>> account.cycles[0]["words"]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.cost.model import cycles, packed, traffic
from egret.host.cost.work import ReadoutWork, Work, columns_taken, resident_shares
from egret.host.measure import measure
from egret.host.opening import open_board
from egret.host.progress import progress_bar
from egret.model.counts import integer_columns
from egret.model.integer import IntegerEngine
from egret.rtl.protocol import CAUSES

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.host.measure import Measurement
    from egret.host.network import Network
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.model.evaluate import Evaluation
    from egret.model.integer import IntegerNetwork
    from egret.model.tokens import Vocabulary

__all__ = ["Account", "Gain", "make_account"]

_LONGEST = 14  # characters of a token that are shown


@dataclass(frozen=True)
class Gain:
    """What a core without or with folded rows and resident columns takes.

    Attributes
    ----------
    name : str
        What it has.
    own : bool
        Whether it is the core of the account.
    macs : float
        Of the layers, a token.
    read : float
        Bytes of weights, rows and pointers that a token reads, the resident ones left out.
    held : float
        Bytes that the rows and the resident columns take.
    cycles : float or None
        A token, as the model of cost has it (docs/scaling.md); None of a compact core, which it does not know.
    """

    name: str
    own: bool
    macs: float
    read: float
    held: float
    cycles: float | None


@dataclass(frozen=True)
class Account:
    """Result of `make_account`.

    Attributes
    ----------
    measurement : Measurement
        Of the whole text, streamed.
    configuration : Configuration
        Of the core.
    tokens : list of str
        Those that enter, [N], as they can be printed.
    cycles : list of dict of str to int
        For each token: cycles in which a word of weights was multiplied, ``words``, and those without one by cause. Its
        own events are multiplied by the recurrent weights of layer 1 before the next token comes, and count here.
    macs : np.ndarray of int64, shape [N]
        Non-zero weights multiplied.
    read : np.ndarray of float, shape [N]
        Bytes that came from the memory of the weights: an SDRAM, or else block RAM.
    read_per_cycle : float
        Bytes of that memory that can come in a cycle.
    events : list of np.ndarray of bool, shape [N, H], one a layer
    lengths : list of np.ndarray of int, one a layer
        Non-zero weights of each of its columns.
    gains : list of Gain
    """

    measurement: "Measurement"
    configuration: "Configuration"
    tokens: list[str]
    cycles: list[dict[str, int]]
    macs: np.ndarray
    read: np.ndarray
    read_per_cycle: float
    events: list[np.ndarray]
    lengths: list[np.ndarray]
    gains: list[Gain]

    @property
    def activity(self) -> list[np.ndarray]:
        """Share of the tokens with an event, of each neuron: list of [H], one a layer."""
        return [layer.mean(axis=0) for layer in self.events]


def make_account(network: "Network", ids: np.ndarray) -> Account:
    """Run a text on the simulated core, once streamed and once token by token, and beside the integer network.

    Parameters
    ----------
    network : Network
    ids : np.ndarray of int, shape [N + 1]
        The text, as `egret.Network.ids` gives it.

    Returns
    -------
    Account

    Raises
    ------
    InputError
        The network cannot be compiled, or a tool is missing.
    """
    image, integer = network.image, network.integer
    c = image.configuration
    with open_board(c) as board:
        with progress_bar("loading") as progress:
            board.load(image, progress=progress)
        with progress_bar("simulated core") as progress:
            measurement = measure(board, image, integer, ids, progress=progress)
        with progress_bar("token by token") as progress:
            counters = _token_by_token(board, integer, ids, progress)
    words = c.lanes * (c.weight_bits + c.run_bits) / 8
    unit, size = ("beats", c.beat_bits / 8) if c.store == "sdram" else ("words", words)
    return Account(
        measurement,
        c,
        [_printable(network.vocabulary, int(token)) for token in ids[:-1]],
        [{name: one[name] for name in ("words", *CAUSES) if name in one} for one in counters],
        np.array([one["macs"] for one in counters]),
        np.array([one[unit] * size for one in counters]),
        size,
        _events(integer, ids),
        [np.concatenate([layer.x, layer.y, layer.s]) for layer in integer_columns(integer)],
        _gains(integer, image, measurement.evaluation, ids),
    )


def _token_by_token(
    board: "Board", network: "IntegerNetwork", ids: np.ndarray, progress: Callable[[int, int], None]
) -> list[dict[str, int]]:
    """What the counters of a board count for each token, from zero state."""
    board.clear()
    found, before, engine = [], board.counters(), IntegerEngine(network)
    for step, (token, following) in enumerate(zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)):
        if board.identity.head:
            list(board.score([token], [engine.readout.target(following)]))
        else:
            board.step(token)
        now = board.counters()
        found.append({name: count - before[name] for name, count in now.items()})
        before = now
        progress(step + 1, len(ids) - 1)
    return found


def _events(network: "IntegerNetwork", ids: np.ndarray) -> list[np.ndarray]:
    engine = IntegerEngine(network)
    steps = [[trace.y[0] != 0 for trace in engine.step(np.array([token]))] for token in ids[:-1]]
    return [np.array(layer) for layer in zip(*steps, strict=True)]


def _printable(vocabulary: "Vocabulary", index: int) -> str:
    """A token in one line, of which no character is invisible."""
    (text,) = vocabulary.pieces([index]) if vocabulary.kind == "bpe" else (vocabulary.tokens[index],)
    text = text.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace(" ", "\N{OPEN BOX}")
    text = "".join(one if one.isprintable() else "\N{MIDDLE DOT}" for one in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _gains(network: "IntegerNetwork", image: "Image", evaluation: "Evaluation", ids: np.ndarray) -> list[Gain]:
    """The core with and without folded rows, and with and without its resident columns."""
    c, sources = image.configuration, evaluation.sources
    assert sources is not None
    rows = c.folded_tokens or c.vocabulary
    own = bool(c.folded_tokens), bool(c.resident_words)
    gains = []
    for resident in (False, True)[: 1 + own[1]]:
        for folded in (0, rows):
            shares = resident_shares(image, columns_taken(network, sources, ids, folded)) if resident else ()
            work = Work.of(
                network, sources, ids, lanes=c.lanes, store=c.store, weight_bits=c.weight_bits, folded_tokens=folded,
                width=c.beat_bits, resident=shares,
                readout=ReadoutWork.of(network, evaluation) if c.readout is not None else None,
            )  # fmt: skip
            has = [f"{folded:,} folded rows"] * bool(folded) + [f"{c.resident_bytes:,} resident bytes"] * resident
            gains.append(_gain(work, " and ".join(has) or "neither", own == (bool(folded), resident), c))
    return gains


def _gain(work: Work, name: str, own: bool, c: "Configuration") -> Gain:
    words: Any = packed(work)
    read, near = traffic(work, words), 0.0
    for layer, its_words, shares in zip(work.matrices, words, work.resident, strict=False):
        for columns, (count, bits), share in zip(layer, its_words, shares, strict=True):
            near += share * float(columns.taken @ count) * work.lanes * (work.weight_bits + bits) / 8
    return Gain(
        name,
        own,
        sum(float(columns.taken @ columns.weights) for layer in work.matrices for columns in layer),
        read["bytes"] - near,
        read["rows"] + (c.resident_bytes if work.resident else 0),
        None if c.compact else cycles(work, words=words),
    )
