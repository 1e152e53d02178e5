"""The board client, against the device in Python and against the link in hardware, over good and bad lines."""

import collections
import dataclasses
import gc
import os
import random
import re
import signal
import threading

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from egret.host import exchange
from egret.host.board import Board, load_payloads
from egret.host.exchange import BoardError
from egret.host.transport import open_program
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TINY
from egret.model.errors import InputError
from egret.model.integer import IntegerEngine
from egret.rtl import protocol
from egret.rtl.link.device import Device
from egret.rtl.link.frames import BadFrame, Frame, FrameReader, encode_frame
from egret.rtl.protocol import Command
from egret.sim.stand_in import COUNTERS, DIGEST, OUTPUTS, SECTIONS, TOKENS, StandInModel, device
from egret.sim.virtual import board_build, stand_in_build
from tests.host.faults import FaultyPort, ModelPort, ModelTransport
from tests.support.networks import random_network


def memories(seed=1):
    generator = random.Random(seed)
    return [(section, width, generator.randbytes(width * depth)) for section, (width, depth) in SECTIONS.items()]


def model_of(contents):
    """The stand-in core with its memories loaded."""
    model = StandInModel()
    for section, width, content in contents:
        for index in range(len(content) // width):
            model.load(section, index, int.from_bytes(content[index * width : (index + 1) * width], "little"))
    return model


def expected_events(model, token):
    output = np.zeros(OUTPUTS, np.uint8)
    for index, value in model.step(token):
        output[index] = value
    return output


class Silent:
    """A device that says nothing."""

    def feed(self, data):
        return b""


class Script:
    """A device with fixed answers, the last one repeated."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def feed(self, data):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def port():
    return ModelPort(device())


@pytest.fixture
def board(port):
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories())
        board.clear()
        yield board
    assert port.closed


def test_identity(board):
    assert board.identity == protocol.Identity(
        DIGEST, 2, protocol.MAX_PAYLOAD, protocol.DEFAULT_RECEIVE_BYTES, TOKENS, OUTPUTS, COUNTERS, 0
    )


def test_steps_and_counters(board):
    model, tokens = model_of(memories()), random.Random(1).choices(range(TOKENS), k=50)
    for token in tokens[:20]:
        np.testing.assert_array_equal(board.step(token), expected_events(model, token))
    events = list(board.step_many(tokens[20:]))
    assert len(events) == 30
    for token, event in zip(tokens[20:], events, strict=True):
        np.testing.assert_array_equal(event, expected_events(model, token))
    assert board.counters() == {"tokens": 50, "cycles": 1, "bad_frames": 0, "repeated_frames": 0}
    assert board.repeats == board.damaged == 0


def test_zero_state_among_steps(board):
    """Behind it the steps are those of a board that has just been cleared."""
    model, tokens = model_of(memories()), [3, 1, None, 3, 1, None, None, 2]
    expected = []
    for token in tokens:
        if token is None:
            model.clear()
        else:
            expected.append(expected_events(model, token))
    found = list(board.step_many(tokens))
    np.testing.assert_array_equal(found, expected)
    assert (found[0] == found[2]).all() and (found[1] == found[3]).all() and board.counters()["tokens"] == 5


def test_a_step_begun_is_a_step(board):
    model = model_of(memories())
    finish = board.begin_step(7)
    np.testing.assert_array_equal(finish(), expected_events(model, 7))
    board.begin_step(8)  # its answer is dropped, not taken for the next one's
    model.step(8)
    np.testing.assert_array_equal(board.step(9), expected_events(model, 9))


def test_a_caller_may_stop_early(board):
    model = model_of(memories())
    for token, events in zip([1, 2], board.step_many(iter([1, 2, 3, 4, 5, 6, 7])), strict=False):
        np.testing.assert_array_equal(events, expected_events(model, token))
    # What was under way has been run: the board is one or two steps ahead, and in step with the client.
    ahead = board.counters()["tokens"] - 2
    assert 0 <= ahead <= 2
    for token in range(3, 3 + ahead):
        model.step(token)
    np.testing.assert_array_equal(board.step(9), expected_events(model, 9))


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", ["closed", "silent"])
def test_what_is_under_way_says_nothing_when_it_is_let_go(end, board, port):
    """Clean-up does not talk to what is closed, and raises nothing of its own."""
    finish, steps = board.begin_step(7), board.step_many([1, 2, 3])
    if end == "closed":
        finish()
        next(steps)
        board.close()
        port.read = None
    else:
        port.device = Silent()
        port.buffer = b""
    del finish, steps
    gc.collect()


def test_tokens_are_checked(board):
    with pytest.raises(InputError, match=r"token 300 is not one of the board's 300 \(0 to 299\)"):
        board.step(300)
    with pytest.raises(InputError, match="token -1 is not one"):
        list(board.step_many([1, 2, -1]))
    assert board.counters()["tokens"] == 2


def test_loading_reports_progress_and_is_left_out_when_it_is_done(port):
    seen = []
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories(), progress=lambda *counts: seen.append(counts))
        assert seen[-1] == (67, 67) and [count for count, _ in seen] == sorted({count for count, _ in seen})
    port.device._core.load = None  # must not be called again
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories(), progress=lambda *counts: seen.append(counts))
        assert seen[-1] == (67, 67)
        board.clear()
        assert board.step(1).shape == (OUTPUTS,)
    port.device._core.load = lambda *word: seen.append(word)
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories(2))
        assert isinstance(seen[-1][1], int) and len(seen[-1]) == 3


@pytest.mark.parametrize("stop", [12, 60, 91])
def test_loading_goes_on_where_it_stopped(stop):
    """The host is interrupted, and the next one goes on, unless the board holds the beginning of another image."""
    # Short commands: nine of them load all.
    identity = protocol.Identity(DIGEST, 2, 12, protocol.DEFAULT_RECEIVE_BYTES, TOKENS, OUTPUTS, COUNTERS, 0)
    port = ModelPort(Device(StandInModel(), identity, SECTIONS))
    words, seen = [], []
    core, load = port.device._core, port.device._core.load
    core.load = lambda *word: (words.append(word), load(*word))

    def interrupt(loaded, total):
        assert total == 91
        if loaded >= stop:
            raise KeyboardInterrupt

    def load_and_step(seed):
        with Board(ModelTransport(port)) as board:
            board.load_memories(DIGEST, memories(seed), progress=lambda loaded, total: seen.append(loaded))
            board.clear()
            model = model_of(memories(seed))
            for token in range(20):
                np.testing.assert_array_equal(board.step(token), expected_events(model, token))

    with Board(ModelTransport(port)) as board, pytest.raises(KeyboardInterrupt):
        board.load_memories(DIGEST, memories(1), progress=interrupt)
    held = port.device._load_state.loaded_bytes
    assert stop <= held <= stop + 2 * 12  # what was under way was seen through
    load_and_step(1)
    assert len(words) == 16 + 4 + 3 and all(loaded > held for loaded in seen)
    assert seen[-1:] == ([91] if held < 91 else [])
    with Board(ModelTransport(port)) as board, pytest.raises(KeyboardInterrupt):
        board.load_memories(DIGEST, memories(2), progress=interrupt)
    words.clear()
    load_and_step(3)
    assert len(words) == 16 + 4 + 3


def test_long_memories_are_cut_into_commands():
    frames = list(load_payloads(3, 5, bytes(range(250)) * 8, 508))
    assert [len(frame) for frame in frames] == [504, 504, 504, 504]
    assert [frame[:4] for frame in frames] == [
        b"\x03\x00\x00\x00",
        b"\x03\x64\x00\x00",
        b"\x03\xc8\x00\x00",
        b"\x03\x2c\x01\x00",
    ]


def test_an_image_for_another_configuration(board):
    class Image:
        configuration = TINY

    with pytest.raises(BoardError) as caught:
        board.load(Image)
    assert str(caught.value) == (
        f"the image is for configuration {TINY.digest.hex()} (5 tokens, layers 4-3, 2 lanes), but the test board has "
        "configuration 7e7d5e5d00ff2b01 (300 tokens, last layer 19): compile the image for this board, or build the "
        "board for this image"
    )
    with pytest.raises(BoardError, match="the image is for another configuration than the board's 7e7d5e5d00ff2b01"):
        board.load_memories(b"12345678", [])


def test_a_step_before_loading(port):
    with Board(ModelTransport(port)) as board, pytest.raises(BoardError, match="the test board: no image is loaded"):
        board.step(1)


def test_words_that_do_not_fit(board):
    with pytest.raises(BoardError, match=r"the board refused LOAD \(BAD_INDEX\)"):
        board.load_memories(DIGEST, [(0, 2, bytes(34))])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b"",
            "the test board: no Egret board answers there; is it powered, programmed, and set to 115200 bits a second?",
        ),
        (b"login: ", "no Egret board answers there"),
        (b"\x7e\xff\x7e" * 9, "no Egret board answers there"),
        (encode_frame(3, Command.IDENTIFY), "no Egret board answers there"),
    ],
)
def test_nobody_there(answer, message):
    port = ModelPort(Script(answer))
    with pytest.raises(BoardError) as caught:
        Board(ModelTransport(port))
    assert message in str(caught.value)
    assert port.closed


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (b"SPAM" + bytes(32), "what answers there is not an Egret board"),
        (
            b"EGRT\x63\x00" + bytes(31),
            f"the board speaks protocol version 99, this program {protocol.VERSION}: build the bitstream again",
        ),
        (b"", "what answers there is not an Egret board"),
    ],
)
def test_another_protocol(identity, message):
    class Other:
        def feed(self, data):
            (frame,) = FrameReader(600).feed(data)
            return encode_frame(frame.sequence, frame.command | protocol.REPLY, b"\0" + identity)

    with pytest.raises(BoardError, match=message):
        Board(ModelTransport(ModelPort(Other())))


def test_a_reset_is_reported(board, port):
    board.step(1)
    port.device = device()
    with pytest.raises(BoardError, match="the board was reset, its memories and state are lost: load the image again"):
        board.step(2)


def test_an_older_refusal_is_no_reset():
    """What the line brings twice may begin with refusals of a session before this one."""

    class Twice:
        def __init__(self):
            self.device = device()

        def feed(self, data):
            answer = self.device.feed(data)
            (frame,) = FrameReader(600).feed(data)
            if frame.command == Command.IDENTIFY:
                refusal = encode_frame(0, protocol.NAK, bytes([protocol.Status.NO_SESSION]))
                return (refusal * 5 + answer) * 2
            return answer

    with Board(ModelTransport(ModelPort(Twice()))) as board:
        board.load_memories(DIGEST, memories())
        board.clear()
        np.testing.assert_array_equal(board.step(3), expected_events(model_of(memories()), 3))


def test_a_second_client_is_reported(board, port):
    board.step(1)
    Board(ModelTransport(port))
    with pytest.raises(BoardError, match="another program talks to this board"):
        board.step(2)


def test_a_board_that_falls_silent(board, port):
    port.device = Silent()
    with pytest.raises(BoardError, match=r"the test board: the board stopped answering \(6 attempts\)"):
        list(board.step_many([1, 2, 3]))


def test_an_answer_without_sense(board, port):
    class Odd:
        def __init__(self, payload):
            self.payload = payload

        def feed(self, data):
            (frame,) = FrameReader(600).feed(data)
            return encode_frame(frame.sequence, frame.command | protocol.REPLY, b"\0" + self.payload)

    # Too short a bitmap; a value missing, one too many; neuron 19 of 0 to 18.
    for payload in (b"", b"ab", b"\1\0\0", b"\1\0\0\5\6", b"\0\0\x08\5"):
        port.device = Odd(payload)
        with pytest.raises(BoardError, match="the board's answer to STEP makes no sense"):
            board.step(1)


def test_answers_of_another_number():
    class Odd:
        """The stand-in board, whose answers to a command are longer or shorter."""

        def __init__(self, command, change):
            self._device, self._command, self._change = device(readout=True), command, change

        def feed(self, data):
            (frame,) = FrameReader(0xFFFF).feed(b"\x7e" + self._device.feed(data))
            changed = self._change(frame.payload) if frame.command == self._command | protocol.REPLY else frame.payload
            return encode_frame(frame.sequence, frame.command, changed)

    for command, change, run in (
        (Command.SCORE, lambda payload: payload[:-4], lambda board: list(board.score([1, 2], [(0, 1), (0, 2)]))),
        (Command.GENERATE, lambda payload: payload[:1], lambda board: list(board.generate(1, 5))),
        (Command.GENERATE, lambda payload: payload + b"\1\0", lambda board: list(board.generate(1, 5))),
        (Command.GENERATE, lambda payload: b"\0\xff\xff", lambda board: list(board.generate(1, 5))),
        (Command.TOP, lambda payload: payload[:-6], lambda board: board.top(1, 3)),
        (Command.TOP, lambda payload: payload[:-6] + b"\xff" * 6, lambda board: board.top(1, 3)),
        (Command.CHECK, lambda payload: payload[:-1] + b"\0", lambda board: None),
    ):
        with Board(ModelTransport(ModelPort(Odd(command, change)))) as board:
            with pytest.raises(
                BoardError, match=f"^the test board: the board's answer to {command.name} makes no sense"
            ):
                board.load_memories(DIGEST, memories())
                run(board)


@pytest.mark.parametrize(
    ("fields", "run"),
    [
        ({"max_payload": 4}, lambda board: board.load_memories(DIGEST, memories())),
        ({"counters": 200}, lambda board: board.counters()),
    ],
)
def test_a_board_that_says_nonsense_of_itself(fields, run):
    odd = device()
    odd._identity = dataclasses.replace(odd._identity, **fields)
    with Board(ModelTransport(ModelPort(odd))) as board:
        with pytest.raises(
            BoardError, match="^the test board: the board's answer to (IDENTIFY|COUNTERS) makes no sense$"
        ):
            run(board)


def test_a_board_of_another_shape_than_its_image():
    network = random_network(1)
    image = compile_image(network, configuration_for(network, lanes=2))
    odd = device()
    odd._identity = dataclasses.replace(odd._identity, digest=image.configuration.digest)
    with Board(ModelTransport(ModelPort(odd))) as board:
        with pytest.raises(BoardError, match="^the test board: the board's answer to IDENTIFY makes no sense$"):
            board.load(image)


@pytest.mark.parametrize(
    "stream",
    [
        encode_frame(9, protocol.REPLY | Command.STEP, b"\0"),
        encode_frame(9, protocol.NAK, b"\1"),
        b"\x7e1234567",
        b"\0" * 9,
    ],
)
def test_a_board_that_sends_without_end(stream, board, port, monkeypatch):
    """It is given up after as many repeats as a silent one."""
    now = 0.0

    class Endless(ModelPort):
        timeout = 1.0

        @property
        def in_waiting(self):
            return 4000

        def write(self, data):
            pass

        def read(self, size):
            nonlocal now
            now += 0.1
            assert now < 10, "listens without end"
            return (stream * 500)[:size]

    monkeypatch.setattr(exchange, "monotonic", lambda: now)
    board._serial = Endless(None)
    with pytest.raises(
        BoardError, match=r"^the test board: (the board stopped answering \(6 attempts\)|another program)"
    ):
        board.step(1)


def check_steps_over_a_bad_line(board, count, seed):
    """Every one of ``count`` steps is right, alone or ahead."""
    generator = random.Random(seed)
    contents = memories(seed)
    model = model_of(contents)
    board.load_memories(DIGEST, contents)
    board.clear()
    done = 0
    while done < count:
        tokens = [generator.randrange(TOKENS) for _ in range(generator.choice([1, 1, 2, 30]))]
        results = map(board.step, tokens) if len(tokens) == 1 else board.step_many(tokens)
        for token, events in zip(tokens, results, strict=True):
            np.testing.assert_array_equal(events, expected_events(model, token), f"seed {seed}, step {done}")
            done += 1
        if generator.random() < 0.02:
            board.clear()
            model.clear()
    counters = board.counters()
    assert counters["tokens"] == done
    return counters


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_no_fault_changes_a_step(rate):
    seed = 5
    print(f"seed {seed}")
    port = FaultyPort(ModelPort(device()), random.Random(seed), rate)
    steps = 10000  # enough for every kind of fault
    with Board(ModelTransport(port), attempts=1000) as board:
        check_steps_over_a_bad_line(board, steps, seed)
        assert board.repeats > steps * rate / 2
        assert board.damaged > 0
    assert min(port.faults.values()) > 5


@pytest.fixture(scope="module")
def program():
    return stand_in_build().program()


def link_counters(board, steps):
    """What the link has counted since the last reset; the core has run ``steps`` steps, no more and no fewer."""
    counters = board.counters()
    assert counters["tokens"] == steps
    return {name: counters[name] for name in ("bad_frames", "repeated_frames")}


def run_over_a_bad_line(program, frames, seed, rate, *, resets):
    """At least ``frames`` frames to the compiled link, with faults, and resets beside some of the steps.

    Every step is right. After a reset that the client reports a new session begins, with other memories. Returns
    what happened: dict of str to int.
    """
    print(f"seed {seed}")
    generator = random.Random(seed)
    seen = collections.Counter()
    transport = open_program(program, stepped=False, timeout=0.02)
    transport.serial = port = FaultyPort(transport.serial, random.Random(seed + 1), rate)
    with transport:
        while port.writes < frames:
            contents = memories(generator.randrange(1000))
            model = model_of(contents)
            reset = False
            try:
                board = Board(transport, attempts=1000)
                board.load_memories(DIGEST, contents)
                board.clear()
                done = 0
                while port.writes < frames:
                    if generator.random() < resets:
                        seen.update(link_counters(board, done))
                        token = generator.randrange(TOKENS)
                        finish = board.begin_step(token)
                        transport.board.reset()
                        reset = True
                        actual = [(token, finish())]
                    else:
                        tokens = generator.choices(range(TOKENS), k=generator.choice([1, 1, 2, 30]))
                        results = map(board.step, tokens) if len(tokens) == 1 else board.step_many(tokens)
                        actual = zip(tokens, results, strict=True)
                    for token, events in actual:
                        np.testing.assert_array_equal(
                            events, expected_events(model, token), f"seed {seed}, step {done}"
                        )
                        done += 1
                        seen["steps"] += 1
                    if generator.random() < 0.02:
                        board.clear()
                        model.clear()
                seen.update(link_counters(board, done))
            except BoardError as error:
                # A line that is only bad is never given up; after a reset, one line tells of it.
                assert reset and re.fullmatch(
                    "the virtual board: (the board was reset, .*|no image is loaded)", str(error)
                )
                seen["resets"] += 1
            finally:
                seen.update(repeats=board.repeats, damaged=board.damaged)
    return seen | port.faults


def test_no_fault_changes_a_step_of_the_hardware(program):
    """Ten thousand frames through the compiled link, and the faults to go with them."""
    seen = run_over_a_bad_line(program, 10_000, 6, 0.01, resets=0.05)
    assert seen["steps"] > 8_000 and seen["repeats"] > 50 and seen["resets"] > 5
    assert seen["damaged"] > 20 and seen["bad_frames"] > 20 and seen["repeated_frames"] > 20
    assert min(seen[kind] for kind in FaultyPort.KINDS) > 2


@pytest.mark.slow
def test_a_hundred_thousand_frames(program):
    seen = run_over_a_bad_line(program, 100_000, 7, 0.01, resets=0.03)
    assert seen["steps"] > 80_000 and seen["repeats"] > 500 and seen["resets"] > 50
    assert seen["damaged"] > 200 and seen["bad_frames"] > 200 and seen["repeated_frames"] > 200
    assert min(seen[kind] for kind in FaultyPort.KINDS) > 50


@pytest.mark.slow
def test_faults_at_the_pins():
    """The same where bytes go bit by bit, so that resets cut commands, steps and replies."""
    seen = run_over_a_bad_line(stand_in_build(bit_cycles=8).program(), 10_000, 8, 0.01, resets=0.05)
    assert seen["steps"] > 8_000 and seen["repeats"] > 50 and seen["resets"] > 50


@pytest.mark.slow
def test_a_reset_in_mid_token():
    """A step of the core takes far longer than the reset takes to come."""
    network = random_network(4, hidden=(70, 50), density=0.9, threshold=0, z_bias=20_000, embedding=40)
    image = compile_image(network, configuration_for(network, lanes=1))
    engine = IntegerEngine(network)
    transport = open_program(board_build(image.configuration).program(), stepped=False, timeout=0.05)
    with transport:
        for _ in range(5):
            board = Board(transport)
            assert not board.load_state.verified
            board.load(image)
            engine.reset_state()
            for token in range(3):
                np.testing.assert_array_equal(board.step(token), engine.step(np.array([token]))[-1].y[0])
            finish = board.begin_step(3)
            transport.board.reset()
            with pytest.raises(
                BoardError,
                match="^the virtual board: the board was reset, its memories and state are lost: load the image again$",
            ):
                finish()


def damaged_frames(generator):
    """Frames of real commands, each with a few bits of its content flipped."""
    while True:
        command, payload = generator.choice(
            [
                (Command.CLEAR, b""),
                (Command.STEP, bytes(4)),
                (Command.IDENTIFY, b""),
                (Command.BEGIN, DIGEST),
                (Command.LOAD, bytes(4) + generator.randbytes(generator.randrange(0, 504))),
            ]
        )
        frame = bytearray(encode_frame(generator.randrange(protocol.SEQUENCES), command, payload))
        for place in generator.sample(range(1, len(frame) - 1), generator.randint(1, 4)):
            frame[place] ^= 1 << generator.randrange(8)
        yield bytes(frame)


@pytest.mark.parametrize("kind", ["random bytes", "damaged frames"])
def test_a_million_bytes_do_not_disturb_the_hardware(kind, program):
    """What the link makes of them is what the reader in Python does: bad frames, and none that is executed."""
    generator = random.Random(7)
    model, reader = model_of(memories()), FrameReader(protocol.MAX_PAYLOAD)
    frames = damaged_frames(generator)
    with open_program(program, stepped=False) as transport:
        board = Board(transport)
        board.load_memories(DIGEST, memories())
        board.clear()
        np.testing.assert_array_equal(board.step(5), expected_events(model, 5))
        before, sent, received, found = board.counters(), 0, 0, []
        reader.feed(b"\x7e")
        while sent < 1_000_000:
            data = generator.randbytes(2000) if kind == "random bytes" else b"".join(next(frames) for _ in range(8))
            transport.serial.write(data)
            found += reader.feed(data)
            sent += len(data)
            received += len(transport.serial.read(transport.serial.in_waiting))
        transport.serial.write(b"\x7e")
        found += reader.feed(b"\x7e")
        assert received > 10_000  # the refusals
        assert len(found) > 3000 and all(isinstance(item, BadFrame) for item in found)
        after = board.counters()
        assert after == before | {"bad_frames": before["bad_frames"] + len(found)}
        np.testing.assert_array_equal(board.step(6), expected_events(model, 6))


answers = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(encode_frame, st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(max_size=8)),
    ),
    min_size=1,
    max_size=8,
)


@given(answers)
def test_no_answer_of_other_frames_is_taken(data):
    """Whatever a line brings, if it is not the reply to this command, is not taken for it."""
    port = ModelPort(device())
    with Board(ModelTransport(port)) as board:
        board.load_memories(DIGEST, memories())
        board.clear()
        sequence = board._next
        assume(
            not any(
                isinstance(frame, Frame)
                and frame.sequence == sequence
                and frame.command in (protocol.REPLY | Command.STEP, protocol.NAK)
                for frame in FrameReader(0xFFFF).feed(b"\x7e".join(data * 2))
            )
        )
        port.device = Script(*data)
        with pytest.raises(BoardError, match=r"^the test board: [^\n]*$"):
            board.step(5)


@pytest.mark.parametrize("stepped", [False, True])
def test_a_board_that_goes_away(program, stepped):
    transport = open_program(program, stepped=stepped)
    with Board(transport) as board:
        board.clear()
        transport.board._process.kill()
        with pytest.raises(BoardError, match="the virtual board: (the connection was lost|the board stopped)"):
            board.clear()


def test_a_slow_simulation_is_waited_for(program):
    """A large network's step may take many seconds: nothing is sent again, and the board is not given up."""
    model = model_of(memories())
    with Board(open_program(program)) as board:
        board.load_memories(DIGEST, memories())
        board.clear()
        process = board.virtual._process.pid
        os.kill(process, signal.SIGSTOP)
        timer = threading.Timer(2, os.kill, (process, signal.SIGCONT))  # twice what a serial port's read waits
        timer.start()
        np.testing.assert_array_equal(board.step(5), expected_events(model, 5))
        timer.join()
        assert board.repeats == 0
