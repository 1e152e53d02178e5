"""Egret generates an FPGA accelerator for event-based recurrent language models: `Network` is the way in."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egret.host.network import Network

__all__ = ["Network"]


def __getattr__(name: str) -> Any:
    """Load `Network` where it is first asked for: commands need less."""
    if name == "Network":
        from egret.host.network import Network

        return Network
    raise AttributeError(f"module 'egret' has no attribute {name!r}")
