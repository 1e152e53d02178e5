"""Verilog of a component."""

import os

__all__ = ["to_verilog"]


def to_verilog(component, name):
    """Convert a component with Amaranth's own Yosys.

    Amaranth would prefer a Yosys found on the machine, whatever its version.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        Its members become the ports.
    name : str
        Of the top module.

    Returns
    -------
    str
    """
    from amaranth.back import verilog

    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        return verilog.convert(component, name=name, strip_internal_attrs=True)
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before
