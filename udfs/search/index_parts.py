"""How an index lies in vector_index_chunks: its parts, and the hash that says they are as written."""

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

# What faiss writes: an hnsw index whole; an ivf index without its lists, then the number of vectors in each
# (int64 little-endian).
FAISS = 0
# The item id of each place, int64 little-endian, ascending.
ITEMS = 1
# The `vectors.id` of each place, int64 little-endian. Not hashed: an equal file may have other row ids.
ROWS = 2
# List l of an ivf index is part LISTS + l: the places in it (int64 little-endian), then their codes.
LISTS = 3

# One SQLite BLOB stops at 1 GB, and a chunk is written in one transaction.
CHUNK_BYTES = 64 << 20


class PartsHash:
    """The SHA-256 of parts that come in ascending order, however they were cut into chunks.

    Of each part but ROWS: its number and its length in bytes, both as int64 little-endian, then its bytes.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, part: int, n_bytes: int, chunks: Iterable[Any]) -> None:
        """The next part: its length in bytes, and its bytes in pieces (anything with a buffer)."""
        if part == ROWS:
            return
        self._digest.update(struct.pack("<qq", part, n_bytes))
        for chunk in chunks:
            self._digest.update(chunk)

    def hexdigest(self) -> str:
        """Of the parts so far."""
        return self._digest.hexdigest()
