"""The device's end of the link in Python: counterpart of the executor, and with the frames of the whole link."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.protocol import (
    COUNTER_BYTES,
    DIGEST_BYTES,
    LINK_COUNTERS,
    LOAD_CHECK,
    LOAD_HEADER,
    NAK,
    REPLY,
    SEQUENCES,
    TOKEN,
    Command,
    Identity,
    LoadState,
    Status,
    event_bytes,
)

__all__ = ["Device", "DeviceCore"]


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


class Device:
    """The device's side of the link in Python: counterpart of `egret.rtl.link.link.Link`.

    Answers every byte sequence with the bytes that the hardware answers when the host lets each reply pass before it
    sends on.

    Parameters
    ----------
    core : DeviceCore
        What executes the commands.
    identity : Identity
        What it says about itself.
    sections : Mapping[int, tuple[int, int]]
        Bytes of a word and number of words of each memory.
    input_section : int or None
        The one of them that takes events, where these are the input.

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
    ) -> None:
        self._core = core
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
                return Status.OK, b""
            case Command.STEP:
                (token,) = TOKEN.unpack(payload)
                if not state.verified:
                    return Status.NOT_VERIFIED, b""
                if token >= self._identity.tokens:
                    return Status.BAD_TOKEN, b""
                return Status.OK, event_bytes(self._core.step(token), self._identity.outputs)
            case Command.COUNTERS:
                counters = b"".join(value.to_bytes(COUNTER_BYTES, "little") for value in self._core.counters())
                return Status.OK, counters + LINK_COUNTERS.pack(self.bad_frames, self.repeated_frames)
            case _:
                return Status.UNKNOWN_COMMAND, b""

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
