"""The device's end of the link in Python: counterpart of the executor, and with the frames of the whole link."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

from egret.model.readout import ALL_WORDS, MOST_BETA
from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.protocol import (
    COUNTER_BYTES,
    DIGEST_BYTES,
    GENERATE,
    LINK_COUNTERS,
    LOAD_CHECK,
    LOAD_HEADER,
    MAX_PAYLOAD,
    MOST_WORDS,
    NAK,
    NOTHING,
    REPLY,
    SAMPLING,
    SCORE,
    SCORE_VALUE,
    SEQUENCES,
    TOKEN,
    TOP_WORD,
    WORD,
    Command,
    Identity,
    LoadState,
    Status,
    event_bytes,
)

__all__ = ["Device", "DeviceCore", "ReadOutCore"]


class DeviceCore(Protocol):
    """What `Device` asks of a core."""

    def step(self, token: int) -> Iterable[tuple[int, int]]:
        """Run a step with this ``token`` and return index and value of each event, in rising index."""
        ...

    def clear(self) -> None:
        """Set the state to zero."""
        ...

    def load(self, section: int, index: int, word: int) -> None:
        """Write ``word`` to place ``index`` of the memory of number ``section``."""
        ...

    def counters(self) -> Sequence[int]:
        """Return the performance counters, in their order."""
        ...


class ReadOutCore(DeviceCore, Protocol):
    """What `Device` asks of a core with a read-out."""

    def sampling(self, top: int, beta: int, state: int) -> None:
        """Say how words are drawn from now on: ``top``, ``beta`` and ``state`` of the sampling layout."""
        ...

    def score(self, token: int, group: int, index: int) -> int:
        """Run a step with this ``token`` and return the log-probability of the word at ``index`` of a ``group``."""
        ...

    def sample(self, token: int) -> int:
        """Run a step with this ``token`` and return the word that is drawn behind it."""
        ...

    def top(self, token: int, count: int) -> Iterable[tuple[int, int]]:
        """Run a step with this ``token`` and return the ``count`` most probable words and their log-probabilities."""
        ...


class Device:
    """The device's side of the link in Python: counterpart of `egret.rtl.link.link.Link`.

    Answers every byte sequence with the bytes that the hardware answers when the host lets each reply pass before it
    sends on.

    Parameters
    ----------
    core : DeviceCore
        What executes the commands; a `ReadOutCore` where the identity tells of a read-out.
    identity : Identity
        What it says about itself.
    sections : Mapping[int, tuple[int, int]]
        Bytes of a word and number of words of each memory.
    input_section : int or None
        The one of them that takes events, where these are the input.
    groups, group_size : int
        Groups of the read-out, and words of the largest one.

    Attributes
    ----------
    bad_frames, repeated_frames : int
        The link's own counters.
    """

    def __init__(
        self,
        core: DeviceCore,
        identity: Identity,
        sections: Mapping[int, tuple[int, int]],
        input_section: int | None = None,
        groups: int = 0,
        group_size: int = 0,
    ) -> None:
        self._core = core
        self._groups, self._group_size = groups, group_size
        self._last: int | None = None  # what a text goes on with
        self._stop = NOTHING
        self._identity = identity
        self._sections = sections
        self._input_section = input_section
        self._reader = FrameReader(identity.max_payload)
        self._connected = False
        self._expected = 0
        self._kept: list[bytes] = []
        self._load_state = LoadState()
        self.bad_frames = 0
        self.repeated_frames = 0

    def feed(self, data: bytes) -> bytes:
        """Take ``data`` from the host and return the bytes for it."""
        return b"".join(self.answer(frame) for frame in self._reader.feed(data))

    def _refuse(self, status: Status) -> bytes:
        return encode_frame(self._expected, NAK, bytes([status]))

    def answer(self, frame: Frame | BadFrame) -> bytes:
        """Execute, repeat or refuse ``frame``, and return the bytes of the reply's frame."""
        if isinstance(frame, BadFrame):
            self.bad_frames += 1
            return self._refuse(Status.BAD_FRAME)
        if frame.command == Command.IDENTIFY:
            self._kept = []
        elif not self._connected:
            return self._refuse(Status.NO_SESSION)
        elif frame.sequence != self._expected:
            age = (self._expected - 1 - frame.sequence) % SEQUENCES
            if age < len(self._kept):
                self.repeated_frames += 1
                return self._kept[-1 - age]
            return self._refuse(Status.OUT_OF_ORDER)
        status, payload = self._execute(frame)
        reply = encode_frame(frame.sequence, frame.command | REPLY, bytes([status]) + payload)
        self._connected = True
        self._expected = (frame.sequence + 1) % SEQUENCES
        self._kept = [*self._kept, reply][-self._identity.window :]
        return reply

    def _execute(self, frame: Frame) -> tuple[Status, bytes]:
        payload, state = frame.payload, self._load_state
        match frame.command:
            case Command.LOAD:
                if not state.loading:
                    return Status.NOT_LOADING, b""
                status = self._load(payload)
                self._load_state = LoadState(
                    status == Status.OK, False, state.loaded_bytes + len(payload), zlib.crc32(payload, state.loaded_crc)
                )
                return status, b""
            case Command.EVENTS if self._input_section is not None:
                if payload and payload[0] != self._input_section:
                    return Status.BAD_SECTION, b""
                return self._load(payload), b""
            case Command.IDENTIFY | Command.CLEAR | Command.COUNTERS if payload:
                return Status.BAD_LENGTH, b""
            case Command.BEGIN if len(payload) != DIGEST_BYTES:
                return Status.BAD_LENGTH, b""
            case Command.CHECK if len(payload) != LOAD_CHECK.size:
                return Status.BAD_LENGTH, b""
            case Command.STEP if len(payload) != TOKEN.size:
                return Status.BAD_LENGTH, b""
            case Command.IDENTIFY:
                return Status.OK, self._identity.pack() + state.pack()
            case Command.BEGIN:
                if payload != self._identity.digest:
                    return Status.WRONG_DIGEST, self._identity.digest
                self._load_state = LoadState(loading=True)
                return Status.OK, b""
            case Command.CHECK:
                if not state.loading:
                    return Status.NOT_LOADING, b""
                verified = LOAD_CHECK.unpack(payload) == (state.loaded_bytes, state.loaded_crc)
                self._load_state = LoadState(False, verified, state.loaded_bytes, state.loaded_crc)
                return Status.OK if verified else Status.CHECK_FAILED, self._load_state.pack()
            case Command.CLEAR:
                self._core.clear()
                self._last = None
                return Status.OK, b""
            case Command.STEP:
                (token,) = TOKEN.unpack(payload)
                if not state.verified:
                    return Status.NOT_VERIFIED, b""
                if token >= self._identity.tokens:
                    return Status.BAD_TOKEN, b""
                self._last = None
                return Status.OK, event_bytes(self._core.step(token), self._identity.outputs)
            case Command.SCORE | Command.SAMPLING | Command.GENERATE | Command.TOP if self._identity.head:
                return self._execute_words(frame.command, payload)
            case Command.COUNTERS:
                counters = b"".join(value.to_bytes(COUNTER_BYTES, "little") for value in self._core.counters())
                return Status.OK, counters + LINK_COUNTERS.pack(self.bad_frames, self.repeated_frames)
            case _:
                return Status.UNKNOWN_COMMAND, b""

    def _execute_words(self, command: int, payload: bytes) -> tuple[Status, bytes]:
        """Execute a command of the read-out."""
        core, tokens = cast(ReadOutCore, self._core), self._identity.tokens
        fits = {
            Command.SCORE: payload and len(payload) % SCORE.size == 0 and len(payload) <= MAX_PAYLOAD,
            Command.SAMPLING: len(payload) == SAMPLING.size,
        }
        if not fits.get(Command(command), len(payload) == GENERATE.size):
            return Status.BAD_LENGTH, b""
        if command == Command.SAMPLING:
            top, beta, stop, state = SAMPLING.unpack(payload)
            if (top > min(MOST_WORDS, tokens) and top != ALL_WORDS) or not 1 <= beta <= MOST_BETA or state == 0:
                return Status.BAD_VALUE, b""
            if stop != NOTHING and stop >= tokens:
                return Status.BAD_TOKEN, b""
            core.sampling(top, beta, state)
            self._stop = stop
            return Status.OK, b""
        if not self._load_state.verified:
            return Status.NOT_VERIFIED, b""
        if command == Command.SCORE:
            return self._score(core, payload)
        token, count = GENERATE.unpack(payload)
        if not 1 <= count <= (MOST_WORDS if command == Command.GENERATE else min(MOST_WORDS, tokens)):
            return Status.BAD_VALUE, b""
        if command == Command.GENERATE and token == NOTHING:
            return Status.OK, self._generate(core, count)
        if token >= tokens:
            return Status.BAD_TOKEN, b""
        if command == Command.GENERATE:
            self._last = token
            return Status.OK, self._generate(core, count)
        self._last = None
        return Status.OK, b"".join(TOP_WORD.pack(*word) for word in core.top(token, count))

    def _score(self, core: ReadOutCore, payload: bytes) -> tuple[Status, bytes]:
        values = b""
        for token, group, index in SCORE.iter_unpack(payload):
            limit = self._group_size if group else self._identity.head
            if token >= self._identity.tokens or group > self._groups or index >= limit:
                return Status.BAD_TOKEN, values
            self._last = None
            values += SCORE_VALUE.pack(core.score(token, group, index))
        return Status.OK, values

    def _generate(self, core: ReadOutCore, count: int) -> bytes:
        words = b""
        while self._last is not None and count:
            word = core.sample(self._last)
            words += WORD.pack(word)
            self._last = None if word == self._stop else word
            count -= 1
        return words

    def _load(self, payload: bytes) -> Status:
        if len(payload) < LOAD_HEADER.size:
            return Status.BAD_LENGTH
        if payload[0] not in self._sections:
            return Status.BAD_SECTION
        word_bytes, depth = self._sections[payload[0]]
        index = int.from_bytes(payload[1 : LOAD_HEADER.size], "little")
        words = payload[LOAD_HEADER.size :]
        for start in range(0, len(words) - word_bytes + 1, word_bytes):
            if index >= depth:
                return Status.BAD_INDEX
            self._core.load(payload[0], index, int.from_bytes(words[start : start + word_bytes], "little"))
            index += 1
        return Status.BAD_LENGTH if len(words) % word_bytes else Status.OK
