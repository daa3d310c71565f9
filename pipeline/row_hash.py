"""The SHA-256 of result rows: what a replay must reproduce."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any

_LENGTH, _DOUBLE = struct.Struct("<q"), struct.Struct("<d")
# Pieces of rows that are hashed at once.
_MOST_WAITING = 256


class RowHash:
    """The SHA-256 of rows that come one by one.

    Exact: a float counts with all its bits, and (1, '2') differs from ('1', 2).
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        # What is not hashed yet: many small updates would take longer than their hash.
        self._waiting: list[bytes] = []

    def add(self, row: Sequence[Any]) -> None:
        """The next row."""
        waiting = self._waiting
        for value in row:
            if isinstance(value, bytes):
                waiting += _LENGTH.pack(len(value) + 1), b"b", value
                continue
            data = b"f" + _DOUBLE.pack(value) if isinstance(value, float) else repr(value).encode()
            waiting += _LENGTH.pack(len(data)), data
        waiting.append(b"\n")
        if len(waiting) > _MOST_WAITING:
            self._hash_waiting()

    def _hash_waiting(self) -> None:
        self._digest.update(b"".join(self._waiting))
        self._waiting.clear()

    def hexdigest(self) -> str:
        """Of the rows so far."""
        self._hash_waiting()
        return self._digest.hexdigest()


def hash_rows(rows: Iterable[Sequence[Any]]) -> str:
    """The SHA-256 of rows in the given order (see RowHash): what a replay must reproduce."""
    digest = RowHash()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()
