"""Cores, simulated or on a board: opened, measured, and compared with the integer network."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from egret.host.cli.show import Result, progress_bar, working
from egret.model.errors import InputError, needs

if TYPE_CHECKING:
    import numpy as np

    from egret.boards.definition import BoardDefinition
    from egret.host.board import Board
    from egret.host.cli.sources import Source
    from egret.host.measure import Measurement, Stream
    from egret.host.session import Session
    from egret.host.speed import Speed
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.sim import lockstep as simulation

__all__ = [
    "board_speed",
    "describe_measurement",
    "diverged",
    "generation_speed",
    "lockstep",
    "measure_text",
    "measure_under_icarus",
    "measure_whole",
    "mismatch_status",
    "open_board",
    "stream_text",
]


def open_board(
    configuration: "Configuration",
    port: str | None = None,
    baud_rate: int | None = None,
    trace: str | None = None,
    bit_cycles: int | None = None,
) -> "Board":
    """Open a board.

    Parameters
    ----------
    configuration : Configuration
        Of the image that it shall run.
    port : str or None
        Serial port of a board; None for a virtual one.
    baud_rate : int or None
        Bits a second on that port, as the board has them where it is None.
    trace, bit_cycles
        Of the virtual board, as for `egret.host.transport.open_virtual`.

    Returns
    -------
    Board

    Raises
    ------
    InputError
        There is no such port, or a rate without one.
    """
    from rich.console import Console

    from egret.host.board import Board
    from egret.host.transport import open_serial, open_virtual

    if port is None and baud_rate is not None:
        raise InputError("--baud is for a board on --port, not for the virtual board")
    if port is not None:
        return Board(open_serial(port, **({} if baud_rate is None else {"baud_rate": baud_rate})))
    return Board(open_virtual(configuration, console=Console(stderr=True), trace=trace, bit_cycles=bit_cycles))


def measure_whole(source: "Source", ids: "np.ndarray", count: int) -> "tuple[Measurement, Session]":
    """Measure the tokens ``ids`` on a virtual board, and generate ``count`` tokens on it, with the image of ``source``.

    These are drawn at temperature 1, and compared with the integer network's.
    """
    from egret.host.measure import measure
    from egret.host.session import generate_text, prompt_ids
    from egret.model.readout import ReadOut, Sampler

    image, network = source.image, source.network
    with open_board(image.configuration) as board:
        with progress_bar("loading") as progress:
            board.load(image, progress=progress)
        with progress_bar("simulated core") as progress:
            measurement = measure(board, image, network, ids, progress=progress)
        with working("generating"):
            prompt, sampler = prompt_ids(source.vocabulary, None), Sampler(ReadOut(network))
            return measurement, generate_text(board, image, network, prompt, count, sampler, lambda piece: None)


def measure_text(
    source: "Source", ids: "np.ndarray", port: str | None = None, *where: Any, batch: int = 1
) -> "Measurement":
    """Measure the tokens ``ids`` with the image of ``source``, on the board that `open_board` opens on a ``port``.

    The other arguments of `open_board` are passed on in ``where``. A ``batch`` of more streams than one is for as many
    virtual boards, which run at the same time.
    """
    from egret.host.measure import measure

    what = "simulated core" if port is None else "board"
    with ExitStack() as opened:
        boards = [opened.enter_context(open_board(source.image.configuration, port, *where)) for _ in range(batch)]
        with progress_bar("loading") as progress:
            for board in boards:
                board.load(source.image, progress=progress)
        with progress_bar(what) as progress:
            return measure(boards, source.image, source.network, ids, progress=progress)


def stream_text(source: "Source", ids: "np.ndarray", *where: Any) -> "Stream":
    """Stream the tokens ``ids`` through the image of ``source`` on the board that `open_board` opens with ``where``."""
    from egret.host.measure import stream
    from egret.model.readout import ReadOut

    with open_board(source.image.configuration, *where) as board:
        with progress_bar("loading") as progress:
            board.load(source.image, progress=progress)
        with progress_bar("streaming") as progress:
            return stream(board, ReadOut(source.network), ids, progress=progress)


def measure_under_icarus(source: "Source", ids: "np.ndarray") -> "Measurement":
    """Measure the tokens ``ids`` with the image of ``source`` under Icarus Verilog.

    Every stream inside the core is compared there, and nothing may differ.
    """
    from egret.host.measure import Measurement
    from egret.model.counts import integer_columns, integer_readout
    from egret.model.evaluate import evaluate
    from egret.model.integer import IntegerEngine

    network = source.network
    evaluation = evaluate(IntegerEngine(network), integer_columns(network), ids, readout=integer_readout(network))
    begin = time.perf_counter()
    counters = lockstep(source.image, ids[:-1], simulator="icarus").counters
    seconds = time.perf_counter() - begin
    lanes = source.image.configuration.lanes
    return Measurement(evaluation, 0, 0, None, counters, lanes, bytes_sent=0, bytes_received=0, seconds=seconds)


def lockstep(image: "Image", tokens: "Iterable[int] | np.ndarray", **options: Any) -> "simulation.Result":
    """Run ``tokens`` through the core of an ``image`` beside the integer network.

    The ``options`` are those of `egret.sim.lockstep.run`. The command ends with status 1 where the two differ.
    """
    with needs("cocotb_tools", "cocotb==2.1.*", "this simulation"):
        from egret.sim.lockstep import LockstepError, run

        try:
            return run(image, tokens, **options)
        except LockstepError as error:
            raise click.exceptions.Exit(diverged(str(error))) from error


def diverged(message: str) -> int:
    """Say where a core differs, in the ``message``; the exit status."""
    click.echo(f"egret: the core differs from the integer network: {message}", err=True)
    return 1


def mismatch_status(measurement: "Measurement") -> int:
    """Exit status after a ``measurement``, after saying where the board first differed if it did."""
    if not measurement.mismatches:
        return 0
    return diverged(f"{measurement.mismatches} {measurement.compared}, the first: {measurement.first_mismatch}")


def describe_measurement(measurement: "Measurement") -> Result:
    """What is to be shown of a ``measurement``."""
    figures = {
        "mismatches": measurement.mismatches,
        "cycles_per_token": measurement.cycles_per_token,
        "lane_utilisation": measurement.lane_utilisation,
        "lanes": measurement.lanes,
        "simulated_tokens_per_second": measurement.tokens_per_second,
        "counters": measurement.counters,
    }
    rows = [
        (f"{measurement.compared} unlike the integer network's", f"{measurement.mismatches:,}"),
        ("cycles per token", f"{measurement.cycles_per_token:,.0f}"),
        (f"utilisation of {measurement.lanes} lanes", f"{measurement.lane_utilisation:.1%}"),
        ("simulated tokens a second", f"{measurement.tokens_per_second:,.0f}"),
    ]
    if measurement.bus_utilisation is not None:
        figures["bus_utilisation"] = measurement.bus_utilisation
        rows.insert(3, ("SDRAM's peak in use", f"{measurement.bus_utilisation:.1%}"))
    return Result(figures, rows)


def board_speed(board: "BoardDefinition", measurement: "Measurement", hertz: float) -> "Speed":
    """Tokens a second of a ``board`` at some clock, ``hertz``, from the ``measurement`` of its core in simulation."""
    from egret.host.board import scores_at_once
    from egret.rtl.protocol import DEFAULT_RECEIVE_BYTES

    steps, draws = measurement.evaluation.tokens, measurement.macs_readout_per_token is not None
    # As on the virtual board, where the bytes were counted.
    batch = scores_at_once(DEFAULT_RECEIVE_BYTES) if draws else 1
    return _speed(board, measurement, steps, hertz, batch, draws)


def generation_speed(board: "BoardDefinition", session: "Session") -> dict[str, float]:
    """What a whole token takes on a ``board`` that generates as a virtual one did in the ``session``, by name."""
    from egret.host.board import MOST_AT_ONCE

    draws = "readout_macs" in session.counters
    speed = _speed(board, session, session.steps, board.hertz, MOST_AT_ONCE if draws else 1, draws)
    return speed.end_to_end(session.host_seconds / session.steps)


def _speed(board, figures, steps, hertz, batch, draws):
    from egret.host.speed import Speed

    return Speed(
        hertz=hertz,
        divisor=board.divisor(hertz),
        window=board.window,
        receive_bytes=board.receive_bytes,
        cycles=figures.cycles_per_token,
        sent=figures.bytes_sent / steps,
        received=figures.bytes_received / steps,
        batch=batch,
        draws=draws,
        shared=board.shares_line,
    )
