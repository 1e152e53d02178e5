"""The board client: `Board` speaks the link protocol over a transport.

For example::

    image = Image.load("build/ulx3s-85f/image")
    with Board(open_serial("/dev/ttyUSB0")) as board:   # or open_virtual(image.configuration); closes it at the end
        board.load(image)                               # verified, and left out where the board holds it; zero state
        events = board.step(3)                          # uint8 [H_last]
        for events in board.step_many([1, 4, 1, 5]):    # streaming: sent ahead, link and core busy at once
            print(events)                               # where events enter, give those: uint8 [E]
        finish = board.begin_step(9)                    # or one step, and something else meanwhile
        events = finish()
        board.clear()                                   # zero state
"""

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING, cast

import numpy as np

from egret.model.compiler.layouts import EVENT, INPUT_SECTION, memory_sections
from egret.model.errors import EgretError, InputError
from egret.rtl import protocol
from egret.rtl.link.frames import BadFrame, FrameReader, encode_frame
from egret.rtl.protocol import Command, Status

if TYPE_CHECKING:
    from egret.host.transport import Transport
    from egret.model.compiler.image import Image
    from egret.sim.virtual import VirtualBoard

__all__ = ["Board", "BoardError"]

ATTEMPTS = 6
"""Times a command is sent before the board counts as lost."""

QUICK_REPEATS = 3
"""Times a command is repeated at once, because of a damaged or refused frame, rather than after the timeout."""


class BoardError(EgretError):
    """The board cannot be used: it does not answer, was reset, or refused something."""


class Board:
    """A board, real or virtual. A context manager.

    The constructor identifies the board. Commands are repeated when they or their answers are lost or damaged; the
    board executes each exactly once.

    Parameters
    ----------
    transport : egret.host.transport.Transport
        Closed by `close`.
    attempts : int
        Times a command is sent before the board counts as lost; between two, the transport's timeout passes.

    Attributes
    ----------
    load_state : egret.rtl.protocol.LoadState
        How far loading had come when it was identified.
    repeats : int
        Commands sent again so far.
    damaged : int
        Damaged frames received so far.
    bytes_sent, bytes_received : int
        On the line so far, flags and escapes included.

    Raises
    ------
    BoardError
        Nothing that speaks this protocol answers. Any command may raise it.
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
        self._failed = False
        # A real board may still hold another client's session; with a virtual one everything can be repeated.
        self._next = int.from_bytes(os.urandom(2), "little") if transport.board is None else 0
        self._identity: protocol.Identity | None = None
        try:
            self._serial.reset_input_buffer()
            self._identify()
        except OSError as error:
            self.close()
            raise self._lost(error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Close the transport; commands that a caller left under way are not seen through."""
        self._failed = True
        self._transport.close()

    @property
    def virtual(self) -> "VirtualBoard | None":
        """The `egret.sim.virtual.VirtualBoard` behind the transport, or None."""
        return self._transport.board

    @property
    def identity(self) -> protocol.Identity:
        """Digest, sizes and limits of the board."""
        assert self._identity is not None, "a board is identified before it is used"
        return self._identity

    # Commands.

    def _identify(self):
        (payload,) = self._call(Command.IDENTIFY)
        size = protocol.IDENTITY.size + protocol.LOAD_STATE.size
        magic, version, *members = protocol.IDENTITY.unpack(
            payload[: protocol.IDENTITY.size].ljust(protocol.IDENTITY.size, b"\0")
        )
        if magic != protocol.MAGIC:
            raise BoardError(f"{self._name}: what answers there is not an Egret board")
        if version != protocol.VERSION or len(payload) != size:
            raise BoardError(
                f"{self._name}: the board speaks protocol version {version}, this program "
                f"{protocol.VERSION}: build the bitstream again"
            )
        self._identity = protocol.Identity(*members)
        self.load_state = self._unpack_load_state(payload[protocol.IDENTITY.size :])

    def load(self, image: "Image", *, progress: Callable[[int, int], None] | None = None) -> None:
        """Load an image into the board's memories, verify it, and clear the state.

        Nothing is loaded when the board says that it holds this very image, loaded and verified; loading goes on where
        it stopped when the board says that it holds a part of it, by that part's length and CRC.

        What belongs in the SDRAM of a virtual board is written there directly where that can be done
        (`egret.sim.virtual.VirtualBoard.fill`), and only the rest goes over the link.

        Parameters
        ----------
        image : egret.model.compiler.image.Image
            Compiled for the board's configuration.
        progress : callable or None
            Called with bytes loaded and bytes in total as it goes.

        Raises
        ------
        BoardError
            The image is for another configuration, or the board did not get what was sent.
        """
        configuration, identity = image.configuration, self.identity
        if configuration.digest != identity.digest:
            raise BoardError(
                f"the image is for configuration {configuration.digest.hex()} ({configuration.vocabulary} tokens, "
                f"layers {'-'.join(map(str, configuration.hidden))}, {configuration.lanes} lanes), but {self._name} "
                f"has configuration {identity.digest.hex()} ({identity.tokens} tokens, last layer "
                f"{identity.outputs}): compile the image for this board, or build the board for this image"
            )
        bases = configuration.sdram_base if self.virtual is not None and self.virtual.words else {}
        memories, direct = [], []
        for name, section in memory_sections(configuration).items():
            if name in bases:
                direct.append((bases[name], image.memories[name]))
            else:
                memories.append((section.number, section.word_bytes, image.memories[name]))
        self.load_memories(configuration.digest, memories, direct=direct, progress=progress)
        self.clear()

    def load_memories(
        self,
        digest: bytes,
        memories: list[tuple[int, int, bytes]],
        *,
        direct: Sequence[tuple[int, bytes]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load memories and verify them, as `load` does for an image; `clear` must follow.

        Parameters
        ----------
        digest : bytes
            Of the configuration, eight bytes.
        memories : list of tuple
            Section number, bytes a word, and content from the first word on, of each memory.
        direct : list of tuple
            First word and content of what is written to a virtual board's SDRAM directly.
        progress : callable or None
            As for `load`.
        """
        payloads = [payload for memory in memories for payload in self._load_payloads(*memory)]
        # What the board holds after each number of them.
        lengths = accumulate(map(len, payloads), initial=0)
        crcs = accumulate(payloads, lambda crc, payload: zlib.crc32(payload, crc), initial=protocol.NO_CRC)
        held = list(zip(lengths, crcs, strict=True))
        total, crc = held[-1]
        if self.load_state == protocol.LoadState(False, True, total, crc) and self._holds(direct):
            if progress is not None:
                progress(total, total)
            return
        first = next(
            (number for number, state in enumerate(held) if self.load_state == protocol.LoadState(True, False, *state)),
            None,
        )
        self.load_state = protocol.LoadState()
        if first is None:
            self._call(Command.BEGIN, digest)
            first = 0
        self._fill(direct)
        loads = self._exchange((Command.LOAD, payload) for payload in payloads[first:])
        for (loaded, _), _ in zip(held[first + 1 :], loads, strict=True):
            if progress is not None:
                progress(loaded, total)
        (reply,) = self._call(Command.CHECK, protocol.LOAD_CHECK.pack(total, crc))
        self.load_state = self._unpack_load_state(reply)

    def _fill(self, direct):
        """Write a virtual board's SDRAM, before CHECK, which then speaks for what came over the link alone."""
        try:
            for first, content in direct:
                cast("VirtualBoard", self.virtual).fill(first, content)
        except OSError as error:
            raise self._lost(error) from None
        if not self._holds(direct):
            raise BoardError(f"{self._name}: its SDRAM does not hold what was written there")

    def _holds(self, direct):
        """Whether a virtual board's SDRAM holds this."""
        try:
            board = cast("VirtualBoard", self.virtual)
            return all(board.crc(first, len(content)) == zlib.crc32(content) for first, content in direct)
        except OSError as error:
            raise self._lost(error) from None

    def _load_payloads(self, section, word_bytes, content):
        words = (self.identity.max_payload - protocol.LOAD_HEADER.size) // word_bytes
        for start in range(0, len(content), words * word_bytes):
            index = (start // word_bytes).to_bytes(3, "little")
            yield protocol.LOAD_HEADER.pack(section, index) + content[start : start + words * word_bytes]

    def clear(self) -> None:
        """Set the state of all neurons to zero."""
        self._call(Command.CLEAR)

    def step(self, token: int | np.ndarray) -> np.ndarray:
        """Run one time step.

        Parameters
        ----------
        token : int, or numpy.ndarray
            Token id; or, where the input is events, those that enter: [E] uint8, zero where there is none.

        Returns
        -------
        numpy.ndarray
            Output of the last layer: [H_last] uint8, LSB 2^-8, zero where no event.
        """
        return self.begin_step(token)()

    def begin_step(self, token: int | np.ndarray) -> Callable[[], np.ndarray]:
        """Start a time step, and work on something else while the board runs it.

        Parameters
        ----------
        token : int, or numpy.ndarray
            As for `step`.

        Returns
        -------
        callable
            Waits for the step and returns what `step` does. It must be called, or let go of, before the next command
            is given.
        """
        steps = self._steps([token], announce=True)
        next(steps)
        return lambda: cast(np.ndarray, next(steps))

    def step_many(self, tokens: Iterable[int | np.ndarray]) -> Iterator[np.ndarray]:
        """Run time steps for tokens that are known in advance, keeping the link and the core busy at once.

        Parameters
        ----------
        tokens : iterable
            As for `step`; taken up to the board's window ahead of the results.

        Yields
        ------
        numpy.ndarray
            As `step` returns, one a token, in order.
        """
        yield from cast(Iterator[np.ndarray], self._steps(tokens))

    def _steps(self, tokens, *, announce=False):
        """Events of each step, as they come; before these, with `announce`, None."""
        sent = deque()  # which of the commands under way is a STEP

        def requests():
            for token in tokens:
                for request in self._requests(token):
                    sent.append(request[0] == Command.STEP)
                    yield request

        for payload in self._exchange(requests(), announce=announce):
            if payload is None:
                yield None
            elif sent.popleft():
                yield self._events(payload)

    def _requests(self, token):
        """The commands of a step: pairs of command and payload."""
        if isinstance(token, np.ndarray):
            if token.shape != (self.identity.tokens - 1,):
                raise InputError(
                    f"events of {self.identity.tokens - 1} neurons enter the board, not {list(token.shape)}"
                )
            index = np.flatnonzero(token)
            events = EVENT.pack({"index": index, "value": token[index]})
            yield from (
                (Command.EVENTS, payload) for payload in self._load_payloads(INPUT_SECTION, EVENT.whole_bytes, events)
            )
            token = len(index)
        yield Command.STEP, self._token(token)

    def counters(self) -> dict[str, int]:
        """Performance counters since the board's reset.

        Returns
        -------
        dict of str to int
            Those of the core (`egret.rtl.protocol.counter_names` says what they count), then ``bad_frames`` and
            ``repeated_frames`` of the link.
        """
        (payload,) = self._call(Command.COUNTERS)
        count = self.identity.counters
        core = protocol.COUNTER_BYTES * count
        if len(payload) != core + protocol.LINK_COUNTERS.size:
            raise self._nonsense(Command.COUNTERS)
        names = [*protocol.counter_names(self.identity.layers, sdram=True)[:count]]
        names += [field.name for field in protocol.LAYOUTS["Link counters"]]
        values = struct.unpack_from(f"<{count}Q", payload) + protocol.LINK_COUNTERS.unpack_from(payload, core)
        return dict(zip(names, values, strict=True))

    def _token(self, token):
        if not 0 <= token < self.identity.tokens:
            raise InputError(
                f"token {token} is not one of the board's {self.identity.tokens} (0 to {self.identity.tokens - 1})"
            )
        return protocol.TOKEN.pack(token)

    def _events(self, payload):
        outputs = self.identity.outputs
        size = protocol.bitmap_bytes(outputs)
        content = np.frombuffer(payload, np.uint8)
        index = np.flatnonzero(np.unpackbits(content[:size], bitorder="little"))
        if len(index) != len(content) - size or np.any(index >= outputs):
            raise self._nonsense(Command.STEP)
        output = np.zeros(outputs, np.uint8)
        output[index] = content[size:]
        return output

    def _unpack_load_state(self, payload):
        if len(payload) != protocol.LOAD_STATE.size:
            raise self._nonsense(Command.CHECK)
        return protocol.LoadState(*protocol.LOAD_STATE.unpack(payload))

    # Exchange of frames.

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
        attempt, quick, strangers = 1, 0, 0
        deadline = monotonic() + self._serial.timeout
        while oldest not in replies:
            frame = self._receive(deadline)
            if frame is None:
                if attempt == self._attempts:
                    raise self._fail(self._silence(strangers))
                attempt += 1
            elif not isinstance(frame, BadFrame) and frame.command != protocol.NAK:
                for sequence, command, _ in sent:
                    if frame.sequence == sequence and frame.command == command | protocol.REPLY and frame.payload:
                        replies[sequence] = frame.payload
                continue
            else:
                if isinstance(frame, BadFrame):
                    self.damaged += 1
                else:
                    strangers += self._judge(frame, sent)
                quick += 1
                if quick > QUICK_REPEATS:
                    continue
            # Repeating is always safe: the board answers a command that it has executed from its memory.
            for sequence, _, content in sent:
                if sequence not in replies:
                    self.repeats += 1
                    self._write(content)
            deadline = monotonic() + self._serial.timeout

    def _judge(self, refusal, sent):
        """1 when a refused frame cannot be one of ours, else 0; raises when the board was reset."""
        if self._identity is None or len(refusal.payload) != 1:
            return 0
        status = refusal.payload[0]
        if status == Status.NO_SESSION:
            raise self._fail("the board was reset, its memories and state are lost: load the image again")
        ahead = (refusal.sequence - sent[0][0]) % protocol.SEQUENCES
        return int(status == Status.OUT_OF_ORDER and ahead > len(sent))

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

    def _receive(self, deadline):
        """The next frame, or None when none was complete by the deadline."""
        while not self._frames:
            try:
                data = self._serial.read(max(1, self._serial.in_waiting))
            except OSError as error:
                raise self._lost(error) from None
            self.bytes_received += len(data)
            self._frames.extend(self._reader.feed(data))
            if not self._frames and (not data or monotonic() >= deadline):
                return None
        return self._frames.popleft()
