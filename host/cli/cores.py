"""Cores, simulated or on a board: what commands say of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from egret.host.cli.show import Result
from egret.host.opening import open_board
from egret.host.progress import progress_bar, working
from egret.model.errors import needs

if TYPE_CHECKING:
    import numpy as np

    from egret.boards.definition import BoardDefinition
    from egret.host.measure import Measurement
    from egret.host.network import Network
    from egret.host.session import Session
    from egret.host.speed import Speed

__all__ = [
    "board_speed",
    "describe_measurement",
    "diverged",
    "generation_speed",
    "measure_whole",
    "mismatch_status",
    "until_it_differs",
]


def measure_whole(network: "Network", ids: "np.ndarray", count: int) -> "tuple[Measurement, Session]":
    """Measure the tokens ``ids`` on a virtual board, and generate ``count`` tokens on it, with a ``network``'s image.

    These are drawn at temperature 1, and compared with the integer network's.
    """
    from egret.host.measure import measure
    from egret.host.session import generate_text, prompt_ids
    from egret.model.readout import ReadOut, Sampler

    image, integer = network.image, network.integer
    with open_board(image.configuration) as board:
        with progress_bar("loading") as progress:
            board.load(image, progress=progress)
        with progress_bar("simulated core") as progress:
            measurement = measure(board, image, integer, ids, progress=progress)
        with working("generating"):
            prompt, sampler = prompt_ids(network.vocabulary, None), Sampler(ReadOut(integer))
            return measurement, generate_text(board, image, integer, prompt, count, sampler, lambda piece: None)


@contextmanager
def until_it_differs() -> Iterator[None]:
    """End the command with status 1 where a core differs from the integer network inside."""
    with needs("cocotb_tools", "cocotb==2.1.*", "this simulation"):
        from egret.sim.lockstep import LockstepError
    try:
        yield
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
    from egret.host.speed import STEPS_OF_EVENTS
    from egret.model.sequences import SequenceEvaluation
    from egret.rtl.protocol import DEFAULT_RECEIVE_BYTES

    steps, draws = measurement.evaluation.tokens, measurement.macs_readout_per_token is not None
    # As on the virtual board, where the bytes were counted.
    batch = scores_at_once(DEFAULT_RECEIVE_BYTES) if draws else 1
    if isinstance(measurement.evaluation, SequenceEvaluation):
        batch = STEPS_OF_EVENTS
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
