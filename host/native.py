"""Text from the native engine: the whole token in C++, compared with the integer network."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from egret.model.integer import IntegerEngine
from egret.model.native import NativeEngine

if TYPE_CHECKING:
    from egret.model.integer import IntegerNetwork
    from egret.model.readout import Sampler

__all__ = ["NativeSession", "generate_natively"]


@dataclass
class NativeSession:
    """What `generate_natively` did.

    Attributes
    ----------
    tokens : int
        Tokens generated.
    seconds : float
        That the native engine took for them and for the prompt.
    host_seconds : float
        Of these, what this process worked.
    matching : int or None
        Tokens that were the integer network's; None where nothing was compared.
    first_mismatch : str or None
    text : str
        That was written, with the prompt, where somebody kept it.
    """

    tokens: int = 0
    seconds: float = 0.0
    host_seconds: float = 0.0
    matching: int | None = None
    first_mismatch: str | None = None
    text: str = ""

    def lines(self) -> list[str]:
        """The figures as text, a list of lines."""
        lines = []
        if self.matching is not None:
            lines.append(f"{self.matching} of {self.tokens} tokens match the integer network")
        if self.first_mismatch is not None:
            lines.append(f"first mismatch: {self.first_mismatch}")
        lines.append(f"{self.tokens / self.seconds:,.0f} tokens per second")
        return lines

    def end_to_end(self) -> dict[str, float | None]:
        """What a whole token took, by name, as of a board (`egret.host.session.Session`): without core and link."""
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "core_cycles_per_token": None,
            "link_bytes_per_token": None,
            "host_seconds_per_token": self.host_seconds / max(self.tokens, 1),  # of no text, nothing
        }

    def summary(self) -> dict[str, Any]:
        """The figures by name, for JSON."""
        return {
            "tokens": self.tokens,
            "matching": self.matching,
            "first_mismatch": self.first_mismatch,
            "tokens_per_second": self.tokens / self.seconds,
            "end_to_end": self.end_to_end(),
        }


def generate_natively(
    network: "IntegerNetwork",
    ids: Sequence[int],
    count: int,
    sampler: "Sampler",
    write: Callable[[str], Any],
    *,
    check: bool = True,
    stop: int | None = None,
) -> NativeSession:
    """Generate text with the native engine, from zero state.

    Parameters
    ----------
    network : IntegerNetwork
        With a vocabulary and a read-out.
    ids : list of int
        The prompt.
    count : int
        Tokens to generate.
    sampler : egret.model.readout.Sampler
        Of the network's read-out.
    write : callable
        Called with each piece of text as it comes.
    check : bool
        Whether the integer network draws each token too.
    stop : int or None
        Token behind which the text ends before that.

    Returns
    -------
    NativeSession

    Raises
    ------
    InputError
        A negative count, an empty prompt, or no C++ compiler.
    """
    assert network.vocabulary is not None
    engine, session = NativeEngine(network), NativeSession(matching=0 if check else None)
    integer = IntegerEngine(network) if check else None
    expected = copy.copy(sampler)

    def tokens():
        generated, given = engine.generate(sampler, ids, count, stop=stop), list(ids)
        while True:
            begin, worked = time.perf_counter(), time.process_time()
            token = next(generated, None)
            session.seconds += time.perf_counter() - begin
            session.host_seconds += time.process_time() - worked
            if token is None:
                return
            if integer is not None:
                events = [integer.step(np.array([one]))[-1].y[0] for one in given][-1]
                right, given = expected.sample(events), [token]
                session.matching = (session.matching or 0) + (token == right)
                if token != right and session.first_mismatch is None:
                    session.first_mismatch = f"token {session.tokens + 1}: {token}, not {right}"
            session.tokens += 1
            yield token

    # From the prompt on, for what stands between it and the first word.
    for piece in islice(network.vocabulary.pieces(chain(ids, tokens())), len(ids), None):
        write(piece)
    return session
