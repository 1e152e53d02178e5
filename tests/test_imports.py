"""Which chapter imports which, and that light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A chapter is a folder of modules. Each imports itself and the chapters behind its arrow, and nothing else of Egret.
DRAWING = """
    model                    <-
    model.compiler           <- model
    model.training           <- model
    rtl                      <- model model.compiler
    rtl.link                 <- rtl model model.compiler
    sim                      <- rtl rtl.link model model.compiler
    boards                   <- rtl rtl.link model model.compiler
    host                     <- boards sim rtl rtl.link model model.compiler
    host.cost                <- host boards rtl rtl.link model model.compiler
    host.explain             <- host host.cost boards sim rtl rtl.link model model.compiler
    host.cli                 <- host host.cost host.explain boards sim rtl rtl.link model model.compiler model.training
"""
# What a chapter must not load: third-party modules that are slow to import, or not installed for every job.
HEAVY = {
    "model": {"torch", "triton", "amaranth", "cocotb", "serial"},
    "rtl": {"torch", "triton", "cocotb", "serial"},
    "sim": {"torch", "triton", "serial"},
    "boards": {"torch", "triton", "serial", "cocotb"},
    "host": {"torch", "triton", "amaranth", "cocotb"},
}
TORCH = {"torch", "triton"}
"""What the chapter `model.training` may load."""


def chapters():
    """The drawing as a dict from chapter to the set of chapters that it may import."""
    arrows = (line.split("<-") for line in DRAWING.strip().splitlines())
    return {name.strip(): {name.strip(), *imported.split()} for name, imported in arrows}


ARROWS = chapters()
FILES = sorted(path for package in HEAVY for path in (ROOT / package).rglob("*.py"))


def chapter_of(path):
    """Chapter that a file lies in: the deepest that is drawn."""
    folder = path.relative_to(ROOT).parent.as_posix().replace("/", ".")
    while folder not in ARROWS:
        assert "." in folder, f"{path.relative_to(ROOT)} is in no chapter of the drawing"
        folder = folder.rpartition(".")[0]
    return folder


def module_of(path):
    return "egret." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


CHAPTER = {module_of(path): chapter_of(path) for path in FILES}


def imports(tree, *, inside_functions):
    """Full names of the modules that a file imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not inside_functions:
            continue  # never run
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            # A name that is imported from a folder is a module.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from modules if modules[0] in CHAPTER else [node.module]
        yield from imports(node, inside_functions=inside_functions)


def test_the_drawing_has_no_circle():
    drawn = set()
    for name in ARROWS:
        assert ARROWS[name] - {name} <= drawn, name
        drawn.add(name)


def test_imports_follow_the_arrows():
    wrong = []
    for path in FILES:
        chapter = chapter_of(path)
        for module in imports(ast.parse(path.read_text()), inside_functions=True):
            if module.startswith("egret.") and CHAPTER[module] not in ARROWS[chapter]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_nothing_heavy_is_imported_at_the_head_of_a_file():
    wrong = []
    for path in FILES:
        chapter = chapter_of(path)
        heavy = HEAVY[chapter.split(".")[0]] - (TORCH if chapter == "model.training" else set())
        for module in imports(ast.parse(path.read_text()), inside_functions=False):
            if module.split(".")[0] in heavy:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def exported_and_defined(tree):
    """What ``__all__`` lists (None unless there is exactly one), and what a file defines at its top level."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    exported = [node.value for node in assigned if [ast.unparse(target) for target in node.targets] == ["__all__"]]
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                defined.add(target.id)
            elif isinstance(target, ast.Tuple):
                defined.update(element.id for element in target.elts)
    return set(ast.literal_eval(exported[0])) if len(exported) == 1 else None, defined


def test_everything_says_what_it_exports():
    for path in FILES:
        if path.name.endswith("_bench.py"):
            continue  # run by cocotb, imported by nobody
        exported, defined = exported_and_defined(ast.parse(path.read_text()))
        assert exported is not None, f"{path.relative_to(ROOT)} needs one __all__"
        assert exported <= defined, f"{path.relative_to(ROOT)} exports what it does not define"


def loaded(code):
    """Names of the modules loaded after running some code in a fresh interpreter."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("package", sorted(HEAVY))
def test_what_a_package_loads(package):
    modules = [name for name, chapter in CHAPTER.items() if chapter.split(".")[0] == package]
    code = "".join(f"import {module}\n" for module in modules if CHAPTER[module] != "model.training")
    assert not loaded(code) & HEAVY[package]


def test_help_is_light():
    code = "from egret.host.cli import main as cli\nassert cli.main(['--help']) == 0"
    assert not loaded(code) & {"torch", "amaranth", "numpy", "rich", "serial", "safetensors"}
