"""Options that several commands share, each defined once."""

import click

from egret.model.compiler.configuration import RESIDENT_BYTES

__all__ = ["ENGINES", "FOLDED", "RESIDENT", "SIMULATORS", "as_json"]


ENGINES = ("float", "integer", "rtl")
SIMULATORS = ("verilator", "icarus")
FOLDED = "Tokens with folded rows, the first ones: 0, or with the store sdram as many as fit."
RESIDENT = f"With the store sdram: block RAM for the weights that are read most often; {RESIDENT_BYTES} by default."
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
