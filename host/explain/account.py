"""What a network does on its core, step by step: events, cycles by cause, and what they come from.

>>> account = make_account(egret.Network("model/demo/network"), ids)
>>> account.cycles[0]["words"]
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.cost.model import cycles, packed, traffic
from egret.host.cost.work import ReadoutWork, Work, columns_taken, resident_shares
from egret.host.measure import measure
from egret.host.opening import open_board
from egret.host.progress import progress_bar
from egret.model.counts import integer_columns
from egret.model.integer import IntegerEngine
from egret.model.readout import ReadOut
from egret.model.sequences import Sequences
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
        Of the whole text, or of all sequences, streamed.
    configuration : Configuration
        Of the core.
    unit : str
        What a step is called: ``"token"`` of a text, ``"step"`` of a sequence.
    tokens : list of str
        Those that enter, [N], as they can be printed; of a sequence the number of the step, and which numbers enter.
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
    unit: str
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


def make_account(network: "Network", inputs: np.ndarray | Sequences) -> Account:
    """Run a text, or sequences, on the simulated core, once streamed and once step by step, and the integer network.

    Parameters
    ----------
    network : Network
    inputs : np.ndarray of int, shape [N + 1], or Sequences
        As `egret.Network.inputs` gives it.

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
            measurement = measure(board, image, integer, inputs, progress=progress)
        with progress_bar("step by step") as progress:
            counters = _step_by_step(board, integer, inputs, progress)
    words = c.lanes * (c.weight_bits + c.run_bits) / 8
    unit, size = ("beats", c.beat_bits / 8) if c.store == "sdram" else ("words", words)
    return Account(
        measurement,
        c,
        "step" if isinstance(inputs, Sequences) else "token",
        _names(network.vocabulary, inputs),
        [{name: one[name] for name in ("words", *CAUSES) if name in one} for one in counters],
        np.array([one["macs"] for one in counters]),
        np.array([one[unit] * size for one in counters]),
        size,
        _events(integer, inputs),
        [np.concatenate([layer.x, layer.y, layer.s]) for layer in integer_columns(integer)],
        _gains(integer, image, measurement.evaluation, inputs),
    )


def _steps(inputs: np.ndarray | Sequences) -> "list[tuple[Any, Any]]":
    """What enters, and the token behind it; None for zero state, and where numbers enter."""
    if isinstance(inputs, Sequences):
        return [(values, None) for values in inputs.entering()]
    return [(None, None), *pairwise(inputs.tolist())]


def _step_by_step(
    board: "Board", network: "IntegerNetwork", inputs: np.ndarray | Sequences, progress: Callable[[int, int], None]
) -> list[dict[str, int]]:
    """What the counters of a board count for each step."""
    found, before, steps, readout = [], {}, _steps(inputs), ReadOut(network)
    for done, (entering, following) in enumerate(steps, 1):
        if entering is None:
            board.clear()
            before = board.counters()
            continue
        if board.identity.head:
            list(board.score([entering], [readout.target(following)]))
        else:
            board.step(entering)
        now = board.counters()
        found.append({name: count - before[name] for name, count in now.items()})
        before = now
        progress(done, len(steps))
    return found


def _events(network: "IntegerNetwork", inputs: np.ndarray | Sequences) -> list[np.ndarray]:
    engine, steps = IntegerEngine(network), []
    for entering, _ in _steps(inputs):
        if entering is None:
            engine.reset_state(1)
        else:
            steps.append([trace.y[0] != 0 for trace in engine.step(np.array([entering], np.int32))])
    return [np.array(layer) for layer in zip(*steps, strict=True)]


def _names(vocabulary: "Vocabulary", inputs: np.ndarray | Sequences) -> list[str]:
    """Of the steps: tokens; or the number of each, of its sequence too where there are several, and what enters."""
    if not isinstance(inputs, Sequences):
        return [_printable(vocabulary, int(token)) for token in inputs[:-1]]
    names = []
    for sequence, step in np.ndindex(inputs.classes.shape):
        place = f"{sequence}.{step}" if len(inputs) > 1 else f"{step}"
        names.append(_short(f"{place}: {' '.join(map(str, np.flatnonzero(inputs.values[sequence, step]))) or '-'}"))
    return names


def _printable(vocabulary: "Vocabulary", index: int) -> str:
    """A token in one line, of which no character is invisible."""
    (text,) = vocabulary.pieces([index]) if vocabulary.kind == "bpe" else (vocabulary.tokens[index],)
    text = text.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace(" ", "\N{OPEN BOX}")
    return _short("".join(one if one.isprintable() else "\N{MIDDLE DOT}" for one in text))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _gains(
    network: "IntegerNetwork", image: "Image", evaluation: "Evaluation", inputs: np.ndarray | Sequences
) -> list[Gain]:
    """The core with and without folded rows, if tokens enter, and with and without its resident columns."""
    c, sources = image.configuration, evaluation.sources
    assert sources is not None
    ids = np.zeros(0, np.int64) if isinstance(inputs, Sequences) else inputs
    rows = c.folded_tokens or c.vocabulary
    own = bool(c.folded_tokens), bool(c.resident_words)
    gains = []
    for resident in (False, True)[: 1 + own[1]]:
        for folded in (0, rows) if rows else (0,):
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
