"""iCEBreaker with an iCE40 UP5K: weights in its single-port RAM, FT2232H at 3 Mbaud."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from egret.boards.definition import BoardDefinition
from egret.boards.devices import DEVICES

__all__ = ["BOARD"]

BOARD = BoardDefinition(
    title="iCEBreaker",
    platform=ICEBreakerPlatform,
    device=DEVICES["up5k"],
    hertz=24e6,
    baud=3_000_000,
    target="icebreaker",
    quantised={"weight_bits": 4, "gate_index_bits": 8},
)
