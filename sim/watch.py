"""Watches streams for breaches of the Amaranth stream rules, in any simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StreamWatch", "watch_amaranth", "watch_cocotb"]


@dataclass
class StreamWatch:
    """Checks one stream, a sample each clock edge (taken just before it).

    Once `valid` is high, it stays high and the payload keeps its value until a cycle in which `ready` is high too.

    Parameters
    ----------
    name : str
        Names the stream in the error.

    Attributes
    ----------
    cycles : int
        Cycles seen.
    transfers : int
        Payloads transferred.
    stalls : int
        Cycles in which valid was high and ready low; a test of backpressure wants this above zero.

    Raises
    ------
    AssertionError
        From `sample`: valid was taken back, or the payload changed, before the transfer.
    """

    name: str
    cycles: int = 0
    transfers: int = 0
    stalls: int = 0
    _held: object = None
    _waiting: bool = False

    def sample(self, valid: Any, ready: Any, payload: Any) -> None:
        """One cycle: `valid` and `ready` as anything with a truth value, `payload` anything that can be compared."""
        if self._waiting:
            if not valid:
                raise AssertionError(
                    f"stream {self.name}, cycle {self.cycles}: valid fell before the payload "
                    f"{self._held!r} was accepted"
                )
            if payload != self._held:
                raise AssertionError(
                    f"stream {self.name}, cycle {self.cycles}: payload changed from {self._held!r} "
                    f"to {payload!r} before it was accepted"
                )
        self._waiting = bool(valid) and not ready
        self._held = payload if self._waiting else None
        self.transfers += bool(valid and ready)
        self.stalls += self._waiting
        self.cycles += 1


def watch_cocotb(streams: Mapping[str, tuple[Any, str]], clock: Any) -> dict[str, StreamWatch]:
    """Start to watch streams of Verilog modules that Amaranth generated.

    Parameters
    ----------
    streams : mapping of str to (handle, str)
        By name in errors: cocotb handle of the module (any level) that has the stream's signals, and their prefix:
        ``o`` for ``o__payload``, ``o__valid``, ``o__ready``. A structured payload is found as ``o__payload`` or by its
        members ``o__payload__...``.
    clock
        cocotb handle of the clock.

    Returns
    -------
    dict of str to StreamWatch
        Their counts grow as the simulation runs; a breach fails the test.
    """
    import cocotb
    from cocotb.triggers import FallingEdge

    watches, signals = {}, []
    for name, (dut, stream) in streams.items():
        payload = getattr(dut, f"{stream}__payload", None)
        prefix = f"{stream}__payload__"
        members = [handle for handle in dut if handle._name.startswith(prefix)] if payload is None else [payload]
        if not members:
            raise ValueError(f"{dut._path} has no payload signal for the stream {stream!r}")
        watches[name] = watch = StreamWatch(name)
        signals.append((watch.sample, getattr(dut, f"{stream}__valid"), getattr(dut, f"{stream}__ready"), members))

    async def sample_each_cycle():
        # Half a cycle before the active edge everything has settled: drivers act just after that edge.
        while True:
            await FallingEdge(clock)
            for sample, valid, ready, members in signals:
                if int(valid.value):
                    sample(True, int(ready.value), tuple(int(member.value) for member in members))
                else:
                    sample(False, False, None)

    cocotb.start_soon(sample_each_cycle())
    return watches


def watch_amaranth(simulator: Any, stream: Any, name: str) -> "StreamWatch":
    """Start to watch a stream interface in Amaranth's simulator.

    Parameters
    ----------
    simulator : amaranth.sim.Simulator
    stream : amaranth.lib.stream.Interface
    name : str
        Name in errors.

    Returns
    -------
    StreamWatch
    """
    from amaranth.hdl import Value

    watch = StreamWatch(name)
    payload = Value.cast(stream.payload)

    async def sample_each_cycle(context):
        async for _, _, is_valid, is_ready, value in context.tick().sample(stream.valid, stream.ready, payload):
            watch.sample(is_valid, is_ready, value)

    simulator.add_process(sample_each_cycle)
    return watch
