"""The file as SQLite sees it: pages, keys, and whether the schema is the one that nearsql makes."""

from typing import Any, cast

import apsw

from nearsql import migrations
from nearsql.pipeline.check.finding import REPAIR, Finding, finding
from nearsql.udfs import dbapi


def check_structure(db: dbapi.Connection) -> list[Finding]:
    """SQLite's integrity check (with unique keys and CHECK constraints), foreign keys, and the schema."""
    return [_integrity(db), _foreign_keys(db), _schema(db)]


def _integrity(db: dbapi.Connection) -> Finding:
    (pages,) = db.execute("pragma page_count").fetchone()
    try:
        faults = [text for (text,) in db.execute("pragma integrity_check")]
    except dbapi.DatabaseError as error:  # so torn that the check itself cannot go on
        faults = [str(error)]
    if faults == ["ok"]:
        faults = []
    # An index of SQLite is derived: what else is broken, only a copy can give back.
    only_indexes = all(" index " in fault for fault in faults)
    cure = REPAIR if only_indexes else "take a copy of the file, or `sqlite3 FILE .recover`"
    return finding("pages of the file", pages, faults, cure=cure)


def _foreign_keys(db: dbapi.Connection) -> Finding:
    found = db.execute("pragma foreign_key_check").fetchall()
    (keys,) = db.execute(
        "select count(*) from sqlite_schema t, pragma_foreign_key_list(t.name) where t.type = 'table'"
    ).fetchone()
    faults = [
        f"{table}{'' if row is None else f', row {row}'}: no such {parent}"
        for table, row, parent, _ in found
    ]
    return finding("foreign keys", keys, faults, cure=REPAIR)


def _schema(db: dbapi.Connection) -> Finding:
    """Tables, views, indexes and triggers of nearsql, statement by statement; others' are left alone."""
    wanted = _statements(_new_database())
    there = _statements(db.apsw)
    faults = [
        f"{kind} {name} is {'missing' if (kind, name) not in there else 'not as nearsql makes it'}"
        for (kind, name), sql in sorted(wanted.items())
        if there.get((kind, name)) != sql
    ]
    return finding("statements of the schema", len(wanted), faults, cure=None)


def _new_database() -> apsw.Connection:
    """What the migrations make, in memory."""
    model = apsw.Connection(":memory:")
    for step in migrations.step_files():
        model.execute(step.read_text("utf-8"))
    return model


def _statements(db: apsw.Connection) -> dict[tuple[str, str], str]:
    # As BLOBs: in a damaged file they may be no texts.
    found = db.execute(
        "select cast(type as blob), cast(name as blob), cast(sql as blob) from sqlite_schema"
        " where sql is not null"
    )
    rows = ([str(cell, "utf-8", "backslashreplace") for cell in cast(Any, row)] for row in found)
    return {(kind, name): sql for kind, name, sql in rows}
