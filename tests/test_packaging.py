"""What the distribution holds."""

import re
import tomllib
from pathlib import Path

from setuptools import find_namespace_packages

ROOT = Path(__file__).parent.parent
PACKAGES = ("boards", "host", "model", "rtl", "sim")


def test_every_package_is_linked():
    names = sorted(path.name for path in (ROOT / "src" / "egret").iterdir() if path.name != "__pycache__")
    assert names == ["__init__.py", *PACKAGES]
    for package in PACKAGES:
        assert (ROOT / "src" / "egret" / package).readlink() == Path("../..") / package


def test_every_data_file_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        directory = ROOT / package
        files = {path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        data = {path for path in files if path.suffix != ".py"}
        installed = {path for pattern in patterns.get(f"egret.{package}", ()) for path in directory.glob(pattern)}
        assert data <= installed, f"not installed: {data - installed}"


def test_every_folder_of_modules_is_installed_as_one():
    """What setuptools finds are the folders with modules, and no others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    options = project["tool"]["setuptools"]["packages"]["find"]
    found = set(find_namespace_packages(ROOT / "src", include=options["include"], exclude=options["exclude"]))
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    folders = {"egret." + path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in files}
    assert found - {"egret"} == folders


def test_the_main_job_needs_neither_torch_nor_test_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    for name in ("torch", "pytest", "hypothesis", "cocotb", "ruff"):
        assert name not in needed
    for requirement in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        assert "==" in requirement or "<" in requirement or requirement.startswith("egret-fpga["), requirement


def test_the_licence_and_the_version_are_said_alike_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("BSD-2-Clause", ["LICENSE"])
    assert (ROOT / "LICENSE").read_text().startswith("BSD 2-Clause License")
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in citation and "\nlicense: BSD-2-Clause\n" in citation
    assert f"\n## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_forge_calls_the_makefile():
    """Every target that the workflow names exists."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    called = re.findall(r"run: make (\w+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {"demo", "lint", "test"} <= set(called) <= set(targets)
