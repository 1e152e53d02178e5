"""Text from a board: prompt in, last-layer events out, read-out and sampling on the host, tokens back in."""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from egret.model.errors import InputError

if TYPE_CHECKING:
    from egret.host.board import Board
    from egret.model.compiler.image import Image

__all__ = ["ReadOut", "Sampler", "generate"]


class ReadOut:
    """Logits from the last layer's events: ``(E y + b) * 2^-n`` in integers, scaled once at the end.

    Parameters
    ----------
    image : egret.model.compiler.image.Image

    Raises
    ------
    InputError
        It is that of a part of a network, which has none.
    """

    def __init__(self, image: "Image") -> None:
        if not image.readout_bias:
            raise InputError("the image is that of a part of a network, which has no read-out")
        vocabulary, outputs = image.configuration.vocabulary, image.configuration.hidden[-1]
        weight = np.frombuffer(image.readout_weight or image.memories["embedding"], np.int8)
        # Products of float64 are fast and exact here: no sum reaches 2^53.
        self._columns = weight.reshape(vocabulary, outputs).T.astype(np.float64, order="C")
        self._bias = np.frombuffer(image.readout_bias, "<i4").astype(np.float64)
        self._scale = 2.0**-image.readout_fraction

    def __call__(self, events):
        """Logits, float64 [V], from events, uint8 [H_last]."""
        active = np.flatnonzero(events)
        return (events[active].astype(np.float64) @ self._columns[active] + self._bias) * self._scale


class Sampler:
    """Draws tokens from logits.

    Parameters
    ----------
    temperature : float
        Divides the logits; 0 takes the most probable token.
    seed : int
        Of numpy's generator; the same seed gives the same tokens.

    Raises
    ------
    InputError
        A negative temperature or seed.
    """

    def __init__(self, *, temperature: float = 1.0, seed: int = 0) -> None:
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be 0 or a positive number, not {temperature!r}")
        if not isinstance(seed, int) or seed < 0:
            raise InputError(f"seed must be an integer of at least 0, not {seed!r}")
        self._temperature = temperature
        self._random = np.random.default_rng(seed)

    def __call__(self, logits):
        """A token, from logits, float64 [V]."""
        if self._temperature == 0:
            return int(np.argmax(logits))
        # Dividing after the subtraction keeps every exponent finite at any temperature.
        weights = np.exp((logits - logits.max()) / self._temperature)
        cumulated = np.cumsum(weights)
        return int(np.searchsorted(cumulated, self._random.random() * cumulated[-1], side="right"))


def generate(
    board: "Board",
    read_out: "ReadOut",
    sampler: "Sampler",
    prompt: Sequence[int],
    count: int,
    *,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> Generator[int, None, None]:
    """Generate tokens on a board, from zero state; closed early, it leaves the board in step with the client.

    Parameters
    ----------
    board : egret.host.board.Board
        With the image loaded.
    read_out : ReadOut
    sampler : Sampler
    prompt : sequence of int
        Token ids to start with, at least one.
    count : int
        Tokens to generate.
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
            token = sampler(read_out(events))
            # The last token's events would serve nothing.
            finish = board.begin_step(token) if index < count - 1 else None
            # While the board runs this step, the caller looks at the one before.
            if observe is not None and observed is not None:
                observe(*observed)
            yield token
            if finish is not None:
                events = finish()
            observed = (token, events) if observe is not None and finish is not None else None

    return run()
