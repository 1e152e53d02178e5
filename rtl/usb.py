"""A serial port over USB: bytes from and to the two lines of a full-speed connection, by LUNA's blocks."""

# LUNA has no types, and the stubs of Amaranth lack streams of FIFOs.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import warnings
from copy import copy
from typing import Any

from amaranth.hdl import *
from amaranth.lib import io, stream, wiring
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

with warnings.catch_warnings():
    # LUNA is built of what Amaranth 0.6 will no longer have.
    warnings.simplefilter("ignore", DeprecationWarning)
    from luna.gateware.stream.generator import StreamSerializer
    from luna.gateware.usb.stream import USBInStreamInterface
    from luna.gateware.usb.usb2.control import USBControlEndpoint
    from luna.gateware.usb.usb2.device import USBDevice
    from luna.gateware.usb.usb2.endpoint import EndpointInterface
    from luna.gateware.usb.usb2.endpoints.stream import USBStreamInEndpoint, USBStreamOutEndpoint
    from luna.gateware.usb.usb2.packet import HandshakeExchangeInterface, TokenDetectorInterface
    from luna.gateware.usb.usb2.request import USBRequestHandler
    from usb_protocol.emitters import DeviceDescriptorCollection
    from usb_protocol.emitters.descriptors import cdc
    from usb_protocol.types import USBRequestType, USBTransferType

from egret.rtl import protocol
from egret.rtl.usb_phy import UsbPhy

__all__ = ["DATA_ENDPOINT", "PACKET_BYTES", "STATUS_ENDPOINT", "UsbSerial"]

CONTROL_ENDPOINT, STATUS_ENDPOINT, DATA_ENDPOINT = 0, 3, 4
PACKET_BYTES = 64
"""Longest packet, the most that a bulk endpoint may have at full speed."""

# Cycles of 12 MHz without a byte after which a packet ends that is not full.
_PAUSE = 16
# Such cycles within which the packet behind a token begins, without those in which the device sends. A host waits 18
# bits, and a packet begins with 8; that of the next token, if this one's is not heard, comes after 100.
_TOKEN = 63
# What the host is told that it has set: bits a second, one stop bit, no parity, eight data bits.
_LINE_CODING = (115200).to_bytes(4, "little") + bytes([0, 0, 8])


class UsbSerial(wiring.Component):
    """A serial port (CDC-ACM) at full speed, whose rate, parity and stop bits are of no meaning.

    Bytes are not lost: the host keeps those that there is no room for, and repeats packets that were damaged. A packet
    for the host ends when it is full, or when no byte has come for 1.3 us; where the last one is full an empty one
    follows, so that the host's read ends. A reset by the host, or setting the configuration, begins all anew and drops
    the packets that were on their way.

    Needs the domains ``sync``, ``usb`` and `egret.rtl.usb_phy.BITS`.

    Parameters
    ----------
    board : str
        What the host is told that this is, behind `egret.rtl.protocol.USB_PRODUCT`.

    Members
    -------
    i, o : In(stream.Signature(8)), Out(stream.Signature(8))
        Bytes to and from the host, in the domain ``sync``.
    d_p, d_n : Out(io.Buffer.Signature("io", 1))
        The lines D+ and D-; what comes may change at any time.
    pullup : Out(1)
        High where the resistor of 1.5 kOhm pulls D+ up: from the first cycle on.
    """

    i: stream.Interface
    o: stream.Interface
    d_p: Any
    d_n: Any
    pullup: Signal

    def __init__(self, board: str) -> None:
        self._product = f"{protocol.USB_PRODUCT}: {board}"
        line = io.Buffer.Signature(io.Direction.Bidir, 1)
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "d_p": Out(line),
                "d_n": Out(line),
                "pullup": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.phy = phy = UsbPhy(self.d_p, self.d_n)
        m.submodules.device = device = USBDevice(bus=phy, handle_clocking=False)
        spent, restart = Signal(), Signal()
        control = _Control(phy, _descriptors(self._product), device.reset_detected, spent)
        m.submodules.token = token = _Token(phy, control.interface.tokenizer)
        m.d.comb += spent.eq(token.spent)
        sender, receiver = _Sender(restart, spent), _Receiver(restart, spent)
        for endpoint in (control, _Silent(), sender, receiver):
            device.add_endpoint(endpoint)
        m.d.comb += [device.connect.eq(1), self.pullup.eq(phy.term_select)]
        m.d.usb += restart.eq(device.reset_detected | control.interface.config_changed)

        m.submodules.received = received = AsyncFIFO(width=8, depth=16, w_domain="usb", r_domain="sync")
        m.d.comb += [
            received.w_data.eq(receiver.stream.payload),
            received.w_en.eq(receiver.stream.valid),
            receiver.stream.ready.eq(received.w_rdy),
        ]
        wiring.connect(m, received.r_stream, wiring.flipped(self.o))

        # One byte is held back, until it is known whether it is the last one of its packet.
        m.submodules.sent = sent = AsyncFIFO(width=8, depth=16, w_domain="sync", r_domain="usb")
        wiring.connect(m, wiring.flipped(self.i), sent.w_stream)
        byte, held, left = Signal(8), Signal(), Signal(range(_PAUSE + 1))
        m.d.comb += [
            sender.stream.payload.eq(byte),
            sender.stream.valid.eq(held & (sent.r_rdy | (left == 0))),
            sender.stream.last.eq(~sent.r_rdy),
            sent.r_en.eq(~held | sender.stream.ready),
        ]
        with m.If(left != 0):
            m.d.usb += left.eq(left - 1)
        with m.If(sender.stream.valid & sender.stream.ready):
            m.d.usb += held.eq(0)
        with m.If(sent.r_en & sent.r_rdy):
            m.d.usb += [byte.eq(sent.r_data), held.eq(1), left.eq(_PAUSE)]
        return m


class _Token(Elaboratable):
    """How long a token is good: for the packet behind it, which begins in time, and its answer.

    LUNA keeps a token until it hears the next one. If that is damaged, its packet would be taken for the token before.

    Parameters
    ----------
    phy : UsbPhy
    token : TokenDetectorInterface

    Attributes
    ----------
    spent : Signal(1), out
        High from the beginning of the second packet on, or where none came, until a token is heard.
    """

    def __init__(self, phy: UsbPhy, token: TokenDetectorInterface):
        self.spent = Signal()
        self._phy, self._token = phy, token

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        active, followed, left = Signal(), Signal(), Signal(range(_TOKEN + 1))
        m.d.usb += active.eq(self._phy.rx_active)
        with m.If(self._token.new_token):
            m.d.usb += [followed.eq(0), left.eq(_TOKEN)]
        with m.Elif(self._phy.rx_active & ~active):
            m.d.usb += followed.eq(1)
            with m.If(followed):
                m.d.usb += left.eq(0)
        with m.Elif(~followed & ~self._phy.tx_valid & (left != 0)):
            m.d.usb += left.eq(left - 1)
        m.d.comb += self.spent.eq((left == 0) & ~self._token.new_token)
        return m


class _Endpoint(Elaboratable):
    """An endpoint of LUNA that can begin anew, and heeds those packets and acknowledgements alone that are for it.

    LUNA's own ones take each acknowledgement that they hear. Behind a hub that may be one for another device.

    Parameters
    ----------
    inner : object
        The endpoint.
    number : int
    restart : Signal
        Begins it anew.
    spent : Signal
        The last token is of no meaning: what the endpoint sees of it is what LUNA has for one to another device.
    """

    def __init__(self, inner: Any, number: int, restart: Signal, spent: Signal):
        self.interface = EndpointInterface()
        self._inner, self._number, self._restart, self._spent = inner, number, restart, spent
        inner.interface = copy(self.interface)
        inner.interface.handshakes_in = HandshakeExchangeInterface(is_detector=True)
        inner.interface.tokenizer = TokenDetectorInterface()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        token, passed = self.interface.tokenizer, self._inner.interface.tokenizer
        m.submodules.inner = ResetInserter({"usb": self._restart})(self._inner)
        kinds = ("pid", "is_in", "is_out", "is_setup", "is_ping")
        m.d.comb += [
            token.connect(passed, exclude=kinds),
            *(passed[kind].eq(Mux(self._spent, 0, token[kind])) for kind in kinds),
            self._inner.interface.handshakes_in.ack.eq(
                self.interface.handshakes_in.ack & passed.is_in & (token.endpoint == self._number)
            ),
        ]
        return m


class _Control(_Endpoint):
    """The endpoint of requests. Each begins anew, whatever was broken off, as does a reset of the bus.

    LUNA's own one goes on with the request before. Nor does it take a request whose first try came without its bytes,
    and it takes for its own the bytes of a request to another device that comes then.

    Parameters
    ----------
    utmi : UsbPhy
    descriptors : DeviceDescriptorCollection
    reset : Signal
        High for a cycle where the host resets the bus.
    spent : Signal
        As for `_Endpoint`.
    """

    def __init__(self, utmi: UsbPhy, descriptors: Any, reset: Signal, spent: Signal):
        inner = USBControlEndpoint(utmi=utmi)
        inner.add_standard_request_handlers(descriptors, avoid_blockram=False)
        inner.add_request_handler(_LineRequests())
        self._reset = reset
        super().__init__(inner, CONTROL_ENDPOINT, Signal(), spent)

    def elaborate(self, platform: Any) -> Module:
        m = super().elaborate(platform)
        token, passed = self.interface.tokenizer, self._inner.interface.tokenizer
        begins, begun = Signal(), Signal()
        m.d.usb += begun.eq(begins)
        m.d.comb += [
            begins.eq(token.new_token & token.is_setup & (token.endpoint == CONTROL_ENDPOINT)),
            self._restart.eq(begins | self._reset),
            # What begins a request comes once more, a cycle later, when the one before is forgotten. A token for
            # another device has no kind here, and means only that no bytes are expected.
            passed.new_token.eq(token.new_token | begun | (passed.pid == 0)),
        ]
        return m


class _Sender(_Endpoint):
    """Bytes for the host; anew after ``restart``, with the number of its first packet."""

    def __init__(self, restart: Signal, spent: Signal):
        inner = USBStreamInEndpoint(endpoint_number=DATA_ENDPOINT, max_packet_size=PACKET_BYTES)
        super().__init__(inner, DATA_ENDPOINT, restart, spent)
        self.stream = inner.stream


class _Receiver(_Endpoint):
    """Bytes from the host, likewise."""

    def __init__(self, restart: Signal, spent: Signal):
        inner = USBStreamOutEndpoint(endpoint_number=DATA_ENDPOINT, max_packet_size=PACKET_BYTES)
        super().__init__(inner, DATA_ENDPOINT, restart, spent)
        self.stream = inner.stream


class _Silent(Elaboratable):
    """The endpoint for the state of a modem, which never has anything to say."""

    def __init__(self):
        self.interface = EndpointInterface()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        token = self.interface.tokenizer
        m.d.comb += self.interface.handshakes_out.nak.eq(
            (token.endpoint == STATUS_ENDPOINT) & token.is_in & token.ready_for_response
        )
        return m


class _LineRequests(USBRequestHandler):
    """Takes what a host sets of a serial port, its rate or DTR, and does nothing of it.

    A host that is refused here may refuse to open the port: pyserial sets DTR in doing so.
    """

    SET_LINE_CODING, GET_LINE_CODING, SET_CONTROL_LINE_STATE = 0x20, 0x21, 0x22

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        interface = self.interface
        setup = interface.setup
        m.submodules.coding = coding = StreamSerializer(
            data_length=len(_LINE_CODING), domain="usb", stream_type=USBInStreamInterface, max_length_width=3
        )
        m.d.comb += [
            coding.max_length.eq(len(_LINE_CODING)),
            Cat(coding.data).eq(int.from_bytes(_LINE_CODING, "little")),
        ]
        with m.If(setup.type == USBRequestType.CLASS), m.Switch(setup.request):
            with m.Case(self.SET_LINE_CODING, self.SET_CONTROL_LINE_STATE):
                m.d.comb += [interface.claim.eq(1), interface.handshakes_out.ack.eq(interface.rx_ready_for_response)]
                with m.If(interface.status_requested):
                    m.d.comb += [self.send_zlp(), interface.tx_data_pid.eq(1)]
            with m.Case(self.GET_LINE_CODING):
                m.d.comb += [
                    interface.claim.eq(1),
                    interface.tx_data_pid.eq(1),
                    coding.stream.attach(interface.tx),
                    coding.start.eq(interface.data_requested),
                    interface.handshakes_out.ack.eq(interface.status_requested),
                ]
        return m


def _descriptors(product: str) -> Any:
    """What the device tells of itself, its name being ``product``: two interfaces, as the class CDC-ACM has them."""
    descriptors = DeviceDescriptorCollection()
    with descriptors.DeviceDescriptor() as device:
        # A device whose interfaces belong together.
        device.bDeviceClass, device.bDeviceSubclass, device.bDeviceProtocol = 0xEF, 0x02, 0x01
        device.idVendor, device.idProduct = protocol.USB_VENDOR_ID, protocol.USB_PRODUCT_ID
        device.iManufacturer, device.iProduct = protocol.USB_PRODUCT, product
        device.bNumConfigurations = 1
    with descriptors.ConfigurationDescriptor() as configuration:
        with configuration.InterfaceAssociationDescriptor() as pair:
            pair.bFirstInterface, pair.bInterfaceCount = 0, 2
            pair.bFunctionClass, pair.bFunctionSubClass, pair.bFunctionProtocol = 0x02, 0x02, 0x00
        with configuration.InterfaceDescriptor() as line:
            line.bInterfaceNumber = 0
            # Protocol 0: no commands of a modem, so no program looks for one.
            line.bInterfaceClass, line.bInterfaceSubclass, line.bInterfaceProtocol = 0x02, 0x02, 0x00
            line.add_subordinate_descriptor(cdc.HeaderDescriptorEmitter())
            management = cdc.CallManagementFunctionalDescriptorEmitter()
            management.bDataInterface = 1
            line.add_subordinate_descriptor(management)
            abilities = cdc.ACMFunctionalDescriptorEmitter()
            abilities.bmCapabilities = 0x02  # the requests of `_LineRequests`
            line.add_subordinate_descriptor(abilities)
            union = cdc.UnionFunctionalDescriptorEmitter()
            union.bControlInterface, union.bSubordinateInterface0 = 0, 1
            line.add_subordinate_descriptor(union)
            with line.EndpointDescriptor() as status:
                status.bEndpointAddress = 0x80 | STATUS_ENDPOINT
                status.bmAttributes = USBTransferType.INTERRUPT
                status.wMaxPacketSize = 8
                status.bInterval = 255
        with configuration.InterfaceDescriptor() as bytes_:
            bytes_.bInterfaceNumber = 1
            bytes_.bInterfaceClass, bytes_.bInterfaceSubclass, bytes_.bInterfaceProtocol = 0x0A, 0x00, 0x00
            for address in (0x80 | DATA_ENDPOINT, DATA_ENDPOINT):
                with bytes_.EndpointDescriptor() as data:
                    data.bEndpointAddress = address
                    data.bmAttributes = USBTransferType.BULK
                    data.wMaxPacketSize = PACKET_BYTES
    return descriptors
