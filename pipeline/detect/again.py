"""What a detect run said of its images, as it is stored, beside what the detector says now."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nearsql.pipeline.detect.rows import (
    ItemRows,
    ResultHash,
    hashed_columns,
    hashed_row,
    stored_sql,
    written_vectors,
)
from nearsql.pipeline.result_tables import Again, ResultTable, Row
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Of each table, the columns besides the item that tell an item's rows apart. Predictions are numbered.
_KEYS = {
    "predictions": ("number",),
    "losses": ("component",),
    "image_metrics": (),
    "feature_maps": ("layer",),
}


def items_again(
    db: dbapi.Connection,
    run_id: int,
    items: Iterable[ItemRows],
    *,
    device: str,
    computation: Mapping[str, Any],
) -> Again:
    """items: as the detector judges them now, in the order of their ids; gone through once."""
    written = set(written_vectors(db, run_id))
    digest = ResultHash(written)

    def tables() -> Iterator[ResultTable]:
        for rows in items:
            digest.add(rows)
            for name in _KEYS:
                yield _table(db, run_id, name, rows)
            vectors = [
                (rows.item_id, layer, vector)
                for layer, vector in sorted(rows.vectors.items())
                if (rows.item_id, layer) in written
            ]
            stored = db.execute(
                read_sql(__package__, "features_of_item"), {"run": run_id, "item": rows.item_id}
            ).fetchall()
            columns = ("item_id", "layer", "vector")
            yield ResultTable("vectors", columns, 2, stored, vectors, {"vector": "<f4"})

    return Again(tables(), digest.hexdigest, device, computation)


def _table(db: dbapi.Connection, run_id: int, name: str, rows: ItemRows) -> ResultTable:
    item = rows.item_id
    stored: list[Row] = db.execute(
        stored_sql(name, of_one=True), {"run": run_id, "item": item}
    ).fetchall()
    again: list[Row] = [(item, *hashed_row(name, row)) for row in rows.tables[name]]
    columns = hashed_columns(name)
    if name == "predictions":
        stored, again = _numbered(stored), _numbered(again)
        columns = (*_KEYS[name], *columns)
    n_keys = 1 + len(_KEYS[name])
    return ResultTable(name, ("item_id", *columns), n_keys, stored, again, {"data": "<f2"})


def _numbered(rows: list[Row]) -> list[Row]:
    """With the place that each has among its item's."""
    return [(item, number, *values) for number, (item, *values) in enumerate(rows)]
