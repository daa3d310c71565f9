"""Writing vectors fast: many rows in one statement."""

from collections.abc import Sequence

from nearsql.udfs import dbapi

# Rows in one INSERT. The triggers that log each change make SQLite keep a statement journal, which
# copies every page that a statement touches, once a statement: with 64 KiB pages, row by row, that is
# most of the time (17,000 rows/s; 65,000 with these batches: `python -m benchmarks.page_size`).
ROWS_PER_STATEMENT = 200


def insert_vectors(
    db: dbapi.Connection, space_id: int, run_id: int | None, rows: Sequence[tuple[int, bytes]]
) -> int:
    """Inserts (item id, float32 little-endian BLOB) rows into a space, in the caller's transaction.

    Gives the number inserted: an item that already has a vector there keeps it. Raises sqlite3.IntegrityError
    when a BLOB has not the length that the space's dimensions ask for.
    """
    inserted = 0
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        batch = rows[start : start + ROWS_PER_STATEMENT]
        values = ", ".join(["(?, ?, ?, ?)"] * len(batch))
        inserted += db.execute(
            "insert into vectors (space_id, run_id, item_id, vector) values "
            f"{values} on conflict (space_id, item_id) do nothing",
            [value for row in batch for value in (space_id, run_id, *row)],
        ).rowcount
    return inserted
