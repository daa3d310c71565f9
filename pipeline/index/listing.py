"""Which indexes a file has, and how far its vectors have moved on since."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.pipeline.console import UserError
from nearsql.pipeline.index import store
from nearsql.udfs import dbapi
from nearsql.udfs.search.stored_vectors import changes_since
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """A ready index. recall: of 1, 10 and 100 neighbours. changed: items changed since it began to be
    built, which every search looks at exactly; None when the log does not tell, so that knn refuses it.
    """

    space: str
    engine: str
    n: int
    bytes: int
    recall_at_1: float
    recall_at_10: float
    recall_at_100: float
    min_recall: float
    effort_at_10: int
    seconds: float
    created_at: str
    run_id: int
    id: int
    changed: int | None


def stored_indexes(
    db: dbapi.Connection, spaces: Sequence[str] = (), engine: str | None = None
) -> list[StoredIndex]:
    """The ready indexes of the file, by space; of these spaces and this engine only, if given.

    Raises SqlFunctionError for a space that is not there.
    """
    sql = read_sql(__package__, "listing")
    for name in spaces:
        find_space(db.apsw, name)
    found = []
    for row in db.execute(sql).fetchall():
        name, its_engine = row[:2]
        if (not spaces or name in spaces) and engine in (None, its_engine):
            changes = changes_since(db.apsw, find_space(db.apsw, name), *row[-2:])
            changed = None if changes is None else len(changes)
            found.append(StoredIndex(*(*row[:-2], changed)))
    return found


def drop(
    db: dbapi.Connection, spaces: Sequence[str], engine: str | None = None
) -> tuple[list[StoredIndex], list[str]]:
    """Removes the indexes of these spaces, of one engine if given; and what nobody owns, of any space.

    Gives the indexes, and in words what nobody owned. Without a space only the latter is removed.
    Raises SqlFunctionError for a space that is not there, and UserError when there is nothing to remove.
    """
    removed = stored_indexes(db, spaces, engine) if spaces else []
    for found in removed:
        store.remove(db, found.id)
    leftovers = store.remove_leftovers(db)
    if not removed and not leftovers:
        there = [f"{found.engine} of {found.space}" for found in stored_indexes(db)]
        raise UserError(
            "there is no such index to drop: the indexes are " + (", ".join(there) or "none")
        )
    return removed, leftovers
