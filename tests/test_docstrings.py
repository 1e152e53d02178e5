"""Public functions and classes are annotated, and their docstrings say what their signatures say."""

import dataclasses
import enum
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest
from amaranth.lib import wiring
from numpydoc.docscrape import NumpyDocString

ROOT = Path(__file__).parent.parent
PACKAGES = ("model", "rtl", "sim", "boards", "host")


class Docstring(NumpyDocString):
    """A numpydoc docstring that knows Amaranth's section of ports, too."""

    sections = {**NumpyDocString.sections, "Members": []}

    def names(self, section):
        """Names that a section documents, in order; several may share one line."""
        entries = self._parse_param_list(self[section]) if section == "Members" else self[section]
        # A port is documented as ``name : In(shape)``, and ports that belong together as ``a : In, b : Out``.
        names = [name for entry in entries for name in re.findall(r"(\*{0,2}\w+)(?= :|,|$)", entry.name)]
        if section == "Members":
            names += [name for entry in entries for name in re.findall(r"(\w+) :", entry.type)]
        return [name.lstrip("*") for name in names]


def public(module):
    """Names and objects that a module exports and defines: functions, and classes with their public methods."""
    for name in module.__all__:
        value = inspect.unwrap(getattr(module, name))
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield name, value
            for attribute, member in vars(value).items():
                if isinstance(member, classmethod | staticmethod):
                    member = member.__func__
                if isinstance(member, property):
                    member = member.fget
                if isinstance(member, functools.cached_property):
                    member = member.func
                own = inspect.isfunction(member) and member.__module__ == module.__name__
                if own and not attribute.startswith("_"):
                    yield f"{name}.{attribute}", member


def parameters(value):
    """Parameters of a function or of a class's constructor, the instance left out."""
    if inspect.isclass(value):
        value = value.__init__
    given = [one for one in inspect.signature(value).parameters.values() if one.name not in ("self", "cls")]
    return [one for one in given if not one.name.startswith("_")]


def is_plain(value):
    """Whether a class has a constructor whose parameters are its own to document."""
    own = dataclasses.is_dataclass(value) or "__init__" in vars(value)
    return own and not issubclass(value, enum.Enum | Exception) and not getattr(value, "_is_protocol", False)


def faults(name, value):
    """What is wrong with one function or class, in words."""
    text = value.__doc__ and inspect.cleandoc(value.__doc__)
    if name.endswith(".elaborate"):
        text = text or "Everything that a component does, for some platform."
    if not text:
        yield f"{name} has no docstring"
        return
    documented = Docstring(text)
    given = parameters(value) if inspect.isfunction(value) or is_plain(value) else []
    names = [one.name for one in given]
    for one in given:
        if one.annotation is inspect.Parameter.empty:
            yield f"{name}: parameter {one.name} is not annotated"
    section = documented.names("Parameters")
    fields = documented.names("Attributes") if dataclasses.is_dataclass(value) else []
    if section or fields:
        if section + [one for one in fields if one in names] != names:
            yield f"{name} documents parameters {section}, its signature has {names}"
    elif names and inspect.isclass(value):
        yield f"{name} documents none of its parameters {names}"
    elif not inspect.isclass(value):
        # A docstring without sections speaks of each parameter in its prose.
        missing = [one for one in names if not re.search(rf"\b{one}\b", text)]
        if missing:
            yield f"{name} says nothing of {missing}"
    if inspect.isfunction(value):
        returned = inspect.signature(value).return_annotation
        if returned is inspect.Signature.empty:
            yield f"{name}: what it returns is not annotated"
        elif section and (returned not in (None, "None")) != bool(documented["Returns"] or documented["Yields"]):
            yield f"{name} documents {'what it returns not' if returned not in (None, 'None') else 'a return of None'}"
    elif issubclass(value, wiring.Component):
        ports = set(vars(value).get("__annotations__", {})) - {one for one in vars(value) if one != "__annotations__"}
        if (members := set(documented.names("Members"))) != ports:
            yield f"{name} documents the ports {sorted(members)}, and annotates {sorted(ports)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_agree_with_signatures(package):
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.name.endswith("_bench.py"):
            continue  # cocotb imports it
        module = "egret." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        exported = public(importlib.import_module(module))
        found += [f"{module}: {fault}" for name, value in exported for fault in faults(name, value)]
    assert not found, "\n".join(found)


def test_faults_are_seen():
    def good(first: int, *, second: str = "") -> bool:
        """Do it.

        Parameters
        ----------
        first : int
        second : str, optional
            Which.

        Returns
        -------
        bool
        """

    def swapped(second: int, first: int) -> None:
        """Do it.

        Parameters
        ----------
        first : int
        second : int
        """

    def bare(first, second: int):
        """Do it to the first."""

    class Ports(wiring.Component):
        """A component.

        Members
        -------
        i : In(1), o : Out(1)
            Ports.
        """

        i: object
        p: object

    assert not [*faults("good", good)]
    assert [*faults("swapped", swapped)] == [
        "swapped documents parameters ['first', 'second'], its signature has ['second', 'first']"
    ]
    assert [*faults("bare", bare)] == [
        "bare: parameter first is not annotated",
        "bare says nothing of ['second']",
        "bare: what it returns is not annotated",
    ]
    assert [*faults("Ports", Ports)] == ["Ports documents the ports ['i', 'o'], and annotates ['i', 'p']"]
