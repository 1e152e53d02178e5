"""What the distribution holds."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("boards", "host", "model", "rtl", "sim")


def test_every_package_is_linked():
    assert sorted(path.name for path in (ROOT / "src" / "egret").iterdir() if path.name != "__pycache__") == [*PACKAGES]
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
        # Modules lie in the packages themselves; a directory below one holds data.
        assert {path.parent for path in files if path.suffix == ".py"} <= {directory}


def test_the_main_job_needs_neither_torch_nor_test_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    for name in ("torch", "pytest", "hypothesis", "cocotb", "ruff"):
        assert name not in needed
    for requirement in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        assert "==" in requirement or "<" in requirement or requirement.startswith("egret-fpga["), requirement
