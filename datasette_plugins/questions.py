"""The named questions of `schema/queries`: SQL that anybody can ask, here with its blanks filled in."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from nearsql import schema

# A word after a colon, but not inside a quoted text or a comment.
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|:(\w+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """One .sql file: its name, the title in its first line, its text and its parameters."""

    name: str
    title: str
    sql: str

    @property
    def parameters(self) -> list[str]:
        """The names after the colons, in the order of their first use."""
        return list(dict.fromkeys(m[1] for m in _TOKEN.finditer(self.sql) if m[1]))

    def filled(self, defaults: dict[str, Any]) -> dict[str, Any]:
        """A value for each parameter that the defaults know; the others stay open."""
        return {name: defaults.get(name) for name in self.parameters}


@cache
def all_questions() -> tuple[Question, ...]:
    """Every named question, by name.

    Its title stands in /* */, because a shell's argument that begins with -- would be an option.
    """
    return tuple(
        _read(f.name.removesuffix(".sql"), f.read_text("utf-8")) for f in schema.query_files()
    )


def _read(name: str, text: str) -> Question:
    first, _, _ = text.partition("\n")
    return Question(name, first.removeprefix("/*").removesuffix("*/").strip(), text.strip())
