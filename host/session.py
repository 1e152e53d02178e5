"""One session of text generation on a board: prompt, text as it comes, comparison, figures."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.host.generate import generate
from egret.host.measure import Mismatch
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.model.native import NativeSampler
from egret.model.tokens import Vocabulary

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.compiler.image import Image
    from egret.model.integer import IntegerNetwork
    from egret.model.readout import Sampler

__all__ = ["Session", "generate_text", "prompt_ids", "prompt_text", "stop_token"]


@dataclass
class Session:
    """What `generate_text` did.

    Attributes
    ----------
    tokens : int
        Tokens generated.
    steps : int
        Steps that the board ran, those of the prompt included.
    matching : int or None
        Steps in which every event of the last layer was the integer network's; None where nothing was compared.
    first_mismatch : Mismatch or None
    counters : dict of str to int
        Of the board over these steps.
    seconds : float
        Wall time, in which nothing was compared.
    host_seconds : float
        Of these, what this process worked.
    bytes_sent, bytes_received : int
        On the line.
    text : str
        That was written, with the prompt, where somebody kept it.
    """

    tokens: int = 0
    steps: int = 0
    matching: int | None = None
    first_mismatch: Mismatch | None = None
    counters: dict = field(default_factory=dict)
    seconds: float = 0.0
    host_seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    text: str = ""

    def lines(self) -> list[str]:
        """The figures as text, a list of lines."""
        lines = []
        if self.matching is not None:
            lines.append(f"{self.matching} of {self.steps} tokens match the integer network")
        if self.first_mismatch is not None:
            lines.append(f"first mismatch: {self.first_mismatch}")
        if scrubbed := self.counters.get("scrubbed"):
            lines.append(f"{scrubbed:,} blocks of the SDRAM were read again meanwhile: all are as they were loaded")
        speed = self.steps / self.seconds
        lines.append(f"{self.cycles_per_token:,.0f} cycles per token; {speed:,.0f} tokens per second")
        return lines

    @property
    def cycles_per_token(self) -> float:
        """Of the core."""
        return self.counters["cycles"] / max(self.counters["tokens"], 1)

    def end_to_end(self) -> dict[str, float]:
        """What a whole token took from the host and back, by name; the seconds are wall time."""
        steps = max(self.steps, 1)  # of no text, nothing
        return {
            "tokens_per_second": self.steps / self.seconds,
            "core_cycles_per_token": self.cycles_per_token,
            "link_bytes_per_token": (self.bytes_sent + self.bytes_received) / steps,
            "host_seconds_per_token": self.host_seconds / steps,
        }

    def summary(self) -> dict[str, Any]:
        """The figures by name, for JSON."""
        first = None if self.first_mismatch is None else str(self.first_mismatch)
        return {
            "tokens": self.tokens,
            "steps": self.steps,
            "matching": self.matching,
            "first_mismatch": first,
            "cycles_per_token": self.cycles_per_token,
            "tokens_per_second": self.steps / self.seconds,
            "counters": self.counters,
            "end_to_end": self.end_to_end(),
        }


def prompt_ids(vocabulary: Vocabulary, prompt: str | None) -> list[int]:
    """Tokens of a prompt.

    Parameters
    ----------
    vocabulary : Vocabulary
    prompt : str or None
        None stands for the end of a line, or token 0 where no token is one. Words end with `<eos>` only where the
        prompt ends with a newline.

    Returns
    -------
    list of int
        At least one.

    Raises
    ------
    InputError
        The prompt is empty or has an unknown token.
    """
    if prompt is None:
        return [vocabulary.line_end or 0]
    try:
        ids = vocabulary.encode(prompt).tolist()
    except InputError as error:
        raise InputError(f"--prompt: {error}") from error
    if vocabulary.kind == "word" and vocabulary.line_end is not None and not prompt.endswith("\n"):
        ids = ids[:-1]
    if not ids:
        raise InputError("--prompt: the prompt is empty; at least one token is needed")
    return ids


def stop_token(vocabulary: Vocabulary, token: str) -> int:
    """The number of the token that a text shall end with; raises `InputError` where the vocabulary has no such."""
    if (found := vocabulary.find(token)) is None:
        raise InputError(f"--stop: {token!r} is not in the vocabulary of {vocabulary.size} tokens")
    return found


def prompt_text(vocabulary: Vocabulary, prompt: str) -> str:
    """What to write before the text that goes on from a prompt.

    Parameters
    ----------
    vocabulary : Vocabulary
    prompt : str

    Returns
    -------
    str
        The prompt; of words and ids without white space behind the last one, as one space will follow.
    """
    if vocabulary.kind in ("char", "bpe"):
        return prompt
    before, newline, last = prompt.rpartition("\n")
    return before + newline + last.rstrip()


def generate_text(
    board: "Board",
    image: "Image",
    network: "IntegerNetwork | None",
    ids: Sequence[int],
    count: int,
    sampler: "Sampler",
    write: Callable[[str], Any],
    *,
    stop: int | None = None,
) -> "Session":
    """Generate text on a board that has the image loaded, from zero state.

    A core with a read-out draws the words itself, and they are compared when all have come. Else the host draws them,
    and each step is compared while the board runs the next one.

    Parameters
    ----------
    board : egret.host.board.Board
    image : egret.model.compiler.image.Image
    network : IntegerNetwork or None
        Of the integer network to compare each step with.
    ids : list of int
        The prompt.
    count : int
        Tokens to generate.
    sampler : egret.model.readout.Sampler
        Of the network's read-out.
    write : callable
        Called with each piece of text as it comes.
    stop : int or None
        Token behind which the text ends before that.

    Returns
    -------
    Session

    Raises
    ------
    InputError
        The board does not do what it should.
    """
    vocabulary = Vocabulary.from_bytes(image.vocabulary, image.vocabulary_kind, "image")
    writer = (_HostDraws if image.configuration.readout is None else _BoardDraws)(board, network, sampler, ids)
    session = Session()
    before = board.counters()
    sent, received = board.bytes_sent, board.bytes_received
    begin, worked = time.perf_counter(), time.process_time()
    # Closed here, whatever `write` raises: the board still answers.
    with contextlib.closing(writer.words(count, stop)) as tokens:
        # From the prompt on, for what stands between it and the first word.
        for piece in islice(vocabulary.pieces(chain(ids, tokens)), len(ids), None):
            write(piece)
            session.tokens += 1
    session.seconds = time.perf_counter() - begin - writer.seconds
    session.host_seconds = time.process_time() - worked - writer.host_seconds
    session.bytes_sent, session.bytes_received = board.bytes_sent - sent, board.bytes_received - received
    after = board.counters()
    session.counters = {name: after[name] - before[name] for name in after}
    writer.finish()
    session.steps, session.first_mismatch = writer.steps, writer.first
    session.matching = None if network is None else writer.matching
    return session


class _HostDraws:
    """Tokens that the host draws; each step's events are compared."""

    def __init__(self, board, network, sampler, ids):
        self._board, self._sampler, self._ids = board, sampler, ids
        # Numpy takes some 6 ms for a word of 10,000, and machine code a tenth of that.
        with contextlib.suppress(InputError):
            self._sampler = NativeSampler(sampler)
        self._engine = None if network is None else IntegerEngine(network)
        self.steps, self.matching, self.first = 0, 0, None
        self.seconds = self.host_seconds = 0.0  # that went into comparing

    def words(self, count, stop):
        return generate(self._board, self._sampler, self._ids, count, stop=stop, observe=self._observe)

    def _observe(self, token, events):
        self.steps += 1
        if self._engine is None:
            return
        begin, worked = time.perf_counter(), time.process_time()
        expected = self._engine.step(np.array([token]))[-1].y[0]
        found = Mismatch.find(self.steps - 1, expected, events)
        self.matching += found is None
        self.first = self.first or found
        self.seconds += time.perf_counter() - begin
        self.host_seconds += time.process_time() - worked

    def finish(self):
        pass


class _BoardDraws:
    """Tokens that the board draws; these are compared, and the log-probabilities of the prompt."""

    seconds = host_seconds = 0.0

    def __init__(self, board, network, sampler, ids):
        self._board, self._sampler, self._ids, self._network = board, sampler, [int(token) for token in ids], network
        self._scores, self._words = [], []
        self.matching, self.first = 0, None

    @property
    def steps(self):
        return len(self._scores) + len(self._words)

    def words(self, count, stop):
        *before, last = self._ids
        self._board.clear()
        targets = map(self._sampler.readout.target, self._ids[1:])
        self._scores.extend(self._board.score(before, targets))
        with contextlib.closing(self._board.generate_as(self._sampler, last, count, stop=stop)) as words:
            for word in words:
                self._words.append(word)
                yield word

    def finish(self):
        """Compare with the integer network, whose sampler goes on from where it was."""
        if self._network is None:
            return
        engine, drawing = IntegerEngine(self._network), len(self._scores)
        for step, token in enumerate([*self._ids, *self._words][: self.steps]):
            y = engine.step(np.array([token]))[-1].y
            if step < drawing:
                expected = int(engine.log_probabilities(y, np.array([self._ids[step + 1]]))[0])
                actual, what = self._scores[step], "log-probability"
            else:
                expected, actual, what = self._sampler.sample(y[0]), self._words[step - drawing], "word"
            self.matching += expected == actual
            if expected != actual and self.first is None:
                self.first = Mismatch(step, None, expected, actual, what)
