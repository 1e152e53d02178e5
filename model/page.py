"""Pages that need nothing beside them: HTML with tables, and matplotlib's figures as inline SVG."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Cell", "as_svg", "html_page", "html_table"]

Cell = tuple[str, str]
"""Class and text of a table's cell."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "egret", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#868e96", "axes.labelcolor": "#343a40", "axes.grid": True,
    "grid.color": "#e9ecef", "axes.axisbelow": True, "xtick.color": "#495057", "ytick.color": "#495057",
    "legend.frameon": False, "axes.titlesize": 10, "axes.titlecolor": "#343a40", "lines.linewidth": 1.6,
}  # fmt: skip

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Of a page: it loads nothing."""

_CSS = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.5rem 4rem; color: #212529; background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid #dee2e6 }
p.lead { color: #495057; margin: 0 0 1.5rem }
figure { margin: 1rem 0 } figcaption { margin-top: .6rem }
figcaption, p.note { color: #495057; font-size: .9rem } p.note { margin: .4rem 0 }
p.points { color: #868e96; font-size: .8rem; margin: .4rem 0; overflow-wrap: anywhere }
svg { display: block; width: 100%; height: auto }
svg text { font-family: inherit !important }
div.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e9ecef; white-space: nowrap }
th { color: #495057; font-weight: 600; vertical-align: bottom } th.text, td.text { text-align: left }
td.good { color: #2b8a3e; font-weight: 600 } td.short { color: #c92a2a } td.none { color: #adb5bd }
caption { caption-side: bottom; text-align: left; padding-top: .6rem; color: #495057; font-size: .9rem }
@media print { body { max-width: none } h2 { break-after: avoid } figure { break-inside: avoid } }
"""


def as_svg(draw: "Callable[[], Figure]", label: str) -> str:
    """Draw a figure as inline SVG, without the ids that other figures of the page have too.

    Parameters
    ----------
    draw : callable
        Returns the figure; called with the style of the pages.
    label : str
        What a screen reader says.

    Returns
    -------
    str
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context(_STYLE), warnings.catch_warnings():
        # The reader's fonts draw the text; only its width is guessed from another one.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        draw().savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match.group() if match.group(1) in used else "", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def html_table(head: Sequence[Cell], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    """A table.

    Parameters
    ----------
    head : sequence of (str, str)
        Class and text of each column's name.
    rows : sequence of sequence of (str, str)
        Likewise of the cells.
    caption : str
        HTML.

    Returns
    -------
    str
    """
    lines = ['<div class="wide"><table>', f"<caption>{caption}</caption>", "<thead><tr>"]
    lines += [f'<th class="{kind}">{escape(text)}</th>' for kind, text in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in row) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def html_page(title: str, parts: Sequence[str], css: str = "") -> str:
    """A page of some ``parts``, each HTML, with a ``title``; ``css`` is what it has beside the style of all pages."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><meta name="viewport" content="width=device-width">'
    head += f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_CSS}{css}</style></head>\n<body>\n' + "\n".join(
        [*parts, "</body></html>\n"]
    )
