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

A board with a read-out goes on to words::

        for word in board.generate(3, 100, seed=1):     # streaming, a hundred words behind token 3
            print(word)
        list(board.score([1, 4], [(0, 7), (2, 5)]))     # log-probability of a word behind each token, LSB 2^-16 nats
        board.top(9, 5)                                 # the five most probable words behind token 9
"""

import struct
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, cast

import numpy as np

from egret.host.exchange import ATTEMPTS, BoardError, Exchange
from egret.model.compiler.checks import block_place
from egret.model.compiler.layouts import EVENT, INPUT_SECTION, memory_sections
from egret.model.errors import InputError
from egret.model.readout import ALL_WORDS, Sampler, beta_of, checked_top, drawn_from, random_state
from egret.rtl import protocol
from egret.rtl.link.frames import encode_frame
from egret.rtl.protocol import DAMAGED_BLOCK, Command

if TYPE_CHECKING:
    from egret.host.transport import Transport
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.sim.virtual import VirtualBoard

__all__ = ["MOST_AT_ONCE", "Board", "bytes_to_load", "load_payloads", "scores_at_once"]


MOST_AT_ONCE = 16
"""Words that one GENERATE asks for once a text runs, and most tokens of a SCORE: it takes less than four bytes a word,
and few enough words that several commands are under way."""


def scores_at_once(receive_bytes: int) -> int:
    """Tokens in each SCORE for a board that holds ``receive_bytes`` of further commands: one waits there meanwhile."""
    fit = (receive_bytes - protocol.COMMAND_OVERHEAD) // protocol.SCORE.size
    return min(max(fit, 1), MOST_AT_ONCE)


def _shape(c: "Configuration") -> tuple[int, int, int, int]:
    """What a board of a configuration says of itself: tokens, outputs, entries of its head, and counters."""
    readout = c.readout is not None
    names = protocol.counter_names(c.layers, sdram=c.store == "sdram", readout=readout, ddr3=c.ddr3)
    return c.tokens, c.hidden[-1], c.readout.entries if c.readout is not None else 0, len(names)


def load_payloads(section: int, word_bytes: int, content: bytes, max_payload: int) -> Iterator[bytes]:
    """Payloads of the LOADs that write a memory from its first word on.

    Parameters
    ----------
    section : int
        The memory's number.
    word_bytes : int
        Bytes of one of its words.
    content : bytes
        Its words.
    max_payload : int
        Bytes of the longest payload, which has room for a word.

    Yields
    ------
    bytes
    """
    words = (max_payload - protocol.LOAD_HEADER.size) // word_bytes
    for start in range(0, len(content), words * word_bytes):
        index = (start // word_bytes).to_bytes(3, "little")
        yield protocol.LOAD_HEADER.pack(section, index) + content[start : start + words * word_bytes]


def bytes_to_load(image: "Image", max_payload: int) -> int:
    """Bytes on the line of all LOADs of an ``image``, none longer than ``max_payload``, with flags and escapes."""
    payloads = (
        payload
        for name, section in memory_sections(image.configuration).items()
        for payload in load_payloads(section.number, section.word_bytes, image.memories[name], max_payload)
    )
    return sum(len(encode_frame(number, Command.LOAD, payload)) for number, payload in enumerate(payloads))


class Board(Exchange):
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
        super().__init__(transport, attempts=attempts)
        self._loaded: Configuration | None = None
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
        if (identity.tokens, identity.outputs, identity.head, identity.counters) != _shape(configuration):
            raise self._nonsense(Command.IDENTIFY)
        self._loaded = configuration
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
        most = self.identity.max_payload
        widest = max([EVENT.whole_bytes, *(word_bytes for _, word_bytes, _ in memories)])
        if most < protocol.LOAD_HEADER.size + widest:
            raise self._nonsense(Command.IDENTIFY)
        payloads = [payload for memory in memories for payload in load_payloads(*memory, most)]
        # What the board holds after each number of them.
        lengths = accumulate(map(len, payloads), initial=0)
        crcs = accumulate(payloads, lambda crc, payload: zlib.crc32(payload, crc), initial=protocol.NO_CRC)
        held = list(zip(lengths, crcs, strict=True))
        total, crc = held[-1]
        whole = protocol.LoadState(False, True, total, crc)
        if self.load_state == whole and self._holds(direct) and not self._damaged():
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
        if self.load_state != whole:
            raise self._nonsense(Command.CHECK)

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

    def _damaged(self):
        """Whether the board has found that its SDRAM no longer holds what was loaded."""
        return self._loaded is not None and self._loaded.checked_blocks > 0 and self._counters()[DAMAGED_BLOCK] > 0

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

    def step_many(self, tokens: Iterable[int | np.ndarray | None]) -> Iterator[np.ndarray]:
        """Run time steps for tokens that are known in advance, keeping the link and the core busy at once.

        Parameters
        ----------
        tokens : iterable
            As for `step`; taken up to the board's window ahead of the results. None sets the state to zero, as `clear`
            does, and is no step.

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
        """The commands of a step, or of zero state: pairs of command and payload."""
        if token is None:
            yield Command.CLEAR, b""
            return
        if isinstance(token, np.ndarray):
            if token.shape != (self.identity.tokens - 1,):
                raise InputError(
                    f"events of {self.identity.tokens - 1} neurons enter the board, not {list(token.shape)}"
                )
            index = np.flatnonzero(token)
            events = EVENT.pack({"index": index, "value": token[index]})
            yield from (
                (Command.EVENTS, payload)
                for payload in load_payloads(INPUT_SECTION, EVENT.whole_bytes, events, self.identity.max_payload)
            )
            token = len(index)
        yield Command.STEP, self._token(token)

    # With a read-out.

    def score(self, tokens: Iterable[int], targets: Iterable[tuple[int, int]]) -> Iterator[int]:
        """Run time steps, and tell the log-probability of a word behind each, keeping link and core busy at once.

        Parameters
        ----------
        tokens : iterable of int
            Token ids.
        targets : iterable of (int, int)
            Where the read-out has the word behind each token (`egret.model.readout.ReadOut.target`): 0 and the entry of
            the head, or g + 1 and the number of the word in group g.

        Returns
        -------
        iterator of int
            One a token, in order: nats with `egret.model.readout.LOG_FRACTION` fraction bits.

        Raises
        ------
        InputError
            The board has no read-out, or a token is not in the vocabulary.
        """
        self._needs_readout()
        most = scores_at_once(self.identity.receive_bytes)
        pairs = zip(tokens, targets, strict=True)
        asked = deque()

        def requests():
            while batch := list(islice(pairs, most)):
                asked.append(len(batch))
                yield Command.SCORE, b"".join(self._target(*pair) for pair in batch)

        def values():
            for payload in self._exchange(requests()):
                found = self._unpacked(Command.SCORE, protocol.SCORE_VALUE, payload)
                if len(found) != asked.popleft():
                    raise self._nonsense(Command.SCORE)
                yield from (value for (value,) in found)

        return values()

    def generate(
        self,
        first: int,
        count: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        by_factors: bool = False,
        stop: int | None = None,
    ) -> Generator[int, None, None]:
        """Generate words; as many as fit are under way at once, so that the board never waits for the host.

        Closed early, it leaves the board some words ahead, and in step with the client.

        Parameters
        ----------
        first : int
            Token to feed first.
        count : int
            Words to generate.
        seed : int
            Of the random numbers, 0 to 2^64 - 1; the same one gives the same words on every machine.
        temperature : float
            1/16 to 256; or 0, which takes the most probable word, as ``top_k`` = 1 does.
        top_k : int or None
            Words that each word is drawn from, 1 to 64. Without it words are drawn from all words.
        by_factors : bool
            Whether the temperature is applied to each factor, where ``top_k`` is None: one group is read at most.
        stop : int or None
            Word behind which the text ends.

        Returns
        -------
        generator of int
            The words, as they come; with the stop word. The last one has not been fed.

        Raises
        ------
        InputError
            The board has no read-out, or a parameter is out of range.
        """
        top, beta = drawn_from(temperature, top_k, by_factors), beta_of(temperature or 1.0)
        return self._generate(first, count, top, beta, random_state(seed), stop)

    def generate_as(
        self, sampler: Sampler, first: int, count: int, *, stop: int | None = None
    ) -> Generator[int, None, None]:
        """Generate words as a sampler draws them from its state on, which stays as it is; else as `generate`.

        Parameters
        ----------
        sampler : egret.model.readout.Sampler
        first, count : int
        stop : int or None

        Returns
        -------
        generator of int
        """
        return self._generate(first, count, sampler.top, sampler.beta, sampler.state, stop)

    def _generate(self, first, count, top, beta, state, stop):
        self._needs_readout()
        if count < 0:
            raise InputError(f"the number of words must be at least 0, not {count}")
        tokens = self.identity.tokens
        if stop is not None and not 0 <= stop < tokens:
            raise InputError(f"the stop token {stop} is not one of the board's {tokens} (0 to {tokens - 1})")
        most_words = top if top == ALL_WORDS else min(top, tokens)
        sampling = protocol.SAMPLING.pack(most_words, beta, protocol.NOTHING if stop is None else stop, state)
        start = self._token(first)
        ended, wanted = False, deque()

        def requests():
            yield Command.SAMPLING, sampling
            left, most, token = count, 1, start
            while left and not ended:
                asked = min(left, most)
                wanted.append(asked)
                yield Command.GENERATE, token + bytes([asked])
                # The first words come at once.
                left, most, token = left - asked, min(2 * most, MOST_AT_ONCE), protocol.TOKEN.pack(protocol.NOTHING)

        def words():
            nonlocal ended
            if not count:
                return
            replies = self._exchange(requests())
            next(replies)
            for payload in replies:
                found = [word for (word,) in self._unpacked(Command.GENERATE, protocol.WORD, payload)]
                # As many as were asked for; fewer only behind the stop token, and none once it has come.
                asked = wanted.popleft()
                complete = not found if ended else len(found) == asked or stop in found[-1:] and len(found) < asked
                if not complete or any(word >= tokens for word in found) or stop in found[:-1]:
                    raise self._nonsense(Command.GENERATE)
                ended = ended or found[-1:] == [stop]
                yield from found

        return words()

    def top(self, token: int, k: int) -> list[tuple[int, int]]:
        """Run one time step, and tell the most probable words behind it.

        Parameters
        ----------
        token : int
            Token id.
        k : int
            Words to tell, 1 to 64; of a smaller vocabulary all.

        Returns
        -------
        list of (int, int)
            Word and log-probability (as `score` tells it), the most probable word first.

        Raises
        ------
        InputError
            The board has no read-out, or a parameter is out of range.
        """
        self._needs_readout()
        count = min(checked_top(k), self.identity.tokens)
        (payload,) = self._call(Command.TOP, self._token(token) + bytes([count]))
        found = cast(list[tuple[int, int]], self._unpacked(Command.TOP, protocol.TOP_WORD, payload))
        if len(found) != count or any(word >= self.identity.tokens for word, _ in found):
            raise self._nonsense(Command.TOP)
        return found

    def _needs_readout(self):
        if not self.identity.head:
            raise InputError(f"{self._name} has no read-out: it answers with events, not with words")

    def _target(self, token, target):
        group, index = target
        if not (0 <= group < 1 << 16 and 0 <= index < 1 << 16):
            raise InputError(f"no read-out has a word {index} in matrix {group}: both are from 0 to 65535")
        return self._token(token) + protocol.SCORE.pack(0, group, index)[protocol.TOKEN.size :]

    def _unpacked(self, command, layout, payload):
        if len(payload) % layout.size:
            raise self._nonsense(command)
        return list(layout.iter_unpack(payload))

    def counters(self) -> dict[str, int]:
        """Performance counters since the board's reset.

        Returns
        -------
        dict of str to int
            Those of the core (`egret.rtl.protocol.counter_names` says what they count), then ``bad_frames`` and
            ``repeated_frames`` of the link.

        Raises
        ------
        BoardError
            The board has found that its SDRAM no longer holds what was loaded.
        """
        found = self._counters()
        if (block := found.get(DAMAGED_BLOCK, 0)) and (c := self._loaded) is not None:
            if block > c.checked_blocks:
                raise self._nonsense(Command.COUNTERS)
            raise BoardError(
                f"{self._name}: its SDRAM has changed since it was loaded, {block_place(block - 1, c)}: run it again, "
                "which loads it again; if it happens again, the memory is faulty"
            )
        return found

    def _counters(self):
        """Whatever they are."""
        (payload,) = self._call(Command.COUNTERS)
        count = self.identity.counters
        core = protocol.COUNTER_BYTES * count
        if len(payload) != core + protocol.LINK_COUNTERS.size:
            raise self._nonsense(Command.COUNTERS)
        names = []
        for sdram, ddr3 in ((False, False), (True, False), (True, True)):
            if len(names) < count:
                names = protocol.counter_names(
                    self.identity.layers, sdram=sdram, readout=self.identity.head > 0, ddr3=ddr3
                )
        if len(names) < count:
            raise self._nonsense(Command.COUNTERS)
        names = [*names[:count]]
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
