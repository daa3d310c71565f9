"""The steps as a sqlite-utils migration set, so that `sqlite-utils migrate FILE migrations/` works.

`nearsql migrate FILE` applies this same set; both record their steps in `_sqlite_migrations`.
"""

import sqlite3
from collections.abc import Iterator
from importlib.resources.abc import Traversable

from sqlite_utils import Database, Migrations

from nearsql.migrations import APPLICATION_ID, step_files

migration = Migrations("nearsql")


def statements(sql: str) -> Iterator[str]:
    """The single statements of a script, so that they run inside the caller's transaction.

    `executescript` would commit that transaction first; a trigger's inner semicolons are not ends.
    """
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _register(step: Traversable, version: int) -> None:
    @migration(name=step.name.removesuffix(".sql"))
    def apply(db: Database) -> None:
        for statement in statements(step.read_text(encoding="utf-8")):
            db.conn.execute(statement)
        # Both are part of the transaction: a step that fails leaves the version where it was.
        db.conn.execute(f"pragma application_id = {APPLICATION_ID}")
        db.conn.execute(f"pragma user_version = {version}")


for _version, _step in enumerate(step_files(), start=1):
    _register(_step, _version)
