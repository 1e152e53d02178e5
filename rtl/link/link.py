"""The device's end of the host link: frames in, commands on the core's ports, frames out."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.rtl import protocol
from egret.rtl.link.executor import Executor, longest_reply
from egret.rtl.link.receiver import Receiver
from egret.rtl.link.sender import Sender

__all__ = ["Link"]


class Link(wiring.Component):
    """Executes the commands of `egret.rtl.protocol` on a core.

    A receiver undoes the framing and holds still while a good frame is executed. An executor acts on it and writes the
    reply, without framing, to the sender's memory. A sender sends replies and refusals. A reply is kept until
    ``window`` later commands were executed and is sent again when its command comes again, so no command is ever
    executed twice. The Python counterpart is `egret.rtl.link.device.Device`.

    Parameters
    ----------
    digest : bytes
        The eight bytes that name the configuration of the core.
    tokens : int
        Size of the vocabulary, or neurons whose events enter, plus 1.
    outputs : int
        Neurons of the last layer.
    sections : Mapping[int, tuple[int, int]]
        Bytes of a word and number of words of each memory on the load bus.
    counters : int
        Number of 64-bit performance counters of the core.
    layers : int
        How many of them count events.
    head : int
        Entries of the read-out's head; 0 where the core has none.
    groups, group_size : int
        Groups of the read-out, and words of the largest one.
    input_section : int or None
        As for `egret.rtl.link.executor.Executor`.
    window : int
        Number of replies kept and of commands that may be unanswered: a power of two, at most 128.
    receive_bytes : int
        Bytes of further commands held while one executes.
    max_payload : int
        Longest payload of a LOAD or EVENTS, at least `egret.rtl.protocol.MAX_PAYLOAD`.

    Members
    -------
    i, o : In(stream.Signature(8)), Out(stream.Signature(8))
        Bytes from and to the host.
    core : Out(core_signature(word_bytes, counters, bits=token_bits(tokens), readout=head > 0))
        The core; see `egret.rtl.link.core_port.core_signature`.
    busy : Out(1)
        Low when nothing happens before the next byte from the host, or before the byte offered at `o` is taken.
    waiting : Out(1)
        The link waits for an event or a result of the core and has nothing to send. While no byte is offered at `i`, a
        simulator may leave out this cycle of the link's clock: nothing is transferred at any port.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    i: stream.Interface
    o: stream.Interface
    core: Any
    busy: Signal
    waiting: Signal

    def __init__(
        self,
        *,
        digest: bytes,
        tokens: int,
        outputs: int,
        sections: Mapping[int, tuple[int, int]],
        counters: int,
        layers: int,
        head: int = 0,
        groups: int = 0,
        group_size: int = 0,
        input_section: int | None = None,
        window: int = protocol.DEFAULT_WINDOW,
        receive_bytes: int = protocol.DEFAULT_RECEIVE_BYTES,
        max_payload: int = protocol.MAX_PAYLOAD,
    ) -> None:
        if window not in (1, 2, 4, 8, 16, 32, 64, 128):
            raise ValueError(f"window must be a power of two from 1 to 128, not {window!r}")
        identity = protocol.Identity(
            digest=digest,
            window=window,
            max_payload=max_payload,
            receive_bytes=receive_bytes,
            tokens=tokens,
            outputs=outputs,
            counters=counters,
            layers=layers,
            head=head,
        )
        self._receiver = Receiver(receive_bytes=receive_bytes, max_payload=max_payload)
        self._executor = Executor(identity, sections, input_section=input_section, groups=groups, group_size=group_size)
        self._sender = Sender(window=window, reply_bytes=longest_reply(identity))
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "core": self._executor.signature.members["core"],
                "busy": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.receiver = receiver = self._receiver
        m.submodules.executor = executor = self._executor
        m.submodules.sender = sender = self._sender
        wiring.connect(m, wiring.flipped(self.i), receiver.i)
        wiring.connect(m, receiver.frames, executor.frames)
        wiring.connect(m, executor.content, sender.content)
        wiring.connect(m, executor.replies, sender.replies)
        wiring.connect(m, executor.refusals, sender.refusals)
        wiring.connect(m, wiring.flipped(self.o), sender.o)
        wiring.connect(m, wiring.flipped(self.core), executor.core)
        m.d.comb += [
            receiver.payload_address.eq(executor.payload_address),
            executor.payload_byte.eq(receiver.payload_byte),
            executor.bad.eq(receiver.bad),
            executor.pending.eq(sender.pending),
            sender.expected.eq(executor.expected),
            self.busy.eq(receiver.busy | (sender.busy & ~(self.o.valid & ~self.o.ready)) | self.core.busy),
            self.waiting.eq(executor.waits & ~sender.busy),
        ]
        return m
