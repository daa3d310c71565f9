"""Incremental reading and writing of one BLOB, as a file and as a mutable sequence of bytes."""

import os
import sqlite3
from operator import index
from types import TracebackType
from typing import Any, Self

import apsw

from nearsql.udfs.dbapi.session import Session

_INT_MAX = 2**31 - 1


class Blob:
    """A value opened by `Connection.blobopen`, with the interface of sqlite3.Blob.

    Its length cannot change. It expires when its row is changed by any other means.
    """

    def __init__(self, connection: Session, source: apsw.Blob) -> None:
        self._connection = connection
        self._source = source
        self._offset = 0
        self._closed = False

    def close(self) -> None:
        """Closes the blob; it cannot be used afterwards."""
        self._connection.check_usable()
        self._closed = True
        with self._connection.lock:
            self._source.close(True)

    def read(self, length: int = -1, /) -> bytes:
        """The next `length` bytes, or as many as are left; by default all that are left."""
        self._check()
        left = self._source.length() - self._offset
        data = self._read_at(self._offset, left if length < 0 else min(length, left))
        self._offset += len(data)
        return data

    def write(self, data: Any, /) -> None:
        """Overwrites the next bytes; the blob does not grow."""
        self._check()
        content = _contiguous(data)
        if len(content) > self._source.length() - self._offset:
            raise ValueError("data longer than blob length")
        self._write_at(self._offset, content)
        self._offset += len(content)

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> None:
        """Moves to an offset from the start, the current offset or the end."""
        self._check()
        if origin == os.SEEK_SET:
            start = 0
        elif origin == os.SEEK_CUR:
            start = self._offset
        elif origin == os.SEEK_END:
            start = self._source.length()
        else:
            raise ValueError("'origin' should be os.SEEK_SET, os.SEEK_CUR, or os.SEEK_END")
        if start + offset > _INT_MAX:
            raise OverflowError("seek offset results in overflow")
        if not 0 <= start + offset <= self._source.length():
            raise ValueError("offset out of blob range")
        self._offset = start + offset

    def tell(self) -> int:
        """The current offset."""
        self._check()
        return self._offset

    def __enter__(self) -> Self:
        """The blob itself."""
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Closes the blob."""
        self._check()
        self.close()

    # Indexing alone would make a blob iterable, one read a byte; sqlite3.Blob is not.
    __iter__ = None

    def __len__(self) -> int:
        """The number of bytes; none once the blob has been found to be expired."""
        self._check()
        return self._source.length()

    def __getitem__(self, key: Any, /) -> Any:
        """One byte as an int, or a slice as bytes."""
        self._check()
        if isinstance(key, slice):
            chosen = range(len(self))[key]
            if not chosen:
                return b""
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            return self._read_at(low, high - low + 1)[:: chosen.step]
        return self._read_at(self._position(key), 1)[0]

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Overwrites one byte, or a slice with as many bytes."""
        self._check()
        if isinstance(key, slice):
            self._set_slice(range(len(self))[key], value)
            return
        position = self._position(key)
        if not isinstance(value, int):
            raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
        if value not in range(256):
            raise ValueError("byte must be in range(0, 256)")
        self._write_at(position, bytes([value]))

    def __delitem__(self, key: Any, /) -> None:
        """Refused: a blob cannot shrink."""
        self._check()
        what = "slice" if isinstance(key, slice) else "item"
        raise TypeError(f"Blob doesn't support {what} deletion")

    def _set_slice(self, chosen: range, value: Any) -> None:
        data = _contiguous(value)
        if len(data) != len(chosen):
            raise IndexError("Blob slice assignment is wrong size")
        if not data:
            return
        if chosen.step < 0:
            chosen, data = chosen[::-1], data[::-1]
        if chosen.step != 1:
            around = bytearray(self._read_at(chosen[0], chosen[-1] - chosen[0] + 1))
            around[:: chosen.step] = data
            data = bytes(around)
        self._write_at(chosen[0], data)

    def _position(self, key: Any) -> int:
        if not hasattr(key, "__index__"):
            raise TypeError("Blob indices must be integers")
        number = index(key)
        if abs(number) > 2**63 - 1:
            raise IndexError("cannot fit 'int' into an index-sized integer")
        position = number + self._source.length() if number < 0 else number
        if not 0 <= position < self._source.length():
            raise IndexError("Blob index out of range")
        return position

    def _read_at(self, offset: int, length: int) -> bytes:
        with self._connection.use():
            self._source.seek(offset)
            return self._source.read(length)

    def _write_at(self, offset: int, data: Any) -> None:
        with self._connection.use():
            self._source.seek(offset)
            self._source.write(data)

    def _check(self) -> None:
        self._connection.check_usable()
        if self._closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed blob.")


def _contiguous(data: Any) -> bytes:
    """The bytes of anything that has some in one piece."""
    try:
        view = memoryview(data)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"a bytes-like object is required, not '{kind}'") from None
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.tobytes()
