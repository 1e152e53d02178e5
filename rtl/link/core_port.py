"""What the link asks of a core."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from egret.model.compiler.configuration import TOKEN_BITS
from egret.rtl import protocol
from egret.rtl.layouts import load_bus_layout, output_layout, result_layout, sampling_layout, task_layout

__all__ = ["core_signature"]


def core_signature(
    word_bytes: int, counters: int, *, bits: int = TOKEN_BITS, readout: bool = False
) -> wiring.Signature:
    """What the link asks of a core, seen from the link.

    Parameters
    ----------
    word_bytes : int
        Bytes of the widest word on the load bus.
    counters : int
        Number of 64-bit performance counters.
    bits : int
        Width of a token, see `egret.model.compiler.configuration.token_bits`; without a read-out.
    readout : bool
        Whether the core has a read-out.

    Returns
    -------
    wiring.Signature
        With these members.

        - ``token : Out(stream.Signature(bits))``: starts a step.
        - ``events : In(stream.Signature(output_layout()))``: the step's events.
        - ``load : Out(load_bus_layout(word_bytes))``, ``load_valid : Out(1)``: write a word of a memory, with the core
          idle; a memory with narrower words takes the low bits.
        - ``clear : Out(1)``: high for one cycle, with the core idle, to set its state to zero. The core is busy from
          the next cycle on until that is done.
        - ``busy : In(1)``: a step or a clear is in progress.
        - ``counter_byte : Out(range(8 * counters))``, ``counter_read : In(8)``: a byte of the counters, which comes in
          the next cycle.
        - ``counters_settled : In(1)``: the counters hold still, once the core is idle.

        With a read-out, ``token`` is ``Out(stream.Signature(task_layout()))``, and there are these.

        - ``result : In(stream.Signature(result_layout()))``: what is told of the step, taken behind its last event.
        - ``sampling : Out(sampling_layout())``, ``sampling_load : Out(1)``: high for one cycle, with the core idle, to
          say how words are drawn from now on.
    """
    members = {
        "result": In(stream.Signature(result_layout())),
        "sampling": Out(sampling_layout()),
        "sampling_load": Out(1),
    }
    return wiring.Signature(
        {
            "token": Out(stream.Signature(task_layout() if readout else bits)),
            "events": In(stream.Signature(output_layout())),
            "load": Out(load_bus_layout(word_bytes)),
            "load_valid": Out(1),
            "clear": Out(1),
            "busy": In(1),
            "counter_byte": Out(range(max(protocol.COUNTER_BYTES * counters, 2))),
            "counter_read": In(8),
            "counters_settled": In(1),
            **(members if readout else {}),
        }
    )
