"""A run's result computed again, table by table, beside the rows that the run stored.

A pipeline module's `recompute(db, recorded)` gives an `Again`: for each table of the result the rows as
they come out now, and as the file has them. `compare` goes through both once, side by side, so that
neither has to fit in memory, hashes what came out, and tells which rows differ and by how much.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.row_hash import RowHash
from nearsql.udfs import dbapi

Row = tuple[Any, ...]

# Items whose stored rows are read together.
_ITEMS_A_READ = 1024


@dataclass(frozen=True, slots=True)
class ResultTable:
    """One table of a result.

    columns: the first n_keys of them tell the rows apart, and both sides are in ascending order of these.
    stored: as the file has the rows now. again: as they are computed now. numbers: the dtype of the
    columns that are arrays of numbers in a BLOB.
    """

    name: str
    columns: tuple[str, ...]
    n_keys: int
    stored: Iterable[Row]
    again: Iterable[Row]
    numbers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """A run's result, computed anew.

    tables: gone through once, one after the other; those of one name are parts of one table. sha256: of the
    result, asked for when they are at their end; None: the hash of all rows that came out again, in this
    order (`hash_rows`). device: what was computed on, in words. computation: what else the last bits may
    hang on, where the run recorded it (see devices.computation).
    """

    tables: Iterable[ResultTable]
    sha256: Callable[[], str] | None = None
    device: str = "cpu"
    computation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as it was stored; a row that only one side has counts as one, of no column.

    row: the row's key by column name. stored, again: the values, or the row's other columns by name, None
    on the side that lacks it. by: how far apart two numbers, or arrays of numbers, lie at most.
    """

    table: str
    row: dict[str, Any]
    column: str | None
    stored: Any
    again: Any
    by: float | None = None


@dataclass(slots=True)
class Comparison:
    """How the rows of a table that came out again stand to the stored ones.

    changed: rows that both have, with other values. missing: stored, and not found again. added: found
    now, and not stored. largest: the largest difference of each column of numbers that has one. first:
    the first differences.
    """

    table: str
    stored: int = 0
    again: int = 0
    changed: int = 0
    missing: int = 0
    added: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)

    @property
    def different(self) -> int:
        """Rows that are not the same on both sides."""
        return self.changed + self.missing + self.added

    @property
    def rows(self) -> int:
        """Rows of either side."""
        return self.stored + self.added


def compare(result: Again, n_first: int) -> tuple[str, list[Comparison]]:
    """The SHA-256 of what came out again, and how it stands to what is stored, table by table.

    n_first: so many differences of each table are kept.
    """
    digest = RowHash()
    found: dict[str, Comparison] = {}
    for table in result.tables:
        again = table.again if result.sha256 else _hashed(table.again, digest)
        so_far = found.setdefault(table.name, Comparison(table.name))
        _compare(table, again, so_far, n_first)
    return result.sha256() if result.sha256 else digest.hexdigest(), list(found.values())


def stored_by_item(
    db: dbapi.Connection, sql: str, run_id: int, items: Sequence[int]
) -> Iterator[Row]:
    """The rows of a statement that asks for :run and for items from :first to :last, all in their order.

    Read some items at a time, so that no cursor, and with it the file as it was, is held while rows are
    computed. items: ascending.
    """
    for start in range(0, len(items), _ITEMS_A_READ):
        some = items[start : start + _ITEMS_A_READ]
        yield from db.execute(
            sql, {"run": run_id, "first": int(some[0]), "last": int(some[-1])}
        ).fetchall()


def _hashed(rows: Iterable[Row], digest: RowHash) -> Iterator[Row]:
    for row in rows:
        digest.add(row)
        yield row


def _compare(table: ResultTable, again: Iterable[Row], found: Comparison, n_first: int) -> None:
    """Merges both sides by their keys, and adds to what was found so far."""
    n = table.n_keys
    left, right = iter(table.stored), iter(again)
    stored, computed = next(left, None), next(right, None)
    while stored is not None or computed is not None:
        if computed is None or (stored is not None and stored[:n] < computed[:n]):
            assert stored is not None
            found.stored += 1
            found.missing += 1
            _keep(found, n_first, _one_sided(table, stored, is_stored=True))
            stored = next(left, None)
        elif stored is None or computed[:n] < stored[:n]:
            found.again += 1
            found.added += 1
            _keep(found, n_first, _one_sided(table, computed, is_stored=False))
            computed = next(right, None)
        else:
            found.stored += 1
            found.again += 1
            if not _same(stored, computed):
                found.changed += 1
                for difference in _differences(table, stored, computed):
                    _keep(found, n_first, difference)
                    if difference.by is not None:
                        assert difference.column is not None
                        so_far = found.largest.get(difference.column, 0.0)
                        found.largest[difference.column] = max(so_far, difference.by)
            stored, computed = next(left, None), next(right, None)


def _same(one: Row, other: Row) -> bool:
    # 1 and 1.0 are equal, and no replay may take one for the other.
    return one == other and all(map(_of_one_type, one, other))


def _of_one_type(one: Any, other: Any) -> bool:
    return type(one) is type(other)


def _keep(found: Comparison, n_first: int, difference: Difference) -> None:
    if len(found.first) < n_first:
        found.first.append(difference)


def _key(table: ResultTable, row: Row) -> dict[str, Any]:
    return dict(zip(islice(table.columns, table.n_keys), row, strict=False))


def _one_sided(table: ResultTable, row: Row, *, is_stored: bool) -> Difference:
    names = table.columns[table.n_keys :]
    values = dict(zip(names, row[table.n_keys :], strict=True))
    sides = (values, None) if is_stored else (None, values)
    return Difference(table.name, _key(table, row), None, *sides)


def _differences(table: ResultTable, stored: Row, again: Row) -> Iterator[Difference]:
    """The values of a row that differ; its key is the same."""
    key = _key(table, stored)
    for column, one, other in zip(table.columns, stored, again, strict=True):
        if not _same((one,), (other,)):
            by = _distance(one, other, table.numbers.get(column))
            yield Difference(table.name, key, column, one, other, by)


def _distance(one: Any, other: Any, dtype: str | None) -> float | None:
    """How far two real numbers or arrays of them lie apart; None when that means nothing."""
    numbers = [_numbers(value, dtype) for value in (one, other)]
    if numbers[0] is None or numbers[1] is None or len(numbers[0]) != len(numbers[1]):
        return None
    distance = float(np.abs(numbers[0] - numbers[1]).max(initial=0.0))
    return distance if math.isfinite(distance) else None


def _numbers(value: Any, dtype: str | None) -> NDArray[np.float64] | None:
    if isinstance(value, float):
        return np.array([value])
    is_array = dtype is not None and isinstance(value, bytes)
    if not is_array or len(value) % np.dtype(dtype).itemsize:
        return None
    return np.frombuffer(value, dtype).astype(np.float64)
