"""The host link, defined once: commands, status codes, layouts and limits.

The hardware and its Python counterparts (`egret.rtl.link`), the host (`egret.host.board`), the tables of
``docs/protocol.md`` and the tests all read this file; it imports nothing but the standard library.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum

__all__ = [
    "CAUSES",
    "COMMAND_OVERHEAD",
    "COUNTER_BYTES",
    "CRC_BYTES",
    "DAMAGED_BLOCK",
    "DEFAULT_RECEIVE_BYTES",
    "DEFAULT_WINDOW",
    "DIGEST_BYTES",
    "ESCAPE",
    "ESCAPED",
    "ESCAPE_XOR",
    "EVENT",
    "FAULTY_LINES",
    "FLAG",
    "GENERATE",
    "HEADER",
    "IDENTITY",
    "LAYOUTS",
    "LINK_COUNTERS",
    "LOAD_CHECK",
    "LOAD_HEADER",
    "LOAD_STATE",
    "MAGIC",
    "MAX_PAYLOAD",
    "MOST_WORDS",
    "NAK",
    "NOTHING",
    "NO_CRC",
    "REPLY",
    "SAMPLING",
    "SCORE",
    "SCORE_VALUE",
    "SEQUENCES",
    "TOKEN",
    "TOP_WORD",
    "USB_BYTES_PER_SECOND",
    "USB_LOADING_BYTES_PER_SECOND",
    "USB_PRODUCT",
    "USB_PRODUCT_ID",
    "USB_VENDOR_ID",
    "VERSION",
    "WORD",
    "Command",
    "Field",
    "Identity",
    "LoadState",
    "Status",
    "bitmap_bytes",
    "counter_names",
    "describe",
    "event_bytes",
]

USB_VENDOR_ID, USB_PRODUCT_ID = 0x1209, 0x0001
"""Of a board that is a USB device itself: the first of the numbers of pid.codes for tests, not for what is sold."""

USB_PRODUCT = "Egret"
"""What it calls itself, and its maker."""

USB_BYTES_PER_SECOND = 1_216_000
"""What bulk transfers can carry at full speed, both directions together: 19 packets of 64 bytes a frame (USB 2.0, table
5-9). A host need not reach it."""

USB_LOADING_BYTES_PER_SECOND = 1_107_000
"""Of these, those of LOADs where a host asks for an answer behind each packet, in simulation."""

MAGIC = b"EGRT"
VERSION = 5
"""Counts incompatible changes of anything in this file."""

FLAG = 0x7E
ESCAPE = 0x7D
ESCAPE_XOR = 0x20
ESCAPED = (FLAG ^ ESCAPE_XOR, ESCAPE ^ ESCAPE_XOR)
"""The only bytes that may follow an escape byte."""

SEQUENCES = 1 << 16
"""Sequence numbers count modulo this."""

CRC_BYTES = 4
NO_CRC = 0
"""CRC-32 of nothing."""

FAULTY_LINES = "faulty_lines"
"""Name of the counter that holds the faulty data lines of a DDR3."""
DAMAGED_BLOCK = "damaged_block"
"""Name of the counter that holds the first block of an SDRAM that is not as it was loaded, its number plus one."""

MAX_PAYLOAD = 508
"""Longest payload of a command; with its CRC it fills one 512-byte block RAM. A device may take longer ones of LOAD and
EVENTS, and tells so."""

DEFAULT_WINDOW = 2
"""Replies that the device keeps; so many commands may be unanswered at once."""

DEFAULT_RECEIVE_BYTES = 64
"""Bytes of further commands that the device holds while it executes one."""

MOST_WORDS = 64
"""Most words that one GENERATE or TOP asks for."""

NOTHING = 0xFFFFFFFF
"""As a token: the word generated last. As a stop token: none."""

REPLY = 0x80
"""Set in a reply's command byte, so that an echo of a command is never taken for a reply."""

NAK = REPLY
"""Command byte of a reply to a frame that was not executed."""


class Command(IntEnum):
    """What the host asks for. Every command is answered by one reply of the same sequence number."""

    IDENTIFY = 1
    BEGIN = 2
    LOAD = 3
    CHECK = 4
    CLEAR = 5
    STEP = 6
    COUNTERS = 7
    EVENTS = 8
    SCORE = 9
    SAMPLING = 10
    GENERATE = 11
    TOP = 12


class Status(IntEnum):
    """First payload byte of every reply."""

    OK = 0
    BAD_FRAME = 1
    OUT_OF_ORDER = 2
    NO_SESSION = 3
    UNKNOWN_COMMAND = 4
    BAD_LENGTH = 5
    WRONG_DIGEST = 6
    NOT_LOADING = 7
    BAD_SECTION = 8
    BAD_INDEX = 9
    CHECK_FAILED = 10
    NOT_VERIFIED = 11
    BAD_TOKEN = 12
    BAD_VALUE = 13


@dataclass(frozen=True)
class Field:
    """One field of a layout.

    Parameters
    ----------
    name : str
        Its name in the dataclass or in the documentation.
    code : str
        Its `struct` code; every layout is little-endian and packed.
    meaning : str
        One line for the documentation.
    """

    name: str
    code: str
    meaning: str


_HEADER_FIELDS = (
    Field("sequence", "H", "a reply carries its command's; a reply that refuses carries the one expected next"),
    Field("command", "B", "in a reply with bit 7 set"),
    Field("length", "H", "payload bytes"),
)
_IDENTITY_FIELDS = (
    Field("magic", "4s", "`EGRT`"),
    Field("version", "H", "protocol version"),
    Field("digest", "8s", "digest of the configuration that the device was generated from"),
    Field("window", "B", "commands that may be unanswered at once"),
    Field("max_payload", "H", "longest payload of a LOAD or EVENTS, bytes"),
    Field("receive_bytes", "H", "bytes of further commands that the device holds while it executes one"),
    Field("tokens", "I", "size of the vocabulary; neurons whose events enter, plus 1, where EVENTS is known"),
    Field("outputs", "H", "neurons of the last layer"),
    Field("counters", "B", "number of performance counters of the core"),
    Field("layers", "B", "of these, how many count the events of a layer"),
    Field("head", "I", "entries of the read-out's head; 0: there is no read-out"),
)
_LOAD_STATE_FIELDS = (
    Field("loading", "?", "1 between BEGIN and CHECK"),
    Field("verified", "?", "1 once CHECK succeeded and nothing was loaded since"),
    Field("loaded_bytes", "I", "bytes of all LOAD payloads since BEGIN"),
    Field("loaded_crc", "I", "CRC-32 of all LOAD payloads since BEGIN"),
)
_LOAD_FIELDS = (
    Field("section", "B", "number of the memory"),
    Field("index", "3s", "first word to write, 24 bits"),
)
_CHECK_FIELDS = (
    Field("loaded_bytes", "I", "bytes of all LOAD payloads that the host sent since BEGIN"),
    Field("loaded_crc", "I", "their CRC-32"),
)
_EVENT_FIELDS = (
    Field("index", "H", "neuron that the event comes from, in rising order"),
    Field("value", "B", "event value, LSB 2^-8"),
)
_SCORE_FIELDS = (
    Field("token", "I", "what to feed"),
    Field("group", "H", "where the word is whose log-probability is asked for: 0 in the head, g + 1 in group g"),
    Field("index", "H", "its entry there"),
)
_SAMPLING_FIELDS = (
    Field("top", "B", "of how many words a word is drawn: 1 the most probable one; 0: by factors; 127: from all words"),
    Field("beta", "H", "256 over the temperature"),
    Field("stop", "I", "the word behind which a text ends; 0xFFFFFFFF: none"),
    Field("state", "Q", "of the generator of random numbers, not 0"),
)
_GENERATE_FIELDS = (
    Field("token", "I", "what to feed; for GENERATE 0xFFFFFFFF: the word generated last"),
    Field("count", "B", f"words that are asked for, 1 to {MOST_WORDS}; for TOP at most the vocabulary"),
)
_TOP_FIELDS = (
    Field("word", "H", "a word, the most probable one first"),
    Field("value", "i", "its log-probability, LSB 2^-16 nats"),
)
_LINK_COUNTER_FIELDS = (
    Field("bad_frames", "I", "frames dropped for their CRC, length or escapes"),
    Field("repeated_frames", "I", "frames already executed, whose kept reply was sent again"),
)


def _layout(fields: Iterable[Field]) -> struct.Struct:
    return struct.Struct("<" + "".join(field.code for field in fields))


HEADER = _layout(_HEADER_FIELDS)
IDENTITY = _layout(_IDENTITY_FIELDS)
LOAD_STATE = _layout(_LOAD_STATE_FIELDS)
LOAD_HEADER = _layout(_LOAD_FIELDS)
LOAD_CHECK = _layout(_CHECK_FIELDS)
EVENT = _layout(_EVENT_FIELDS)
SCORE = _layout(_SCORE_FIELDS)
SAMPLING = _layout(_SAMPLING_FIELDS)
GENERATE = _layout(_GENERATE_FIELDS)
"""Of TOP, too."""
TOP_WORD = _layout(_TOP_FIELDS)
LINK_COUNTERS = _layout(_LINK_COUNTER_FIELDS)
TOKEN = struct.Struct("<I")
SCORE_VALUE = struct.Struct("<i")
WORD = struct.Struct("<H")
COUNTER_BYTES = 8
CAUSES = ("fetch", "rows", "wait_layer", "settle", "reset_pass", "wait_update", "read_out", "memory")
"""Why the lanes had no word in a cycle; ``read_out`` where there is a read-out, ``memory`` where there is an SDRAM."""
DIGEST_BYTES = 8

LAYOUTS = {
    "Header": _HEADER_FIELDS,
    "Identity": _IDENTITY_FIELDS,
    "Load state": _LOAD_STATE_FIELDS,
    "Load header": _LOAD_FIELDS,
    "Check": _CHECK_FIELDS,
    "Event": _EVENT_FIELDS,
    "Score": _SCORE_FIELDS,
    "Sampling": _SAMPLING_FIELDS,
    "Generate": _GENERATE_FIELDS,
    "Top word": _TOP_FIELDS,
    "Link counters": _LINK_COUNTER_FIELDS,
}
"""Every layout by the name that the documentation gives it."""

COMMAND_OVERHEAD = 2 + HEADER.size + CRC_BYTES
"""Bytes of a frame beside its payload and escapes: two flags, header and CRC."""

_COMMANDS = {
    Command.IDENTIFY: ("none", "identity, load state", "start a session: the next sequence number follows this one"),
    Command.BEGIN: ("digest (8)", "none", "start loading; refused for an image of another configuration"),
    Command.LOAD: ("load header, words", "none", "write words to a memory, each little-endian in whole bytes"),
    Command.CHECK: ("check", "load state", "end loading; STEP is refused until this has succeeded"),
    Command.CLEAR: ("none", "none", "set the state of all neurons to zero"),
    Command.STEP: (
        "token (4)",
        "bitmap (outputs / 8, rounded up), values (1 each)",
        "run one time step; with so many of the events sent, where EVENTS is known",
    ),
    Command.COUNTERS: ("none", "core counters (8 each), link counters", "read the counters"),
    Command.EVENTS: (
        "load header, events",
        "none",
        "write the next step's input, event by event; known where that is events, not a token",
    ),
    Command.SCORE: (
        "score, one or more times",
        "log-probabilities (4 each, signed, LSB 2^-16 nats)",
        "run time steps, and tell the log-probability of a word behind each; this and those below where a read-out is",
    ),
    Command.SAMPLING: ("sampling", "none", "say how words are drawn from now on"),
    Command.GENERATE: (
        "generate",
        "words (2 each), fewer behind a stop token",
        "run a time step, draw the word behind it, feed that word, and so on",
    ),
    Command.TOP: ("generate", "top word, as many as asked for", "run one time step, and tell the most probable words"),
}

_STATUSES = {
    Status.OK: "executed",
    Status.BAD_FRAME: "refused: bad CRC, length or escape; repeat",
    Status.OUT_OF_ORDER: "refused: a frame before this one is missing; repeat from the expected one",
    Status.NO_SESSION: "refused: the device was reset; start again with IDENTIFY",
    Status.UNKNOWN_COMMAND: "no such command",
    Status.BAD_LENGTH: "the payload's length does not fit the command, or words were cut",
    Status.WRONG_DIGEST: "the image is for another configuration; payload: the device's digest",
    Status.NOT_LOADING: "LOAD or CHECK without BEGIN, or after a LOAD that failed",
    Status.BAD_SECTION: "no such memory",
    Status.BAD_INDEX: "a word beyond the end of the memory; the words before it were written",
    Status.CHECK_FAILED: "what was loaded is not what the host sent",
    Status.NOT_VERIFIED: "STEP before a load was verified",
    Status.BAD_TOKEN: (
        "the token is not in the vocabulary, or there are not so many neurons; of a SCORE, the steps before it were "
        "run, and the reply has their values"
    ),
    Status.BAD_VALUE: "a count or a number of SAMPLING is out of range",
}


@dataclass(frozen=True)
class Identity:
    """What a device says about itself: the fields of the identity layout after ``version``.

    Parameters
    ----------
    digest : bytes
        The eight bytes that name the configuration that the device was generated from.
    window : int
        Commands that may be unanswered at once.
    max_payload : int
        Longest payload of a LOAD or EVENTS, bytes.
    receive_bytes : int
        Bytes of further commands that the device holds while it executes one.
    tokens : int
        Size of the vocabulary, or neurons whose events enter, plus 1.
    outputs : int
        Neurons of the last layer.
    counters : int
        Number of performance counters of the core.
    layers : int
        Of these, how many count the events of a layer.
    head : int
        Entries of the read-out's head; 0 where there is no read-out.
    """

    digest: bytes
    window: int
    max_payload: int
    receive_bytes: int
    tokens: int
    outputs: int
    counters: int
    layers: int
    head: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the identity layout."""
        return IDENTITY.pack(MAGIC, VERSION, *astuple(self))


def counter_names(layers: int, *, sdram: bool, readout: bool = False, ddr3: bool = False) -> tuple[str, ...]:
    """Names of a core's performance counters, all since its reset, in their order.

    ``tokens``: steps begun. ``cycles``: cycles in which the core was at work. ``words``: of these, cycles in which a
    weight word was issued to the lanes. ``macs``: non-zero weights in these words. The other cycles by what the
    sequencer was doing: ``fetch`` fetching the first columns of a phase, ``rows`` adding a folded row, ``wait_layer``
    waiting for events of the layer below, ``settle`` emptying the pipeline between phases, ``reset_pass`` waiting for
    reset values, ``wait_update`` waiting for the update pass, with nothing else left to do. ``events_{l}``: events of
    each layer. With an SDRAM also ``memory``: cycles without a weight word while words that it has been asked for
    have not come; ``beats``: what came for it, one word of 16 bits or two at once, or four of a DDR3; ``scrubbed``:
    blocks that were read again and compared with their CRCs, while there was nothing else to do; and ``damaged``:
    those of them that differed. With a read-out also ``read_out``: cycles without a weight word while it works;
    ``readout_macs``: those of ``macs`` in its columns; and ``groups``: groups that it read. Two last ones count
    nothing. With a DDR3 ``faulty_lines`` has a bit for each data line, 1 where the line was wrong when the memory was
    started (`egret.rtl.ddr3_levelling.LevelledDdr3`). With an SDRAM ``damaged_block`` is the first block since the
    last load that differed, its number plus one; 0 where none did.

    Parameters
    ----------
    layers : int
    sdram, readout, ddr3 : bool
        Whether it has one. A DDR3 is an SDRAM, too.

    Returns
    -------
    tuple[str, ...]
    """
    return (
        "tokens",
        "cycles",
        "words",
        "macs",
        *CAUSES[:-2],
        *(f"events_{layer}" for layer in range(layers)),
        *(("memory", "beats", "scrubbed", "damaged") if sdram else ()),
        *(("read_out", "readout_macs", "groups") if readout else ()),
        *((FAULTY_LINES,) if ddr3 else ()),
        *((DAMAGED_BLOCK,) if sdram else ()),
    )


@dataclass(frozen=True)
class LoadState:
    """How far loading has come: the fields of the load state layout.

    Parameters
    ----------
    loading : bool
        Whether BEGIN has come, and not yet CHECK.
    verified : bool
        Whether CHECK has succeeded, and no BEGIN came after it.
    loaded_bytes, loaded_crc : int
        Bytes of all LOAD payloads since BEGIN, and their CRC-32.
    """

    loading: bool = False
    verified: bool = False
    loaded_bytes: int = 0
    loaded_crc: int = NO_CRC

    def pack(self) -> bytes:
        """Return the bytes of the load state layout."""
        return LOAD_STATE.pack(*astuple(self))


def bitmap_bytes(outputs: int) -> int:
    """Return how many bytes hold one bit for each of ``outputs`` neurons."""
    return -(-outputs // 8)


def event_bytes(events: Iterable[tuple[int, int]], outputs: int) -> bytes:
    """Return the payload of a STEP reply with these events.

    Parameters
    ----------
    events : Iterable[tuple[int, int]]
        Index and value of each event, in rising index.
    outputs : int
        Neurons of the last layer.

    Returns
    -------
    bytes
        A bit for each neuron, neuron 0 in bit 0 of the first byte, which is 1 where it has an event; then the values of
        these events.
    """
    events = list(events)
    bitmap = sum(1 << index for index, _ in events).to_bytes(bitmap_bytes(outputs), "little")
    return bitmap + bytes(value for _, value in events)


def describe() -> str:
    """Return the generated tables of ``docs/protocol.md``: commands, status codes, layouts and limits, as Markdown."""
    parts = [
        _table(
            "Constants",
            ("what", "value"),
            [
                ("protocol version", VERSION),
                ("flag", f"0x{FLAG:02X}"),
                ("escape", f"0x{ESCAPE:02X}"),
                ("an escaped byte is XORed with", f"0x{ESCAPE_XOR:02X}"),
                (
                    "CRC",
                    (
                        f"CRC-32/ISO-HDLC, least significant byte first; of `123456789` it is "
                        f"0x{zlib.crc32(b'123456789'):08X}"
                    ),
                ),
                ("sequence numbers", f"16 bits, modulo {SEQUENCES}"),
                ("longest command payload", f"{MAX_PAYLOAD} bytes, of LOAD and EVENTS what the identity tells"),
                ("reply's command byte", f"command + 0x{REPLY:02X}; 0x{NAK:02X} refuses a frame"),
            ],
        ),
        _table(
            "Commands",
            ("code", "command", "payload", "reply after its status", "what it does"),
            [(int(command), command.name, *_COMMANDS[command]) for command in Command],
        ),
        _table(
            "Status",
            ("code", "status", "meaning"),
            [(int(status), status.name, _STATUSES[status]) for status in Status],
        ),
    ]
    for name, layout in LAYOUTS.items():
        rows, offset = [], 0
        for field in layout:
            size = struct.calcsize("<" + field.code)
            rows.append((offset, size, field.name, field.meaning))
            offset += size
        parts.append(_table(f"{name} ({offset} bytes)", ("offset", "bytes", "field", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"### {title}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
