"""What a visitor sent, field by field: each of the right kind, or a sentence that says what would work."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.datasette_plugins.actions import Form
from nearsql.datasette_plugins.pages import Problem
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.within import as_ids

LONGEST_WORD = 200  # of a tag's name and value
LONGEST_NOTE = 10_000
MOST_CORNERS = 5_000
_LARGEST = 1e300  # of a coordinate: anything that is less is finite


def text(form: Form, name: str, *, longest: int = LONGEST_NOTE) -> str | None:
    """A text without the spaces around it; None where it is empty or was not sent."""
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Problem(f"{name} must be a text, not {_shown(value)}.")
    value = value.strip()
    if len(value) > longest:
        raise Problem(f"{name} may have {longest:,} characters, not {len(value):,}.")
    return value or None


def word(form: Form, name: str) -> str:
    """A text on one line that must be there."""
    value = text(form, name, longest=LONGEST_WORD)
    if value is None:
        raise Problem(f"Give {name}: a word, or several.")
    if not value.isprintable():
        raise Problem(f"{name} must be on one line, not {value!r}.")
    return value


def flag(form: Form, name: str) -> bool:
    """A checkbox of a form, or a boolean of JSON."""
    value = form.get(name)
    if value in (None, "", "0", "off", "false", False, 0):
        return False
    if value in ("1", "on", "true", True, 1):
        return True
    raise Problem(f"{name} must be 1 or 0, not {_shown(value)}.")


def number(form: Form, name: str) -> int | None:
    """A whole number; None where it was not sent."""
    value = form.get(name)
    if value in (None, ""):
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**63:
        raise Problem(f"{name} must be a whole number, not {_shown(value)}.")
    return value


def ids(form: Form, name: str = "item_ids") -> NDArray[np.int64] | None:
    """Item ids, each once, ascending (n,): a JSON array, or a text of numbers; None where none were sent."""
    value = form.get(name)
    if value in (None, "", []):
        return None
    if isinstance(value, str):
        value = _numbers(name, value)
    if not isinstance(value, list):
        raise Problem(f"{name} must be a list of item ids, not {_shown(value)}.")
    try:
        return np.unique(as_ids(name, value))
    except SqlFunctionError as error:
        raise Problem(f"{error}.") from None


def polygon(form: Form, name: str = "polygon_json") -> str | None:
    """The corners [[x, y], ...] of a polygon, three at least, as JSON; None where none were sent."""
    value = form.get(name)
    if value in (None, "", []):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Problem(f"{name} is not JSON.") from None
    corners = value if isinstance(value, list) else []
    if not 3 <= len(corners) <= MOST_CORNERS or not all(map(_is_corner, corners)):
        raise Problem(
            f"{name} must be three corners or more (up to {MOST_CORNERS:,}), each [x, y]."
        )
    return json.dumps(corners)


def _is_corner(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) in (int, float) and abs(each) < _LARGEST for each in value)
    )


def _numbers(name: str, value: str) -> Any:
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise Problem(f"{name} is not JSON.") from None
    words = value.replace(",", " ").split()
    for each in words:
        if not (each.isascii() and each.isdecimal()):
            raise Problem(f"{name} must be whole numbers, and {each[:40]!r} is none.")
    return [int(each) for each in words]


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:57] + "..."
