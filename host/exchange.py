"""The exchange of frames with a board: every command is executed exactly once, whatever the line does."""

import os
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, cast

from egret.model.errors import EgretError
from egret.rtl import protocol
from egret.rtl.link.frames import BadFrame, FrameReader, encode_frame
from egret.rtl.protocol import Command, Status

if TYPE_CHECKING:
    from egret.host.transport import Transport

__all__ = ["BoardError", "Exchange"]

ATTEMPTS = 6
"""Times a command is sent before the board counts as lost."""

QUICK_REPEATS = 3
"""Times a command is repeated at once, because of a damaged or refused frame, rather than after the timeout."""

RESET = "the board was reset, its memories and state are lost: load the image again"


class BoardError(EgretError):
    """The board cannot be used: it does not answer, was reset, or refused something."""


class Exchange:
    """Sends commands and receives their replies; what `egret.host.board.Board` gives its commands to.

    Parameters
    ----------
    transport : egret.host.transport.Transport
    attempts : int
        Times a command is sent before the board counts as lost.

    Attributes
    ----------
    repeats : int
        Commands sent again so far.
    damaged : int
        Damaged frames received so far.
    bytes_sent, bytes_received : int
        On the line so far, flags and escapes included.
    """

    def __init__(self, transport: "Transport", *, attempts: int = ATTEMPTS) -> None:
        self._transport = transport
        self._serial = transport.serial
        self._name = transport.name
        self._attempts = attempts
        self.repeats = 0
        self.damaged = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        # Replies are at most as long as the header's 16 bits allow; the reader must not call a long one damaged.
        self._reader = FrameReader(0xFFFF)
        self._frames = deque()
        self._deadline, self._late = 0.0, False
        self._failed = False
        # A real board may still hold another client's session; with a virtual one everything can be repeated.
        self._next = int.from_bytes(os.urandom(2), "little") if transport.board is None else 0
        self._identity: protocol.Identity | None = None

    @property
    def identity(self) -> protocol.Identity:
        """Digest, sizes and limits of the board."""
        assert self._identity is not None, "a board is identified before it is used"
        return self._identity

    def _call(self, command: Command, payload: bytes = b"") -> list[bytes]:
        return cast(list[bytes], list(self._exchange([(command, payload)])))

    def _exchange(self, requests, *, announce=False):
        """Send ``(command, payload)`` pairs, as many unanswered at once as the board allows.

        Yields the replies' payloads after their status, in order; before these, with `announce`, None when as many as
        may be were sent.
        """
        requests = iter(requests)
        sent = deque()  # (sequence, command, frame) of each command whose result was not yielded yet
        replies = {}  # payload by sequence number
        held = None  # the next of these, when it may not be sent yet
        more = True
        result = None  # not yielded yet: the board works on what follows meanwhile
        try:
            while True:
                while more:
                    if held is None:
                        request = next(requests, None)
                        if request is None:
                            more = False
                            break
                        held = (self._next, request[0], encode_frame(self._next, *request))
                    if not self._may_send(sent, held):
                        break
                    self._next = (self._next + 1) % protocol.SEQUENCES
                    sent.append(held)
                    self._write(held[2])
                    held = None
                if sent:
                    self._start()
                if result is not None:
                    yield result
                if not sent:
                    return
                if announce:
                    yield None
                    announce = False
                sequence, command, _ = sent[0]
                self._await(sent, replies)
                sent.popleft()
                result = self._result(command, replies.pop(sequence))
        finally:
            # A caller that stops early, or a refused command, leaves commands under way: see them through, so that the
            # next exchange starts in step with the board.
            # This never speaks over what ended the exchange.
            with suppress(BoardError):
                while sent and not self._failed:
                    self._await(sent, replies)
                    sent.popleft()

    def _may_send(self, sent, held):
        if not sent:
            return True
        if len(sent) >= self.identity.window:
            return False
        # The board has the first in its command buffer; the others wait in its receive queue.
        waiting = sum(len(frame) for _, _, frame in sent) - len(sent[0][2])
        return waiting + len(held[2]) <= self.identity.receive_bytes

    def _await(self, sent, replies):
        """Receive until the oldest command of `sent` is answered; add every reply to `replies`."""
        oldest = sent[0][0]
        attempt, quick, strangers, resets = 1, 0, 0, 0
        self._begin_waiting()
        while oldest not in replies:
            frame = self._receive()
            if frame is None:
                if attempt == self._attempts:
                    raise self._fail(RESET if resets else self._silence(strangers))
                attempt += 1
            elif not isinstance(frame, BadFrame) and frame.command != protocol.NAK:
                for sequence, command, _ in sent:
                    if frame.sequence == sequence and frame.command == command | protocol.REPLY and frame.payload:
                        replies[sequence] = frame.payload
                continue
            else:
                if isinstance(frame, BadFrame):
                    self.damaged += 1
                elif self._is_reset(frame):
                    # What the line brings twice may be older than this session. A board that was reset refuses what
                    # is repeated, too.
                    resets += 1
                    self._frames.clear()
                    if resets > QUICK_REPEATS:
                        raise self._fail(RESET)
                else:
                    strangers += self._is_strange(frame, sent)
                quick += 1
                if quick > QUICK_REPEATS:
                    continue
            # Repeating is always safe: the board answers a command that it has executed from its memory.
            for sequence, _, content in sent:
                if sequence not in replies:
                    self.repeats += 1
                    self._write(content)
            self._begin_waiting()

    def _is_reset(self, refusal):
        """Whether the board says that it has no session, although one was begun."""
        return self._identity is not None and refusal.payload == bytes([Status.NO_SESSION])

    def _is_strange(self, refusal, sent):
        """Whether a refused frame cannot be one of ours."""
        if self._identity is None:
            return False
        ahead = (refusal.sequence - sent[0][0]) % protocol.SEQUENCES
        return refusal.payload == bytes([Status.OUT_OF_ORDER]) and ahead > len(sent)

    def _result(self, command, payload):
        status = payload[0]
        if status == Status.OK:
            return payload[1:]
        name = Status(status).name if status in set(Status) else f"status {status}"
        reason = {
            Status.WRONG_DIGEST: f"the image is for another configuration than the board's {payload[1:].hex()}",
            Status.CHECK_FAILED: "what the board received is not the image that was sent",
            Status.NOT_VERIFIED: "no image is loaded",
        }.get(status, f"the board refused {command.name} ({name})")
        raise BoardError(f"{self._name}: {reason}")

    def _silence(self, strangers):
        if strangers:
            return "another program talks to this board; close it and start again"
        if self._identity is None:
            return (
                f"no Egret board answers there; is it powered, programmed, and set to {self._serial.baudrate} "
                "bits a second?"
            )
        return f"the board stopped answering ({self._attempts} attempts)"

    def _nonsense(self, command):
        return self._fail(f"the board's answer to {command.name} makes no sense")

    def _lost(self, error):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return self._fail(f"the connection was lost: {reason}")

    def _fail(self, reason):
        """The error to raise for a link that is of no further use."""
        self._failed = True
        return BoardError(f"{self._name}: {reason}")

    def _start(self):
        try:
            self._transport.start()
        except OSError as error:
            raise self._lost(error) from None

    def _write(self, content):
        try:
            self._serial.write(content)
        except OSError as error:
            raise self._lost(error) from None
        self.bytes_sent += len(content)

    def _begin_waiting(self):
        self._deadline, self._late = monotonic() + self._serial.timeout, False

    def _receive(self):
        """The next frame, or None when the time is up.

        What the first read behind the deadline brings still counts, for this process may have slept. A board that
        sends without end, frames or not, is not listened to any longer.
        """
        while not self._frames:
            if self._late:
                return None
            try:
                data = self._serial.read(max(1, self._serial.in_waiting))
            except OSError as error:
                raise self._lost(error) from None
            self.bytes_received += len(data)
            self._frames.extend(self._reader.feed(data))
            self._late = not data or monotonic() >= self._deadline
        return self._frames.popleft()
