"""The lines of full-speed USB, by LUNA's blocks: bits to and from bytes, with less delay than LUNA's own."""

# LUNA has no types, and neither have the objects that it asks for.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false

import warnings
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import *

with warnings.catch_warnings():
    # LUNA is built of what Amaranth 0.6 will no longer have.
    warnings.simplefilter("ignore", DeprecationWarning)
    from luna.gateware.interface.gateware_phy import GatewarePHY
    from luna.gateware.interface.gateware_phy.receiver import (
        RxBitstuffRemover,
        RxClockDataRecovery,
        RxNRZIDecoder,
        RxPacketDetect,
        RxShifter,
    )
    from luna.gateware.interface.gateware_phy.transmitter import TxPipeline

__all__ = ["BITS", "UsbPhy"]

BITS = "usb_io"
"""Domain of the lines, 48 MHz: four cycles a bit. That of everything else, ``usb``, is a quarter of it, in phase."""
BIT_CYCLES = 4
"""Cycles of `BITS` in one of ``usb``."""


class UsbPhy(GatewarePHY):
    """What LUNA's device takes for the chip at its lines, with the ports of its `GatewarePHY`.

    Its receiver crosses to the slower clock without a queue, as both clocks come from one PLL. So an answer begins some
    four bits sooner: a host asks sooner for what comes next, and a device should begin within 6.5 bits.

    Needs the domains ``usb`` and `BITS`.

    Parameters
    ----------
    d_p, d_n : object
        The lines D+ and D-, each with the signals ``i``, ``o`` and ``oe``.
    """

    def __init__(self, d_p: Any, d_n: Any):
        super().__init__(io=SimpleNamespace(d_p=d_p, d_n=d_n))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        d_p, d_n = self._io.d_p, self._io.d_n
        m.submodules.transmitter = transmitter = TxPipeline()
        bit = Signal(range(BIT_CYCLES))
        # The state of the lines is taken as it is, while bits pass two registers more.
        m.d[BITS] += [bit.eq(bit + 1), self.line_state.eq(Cat(d_n.i, d_p.i))]
        m.d.comb += [
            self.vbus_valid.eq(1),
            transmitter.i_bit_strobe.eq(bit == 0),
        ]
        with m.If(self.op_mode == self.OP_MODE_NORMAL):
            m.d.comb += [
                transmitter.i_data_payload.eq(self.tx_data),
                transmitter.i_oe.eq(self.tx_valid),
                self.tx_ready.eq(transmitter.o_data_strobe),
                *(line.oe.eq(transmitter.o_oe) for line in (d_p, d_n)),
                d_p.o.eq(transmitter.o_usbp),
                d_n.o.eq(transmitter.o_usbn),
            ]

        # What the device sends is not heard.
        m.submodules.recovery = recovery = RxClockDataRecovery(d_p.i & ~transmitter.o_oe, d_n.i & ~transmitter.o_oe)
        m.submodules.decoder = decoder = RxNRZIDecoder()
        m.submodules.packets = packets = RxPacketDetect()
        m.submodules.stuffing = stuffing = ResetInserter({BITS: ~packets.o_pkt_active})(RxBitstuffRemover())
        m.submodules.shifter = shifter = RxShifter(width=8)
        was_active = Signal()
        m.d[BITS] += was_active.eq(packets.o_pkt_active)
        m.d.comb += [
            decoder.i_valid.eq(recovery.line_state_valid),
            decoder.i_dj.eq(recovery.line_state_dj),
            decoder.i_dk.eq(recovery.line_state_dk),
            decoder.i_se0.eq(recovery.line_state_se0),
            packets.i_valid.eq(decoder.o_valid),
            packets.i_se0.eq(decoder.o_se0),
            packets.i_data.eq(decoder.o_data),
            stuffing.i_valid.eq(decoder.o_valid),
            stuffing.i_data.eq(decoder.o_data),
            shifter.reset.eq(packets.o_pkt_end),
            shifter.i_data.eq(stuffing.o_data),
            shifter.i_valid.eq(~stuffing.o_stall & was_active),
        ]
        # A byte and the ends of a packet come at least a bit apart.
        begins, ends, comes = (
            _held(m, event, name)
            for event, name in (
                (packets.o_pkt_start, "begins"),
                (packets.o_pkt_end, "ends"),
                (shifter.o_put, "comes"),
            )
        )
        byte = Signal(8)
        with m.If(shifter.o_put):
            m.d[BITS] += byte.eq(shifter.o_data[::-1])
        m.d.comb += [
            self.rx_data.eq(byte),
            self.rx_valid.eq(comes & self.rx_active),
            self.rx_error.eq(stuffing.o_error),
        ]
        m.d.usb += self.rx_complete.eq(ends)
        with m.If(begins):
            m.d.usb += self.rx_active.eq(1)
        with m.Elif(ends):
            m.d.usb += self.rx_active.eq(0)
        return m


def _held(m: Module, event: Any, name: str) -> Any:
    """An ``event`` of one cycle of `BITS`, made as long as a cycle of ``usb``: one edge of that sees it."""
    cycles = Signal(BIT_CYCLES, name=name)
    m.d[BITS] += cycles.eq(Cat(event, cycles[:-1]))
    return cycles.any()
