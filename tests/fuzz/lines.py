"""Boards that are broken or hostile: sessions with the stand-in device in Python, on a clock that costs no time.

On a damaged line every answer is right, or the session ends in one line. A device that lies in whole frames may give
any answer of the right form. Either ends within the time that the repeats of its commands take.
"""

import dataclasses
import json
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np

from egret.host import exchange
from egret.host.board import Board
from egret.model.readout import beta_of, drawn_from, random_state
from egret.rtl import protocol
from egret.rtl.link.frames import Frame, FrameReader, encode_frame
from egret.sim.stand_in import DIGEST, HEAD, OUTPUTS, SECTIONS, TOKENS, StandInModel, device
from tests.fuzz.mutate import NUMBERS, change_bytes
from tests.host.faults import FaultyPort, ModelTransport

__all__ = ["make_device", "make_line", "run_session"]

OPERATIONS = 12
"""Of a session, at most."""

SECONDS = 10 * 60
"""That a session may take by its clock: a hundred commands of nine repeats take longer than any of these sessions."""

_BYTES_PER_SECOND = 11_520


class _Clock:
    """Time that goes on where a port waits or carries bytes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds
        assert self.now < SECONDS, "the session does not end"


class _Port:
    """What `Board` needs of a `serial.Serial`, around a device whose bytes may be others, or never end."""

    timeout, baudrate = 1.0, 115200

    def __init__(self, device, clock, change):
        self._device, self._clock, self._change = device, clock, change
        self._received = b""
        self.flood = None  # makes more bytes whenever there are none

    @property
    def in_waiting(self):
        return len(self._received) if self.flood is None else 4096

    def reset_input_buffer(self):
        self._received = b""

    def write(self, data):
        self._received += self._change(self, self._device.feed(data))

    def read(self, size):
        if self.flood is not None and not self._received:
            self._received = self.flood()
        data, self._received = self._received[:size], self._received[size:]
        self._clock.pass_by(len(data) / _BYTES_PER_SECOND if data else self.timeout)
        return data

    def close(self):
        pass


def make_line(random: Random) -> dict[str, bytes]:
    """A session over a damaged line, which may end in silence, a flood, or an unplugged cable."""
    end = random.choice([None, None, "silence", "noise", "lost"])
    return _case(random, {"kind": "line", "rate": random.choice([0.0, 0.02, 0.2, 0.6]), "end": end})


def make_device(random: Random) -> dict[str, bytes]:
    """A session with a device whose frames are whole, and lie; it may say something else of itself, too."""
    identity = {}
    if random.random() < 0.3:
        name, bits = random.choice(
            [("window", 8), ("max_payload", 16), ("receive_bytes", 16), ("tokens", 32), ("outputs", 16),
             ("counters", 8), ("layers", 8), ("head", 32)]
        )  # fmt: skip
        identity[name] = random.choice(NUMBERS) % (1 << bits)
    end = random.choice([None, None, "silence", "noise", "frames", "refusals", "flags"])
    return _case(random, {"kind": "device", "rate": random.choice([0.02, 0.2]), "end": end, "identity": identity})


def _case(random, case):
    case |= {"seed": random.randrange(1 << 30), "window": random.choice([1, 2, 4]), "after": random.randrange(40)}
    return {"session.json": json.dumps(case).encode()}


def run_session(directory: Path) -> None:
    """Run the session of ``session.json``. Raises `EgretError` where it ends early."""
    case = json.loads((directory / "session.json").read_bytes())
    random, clock = Random(case["seed"]), _Clock()
    model = device(case["window"], readout=True)
    said, answers = dataclasses.replace(model._identity, **case.get("identity", {})).pack(), 0

    def change(port, data):
        nonlocal answers
        answers += 1
        if answers == 1 and case["kind"] == "device":
            (frame,) = FrameReader(0xFFFF).feed(b"\x7e" + data)
            payload = frame.payload[:1] + said + frame.payload[1 + len(said) :]
            data = encode_frame(frame.sequence, frame.command, payload)
        if case["end"] is not None and answers > case["after"]:
            if case["end"] == "lost":
                raise OSError("unplugged")
            port.flood = _floods(random)[case["end"]]
            return b""
        return _lie(random, data) if case["kind"] == "device" and random.random() < case["rate"] else data

    port = _Port(model, clock, change)
    line = FaultyPort(port, random, case["rate"]) if case["kind"] == "line" else port
    with mock.patch.object(exchange, "monotonic", clock), Board(ModelTransport(line)) as board:
        _use(board, random, exact=case["kind"] == "line")


def _floods(random):
    """What comes without end, by name; None where nothing does."""
    frames = b"".join(encode_frame(number, 0x86, bytes(30)) for number in random.sample(range(1 << 16), 50))
    refusals = encode_frame(random.randrange(1 << 16), protocol.NAK, b"\1") * 50
    return {
        "silence": None,
        "noise": lambda: random.randbytes(4096),
        "frames": lambda: frames,
        "refusals": lambda: refusals,
        "flags": lambda: random.choice([b"\x7e" * 4096, b"\x7d" * 4096, bytes(4096)]),
    }


def _lie(random, data):
    """Other frames with right checksums in place of the ``data`` of a device."""
    changed = b""
    for frame in FrameReader(0xFFFF).feed(b"\x7e" + data):
        assert isinstance(frame, Frame)
        sequence, command, payload = frame.sequence, frame.command, frame.payload
        match random.randrange(7):
            case 0:
                sequence = (sequence + random.choice([1, -1, 1 << 15])) % protocol.SEQUENCES
            case 1:
                command = random.choice([protocol.NAK, command ^ 1, command & 0x7F, random.randrange(256)])
            case 2:
                payload = payload[: random.randrange(len(payload) + 1)]
            case 3:
                payload += random.randbytes(random.choice([1, 2, 4, 1000, 60_000]))
            case 4:
                payload = bytes([random.randrange(20)]) + payload[1:]
            case 5:
                payload = payload[:1] + change_bytes(random, payload[1:])
            case _:
                changed += encode_frame(sequence, command, payload)
        changed += encode_frame(sequence, command, payload[:0xFFFF])
    return changed


def _use(board, random, *, exact):
    """Some commands, each answer compared where ``exact``, and of the right form anyway."""
    model = StandInModel()
    memories = [(section, width, random.randbytes(width * depth)) for section, (width, depth) in SECTIONS.items()]
    for section, width, content in memories:
        for index in range(len(content) // width):
            model.load(section, index, int.from_bytes(content[index * width : (index + 1) * width], "little"))
    board.load_memories(DIGEST, memories)
    board.clear()
    for _ in range(random.randrange(OPERATIONS + 1)):
        found, expected, fits = random.choice([_steps, _scores, _words, _top, _counters])(board, model, random)
        assert not exact or found == expected, f"{found} instead of {expected}"
        assert fits, f"{found} is no answer"


def _tokens(random):
    return [random.randrange(TOKENS) for _ in range(random.choice([1, 1, 5, 20]))]


def _steps(board, model, random):
    tokens = _tokens(random)
    found = [events.tolist() for events in board.step_many(tokens)]
    expected = []
    for token in tokens:
        output = np.zeros(OUTPUTS, np.uint8)
        for index, value in model.step(token):
            output[index] = value
        expected.append(output.tolist())
    return found, expected, [len(events) for events in found] == [board.identity.outputs] * len(tokens)


def _scores(board, model, random):
    tokens = _tokens(random)
    targets = [(0, random.randrange(HEAD)) for _ in tokens]
    found = list(board.score(tokens, targets))
    expected = [model.score(token, *target) for token, target in zip(tokens, targets, strict=True)]
    return found, expected, len(found) == len(tokens)


def _words(board, model, random):
    first, count, seed = random.randrange(TOKENS), random.choice([1, 5, 40]), random.randrange(100)
    stop = random.choice([None, random.randrange(64)])
    found = list(board.generate(first, count, seed=seed, stop=stop))
    model.sampling(drawn_from(1.0, None, False), beta_of(1.0), random_state(seed))
    expected, word = [], first
    while len(expected) < count and (not expected or word != stop):
        word = model.sample(word)
        expected.append(word)
    board.clear()  # it may be some words ahead
    model.clear()
    model.steps = board.counters()["tokens"]
    fits = len(found) == count or found[-1] == stop
    return found, expected, fits and all(word < board.identity.tokens for word in found)


def _top(board, model, random):
    token, k = random.randrange(TOKENS), random.choice([1, 7, 64])
    found = board.top(token, k)
    return found, model.top(token, k), len(found) == min(k, board.identity.tokens)


def _counters(board, model, random):
    found = board.counters()
    return found["tokens"], model.steps, len(found) == board.identity.counters + 2
