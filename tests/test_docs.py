"""The pages: links and anchors lead somewhere, files that they name exist, and all of them are built."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from egret.host.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*PAGES, *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))]
PACKAGES = ("model", "rtl", "sim", "boards", "host", "bench", "tests", "docs")
# Run by cocotb or a GPU's compiler only.
NOT_IN_THE_REFERENCE = re.compile(r"_bench$|\.kernels\.|\.host\.cli\.")
# Measurements of a closed decision name the script that is in the history alone.
IN_THE_HISTORY = {("docs/lanes.md", "bench/lanes.py")}


def prose(path):
    """Text of a document without its blocks of code."""
    return re.sub(r"^(`{3,}).*?^\1", "", path.read_text(), flags=re.M | re.S)


@functools.cache
def anchors(path):
    """Anchors of a document's headings, as forges and MyST make them."""
    headings = re.findall(r"^#{1,6} +(.*)$", prose(path), re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def faults_of_links(path):
    """Links of a document that lead nowhere."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield f"{target}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"{target}: there is no such heading"


def files_named(path):
    """Python files of the tree that a document names."""
    return set(re.findall(rf"(?<![\w/])(?:{'|'.join(PACKAGES)})/[\w/]+\.py\b", path.read_text()))


def exists(name):
    """Whether a dotted name is a module or package of the tree, or something that a module's source names."""
    name = re.sub(r"^egret\.Network\b", "egret.host.network", name)  # as `egret` itself finds it
    path = ROOT.joinpath(*name.removeprefix("egret.").split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent.with_suffix(".py")
    return module.is_file() and re.search(rf"\b{path.name}\b", module.read_text()) is not None


def names_that_are_wrong(path):
    """Dotted names and commands that a document names and that do not exist."""
    text = path.read_text()
    for name in re.findall(r"(?<![\w./])(?:egret|bench)(?:\.[A-Za-z_]\w*)+(?!\w*\.svg)", text):
        if not exists(name):
            yield name
    for command in re.findall(r"(?:`|\$ )egret ([a-z][a-z-]*)", text):
        if command not in COMMANDS:
            yield f"egret {command}"


def toctree():
    """Pages that the index lists, in order."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.S)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    assert not list(faults_of_links(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path):
    name = path.relative_to(ROOT).as_posix()
    missing = {file for file in files_named(path) if "NAME" not in file and not (ROOT / file).is_file()}
    assert missing <= {file for document, file in IN_THE_HISTORY if document == name}


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.stem != "CHANGELOG"], ids=lambda path: path.stem)
def test_modules_and_commands_that_are_named_exist(path):
    assert not list(names_that_are_wrong(path))


def test_the_index_lists_every_page_once():
    listed = [(ROOT / "docs" / f"{name}.md").resolve() for name in toctree()]
    assert sorted(listed) == sorted({*DOCUMENTS} - {ROOT / "docs/index.md"})


def test_the_reference_has_every_module():
    modules = {
        "egret." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for package in ("model", "rtl", "sim", "boards", "host")
        for path in (ROOT / package).rglob("*.py")
    }
    documented = [
        name for path in PAGES for name in re.findall(r"^\.\. automodule:: ([\w.]+)$", path.read_text(), re.M)
    ]
    wanted = {name for name in modules if not NOT_IN_THE_REFERENCE.search(name)}
    assert len(documented) == len({*documented})
    # A module that is missing gets an entry in the page of its package in docs/api.
    assert (wanted - {*documented}, {*documented} - wanted) == (set(), set())


def test_the_glossary_is_in_order():
    (block,) = re.findall(r"```\{glossary\}\n(.*?)```", (ROOT / "docs/glossary.md").read_text(), re.S)
    terms = [line for line in block.splitlines() if line and not line.startswith(" ")]
    assert len(terms) > 50 and terms == sorted({*terms}, key=lambda term: term.lower().replace("-", " "))


def test_faults_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n[a](page.md#one-two-three) [b](page.md#four) [c](none.md) rtl/none.py\n")
    assert list(faults_of_links(page)) == [
        "page.md#four: there is no such heading",
        "none.md: there is no such file",
    ]
    assert files_named(page) == {"rtl/none.py"}
    page.write_text(
        "egret.rtl.none egret.rtl.core.Core egret.rtl.core.None_ `egret none` `egret run` bench.timing bench.x"
    )
    assert list(names_that_are_wrong(page)) == ["egret.rtl.none", "egret.rtl.core.None_", "bench.x", "egret none"]


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    command += ["--conf-dir", "docs", "--doctree-dir", str(tmp_path / "doctrees"), ".", str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in DOCUMENTS:
        page = (tmp_path / "html" / path.relative_to(ROOT)).with_suffix(".html")
        assert path.read_text().partition("\n")[0].removeprefix("# ") in page.read_text()
