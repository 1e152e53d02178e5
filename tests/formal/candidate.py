"""Gate z of reset "after"."""

from amaranth.hdl import *

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.compiler.configuration import Configuration
from egret.rtl.candidate import STAGES, Candidate
from tests.formal.proof import proof

CORE = Configuration(vocabulary=2, embedding=1, hidden=(3,), lanes=1, accumulator_bits=20, reset="after")


@proof(Candidate, induction=4, cover=8)
def joined(b):
    """What is looked up is zx + r * zy, the product rounded half up, of the three numbers that came for one neuron."""
    inside = b.add(Candidate(CORE))
    factor, by = inside["factor"], inside["by"]
    b.claim(~b.was(C(1)) | ((factor == b.was(inside["inner"]).as_signed()) & (by == b.was(inside["reset"]))))
    exact = b.was(inside["outer"], 2).as_signed() + (
        (b.was(factor * by) + (1 << VALUE_FRACTION >> 1)) >> VALUE_FRACTION
    )
    found = b.was(exact[: CORE.accumulator_bits]).as_signed()
    taken = b.was(inside["take"], STAGES)
    b.claim(~taken | (inside["joined"] == found), taken == inside["looking"][STAGES - 1])
    b.cover(taken & (found == -5), taken & (found == 1 << VALUE_FRACTION))
