"""What the tests of single modules share."""

from typing import Any

import pytest

from nearsql.udfs.search import stored_vectors


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of vectors of each read from the table."""
    counts: list[int] = []
    read = stored_vectors.read_rows

    def counted(db: Any, space: Any, row_ids: Any, *rest: Any) -> Any:
        counts.append(len(row_ids))
        return read(db, space, row_ids, *rest)

    monkeypatch.setattr(stored_vectors, "read_rows", counted)
    return counts
