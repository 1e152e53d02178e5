"""What every proof is made of: a decorator, what claims are written with, and a look inside the unit.

A proof is a function that adds a unit, its surroundings and what is claimed of it to a module, in the statements
``Assume``, ``Assert`` and ``Cover`` of Amaranth. Whatever nothing drives is free: the solver tries every value in
every cycle. ``induction`` proves the claim for any number of cycles: it holds in the first ones, and whenever it has
held for so many it holds in the next one. ``bound`` proves it for so many cycles after the reset. Every ``Cover`` must
be reached within ``cover`` cycles: so what is assumed leaves the unit something to do.
"""

import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.back import rtlil
from amaranth.hdl import *
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib.wiring import In

from egret.model.errors import InputError

__all__ = ["FOLDER", "Bench", "Inside", "Proof", "all_proofs", "proof"]

FOLDER = Path(__file__).parent
NOT_UNITS = ("__main__", "proof", "solve")
"""Modules of this folder that are no files of properties."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A claim, and how it is proved.

    Attributes
    ----------
    name : str
        Module and function.
    unit : str
        What the claim is about.
    claim : str
        First line of the function's docstring.
    build : Callable
        The function.
    induction, bound : int or None
        One of them: greatest depth of the induction, or cycles after the reset.
    cover : int
        Cycles within which every cover is reached.
    arrays : bool
        Whether memories stay memories for the solver, instead of registers.
    """

    name: str
    unit: str
    claim: str
    build: Callable[["Bench"], None]
    induction: int | None
    bound: int | None
    cover: int
    arrays: bool

    @property
    def base(self) -> int:
        """Cycles after the reset that the induction builds on, or all that are looked at."""
        return self.bound if self.bound is not None else self.induction or 0

    @property
    def depth(self) -> int:
        """Cycles after the reset in which a fault must show."""
        return max(self.base, self.cover)

    def rtlil(self) -> str:
        """Return the module."""
        bench = Bench()
        self.build(bench)
        return rtlil.convert(bench.m, ports=bench.ports)

    def script(self, source: str, target: str) -> str:
        """Return what Yosys does to make the solver's input of RTLIL."""
        memories = "memory_nordff; " if self.arrays else "memory_map; "
        return (
            f"read_rtlil {source}; prep -flatten -top top; {memories}async2sync; opt -full; chformal -lower; dffunmap; "
            f"opt_clean; write_smt2 -wires {target}"
        )


def proof(
    unit: type, *, induction: int | None = None, bound: int | None = None, cover: int, arrays: bool = False
) -> Callable[[Callable[["Bench"], None]], Proof]:
    """Make a `Proof` of a function."""
    assert (induction is None) != (bound is None)

    def make(build: Callable[["Bench"], None]) -> Proof:
        assert build.__doc__, f"{build.__name__} has no claim"
        return Proof(
            name=f"{build.__module__.rpartition('.')[2]}.{build.__name__}",
            unit=f"{unit.__module__.removeprefix('egret.')}.{unit.__name__}",
            claim=build.__doc__.partition("\n\n")[0].replace("\n   ", "").strip(),
            build=build,
            induction=induction,
            bound=bound,
            cover=cover,
            arrays=arrays,
        )

    return make


def all_proofs() -> list[Proof]:
    """Return the proofs of all files of this folder."""
    modules = sorted(path.stem for path in FOLDER.glob("*.py"))
    found = []
    for name in modules:
        if name not in NOT_UNITS and not name.startswith("test_"):
            module = importlib.import_module(f"tests.formal.{name}")
            found += [value for value in vars(module).values() if isinstance(value, Proof)]
    return found


class Bench:
    """What a proof is written into.

    Attributes
    ----------
    m : Module
    ports : dict
        Of the module, by name: what is free, as nothing drives it.
    """

    def __init__(self) -> None:
        self.m = Module()
        # All begins with the registers' initial values, and there is no reset later.
        self.m.domains.sync = clock = ClockDomain(reset_less=True)
        self.ports: dict[str, tuple[Any, None]] = {"clk": (clock.clk, None)}

    def add(self, unit: Any, name: str = "unit") -> "Inside":
        """Add a component, and return what is inside it. Its inputs are free, but for those that the proof drives."""
        inside = Inside(unit)
        self.m.submodules[name] = inside
        for path, member, value in unit.signature.flatten(unit):
            if member.flow == In and isinstance(signal := Value.cast(value), Signal):
                self.ports["__".join(map(str, (name, *path)))] = (signal, None)
        return inside

    def cut(self, inside: "Inside", name: str, *outputs: Any) -> None:
        """Take a submodule out of a unit, so that its outputs have any values: what is proved then holds for all."""
        inside.empty(name)
        for number, output in enumerate(outputs):
            self.ports[f"{name}_{number}"] = (Value.cast(output), None)

    def free(self, shape: Any, name: str) -> Signal:
        """Return a signal that has any value in every cycle."""
        signal = Signal(shape, name=name)
        self.ports[name] = (Value.cast(signal), None)
        return signal

    def fixed(self, shape: Any, name: str) -> Signal:
        """Return a signal that has any value, the same in every cycle."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnyConst(Shape.cast(shape)))
        return signal

    def assume(self, *values: Any) -> None:
        """Say what the surroundings of a unit keep."""
        for value in values:
            self.m.d.comb += Assume(value, src_loc_at=1)

    def claim(self, *values: Any) -> None:
        """Say what is to be proved."""
        for value in values:
            self.m.d.comb += Assert(value, src_loc_at=1)

    def cover(self, *values: Any) -> None:
        """Say what must be possible."""
        for value in values:
            self.m.d.comb += Cover(value, src_loc_at=1)

    def was(self, value: Any, cycles: int = 1) -> Signal:
        """Return a value as it was so many cycles before; zero before the first one."""
        value = Value.cast(value)
        for _ in range(cycles):
            later = Signal(value.shape())
            self.m.d.sync += later.eq(value)
            value = later
        return value

    def held(self, stream: Any) -> Value:
        """Whether a stream keeps the rule: what is offered and not taken is offered unchanged in the next cycle."""
        payload = Value.cast(stream.payload)
        waits = self.was(stream.valid & ~stream.ready)
        return ~waits | (stream.valid & (payload == self.was(payload)))

    def claim_stream(self, stream: Any) -> None:
        """Claim the rule of `held`, with covers: something waits, and something is taken right after another."""
        taken = stream.valid & stream.ready
        self.claim(self.held(stream))
        self.cover(self.was(stream.valid & ~stream.ready) & taken)

    def follow(
        self, put: Any, item: Any, taken: Any, found: Any, most: int, made: Callable[[Value], Value] = lambda item: item
    ) -> tuple[Signal, Signal, Signal]:
        """Claim that items leave in the order in which they came, each once, as what is ``made`` of it.

        One item is followed, any one. No more than ``most`` are ever inside, ``level`` of them now. Returns whether it
        is inside, how many are before it, and the item.
        """
        sync = self.m.d.sync
        level, ahead = Signal(range(most + 1), name="inside"), Signal(range(most + 1), name="ahead")
        follows, chosen, leaves = Signal(name="follows"), self.free(1, "chosen"), Signal(name="leaves")
        item = Value.cast(item)
        kept = Signal(len(item), name="kept")
        self.m.d.comb += leaves.eq(taken & follows & (ahead == 0))
        sync += level.eq(level + put - taken)
        with self.m.If(leaves):
            sync += follows.eq(0)
        with self.m.Elif(follows):
            sync += ahead.eq(ahead - taken)
        with self.m.Elif(put & chosen):
            sync += [follows.eq(1), ahead.eq(level - taken), kept.eq(item)]
        self.claim(
            ~put | taken | (level != most),
            ~taken | (level != 0),
            ~leaves | (Value.cast(found) == made(kept)),
            ~follows | (ahead < level),
        )
        self.cover(leaves & self.was(ahead == 0) & (kept != 0))
        self.level = level
        return follows, ahead, kept


class Inside(Elaboratable):
    """A unit, and what is inside it.

    ``inside["queue.level"]`` is what the unit's ``elaborate`` and the methods that it calls name ``queue``, and of that
    ``level``: a variable there or an attribute. Where there is no such variable, it is the signal of that name.

    Parameters
    ----------
    unit : Elaboratable
    """

    def __init__(self, unit: Any) -> None:
        self._unit, self._peeks = unit, 0
        self._variables: dict[int, dict[str, Any]] = {}

        def keep(frame: Any, event: str, _: Any) -> None:
            if event == "return" and isinstance(owner := frame.f_locals.get("self"), Elaboratable):
                self._variables.setdefault(id(owner), {}).update(frame.f_locals)

        sys.setprofile(keep)
        try:
            # With this platform the queues of Amaranth claim what always holds of their levels and places.
            self._fragment = Fragment.get(unit, "formal")
        finally:
            sys.setprofile(None)

    def elaborate(self, platform: Any) -> Any:
        return self._fragment

    def __getitem__(self, path: str) -> Any:
        found = self._unit
        for name in path.split("."):
            variables = self._variables.get(id(found), {})
            if name in variables:
                found = variables[name]
            elif hasattr(found, name):
                found = getattr(found, name)
            else:
                return self._signal(name)
        return found

    def _signal(self, name: str) -> Signal:
        """A signal of a name that the unit itself drives."""
        for statements in self._fragment.statements.values():
            for statement in statements:
                for signal in statement._lhs_signals():
                    if signal.name == name:
                        return signal
        raise InputError(f"there is no {name}")

    def is_in(self, machine: str, *states: str) -> Value:
        """Whether the machine of a name, which the unit itself has, is in one of some states."""
        signal = self[f"{machine}_state"]
        names = []
        with suppress(KeyError):  # there is no such number
            names += (signal.decoder(number).partition("/")[0] for number in range(1 << len(signal)))
        return Cat(signal == names.index(state) for state in states).any()

    def _memory(self, path: str) -> Any:
        fragment = self._fragment
        for name in path.split("."):
            fragment = fragment.find_subfragment(name)
        return fragment

    def empty(self, name: str) -> None:
        """Leave nothing of a submodule, which may be a memory."""
        fragment = self._memory(name)
        fragment.statements.clear()
        fragment.subfragments.clear()
        if isinstance(fragment, MemoryInstance):
            fragment._read_ports.clear()
            fragment._write_ports.clear()

    def read(self, path: str, port: int = 0) -> Value:
        """What a port of a memory reads; ``path`` names submodules, from the unit on."""
        return self._memory(path)._read_ports[port]._data

    def word(self, path: str, address: Any) -> Signal:
        """What a memory holds at an address, now; ``path`` names submodules, from the unit on."""
        memory = self._memory(path)
        width, depth = Shape.cast(memory._data.shape).width, memory._data.depth
        place = Signal(range(depth), name=f"peek_{self._peeks}")
        content = Signal(width, name=f"peeked_{self._peeks}")
        self._peeks += 1
        memory.read_port(domain="comb", addr=place, data=content, en=Const(1, 1), transparent_for=())
        self._fragment.add_statements("comb", place.eq(address))
        return content
