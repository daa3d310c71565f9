"""The page itself: its words, its script and style, and what it holds, as one text of HTML.

What comes from the database is nowhere a part of the markup or of a script: it is compressed and
base64, and the script shows it as text. The policy in the head says the same to the browser, which then
runs only this one script, and asks nobody for anything.
"""

import base64
import hashlib
import html
from importlib.resources import files
from string import Template

from nearsql.pipeline.share.contents import Contents, encoded
from nearsql.pipeline.share.modules import bundle
from nearsql.pipeline.share.server import Pages

_SCRIPT = "page.js"
_STYLES = ("nearsql.css", "map.css")


def skeleton(pages: Pages, run: int) -> tuple[str, str]:
    """(script, style) of a shared page: our pages' own, with what only a shared page has."""
    page = pages.get(f"map/{run}")
    script = bundle(_SCRIPT, _own(_SCRIPT), lambda name: pages.asset(name, page))
    style = "\n".join([*(pages.asset(name, page) for name in _STYLES), _own("page.css")])
    if "</style" in style.lower():
        raise ValueError("a style sheet would end the style element that it is put into")
    # What the scripts fetch is in the page.
    return f'(() => {{\n"use strict";\n{_own("packed.js")}\n{script}}})();\n', style


def assemble(contents: Contents, script: str, style: str, *, title: str, made: str) -> str:
    """The whole page as HTML. title, made: plain texts."""
    import json

    parts = {**contents.parts, "facts": encoded(json.dumps(contents.facts).encode())}
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src blob:;"
        " base-uri 'none'; form-action 'none'"
    )
    return Template(_own("page.html")).substitute(
        policy=policy,
        title=html.escape(title),
        made=html.escape(made),
        style=style,
        script=script,
        parts="\n".join(
            f'<script type="application/octet-stream" id="{name}">{part}</script>'
            for name, part in parts.items()
        ),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _own(name: str) -> str:
    return files("nearsql.pipeline.share").joinpath(name).read_text("utf-8")
