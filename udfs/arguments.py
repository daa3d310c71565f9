"""Checks of the values that SQL hands to our functions, each refusal one clear sentence."""

import json
import math
from collections.abc import Sequence
from typing import Any

from nearsql.udfs.errors import SqlFunctionError

_LARGEST_SEED = 2**32 - 1
_LARGEST_INTEGER = 2**63 - 1  # of SQLite; a REAL may be larger


def shown(value: Any) -> str:
    """The value as SQL would write it, shortened, for use in an error sentence."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"a BLOB of {len(value)} bytes"
    text = repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
    return text if len(text) <= 60 else text[:57] + "..."


def shown_json(value: Any) -> str:
    """As `shown`, of what a JSON text said."""
    try:
        return shown(json.dumps(value))
    except RecursionError:
        return "something that is nested too deep"


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """The value as an int, refusing NULL, text, fractions and anything below `at_least`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or value < at_least:
        raise SqlFunctionError(
            f"{name} must be a whole number of at least {at_least}, not {shown(value)}"
        )
    if value > _LARGEST_INTEGER:
        raise SqlFunctionError(f"{name} must be at most {_LARGEST_INTEGER}, not {shown(value)}")
    return value


def optional_whole_number(name: str, value: Any, *, at_least: int) -> int | None:
    """As `whole_number`, but NULL means: not given."""
    return None if value is None else whole_number(name, value, at_least=at_least)


def random_seed(name: str, value: Any) -> int:
    """The value as a seed of numpy's RandomState: a whole number from 0 to 2 ** 32 - 1."""
    seed = whole_number(name, value, at_least=0)
    if seed > _LARGEST_SEED:
        raise SqlFunctionError(f"{name} must be at most {_LARGEST_SEED}, not {seed}")
    return seed


def number(name: str, value: Any, *, at_least: float | None = None) -> float:
    """The value as a finite float, refusing NULL, text and anything below `at_least`."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise SqlFunctionError(f"{name} must be a finite number, not {shown(value)}")
    if at_least is not None and value < at_least:
        raise SqlFunctionError(f"{name} must be at least {at_least}, not {shown(value)}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """The value as a bool: SQL's 0 and 1."""
    if value not in (0, 1):
        raise SqlFunctionError(f"{name} must be 0 or 1, not {shown(value)}")
    return bool(value)


def text(name: str, value: Any) -> str:
    """The value as a str, refusing NULL, numbers and BLOBs."""
    if not isinstance(value, str) or not value:
        raise SqlFunctionError(f"{name} must be a text, not {shown(value)}")
    return value


def json_value(name: str, value: str) -> Any:
    """What a JSON text says, refusing what is no JSON, and what is nested deeper than Python reads."""
    try:
        return json.loads(value)
    except RecursionError:
        raise SqlFunctionError(f"{name} is not valid JSON: it is nested too deep") from None
    except ValueError as error:
        raise SqlFunctionError(f"{name} is not valid JSON: {error}") from None


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """The value if it is one of the choices."""
    if value not in choices:
        raise SqlFunctionError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}")
    return str(value)
