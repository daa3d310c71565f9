"""How Sphinx makes a site of the pages in this folder: `make site`.

The pages are plain Markdown, as any host of code shows them. What a site needs besides is made here: its
navigation, of the lists in index.md.
"""

import re
from typing import Any

project = "nearsql"
author = "the authors of nearsql"
html_title = "nearsql"
extensions = ["myst_parser"]
exclude_patterns = ["**/__pycache__"]
# Links to headings, by the names that hosts of code give them.
myst_heading_anchors = 3
# What stands indented are commands; what cannot be read as what it says is shown plainly.
highlight_language = "sh"
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_show_copyright = False
# The same pages give the same files, with no second copy of their source.
html_copy_source = False
html_last_updated_fmt = None
html_use_index = False
# What is shown is what stands there: -- stays --.
smartquotes = False

_SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^- \[(.+?)\]\(([\w/-]+)\.md\)", re.MULTILINE)


def add_navigation(app: Any, page: str, source: list[str]) -> None:
    """Gives index.md a hidden table of contents for each of its lists of pages. A page that is in none of
    them is an error of the build."""
    if page == "index":
        for caption, text in _SECTION.findall(source[0]):
            entries = "\n".join(f"{title} <{entry}>" for title, entry in _ENTRY.findall(text))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


# What axe-core finds in the pages: wide code and tables that no key can scroll, captions of no level.
_MENDED = (
    ("<pre>", '<pre tabindex="0">'),
    ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
    (' role="heading">', ' role="heading" aria-level="2">'),
)


def mend(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Lets everybody read the parts of a page that Sphinx and the theme have made."""
    for part in ("body", "furo_navigation_tree"):
        for before, after in _MENDED if part in context else ():
            context[part] = context[part].replace(before, after)


def setup(app: Any) -> None:
    app.connect("source-read", add_navigation)
    app.connect("html-page-context", mend, priority=900)  # after the theme has made its parts
