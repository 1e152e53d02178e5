"""Pages of HTML as a reader sees them."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tables as rows of cells, text outside of figures, and the tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.references, self._cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1][-1] += data


def needs_nothing(text):
    """The `Page` of a text, which must load nothing, and whose figures are well formed and disjoint."""
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"@import|url\((?!#)", text)
    for figure in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(figure)
        identities = re.findall(r' id="([^"]*)"', figure)
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', figure)) == set(identities)
        assert len(set(identities)) == len(identities)
    return page
