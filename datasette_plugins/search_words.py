"""Words as people type them, as a question of FTS5.

`red bus` finds what has both, `red OR blue` one of them, `"red bus"` the phrase, `bus*` what begins so,
`-toy` leaves out. Everything else is text: whatever FTS5 takes for syntax is quoted.
"""

import re

from nearsql.datasette_plugins.pages import Problem

_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


def match_expression(text: str) -> str:
    """The text as FTS5's MATCH takes it. Raises Problem where there is no word to find."""
    wanted, unwanted = "", []
    is_or = False
    for minus, phrase, word in _TERM.findall(text):
        if word == "OR" and not minus:
            is_or = bool(wanted)
            continue
        term = _term(phrase or word, is_prefix=word.endswith("*"))
        if term is None:
            continue
        if minus:
            unwanted.append(term)
        else:
            wanted += f" {'OR' if is_or else 'AND'} {term}" if wanted else term
            is_or = False
    if not wanted:
        raise Problem(
            f"There is no word to find in {text!r}: type one, or several; a minus leaves one out."
        )
    return f"({wanted}) NOT ({' OR '.join(unwanted)})" if unwanted else wanted


def _term(text: str, *, is_prefix: bool) -> str | None:
    """One quoted string of FTS5; None for signs only, which no index holds."""
    if not any(character.isalnum() for character in text):
        return None
    quoted = '"' + text.removesuffix("*" if is_prefix else "").replace('"', '""') + '"'
    return f"{quoted} *" if is_prefix else quoted
