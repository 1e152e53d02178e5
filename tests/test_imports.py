"""Which package imports which, and that light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each package imports itself and those before it.
ORDER = {"model": 0, "rtl": 1, "sim": 2, "boards": 2, "host": 3}
HEAVY = {
    "model": {"torch", "triton", "amaranth", "cocotb", "serial"},
    "rtl": {"torch", "triton", "cocotb", "serial"},
    "sim": {"torch", "triton", "serial"},
    "boards": {"torch", "triton", "serial", "cocotb"},
    "host": {"torch", "triton", "amaranth", "cocotb"},
}
# The only files of `model` that need torch; all others run without it.
TORCH = {f"model/{name}.py" for name in ("kernels", "network", "observe", "prune", "sweep", "train")}
FILES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))
names = [path.relative_to(ROOT).as_posix() for path in FILES]


def imports(tree, *, inside_functions):
    """Full names of the modules that a file imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module == "egret":
                yield from (f"egret.{alias.name}" for alias in node.names)
            else:
                yield node.module
        yield from imports(node, inside_functions=inside_functions)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_direction_and_weight(path):
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    tree = ast.parse(path.read_text())
    for module in imports(tree, inside_functions=True):
        parts = module.split(".")
        if parts[0] == "egret":
            other = parts[1]
            assert other == package or ORDER[other] < ORDER[package], f"{name} imports {module}"
    for module in imports(tree, inside_functions=False):
        root = module.split(".")[0]
        assert root not in HEAVY[package] or (root in ("torch", "triton") and name in TORCH), f"{name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=names)
def test_everything_says_what_it_exports(path):
    if path.name.endswith("_bench.py"):
        return  # run by cocotb, imported by nobody
    tree = ast.parse(path.read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    exported = [node.value for node in assigned if [ast.unparse(target) for target in node.targets] == ["__all__"]]
    assert len(exported) == 1, "needs one __all__"
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                defined.add(target.id)
            elif isinstance(target, ast.Tuple):
                defined.update(element.id for element in target.elts)
    assert set(ast.literal_eval(exported[0])) <= defined


def loaded(code):
    """Names of the modules loaded after running some code in a fresh interpreter."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def modules(package):
    return [
        "egret." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in FILES
        if path.relative_to(ROOT).parts[0] == package and path.relative_to(ROOT).as_posix() not in TORCH
    ]


@pytest.mark.parametrize("package", sorted(ORDER))
def test_what_a_package_loads(package):
    code = "".join(f"import {module}\n" for module in modules(package))
    assert not loaded(code) & HEAVY[package]


def test_help_is_light():
    code = "from egret.host import cli\nassert cli.main(['--help']) == 0"
    assert not loaded(code) & {"torch", "amaranth", "numpy", "rich", "serial", "safetensors"}
