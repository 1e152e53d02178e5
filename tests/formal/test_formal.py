"""The proofs: a few of them, what finds that they are no empty words, and the page that lists them."""

import pytest

from bench.mutants import TREE, Mutant, Plan
from tests.formal.__main__ import PLACE, table
from tests.formal.proof import all_proofs
from tests.formal.solve import kill, missing_tools, prove

PROOFS = {proof.name: proof for proof in all_proofs()}
solver = pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}")


def test_every_proof_of_a_unit_has_a_fault_to_find():
    named = {name for mutant in Plan.load(TREE / "bench" / "mutants.toml").mutants for name in mutant.proofs}
    of_units = {name for name, proof in PROOFS.items() if not proof.unit.startswith("amaranth.")}
    assert named == of_units


def test_the_page_lists_the_proofs():
    page = (TREE / "docs" / "trust.md").read_text()
    found = PLACE.search(page)
    assert found and found[0] == table(list(PROOFS.values())), "python -m tests.formal --write docs/trust.md"


@pytest.mark.slow
@solver
@pytest.mark.parametrize("name", ["events.stream", "uart.line"])
def test_proof(name):
    result = prove(PROOFS[name])
    assert result.ok, result.how
    assert result.how.startswith("induction")


@pytest.mark.slow
@solver
def test_a_fault_is_found():
    (fault,) = (m for m in Plan.load(TREE / "bench" / "mutants.toml").mutants if "events.stream" in m.proofs)
    result = kill(PROOFS["events.stream"], fault)
    assert result.ok and result.how.startswith("killed"), result.how
    # What changes nothing is not taken for a fault.
    same = Mutant("none", "rtl/events.py", "queue.r_en.eq(self.o.ready)", "queue.r_en.eq((self.o.ready))")
    assert kill(PROOFS["events.stream"], same).how == "survived"
