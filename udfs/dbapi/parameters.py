"""The parameters of a statement: which Python values SQLite takes, and how others are adapted."""

import sqlite3
from collections.abc import Mapping
from typing import Any

# Values of exactly these types go to SQLite as they are, until a program registers an adapter
# for one of them.
_STORABLE = (int, float, str, bytes, bytearray, memoryview, type(None))

Bindings = tuple[Any, ...] | list[Any] | dict[str, Any] | Mapping[str, Any]


class _Plain:
    """The types that need no adapter, kept up to date with the registered adapters."""

    def __init__(self) -> None:
        self._known = -1
        self._types: frozenset[type] = frozenset()

    def types(self) -> frozenset[type]:
        # The registry is the standard library's own dictionary; it only ever grows.
        if len(sqlite3.adapters) != self._known:
            self._known = len(sqlite3.adapters)
            self._types = frozenset(
                kind
                for kind in _STORABLE
                if (kind, sqlite3.PrepareProtocol) not in sqlite3.adapters
            )
        return self._types


_plain = _Plain()


def bindings(parameters: Any) -> Bindings:
    """Parameters as APSW takes them, each value adapted."""
    kind = type(parameters)
    if kind is tuple or kind is list:
        plain = _plain.types()
        for value in parameters:
            if type(value) not in plain:
                return _adapted(parameters)
        return parameters
    if isinstance(parameters, dict):
        plain = _plain.types()
        if kind is dict and all(type(value) in plain for value in parameters.values()):
            return parameters
        return _Named(parameters)
    if isinstance(parameters, Mapping):
        return _Named(parameters)
    if hasattr(parameters, "__len__") and hasattr(parameters, "__getitem__"):
        return _adapted(parameters)
    raise sqlite3.ProgrammingError("parameters are of unsupported type")


def missing(name: object) -> sqlite3.ProgrammingError:
    """The error for a named parameter without a value."""
    return sqlite3.ProgrammingError(f"You did not supply a value for binding parameter :{name}.")


def binding_failure(error: Exception) -> Exception:
    """What the standard library raises for an error APSW met while binding a parameter."""
    if isinstance(error, KeyError):
        return missing(error.args[0])
    if isinstance(error, OverflowError):
        return OverflowError("Python int too large to convert to SQLite INTEGER")
    return error


def _adapted(values: Any) -> list[Any]:
    # By index: an adapter is the program's code and may change the list under our feet.
    return [adapt(values[i], i + 1) for i in range(len(values))]


def adapt(value: Any, position: int | str) -> Any:
    """A value SQLite can store, for any that has an adapter, a `__conform__`, or needs neither."""
    if type(value) in _plain.types():
        return value
    result = sqlite3.adapt(value, sqlite3.PrepareProtocol, value)
    if isinstance(result, _STORABLE):
        return result
    try:
        return memoryview(result)
    except TypeError:
        pass
    place = f"'{position}'" if isinstance(position, str) else position
    raise sqlite3.ProgrammingError(
        f"Error binding parameter {place}: type '{type(result).__name__}' is not supported"
    )


class _Named(Mapping[str, Any]):
    """Named parameters that are adapted when asked for, since only SQLite knows which it needs.

    Asking the original by subscription, not by iteration, lets a dict's `__missing__` answer.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        try:
            value = self._values[name]
        except LookupError:
            raise missing(name) from None
        return adapt(value, f":{name}")

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
