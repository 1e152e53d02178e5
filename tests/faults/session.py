"""Sessions of the host's own code with a board behind a bad line: every result is right, or it ends in one line."""

import re
from collections import Counter
from random import Random
from types import SimpleNamespace
from unittest import mock

import numpy as np

from egret.host import exchange
from egret.host.board import Board
from egret.host.exchange import BoardError
from egret.host.transport import Transport
from egret.model.readout import beta_of, drawn_from, random_state
from egret.sim.stand_in import DIGEST, OUTPUTS, SECTIONS, TOKENS, StandInModel
from tests.host.faults import FaultyPort

__all__ = ["FRAMES", "Failure", "cable_of", "run_case"]

FRAMES = 2000
"""Of a case, at least."""

BYTE_RATE = 0.002
"""Writes and reads of which bytes are lost, changed or repeated behind the pins: in an adapter, or a driver."""

ENDS = {
    "reset": (
        r"the board was reset, .*|no image is loaded|what the board received is not the image that was sent|"
        r"the board refused (LOAD|CHECK) \(NOT_LOADING\)"
    ),
    "lost": "the connection was lost: .*",
    "silent": r"the board stopped answering \(6 attempts\)|no Egret board answers there; .*",
}
"""How a session may end, by what must have happened."""

_NAME = "the board"


class Failure(AssertionError):
    """Something that must not come of a fault."""


def cable_of(line, random, rate=1.0):
    """The cable of a line, ``uart`` or ``usb``."""
    # Each imports what only it needs.
    if line == "uart":
        from tests.faults.uart import UartCable

        return UartCable(random, rate)
    from tests.faults.usb import UsbCable

    return UsbCable(random, rate)


def run_case(line, seed, number, frames=FRAMES, rate=1.0):
    """Run sessions until the host has sent so many frames.

    Parameters
    ----------
    line : str
        ``uart`` or ``usb``.
    seed, number : int
        Case ``number`` of a seed is always the same.
    frames : int
    rate : float
        How often faults are, 1 being usual.

    Returns
    -------
    Counter
        What happened: ``frames``, ``steps``, ``words``, ``repeats``, ``damaged``, ``bad frames``, ``sessions``, how
        these ended (``end …``), and faults (``fault …``).

    Raises
    ------
    Failure
        A wrong result, a wrong reason, or no end.
    """
    random, seen = Random(f"{line} {seed} {number}"), Counter()
    with (
        cable_of(line, random, rate) as cable,
        mock.patch.object(exchange, "monotonic", lambda: cable.now),
        # The first number of a session, else drawn by the machine.
        mock.patch.object(exchange, "os", SimpleNamespace(urandom=random.randbytes)),
    ):
        while cable.frames < frames:
            _Session(cable, random, seen).run()
        seen["frames"] = cable.frames
        seen.update({f"fault {kind}": count for kind, count in cable.faults.items()})
    return seen


class _Session:
    """One session.

    Parameters
    ----------
    cable : Cable
    random : Random
    seen : Counter
        As `run_case` returns it; added to.
    """

    def __init__(self, cable, random, seen):
        self.cable, self.random, self.seen = cable, random, seen
        self.model = StandInModel()
        self.tokens = self.clears = self.bad = 0

    def run(self):
        cable, random, seen = self.cable, self.random, self.seen
        seen["sessions"] += 1
        port = _Watched(cable.open(), random, BYTE_RATE * cable.rate)
        board = None
        try:
            board = Board(Transport(_NAME, port))
            self._load(board)
            first = board.counters()
            self.tokens, self.clears, self.bad = first["tokens"], first["cycles"], first["bad_frames"]
            board.clear()
            self.model.clear()
            for _ in range(random.randint(1, 60)):
                self._operate(board)
            self._count(board)
            if random.random() < 0.3:
                # It is closed while the board works, whose answer the next session does not take for one of its own.
                board.begin_step(random.randrange(TOKENS))
            seen["end finished"] += 1
        except BoardError as error:
            seen[f"end {self._reason(str(error))}"] += 1
        finally:
            if board is not None:
                board.close()
                seen.update(repeats=board.repeats, damaged=board.damaged)
            seen.update({f"fault bytes: {kind}": count for kind, count in port.faults.items()})

    def _reason(self, message):
        happened = {"reset": self.cable.was_reset, "lost": self.cable.was_lost, "silent": self.cable.is_silent}
        for reason, pattern in ENDS.items():
            if happened[reason] and re.fullmatch(f"{_NAME}: ({pattern})", message):
                return reason
        raise Failure(f"ended with {message!r}, where {[name for name, did in happened.items() if did]} happened")

    def _load(self, board):
        # Few enough that a session often finds its own there.
        contents = Random(self.random.randrange(4))
        memories = []
        for section, (width, depth) in SECTIONS.items():
            content = contents.randbytes(width * depth)
            memories.append((section, width, content))
            for index in range(depth):
                word = content[index * width : (index + 1) * width]
                self.model.load(section, index, int.from_bytes(word, "little"))
        board.load_memories(DIGEST, memories)

    def _count(self, board):
        """Each step and each clear was made once."""
        counters = board.counters()
        found = counters["tokens"] - self.tokens, counters["cycles"] - self.clears
        self._same(found, (self.model.steps, self.model.clears), "steps and clears")
        self.seen["bad frames"] += counters["bad_frames"] - self.bad
        self.bad = counters["bad_frames"]

    def _same(self, found, expected, what):
        if found != expected:
            raise Failure(f"{what}: {found}, not {expected}")

    def _events(self, found, token):
        expected = np.zeros(OUTPUTS, np.uint8)
        for index, value in self.model.step(token):
            expected[index] = value
        self._same(found.tolist(), expected.tolist(), f"step {self.model.steps}")
        self.seen["steps"] += 1

    def _operate(self, board):
        random, model = self.random, self.model
        tokens = [random.randrange(TOKENS) for _ in range(random.choice([1, 2, 30]))]
        match random.choice(["step", "step", "many", "many", "many", "begun", "early", "generate", "score", "top"]):
            case "step":
                self._events(board.step(tokens[0]), tokens[0])
            case "begun":
                finish = board.begin_step(tokens[0])
                self._events(finish(), tokens[0])
            case "many":
                if random.random() < 0.3:
                    tokens.insert(random.randrange(len(tokens)), None)
                found = board.step_many(tokens)
                for token in tokens:
                    if token is None:
                        model.clear()
                    else:
                        self._events(next(found), token)
                self._same(list(found), [], "too many results")
            case "early":
                steps = board.step_many(tokens)
                self._events(next(steps), tokens[0])
                steps.close()
                # Those that were under way have been run.
                ahead = board.counters()["tokens"] - self.tokens - model.steps
                self._same(0 <= ahead <= min(2, len(tokens) - 1), True, f"{ahead} steps ahead")
                for token in tokens[1 : 1 + ahead]:
                    model.step(token)
            case "generate":
                count, seed, top = random.randint(1, 40), random.getrandbits(64), random.choice([None, 5])
                model.sampling(drawn_from(1.0, top, False), beta_of(1.0), random_state(seed))
                words, word = [], tokens[0]
                for _ in range(count):
                    word = model.sample(word)
                    words.append(word)
                self._same(list(board.generate(tokens[0], count, seed=seed, top_k=top)), words, "words")
                self.seen["words"] += count
            case "score":
                targets = [(random.randrange(4), random.randrange(40)) for _ in tokens]
                expected = [model.score(token, *target) for token, target in zip(tokens, targets, strict=True)]
                self._same(list(board.score(tokens, targets)), expected, "scores")
                self.seen["words"] += len(tokens)
            case "top":
                expected = model.top(tokens[0], 5)
                self._same(board.top(tokens[0], 5), expected, "most probable words")
                self.seen["words"] += 1
        if random.random() < 0.05:
            board.clear()
            model.clear()
        if random.random() < 0.1:
            self._count(board)


class _Watched(FaultyPort):
    """Sees that a session ends: the host reads no more often than its repeats explain."""

    def __init__(self, port, generator, rate):
        super().__init__(port, generator, rate)
        self._reads = 0

    def read(self, size):
        self._reads += 1
        if self._reads > 1000 + 100 * self.writes:
            raise Failure("the host reads without end")
        return super().read(size)
