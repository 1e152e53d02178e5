"""What fits the memories of cores."""

import dataclasses

from egret.host.cost.cores import DDR3, ULX3S, on_core
from egret.host.cost.model import traffic
from tests.support.cost import work


def test_what_fits_a_memory():
    own = work((100,))
    rows = [on_core(own, dataclasses.replace(ULX3S, size=size)) for size in (1e4, 2e5, 1e9)]
    assert rows[0] is None and rows[2].folded_tokens == own.vocabulary
    memory = traffic(rows[1])
    assert sum(memory[name] for name in ("weights", "embedding", "rows")) <= 2e5
    assert memory["row"] == 20 * 16 * 3 and 0 < rows[1].folded_tokens < own.vocabulary


def test_what_a_core_changes():
    """Weights in block RAM beside its memory, where it has any."""
    own = dataclasses.replace(work(lanes=4, store="sdram"), resident=((0.25, 0.5, 0.9),))
    assert on_core(own, ULX3S).resident and not on_core(own, DDR3).resident
