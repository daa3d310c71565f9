"""What an ingest brought, as it is stored, beside what its source would bring now."""

from collections.abc import Sequence
from typing import Any

from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.row_hash import hash_rows
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Of the bytes' SHA-256, by which items are known, and all that the run decided about an item.
_COLUMNS = ("sha256", "collection", "sequence_number", "label", "is_stored", "metadata_json")

# sha256, sequence number, label, metadata
Brought = tuple[str, int, str | None, str]


def known_items(db: dbapi.Connection, recorded: RecordedRun) -> dict[str, tuple[Any, ...]]:
    """Of the items that a run brought: sequence number, width, height and metadata, by SHA-256."""
    return {
        sha256: tuple(others)
        for sha256, *others in db.execute(
            "select sha256, sequence_number, width, height, metadata_json from items where run_id = ?",
            (recorded.id,),
        )
    }


def items_again(db: dbapi.Connection, recorded: RecordedRun, found: Sequence[Brought]) -> Again:
    """found: in the order in which the source brings them, which is that of the run's hash."""
    then = recorded.parameters
    asked = {"run": recorded.id, "label": then["label"]}
    stored = db.execute(read_sql(__package__, "items_brought"), asked).fetchall()
    again = sorted(
        (sha256, then["collection"], number, label, int(then.get("store", False)), metadata)
        for sha256, number, label, metadata in found
    )
    table = ResultTable("items", _COLUMNS, 1, stored, again)
    return Again([table], lambda: hash_rows(row[:3] for row in found))
