"""Text from a board: prompt in, last-layer events out, read-out and sampling on the host, tokens back in."""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from egret.model.errors import InputError

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.native import NativeSampler
    from egret.model.readout import Sampler

__all__ = ["generate"]


def generate(
    board: "Board",
    sampler: "Sampler | NativeSampler",
    prompt: Sequence[int],
    count: int,
    *,
    stop: int | None = None,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> Generator[int, None, None]:
    """Generate tokens on a board, from zero state; closed early, it leaves the board in step with the client.

    Parameters
    ----------
    board : egret.host.board.Board
        With the image loaded.
    sampler : egret.model.readout.Sampler or egret.model.native.NativeSampler
        Of the network's read-out.
    prompt : sequence of int
        Token ids to start with, at least one.
    count : int
        Tokens to generate.
    stop : int or None
        Token behind which generation ends before that.
    observe : callable or None
        Called after each step with the token that went in and the events that came out, uint8 [H_last]: to compare
        them with the integer network.

    Yields
    ------
    int
        The generated tokens, each as soon as it is known.

    Raises
    ------
    InputError
        An empty prompt or a negative count.
    """
    prompt = [int(token) for token in prompt]
    if not prompt:
        raise InputError("the prompt must have at least one token")
    if count < 0:
        raise InputError(f"the number of tokens must be at least 0, not {count}")

    def run() -> Generator[int, None, None]:
        board.clear()
        events = np.zeros(0, np.uint8)
        for token, events in zip(prompt, board.step_many(prompt), strict=True):
            if observe is not None:
                observe(token, events)
        observed = None
        for index in range(count):
            token = sampler.sample(events)
            # The last token's events would serve nothing.
            finish = board.begin_step(token) if index < count - 1 and token != stop else None
            # While the board runs this step, the caller looks at the one before.
            if observe is not None and observed is not None:
                observe(*observed)
            yield token
            if finish is None:
                return
            events = finish()
            observed = (token, events)

    return run()
