"""Figures that a script writes into a page, between two marks: nobody writes them by hand."""

import re
from pathlib import Path


def write_between_marks(page: Path, script: str, text: str) -> None:
    """Puts text in place of what is between the marks of a script (`python -m benchmarks.x`).

    Raises ValueError when the page has no such marks.
    """
    begin, end = f"<!-- Made by `{script} --write`: do not edit. -->", "<!-- End. -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    new, found = pattern.subn(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", old)
    if found != 1:
        raise ValueError(f"{page} has {found} places marked {begin}, and one is needed")
    page.write_text(new, encoding="utf-8")
