"""Is what the file says sound? SQLite's own checks, and those of nearsql's tables.

Recomputing what models said is in `nearsql.pipeline.detect.check`: it needs the models.
"""

from dataclasses import dataclass

from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    run_id: of what run, if of one. checked: how many values or rows. wrong: how many of them are.
    largest: the largest difference found, allowed: the largest that is no fault; None where the check
    is yes or no. detail: the first fault, in words.
    """

    check: str
    run_id: int | None
    checked: int
    wrong: int
    largest: float | None = None
    allowed: float | None = None
    detail: str | None = None


COLUMNS = ("check", "run", "checked", "wrong", "largest", "allowed", "detail")


def check_file(db: dbapi.Connection) -> list[Finding]:
    """SQLite's integrity, foreign keys, and whether each vector is as long as its space says."""
    return [_integrity(db), _foreign_keys(db), _vector_lengths(db)]


def _integrity(db: dbapi.Connection) -> Finding:
    faults = [text for (text,) in db.execute("pragma integrity_check")]
    (pages,) = db.execute("pragma page_count").fetchone()
    if faults == ["ok"]:
        return Finding("pages of the file", None, pages, 0)
    return Finding("pages of the file", None, pages, len(faults), detail=faults[0])


def _foreign_keys(db: dbapi.Connection) -> Finding:
    faults = db.execute("pragma foreign_key_check").fetchall()
    (keys,) = db.execute(
        "select count(*) from sqlite_schema t, pragma_foreign_key_list(t.name) where t.type = 'table'"
    ).fetchone()
    detail = f"{faults[0][0]}, row {faults[0][1]}: no such {faults[0][2]}" if faults else None
    return Finding("foreign keys", None, keys, len(faults), detail=detail)


def _vector_lengths(db: dbapi.Connection) -> Finding:
    (vectors,) = db.execute("select count(*) from vectors").fetchone()
    faults = db.execute(
        "select s.name, v.item_id, length(v.vector), 4 * s.dimensions from vectors v"
        " join spaces s on s.id = v.space_id where length(v.vector) <> 4 * s.dimensions"
    ).fetchall()
    detail = None
    if faults:
        space, item_id, length, expected = faults[0]
        detail = f"item {item_id} in {space}: {length} bytes, not {expected}"
    return Finding("lengths of vectors", None, vectors, len(faults), detail=detail)
