"""How many tokens a second a board gives: the core's cycles and the link's bytes of simulated steps, at its clock."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egret.rtl.protocol import USB_BYTES_PER_SECOND

if TYPE_CHECKING:
    from egret.host.measure import Measurement
    from egret.host.streaming import SequenceStream, Stream

__all__ = ["STEPS_OF_EVENTS", "USB_SECONDS", "Speed", "line_share"]

BITS = 10
"""Of a byte on the line of a UART: start, eight of data, stop."""

STEPS_OF_EVENTS = 0.5
"""Steps of a command where events enter: those of a step come in one of their own, save for very many."""

USB_SECONDS = 1e-3
"""What USB adds to a round trip: of a serial adapter the least, FTDI's latency timer at its lowest setting; of a board
that is a USB device itself a frame, after which a host has asked for data again."""


@dataclass(frozen=True)
class Speed:
    """Of a board, from what a simulated step takes on average.

    Where the host draws the words, generation waits for each answer before it knows the next token. Streaming has as
    many steps under way as the board allows; then the slowest of core, line to the board and line from the board sets
    the pace, unless these steps are too few for the round trip. The host's own time is not
    counted.

    Parameters
    ----------
    hertz : float
        Clock of core and link.
    divisor : float
        Cycles of a bit on the line, ten of which are a byte (`egret.boards.definition.BoardDefinition.divisor`).
    window, receive_bytes : int
        The board's: commands that may be unanswered at once, bytes of them that wait while one executes.
    cycles : float
        Of the core, a step.
    sent, received : float
        Bytes on the line to and from the board, a step, flags and escapes included.
    batch : float
        Steps of a command; below 1 where events enter, in a command of their own.
    draws : bool
        Whether the board draws the words: generation then is streaming.
    shared : bool
        Whether both directions share the line: USB.
    """

    hertz: float
    divisor: float
    window: int
    receive_bytes: int
    cycles: float
    sent: float
    received: float
    batch: float = 1
    draws: bool = False
    shared: bool = False

    def _line(self, count: float) -> float:
        return count * BITS * self.divisor

    @property
    def _ahead(self) -> int:
        """Commands under way at once."""
        return min(self.window, 1 + int(self.receive_bytes // (self.batch * self.sent)))

    def _round_trip(self, steps: float, delay: float) -> float:
        return steps * (self._line(self.sent + self.received) + self.cycles) + delay * self.hertz

    def generated(self, delay: float = 0.0) -> float:
        """Tokens a second of text generation, a round trip being longer by ``delay`` seconds."""
        return self.streamed(delay) if self.draws else self.hertz / self._round_trip(1, delay)

    def _paces(self, delay: float) -> dict[str, float]:
        """Cycles between two steps that each part would need, by its name."""
        busier = sum if self.shared else max
        return {
            "core": self.cycles,
            "link": self._line(busier((self.sent, self.received))),
            "window": self._round_trip(self.batch, delay) / self._ahead / self.batch,
        }

    def streamed(self, delay: float = 0.0) -> float:
        """Tokens a second where the tokens are known, a round trip being longer by ``delay`` seconds."""
        return self.hertz / max(self._paces(delay).values())

    def limit(self, delay: float = 0.0) -> str:
        """What sets the pace of streaming: ``"core"``, ``"link"`` or ``"window"``; ``delay`` as for `streamed`."""
        paces = self._paces(delay)
        return max(paces, key=lambda part: paces[part])

    def link_busy(self, delay: float = 0.0) -> float:
        """Share of the time that the line, its busier direction, carries bits while streaming with that ``delay``."""
        paces = self._paces(delay)
        return paces["link"] / max(paces.values())

    def end_to_end(self, host_seconds: float) -> dict[str, float]:
        """What a whole token takes, and tokens a second, the host `USB_SECONDS` away and its own time counted, by name.

        Parameters
        ----------
        host_seconds : float
            What the host works for a token: while the board does where that draws the words, else in between.

        Returns
        -------
        dict of str to float
        """
        board = 1 / self.generated(USB_SECONDS)
        return {
            "tokens_per_second": 1 / (max(board, host_seconds) if self.draws else board + host_seconds),
            "core_cycles_per_token": self.cycles,
            "link_bytes_per_token": self.sent + self.received,
            "host_seconds_per_token": host_seconds,
        }

    def summary(self) -> dict[str, Any]:
        """The figures by name, for JSON; ``usb`` are those with `USB_SECONDS`."""
        figures: dict[str, Any] = {
            "megahertz": self.hertz / 1e6,
            "baud": None if self.shared else round(self.hertz / self.divisor),
            "line_bytes_per_second": round(self.hertz / self.divisor / BITS),
            "window": self.window,
            "cycles_per_token": self.cycles,
            "bytes_sent_per_token": self.sent,
            "bytes_received_per_token": self.received,
        }
        for name, delay in (("at_once", 0.0), ("usb", USB_SECONDS)):
            figures[name] = {
                "generated_tokens_per_second": self.generated(delay),
                "streamed_tokens_per_second": self.streamed(delay),
                "limit": self.limit(delay),
                "link_busy": self.link_busy(delay),
            }
        return figures

    def rows(self, *, text: bool = True) -> list[tuple[str, str]]:
        """The same as rows of a table, of a ``text`` or of other steps."""
        step, alone = ("token", "generated") if text else ("step", "one at a time")
        rows = [
            (
                f"cycles, bytes to and from the board, per {step}",
                f"{self.cycles:,.0f}, {self.sent:.1f} and {self.received:.1f}",
            )
        ]
        for name, delay in (("", 0.0), (f", host {USB_SECONDS * 1e3:g} ms away", USB_SECONDS)):
            by = f"limit: {self.limit(delay)}; link busy {self.link_busy(delay):.0%}"
            rows += [
                (f"expected {step}s a second, {alone}{name}", f"{self.generated(delay):,.0f}"),
                (f"expected {step}s a second, streamed{name}", f"{self.streamed(delay):,.0f} ({by})"),
            ]
        return rows


def line_share(traffic: "Measurement | Stream | SequenceStream", baud: int | None) -> float:
    """Share of the wall time for which a real line, its busier direction, carried bits.

    Parameters
    ----------
    traffic : Measurement, Stream or SequenceStream
    baud : int or None
        Bits a second of a UART; None for a board that is a USB device itself.

    Returns
    -------
    float
    """
    if baud is None:
        return (traffic.bytes_sent + traffic.bytes_received) / USB_BYTES_PER_SECOND / traffic.seconds
    return max(traffic.bytes_sent, traffic.bytes_received) * BITS / baud / traffic.seconds
