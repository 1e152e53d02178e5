"""Settings of Sphinx for `make docs`. The source directory is the root, so that links work as they do in the tree."""

from importlib.metadata import version as installed_version
from inspect import Parameter, signature
from types import GenericAlias

from amaranth.hdl import Elaboratable
from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx

project = "Egret"
author = "the Egret authors"
copyright = author
release = installed_version("egret-fpga")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md"]
# What need not be walked through; `src` has links back to the packages.
exclude_patterns = [".*", "build", "src", "tests", "model", "rtl", "sim", "boards", "host", "bench"]
html_theme = "alabaster"
html_theme_options = {"description": "FPGA accelerator generator for event-based language models", "page_width": "64em"}
html_copy_source = False

# Anchors of headings as forges make them, down to the depth that the pages have.
myst_heading_anchors = 4
# Text that is in the shape of `[12]` is no reference, and a block without a language has no colours.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]

# What the documented modules import and `make docs` does not install.
autodoc_mock_imports = ["amaranth_boards", "luna", "triton", "usb_protocol"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_default_options = {"no-value": True}
autosummary_generate = False
numpydoc_show_class_members = False
# Amaranth's section of ports, which numpydoc lacks.
NumpyDocString.sections = {**NumpyDocString.sections, "Members": []}
# Single backticks in a docstring name a Python object where there is one of that name.
default_role = "autolink"


def before_numpydoc(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Give the section of ports a name under which numpydoc formats parameters."""
    for number in range(len(lines) - 1):
        if lines[number] == "Members" and lines[number + 1] == "-" * len("Members"):
            lines[number : number + 2] = ["Other Parameters", "-" * len("Other Parameters")]


def after_numpydoc(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Give that section its own name again."""
    lines[:] = [":Members:" if line == ":Other Parameters:" else line for line in lines]


def skip_aliases(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out names of types such as ``list[int]``, whose signature autodoc cannot read."""
    return True if isinstance(obj, GenericAlias) else None


def signature_of_components(
    app: Sphinx, what: str, name: str, obj: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str, None] | None:
    """Give a component the signature of its constructor; autodoc finds that of Amaranth's own ``__new__`` first."""
    if what != "class" or not isinstance(obj, type) or not issubclass(obj, Elaboratable):
        return None
    own = signature(obj.__init__)
    parameters = [one.replace(annotation=Parameter.empty) for one in list(own.parameters.values())[1:]]
    return str(own.replace(parameters=parameters, return_annotation=own.empty)), None


def setup(app: Sphinx) -> None:
    """Connect the functions above; what precedes and follows numpydoc by priority, since numpydoc has 500."""
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("autodoc-process-signature", signature_of_components, priority=400)
    app.connect("autodoc-process-docstring", before_numpydoc, priority=400)
    app.connect("autodoc-process-docstring", after_numpydoc, priority=600)
