"""The findings of a run in the file."""

from collections.abc import Iterable, Sequence

from nearsql.pipeline.find.kinds import Finding
from nearsql.pipeline.result_tables import ResultTable
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

Row = tuple[str, int, int | None, float, str]


def as_rows(findings: Iterable[Finding]) -> list[Row]:
    """As they are stored and hashed: by kind and items. Decisions are a person's, and no part of a result."""
    return sorted(((*finding,) for finding in findings), key=_key)


def write_findings(db: dbapi.Connection, run_id: int, rows: Sequence[Row]) -> int:
    """Writes a run's findings in the caller's transaction; gives how many a person has decided on before.

    Such a decision is carried over from the last run that found the same.
    """
    db.executemany(
        "insert into findings (run_id, kind, item_id, other_item_id, score, evidence_json)"
        " values (?, ?, ?, ?, ?, ?)",
        ((run_id, *row) for row in rows),
    )
    db.execute(read_sql(__package__, "carry_decisions"), {"run": run_id})
    (decided,) = db.execute(
        "select count(*) from findings where run_id = ? and decision is not null", (run_id,)
    ).fetchone()
    return int(decided)


def findings_table(db: dbapi.Connection, run_id: int, again: Sequence[Row]) -> ResultTable:
    """The stored findings of a run beside those that came out again."""
    stored = db.execute(read_sql(__package__, "stored_findings"), {"run": run_id}).fetchall()

    def in_order(rows: Iterable[Row]) -> list[tuple[object, ...]]:
        # Rows are told apart by their keys, which must have an order: NULL has none.
        return [(kind, item, other or 0, *rest) for kind, item, other, *rest in rows]

    columns = ("kind", "item_id", "other_item_id", "score", "evidence_json")
    return ResultTable("findings", columns, 3, in_order(stored), in_order(again))


def _key(row: Row) -> tuple[str, int, int]:
    return row[0], row[1], -1 if row[2] is None else row[2]
